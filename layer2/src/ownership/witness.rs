//! Proof that the links of this node work: without it, this node may itself be cut off.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Time;
use crate::interface::IfIndex;

/// When another host was last received on each interface.
#[derive(Debug, Default)]
pub(crate) struct Witnesses(BTreeMap<IfIndex, Time>);

impl Witnesses {
    /// A frame of another host was received.
    pub(crate) fn add(&mut self, now: Time, interface: IfIndex) {
        self.0.insert(interface, now);
    }

    /// An interface is gone.
    pub(crate) fn remove(&mut self, interface: IfIndex) {
        self.0.remove(&interface);
    }

    /// Whether one of the interfaces received a frame of another host since a time.
    pub(crate) fn since(&self, interfaces: &BTreeSet<IfIndex>, time: Time) -> bool {
        interfaces
            .iter()
            .any(|interface| self.0.get(interface).is_some_and(|seen| *seen >= time))
    }
}
