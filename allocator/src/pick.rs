//! The search for addresses: by request, in the requested pool, or in any eligible pool.

use std::net::IpAddr;

use crate::family::Family;
use crate::ledger::Ledger;
use crate::pool::Pool;
use crate::pool_set::PoolSet;
use crate::reason::Reason;
use crate::request::{AllocationRequest, FamilyPolicy};

/// The result of a search.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) note: Option<Reason>,
}

/// The families of which a service gets an address, the primary one first. PreferDualStack makes
/// no difference for a service with cluster IPs of one family.
pub(crate) fn required_families(request: &AllocationRequest) -> Result<Vec<Family>, Reason> {
    match request.cluster_families.as_slice() {
        [] => Err(Reason::NoClusterIp),
        [_] if request.family_policy == FamilyPolicy::RequireDualStack => {
            Err(Reason::NotEnoughClusterIPs)
        }
        [one] => Ok(vec![*one]),
        [a, b] if a != b => Ok(vec![*a, *b]),
        _ => Err(Reason::ClusterIpFamilies),
    }
}

/// Finds the requested addresses, or those that are reserved for the service, or any addresses of
/// the requested pool, or any addresses of the pinned pools that accept the service, or any
/// addresses of the other pools, in this order. Where a pool is requested, only its reservations
/// count.
pub(crate) fn pick(
    pools: &PoolSet,
    ledger: &Ledger,
    request: &AllocationRequest,
    wanted: &[Family],
) -> Result<Picked, Reason> {
    if pools.is_empty() {
        return Err(Reason::NoPools);
    }
    let search = Search {
        pools,
        ledger,
        request,
        wanted,
    };
    match (&request.requested, request.requested_pool()) {
        (Err(reason), _) => Err(reason.clone()),
        (Ok(addresses), _) if !addresses.is_empty() => search.requested(addresses),
        (Ok(_), Some(pool)) => search.in_pool(pool),
        (Ok(_), None) => search.in_any_pool(),
    }
}

/// The inputs of a search.
pub(crate) struct Search<'a> {
    pub(crate) pools: &'a PoolSet,
    pub(crate) ledger: &'a Ledger,
    pub(crate) request: &'a AllocationRequest,
    /// The families of which the service gets an address.
    pub(crate) wanted: &'a [Family],
}

impl<'a> Search<'a> {
    /// Whether the service may have an address of the pool, or this one.
    fn check_usable(&self, pool: &Pool, address: Option<IpAddr>) -> Result<(), Reason> {
        let name = || pool.name().to_owned();
        let accepted = match address {
            Some(address) => self.request.may_have(address, pool),
            None => self.request.is_accepted_by(pool),
        };
        if pool.options().frozen {
            Err(Reason::PoolFrozen { pool: name() })
        } else if !accepted {
            Err(Reason::PoolDoesNotAcceptService { pool: name() })
        } else {
            Ok(())
        }
    }

    fn requested(&self, addresses: &[IpAddr]) -> Result<Picked, Reason> {
        let fits = addresses.len() == self.wanted.len()
            && self
                .wanted
                .iter()
                .all(|f| addresses.iter().any(|a| Family::of(*a) == *f));
        if !fits {
            let (addresses, wanted) = (addresses.to_vec(), self.wanted.to_vec());
            return Err(Reason::FamilyMismatch { addresses, wanted });
        }
        let requested_pool = self
            .request
            .requested_pool()
            .map(|name| self.known(name))
            .transpose()?;
        for &address in addresses {
            let Some(pool) = self.pools.containing(address).filter(|pool| {
                requested_pool.is_none_or(|requested| requested.name() == pool.name())
            }) else {
                // A frozen pool may contain the address in its new, invalid definition.
                requested_pool.map_or(Ok(()), |pool| self.check_usable(pool, None))?;
                let pool = requested_pool.map(|pool| pool.name().to_owned());
                return Err(Reason::AddressNotInPool { address, pool });
            };
            self.check_usable(pool, Some(address))?;
            if pool.avoids(address) {
                return Err(Reason::BuggyAddress {
                    address,
                    pool: pool.name().to_owned(),
                });
            }
            if let Some(exclusion) = pool.exclusion_of(address) {
                let owner = exclusion.clone();
                return Err(Reason::AddressExcluded { address, owner });
            }
            if let Some(kept) = pool.reserved_for_another(address, &self.request.service) {
                return Err(Reason::AddressReserved {
                    address,
                    pool: pool.name().to_owned(),
                    service: kept.service().clone(),
                });
            }
            self.ledger
                .check(address, self.request, None)
                .map_err(|(by, cause)| Reason::AddressInUse { address, by, cause })?;
        }
        Ok(Picked {
            addresses: addresses.to_vec(),
            note: None,
        })
    }

    fn known(&self, name: &str) -> Result<&Pool, Reason> {
        self.pools.get(name).ok_or_else(|| Reason::UnknownPool {
            pool: name.to_owned(),
        })
    }

