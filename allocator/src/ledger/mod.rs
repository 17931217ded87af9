//! Which addresses are in use, by whom, and who may join them.
//!
//! Everything is found by ordered look-up: neither the size of a pool nor the number of services
//! is ever walked.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::exclusion::{next, previous};
use crate::pool::Pool;
use crate::reason::Clash;
use crate::request::{Family, Port, Request, ServiceKey};

/// A service in the order of age: the older, the smaller. Never equal for two services. What it
/// claims is compared by nobody here.
#[derive(Debug, Clone)]
pub(crate) struct Seniority(Arc<Request>);

impl Seniority {
    pub(crate) fn of(request: &Arc<Request>) -> Self {
        Self(Arc::clone(request))
    }

    pub(crate) fn request(&self) -> &Arc<Request> {
        &self.0
    }

    fn key(&self) -> (i64, &str, &ServiceKey) {
        (self.0.created, &self.0.uid, &self.0.service)
    }
}

impl PartialEq for Seniority {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Seniority {}

impl PartialOrd for Seniority {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seniority {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// What a service needs to join an address: the sharing key, and the backend key of all that are
/// on it; or none, where [`Request::any_backend`] is needed.
type Keys = (String, Option<String>);

/// Whether two services claim an address in the same way: with the same keys and ports.
pub(crate) fn same_claim(a: &Request, b: &Request) -> bool {
    a.sharing_key == b.sharing_key
        && a.backend_key == b.backend_key
        && a.any_backend == b.any_backend
        && a.ports == b.ports
}

/// With which keys a service can join an address.
fn keys(claim: &Request) -> impl Iterator<Item = Keys> {
    let sharing = &claim.sharing_key;
    let same = Some((sharing.clone(), Some(claim.backend_key.clone())));
    let any = claim.any_backend.then(|| (sharing.clone(), None));
    let shares = !sharing.is_empty();
    same.into_iter().chain(any).filter(move |_| shares)
}

fn same_sharing(one: &Request, other: &Request) -> bool {
    !one.sharing_key.is_empty() && one.sharing_key == other.sharing_key
}

fn same_backend(one: &Request, other: &Request) -> bool {
    one.backend_key == other.backend_key || (one.any_backend && other.any_backend)
}

/// How many services share an address, and how many of them only with the same backend key.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    all: usize,
    strict: usize,
}

impl Count {
    fn add(&mut self, request: &Request) {
        self.all += 1;
        self.strict += usize::from(!request.any_backend);
    }

    fn subtract(&mut self, request: &Request) {
        self.all = self.all.saturating_sub(1);
        let strict = usize::from(!request.any_backend);
        self.strict = self.strict.saturating_sub(strict);
    }
}

/// The rightful sharers of an address, counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Backends {
    total: Count,
    by_key: BTreeMap<String, Count>,
}

impl Backends {
    fn add(&mut self, request: &Request) {
        self.total.add(request);
        let count = self.by_key.entry(request.backend_key.clone());
        count.or_default().add(request);
    }

    fn remove(&mut self, request: &Request) {
        let Some(count) = self.by_key.get_mut(&request.backend_key) else {
            return;
        };
        count.subtract(request);
        self.total.subtract(request);
        if count.all == 0 {
            self.by_key.remove(&request.backend_key);
        }
    }

