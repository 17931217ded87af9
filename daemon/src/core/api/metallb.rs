//! MetalLB's resources with the fields that its CRDs define (`metallb.io`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Password;

/// Maximum port of a router.
pub(crate) const MAX_PORT: u16 = 16384;

/// `IPAddressPool.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct IpAddressPoolSpec {
    /// CIDRs, or ranges `start-end`.
    pub addresses: Vec<String>,
    /// Whether services that request no pool get addresses from this one. Default: true.
    pub auto_assign: Option<bool>,
    /// Exclude IPv4 addresses that end in .0 or .255.
    #[serde(rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// Which services may get addresses from the pool.
    pub service_allocation: Option<ServiceAllocation>,
}

/// `IPAddressPool.spec.serviceAllocation`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceAllocation {
    /// The smallest number is first; 0 is last.
    pub priority: i64,
    /// Namespaces by name.
    pub namespaces: Vec<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services by label.
    pub service_selectors: Vec<LabelSelector>,
}

/// `BGPPeer.spec` (v1beta2). The descriptions are also those of the CRD of ferrolb's BGPPeer.
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
    pub peer_address: String,
    /// An unnumbered session over this interface. Not supported yet.
    pub interface: String,
    /// The source address of the session, and the next hop of its family.
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
    pub vrf: String,
    /// Whether the session carries routes of both families.
    pub dual_stack_address_family: bool,
    /// Deprecated, has no effect.
    #[serde(rename = "disableMP")]
    pub disable_mp: bool,
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

/// `BFDProfile.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BfdProfileSpec {
    /// Minimum interval between packets from the router, in milliseconds.
    pub receive_interval: Option<u32>,
    /// Minimum interval between our packets, in milliseconds.
    pub transmit_interval: Option<u32>,
    /// Number of consecutive lost packets after which the session is down.
    pub detect_multiplier: Option<u32>,
    /// Ignored: ferrolb doesn't use echo.
    pub echo_interval: Option<u32>,
    /// Ignored: ferrolb doesn't use echo.
    pub echo_mode: Option<bool>,
    /// Send nothing until the router sends.
    pub passive_mode: Option<bool>,
    /// Minimum TTL of received packets of a multihop session.
    pub minimum_ttl: Option<u32>,
}

/// `BGPAdvertisement.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BgpAdvertisementSpec {
    /// Prefix length of IPv4 routes. Default: 32.
    pub aggregation_length: Option<i32>,
    /// Prefix length of IPv6 routes. Default: 128.
    pub aggregation_length_v6: Option<i32>,
    /// LOCAL_PREF, iBGP only.
    pub local_pref: u32,
    /// Literal communities, or names from Community objects.
    pub communities: Vec<String>,
    /// Pools by name. If this and `ip_address_pool_selectors` are empty: all.
    pub ip_address_pools: Vec<String>,
    /// Pools by label.
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that announce. Empty: all.
    pub node_selectors: Vec<LabelSelector>,
    /// BGPPeers by name. Empty: all.
    pub peers: Vec<String>,
    /// Services by label. Empty: all.
    pub service_selectors: Vec<LabelSelector>,
}

/// `L2Advertisement.spec` (v1beta1). The descriptions are also those of the CRD of ferrolb's
/// L2Advertisement.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct L2AdvertisementSpec {
    /// Pools by name. If this and ipAddressPoolSelectors are empty, all pools.
    pub ip_address_pools: Vec<String>,
    /// Pools by label.
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// The nodes that may announce an address. A node needs to match one entry. If empty, all
    /// nodes.
    pub node_selectors: Vec<LabelSelector>,
    /// The interfaces on which a node announces, by name. If empty, all.
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

/// `Community.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct CommunitySpec {
    /// Names for values.
    pub communities: Vec<CommunityAlias>,
}

/// `Community.spec.communities[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct CommunityAlias {
    /// The name that BGPAdvertisements use.
    pub name: String,
    /// `a:b` or `large:a:b:c`.
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
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// For `In` and `NotIn`.
    pub values: Vec<String>,
}
