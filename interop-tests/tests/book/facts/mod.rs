//! docs/security.md and docs/versions.md, on two real nodes with ferrolb as shipped. At the end
//! ferrolb is removed, and nothing of it is left in the API server.

mod leftovers;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::book::{Page, Shell};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Image, Metallb, Nodes, RealNode, deploy};
use ferrolb_interop_tests::manifest::{self, NAMESPACE};
use ferrolb_interop_tests::router::{Frr, Router};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{NODE_ASN, TOR_ASN, TOR_IPV4, Topology};

use self::leftovers::{kill_with_discards, nothing_is_left, objects};

const TIMEOUT: Duration = Duration::from_secs(60);

const WORKLOADS: [&str; 3] = [
    "deployment/ferrolb-allocator",
    "daemonset/ferrolb-announcer",
    "daemonset/ferrolb-layer2",
];

/// Objects of ferrolb's kinds, one of them with a field that MetalLB lacks.
fn configuration() -> String {
    format!(
        "apiVersion: ferrolb.io/v1alpha1
kind: IPAddressPool
metadata: {{name: public, namespace: {NAMESPACE}}}
spec: {{addresses: [192.0.2.0/28]}}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor, namespace: {NAMESPACE}}}
spec: {{myASN: {NODE_ASN}, peerASN: {TOR_ASN}, peerAddress: {TOR_IPV4}, drain: {{time: 1s}}}}
---
apiVersion: ferrolb.io/v1alpha1
kind: BGPAdvertisement
metadata: {{name: public, namespace: {NAMESPACE}}}
spec: {{ipAddressPools: [public]}}
---
apiVersion: ferrolb.io/v1alpha1
kind: L2Advertisement
metadata: {{name: public, namespace: {NAMESPACE}}}
spec: {{ipAddressPools: [public]}}
"
    )
}

/// A Service with Pods on every node, and one without Pods, which no node announces.
fn services() -> String {
    let idle = manifest::service("idle", "", "").replace("app: web", "app: none");
    manifest::join(&[&manifest::service("web", "", ""), &idle, manifest::SERVERS])
}

#[test]
pub(super) fn security_and_versions() {
    scenario("facts", |scratch| {
        let topology = Topology::new(2)?;
        let mut router = Frr::new(scratch, &topology.tor, "ebgp");
        router.start()?;
        let cp = ControlPlane::start(scratch, Nodes::Real)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        let images = [Image::ferrolb()?, Image::traffic()?];
        let _nodes = RealNode::start_all(&cp, &topology, &images)?;
        let shell = reader(scratch, &cp, &topology)?;
        cp.apply(&services())?;
        cp.kubectl(&["rollout", "status", "daemonset/web", "--timeout=90s"])?;
        let before = objects(&cp)?;

        let addresses = install(&cp)?;
        Page::read("docs/security.md")?.run_rest(&shell)?;
        announcers_write_their_sessions_under_the_policy(&cp)?;

        await_condition(&cp)?;
        let mut page = Page::read("docs/versions.md")?;
        page.run("Turn ferrolb's objects into MetalLB's", &shell)?;
        page.run("Remove ferrolb", &shell)?;
        no_discard_rule(&topology)?;
        kill_with_discards(scratch, &topology)?;
        page.run_rest(&shell)?;
        no_discard_rule(&topology)?;
        let kept = cp.service_addresses("default", "web")?;
        ensure!(kept == addresses, "{kept:?}, not {addresses:?}");
        eventually("nothing of ferrolb is left", TIMEOUT, || {
            nothing_is_left(&before, &cp)
        })
    });
}

