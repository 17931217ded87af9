//! Derives the settings of a session and the next hops of its routes from a BGPPeer and a Node.

use std::net::{IpAddr, Ipv4Addr};

use ferrolb_bgp::config::{NextHops, PeerConfig};
use ferrolb_bgp::wire::{self, NextHop};

use crate::core::config::peer::{Peer, lowest_in};
use crate::core::model::{Family, Node};

/// The settings of a peer's session on this node.
pub(crate) fn peer_config(peer: &Peer, node_name: &str, node: &Node) -> PeerConfig {
    PeerConfig {
        router_id: Some(router_id(peer, node_name, node)),
        next_hops: next_hops(peer, node),
        ..peer.session.clone()
    }
}

/// The predicted next hop of a route: assumes that the session's local address is its source
/// address or else the node's InternalIP, and that RFC 8950 is not negotiated. Of a network as
/// source address, only an InternalIP in it is known. None on unnumbered sessions: the link-local
/// address of the interface is not known here.
pub(crate) fn next_hop(peer: &Peer, node: &Node, family: Family) -> Option<NextHop> {
    let source = peer.session.transport.source_address;
    let internal = || match peer.source_network {
        Some(network) => lowest_in(network, &node.internal_ips),
        None => node
            .internal_ip(peer.family())
            .filter(|_| !peer.session.is_link_local()),
    };
    if peer.session.remote.is_unnumbered() {
        return None;
    }
    let own = source.or_else(internal);
    next_hops(peer, node).next_hop(wire_family(family), own, false, false)
}

/// Whether a route of the family will have a next hop on every session of this peer.
pub(crate) fn has_next_hop(peer: &Peer, node: &Node, family: Family) -> bool {
    let own_address = peer.family() == family && !peer.session.is_link_local();
    let unnumbered = peer.session.remote.is_unnumbered();
    own_address || unnumbered || next_hop(peer, node, family).is_some()
}

/// The node's InternalIPs for families in which the session's local address can't be the next hop.
/// Others are omitted, so that a change of the node's addresses doesn't reset sessions that don't
/// depend on them.
fn next_hops(peer: &Peer, node: &Node) -> NextHops {
    let needed = |family: Family| {
        let own_address = peer.family() == family && !peer.session.is_link_local();
        // The router of an unnumbered session resolves no IPv6 address of the node.
        let unused = peer.session.remote.is_unnumbered() && family == Family::V6;
        peer.carries(family) && !own_address && !unused
    };
    let internal = |family| node.internal_ip(family).filter(|_| needed(family));
    NextHops {
        v4: internal(Family::V4).and_then(|address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }),
        v6: internal(Family::V6).and_then(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6),
        }),
    }
}

/// The unicast address family.
const fn wire_family(family: Family) -> wire::Family {
    match family {
        Family::V4 => wire::Family::IPV4_UNICAST,
        Family::V6 => wire::Family::IPV6_UNICAST,
    }
}

/// The router ID of a session, also used in AGGREGATOR: the configured one, or else one that is the
/// same for all sessions of the node (RFC 4271 §4.2).
pub(crate) fn router_id(peer: &Peer, node_name: &str, node: &Node) -> Ipv4Addr {
    peer.session
        .router_id
        .unwrap_or_else(|| fallback_router_id(node_name, node))
}

/// The node's IPv4 address, or else an FNV-1a hash of its name, which is the same after a restart.
pub(crate) fn fallback_router_id(node_name: &str, node: &Node) -> Ipv4Addr {
    if let Some(IpAddr::V4(address)) = node.internal_ip(Family::V4) {
        return address;
    }
    let hash = node_name.bytes().fold(0x811c_9dc5_u32, |hash, octet| {
        (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193)
    });
    Ipv4Addr::from(hash % LAST_UNICAST.to_bits() + 1)
}

