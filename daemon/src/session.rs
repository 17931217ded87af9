//! From a BGPPeer and a Node to the session between them: what the BGP engine is told, and what a route's next hop
//! will be.

use std::net::{IpAddr, Ipv4Addr};

use ferrolb_bgp::config::{NextHops, PeerConfig};

use crate::config::peer::Peer;
use crate::index::facts::Node;

/// What the BGP engine is told of a peer on this node.
pub fn peer_config(peer: &Peer, node_name: &str, node: &Node) -> PeerConfig {
    PeerConfig {
        router_id: Some(router_id(peer, node_name, node)),
        next_hops: other_family(peer, node),
        ..peer.session.clone()
    }
}

/// The next hop that a route will have: the configured source address; for the other family, and where no session
/// tells the local address yet, the node's InternalIP.
pub fn next_hop(peer: &Peer, node: &Node, ipv6: bool) -> Option<IpAddr> {
    peer.session
        .transport
        .source_address
        .filter(|source| source.is_ipv6() == ipv6)
        .or_else(|| node.internal_ip(ipv6))
}

/// Only where the other family is carried: elsewhere a change of the node's addresses is nothing to the session.
fn other_family(peer: &Peer, node: &Node) -> NextHops {
    let mut next_hops = NextHops::default();
    if !peer.dual_stack {
        return next_hops;
    }
    match node.internal_ip(!peer.is_ipv6()) {
        Some(IpAddr::V4(v4)) => next_hops.v4 = Some(v4),
        Some(IpAddr::V6(v6)) => next_hops.v6 = Some(v6),
        None => {}
    }
    next_hops
}

/// The router id of a session, which an aggregate shows too: what is configured, else what is the same for all sessions
/// of the node (RFC 4271 §4.2), whatever address each of them has.
pub fn router_id(peer: &Peer, node_name: &str, node: &Node) -> Ipv4Addr {
    peer.session
        .router_id
        .unwrap_or_else(|| fallback_router_id(node_name, node))
}

/// The node's IPv4 address, else a hash of its name: FNV-1a, the same at every start.
pub fn fallback_router_id(node_name: &str, node: &Node) -> Ipv4Addr {
    if let Some(IpAddr::V4(address)) = node.internal_ip(false) {
        return address;
    }
    let hash = node_name.bytes().fold(0x811c_9dc5_u32, |hash, octet| {
        (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193)
    });
    Ipv4Addr::from(hash.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::metallb::BgpPeerSpec;
    use crate::api::{Kind, ObjectKey, ObjectName};
    use crate::config::peer::{PeerResource, parse};

    fn peer(address: &str, more: impl FnOnce(&mut BgpPeerSpec)) -> Peer {
        let mut spec = BgpPeerSpec {
            my_asn: 64512,
            peer_asn: 64513,
            peer_address: address.into(),
            ..BgpPeerSpec::default()
        };
        more(&mut spec);
        let resource = PeerResource {
            object: &ObjectKey::new(Kind::BgpPeer, ObjectName::new("metallb-system", "tor")),
            created: "",
            spec: &spec,
            own: None,
        };
        let nothing = || "nothing lies beside it".to_owned();
        parse(resource, |_| Err(nothing()), |_| Err(nothing())).expect("a good peer")
    }

    fn node(addresses: &[&str]) -> Node {
        Node {
            internal_ips: addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            ..Node::default()
        }
    }

    fn told(peer: &Peer, node: &Node) -> Option<Ipv4Addr> {
        peer_config(peer, "node-a", node).router_id
    }

    #[test]
    fn the_router_id_is_configured_or_of_the_node_or_a_hash() {
        let both = node(&["10.0.0.11", "fd00::11"]);
        let ipv6_only = node(&["fd00::11"]);
        let configured = peer("fd00::1", |spec| spec.router_id = "1.2.3.4".into());
        assert_eq!(told(&configured, &both), Some(Ipv4Addr::new(1, 2, 3, 4)));
        // One value for all sessions, wherever they come from.
        let second_address = peer("10.0.7.1", |spec| spec.source_address = "10.0.7.11".into());
        for of_the_node in [
            &peer("10.0.0.1", |_| {}),
            &peer("fd00::1", |_| {}),
            &second_address,
        ] {
            assert_eq!(told(of_the_node, &both), Some(Ipv4Addr::new(10, 0, 0, 11)));
        }
        let over_ipv6 = peer("fd00::1", |_| {});
        let hashed = told(&over_ipv6, &ipv6_only).expect("a hash");
        assert!(!hashed.is_unspecified());
        assert_eq!(
            told(&over_ipv6, &ipv6_only),
            Some(hashed),
            "the same at every start"
        );
        assert_ne!(fallback_router_id("node-b", &ipv6_only), hashed);
    }

    #[test]
    fn the_next_hop_is_the_source_address_or_the_nodes() {
        let both = node(&["10.0.0.11", "fd00::11"]);
        let plain = peer("10.0.0.1", |_| {});
        assert_eq!(
            next_hop(&plain, &both, false),
            Some(IpAddr::from([10, 0, 0, 11]))
        );
        let sourced = peer("10.0.0.1", |spec| spec.source_address = "10.0.0.99".into());
        assert_eq!(
            next_hop(&sourced, &both, false),
            Some(IpAddr::from([10, 0, 0, 99]))
        );
        assert_eq!(next_hop(&sourced, &both, true), "fd00::11".parse().ok());
    }

    #[test]
    fn an_address_of_a_family_that_is_not_carried_is_nothing_to_the_session() {
        let single = peer("10.0.0.1", |_| {});
        let before = peer_config(&single, "node-a", &node(&["10.0.0.11"]));
        let after = peer_config(&single, "node-a", &node(&["10.0.0.11", "fd00::11"]));
        assert_eq!(before, after);
        let dual = peer("10.0.0.1", |spec| spec.dual_stack_address_family = true);
        let next_hops = peer_config(&dual, "node-a", &node(&["10.0.0.11", "fd00::11"])).next_hops;
        assert_eq!(next_hops.v6, "fd00::11".parse().ok());
    }
}
