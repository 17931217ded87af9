//! The index: facts by key, made from what a source delivers.
//!
//! It answers every change with what that change touches, so that only this is decided anew. An object that can't be
//! read keeps its last good facts: that is never a delete.

pub(crate) mod change;
mod excluded;
mod problems;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::core::api::core::ServiceCidrSpec;
use crate::core::api::{FieldError, Kind, ObjectKey, ObjectName, RawObject};
use crate::core::config::excluded::{ForeignServices, ServiceCidrs};
use crate::core::config::local_pref_conflicts::LocalPrefConflicts;
use crate::core::config::node_conflicts::{self, ConflictingPeer};
use crate::core::config::{CompileContext, Config, ConfigObjects, Problem, Severity};
use crate::core::index::change::{Change, StatusWrite};
use crate::core::model::{Labels, Node, Service, Slice, networks};
use crate::core::panic_context::PanicContext;

/// Facts by key, and the configuration made of the configuration objects.
#[derive(Debug, Default)]
pub struct Index {
    /// In boxes: a map's leaf has room for eleven values, of which ascending inserts leave half empty.
    services: BTreeMap<Arc<ObjectName>, Box<Service>>,
    slices: BTreeMap<Arc<ObjectName>, Slice>,
    slices_of: BTreeMap<Arc<ObjectName>, Names>,
    nodes: BTreeMap<String, Node>,
    namespaces: BTreeMap<String, Labels>,
    services_by_address: HashMap<IpAddr, Names>,
    objects: ConfigObjects,
    config: Arc<Config>,
    node_conflicts: BTreeMap<String, BTreeMap<String, ConflictingPeer>>,
    local_pref_conflicts: LocalPrefConflicts,
    service_cidrs: ServiceCidrs,
    foreign_services: ForeignServices,
    ignore_exclusion: bool,
    /// Services that have an address which belongs to something else, and what there is to say.
    excluded_addresses: BTreeMap<ObjectName, String>,
    /// Something changed that the configuration is compiled from, beside its objects.
    config_is_stale: bool,
    missing_interfaces: BTreeMap<String, BTreeSet<String>>,
    problems: BTreeMap<ObjectKey, String>,
    problems_changed: bool,
    /// Services with [`Service::invalid_drain`] or [`Service::misspelt_annotation`]: few, where services are many.
    services_with_annotation_problems: BTreeSet<ObjectName>,
    synced: BTreeSet<Kind>,
    listed: BTreeSet<Kind>,
}

/// Names of a few objects, mostly of one, sorted.
type Names = Vec<Arc<ObjectName>>;

fn add_name(names: &mut Names, name: &Arc<ObjectName>) {
    if let Err(place) = names.binary_search(name) {
        names.reserve_exact(1);
        names.insert(place, name.clone());
    }
}

fn owned(name: &Arc<ObjectName>) -> ObjectName {
    ObjectName::clone(name)
}

fn remove_name(names: &mut Names, name: &ObjectName) {
    names.retain(|other| **other != *name);
}

/// What a change touches.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// These services.
    pub services: BTreeSet<ObjectName>,
    /// Services whose own object changed: what allocation depends on, besides the pools.
    pub requests: BTreeSet<ObjectName>,
    /// These nodes: whoever decides for one of them decides everything anew.
    pub nodes: BTreeSet<String>,
    /// The configuration: everything is decided anew.
    pub configuration: bool,
    /// What is wrong with objects: nothing is decided anew, but it has to be told.
    pub problems: bool,
}

impl Dirty {
    /// Adds what another change touches.
    pub fn merge(&mut self, other: Self) {
        self.services.extend(other.services);
        self.requests.extend(other.requests);
        self.nodes.extend(other.nodes);
        self.configuration |= other.configuration;
        self.problems |= other.problems;
    }

    /// Whether everything is decided again for a node.
    pub fn needs_full_decision(&self, node: &str) -> bool {
        self.configuration || self.nodes.contains(node)
    }

    /// Whether [`Index::problems`] may say something else than before.
    pub fn may_change_problems(&self) -> bool {
        // What clashes everywhere is said only as long as no node is known.
        self.problems || self.configuration || !self.nodes.is_empty()
    }

