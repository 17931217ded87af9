//! Who holds which address, and who gets one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::ControlFlow;

use crate::ledger::{Claim, Ledger, Seniority};
use crate::pick::{families_needed, pick};
use crate::pool::Pool;
use crate::pool_set::PoolSet;
use crate::reason::{Outcome, Reason};
use crate::request::{Family, FamilyPolicy, Request, ServiceKey};

/// How many addresses of a pool are in use and free, per family, at most `i64::MAX` (what the
/// status fields can hold). An address that services share counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// IPv4 addresses in use.
    pub assigned_ipv4: u64,
    /// IPv6 addresses in use.
    pub assigned_ipv6: u64,
    /// IPv4 addresses that nobody uses.
    pub available_ipv4: u64,
    /// IPv6 addresses that nobody uses.
    pub available_ipv6: u64,
}

#[derive(Debug, Clone)]
struct Holding {
    addresses: Vec<IpAddr>,
    from: Option<String>,
    seniority: Seniority,
    claim: Claim,
}

/// The pools and who holds what.
#[derive(Debug, Clone, Default)]
pub struct Allocator {
    pools: PoolSet,
    holdings: BTreeMap<ServiceKey, Holding>,
    ledger: Ledger,
}

/// Where the addresses come from that a service may keep.
#[derive(Debug)]
enum Home {
    /// It holds none, or none that it may keep.
    Nowhere,
    Pool(String),
    /// Not from a pool we know, which proves nothing.
    Unknown(Reason),
}

impl Home {
    fn pool(self) -> Option<String> {
        match self {
            Self::Pool(name) => Some(name),
            Self::Nowhere | Self::Unknown(_) => None,
        }
    }
}

/// What is left of a holding after a look at pools, families and other holders.
#[derive(Debug)]
struct Review {
    keep: Vec<IpAddr>,
    home: Home,
    /// Why something was lost.
    lost: Option<Reason>,
}

impl Allocator {
    /// An allocator where nobody holds anything yet.
    #[must_use]
    pub fn new(pools: PoolSet) -> Self {
        Self {
            pools,
            ..Self::default()
        }
    }

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> &PoolSet {
        &self.pools
    }

    /// Replaces the pools. Holdings stay; call [`Allocator::allocate`] for every service to see
    /// who has to move and who can now be served.
    pub fn set_pools(&mut self, pools: PoolSet) {
        self.pools = pools;
    }

    /// Takes over what the API server says a service holds ([`Request::holds`]), in place of what
    /// was known for it. Nothing is judged here: restore all holders first, then `allocate`.
    /// The order makes no difference to the result; oldest first is the quickest.
    pub fn restore(&mut self, request: &Request) {
        self.record(request, &request.holds, request.holds_from.as_deref());
    }

    /// Decides what a service has from now on, and remembers it. What it held before is what this
    /// allocator remembers, not [`Request::holds`].
    pub fn allocate(&mut self, request: &Request) -> Outcome {
        let before = self
            .holdings
            .get(&request.service)
            .and_then(|held| held.from.clone());
        let outcome = match families_needed(request) {
            Ok(wanted) => self.decide(request, &wanted),
            Err(reason) => Outcome::Refused { reason },
        };
        let from = match &outcome {
            // A pool that can't be seen now is still where the address is from.
            Outcome::Kept { pool: None, .. } => before,
            _ => outcome.pool().map(str::to_owned),
        };
        self.record(request, outcome.addresses(), from.as_deref());
        outcome
    }

    /// Decides for all services at once, in the order of the function [`allocate_all`]. Services
    /// that are not among them are released, and where [`Request::holds`] is not what was known
    /// the service is restored. Unlike that function it knows who changed since the last call: of
    /// services that share an address and no longer may, the one that changed has to go
    /// ([`Reason::SharingChanged`]); without that knowledge it is the younger.
    pub fn allocate_all(&mut self, requests: &[Request]) -> Vec<(ServiceKey, Outcome)> {
        let mut order: Vec<_> = requests
            .iter()
            .map(|request| {
                let asks = !matches!(&request.requested, Ok(requested) if requested.is_empty());
                (
                    request.holds.is_empty(),
                    !asks,
                    Seniority::of(request),
                    request,
                )
            })
            .collect();
        order.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        let present: BTreeSet<&ServiceKey> = requests.iter().map(|r| &r.service).collect();
        let gone = |key: &&ServiceKey| !present.contains(key);
        let gone: Vec<ServiceKey> = self.holdings.keys().filter(gone).cloned().collect();
        for key in &gone {
            self.release(key);
        }
        for (.., request) in &order {
            if self.held(&request.service) != request.holds {
                self.restore(request);
            }
        }
        let mut outcomes: Vec<_> = order
            .iter()
            .map(|(.., r)| (r.service.clone(), self.allocate(r)))
            .collect();
        // Somebody further down may have given up what somebody further up was waiting for. It
        // ends, because whoever gets what it wants is not asked again.
        loop {
            let mut changed = false;
            for ((.., request), (_, outcome)) in order.iter().zip(&mut outcomes) {
                if !waits(request, outcome) {
                    continue;
                }
                let again = self.allocate(request);
                if again.addresses() != outcome.addresses() {
                    *outcome = again;
                    changed = true;
                }
            }
            if !changed {
                return outcomes;
            }
        }
    }

