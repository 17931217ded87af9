//! Who holds which address, and who gets one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::ledger::{Ledger, Seniority, same_claim};
use crate::pick::{families_needed, pick};
use crate::pool::Pool;
use crate::pool_set::PoolSet;
use crate::reason::{Outcome, Reason};
use crate::request::{Family, FamilyPolicy, Request, ServiceKey};
use crate::round::Round;

/// What is known of one service.
#[derive(Debug, Clone)]
struct Known {
    /// As it was when it was last decided.
    request: Arc<Request>,
    addresses: Vec<IpAddr>,
    /// The pool they are from.
    from: Option<String>,
    /// Why it lost what it had, for as long as it has nothing else.
    lost: Option<Box<Reason>>,
}

/// The pools and who holds what.
#[derive(Debug, Clone, Default)]
pub struct Allocator {
    pools: PoolSet,
    known: BTreeMap<ServiceKey, Known>,
    /// Those that would have more, or something else, if others gave something up.
    waiting: BTreeSet<ServiceKey>,
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

impl Review {
    fn nothing(lost: Option<Reason>) -> Self {
        Self {
            keep: Vec::new(),
            home: Home::Nowhere,
            lost,
        }
    }
}

impl Allocator {
    /// An allocator where no service holds anything yet.
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

    /// Replaces the pools. Holdings stay; call [`Allocator::allocate_all`] to see who has to move
    /// and who can now be served.
    pub fn set_pools(&mut self, pools: PoolSet) {
        self.pools = pools;
    }

    /// Decides for all services, in the order of the function [`allocate_all`]. Services that are
    /// not among them are released. Unlike that function it knows who changed since the last call:
    /// of services that share an address and no longer may, the one that changed has to go
    /// ([`Reason::SharingChanged`]); without that knowledge it is the younger.
    pub fn allocate_all(&mut self, requests: Vec<Arc<Request>>) -> Vec<(ServiceKey, Outcome)> {
        let present: BTreeSet<&ServiceKey> = requests.iter().map(|r| &r.service).collect();
        let gone = self.known.keys().filter(|key| !present.contains(key));
        let gone: Vec<ServiceKey> = gone.cloned().collect();
        self.update(requests, &gone)
    }

    /// Decides for the services that changed, and for those that this touches: services that wait
    /// for what is given up, and services that hold an address to which one that changed has a
    /// better right. Services that are `gone` are released. Where [`Request::holds`] is not what
    /// was known, the API server's word counts. The addresses of all services are afterwards the
    /// same as after [`Allocator::allocate_all`] with all services. The outcomes are those of the
    /// services that were decided: who is not among them has what it had.
    pub fn update(
        &mut self,
        changed: Vec<Arc<Request>>,
        gone: &[ServiceKey],
    ) -> Vec<(ServiceKey, Outcome)> {
        let mut freed = Vec::new();
        for key in gone {
            freed.extend(self.release(key));
        }
        for request in &changed {
            let held = self.held(&request.service);
            if held != request.holds {
                freed.extend(held);
                freed.extend(&request.holds);
                self.restore(request);
            }
        }
        let mut round = Round::default();
        for request in &changed {
            round.add(self, request);
        }
        if !freed.is_empty() {
            self.ask_again(&mut round, &freed);
        }
        while let Some(request) = round.next() {
            let mut touched = self.held(&request.service).to_vec();
            let (outcome, frees) = self.allocate(&request);
            touched.extend(outcome.addresses());
            round.decided(&request.service, outcome);
            if frees {
                self.ask_again(&mut round, &touched);
            }
        }
        round.into_outcomes()
    }

    /// Something was given up, or is held with another claim: asks those again that may gain or
    /// lose by that.
    fn ask_again(&self, round: &mut Round, addresses: &[IpAddr]) {
        for key in round.waiting_again(&self.waiting) {
            if let Some(known) = self.known.get(&key) {
                round.add(self, &known.request);
            }
        }
        for address in addresses {
            for loser in self.ledger.disputed(*address) {
                round.add(self, loser.request());
            }
        }
    }

