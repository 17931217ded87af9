//! Nodes whose hellos are not accepted, and why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Time;
use crate::interface::IfIndex;

/// Names in hellos that are not authenticated are at anyone's choice, so the number of unknown ones
/// is limited.
const MAX_NODES: usize = 64;
/// A reason is forgotten after this time without such a hello.
const LIFE: Duration = Duration::from_secs(60);

/// The reason of each node and segment, and when the last hello was rejected.
#[derive(Debug, Default)]
pub(crate) struct Rejections(BTreeMap<(IfIndex, Arc<str>), (String, Time)>);

impl Rejections {
    /// Records a reason. Returns whether it is a new one.
    /// `is_known`: the node was named by the configuration or by an authenticated hello.
    pub(crate) fn add(
        &mut self,
        now: Time,
        (segment, node): (IfIndex, &Arc<str>),
        is_known: bool,
        why: &str,
    ) -> bool {
        let key = (segment, node.clone());
        let full = !is_known && self.0.len() >= MAX_NODES;
        match self.0.get_mut(&key) {
            Some((known, last)) => {
                *last = now;
                let is_new = known != why;
                if is_new {
                    why.clone_into(known);
                }
                is_new
            }
            None if full => false,
            None => {
                self.0.insert(key, (why.into(), now));
                true
            }
        }
    }

    /// Forgets reasons of which no hello arrived for a while.
    pub(crate) fn prune(&mut self, now: Time) {
        self.0.retain(|_, (_, last)| *last + LIFE > now);
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
            .map(|((_, node), (why, _))| (node, why))
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
