//! Weights for weighted ECMP: a node's share of a prefix's traffic among the nodes that announce
//! it.
//!
//! Routers apply weights only if every path of a prefix has one. With a mixture some distribute
//! equally, and some send nothing to paths without a weight. So weights are sent by all nodes or by
//! none. Each node determines that from its own index.

use std::fmt;

use ferrolb_bgp::wire::{ExtendedCommunity, LinkBandwidth as Community};

use crate::core::config::Config;
use crate::core::config::advertisement::Advertisement;
use crate::core::config::peer::{LinkBandwidth, Peer};
use crate::core::decide::peers_of;
use crate::core::index::Index;
use crate::core::model::node_weight::NodeWeight;
use crate::core::model::{Family, Node, Service, TrafficPolicy};

/// The bandwidth of weight 1, in octets per second: 1 Gbit/s. Routers use ratios only, but some
/// round to megabits.
const UNIT: f64 = 125_000_000.0;

/// Number of significant binary digits of weights by endpoints: exact up to 8, then in steps of at
/// most a seventh, so that one Pod of many doesn't cause an UPDATE.
const DIGITS: u32 = 3;

/// The weight of a node for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The number of ready endpoints on the node, at least 1.
    Endpoints(u32),
    /// The weight in the node's annotation, for all prefixes.
    Node(NodeWeight),
}

impl Weight {
    /// The weight of a service on a node: the annotation, or else the number of ready endpoints if
    /// the node sends to its own endpoints only, or else 1.
    pub fn of(
        index: &Index,
        node_name: &str,
        node: &Node,
        service: &Service,
        family: Family,
    ) -> Self {
        if let Some(weight) = node.weight {
            return Self::Node(weight);
        }
        match service.traffic_policy {
            TrafficPolicy::Cluster => Self::Endpoints(1),
            TrafficPolicy::Local => {
                let endpoints = index.endpoints(&service.name, family);
                let ready = endpoints.nodes.get(node_name).copied();
                // Serving endpoints remain if no endpoint is ready.
                Self::Endpoints(ready.unwrap_or_default().max(1))
            }
        }
    }

    /// The weight of two services with the same prefix: endpoints add up, the annotation applies
    /// once.
    #[must_use]
    pub fn combine(self, other: Self) -> Self {
        match (self, other) {
            (Self::Endpoints(a), Self::Endpoints(b)) => Self::Endpoints(a.saturating_add(b)),
            (Self::Node(weight), _) | (_, Self::Node(weight)) => Self::Node(weight),
        }
    }

    /// The link bandwidth in octets per second: finite and positive.
    pub fn octets_per_second(self) -> f32 {
        let octets = match self {
            Self::Endpoints(count) => f64::from(rounded(count.max(1))) * UNIT,
            Self::Node(weight) => weight.value() * UNIT,
        };
        // At most 2^32 × UNIT, which is far below f32::MAX.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the float loses digits, not range"
        )]
        let octets = octets as f32;
        octets
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoints(count) => write!(f, "{}", rounded(*count)),
            Self::Node(weight) => write!(f, "{}", weight.value()),
        }
    }
}

/// Rounds to the nearest number with [`DIGITS`] significant binary digits.
fn rounded(count: u32) -> u32 {
    let digits = u32::BITS - count.leading_zeros();
    let Some(cut) = digits.checked_sub(DIGITS).filter(|cut| *cut > 0) else {
        return count;
    };
    let half = 1 << (cut - 1);
    (count.saturating_add(half) >> cut) << cut
}

/// The content of the link bandwidth community.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// The weight.
    pub weight: Weight,
    /// Our AS, or AS_TRANS if that has more than two octets.
    pub asn: u16,
    /// Whether the community is transitive.
    pub transitive: bool,
}

impl Bandwidth {
    /// The community for a peer, if the peer requests weights.
    pub fn for_peer(peer: &Peer, weight: impl FnOnce() -> Weight) -> Option<Self> {
        let transitive = match peer.link_bandwidth {
            LinkBandwidth::Off => return None,
            LinkBandwidth::Transitive => true,
            LinkBandwidth::NonTransitive => false,
        };
        Some(Self {
            weight: weight(),
            asn: peer.session.local_asn.two_octet(),
            transitive,
        })
    }
}

impl From<Bandwidth> for ExtendedCommunity {
    fn from(bandwidth: Bandwidth) -> Self {
        Self::from(Community {
            asn: bandwidth.asn,
            octets_per_second: bandwidth.weight.octets_per_second(),
            transitive: bandwidth.transitive,
        })
    }
}

/// Whether any peer requests weights.
pub(crate) fn in_use(config: &Config) -> bool {
    config.peers.values().any(wants_weights)
}

/// Whether every node that can announce what these advertisements select has a peer that requests
/// weights. If one doesn't, no node sends weights.
pub(crate) fn all_nodes_send_weights(
    index: &Index,
    advertisements: &[&Advertisement],
    family: Family,
) -> bool {
    let config = index.config();
    let selected = |peer: &Peer| {
        peer.carries(family) && advertisements.iter().any(|ad| ad.selects_peer(&peer.name))
    };
    let mut peers = config
        .peers
        .values()
        .filter(|peer| selected(peer))
        .peekable();
    // Usually all peers request weights or none does, and the nodes need not be checked.
    if peers.peek().is_none() || peers.all(wants_weights) {
        return true;
    }
    let mut nodes = index.nodes().iter();
    nodes.all(|(name, node)| {
        let here = |peer: &&Peer| {
            peer.carries(family)
                && advertisements.iter().any(|ad| {
                    ad.selection.nodes.matches(&node.labels) && ad.selects_peer(&peer.name)
                })
        };
        let mut peers = peers_of(index, name, node).filter(here).peekable();
        !node.may_announce() || peers.peek().is_none() || peers.any(wants_weights)
    })
}

fn wants_weights(peer: &Peer) -> bool {
    peer.link_bandwidth != LinkBandwidth::Off
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Weight {
        Weight::Node(text.parse().expect("a weight"))
    }

    #[test]
    fn a_weight_is_a_positive_number() {
        for (text, octets) in [
            ("1", 125e6),
            ("0.001", 125e3),
            ("2.5", 312.5e6),
            (" 1e6 ", 125e12),
        ] {
            assert_eq!(node(text).octets_per_second(), octets, "{text}");
        }
        for text in [
            "0", "-1", "", "banana", "NaN", "inf", "0.0001", "1000001", "1,5",
        ] {
            let error = text.parse::<NodeWeight>().expect_err(text).to_string();
            assert!(
                error.contains(&format!("{text:?}")) && error.contains("positive"),
                "{error}"
            );
        }
    }

    #[test]
    fn one_endpoint_of_many_does_not_change_the_weight() {
        let shown: Vec<u32> = (1..=20).map(rounded).collect();
        assert_eq!(
            shown,
            [
                1, 2, 3, 4, 5, 6, 7, 8, 10, 10, 12, 12, 14, 14, 16, 16, 16, 20, 20, 20
            ]
        );
        assert_eq!(rounded(1000), 1024);
        assert!(Weight::Endpoints(u32::MAX).octets_per_second().is_finite());
        assert_eq!(
            Weight::Endpoints(0).octets_per_second(),
            125e6,
            "never zero"
        );
    }

    #[test]
    fn endpoints_add_up_and_the_annotation_applies_once() {
        let three = Weight::Endpoints(1).combine(Weight::Endpoints(2));
        assert_eq!(three, Weight::Endpoints(3));
        assert_eq!(node("2").combine(node("2")), node("2"));
        assert_eq!(three.combine(node("2")), node("2"));
    }
}
