//! An API server that serves MetalLB's BGPPeer as v1beta1 only, as before MetalLB 0.13.2.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Ferrolb, Metallb, Nodes};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::router::{Bird, Router, await_sessions};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{Topology, ipv4_addresses};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(60);
const PEER: &str = "bgppeers.v1beta1.metallb.io";

/// MetalLB's CRDs, with the older version of BGPPeer alone.
fn crds() -> Result<Vec<Value>> {
    let mut crds = Metallb::V0_14_9.crds()?;
    let mut found = crds
        .iter_mut()
        .filter(|crd| crd["metadata"]["name"] == "bgppeers.metallb.io");
    let peer = found.next().context("no CRD of BGPPeer")?;
    let versions = peer["spec"]["versions"].as_array_mut();
    let versions = versions.context("no versions")?;
    versions.retain(|version| version["name"] == "v1beta1");
    for version in versions {
        version["served"] = true.into();
        version["storage"] = true.into();
    }
    Ok(crds)
}

/// BGPPeer v1beta1 of the rack's router, for node1 alone.
fn peer() -> String {
    let only = ", nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node1}}]";
    manifest::metallb_peer(only).replace("metallb.io/v1beta2", "metallb.io/v1beta1")
}

#[test]
fn peers_of_the_older_version_are_read_and_followed() {
    scenario("v1beta1", |scratch| {
        let rack = Topology::new(2)?;
        let mut router = Bird::new(scratch, &rack.tor, "ebgp");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        let list = json!({"apiVersion": "v1", "kind": "List", "items": crds()?});
        cp.apply(&list.to_string())?;
        cp.kubectl(&["wait", "crd", "--all", "--for=condition=Established"])?;
        let _data_path = DataPath::start(&cp, &rack.nodes, "web")?;
        let objects = manifest::join(&[
            &peer(),
            &manifest::pool("192.0.2.0/28"),
            &manifest::advertisement(""),
            &manifest::service("web", "", ""),
        ]);
        eventually("the objects applied", TIMEOUT, || cp.apply(&objects))?;

        let mut processes = vec![Ferrolb::allocator(&cp, "allocator1")?];
        for node in &rack.nodes {
            processes.push(Ferrolb::announcer(&cp, node)?);
        }
        processes.iter_mut().try_for_each(Ferrolb::await_ready)?;
        let selected = ipv4_addresses(&[&rack.nodes[0]]);
        await_sessions(&router, &selected, TIMEOUT)?;
        let has_routes = || -> Result<bool> { Ok(!router.table()?.is_empty()) };
        eventually("a route of node1", TIMEOUT, || {
            ensure!(has_routes()?, "none");
            Ok(())
        })?;

        cp.kubectl(&["delete", PEER, "tor", "-n", manifest::NAMESPACE])?;
        eventually("the session ended", TIMEOUT, || {
            ensure!(!has_routes()?, "the route is still there");
            Ok(())
        })?;
        for process in &processes {
            let log = std::fs::read_to_string(process.log())?;
            ensure!(!log.contains("can't be read"), "{log}");
        }
        Ok(())
    });
}
