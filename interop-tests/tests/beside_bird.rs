//! ferrolb on a node where BIRD owns port 179 and the session with the router, as in a cluster with
//! Calico.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::consistently;
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{
    Bird, Kind, RouteEntry, Router, await_kernel, await_sessions, await_table,
};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{Node, Topology};

const UP: Duration = Duration::from_secs(30);
/// Time for a step that waits for no timer, on a busy machine.
const IMMEDIATELY: Duration = Duration::from_secs(4);
/// The Pod prefix, which BIRD announces.
const PODS: &str = "198.51.100.64/26";

/// A dual-stack Service with an endpoint on node1, announced with a community.
fn service() -> String {
    manifest::join(&[
        &manifest::pool("203.0.113.0/24, \"2001:db8:113::/64\""),
        &manifest::advertisement("communities: [\"64700:120\"]"),
        &manifest::dual_stack_service("203.0.113.10", "2001:db8:113::10", "node1"),
    ])
}

fn example(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../peering-examples/beside-bird").join(path)
}

/// Starts BIRD and ferrolb on the node with the configurations of one example.
fn start<'lab>(
    scratch: &'lab Scratch,
    node: &'lab Node,
    folder: &Folder<'_>,
    case: &str,
) -> Result<(Bird<'lab>, Process)> {
    let configuration = example(&format!("{case}/bird-node.conf"));
    let mut bird = Bird::with_configuration(scratch, &node.namespace, configuration);
    bird.start()?;
    let peers = example(&format!("{case}/ferrolb.yaml"));
    let peers = fs::read_to_string(&peers).with_context(|| peers.display().to_string())?;
    folder.write("peers.yaml", &peers)?;
    folder.write("service.yaml", &service())?;
    folder.write_node(node, &[])?;
    let ferrolb = folder.run(node)?;
    Ok((bird, ferrolb))
}

/// The routes of the Service with this IPv4 next hop, and the Pod prefix.
fn expected(next_hop: &str) -> Result<BTreeSet<RouteEntry>> {
    Ok(BTreeSet::from([
        RouteEntry::new("203.0.113.10/32", next_hop)?.communities(&["64700:120"]),
        RouteEntry::new("2001:db8:113::10/128", "fd99::11")?.communities(&["64700:120"]),
        RouteEntry::new(PODS, "10.99.0.11")?,
    ]))
}

fn ip(text: &str) -> Result<IpAddr> {
    Ok(text.parse()?)
}

/// Waits until the router and its kernel have the routes; then no session is lost for 5 s.
fn routes_and_sessions_are_stable(
    router: &dyn Router,
    rack: &Topology,
    sessions: &BTreeSet<IpAddr>,
    next_hop: &str,
) -> Result<()> {
    await_table(router, &expected(next_hop)?, UP)?;
    let next_hops = BTreeSet::from([ip(next_hop)?]);
    await_kernel(&rack.tor, "203.0.113.10/32", &next_hops, IMMEDIATELY)?;
    await_kernel(
        &rack.tor,
        PODS,
        &BTreeSet::from([ip("10.99.0.11")?]),
        IMMEDIATELY,
    )?;
    consistently("the sessions", Duration::from_secs(5), || {
        await_sessions(router, sessions, Duration::ZERO)
    })
}

#[test]
fn ferrolb_and_bird_have_sessions_from_different_addresses_of_the_node() {
    scenario("second-address", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0];
        node.namespace.address("uplink", "10.99.0.111/24")?;
        let mut router = Kind::Bird.router(scratch, &rack.tor, "ebgp");
        router.start()?;
        let folder = Folder::new(scratch)?;
        let (bird, mut ferrolb) = start(scratch, node, &folder, "second-address")?;
        let both = BTreeSet::from([ip("10.99.0.11")?, ip("10.99.0.111")?]);
        routes_and_sessions_are_stable(&*router, &rack, &both, "10.99.0.111")?;

        // Each speaker stops without an effect on the other's routes.
        ferrolb.terminate(IMMEDIATELY)?;
        let pods = BTreeSet::from([RouteEntry::new(PODS, "10.99.0.11")?]);
        await_table(&*router, &pods, IMMEDIATELY)?;
        let _ferrolb = folder.run(node)?;
        await_table(&*router, &expected("10.99.0.111")?, UP)?;
        drop(bird);
        let mut services = expected("10.99.0.111")?;
        services.retain(|route| !pods.contains(route));
        await_table(&*router, &services, IMMEDIATELY)
    });
}

#[test]
fn ferrolb_announces_its_routes_through_the_nodes_bird() {
    scenario("through-bird", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0];
        let mut router = Kind::Bird.router(scratch, &rack.tor, "ebgp");
        router.start()?;
        let folder = Folder::new(scratch)?;
        let (bird, mut ferrolb) = start(scratch, node, &folder, "through-bird")?;
        routes_and_sessions_are_stable(
            &*router,
            &rack,
            &BTreeSet::from([ip("10.99.0.11")?]),
            "10.99.0.11",
        )?;
        let both = BTreeSet::from([ip("10.99.0.1")?, ip("10.99.0.11")?]);
        await_sessions(&bird, &both, IMMEDIATELY)?;

        ferrolb.terminate(IMMEDIATELY)?;
        let pods = BTreeSet::from([RouteEntry::new(PODS, "10.99.0.11")?]);
        await_table(&*router, &pods, IMMEDIATELY)
    });
}
