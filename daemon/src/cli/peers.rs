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
use super::asking::{AskArgs, POLL, refused};
use super::output::{Style, age, json, json_line, offer, or_dash, print, table};
use crate::control::client::{AskError, Client};
use crate::control::{PeerLine, RefusedPeer, Request};

const EXAMPLES: &str = "\
Examples:
  ferrolb peers
  ferrolb peers -w                      and every change from now on
  ferrolb peers -o json | jq '.[] | select(.state != \"Established\") | .name'

In a cluster, on one node:
  kubectl exec -n metallb-system ferrolb-announcer-x7k2p -- /ferrolb peers";

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
    Refused(RefusedPeer),
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
                print(&match refused {
                    None => format!("{name}  is no peer any more\n"),
                    Some(object) => format!("{name}  {object} is not refused any more\n"),
                })?;
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
        let header = ["NAME", "PEER", "AS", "STATE", "FOR", "ROUTES", "UP", "BFD"];
        table(&header, peers().map(row)) + "\n"
    } else {
        "no peers: no BGPPeer selects this node, or the configuration is not loaded yet\n"
            .to_owned()
    };
    let troubled = lines.iter().filter_map(|line| match line {
        Line::Peer(peer) => Some((&peer.status.name, trouble(peer)?)),
        Line::Refused(peer) => Some((&peer.name, refusal(peer))),
    });
    let troubled: Vec<String> = troubled
        .map(|(name, trouble)| format!("{}: {trouble}\n", style.bold(name)))
        .collect();
    if !troubled.is_empty() {
        text += &format!("\n{}", troubled.concat());
    }
    if peers().any(|peer| trouble(peer).is_some()) {
        text += "\nall about one of them: ferrolb peer NAME\n";
    }
    text
}

fn refusal(peer: &RefusedPeer) -> String {
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

/// Held by the peer, of those it should hold.
fn routes(peer: &PeerLine) -> String {
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
        Line::Refused(peer) => return format!("{}  {}\n", peer.name, refusal(peer)),
    };
    let status = &peer.status;
    let mut line = format!("{}  {}  {} routes", status.name, status.state, routes(peer));
    if let Some(trouble) = trouble(peer) {
        line += &format!("  {trouble}");
    }
    line + "\n"
}