/// Hashed router IDs are unicast addresses, because some routers reject others.
const LAST_UNICAST: Ipv4Addr = Ipv4Addr::new(223, 255, 255, 255);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::api::ferrolb::FerrolbBgpPeerSpec;
    use crate::core::api::metallb::BgpPeerSpec;
    use crate::core::api::{Kind, ObjectKey, ObjectName};
    use crate::core::config::peer::{PeerResource, parse};

    fn peer(address: &str, more: impl FnOnce(&mut BgpPeerSpec)) -> Peer {
        with_ferrolb(address, None, more)
    }

    fn link_local_peer(more: impl FnOnce(&mut BgpPeerSpec)) -> Peer {
        let ferrolb = FerrolbBgpPeerSpec {
            source_interface: "eth0".into(),
            ..FerrolbBgpPeerSpec::default()
        };
        with_ferrolb("fe80::1", Some(&ferrolb), more)
    }

    fn with_ferrolb(
        address: &str,
        ferrolb: Option<&FerrolbBgpPeerSpec>,
        more: impl FnOnce(&mut BgpPeerSpec),
    ) -> Peer {
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
            ferrolb,
        };
        let nothing = || "no such object".to_owned();
        parse(resource, |_| Err(nothing()), |_| Err(nothing())).expect("a valid peer")
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

    fn sent_router_id(peer: &Peer, node: &Node) -> Option<Ipv4Addr> {
        peer_config(peer, "node-a", node).router_id
    }

    #[test]
    fn the_router_id_is_configured_or_the_nodes_address_or_a_hash() {
        let both = node(&["10.0.0.11", "fd00::11"]);
        let ipv6_only = node(&["fd00::11"]);
        let configured = peer("fd00::1", |spec| spec.router_id = "1.2.3.4".into());
        assert_eq!(
            sent_router_id(&configured, &both),
            Some(Ipv4Addr::new(1, 2, 3, 4))
        );
        // The same value for all sessions, whatever their source address.
        let second_address = peer("10.0.7.1", |spec| spec.source_address = "10.0.7.11".into());
        for of_the_node in [
            &peer("10.0.0.1", |_| {}),
            &peer("fd00::1", |_| {}),
            &second_address,
        ] {
            assert_eq!(
                sent_router_id(of_the_node, &both),
                Some(Ipv4Addr::new(10, 0, 0, 11))
            );
        }
        let over_ipv6 = peer("fd00::1", |_| {});
        let hashed = sent_router_id(&over_ipv6, &ipv6_only).expect("a hash");
        assert!(!hashed.is_unspecified());
        assert_eq!(
            sent_router_id(&over_ipv6, &ipv6_only),
            Some(hashed),
            "the same at every start"
        );
        assert_ne!(fallback_router_id("node-b", &ipv6_only), hashed);
    }

    #[test]
    fn a_hashed_router_id_is_a_unicast_address() {
        let unicast = Ipv4Addr::new(0, 0, 0, 1)..=LAST_UNICAST;
        for number in 0..10_000 {
            let id = fallback_router_id(&format!("node-{number}"), &Node::default());
            assert!(unicast.contains(&id), "{id}");
        }
    }

    #[test]
    fn a_link_local_internal_ip_is_no_next_hop() {
        let linked = node(&["169.254.0.11", "fe80::11", "fd00::11"]);
        let dual = peer("10.0.0.1", |spec| spec.dual_stack_address_family = true);
        let next_hops = peer_config(&dual, "node-a", &linked).next_hops;
        assert_eq!(next_hops.v6, "fd00::11".parse().ok());
        assert_eq!(linked.internal_ip(Family::V4), None);
        assert_eq!(node(&["fe80::11"]).internal_ip(Family::V6), None);
    }

    #[test]
    fn the_next_hop_is_the_source_address_or_the_internal_ip() {
        let both = node(&["10.0.0.11", "fd00::11"]);
        let shown =
            |peer: &Peer, family| next_hop(peer, &both, family).map(|found| found.to_string());
        let plain = peer("10.0.0.1", |_| {});
        assert_eq!(shown(&plain, Family::V4).as_deref(), Some("10.0.0.11"));
        let sourced = peer("10.0.0.1", |spec| {
            spec.source_address = "10.0.0.99".into();
            spec.dual_stack_address_family = true;
        });
        assert_eq!(shown(&sourced, Family::V4).as_deref(), Some("10.0.0.99"));
        assert_eq!(shown(&sourced, Family::V6).as_deref(), Some("fd00::11"));
    }

    /// RFC 2545 §3: a link-local address alone is no next hop.
    #[test]
    fn a_link_local_session_needs_a_global_address_of_the_node() {
        let tor = link_local_peer(|_| {});
        let both = node(&["10.0.0.11", "fd00::11"]);
        assert!(has_next_hop(&tor, &both, Family::V6));
        let config = peer_config(&tor, "node-a", &both);
        let own = "fe80::11".parse().ok();
        let next_hop = config.next_hop(wire::Family::IPV6_UNICAST, own, false);
        let next_hop = next_hop.map(|next_hop| next_hop.to_string());
        assert_eq!(next_hop.as_deref(), Some("fd00::11 (fe80::11)"));
        assert_eq!(config.next_hops.v4, None, "it carries no IPv4");

        for lacking in [node(&["10.0.0.11"]), node(&["10.0.0.11", "fe80::11"])] {
            assert!(!has_next_hop(&tor, &lacking, Family::V6));
            let config = peer_config(&tor, "node-a", &lacking);
            assert_eq!(
                config.next_hop(wire::Family::IPV6_UNICAST, own, false),
                None
            );
        }
        let sourced = link_local_peer(|spec| spec.source_address = "fd00::99".into());
        assert!(has_next_hop(&sourced, &node(&["10.0.0.11"]), Family::V6));
        assert_eq!(
            peer_config(&sourced, "node-a", &both).next_hops,
            NextHops::default()
        );
    }

    /// RFC 8950 and draft-ietf-idr-linklocal-capability: also without an IPv6 address of the node.
    #[test]
    fn an_unnumbered_session_has_a_next_hop_for_both_families() {
        let fabric = peer("", |spec| spec.interface = "eth1".into());
        let ipv4_only = node(&["10.0.0.11"]);
        let both = node(&["10.0.0.11", "fd00::11"]);
        let own = "fe80::11".parse().ok();
        for family in Family::ALL {
            assert!(has_next_hop(&fabric, &ipv4_only, family));
            let config = peer_config(&fabric, "node-a", &ipv4_only);
            let sent = config.next_hop(wire_family(family), own, true);
            assert_eq!(
                sent.map(|sent| sent.to_string()).as_deref(),
                Some("fe80::11")
            );
            assert_eq!(peer_config(&fabric, "node-a", &both), config);
            assert_eq!(
                next_hop(&fabric, &both, family),
                None,
                "known by the session"
            );
        }
    }

    /// The decision, the plan and the engine agree on next hops.
    #[test]
    fn the_decision_and_the_session_agree_on_next_hops() {
        let peers = [
            peer("10.0.0.1", |_| {}),
            peer("10.0.0.1", |spec| spec.dual_stack_address_family = true),
            peer("fd00::1", |_| {}),
            peer("fd00::1", |spec| spec.dual_stack_address_family = true),
            link_local_peer(|_| {}),
            link_local_peer(|spec| spec.dual_stack_address_family = true),
        ];
        let nodes: [&[&str]; 4] = [
            &["10.0.0.11"],
            &["fd00::11"],
            &["10.0.0.11", "fd00::11"],
            &[],
        ];
        for (peer, addresses) in peers.iter().flat_map(|peer| nodes.map(|node| (peer, node))) {
            let node = node(addresses);
            let own = match peer.session.remote.network().addr() {
                IpAddr::V4(_) => "10.0.0.11",
                IpAddr::V6(remote) if remote.is_unicast_link_local() => "fe80::11",
                IpAddr::V6(_) => "fd00::11",
            };
            let config = peer_config(peer, "node-a", &node);
            for family in Family::ALL
                .into_iter()
                .filter(|family| peer.carries(*family))
            {
                let on_session = config.next_hop(wire_family(family), own.parse().ok(), false);
                let place = format!("{} on {addresses:?}, {family}", config.remote);
                assert_eq!(
                    has_next_hop(peer, &node, family),
                    on_session.is_some(),
                    "{place}"
                );
                if let Some(planned) = next_hop(peer, &node, family) {
                    assert_eq!(
                        Some(planned.address()),
                        on_session.map(|on| on.address()),
                        "{place}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_address_of_a_family_that_is_not_carried_does_not_change_the_session() {
        let single = peer("10.0.0.1", |_| {});
        let before = peer_config(&single, "node-a", &node(&["10.0.0.11"]));
        let after = peer_config(&single, "node-a", &node(&["10.0.0.11", "fd00::11"]));
        assert_eq!(before, after);
        let dual = peer("10.0.0.1", |spec| spec.dual_stack_address_family = true);
        let next_hops = peer_config(&dual, "node-a", &node(&["10.0.0.11", "fd00::11"])).next_hops;
        assert_eq!(next_hops.v6, "fd00::11".parse().ok());
    }
}
