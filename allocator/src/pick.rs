//! Finding addresses for a service that has none, or none that it may keep.

use std::net::IpAddr;

use crate::ledger::Ledger;
use crate::pool::Pool;
use crate::pool_set::PoolSet;
use crate::reason::Reason;
use crate::request::{Family, FamilyPolicy, Request};

/// Addresses found.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) pool: String,
    pub(crate) note: Option<Reason>,
}

/// The families a service needs, the primary one first. A service with cluster IPs of one family
/// gets an address of that family, whatever its policy prefers.
pub(crate) fn families_needed(request: &Request) -> Result<Vec<Family>, Reason> {
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

/// Finds addresses: those asked for, else any from the pool asked for, else any from the pinned
/// pools that accept the service, else any from the pools open to all.
pub(crate) fn pick(
    pools: &PoolSet,
    ledger: &Ledger,
    request: &Request,
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
        (Ok(addresses), _) if !addresses.is_empty() => search.exactly(addresses),
        (Ok(_), Some(pool)) => search.in_pool(pool),
        (Ok(_), None) => search.anywhere(),
    }
}

struct Search<'a> {
    pools: &'a PoolSet,
    ledger: &'a Ledger,
    request: &'a Request,
    wanted: &'a [Family],
}

impl Search<'_> {
    fn usable(&self, pool: &Pool) -> Result<(), Reason> {
        let name = || pool.name().to_owned();
        if pool.options().frozen {
            Err(Reason::PoolFrozen { pool: name() })
        } else if !self.request.accepted_in(pool) {
            Err(Reason::PoolDoesNotAcceptService { pool: name() })
        } else {
            Ok(())
        }
    }

    fn exactly(&self, addresses: &[IpAddr]) -> Result<Picked, Reason> {
        let fits = addresses.len() == self.wanted.len()
            && self
                .wanted
                .iter()
                .all(|f| addresses.iter().any(|a| Family::of(*a) == *f));
        if !fits {
            let (addresses, wanted) = (addresses.to_vec(), self.wanted.to_vec());
            return Err(Reason::FamilyMismatch { addresses, wanted });
        }
        let asked = self
            .request
            .requested_pool()
            .map(|name| self.known(name))
            .transpose()?;
        let mut home: Option<&Pool> = None;
        for &address in addresses {
            let Some(pool) = self
                .pools
                .containing(address)
                .filter(|pool| asked.is_none_or(|asked| asked.name() == pool.name()))
            else {
                // The address may be in what the frozen pool is meant to become.
                asked.map_or(Ok(()), |asked| self.usable(asked))?;
                let pool = asked.map(|asked| asked.name().to_owned());
                return Err(Reason::AddressNotInPool { address, pool });
            };
            if home.is_some_and(|home| home.name() != pool.name()) {
                return Err(Reason::AddressesInDifferentPools {
                    addresses: addresses.to_vec(),
                });
            }
            self.usable(pool)?;
            if pool.avoids(address) {
                return Err(Reason::BuggyAddress {
                    address,
                    pool: pool.name().to_owned(),
                });
            }
            if let Some(exclusion) = pool.excludes(address) {
                let owner = exclusion.clone();
                return Err(Reason::AddressExcluded { address, owner });
            }
            self.ledger
                .check(address, self.request, None)
                .map_err(|(by, clash)| Reason::AddressInUse { address, by, clash })?;
            home = Some(pool);
        }
        let pool = home.map(|pool| pool.name().to_owned()).unwrap_or_default();
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
        self.usable(pool)?;
        self.first_of(&[pool]).ok_or_else(|| self.shortage(&[pool]))
    }

    fn anywhere(&self) -> Result<Picked, Reason> {
        let open = |frozen| {
            self.pools.iter().filter(move |pool| {
                let options = pool.options();
                options.auto_assign && options.frozen == frozen && self.request.accepted_in(pool)
            })
        };
        let (mut pinned, general): (Vec<&Pool>, Vec<&Pool>) =
            open(false).partition(|pool| pool.options().pinned.is_some());
        // Stable, so that names decide between equal priorities.
        pinned.sort_by_key(|pool| {
            let priority = pool.options().pinned.unwrap_or(0);
            (priority == 0, priority)
        });
        if let Some(picked) = self.first_of(&pinned).or_else(|| self.first_of(&general)) {
            return Ok(picked);
        }
        let frozen: Vec<&Pool> = open(true).collect();
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

    /// The first pool that has all that is wanted; for PreferDualStack also one that has only one
    /// family, the primary before the other.
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
