//! BGPAdvertisement and Community: select addresses, nodes and peers, and set the attributes of
//! routes.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_bgp::rib::DEFAULT_LOCAL_PREF;
use ferrolb_bgp::wire::{Community, LargeCommunity};

use super::selection::{Selection, SelectionSpec};
use super::selector::{is_label_key, unique};
use crate::core::api::ferrolb::{
    AnnounceAggregates, FerrolbBgpAdvertisementSpec, MIN_ANNOUNCERS_MAX,
};
use crate::core::api::metallb::{BgpAdvertisementSpec, CommunitySpec};
use crate::core::api::{Errors, FieldError, ObjectKey};
use crate::core::model::Family;

/// A checked BGPAdvertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Name of the BGPAdvertisement.
    pub name: String,
    /// The object.
    pub object: ObjectKey,
    /// When it was created (RFC 3339 in UTC; empty in manifests).
    pub created: String,
    /// The prefix length of IPv4 routes.
    pub aggregation_length: u8,
    /// The prefix length of IPv6 routes.
    pub aggregation_length_v6: u8,
    /// LOCAL_PREF on iBGP sessions.
    pub local_pref: Option<u32>,
    /// Sorted.
    pub communities: BTreeSet<Community>,
    /// Sorted.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// The keys of labels whose values are further communities.
    pub community_labels: BTreeSet<String>,
    /// The pools, services and nodes.
    pub selection: Selection,
    /// BGPPeers by name. Empty: all.
    pub peers: BTreeSet<String>,
    /// How many nodes should announce each prefix at least.
    pub min_announcers: u32,
    /// When its aggregates are announced.
    pub announce_aggregates: AnnounceAggregates,
}

impl Advertisement {
    /// The sort key: older ones first, then by name. The first of two that conflict takes
    /// precedence.
    pub fn age(&self) -> (&str, &str) {
        (&self.created, &self.name)
    }

    /// The LOCAL_PREF on iBGP sessions, or its default.
    pub fn effective_local_pref(&self) -> u32 {
        self.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)
    }

    /// Whether both set the same LOCAL_PREF.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.effective_local_pref() == other.effective_local_pref()
    }

    /// Whether it selects a peer.
    pub fn selects_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.contains(name)
    }

    /// The aggregation length of a family.
    pub const fn length(&self, family: Family) -> u8 {
        match family {
            Family::V4 => self.aggregation_length,
            Family::V6 => self.aggregation_length_v6,
        }
    }

    /// Whether its prefixes of a family are aggregates, not host routes.
    pub const fn aggregates(&self, family: Family) -> bool {
        self.length(family) < family.bits()
    }

    /// Whether its aggregates are announced without a service inside.
    pub fn is_always_announced(&self) -> bool {
        self.announce_aggregates == AnnounceAggregates::Always
    }
}

/// A community of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CommunityValue {
    /// RFC 1997, `a:b`.
    Standard(Community),
    /// RFC 8092, `large:a:b:c`.
    Large(LargeCommunity),
}

/// The values of names that Community objects define.
pub(crate) type Aliases = BTreeMap<String, CommunityValue>;

/// Checks a Community object.
///
/// # Errors
/// Every entry whose value is no community, or whose name is defined twice.
pub(crate) fn parse_aliases(spec: &CommunitySpec) -> Result<Aliases, FieldError> {
    let mut errors = Errors::default();
    let mut aliases = Aliases::new();
    for (index, alias) in spec.communities.iter().enumerate() {
        let path = format!("spec.communities[{index}]");
        match literal(&alias.value) {
            Some(value) => {
                if aliases.insert(alias.name.clone(), value).is_some() {
                    let name = &alias.name;
                    let message = format!("{name:?} is defined twice in this object: remove one");
                    errors.add(FieldError::new(format!("{path}.name"), message));
                }
            }
            None => errors.add(FieldError::new(
                format!("{path}.value"),
                format!("{:?} is not a community: {FORM}", alias.value),
            )),
        }
    }
    errors.into_result(Some(aliases))
}

const FORM: &str = "write 64512:100, large:64512:1:100, or a well-known name like no-export";

fn literal(text: &str) -> Option<CommunityValue> {
    match text.strip_prefix("large:") {
        Some(large) => large.parse().ok().map(CommunityValue::Large),
        None => text.parse().ok().map(CommunityValue::Standard),
    }
}

