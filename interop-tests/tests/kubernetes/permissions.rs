//! Least privilege: each permission that `deploy/manifests/2-rbac.yaml` grants is used.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb, Metallb, Rack, manifests};
use ferrolb_interop_tests::manifest::{self, NAMESPACE, service};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology};
use serde_json::{Value, json};

use super::{CLUSTER, TIMEOUT};

/// API group, resource with subresource, and verb.
type Permission = (String, String, String);

/// Permissions that this scenario does not use: account, group, resource, verb, and what does.
const OTHERWISE_USED: &[(&str, &str, &str, &str, &str)] = &[
    (
        "ferrolb-allocator",
        "coordination.k8s.io",
        "leases",
        "get",
        "the leader reads the Lease after a write that the API server did not answer",
    ),
    (
        "ferrolb-announcer",
        "ferrolb.io",
        "bgpsessions",
        "create",
        "the API server also requires it of a server-side apply (patch) of a new object",
    ),
    (
        "ferrolb-allocator",
        "metallb.io",
        "addresspools",
        "watch",
        "only MetalLB 0.13 has the kind: tests/metallb_v1beta1.rs",
    ),
    (
        "ferrolb-announcer",
        "metallb.io",
        "addresspools",
        "watch",
        "only MetalLB 0.13 has the kind: tests/metallb_v1beta1.rs",
    ),
    (
        "ferrolb-layer2",
        "metallb.io",
        "addresspools",
        "watch",
        "only MetalLB 0.13 has the kind: tests/metallb_v1beta1.rs",
    ),
];

/// Objects of both groups under one name: ferrolb's are refused, which their statuses say.
fn twins() -> String {
    let none = json!([{ "matchLabels": { "no": "node" } }]);
    let peer = json!({
        "myASN": 64700, "peerASN": 64600, "peerAddress": "10.99.0.9", "nodeSelectors": none
    });
    let community = json!({ "communities": [{ "name": "twin", "value": "64512:1" }] });
    let kinds = [
        ("BGPPeer", "v1beta2", peer),
        ("BFDProfile", "v1beta1", json!({})),
        ("Community", "v1beta1", community),
        (
            "BGPAdvertisement",
            "v1beta1",
            json!({ "nodeSelectors": none }),
        ),
        (
            "L2Advertisement",
            "v1beta1",
            json!({ "nodeSelectors": none }),
        ),
    ];
    let object = |version: String, kind: &str, spec: &Value| {
        let metadata = json!({ "name": "twin", "namespace": NAMESPACE });
        json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec })
    };
    let metallb = kinds.iter().map(|(kind, version, spec)| {
        object(format!("metallb.io/{version}"), kind, spec).to_string()
    });
    let own = kinds
        .iter()
        .map(|(kind, _, spec)| object("ferrolb.io/v1alpha1".to_owned(), kind, spec).to_string());
    metallb.chain(own).collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn each_permission_that_is_granted_is_used() {
    scenario("permissions", |scratch| {
        let topology = Topology::new(2)?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
        rack.cp.install_ferrolb_crds()?;
        for file in ["4-announcer.yaml", "5-layer2.yaml"] {
            rack.cp.apply_path(&manifests().join(file))?;
        }
        rack.cp.apply(&configuration())?;
        rack.cp.apply(&twins())?;
        rack.allocators
            .push(Ferrolb::allocator(&rack.cp, "allocator1")?);
        let mut layer2 = Vec::new();
        for node in &topology.nodes {
            let daemonset = "--daemonset=ferrolb-announcer";
            let announcer = Ferrolb::announcer_with(&rack.cp, node, &[daemonset])?;
            rack.announcers.push(announcer);
            let mut process = Ferrolb::layer2(&rack.cp, node)?;
            process.process().kill()?;
            process.add_argument("--daemonset=ferrolb-layer2");
            process.start_again()?;
            layer2.push(process);
        }
        sessions_come_and_go(&rack)?;
        for process in rack.announcers.iter_mut().chain(&mut layer2) {
            process.process().terminate(TIMEOUT)?;
        }
        for account in ["ferrolb-allocator", "ferrolb-announcer", "ferrolb-layer2"] {
            let granted = granted(account)?;
            ensure!(granted.len() > 20, "{account}: {granted:?}");
            eventually(format!("{account} uses its permissions"), TIMEOUT, || {
                let used = used(&rack.cp, account)?;
                let unused: BTreeSet<_> = granted.difference(&used).cloned().collect();
                let permitted = otherwise_used(account);
                ensure!(
                    unused.is_subset(&permitted),
                    "{account}: unused: {unused:?}"
                );
                Ok(())
            })?;
        }
        Ok(())
    });
}

