//! MetalLB's resources with the fields that its CRDs define (`metallb.io`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Password;

/// Maximum port of a router.
pub(crate) const MAX_PORT: u16 = 16384;

// Limits of ferrolb's own kinds. Without them the API server would estimate the rules about these
// texts and lists as too expensive.

/// Maximum length of a text: that of a DNS name, so that the rule about a longer one explains it.
pub(crate) const TEXT_MAX: usize = 253;
/// Maximum length of an entry of a pool: two IPv6 addresses with spaces around them.
pub(crate) const POOL_ENTRY_MAX: usize = 100;
/// Maximum number of entries of a pool.
const POOL_ENTRIES_MAX: usize = 1024;
/// Maximum number of communities of an advertisement.
const COMMUNITIES_MAX: usize = 256;
/// Maximum number of names in a Community.
const ALIASES_MAX: usize = 1024;
/// Maximum number of interfaces of an L2Advertisement.
const INTERFACES_MAX: usize = 256;

/// `IPAddressPool.spec` (v1beta1). The descriptions of this and the other types are also those of
/// the CRDs of ferrolb's own kinds.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct IpAddressPoolSpec {
    /// CIDRs, or ranges that include both ends, such as 192.0.2.10-192.0.2.20.
    #[schemars(length(min = 1, max = POOL_ENTRIES_MAX), inner(length(max = POOL_ENTRY_MAX)))]
    pub addresses: Vec<String>,
    /// Whether Services that request no pool get addresses from this one.
    pub auto_assign: Option<bool>,
    /// Whether IPv4 addresses that end in .0 or .255 are never allocated.
    #[serde(rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// Which Services may get addresses from the pool. If absent, all.
    pub service_allocation: Option<ServiceAllocation>,
}

/// How many addresses of a pool are in use and free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
pub(crate) struct PoolStatus {
    /// The number of IPv4 addresses in use.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,
    /// The number of IPv6 addresses in use.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,
    /// The number of IPv4 addresses that are free.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,
    /// The number of IPv6 addresses that are free.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,
}

/// Which Services may get addresses from a pool.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceAllocation {
    /// Of the pools that accept a Service, the one with the smallest number is used first; 0 is
    /// last.
    pub priority: i64,
    /// Namespaces by name. If this and namespaceSelectors are empty, all.
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub namespaces: Vec<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services by label. If empty, all.
    pub service_selectors: Vec<LabelSelector>,
}

/// `BGPPeer.spec` (v1beta2).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BgpPeerSpec {
    /// Our AS number.
    #[serde(rename = "myASN")]
    #[schemars(range(min = 1))]
    pub my_asn: u32,
    /// The router's AS number. Excludes dynamicASN.
    #[serde(rename = "peerASN")]
    pub peer_asn: u32,
    /// The kind of AS that the router may be in, instead of a number: internal (ours), external
    /// (any but ours) or auto (any).
    #[serde(rename = "dynamicASN")]
    #[schemars(extend("enum" = ["internal", "external", "auto"]))]
    pub dynamic_asn: String,
    /// The AS number that this session uses instead of myASN.
    #[serde(rename = "localASN")]
    #[schemars(range(min = 1))]
    pub local_asn: Option<u32>,
    /// The router's IP address.
    #[schemars(length(max = TEXT_MAX))]
    pub peer_address: String,
    /// The interface of an unnumbered session, instead of peerAddress: the router's link-local
    /// address is found there. The session carries both families.
    #[schemars(length(max = TEXT_MAX))]
    pub interface: String,
    /// The source address of the session, and the next hop of its family. In a BGPPeer of
    /// ferrolb.io also a network: each node uses its lowest address in it.
    #[schemars(length(max = TEXT_MAX))]
    pub source_address: String,
    /// The router's port.
    #[schemars(range(min = 1, max = MAX_PORT))]
    pub peer_port: Option<u16>,
    /// Hold time: the session is closed if nothing is received for this long, such as 90s. 0s
    /// disables the hold timer.
    #[schemars(length(max = 32))]
    pub hold_time: Option<String>,
    /// The interval between KEEPALIVEs. If absent, or 0s with a hold time, a third of the hold
    /// time.
    #[schemars(length(max = 32))]
    pub keepalive_time: Option<String>,
    /// Maximum time between two attempts to connect.
    #[schemars(length(max = 32))]
    pub connect_time: Option<String>,
    /// The BGP identifier, an IPv4 address. If absent, the node's IPv4 address, or else a hash of
    /// its name: the same for all its sessions.
    #[serde(rename = "routerID")]
    #[schemars(length(max = TEXT_MAX))]
    pub router_id: String,
    /// The nodes that have this session. A node needs to match one entry. If empty, all nodes have
    /// it.
    pub node_selectors: Vec<LabelSelector>,
    /// The password for TCP MD5. Prefer passwordSecret.
    #[schemars(with = "String", length(max = 80))]
    pub password: Password,
    /// A Secret of type kubernetes.io/basic-auth in this object's namespace, with the password for
    /// TCP MD5.
    pub password_secret: SecretReference,
    /// The BFDProfile, in this object's namespace, of the session's BFD. If absent, BFD is off.
    pub bfd_profile: String,
    /// Whether the router is asked to retain our routes while ferrolb restarts (RFC 4724).
    pub enable_graceful_restart: Option<bool>,
    /// Whether the router may be more than one hop away.
    pub ebgp_multi_hop: bool,
    /// The name of a VRF. Not supported yet.
    #[schemars(length(max = TEXT_MAX))]
    pub vrf: String,
    /// Whether the session carries routes of both families.
    pub dual_stack_address_family: bool,
    /// Deprecated, has no effect.
    #[serde(rename = "disableMP")]
    pub disable_mp: bool,
}

