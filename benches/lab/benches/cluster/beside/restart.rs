//! A planned restart of one of two nodes' announcers, with FRR as the router and a client behind
//! it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ferrolb_interop_tests::kube::{Load, Metallb, Rack};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::router::{RouteEntry, Router};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;
use ferrolb_lab_bench::statistics::milliseconds;

use super::program::{Program, System};
use super::results::Row;

/// The Services; the client uses the first one.
const SERVICES: usize = 100;
const NEW_PER_SECOND: u32 = 200;
const LONG_LIVED: u32 = 100;
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the announcer is stopped.
const DOWNTIME: Duration = Duration::from_secs(1);
/// The least time that is watched: longer than the restart time of graceful restart would not be
/// needed, since routes are refreshed when the session is back.
const WATCHED: Duration = Duration::from_secs(10);
/// The time within which all routes must be back.
const TIMEOUT: Duration = Duration::from_secs(60);

fn configuration(system: System) -> String {
    // Native mode refuses graceful restart.
    let peer = match system {
        System::Ferrolb => ", enableGracefulRestart: true",
        System::Metallb => "",
    };
    let services: Vec<String> = (0..SERVICES)
        .map(|index| manifest::service(&format!("web{index}"), "", "externalTrafficPolicy: Local,"))
        .collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    manifest::join(&[
        &manifest::metallb_peer(peer),
        &manifest::pool("192.0.2.0/24"),
        &manifest::advertisement(""),
        &manifest::join(&services),
    ])
}

/// Restarts the announcer of the first node.
pub(crate) fn measure(system: System, scratch: &Scratch) -> Result<Vec<Row>> {
    let mut topology = Topology::new(2)?;
    topology.add_client()?;
    let rack = Rack::without_crds(scratch, &topology, "ebgp")?;
    rack.cp.install_metallb_crds(Metallb::V0_14_9)?;
    system.prepare(&rack.cp, &topology.nodes)?;
    rack.cp.apply(&configuration(system))?;
    let _allocator = Program::allocator(system, scratch, &rack.cp)?;
    let mut announcers = Vec::new();
    for node in &topology.nodes {
        announcers.push(Program::announcer(system, scratch, &rack.cp, node)?);
    }
    let mut expected = BTreeSet::new();
    for index in 0..SERVICES {
        let addresses = rack.await_addresses(&format!("web{index}"))?;
        let address = addresses.first().context("no address")?;
        expected.extend(rack.routes(&format!("{address}/32"), &[0, 1])?);
    }
    rack.await_routes(&expected)?;
    let address = rack.await_addresses("web0")?[0];
    rack.await_answers(address, &[0, 1])?;

    let target = SocketAddr::new(address, 80);
    let load = Load::start(topology.client()?, target, NEW_PER_SECOND, LONG_LIVED)?;
    sleep(WARM_UP);
    announcers[0].terminate()?;
    let stopped = Instant::now();
    let missing = watch(&rack.router, &expected, stopped, &mut announcers[0])?;
    let report = load.stop()?;
    let of = |measured, value: f64| Row::new(measured, SERVICES, "", value);
    Ok(vec![
        of(
            "planned restart: most routes missing at a moment",
            missing.most as f64,
        ),
        Row::new(
            "planned restart: time with missing routes",
            SERVICES,
            "ms",
            milliseconds(missing.time),
        ),
        of(
            "planned restart: broken of 100 open connections",
            report.broken as f64,
        ),
        of(
            "planned restart: failed new connections",
            report.failed as f64,
        ),
    ])
}

/// Routes that the router lacked.
#[derive(Default)]
struct Missing {
    most: usize,
    /// From the first to the last look at the table that showed one.
    time: Duration,
}

/// Starts the announcer again after its downtime, and looks at the router's table all the time
/// until it is complete.
fn watch(
    router: &dyn Router,
    expected: &BTreeSet<RouteEntry>,
    stopped: Instant,
    announcer: &mut Program<'_>,
) -> Result<Missing> {
    let (mut missing, mut first, mut started) = (Missing::default(), None, false);
    loop {
        let table = router.table()?;
        let now = Instant::now();
        let count = expected.difference(&table).count();
        if count > 0 {
            missing.most = missing.most.max(count);
            missing.time = now.duration_since(*first.get_or_insert(now));
        }
        let elapsed = now.duration_since(stopped);
        if !started && elapsed >= DOWNTIME {
            announcer.start_again()?;
            started = true;
        }
        anyhow::ensure!(elapsed < TIMEOUT, "{count} routes are still missing");
        if elapsed >= WATCHED && count == 0 {
            return Ok(missing);
        }
    }
}
