//! The table of docs/interop.md: a scenario per row, a router per column. Each cell runs on its own
//! nodes, so that the cells of a router run in parallel. Most scenarios run the example `announce`
//! on the node.

mod bfd;
mod document;
mod features;
mod restarts;
mod rows;
mod sessions;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::example::{self, program};
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{Kind, RouteEntry, Router};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{Node, TOR_IPV4, Topology};
use ipnet::IpNet;

use crate::document::Column;
use crate::rows::{GROUPS, Row};

/// Time from the start to a session with all routes; GoBGP dials after nearly 10 s.
const UP: Duration = Duration::from_secs(25);
/// Time for a step that waits for no timer, on a busy machine.
const IMMEDIATELY: Duration = Duration::from_secs(4);
/// Number of missing and of unexpected routes in an error.
const MAX_DIFFERENCES: usize = 5;
/// Number of groups that run in parallel; they wait most of the time.
const PARALLEL_GROUPS: usize = 4;
/// The nodes' hold time.
const HOLD_TIME: Duration = Duration::from_secs(3);
/// Longer than the hold time: a session without KEEPALIVEs is down after it.
const BEYOND_HOLD_TIME: Duration = Duration::from_secs(4);

/// The run of one row with one router, with its own nodes and prefixes.
struct Cell<'lab> {
    scratch: &'lab Scratch,
    router: &'lab dyn Router,
    rack: &'lab Topology,
    nodes: &'lab [Node],
}

impl<'lab> Cell<'lab> {
    /// The first node; most rows need only one.
    fn node(&self) -> &'lab Node {
        &self.nodes[0]
    }

    fn address(&self) -> IpAddr {
        IpAddr::V4(self.node().ipv4)
    }

    /// An IPv4 and an IPv6 prefix, unique to the cell.
    fn prefixes(&self) -> [IpNet; 2] {
        let host = self.node().ipv4.octets()[3];
        [
            format!("203.0.113.{host}/32"),
            format!("2001:db8:113::{host}/128"),
        ]
        .map(|prefix| prefix.parse().expect("a prefix"))
    }

    /// The announcer of both prefixes on the first node, without a peer.
    fn announcer(&self) -> AnnounceExample<'lab> {
        let [v4, v6] = self.prefixes();
        AnnounceExample::new(self.scratch, self.node())
            .with("--prefix", v4)
            .with("--prefix", v6)
    }

    /// The announcer of both prefixes on the first node, which dials the router.
    fn dialler(&self) -> AnnounceExample<'lab> {
        self.announcer().with("--peer", TOR_IPV4)
    }

    /// The expected routes of the first node.
    fn routes(&self) -> Result<BTreeSet<RouteEntry>> {
        let [v4, v6] = self.prefixes();
        let node = self.node();
        Ok(BTreeSet::from([
            RouteEntry::new(&v4.to_string(), &node.ipv4.to_string())?,
            RouteEntry::new(&v6.to_string(), &node.ipv6.to_string())?,
        ]))
    }

    /// The router's routes of this cell's nodes.
    fn received(&self) -> Result<BTreeSet<RouteEntry>> {
        let mut routes = self.router.table()?;
        routes.retain(|route| {
            self.nodes.iter().any(|node| {
                route.next_hop == IpAddr::V4(node.ipv4) || route.next_hop == IpAddr::V6(node.ipv6)
            })
        });
        Ok(routes)
    }

    fn check_routes(&self, expected: &BTreeSet<RouteEntry>) -> Result<()> {
        check_equal(&self.received()?, expected)
    }

    fn await_routes(&self, expected: &BTreeSet<RouteEntry>, within: Duration) -> Result<()> {
        eventually("the router's table", within, || self.check_routes(expected))
    }

    /// Whether the first node has a session.
    fn has_session(&self) -> Result<bool> {
        Ok(self.router.sessions()?.contains_key(&self.address()))
    }

    /// Waits until the first node has a session again and checks that `kept` succeeded all the
    /// time.
    fn await_return(&self, kept: impl Fn() -> Result<()>) -> Result<()> {
        let mut lost = None;
        eventually("a session again", UP, || {
            if let Err(error) = kept() {
                lost.get_or_insert(error);
            }
            ensure!(self.has_session()?, "none");
            Ok(())
        })?;
        lost.map_or(Ok(()), |error| {
            Err(error.context("a route was lost meanwhile"))
        })
    }

    /// Starts an announcer and waits for its routes without attributes.
    fn run(&self, announcer: &AnnounceExample<'_>) -> Result<Process> {
        let mut daemon = announcer.start()?;
        let routes = self.routes()?;
        eventually("session and routes", UP, || {
            daemon.ensure_running()?;
            self.check_routes(&routes)
        })?;
        Ok(daemon)
    }

    /// Waits until the router's log has a line with all of these words, in any case.
    fn await_router_log(&self, words: &[&str], within: Duration) -> Result<()> {
        eventually(format!("{words:?} in the router's log"), within, || {
            let log = self.router.log()?.to_lowercase();
            let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
            let found = log
                .lines()
                .any(|line| lower.iter().all(|word| line.contains(word)));
            ensure!(found, "not logged");
            Ok(())
        })
    }
}

