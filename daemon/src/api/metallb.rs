//! MetalLB's resources, field by field as its CRDs define them (`metallb.io`).

use serde::Deserialize;

use super::Password;
use std::collections::BTreeMap;

/// `IPAddressPool.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct IpAddressPoolSpec {
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
pub struct ServiceAllocation {
    /// Smaller first; 0 is last.
    pub priority: i64,
    /// Namespaces by name.
    pub namespaces: Vec<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services by label.
    pub service_selectors: Vec<LabelSelector>,
}

/// `BGPPeer.spec` (v1beta2).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerSpec {
    /// Our AS.
    #[serde(rename = "myASN")]
    pub my_asn: u32,
    /// The router's AS.
    #[serde(rename = "peerASN")]
    pub peer_asn: u32,
    /// `internal` or `external` instead of a number.
    #[serde(rename = "dynamicASN")]
    pub dynamic_asn: String,
    /// The AS this session shows instead of `myASN`.
    #[serde(rename = "localASN")]
    pub local_asn: Option<u32>,
    /// The router's address.
    pub peer_address: String,
    /// Unnumbered: the interface instead of an address.
    pub interface: String,
    /// Where the session comes from.
    pub source_address: String,
    /// Default 179.
    pub peer_port: Option<u16>,
    /// Go duration, `90s`.
    pub hold_time: Option<String>,
    /// Go duration.
    pub keepalive_time: Option<String>,
    /// Go duration.
    pub connect_time: Option<String>,
    /// IPv4 address.
    #[serde(rename = "routerID")]
    pub router_id: String,
    /// Which nodes have this session.
    pub node_selectors: Vec<LabelSelector>,
    /// TCP MD5.
    pub password: Password,
    /// TCP MD5 from a Secret.
    pub password_secret: SecretReference,
    /// A BFDProfile by name.
    pub bfd_profile: String,
    /// RFC 4724.
    pub enable_graceful_restart: bool,
    /// The router is more than one hop away.
    pub ebgp_multi_hop: bool,
    /// A VRF by name.
    pub vrf: String,
    /// Both families over this session.
    pub dual_stack_address_family: bool,
    /// Deprecated, without effect.
    #[serde(rename = "disableMP")]
    pub disable_mp: bool,
}

/// `SecretReference`. The namespace is ignored: secrets are read where the BGPPeer lies.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct SecretReference {
    /// Name of the Secret.
    pub name: String,
    /// Accepted, not used.
    pub namespace: String,
}

/// `BGPAdvertisement.spec` (v1beta1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpAdvertisementSpec {
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
pub struct CommunitySpec {
    /// Names for values.
    pub communities: Vec<CommunityAlias>,
}

/// `Community.spec.communities[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct CommunityAlias {
    /// The name advertisements use.
    pub name: String,
    /// `a:b` or `large:a:b:c`.
    pub value: String,
}

/// `metav1.LabelSelector`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// All must be equal.
    pub match_labels: BTreeMap<String, String>,
    /// All must hold.
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// `metav1.LabelSelectorRequirement`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct LabelSelectorRequirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// For `In` and `NotIn`.
    pub values: Vec<String>,
}
