//! Which addresses are in use, by whom, and who may join them.
//!
//! Everything is found by ordered look-up: neither the size of a pool nor the number of services
//! is ever walked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::pool::Pool;
use crate::reason::Clash;
use crate::request::{Family, Port, Request, ServiceKey};

/// The older a service, the smaller. Never equal for two services.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seniority {
    created: i64,
    uid: String,
    pub(crate) service: ServiceKey,
}

impl Seniority {
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            created: request.created,
            uid: request.uid.clone(),
            service: request.service.clone(),
        }
    }
}

/// What decides whether services can share an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Sharing key and backend key.
    keys: (String, String),
    ports: Vec<Port>,
}

impl Claim {
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            keys: (request.sharing_key.clone(), request.backend_key.clone()),
            ports: request.ports.clone(),
        }
    }

    fn shares(&self) -> bool {
        !self.keys.0.is_empty()
    }

    fn compare_keys(&self, other: &Self) -> Result<(), Clash> {
        if !self.shares() || self.keys.0 != other.keys.0 {
            return Err(Clash::SharingKey);
        }
        if self.keys.1 != other.keys.1 {
            return Err(Clash::Backend);
        }
        Ok(())
    }
}

/// Why a service can't be beside another, and which other.
pub(crate) type Dispute = (ServiceKey, Clash);

/// The services on one address. The rightful ones are found by going from the oldest to the
/// youngest and taking each that gets along with all taken before, so the order in which they
/// became known makes no difference.
#[derive(Debug, Clone, Default)]
struct Holders {
    members: BTreeMap<Seniority, Claim>,
    /// Those of the members that are not rightful.
    disputed: BTreeMap<Seniority, Dispute>,
    /// The ports of the rightful ones.
    ports: BTreeMap<Port, Seniority>,
}

impl Holders {
    /// Whether a claim gets along with the rightful holders, leaving `except` out.
    fn check(&self, claim: &Claim, except: Option<&Seniority>) -> Result<(), Dispute> {
        let mut rightful = self
            .members
            .iter()
            .filter(|(member, _)| Some(*member) != except && !self.disputed.contains_key(*member));
        // All rightful holders have the same keys, so any of them speaks for all.
        let Some((oldest, theirs)) = rightful.next() else {
            return Ok(());
        };
        claim
            .compare_keys(theirs)
            .map_err(|clash| (oldest.service.clone(), clash))?;
        for port in &claim.ports {
            if let Some(owner) = self.ports.get(port).filter(|owner| Some(*owner) != except) {
                return Err((owner.service.clone(), Clash::Port(port.clone())));
            }
        }
        Ok(())
    }

    fn insert(&mut self, who: Seniority, claim: Claim) {
        self.remove(&who);
        let youngest = self
            .members
            .keys()
            .next_back()
            .is_none_or(|last| *last < who);
        match self.check(&claim, None) {
            // Nobody who came after could have been refused because of it, or nobody was refused.
            Ok(()) if youngest || self.disputed.is_empty() => self.admit(&who, &claim),
            Err(dispute) if youngest => {
                self.disputed.insert(who.clone(), dispute);
            }
            _ => {
                self.members.insert(who, claim);
                return self.judge_all();
            }
        }
        self.members.insert(who, claim);
    }

    fn remove(&mut self, who: &Seniority) {
        let Some(claim) = self.members.remove(who) else {
            return;
        };
        // One that was refused has kept nobody out.
        if self.disputed.remove(who).is_some() {
            return;
        }
        if self.disputed.is_empty() {
            for port in &claim.ports {
                self.ports.remove(port);
            }
        } else {
            self.judge_all();
        }
    }

    fn admit(&mut self, who: &Seniority, claim: &Claim) {
        for port in &claim.ports {
            self.ports.insert(port.clone(), who.clone());
        }
    }

    fn judge_all(&mut self) {
        let members = std::mem::take(self).members;
        for (who, claim) in members {
            match self.check(&claim, None) {
                Ok(()) => self.admit(&who, &claim),
                Err(dispute) => {
                    self.disputed.insert(who.clone(), dispute);
                }
            }
            self.members.insert(who, claim);
        }
    }

    /// The keys one needs to join.
    fn keys(&self) -> Option<&(String, String)> {
        self.members
            .first_key_value()
            .filter(|(_, c)| c.shares())
            .map(|(_, claim)| &claim.keys)
    }
}

/// All addresses in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    holders: BTreeMap<IpAddr, Holders>,
    runs: Runs,
    /// By the keys one needs to join: the addresses in use.
    joinable: BTreeMap<(String, String), BTreeSet<IpAddr>>,
}

