//! What the leading allocator writes: addresses, and the statuses of configuration objects.

use tokio::time::Instant;

use super::Running;
use crate::core::allocate::AllocationResult;
use crate::core::index::Dirty;
use crate::runtime::source::{ApiWrite, Source};

impl Running {
    /// Decides addresses and requests the writes. Returns whether there are any.
    pub(super) fn allocate(&mut self, source: &Source, dirty: &Dirty) -> bool {
        let AllocationResult {
            outcomes,
            new_reasons,
            writes,
            events,
        } = self.allocation.decide(&self.index, dirty);
        for name in new_reasons {
            let outcome = outcomes.get(&name);
            if let Some((reason, message)) = outcome.and_then(|o| o.reason().zip(o.message())) {
                tracing::warn!(service = %name, reason = reason.code(), "{message}");
            }
        }
        for event in events {
            source.writes.send(ApiWrite::Event(event));
        }
        let effect = !writes.is_empty();
        for write in writes {
            let decision = match write.addresses.as_slice() {
                [] => "no address allocated: clearing the Service status",
                _ => "address allocated: writing the Service status",
            };
            tracing::info!(
                service = %write.service,
                addresses = write.shown_addresses(),
                pool = write.pool.as_deref().unwrap_or_default(),
                "{decision}"
            );
            if source.status.send(write).is_err() {
                tracing::warn!(
                    "can't write the Service status: the source of Kubernetes objects has ended"
                );
            }
        }
        effect
    }

    /// Writes the statuses of pools and of refused objects as the leader, at most once per tick:
    /// many services may get addresses meanwhile.
    pub(super) fn write_object_statuses(&mut self, source: &Source) {
        if !self.object_statuses_due || !self.leading {
            return;
        }
        let now = Instant::now().into_std();
        let due = self.object_statuses.due(now, &self.index);
        for (object, status) in due.statuses {
            source.writes.send(ApiWrite::ObjectStatus(object, status));
        }
        for event in due.events {
            source.writes.send(ApiWrite::ObjectEvent(event));
        }
        self.object_statuses_due = !self.object_statuses.is_complete();
    }
}
