//! Configuration: checks MetalLB's and ferrolb's resources and compiles them, with the last good
//! value of each object.
//!
//! An invalid object never affects another one: it is reported by name, and its last good value
//! stays in use. A pool that is invalid, unreadable, or gone with its CRD is *frozen*: its services
//! keep their addresses and announcements, and no address is allocated from it.

pub(crate) mod address_pools;
pub(crate) mod advertisement;
pub(crate) mod aggregation;
pub(crate) mod bfd;
mod both_groups;
pub(crate) mod config_map;
pub(crate) mod crd;
pub(crate) mod excluded;
pub(crate) mod excluded_interfaces;
pub(crate) mod hello_secrets;
pub(crate) mod layer2_advertisement;
mod layer2_advertisements;
pub(crate) mod layer2_notices;
mod load_balancer_classes;
pub(crate) mod local_pref_conflicts;
pub(crate) mod node_conflicts;
pub(crate) mod peer;
mod peers;
mod places;
pub(crate) mod pool;
mod pools;
pub(crate) mod selection;
pub(crate) mod selector;
pub(crate) mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use self::address_pools::AddressPools;
use self::advertisement::{Advertisement, Aliases};
use self::config_map::{ConfigMaps, Sources};
use self::excluded::{ForeignServices, ServiceCidrs};
use self::hello_secrets::HelloSecrets;
use self::layer2_advertisement::Layer2Advertisement;
use self::peer::Peer;
pub(crate) use self::places::ConfigPlaces;
use self::pool::PoolDetails;
use self::pools::PoolSpec;
use ferrolb_allocator::PoolSet;
use ferrolb_bgp::bfd::SessionConfig;

use crate::core::api::ferrolb::FerrolbBgpAdvertisementSpec;
use crate::core::api::metallb::{BgpAdvertisementSpec, CommunitySpec};
use crate::core::api::{Cause, FieldError, Kind, ObjectKey, ObjectName, Partial, RawObject};
use crate::core::model::{Labels, Node};

/// The kinds that say what to announce, or to whom.
const ANNOUNCEMENTS: [Kind; 3] = [Kind::BgpPeer, Kind::BgpAdvertisement, Kind::L2Advertisement];

/// The default namespace of MetalLB's resources.
pub(crate) const CONFIG_NAMESPACE: &str = "metallb-system";

/// The active configuration: the last good value of every object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The pools, in the allocator's form.
    pub pools: PoolSet,
    /// The other properties of the pools, by name.
    pub pool_details: BTreeMap<String, PoolDetails>,
    /// The labels of pools that exist but never had a good value.
    pub unreadable_pools: BTreeMap<String, Labels>,
    /// BGPPeers by name.
    pub peers: BTreeMap<String, Peer>,
    /// BGPAdvertisements by name.
    pub advertisements: BTreeMap<String, Advertisement>,
    /// The values of names that Community objects define.
    pub(crate) aliases: Aliases,
    /// L2Advertisements by name.
    pub layer2_advertisements: BTreeMap<Arc<str>, Layer2Advertisement>,
    /// The keys that authenticate hellos of layer 2.
    pub(crate) hello_secrets: HelloSecrets,
    /// Whether an object says what to announce or to whom, be it valid or not. If none does,
    /// another program announces the addresses.
    pub(crate) says_announcements: bool,
    /// Where objects come from that only MetalLB's ConfigMap or an AddressPool means.
    pub(crate) sources: Sources,
    /// Errors and notices about the objects.
    pub problems: Vec<Problem>,
    /// The objects that are refused as they are, also those whose errors this process leaves to
    /// announcers.
    pub(crate) refused: BTreeMap<ObjectKey, Refusal>,
}

/// Why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For programs.
    pub cause: Cause,
    /// The message of the [`Problem`].
    pub message: String,
}

/// An error or notice about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object.
    pub object: ObjectKey,
    /// Whether the object is rejected.
    pub severity: Severity,
    /// The field, what is wrong with it, and the remedy.
    pub message: String,
}

