//! Allocation: which address every service of ours gets, as the allocator crate decides it, and what of that has to be
//! written to the API server.

use std::collections::BTreeMap;

use ferrolb_allocator::{Outcome, Request, allocate_all};

use crate::api::ObjectName;
use crate::config::Config;
use crate::index::Index;
use crate::index::facts::Service;
use crate::source::StatusWrite;

/// What became of every service of type LoadBalancer that is ours.
pub type Outcomes = BTreeMap<ObjectName, Outcome>;

/// The fold over all services.
fn fold(index: &Index, request: impl Fn(&Service) -> Request) -> Outcomes {
    let requests: Vec<Request> = index.services().filter(|service| service.is_ours()).map(request).collect();
    allocate_all(index.config().pools.clone(), &requests)
        .into_iter()
        .map(|(key, outcome)| (ObjectName::new(key.namespace, key.name), outcome))
        .collect()
}

/// A service's request, with the pinned pools that accept it.
fn request(config: &Config, service: &Service) -> Request {
    let accepting = config.pool_details.iter().filter(|(_, details)| {
        let allocation = details.allocation.as_ref();
        allocation.is_some_and(|allocation| allocation.accepts(&service.name.namespace, &service.labels))
    });
    Request { accepted_by: accepting.map(|(name, _)| name.clone()).collect(), ..service.request.clone() }
}

/// The allocator at work: what it decided and has not yet seen come back counts as held.
#[derive(Debug, Default)]
pub struct Allocation {
    written: BTreeMap<ObjectName, StatusWrite>,
}

impl Allocation {
    /// Decides everything and returns what has to be written. A write that is under way is not repeated.
    pub fn decide(&mut self, index: &Index) -> (Outcomes, Vec<StatusWrite>) {
        // A write whose service has another resourceVersion by now has landed or was refused: the facts tell which.
        self.written.retain(|name, write| {
            index.service(name).is_some_and(|service| service.resource_version == write.resource_version)
        });
        let outcomes = fold(index, |service| {
            let request = request(index.config(), service);
            match self.written.get(&service.name) {
                Some(write) => Request {
                    holds: write.addresses.clone(),
                    holds_from: write.pool.clone(),
                    ..request
                },
                None => request,
            }
        });
        let mut writes: Vec<StatusWrite> =
            outcomes.iter().filter_map(|(name, outcome)| wanted(index.service(name)?, outcome)).collect();
        // A service that was ours and is of type LoadBalancer no more gives its address back.
        writes.extend(index.services().filter_map(released));
        writes.retain(|write| self.written.get(&write.service) != Some(write));
        for write in &writes {
            self.written.insert(write.service.clone(), write.clone());
        }
        (outcomes, writes)
    }

    /// Leadership was lost: whatever was under way, the next leader decides from what it reads.
    pub fn forget(&mut self) {
        self.written.clear();
    }
}

fn wanted(service: &Service, outcome: &Outcome) -> Option<StatusWrite> {
    let pool = outcome.pool().map(str::to_owned);
    // An address whose pool is not known is kept as it stands, with what was noted beside it.
    let pool = if matches!(outcome, Outcome::Kept { .. }) { service.request.holds_from.clone() } else { pool };
    let same = service.addresses() == outcome.addresses()
        && service.invalid_address.is_none()
        && service.request.holds_from == pool;
    (!same).then(|| StatusWrite {
        service: service.name.clone(),
        resource_version: service.resource_version.clone(),
        addresses: outcome.addresses().to_vec(),
        pool,
    })
}

fn released(service: &Service) -> Option<StatusWrite> {
    let left_over = !service.load_balancer && service.request.holds_from.is_some();
    left_over.then(|| StatusWrite {
        service: service.name.clone(),
        resource_version: service.resource_version.clone(),
        addresses: Vec::new(),
        pool: None,
    })
}
