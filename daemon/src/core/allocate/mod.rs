//! Allocation: passes the services to the allocator crate and determines the status writes. Only
//! services that a change affects are decided.

mod events;
pub(crate) mod object_status;
pub(crate) mod pool_status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_allocator::{AllocationRequest, Allocator, Outcome, Reason, ServiceKey};

use crate::core::api::ObjectName;
use crate::core::config::Config;
use crate::core::index::change::StatusWrite;
use crate::core::index::{Dirty, Index, Released};
use crate::core::model::{Service, ServiceEvent};

/// The outcome of each service of type LoadBalancer that is ours.
pub(crate) type Outcomes = BTreeMap<ObjectName, Outcome>;

/// The result of one allocation.
#[derive(Debug, Default)]
pub(crate) struct AllocationResult {
    /// The outcomes of the services that were decided. The others keep their addresses.
    pub outcomes: Outcomes,
    /// The services among them whose reason is new or changed.
    pub new_reasons: Vec<ObjectName>,
    /// The status writes.
    pub writes: Vec<Arc<StatusWrite>>,
    /// The Events about the new reasons, and about the writes that the services show now, each
    /// once.
    pub events: Vec<ServiceEvent>,
}

/// A write whose service still has the resourceVersion that it was decided for.
#[derive(Debug)]
struct InFlight {
    write: Arc<StatusWrite>,
    /// The Events about it, if it succeeds.
    events: Vec<ServiceEvent>,
}

/// The allocator and its writes in flight. An address counts as allocated as soon as it is decided,
/// before the written status comes back.
#[derive(Debug, Default)]
pub(crate) struct Allocation {
    /// Stateful, so that it knows which of two services changed.
    allocator: Allocator,
    /// The configuration of the last decision. None before the first.
    config: Option<Arc<Config>>,
    in_flight: BTreeMap<Arc<ObjectName>, InFlight>,
    /// The reasons of services that don't have all requested addresses, or lost some at their last
    /// decision.
    reasons: BTreeMap<ObjectName, Reason>,
    /// The annotations under MetalLB's old prefix that services had at their last decision.
    deprecated: BTreeMap<ObjectName, Box<str>>,
}

impl Allocation {
    /// Decides the services that a change affects. The first time, and after a change of pools,
    /// decides all. A write in flight is not repeated.
    pub(crate) fn decide(&mut self, index: &Index, dirty: &Dirty) -> AllocationResult {
        let config = index.config();
        let same_pools = |before: &Arc<Config>| {
            !dirty.configuration
                || (before.pools == config.pools && before.pool_details == config.pool_details)
        };
        if !self.config.as_ref().is_some_and(same_pools) {
            return self.decide_all(index);
        }
        let mut changed = Vec::new();
        let mut gone = Vec::new();
        let mut events = Vec::new();
        for name in &dirty.requests {
            events.extend(self.finished_write(index, name));
            match index.service(name).filter(|service| service.is_ours()) {
                Some(service) => changed.push(self.request(config, service)),
                None => {
                    self.reasons.remove(name);
                    gone.push(ServiceKey::new(&*name.namespace, &*name.name));
                }
            }
        }
        if changed.is_empty() && gone.is_empty() {
            return AllocationResult::default();
        }
        let outcomes = self.allocator.update(changed, &gone);
        let mut result = self.finish(index, outcomes, false);
        let deprecated = dirty.requests.iter();
        let deprecated = deprecated.filter_map(|name| self.deprecated_annotations(index, name));
        events.append(&mut result.events);
        events.extend(deprecated);
        result.events = events;
        result
    }

    /// Decides all services.
    pub(crate) fn decide_all(&mut self, index: &Index) -> AllocationResult {
        let in_flight: Vec<Arc<ObjectName>> = self.in_flight.keys().cloned().collect();
        let mut events = Vec::new();
        for name in in_flight {
            events.extend(self.finished_write(index, &name));
        }
        let config = index.config();
        let first = self.config.replace(Arc::clone(config)).is_none();
        self.allocator.set_pools(config.pools.clone());
        let ours = index.services().filter(|service| service.is_ours());
        let requests = ours.map(|service| self.request(config, service)).collect();
        let outcomes = self.allocator.allocate_all(requests);
        self.reasons
            .retain(|name, _| index.service(name).is_some_and(Service::is_ours));
        let mut result = self.finish(index, outcomes, first);
        self.deprecated
            .retain(|name, _| index.service(name).is_some_and(Service::is_ours));
        for service in index.services() {
            let event = self.deprecated_annotations(index, &service.name);
            // A new leader repeats none: services that it finds with an address have had theirs.
            let is_known = first && !service.addresses().is_empty();
            let event = event.filter(|_| !is_known);
            result.events.extend(event.map(|event| ServiceEvent {
                may_be_known: first,
                ..event
            }));
        }
        events.append(&mut result.events);
        result.events = events;
        result
    }

    /// The Event about a service's annotations under MetalLB's old prefix, if they are new.
    fn deprecated_annotations(&mut self, index: &Index, name: &ObjectName) -> Option<ServiceEvent> {
        let service = index.service(name).filter(|service| service.is_ours());
        let annotations = service.and_then(|service| service.deprecated_annotations.clone());
        let old = match &annotations {
            Some(new) => self.deprecated.insert(name.clone(), new.clone()),
            None => self.deprecated.remove(name),
        };
        let new = annotations.filter(|new| old.as_ref() != Some(new))?;
        Some(events::of_deprecated(service?, &new))
    }

