//! Notices about L2Advertisements whose fields have no effect on any node that is known.

use std::collections::{BTreeMap, BTreeSet};

use super::layer2_advertisement::Layer2Advertisement;
use super::{Config, Problem, Severity};
use crate::core::model::Node;

const REMEDY: &str = "correct it, or label a node (kubectl get nodes --show-labels)";

/// The notices. `missing` are the interfaces that L2Advertisements name and a node doesn't have:
/// each process knows those of its own node.
pub(crate) fn notices(
    config: &Config,
    nodes: &BTreeMap<String, Node>,
    missing: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for ad in config.layer2_advertisements.values() {
        // Manifests may lack the Nodes.
        let messages = if nodes.is_empty() {
            Vec::new()
        } else {
            unused_selectors(ad, nodes)
        };
        let missing = missing_interfaces(ad, nodes, missing);
        problems.extend(messages.into_iter().chain(missing).map(|message| Problem {
            object: ad.object.clone(),
            severity: Severity::Notice,
            message,
        }));
    }
    problems
}

fn unused_selectors(ad: &Layer2Advertisement, nodes: &BTreeMap<String, Node>) -> Vec<String> {
    let selected: Vec<&Node> = nodes
        .values()
        .filter(|node| ad.selects_node(node))
        .collect();
    if selected.is_empty() {
        return vec![format!(
            "spec.nodeSelectors: select no node, so nothing is announced by this object: {REMEDY}"
        )];
    }
    let preferences = ad.preferences.iter().enumerate();
    let unused = preferences.filter_map(|(index, preference)| {
        let applies = |node: &Node| preference.nodes.any(&node.labels);
        let is_reported = preference.nodes.contradiction().is_some();
        if is_reported || selected.iter().any(|node| applies(node)) {
            return None;
        }
        let cause = match nodes.iter().find(|(_, node)| applies(node)) {
            Some((name, _)) => format!(
                "selects node {name}, but never applies, because nodeSelectors select no node \
                 that matches: add the node to nodeSelectors, or remove the preference"
            ),
            None => format!("selects no node: {REMEDY}"),
        };
        Some(format!(
            "spec.preferredNodeSelectors[{index}].preference: {cause}"
        ))
    });
    unused.collect()
}

/// A node needs one of the interfaces, because nodes name theirs differently.
fn missing_interfaces<'a>(
    ad: &'a Layer2Advertisement,
    nodes: &'a BTreeMap<String, Node>,
    missing: &'a BTreeMap<String, BTreeSet<String>>,
) -> impl Iterator<Item = String> {
    let without_any = missing.iter().filter(|(name, missing)| {
        let selected = nodes.get(*name).is_some_and(|node| ad.selects_node(node));
        let mut names = ad.interfaces.iter();
        selected && !ad.interfaces.is_empty() && names.all(|name| missing.contains(&**name))
    });
    without_any.map(|(node, _)| {
        let names: Vec<&str> = ad.interfaces.iter().map(|name| &**name).collect();
        format!(
            "spec.interfaces: node {node} has none of {}, so it announces nothing by this object: \
             name an interface of the node (see ip link), or exclude the node with nodeSelectors",
            names.join(", ")
        )
    })
}
