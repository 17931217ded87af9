//! ferrolb's engine alone: the example `announce` of the `bgp` crate against each router.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::consistently;
use ferrolb_interop_tests::process::{Process, signal_pid};
use ferrolb_interop_tests::router::{
    Kind, RouteEntry, Router, await_kernel_routes, await_table, router_scenario,
};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::{Node, TOR_IPV4, Topology};

const UP: Duration = Duration::from_secs(20);
const HOLD_TIME: Duration = Duration::from_secs(3);
/// Time for a step that waits for no timer, on a busy machine.
const IMMEDIATELY: Duration = Duration::from_secs(2);

/// Starts the example on a node; it announces an address of each family to the router over IPv4.
fn announce(scratch: &Scratch, node: &Node) -> Result<Process> {
    AnnounceExample::new(scratch, node)
        .with("--peer", TOR_IPV4)
        .with("--prefix", "203.0.113.10/32")
        .with("--prefix", "2001:db8:113::10/128")
        .with("--community", "64700:120")
        .with("--large-community", "64700:1:2")
        .start()
}

/// The expected routes of these nodes.
fn expected(nodes: &[&Node]) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for node in nodes {
        for (prefix, next_hop) in [
            ("203.0.113.10/32", node.ipv4.to_string()),
            ("2001:db8:113::10/128", node.ipv6.to_string()),
        ] {
            routes.insert(
                RouteEntry::new(prefix, &next_hop)?
                    .communities(&["64700:120"])
                    .large_communities(&["64700:1:2"]),
            );
        }
    }
    Ok(routes)
}

/// Waits until the router and its kernel have exactly the routes of these nodes.
fn await_routes(
    router: &dyn Router,
    rack: &Topology,
    nodes: &[&Node],
    within: Duration,
) -> Result<()> {
    let routes = expected(nodes)?;
    await_table(router, &routes, within)?;
    if router.installs_routes() {
        await_kernel_routes(&rack.tor, &routes, IMMEDIATELY)?;
    }
    Ok(())
}

/// Three announcers start. One is stopped, one is killed, one is cut off; the router restarts.
fn routes_follow_the_announcers(kind: Kind) {
    router_scenario(kind, "announce", 3, "ebgp", |scratch, rack, router| {
        let nodes: Vec<&Node> = rack.nodes.iter().collect();
        let mut announcers = Vec::new();
        for node in &nodes {
            announcers.push(announce(scratch, node)?);
        }
        await_routes(router, rack, &nodes, UP)?;

        signal_pid("INT", announcers[2].pid())?;
        let status = announcers[2].wait_exit(IMMEDIATELY)?;
        ensure!(status.success(), "{status}");
        await_routes(router, rack, &nodes[..2], IMMEDIATELY)?;

        announcers[1].kill()?;
        await_routes(router, rack, &nodes[..1], IMMEDIATELY)?;

        announcers[1] = announce(scratch, nodes[1])?;
        await_routes(router, rack, &nodes[..2], UP)?;
        nodes[1].uplink.cut()?;
        await_routes(router, rack, &nodes[..1], HOLD_TIME * 2)?;
        nodes[1].uplink.restore()?;
        await_routes(router, rack, &nodes[..2], UP)?;

        router.stop()?;
        router.start()?;
        await_routes(router, rack, &nodes[..2], UP)?;
        let sessions = router.sessions()?;
        consistently("sessions", HOLD_TIME * 2, || {
            let now = router.sessions()?;
            ensure!(now == sessions, "{now:?} after {sessions:?}");
            Ok(())
        })
    });
}

#[test]
fn frr_has_the_routes_of_reachable_announcers() {
    routes_follow_the_announcers(Kind::Frr);
}

#[test]
fn bird_has_the_routes_of_reachable_announcers() {
    routes_follow_the_announcers(Kind::Bird);
}

#[test]
fn gobgp_has_the_routes_of_reachable_announcers() {
    routes_follow_the_announcers(Kind::Gobgp);
}