/// Checks a BGPAdvertisement. `ferrolb` has the further fields of ferrolb's kind.
///
/// # Errors
/// Every invalid field, and what to write instead.
pub(crate) fn parse(
    object: &ObjectKey,
    created: &str,
    spec: &BgpAdvertisementSpec,
    ferrolb: Option<&FerrolbBgpAdvertisementSpec>,
    aliases: &Aliases,
) -> Result<Advertisement, FieldError> {
    let BgpAdvertisementSpec {
        aggregation_length,
        aggregation_length_v6,
        local_pref,
        communities,
        ip_address_pools,
        ip_address_pool_selectors,
        node_selectors,
        peers,
        service_selectors,
    } = spec;
    let default = FerrolbBgpAdvertisementSpec::default();
    let FerrolbBgpAdvertisementSpec {
        community_labels,
        load_balancer_classes,
        min_announcers,
        announce_aggregates,
    } = ferrolb.unwrap_or(&default);
    let mut errors = Errors::default();
    let length = errors.record(length("spec.aggregationLength", *aggregation_length, 1, 32));
    let length_v6 = errors.record(length_of_v6(*aggregation_length_v6));
    let is_aggregate =
        length.is_some_and(|length| length != 32) || length_v6.is_some_and(|length| length != 128);
    if !service_selectors.is_empty() && is_aggregate {
        let message = "can't be combined with an aggregation length: an aggregate covers all \
            services in it";
        errors.add(FieldError::new("spec.serviceSelectors", message));
    }
    let lengths_are_valid = length.is_some() && length_v6.is_some();
    if *announce_aggregates == AnnounceAggregates::Always && !is_aggregate && lengths_are_valid {
        let message = "always has no effect on host routes: set aggregationLength below 32 or \
            aggregationLengthV6 below 128";
        errors.add(FieldError::new("spec.announceAggregates", message));
    }
    let (standard, large) = communities_of(communities, aliases, &mut errors);
    let selection = errors.record(Selection::parse(&SelectionSpec {
        ip_address_pools,
        ip_address_pool_selectors,
        node_selectors,
        service_selectors,
        load_balancer_classes,
    }));
    let peers = errors.record(unique("spec.peers", peers));
    let community_labels = errors.record(label_keys(community_labels));
    let min_announcers = errors.record(floor(*min_announcers));
    let advertisement = || {
        Some(Advertisement {
            name: object.name.name.clone(),
            object: object.clone(),
            created: created.to_owned(),
            aggregation_length: length?,
            aggregation_length_v6: length_v6?,
            local_pref: (*local_pref != 0).then_some(*local_pref),
            communities: standard,
            large_communities: large,
            community_labels: community_labels?,
            selection: selection?,
            peers: peers?,
            min_announcers: min_announcers?,
            announce_aggregates: *announce_aggregates,
        })
    };
    errors.into_result(advertisement())
}

/// Checks `communityLabels`.
fn label_keys(keys: &[String]) -> Result<BTreeSet<String>, FieldError> {
    const FIELD: &str = "spec.communityLabels";
    let mut errors = Errors::default();
    for (index, key) in keys.iter().enumerate() {
        if !is_label_key(key) {
            let message = format!(
                "{key:?} can't be the key of a label: write one such as community or \
                 example.com/community"
            );
            errors.add(FieldError::new(format!("{FIELD}[{index}]"), message));
        }
    }
    let unique = errors.record(unique(FIELD, keys));
    errors.into_result(unique)
}

/// The community that the value of a label means: a name, or a community with dots instead of
/// colons, which the value of a label can't contain. None for any other text.
pub(crate) fn community_of_label(value: &str, aliases: &Aliases) -> Option<CommunityValue> {
    let is_written =
        || value.starts_with("large.") || value.starts_with(|c: char| c.is_ascii_digit());
    let alias = aliases.get(value).copied();
    alias.or_else(|| match is_written() {
        true => literal(&value.replace('.', ":")),
        false => literal(value),
    })
}

/// What the value of a label can be.
pub(crate) const LABEL_FORM: &str = "write a name that a Community object defines, a well-known \
    name like no-export, or a community with dots: 64512.100 or large.64512.1.100";

fn communities_of(
    written: &[String],
    aliases: &Aliases,
    errors: &mut Errors,
) -> (BTreeSet<Community>, BTreeSet<LargeCommunity>) {
    let (mut standard, mut large) = (BTreeSet::new(), BTreeSet::new());
    errors.record(unique("spec.communities", written));
    for (index, text) in written.iter().enumerate() {
        match resolve(text, aliases) {
            Ok(CommunityValue::Standard(community)) => _ = standard.insert(community),
            Ok(CommunityValue::Large(community)) => _ = large.insert(community),
            Err(message) => {
                errors.add(FieldError::new(
                    format!("spec.communities[{index}]"),
                    message,
                ));
            }
        }
    }
    (standard, large)
}

fn resolve(text: &str, aliases: &Aliases) -> Result<CommunityValue, String> {
    if text.contains(':') {
        return literal(text).ok_or_else(|| format!("{text:?} is not a community: {FORM}"));
    }
    // A Community object may redefine a well-known name: it takes precedence.
    let alias = aliases.get(text).copied();
    alias.or_else(|| literal(text)).ok_or_else(|| {
        format!(
            "{text:?} is not a known community name: define it in a Community object, or \
            {FORM}"
        )
    })
}

fn floor(value: Option<u32>) -> Result<u32, FieldError> {
    let value = value.unwrap_or(1);
    if (1..=MIN_ANNOUNCERS_MAX).contains(&value) {
        return Ok(value);
    }
    let message = format!("{value} is not a number of nodes from 1 to {MIN_ANNOUNCERS_MAX}");
    Err(FieldError::new("spec.minAnnouncers", message))
}

fn length_of_v6(value: Option<i32>) -> Result<u8, FieldError> {
    length("spec.aggregationLengthV6", value, 1, 128)
}

fn length(path: &str, value: Option<i32>, min: u8, max: u8) -> Result<u8, FieldError> {
    let value = value.unwrap_or(i32::from(max));
    u8::try_from(value)
        .ok()
        .filter(|length| (min..=max).contains(length))
        .ok_or_else(|| {
            FieldError::new(path, format!("{value} is not a length from {min} to {max}"))
        })
}
