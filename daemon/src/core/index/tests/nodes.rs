//! What depends on nodes: conflicts of peers, interfaces and weights.

use super::*;

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
