//! Writes Events about services that fewer nodes announce than `minAnnouncers` says, as the leader.

use tokio::time::Instant;

use super::Running;
use crate::core::api::Kind;
use crate::core::decide::floor;
use crate::core::index::Dirty;
use crate::core::model::ServiceEvent;
use crate::runtime::source::{ApiWrite, Source};

impl Running {
    /// An allocator begins to read EndpointSlices when it leads: they decide whether anybody
    /// announces a service.
    pub(super) fn read_endpoints(&self, source: &Source) {
        if !self.control.kinds.contains(&Kind::EndpointSlice) {
            let needed = &source.needs_endpoints;
            needed.send_if_modified(|needed| !std::mem::replace(needed, true));
        }
    }

    /// Looks at the services that a change affects.
    pub(super) fn check_floors(&mut self, source: &Source, dirty: &Dirty) {
        if !floor::is_used(self.index.config()) {
            self.floors = floor::Floors::default();
            return;
        }
        if !self.index.is_listed(&[Kind::EndpointSlice]) {
            return;
        }
        let now = Instant::now().into_std();
        let events = self.floors.update(now, &self.index, dirty);
        self.write_floor_events(source, events);
    }

    /// Writes the Events that are due because time has passed.
    pub(super) fn write_due_floor_events(&mut self, source: &Source) {
        let now = Instant::now().into_std();
        let events = self.floors.due(now, &self.index);
        self.write_floor_events(source, events);
    }

    fn write_floor_events(&mut self, source: &Source, events: Vec<ServiceEvent>) {
        for event in events {
            let ServiceEvent {
                service,
                reason,
                message,
                ..
            } = &event;
            if event.warning {
                tracing::warn!(%service, reason, "{message}");
            } else {
                tracing::info!(%service, reason, "{message}");
            }
            source.writes.send(ApiWrite::Event(event));
            self.unpublished = true;
        }
    }
}
