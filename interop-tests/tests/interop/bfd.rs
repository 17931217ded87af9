//! BFD beside the session (RFC 5880 to 5883).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::RouteEntry;
use ferrolb_interop_tests::topology::TOR_IPV6;

use crate::{AT_ONCE, Cell, UP};

/// A session that waits for BFD would be up by then if it didn't.
const WAITING: Duration = Duration::from_secs(3);

fn with_bfd(announcer: AnnounceExample<'_>) -> AnnounceExample<'_> {
    // Long beside BFD's 300 ms.
    let announcer = announcer.with("--hold-time", 9);
    announcer.flag("--bfd").with("--bfd-interval", 100)
}

pub(crate) fn cut(cell: &Cell<'_>) -> Result<()> {
    let announcer = with_bfd(cell.dialler()).flag("--bfd-strict");
    cut_and_mend(cell, &announcer, &cell.routes()?)
}

pub(crate) fn over_ipv6(cell: &Cell<'_>) -> Result<()> {
    let [_, v6] = cell.prefixes();
    let announcer = AnnounceExample::new(cell.scratch, cell.node()).with("--prefix", v6);
    let announcer = with_bfd(announcer.with("--peer", TOR_IPV6)).flag("--bfd-strict");
    let mut routes = cell.routes()?;
    routes.retain(|route| route.prefix == v6);
    cut_and_mend(cell, &announcer, &routes)
}

/// Not in strict mode: FRR 8.4 begins BFD over several hops once the session is up.
pub(crate) fn multihop(cell: &Cell<'_>) -> Result<()> {
    let announcer = with_bfd(cell.dialler())
        .flag("--multihop")
        .with("--source", cell.node().ipv4)
        // BIRD 2 sends with TTL 64 here.
        .with("--bfd-min-ttl", 60);
    cut_and_mend(cell, &announcer, &cell.routes()?)
}

/// Both sides notice a silent cut, and are back when it is over.
fn cut_and_mend(
    cell: &Cell<'_>,
    announcer: &AnnounceExample<'_>,
    routes: &BTreeSet<RouteEntry>,
) -> Result<()> {
    let announcer = announcer.start()?;
    stands(cell, &announcer, routes)?;
    cell.node().uplink.cut()?;
    cell.await_routes(&BTreeSet::new(), AT_ONCE)?;
    cell.await_said(&announcer, "BFD Down", AT_ONCE)?;
    cell.node().uplink.mend()?;
    cell.await_routes(routes, UP)
}

/// The routes are there and stay: FRR 8.4 begins BFD anew once a session is up, and so ends the first one.
fn stands(cell: &Cell<'_>, announcer: &Process, routes: &BTreeSet<RouteEntry>) -> Result<()> {
    eventually("a session that stays", UP, || {
        let sessions = announcer.log_text()?.matches("session up").count();
        cell.holds_exactly(routes)?;
        consistently("the session", Duration::from_secs(1), || {
            let log = announcer.log_text()?;
            ensure!(log.matches("session up").count() == sessions, "{log}");
            cell.holds_exactly(routes)
        })
    })
}

pub(crate) fn strict(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell.run(&with_bfd(cell.dialler()).flag("--bfd-strict"))?;
    let log = announcer.log_text()?;
    let at = |words: &str| log.find(words).context(words.to_owned());
    ensure!(at("BFD Up")? < at("session up")?, "{log}");
    Ok(())
}

pub(crate) fn strict_in_vain(cell: &Cell<'_>) -> Result<()> {
    let announcer = with_bfd(cell.dialler()).flag("--bfd-strict");
    let announcer = announcer.flag("--verbose").start()?;
    cell.await_said(&announcer, "waiting for BFD", UP)?;
    consistently("no session", WAITING, || {
        let sessions = cell.router.sessions()?;
        ensure!(!sessions.contains_key(&cell.address()), "{sessions:?}");
        let log = announcer.log_text()?;
        ensure!(!log.contains("session up"), "{log}");
        Ok(())
    })
}