    /// Takes over what the API server says a service holds ([`Request::holds`]), in place of what
    /// was known for it. Nothing is judged here.
    fn restore(&mut self, request: &Arc<Request>) {
        let from = request.holds_from.clone();
        self.record(request, &request.holds, from, None);
    }

    /// Decides what a service has from now on, and remembers it. What it held before is what this
    /// allocator remembers, not [`Request::holds`]. Also returns whether it gave something up or
    /// has another claim on what it keeps, which may change what others can have.
    fn allocate(&mut self, request: &Arc<Request>) -> (Outcome, bool) {
        let outcome = match families_needed(request) {
            Ok(wanted) => self.decide(request, &wanted),
            Err(reason) => Outcome::Refused { reason, lost: None },
        };
        let from = match &outcome {
            // A pool that can't be seen now is still where the address is from.
            Outcome::Kept { pool: None, .. } => self
                .known
                .get(&request.service)
                .and_then(|known| known.from.clone()),
            _ => outcome.pool().map(str::to_owned),
        };
        let lost = outcome.loss().cloned().map(Box::new);
        let frees = self.record(request, outcome.addresses(), from, lost);
        if waits(request, &outcome) {
            self.waiting.insert(request.service.clone());
        } else {
            self.waiting.remove(&request.service);
        }
        (outcome, frees)
    }

    /// Forgets a service and gives back the addresses it held.
    fn release(&mut self, service: &ServiceKey) -> Vec<IpAddr> {
        self.waiting.remove(service);
        self.take_out(service)
            .map(|known| known.addresses)
            .unwrap_or_default()
    }

    /// What a service holds.
    #[must_use]
    pub fn held(&self, service: &ServiceKey) -> &[IpAddr] {
        self.known
            .get(service)
            .map_or(&[], |known| &known.addresses)
    }

    fn take_out(&mut self, service: &ServiceKey) -> Option<Known> {
        let known = self.known.remove(service)?;
        let who = Seniority::of(&known.request);
        for address in &known.addresses {
            self.ledger.remove(*address, &who);
        }
        Some(known)
    }

    /// Returns whether an address was given up, or is held with another claim than before.
    fn record(
        &mut self,
        request: &Arc<Request>,
        addresses: &[IpAddr],
        from: Option<String>,
        lost: Option<Box<Reason>>,
    ) -> bool {
        let before = self.take_out(&request.service);
        for address in addresses {
            self.ledger.insert(*address, Seniority::of(request));
        }
        let known = Known {
            request: Arc::clone(request),
            addresses: addresses.to_vec(),
            from,
            lost,
        };
        self.known.insert(request.service.clone(), known);
        before.is_some_and(|before| {
            let claims_otherwise = Seniority::of(&before.request) != Seniority::of(request)
                || !same_claim(&before.request, request);
            let gone = |address| !addresses.contains(address);
            before.addresses.iter().any(gone) || (claims_otherwise && !before.addresses.is_empty())
        })
    }

