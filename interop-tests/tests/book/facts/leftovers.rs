//! What is left of ferrolb: in the API server, and in the kernel of a node.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::ControlPlane;
use ferrolb_interop_tests::manifest::{NAMESPACE, ferrolb_peer, join};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology};

use super::TIMEOUT;

/// Kinds that change all the time, or that the API server invents.
const IGNORED: [&str; 3] = ["events", "events.events.k8s.io", "componentstatuses"];

/// The kinds of MetalLB's to which ferrolb's objects were converted.
const CONVERTED: [&str; 4] = [
    "IPAddressPool",
    "BGPPeer",
    "BGPAdvertisement",
    "L2Advertisement",
];

/// All objects of the API server: version, kind, namespace and name.
///
/// # Errors
/// When kubectl fails.
pub(super) fn objects(cp: &ControlPlane<'_>) -> Result<BTreeSet<String>> {
    let columns = "-o=custom-columns=VERSION:.apiVersion,KIND:.kind,NAMESPACE:.metadata.namespace,\
                   NAME:.metadata.name";
    let kinds = kinds(cp)?;
    let listed = cp.kubectl(&["get", &kinds, "-A", "--no-headers", columns])?;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let objects = listed.lines().map(words);
    // A kubelet creates the Lease of its node some time after it started.
    Ok(objects
        .filter(|object| !object.contains(" kube-node-lease "))
        .collect())
}

/// All kinds that can be listed, for `kubectl get`. It asks the API server, not kubectl's cache.
fn kinds(cp: &ControlPlane<'_>) -> Result<String> {
    let kinds = cp.kubectl(&["api-resources", "--verbs=list,get", "-o=name"])?;
    let kinds = kinds.lines().filter(|kind| !IGNORED.contains(kind));
    Ok(kinds.collect::<Vec<_>>().join(","))
}

/// Fails if there is an object that was not there before, apart from MetalLB's; or if one is gone;
/// or if any object has an annotation, label, condition or value of ferrolb's.
///
/// # Errors
/// With the differences.
pub(super) fn nothing_is_left(before: &BTreeSet<String>, cp: &ControlPlane<'_>) -> Result<()> {
    let after = objects(cp)?;
    let gone: Vec<_> = before.difference(&after).collect();
    let (converted, new): (Vec<_>, Vec<_>) = after
        .difference(before)
        .partition(|object| object.starts_with("metallb.io/"));
    ensure!(gone.is_empty() && new.is_empty(), "{gone:?}, {new:?}");
    for kind in CONVERTED {
        let found = converted.iter().any(|object| object.contains(kind));
        ensure!(found, "no {kind}: {converted:?}");
    }
    let all = cp.kubectl(&["get", &kinds(cp)?, "-A", "-o=yaml"])?;
    let named: Vec<_> = all
        .lines()
        .filter(|line| line.contains("ferrolb.io"))
        .collect();
    ensure!(named.is_empty(), "{named:?}");
    Ok(())
}

/// Leaves discard rules on the first node: a process announces an aggregate and is killed.
///
/// # Errors
/// When it adds no rules.
pub(super) fn kill_with_discards(scratch: &Scratch, topology: &Topology) -> Result<()> {
    let node = &topology.nodes[0];
    let folder = Folder::new(scratch)?;
    folder.write_node(node, &[])?;
    let own = |kind: &str, spec: &str| {
        format!(
            "apiVersion: ferrolb.io/v1alpha1
kind: {kind}
metadata: {{name: public, namespace: {NAMESPACE}}}
spec: {{{spec}}}
"
        )
    };
    let aggregates = "aggregationLength: 24, announceAggregates: always";
    let configuration = join(&[
        &ferrolb_peer(TOR_IPV4, ""),
        &own("IPAddressPool", "addresses: [203.0.113.0/24]"),
        &own("BGPAdvertisement", aggregates),
    ]);
    folder.write("configuration.yaml", &configuration)?;
    let mut daemon = folder.run_role(node, "announcer")?;
    eventually("discard rules", TIMEOUT, || {
        daemon.ensure_running()?;
        let table = ["route", "show", "table", "1717922914"];
        let routes = node.namespace.ip(&table).unwrap_or_default();
        ensure!(routes.contains("203.0.113.0/24"), "{routes}");
        Ok(())
    })?;
    daemon.kill()
}
