//! ferrolb's own resources (`ferrolb.io`): MetalLB's fields and the ones that MetalLB lacks.

use ferrolb_layer2::limits;
use schemars::JsonSchema;
use serde::Deserialize;

use super::metallb::{POOL_ENTRY_MAX, TEXT_MAX};

/// Maximum length of an interface name, in octets (`IFNAMSIZ` in Linux).
pub(crate) const INTERFACE_MAX: usize = 15;
/// Maximum length of a shutdown communication, in octets (RFC 9003 §2).
pub(crate) const SHUTDOWN_TEXT_MAX: usize = 255;
/// Maximum number of prepended AS numbers. Some routers reject long paths, and fewer make a path
/// unattractive.
pub(crate) const PREPEND_MAX: u8 = 16;
/// Maximum number of hops for GTSM.
pub(crate) const HOPS_MAX: u8 = 254;
/// Maximum length of the key of a label: a DNS name, a slash and a name.
pub(crate) const LABEL_KEY_MAX: usize = 317;
// Maximum lengths of lists: see those in [`super::metallb`].
const RESERVATIONS_MAX: usize = 512;
const RESERVED_ADDRESSES_MAX: usize = 8;
const LABELS_MAX: usize = 64;
const CLASSES_MAX: usize = 64;

/// The fields that ferrolb's IPAddressPool (v1alpha1) has in addition to MetalLB's
/// ([`super::metallb::IpAddressPoolSpec`]).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FerrolbIpAddressPoolSpec {
    /// Addresses that are kept for Services, which need not exist yet. No other Service gets them,
    /// but one that has such an address already keeps it. The Service gets them when it has no
    /// address, unless it requests others, regardless of autoAssign and serviceAllocation.
    #[schemars(
        length(max = RESERVATIONS_MAX),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["namespace", "name"]
        )
    )]
    pub reservations: Vec<ReservationSpec>,
}

/// Addresses that are kept for one Service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(default)]
pub(crate) struct ReservationSpec {
    /// The namespace of the Service.
    #[schemars(length(min = 1))]
    pub namespace: String,
    /// The name of the Service.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Addresses, CIDRs or ranges of the pool. The Service gets the first free address of each of
    /// its families.
    #[schemars(
        length(min = 1, max = RESERVED_ADDRESSES_MAX),
        inner(length(max = POOL_ENTRY_MAX))
    )]
    pub addresses: Vec<String>,
}

/// The fields that ferrolb's BGPPeer (v1alpha1) has in addition to MetalLB's
/// ([`super::metallb::BgpPeerSpec`]).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FerrolbBgpPeerSpec {
    /// Dynamic neighbors: every router in this network that connects gets a session. Excludes
    /// peerAddress.
    #[schemars(length(max = TEXT_MAX))]
    pub peer_network: String,
    /// Never connect, wait for the router to connect.
    pub passive: bool,
    /// Maximum number of hops to the router, 1 for the same link (GTSM, RFC 5082). Both ends must
    /// configure it.
    #[schemars(range(min = 1, max = HOPS_MAX))]
    pub ttl_security: Option<u8>,
    /// The interface that the session is bound to.
    #[schemars(length(max = TEXT_MAX))]
    pub source_interface: String,
    /// Send hold time: the session is closed if the router reads nothing for this long (RFC 9687).
    /// If absent, 8 minutes or twice the hold time, whichever is longer.
    #[schemars(length(max = 32))]
    pub send_hold_time: Option<String>,
    /// Maximum number of prefixes that the router may announce before the session is closed. If
    /// absent, there is no limit: received prefixes are not stored.
    #[schemars(range(min = 1))]
    pub prefix_limit: Option<u32>,
    /// How long the router retains our routes while ferrolb restarts, unless enableGracefulRestart
    /// is false.
    #[schemars(length(max = 32))]
    pub restart_time: Option<String>,
    /// Do not establish the session before BFD is up.
    pub bfd_strict: bool,
    /// Shutdown communication that the router's operator reads when ferrolb closes the session (RFC
    /// 9003).
    #[schemars(length(max = SHUTDOWN_TEXT_MAX))]
    pub shutdown_text: String,
    /// Whether routes carry the weight of the node as link bandwidth (RFC 10005): none, transitive,
    /// or nonTransitive (the older form, which older routers support).
    pub link_bandwidth: LinkBandwidth,
    /// How routes are withdrawn when a node must receive no more traffic.
    pub drain: DrainSpec,
    /// How many extra times our AS number appears in AS_PATH. eBGP only.
    #[schemars(range(max = PREPEND_MAX))]
    pub prepend: u8,
    /// MULTI_EXIT_DISC of all routes.
    pub med: Option<u32>,
}

/// How routes are withdrawn when a node must receive no more traffic.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DrainSpec {
    /// How long routes stay announced with GRACEFUL_SHUTDOWN (RFC 8326) before they are withdrawn.
    /// 0s: withdraw them at once.
    #[schemars(length(max = 32))]
    pub time: Option<String>,
    /// Whether cordoning the node is enough to drain it.
    pub on_cordon: bool,
}

