//! The decision for one service: keep its addresses, add a family, allocate others, or refuse.

use std::net::IpAddr;
use std::ops::ControlFlow;

use super::ServiceState;
use super::retain::{Origin, Retained, is_any_of_refused};
use crate::claimant::Claimant;
use crate::family::Family;
use crate::ledger::Ledger;
use crate::pick::{Search, pick};
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
            Err(reason) => return self.kept(retained.addresses, reason.clone()),
        };
        if !requested.is_empty() && !same_set(requested, &retained.addresses) {
            return self.reallocate(retained);
        }
        match &retained.origin {
            Origin::Unknown(reason) if self.may_be_in_requested_pool() => {
                let reason = reason.clone();
                self.kept(retained.addresses, reason)
            }
            Origin::Pools => match self.in_requested_pool(&retained.addresses) {
                addresses if addresses.is_empty() => self.reallocate(retained),
                addresses => match self.add_missing_family(addresses, retained) {
                    ControlFlow::Break(outcome) => outcome,
                    ControlFlow::Continue(retained) => self.reallocate(retained),
                },
            },
            _ => self.reallocate(retained),
        }
    }

    /// Those of the addresses that are in the requested pool; all if no pool is requested. None if
    /// the service requests them, but they are not all in the requested pool.
    fn in_requested_pool(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let Some(name) = self.request.requested_pool() else {
            return addresses.to_vec();
        };
        let is_inside = |address: &&IpAddr| {
            let pool = self.pools.containing(**address);
            pool.is_some_and(|pool| pool.name() == name)
        };
        let inside: Vec<IpAddr> = addresses.iter().filter(is_inside).copied().collect();
        if self.request.requests_addresses() && inside.len() < addresses.len() {
            return Vec::new();
        }
        inside
    }

    /// Whether an address of an unknown pool may be in the requested pool: not if the requested
    /// pool is known.
    fn may_be_in_requested_pool(&self) -> bool {
        let requested = self.request.requested_pool();
        requested.is_none_or(|name| self.pools.get(name).is_none())
    }

    /// Adds an address of the missing family, if any, to the addresses that the service keeps.
    /// `Continue` means that the service must get both from elsewhere.
    fn add_missing_family(
        &self,
        mut addresses: Vec<IpAddr>,
        retained: Retained,
    ) -> ControlFlow<Outcome, Retained> {
        let has = |family| addresses.iter().any(|a| Family::of(*a) == family);
        let missing = self.families.iter().copied().find(|family| !has(*family));
        let (Some(family), Some(first)) = (missing, addresses.first().copied()) else {
            return ControlFlow::Break(self.assigned(addresses, false, retained.lost));
        };
        if self.request.requests_addresses() {
            let reason = Reason::FamilyMismatch {
                addresses: addresses.clone(),
                wanted: self.families.to_vec(),
            };
            return ControlFlow::Break(self.kept(addresses, reason));
        }
        let prefers_dual_stack = self.request.family_policy == FamilyPolicy::PreferDualStack;
        let search = Search {
            pools: self.pools,
            ledger: self.ledger,
            request: self.request,
            wanted: self.families,
        };
        ControlFlow::Break(match search.second(self.pools.containing(first), family) {
            Ok(address) => {
                addresses.push(address);
                addresses.sort();
                self.assigned(addresses, true, retained.lost)
            }
            Err(reason) if prefers_dual_stack => {
                let note = retained.lost.unwrap_or(reason);
                self.assigned(addresses, false, Some(note))
            }
            Err(reason @ Reason::PoolFrozen { .. }) => self.kept(addresses, reason),
            Err(_) => return ControlFlow::Continue(retained),
        })
    }

    /// Releases the service's addresses and allocates others.
    fn reallocate(&mut self, retained: Retained) -> Outcome {
        let before = self.free_own_addresses();
        match pick(self.pools, self.ledger, self.request, self.families) {
            Ok(picked) => {
                let new = picked.addresses.iter().any(|a| !before.contains(a));
                let note = retained.lost.or(picked.note);
                self.assigned(picked.addresses, new, note)
            }
            Err(reason) if !retained.addresses.is_empty() && self.is_inconclusive(&reason) => {
                self.kept(retained.addresses, reason)
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
            // would find that the other one is in no known pool.
            Reason::AddressInUse { .. } => incomplete && !self.requested_are_in_known_pools(),
            Reason::BuggyAddress { .. }
            | Reason::AddressExcluded { .. }
            | Reason::AddressReserved { .. }
            | Reason::ReservationUnavailable { .. }
            | Reason::PoolDoesNotAcceptService { .. }
            | Reason::FamilyMismatch { .. } => false,
            _ => incomplete && self.request.requested_pool().is_none(),
        }
    }

    fn requested_are_in_known_pools(&self) -> bool {
        let mut requested = self.request.requested.iter().flatten();
        requested.all(|address| self.pools.containing(*address).is_some())
    }

    fn assigned(&self, addresses: Vec<IpAddr>, new: bool, note: Option<Reason>) -> Outcome {
        Outcome::Assigned {
            pool: self.pools.names_of(&addresses).unwrap_or_default(),
            addresses,
            new,
            note,
        }
    }

    /// An address of a refused pool stays recorded for it.
    fn kept(&self, addresses: Vec<IpAddr>, reason: Reason) -> Outcome {
        let recorded = self.previous.and_then(|state| state.pool.as_deref());
        let recorded = recorded.unwrap_or_default();
        let of_refused = is_any_of_refused(self.pools, recorded, &addresses);
        let pools = (!of_refused).then(|| self.pools.names_of(&addresses));
        Outcome::Kept {
            pool: pools.flatten(),
            addresses,
            reason,
        }
    }
}

fn same_set(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|address| b.contains(address))
}
