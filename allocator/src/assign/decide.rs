//! The decision for one service: keep its addresses, add a family, allocate others, or refuse.

use std::net::IpAddr;
use std::ops::ControlFlow;

use super::ServiceState;
use super::retain::{Origin, Retained};
use crate::claimant::Claimant;
use crate::family::Family;
use crate::ledger::Ledger;
use crate::pick::{find_in_pool, pick};
use crate::pool::Pool;
use crate::pool_set::PoolSet;
use crate::reason::{Outcome, Reason};
use crate::request::{AllocationRequest, FamilyPolicy};

/// The inputs of a decision. The ledger is changed only in so far as the service's own addresses
/// may be removed from it: the caller records the outcome.
#[derive(Debug)]
pub(super) struct Decision<'a> {
    pools: &'a PoolSet,
    ledger: &'a mut Ledger,
    previous: Option<&'a ServiceState>,
    request: &'a AllocationRequest,
    families: &'a [Family],
}

impl<'a> Decision<'a> {
    /// `previous` is the service's state before the decision, `families` are those it requires.
    pub(super) fn new(
        pools: &'a PoolSet,
        ledger: &'a mut Ledger,
        previous: Option<&'a ServiceState>,
        request: &'a AllocationRequest,
        families: &'a [Family],
    ) -> Self {
        Self {
            pools,
            ledger,
            previous,
            request,
            families,
        }
    }

    pub(super) fn decide(mut self) -> Outcome {
        let retained = Retained::check(
            self.pools,
            self.ledger,
            self.previous,
            self.request,
            self.families,
        );
        let requested = match &self.request.requested {
            Ok(requested) => requested,
            Err(reason) if retained.addresses.is_empty() => {
                return self.refuse(retained.lost, reason.clone());
            }
            Err(reason) => return kept(retained.addresses, retained.origin.pool(), reason.clone()),
        };
        if !requested.is_empty() && !same_set(requested, &retained.addresses) {
            return self.reallocate(retained);
        }
        match &retained.origin {
            Origin::Unknown(reason) if self.may_be_in_requested_pool() => {
                let reason = reason.clone();
                kept(retained.addresses, None, reason)
            }
            Origin::Pool(pool)
                if self
                    .request
                    .requested_pool()
                    .is_none_or(|name| name == pool) =>
            {
                let pool = pool.clone();
                match self.add_missing_family(retained, pool) {
                    ControlFlow::Break(outcome) => outcome,
                    ControlFlow::Continue(retained) => self.reallocate(retained),
                }
            }
            _ => self.reallocate(retained),
        }
    }

    /// Whether an address of an unknown pool may be in the requested pool: not if the requested
    /// pool is known.
    fn may_be_in_requested_pool(&self) -> bool {
        let requested = self.request.requested_pool();
        requested.is_none_or(|name| self.pools.get(name).is_none())
    }

    /// Adds an address of the missing family, if any, from the same pool. `Continue` means that
    /// the service must get all its addresses from another pool.
    fn add_missing_family(
        &self,
        retained: Retained,
        pool_name: String,
    ) -> ControlFlow<Outcome, Retained> {
        let has = |family| retained.addresses.iter().any(|a| Family::of(*a) == family);
        let missing = self.families.iter().copied().find(|family| !has(*family));
        let (Some(family), Some(pool)) = (missing, self.pools.get(&pool_name)) else {
            let Retained {
                addresses, lost, ..
            } = retained;
            return ControlFlow::Break(assigned(addresses, pool_name, false, lost));
        };
        if self.request.requests_addresses() {
            let addresses = retained.addresses;
            let reason = Reason::FamilyMismatch {
                addresses: addresses.clone(),
                wanted: self.families.to_vec(),
            };
            return ControlFlow::Break(kept(addresses, Some(pool_name), reason));
        }
        let prefers_dual_stack = self.request.family_policy == FamilyPolicy::PreferDualStack;
        ControlFlow::Break(match self.second_address(family, pool) {
            Ok(address) => {
                let mut addresses = retained.addresses;
                addresses.push(address);
                addresses.sort();
                assigned(addresses, pool_name, true, retained.lost)
            }
            Err(reason) if prefers_dual_stack => {
                let note = retained.lost.unwrap_or(reason);
                assigned(retained.addresses, pool_name, false, Some(note))
            }
            Err(reason @ Reason::PoolFrozen { .. }) => {
                kept(retained.addresses, Some(pool_name), reason)
            }
            Err(_) => return ControlFlow::Continue(retained),
        })
    }

