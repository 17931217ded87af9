//! The nodes that would have no Pod of ferrolb in place of MetalLB's speaker.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::facts::{Node, name};
use super::super::sessions::PlannedPeers;
use super::Install;
use crate::cli::workload_flags::containers;

/// The nodes, of those that move, on which no DaemonSet of ferrolb can run, with the reasons.
pub(super) fn dark(nodes: &[&Node], install: &Install) -> Vec<String> {
    let daemonsets: Vec<&Value> = install.daemonsets.iter().collect();
    by_reason(nodes.iter().copied(), &daemonsets)
        .into_iter()
        .map(|(reason, nodes)| {
            format!(
                "no DaemonSet of ferrolb can run on {}, where MetalLB's speaker runs ({reason}): \
                 add what MetalLB's DaemonSet has in nodeSelector and tolerations to ferrolb's",
                nodes.join(", ")
            )
        })
        .collect()
}

/// The nodes with BGPPeers on which only DaemonSets without BGP can run, with the reasons.
pub(in super::super) fn without_sessions(
    nodes: &[Node],
    install: &Install,
    peers: &PlannedPeers,
) -> Vec<String> {
    let daemonsets = of_role(install, "announcer");
    let concerned = nodes.iter().filter(|node| {
        let peers = peers.get(&node.name);
        node.speaker && peers.is_some_and(|peers| !peers.is_empty())
    });
    by_reason(concerned, &daemonsets)
        .into_iter()
        .map(|(reason, nodes)| {
            let nodes = nodes.join(", ");
            format!(
                "{nodes} would have no BGP session: ferrolb's announcer can't run there ({reason})"
            )
        })
        .collect()
}

/// Why no DaemonSet can announce by layer 2 on a node, for each such node.
pub(in super::super) fn without_layer2<'a>(
    nodes: &'a [Node],
    install: &Install,
) -> BTreeMap<&'a str, String> {
    let daemonsets = of_role(install, "layer2");
    let by_reason = by_reason(nodes.iter(), &daemonsets);
    let by_node = by_reason.into_iter().flat_map(|(reason, nodes)| {
        let nodes = nodes.into_iter();
        nodes.map(move |node| (node, reason.clone()))
    });
    by_node.collect()
}

/// The DaemonSets with this role, or with all roles, which is the default.
fn of_role<'a>(install: &'a Install, role: &str) -> Vec<&'a Value> {
    let has_role = |daemonset: &&Value| {
        let arguments = containers(daemonset).filter_map(|found| found["args"].as_array());
        let arguments: Vec<&str> = arguments.flatten().filter_map(Value::as_str).collect();
        let joined = arguments
            .iter()
            .filter_map(|argument| argument.strip_prefix("--role="));
        let apart = arguments.windows(2).filter(|pair| pair[0] == "--role");
        let mut roles = joined.chain(apart.map(|pair| pair[1])).peekable();
        roles.peek().is_none() || roles.any(|found| found == role || found == "all")
    };
    install.daemonsets.iter().filter(has_role).collect()
}

/// The nodes on which none of the DaemonSets can run, by the reasons.
fn by_reason<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    daemonsets: &[&Value],
) -> BTreeMap<String, Vec<&'a str>> {
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        let refusals = daemonsets.iter().map(|daemonset| {
            let reason = node.place.refuses(daemonset)?;
            Some(format!("{}: {reason}", name(daemonset)))
        });
        if let Some(reasons) = refusals.collect::<Option<Vec<String>>>() {
            let reasons = if reasons.is_empty() {
                "the manifests contain none".to_owned()
            } else {
                reasons.join("; ")
            };
            found.entry(reasons).or_default().push(&node.name);
        }
    }
    found
}