    fn in_pool(&self, name: &str) -> Result<Picked, Reason> {
        let pool = self.known(name)?;
        if let Some(picked) = self.with_reserved() {
            return picked;
        }
        self.check_usable(pool, None)?;
        self.in_one_pool(&[pool])
            .or_else(|| self.in_several_pools(&[pool]))
            .ok_or_else(|| self.shortage(&[pool]))
    }

    /// The addresses that are reserved for the service, with any address for a family of which none
    /// is. PreferDualStack is satisfied with one address. `None` if no address is reserved.
    fn with_reserved(&self) -> Option<Result<Picked, Reason>> {
        let reserved = self.wanted.iter().map(|family| self.reserved(*family));
        let reserved: Vec<_> = reserved.collect();
        let first = reserved.iter().flatten().next()?;
        let own = first.as_ref().ok();
        let own = own.and_then(|address| self.pools.containing(*address));
        let (mut addresses, mut note) = (Vec::new(), None);
        for (family, reserved) in self.wanted.iter().zip(&reserved) {
            match reserved {
                Some(Ok(address)) => addresses.push(*address),
                Some(Err(reason @ Reason::PoolFrozen { .. })) => return Some(Err(reason.clone())),
                Some(Err(reason)) => note = note.or(Some(reason.clone())),
                None => match self.beside(own, *family) {
                    Ok(address) => addresses.push(address),
                    Err(pools) => note = note.or_else(|| Some(self.lacks(*family, &pools))),
                },
            }
        }
        addresses.sort();
        Some(match note {
            Some(reason) if addresses.is_empty() || !self.prefers_dual_stack() => Err(reason),
            note => Ok(Picked { addresses, note }),
        })
    }

    /// An address of a family that is reserved for the service, in the requested pool or in the
    /// first pool that reserves one. `None` if none does.
    fn reserved(&self, family: Family) -> Option<Result<IpAddr, Reason>> {
        let service = &self.request.service;
        let requested = self.request.requested_pool();
        let mut pools = self.pools.iter();
        let (pool, address) = pools.find_map(|pool| {
            let mut reserved = pool.reserved_for(service);
            let address = reserved.find_map(|kept| kept.first(family))?;
            requested
                .is_none_or(|name| name == pool.name())
                .then_some((pool, address))
        })?;
        let name = || pool.name().to_owned();
        if pool.options().frozen {
            return Some(Err(Reason::PoolFrozen { pool: name() }));
        }
        let spans = pool.reserved_for(service);
        let spans = spans.flat_map(|kept| kept.spans(family));
        let found = self.ledger.find_in(pool, spans, self.request);
        Some(found.ok_or_else(|| {
            let conflict = self.ledger.check(address, self.request, None).err();
            Reason::ReservationUnavailable {
                pool: name(),
                family,
                address,
                by: conflict.map(|(by, _)| by),
            }
        }))
    }

    /// An address of the family that a service lacks beside one from the pool `own`: one that is
    /// reserved for it, or one from the same pool if possible.
    pub(crate) fn second(&self, own: Option<&'a Pool>, family: Family) -> Result<IpAddr, Reason> {
        if let Some(pool) = own.filter(|pool| pool.options().frozen) {
            let pool = pool.name().to_owned();
            return Err(Reason::PoolFrozen { pool });
        }
        self.reserved(family).unwrap_or_else(|| {
            let found = self.beside(own, family);
            found.map_err(|pools| Reason::SecondFamilyUnavailable {
                pools: names(&pools),
                family,
            })
        })
    }

    /// An address of a family that is not reserved for the service: from the pool `own`, else from
    /// another one unless the service requests a pool. The error contains the pools without one.
    fn beside(&self, own: Option<&'a Pool>, family: Family) -> Result<IpAddr, Vec<&'a Pool>> {
        // A reservation admits its service to no other address.
        let own = own.filter(|pool| self.request.is_accepted_by(pool));
        let others = match self.request.requested_pool() {
            Some(_) => Vec::new(),
            None => self.eligible(),
        };
        let is_other = |pool: &&Pool| own.is_none_or(|own| own.name() != pool.name());
        let others = others.into_iter().filter(is_other);
        let pools: Vec<&Pool> = own.into_iter().chain(others).collect();
        let find = |pool: &&Pool| self.ledger.find(pool, family, self.request);
        pools.iter().find_map(find).ok_or(pools)
    }

    /// Whether the service, which had the address, may get it again without requesting it.
    pub(crate) fn may_restore(&self, address: IpAddr) -> bool {
        let (service, requested) = (&self.request.service, self.request.requested_pool());
        let Some(pool) = self.pools.containing(address) else {
            return false;
        };
        let serves = match requested {
            Some(name) => name == pool.name(),
            None => pool.options().auto_assign || pool.is_reserved_for(address, service),
        };
        let family = Family::of(address);
        let other_is_reserved =
            || !pool.is_reserved_for(address, service) && self.reserved(family).is_some();
        self.wanted.contains(&family)
            && serves
            && self.check_usable(pool, Some(address)).is_ok()
            && !pool.avoids(address)
            && pool.exclusion_of(address).is_none()
            && pool.reserved_for_another(address, service).is_none()
            && !other_is_reserved()
            && self.ledger.check(address, self.request, None).is_ok()
    }

    fn in_any_pool(&self) -> Result<Picked, Reason> {
        if let Some(picked) = self.with_reserved() {
            return picked;
        }
        let usable = self.eligible();
        let general = usable.partition_point(|pool| pool.options().pinned.is_some());
        let (pinned, general) = usable.split_at(general);
        // As in MetalLB, PreferDualStack prefers one family of a pinned pool to both of another.
        let some_pinned = self.prefers_dual_stack() && self.in_several_pools(pinned).is_some();
        let picked = self
            .in_one_pool(pinned)
            .or_else(|| {
                some_pinned
                    .then(|| self.in_several_pools(&usable))
                    .flatten()
            })
            .or_else(|| self.in_one_pool(general))
            .or_else(|| self.in_several_pools(&usable));
        if let Some(picked) = picked {
            return Ok(picked);
        }
        if let Some(pool) = self.needed_frozen_pool(&usable) {
            return Err(Reason::PoolFrozen { pool });
        }
        Err(if usable.is_empty() {
            Reason::NoEligiblePool
        } else {
            self.shortage(&usable)
        })
    }

    /// The pools from which the service gets addresses without requesting them: the pinned ones
    /// that accept it by priority, then the others by name.
    fn eligible(&self) -> Vec<&'a Pool> {
        let eligible = self.pools.iter().filter(|pool| {
            let options = pool.options();
            options.auto_assign && !options.frozen && self.request.is_accepted_by(pool)
        });
        let mut eligible: Vec<&Pool> = eligible.collect();
        // The sort is stable: pools of equal priority remain ordered by name.
        eligible.sort_by_key(|pool| match pool.options().pinned {
            Some(priority) => (false, priority == 0, priority),
            None => (true, false, 0),
        });
        eligible
    }

