//! BGPPeers whose sourceAddress is a network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::core::decide::peers_of;

fn tor(spec: Value) -> Change {
    let mut spec = spec;
    spec["myASN"] = json!(64512);
    spec["peerASN"] = json!(64513);
    object(Kind::FerrolbBgpPeer, "tor", json!({ "spec": spec }))
}

fn from_network(network: &str) -> Change {
    tor(json!({ "peerAddress": "10.0.0.1", "sourceAddress": network }))
}

fn addresses(texts: &[&str]) -> Option<BTreeSet<IpAddr>> {
    let addresses = texts.iter().map(|text| text.parse().expect("an address"));
    Some(addresses.collect())
}

/// The source address of the BGPPeer tor on a node, if it runs there.
fn source(index: &Index, node: &str) -> Option<Option<IpAddr>> {
    let mut peers = peers_of(index, node, &index.nodes()[node]);
    let tor = peers.find(|peer| &*peer.name == "tor")?;
    Some(tor.session.transport.source_address)
}

fn problems(index: &Index) -> Vec<String> {
    index.problems().iter().map(ToString::to_string).collect()
}

/// On [`NODE`], whose addresses are not read yet, and another node.
fn nodes() -> Index {
    let mut index = Index::default();
    index.apply(node(NODE, json!({})));
    index.apply(node("node-1", json!({})));
    index.set_addresses(NODE, None);
    index
}

#[test]
fn each_node_has_its_own_source_address_and_follows_it() {
    let mut index = nodes();
    assert!(!index.needs_addresses(NODE));
    index.apply(from_network("10.0.7.0/24"));
    assert!(index.needs_addresses(NODE));
    let dirty = index.set_addresses(NODE, addresses(&["10.0.0.11", "10.0.7.11"]));
    assert!(dirty.nodes.contains(NODE), "{dirty:?}");
    assert_eq!(source(&index, NODE), Some("10.0.7.11".parse().ok()));
    // What addresses another node has, only its own process knows.
    assert_eq!(source(&index, "node-1"), Some(None));
    assert_eq!(problems(&index), [] as [&str; 0]);

    // An address that makes no difference is no change.
    let dirty = index.set_addresses(NODE, addresses(&["10.0.0.11", "10.0.7.11", "10.0.7.12"]));
    assert!(dirty.is_empty(), "{dirty:?}");
    let dirty = index.set_addresses(NODE, addresses(&["10.0.0.11", "10.0.7.12"]));
    assert!(dirty.nodes.contains(NODE), "{dirty:?}");
    assert_eq!(source(&index, NODE), Some("10.0.7.12".parse().ok()));
}

#[test]
fn a_node_without_an_address_in_the_network_refuses_the_peer() {
    let mut index = nodes();
    index.apply(from_network("10.0.7.0/24"));
    index.set_addresses(NODE, addresses(&["10.0.0.11"]));
    assert_eq!(source(&index, NODE), None);
    assert_eq!(source(&index, "node-1"), Some(None));
    let found = problems(&index);
    assert!(
        found[0].starts_with(
            "BGPPeer.ferrolb.io metallb-system/tor: on node-0: spec.sourceAddress: no interface of \
             the node has an address in 10.0.7.0/24; its addresses are 10.0.0.11: correct"
        ),
        "{found:?}"
    );
    assert_eq!(index.rejected_peers(NODE).len(), 1);
    let dirty = index.set_addresses(NODE, addresses(&["10.0.7.11"]));
    assert!(dirty.problems && problems(&index).is_empty());
    assert_eq!(source(&index, NODE), Some("10.0.7.11".parse().ok()));
}

#[test]
fn a_session_that_runs_stays_when_its_address_or_a_wrong_edit_goes() {
    let kept = |index: &Index, address: &str| {
        assert_eq!(source(index, NODE), Some(address.parse().ok()));
        let found = problems(index);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].ends_with("; the session from before stays in use"),
            "{found:?}"
        );
    };
    let mut index = nodes();
    index.apply(from_network("10.0.7.0/24"));
    index.set_addresses(NODE, addresses(&["10.0.7.11", "10.0.8.11"]));
    index.set_addresses(NODE, addresses(&["10.0.8.11"]));
    kept(&index, "10.0.7.11");
    index.apply(from_network("10.0.9.0/24"));
    kept(&index, "10.0.7.11");
    index.apply(from_network("10.0.8.0/24"));
    assert!(problems(&index).is_empty());
    assert_eq!(source(&index, NODE), Some("10.0.8.11".parse().ok()));

    // The session before had an address, and so nothing read those of the node.
    index.apply(tor(
        json!({ "peerAddress": "10.0.0.1", "sourceAddress": "10.0.8.12" }),
    ));
    index.set_addresses(NODE, None);
    assert_eq!(source(&index, NODE), Some("10.0.8.12".parse().ok()));
    index.apply(tor(
        json!({ "peerAddress": "10.0.0.2", "sourceAddress": "10.0.9.0/24" }),
    ));
    index.set_addresses(NODE, addresses(&["10.0.8.11"]));
    kept(&index, "10.0.8.12");
    // It is not kept after the BGPPeer is gone.
    index.apply(Change::Delete(key(Kind::FerrolbBgpPeer, "tor")));
    index.apply(from_network("10.0.9.0/24"));
    assert_eq!(source(&index, NODE), None);
}

#[test]
fn peers_of_one_router_from_two_networks_do_not_conflict() {
    let second = |network: &str| {
        let spec = json!({
            "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "sourceAddress": network
        });
        object(Kind::FerrolbBgpPeer, "tor-2", json!({ "spec": spec }))
    };
    let mut index = nodes();
    index.apply(from_network("10.0.7.0/24"));
    index.apply(second("10.0.8.0/24"));
    index.set_addresses(NODE, addresses(&["10.0.7.11", "10.0.8.11"]));
    assert_eq!(problems(&index), [] as [&str; 0]);
    // From one network they are the same session, also on nodes whose addresses are unknown.
    index.apply(second("10.0.7.0/24"));
    let found = problems(&index);
    assert!(
        found[0].contains("on node-0, node-1: spec.peerAddress: conflicts with"),
        "{found:?}"
    );
}
