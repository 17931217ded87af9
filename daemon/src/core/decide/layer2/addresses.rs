//! The addresses that are announced by layer 2: combines the decisions of all services, updated
//! with each change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_layer2::config::{AddressSpec, Candidate, ConflictDetection, Interfaces};

use super::{Candidates, EligibleNodes, ServiceDecision, decide, interfaces, weight};
use crate::core::api::ObjectName;
use crate::core::config::layer2_advertisement::Layer2Advertisement;
use crate::core::decide::recent::Recent;
use crate::core::decide::{Detail, Reason};
use crate::core::index::{Dirty, Index};
use crate::core::panic_context::PanicContext;

/// A change of an address. None: no node announces it any more.
pub(crate) type AddressChange = (IpAddr, Option<AddressSpec>);

/// The addresses, for one node, and the decisions that they result from.
#[derive(Clone, Debug)]
pub(crate) struct Layer2Addresses {
    node: Arc<str>,
    decisions: BTreeMap<Arc<ObjectName>, ServiceDecision>,
    /// The services that announce an address. Sorted, mostly one.
    users: BTreeMap<IpAddr, Vec<Arc<ObjectName>>>,
    addresses: BTreeMap<IpAddr, AddressSpec>,
    eligible: EligibleNodes,
    candidates: Recent<Arc<[Candidate]>>,
    interfaces: Recent<Arc<Interfaces>>,
}

impl Layer2Addresses {
    /// No addresses. `node` is this node.
    pub(crate) fn new(node: impl Into<Arc<str>>) -> Self {
        Self {
            node: node.into(),
            decisions: BTreeMap::new(),
            users: BTreeMap::new(),
            addresses: BTreeMap::new(),
            eligible: EligibleNodes::default(),
            candidates: Recent::default(),
            interfaces: Recent::default(),
        }
    }

    /// Decides again what depends on a change. Returns the changed addresses.
    pub(crate) fn update(&mut self, index: &Index, dirty: &Dirty) -> Vec<AddressChange> {
        // The candidates depend on all nodes.
        if dirty.configuration || !dirty.nodes.is_empty() {
            return self.update_all(index);
        }
        let mut affected = BTreeSet::new();
        for name in &dirty.services {
            self.decide_service(index, name, &mut affected);
        }
        self.merge_addresses(index, affected)
    }

    /// Decides all services again. Returns the changed addresses.
    pub(crate) fn update_all(&mut self, index: &Index) -> Vec<AddressChange> {
        self.eligible = EligibleNodes::default();
        let mut affected: BTreeSet<IpAddr> = self.addresses.keys().copied().collect();
        let gone = self.decisions.keys();
        let gone = gone.filter(|name| index.service(name).is_none());
        let gone: Vec<Arc<ObjectName>> = gone.cloned().collect();
        for name in gone {
            self.replace(&name, ServiceDecision::default(), &mut affected);
        }
        for service in index.services() {
            self.decide_service(index, &service.name, &mut affected);
        }
        self.merge_addresses(index, affected)
    }

    /// All addresses that some node may announce.
    pub(crate) fn addresses(&self) -> &BTreeMap<IpAddr, AddressSpec> {
        &self.addresses
    }

