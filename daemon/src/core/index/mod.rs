//! The index: the models of all objects by key, built from the changes that a source delivers.
//!
//! [`Index::apply`] returns what depends on a change, so that only this is decided again. An object
//! that can't be read keeps its last good model. It doesn't count as deleted.

pub(crate) mod change;
mod community_labels;
mod delayed;
mod dirty;
mod excluded;
mod node_peers;
mod problems;
mod update;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_allocator::Pool;

use self::community_labels::BadLabel;
pub use self::dirty::Dirty;
pub(crate) use self::dirty::Released;
use self::node_peers::{LocalPeers, NodePeers};
use self::update::owned;
use crate::core::api::condition::{Condition, Conditions};
use crate::core::api::core::ServiceCidrSpec;
use crate::core::api::{FieldError, Kind, ObjectKey, ObjectName, RawObject};
use crate::core::config::excluded::{ForeignServices, ServiceCidrs};
use crate::core::config::local_pref_conflicts::LocalPrefConflicts;
use crate::core::config::{CompileContext, Config, ConfigObjects};
use crate::core::hash::fnv1a;
use crate::core::index::change::{Change, StatusWrite};
use crate::core::model::{Family, HealthyEndpoint, Labels, Node, Service, Slice, networks};
use crate::core::panic_context::PanicContext;

/// The models of all objects, and the compiled configuration.
#[derive(Debug, Default)]
pub struct Index {
    /// Boxed: a B-tree leaf has room for eleven values, and ascending inserts leave half of it
    /// empty.
    services: BTreeMap<Arc<ObjectName>, Box<Service>>,
    slices: BTreeMap<Arc<ObjectName>, Slice>,
    slices_of: BTreeMap<Arc<ObjectName>, Names>,
    nodes: BTreeMap<String, Node>,
    namespaces: BTreeMap<String, Labels>,
    /// The UID of the namespace [`CLUSTER_NAMESPACE`].
    cluster_uid: String,
    services_by_address: HashMap<IpAddr, Names>,
    objects: ConfigObjects,
    config: Arc<Config>,
    node_peers: BTreeMap<String, NodePeers>,
    /// Of the node of this process.
    local_peers: BTreeMap<String, LocalPeers>,
    local_pref_conflicts: LocalPrefConflicts,
    service_cidrs: ServiceCidrs,
    foreign_services: ForeignServices,
    ignore_exclusion: bool,
    lb_class: Option<String>,
    /// The notices about services whose address is in use elsewhere or reserved.
    address_notices: BTreeMap<ObjectName, String>,
    /// The services with a label that should name a community and doesn't.
    bad_labels: BTreeMap<ObjectName, BTreeSet<BadLabel>>,
    /// Whether an input of the configuration other than its objects changed.
    config_is_stale: bool,
    missing_interfaces: BTreeMap<String, BTreeSet<String>>,
    /// The node of this process, and the services that are delayed there.
    delayed: (String, BTreeSet<ObjectName>),
    /// The nodes whose kernel refuses to discard packets, with its error.
    discard_errors: BTreeMap<String, String>,
    problems: BTreeMap<ObjectKey, String>,
    problems_changed: bool,
    /// The services with [`Service::invalid_drain`] or [`Service::misspelt_annotation`], so that
    /// [`Index::problems`] need not visit all services.
    services_with_annotation_problems: BTreeSet<ObjectName>,
    synced: BTreeSet<Kind>,
    listed: BTreeSet<Kind>,
}

/// The namespace whose UID identifies the cluster: it exists in each one and can't be deleted.
const CLUSTER_NAMESPACE: &str = "kube-system";

/// Sorted names of a few objects, mostly of one.
type Names = Vec<Arc<ObjectName>>;

/// The healthy endpoints of a service in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The number of ready endpoints of each node that has healthy ones.
    pub nodes: BTreeMap<String, u32>,
    /// The number of healthy endpoints, including those without a node.
    pub healthy: u32,
}

