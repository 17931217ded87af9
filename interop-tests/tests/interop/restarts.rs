//! Scenarios with graceful restart (RFC 4724, RFC 8538).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::process::signal_pid;
use ferrolb_interop_tests::router::RouteEntry;
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::TOR_IPV4;

use crate::{Cell, IMMEDIATELY, UP};

/// Time for which routes must stay while no node announces them.
const DOWNTIME: Duration = Duration::from_secs(2);

/// The announcer is killed and restarted with one prefix less: the router keeps the other route
/// throughout and removes the stale one.
pub(crate) fn restarted_in_time(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler().with("--graceful-restart", 20))?;
    announcer.kill()?;
    let routes = cell.routes()?;
    consistently("stale routes", DOWNTIME, || check_kept(cell, &routes))?;

    let [v4, _] = cell.prefixes();
    let kept: BTreeSet<RouteEntry> = routes
        .iter()
        .filter(|route| route.prefix == v4)
        .cloned()
        .collect();
    let _back = AnnounceExample::new(cell.scratch, cell.node())
        .with("--peer", TOR_IPV4)
        .with("--graceful-restart", 20)
        .with("--prefix", v4)
        .start()?;
    let mut lost = None;
    eventually("only the routes of the restarted announcer", UP, || {
        if let Err(error) = check_kept(cell, &kept) {
            lost.get_or_insert(error);
        }
        cell.check_routes(&kept)
    })?;
    lost.map_or(Ok(()), |error| {
        Err(error.context("a route was lost meanwhile"))
    })
}

pub(crate) fn not_restarted_in_time(cell: &Cell<'_>) -> Result<()> {
    let mut announcer = cell.run(&cell.dialler().with("--graceful-restart", 6))?;
    announcer.kill()?;
    let routes = cell.routes()?;
    consistently("stale routes", DOWNTIME, || check_kept(cell, &routes))?;
    cell.await_routes(&BTreeSet::new(), UP)
}

/// A planned restart: TCP closes without a NOTIFICATION, and the routes stay until the announcer is
/// back.
pub(crate) fn planned_restart(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell
        .dialler()
        .with("--graceful-restart", 20)
        .flag("--preserve");
    let mut running = cell.run(&announcer)?;
    signal_pid("INT", running.pid())?;
    ensure!(
        running.wait_exit(IMMEDIATELY)?.success(),
        "the announcer failed"
    );
    let routes = cell.routes()?;
    consistently("stale routes", DOWNTIME, || check_kept(cell, &routes))?;
    let _back = announcer.start()?;
    cell.await_return(|| check_kept(cell, &routes))?;
    consistently("the routes", DOWNTIME, || check_kept(cell, &routes))
}

/// A changed configuration ends the session with a Cease; with the N bit the router keeps the
/// routes.
pub(crate) fn routes_stay_after_cease(cell: &Cell<'_>) -> Result<()> {
    const PORT: u16 = 179;
    let scratch = cell.scratch.within("cease")?;
    let folder = folder(cell, &scratch)?;
    folder.write("peer.yaml", &peer(PORT))?;
    let daemon = folder.run(cell.node())?;
    let routes = cell.routes()?;
    cell.await_routes(&routes, UP)?;

    // The router does not listen on this port, so no session is established.
    folder.write("peer.yaml", &peer(1790))?;
    let why = "sent Cease/Other Configuration Change";
    daemon.await_log(&[why], IMMEDIATELY)?;
    consistently("stale routes", DOWNTIME, || check_kept(cell, &routes))?;
    ensure!(!cell.has_session()?, "a session exists");
    folder.write("peer.yaml", &peer(PORT))?;
    cell.await_return(|| check_kept(cell, &routes))?;
    consistently("the routes", DOWNTIME, || check_kept(cell, &routes))
}

/// The router must remove the routes of a deleted peer at once. With the N bit this needs a Hard
/// Reset; nothing is withdrawn before it.
pub(crate) fn hard_reset(cell: &Cell<'_>) -> Result<()> {
    let scratch = cell.scratch.within("hard-reset")?;
    let folder = folder(cell, &scratch)?;
    folder.write("peer.yaml", &peer(179))?;
    let daemon = folder.run(cell.node())?;
    cell.await_routes(&cell.routes()?, UP)?;
    folder.remove("peer.yaml")?;
    daemon.await_log(&["sent Cease/Hard Reset"], IMMEDIATELY)?;
    cell.await_routes(&BTreeSet::new(), IMMEDIATELY)
}

/// A peer with BFD, which the daemon requires for the N bit. Routers without BFD establish the
/// session, too.
fn peer(port: u16) -> String {
    let more = format!(
        ", peerPort: {port}, dualStackAddressFamily: true, holdTime: 9s, restartTime: 20s, \
         bfdProfile: fast"
    );
    manifest::join(&[
        &manifest::ferrolb_peer(TOR_IPV4, &more),
        &manifest::bfd_profile(),
    ])
}

/// A manifest folder with the node and a Service with the cell's prefixes. The caller adds the
/// BGPPeer.
pub(crate) fn folder<'a>(cell: &Cell<'_>, scratch: &'a Scratch) -> Result<Folder<'a>> {
    let [v4, v6] = cell.prefixes().map(|prefix| prefix.addr());
    let folder = Folder::new(scratch)?;
    folder.write_node(cell.node(), &[])?;
    let manifests = manifest::join(&[
        &manifest::pool(&format!("{v4}/32, \"{v6}/128\"")),
        &manifest::advertisement(""),
        &manifest::dual_stack_service(v4, v6, &cell.node().name),
    ]);
    folder.write("service.yaml", &manifests)?;
    Ok(folder)
}

/// Checks that the router and its kernel have these routes.
fn check_kept(cell: &Cell<'_>, routes: &BTreeSet<RouteEntry>) -> Result<()> {
    let table = cell.received()?;
    for route in routes {
        ensure!(table.contains(route), "{route} is missing");
        if cell.router.installs_routes() {
            let next_hops = cell.rack.tor.kernel_next_hops(&route.prefix.to_string())?;
            ensure!(
                next_hops.contains(&route.next_hop),
                "{route} is missing in the kernel"
            );
        }
    }
    Ok(())
}
