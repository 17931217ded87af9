//! Leaving and coming back (RFC 4724).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::announce::Announcer;
use ferrolb_interop_tests::process::signal_pid;
use ferrolb_interop_tests::router::RouteEntry;
use ferrolb_interop_tests::topology::TOR_IPV4;
use ferrolb_interop_tests::wait::{holds, until};

use crate::{AT_ONCE, Cell, UP};

/// Routes stay for at least that long while nobody announces them.
const AWAY: Duration = Duration::from_secs(2);

/// A process killed and started again keeps what it still announces throughout, and loses the rest.
pub(crate) fn back_in_time(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler().with("--graceful-restart", 20))?;
    announcer.kill()?;
    let routes = cell.routes()?;
    holds("stale routes", AWAY, || held(cell, &routes))?;

    let [v4, _] = cell.prefixes();
    let kept: BTreeSet<RouteEntry> = routes
        .iter()
        .filter(|route| route.prefix == v4)
        .cloned()
        .collect();
    let _back = Announcer::new(cell.scratch, cell.node())
        .with("--peer", TOR_IPV4)
        .with("--graceful-restart", 20)
        .with("--prefix", v4)
        .start()?;
    let mut lost = None;
    until("only what is announced again", UP, || {
        if let Err(error) = held(cell, &kept) {
            lost.get_or_insert(error);
        }
        cell.holds_exactly(&kept)
    })?;
    lost.map_or(Ok(()), |error| Err(error.context("a kept route was gone")))
}

pub(crate) fn not_back(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler().with("--graceful-restart", 4))?;
    announcer.kill()?;
    let routes = cell.routes()?;
    holds("stale routes", AWAY, || held(cell, &routes))?;
    cell.await_routes(&BTreeSet::new(), UP)
}

/// A planned leave: TCP closes without a NOTIFICATION, and the routes stay until somebody is back.
pub(crate) fn preserved(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell
        .dialler()
        .with("--graceful-restart", 20)
        .flag("--preserve");
    let mut running = cell.run(&announcer)?;
    signal_pid("INT", running.pid())?;
    ensure!(running.wait_exit(AT_ONCE)?.success(), "it failed");
    let routes = cell.routes()?;
    holds("preserved routes", AWAY, || held(cell, &routes))?;
    let _back = announcer.start()?;
    until("a session again", UP, || {
        held(cell, &routes)?;
        let sessions = cell.router.sessions()?;
        ensure!(sessions.contains_key(&cell.address()), "none");
        Ok(())
    })?;
    holds("the routes", AWAY, || held(cell, &routes))
}

/// The router has these routes, and its kernel forwards to them.
fn held(cell: &Cell<'_>, routes: &BTreeSet<RouteEntry>) -> Result<()> {
    let table = cell.held()?;
    for route in routes {
        ensure!(table.contains(route), "{route} is gone");
        if cell.router.installs_routes() {
            let next_hops = cell.rack.tor.kernel_next_hops(&route.prefix.to_string())?;
            ensure!(
                next_hops.contains(&route.next_hop),
                "{route} is gone from the kernel"
            );
        }
    }
    Ok(())
}