    /// Whether nothing is touched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Healthy endpoints of a service in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Nodes that have at least one, and how many of those are ready.
    pub nodes: BTreeMap<String, u32>,
    /// How many there are, those without a node name included.
    pub healthy: u32,
}

impl Index {
    /// For a process that reads objects of these kinds. One that can't judge BGPPeers, for lack of what they refer to,
    /// looks at their addresses only.
    pub fn for_kinds(kinds: &[Kind]) -> Self {
        if kinds.contains(&Kind::BfdProfile) {
            return Self::default();
        }
        Self {
            objects: ConfigObjects::for_allocation_only(),
            ..Self::default()
        }
    }

    /// For `plan` and `check`, whose input may lack the Secrets.
    pub fn for_prediction() -> Self {
        Self {
            objects: ConfigObjects::for_prediction(),
            ..Self::default()
        }
    }

    /// With `ignore`, nodes that are excluded from load balancers announce all the same, as with MetalLB's
    /// `--ignore-exclude-lb`.
    #[must_use]
    pub const fn ignoring_exclusion(mut self, ignore: bool) -> Self {
        self.ignore_exclusion = ignore;
        self
    }

    /// Takes in a change and tells what it touches.
    pub fn apply(&mut self, change: Change) -> Dirty {
        let dirty = match change {
            Change::Apply(key, raw) => self.apply_object(key, raw),
            Change::Delete(key) => self.delete(&key),
            Change::Reset(kind, objects) => self.reset(kind, objects),
            Change::Listed(kind, present) => self.listed(kind, &present),
            Change::Unreadable(kind, message) => self.set_unreadable(kind, message),
            Change::Absent(kind, message) => self.set_absent(kind, message),
        };
        self.finish_change(dirty)
    }

    /// Brings up to date what depends on many objects, once for all that a change touched.
    fn finish_change(&mut self, mut dirty: Dirty) -> Dirty {
        if std::mem::take(&mut self.config_is_stale) {
            dirty.merge(self.recompile());
        }
        dirty.problems |= std::mem::take(&mut self.problems_changed);
        dirty
    }