impl Index {
    /// For a process that reads objects of these kinds. Every process that announces by BGP reads
    /// BGPPeers and, from its start, EndpointSlices. Another one doesn't read the passwords of
    /// BGPPeers.
    pub fn for_kinds(kinds: &[Kind]) -> Self {
        let announces = [Kind::BgpPeer, Kind::EndpointSlice];
        if announces.iter().all(|kind| kinds.contains(kind)) {
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

    /// If `ignore`, nodes that are excluded from load balancers announce anyway, as with MetalLB's
    /// `--ignore-exclude-lb`.
    #[must_use]
    pub const fn ignoring_exclusion(mut self, ignore: bool) -> Self {
        self.ignore_exclusion = ignore;
        self
    }

    /// In charge of the Services with this `loadBalancerClass` instead of those without one, as
    /// with MetalLB's `--lb-class`. None or empty: of those without one.
    #[must_use]
    pub fn in_charge_of(mut self, lb_class: Option<&str>) -> Self {
        self.lb_class = lb_class
            .filter(|class| !class.is_empty())
            .map(str::to_owned);
        self
    }

    /// The `loadBalancerClass` of the Services that it is in charge of. None: those without one.
    pub(crate) fn lb_class(&self) -> Option<&str> {
        self.lb_class.as_deref()
    }

    /// Applies a change. Returns what must be decided again.
    pub fn apply(&mut self, change: Change) -> Dirty {
        let dirty = self.apply_part(change);
        self.finish_change(dirty)
    }

    /// Applies all changes that `deliver` passes to its argument as one: what depends on many
    /// objects is computed once. Returns what must be decided again, and the result of `deliver`.
    pub fn apply_all<T>(
        &mut self,
        deliver: impl FnOnce(&mut dyn FnMut(Change)) -> T,
    ) -> (Dirty, T) {
        let mut dirty = Dirty::default();
        let delivered = deliver(&mut |change| dirty.merge(self.apply_part(change)));
        (self.finish_change(dirty), delivered)
    }

    fn apply_part(&mut self, change: Change) -> Dirty {
        match change {
            Change::Apply(key, raw) => self.apply_object(key, raw),
            Change::Delete(key) => self.delete(&key),
            Change::Reset(kind, objects) => self.reset(kind, objects),
            Change::Listed(kind, present) => self.listed(kind, &present),
            Change::Unreadable(kind, message) => self.set_unreadable(kind, message),
            Change::Absent(kind, message) => self.set_absent(kind, message),
        }
    }

    /// Updates what depends on many objects, once for all parts of a change.
    fn finish_change(&mut self, mut dirty: Dirty) -> Dirty {
        if std::mem::take(&mut self.config_is_stale) {
            dirty.merge(self.recompile());
        }
        dirty.problems |= std::mem::take(&mut self.problems_changed);
        dirty
    }

    /// Whether each of these kinds was listed or refused. Until then the input is incomplete.
    pub fn is_synced(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.synced.contains(kind))
    }

    /// Whether each of these kinds was listed. An absent kind counts as listed if the kind of the
    /// other group was listed and isn't empty. If it is empty, the objects may have been those of a
    /// CRD that is gone. BFDProfiles are not needed: many clusters have none.
    pub fn is_listed(&self, kinds: &[Kind]) -> bool {
        // With MetalLB's ConfigMap, no object is needed.
        let has_config_map = self.objects.has_any(Kind::ConfigMap);
        // AddressPools say themselves how they are announced: MetalLB's kinds may be empty.
        let has_address_pool = self.objects.has_any(Kind::AddressPool);
        let without = |kind: &Kind| {
            let other = kind.other_group();
            self.objects.is_absent(*kind)
                && (has_config_map
                    || matches!(kind, Kind::BfdProfile | Kind::FerrolbBfdProfile)
                    || other.is_none_or(|other| {
                        let has_any = self.objects.has_any(other);
                        self.listed.contains(&other)
                            && (has_any || kind.is_own() && has_address_pool)
                    }))
        };
        kinds
            .iter()
            .all(|kind| self.listed.contains(kind) || without(kind))
    }

    /// The text of an invalid ConfigMap as it was probably meant, without passwords.
    pub(crate) fn correction(&self, object: &ObjectKey) -> Option<&str> {
        self.objects.correction(object)
    }

    /// Whether there are objects of an API group.
    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.objects.has_group(group)
    }

    /// Whether none of these kinds is refused. A kind that is absent has no objects.
    pub fn is_readable(&self, kinds: &[Kind]) -> bool {
        self.is_synced(kinds) && !kinds.iter().any(|kind| self.objects.is_unreadable(*kind))
    }

    /// The active configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// A number that distinguishes the cluster from others on the same LAN: a hash of the
    /// UID of the namespace kube-system. All processes compute the same. 0 without a cluster.
    pub fn cluster(&self) -> u64 {
        if self.cluster_uid.is_empty() {
            return 0;
        }
        fnv1a(&self.cluster_uid)
    }

