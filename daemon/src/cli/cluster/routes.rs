//! `ferrolb routes` about a whole cluster: what each node should announce to each router, decided
//! here, and whether the nodes' own digests agree.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::peers;
use super::read::Seen;
use super::watch::{Line, Lines};
use super::{Answer, Question, answer};
use crate::cli::output::{LongTable, Style, or_dash, print, try_print};
use crate::core::decide::node_routes::NodeRoutes;
use crate::core::overview::SessionLine;
use crate::core::plan::{PlannedRoute, planned_routes};
use crate::core::printable::printable;

/// Prints the routes of all nodes, or those to one router.
pub(in crate::cli) fn run(question: Question<'_>, peer: Option<&str>) -> Result<ExitCode> {
    answer(question, &Routes { peer })
}

struct Routes<'a> {
    /// A BGPPeer's name, or a router's address.
    peer: Option<&'a str>,
}

/// Whether the router has the route, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
enum Sent {
    /// The digest of the routes that it has is the expected one.
    Yes,
    /// It has other routes, or others too.
    Differs,
    /// There is no session.
    NoSession,
    /// The states of sessions are not known.
    Unknown,
}

impl Sent {
    const fn text(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Differs => "differs",
            Self::NoSession => "no session",
            Self::Unknown => "unknown",
        }
    }

    fn of(session: &SessionLine) -> Self {
        match session.has_expected_routes() {
            Some(true) => Self::Yes,
            Some(false) => Self::Differs,
            None if session.state == "Unknown" => Self::Unknown,
            None => Self::NoSession,
        }
    }
}

/// A route as JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    route: &'a PlannedRoute,
    sent: Sent,
}

impl Routes<'_> {
    fn selects(&self, session: &SessionLine) -> bool {
        let wanted = |peer: &str| session.peer == peer || session.address == peer;
        self.peer.is_none_or(wanted)
    }

    /// The best known state of each node's sessions with a BGPPeer: a network has several routers.
    fn states<'a>(&self, seen: &'a Seen) -> BTreeMap<(&'a str, &'a str), Sent> {
        let mut states = BTreeMap::new();
        for session in &seen.overview.sessions {
            if self.selects(session) {
                let key = (session.node.as_str(), session.peer.as_str());
                let state = Sent::of(session);
                let known = states.entry(key).or_insert(state);
                // One router that has other routes is what an operator looks for.
                *known = match (*known, state) {
                    (Sent::Differs, _) | (_, Sent::Differs) => Sent::Differs,
                    (one, other) => one.min(other),
                };
            }
        }
        states
    }

    /// Passes the routes of each node on, with their states, until the receiver has enough.
    fn each_node(
        &self,
        seen: &Seen,
        mut receive: impl FnMut(Vec<(PlannedRoute, Sent)>) -> Result<bool>,
    ) -> Result<()> {
        let states = self.states(seen);
        for node in seen.index.nodes().keys() {
            let routes = NodeRoutes::of(&seen.index, node.clone());
            let routes = planned_routes(&seen.index, &routes);
            let with_state = routes.filter_map(|route| {
                let state = states.get(&(route.node.as_str(), route.peer.as_str()));
                let by_name = self.peer.is_none_or(|peer| peer == route.peer);
                // A network without a router has no session.
                let state = state.copied().or(by_name.then_some(Sent::NoSession))?;
                Some((route, state))
            });
            if !receive(with_state.collect())? {
                break;
            }
        }
        Ok(())
    }
}

impl Answer for Routes<'_> {
    fn print(&self, seen: &Seen, style: Style) -> Result<()> {
        let mut table = LongTable::new(&[
            "NODE",
            "PEER",
            "PREFIX",
            "NEXT HOP",
            "COMMUNITIES",
            "ATTRIBUTES",
            "SENT",
        ]);
        let mut any = false;
        self.each_node(seen, |routes| {
            if routes.is_empty() {
                return Ok(true);
            }
            any = true;
            let rows = routes.iter().map(|(route, sent)| row(route, *sent));
            Ok(try_print(&table.chunk(rows.collect()))?)
        })?;
        if !any {
            print("no routes: no node announces a service; see ferrolb status\n")?;
            return Ok(());
        }
        let differing = seen.overview.sessions.iter().filter(|session| {
            self.selects(session) && session.has_expected_routes() == Some(false)
        });
        let mut text = String::new();
        for session in differing {
            let name = format!("{} → {}", session.node, session.peer);
            let routes = printable(&peers::routes(session)).into_owned();
            text += &format!("{}: {routes}\n", style.yellow(&name));
        }
        if !text.is_empty() {
            print(&format!("\n{text}{DIFFERENCES}\n"))?;
        }
        Ok(())
    }

    /// One JSON list with a route per line, as from a daemon.
    fn print_json(&self, seen: &Seen) -> Result<()> {
        let mut before = "[\n";
        self.each_node(seen, |routes| {
            let mut text = String::new();
            for (route, sent) in &routes {
                text += before;
                text += &serde_json::to_string(&Row { route, sent: *sent })?;
                before = ",\n";
            }
            Ok(try_print(&text)?)
        })?;
        Ok(print(if before == ",\n" { "\n]\n" } else { "[]\n" })?)
    }

    fn lines(&self, seen: &Seen) -> Result<Lines> {
        let mut lines = Lines::new();
        self.each_node(seen, |routes| {
            for (route, sent) in &routes {
                let key = format!("{} → {} {}", route.node, route.peer, route.prefix);
                let text = format!("{}  sent: {}", attributes(route), sent.text());
                let line = Line::new(text, &Row { route, sent: *sent })?;
                lines.insert(key, line);
            }
            Ok(true)
        })?;
        Ok(lines)
    }
}

const DIFFERENCES: &str = "A node publishes what it sent within a minute and a half. If the \
                           difference stays: ferrolb routes in the announcer's Pod lists what the \
                           router has";

fn row(route: &PlannedRoute, sent: Sent) -> Vec<String> {
    vec![
        route.node.clone(),
        route.peer.clone(),
        route.prefix.to_string(),
        or_dash(
            route
                .next_hop
                .map(|hop| hop.to_string())
                .unwrap_or_default(),
        ),
        or_dash(route.all_communities()),
        or_dash(attributes(route)),
        sent.text().to_owned(),
    ]
}

/// Attributes that only few routes have.
fn attributes(route: &PlannedRoute) -> String {
    let mut attributes = Vec::new();
    attributes.extend(route.local_pref.map(|value| format!("local-pref {value}")));
    attributes.extend(route.med.map(|value| format!("med {value}")));
    if route.prepend > 0 {
        attributes.push(format!("prepend {}", route.prepend));
    }
    if route.atomic_aggregate {
        attributes.push("atomic aggregate".to_owned());
    }
    attributes.join(", ")
}
