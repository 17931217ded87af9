//! Nodes whose hellos are not accepted, and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::interface::IfIndex;

/// Names in hellos that are not authenticated are at anyone's choice, so their number is limited.
const MAX_NODES: usize = 64;

/// The reason of each node and segment.
#[derive(Debug, Default)]
pub(crate) struct Rejections(BTreeMap<(IfIndex, Arc<str>), String>);

impl Rejections {
    /// Records a reason. Returns whether it is a new one.
    pub(crate) fn add(&mut self, segment: IfIndex, node: &Arc<str>, why: &str) -> bool {
        let key = (segment, node.clone());
        let full = self.0.len() >= MAX_NODES;
        match self.0.get_mut(&key) {
            Some(known) if known == why => false,
            Some(known) => {
                why.clone_into(known);
                true
            }
            None if full => false,
            None => {
                self.0.insert(key, why.into());
                true
            }
        }
    }

    /// A hello of the node was accepted.
    pub(crate) fn remove(&mut self, segment: IfIndex, node: &Arc<str>) {
        if !self.0.is_empty() {
            self.0.remove(&(segment, node.clone()));
        }
    }

    /// The nodes that are not accepted on a segment.
    pub(crate) fn on(&self, segment: IfIndex) -> impl Iterator<Item = (&Arc<str>, &String)> {
        self.0
            .iter()
            .filter(move |((on, _), _)| *on == segment)
            .map(|((_, node), why)| (node, why))
    }

    /// An interface is gone.
    pub(crate) fn forget(&mut self, segment: IfIndex) {
        self.0.retain(|(on, _), _| *on != segment);
    }

    /// Whether hellos of a node are not accepted on a segment.
    pub(crate) fn contains(&self, node: &str) -> bool {
        self.0.keys().any(|(_, known)| &**known == node)
    }
}
