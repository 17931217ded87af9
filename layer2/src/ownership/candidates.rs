//! The nodes that may own an address, with equal lists stored once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{AddressSpec, Candidate, ConflictDetection, Interfaces};
use crate::membership::{NodeId, Nodes};

/// A list of candidates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CandidateSet {
    /// As it was configured.
    pub(crate) configured: Arc<[Candidate]>,
    /// The nodes and their weights, sorted by node.
    pub(crate) nodes: Vec<(NodeId, u32)>,
}

impl CandidateSet {
    /// The weight of a node, if it is a candidate.
    pub(crate) fn weight(&self, node: NodeId) -> Option<u32> {
        let position = self
            .nodes
            .binary_search_by_key(&node, |(candidate, _)| *candidate);
        self.nodes.get(position.ok()?).map(|(_, weight)| *weight)
    }

    /// Whether a node may own the address.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.weight(node).is_some()
    }
}

/// An address as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// When its oldest service was created.
    pub(crate) created: i64,
    /// The nodes that may own it.
    pub(crate) candidates: Arc<CandidateSet>,
    /// Where this node announces it.
    pub(crate) interfaces: Arc<Interfaces>,
    /// How other hosts with the address are searched.
    pub(crate) detection: ConflictDetection,
    /// Whether its owner keeps it when placement would choose another node.
    pub(crate) sticky: bool,
}

/// The lists of candidates in use.
#[derive(Debug, Default)]
pub(crate) struct CandidateSets {
    sets: HashMap<Arc<[Candidate]>, Arc<CandidateSet>>,
    last: Option<Arc<CandidateSet>>,
}

impl CandidateSets {
    /// Converts a specification.
    pub(crate) fn resolve(&mut self, nodes: &mut Nodes, spec: AddressSpec) -> Spec {
        let AddressSpec {
            created,
            candidates,
            interfaces,
            conflict_detection,
            sticky,
        } = spec;
        Spec {
            created,
            candidates: self.set(nodes, candidates),
            interfaces,
            detection: conflict_detection,
            sticky,
        }
    }

    fn set(&mut self, nodes: &mut Nodes, candidates: Arc<[Candidate]>) -> Arc<CandidateSet> {
        let last = self.last.as_ref();
        if let Some(last) = last.filter(|last| Arc::ptr_eq(&last.configured, &candidates)) {
            return last.clone();
        }
        let set = match self.sets.get(&candidates) {
            Some(set) => set.clone(),
            None => self.add(nodes, candidates),
        };
        self.last = Some(set.clone());
        set
    }

    fn add(&mut self, nodes: &mut Nodes, candidates: Arc<[Candidate]>) -> Arc<CandidateSet> {
        self.last = None;
        self.sets.retain(|_, set| Arc::strong_count(set) > 1);
        let ids = candidates
            .iter()
            .map(|candidate| (nodes.intern(&candidate.node), candidate.weight));
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        let set = Arc::new(CandidateSet {
            nodes: ids,
            configured: candidates.clone(),
        });
        self.sets.insert(candidates, set.clone());
        set
    }
}
