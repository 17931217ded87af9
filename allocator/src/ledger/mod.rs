//! The ledger of addresses in use: which services have each address, and which may share it.
//!
//! All look-ups use ordered maps. No operation iterates over a whole pool or over all services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::claimant::{Claimant, JoinKey, join_keys, same_backend, same_sharing};
use crate::family::Family;
use crate::former::Former;
use crate::pool::Pool;
use crate::reason::SharingConflict;
use crate::request::AllocationRequest;
use crate::runs::Runs;
use crate::service::{Port, ServiceKey};
use crate::span::{Span, next};

/// The number of services that share an address, and of those among them that require the same
/// backend key.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    all: usize,
    strict: usize,
}

impl Count {
    fn add(&mut self, request: &AllocationRequest) {
        self.all += 1;
        self.strict += usize::from(!request.any_backend);
    }

    fn subtract(&mut self, request: &AllocationRequest) {
        self.all = self.all.saturating_sub(1);
        let strict = usize::from(!request.any_backend);
        self.strict = self.strict.saturating_sub(strict);
    }
}

/// The number of rightful sharers of an address, by backend key.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Backends {
    total: Count,
    by_key: BTreeMap<String, Count>,
}

impl Backends {
    fn add(&mut self, request: &AllocationRequest) {
        self.total.add(request);
        let count = self.by_key.entry(request.backend_key.clone());
        count.or_default().add(request);
    }

    fn remove(&mut self, request: &AllocationRequest) {
        let Some(count) = self.by_key.get_mut(&request.backend_key) else {
            return;
        };
        count.subtract(request);
        self.total.subtract(request);
        if count.all == 0 {
            self.by_key.remove(&request.backend_key);
        }
    }