impl Ledger {
    pub(crate) fn insert(&mut self, address: IpAddr, who: Seniority, claim: Claim) {
        self.change(address, |holders| holders.insert(who, claim));
    }

    pub(crate) fn remove(&mut self, address: IpAddr, who: &Seniority) {
        self.change(address, |holders| holders.remove(who));
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Holders)) {
        let holders = self.holders.entry(address).or_default();
        let before = holders.keys().cloned();
        change(holders);
        let after = holders.keys();
        if before.as_ref() != after {
            if let Some(keys) = before
                && let Some(addresses) = self.joinable.get_mut(&keys)
            {
                addresses.remove(&address);
                if addresses.is_empty() {
                    self.joinable.remove(&keys);
                }
            }
            if let Some(keys) = after {
                self.joinable
                    .entry(keys.clone())
                    .or_default()
                    .insert(address);
            }
        }
        if holders.members.is_empty() {
            self.holders.remove(&address);
            self.runs.remove(address);
        } else {
            self.runs.insert(address);
        }
    }

    /// Whether a claim gets along with the rightful holders of an address, leaving `except` out.
    pub(crate) fn check(
        &self,
        address: IpAddr,
        claim: &Claim,
        except: Option<&Seniority>,
    ) -> Result<(), Dispute> {
        self.holders
            .get(&address)
            .map_or(Ok(()), |holders| holders.check(claim, except))
    }

    /// Why a holder has to give an address up, if it has to.
    pub(crate) fn dispute(&self, address: IpAddr, who: &Seniority) -> Option<&Dispute> {
        self.holders.get(&address)?.disputed.get(who)
    }

    /// The addresses in use from `first` to `last`.
    pub(crate) fn used(&self, first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
        self.holders
            .range(first..=last)
            .map(|(address, _)| *address)
    }

    /// The first address of the family, in the pool's order, that is free or can be shared.
    pub(crate) fn find(&self, pool: &Pool, family: Family, claim: &Claim) -> Option<IpAddr> {
        let joinable = self.joinable.get(&claim.keys).filter(|_| claim.shares());
        pool.spans(family).find_map(|span| {
            let free = self.first_free(pool, span.first, span.last);
            let shared = joinable.and_then(|addresses| {
                addresses
                    .range(span.first..=free.unwrap_or(span.last))
                    .find(|&&a| !pool.avoids(a) && self.check(a, claim, None).is_ok())
                    .copied()
            });
            shared.or(free)
        })
    }

    fn first_free(&self, pool: &Pool, first: IpAddr, last: IpAddr) -> Option<IpAddr> {
        let mut address = first;
        loop {
            address = self
                .runs
                .first_absent(address)
                .filter(|free| *free <= last)?;
            if !pool.avoids(address) {
                return Some(address);
            }
            address = next(address)?;
        }
    }
}

/// A set of addresses as runs without gaps (first to last), so that the end of a run is found
/// without walking it. IPv4 sorts before IPv6 and a run never crosses over.
#[derive(Debug, Clone, Default)]
struct Runs(BTreeMap<IpAddr, IpAddr>);

impl Runs {
    fn around(&self, address: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let (first, last) = self.0.range(..=address).next_back()?;
        (*last >= address).then_some((*first, *last))
    }

    fn insert(&mut self, address: IpAddr) {
        if self.around(address).is_some() {
            return;
        }
        let before = previous(address).and_then(|previous| self.around(previous));
        let after = next(address).and_then(|next| self.0.remove(&next));
        let first = before.map_or(address, |(first, _)| first);
        self.0.insert(first, after.unwrap_or(address));
    }

    fn remove(&mut self, address: IpAddr) {
        let Some((first, last)) = self.around(address) else {
            return;
        };
        self.0.remove(&first);
        if let Some(before) = previous(address).filter(|before| *before >= first) {
            self.0.insert(first, before);
        }
        if let Some(after) = next(address).filter(|after| *after <= last) {
            self.0.insert(after, last);
        }
    }

    /// The first address from here on that is not in the set; none at the end of the family.
    fn first_absent(&self, from: IpAddr) -> Option<IpAddr> {
        self.around(from).map_or(Some(from), |(_, last)| next(last))
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(1)
            .map(|b| Ipv4Addr::from_bits(b).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add(1)
            .map(|b| Ipv6Addr::from_bits(b).into()),
    }
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_sub(1)
            .map(|b| Ipv4Addr::from_bits(b).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_sub(1)
            .map(|b| Ipv6Addr::from_bits(b).into()),
    }
}