    /// Whether all of them, `except` left out, have the claim's backend or allow another one as it
    /// does.
    fn fit(&self, claim: &Request, except: Option<&Request>) -> bool {
        let same = self.by_key.get(&claim.backend_key);
        let same = same.copied().unwrap_or_default();
        let mut others = Count {
            all: self.total.all.saturating_sub(same.all),
            strict: self.total.strict.saturating_sub(same.strict),
        };
        if let Some(except) = except.filter(|except| except.backend_key != claim.backend_key) {
            others.subtract(except);
        }
        others.all == 0 || (claim.any_backend && others.strict == 0)
    }
}

/// Why a service can't be beside another, and which other.
pub(crate) type Dispute = (ServiceKey, Clash);

/// The ports of an address that rightful holders no longer use, and that they use now. When the
/// keys of the address change it is all ports before and all ports after.
#[derive(Debug, Default)]
struct PortChange {
    freed: Vec<Port>,
    taken: Vec<Port>,
}

/// The services on one address. The rightful ones are found by going from the oldest to the
/// youngest and taking each that gets along with all taken before, so the order in which they
/// became known makes no difference.
#[derive(Debug, Clone, Default)]
struct Holders {
    members: BTreeSet<Seniority>,
    /// Those of the members that are not rightful.
    disputed: BTreeMap<Seniority, Dispute>,
    /// The ports of the rightful ones that share: without a sharing key ports don't matter.
    ports: BTreeMap<Port, Seniority>,
    /// The backends of the rightful ones that share.
    backends: Backends,
}

impl Holders {
    /// Whether a claim gets along with the rightful holders, leaving `except` out.
    fn check(&self, claim: &Request, except: Option<&Seniority>) -> Result<(), Dispute> {
        let mut rightful = self
            .members
            .iter()
            .filter(|member| Some(*member) != except && !self.disputed.contains_key(*member));
        // All rightful holders have the same sharing key, so any of them speaks for all.
        let Some(oldest) = rightful.next().map(Seniority::request) else {
            return Ok(());
        };
        if !same_sharing(claim, oldest) {
            return Err((oldest.service.clone(), Clash::SharingKey));
        }
        let except_sharer = except.and_then(|except| self.rightful_sharer(except));
        if !self.backends.fit(claim, except_sharer) {
            let mut all = std::iter::once(oldest).chain(rightful.map(Seniority::request));
            let other = all.find(|other| !same_backend(claim, other));
            let other = other.unwrap_or(oldest);
            return Err((other.service.clone(), Clash::Backend));
        }
        for port in &claim.ports {
            if let Some(owner) = self.ports.get(port).filter(|owner| Some(*owner) != except) {
                return Err((owner.0.service.clone(), Clash::Port(*port)));
            }
        }
        Ok(())
    }

    /// What a rightful holder that shares claims.
    fn rightful_sharer(&self, who: &Seniority) -> Option<&Request> {
        let member = self.members.get(who)?;
        let is_rightful = !self.disputed.contains_key(who);
        let request: &Request = member.request();
        (is_rightful && !request.sharing_key.is_empty()).then_some(request)
    }

    /// Adds one that is not there yet.
    fn insert(&mut self, who: Seniority) -> PortChange {
        let youngest = self.members.last().is_none_or(|last| *last < who);
        let mut change = PortChange::default();
        match self.check(who.request(), None) {
            // With no member refused, this one changes no verdict.
            Ok(()) if youngest || self.disputed.is_empty() => {
                change.taken = self.admit(&who);
            }
            Err(dispute) if youngest => {
                self.disputed.insert(who.clone(), dispute);
            }
            _ => {
                self.members.insert(who);
                return self.judge_all();
            }
        }
        self.members.insert(who);
        change
    }

    fn remove(&mut self, who: &Seniority) -> PortChange {
        let member = self.members.take(who);
        let refused = self.disputed.remove(who).is_some();
        let mut change = PortChange::default();
        match member {
            // One that was refused has kept nobody out.
            Some(member) if !refused => {
                if !self.disputed.is_empty() {
                    return self.judge_all();
                }
                if !member.request().sharing_key.is_empty() {
                    self.backends.remove(member.request());
                }
                let ports = &member.request().ports;
                let freed = ports
                    .iter()
                    .filter(|port| self.ports.remove(port).is_some());
                change.freed = freed.cloned().collect();
            }
            _ => {}
        }
        change
    }

    /// Returns the ports that no member had before.
    fn admit(&mut self, who: &Seniority) -> Vec<Port> {
        let Request {
            sharing_key, ports, ..
        } = &**who.request();
        if sharing_key.is_empty() {
            return Vec::new();
        }
        self.backends.add(who.request());
        let mut taken = ports.clone();
        taken.retain(|port| self.ports.insert(*port, who.clone()).is_none());
        taken
    }

    fn judge_all(&mut self) -> PortChange {
        let before = std::mem::take(self);
        for who in before.members {
            match self.check(who.request(), None) {
                Ok(()) => {
                    self.admit(&who);
                }
                Err(dispute) => {
                    self.disputed.insert(who.clone(), dispute);
                }
            }
            self.members.insert(who);
        }
        PortChange {
            freed: before.ports.into_keys().collect(),
            taken: self.ports.keys().cloned().collect(),
        }
    }