/// The effect of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The object is rejected. Its last good value, if any, stays in use.
    Error,
    /// The object is accepted, but has a field that its kind lacks, almost always by mistake. It is
    /// an error in manifests, which kubectl and the API server would not apply as they are, and a
    /// notice about a running cluster.
    UnknownField,
    /// The object is accepted, but a part of it has no effect.
    Notice,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

impl Config {
    /// Whether an advertisement announces Services of this `loadBalancerClass` of another load
    /// balancer.
    pub fn announces_class(&self, class: Option<&str>) -> bool {
        let Some(class) = class else {
            return false;
        };
        let bgp = self.advertisements.values().map(|ad| &ad.selection);
        let layer2 = self.layer2_advertisements.values();
        let layer2 = layer2.map(|ad| &ad.selection);
        bgp.chain(layer2)
            .any(|selection| selection.classes.accepts(class))
    }
}

/// The input of [`ConfigObjects::compile`] besides the configuration objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompileContext<'a> {
    /// Labels of namespaces, for `namespaceSelectors`.
    pub namespaces: &'a BTreeMap<String, Labels>,
    /// Nodes, whose addresses and podCIDRs are never allocated.
    pub nodes: &'a BTreeMap<String, Node>,
    /// Ranges of cluster addresses, which are never allocated.
    pub service_cidrs: &'a ServiceCidrs,
    /// The addresses of Services of other load balancers, which are never allocated.
    pub foreign_services: &'a ForeignServices,
}

/// The configuration objects, unparsed, and the last good value of each.
#[derive(Debug, Default)]
pub(crate) struct ConfigObjects {
    raw: BTreeMap<ObjectKey, RawObject>,
    config_maps: ConfigMaps,
    address_pools: AddressPools,
    /// The pools that only AddressPools mean, as of the last compilation.
    self_announced: Arc<BTreeSet<String>>,
    /// The objects that ConfigMaps and AddressPools mean, as of the last compilation.
    converted: BTreeMap<ObjectKey, RawObject>,
    /// The kinds of which this process has read an object.
    seen: BTreeSet<Kind>,
    good_pools: BTreeMap<ObjectKey, PoolSpec>,
    good_peers: BTreeMap<ObjectKey, Peer>,
    good_bfd_profiles: BTreeMap<ObjectKey, SessionConfig>,
    good_advertisements: BTreeMap<ObjectKey, Advertisement>,
    good_layer2_advertisements: BTreeMap<ObjectKey, Layer2Advertisement>,
    good_aliases: BTreeMap<ObjectKey, Aliases>,
    unreadable: BTreeMap<Kind, String>,
    absent: BTreeMap<Kind, String>,
    for_allocation_only: bool,
    without_secrets: bool,
}

impl ConfigObjects {
    /// For a process that only allocates: it doesn't read the passwords of BGPPeers, and leaves
    /// errors of what only announcers use to them ([`Self::compile_announcers`]).
    pub(crate) fn for_allocation_only() -> Self {
        Self {
            for_allocation_only: true,
            ..Self::default()
        }
    }

    /// For a prediction: accepts BGPPeers whose Secret is absent, so that users need not export
    /// passwords.
    pub(crate) fn for_prediction() -> Self {
        Self {
            without_secrets: true,
            ..Self::default()
        }
    }

    /// Adds or replaces an object. This doesn't make its kind readable again: only a complete list
    /// does.
    pub(crate) fn apply(&mut self, key: ObjectKey, raw: RawObject) {
        match key.kind {
            Kind::ConfigMap => self.config_maps.apply(&key.name, &raw),
            Kind::AddressPool => self.address_pools.apply(&key.name, &raw),
            _ => {}
        }
        self.seen.insert(key.kind);
        self.raw.insert(key, raw);
    }

    /// Whether an object differs from the known one in its status at most, which is no
    /// configuration.
    pub(crate) fn differs_in_status_only(&self, key: &ObjectKey, new: &RawObject) -> bool {
        let Some(old) = self.raw.get(key) else {
            return false;
        };
        let configuration = |raw: &RawObject| {
            let mut raw = raw.clone();
            raw.metadata.resource_version.clear();
            raw.body.remove("status");
            (raw.api_version, raw.metadata, raw.body)
        };
        configuration(old) == configuration(new)
    }