/// Pools of both groups, and what makes the allocator create the key of layer 2.
fn configuration() -> String {
    let own = manifest::pool("198.51.100.0/28")
        .replace("metallb.io/v1beta1", "ferrolb.io/v1alpha1")
        .replace("name: pool", "name: own");
    manifest::join(&[
        &manifest::ferrolb_peer(TOR_IPV4, ", drain: {time: 1s}"),
        &manifest::pool("192.0.2.0/28"),
        &own,
        &manifest::advertisement(""),
        &manifest::ferrolb_layer2_advertisement("interfaces: [uplink]"),
    ])
}

/// Services, a node that is not Ready, a drain, and the end of all sessions.
fn sessions_come_and_go(rack: &Rack<'_>) -> Result<()> {
    await_state(&rack.cp, "node1", "Established")?;
    await_state(&rack.cp, "node2", "Established")?;
    // A Service that a process finds at its start gets no Event.
    let from_own = "annotations: {metallb.io/address-pool: own},";
    rack.cp.apply(&manifest::join(&[
        &service("web", "", CLUSTER),
        &service("from-own", from_own, CLUSTER),
    ]))?;
    rack.await_addresses("web")?;
    rack.await_addresses("from-own")?;
    rack.cp.set_node_ready("node1", false)?;
    await_state(&rack.cp, "node1", "Unknown")?;
    rack.cp.set_node_ready("node1", true)?;
    await_state(&rack.cp, "node1", "Established")?;
    rack.cp.exclude_node("node2", true)?;
    // A draining node looks whether another one announces its routes.
    let watch = permission("ferrolb.io", "bgpsessions", "watch");
    eventually("node2 watches the sessions of others", TIMEOUT, || {
        let used = used(&rack.cp, "ferrolb-announcer")?;
        ensure!(used.contains(&watch), "{used:?}");
        Ok(())
    })?;
    rack.cp.exclude_node("node2", false)?;
    let peer = ["bgppeers.ferrolb.io", "tor", "-n", NAMESPACE];
    rack.cp.kubectl(&[&["delete"], &peer[..]].concat())?;
    eventually("no BGPSession", TIMEOUT, || {
        let list = rack.cp.get(&["bgpsessions"])?;
        ensure!(
            list["items"].as_array().is_some_and(Vec::is_empty),
            "{list}"
        );
        Ok(())
    })
}

fn await_state(cp: &ControlPlane<'_>, node: &str, state: &str) -> Result<()> {
    eventually(format!("{node}: {state}"), TIMEOUT, || {
        let object = cp.get(&["bgpsessions", &format!("{node}.tor")])?;
        ensure!(object["status"]["bgp"] == state, "{object}");
        Ok(())
    })
}

fn permission(group: &str, resource: &str, verb: &str) -> Permission {
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}

/// The permissions of an account in `2-rbac.yaml`.
fn granted(account: &str) -> Result<BTreeSet<Permission>> {
    let text = fs::read_to_string(manifests().join("2-rbac.yaml"))?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of_account = |object: &&Value| {
        let mut subjects = list(&object["subjects"]).into_iter();
        subjects.any(|subject| subject["name"] == account)
    };
    let mut granted = BTreeSet::new();
    for binding in objects.iter().filter(of_account) {
        let role = &binding["roleRef"];
        let mut roles = objects.iter();
        let role = roles
            .find(|object| {
                object["kind"] == role["kind"] && object["metadata"]["name"] == role["name"]
            })
            .with_context(|| format!("no role: {binding}"))?;
        for rule in list(&role["rules"]) {
            for group in list(&rule["apiGroups"]) {
                for resource in list(&rule["resources"]) {
                    for verb in list(&rule["verbs"]) {
                        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                        granted.insert((text(&group), text(&resource), text(&verb)));
                    }
                }
            }
        }
    }
    Ok(granted)
}

/// The permissions that permitted requests of an account needed.
fn used(cp: &ControlPlane<'_>, account: &str) -> Result<BTreeSet<Permission>> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let requests = cp.requests_of(&user)?.into_iter();
    let permitted = requests.filter(|request| request.status != 403);
    Ok(permitted
        .map(|request| (request.group, request.resource, request.verb))
        .collect())
}

fn otherwise_used(account: &str) -> BTreeSet<Permission> {
    let of_account = OTHERWISE_USED.iter().filter(|row| row.0 == account);
    of_account
        .map(|(_, group, resource, verb, _)| permission(group, resource, verb))
        .collect()
}