    /// Whether all sharers but `except` have the backend key of `claim`, or both they and `claim`
    /// accept any backend.
    fn fit(&self, claim: &AllocationRequest, except: Option<&AllocationRequest>) -> bool {
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

/// The service with which a claimant can't share an address, and why.
pub(crate) type Conflict = (ServiceKey, SharingConflict);

/// The ports of an address that rightful holders stopped and started to use. If the join keys of
/// the address changed: all ports before and all ports after the change.
#[derive(Debug, Default)]
struct PortChange {
    freed: Vec<Port>,
    taken: Vec<Port>,
}

/// The services that have one address. A service is a rightful holder if it can share the address
/// with all older rightful holders. This does not depend on the order of insertion.
#[derive(Debug, Clone, Default)]
struct Holders {
    members: BTreeSet<Claimant>,
    /// The members that are not rightful.
    conflicting: BTreeMap<Claimant, Conflict>,
    /// The ports of the rightful members with a sharing key. Ports don't matter without one.
    ports: BTreeMap<Port, Claimant>,
    /// The backends of the rightful members with a sharing key.
    backends: Backends,
}

impl Holders {
    /// Whether a service can share the address with all rightful holders but `except`.
    fn check(&self, claim: &AllocationRequest, except: Option<&Claimant>) -> Result<(), Conflict> {
        let mut rightful = self
            .members
            .iter()
            .filter(|member| Some(*member) != except && !self.conflicting.contains_key(*member));
        // All rightful holders have the same sharing key, so one comparison is enough.
        let Some(oldest) = rightful.next().map(Claimant::request) else {
            return Ok(());
        };
        if !same_sharing(claim, oldest) {
            return Err((oldest.service.clone(), SharingConflict::SharingKey));
        }
        let except_sharer = except.and_then(|except| self.rightful_sharer(except));
        if !self.backends.fit(claim, except_sharer) {
            let mut all = std::iter::once(oldest).chain(rightful.map(Claimant::request));
            let other = all.find(|other| !same_backend(claim, other));
            let other = other.unwrap_or(oldest);
            return Err((other.service.clone(), SharingConflict::Backend));
        }
        for port in &claim.ports {
            if let Some(owner) = self.ports.get(port).filter(|owner| Some(*owner) != except) {
                return Err((
                    owner.request().service.clone(),
                    SharingConflict::Port(*port),
                ));
            }
        }
        Ok(())
    }

    /// The request of a rightful holder that has a sharing key.
    fn rightful_sharer(&self, claimant: &Claimant) -> Option<&AllocationRequest> {
        let member = self.members.get(claimant)?;
        let is_rightful = !self.conflicting.contains_key(claimant);
        let request: &AllocationRequest = member.request();
        (is_rightful && !request.sharing_key.is_empty()).then_some(request)
    }

    /// Adds a claimant that is not yet a member.
    fn insert(&mut self, claimant: Claimant) -> PortChange {
        let youngest = self.members.last().is_none_or(|last| *last < claimant);
        let mut change = PortChange::default();
        match self.check(claimant.request(), None) {
            // Without conflicting members, another rightful one changes no verdict.
            Ok(()) if youngest || self.conflicting.is_empty() => {
                change.taken = self.admit(&claimant);
            }
            Err(conflict) if youngest => {
                self.conflicting.insert(claimant.clone(), conflict);
            }
            _ => {
                self.members.insert(claimant);
                return self.recompute();
            }
        }
        self.members.insert(claimant);
        change
    }

    fn remove(&mut self, claimant: &Claimant) -> PortChange {
        let member = self.members.take(claimant);
        let refused = self.conflicting.remove(claimant).is_some();
        let mut change = PortChange::default();
        match member {
            // A conflicting member has no influence on the others.
            Some(member) if !refused => {
                if !self.conflicting.is_empty() {
                    return self.recompute();
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

    /// Records a rightful holder. Returns the ports that no other member uses.
    fn admit(&mut self, claimant: &Claimant) -> Vec<Port> {
        let AllocationRequest {
            sharing_key, ports, ..
        } = &**claimant.request();
        if sharing_key.is_empty() {
            return Vec::new();
        }
        self.backends.add(claimant.request());
        let mut taken = ports.clone();
        taken.retain(|port| self.ports.insert(*port, claimant.clone()).is_none());
        taken
    }

    fn recompute(&mut self) -> PortChange {
        let before = std::mem::take(self);
        for claimant in before.members {
            match self.check(claimant.request(), None) {
                Ok(()) => {
                    self.admit(&claimant);
                }
                Err(conflict) => {
                    self.conflicting.insert(claimant.clone(), conflict);
                }
            }
            self.members.insert(claimant);
        }
        PortChange {
            freed: before.ports.into_keys().collect(),
            taken: self.ports.keys().cloned().collect(),
        }
    }

    /// The keys of which a service needs one to join: the one with the backend key of all members,
    /// and the one without a backend key if all members accept any backend.
    fn join_keys(&self) -> BTreeSet<JoinKey> {
        let Some(oldest) = self.members.first().map(Claimant::request) else {
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

/// The addresses that can be joined with one key. A search skips whole runs of addresses on which
/// a port is in use, so that its cost does not grow with the number of services of the same key.
#[derive(Debug, Clone, Default)]
struct SharedAddresses {
    addresses: BTreeSet<IpAddr>,
    /// The addresses on which each port is in use, and their number.
    ports: BTreeMap<Port, (Runs, usize)>,
}

impl SharedAddresses {
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

    /// The first address from `first` to `last` on which none of the ports is in use.
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
            let ends = used.iter().filter_map(|(runs, _)| runs.containing(address));
            let skip = ends.map(|(_, end)| end).max();
            if skip.is_none() && !pool.avoids(address) {
                return Some(address);
            }
            from = next(skip.unwrap_or(address))?;
        }
        None
    }
}

/// All addresses in use, and those that services had before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    /// The addresses of services that are gone.
    pub(crate) former: Former,
    holders: BTreeMap<IpAddr, Holders>,
    runs: Runs,
    /// The shared addresses by the key that is needed to join them.
    shared: BTreeMap<JoinKey, SharedAddresses>,
}

impl Ledger {
    pub(crate) fn insert(&mut self, address: IpAddr, claimant: Claimant) {
        self.remove(address, &claimant);
        self.change(address, |holders| holders.insert(claimant));
    }

    pub(crate) fn remove(&mut self, address: IpAddr, claimant: &Claimant) {
        self.change(address, |holders| holders.remove(claimant));
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Holders) -> PortChange) {
        let holders = self.holders.entry(address).or_default();
        let before = holders.join_keys();
        let ports = change(holders);
        let after = holders.join_keys();
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

    /// Whether a service can share the address with all its rightful holders but `except`.
    pub(crate) fn check(
        &self,
        address: IpAddr,
        claim: &AllocationRequest,
        except: Option<&Claimant>,
    ) -> Result<(), Conflict> {
        self.holders
            .get(&address)
            .map_or(Ok(()), |holders| holders.check(claim, except))
    }

    /// Why a holder must release the address; `None` if it is rightful.
    pub(crate) fn conflict(&self, address: IpAddr, claimant: &Claimant) -> Option<&Conflict> {
        self.holders.get(&address)?.conflicting.get(claimant)
    }

    /// The holders that must release the address.
    pub(crate) fn conflicting(&self, address: IpAddr) -> impl Iterator<Item = &Claimant> {
        let holders = self.holders.get(&address).into_iter();
        holders.flat_map(|holders| holders.conflicting.keys())
    }

    /// The first address of the family, in the order of the pool, that is free or can be shared.
    /// The former address of another service only if there is no other one.
    pub(crate) fn find(
        &self,
        pool: &Pool,
        family: Family,
        claim: &AllocationRequest,
    ) -> Option<IpAddr> {
        let search = |spare| self.find_sparing(pool, pool.spans(family), claim, spare);
        search(Some(&self.former)).or_else(|| search(None))
    }

    /// The first address of these spans of the pool that is free or can be shared.
    pub(crate) fn find_in(
        &self,
        pool: &Pool,
        spans: impl Iterator<Item = Span>,
        claim: &AllocationRequest,
    ) -> Option<IpAddr> {
        self.find_sparing(pool, spans, claim, None)
    }

    fn find_sparing(
        &self,
        pool: &Pool,
        mut spans: impl Iterator<Item = Span>,
        claim: &AllocationRequest,
        spare: Option<&Former>,
    ) -> Option<IpAddr> {
        let shared: Vec<&SharedAddresses> = join_keys(claim)
            .filter_map(|keys| self.shared.get(&keys))
            .collect();
        spans.find_map(|span| {
            let free = self.first_free(pool, span, spare);
            let last = free.unwrap_or(span.last);
            let joined = shared
                .iter()
                .filter_map(|s| s.find(pool, span.first, last, &claim.ports));
            joined.min().or(free)
        })
    }

    fn first_free(&self, pool: &Pool, span: Span, spare: Option<&Former>) -> Option<IpAddr> {
        let mut address = span.first;
        loop {
            address = self
                .runs
                .first_absent(address)
                .filter(|free| *free <= span.last)?;
            let spared = spare.and_then(|former| former.end_of_run(address));
            if spared.is_none() && !pool.avoids(address) {
                return Some(address);
            }
            address = next(spared.unwrap_or(address))?;
        }
    }
}

#[cfg(test)]
mod tests;
