//! The `bgp` crate on its own: its example `announce` against each router, without the daemon and
//! without Kubernetes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::consistently;
use ferrolb_interop_tests::process::{Process, Scratch, scenario, signal_pid};
use ferrolb_interop_tests::router::{Kind, RouteEntry, Router, await_kernel, await_table};
use ferrolb_interop_tests::topology::{Node, TOR_IPV4, Topology};

const UP: Duration = Duration::from_secs(20);
const HOLD_TIME: Duration = Duration::from_secs(3);
/// What needs no timer is done within this, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Starts the example in a node, announcing an address of each family to the router over IPv4.
fn announce(scratch: &Scratch, node: &Node) -> Result<Process> {
    AnnounceExample::new(scratch, node)
        .with("--peer", TOR_IPV4)
        .with("--prefix", "203.0.113.10/32")
        .with("--prefix", "2001:db8:113::10/128")
        .with("--community", "64700:120")
        .with("--large-community", "64700:1:2")
        .start()
}

/// What the router is to hold of these nodes.
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

/// The router has these nodes' routes, and its kernel forwards to them.
fn reached(router: &dyn Router, rack: &Topology, nodes: &[&Node], within: Duration) -> Result<()> {
    await_table(router, &expected(nodes)?, within)?;
    if router.installs_routes() {
        let ipv4 = nodes.iter().map(|node| IpAddr::V4(node.ipv4)).collect();
        await_kernel(&rack.tor, "203.0.113.10/32", &ipv4, AT_ONCE)?;
        let ipv6 = nodes.iter().map(|node| IpAddr::V6(node.ipv6)).collect();
        await_kernel(&rack.tor, "2001:db8:113::10/128", &ipv6, AT_ONCE)?;
    }
    Ok(())
}

/// Three come; one is interrupted, one killed, one cut off; the router restarts.
fn life(kind: Kind) {
    scenario(&format!("announce-{kind:?}"), |scratch| {
        let rack = Topology::new(3)?;
        let nodes: Vec<&Node> = rack.nodes.iter().collect();
        let mut router = kind.router(scratch, &rack.tor, "ebgp");
        router.start()?;
        let mut announcers = Vec::new();
        for node in &nodes {
            announcers.push(announce(scratch, node)?);
        }
        reached(&*router, &rack, &nodes, UP)?;

        signal_pid("INT", announcers[2].pid())?;
        let status = announcers[2].wait_exit(AT_ONCE)?;
        ensure!(status.success(), "{status}");
        reached(&*router, &rack, &nodes[..2], AT_ONCE)?;

        announcers[1].kill()?;
        reached(&*router, &rack, &nodes[..1], AT_ONCE)?;

        announcers[1] = announce(scratch, nodes[1])?;
        reached(&*router, &rack, &nodes[..2], UP)?;
        nodes[1].uplink.cut()?;
        reached(&*router, &rack, &nodes[..1], HOLD_TIME * 2)?;
        nodes[1].uplink.mend()?;
        reached(&*router, &rack, &nodes[..2], UP)?;

        router.stop()?;
        router.start()?;
        reached(&*router, &rack, &nodes[..2], UP)?;
        let sessions = router.sessions()?;
        consistently("sessions", HOLD_TIME * 2, || {
            let now = router.sessions()?;
            ensure!(now == sessions, "{now:?} after {sessions:?}");
            Ok(())
        })
    });
}

#[test]
fn frr_learns_and_forgets() {
    life(Kind::Frr);
}

#[test]
fn bird_learns_and_forgets() {
    life(Kind::Bird);
}

#[test]
fn gobgp_learns_and_forgets() {
    life(Kind::Gobgp);
}
