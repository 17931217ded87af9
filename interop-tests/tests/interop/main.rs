//! The matrix of docs/interop.md: every row a scenario, every column a router, every cell a run. The speaker is the
//! crate's example `announce` on a node of its own, so that the cells of one router run side by side.

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
use ferrolb_interop_tests::announce_example::{AnnounceExample, program};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::process::{Process, Scratch, scenario};
use ferrolb_interop_tests::router::{Kind, RouteEntry, Router};
use ferrolb_interop_tests::topology::{Node, TOR_IPV4, Topology};
use ipnet::IpNet;

use crate::document::Column;
use crate::rows::{GROUPS, Row};

/// From the start to a session with all its routes; GoBGP takes nearly 10 s before it dials.
const UP: Duration = Duration::from_secs(25);
/// What needs no timer is done within this, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(4);
/// Of each kind of difference so many are named.
const SHOWN: usize = 5;
/// So many groups run side by side: most of their time they wait.
const SIDE_BY_SIDE: usize = 4;
/// The nodes' hold time.
const HOLD_TIME: Duration = Duration::from_secs(3);
/// A session that nothing is heard of any more doesn't last that long.
const OUTLIVED: Duration = Duration::from_secs(4);

/// A row's run against one router: nodes of its own, which announce prefixes of their own.
struct Cell<'lab> {
    scratch: &'lab Scratch,
    router: &'lab dyn Router,
    rack: &'lab Topology,
    nodes: &'lab [Node],
}

impl<'lab> Cell<'lab> {
    /// The first of its nodes; most rows need no more.
    fn node(&self) -> &'lab Node {
        &self.nodes[0]
    }

    fn address(&self) -> IpAddr {
        IpAddr::V4(self.node().ipv4)
    }

    /// An IPv4 and an IPv6 prefix that no other cell has.
    fn prefixes(&self) -> [IpNet; 2] {
        let host = self.node().ipv4.octets()[3];
        [
            format!("203.0.113.{host}/32"),
            format!("2001:db8:113::{host}/128"),
        ]
        .map(|prefix| prefix.parse().expect("a prefix"))
    }

    /// The first node's announcer of both prefixes, without a peer.
    fn announcer(&self) -> AnnounceExample<'lab> {
        let [v4, v6] = self.prefixes();
        AnnounceExample::new(self.scratch, self.node())
            .with("--prefix", v4)
            .with("--prefix", v6)
    }

    /// The same, dialling the router.
    fn dialler(&self) -> AnnounceExample<'lab> {
        self.announcer().with("--peer", TOR_IPV4)
    }

    /// What the router is to hold of the first node.
    fn routes(&self) -> Result<BTreeSet<RouteEntry>> {
        let [v4, v6] = self.prefixes();
        let node = self.node();
        Ok(BTreeSet::from([
            RouteEntry::new(&v4.to_string(), &node.ipv4.to_string())?,
            RouteEntry::new(&v6.to_string(), &node.ipv6.to_string())?,
        ]))
    }

    /// What the router holds of this cell's nodes.
    fn held(&self) -> Result<BTreeSet<RouteEntry>> {
        let mut routes = self.router.table()?;
        routes.retain(|route| {
            self.nodes.iter().any(|node| {
                route.next_hop == IpAddr::V4(node.ipv4) || route.next_hop == IpAddr::V6(node.ipv6)
            })
        });
        Ok(routes)
    }

    fn holds_exactly(&self, expected: &BTreeSet<RouteEntry>) -> Result<()> {
        same(&self.held()?, expected)
    }

    fn await_routes(&self, expected: &BTreeSet<RouteEntry>, within: Duration) -> Result<()> {
        eventually("the router's table", within, || {
            self.holds_exactly(expected)
        })
    }

    /// Whether the first node has a session.
    fn in_session(&self) -> Result<bool> {
        Ok(self.router.sessions()?.contains_key(&self.address()))
    }

    /// Waits until the first node has a session again, and checks that what is to be kept was so all the time.
    fn await_return(&self, kept: impl Fn() -> Result<()>) -> Result<()> {
        let mut lost = None;
        eventually("a session again", UP, || {
            if let Err(error) = kept() {
                lost.get_or_insert(error);
            }
            ensure!(self.in_session()?, "none");
            Ok(())
        })?;
        lost.map_or(Ok(()), |error| Err(error.context("it was not kept")))
    }

    /// Starts an announcer and waits for its plain routes.
    fn run(&self, announcer: &AnnounceExample<'_>) -> Result<Process> {
        let mut daemon = announcer.start()?;
        let routes = self.routes()?;
        eventually("session and routes", UP, || {
            daemon.ensure_running()?;
            self.holds_exactly(&routes)
        })?;
        Ok(daemon)
    }

    /// Waits until the announcer's log says this.
    fn await_said(&self, daemon: &Process, words: &str, within: Duration) -> Result<()> {
        eventually(format!("{words:?} in our log"), within, || {
            let log = daemon.log_text()?;
            ensure!(
                log.contains(words),
                "{}",
                log.lines().last().unwrap_or_default()
            );
            Ok(())
        })
    }

    /// Waits until the router's log has a line with all of these words, whatever their case.
    fn await_heard(&self, words: &[&str], within: Duration) -> Result<()> {
        eventually(format!("{words:?} in the router's log"), within, || {
            let log = self.router.log()?.to_lowercase();
            let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
            let found = log
                .lines()
                .any(|line| lower.iter().all(|word| line.contains(word)));
            ensure!(found, "never");
            Ok(())
        })
    }
}

/// Tells some of the differences.
fn same(held: &BTreeSet<RouteEntry>, expected: &BTreeSet<RouteEntry>) -> Result<()> {
    if held == expected {
        return Ok(());
    }
    let mut difference = String::new();
    for route in expected.difference(held).take(SHOWN) {
        write!(difference, " [missing {route}]")?;
    }
    for route in held.difference(expected).take(SHOWN) {
        write!(difference, " [unexpected {route}]")?;
    }
    bail!("{} routes,{difference}", held.len())
}

/// Runs all rows against a router and compares the outcome with its column in the document.
fn column(kind: Kind) {
    scenario(&format!("interop-{kind:?}"), |scratch| {
        program()?; // built before any clock runs
        // For whoever works on one row: those with this in their title, and no word about the document.
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
            for _ in 0..SIDE_BY_SIDE {
                scope.spawn(|| {
                    while let Some((name, example, rows)) = take(&groups) {
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

/// The next of what several take from.
fn take<T>(from: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    from.lock().ok()?.next()
}

/// Runs the rows of a group side by side, each on its own nodes, with a router of their own, and gives what failed.
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
fn bird() {
    column(Kind::Bird);
}

#[test]
fn frr() {
    column(Kind::Frr);
}

#[test]
fn gobgp() {
    column(Kind::Gobgp);
}

#[test]
fn openbgpd() {
    column(Kind::Openbgpd);
}

#[test]
fn exabgp() {
    column(Kind::Exabgp);
}

#[test]
fn ferrolb_itself() {
    column(Kind::Ferrolb);
}
