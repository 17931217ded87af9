//! What depends on nodes: conflicts of peers, interfaces and weights.

use super::*;
use crate::core::decide::layer2::addresses::Layer2Addresses;

#[test]
fn peers_that_conflict_on_one_node_run_on_the_others() {
    let mut index = index(initial());
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.9",
        "nodeSelectors": [{ "matchLabels": { "rack": "a" } }]
    });
    index.apply(object(
        Kind::FerrolbBgpPeer,
        "z-peer",
        json!({ "spec": spec }),
    ));
    assert!(index.problems().is_empty(), "no node is in rack a");
    let dirty = index.apply(node("node-1", json!({ "rack": "a" })));
    assert!(dirty.problems && dirty.nodes.contains("node-1"));
    let problem = index.problems()[0].to_string();
    assert!(
        problem.starts_with(
            "BGPPeer.ferrolb.io metallb-system/z-peer: on node-1: spec.peerAddress: conflicts with \
             BGPPeer"
        ),
        "{problem}"
    );
    let peers = |node: &str| {
        let node_routes = NodeRoutes::of(&index, node);
        let peers: Vec<String> = node_routes
            .routes()
            .keys()
            .map(|(peer, _)| peer.to_string())
            .collect();
        peers
    };
    assert_eq!(peers("node-1"), ["peer-0", "peer-1"]);
    assert_eq!(peers(NODE), ["peer-0", "peer-1"]);
    index.apply(Change::Delete(key(Kind::BgpPeer, "peer-0")));
    assert!(index.problems().is_empty());
    let node_routes = NodeRoutes::of(&index, "node-1");
    assert!(
        node_routes
            .routes()
            .keys()
            .any(|(peer, _)| &**peer == "z-peer")
    );
}

#[test]
fn no_node_sends_weights_if_one_has_no_peer_that_requests_them() {
    let mut index = index(initial());
    index.apply(weighted_peer("weighted-0"));
    let weighted_routes = |index: &Index| {
        let node_routes = NodeRoutes::of(index, NODE);
        let routes = node_routes
            .routes()
            .values()
            .filter(|route| !route.extended_communities.is_empty());
        routes.count()
    };
    assert_eq!(weighted_routes(&index), 1, "{:?}", index.problems());
    // node-1 has only a peer that doesn't request weights.
    let selector = |labels: Value| json!([{ "matchLabels": labels }]);
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.7", "linkBandwidth": "transitive",
        "nodeSelectors": selector(json!({ "rack": "a" }))
    });
    index.apply(object(
        Kind::FerrolbBgpPeer,
        "weighted-0",
        json!({ "spec": spec }),
    ));
    index.apply(node(NODE, json!({ "rack": "a" })));
    assert_eq!(weighted_routes(&index), 1);
    let dirty = index.apply(node("node-1", json!({})));
    let mut node_routes = NodeRoutes::of(&index, NODE);
    assert_eq!(weighted_routes(&index), 0);
    assert!(node_routes.update(&index, &dirty).is_empty());
    index.apply(Change::Delete(key(Kind::Node, "node-1")));
    assert_eq!(weighted_routes(&index), 1);
}

#[test]
fn a_peer_without_its_interface_on_a_node_is_rejected_there_until_the_interface_exists() {
    let mut index = Index::default();
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.7", "sourceInterface": "eth9"
    });
    index.apply(node(NODE, json!({})));
    index.apply(node("node-1", json!({})));
    index.apply(object(
        Kind::FerrolbBgpPeer,
        "by-eth9",
        json!({ "spec": spec }),
    ));
    index.apply(peer("other", "10.0.0.8", 64512));
    // Unchecked interfaces are no problem: `ferrolb check` has no node.
    assert!(index.problems().is_empty());
    assert!(index.named_interfaces(NODE).contains("eth9"));
    let dirty = index.set_missing_interfaces(NODE, ["eth9".to_owned()].into());
    assert!(dirty.problems && dirty.nodes.contains(NODE), "{dirty:?}");
    let again = index.set_missing_interfaces(NODE, ["eth9".to_owned()].into());
    assert!(again.is_empty(), "{again:?}");
    let rejected: Vec<&String> = index
        .conflicting_peers(NODE)
        .expect("a refusal")
        .keys()
        .collect();
    assert_eq!(rejected, ["by-eth9"]);
    assert!(index.conflicting_peers("node-1").is_none());
    let problems: Vec<String> = index.problems().iter().map(ToString::to_string).collect();
    let [problem] = &problems[..] else {
        panic!("{problems:?}")
    };
    assert!(
        problem.starts_with(
            "BGPPeer.ferrolb.io metallb-system/by-eth9: on node-0: spec.sourceInterface: interface \
             \"eth9\" does not exist"
        ),
        "{problem}"
    );
    let dirty = index.set_missing_interfaces(NODE, [].into());
    assert!(dirty.problems && index.problems().is_empty());
}

