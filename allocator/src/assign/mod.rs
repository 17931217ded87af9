//! The allocator: keeps the addresses of all services, and decides again what a change affects.

mod decide;
mod retain;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use self::decide::Decision;
use crate::claimant::{Claimant, same_claim};
use crate::family::Family;
use crate::ledger::Ledger;
use crate::pick::{Search, required_families};
use crate::pool_set::PoolSet;
use crate::reason::{Outcome, Reason};
use crate::request::AllocationRequest;
use crate::round::Round;
use crate::service::ServiceKey;

/// The state of one service after its last decision.
#[derive(Debug, Clone)]
struct ServiceState {
    /// The request that was decided.
    request: Arc<AllocationRequest>,
    addresses: Vec<IpAddr>,
    /// The pool of the addresses, if it is known.
    pool: Option<String>,
    /// Why the service lost its addresses, until it has an address again.
    lost: Option<Box<Reason>>,
}

/// The pools, and the addresses of all services.
#[derive(Debug, Clone, Default)]
pub struct Allocator {
    pools: PoolSet,
    services: BTreeMap<ServiceKey, ServiceState>,
    /// The services that would get more or other addresses if others released some.
    waiting: BTreeSet<ServiceKey>,
    ledger: Ledger,
}

impl Allocator {
    /// An allocator in which no service has an address.
    #[must_use]
    pub fn new(pools: PoolSet) -> Self {
        Self {
            pools,
            ..Self::default()
        }
    }

    /// Forgets the pools and the services. What is known of services that are gone stays: one that
    /// is created again gets its former addresses.
    pub fn reset(&mut self) {
        let former = std::mem::take(&mut self.ledger.former);
        *self = Self::default();
        self.ledger.former = former;
    }

    /// Remembers the addresses of a service that is gone and that this allocator didn't know.
    pub fn remember(&mut self, service: &ServiceKey, addresses: &[IpAddr]) {
        self.ledger.former.remember(service, addresses);
    }

    /// Replaces the pools. Services keep their addresses until [`Allocator::allocate_all`] decides
    /// for them again.
    pub fn set_pools(&mut self, pools: PoolSet) {
        self.pools = pools;
    }

    /// Decides for all services: those with addresses first, among them those that request specific
    /// addresses, then the oldest. The outcomes are in this order. Services that are not in
    /// `requests` are released.
    ///
    /// If services can no longer share an address, the one that changed since the previous call
    /// loses it ([`Reason::SharingChanged`]). On the first call the youngest loses it, since it is
    /// unknown which one changed.
    pub fn allocate_all(
        &mut self,
        requests: Vec<Arc<AllocationRequest>>,
    ) -> Vec<(ServiceKey, Outcome)> {
        let present: BTreeSet<&ServiceKey> = requests.iter().map(|r| &r.service).collect();
        let gone = self.services.keys().filter(|key| !present.contains(key));
        let gone: Vec<ServiceKey> = gone.cloned().collect();
        self.update(requests, &gone)
    }

    /// Releases the services in `gone`, and decides for the `changed` services and for those that
    /// the changes affect: services that wait for a released address, and services with an address
    /// that a changed service is more entitled to. If [`AllocationRequest::current`] differs from
    /// the addresses known here, the request takes precedence.
    ///
    /// Afterwards all services have the addresses that [`Allocator::allocate_all`] would give them.
    /// Returns the outcomes of the services that were decided. The others keep their addresses.
    pub fn update(
        &mut self,
        changed: Vec<Arc<AllocationRequest>>,
        gone: &[ServiceKey],
    ) -> Vec<(ServiceKey, Outcome)> {
        let mut freed = Vec::new();
        for key in gone {
            freed.extend(self.withdraw(key));
        }
        for request in &changed {
            let known = self.addresses(&request.service);
            if known != request.current {
                freed.extend(known);
                freed.extend(&request.current);
                self.adopt(request);
            }
        }
        let mut round = Round::default();
        for request in &changed {
            round.add(request, self.addresses(&request.service));
        }
        if !freed.is_empty() {
            self.requeue(&mut round, &freed);
        }
        while let Some(request) = round.next() {
            let mut affected = self.addresses(&request.service).to_vec();
            let (outcome, frees) = self.allocate(&request);
            affected.extend(outcome.addresses());
            round.record(&request.service, outcome);
            if frees {
                self.requeue(&mut round, &affected);
            }
        }
        round.into_outcomes()
    }

    /// Queues the services that may gain or lose addresses because these addresses were released
    /// or are claimed with other keys or ports.
    fn requeue(&self, round: &mut Round, addresses: &[IpAddr]) {
        for key in round.waiting_again(&self.waiting) {
            if let Some(state) = self.services.get(&key) {
                round.add(&state.request, &state.addresses);
            }
        }
        for address in addresses {
            for claimant in self.ledger.conflicting(*address) {
                let request = claimant.request();
                round.add(request, self.addresses(&request.service));
            }
        }
    }

    /// Replaces the addresses of a service by [`AllocationRequest::current`], unchecked. A service
    /// without them was created again, or its status was cleared.
    fn adopt(&mut self, request: &Arc<AllocationRequest>) {
        if request.current.is_empty() {
            self.remember_known(&request.service);
        }
        let pool = request.current_pool.clone();
        self.record(request, &request.current, pool, None);
    }

