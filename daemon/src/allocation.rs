//! Allocation: which address every service of ours gets, as the allocator crate decides it, and what of that has to be
//! written to the API server.

use std::collections::BTreeMap;

use ferrolb_allocator::{Allocator, Outcome, Request};

use crate::api::ObjectName;
use crate::config::Config;
use crate::index::Index;
use crate::index::facts::Service;
use crate::source::StatusWrite;

/// What became of every service of type LoadBalancer that is ours.
pub type Outcomes = BTreeMap<ObjectName, Outcome>;

/// The allocator at work: what it decided and has not yet seen come back counts as held.
#[derive(Debug, Default)]
pub struct Allocation {
    /// Knows from one decision to the next who holds what, and so which of two services changed.
    allocator: Allocator,
    written: BTreeMap<ObjectName, StatusWrite>,
}

impl Allocation {
    /// Decides everything and returns what has to be written. A write that is under way is not repeated.
    pub fn decide(&mut self, index: &Index) -> (Outcomes, Vec<StatusWrite>) {
        // A write whose service has another resourceVersion by now has landed or was refused: the facts tell which.
        self.written.retain(|name, write| {
            let service = index.service(name);
            service.is_some_and(|service| service.resource_version == write.resource_version)
        });
        let outcomes = self.outcomes(index);
        let wanted = outcomes
            .iter()
            .filter_map(|(name, outcome)| wanted(index.service(name)?, outcome));
        // A service that was ours and is of type LoadBalancer no more gives its address back.
        let released = index.services().filter_map(released);
        let mut writes: Vec<StatusWrite> = wanted.chain(released).collect();
        writes.retain(|write| self.written.get(&write.service) != Some(write));
        for write in &writes {
            self.written.insert(write.service.clone(), write.clone());
        }
        (outcomes, writes)
    }

    /// Whether a write was on its way at the last decision.
    pub fn is_writing(&self) -> bool {
        !self.written.is_empty()
    }

    /// Leadership began or ended: a leader decides from what it reads, not from what it knew.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn outcomes(&mut self, index: &Index) -> Outcomes {
        let ours = index.services().filter(|service| service.is_ours());
        let requests: Vec<Request> = ours
            .map(|service| self.request(index.config(), service))
            .collect();
        self.allocator.set_pools(index.config().pools.clone());
        let outcomes = self.allocator.allocate_all(&requests).into_iter();
        outcomes
            .map(|(key, outcome)| (ObjectName::new(key.namespace, key.name), outcome))
            .collect()
    }

    /// A service's request: with the pinned pools that accept it, and with what was decided for it and is on its way.
    fn request(&self, config: &Config, service: &Service) -> Request {
        let accepting = config.pool_details.iter().filter(|(_, details)| {
            let allocation = details.allocation.as_ref();
            let namespace = &service.name.namespace;
            allocation.is_some_and(|allocation| allocation.accepts(namespace, &service.labels))
        });
        let accepted_by = accepting.map(|(name, _)| name.clone()).collect();
        let request = Request {
            accepted_by,
            ..service.request.clone()
        };
        match self.written.get(&service.name) {
            Some(write) => Request {
                holds: write.addresses.clone(),
                holds_from: write.pool.clone(),
                ..request
            },
            None => request,
        }
    }
}

fn wanted(service: &Service, outcome: &Outcome) -> Option<StatusWrite> {
    let pool = match outcome {
        // An address whose pool is not known is kept as it stands, with what was noted beside it.
        Outcome::Kept { .. } => service.request.holds_from.clone(),
        _ => outcome.pool().map(str::to_owned),
    };
    let same = service.addresses() == outcome.addresses()
        && service.invalid_address.is_none()
        && service.request.holds_from == pool;
    (!same).then(|| StatusWrite {
        service: ObjectName::clone(&service.name),
        resource_version: service.resource_version.clone(),
        addresses: outcome.addresses().to_vec(),
        pool,
    })
}

fn released(service: &Service) -> Option<StatusWrite> {
    let left_over = !service.load_balancer && service.request.holds_from.is_some();
    left_over.then(|| StatusWrite {
        service: ObjectName::clone(&service.name),
        resource_version: service.resource_version.clone(),
        addresses: Vec::new(),
        pool: None,
    })
}