/// `BGPPeer.spec` (v1beta1): the fields of v1beta2 that MetalLB began with.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BgpPeerV1Beta1Spec {
    #[serde(rename = "myASN")]
    my_asn: u32,
    #[serde(rename = "peerASN")]
    peer_asn: u32,
    peer_address: String,
    source_address: String,
    /// 0, which v1beta2 rejects, is the port of BGP.
    peer_port: Option<u16>,
    hold_time: Option<String>,
    keepalive_time: Option<String>,
    #[serde(rename = "routerID")]
    router_id: String,
    node_selectors: Vec<LabelSelector>,
    password: Password,
    bfd_profile: String,
    ebgp_multi_hop: bool,
}

/// An absent time stays absent. MetalLB converts it to 0s, which disables the timer.
impl From<BgpPeerV1Beta1Spec> for BgpPeerSpec {
    fn from(old: BgpPeerV1Beta1Spec) -> Self {
        let BgpPeerV1Beta1Spec {
            my_asn,
            peer_asn,
            peer_address,
            source_address,
            peer_port,
            hold_time,
            keepalive_time,
            router_id,
            node_selectors,
            password,
            bfd_profile,
            ebgp_multi_hop,
        } = old;
        Self {
            my_asn,
            peer_asn,
            peer_address,
            source_address,
            peer_port: peer_port.filter(|port| *port != 0),
            hold_time,
            keepalive_time,
            router_id,
            node_selectors,
            password,
            bfd_profile,
            ebgp_multi_hop,
            ..Self::default()
        }
    }
}

/// The name of a Secret.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(default)]
pub(crate) struct SecretReference {
    /// Name of the Secret.
    pub name: String,
    /// Ignored: the Secret is read from the namespace of the object that names it.
    pub namespace: String,
}

/// Minimum interval of BFD packets that MetalLB's CRD and the BFD engine accept, in milliseconds.
pub(crate) const BFD_INTERVAL_MIN: u32 = 10;
/// Maximum interval of BFD packets, in milliseconds.
pub(crate) const BFD_INTERVAL_MAX: u32 = 60_000;

/// The settings of BFD sessions. Fields that MetalLB's BFDProfile also has mean the same here.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BfdProfileSpec {
    /// Minimum interval between packets from the router, in milliseconds.
    #[schemars(range(min = BFD_INTERVAL_MIN, max = BFD_INTERVAL_MAX))]
    pub receive_interval: Option<u32>,
    /// Minimum interval between our packets, in milliseconds.
    #[schemars(range(min = BFD_INTERVAL_MIN, max = BFD_INTERVAL_MAX))]
    pub transmit_interval: Option<u32>,
    /// Number of consecutive lost packets after which the session is down.
    #[schemars(range(min = 2, max = 255))]
    pub detect_multiplier: Option<u32>,
    /// Ignored: ferrolb doesn't use echo.
    #[schemars(range(min = BFD_INTERVAL_MIN, max = BFD_INTERVAL_MAX))]
    pub echo_interval: Option<u32>,
    /// Ignored: ferrolb doesn't use echo.
    pub echo_mode: Option<bool>,
    /// Whether nothing is sent until the router sends.
    pub passive_mode: Option<bool>,
    /// Minimum TTL of received packets of a multihop session.
    #[schemars(range(min = 1, max = 254))]
    pub minimum_ttl: Option<u32>,
}

