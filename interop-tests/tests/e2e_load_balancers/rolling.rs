//! Cases of the suite "LoadBalancers" that need kubelet: rolling updates of a Service's Pods.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb, Image, Load, Metallb, Nodes, RealNode};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::router::{Frr, Router};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;

use crate::requests::{TIMEOUT, Target, await_answers, exactly};

/// New connections per second.
const RATE: u32 = 50;
/// Time of traffic before and after the update.
const AROUND: Duration = Duration::from_secs(1);

/// The servers of the lab. They ignore SIGTERM: a server goes on for three seconds after its Pod
/// began to terminate, as one that shuts down in order.
fn servers() -> String {
    let grace = "terminationGracePeriodSeconds:";
    manifest::SERVERS.replace(&format!("{grace} 1"), &format!("{grace} 3"))
}

/// Replaces the Pods on all nodes.
fn roll_out(cp: &ControlPlane<'_>) -> Result<()> {
    let before = uids(cp)?;
    cp.kubectl(&["rollout", "restart", "daemonset/web"])?;
    cp.kubectl(&["rollout", "status", "daemonset/web", "--timeout=90s"])?;
    eventually("no Pod from before", TIMEOUT, || {
        let after = uids(cp)?;
        let left = after.iter().find(|uid| before.contains(uid));
        ensure!(left.is_none(), "{left:?}");
        Ok(())
    })
}

/// The UIDs of the servers' Pods.
fn uids(cp: &ControlPlane<'_>) -> Result<Vec<String>> {
    let pods = cp.get(&["pods", "-l", "app=web"])?;
    let pods = pods["items"].as_array().context("no items")?;
    let uids = pods
        .iter()
        .filter_map(|pod| pod["metadata"]["uid"].as_str());
    Ok(uids.map(str::to_owned).collect())
}

#[test]
fn a_rolling_update_loses_no_request_with_policy_cluster() {
    rolling_update("e2e-rolling-cluster", "Cluster", &servers());
}

#[test]
fn a_rolling_update_with_surge_loses_no_request_with_policy_local() {
    let strategy = "spec:
  updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
";
    let with_surge = servers().replacen("spec:\n", strategy, 1);
    rolling_update("e2e-rolling-local", "Local", &with_surge);
}

/// Replaces the Pods of a Service on two real nodes while a client uses it.
fn rolling_update(name: &str, policy: &str, servers: &str) {
    scenario(name, |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        for node in &topology.nodes {
            // A packet that kube-proxy does not rewrite yet would loop between node and router.
            let unreachable = ["route", "add", "unreachable", "192.0.2.0/24"];
            node.namespace.ip(&unreachable)?;
        }
        let mut router = Frr::new(scratch, &topology.tor, "ebgp");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Real)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.install_ferrolb_rbac()?;
        let _nodes = RealNode::start_all(&cp, &topology, &[Image::traffic()?])?;
        let service = format!("externalTrafficPolicy: {policy},");
        cp.apply(&manifest::join(&[
            &manifest::metallb_peer(""),
            &manifest::pool("192.0.2.0/28"),
            &manifest::advertisement(""),
            &manifest::service("web", "", &service),
            servers,
        ]))?;
        let mut ferrolb = vec![Ferrolb::allocator(&cp, "allocator1")?];
        for node in &topology.nodes {
            ferrolb.push(Ferrolb::announcer(&cp, node)?);
        }
        ferrolb.iter_mut().try_for_each(Ferrolb::await_ready)?;
        let address = eventually("an address", TIMEOUT, || {
            let addresses = cp.service_addresses("default", "web")?;
            addresses.first().copied().context("none")
        })?;
        let (client, target) = (topology.client()?, Target::tcp(address, 80));
        await_answers(client, target, exactly(&["node1", "node2"]))?;
        let load = Load::start(client, SocketAddr::new(address, 80), RATE, 0)?;
        sleep(AROUND);
        roll_out(&cp)?;
        sleep(AROUND);
        let report = load.stop()?;
        ensure!(report.failed == 0, "{report:?}");
        ensure!(report.answered.keys().eq(["node1", "node2"]), "{report:?}");
        let found: Vec<IpAddr> = cp.service_addresses("default", "web")?;
        ensure!(found == [address], "{found:?}, not {address}");
        Ok(())
    });
}
