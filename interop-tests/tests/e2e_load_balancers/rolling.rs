//! Cases that need kubelet: rolling updates of a Service's Pods, of the suite "LoadBalancers", and
//! a Pod that terminates.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{
    ControlPlane, Ferrolb, Image, Load, Metallb, Nodes, RealNode, Report,
};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::router::{Frr, Router};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use serde_json::json;

use crate::requests::{TIMEOUT, Target, await_answers, exactly};

/// New connections per second.
const RATE: u32 = 50;
/// How many requests must be answered, as Kubernetes asks.
const MIN_PERCENT: u64 = 95;
/// Time of traffic before and after the update.
const AROUND: Duration = Duration::from_secs(1);

/// The servers of the lab. They ignore SIGTERM: a server goes on for some seconds after its Pod
/// began to terminate, as one that shuts down in order.
fn servers(seconds: u32) -> String {
    let grace = "terminationGracePeriodSeconds:";
    manifest::SERVERS.replace(&format!("{grace} 1"), &format!("{grace} {seconds}"))
}

/// Replaces the Pods on all nodes.
fn roll_out(cp: &ControlPlane<'_>) -> Result<()> {
    let before = uids(cp)?;
    cp.kubectl(&["rollout", "restart", "daemonset/web"])?;
    await_rollout(cp)?;
    eventually("no Pod from before", TIMEOUT, || {
        let after = uids(cp)?;
        let left = after.iter().find(|uid| before.contains(uid));
        ensure!(left.is_none(), "{left:?}");
        Ok(())
    })
}

/// Waits until the Pods on all nodes are those of the DaemonSet.
fn await_rollout(cp: &ControlPlane<'_>) -> Result<()> {
    let status = ["rollout", "status", "daemonset/web", "--timeout=90s"];
    cp.kubectl(&status).map(drop)
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
fn rolling_updates_lose_no_request() {
    scenario("e2e-rolling", |scratch| {
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
        cp.apply(&manifest::join(&[
            &manifest::metallb_peer(""),
            &manifest::pool("192.0.2.0/28"),
            &manifest::advertisement(""),
        ]))?;
        let mut ferrolb = vec![Ferrolb::allocator(&cp, "allocator1")?];
        for node in &topology.nodes {
            ferrolb.push(Ferrolb::announcer(&cp, node)?);
        }
        ferrolb.iter_mut().try_for_each(Ferrolb::await_ready)?;
        let client = topology.client()?;
        a_rolling_update_loses_no_request_with_policy_cluster(&cp, client)?;
        a_rolling_update_with_surge_loses_no_request_with_policy_local(&cp, client)?;
        a_rolling_update_loses_few_requests_with_policy_local(&cp, client)?;
        the_last_pod_answers_while_it_terminates_with_policy_local(&cp, client)
    });
}

fn a_rolling_update_loses_no_request_with_policy_cluster(
    cp: &ControlPlane<'_>,
    client: &Namespace,
) -> Result<()> {
    let report = rolling_update(cp, client, "Cluster", &servers(3)).context("policy Cluster")?;
    ensure!(report.failed == 0, "{report:?}");
    Ok(())
}

/// Kubernetes' own case: the DaemonSet has no surge, so a node is without a Pod for a moment.
fn a_rolling_update_loses_few_requests_with_policy_local(
    cp: &ControlPlane<'_>,
    client: &Namespace,
) -> Result<()> {
    let report = rolling_update(cp, client, "Local", &servers(20)).context("policy Local")?;
    let answered = report.total_answered();
    let all = answered + report.failed;
    ensure!(answered * 100 >= all * MIN_PERCENT, "{report:?}");
    Ok(())
}

fn a_rolling_update_with_surge_loses_no_request_with_policy_local(
    cp: &ControlPlane<'_>,
    client: &Namespace,
) -> Result<()> {
    let strategy = "spec:
  updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
";
    let with_surge = servers(3).replacen("spec:\n", strategy, 1);
    let report = rolling_update(cp, client, "Local", &with_surge).context("with surge")?;
    ensure!(report.failed == 0, "{report:?}");
    Ok(())
}

/// Replaces the Pods of a Service on both nodes while a client uses it.
fn rolling_update(
    cp: &ControlPlane<'_>,
    client: &Namespace,
    policy: &str,
    servers: &str,
) -> Result<Report> {
    let name = policy.to_lowercase();
    let service = format!("externalTrafficPolicy: {policy},");
    cp.apply(&manifest::join(&[
        &manifest::service(&name, "", &service),
        servers,
    ]))?;
    // Other servers than before replace them at once.
    await_rollout(cp)?;
    let address = await_address(cp, &name)?;
    let both = exactly(&["node1", "node2"]);
    await_answers(client, Target::tcp(address, 80), both)?;
    let load = Load::start(client, SocketAddr::new(address, 80), RATE, 0)?;
    sleep(AROUND);
    roll_out(cp)?;
    sleep(AROUND);
    let report = load.stop()?;
    ensure!(report.answered.keys().eq(["node1", "node2"]), "{report:?}");
    let found: Vec<IpAddr> = cp.service_addresses("default", &name)?;
    ensure!(found == [address], "{found:?}, not {address}");
    Ok(report)
}

fn await_address(cp: &ControlPlane<'_>, service: &str) -> Result<IpAddr> {
    eventually(format!("an address of {service}"), TIMEOUT, || {
        let addresses = cp.service_addresses("default", service)?;
        addresses.first().copied().context("none")
    })
}

/// A Pod that goes on serving for longer than its case takes.
const LAST_POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: last, namespace: default, labels: {app: last}}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 60
  containers:
  - name: main
    image: ferrolb.example/traffic:lab
    imagePullPolicy: Never
    args: [serve, last, '8080']
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
";

fn the_last_pod_answers_while_it_terminates_with_policy_local(
    cp: &ControlPlane<'_>,
    client: &Namespace,
) -> Result<()> {
    let service = manifest::service("last", "", "externalTrafficPolicy: Local,");
    let service = service.replace("{app: web}", "{app: last}");
    cp.apply(&manifest::join(&[&service, LAST_POD]))?;
    let address = await_address(cp, "last")?;
    let target = Target::tcp(address, 80);
    await_answers(client, target, exactly(&["last"]))?;
    cp.kubectl(&["delete", "pod", "last", "--wait=false"])?;
    eventually("the endpoint terminates and serves", TIMEOUT, || {
        let label = "kubernetes.io/service-name=last";
        let slices = cp.get(&["endpointslices", "-l", label])?;
        let conditions = &slices["items"][0]["endpoints"][0]["conditions"];
        let expected = json!({"ready": false, "serving": true, "terminating": true});
        ensure!(*conditions == expected, "{conditions}");
        Ok(())
    })?;
    let load = Load::start(client, SocketAddr::new(address, 80), RATE, 0)?;
    sleep(AROUND * 2);
    let report = load.stop()?;
    ensure!(report.failed == 0, "{report:?}");
    ensure!(report.answered.keys().eq(["last"]), "{report:?}");
    Ok(())
}
