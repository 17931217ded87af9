//! `ferrolb routes`: what peers hold from a running daemon.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::Output;
use super::asking::AskArgs;
use super::output::{age, json, or_dash, print, table};
use crate::control::{Request, RouteLine};

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

pub(super) fn run(args: &RoutesArgs) -> anyhow::Result<ExitCode> {
    let request = Request::Routes {
        peer: args.peer.clone(),
    };
    let routes: Vec<RouteLine> = args.ask.connect()?.ask(&request)?;
    match args.ask.output {
        Output::Json => json(&routes)?,
        Output::Table if routes.is_empty() => print(
            "no peer holds a route from here: see ferrolb peers (is a session up?) and ferrolb plan (should there be one?)\n",
        )?,
        Output::Table => {
            let header = [
                "PEER",
                "PREFIX",
                "NEXT HOP",
                "COMMUNITIES",
                "ATTRIBUTES",
                "SENT",
            ];
            print(&(table(&header, routes.iter().map(row)) + "\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
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
        or_dash(
            route
                .next_hop
                .map(|address| address.to_string())
                .unwrap_or_default(),
        ),
        or_dash(communities.join(" ")),
        or_dash(attributes(route)),
        format!("{} ago", age(Duration::from_secs(route.sent_seconds_ago))),
    ]
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
    words.join(", ")
}