    /// The error with which a node's kernel refuses to discard packets to unused addresses of
    /// aggregates. Only the process on the node knows it.
    pub fn discard_error(&self, node: &str) -> Option<&str> {
        self.discard_errors.get(node).map(String::as_str)
    }

    /// Sets [`Self::discard_error`].
    pub fn set_discard_error(&mut self, node: &str, error: Option<String>) -> Dirty {
        if self.discard_error(node) == error.as_deref() {
            return Dirty::default();
        }
        match error {
            Some(error) => self.discard_errors.insert(node.to_owned(), error),
            None => self.discard_errors.remove(node),
        };
        Dirty {
            problems: true,
            nodes: BTreeSet::from([node.to_owned()]),
            ..Dirty::default()
        }
    }

    /// A configuration object, unless only MetalLB's ConfigMap means it.
    pub(crate) fn configuration_object(&self, key: &ObjectKey) -> Option<&RawObject> {
        self.objects.get(key)
    }

    /// The objects of ferrolb's own kinds.
    pub(crate) fn own_objects(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.own()
    }

    /// The condition that says whether an object of ferrolb's own kinds is used.
    pub(crate) fn accepted_condition(&self, key: &ObjectKey) -> Option<Condition> {
        self.objects.status::<Conditions>(key)?.accepted()
    }

    /// The status of an IPAddressPool, if it has all fields.
    pub(crate) fn pool_status<T>(&self, key: &ObjectKey) -> Option<T>
    where
        T: for<'de> serde::Deserialize<'de>,
    {
        self.objects.status(key)
    }

    /// All services, including those of other load balancers.
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

    /// The services with an address in their status.
    pub fn services_with_address(&self, address: IpAddr) -> impl Iterator<Item = &Service> {
        self.services_by_address
            .get(&address)
            .into_iter()
            .flatten()
            .filter_map(|name| self.service(name))
    }