/// `BGPAdvertisement.spec`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BgpAdvertisementSpec {
    /// Prefix length of IPv4 routes. An aggregate must not exceed the entry of the pool.
    #[schemars(range(min = 1, max = 32))]
    pub aggregation_length: Option<i32>,
    /// Prefix length of IPv6 routes.
    #[schemars(range(min = 1, max = 128))]
    pub aggregation_length_v6: Option<i32>,
    /// LOCAL_PREF of routes to iBGP peers.
    pub local_pref: u32,
    /// Communities of the routes: 64512:100, large:64512:1:100, well-known names, or names that
    /// Community objects define.
    #[schemars(
        length(max = COMMUNITIES_MAX),
        inner(length(max = TEXT_MAX)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub communities: Vec<String>,
    /// Pools by name. If this and ipAddressPoolSelectors are empty, all pools.
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub ip_address_pools: Vec<String>,
    /// Pools by label.
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// The nodes that announce. A node needs to match one entry. If empty, all nodes.
    pub node_selectors: Vec<LabelSelector>,
    /// BGPPeers by name. If empty, all.
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub peers: Vec<String>,
    /// Services by label. If empty, all. Excludes aggregation lengths.
    pub service_selectors: Vec<LabelSelector>,
}

/// `L2Advertisement.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct L2AdvertisementSpec {
    /// Pools by name. If this and ipAddressPoolSelectors are empty, all pools.
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub ip_address_pools: Vec<String>,
    /// Pools by label.
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// The nodes that may announce an address. A node needs to match one entry. If empty, all
    /// nodes.
    pub node_selectors: Vec<LabelSelector>,
    /// The interfaces on which a node announces, by name. If empty, all.
    #[schemars(
        length(max = INTERFACES_MAX),
        inner(length(max = TEXT_MAX)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub interfaces: Vec<String>,
    /// Services by label. If empty, all.
    pub service_selectors: Vec<LabelSelector>,
    /// Which of the nodes are preferred. The weights of the entries that match a node add up; the
    /// highest sum is best.
    pub preferred_node_selectors: Vec<NodePreference>,
}

/// Maximum weight of a preference.
pub(crate) const PREFERENCE_WEIGHT_MAX: u8 = 100;

/// A preference for the nodes that match, if nodeSelectors select them as well.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(default)]
pub(crate) struct NodePreference {
    /// The weight of the nodes that match.
    #[schemars(range(min = 1, max = PREFERENCE_WEIGHT_MAX))]
    pub weight: u32,
    /// The nodes.
    pub preference: Option<LabelSelector>,
}

/// Names for BGP communities, which BGPAdvertisements use. Fields that MetalLB's Community also has
/// mean the same here.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(default)]
pub(crate) struct CommunitySpec {
    /// The names, each with its value.
    #[schemars(
        length(max = ALIASES_MAX),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"]
        )
    )]
    pub communities: Vec<CommunityAlias>,
}

/// A name for a community.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(default)]
pub(crate) struct CommunityAlias {
    /// The name that BGPAdvertisements use.
    pub name: String,
    /// The community: 64512:100, large:64512:1:100, or a well-known name.
    #[schemars(length(max = TEXT_MAX))]
    pub value: String,
}

/// Selects objects by their labels.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must be present with these values.
    pub match_labels: BTreeMap<String, String>,
    /// Conditions that must all hold.
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// A condition on a label.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(default)]
pub struct LabelSelectorRequirement {
    /// The label.
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    #[schemars(extend("enum" = ["In", "NotIn", "Exists", "DoesNotExist"]))]
    pub operator: String,
    /// For In and NotIn.
    pub values: Vec<String>,
}
