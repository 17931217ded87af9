//! `ferrolb routes`: what peers hold from a running daemon.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ferrolb_bgp::fsm::PeerStatus;

use super::Output;
use super::client_args::AskArgs;
use super::output::{LongTable, age, offer, or_dash, print};
use crate::core::printable::printable;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::{PeerLine, Request, RouteLine};

const EXAMPLES: &str = "\
Examples:
  ferrolb routes
  ferrolb routes --peer tor-a           or the router's address
  ferrolb routes -o json | jq -r '.[] | select(.peer == \"tor-a\") | .prefix'

What should be announced, and what is withheld and why: ferrolb plan";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RoutesArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Only this peer's, by name or address.
    #[arg(long, value_name = "NAME|ADDRESS")]
    peer: Option<String>,
}

impl RoutesArgs {
    /// Whether this peer's routes are asked for.
    fn names(&self, peer: &PeerStatus) -> bool {
        self.peer.as_ref().is_none_or(|wanted| {
            let router = peer.remote.router().map(|router| router.ip().to_string());
            [Some(&peer.name), peer.template.as_ref(), router.as_ref()].contains(&Some(wanted))
        })
    }
}

/// So many routes are printed at once.
const PIECE: usize = 1000;

pub(super) fn run(args: &RoutesArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.ask.connect()?;
    let peers: Vec<PeerLine> = client.ask(&Request::Peers)?;
    for PeerLine { status, .. } in peers.iter().filter(|peer| args.names(&peer.status)) {
        let left_out = status.announcements_left_out;
        if left_out > 0 {
            eprintln!(
                "{}: {left_out} announcements were not sent, because their attributes alone fill a \
                 message: announce with fewer communities; ferrolb log --peer {} names the first \
                 prefix",
                printable(&status.name),
                printable(&status.name)
            );
        }
    }
    client.send(&Request::Routes {
        peer: args.peer.clone(),
    })?;
    match args.ask.output {
        Output::Json => list(&mut client)?,
        Output::Table => tables(&mut client)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One list in JSON, a route in each line.
fn list(client: &mut Client) -> anyhow::Result<()> {
    let mut before = "[\n";
    loop {
        let routes = piece(client)?;
        let mut text = String::new();
        for route in &routes {
            text += before;
            text += &serde_json::to_string(route)?;
            before = ",\n";
        }
        if !offer(&text)? {
            return Ok(());
        }
        if routes.len() < PIECE {
            break;
        }
    }
    Ok(print(if before == ",\n" { "\n]\n" } else { "[]\n" })?)
}

fn tables(client: &mut Client) -> anyhow::Result<()> {
    let mut table = LongTable::new(&[
        "PEER",
        "PREFIX",
        "NEXT HOP",
        "COMMUNITIES",
        "ATTRIBUTES",
        "SENT",
    ]);
    let mut routes = piece(client)?;
    if routes.is_empty() {
        print(
            "no peer holds a route from here: see ferrolb peers (is a session up?) and ferrolb plan (should there be one?)\n",
        )?;
        return Ok(());
    }
    loop {
        let rows = routes.iter().map(row).collect();
        if !offer(&table.piece(rows))? || routes.len() < PIECE {
            return Ok(());
        }
        routes = piece(client)?;
    }
}

/// The next routes; fewer than usual: these are the last.
fn piece(client: &mut Client) -> Result<Vec<RouteLine>, AskError> {
    let mut routes = Vec::new();
    while routes.len() < PIECE
        && let Some(route) = client.receive()?
    {
        routes.push(route);
    }
    Ok(routes)
}

fn row(route: &RouteLine) -> Vec<String> {
    let communities = [
        &*route.communities,
        &route.large_communities,
        &route.extended_communities,
    ]
    .concat();
    vec![
        route.peer.clone(),
        route.prefix.to_string(),
        or_dash(next_hop(route)),
        or_dash(communities.join(" ")),
        or_dash(attributes(route)),
        format!("{} ago", age(Duration::from_secs(route.sent_seconds_ago))),
    ]
}

fn next_hop(route: &RouteLine) -> String {
    match (route.next_hop, route.link_local_next_hop) {
        (Some(global), Some(link_local)) => format!("{global} ({link_local})"),
        (Some(address), None) => address.to_string(),
        (None, _) => String::new(),
    }
}

/// What few routes have.
fn attributes(route: &RouteLine) -> String {
    let mut words = Vec::new();
    words.extend(route.local_pref.map(|value| format!("local-pref {value}")));
    words.extend(route.med.map(|value| format!("med {value}")));
    if route.prepend > 0 {
        words.push(format!("prepend {}", route.prepend));
    }
    if route.atomic_aggregate {
        words.push("atomic aggregate".to_owned());
    }
    let aggregator = route.aggregator.as_ref();
    words.extend(aggregator.map(|by| format!("aggregator {} {}", by.asn, by.router_id)));
    if route.waits_for_other_path {
        words.push("drains: the router has no other path".to_owned());
    }
    words.join(", ")
}
