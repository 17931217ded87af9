//! The services, nodes and settings to decide again after a change.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::core::api::ObjectName;

/// The addresses that a service of ours had before it was gone, or before it had none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The service.
    pub service: ObjectName,
    /// Its addresses, at least one.
    pub addresses: Vec<IpAddr>,
}

/// What must be decided again after a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// The services to decide again.
    pub services: BTreeSet<ObjectName>,
    /// The services whose object changed. Allocation depends on these and on the pools.
    pub requests: BTreeSet<ObjectName>,
    /// The addresses of those that have none any more.
    pub released: Vec<Released>,
    /// The nodes whose decisions must all be made again.
    pub nodes: BTreeSet<String>,
    /// Whether the configuration changed: all decisions must be made again.
    pub configuration: bool,
    /// Whether the problems of objects changed: no decision depends on them, but they must be
    /// reported.
    pub problems: bool,
}

impl Dirty {
    /// Adds what depends on another change.
    pub fn merge(&mut self, other: Self) {
        self.services.extend(other.services);
        self.requests.extend(other.requests);
        self.released.extend(other.released);
        self.nodes.extend(other.nodes);
        self.configuration |= other.configuration;
        self.problems |= other.problems;
    }

    /// Whether all decisions of a node must be made again.
    pub fn needs_full_decision(&self, node: &str) -> bool {
        self.configuration || self.nodes.contains(node)
    }

    /// Whether [`Index::problems`] may have changed.
    pub fn may_change_problems(&self) -> bool {
        // Conflicts on every node are reported only if there are no nodes.
        self.problems || self.configuration || !self.nodes.is_empty()
    }

    /// Whether nothing depends on the change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
