//! ferrolb's own resources (`ferrolb.io`): MetalLB's, and what they lack.

use schemars::JsonSchema;
use serde::Deserialize;

/// The longest name of an interface, in octets (`IFNAMSIZ` in Linux).
pub(crate) const INTERFACE_MAX: usize = 15;
/// The longest text that a NOTIFICATION carries, in octets (RFC 9003 §2).
pub(crate) const SHUTDOWN_TEXT_MAX: usize = 255;
/// Nobody needs more to make a path unattractive, and some routers refuse long ones.
pub(crate) const PREPEND_MAX: u8 = 16;
/// The farthest router that GTSM lets in, in hops.
pub(crate) const HOPS_MAX: u8 = 254;

/// What our BGPPeer (v1alpha1) has beyond MetalLB's ([`super::metallb::BgpPeerSpec`]), whose fields it has all.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FerrolbBgpPeerSpec {
    /// Dynamic neighbours: every router that dials us from this network gets a session. Instead of peerAddress.
    pub peer_network: String,
    /// Never dial, only wait for the router to.
    pub passive: bool,
    /// How many hops away the router may be at most, 1 for the same link (GTSM, RFC 5082). Both ends must have it.
    #[schemars(range(min = 1, max = HOPS_MAX))]
    pub ttl_security: Option<u8>,
    /// The interface that the session is bound to.
    #[schemars(length(max = INTERFACE_MAX))]
    pub source_interface: String,
    /// How long the router may leave unread what we send (RFC 9687). Without it 8 minutes, or twice the hold time if that is
    /// longer.
    #[schemars(length(max = 32))]
    pub send_hold_time: Option<String>,
    /// How many prefixes the router may announce before the session is ended. Without it any number: they are not kept.
    #[schemars(range(min = 1))]
    pub prefix_limit: Option<u32>,
    /// How long the router keeps our routes while ferrolb restarts, where enableGracefulRestart is not false.
    #[schemars(length(max = 32))]
    pub restart_time: Option<String>,
    /// No session before BFD is up.
    pub bfd_strict: bool,
    /// What the router's operator reads when ferrolb leaves (RFC 9003).
    #[schemars(length(max = SHUTDOWN_TEXT_MAX))]
    pub shutdown_text: String,
    /// Whether and how routes tell the weight of a node (link bandwidth, RFC 10005): none, transitive, or nonTransitive (the
    /// classic form that older routers know).
    pub link_bandwidth: LinkBandwidth,
    /// How routes leave when a node is to carry no more traffic.
    pub drain: DrainSpec,
    /// How many times more than once our AS number stands in AS_PATH. For eBGP.
    #[schemars(range(max = PREPEND_MAX))]
    pub prepend: u8,
    /// MULTI_EXIT_DISC of all routes.
    pub med: Option<u32>,
}

/// How routes leave when a node is to carry no more traffic.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DrainSpec {
    /// How long routes stay after they were told again with GRACEFUL_SHUTDOWN (RFC 8326); 0s: they are withdrawn at once.
    #[schemars(length(max = 32))]
    pub time: Option<String>,
    /// Whether a cordon of the node alone is reason enough.
    pub on_cordon: bool,
}

/// How routes tell the weight of a node.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum LinkBandwidth {
    /// All nodes weigh the same. Not called "off": that is a boolean to YAML 1.1, and so to kubectl.
    #[default]
    #[serde(rename = "none")]
    Off,
    /// As a transitive extended community: it passes through other ASes, and BIRD passes it on.
    Transitive,
    /// As a non-transitive one, the classic form that older routers know.
    NonTransitive,
}