    /// Forgets a service and gives back the addresses it held.
    pub fn release(&mut self, service: &ServiceKey) -> Vec<IpAddr> {
        let Some(holding) = self.holdings.remove(service) else {
            return Vec::new();
        };
        for address in &holding.addresses {
            self.ledger.remove(*address, &holding.seniority);
        }
        holding.addresses
    }

    /// What a service holds.
    #[must_use]
    pub fn held(&self, service: &ServiceKey) -> &[IpAddr] {
        self.holdings
            .get(service)
            .map_or(&[], |holding| &holding.addresses)
    }

    /// Counts of one pool; all zero if there is no such pool.
    #[must_use]
    pub fn usage(&self, pool: &str) -> Usage {
        let Some(pool) = self.pools.get(pool) else {
            return Usage::default();
        };
        let (assigned_ipv4, available_ipv4) = self.count(pool, Family::V4);
        let (assigned_ipv6, available_ipv6) = self.count(pool, Family::V6);
        Usage {
            assigned_ipv4,
            assigned_ipv6,
            available_ipv4,
            available_ipv6,
        }
    }

    fn count(&self, pool: &Pool, family: Family) -> (u64, u64) {
        let clamp = |n: u128| u64::try_from(n.min(i64::MAX.unsigned_abs().into())).unwrap_or(0);
        let (mut all, mut usable) = (0, 0);
        for span in pool.spans(family) {
            for address in self.ledger.used(span.first, span.last) {
                all += 1;
                usable += u128::from(!pool.avoids(address));
            }
        }
        (
            clamp(all),
            clamp(pool.capacity(family).saturating_sub(usable)),
        )
    }

    fn record(&mut self, request: &Request, addresses: &[IpAddr], from: Option<&str>) {
        let holding = Holding {
            addresses: addresses.to_vec(),
            from: from.map(str::to_owned),
            seniority: Seniority::of(request),
            claim: Claim::of(request),
        };
        if let Some(before) = self.holdings.get_mut(&request.service)
            && before.addresses == holding.addresses
            && before.seniority == holding.seniority
            && before.claim == holding.claim
        {
            before.from = holding.from;
            return;
        }
        self.release(&request.service);
        if addresses.is_empty() {
            return;
        }
        for address in addresses {
            self.ledger
                .insert(*address, holding.seniority.clone(), holding.claim.clone());
        }
        self.holdings.insert(request.service.clone(), holding);
    }

    fn decide(&mut self, request: &Request, wanted: &[Family]) -> Outcome {
        let Review { keep, home, lost } = self.review(request, wanted);
        let requested = match &request.requested {
            Ok(requested) => requested,
            Err(reason) if keep.is_empty() => {
                return Outcome::Refused {
                    reason: reason.clone(),
                };
            }
            Err(reason) => {
                return Outcome::Kept {
                    addresses: keep,
                    pool: home.pool(),
                    reason: reason.clone(),
                };
            }
        };
        let wish_met = requested.is_empty() || same_set(requested, &keep);
        let review = match home {
            Home::Unknown(reason) if wish_met && self.pool_wish_met(request, None) => {
                return Outcome::Kept {
                    addresses: keep,
                    pool: None,
                    reason,
                };
            }
            Home::Pool(pool) if wish_met && self.pool_wish_met(request, Some(&pool)) => {
                match self.complete(request, wanted, keep, pool, lost) {
                    ControlFlow::Break(outcome) => return outcome,
                    ControlFlow::Continue(review) => review,
                }
            }
            home => Review { keep, home, lost },
        };
        self.afresh(request, wanted, review)
    }

    /// Whether the pool asked for is the one the service is in. A service in a pool we don't know
    /// may well be in the one it asks for, as long as we don't know that one.
    fn pool_wish_met(&self, request: &Request, home: Option<&str>) -> bool {
        request.requested_pool().is_none_or(|asked| match home {
            Some(home) => asked == home,
            None => self.pools.get(asked).is_none(),
        })
    }