/// Compares routes; the error has some of the differences.
fn check_equal(received: &BTreeSet<RouteEntry>, expected: &BTreeSet<RouteEntry>) -> Result<()> {
    if received == expected {
        return Ok(());
    }
    let mut difference = String::new();
    for route in expected.difference(received).take(MAX_DIFFERENCES) {
        write!(difference, " [missing {route}]")?;
    }
    for route in received.difference(expected).take(MAX_DIFFERENCES) {
        write!(difference, " [unexpected {route}]")?;
    }
    bail!("{} routes,{difference}", received.len())
}

/// Runs all rows with a router and compares the result with its column in the document.
fn column(kind: Kind) {
    scenario(&format!("interop-{kind:?}"), |scratch| {
        program(example::BGP)?; // built before any clock runs
        // For development: only rows with this in their title, without a comparison with the
        // document.
        let only = std::env::var("INTEROP_ONLY").ok();
        let wanted = |row: &&Row| {
            let named = only.as_ref().is_none_or(|only| row.title.contains(only));
            named && row.lacks(kind).is_none()
        };
        let groups = GROUPS.iter().enumerate().map(|(index, group)| {
            let rows: Vec<&Row> = group.rows.iter().filter(wanted).collect();
            (format!("{index}-{}", group.example), group.example, rows)
        });
        let groups = Mutex::new(groups.filter(|(_, _, rows)| !rows.is_empty()));
        let failed = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL_GROUPS {
                scope.spawn(|| {
                    while let Some((name, example, rows)) = next(&groups) {
                        let errors = run_group(scratch, kind, &name, example, &rows);
                        let errors = errors.unwrap_or_else(|error| vec![format!("{error:#}")]);
                        if let Ok(mut failed) = failed.lock() {
                            failed.extend(errors);
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap_or_default();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        if only.is_some() {
            return Ok(());
        }
        let rack = Topology::new(0)?;
        let router = kind.router(scratch, &rack.tor, "ebgp");
        let mut column = Column::new(router.name(), &router.version()?);
        for row in GROUPS.iter().flat_map(|group| group.rows) {
            column.cell(row.title, row.lacks(kind));
        }
        document::check(&column)
    });
}

/// Takes the next item of an iterator that several threads share.
fn next<T>(from: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    from.lock().ok()?.next()
}

/// Starts a router for a group, runs its rows in parallel, each on its own nodes, and returns the
/// errors.
fn run_group(
    scratch: &Scratch,
    kind: Kind,
    name: &str,
    example: &str,
    rows: &[&Row],
) -> Result<Vec<String>> {
    let scratch = &scratch.within(name)?;
    let rack = &Topology::new(rows.iter().map(|row| row.nodes).sum())?;
    let mut router = kind.router(scratch, &rack.tor, example);
    router.start().with_context(|| example.to_owned())?;
    let router = &*router;
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let mut rest = &rack.nodes[..];
        for row in rows {
            let (nodes, others) = rest.split_at(row.nodes.into());
            rest = others;
            let failed = &failed;
            scope.spawn(move || {
                let cell = Cell {
                    scratch,
                    router,
                    rack,
                    nodes,
                };
                let start = Instant::now();
                let outcome = (row.run)(&cell);
                let word = if outcome.is_ok() { "ok" } else { "FAILED" };
                let seconds = start.elapsed().as_secs_f64();
                println!(
                    "    {:<9} {word:<6} {seconds:>5.1} s  {}",
                    router.name(),
                    row.title
                );
                if let (Err(error), Ok(mut failed)) = (outcome, failed.lock()) {
                    failed.push(format!("{}: {error:#}", row.title));
                }
            });
        }
    });
    Ok(failed.into_inner().unwrap_or_default())
}

#[test]
fn interop_with_bird() {
    column(Kind::Bird);
}

#[test]
fn interop_with_frr() {
    column(Kind::Frr);
}

#[test]
fn interop_with_gobgp() {
    column(Kind::Gobgp);
}

#[test]
fn interop_with_openbgpd() {
    column(Kind::Openbgpd);
}

#[test]
fn interop_with_exabgp() {
    column(Kind::Exabgp);
}

#[test]
fn interop_with_ferrolb_itself() {
    column(Kind::Ferrolb);
}
