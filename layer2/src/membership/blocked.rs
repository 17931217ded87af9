//! Nodes that are ready according to the Kubernetes API, but whose hellos never arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::nodes::NodeId;
use super::peers::Peers;
use crate::config::Time;

/// A node that is not received in this time is blocked.
const AFTER: Duration = Duration::from_secs(10);

/// The nodes that are ready by the API, and which of them are blocked.
#[derive(Debug, Default)]
pub(crate) struct Blocked {
    /// Since when nodes are ready.
    ready: BTreeMap<NodeId, Time>,
    blocked: BTreeSet<NodeId>,
    next: Option<Time>,
}

impl Blocked {
    /// Replaces the nodes that are ready.
    pub(crate) fn set_ready(&mut self, now: Time, nodes: BTreeSet<NodeId>) {
        self.ready.retain(|node, _| nodes.contains(node));
        self.blocked.retain(|node| nodes.contains(node));
        for node in nodes {
            self.ready.entry(node).or_insert(now);
        }
        self.next = Some(now);
    }

    /// Finds blocked nodes, and returns the new ones. `is_rejected`: the hellos of a node arrive,
    /// but are not accepted.
    pub(crate) fn update(
        &mut self,
        now: Time,
        peers: &Peers,
        is_rejected: impl Fn(NodeId) -> bool,
    ) -> Vec<NodeId> {
        let mut new = Vec::new();
        if self.next.is_none_or(|at| now < at) {
            return new;
        }
        self.next = None;
        // Before this process was ready for as long, it may have missed the others.
        let Some(us) = self.ready.get(&NodeId::US).copied() else {
            return new;
        };
        for (node, since) in &self.ready {
            if *node == NodeId::US || peers.node(*node).is_some() {
                continue;
            }
            let at = if is_rejected(*node) {
                now + AFTER
            } else {
                us.max(*since) + AFTER
            };
            if now < at {
                self.next = Some(self.next.map_or(at, |next| next.min(at)));
            } else if self.blocked.insert(*node) {
                new.push(*node);
            }
        }
        new
    }

    /// When [`Self::update`] must be called.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next
    }

    /// A hello of a node arrived.
    pub(crate) fn received(&mut self, node: NodeId) {
        if !self.blocked.is_empty() {
            self.blocked.remove(&node);
        }
    }

    /// Whether a node is blocked.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.blocked.contains(&node)
    }

    /// The blocked nodes.
    pub(crate) fn all(&self) -> impl Iterator<Item = NodeId> {
        self.blocked.iter().copied()
    }
}

/// What an operator should know about a blocked node.
pub(crate) fn warning(node: &str) -> String {
    format!(
        "hellos of node {node} do not arrive though its process is ready: check the network for \
         port isolation and multicast filters"
    )
}
