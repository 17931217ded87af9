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
    pub(crate) pool: String,
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

/// An address of a family from a pool: one that is reserved for the service, or any one if none of
/// the family is.
pub(crate) fn find_in_pool(
    pool: &Pool,
    ledger: &Ledger,
    request: &AllocationRequest,
    family: Family,
) -> Result<IpAddr, Reason> {
    let pool_name = || pool.name().to_owned();
    let service = &request.service;
    let mut reserved = pool.reserved_for(service);
    if let Some(address) = reserved.find_map(|kept| kept.first(family)) {
        let spans = pool.reserved_for(service);
        let spans = spans.flat_map(|kept| kept.spans(family));
        return ledger.find_in(pool, spans, request).ok_or_else(|| {
            let conflict = ledger.check(address, request, None).err();
            Reason::ReservationUnavailable {
                pool: pool_name(),
                family,
                address,
                by: conflict.map(|(by, _)| by),
            }
        });
    }
    // A reservation admits its service to no other address.
    let any = request
        .is_accepted_by(pool)
        .then(|| ledger.find(pool, family, request));
    any.flatten()
        .ok_or_else(|| Reason::SecondFamilyUnavailable {
            pool: pool_name(),
            family,
        })
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

struct Search<'a> {
    pools: &'a PoolSet,
    ledger: &'a Ledger,
    request: &'a AllocationRequest,
    wanted: &'a [Family],
}

impl Search<'_> {
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
        let mut common: Option<&Pool> = None;
        for &address in addresses {
            let Some(pool) = self.pools.containing(address).filter(|pool| {
                requested_pool.is_none_or(|requested| requested.name() == pool.name())
            }) else {
                // A frozen pool may contain the address in its new, invalid definition.
                requested_pool.map_or(Ok(()), |pool| self.check_usable(pool, None))?;
                let pool = requested_pool.map(|pool| pool.name().to_owned());
                return Err(Reason::AddressNotInPool { address, pool });
            };
            if common.is_some_and(|common| common.name() != pool.name()) {
                return Err(Reason::AddressesInDifferentPools {
                    addresses: addresses.to_vec(),
                });
            }
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
            common = Some(pool);
        }
        let pool = common
            .map(|pool| pool.name().to_owned())
            .unwrap_or_default();
        Ok(Picked {
            addresses: addresses.to_vec(),
            pool,
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
        if let Some(reserved) = self.reserved(std::iter::once(pool)) {
            return reserved;
        }
        self.check_usable(pool, None)?;
        self.first_of(&[pool]).ok_or_else(|| self.shortage(&[pool]))
    }

    /// The addresses of the first pool that reserves some of a required family for the service.
    fn reserved<'p>(
        &self,
        mut pools: impl Iterator<Item = &'p Pool>,
    ) -> Option<Result<Picked, Reason>> {
        let pool = pools.find(|pool| {
            let mut reserved = pool.reserved_for(&self.request.service);
            reserved.any(|kept| self.wanted.iter().any(|f| kept.first(*f).is_some()))
        })?;
        Some(self.reserved_in(pool))
    }

    /// The addresses that a pool reserves for the service, with any address of the pool for a
    /// family of which it reserves none. PreferDualStack falls back to one address.
    fn reserved_in(&self, pool: &Pool) -> Result<Picked, Reason> {
        if pool.options().frozen {
            let pool = pool.name().to_owned();
            return Err(Reason::PoolFrozen { pool });
        }
        let (mut addresses, mut note) = (Vec::new(), None);
        for family in self.wanted {
            match find_in_pool(pool, self.ledger, self.request, *family) {
                Ok(address) => addresses.push(address),
                Err(reason) => note = note.or(Some(reason)),
            }
        }
        addresses.sort();
        let may_lack = self.request.family_policy == FamilyPolicy::PreferDualStack;
        match note {
            Some(reason) if addresses.is_empty() || !may_lack => Err(match reason {
                Reason::SecondFamilyUnavailable { .. } => self.shortage(&[pool]),
                reason => reason,
            }),
            note => Ok(Picked {
                addresses,
                pool: pool.name().to_owned(),
                note,
            }),
        }
    }

    fn in_any_pool(&self) -> Result<Picked, Reason> {
        if let Some(reserved) = self.reserved(self.pools.iter()) {
            return reserved;
        }
        let eligible = |frozen| {
            self.pools.iter().filter(move |pool| {
                let options = pool.options();
                options.auto_assign && options.frozen == frozen && self.request.is_accepted_by(pool)
            })
        };
        let (mut pinned, general): (Vec<&Pool>, Vec<&Pool>) =
            eligible(false).partition(|pool| pool.options().pinned.is_some());
        // The sort is stable: pools of equal priority remain ordered by name.
        pinned.sort_by_key(|pool| {
            let priority = pool.options().pinned.unwrap_or(0);
            (priority == 0, priority)
        });
        if let Some(picked) = self.first_of(&pinned).or_else(|| self.first_of(&general)) {
            return Ok(picked);
        }
        let frozen: Vec<&Pool> = eligible(true).collect();
        if let Some(picked) = self.first_of(&frozen) {
            return Err(Reason::PoolFrozen { pool: picked.pool });
        }
        pinned.extend(general);
        Err(if pinned.is_empty() {
            Reason::NoEligiblePool
        } else {
            self.shortage(&pinned)
        })
    }

    /// Addresses of all required families from the first pool that has them free. PreferDualStack
    /// falls back to one address, of the primary family if possible.
    fn first_of(&self, pools: &[&Pool]) -> Option<Picked> {
        let find = |pool: &Pool, families: &[Family]| {
            let mut addresses: Vec<IpAddr> = families
                .iter()
                .map(|family| self.ledger.find(pool, *family, self.request))
                .collect::<Option<_>>()?;
            addresses.sort();
            Some(Picked {
                addresses,
                pool: pool.name().to_owned(),
                note: None,
            })
        };
        let all = pools.iter().find_map(|pool| find(pool, self.wanted));
        let &[primary, secondary] = self.wanted else {
            return all;
        };
        if all.is_some() || self.request.family_policy != FamilyPolicy::PreferDualStack {
            return all;
        }
        [(primary, secondary), (secondary, primary)]
            .into_iter()
            .find_map(|(family, other)| {
                let mut picked = pools.iter().find_map(|pool| find(pool, &[family]))?;
                let pool = picked.pool.clone();
                picked.note = Some(Reason::SecondFamilyUnavailable {
                    pool,
                    family: other,
                });
                Some(picked)
            })
    }

    /// Why none of the eligible pools has the addresses.
    fn shortage(&self, pools: &[&Pool]) -> Reason {
        let names = pools.iter().map(|pool| pool.name().to_owned()).collect();
        let wanted = self.wanted.to_vec();
        let fits = |pool: &&Pool| self.wanted.iter().all(|family| pool.capacity(*family) > 0);
        if pools.iter().any(fits) {
            Reason::PoolExhausted {
                pools: names,
                wanted,
            }
        } else {
            Reason::NoPoolWithFamily {
                pools: names,
                wanted,
            }
        }
    }
}