    /// Looks at what a service holds: which of it may it keep?
    fn review(&self, request: &Request, wanted: &[Family]) -> Review {
        let nothing = |lost| Review {
            keep: Vec::new(),
            home: Home::Nowhere,
            lost,
        };
        let Some(holding) = self.holdings.get(&request.service) else {
            return nothing(None);
        };
        let mut keep: Vec<IpAddr> = Vec::new();
        for &address in &holding.addresses {
            let family = Family::of(address);
            if wanted.contains(&family) && keep.iter().all(|k| Family::of(*k) != family) {
                keep.push(address);
            }
        }
        let mut lost = keep.is_empty().then(|| Reason::FamilyMismatch {
            addresses: holding.addresses.clone(),
            wanted: wanted.to_vec(),
        });
        let claim = Claim::of(request);
        keep.retain(|&address| {
            let verdict = self.dispute(holding, &claim, address);
            let kept = verdict.is_none();
            lost = lost.take().or(verdict);
            kept
        });
        // With the set complete, or the pool it came from known and in force, an address in no
        // pool was taken out of its pool on purpose.
        let from = holding
            .from
            .as_deref()
            .and_then(|from| self.pools.get(from));
        let on_purpose = self.pools.complete() || from.is_some_and(|pool| !pool.options().frozen);
        if !on_purpose
            && let Some(&address) = keep.iter().find(|a| self.pools.containing(**a).is_none())
        {
            return Review {
                keep,
                home: Home::Unknown(Reason::PoolUnknown { address }),
                lost,
            };
        }
        let Some(pool) = keep.iter().find_map(|a| self.pools.containing(*a)) else {
            let pool_lost = keep.first().map(|&address| Reason::AddressNotInPool {
                address,
                pool: None,
            });
            return nothing(lost.or(pool_lost));
        };
        keep.retain(|&address| {
            let verdict = may_stay(pool, request, address);
            let kept = verdict.is_none();
            lost = lost.take().or(verdict);
            kept
        });
        let home = if keep.is_empty() {
            Home::Nowhere
        } else {
            Home::Pool(pool.name().to_owned())
        };
        Review { keep, home, lost }
    }

    /// Why another holder of the address keeps this one from it.
    fn dispute(&self, holding: &Holding, claim: &Claim, address: IpAddr) -> Option<Reason> {
        if let Some((by, clash)) = self.ledger.dispute(address, &holding.seniority) {
            let (by, clash) = (by.clone(), clash.clone());
            return Some(Reason::AddressConflict { address, by, clash });
        }
        let (by, clash) = self
            .ledger
            .check(address, claim, Some(&holding.seniority))
            .err()?;
        Some(Reason::SharingChanged { address, by, clash })
    }

    /// Adds the family that is missing, from the same pool. `Continue` means that what there
    /// is won't do, and all has to be found anew.
    fn complete(
        &self,
        request: &Request,
        wanted: &[Family],
        keep: Vec<IpAddr>,
        name: String,
        lost: Option<Reason>,
    ) -> ControlFlow<Outcome, Review> {
        let missing = wanted
            .iter()
            .find(|f| keep.iter().all(|a| Family::of(*a) != **f));
        let (Some(&family), Some(pool)) = (missing, self.pools.get(&name)) else {
            return ControlFlow::Break(Outcome::Assigned {
                addresses: keep,
                pool: name,
                new: false,
                note: lost,
            });
        };
        if request
            .requested
            .as_ref()
            .is_ok_and(|requested| !requested.is_empty())
        {
            let (addresses, wanted) = (keep.clone(), wanted.to_vec());
            let reason = Reason::FamilyMismatch { addresses, wanted };
            return ControlFlow::Break(Outcome::Kept {
                addresses: keep,
                pool: Some(name),
                reason,
            });
        }
        let frozen = pool.options().frozen;
        let found = self
            .ledger
            .find(pool, family, &Claim::of(request))
            .filter(|_| !frozen);
        if let Some(address) = found {
            let mut addresses = keep;
            addresses.push(address);
            addresses.sort();
            return ControlFlow::Break(Outcome::Assigned {
                addresses,
                pool: name,
                new: true,
                note: lost,
            });
        }
        let reason = if frozen {
            Reason::PoolFrozen { pool: name.clone() }
        } else {
            Reason::SecondFamilyUnavailable {
                pool: name.clone(),
                family,
            }
        };
        if request.family_policy == FamilyPolicy::PreferDualStack {
            let note = Some(lost.unwrap_or(reason));
            ControlFlow::Break(Outcome::Assigned {
                addresses: keep,
                pool: name,
                new: false,
                note,
            })
        } else if frozen {
            ControlFlow::Break(Outcome::Kept {
                addresses: keep,
                pool: Some(name),
                reason,
            })
        } else {
            ControlFlow::Continue(Review {
                keep,
                home: Home::Pool(name),
                lost,
            })
        }
    }