    /// An address of the second family from the pool of the first.
    fn second_address(&self, family: Family, pool: &Pool) -> Result<IpAddr, Reason> {
        let name = || pool.name().to_owned();
        if pool.options().frozen {
            return Err(Reason::PoolFrozen { pool: name() });
        }
        find_in_pool(pool, self.ledger, self.request, family)
    }

    /// Releases the service's addresses and allocates others.
    fn reallocate(&mut self, retained: Retained) -> Outcome {
        let before = self.free_own_addresses();
        match pick(self.pools, self.ledger, self.request, self.families) {
            Ok(picked) => {
                let new = picked.addresses.iter().any(|a| !before.contains(a));
                let note = retained.lost.or(picked.note);
                assigned(picked.addresses, picked.pool, new, note)
            }
            Err(reason) if !retained.addresses.is_empty() && self.is_inconclusive(&reason) => {
                kept(retained.addresses, retained.origin.pool(), reason)
            }
            Err(reason) => self.refuse(retained.lost, reason),
        }
    }

    /// Removes the service's addresses from the ledger, so that a search finds them free. Returns
    /// them.
    fn free_own_addresses(&mut self) -> &'a [IpAddr] {
        let Some(previous) = self.previous else {
            return &[];
        };
        let claimant = Claimant::of(&previous.request);
        for address in &previous.addresses {
            self.ledger.remove(*address, &claimant);
        }
        &previous.addresses
    }

    /// `lost` is the reason why the service loses an address in this decision. Without it, the
    /// reason of its last loss remains.
    fn refuse(&self, lost: Option<Reason>, reason: Reason) -> Outcome {
        let before = || self.previous?.lost.as_deref().cloned();
        match (lost.or_else(before), reason) {
            // The service requests the address that it lost. The conflict is the better reason.
            (
                Some(Reason::AddressConflict { address, by, cause }),
                Reason::AddressInUse {
                    address: requested,
                    by: user,
                    ..
                },
            ) if (address, &by) == (requested, &user) => Outcome::Refused {
                reason: Reason::AddressConflict { address, by, cause },
                lost: None,
            },
            (lost, reason) => Outcome::Refused {
                lost: lost.filter(|lost| *lost != reason).map(Box::new),
                reason,
            },
        }
    }

    /// Whether a search may have failed only because a pool is unknown or frozen. Then the service
    /// keeps its addresses.
    fn is_inconclusive(&self, reason: &Reason) -> bool {
        let incomplete = !self.pools.complete();
        match reason {
            Reason::PoolFrozen { .. } => true,
            Reason::NoPools | Reason::UnknownPool { .. } => incomplete,
            // Which reason the search finds first must not matter. Were the address not in use, it
            // would find that the requested addresses are in different pools.
            Reason::AddressInUse { .. } => incomplete && !self.requested_are_in_one_pool(),
            Reason::BuggyAddress { .. }
            | Reason::AddressExcluded { .. }
            | Reason::AddressReserved { .. }
            | Reason::ReservationUnavailable { .. }
            | Reason::PoolDoesNotAcceptService { .. }
            | Reason::FamilyMismatch { .. } => false,
            _ => incomplete && self.request.requested_pool().is_none(),
        }
    }

    /// Whether one known pool has all requested addresses.
    fn requested_are_in_one_pool(&self) -> bool {
        let requested = self.request.requested.iter().flatten();
        let mut pools = requested.map(|address| self.pools.containing(*address).map(Pool::name));
        let first = pools.next().flatten();
        first.is_some() && pools.all(|pool| pool == first)
    }
}

fn assigned(addresses: Vec<IpAddr>, pool: String, new: bool, note: Option<Reason>) -> Outcome {
    Outcome::Assigned {
        addresses,
        pool,
        new,
        note,
    }
}

fn kept(addresses: Vec<IpAddr>, pool: Option<String>, reason: Reason) -> Outcome {
    Outcome::Kept {
        addresses,
        pool,
        reason,
    }
}

fn same_set(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|address| b.contains(address))
}