    /// Whether a write was in flight at the last decision.
    pub(crate) fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Discards all state when leadership begins or ends, because a leader decides from what it
    /// reads. What only the past shows stays: the addresses that services had before they were
    /// gone.
    pub(crate) fn reset(&mut self) {
        let mut allocator = std::mem::take(&mut self.allocator);
        allocator.reset();
        *self = Self {
            allocator,
            ..Self::default()
        };
    }

    /// Remembers the addresses that services had before they were gone, for the time when this
    /// process leads.
    pub(crate) fn remember(&mut self, released: Vec<Released>) {
        for Released { service, addresses } in released {
            let key = ServiceKey::new(service.namespace, service.name);
            self.allocator.remember(&key, &addresses);
        }
    }

    /// Removes a write from those in flight if its service has another resourceVersion: it
    /// succeeded or failed, and the service's model shows which. Returns the Events about it if it
    /// succeeded.
    fn finished_write(&mut self, index: &Index, name: &ObjectName) -> Vec<ServiceEvent> {
        let service = index.service(name);
        let version = service.map(|service| &service.resource_version);
        let in_flight = self.in_flight.get(name);
        if in_flight.is_none_or(|one| version == Some(&one.write.resource_version)) {
            return Vec::new();
        }
        let finished = self.in_flight.remove(name);
        let succeeded = finished.filter(|finished| {
            service.is_some_and(|service| service.addresses() == finished.write.addresses)
        });
        succeeded.map_or_else(Vec::new, |finished| finished.events)
    }

    /// Stores the reasons and determines the writes for the outcomes. `first` says that this is the
    /// first decision of a leader, which doesn't know the Events of the one before.
    fn finish(
        &mut self,
        index: &Index,
        outcomes: Vec<(ServiceKey, Outcome)>,
        first: bool,
    ) -> AllocationResult {
        let named = |(key, outcome): (ServiceKey, Outcome)| {
            (ObjectName::new(&*key.namespace, &*key.name), outcome)
        };
        let outcomes: Outcomes = outcomes.into_iter().map(named).collect();
        let mut result = AllocationResult::default();
        for (name, outcome) in &outcomes {
            if let Some(service) = index.service(name) {
                result.writes.extend(self.write(service, outcome));
            }
            let Some(reason) = outcome.reason() else {
                self.reasons.remove(name);
                continue;
            };
            if self.reasons.insert(name.clone(), reason.clone()).as_ref() != Some(reason) {
                result.new_reasons.push(name.clone());
                let service = index.service(name);
                let event = service.and_then(|service| events::of_reason(service, outcome));
                result.events.extend(event.map(|event| ServiceEvent {
                    may_be_known: first,
                    ..event
                }));
            }
        }
        result.outcomes = outcomes;
        result
    }

    /// The write for an outcome, unless the service has it or it is in flight.
    fn write(&mut self, service: &Service, outcome: &Outcome) -> Option<Arc<StatusWrite>> {
        let write = Arc::new(write_for(service, outcome)?);
        let known = self.in_flight.get(&service.name);
        if known.is_some_and(|known| known.write == write) {
            return None;
        }
        let in_flight = InFlight {
            write: Arc::clone(&write),
            events: events::of_write(service, &write, outcome),
        };
        self.in_flight.insert(write.service.clone(), in_flight);
        Some(write)
    }

    /// A service's request, with the pinned pools that accept it and its write in flight.
    fn request(&self, config: &Config, service: &Service) -> Arc<AllocationRequest> {
        let accepting = config.pool_details.iter().filter(|(_, details)| {
            let allocation = details.allocation.as_ref();
            let namespace = &service.name.namespace;
            allocation.is_some_and(|allocation| allocation.accepts(namespace, &service.labels))
        });
        let accepted_by: BTreeSet<String> = accepting.map(|(name, _)| name.clone()).collect();
        let in_flight = self.in_flight.get(&service.name);
        let mut request = Arc::clone(&service.request);
        // Share the request with the index unless something is added.
        if !accepted_by.is_empty() || in_flight.is_some() {
            let request = Arc::make_mut(&mut request);
            request.accepted_by = accepted_by;
            if let Some(InFlight { write, .. }) = in_flight {
                request.current.clone_from(&write.addresses);
                request.current_pool.clone_from(&write.pool);
            }
        }
        request
    }
}

fn write_for(service: &Service, outcome: &Outcome) -> Option<StatusWrite> {
    let pool = match outcome {
        // An address of an unknown pool is kept, together with its annotation.
        Outcome::Kept { pool: None, .. } => service.request.current_pool.clone(),
        _ => outcome.pool().map(str::to_owned),
    };
    let same = service.addresses() == outcome.addresses()
        && service.invalid_address.is_none()
        && service.request.current_pool == pool;
    (!same).then(|| StatusWrite {
        service: Arc::clone(&service.name),
        resource_version: service.resource_version.clone(),
        addresses: outcome.addresses().to_vec(),
        ip_modes: service.ip_modes.clone(),
        pool,
    })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