    /// Gives up what the service holds and finds something else.
    fn afresh(&mut self, request: &Request, wanted: &[Family], review: Review) -> Outcome {
        let Review { keep, home, lost } = review;
        let before = self.release(&request.service);
        match pick(&self.pools, &self.ledger, request, wanted) {
            Ok(picked) => {
                let new = picked
                    .addresses
                    .iter()
                    .any(|address| !before.contains(address));
                let note = lost.or(picked.note);
                Outcome::Assigned {
                    addresses: picked.addresses,
                    pool: picked.pool,
                    new,
                    note,
                }
            }
            Err(reason) if !keep.is_empty() && self.proves_nothing(request, &reason) => {
                Outcome::Kept {
                    addresses: keep,
                    pool: home.pool(),
                    reason,
                }
            }
            Err(reason) => Outcome::Refused {
                reason: match (lost, reason) {
                    // In use, yes, but that it had the address says more.
                    (Some(lost @ Reason::AddressConflict { .. }), Reason::AddressInUse { .. }) => {
                        lost
                    }
                    (_, reason) => reason,
                },
            },
        }
    }

    /// Whether a pool that can't be seen, or not in its present form, could have granted the wish.
    fn proves_nothing(&self, request: &Request, reason: &Reason) -> bool {
        let unseen = !self.pools.complete();
        match reason {
            Reason::PoolFrozen { .. } => true,
            Reason::NoPools | Reason::UnknownPool { .. } => unseen,
            Reason::AddressInUse { .. }
            | Reason::BuggyAddress { .. }
            | Reason::AddressExcluded { .. }
            | Reason::PoolDoesNotAcceptService { .. }
            | Reason::FamilyMismatch { .. } => false,
            _ => unseen && request.requested_pool().is_none(),
        }
    }
}

/// Why an address can't stay with a service in this pool. A frozen pool's rules may be about to
/// change, so they move nobody.
fn may_stay(pool: &Pool, request: &Request, address: IpAddr) -> Option<Reason> {
    let name = || pool.name().to_owned();
    if !pool.contains(address) {
        Some(Reason::AddressNotInPool {
            address,
            pool: Some(name()),
        })
    } else if pool.options().frozen {
        None
    } else if !request.accepted_in(pool) {
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

/// Whether a service would have more, or something else, if others gave something up. The note
/// doesn't tell: what was lost goes before a family that can't be had.
fn waits(request: &Request, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Assigned { addresses, .. } => {
            families_needed(request).is_ok_and(|wanted| addresses.len() < wanted.len())
        }
        Outcome::Kept { .. } | Outcome::Refused { .. } => true,
    }
}

fn same_set(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|address| b.contains(address))
}

/// Decides for all services at once, from what they hold and want: those that hold addresses
/// first, among them those that ask for addresses by number first, then the oldest first. The
/// result is in that order.
#[must_use]
pub fn allocate_all(pools: PoolSet, requests: &[Request]) -> Vec<(ServiceKey, Outcome)> {
    Allocator::new(pools).allocate_all(requests)
}

/// The services that hold ([`Request::holds`]) an address which an older service holds too and
/// may not share it. For those who announce: they must not announce it for these services.
/// The reason is always [`Reason::AddressConflict`].
#[must_use]
pub fn conflicts<'a>(
    requests: impl IntoIterator<Item = &'a Request>,
) -> BTreeMap<ServiceKey, BTreeMap<IpAddr, Reason>> {
    let mut holders: Vec<_> = requests
        .into_iter()
        .map(|r| (Seniority::of(r), r))
        .collect();
    holders.sort_by(|a, b| a.0.cmp(&b.0));
    let mut ledger = Ledger::default();
    for (who, request) in &holders {
        for address in &request.holds {
            ledger.insert(*address, who.clone(), Claim::of(request));
        }
    }
    let mut found: BTreeMap<ServiceKey, BTreeMap<IpAddr, Reason>> = BTreeMap::new();
    for (who, request) in &holders {
        for &address in &request.holds {
            if let Some((by, clash)) = ledger.dispute(address, who) {
                let (by, clash) = (by.clone(), clash.clone());
                let reason = Reason::AddressConflict { address, by, clash };
                found
                    .entry(request.service.clone())
                    .or_default()
                    .insert(address, reason);
            }
        }
    }
    found
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
