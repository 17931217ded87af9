//! What layer 2 writes to the API server: its key, Events, and MetalLB's ServiceL2Status objects.
//! A failover writes nothing, unless these objects are requested.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Ferrolb, Metallb, Nodes};
use ferrolb_interop_tests::manifest::{self, service};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(30);
/// An Event of a failover would be written within this time.
const AFTER: Duration = Duration::from_secs(3);
const USER: &str = "system:serviceaccount:metallb-system:ferrolb-layer2";

/// The rules of 2-rbac.yaml that are comments there.
const STATUS_ROLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: status, namespace: metallb-system}
rules:
  - apiGroups: [metallb.io]
    resources: [servicel2statuses]
    verbs: [list, create, patch, delete]
  - apiGroups: [metallb.io]
    resources: [configurationstates]
    verbs: [create, patch]
  - apiGroups: [metallb.io]
    resources: [servicel2statuses/status, configurationstates/status]
    verbs: [patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: status, namespace: metallb-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: status}
subjects:
  - {kind: ServiceAccount, name: ferrolb-layer2, namespace: metallb-system}
";

/// The names of the nodes that Events and status objects name for the Service, sorted.
struct Named {
    events: Vec<String>,
    statuses: Vec<String>,
}

fn named(cp: &ControlPlane<'_>) -> Result<Named> {
    let items = |list: Value| list["items"].as_array().cloned().unwrap_or_default();
    let events = cp.get(&["events", "-n", "default"])?;
    let events = items(events).into_iter().filter_map(|event| {
        let message = event["message"].as_str()?;
        let node = message.strip_prefix("announcing from node \"")?;
        let (node, protocol) = node.split_once('"')?;
        (protocol == " with protocol \"layer2\"").then(|| node.to_owned())
    });
    let statuses = cp.get(&["servicel2statuses.metallb.io", "-n", "metallb-system"])?;
    let statuses = items(statuses).into_iter().map(|object| {
        let status = &object["status"];
        ensure!(status["serviceName"] == "web" && status["serviceNamespace"] == "default");
        ensure!(
            status["interfaces"] == serde_json::json!([{"name": "uplink"}]),
            "{object}"
        );
        ensure!(object["metadata"]["labels"]["metallb.io/node"] == status["node"]);
        Ok(status["node"].as_str().unwrap_or_default().to_owned())
    });
    let mut named = Named {
        events: events.collect(),
        statuses: statuses.collect::<Result<_>>()?,
    };
    named.events.sort();
    named.statuses.sort();
    Ok(named)
}

fn writes(cp: &ControlPlane<'_>) -> Result<usize> {
    Ok(cp
        .writes()?
        .iter()
        .filter(|write| write.user == USER)
        .count())
}

fn the_allocator_creates_a_key(cp: &ControlPlane<'_>) -> Result<()> {
    let secret = eventually("the key", TIMEOUT, || {
        cp.get(&["secret", "ferrolb-layer2", "-n", "metallb-system"])
    })?;
    let key = secret["data"]["secretkey"].as_str().context("no key")?;
    ensure!(
        key.len() == 44,
        "{} characters are not 32 octets",
        key.len()
    );
    Ok(())
}

#[test]
fn a_failover_writes_nothing_and_status_objects_follow_the_owner_if_requested() {
    scenario("l2-objects", |scratch| {
        let rack = Topology::new(2)?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        cp.install_ferrolb_rbac()?;
        cp.apply(STATUS_ROLE)?;
        cp.apply(&manifest::join(&[
            &manifest::pool("10.99.0.220-10.99.0.230"),
            &manifest::layer2_advertisement("interfaces: [uplink]"),
            &service("web", "", ""),
        ]))?;
        let _data_path = DataPath::start(&cp, &rack.nodes, "web")?;
        let mut allocator = Ferrolb::allocator(&cp, "allocator1")?;
        allocator.await_ready()?;
        the_allocator_creates_a_key(&cp)?;
        let nodes = rack.nodes.iter();
        let layer2: Result<Vec<_>> = nodes.map(|node| Ferrolb::layer2(&cp, node)).collect();
        let mut layer2 = layer2?;

        let first = eventually("one Event", TIMEOUT, || {
            let events = named(&cp)?.events;
            ensure!(events.len() == 1, "{events:?}");
            Ok(events[0].clone())
        })?;
        let place = |name: &str| rack.nodes.iter().position(|node| node.name == name);
        let owner = place(&first).context("an unknown node")?;
        let other = 1 - owner;
        let before = writes(&cp)?;
        layer2[owner].process().kill()?;
        layer2[other].await_log(&["announcing by layer 2, after node"], TIMEOUT)?;
        sleep(AFTER);
        let after = writes(&cp)?;
        ensure!(before == after, "{} writes", after - before);
        ensure!(named(&cp)?.statuses.is_empty(), "not requested");

        for process in &mut layer2 {
            process.add_argument("--metallb-status");
        }
        layer2[other].process().kill()?;
        layer2[other].start_again()?;
        layer2[owner].start_again()?;
        let current = eventually("one status object", TIMEOUT, || {
            let statuses = named(&cp)?.statuses;
            ensure!(statuses.len() == 1, "{statuses:?}");
            Ok(statuses[0].clone())
        })?;
        let owner = place(&current).context("an unknown node")?;
        layer2[owner].process().kill()?;
        eventually("the status object of the new owner only", TIMEOUT, || {
            let statuses = named(&cp)?.statuses;
            ensure!(
                statuses == [rack.nodes[1 - owner].name.clone()],
                "{statuses:?}"
            );
            Ok(())
        })
    });
}