/// The fields that ferrolb's BGPAdvertisement (v1alpha1) has in addition to MetalLB's
/// ([`super::metallb::BgpAdvertisementSpec`]).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FerrolbBgpAdvertisementSpec {
    /// Keys of labels whose values are further communities of the routes. The label of the Service
    /// counts, or else the one of its Namespace. The value is a name that Community objects define,
    /// a well-known name, or a community with dots instead of colons: 64512.100 or
    /// large.64512.1.100. An empty value is no community.
    #[schemars(
        length(max = LABELS_MAX),
        inner(length(max = LABEL_KEY_MAX)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub community_labels: Vec<String>,
    /// Classes of Services that are announced as well although another program is in charge of
    /// them: values of spec.loadBalancerClass, or any for every class. That program writes the
    /// addresses to the status, and ferrolb never does. Services that ferrolb is in charge of need
    /// no entry.
    #[schemars(length(max = CLASSES_MAX), inner(length(max = LABEL_KEY_MAX)))]
    pub load_balancer_classes: Vec<String>,
    /// How many nodes should announce each address at least. A drain keeps a route until so many
    /// other nodes announce the prefix, and the allocator writes an Event about a Service that
    /// fewer nodes announce. If absent, 1: a drain keeps the last route, and there are no Events.
    #[schemars(range(min = 1, max = MIN_ANNOUNCERS_MAX))]
    pub min_announcers: Option<u32>,
    /// When a node announces the aggregates of the selected pools: whenDeliverable (those of the
    /// Services that it announces, as MetalLB does), or always (all of them, with or without a
    /// Service inside). Always requires an aggregation length shorter than a host route's, and the
    /// capability NET_ADMIN for the announcers: they discard packets to addresses without a
    /// Service, which would otherwise return to the router.
    pub announce_aggregates: AnnounceAggregates,
}

/// When a node announces the aggregates of a pool.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum AnnounceAggregates {
    /// While it announces a Service inside.
    #[default]
    WhenDeliverable,
    /// With or without a Service inside.
    Always,
}

/// The largest `minAnnouncers`.
pub(crate) const MIN_ANNOUNCERS_MAX: u32 = 1000;

/// The fields that ferrolb's L2Advertisement (v1alpha1) has in addition to MetalLB's
/// ([`super::metallb::L2AdvertisementSpec`]).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FerrolbL2AdvertisementSpec {
    /// How the segment is searched for another host with an address before the address is first
    /// announced: fast (three probes within 300 ms), rfc5227 (4 s to 7 s, RFC 5227), or none.
    pub conflict_detection: ConflictDetection,
    /// Maximum number of unsolicited frames per second and interface. Of several L2Advertisements,
    /// the lowest value applies to all addresses.
    #[schemars(range(min = GRATUITOUS_RATE_MIN, max = GRATUITOUS_RATE_MAX))]
    pub gratuitous_rate: Option<u32>,
    /// Whether a node keeps an address when another node would be chosen now. If so, only a node
    /// with a higher preference takes it over, after 30 s.
    pub sticky: Option<bool>,
    /// The interval at which nodes that own addresses announce that they are alive, such as 100ms.
    /// A node that is silent for three intervals is replaced. Of several L2Advertisements, the
    /// shortest interval applies to all addresses.
    #[schemars(length(max = 32))]
    pub hello_interval: Option<String>,
    /// When a node hands its addresses over.
    pub drain: Layer2DrainSpec,
    /// Classes of Services that are announced as well although another program is in charge of
    /// them: values of spec.loadBalancerClass, or any for every class. That program writes the
    /// addresses to the status, and ferrolb never does. Services that ferrolb is in charge of need
    /// no entry.
    #[schemars(length(max = CLASSES_MAX), inner(length(max = LABEL_KEY_MAX)))]
    pub load_balancer_classes: Vec<String>,
}

const GRATUITOUS_RATE_MIN: u32 = limits::GRATUITOUS_RATE_RANGE.0;
const GRATUITOUS_RATE_MAX: u32 = limits::GRATUITOUS_RATE_RANGE.1;

/// When a node hands its addresses over.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Layer2DrainSpec {
    /// Whether cordoning the node is enough.
    pub on_cordon: bool,
}

/// How the segment is searched for another host with an address.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ConflictDetection {
    /// Three probes within 300 ms.
    #[default]
    Fast,
    /// The times of RFC 5227 §2.1.1: 4 s to 7 s.
    Rfc5227,
    /// No probes. Not called "off" in YAML: YAML 1.1, and so kubectl, reads that as a boolean.
    #[serde(rename = "none")]
    Off,
}

/// How routes carry the weight of a node.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum LinkBandwidth {
    /// Routes carry no weight. Not called "off" in YAML: YAML 1.1, and so kubectl, reads that as a
    /// boolean.
    #[default]
    #[serde(rename = "none")]
    Off,
    /// In a transitive extended community: it passes through other ASes, and BIRD propagates it.
    Transitive,
    /// In a non-transitive one, the older form, which older routers support.
    NonTransitive,
}
