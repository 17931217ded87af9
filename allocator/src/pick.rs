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

/// Finds the requested addresses, or any addresses of the requested pool, or any addresses of the
/// pinned pools that accept the service, or any addresses of the other pools, in this order.
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
    fn check_usable(&self, pool: &Pool) -> Result<(), Reason> {
        let name = || pool.name().to_owned();
        if pool.options().frozen {
            Err(Reason::PoolFrozen { pool: name() })
        } else if !self.request.is_accepted_by(pool) {
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
                requested_pool.map_or(Ok(()), |pool| self.check_usable(pool))?;
                let pool = requested_pool.map(|pool| pool.name().to_owned());
                return Err(Reason::AddressNotInPool { address, pool });
            };
            if common.is_some_and(|common| common.name() != pool.name()) {
                return Err(Reason::AddressesInDifferentPools {
                    addresses: addresses.to_vec(),
                });
            }
            self.check_usable(pool)?;
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
        self.check_usable(pool)?;
        self.first_of(&[pool]).ok_or_else(|| self.shortage(&[pool]))
    }

    fn in_any_pool(&self) -> Result<Picked, Reason> {
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