    /// Decides for a service and records the outcome. The decision starts from the addresses known
    /// here, not from [`AllocationRequest::current`]. Also returns whether the service released an
    /// address or claims one in another way, which can affect other services.
    fn allocate(&mut self, request: &Arc<AllocationRequest>) -> (Outcome, bool) {
        let families = required_families(request);
        let restored = families.as_ref().ok();
        let restored = restored.and_then(|families| self.restored(request, families));
        let previous = self.services.get(&request.service);
        let outcome = match (restored, families) {
            (Some(outcome), _) => outcome,
            (None, Ok(families)) => {
                Decision::new(&self.pools, &mut self.ledger, previous, request, &families).decide()
            }
            (None, Err(reason)) => Outcome::Refused { reason, lost: None },
        };
        let pool = match &outcome {
            // The addresses are still from the recorded pool, although it is not in the set.
            Outcome::Kept { pool: None, .. } => previous.and_then(|state| state.pool.clone()),
            _ => outcome.pool().map(str::to_owned),
        };
        let lost = outcome.loss().cloned().map(Box::new);
        let frees = self.record(request, outcome.addresses(), pool, lost);
        if !outcome.addresses().is_empty() {
            self.ledger.former.forget(&request.service);
        }
        if is_waiting(request, &outcome) {
            self.waiting.insert(request.service.clone());
        } else {
            self.waiting.remove(&request.service);
        }
        (outcome, frees)
    }

    /// The outcome for a service without addresses if it gets its former ones, as far as they are
    /// free. `None` if it gets none of them.
    fn restored(
        &mut self,
        request: &Arc<AllocationRequest>,
        families: &[Family],
    ) -> Option<Outcome> {
        if !self.addresses(&request.service).is_empty() || request.requests_addresses() {
            return None;
        }
        let former = self.ledger.former.of(&request.service);
        if former.is_empty() {
            return None;
        }
        let search = Search {
            pools: &self.pools,
            ledger: &self.ledger,
            request,
            wanted: families,
        };
        let free = former.iter().copied();
        let free: Vec<IpAddr> = free
            .filter(|address| search.may_restore(*address))
            .collect();
        if free.is_empty() {
            return None;
        }
        // Decided as if it had them already.
        let state = ServiceState {
            request: Arc::clone(request),
            addresses: free,
            pool: None,
            lost: None,
        };
        let decision = Decision::new(
            &self.pools,
            &mut self.ledger,
            Some(&state),
            request,
            families,
        );
        match decision.decide() {
            Outcome::Assigned {
                addresses,
                pool,
                note,
                ..
            } => Some(Outcome::Assigned {
                addresses,
                pool,
                new: true,
                note,
            }),
            Outcome::Kept { .. } | Outcome::Refused { .. } => None,
        }
    }

    /// Removes a service that is gone, and remembers and returns the addresses that it had.
    fn withdraw(&mut self, service: &ServiceKey) -> Vec<IpAddr> {
        self.remember_known(service);
        self.release(service)
    }

    fn remember_known(&mut self, service: &ServiceKey) {
        if let Some(state) = self.services.get(service) {
            self.ledger.former.remember(service, &state.addresses);
        }
    }

    /// Removes a service and returns the addresses that it had.
    fn release(&mut self, service: &ServiceKey) -> Vec<IpAddr> {
        self.waiting.remove(service);
        self.remove(service)
            .map(|state| state.addresses)
            .unwrap_or_default()
    }

    /// The addresses of a service.
    pub(crate) fn addresses(&self, service: &ServiceKey) -> &[IpAddr] {
        self.services
            .get(service)
            .map_or(&[], |state| &state.addresses)
    }

    fn remove(&mut self, service: &ServiceKey) -> Option<ServiceState> {
        let state = self.services.remove(service)?;
        let claimant = Claimant::of(&state.request);
        for address in &state.addresses {
            self.ledger.remove(*address, &claimant);
        }
        Some(state)
    }

    /// Returns whether the service released an address, or claims one in another way than before.
    fn record(
        &mut self,
        request: &Arc<AllocationRequest>,
        addresses: &[IpAddr],
        pool: Option<String>,
        lost: Option<Box<Reason>>,
    ) -> bool {
        let before = self.remove(&request.service);
        for address in addresses {
            self.ledger.insert(*address, Claimant::of(request));
        }
        let state = ServiceState {
            request: Arc::clone(request),
            addresses: addresses.to_vec(),
            pool,
            lost,
        };
        self.services.insert(request.service.clone(), state);
        before.is_some_and(|before| {
            let claim_changed = Claimant::of(&before.request) != Claimant::of(request)
                || !same_claim(&before.request, request);
            let released = |address| !addresses.contains(address);
            before.addresses.iter().any(released) || (claim_changed && !before.addresses.is_empty())
        })
    }
}

/// Whether a service would get more or other addresses if others released some. The note of an
/// assignment does not show this: the reason of a loss takes precedence over a missing family.
fn is_waiting(request: &AllocationRequest, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Assigned { addresses, .. } => {
            required_families(request).is_ok_and(|families| addresses.len() < families.len())
        }
        Outcome::Kept { .. } | Outcome::Refused { .. } => true,
    }
}

#[cfg(test)]
mod tests;
