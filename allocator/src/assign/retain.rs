//! Decides which of its addresses a service may keep.

use std::net::IpAddr;
use std::sync::Arc;

use super::ServiceState;
use crate::claimant::Claimant;
use crate::family::Family;
use crate::ledger::Ledger;
use crate::pool::Pool;
use crate::pool_set::{PoolSet, pool_names};
use crate::reason::Reason;
use crate::request::AllocationRequest;

/// Where the addresses that a service may keep are from.
#[derive(Debug)]
pub(super) enum Origin {
    /// There are no such addresses.
    None,
    /// Each is in a known pool.
    Pools,
    /// One is in no known pool, while some pools are unknown. The reason is
    /// [`Reason::PoolUnknown`].
    Unknown(Reason),
}

/// The addresses that a service may keep with regard to pools, families and other services.
#[derive(Debug)]
pub(super) struct Retained {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) origin: Origin,
    /// Why the service loses an address.
    pub(super) lost: Option<Reason>,
}

impl Retained {
    fn nothing(lost: Option<Reason>) -> Self {
        Self {
            addresses: Vec::new(),
            origin: Origin::None,
            lost,
        }
    }

    /// Checks the addresses of `previous` for the service's new request.
    pub(super) fn check(
        pools: &PoolSet,
        ledger: &Ledger,
        previous: Option<&ServiceState>,
        request: &AllocationRequest,
        families: &[Family],
    ) -> Self {
        let Some(previous) = previous.filter(|state| !state.addresses.is_empty()) else {
            return Self::nothing(None);
        };
        let mut addresses = first_of_each_family(families, &previous.addresses);
        let mut lost = addresses.is_empty().then(|| Reason::FamilyMismatch {
            addresses: previous.addresses.clone(),
            wanted: families.to_vec(),
        });
        let mut retain = |addresses: &mut Vec<IpAddr>, check: &dyn Fn(IpAddr) -> Option<Reason>| {
            addresses.retain(|&address| {
                let reason = check(address);
                let kept = reason.is_none();
                lost = lost.take().or(reason);
                kept
            });
        };
        retain(&mut addresses, &|address| {
            conflict_with_others(ledger, &previous.request, request, address)
        });
        if let Some(reason) = unknown_pool(pools, previous, &addresses) {
            let origin = Origin::Unknown(reason);
            return Self {
                addresses,
                origin,
                lost,
            };
        }
        retain(&mut addresses, &|address| match pools.containing(address) {
            Some(pool) => conflict_with_pool(pool, request, address),
            None => Some(Reason::AddressRemoved { address }),
        });
        let origin = if addresses.is_empty() {
            Origin::None
        } else {
            Origin::Pools
        };
        Self {
            addresses,
            origin,
            lost,
        }
    }
}

/// The first address of each required family.
fn first_of_each_family(families: &[Family], addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut first: Vec<IpAddr> = Vec::new();
    for &address in addresses {
        let family = Family::of(address);
        if families.contains(&family) && first.iter().all(|k| Family::of(*k) != family) {
            first.push(address);
        }
    }
    first
}

/// Why other services with the address prevent this one from keeping it, if they do. `before` is
/// the request of this service that was decided last.
fn conflict_with_others(
    ledger: &Ledger,
    before: &Arc<AllocationRequest>,
    now: &AllocationRequest,
    address: IpAddr,
) -> Option<Reason> {
    let claimant = Claimant::of(before);
    if let Some((by, cause)) = ledger.conflict(address, &claimant).cloned() {
        return Some(Reason::AddressConflict { address, by, cause });
    }
    let (by, cause) = ledger.check(address, now, Some(&claimant)).err()?;
    Some(Reason::SharingChanged { address, by, cause })
}

/// [`Reason::PoolUnknown`] if one of the addresses may be from an unknown pool, or is from a
/// refused one. If the set is complete, or if the set has the recorded pools and they are not
/// frozen, then an operator removed the address from its pool.
fn unknown_pool(pools: &PoolSet, previous: &ServiceState, addresses: &[IpAddr]) -> Option<Reason> {
    let usable = |name| {
        let pool = pools.get(name).filter(|pool| !pool.options().frozen);
        pool.is_some() && !pools.is_refused(name)
    };
    let recorded = previous.pool.as_deref().unwrap_or_default();
    if pools.complete() || (!recorded.is_empty() && pool_names(recorded).all(usable)) {
        return None;
    }
    let is_unknown = |address: &&IpAddr| match pools.containing(**address) {
        Some(pool) => is_of_refused(pools, recorded, pool),
        None => true,
    };
    let address = *addresses.iter().find(is_unknown)?;
    Some(Reason::PoolUnknown { address })
}

/// Whether an address in `pool` is recorded for a refused pool instead.
fn is_of_refused(pools: &PoolSet, recorded: &str, pool: &Pool) -> bool {
    pool_names(recorded).any(|name| pools.is_refused(name))
        && pool_names(recorded).all(|name| name != pool.name())
}

/// Whether one of the addresses is in another pool than the refused one that is recorded for it.
pub(super) fn is_any_of_refused(pools: &PoolSet, recorded: &str, addresses: &[IpAddr]) -> bool {
    let mut within = addresses.iter().filter_map(|a| pools.containing(*a));
    within.any(|pool| is_of_refused(pools, recorded, pool))
}

/// Why a service can't keep an address with regard to its pool, if it can't. A frozen pool moves no
/// service, since its settings may be about to change.
fn conflict_with_pool(pool: &Pool, request: &AllocationRequest, address: IpAddr) -> Option<Reason> {
    let name = || pool.name().to_owned();
    if pool.options().frozen {
        None
    } else if !request.may_have(address, pool) {
        Some(Reason::PoolDoesNotAcceptService { pool: name() })
    } else if pool.avoids(address) {
        Some(Reason::BuggyAddress {
            address,
            pool: name(),
        })
    } else {
        None
    }
}