#[test]
fn selectors_apply_to_the_labels_that_nodes_and_services_have_now() {
    let selector = |key: &str| json!([{ "matchLabels": { key: "a" } }]);
    let mut spec = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.7" });
    spec["nodeSelectors"] = selector("rack");
    let services = json!({ "peers": ["peer-0"], "serviceSelectors": selector("tier") });
    let nodes = json!({ "peers": ["peer-1"], "nodeSelectors": selector("rack") });
    let all = json!({ "peers": ["racked"] });
    let mut index = index(initial());
    index.apply(object(Kind::BgpPeer, "racked", json!({ "spec": spec })));
    index.apply(advertisement("advertisement-0", services));
    index.apply(advertisement("advertisement-1", nodes));
    index.apply(advertisement("advertisement-2", all));
    index.apply(layer2_advertisement(
        "layer2-0",
        json!({ "nodeSelectors": selector("rack") }),
        false,
    ));
    let labelled = |tier: &str| {
        let Change::Apply(key, mut raw) = service("service-0", "Cluster", "192.0.2.1") else {
            unreachable!()
        };
        raw.metadata.labels.insert("tier".into(), tier.into());
        Change::Apply(key, raw)
    };
    // Routes and candidates are updated by each change alone, as in the daemon.
    let mut node_routes = NodeRoutes::new(NODE);
    let mut layer2 = Layer2Addresses::new(NODE);
    let mut after = |change: Change| {
        let dirty = index.apply(change);
        node_routes.update(&index, &dirty);
        layer2.update(&index, &dirty);
        let peers = node_routes.routes().keys();
        let peers: Vec<String> = peers.map(|(peer, _)| peer.to_string()).collect();
        let addresses = layer2.addresses().values();
        let candidates = addresses.flat_map(|address| address.candidates.iter());
        let candidates: Vec<String> = candidates.map(|node| node.node.to_string()).collect();
        (peers.join(" "), candidates.join(" "))
    };
    let shown = |peers: &str, nodes: &str| (peers.to_owned(), nodes.to_owned());
    assert_eq!(after(labelled("b")), shown("", ""));
    assert_eq!(after(labelled("a")), shown("peer-0", ""));
    let in_rack = node(NODE, json!({ "rack": "a" }));
    assert_eq!(after(in_rack), shown("peer-0 peer-1 racked", NODE));
    assert_eq!(after(labelled("b")), shown("peer-1 racked", NODE));
    assert_eq!(after(node(NODE, json!({ "rack": "b" }))), shown("", ""));
}

#[test]
fn a_node_announces_again_when_its_network_is_available() {
    let network = |unavailable: &str| {
        let Change::Apply(key, mut raw) = node(NODE, json!({})) else {
            unreachable!()
        };
        let condition = json!({ "type": "NetworkUnavailable", "status": unavailable });
        raw.body["status"]["conditions"] = json!([condition]);
        Change::Apply(key, raw)
    };
    let mut index = index(initial());
    index.apply(network("True"));
    assert!(routes(&index).is_empty());
    index.apply(network("False"));
    assert_eq!(
        routes(&index),
        ["peer-0 192.0.2.1/32", "peer-1 192.0.2.1/32"]
    );
}

#[test]
fn an_address_outside_of_all_pools_is_withheld_alone_and_an_unreadable_one_withholds_all() {
    let with = |second: &str| {
        let Change::Apply(key, mut raw) = service("service-0", "Cluster", "192.0.2.1") else {
            unreachable!()
        };
        let ingress = json!([{ "ip": "192.0.2.1" }, { "ip": second }]);
        raw.body["status"]["loadBalancer"]["ingress"] = ingress;
        Change::Apply(key, raw)
    };
    let mut index = index(initial());
    index.apply(pool("pool-1", "198.51.100.0/24"));
    for (second, announced) in [
        ("203.0.113.1", 2),
        ("198.51.100.1", 4),
        ("nonsense", 0),
        ("192.0.2.2", 4),
    ] {
        index.apply(with(second));
        assert_eq!(routes(&index).len(), announced, "{second}");
    }
}

#[test]
fn an_aggregate_is_announced_until_its_last_service_is_gone() {
    let mut index = index(initial());
    index.apply(advertisement(
        "advertisement-0",
        json!({ "peers": ["peer-0"], "aggregationLength": 24 }),
    ));
    index.apply(service("service-1", "Cluster", "192.0.2.2"));
    index.apply(slice("slice-1", "service-1", NODE, true));
    let aggregate = ["peer-0 192.0.2.0/24"];
    assert_eq!(routes(&index), aggregate);
    index.apply(Change::Delete(key(Kind::Service, "service-0")));
    assert_eq!(routes(&index), aggregate);
    index.apply(Change::Delete(key(Kind::Service, "service-1")));
    assert_eq!(routes(&index), [""; 0]);
}

#[test]
fn a_peer_that_an_advertisement_names_no_longer_gets_withdrawals() {
    let mut index = index(initial());
    let mut node_routes = NodeRoutes::new(NODE);
    let mut changes = |index: &mut Index, peers: &[&str]| {
        let dirty = index.apply(advertisement("advertisement-0", json!({ "peers": peers })));
        let changes = node_routes.update(index, &dirty).into_iter();
        let changes = changes.map(|change| (change.peer.to_string(), change.route.is_some()));
        changes.collect::<Vec<_>>()
    };
    let change = |peer: &str, announced| (peer.to_owned(), announced);
    assert_eq!(
        changes(&mut index, &["peer-0", "peer-1"]),
        [change("peer-0", true), change("peer-1", true)]
    );
    assert_eq!(changes(&mut index, &["peer-0"]), [change("peer-1", false)]);
}
