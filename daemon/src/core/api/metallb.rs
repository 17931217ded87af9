//! MetalLB's resources, field by field as its CRDs define them (`metallb.io`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Password;

/// The largest port of a router.
pub(crate) const MAX_PORT: u16 = 16384;

/// `IPAddressPool.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct IpAddressPoolSpec {
    /// CIDRs or ranges `start-end`.
    pub addresses: Vec<String>,
    /// Whether services get addresses from here without asking for it; default true.
    pub auto_assign: Option<bool>,
    /// Leave out IPv4 addresses that end in .0 or .255.
    #[serde(rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// Which services may have addresses from here.
    pub service_allocation: Option<ServiceAllocation>,
}

/// `IPAddressPool.spec.serviceAllocation`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceAllocation {
    /// Smaller first; 0 is last.
    pub priority: i64,
    /// Namespaces by name.
    pub namespaces: Vec<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services by label.
    pub service_selectors: Vec<LabelSelector>,
}

/// `BGPPeer.spec` (v1beta2). The texts are those of our own BGPPeer's CRD as well.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BgpPeerSpec {
    /// Our AS number.
    #[serde(rename = "myASN")]
    #[schemars(range(min = 1))]
    pub my_asn: u32,
    /// The router's AS number. Either this or dynamicASN.
    #[serde(rename = "peerASN")]
    pub peer_asn: u32,
    /// Which AS numbers the router may have instead of one in particular: internal (ours), external (any but ours) or auto
    /// (any).
    #[serde(rename = "dynamicASN")]
    #[schemars(extend("enum" = ["internal", "external", "auto"]))]
    pub dynamic_asn: String,
    /// The AS number that this session shows instead of myASN.
    #[serde(rename = "localASN")]
    #[schemars(range(min = 1))]
    pub local_asn: Option<u32>,
    /// The router's IP address.
    pub peer_address: String,
    /// An unnumbered session over this interface. Not supported yet.
    pub interface: String,
    /// The address that the session comes from; also the next hop of its family.
    pub source_address: String,
    /// The router's port.
    #[schemars(range(min = 1, max = MAX_PORT))]
    pub peer_port: Option<u16>,
    /// How long silence is borne, such as 90s; 0s: for ever.
    #[schemars(length(max = 32))]
    pub hold_time: Option<String>,
    /// How often a KEEPALIVE is sent. Without it, or with 0s beside a hold time, a third of the hold time.
    #[schemars(length(max = 32))]
    pub keepalive_time: Option<String>,
    /// The longest wait between two attempts to connect.
    #[schemars(length(max = 32))]
    pub connect_time: Option<String>,
    /// The BGP identifier, an IPv4 address. Without it the node's IPv4 address, or else a number made from its name: the same for all its sessions.
    #[serde(rename = "routerID")]
    pub router_id: String,
    /// The nodes that have this session. Entries are alternatives. Without any all nodes have it.
    pub node_selectors: Vec<LabelSelector>,
    /// The password for TCP MD5. Better in a Secret.
    #[schemars(with = "String", length(max = 80))]
    pub password: Password,
    /// A Secret of type kubernetes.io/basic-auth beside this object, with the password for TCP MD5.
    pub password_secret: SecretReference,
    /// The BFDProfile beside this object that BFD runs by. Without it there is no BFD.
    pub bfd_profile: String,
    /// Whether the router is asked to keep our routes while ferrolb restarts (RFC 4724).
    pub enable_graceful_restart: Option<bool>,
    /// Whether the router may be behind other routers.
    pub ebgp_multi_hop: bool,
    /// A VRF by name. Not supported yet.
    pub vrf: String,
    /// Whether routes of both families go over this session.
    pub dual_stack_address_family: bool,
    /// Without effect, and deprecated.
    #[serde(rename = "disableMP")]
    pub disable_mp: bool,
}

/// A Secret by name.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(default)]
pub(crate) struct SecretReference {
    /// Name of the Secret.
    pub name: String,
    /// Not looked at: the Secret is read where this object lies.
    pub namespace: String,
}

/// `BFDProfile.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BfdProfileSpec {
    /// How often the router may send, in milliseconds.
    pub receive_interval: Option<u32>,
    /// How often we would like to send, in milliseconds.
    pub transmit_interval: Option<u32>,
    /// After how many lost packets in a row the session is down.
    pub detect_multiplier: Option<u32>,
    /// Echo is not used.
    pub echo_interval: Option<u32>,
    /// Echo is not used.
    pub echo_mode: Option<bool>,
    /// Send nothing until the router does.
    pub passive_mode: Option<bool>,
    /// The least TTL of a packet of a multihop session.
    pub minimum_ttl: Option<u32>,
}

/// `BGPAdvertisement.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BgpAdvertisementSpec {
    /// Default 32.
    pub aggregation_length: Option<i32>,
    /// Default 128.
    pub aggregation_length_v6: Option<i32>,
    /// LOCAL_PREF, iBGP only.
    pub local_pref: u32,
    /// Literals or names from Community objects.
    pub communities: Vec<String>,
    /// Pools by name; with no selectors either: all.
    pub ip_address_pools: Vec<String>,
    /// Pools by label.
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that announce; empty: all.
    pub node_selectors: Vec<LabelSelector>,
    /// BGPPeers by name; empty: all.
    pub peers: Vec<String>,
    /// Services by label; empty: all.
    pub service_selectors: Vec<LabelSelector>,
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
    /// The name advertisements use.
    pub name: String,
    /// `a:b` or `large:a:b:c`.
    pub value: String,
}

/// Which objects, by their labels.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// All must be equal.
    pub match_labels: BTreeMap<String, String>,
    /// All must hold.
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
