//! Which addresses are in use, by whom, and who may join them.
//!
//! Everything is found by ordered look-up: neither the size of a pool nor the number of services
//! is ever walked.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::excluded::{next, previous};
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

/// Sharing key and backend key.
type Keys = (String, String);

/// Whether two services claim an address in the same way: with the same keys and ports.
pub(crate) fn same_claim(a: &Request, b: &Request) -> bool {
    a.sharing_key == b.sharing_key && a.backend_key == b.backend_key && a.ports == b.ports
}

fn keys(request: &Request) -> Option<Keys> {
    let keys = || (request.sharing_key.clone(), request.backend_key.clone());
    (!request.sharing_key.is_empty()).then(keys)
}

fn compare_keys(one: &Request, other: &Request) -> Result<(), Clash> {
    if one.sharing_key.is_empty() || one.sharing_key != other.sharing_key {
        return Err(Clash::SharingKey);
    }
    if one.backend_key != other.backend_key {
        return Err(Clash::Backend);
    }
    Ok(())
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
}

impl Holders {
    /// Whether a claim gets along with the rightful holders, leaving `except` out.
    fn check(&self, claim: &Request, except: Option<&Seniority>) -> Result<(), Dispute> {
        let mut rightful = self
            .members
            .iter()
            .filter(|member| Some(*member) != except && !self.disputed.contains_key(*member));
        // All rightful holders have the same keys, so any of them speaks for all.
        let Some(oldest) = rightful.next().map(Seniority::request) else {
            return Ok(());
        };
        compare_keys(claim, oldest).map_err(|clash| (oldest.service.clone(), clash))?;
        for port in &claim.ports {
            if let Some(owner) = self.ports.get(port).filter(|owner| Some(*owner) != except) {
                return Err((owner.0.service.clone(), Clash::Port(port.clone())));
            }
        }
        Ok(())
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
        let mut taken = ports.clone();
        taken.retain(|port| self.ports.insert(port.clone(), who.clone()).is_none());
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

    /// The keys one needs to join.
    fn keys(&self) -> Option<Keys> {
        self.members.first().and_then(|oldest| keys(&oldest.0))
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
        let moved = before != after;
        if let Some(keys) = before
            && let Some(shared) = self.shared.get_mut(&keys)
        {
            if moved {
                shared.addresses.remove(&address);
            }
            for port in &ports.freed {
                shared.free(address, port);
            }
            if shared.addresses.is_empty() {
                self.shared.remove(&keys);
            }
        }
        if let Some(keys) = after {
            let shared = self.shared.entry(keys).or_default();
            shared.addresses.insert(address);
            for port in ports.taken {
                shared.take(address, port);
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
        let shared = keys(claim).and_then(|keys| self.shared.get(&keys));
        pool.spans(family).find_map(|span| {
            let free = self.first_free(pool, span.first, span.last);
            let last = free.unwrap_or(span.last);
            let joined = shared.and_then(|s| s.find(pool, span.first, last, &claim.ports));
            joined.or(free)
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