/// The shell of a person with an administrator's kubeconfig, and SSH to the nodes.
fn reader<'lab>(
    scratch: &Scratch,
    cp: &'lab ControlPlane<'lab>,
    topology: &Topology,
) -> Result<Shell<'lab>> {
    let home = scratch.file("home");
    fs::create_dir_all(&home)?;
    let nodes = topology.nodes.iter();
    let cases = nodes.map(|node| {
        let (name, namespace) = (&node.name, node.namespace.name());
        format!("{name}) namespace={namespace};;\n")
    });
    let ssh = format!(
        "case $1 in\n{}esac\nshift\nexec nsenter --net=/run/netns/\"$namespace\" sh -c \"$*\"",
        cases.collect::<String>()
    );
    Shell::new(&scratch.file("reader"), || cp.command("bash"))?
        .administrator(cp, &home)?
        .script("ssh", &ssh)
}

/// Installs ferrolb as shipped, configures it, and sets annotations. Returns the addresses of the
/// Service with Pods.
fn install(cp: &ControlPlane<'_>) -> Result<Vec<IpAddr>> {
    cp.apply_path(&deploy().join("ferrolb.yaml"))?;
    await_rollouts(cp)?;
    eventually("ferrolb's kinds are served", TIMEOUT, || {
        cp.apply(&configuration())
    })?;
    cp.kubectl(&["annotate", "service", "web", "ferrolb.io/drain=30s"])?;
    cp.kubectl(&["annotate", "node", "node1", "ferrolb.io/weight=2"])?;
    await_sessions_of_both_nodes(cp, "")?;
    eventually("an address", TIMEOUT, || {
        let addresses = cp.service_addresses("default", "web")?;
        ensure!(!addresses.is_empty(), "none");
        Ok(addresses)
    })
}

fn await_rollouts(cp: &ControlPlane<'_>) -> Result<()> {
    for workload in WORKLOADS {
        let wait = ["rollout", "status", workload, "-n", NAMESPACE];
        cp.kubectl(&[&wait[..], &["--timeout=90s"]].concat())?;
    }
    Ok(())
}

/// The times when the sessions of both nodes began; each is later than `after`.
fn await_sessions_of_both_nodes(cp: &ControlPlane<'_>, after: &str) -> Result<String> {
    eventually("BGPSessions of both nodes", TIMEOUT, || {
        let list = cp.get(&["bgpsessions"])?;
        let items = list["items"].as_array().context("no items")?;
        let established = items.iter().map(|item| &item["status"]);
        let established = established.filter(|status| status["bgp"] == "Established");
        let since: BTreeSet<&str> = established
            .filter_map(|status| status["since"].as_str())
            .collect();
        let nodes = items.len();
        let first = since.first().context("none is established")?;
        ensure!(nodes == 2 && *first > after, "{items:?}, after {after:?}");
        Ok(since.last().unwrap_or(first).to_string())
    })
}

/// New processes, whose tokens name their nodes, write the objects that the policy guards.
fn announcers_write_their_sessions_under_the_policy(cp: &ControlPlane<'_>) -> Result<()> {
    let before = await_sessions_of_both_nodes(cp, "")?;
    let restart = ["rollout", "restart", "daemonset/ferrolb-announcer"];
    cp.kubectl(&[&restart[..], &["-n", NAMESPACE]].concat())?;
    await_rollouts(cp)?;
    await_sessions_of_both_nodes(cp, &before)?;
    let policy = "validatingadmissionpolicies,validatingadmissionpolicybindings";
    cp.kubectl(&["delete", policy, "ferrolb-bgpsessions"])
        .map(drop)
}

/// The allocator has said that no node announces the Service without Pods.
fn await_condition(cp: &ControlPlane<'_>) -> Result<()> {
    eventually("the condition of idle", TIMEOUT, || {
        let service = cp.get(&["service", "idle"])?;
        let conditions = service["status"]["conditions"].to_string();
        ensure!(conditions.contains("ferrolb.io/Announced"), "{conditions}");
        Ok(())
    })
}

fn no_discard_rule(topology: &Topology) -> Result<()> {
    for node in &topology.nodes {
        let rules = node.namespace.ip(&["rule", "show"])?;
        ensure!(!rules.contains("proto 102"), "{}: {rules}", node.name);
    }
    Ok(())
}