    /// An object, unless only a ConfigMap means it.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&RawObject> {
        self.raw.get(key)
    }

    /// The objects of ferrolb's own kinds.
    pub(crate) fn own(&self) -> impl Iterator<Item = &ObjectKey> {
        self.raw.keys().filter(|key| key.kind.is_own())
    }

    /// The status of an object, if it can be read.
    pub(crate) fn status<T: for<'de> serde::Deserialize<'de>>(&self, key: &ObjectKey) -> Option<T> {
        T::deserialize(self.raw.get(key)?.body.get("status")?).ok()
    }

    /// Removes an object and its last good value, because it was deleted deliberately.
    pub(crate) fn delete(&mut self, key: &ObjectKey) {
        self.raw.remove(key);
        match key.kind {
            Kind::IpAddressPool | Kind::FerrolbIpAddressPool => _ = self.good_pools.remove(key),
            Kind::BgpPeer | Kind::FerrolbBgpPeer => _ = self.good_peers.remove(key),
            Kind::BfdProfile | Kind::FerrolbBfdProfile => _ = self.good_bfd_profiles.remove(key),
            Kind::BgpAdvertisement | Kind::FerrolbBgpAdvertisement => {
                _ = self.good_advertisements.remove(key);
            }
            Kind::L2Advertisement | Kind::FerrolbL2Advertisement => {
                _ = self.good_layer2_advertisements.remove(key);
            }
            Kind::Community | Kind::FerrolbCommunity => _ = self.good_aliases.remove(key),
            Kind::ConfigMap => self.config_maps.delete(&key.name),
            Kind::AddressPool => self.address_pools.delete(&key.name),
            _ => {}
        }
    }

    /// Replaces all objects of a kind. Objects that are not in the list were deleted.
    pub(crate) fn reset(&mut self, kind: Kind, objects: Vec<(ObjectKey, RawObject)>) {
        let present: BTreeSet<&ObjectKey> = objects.iter().map(|(key, _)| key).collect();
        let gone: Vec<ObjectKey> = self
            .raw
            .keys()
            .filter(|key| key.kind == kind && !present.contains(key))
            .cloned()
            .collect();
        for key in gone {
            self.delete(&key);
        }
        self.set_readable(kind);
        for (key, raw) in objects {
            self.apply(key, raw);
        }
    }

    /// Whether there are objects of a kind.
    pub(crate) fn has_any(&self, kind: Kind) -> bool {
        self.raw.keys().any(|key| key.kind == kind)
    }

    /// Whether there are objects of an API group.
    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.raw.keys().any(|key| key.kind.group() == group)
    }

    /// The text of an invalid ConfigMap as it was probably meant, without passwords.
    pub(crate) fn correction(&self, object: &ObjectKey) -> Option<&str> {
        let is_config_map = object.kind == Kind::ConfigMap;
        is_config_map.then(|| self.config_maps.correction(&object.name))?
    }

    /// Marks a kind as unreadable (no CRD, no permission). Known objects stay in use, pools are
    /// frozen.
    pub(crate) fn set_unreadable(&mut self, kind: Kind, message: String) {
        self.absent.remove(&kind);
        self.unreadable.insert(kind, message);
    }

    /// Marks a kind as unknown to the source.
    pub(crate) fn set_absent(&mut self, kind: Kind, message: String) {
        self.unreadable.remove(&kind);
        self.absent.insert(kind, message);
    }

    /// Whether the kind is refused.
    pub(crate) fn is_unreadable(&self, kind: Kind) -> bool {
        self.unreadable.contains_key(&kind)
    }

    /// Whether the kind is refused in one of the groups.
    fn is_any_unreadable(&self, kind: Kind) -> bool {
        kind.groups().any(|kind| self.is_unreadable(kind))
    }

    /// Whether the process only allocates.
    pub(crate) const fn are_for_allocation_only(&self) -> bool {
        self.for_allocation_only
    }

    /// Whether the source doesn't know the kind.
    pub(crate) fn is_absent(&self, kind: Kind) -> bool {
        self.absent.contains_key(&kind)
    }

    /// Marks a kind as listed. Returns whether it was unreadable.
    pub(crate) fn set_readable(&mut self, kind: Kind) -> bool {
        self.absent.remove(&kind);
        self.unreadable.remove(&kind).is_some()
    }

    /// Checks all objects and compiles the active configuration, with its problems.
    pub(crate) fn compile(&mut self, context: CompileContext<'_>) -> Arc<Config> {
        let mut config = Config::default();
        let additions = self.config_maps.additions(&self.raw);
        self.converted = additions.objects;
        config.sources = additions.sources;
        config.problems = additions.problems;
        let of_pools = self.address_pools.additions(&self.raw, &mut config.sources);
        self.converted.extend(of_pools.objects);
        config.problems.extend(of_pools.problems);
        let of_announcements = |kind: Kind| {
            let mut kinds = ANNOUNCEMENTS.into_iter().flat_map(Kind::groups);
            kinds.any(|other| other == kind)
        };
        config.says_announcements = self.objects().any(|(key, _)| of_announcements(key.kind));
        self.report_unreadable(&mut config);
        let for_announcers = !self.for_allocation_only;
        let aliases = for_announcers.then(|| self.compile_aliases(&mut config));
        self.compile_pools(context, &mut config);
        self.self_announced = Arc::new(self_announced(&config));
        let refused = |kind: Kind| self.unreadable.contains_key(&kind);
        let are_known = !refused(Kind::ConfigMap) && !refused(Kind::AddressPool);
        let are_known = are_known && additions.are_complete && !of_pools.is_incomplete;
        let are_complete = config.pools.complete() && are_known;
        config.pools.set_complete(are_complete);
        if let Some(aliases) = aliases {
            self.compile_peers(&mut config);
            self.compile_advertisements(&aliases, &mut config);
            config.aliases = aliases;
        } else {
            self.compile_announcers(&mut config);
        }
        self.compile_layer2_advertisements(&mut config);
        self.report_unknown_names(&mut config);
        self.compile_hello_secrets(&mut config);
        let problems = std::mem::take(&mut config.problems).into_iter();
        config.problems = problems
            .map(|problem| config.sources.resolve(problem))
            .collect();
        Arc::new(config)
    }

    /// Compiles who announces, for a process that only allocates: its leader reports services that
    /// too few nodes announce, or none, and writes into the status of objects that they are
    /// refused. Announcers report the errors.
    fn compile_announcers(&mut self, config: &mut Config) {
        let problems = std::mem::take(&mut config.problems);
        let aliases = self.compile_aliases(config);
        self.compile_advertisements(&aliases, config);
        self.compile_peers(config);
        config.problems = problems;
    }

    fn report_unreadable(&self, config: &mut Config) {
        // One of two equivalent kinds is enough. If both are missing, one report is enough.
        // A process that only allocates needs nothing that is about BGP.
        let of_announcers = |kind| {
            use Kind::{BgpAdvertisement, BgpPeer, Community};
            matches!(kind, BgpPeer | BgpAdvertisement | Community)
        };
        let dispensable =
            |kind: Kind| is_dispensable(kind) || (self.for_allocation_only && of_announcers(kind));
        let neither = |kind: &Kind| {
            !dispensable(*kind)
                && kind
                    .other_group()
                    .is_some_and(|other| *kind < other && self.is_absent(other))
        };
        let absent = self
            .absent
            .iter()
            .filter(|(kind, _)| !self.has_any(Kind::ConfigMap) && neither(kind));
        for (kind, message) in self.unreadable.iter().chain(absent) {
            let object = ObjectKey::new(*kind, ObjectName::new("", "*"));
            config.error(
                object,
                format!("can't be read; the last known objects stay in use: {message}"),
            );
        }
    }

    /// All objects, with those that ConfigMaps and AddressPools mean.
    fn objects(&self) -> impl Iterator<Item = (&ObjectKey, &RawObject)> {
        self.raw.iter().chain(&self.converted)
    }

    /// Whether the objects of a kind in both groups are known: no list was refused, and if the
    /// source doesn't know one group's kind, then its CRD can't be gone by mistake, because this
    /// process has read objects of the other group or a ConfigMap of MetalLB, or, if ferrolb's is
    /// missing, AddressPools.
    fn knows_all(&self, kind: Kind) -> bool {
        let known = |kind: Kind, other: Kind| {
            !self.unreadable.contains_key(&kind)
                && (!self.is_absent(kind)
                    || self.seen.contains(&other)
                    || kind.is_own() && self.seen.contains(&Kind::AddressPool)
                    || self.has_any(Kind::ConfigMap))
        };
        let other = kind.other_group().unwrap_or(kind);
        known(kind, other) && known(other, kind)
    }

    /// The objects of a kind, older ones first, so that of two that conflict the older one is used.
    fn of_kind(&self, kind: Kind) -> Vec<(&ObjectKey, &RawObject)> {
        let mut objects: Vec<_> = self.objects().filter(|(key, _)| key.kind == kind).collect();
        objects.sort_by(|a, b| {
            let created = |raw: &RawObject| raw.metadata.creation_timestamp.clone();
            created(a.1).cmp(&created(b.1)).then_with(|| a.0.cmp(b.0))
        });
        objects
    }

    fn compile_aliases(&mut self, config: &mut Config) -> Aliases {
        let mut all = Aliases::new();
        let mut good = BTreeMap::new();
        for (key, raw) in self.of_both_groups(Kind::Community) {
            let parsed = spec::<CommunitySpec>(raw, key, config).check(|spec| {
                let aliases = advertisement::parse_aliases(&spec)?;
                match aliases.keys().find(|name| all.contains_key(*name)) {
                    Some(name) => {
                        let message = format!(
                            "{name:?} is defined by another Community object as well: remove one"
                        );
                        let error = FieldError::new("spec.communities", message);
                        Err(error.because(Cause::NameInUse))
                    }
                    None => Ok(aliases),
                }
            });
            let aliases = parsed.or_else(|error| {
                config.refuse(key, &error);
                self.good_aliases.get(key).cloned().ok_or(())
            });
            if let Ok(aliases) = aliases {
                // A last good value may have names that an older object defines now.
                for (name, value) in &aliases {
                    all.entry(name.clone()).or_insert(*value);
                }
                good.insert(key.clone(), aliases);
            }
        }
        self.good_aliases = good;
        all
    }

    fn compile_advertisements(&mut self, aliases: &Aliases, config: &mut Config) {
        let mut good = BTreeMap::new();
        for (key, raw) in self.of_both_groups(Kind::BgpAdvertisement) {
            let parsed = both_groups::spec::<BgpAdvertisementSpec, FerrolbBgpAdvertisementSpec>(
                raw, key, config,
            );
            let parsed = parsed.check(|(mut spec, ferrolb)| {
                if self.for_allocation_only && self.is_any_unreadable(Kind::Community) {
                    // It needs no attributes.
                    spec.communities.clear();
                }
                let other = config.advertisements.get(&key.name.name);
                both_groups::check_name(other.map(|other| &other.object))?;
                let created = &raw.metadata.creation_timestamp;
                advertisement::parse(key, created, &spec, ferrolb.as_ref(), aliases)
            });
            let others = self.unselectable(key, &config.sources);
            // The selected pools are known only if every field can be read.
            let parsed = parsed.and_then(|mut advertisement| {
                advertisement.selection.unselectable = others;
                aggregation::check(&advertisement, config)?;
                Ok(advertisement)
            });
            let advertisement = parsed.or_else(|error| {
                config.refuse(key, &error);
                self.good_advertisements.get(key).cloned().ok_or(())
            });
            if let Ok(advertisement) = advertisement {
                good.insert(key.clone(), advertisement.clone());
                config
                    .advertisements
                    .entry(key.name.name.clone())
                    .or_insert(advertisement);
            }
        }
        self.good_advertisements = good;
    }

    /// The pools that an advertisement does not select: AddressPools say themselves how they are
    /// announced.
    fn unselectable(&self, advertisement: &ObjectKey, sources: &Sources) -> Arc<BTreeSet<String>> {
        match sources.origin(advertisement).kind {
            Kind::AddressPool => Arc::default(),
            _ => self.self_announced.clone(),
        }
    }

    /// Reports advertisements that name a pool or a peer that doesn't exist.
    fn report_unknown_names(&self, config: &mut Config) {
        // Announcers report those of BGPAdvertisements.
        let bgp = |_: &&Advertisement| !self.for_allocation_only;
        let cause = |kind: Kind, name: &str| {
            let exists = self.objects().any(|(key, _)| {
                kind.groups().any(|group| group == key.kind) && key.name.name == name
            });
            let kind = kind.name();
            if exists {
                format!("{kind} {name} is invalid: fix it (ferrolb check reports its error)")
            } else {
                format!("there is no {kind} {name}: create it, or correct the name")
            }
        };
        let mut notices = Vec::new();
        let ads = config.advertisements.values().filter(bgp);
        let pools = ads.map(|ad| (&ad.object, &ad.selection));
        let layer2 = config.layer2_advertisements.values();
        for (object, selection) in pools.chain(layer2.map(|ad| (&ad.object, &ad.selection))) {
            for name in selection.pools() {
                if selection.unselectable.contains(name) {
                    let notice = format!(
                        "spec.ipAddressPools: {name} is an AddressPool, which its protocol alone \
                         announces: write an IPAddressPool instead of it"
                    );
                    notices.push((object.clone(), notice));
                } else if !config.pool_details.contains_key(name) {
                    let cause = cause(Kind::IpAddressPool, name);
                    notices.push((object.clone(), format!("spec.ipAddressPools: {cause}")));
                }
            }
        }
        for ad in config.advertisements.values().filter(bgp) {
            for name in &ad.peers {
                if !config.peers.contains_key(name) {
                    let cause = cause(Kind::BgpPeer, name);
                    notices.push((ad.object.clone(), format!("spec.peers: {cause}")));
                }
            }
        }
        for (object, notice) in notices {
            config.notice(object, notice);
        }
    }
}