    /// A frozen pool without which the service gets no addresses.
    fn needed_frozen_pool(&self, usable: &[&Pool]) -> Option<String> {
        let frozen = self.pools.iter().filter(|pool| {
            let options = pool.options();
            options.auto_assign && options.frozen && self.request.is_accepted_by(pool)
        });
        let frozen: Vec<&Pool> = frozen.collect();
        let all: Vec<&Pool> = usable.iter().chain(&frozen).copied().collect();
        let picked = self
            .in_one_pool(&frozen)
            .or_else(|| self.in_several_pools(&all))?;
        let mut pools = picked.addresses.iter();
        let pool = pools.find_map(|address| {
            let pool = self.pools.containing(*address);
            pool.filter(|pool| pool.options().frozen)
        })?;
        Some(pool.name().to_owned())
    }

    /// Addresses of all required families from the first pool that has them free.
    fn in_one_pool(&self, pools: &[&Pool]) -> Option<Picked> {
        pools.iter().find_map(|pool| {
            let addresses = self.wanted.iter();
            let addresses = addresses.map(|family| self.ledger.find(pool, *family, self.request));
            let mut addresses: Vec<IpAddr> = addresses.collect::<Option<_>>()?;
            addresses.sort();
            Some(Picked {
                addresses,
                note: None,
            })
        })
    }

    /// An address of each required family from the first pool that has one free. PreferDualStack
    /// is satisfied with one address.
    fn in_several_pools(&self, pools: &[&Pool]) -> Option<Picked> {
        let mut addresses = Vec::new();
        let mut missing = None;
        for &family in self.wanted {
            let find = |pool: &&Pool| self.ledger.find(pool, family, self.request);
            match pools.iter().find_map(find) {
                Some(address) => addresses.push(address),
                None => missing = Some(family),
            }
        }
        if addresses.is_empty() || (missing.is_some() && !self.prefers_dual_stack()) {
            return None;
        }
        addresses.sort();
        let note = missing.map(|family| Reason::SecondFamilyUnavailable {
            pools: names(pools),
            family,
        });
        Some(Picked { addresses, note })
    }

    fn prefers_dual_stack(&self) -> bool {
        self.request.family_policy == FamilyPolicy::PreferDualStack
    }

    /// Why the service doesn't get an address of a family beside a reserved one.
    fn lacks(&self, family: Family, pools: &[&Pool]) -> Reason {
        if self.prefers_dual_stack() {
            let pools = names(pools);
            return Reason::SecondFamilyUnavailable { pools, family };
        }
        shortage(pools, &[family])
    }

    /// Why the eligible pools don't have the addresses.
    fn shortage(&self, pools: &[&Pool]) -> Reason {
        shortage(pools, self.wanted)
    }
}

fn shortage(pools: &[&Pool], wanted: &[Family]) -> Reason {
    let has = |family: &Family| pools.iter().any(|pool| pool.capacity(*family) > 0);
    let (wanted, lacking): (Vec<Family>, Vec<Family>) = wanted.iter().copied().partition(has);
    let pools = names(pools);
    if lacking.is_empty() {
        Reason::PoolExhausted { pools, wanted }
    } else {
        let wanted = lacking;
        Reason::NoPoolWithFamily { pools, wanted }
    }
}

fn names(pools: &[&Pool]) -> Vec<String> {
    pools.iter().map(|pool| pool.name().to_owned()).collect()
}