    /// Whether every one of these kinds was listed, or refused, once: before that, nothing complete can be said.
    pub fn is_synced(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.synced.contains(kind))
    }

    /// Whether every one of these kinds was really listed once. One that is absent counts if its twin was listed and is not
    /// empty: an empty one does not say what became of the objects of a CRD that is gone.
    pub fn is_listed(&self, kinds: &[Kind]) -> bool {
        let without = |kind: &Kind| {
            let other = kind.other_group();
            self.objects.is_absent(*kind)
                && other
                    .is_none_or(|other| self.listed.contains(&other) && self.objects.has_any(other))
        };
        kinds
            .iter()
            .all(|kind| self.listed.contains(kind) || without(kind))
    }

    /// The configuration that runs.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// BGPPeers, by name, that select a node and can't run there.
    pub fn conflicting_peers(&self, node: &str) -> Option<&BTreeMap<String, ConflictingPeer>> {
        self.node_conflicts.get(node)
    }

    /// BGPPeers that have a session on a node neither as they stand, nor perhaps at all.
    pub fn rejected_peers(&self, node: &str) -> Vec<Problem> {
        let refused = self.conflicting_peers(node).into_iter().flatten();
        let there = refused.map(|(_, ConflictingPeer { object, message })| Problem {
            object: object.clone(),
            severity: Severity::Error,
            message: message.clone(),
        });
        let everywhere = self.config.problems.iter().filter(|problem| {
            let kind = problem.object.kind;
            matches!(kind, Kind::BgpPeer | Kind::FerrolbBgpPeer)
                && problem.severity == Severity::Error
        });
        everywhere.cloned().chain(there).collect()
    }

    /// The interfaces that BGPPeers which select a node want there, by name.
    pub fn source_interfaces(&self, node: &str) -> BTreeSet<String> {
        let Some(node) = self.nodes.get(node) else {
            return BTreeSet::new();
        };
        let peers = self.config.peers.values();
        peers
            .filter(|peer| peer.nodes.matches(&node.labels))
            .filter_map(|peer| peer.session.transport.source_interface.clone())
            .collect()
    }

    /// Which of them the node does not have. Only the process on the node knows; elsewhere nothing is refused for it.
    pub fn set_missing_interfaces(&mut self, node: &str, missing: BTreeSet<String>) -> Dirty {
        let old = self
            .missing_interfaces
            .insert(node.to_owned(), missing.clone());
        if old.unwrap_or_default() == missing {
            return Dirty::default();
        }
        self.update_node_conflicts(node);
        Dirty {
            problems: std::mem::take(&mut self.problems_changed),
            nodes: BTreeSet::from([node.to_owned()]),
            ..Dirty::default()
        }
    }

    /// All services, also those that are not ours.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|service| &**service)
    }

    /// One service.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name).map(|service| &**service)
    }

    /// All nodes.
    pub fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    /// Services whose status holds an address.
    pub fn services_with_address(&self, address: IpAddr) -> impl Iterator<Item = &Service> {
        self.services_by_address
            .get(&address)
            .into_iter()
            .flatten()
            .filter_map(|name| self.service(name))
    }

    /// Healthy endpoints of a service in one family, from all its slices. One that moves from a slice to another is
    /// in both for a moment: it counts once, as ready if one of them says so.
    pub fn endpoints(&self, service: &ObjectName, ipv6: bool) -> Endpoints {
        let names = self.slices_of.get(service).into_iter().flatten();
        let slices = names.filter_map(|name| self.slices.get(name));
        let mut unique: BTreeMap<IpAddr, (Option<&str>, bool)> = BTreeMap::new();
        for endpoint in slices.flat_map(|slice| slice.of_family(ipv6)) {
            let (node, ready) = unique.entry(endpoint.address).or_default();
            *node = node.or(endpoint.node.as_deref());
            *ready |= endpoint.ready;
        }
        let mut endpoints = Endpoints::default();
        for (node, ready) in unique.into_values() {
            endpoints.healthy += 1;
            if let Some(node) = node {
                *endpoints.nodes.entry(node.to_owned()).or_default() += u32::from(ready);
            }
        }
        endpoints
    }

    /// Looks again for advertisements that clash.
    fn update_local_pref_conflicts(&mut self) {
        let services = self.services.values().map(|service| &**service);
        self.problems_changed |=
            self.local_pref_conflicts
                .rebuild(&self.config, &self.nodes, services);
    }

    /// Judges anew what can't run on a node.
    fn update_node_conflicts(&mut self, name: &str) {
        let nothing = BTreeSet::new();
        let missing = self.missing_interfaces.get(name).unwrap_or(&nothing);
        let refused = self
            .nodes
            .get(name)
            .map(|node| node_conflicts::conflicts_on(&self.config, node, missing))
            .unwrap_or_default();
        let old = if refused.is_empty() {
            self.node_conflicts.remove(name).unwrap_or_default()
        } else {
            self.node_conflicts
                .insert(name.to_owned(), refused.clone())
                .unwrap_or_default()
        };
        self.problems_changed |= old != refused;
    }

    /// Acts as if a status had been written and come back: for `plan`, which has nobody to write to.
    pub fn apply_status_write(&mut self, write: &StatusWrite) -> Dirty {
        let Some(mut service) = self.service(&write.service).cloned() else {
            return Dirty::default();
        };
        let request = Arc::make_mut(&mut service.request);
        request.current.clone_from(&write.addresses);
        request.current_pool.clone_from(&write.pool);
        service.invalid_address = None;
        let dirty = self.set_service(&write.service, Some(service));
        self.finish_change(dirty)
    }

    fn apply_object(&mut self, key: ObjectKey, raw: RawObject) -> Dirty {
        let _context = PanicContext::new("reading", key.clone());
        match key.kind {
            Kind::Service => {
                let parsed = Service::parse(key.name.clone(), &raw);
                self.accept(&key, parsed)
                    .map(|service| self.set_service(&key.name, Some(service)))
            }
            Kind::EndpointSlice => {
                let parsed = Slice::parse(&key.name, &raw);
                self.accept(&key, parsed)
                    .map(|slice| self.set_slice(&key.name, Some(slice)))
            }
            Kind::Node => {
                let parsed = Node::parse(&raw).map(|node| Node {
                    exclusion_ignored: self.ignore_exclusion,
                    ..node
                });
                self.accept(&key, parsed)
                    .map(|node| self.set_node(&key.name.name, Some(node)))
            }
            Kind::Namespace => Some(self.set_namespace(&key.name.name, Some(raw.metadata.labels))),
            Kind::ServiceCidr => {
                let parsed = raw
                    .field("spec")
                    .map(|spec: ServiceCidrSpec| networks(spec.cidrs.iter()));
                self.accept(&key, parsed)
                    .map(|networks| self.set_service_cidr(&key.name.name, Some(networks)))
            }
            Kind::Secret
            | Kind::IpAddressPool
            | Kind::BgpPeer
            | Kind::FerrolbBgpPeer
            | Kind::BfdProfile
            | Kind::BgpAdvertisement
            | Kind::Community => {
                self.objects.apply(key, raw);
                Some(self.recompile())
            }
        }
        .unwrap_or_default()
    }

    fn delete(&mut self, key: &ObjectKey) -> Dirty {
        self.problems_changed |= self.problems.remove(key).is_some();
        match key.kind {
            Kind::Service => self.set_service(&key.name, None),
            Kind::EndpointSlice => self.set_slice(&key.name, None),
            Kind::Node => self.set_node(&key.name.name, None),
            Kind::Namespace => self.set_namespace(&key.name.name, None),
            Kind::ServiceCidr => self.set_service_cidr(&key.name.name, None),
            Kind::Secret
            | Kind::IpAddressPool
            | Kind::BgpPeer
            | Kind::FerrolbBgpPeer
            | Kind::BfdProfile
            | Kind::BgpAdvertisement
            | Kind::Community => {
                self.objects.delete(key);
                self.recompile()
            }
        }
    }

    fn reset(&mut self, kind: Kind, objects: Vec<(ObjectKey, RawObject)>) -> Dirty {
        let present: BTreeSet<ObjectName> =
            objects.iter().map(|(key, _)| key.name.clone()).collect();
        self.begin_list(kind, &present);
        if kind.is_configuration() {
            self.objects.reset(kind, objects);
            return self.recompile();
        }
        let mut dirty = self.delete_others(kind, &present);
        for (key, raw) in objects {
            dirty.merge(self.apply_object(key, raw));
        }
        if self.objects.set_readable(kind) {
            dirty.merge(self.recompile());
        }
        dirty
    }

    /// Everything that is there was applied one by one.
    fn listed(&mut self, kind: Kind, present: &BTreeSet<ObjectName>) -> Dirty {
        self.begin_list(kind, present);
        let mut dirty = self.delete_others(kind, present);
        if self.objects.set_readable(kind) {
            dirty.merge(self.recompile());
        }
        dirty
    }

    /// A kind was listed: its objects that were never good and are gone are forgotten.
    fn begin_list(&mut self, kind: Kind, present: &BTreeSet<ObjectName>) {
        self.synced.insert(kind);
        self.listed.insert(kind);
        let before = self.problems.len();
        self.problems
            .retain(|key, _| key.kind != kind || present.contains(&key.name));
        self.problems_changed |= self.problems.len() != before;
    }

    fn delete_others(&mut self, kind: Kind, present: &BTreeSet<ObjectName>) -> Dirty {
        let mut dirty = Dirty::default();
        for name in self.names(kind) {
            if !present.contains(&name) {
                dirty.merge(self.delete(&ObjectKey::new(kind, name)));
            }
        }
        dirty
    }

    fn set_unreadable(&mut self, kind: Kind, message: String) -> Dirty {
        // It was asked for and there is an answer, if a bad one: nobody shall wait for it.
        self.synced.insert(kind);
        self.objects.set_unreadable(kind, message);
        self.recompile()
    }

    fn set_absent(&mut self, kind: Kind, message: String) -> Dirty {
        self.synced.insert(kind);
        self.objects.set_absent(kind, message);
        self.recompile()
    }

    fn names(&self, kind: Kind) -> Vec<ObjectName> {
        let named = |names: Vec<&String>| {
            names
                .into_iter()
                .map(|name| ObjectName::new("", name.clone()))
                .collect()
        };
        match kind {
            Kind::Service => self.services.keys().map(owned).collect(),
            Kind::EndpointSlice => self.slices.keys().map(owned).collect(),
            Kind::Node => named(self.nodes.keys().collect()),
            Kind::Namespace => named(self.namespaces.keys().collect()),
            Kind::ServiceCidr => named(self.service_cidrs.keys().collect()),
            Kind::Secret
            | Kind::IpAddressPool
            | Kind::BgpPeer
            | Kind::FerrolbBgpPeer
            | Kind::BfdProfile
            | Kind::BgpAdvertisement
            | Kind::Community => Vec::new(),
        }
    }

    /// Passes a good value on; a bad one is noted, and the object keeps the facts it had.
    fn accept<T>(&mut self, key: &ObjectKey, parsed: Result<T, FieldError>) -> Option<T> {
        match parsed {
            Ok(value) => {
                self.problems_changed |= self.problems.remove(key).is_some();
                Some(value)
            }
            Err(error) => {
                let new = error.to_string();
                let old = self.problems.insert(key.clone(), new.clone());
                self.problems_changed |= old != Some(new);
                None
            }
        }
    }

    /// The same name as it is known already: it stands in every map, and is there once.
    fn known_name(&self, name: &Arc<ObjectName>) -> Arc<ObjectName> {
        let services = self.services.get_key_value(name).map(|(known, _)| known);
        let known = services.or_else(|| Some(self.slices_of.get_key_value(name)?.0));
        known.unwrap_or(name).clone()
    }

    fn set_service(&mut self, name: &ObjectName, mut service: Option<Service>) -> Dirty {
        if let Some(service) = &mut service {
            service.name = self.known_name(&service.name);
        }
        let new = service.clone().map(Box::new);
        let old = match new {
            Some(new) => self.services.insert(new.name.clone(), new),
            None => self.services.remove(name),
        };
        let old = old.map(|old| *old);
        if old == service {
            return Dirty::default();
        }
        self.problems_changed |=
            self.local_pref_conflicts
                .update(&self.config, name, service.as_ref());
        self.update_excluded_address(&name);
        let bad = |service: &Option<Service>| {
            let service = service.as_ref()?;
            let bad = (
                service.invalid_drain.clone(),
                service.misspelt_annotation.clone(),
            );
            (bad != (None, None)).then_some(bad)
        };
        let mut dirty = Dirty {
            services: BTreeSet::from([name.clone()]),
            requests: BTreeSet::from([name.clone()]),
            problems: bad(&old) != bad(&service),
            ..Dirty::default()
        };
        if bad(&service).is_some() {
            self.services_with_annotation_problems.insert(name.clone());
        } else {
            self.services_with_annotation_problems.remove(name);
        }
        let addresses = |service: &Option<Service>| -> Vec<IpAddr> {
            service
                .as_ref()
                .map_or_else(Vec::new, |service| service.addresses().to_vec())
        };
        // Whoever holds the same address is touched as well: a conflict may begin or end.
        for address in addresses(&old) {
            let holders = self.services_by_address.entry(address).or_default();
            remove_name(holders, name);
            dirty.services.extend(holders.iter().map(owned));
            if holders.is_empty() {
                self.services_by_address.remove(&address);
            }
        }
        for (address, service) in addresses(&service).into_iter().zip(service.iter().cycle()) {
            let holders = self.services_by_address.entry(address).or_default();
            add_name(holders, &service.name);
            dirty.services.extend(holders.iter().map(owned));
        }
        if self.update_foreign_addresses(name, service.as_ref()) {
            dirty.merge(self.recompile());
        }
        dirty
    }

    fn set_slice(&mut self, name: &ObjectName, mut slice: Option<Slice>) -> Dirty {
        if let Some(owner) = slice.as_mut().and_then(|slice| slice.service.as_mut()) {
            *owner = self.known_name(owner);
        }
        let owner = |slice: &Option<Slice>| slice.as_ref().and_then(|slice| slice.service.clone());
        let known = self.slices.get_key_value(name);
        let known = known.map_or_else(|| Arc::new(name.clone()), |(known, _)| known.clone());
        let old = match &slice {
            Some(slice) => self.slices.insert(known.clone(), slice.clone()),
            None => self.slices.remove(name),
        };
        if old == slice {
            return Dirty::default();
        }
        if let Some(service) = owner(&old)
            && let Some(names) = self.slices_of.get_mut(&service)
        {
            remove_name(names, name);
            if names.is_empty() {
                self.slices_of.remove(&service);
            }
        }
        if let Some(service) = owner(&slice) {
            add_name(self.slices_of.entry(service).or_default(), &known);
        }
        let mut dirty = Dirty::default();
        for service in owner(&old).into_iter().chain(owner(&slice)) {
            dirty.services.extend(self.local_sharers(&service));
            dirty.services.insert(owned(&service));
        }
        dirty
    }

    /// The services whose announcement depends on the endpoints of this one.
    fn local_sharers(&self, name: &ObjectName) -> impl Iterator<Item = ObjectName> {
        let service = self.service(name).into_iter();
        let shared = service.flat_map(|service| {
            let holders = service.addresses().iter();
            let holders = holders.flat_map(|address| self.services_with_address(*address));
            holders.filter(|holder| holder.shares_local_with(service))
        });
        shared.map(|sharer| owned(&sharer.name))
    }

    fn set_node(&mut self, name: &str, node: Option<Node>) -> Dirty {
        let old = match &node {
            Some(node) => self.nodes.insert(name.to_owned(), node.clone()),
            None => self.nodes.remove(name),
        };
        if old == node {
            return Dirty::default();
        }
        self.config_is_stale |= match (&old, &node) {
            (Some(old), Some(node)) => !old.same_networks(node),
            _ => true,
        };
        let bad = |node: Option<Node>| {
            node.map_or((None, None), |node| {
                (node.invalid_weight, node.misspelt_annotation)
            })
        };
        self.update_node_conflicts(name);
        self.update_local_pref_conflicts();
        Dirty {
            problems: bad(old) != bad(node),
            nodes: BTreeSet::from([name.to_owned()]),
            ..Dirty::default()
        }
    }

    fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> Dirty {
        let old = match &labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        if old == labels {
            Dirty::default()
        } else {
            self.recompile()
        }
    }

    fn set_service_cidr(&mut self, name: &str, networks: Option<Vec<IpNet>>) -> Dirty {
        let old = match &networks {
            Some(networks) => self.service_cidrs.insert(name.to_owned(), networks.clone()),
            None => self.service_cidrs.remove(name),
        };
        self.config_is_stale |= old != networks;
        Dirty::default()
    }

    fn recompile(&mut self) -> Dirty {
        let config = self.objects.compile(CompileContext {
            namespaces: &self.namespaces,
            nodes: &self.nodes,
            service_cidrs: &self.service_cidrs,
            foreign_services: &self.foreign_services,
        });
        if config == self.config {
            return Dirty::default();
        }
        self.config = config;
        let nodes: Vec<String> = self.nodes.keys().cloned().collect();
        for node in nodes {
            self.update_node_conflicts(&node);
        }
        self.update_local_pref_conflicts();
        let excluding = self
            .config
            .pools
            .iter()
            .any(|pool| !pool.excluded().is_empty());
        if excluding || !self.excluded_addresses.is_empty() {
            let names: Vec<Arc<ObjectName>> = self.services.keys().cloned().collect();
            for name in names {
                self.update_excluded_address(&name);
            }
        }
        Dirty {
            configuration: true,
            ..Dirty::default()
        }
    }
}

#[cfg(test)]
mod tests;
