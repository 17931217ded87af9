use ferrolb_bgp::config::{PeerConfig, RemoteAsn, Secret};
use ferrolb_bgp::wire::Asn;

use super::*;
use crate::core::api::{Kind, ObjectName};
use crate::core::config::peer::LinkBandwidth;
use crate::core::config::selector::Selectors;
use crate::core::model::drain::Drain;

fn peer(name: &str, created: &str, address: &str) -> Peer {
    let address = address.parse().expect("an address");
    Peer {
        name: name.into(),
        object: ObjectKey::new(Kind::BgpPeer, ObjectName::new("metallb-system", name)),
        created: created.into(),
        session: PeerConfig::new(name, address, Asn(64512), RemoteAsn::External),
        source_network: None,
        password_unknown: false,
        password_place: None,
        nodes: Selectors::default(),
        dual_stack: false,
        link_bandwidth: LinkBandwidth::Off,
        drain: Drain::default(),
        prepend: 0,
        med: None,
    }
}

fn names(peers: impl IntoIterator<Item = Peer>) -> Vec<String> {
    names_without(peers, &[])
}

/// The names of the conflicting peers on a node without the interfaces `missing`.
fn names_without(peers: impl IntoIterator<Item = Peer>, missing: &[&str]) -> Vec<String> {
    let peers: Vec<Peer> = peers.into_iter().collect();
    let node = Node {
        internal_ips: vec!["10.0.0.11".parse().expect("an address")],
        ..Node::default()
    };
    let missing = missing.iter().map(|name| (*name).to_owned()).collect();
    let conflicts = conflicts_among(peers.iter(), &node, &missing);
    conflicts.into_keys().collect()
}

fn unnumbered(name: &str, created: &str, interface: &str) -> Peer {
    let mut peer = peer(name, created, "10.0.0.1:179");
    peer.session.remote = Remote::unknown_on_link(179);
    peer.session.transport.source_interface = Some(interface.into());
    peer
}

#[test]
fn unnumbered_peers_conflict_on_one_interface_only_and_wait_for_a_missing_one() {
    let peers = || {
        [
            unnumbered("one", "2026-01-01T00:00:00Z", "eth1"),
            unnumbered("two", "2026-01-02T00:00:00Z", "eth1"),
            unnumbered("three", "2026-01-02T00:00:00Z", "eth2"),
        ]
    };
    assert_eq!(names(peers()), ["two"]);
    assert_eq!(names_without(peers(), &["eth1", "eth2"]), ["two"]);
    let peers = peers();
    let conflicts = conflicts_among(peers.iter(), &Node::default(), &BTreeSet::new());
    let message = &conflicts["two"].message;
    assert!(
        message.starts_with("spec.interface: conflicts with"),
        "{message}"
    );
    assert!(message.contains("a session with eth1"), "{message}");
}

#[test]
fn of_two_peers_with_the_same_addresses_the_younger_conflicts_or_the_second_by_name() {
    let old = || peer("z", "2026-01-01T00:00:00Z", "10.0.0.1:179");
    let young = || peer("a", "2026-01-02T00:00:00Z", "10.0.0.1:179");
    assert_eq!(names([old(), young()]), ["a"]);
    let same_age = || Peer {
        created: old().created,
        ..young()
    };
    assert_eq!(names([old(), same_age()]), ["z"]);
    // Another source address, or another speaker at that address, makes another session.
    let mut sourced = young();
    sourced.session.transport.source_address = "10.0.0.12".parse().ok();
    let other_port = peer("b", "", "10.0.0.1:1790");
    assert!(names([old(), sourced, other_port]).is_empty());
}

#[test]
fn a_router_that_connects_uses_any_port_and_an_address_has_one_password() {
    let first = || peer("a", "1", "10.0.0.1:179");
    let mut passive = peer("b", "2", "10.0.0.1:1790");
    passive.session.transport.passive = true;
    assert_eq!(names([first(), passive]), ["b"]);
    let mut other_password = peer("c", "3", "10.0.0.1:179");
    other_password.session.transport.source_address = "10.0.0.12".parse().ok();
    other_password.session.transport.password = Some(Secret::new("p"));
    assert_eq!(names([first(), other_password.clone()]), ["c"]);
    let mut same_password = first();
    same_password.session.transport.password = Some(Secret::new("p"));
    assert!(names([same_password, other_password]).is_empty());
}

#[test]
fn an_address_has_one_ttl_security_and_one_interface() {
    let first = || peer("a", "1", "10.0.0.1:179");
    let mut other = peer("b", "2", "10.0.0.1:179");
    other.session.transport.source_address = "10.0.0.12".parse().ok();
    assert!(names([first(), other.clone()]).is_empty());
    let mut guarded = other.clone();
    guarded.session.transport.ttl_security = Some(1);
    assert_eq!(names([first(), guarded]), ["b"]);
    other.session.transport.source_interface = Some("eth1".to_owned());
    assert_eq!(names([first(), other]), ["b"]);
}

#[test]
fn a_conflicting_peer_does_not_displace_others() {
    let first = peer("a", "1", "10.0.0.1:179");
    let second = peer("b", "2", "10.0.0.1:179");
    let third = peer("c", "3", "10.0.0.1:179");
    assert_eq!(names([first, second, third]), ["b", "c"]);
}

#[test]
fn the_nodes_own_address_is_rejected_but_another_speaker_on_the_node_is_a_peer() {
    assert_eq!(names([peer("self", "", "10.0.0.11:179")]), ["self"]);
    assert!(names([peer("bird", "", "10.0.0.11:1790")]).is_empty());
}

#[test]
fn a_peer_without_its_interface_does_not_conflict_with_others() {
    let mut first = peer("a", "1", "10.0.0.1:179");
    first.session.transport.source_interface = Some("eth1".to_owned());
    let second = || peer("b", "2", "10.0.0.1:179");
    assert_eq!(names([first.clone(), second()]), ["b"]);
    assert_eq!(names_without([first, second()], &["eth1"]), ["a"]);
}

#[test]
fn a_network_with_a_password_conflicts_with_a_router_in_it_without_one() {
    let network = |created: &str, password: Option<&str>| {
        let mut peer = peer("rack", created, "10.0.0.1:179");
        peer.session.remote = Remote::Network("10.0.0.0/24".parse().expect("a network"));
        peer.session.transport.password = password.map(Secret::new);
        peer
    };
    let router = |password: Option<&str>| {
        let mut peer = peer("tor", "2", "10.0.0.1:179");
        peer.session.transport.password = password.map(Secret::new);
        peer
    };
    assert_eq!(names([network("1", Some("p")), router(None)]), ["tor"]);
    assert_eq!(names([network("3", Some("p")), router(None)]), ["rack"]);
    // A key of its own, or no key of the network, is valid.
    assert!(names([network("1", Some("p")), router(Some("q"))]).is_empty());
    assert!(names([network("1", None), router(Some("q"))]).is_empty());
    let mut outside = router(None);
    outside.session.remote = Remote::Router("10.0.1.1:179".parse().expect("an address"));
    assert!(names([network("1", Some("p")), outside]).is_empty());
}