    /// The keys each of which is enough to join: the backend key of all, and none where all allow
    /// other backends.
    fn keys(&self) -> BTreeSet<Keys> {
        let Some(oldest) = self.members.first().map(Seniority::request) else {
            return BTreeSet::new();
        };
        if oldest.sharing_key.is_empty() {
            return BTreeSet::new();
        }
        let sharing = || oldest.sharing_key.clone();
        let one = (self.backends.by_key.len() == 1)
            .then(|| (sharing(), Some(oldest.backend_key.clone())));
        let any = (self.backends.total.strict == 0).then(|| (sharing(), None));
        one.into_iter().chain(any).collect()
    }
}

/// The addresses that can be joined with the same keys. A search skips those on which a port is
/// in use by whole runs, so that many services with one key don't search through each other.
#[derive(Debug, Clone, Default)]
struct Shared {
    addresses: BTreeSet<IpAddr>,
    /// Where a port is in use, and on how many addresses that is.
    ports: BTreeMap<Port, (Runs, usize)>,
}

impl Shared {
    fn take(&mut self, address: IpAddr, port: Port) {
        let (runs, count) = self.ports.entry(port).or_default();
        runs.insert(address);
        *count += 1;
    }

    fn free(&mut self, address: IpAddr, port: &Port) {
        let Some((runs, count)) = self.ports.get_mut(port) else {
            return;
        };
        runs.remove(address);
        *count -= 1;
        if *count == 0 {
            self.ports.remove(port);
        }
    }

    /// The first address between the two on which none of the ports is in use.
    fn find(&self, pool: &Pool, first: IpAddr, last: IpAddr, ports: &[Port]) -> Option<IpAddr> {
        let used: Vec<_> = ports
            .iter()
            .filter_map(|port| self.ports.get(port))
            .collect();
        if used.iter().any(|(_, count)| *count == self.addresses.len()) {
            return None;
        }
        let mut from = first;
        while from <= last {
            let address = *self.addresses.range(from..=last).next()?;
            let ends = used.iter().filter_map(|(runs, _)| runs.around(address));
            let skip = ends.map(|(_, end)| end).max();
            if skip.is_none() && !pool.avoids(address) {
                return Some(address);
            }
            from = next(skip.unwrap_or(address))?;
        }
        None
    }
}

/// All addresses in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    holders: BTreeMap<IpAddr, Holders>,
    runs: Runs,
    /// By the keys one needs to join.
    shared: BTreeMap<Keys, Shared>,
}

impl Ledger {
    pub(crate) fn insert(&mut self, address: IpAddr, who: Seniority) {
        self.remove(address, &who);
        self.change(address, |holders| holders.insert(who));
    }

    pub(crate) fn remove(&mut self, address: IpAddr, who: &Seniority) {
        self.change(address, |holders| holders.remove(who));
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Holders) -> PortChange) {
        let holders = self.holders.entry(address).or_default();
        let before = holders.keys();
        let ports = change(holders);
        let after = holders.keys();
        let PortChange { freed, taken } = &ports;
        for keys in &before {
            let Some(shared) = self.shared.get_mut(keys) else {
                continue;
            };
            for port in freed {
                shared.free(address, port);
            }
            if !after.contains(keys) {
                let taken: BTreeSet<&Port> = taken.iter().collect();
                let ports = holders.ports.keys();
                for port in ports.filter(|port| !taken.contains(port)) {
                    shared.free(address, port);
                }
                shared.addresses.remove(&address);
            }
            if shared.addresses.is_empty() {
                self.shared.remove(keys);
            }
        }
        for keys in after {
            let is_new = !before.contains(&keys);
            let shared = self.shared.entry(keys).or_default();
            shared.addresses.insert(address);
            if is_new {
                for port in holders.ports.keys() {
                    shared.take(address, *port);
                }
            } else {
                for port in taken {
                    shared.take(address, *port);
                }
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
        claim: &Request,
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

    /// The holders of an address that have to give it up.
    pub(crate) fn disputed(&self, address: IpAddr) -> impl Iterator<Item = &Seniority> {
        let holders = self.holders.get(&address).into_iter();
        holders.flat_map(|holders| holders.disputed.keys())
    }

    /// The first address of the family, in the pool's order, that is free or can be shared.
    pub(crate) fn find(&self, pool: &Pool, family: Family, claim: &Request) -> Option<IpAddr> {
        let shared: Vec<&Shared> = keys(claim)
            .filter_map(|keys| self.shared.get(&keys))
            .collect();
        pool.spans(family).find_map(|span| {
            let free = self.first_free(pool, span.first, span.last);
            let last = free.unwrap_or(span.last);
            let joined = shared
                .iter()
                .filter_map(|s| s.find(pool, span.first, last, &claim.ports));
            joined.min().or(free)
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

#[cfg(test)]
mod tests;