    fn decide(&mut self, request: &Request, wanted: &[Family]) -> Outcome {
        let Review { keep, home, lost } = self.review(request, wanted);
        let requested = match &request.requested {
            Ok(requested) => requested,
            Err(reason) if keep.is_empty() => {
                return self.refused(request, lost, reason.clone());
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
        let known = self.known.get(&request.service);
        let Some(known) = known.filter(|known| !known.addresses.is_empty()) else {
            return Review::nothing(None);
        };
        let mut keep = one_of_each(wanted, &known.addresses);
        let mut lost = keep.is_empty().then(|| Reason::FamilyMismatch {
            addresses: known.addresses.clone(),
            wanted: wanted.to_vec(),
        });
        keep.retain(|&address| {
            let verdict = self.dispute(&known.request, request, address);
            let kept = verdict.is_none();
            lost = lost.take().or(verdict);
            kept
        });
        if let Some(reason) = self.pool_is_unknown(known, &keep) {
            let home = Home::Unknown(reason);
            return Review { keep, home, lost };
        }
        let Some(pool) = keep.iter().find_map(|a| self.pools.containing(*a)) else {
            let pool_lost = keep.first().map(|&address| Reason::HeldAddressNotInPool {
                address,
                pool: None,
            });
            return Review::nothing(lost.or(pool_lost));
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

    /// Why an address that is kept may be from a pool that we can't see, if it may. With the set
    /// complete, or the pool it came from known and in force, an address in no pool was taken out
    /// of its pool on purpose.
    fn pool_is_unknown(&self, known: &Known, keep: &[IpAddr]) -> Option<Reason> {
        let from = known.from.as_deref().and_then(|from| self.pools.get(from));
        if self.pools.complete() || from.is_some_and(|pool| !pool.options().frozen) {
            return None;
        }
        let in_none = |address: &&IpAddr| self.pools.containing(**address).is_none();
        let address = *keep.iter().find(in_none)?;
        Some(Reason::PoolUnknown { address })
    }

    /// Why another holder of the address keeps this one from it. `before` is what this service
    /// claimed when it was last decided.
    fn dispute(&self, before: &Arc<Request>, now: &Request, address: IpAddr) -> Option<Reason> {
        let who = Seniority::of(before);
        if let Some((by, clash)) = self.ledger.dispute(address, &who) {
            let (by, clash) = (by.clone(), clash.clone());
            return Some(Reason::AddressConflict { address, by, clash });
        }
        let (by, clash) = self.ledger.check(address, now, Some(&who)).err()?;
        Some(Reason::SharingChanged { address, by, clash })
    }

    /// Adds the family that is missing, from the same pool. `Continue` means that what there
    /// is won't do, and all has to be found from the start.
    fn complete(
        &self,
        request: &Request,
        wanted: &[Family],
        keep: Vec<IpAddr>,
        name: String,
        lost: Option<Reason>,
    ) -> ControlFlow<Outcome, Review> {
        let assigned = |addresses, pool, new, note| {
            ControlFlow::Break(Outcome::Assigned {
                addresses,
                pool,
                new,
                note,
            })
        };
        let kept = |addresses, pool, reason| {
            ControlFlow::Break(Outcome::Kept {
                addresses,
                pool: Some(pool),
                reason,
            })
        };
        let missing = wanted
            .iter()
            .find(|f| keep.iter().all(|a| Family::of(*a) != **f));
        let (Some(&family), Some(pool)) = (missing, self.pools.get(&name)) else {
            return assigned(keep, name, false, lost);
        };
        if request.asks_by_number() {
            let (addresses, wanted) = (keep.clone(), wanted.to_vec());
            return kept(keep, name, Reason::FamilyMismatch { addresses, wanted });
        }
        match self.second(request, family, pool) {
            Ok(address) => {
                let mut addresses = keep;
                addresses.push(address);
                addresses.sort();
                assigned(addresses, name, true, lost)
            }
            Err(reason) if request.family_policy == FamilyPolicy::PreferDualStack => {
                assigned(keep, name, false, Some(lost.unwrap_or(reason)))
            }
            Err(reason @ Reason::PoolFrozen { .. }) => kept(keep, name, reason),
            Err(_) => ControlFlow::Continue(Review {
                keep,
                home: Home::Pool(name),
                lost,
            }),
        }
    }

    /// An address of the second family from the pool of the first.
    fn second(&self, request: &Request, family: Family, pool: &Pool) -> Result<IpAddr, Reason> {
        let name = || pool.name().to_owned();
        if pool.options().frozen {
            return Err(Reason::PoolFrozen { pool: name() });
        }
        self.ledger
            .find(pool, family, request)
            .ok_or_else(|| Reason::SecondFamilyUnavailable {
                pool: name(),
                family,
            })
    }

    /// Gives up what the service holds and finds something else.
    fn afresh(&mut self, request: &Request, wanted: &[Family], review: Review) -> Outcome {
        let Review { keep, home, lost } = review;
        let before = self.withdraw(request);
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
            Err(reason) => self.refused(request, lost, reason),
        }
    }

    /// Takes what a service holds out of the ledger, so that its own addresses count as free in a
    /// search. The outcome is recorded after it.
    fn withdraw(&mut self, request: &Request) -> Vec<IpAddr> {
        let Some(known) = self.known.get(&request.service) else {
            return Vec::new();
        };
        let who = Seniority::of(&known.request);
        for address in &known.addresses {
            self.ledger.remove(*address, &who);
        }
        known.addresses.clone()
    }

    /// The service gets nothing for `reason`. `lost` says why it lost something just now, else
    /// what it lost before counts.
    fn refused(&self, request: &Request, lost: Option<Reason>, reason: Reason) -> Outcome {
        let before = || self.known.get(&request.service)?.lost.as_deref().cloned();
        match (lost.or_else(before), reason) {
            // It asks by number for what it lost: that it had the address says more.
            (
                Some(Reason::AddressConflict { address, by, clash }),
                Reason::AddressInUse {
                    address: asked,
                    by: user,
                    ..
                },
            ) if (address, &by) == (asked, &user) => Outcome::Refused {
                reason: Reason::AddressConflict { address, by, clash },
                lost: None,
            },
            (lost, reason) => Outcome::Refused {
                lost: lost.filter(|lost| *lost != reason).map(Box::new),
                reason,
            },
        }
    }

    /// Whether one pool in the set has all addresses that are asked for.
    fn wish_is_in_one_pool(&self, request: &Request) -> bool {
        let requested = request.requested.iter().flatten();
        let mut pools = requested.map(|address| self.pools.containing(*address).map(Pool::name));
        let first = pools.next().flatten();
        first.is_some() && pools.all(|pool| pool == first)
    }

    /// Whether a pool that can't be seen, or not in its present form, could have granted the wish.
    fn proves_nothing(&self, request: &Request, reason: &Reason) -> bool {
        let unseen = !self.pools.complete();
        match reason {
            Reason::PoolFrozen { .. } => true,
            Reason::NoPools | Reason::UnknownPool { .. } => unseen,
            // Without the one that uses the address, another reason would have been found: that the
            // addresses are not in one pool. So the order of decisions must not decide here.
            Reason::AddressInUse { .. } => unseen && !self.wish_is_in_one_pool(request),
            Reason::BuggyAddress { .. }
            | Reason::AddressExcluded { .. }
            | Reason::PoolDoesNotAcceptService { .. }
            | Reason::FamilyMismatch { .. } => false,
            _ => unseen && request.requested_pool().is_none(),
        }
    }
}

/// The first address of each family that is wanted.
fn one_of_each(wanted: &[Family], addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut kept: Vec<IpAddr> = Vec::new();
    for &address in addresses {
        let family = Family::of(address);
        if wanted.contains(&family) && kept.iter().all(|k| Family::of(*k) != family) {
            kept.push(address);
        }
    }
    kept
}

/// Why an address can't stay with a service in this pool. A frozen pool's rules may be about to
/// change, so they move nobody.
fn may_stay(pool: &Pool, request: &Request, address: IpAddr) -> Option<Reason> {
    let name = || pool.name().to_owned();
    if !pool.contains(address) {
        Some(Reason::HeldAddressNotInPool {
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
    let requests = requests.iter().cloned().map(Arc::new).collect();
    Allocator::new(pools).allocate_all(requests)
}

/// The services that hold ([`Request::holds`]) an address which an older service holds too and
/// may not share it. For those who announce: they must not announce it for these services.
/// The reason is always [`Reason::AddressConflict`].
#[must_use]
pub fn conflicts<'a>(
    requests: impl IntoIterator<Item = &'a Arc<Request>>,
) -> BTreeMap<ServiceKey, BTreeMap<IpAddr, Reason>> {
    let mut holders: Vec<_> = requests
        .into_iter()
        .map(|r| (Seniority::of(r), r))
        .collect();
    holders.sort_by(|a, b| a.0.cmp(&b.0));
    let mut ledger = Ledger::default();
    for (who, request) in &holders {
        for address in &request.holds {
            ledger.insert(*address, who.clone());
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
mod tests;
