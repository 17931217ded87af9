//! `ferrolb peers`: all sessions of a running daemon, in short.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use ferrolb_bgp::config::Remote;
use ferrolb_bgp::fsm::State;
use serde::Serialize;

use super::Output;
use super::client_args::{AskArgs, POLL, refused};
use super::output::{Style, age, json, json_line, offer, or_dash, print, table};
use crate::core::printable::printable;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::{PeerLine, RejectedPeer, Request};

const EXAMPLES: &str = "\
Examples:
  ferrolb peers
  ferrolb peers -w                      and every change from now on
  ferrolb peers -o json | jq '.[] | select(.state != \"Established\") | .name'

In a cluster, on one node:
  kubectl exec -n metallb-system ferrolb-announcer-x7k2p -- /ferrolb peers";

/// More peers than this with the same trouble are told in one line.
const ALIKE: usize = 3;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PeersArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Stay, and print peers again when something about them changes.
    #[arg(short, long)]
    watch: bool,
}

/// What there is to tell of: sessions, and BGPPeers that have none as they stand.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Peer(Box<PeerLine>),
    Refused(RejectedPeer),
}

impl Line {
    /// The peer's name; of one that is refused also which object it is, since both API groups have BGPPeers.
    fn key(&self) -> (String, Option<String>) {
        match self {
            Self::Peer(peer) => (peer.status.name.clone(), None),
            Self::Refused(refused) => (refused.name.clone(), Some(refused.object.clone())),
        }
    }

    fn differs(&self, old: &Self) -> bool {
        match (old, self) {
            (Self::Peer(old), Self::Peer(new)) => differs(old, new),
            (Self::Refused(old), Self::Refused(new)) => old != new,
            _ => true,
        }
    }
}

pub(super) fn run(args: &PeersArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.ask.connect()?;
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
        thread::sleep(POLL);
        let lines = by_key(lines(&mut client)?);
        let news = lines
            .iter()
            .filter(|(key, line)| known.get(key).is_none_or(|old| line.differs(old)));
        for (_, line) in news {
            let read = match args.ask.output {
                Output::Json => json_line(line)?,
                Output::Table => offer(&told(line))?,
            };
            if !read {
                return Ok(ExitCode::SUCCESS);
            }
        }
        for (name, refused) in known.keys().filter(|key| !lines.contains_key(*key)) {
            if args.ask.output == Output::Table {
                let line = match refused {
                    None => format!("{name}  is no peer any more"),
                    Some(object) => format!("{name}  {object} is not refused any more"),
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
    let refused = refused(client)?;
    Ok(peers
        .chain(refused.into_iter().map(Line::Refused))
        .collect())
}

/// Whether there is something to tell: what only grows older or counts up is not.
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
            Line::Refused(_) => None,
        })
    };
    let mut text = if peers().next().is_some() {
        let header = [
            "NAME", "PEER", "AS", "STATE", "FOR", "ROUTES", "SESSIONS", "BFD",
        ];
        table(&header, peers().map(row)) + "\n"
    } else if lines.is_empty() {
        "no peers: no BGPPeer selects this node, or the configuration is not loaded yet\n"
            .to_owned()
    } else {
        "no peers: no BGPPeer that is valid selects this node; these are refused\n".to_owned()
    };
    let troubles = troubles(peers(), style);
    let refused = lines.iter().filter_map(|line| match line {
        Line::Peer(_) => None,
        Line::Refused(peer) => Some(format!(
            "{}: {}\n",
            style.bold(&peer.name),
            printable(&refusal(peer))
        )),
    });
    let below: String = troubles.iter().cloned().chain(refused).collect();
    if !below.is_empty() {
        text += &format!("\n{below}");
    }
    if !troubles.is_empty() {
        let sessions = || peers().filter(|peer| matches!(peer.status.remote, Remote::Router(_)));
        let up = sessions().filter(|peer| peer.status.state == State::Established);
        text += &format!(
            "\n{} of {} up; all about one of them: ferrolb peer NAME\n",
            up.count(),
            sessions().count()
        );
    }
    text
}

