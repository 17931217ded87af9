//! `ferrolb peers`: summary of all sessions of a running daemon.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use ferrolb_bgp::config::Remote;
use ferrolb_bgp::fsm::State;
use serde::Serialize;

use super::Output;
use super::client_args::{AskArgs, POLL_INTERVAL, print_withheld, rejected};
use super::cluster::{InsteadArgs, Invocation, Question, or_cluster, run_peers};
use super::output::{Style, age, json, json_line, or_dash, print, table, try_print};
use crate::core::printable::printable;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::{PeerLine, RejectedPeer, Request};

const EXAMPLES: &str = "\
Examples:
  ferrolb peers
  ferrolb peers -w                      and print changes until interrupted
  ferrolb peers -o json | jq '.[] | select(.state != \"Established\") | .name'
  ferrolb peers --context prod          the sessions of all nodes of a cluster, by its API server
  kubectl ferrolb peers                 the same, of the current context

In a cluster, on one node:
  kubectl exec -n metallb-system ferrolb-announcer-x7k2p -- /ferrolb peers

It asks the daemon on this host, unless --kubeconfig, --context or -f is given or the program is
called kubectl-ferrolb: then it asks the cluster.";

/// More peers than this with the same error are printed on one line.
const MAX_LISTED: usize = 3;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PeersArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Keep running, and print peers again when they change.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    instead: InsteadArgs,
}

/// A session, or a BGPPeer that is rejected.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Peer(Box<PeerLine>),
    Rejected(RejectedPeer),
}

impl Line {
    /// The peer's name; for a rejected one also the object, since both API groups have BGPPeers.
    fn key(&self) -> (String, Option<String>) {
        match self {
            Self::Peer(peer) => (peer.status.name.clone(), None),
            Self::Rejected(rejected) => (rejected.name.clone(), Some(rejected.object.clone())),
        }
    }

    fn differs(&self, old: &Self) -> bool {
        match (old, self) {
            (Self::Peer(old), Self::Peer(new)) => differs(old, new),
            (Self::Rejected(old), Self::Rejected(new)) => old != new,
            _ => true,
        }
    }
}

pub(super) fn run(args: &PeersArgs, invocation: Invocation) -> anyhow::Result<ExitCode> {
    if args.instead.is_meant(invocation, args.ask.socket.is_some()) {
        return run_peers(Question {
            world: &args.instead.world,
            output: args.ask.output,
            watch: args.watch,
        });
    }
    let client = args.ask.connect();
    show(args, client.map_err(|error| or_cluster(error, "peers"))?)
}

/// Shows the sessions of a daemon.
fn show(args: &PeersArgs, mut client: Client) -> anyhow::Result<ExitCode> {
    print_withheld(&mut client)?;
    let first = lines(&mut client)?;
    match args.ask.output {
        Output::Json if !args.watch => json(&first)?,
        Output::Json => {
            for line in &first {
                json_line(line)?;
            }
        }
        Output::Table => print(&text(&first, Style::stdout()))?,
    }
    if !args.watch {
        return Ok(ExitCode::SUCCESS);
    }
    let by_key = |lines: Vec<Line>| -> BTreeMap<_, _> {
        lines.into_iter().map(|line| (line.key(), line)).collect()
    };
    let mut known = by_key(first);
    loop {
        thread::sleep(POLL_INTERVAL);
        let lines = by_key(lines(&mut client)?);
        let news = lines
            .iter()
            .filter(|(key, line)| known.get(key).is_none_or(|old| line.differs(old)));
        for (_, line) in news {
            let read = match args.ask.output {
                Output::Json => json_line(line)?,
                Output::Table => try_print(&changed_line(line))?,
            };
            if !read {
                return Ok(ExitCode::SUCCESS);
            }
        }
        for (name, rejected) in known.keys().filter(|key| !lines.contains_key(*key)) {
            if args.ask.output == Output::Table {
                let line = match rejected {
                    None => format!("{name}  removed"),
                    Some(object) => format!("{name}  {object} is no longer rejected"),
                };
                print(&format!("{}\n", printable(&line)))?;
            }
        }
        known = lines;
    }
}

fn lines(client: &mut Client) -> Result<Vec<Line>, AskError> {
    let peers: Vec<PeerLine> = client.ask(&Request::Peers)?;
    let peers = peers.into_iter().map(|peer| Line::Peer(Box::new(peer)));
    let rejected = rejected(client)?;
    Ok(peers
        .chain(rejected.into_iter().map(Line::Rejected))
        .collect())
}

