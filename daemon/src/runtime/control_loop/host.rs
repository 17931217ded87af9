//! What this process knows about its host: interfaces, addresses, and whether the kernel discards.

use tokio::time::Instant;

use super::Running;
use crate::core::decide::discards::discards;

impl Running {
    /// Updates what this process knows about the interfaces of the node. Returns whether it
    /// changed.
    pub(super) fn check_interfaces(&mut self) -> bool {
        let Some(node) = self.control.node() else {
            return false;
        };
        let mut missing = self.index.named_interfaces(node);
        missing.retain(|name| !(self.control.interface_exists)(name));
        let mut dirty = self.index.set_missing_interfaces(node, missing);
        let addresses = match self.index.needs_addresses(node) {
            true => (self.control.host_addresses)().map(Some),
            false => Ok(None),
        };
        // If they can't be read now, the last known ones stay in use.
        if let Ok(addresses) = addresses {
            dirty.merge(self.index.set_addresses(node, addresses));
        }
        let changed = !dirty.is_empty();
        self.dirty.merge(dirty);
        changed
    }

    /// Discards packets to unused addresses of all aggregates that this node may announce, before
    /// it announces them. Returns whether the kernel's answer changed.
    pub(super) fn add_discards(&mut self) -> bool {
        let announcer = self.control.announcer.as_ref();
        let Some(node) = announcer.map(|announcer| announcer.node_routes().node()) else {
            return false;
        };
        let Some(wanted) = discards(&self.index, node) else {
            return false;
        };
        let now = Instant::now().into_std();
        let error = self.control.discards.add(now, &wanted);
        self.undiscarded = error.as_ref().map_or(0, |_| wanted.len());
        let dirty = self.index.set_discard_error(node, error);
        let changed = !dirty.is_empty();
        self.dirty.merge(dirty);
        changed
    }
}
