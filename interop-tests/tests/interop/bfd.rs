//! Scenarios with BFD (RFC 5880 to 5883).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::RouteEntry;
use ferrolb_interop_tests::topology::TOR_IPV6;

use crate::{Cell, IMMEDIATELY, UP};

/// Time in which a session that does not wait for BFD would be established.
const WAITING: Duration = Duration::from_secs(3);

fn with_bfd(announcer: AnnounceExample<'_>) -> AnnounceExample<'_> {
    // Long compared with BFD's detection time of 300 ms.
    let announcer = announcer.with("--hold-time", 9);
    announcer.flag("--bfd").with("--bfd-interval", 100)
}

pub(crate) fn detects_cut(cell: &Cell<'_>) -> Result<()> {
    let announcer = with_bfd(cell.dialler()).flag("--bfd-strict");
    cut_and_restore(cell, &announcer, &cell.routes()?)
}

pub(crate) fn detects_cut_over_ipv6(cell: &Cell<'_>) -> Result<()> {
    let [_, v6] = cell.prefixes();
    let announcer = AnnounceExample::new(cell.scratch, cell.node()).with("--prefix", v6);
    let announcer = with_bfd(announcer.with("--peer", TOR_IPV6)).flag("--bfd-strict");
    let mut routes = cell.routes()?;
    routes.retain(|route| route.prefix == v6);
    cut_and_restore(cell, &announcer, &routes)
}

/// Without strict mode: FRR 8.4 starts multihop BFD only once the session is up.
pub(crate) fn detects_cut_multihop(cell: &Cell<'_>) -> Result<()> {
    let announcer = with_bfd(cell.dialler())
        .flag("--multihop")
        .with("--source", cell.node().ipv4)
        // BIRD 2 sends with TTL 64 here.
        .with("--bfd-min-ttl", 60);
    cut_and_restore(cell, &announcer, &cell.routes()?)
}

/// Both sides detect a silent cut; the routes return after it.
fn cut_and_restore(
    cell: &Cell<'_>,
    announcer: &AnnounceExample<'_>,
    routes: &BTreeSet<RouteEntry>,
) -> Result<()> {
    let announcer = announcer.start()?;
    await_stable_session(cell, &announcer, routes)?;
    cell.node().uplink.cut()?;
    cell.await_routes(&BTreeSet::new(), IMMEDIATELY)?;
    announcer.await_log(&["BFD Down"], IMMEDIATELY)?;
    cell.node().uplink.restore()?;
    cell.await_routes(routes, UP)
}

/// Waits until the session and its routes are stable. FRR 8.4 restarts BFD once a session is up,
/// which ends the first session.
fn await_stable_session(
    cell: &Cell<'_>,
    announcer: &Process,
    routes: &BTreeSet<RouteEntry>,
) -> Result<()> {
    eventually("a stable session", UP, || {
        let sessions = announcer.log_text()?.matches("session up").count();
        cell.check_routes(routes)?;
        consistently("the session", Duration::from_secs(1), || {
            let log = announcer.log_text()?;
            ensure!(log.matches("session up").count() == sessions, "{log}");
            cell.check_routes(routes)
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

pub(crate) fn strict_without_bfd(cell: &Cell<'_>) -> Result<()> {
    let announcer = with_bfd(cell.dialler()).flag("--bfd-strict");
    let announcer = announcer.flag("--verbose").start()?;
    announcer.await_log(&["waiting for BFD"], UP)?;
    consistently("no session", WAITING, || {
        let sessions = cell.router.sessions()?;
        ensure!(!sessions.contains_key(&cell.address()), "{sessions:?}");
        let log = announcer.log_text()?;
        ensure!(!log.contains("session up"), "{log}");
        Ok(())
    })
}