/// Whether a relevant fact changed; ages and counters are not relevant.
fn differs(old: &PeerLine, new: &PeerLine) -> bool {
    let facts = |peer: &PeerLine| {
        let status = &peer.status;
        let error = status.last_error.as_ref().map(|error| error.cause.clone());
        (
            status.state,
            status.established_count,
            status.bfd.as_ref().map(|bfd| bfd.state),
            status.prefixes_advertised,
            peer.prefixes_desired,
            error,
        )
    };
    facts(old) != facts(new)
}

fn text(lines: &[Line], style: Style) -> String {
    let peers = || {
        lines.iter().filter_map(|line| match line {
            Line::Peer(peer) => Some(&**peer),
            Line::Rejected(_) => None,
        })
    };
    let mut text = if peers().next().is_some() {
        let header = [
            "NAME", "ADDRESS", "AS", "STATE", "FOR", "ROUTES", "SESSIONS", "BFD",
        ];
        table(&header, peers().map(row)) + "\n"
    } else if lines.is_empty() {
        "no peers: no BGPPeer selects this node, or the configuration is not loaded yet\n"
            .to_owned()
    } else {
        "no peers: no valid BGPPeer selects this node; rejected:\n".to_owned()
    };
    let errors = errors(peers(), style);
    let rejected = lines.iter().filter_map(|line| match line {
        Line::Peer(_) => None,
        Line::Rejected(peer) => Some(format!(
            "{}: {}\n",
            style.bold(&peer.name),
            printable(&refusal(peer))
        )),
    });
    let notes = peers().flat_map(|peer| notes(peer, style));
    let below: String = errors
        .iter()
        .cloned()
        .chain(notes)
        .chain(rejected)
        .collect();
    if !below.is_empty() {
        text += &format!("\n{below}");
    }
    if !errors.is_empty() {
        let sessions = || peers().filter(|peer| peer.status.remote.is_one_router());
        let up = sessions().filter(|peer| peer.status.state == State::Established);
        text += &format!(
            "\n{} of {} sessions established; details of one: ferrolb peer NAME\n",
            up.count(),
            sessions().count()
        );
    }
    text
}

/// Errors of peers without a session. One that many peers have is listed once.
fn errors<'a>(peers: impl Iterator<Item = &'a PeerLine>, style: Style) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<&PeerLine>)> = Vec::new();
    for peer in peers {
        let error = peer.status.last_error.as_ref();
        let Some(error) = error.filter(|_| error_text(peer).is_some()) else {
            continue;
        };
        match groups
            .iter_mut()
            .find(|(text, _)| *text == error.cause.text)
        {
            Some((_, peers)) => peers.push(peer),
            None => groups.push((&error.cause.text, vec![peer])),
        }
    }
    let lines = groups.iter().flat_map(|(text, peers)| {
        let name = |peer: &&PeerLine| style.bold(&peer.status.name);
        if peers.len() <= MAX_LISTED {
            let each = |peer| {
                Some(format!(
                    "{}: {}\n",
                    name(peer),
                    printable(&error_text(peer)?)
                ))
            };
            return peers.iter().filter_map(each).collect();
        }
        let named: Vec<String> = peers.iter().take(MAX_LISTED).map(name).collect();
        let others = peers.len() - MAX_LISTED;
        let text = printable(text);
        vec![format!("{} and {others} more: {text}\n", named.join(", "))]
    });
    lines.collect()
}

/// What is to be known about the interface of an unnumbered peer without a session.
fn notes(peer: &PeerLine, style: Style) -> Vec<String> {
    let status = &peer.status;
    let link = status.link.as_ref();
    let link = link.filter(|_| status.state != State::Established);
    let notes = link.into_iter().flat_map(|link| &link.notes);
    notes
        .map(|note| format!("{}: {}\n", style.bold(&status.name), printable(note)))
        .collect()
}

fn refusal(peer: &RejectedPeer) -> String {
    format!("{} is rejected: {}", peer.object, peer.reason)
}

fn row(peer: &PeerLine) -> Vec<String> {
    let status = &peer.status;
    let state = status.state.to_string();
    let state = match status.remote {
        // A `peerNetwork` has no session of its own; this is not an error.
        Remote::Network(_) if status.state != State::Established => "Listening".to_owned(),
        _ => state,
    };
    let asn = status.negotiated.as_ref().map_or_else(
        || status.remote_asn.to_string(),
        |negotiated| negotiated.remote_asn.to_string(),
    );
    vec![
        status.name.clone(),
        status.address_text(),
        asn,
        state,
        age(status.since),
        routes(peer),
        status.established_count.to_string(),
        or_dash(
            status
                .bfd
                .as_ref()
                .map(|bfd| bfd.state.to_string())
                .unwrap_or_default(),
        ),
    ]
}

