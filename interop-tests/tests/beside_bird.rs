//! ferrolb on a node whose port 179, and whose session with the router, are those of a BIRD, as in a cluster with Calico.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::consistently;
use ferrolb_interop_tests::process::{Process, Scratch, scenario};
use ferrolb_interop_tests::router::{
    Bird, Kind, RouteEntry, Router, await_kernel, await_sessions, await_table,
};
use ferrolb_interop_tests::topology::{Node, Topology};

const UP: Duration = Duration::from_secs(30);
/// What needs no timer is done within this, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(4);
/// The Pods' prefix, which BIRD announces by itself.
const PODS: &str = "198.51.100.64/26";

const SERVICE: &str = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: public, namespace: metallb-system}
spec: {addresses: [203.0.113.0/24, "2001:db8:113::/64"]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: public, namespace: metallb-system}
spec: {communities: ["64700:120"]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd96::10"]
  ipFamilies: [IPv4, IPv6]
  ports: [{port: 80}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.10}, {ip: "2001:db8:113::10"}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.0.5], nodeName: node1, conditions: {ready: true}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints: [{addresses: ["fd24::5"], nodeName: node1, conditions: {ready: true}}]
"#;

fn example(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../peering-examples/beside-bird").join(path)
}

/// The node's BIRD, and ferrolb beside it, both from one folder of the examples.
fn beside<'lab>(
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
    folder.write("service.yaml", SERVICE)?;
    folder.write_node(node, &[])?;
    let ferrolb = folder.run(node)?;
    Ok((bird, ferrolb))
}

/// The service with these next hops, and the Pods behind BIRD.
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

/// The router has the routes, its kernel too, and no session is lost for a while.
fn stands(
    router: &dyn Router,
    rack: &Topology,
    sessions: &BTreeSet<IpAddr>,
    next_hop: &str,
) -> Result<()> {
    await_table(router, &expected(next_hop)?, UP)?;
    let next_hops = BTreeSet::from([ip(next_hop)?]);
    await_kernel(&rack.tor, "203.0.113.10/32", &next_hops, AT_ONCE)?;
    await_kernel(
        &rack.tor,
        PODS,
        &BTreeSet::from([ip("10.99.0.11")?]),
        AT_ONCE,
    )?;
    consistently("the sessions", Duration::from_secs(5), || {
        await_sessions(router, sessions, Duration::ZERO)
    })
}

#[test]
fn ferrolb_dials_from_a_second_address() {
    scenario("second-address", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0];
        node.namespace.address("uplink", "10.99.0.111/24")?;
        let mut router = Kind::Bird.router(scratch, &rack.tor, "ebgp");
        router.start()?;
        let folder = Folder::new(scratch)?;
        let (bird, mut ferrolb) = beside(scratch, node, &folder, "second-address")?;
        let both = BTreeSet::from([ip("10.99.0.11")?, ip("10.99.0.111")?]);
        stands(&*router, &rack, &both, "10.99.0.111")?;

        // One goes, and the other doesn't mind.
        ferrolb.terminate(AT_ONCE)?;
        let pods = BTreeSet::from([RouteEntry::new(PODS, "10.99.0.11")?]);
        await_table(&*router, &pods, AT_ONCE)?;
        let _ferrolb = folder.run(node)?;
        await_table(&*router, &expected("10.99.0.111")?, UP)?;
        drop(bird);
        let mut services = expected("10.99.0.111")?;
        services.retain(|route| !pods.contains(route));
        await_table(&*router, &services, AT_ONCE)
    });
}

#[test]
fn ferrolb_hands_its_routes_to_the_nodes_bird() {
    scenario("through-bird", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0];
        let mut router = Kind::Bird.router(scratch, &rack.tor, "ebgp");
        router.start()?;
        let folder = Folder::new(scratch)?;
        let (bird, mut ferrolb) = beside(scratch, node, &folder, "through-bird")?;
        stands(
            &*router,
            &rack,
            &BTreeSet::from([ip("10.99.0.11")?]),
            "10.99.0.11",
        )?;
        let both = BTreeSet::from([ip("10.99.0.1")?, ip("10.99.0.11")?]);
        await_sessions(&bird, &both, AT_ONCE)?;

        ferrolb.terminate(AT_ONCE)?;
        let pods = BTreeSet::from([RouteEntry::new(PODS, "10.99.0.11")?]);
        await_table(&*router, &pods, AT_ONCE)
    });
}