    /// The healthy endpoints of a service in one family, from all its slices. An endpoint that
    /// moves to another slice is in both for a short time: it counts once, as ready if it is ready
    /// in one of them.
    pub fn endpoints(&self, service: &ObjectName, family: Family) -> Endpoints {
        let mut unique: BTreeMap<IpAddr, (Option<&str>, bool)> = BTreeMap::new();
        for endpoint in self.healthy(service, family) {
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

    /// Whether a service has healthy endpoints in one family.
    pub fn has_endpoints(&self, service: &ObjectName, family: Family) -> bool {
        self.healthy(service, family).next().is_some()
    }

    /// Whether [`Self::endpoints`] has some on a node.
    pub fn has_endpoints_on(&self, service: &ObjectName, family: Family, node: &str) -> bool {
        let mut here = self.healthy(service, family).enumerate();
        here.any(|(place, endpoint)| {
            // An address in several slices is on the node that the first of them names.
            let named_before =
                |other: &HealthyEndpoint| other.address == endpoint.address && other.node.is_some();
            endpoint.node.as_deref() == Some(node)
                && !self.healthy(service, family).take(place).any(named_before)
        })
    }

    /// The healthy endpoints in all slices of a service, in one family.
    fn healthy(
        &self,
        service: &ObjectName,
        family: Family,
    ) -> impl Iterator<Item = &HealthyEndpoint> {
        let names = self.slices_of.get(service).into_iter().flatten();
        let slices = names.filter_map(|name| self.slices.get(name));
        slices.flat_map(move |slice| slice.of_family(family))
    }

    /// Finds conflicting advertisements again.
    fn update_local_pref_conflicts(&mut self) {
        let services = self.services.values().map(|service| &**service);
        self.problems_changed |=
            self.local_pref_conflicts
                .rebuild(&self.config, &self.nodes, services);
    }

    /// Applies a status write as if the API server had returned it: for `plan`, which writes
    /// nothing.
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
                let parsed = Service::parse(key.name.clone(), &raw, self.lb_class.as_deref());
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
            Kind::Namespace => {
                if key.name.name == CLUSTER_NAMESPACE {
                    self.cluster_uid = raw.metadata.uid;
                }
                Some(self.set_namespace(&key.name.name, Some(raw.metadata.labels)))
            }
            Kind::ServiceCidr => {
                let parsed = raw
                    .field("spec")
                    .map(|spec: ServiceCidrSpec| networks(spec.cidrs.iter()));
                self.accept(&key, parsed)
                    .map(|networks| self.set_service_cidr(&key.name.name, Some(networks)))
            }
            Kind::Secret
            | Kind::ConfigMap
            | Kind::AddressPool
            | Kind::IpAddressPool
            | Kind::FerrolbIpAddressPool
            | Kind::BgpPeer
            | Kind::FerrolbBgpPeer
            | Kind::BfdProfile
            | Kind::FerrolbBfdProfile
            | Kind::BgpAdvertisement
            | Kind::FerrolbBgpAdvertisement
            | Kind::L2Advertisement
            | Kind::FerrolbL2Advertisement
            | Kind::Community
            | Kind::FerrolbCommunity => {
                let same = self.objects.differs_in_status_only(&key, &raw);
                self.objects.apply(key, raw);
                (!same).then(|| self.recompile())
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
            | Kind::ConfigMap
            | Kind::AddressPool
            | Kind::IpAddressPool
            | Kind::FerrolbIpAddressPool
            | Kind::BgpPeer
            | Kind::FerrolbBgpPeer
            | Kind::BfdProfile
            | Kind::FerrolbBfdProfile
            | Kind::BgpAdvertisement
            | Kind::FerrolbBgpAdvertisement
            | Kind::L2Advertisement
            | Kind::FerrolbL2Advertisement
            | Kind::Community
            | Kind::FerrolbCommunity => {
                self.objects.delete(key);
                self.recompile()
            }
        }
    }

    fn reset(&mut self, kind: Kind, objects: Vec<(ObjectKey, RawObject)>) -> Dirty {
        let present: BTreeSet<ObjectName> =
            objects.iter().map(|(key, _)| key.name.clone()).collect();
        self.mark_listed(kind, &present);
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

    /// The source applied all existing objects one by one.
    fn listed(&mut self, kind: Kind, present: &BTreeSet<ObjectName>) -> Dirty {
        self.mark_listed(kind, present);
        let mut dirty = self.delete_others(kind, present);
        if self.objects.set_readable(kind) {
            dirty.merge(self.recompile());
        }
        dirty
    }

    /// Marks a kind as listed. Problems of objects that don't exist are removed: such objects never
    /// had a good model.
    fn mark_listed(&mut self, kind: Kind, present: &BTreeSet<ObjectName>) {
        self.synced.insert(kind);
        self.listed.insert(kind);
        let before = self.problems.len();
        self.problems
            .retain(|key, _| key.kind != kind || present.contains(&key.name));
        self.problems_changed |= self.problems.len() != before;
    }

    fn delete_others(&mut self, kind: Kind, present: &BTreeSet<ObjectName>) -> Dirty {
        let mut dirty = Dirty::default();
        for name in self.names_of(kind) {
            if !present.contains(&name) {
                dirty.merge(self.delete(&ObjectKey::new(kind, name)));
            }
        }
        dirty
    }

    fn set_unreadable(&mut self, kind: Kind, message: String) -> Dirty {
        // The list failed permanently. Mark the kind as synced, so that startup doesn't wait for
        // it.
        self.synced.insert(kind);
        self.objects.set_unreadable(kind, message);
        self.recompile()
    }

    fn set_absent(&mut self, kind: Kind, message: String) -> Dirty {
        self.synced.insert(kind);
        self.objects.set_absent(kind, message);
        self.recompile()
    }

    fn names_of(&self, kind: Kind) -> Vec<ObjectName> {
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
            | Kind::ConfigMap
            | Kind::AddressPool
            | Kind::IpAddressPool
            | Kind::FerrolbIpAddressPool
            | Kind::BgpPeer
            | Kind::FerrolbBgpPeer
            | Kind::BfdProfile
            | Kind::FerrolbBfdProfile
            | Kind::BgpAdvertisement
            | Kind::FerrolbBgpAdvertisement
            | Kind::L2Advertisement
            | Kind::FerrolbL2Advertisement
            | Kind::Community
            | Kind::FerrolbCommunity => Vec::new(),
        }
    }

    /// Returns a good value. For an error, stores the problem: the object keeps its last model.
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
        self.keep_running_peers(&config);
        self.config = config;
        let nodes: Vec<String> = self.nodes.keys().cloned().collect();
        for node in nodes {
            self.update_node_peers(&node);
        }
        self.update_local_pref_conflicts();
        self.update_all_community_labels();
        let keeps_addresses =
            |pool: &Pool| !pool.excluded().is_empty() || !pool.reservations().is_empty();
        let keeping = self.config.pools.iter().any(keeps_addresses);
        if keeping || !self.address_notices.is_empty() {
            let names: Vec<Arc<ObjectName>> = self.services.keys().cloned().collect();
            for name in names {
                self.update_address_notice(&name);
            }
        }
        Dirty {
            configuration: true,
            ..Dirty::default()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
