//! `ferrolb routes`: the routes that a running daemon has sent to its peers.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ferrolb_bgp::fsm::PeerStatus;

use super::Output;
use super::client_args::{AskArgs, print_withheld};
use super::cluster::{InsteadArgs, Invocation, Question, or_cluster, run_routes};
use super::output::{LongTable, age, or_dash, print, try_print};
use crate::core::printable::printable;
use crate::runtime::serve::control::client::{AskError, Client};
use crate::runtime::serve::control::{PeerLine, Request, RouteLine};

const EXAMPLES: &str = "\
Examples:
  ferrolb routes
  ferrolb routes --peer tor-a           of one peer, by name or address
  ferrolb routes -o json | jq -r '.[] | select(.peer == \"tor-a\") | .prefix'
  ferrolb routes --context prod         what all nodes of a cluster should announce, decided here,
                                        and whether they do, by what they publish
  kubectl ferrolb routes -w             the same, of the current context, and changes

It asks the daemon on this host, unless --kubeconfig, --context or -f is given or the program is
called kubectl-ferrolb: then it asks the cluster.

What would be announced from manifests, what is withheld and why: ferrolb plan";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RoutesArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Only routes to this peer, by name or address.
    #[arg(long, value_name = "NAME|ADDRESS")]
    peer: Option<String>,
    /// Keep running, and print what changes. Of a cluster only.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    instead: InsteadArgs,
}

impl RoutesArgs {
    /// Whether the routes of this peer are requested.
    fn names(&self, peer: &PeerStatus) -> bool {
        self.peer.as_ref().is_none_or(|wanted| {
            let router = peer.remote.router().map(|router| router.ip().to_string());
            [Some(&peer.name), peer.template.as_ref(), router.as_ref()].contains(&Some(wanted))
        })
    }
}

/// Number of routes per chunk.
const CHUNK_SIZE: usize = 1000;

pub(super) fn run(args: &RoutesArgs, invocation: Invocation) -> anyhow::Result<ExitCode> {
    if args.instead.is_meant(invocation, args.ask.socket.is_some()) {
        let question = Question {
            world: &args.instead.world,
            output: args.ask.output,
            watch: args.watch,
        };
        return run_routes(question, args.peer.as_deref());
    }
    anyhow::ensure!(
        !args.watch,
        "a daemon's routes can't be watched, only those of a cluster: add --context NAME, or use \
         ferrolb log -w"
    );
    let client = args.ask.connect();
    show(args, client.map_err(|error| or_cluster(error, "routes"))?)
}

/// Shows the routes of a daemon.
fn show(args: &RoutesArgs, mut client: Client) -> anyhow::Result<ExitCode> {
    print_withheld(&mut client)?;
    let peers: Vec<PeerLine> = client.ask(&Request::Peers)?;
    for PeerLine { status, .. } in peers.iter().filter(|peer| args.names(&peer.status)) {
        let left_out = status.announcements_left_out;
        if left_out > 0 {
            eprintln!(
                "{}: {left_out} routes were not sent, because their attributes alone exceed the \
                 maximum message size: use fewer communities. See the first prefix with \
                 ferrolb log --peer {}",
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

/// One JSON list with a route per line.
fn list(client: &mut Client) -> anyhow::Result<()> {
    let mut before = "[\n";
    loop {
        let routes = chunk(client)?;
        let mut text = String::new();
        for route in &routes {
            text += before;
            text += &serde_json::to_string(route)?;
            before = ",\n";
        }
        if !try_print(&text)? {
            return Ok(());
        }
        if routes.len() < CHUNK_SIZE {
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
    let mut routes = chunk(client)?;
    if routes.is_empty() {
        print(
            "no routes sent: is a session up (ferrolb peers)? Should routes be announced (ferrolb \
             plan)?\n",
        )?;
        return Ok(());
    }
    loop {
        let rows = routes.iter().map(row).collect();
        if !try_print(&table.chunk(rows))? || routes.len() < CHUNK_SIZE {
            return Ok(());
        }
        routes = chunk(client)?;
    }
}

/// Receives the next routes; a short chunk is the last one.
fn chunk(client: &mut Client) -> Result<Vec<RouteLine>, AskError> {
    let mut routes = Vec::new();
    while routes.len() < CHUNK_SIZE
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

/// Attributes that only few routes have.
fn attributes(route: &RouteLine) -> String {
    let mut attributes = Vec::new();
    attributes.extend(route.local_pref.map(|value| format!("local-pref {value}")));
    attributes.extend(route.med.map(|value| format!("med {value}")));
    if route.prepend > 0 {
        attributes.push(format!("prepend {}", route.prepend));
    }
    if route.atomic_aggregate {
        attributes.push("atomic aggregate".to_owned());
    }
    let aggregator = route.aggregator.as_ref();
    attributes.extend(aggregator.map(|by| format!("aggregator {} {}", by.asn, by.router_id)));
    if route.waits_for_other_path {
        attributes.push("draining: the router has no other path".to_owned());
    }
    attributes.join(", ")
}