    /// The services that announce an address by layer 2, sorted by name.
    pub(crate) fn services_of(&self, address: IpAddr) -> &[Arc<ObjectName>] {
        self.users.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The L2Advertisements that select the services of an address, sorted by name.
    pub(crate) fn advertisements_of<'a>(
        &self,
        index: &'a Index,
        address: IpAddr,
    ) -> Vec<&'a Layer2Advertisement> {
        let users = self.services_of(address).iter();
        let candidates = users.filter_map(|name| self.decisions.get(name)?.of(address));
        let names: BTreeSet<&Arc<str>> = candidates
            .flat_map(|candidates| candidates.advertisements.iter())
            .collect();
        let ads = &index.config().layer2_advertisements;
        names.iter().filter_map(|name| ads.get(*name)).collect()
    }

    /// The decision about a service, if it isn't the default one.
    pub(crate) fn decision(&self, service: &ObjectName) -> Option<&ServiceDecision> {
        self.decisions.get(service)
    }

    /// Why layer 2 doesn't announce all addresses of a service. None if it does, or if only
    /// BGPAdvertisements select its pool.
    pub(crate) fn withheld(&self, service: &ObjectName) -> Option<(Reason, Detail)> {
        let decision = self.decision(service)?;
        decision.withheld.clone().or_else(|| {
            let mut addresses = decision.candidates.iter().map(|(address, _)| *address);
            let address = addresses.find(|address| !self.addresses.contains_key(address))?;
            Some((Reason::NoCommonNode, address.into()))
        })
    }

    fn decide_service(
        &mut self,
        index: &Index,
        name: &ObjectName,
        affected: &mut BTreeSet<IpAddr>,
    ) {
        if let Some(service) = index.service(name) {
            let panic_context = PanicContext::new("deciding where to announce", &service.name);
            let decision = decide(index, service, &mut self.eligible);
            drop(panic_context);
            self.replace(&service.name, decision, affected);
        } else if let Some((name, _)) = self.decisions.get_key_value(name) {
            self.replace(&name.clone(), ServiceDecision::default(), affected);
        }
    }

    fn replace(
        &mut self,
        name: &Arc<ObjectName>,
        mut new: ServiceDecision,
        affected: &mut BTreeSet<IpAddr>,
    ) {
        for (_, candidates) in &mut new.candidates {
            candidates.nodes = self.candidates.share(candidates.nodes.clone());
        }
        new.candidates.shrink_to_fit();
        let old = self.decisions.remove(name).unwrap_or_default();
        if old != new {
            for (address, _) in &old.candidates {
                self.remove_user(*address, name);
                affected.insert(*address);
            }
            for (address, _) in &new.candidates {
                self.add_user(*address, name);
                affected.insert(*address);
            }
        }
        if new != ServiceDecision::default() {
            self.decisions.insert(name.clone(), new);
        }
    }

    fn add_user(&mut self, address: IpAddr, name: &Arc<ObjectName>) {
        // Most addresses have one service: reserve room for no more.
        let users = self.users.entry(address);
        let users = users.or_insert_with(|| Vec::with_capacity(1));
        if let Err(place) = users.binary_search(name) {
            users.insert(place, name.clone());
        }
    }

    fn remove_user(&mut self, address: IpAddr, name: &Arc<ObjectName>) {
        let Some(users) = self.users.get_mut(&address) else {
            return;
        };
        users.retain(|user| user != name);
        if users.is_empty() {
            self.users.remove(&address);
        }
    }

    fn merge_addresses(&mut self, index: &Index, affected: BTreeSet<IpAddr>) -> Vec<AddressChange> {
        let mut changes = Vec::new();
        for address in affected {
            let new = self.merge(index, address);
            let old = match &new {
                Some(spec) => self.addresses.insert(address, spec.clone()),
                None => self.addresses.remove(&address),
            };
            if old != new {
                changes.push((address, new));
            }
        }
        changes
    }

    /// Combines the decisions of the services that have an address: a node needs to be a candidate
    /// for all of them. A service that no node can announce has no part in this.
    fn merge(&mut self, index: &Index, address: IpAddr) -> Option<AddressSpec> {
        let users = self.services_of(address).iter();
        let decisions: Vec<&ServiceDecision> =
            users.filter_map(|name| self.decisions.get(name)).collect();
        let ads = self.advertisements_of(index, address);
        let candidates = common_candidates(index, address, &decisions, &ads)?;
        let created = decisions.iter().map(|decision| decision.created).min()?;
        let node = index.nodes().get(&*self.node);
        let interfaces = Arc::new(interfaces(node, &ads));
        Some(AddressSpec {
            created,
            candidates: self.candidates.share(candidates),
            interfaces: self.interfaces.share(interfaces),
            conflict_detection: strictest(&ads),
            sticky: ads.iter().all(|ad| ad.sticky),
        })
    }
}

/// The nodes that are candidates for all services, with the weights of all their advertisements.
/// None if there is no such node.
fn common_candidates(
    index: &Index,
    address: IpAddr,
    decisions: &[&ServiceDecision],
    ads: &[&Layer2Advertisement],
) -> Option<Arc<[Candidate]>> {
    let of_address = decisions.iter().filter_map(|decision| decision.of(address));
    let of_address: Vec<&Candidates> = of_address.collect();
    let (first, others) = of_address.split_first()?;
    if others.iter().all(|other| other == first) {
        return Some(first.nodes.clone());
    }
    let is_common = |candidate: &&Candidate| {
        others.iter().all(|other| {
            let nodes = &other.nodes;
            let place = nodes.binary_search_by(|entry| entry.node.cmp(&candidate.node));
            place.is_ok()
        })
    };
    let common = first.nodes.iter().filter(is_common).map(|candidate| {
        let node = index.nodes().get(&*candidate.node);
        Candidate {
            node: candidate.node.clone(),
            weight: node.map_or(0, |node| weight(node, ads)),
        }
    });
    let common: Arc<[Candidate]> = common.collect();
    (!common.is_empty()).then_some(common)
}

/// The most careful detection that an advertisement requests.
fn strictest(ads: &[&Layer2Advertisement]) -> ConflictDetection {
    let rank = |detection: &ConflictDetection| match detection {
        ConflictDetection::Off => 0,
        ConflictDetection::Fast => 1,
        ConflictDetection::Rfc5227 => 2,
    };
    let detections = ads.iter().map(|ad| ad.conflict_detection);
    detections.max_by_key(rank).unwrap_or_default()
}

/// The caches are not part of the state.
impl PartialEq for Layer2Addresses {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
            && self.decisions == other.decisions
            && self.users == other.users
            && self.addresses == other.addresses
    }
}

impl Eq for Layer2Addresses {}