/// The pools that an AddressPool means.
fn self_announced(config: &Config) -> BTreeSet<String> {
    let pools = config.pool_details.iter();
    let meant =
        pools.filter(|(_, pool)| config.sources.origin(&pool.object).kind == Kind::AddressPool);
    meant.map(|(name, _)| name.clone()).collect()
}

/// Reads `spec` and reports unknown fields, which are almost always typos.
fn spec<T>(raw: &RawObject, key: &ObjectKey, config: &mut Config) -> Partial<T>
where
    T: for<'de> serde::Deserialize<'de> + Default,
{
    let mut unknown = Vec::new();
    let parsed = raw.partial("spec", &mut unknown);
    for path in &unknown {
        report_unknown_field(config, key, path);
    }
    parsed
}

fn report_unknown_field(config: &mut Config, key: &ObjectKey, path: &str) {
    let message = format!(
        "{path}: has no effect, because {} has no such field: check the spelling",
        key.kind.name()
    );
    config.unknown_field(key.clone(), message);
}

/// Whether a cluster without a kind is complete: without L2Advertisements nothing is announced by
/// layer 2, and BFDProfiles exist only where a BGPPeer names them.
const fn is_dispensable(kind: Kind) -> bool {
    matches!(kind, Kind::L2Advertisement | Kind::BfdProfile)
}

impl Config {
    /// Reports an object that is refused as it is.
    fn refuse(&mut self, object: &ObjectKey, error: &FieldError) {
        self.refuse_with(object, error.cause, error.to_string());
    }

    fn refuse_with(&mut self, object: &ObjectKey, cause: Cause, message: String) {
        let refusal = Refusal {
            cause,
            message: message.clone(),
        };
        self.refused.insert(object.clone(), refusal);
        self.error(object.clone(), message);
    }

    fn error(&mut self, object: ObjectKey, message: String) {
        self.problems.push(Problem {
            object,
            severity: Severity::Error,
            message,
        });
    }

    fn unknown_field(&mut self, object: ObjectKey, message: String) {
        self.problems.push(Problem {
            object,
            severity: Severity::UnknownField,
            message,
        });
    }

    fn notice(&mut self, object: ObjectKey, message: String) {
        self.problems.push(Problem {
            object,
            severity: Severity::Notice,
            message,
        });
    }
}
