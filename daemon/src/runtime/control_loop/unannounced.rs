//! Writes conditions and Events about services that no node announces, as the leader.

use std::time::Duration;

use tokio::time::Instant;

use super::Running;
use crate::core::api::Kind;
use crate::core::decide::unannounced::{Report, Unannounced};
use crate::core::index::Dirty;
use crate::runtime::source::{ApiWrite, Source};

/// Without a complete list of these, no conclusion is possible.
const LISTED: [Kind; 3] = [Kind::Node, Kind::Service, Kind::EndpointSlice];

/// The configuration that may not be refused. A kind that the API server lacks has no objects.
const READABLE: [Kind; 8] = [
    Kind::ConfigMap,
    Kind::AddressPool,
    Kind::BgpPeer,
    Kind::FerrolbBgpPeer,
    Kind::BgpAdvertisement,
    Kind::FerrolbBgpAdvertisement,
    Kind::L2Advertisement,
    Kind::FerrolbL2Advertisement,
];

/// A process that looked at nothing for longer stood still. What it knows is old, and another one
/// may lead.
const STOOD_STILL: Duration = Duration::from_secs(5);

impl Running {
    /// Notes the services that a change affects.
    pub(super) fn check_unannounced(&mut self, dirty: &Dirty) {
        if self.sees_all_announcers() {
            self.unannounced.note(&self.index, dirty);
        } else {
            self.unannounced = Unannounced::default();
        }
    }

    fn sees_all_announcers(&self) -> bool {
        self.index.is_listed(&LISTED) && self.index.is_readable(&READABLE)
    }

    /// Looks at them, and writes what is due.
    pub(super) fn report_unannounced(&mut self, source: &Source) {
        let now = Instant::now();
        let before = self.unannounced_at.replace(now);
        if !self.leading || !self.decided {
            return;
        }
        if before.is_some_and(|before| now.duration_since(before) > STOOD_STILL) {
            // A decision must last again before it is written; by then the Lease is known.
            self.unannounced = Unannounced::default();
        }
        // A list of EndpointSlices that is empty changes no service.
        if !self.unannounced.is_complete() && self.sees_all_announcers() {
            let everything = Dirty {
                configuration: true,
                ..Dirty::default()
            };
            self.unannounced.note(&self.index, &everything);
        }
        self.unpublished |= self.unannounced.is_due();
        for Report { condition, event } in self.unannounced.step(now.into_std(), &self.index) {
            source.writes.send(ApiWrite::Condition(condition));
            let Some(event) = event else {
                continue;
            };
            if event.warning {
                tracing::warn!(service = %event.service, "{}", event.message);
            } else {
                tracing::info!(service = %event.service, "{}", event.message);
            }
            source.writes.send(ApiWrite::Event(event));
        }
    }
}