/// What is wrong with those that are not up. Where many have the same trouble it is told once.
fn troubles<'a>(peers: impl Iterator<Item = &'a PeerLine>, style: Style) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<&PeerLine>)> = Vec::new();
    for peer in peers {
        let error = peer.status.last_error.as_ref();
        let Some(error) = error.filter(|_| trouble(peer).is_some()) else {
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
    let told = groups.iter().flat_map(|(text, peers)| {
        let name = |peer: &&PeerLine| style.bold(&peer.status.name);
        if peers.len() <= ALIKE {
            let each = |peer| Some(format!("{}: {}\n", name(peer), printable(&trouble(peer)?)));
            return peers.iter().filter_map(each).collect();
        }
        let named: Vec<String> = peers.iter().take(ALIKE).map(name).collect();
        let others = peers.len() - ALIKE;
        let text = printable(text);
        vec![format!("{} and {others} more: {text}\n", named.join(", "))]
    });
    told.collect()
}

fn refusal(peer: &RejectedPeer) -> String {
    format!("{} is refused: {}", peer.object, peer.refused)
}

fn row(peer: &PeerLine) -> Vec<String> {
    let status = &peer.status;
    let state = status.state.to_string();
    let state = match status.remote {
        // A template waits for others; that is no fault.
        Remote::Network(_) if status.state != State::Established => "waits".to_owned(),
        _ => state,
    };
    let asn = status.negotiated.as_ref().map_or_else(
        || status.remote_asn.to_string(),
        |negotiated| negotiated.remote_asn.to_string(),
    );
    vec![
        status.name.clone(),
        status.remote.to_string(),
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

/// Held by the peer, of those it should hold. A template of dynamic neighbours holds none; they do.
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

/// What is wrong with it, if it is not up.
fn trouble(peer: &PeerLine) -> Option<String> {
    let status = &peer.status;
    if status.state == State::Established {
        return None;
    }
    let error = status.last_error.as_ref()?;
    let retry = status.retry_in.map(|time| match time {
        Duration::ZERO => ", tried again now".to_owned(),
        time => format!(", tried again in {}", age(time)),
    });
    Some(format!(
        "{} ({} ago{})",
        error.cause.text,
        age(error.ago),
        retry.unwrap_or_default()
    ))
}

/// One line about a peer that changed.
fn told(line: &Line) -> String {
    let peer = match line {
        Line::Peer(peer) => peer,
        Line::Refused(peer) => {
            let line = format!("{}  {}", peer.name, refusal(peer));
            return format!("{}\n", printable(&line));
        }
    };
    let status = &peer.status;
    let mut line = format!("{}  {}  {} routes", status.name, status.state, routes(peer));
    if let Some(trouble) = trouble(peer) {
        line += &format!("  {trouble}");
    }
    format!("{}\n", printable(&line))
}

#[cfg(test)]
mod tests {
    use ferrolb_bgp::config::PeerConfig;
    use ferrolb_bgp::fsm::{Input, Speaker, SpeakerConfig};
    use ferrolb_bgp::wire::Asn;

    use super::*;

    fn line(name: String, trouble: &str) -> Line {
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
            "cause": { "code": "connection-refused", "text": trouble }, "ago": 7
        }))
        .expect("an error");
        Line::Peer(Box::new(PeerLine {
            status,
            prefixes_desired: 0,
        }))
    }

    #[test]
    fn where_all_are_refused_that_is_why_there_is_none() {
        let refused = Line::Refused(RejectedPeer {
            name: "tor".into(),
            object: "BGPPeer metallb-system/tor".into(),
            refused: "spec.holdTime: is short".into(),
        });
        assert_eq!(
            text(&[refused], Style::stdout()),
            "no peers: no BGPPeer that is valid selects this node; these are refused\n\n\
             tor: BGPPeer metallb-system/tor is refused: spec.holdTime: is short\n"
        );
        assert!(text(&[], Style::stdout()).contains("no BGPPeer selects this node"));
    }

    #[test]
    fn what_many_suffer_from_is_told_once() {
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
            "0 of 301 up; all about one of them: ferrolb peer NAME"
        );
    }
}
