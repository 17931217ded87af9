//! `ferrolb peers`: all sessions of a running daemon, in short.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use ferrolb_bgp::config::Remote;
use ferrolb_bgp::fsm::State;

use super::Output;
use super::asking::{AskArgs, POLL};
use super::output::{Style, age, json, json_line, or_dash, print, table};
use crate::control::{PeerLine, Request};

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

pub(super) fn run(args: &PeersArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.ask.connect()?;
    let peers: Vec<PeerLine> = client.ask(&Request::Peers)?;
    match args.ask.output {
        Output::Json if !args.watch => json(&peers)?,
        Output::Json => peers.iter().try_for_each(json_line)?,
        Output::Table if peers.is_empty() => {
            print(
                "no peers: no BGPPeer selects this node, or the configuration is not loaded yet\n",
            )?;
        }
        Output::Table => print(&text(&peers, Style::stdout()))?,
    }
    if !args.watch {
        return Ok(ExitCode::SUCCESS);
    }
    let mut known: BTreeMap<String, PeerLine> = by_name(peers);
    loop {
        thread::sleep(POLL);
        let peers = by_name(client.ask(&Request::Peers)?);
        let news = peers.values().filter(|peer| {
            known
                .get(&peer.status.name)
                .is_none_or(|old| differs(old, peer))
        });
        for peer in news {
            match args.ask.output {
                Output::Json => json_line(peer)?,
                Output::Table => print(&told(peer))?,
            }
        }
        for gone in known.keys().filter(|name| !peers.contains_key(*name)) {
            if args.ask.output == Output::Table {
                print(&format!("{gone}  is no peer any more\n"))?;
            }
        }
        known = peers;
    }
}

fn by_name(peers: Vec<PeerLine>) -> BTreeMap<String, PeerLine> {
    peers
        .into_iter()
        .map(|peer| (peer.status.name.clone(), peer))
        .collect()
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

fn text(peers: &[PeerLine], style: Style) -> String {
    let rows = peers.iter().map(row);
    let header = ["NAME", "PEER", "AS", "STATE", "FOR", "ROUTES", "UP", "BFD"];
    let mut text = table(&header, rows) + "\n";
    let troubled = peers.iter().filter_map(|peer| Some((peer, trouble(peer)?)));
    for (peer, trouble) in troubled {
        text += &format!("\n{}: {trouble}", style.bold(&peer.status.name));
    }
    if text.contains("\n\n") {
        text += "\n\nall about one of them: ferrolb peer NAME\n";
    }
    text
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
fn told(peer: &PeerLine) -> String {
    let status = &peer.status;
    let mut line = format!("{}  {}  {} routes", status.name, status.state, routes(peer));
    if let Some(trouble) = trouble(peer) {
        line += &format!("  {trouble}");
    }
    line + "\n"
}