/// Number of prefixes sent, of those to announce. A `peerNetwork` has none; its dynamic neighbors
/// have.
fn routes(peer: &PeerLine) -> String {
    if let Remote::Network(_) = peer.status.remote {
        return "-".to_owned();
    }
    let held = peer.status.prefixes_advertised;
    if u64::try_from(peer.prefixes_desired) == Ok(held) {
        held.to_string()
    } else {
        format!("{held} of {}", peer.prefixes_desired)
    }
}

/// The last error, unless the session is established.
fn error_text(peer: &PeerLine) -> Option<String> {
    let status = &peer.status;
    if status.state == State::Established {
        return None;
    }
    let error = status.last_error.as_ref()?;
    let retry = status.retry_in.map(|time| match time {
        Duration::ZERO => ", retry now".to_owned(),
        time => format!(", retry in {}", age(time)),
    });
    Some(format!(
        "{} ({} ago{})",
        error.cause.text,
        age(error.ago),
        retry.unwrap_or_default()
    ))
}

/// A line for a peer that changed.
fn changed_line(line: &Line) -> String {
    let peer = match line {
        Line::Peer(peer) => peer,
        Line::Rejected(peer) => {
            let line = format!("{}  {}", peer.name, refusal(peer));
            return format!("{}\n", printable(&line));
        }
    };
    let status = &peer.status;
    let mut line = format!("{}  {}  {} routes", status.name, status.state, routes(peer));
    if let Some(error_text) = error_text(peer) {
        line += &format!("  {error_text}");
    }
    format!("{}\n", printable(&line))
}

#[cfg(test)]
mod tests {
    use ferrolb_bgp::config::PeerConfig;
    use ferrolb_bgp::fsm::{Input, LinkStatus, Speaker, SpeakerConfig};
    use ferrolb_bgp::wire::Asn;

    use super::*;

    fn line(name: String, error_text: &str) -> Line {
        let now = std::time::Instant::now();
        let mut speaker = Speaker::new(SpeakerConfig {
            router_id_fallback: [127, 0, 0, 1].into(),
            seed: 0,
            host_uptime: None,
        });
        let address = "10.0.0.1:179".parse().expect("an address");
        let config = PeerConfig::new(name, address, Asn(64512), Asn(64513));
        speaker.handle(now, Input::SetPeer(config));
        let mut status = speaker.status(now).remove(0);
        status.last_error = serde_json::from_value(serde_json::json!({
            "cause": { "code": "connection-refused", "text": error_text }, "ago": 7
        }))
        .expect("an error");
        Line::Peer(Box::new(PeerLine {
            status,
            prefixes_desired: 0,
        }))
    }

    #[test]
    fn rejected_peers_are_the_reason_if_there_are_no_others() {
        let rejected = Line::Rejected(RejectedPeer {
            name: "tor".into(),
            object: "BGPPeer metallb-system/tor".into(),
            reason: "spec.holdTime: is short".into(),
        });
        assert_eq!(
            text(&[rejected], Style::stdout()),
            "no peers: no valid BGPPeer selects this node; rejected:\n\n\
             tor: BGPPeer metallb-system/tor is rejected: spec.holdTime: is short\n"
        );
        assert!(text(&[], Style::stdout()).contains("no BGPPeer selects this node"));
    }

    #[test]
    fn what_an_unnumbered_peer_lacks_is_listed_while_it_has_no_session() {
        let listed = |state: State| {
            let Line::Peer(mut peer) = line("fabric".into(), "no way") else {
                unreachable!()
            };
            peer.status.state = state;
            peer.status.remote = Remote::unknown_on_link(179);
            peer.status.link = Some(LinkStatus {
                interface: "eth1".into(),
                notes: vec!["no router\u{1b}".into()],
            });
            text(&[Line::Peer(peer)], Style::stdout())
        };
        let waiting = listed(State::Active);
        assert!(
            waiting.contains("fabric: no router\\u{1b}\n"),
            "{waiting:?}"
        );
        assert!(waiting.contains("fabric  eth1"), "{waiting:?}");
        assert!(!listed(State::Established).contains("no router"));
    }

    #[test]
    fn an_error_of_many_peers_is_listed_once() {
        let mut lines: Vec<Line> = (0..300)
            .map(|number| line(format!("tor-{number}"), "no way"))
            .collect();
        lines.push(line("odd".into(), "no answer"));
        let text = text(&lines, Style::stdout());
        let below: Vec<&str> = text.lines().skip(302).collect();
        assert_eq!(below[1], "tor-0, tor-1, tor-2 and 297 more: no way");
        assert!(below[2].starts_with("odd: no answer (7s ago"), "{below:?}");
        assert_eq!(
            below[4],
            "0 of 301 sessions established; details of one: ferrolb peer NAME"
        );
    }
}
