//! The index: deciding only what a change touched gives the same as deciding everything, and a bad
//! object never takes anything away.

use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::config::Severity;
use crate::core::decide::node_routes::NodeRoutes;
use crate::core::index::Index;
use crate::core::index::change::Change;
use crate::runtime::status::Announced;
use proptest::prelude::*;
use serde_json::{Value, json};

const CONFIG: &str = "metallb-system";
const NODE: &str = "node-0";

fn key(kind: Kind, name: &str) -> ObjectKey {
    let namespace = match kind {
        Kind::Node | Kind::Namespace => "",
        kind if kind.is_configuration() => CONFIG,
        _ => "default",
    };
    ObjectKey::new(kind, ObjectName::new(namespace, name))
}

fn object(kind: Kind, name: &str, mut body: Value) -> Change {
    body["kind"] = json!(kind.name());
    body["apiVersion"] = json!(kind.api_version());
    body["metadata"]["name"] = json!(name);
    let raw: RawObject = serde_json::from_value(body).expect("an object");
    Change::Apply(key(kind, name), raw)
}

fn pool(name: &str, addresses: &str) -> Change {
    object(
        Kind::IpAddressPool,
        name,
        json!({ "spec": { "addresses": [addresses] } }),
    )
}

fn peer(name: &str, address: &str, my_asn: u32) -> Change {
    let spec = json!({ "myASN": my_asn, "peerASN": 64513, "peerAddress": address });
    object(Kind::BgpPeer, name, json!({ "spec": spec }))
}

fn own_peer(name: &str, address: &str) -> Change {
    let spec = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": address });
    object(Kind::FerrolbBgpPeer, name, json!({ "spec": spec }))
}

/// One that asks for weights.
fn weighing_peer(name: &str) -> Change {
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.7", "linkBandwidth": "transitive"
    });
    object(Kind::FerrolbBgpPeer, name, json!({ "spec": spec }))
}

fn weighing_node(name: &str, weight: &str) -> Change {
    let Change::Apply(key, mut raw) = node(name, json!({})) else {
        unreachable!()
    };
    let annotations = &mut raw.metadata.annotations;
    annotations.insert("ferrolb.io/weight".into(), weight.into());
    Change::Apply(key, raw)
}

fn advertisement(name: &str, spec: Value) -> Change {
    object(Kind::BgpAdvertisement, name, json!({ "spec": spec }))
}

fn node(name: &str, labels: Value) -> Change {
    let status = json!({ "addresses": [{ "type": "InternalIP", "address": "10.0.0.11" }] });
    object(
        Kind::Node,
        name,
        json!({ "metadata": { "labels": labels }, "status": status }),
    )
}

fn service(name: &str, policy: &str, address: &str) -> Change {
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": policy, "clusterIP": "10.96.0.1",
        "ports": [{ "port": 80 }]
    });
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": address }] } });
    object(
        Kind::Service,
        name,
        json!({ "spec": spec, "status": status }),
    )
}

/// A Local service in a namespace that may share 192.0.2.1, with a port of its own.
fn sharer(namespace: &str, name: &str, selector: &Value, opt_in: bool) -> Change {
    let Change::Apply(mut key, mut raw) = service(name, "Local", "192.0.2.1") else {
        unreachable!()
    };
    raw.metadata.namespace = Some(namespace.to_owned());
    key.name = ObjectName::new(namespace, name);
    let annotations = &mut raw.metadata.annotations;
    annotations.insert("metallb.io/allow-shared-ip".into(), "us".into());
    if opt_in {
        annotations.insert("ferrolb.io/allow-shared-local".into(), "true".into());
    }
    raw.body["spec"]["selector"] = selector.clone();
    raw.body["spec"]["ports"] =
        json!([{ "port": u16::from(*name.as_bytes().last().unwrap_or(&1)) }]);
    Change::Apply(key, raw)
}

fn slice(name: &str, service: &str, node: &str, ready: bool) -> Change {
    let labels = json!({ "kubernetes.io/service-name": service });
    let endpoint =
        json!({ "addresses": ["10.1.0.1"], "nodeName": node, "conditions": { "ready": ready } });
    let body = json!({
        "metadata": { "labels": labels }, "addressType": "IPv4", "endpoints": [endpoint]
    });
    object(Kind::EndpointSlice, name, body)
}

fn number() -> impl Strategy<Value = u8> {
    0..3_u8
}

fn change() -> impl Strategy<Value = Change> {
    let policy = prop_oneof![Just("Cluster"), Just("Local"), Just("Nonsense")];
    let address = prop_oneof![
        Just("192.0.2.1"),
        Just("192.0.2.2"),
        Just("198.51.100.1"),
        Just("x")
    ];
    let spec = prop_oneof![
        Just(json!({})),
        Just(json!({ "aggregationLength": 24 })),
        Just(json!({ "peers": ["peer-1"], "localPref": 7 })),
        Just(json!({ "peers": ["weighing-1"] })),
        Just(json!({ "communities": ["64512:1"], "ipAddressPools": ["pool-0"] })),
        Just(json!({ "communities": ["nonsense"] })),
    ];
    let addresses = prop_oneof![
        Just("192.0.2.0/24"),
        Just("198.51.100.0/24"),
        Just("nonsense")
    ];
    let labels = prop_oneof![
        Just(json!({})),
        Just(json!({ "node.kubernetes.io/exclude-from-external-load-balancers": "" })),
    ];
    let kind = prop_oneof![
        Just((Kind::Service, "service")),
        Just((Kind::EndpointSlice, "slice")),
        Just((Kind::Node, "node")),
        Just((Kind::IpAddressPool, "pool")),
        Just((Kind::BgpPeer, "peer")),
        Just((Kind::FerrolbBgpPeer, "peer")),
        Just((Kind::BgpAdvertisement, "advertisement")),
    ];
    prop_oneof![
        4 => (number(), policy, address)
            .prop_map(|(n, policy, address)| service(&format!("service-{n}"), policy, address)),
        4 => (number(), number(), number(), any::<bool>()).prop_map(|(n, service, node, ready)| {
            slice(&format!("slice-{n}"), &format!("service-{service}"), &format!("node-{node}"), ready)
        }),
        4 => (number(), prop::bool::weighted(0.9))
            .prop_map(|(n, opt_in)| sharer("default", &format!("service-{n}"), &json!({}), opt_in)),
        2 => (number(), addresses).prop_map(|(n, range)| pool(&format!("pool-{n}"), range)),
        2 => (number(), number())
            .prop_map(|(n, asn)| peer(&format!("peer-{n}"), &format!("10.0.0.{}", n / 2 + 1), u32::from(asn) + 64512)),
        // 10.0.0.11 is the nodes' own.
        1 => (number(), number())
            .prop_map(|(n, end)| own_peer(&format!("peer-{n}"), &format!("10.0.0.{}", end + 9))),
        2 => number().prop_map(|n| weighing_peer(&format!("weighing-{n}"))),
        1 => number().prop_map(|n| Change::Delete(key(Kind::FerrolbBgpPeer, &format!("weighing-{n}")))),
        1 => (number(), prop_oneof![Just("2"), Just("x")])
            .prop_map(|(n, weight)| weighing_node(&format!("node-{n}"), weight)),
        2 => (number(), spec).prop_map(|(n, spec)| advertisement(&format!("advertisement-{n}"), spec)),
        1 => (number(), labels).prop_map(|(n, labels)| node(&format!("node-{n}"), labels)),
        1 => (number(), kind.clone())
            .prop_map(|(n, (kind, name))| Change::Delete(key(kind, &format!("{name}-{n}")))),
        1 => (
            prop_oneof![Just((Kind::Service, "service")), Just((Kind::EndpointSlice, "slice"))],
            prop::collection::btree_set(number(), 0..3),
        )
            .prop_map(|((kind, name), present)| {
                let present = present.into_iter();
                Change::Listed(kind, present.map(|n| key(kind, &format!("{name}-{n}")).name).collect())
            }),
        1 => kind.prop_map(|(kind, _)| Change::Unreadable(kind, "gone".into()))
            .prop_filter("configuration", |change| {
                matches!(change, Change::Unreadable(kind, _) if kind.is_configuration())
            }),
    ]
}

/// Something to begin with, so that routes come and go.
fn beginning() -> Vec<Change> {
    vec![
        node(NODE, json!({})),
        pool("pool-0", "192.0.2.0/24"),
        peer("peer-0", "10.0.0.9", 64512),
        peer("peer-1", "10.0.0.8", 64512),
        advertisement("advertisement-0", json!({})),
        service("service-0", "Cluster", "192.0.2.1"),
        slice("slice-0", "service-0", NODE, true),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn deciding_what_was_touched_is_deciding_everything(changes in prop::collection::vec(change(), 1..40)) {
        let mut index = Index::default();
        let mut node_routes = NodeRoutes::new(NODE);
        let mut wire = std::collections::BTreeMap::new();
        let mut problems = Vec::new();
        let announced = Announced::default();
        for change in beginning().into_iter().chain(changes) {
            let dirty = index.apply(change);
            for change in node_routes.update(&index, &dirty) {
                let key = (change.peer, change.prefix);
                match change.route {
                    Some(route) => wire.insert(key, route),
                    None => wire.remove(&key),
                };
            }
            prop_assert_eq!(&node_routes, &NodeRoutes::of(&index, NODE));
            prop_assert_eq!(&wire, node_routes.routes());
            if dirty.needs_full_decision(NODE) {
                announced.update_all(&index, &node_routes, |_| true);
            } else {
                announced.update(&index, &node_routes, &dirty.services);
            }
            let all = Announced::default();
            all.update_all(&index, &node_routes, |prefix| wire.keys().any(|(_, other)| other == prefix));
            prop_assert_eq!(announced.services(), all.services());
            if dirty.may_change_problems() {
                problems = index.problems();
            }
            prop_assert_eq!(&problems, &index.problems());
        }
    }
}

fn index(changes: Vec<Change>) -> Index {
    let mut index = Index::default();
    for change in changes {
        index.apply(change);
    }
    index
}

#[test]
fn a_list_deletes_what_is_not_in_it_and_keeps_the_rest() {
    let mut index = index(beginning());
    index.apply(service("service-1", "Cluster", "192.0.2.2"));
    let present = [key(Kind::Service, "service-1").name];
    let dirty = index.apply(Change::Listed(Kind::Service, present.clone().into()));
    assert_eq!(
        dirty.services,
        [key(Kind::Service, "service-0").name].into()
    );
    assert_eq!(index.services().count(), 1);
    assert!(index.service(&present[0]).is_some());
    assert!(index.is_listed(&[Kind::Service]) && index.is_synced(&[Kind::Service]));
}

fn routes(index: &Index) -> Vec<String> {
    let node_routes = NodeRoutes::of(index, NODE);
    node_routes
        .routes()
        .keys()
        .map(|(peer, prefix)| format!("{peer} {prefix}"))
        .collect()
}

#[test]
fn a_bad_object_keeps_its_last_good_value() {
    let mut index = index(beginning());
    let before = routes(&index);
    assert_eq!(before, ["peer-0 192.0.2.1/32", "peer-1 192.0.2.1/32"]);
    for (bad, name) in [
        (
            pool("pool-0", "nonsense"),
            "IPAddressPool metallb-system/pool-0",
        ),
        (
            peer("peer-0", "nonsense", 64512),
            "BGPPeer metallb-system/peer-0",
        ),
        (
            advertisement("advertisement-0", json!({ "communities": ["nonsense"] })),
            "BGPAdvertisement metallb-system/advertisement-0",
        ),
        (
            service("service-0", "Nonsense", "192.0.2.1"),
            "Service default/service-0",
        ),
    ] {
        index.apply(bad);
        assert_eq!(routes(&index), before, "{name}");
        let named = index
            .problems()
            .iter()
            .any(|problem| problem.object.to_string() == name);
        assert!(named, "{name} is not among {:?}", index.problems());
    }
    assert!(
        index
            .config()
            .pools
            .get("pool-0")
            .is_some_and(|pool| pool.options().frozen)
    );
}

#[test]
fn a_pool_that_can_not_be_read_is_frozen_and_thaws() {
    let mut index = index(beginning());
    index.apply(Change::Unreadable(
        Kind::IpAddressPool,
        "the CRD is gone".into(),
    ));
    let frozen = |index: &Index| {
        let pool = index.config().pools.get("pool-0").expect("the pool stays");
        (pool.options().frozen, index.config().pools.complete())
    };
    assert_eq!(frozen(&index), (true, false));
    assert_eq!(routes(&index).len(), 2);
    index.apply(pool("pool-1", "198.51.100.0/24"));
    assert_eq!(
        frozen(&index),
        (true, false),
        "one that can be read does not thaw the others"
    );
    let Change::Apply(key, raw) = pool("pool-0", "192.0.2.0/24") else {
        unreachable!()
    };
    index.apply(Change::Reset(Kind::IpAddressPool, vec![(key, raw)]));
    assert_eq!(frozen(&index), (false, true));
}

#[test]
fn a_pool_that_was_never_good_lets_its_services_be_announced() {
    let mut changes = beginning();
    changes.remove(1);
    let mut index = index(changes);
    let annotated = |policy: &str| {
        let Change::Apply(key, mut raw) = service("service-0", policy, "192.0.2.1") else {
            unreachable!()
        };
        raw.metadata
            .annotations
            .insert("metallb.io/ip-allocated-from-pool".into(), "pool-0".into());
        Change::Apply(key, raw)
    };
    index.apply(annotated("Cluster"));
    assert!(routes(&index).is_empty(), "no such pool exists");
    index.apply(pool("pool-0", "nonsense"));
    assert_eq!(routes(&index).len(), 2);
}

#[test]
fn deleting_a_pool_on_purpose_withdraws() {
    let mut index = index(beginning());
    index.apply(Change::Delete(key(Kind::IpAddressPool, "pool-0")));
    assert!(routes(&index).is_empty());
    assert!(index.config().pools.complete());
}

#[test]
fn of_two_services_with_one_address_the_younger_is_withheld() {
    let mut index = index(beginning());
    let created = |name: &str, created: &str| {
        let Change::Apply(key, mut raw) = service(name, "Cluster", "192.0.2.1") else {
            unreachable!()
        };
        raw.metadata.creation_timestamp = created.into();
        Change::Apply(key, raw)
    };
    index.apply(slice("slice-1", "service-1", NODE, true));
    index.apply(created("service-0", "2026-01-02T00:00:00Z"));
    let dirty = index.apply(created("service-1", "2026-01-01T00:00:00Z"));
    assert_eq!(dirty.services.len(), 2, "the other holder is dirty as well");
    let node_routes = NodeRoutes::of(&index, NODE);
    let reasons: Vec<(String, &str)> = node_routes
        .decisions()
        .iter()
        .map(|(name, decision)| (name.to_string(), decision.verdicts[0].reason.code()))
        .collect();
    assert_eq!(
        reasons,
        [
            ("default/service-0".to_owned(), "AddressConflict"),
            ("default/service-1".to_owned(), "Announced"),
        ]
    );
}

#[test]
fn what_is_wrong_with_an_object_is_news_by_itself() {
    let mut index = index(beginning());
    let dirty = index.apply(service("service-0", "Nonsense", "192.0.2.1"));
    assert!(dirty.problems && dirty.services.is_empty());
    assert!(!dirty.is_empty());
    // The same again is no news, its mending is.
    assert!(
        index
            .apply(service("service-0", "Nonsense", "192.0.2.1"))
            .is_empty()
    );
    assert!(
        index
            .apply(service("service-0", "Cluster", "192.0.2.1"))
            .problems
    );
    assert!(index.problems().is_empty());
}

#[test]
fn a_refusal_of_services_ends_with_their_list() {
    let mut index = Index::default();
    index.apply(Change::Unreadable(Kind::Service, "forbidden".into()));
    assert!(index.is_synced(&[Kind::Service]) && !index.is_listed(&[Kind::Service]));
    assert_eq!(index.problems().len(), 1);
    let dirty = index.apply(Change::Reset(Kind::Service, Vec::new()));
    assert!(dirty.configuration);
    assert!(index.problems().is_empty() && index.is_listed(&[Kind::Service]));
}

#[test]
fn an_object_that_was_never_good_is_forgotten_with_its_list() {
    let mut index = Index::default();
    index.apply(service("bad", "Nonsense", "192.0.2.1"));
    assert_eq!(index.problems().len(), 1);
    assert!(
        index
            .apply(Change::Reset(Kind::Service, Vec::new()))
            .problems
    );
    assert!(index.problems().is_empty());
}

#[test]
fn a_namespace_that_no_pool_asks_for_touches_nothing() {
    let mut index = index(beginning());
    let dirty = index.apply(object(Kind::Namespace, "another", json!({})));
    assert!(dirty.is_empty(), "{dirty:?}");
}

#[test]
fn a_profile_that_is_gone_refuses_the_peer_and_its_session_runs_on() {
    let profile = |receive: u32| {
        let spec = json!({ "receiveInterval": receive });
        object(Kind::BfdProfile, "fast", json!({ "spec": spec }))
    };
    let spec = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.9", "bfdProfile": "fast" });
    let mut index = index(beginning());
    index.apply(profile(50));
    index.apply(object(Kind::BgpPeer, "peer-0", json!({ "spec": spec })));
    let bfd = |index: &Index| {
        let peer = &index.config().peers["peer-0"];
        peer.session
            .bfd
            .map(|bfd| bfd.session.timers.required_min_rx.duration().as_millis())
    };
    assert_eq!((bfd(&index), index.problems().len()), (Some(50), 0));
    assert!(index.apply(profile(60)).configuration);
    assert_eq!(bfd(&index), Some(60));
    index.apply(profile(1));
    assert_eq!((bfd(&index), index.problems().len()), (Some(60), 1));
    index.apply(Change::Delete(key(Kind::BfdProfile, "fast")));
    let problems = index.problems();
    assert_eq!((bfd(&index), problems.len()), (Some(60), 1));
    assert!(
        problems[0].to_string().contains("there is no BFDProfile"),
        "{problems:?}"
    );
    assert_eq!(routes(&index).len(), 2);
}

#[test]
fn peers_that_clash_on_one_node_run_on_the_others() {
    let mut index = index(beginning());
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
fn one_group_of_peers_will_do() {
    let absent = |kind| Change::Absent(kind, "no CRD".into());
    let both = [Kind::BgpPeer, Kind::FerrolbBgpPeer];
    let mut index = Index::default();
    index.apply(absent(Kind::FerrolbBgpPeer));
    assert!(!index.is_synced(&both) && !index.is_listed(&both));
    index.apply(Change::Reset(Kind::BgpPeer, Vec::new()));
    // What was announced before may have come from the other group: an empty list says nothing
    // about that.
    assert!(index.is_synced(&both) && !index.is_listed(&both));
    assert!(index.problems().is_empty());
    index.apply(peer("tor", "10.0.0.1", 64512));
    assert!(index.is_listed(&both));
    // Where both are missing nothing can be said, and one word is told.
    let mut index = Index::default();
    index.apply(absent(Kind::FerrolbBgpPeer));
    index.apply(absent(Kind::BgpPeer));
    assert!(index.is_synced(&both) && !index.is_listed(&both));
    assert_eq!(index.problems().len(), 1);
    index.apply(Change::Reset(Kind::FerrolbBgpPeer, Vec::new()));
    assert!(!index.is_listed(&both));
    index.apply(own_peer("tor", "10.0.0.1"));
    assert!(index.is_listed(&both) && index.problems().is_empty());
    // Nobody waits for profiles that can't exist.
    index.apply(absent(Kind::BfdProfile));
    assert!(index.is_listed(&[Kind::BfdProfile]));
}

#[test]
fn a_misspelt_annotation_of_a_node_is_a_problem_until_it_is_corrected() {
    let annotated = |key: &str| {
        let Change::Apply(object, mut raw) = node("node-0", json!({})) else {
            unreachable!()
        };
        raw.metadata.annotations.insert(key.into(), "2".into());
        Change::Apply(object, raw)
    };
    let mut index = Index::default();
    assert!(index.apply(annotated("ferrolb.io/wieght")).problems);
    let problem = index.problems()[0].to_string();
    assert!(
        problem.contains("did you mean ferrolb.io/weight?"),
        "{problem}"
    );
    assert!(index.apply(annotated("ferrolb.io/weight")).problems);
    assert!(index.problems().is_empty());
}

#[test]
fn a_weight_that_is_none_is_told_and_counts_for_nothing() {
    let mut index = index(beginning());
    let dirty = index.apply(weighing_node(NODE, "banana"));
    assert!(dirty.problems && dirty.nodes.contains(NODE));
    let told: Vec<String> = index
        .problems()
        .iter()
        .map(|p| format!("{}: {}", p.object, p.message))
        .collect();
    assert!(
        told[0].starts_with("Node node-0: metadata.annotations[ferrolb.io/weight]: \"banana\""),
        "{told:?}"
    );
    assert_eq!(routes(&index).len(), 2, "all else about the node counts");
    assert!(index.apply(weighing_node(NODE, "2")).problems);
    assert!(index.problems().is_empty());
}

#[test]
fn a_drain_that_is_none_is_told_and_counts_for_nothing() {
    let mut index = index(beginning());
    let annotated = |text: &str| {
        let Change::Apply(key, mut raw) = service("service-0", "Cluster", "192.0.2.1") else {
            unreachable!()
        };
        let annotations = &mut raw.metadata.annotations;
        annotations.insert("ferrolb.io/drain".into(), text.into());
        Change::Apply(key, raw)
    };
    assert!(index.apply(annotated("soon")).problems);
    let problem = index.problems()[0].to_string();
    assert!(
        problem.starts_with(
            "Service default/service-0: metadata.annotations[ferrolb.io/drain]: \"soon\""
        ),
        "{problem}"
    );
    assert_eq!(routes(&index).len(), 2);
    assert!(index.apply(annotated("30s,on-cordon")).problems);
    assert!(index.problems().is_empty());
    let node_routes = NodeRoutes::of(&index, NODE);
    let key = node_routes.routes().keys().next().expect("a route");
    let drain = node_routes.drain(key);
    assert_eq!((drain.time.as_secs(), drain.on_cordon), (30, true));
}

#[test]
fn a_node_that_can_not_tell_its_weight_silences_the_others() {
    let mut index = index(beginning());
    index.apply(weighing_peer("weighing-0"));
    let told = |index: &Index| {
        let node_routes = NodeRoutes::of(index, NODE);
        let weighted = node_routes
            .routes()
            .values()
            .filter(|route| !route.extended_communities.is_empty());
        weighted.count()
    };
    assert_eq!(told(&index), 1, "{:?}", index.problems());
    // node-1 has only a peer that does not ask.
    let selector = |labels: Value| json!([{ "matchLabels": labels }]);
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.7", "linkBandwidth": "transitive",
        "nodeSelectors": selector(json!({ "rack": "a" }))
    });
    index.apply(object(
        Kind::FerrolbBgpPeer,
        "weighing-0",
        json!({ "spec": spec }),
    ));
    index.apply(node(NODE, json!({ "rack": "a" })));
    assert_eq!(told(&index), 1);
    let dirty = index.apply(node("node-1", json!({})));
    let mut node_routes = NodeRoutes::of(&index, NODE);
    assert_eq!(told(&index), 0);
    assert!(node_routes.update(&index, &dirty).is_empty());
    index.apply(Change::Delete(key(Kind::Node, "node-1")));
    assert_eq!(told(&index), 1);
}

#[test]
fn an_interface_that_a_node_lacks_is_refused_there_until_it_comes() {
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
    // Where nobody has looked nothing is wrong: `ferrolb check` has no node.
    assert!(index.problems().is_empty());
    assert!(index.source_interfaces(NODE).contains("eth9"));
    let dirty = index.set_missing_interfaces(NODE, ["eth9".to_owned()].into());
    assert!(dirty.problems && dirty.nodes.contains(NODE), "{dirty:?}");
    let again = index.set_missing_interfaces(NODE, ["eth9".to_owned()].into());
    assert!(again.is_empty(), "{again:?}");
    let refused: Vec<&String> = index
        .conflicting_peers(NODE)
        .expect("a refusal")
        .keys()
        .collect();
    assert_eq!(refused, ["by-eth9"]);
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

/// One endpoint of `service-0` in a slice of its own.
fn slice_of(name: &str, address_type: &str, address: &str, ready: bool) -> Change {
    let body = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": "service-0" } },
        "addressType": address_type,
        "endpoints": [{
            "addresses": [address],
            "nodeName": NODE,
            "conditions": { "ready": ready, "serving": true }
        }]
    });
    object(Kind::EndpointSlice, name, body)
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_is_ready_if_one_says_so() {
    let mut index = Index::default();
    index.apply(slice_of("old", "IPv4", "10.1.0.1", false));
    index.apply(slice_of("new", "IPv4", "10.1.0.1", true));
    index.apply(slice_of("other", "IPv4", "10.1.0.2", true));
    index.apply(slice_of("v6", "IPv6", "fd00::1", true));
    let service = ObjectName::new("default", "service-0");
    let endpoints = index.endpoints(&service, false);
    assert_eq!(endpoints.healthy, 2);
    assert_eq!(endpoints.nodes.get(NODE), Some(&2), "both are ready");
    index.apply(Change::Delete(key(Kind::EndpointSlice, "new")));
    let endpoints = index.endpoints(&service, false);
    assert_eq!(endpoints.healthy, 2);
    assert_eq!(endpoints.nodes.get(NODE), Some(&1), "one only serves");
}

#[test]
fn endpoints_of_the_address_type_fqdn_never_count() {
    let mut index = Index::default();
    index.apply(slice_of("names", "FQDN", "backend.example.com", true));
    let service = ObjectName::new("default", "service-0");
    assert_eq!(index.endpoints(&service, false).healthy, 0);
    assert_eq!(index.endpoints(&service, true).healthy, 0);
    assert!(index.problems().is_empty());
}

#[test]
fn an_endpoint_address_that_is_none_is_named_and_the_last_good_slice_stays() {
    let mut index = Index::default();
    index.apply(slice_of("slice", "IPv4", "10.1.0.1", true));
    index.apply(slice_of("slice", "IPv4", "backend", true));
    let service = ObjectName::new("default", "service-0");
    assert_eq!(index.endpoints(&service, false).healthy, 1);
    let problems = index.problems();
    let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        messages,
        [r#"endpoints[0].addresses[0]: "backend" is not an IP address"#]
    );
}

#[test]
fn a_protocol_is_compared_as_the_api_server_compares_it() {
    let mut index = Index::default();
    let spec = json!({ "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "tcp" }] });
    index.apply(object(Kind::Service, "service-0", json!({ "spec": spec })));
    let problems = index.problems();
    let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        messages,
        [r#"spec.ports[0].protocol: "tcp" is not TCP, UDP or SCTP"#]
    );
}

#[test]
fn a_password_that_ends_with_a_newline_gets_a_notice() {
    let mut index = Index::default();
    let secret = |password: &str| {
        let body =
            json!({ "type": "kubernetes.io/basic-auth", "stringData": { "password": password } });
        object(Kind::Secret, "tor", body)
    };
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "passwordSecret": { "name": "tor" }
    });
    index.apply(secret("right\n"));
    index.apply(object(Kind::BgpPeer, "tor", json!({ "spec": spec })));
    let problems = index.problems();
    let [problem] = problems.as_slice() else {
        panic!("one notice expected: {problems:?}");
    };
    assert!(
        problem.message.contains("ends with a newline"),
        "{problem:?}"
    );
    assert!(!problem.message.contains("right"), "{problem:?}");
    assert_eq!(index.config().peers.len(), 1, "the peer runs all the same");
    index.apply(secret("right"));
    assert!(index.problems().is_empty());
}

#[test]
fn a_daemon_refuses_a_peer_whose_secret_is_absent_and_runs_the_last_good_one() {
    let mut index = Index::default();
    let peer = |secret: &str| {
        let spec = json!({
            "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "passwordSecret": { "name": secret }
        });
        object(Kind::BgpPeer, "tor", json!({ "spec": spec }))
    };
    index.apply(peer("absent"));
    let problems = index.problems();
    assert_eq!(problems[0].severity, Severity::Error);
    assert!(problems[0].message.contains("there is no Secret"));
    assert!(index.config().peers.is_empty());
    let body = json!({ "type": "kubernetes.io/basic-auth", "stringData": { "password": "pw" } });
    index.apply(object(Kind::Secret, "tor", body));
    index.apply(peer("tor"));
    assert!(index.problems().is_empty());
    index.apply(peer("absent"));
    assert_eq!(index.problems()[0].severity, Severity::Error);
    let session = &index.config().peers["tor"].session;
    assert!(session.transport.password.is_some());
}

/// In a Secret, in a BGPPeer, and in what `kubectl apply` notes in the annotations of either.
#[test]
fn no_debug_output_contains_a_password() {
    const PASSWORD: &str = "open-sesame";
    const ENCODED: &str = "b3Blbi1zZXNhbWU=";
    let objects = [
        (
            Kind::Secret,
            "encoded",
            json!({ "type": "kubernetes.io/basic-auth", "data": { "password": ENCODED } }),
        ),
        (
            Kind::Secret,
            "plain",
            json!({ "type": "kubernetes.io/basic-auth", "stringData": { "password": PASSWORD } }),
        ),
        (
            Kind::BgpPeer,
            "by-value",
            json!({ "spec": {
                "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "password": PASSWORD
            } }),
        ),
        (
            Kind::BgpPeer,
            "by-name",
            json!({ "spec": {
                "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.2",
                "passwordSecret": { "name": "encoded" }
            } }),
        ),
    ];
    let mut index = Index::default();
    let mut shown = String::new();
    for (kind, name, body) in objects {
        let Change::Apply(key, mut raw) = object(kind, name, body.clone()) else {
            panic!("an object is applied");
        };
        let applied = "kubectl.kubernetes.io/last-applied-configuration".to_owned();
        raw.metadata.annotations.insert(applied, body.to_string());
        shown += &format!("{raw:?}");
        let change = Change::Apply(key, raw);
        shown += &format!("{change:?}");
        index.apply(change);
    }
    shown += &format!("{index:?}{:?}", index.config());
    assert_eq!(index.problems(), []);
    let passwords = index
        .config()
        .peers
        .values()
        .map(|peer| &peer.session.transport.password);
    assert_eq!(passwords.flatten().count(), 2);
    assert!(shown.contains("last-applied-configuration") && shown.contains("by-value"));
    for password in [PASSWORD, ENCODED, &format!("{:?}", PASSWORD.as_bytes())] {
        assert!(!shown.contains(password), "{password} is in {shown}");
    }
}

/// The code of each service's first verdict.
fn codes(index: &Index) -> Vec<(String, &'static str)> {
    let node_routes = NodeRoutes::of(index, NODE);
    let decisions = node_routes.decisions().iter();
    decisions
        .map(|(name, decision)| (name.to_string(), decision.verdicts[0].reason.code()))
        .collect()
}

#[test]
fn local_services_share_an_address_only_with_the_same_pods() {
    let web = json!({ "app": "web" });
    let none = json!({});
    let table = [
        (("default", &web), ("default", &web), "Announced"),
        (("default", &web), ("other", &web), "AddressConflict"),
        (("default", &none), ("default", &none), "AddressConflict"),
        (("default", &web), ("default", &none), "AddressConflict"),
    ];
    for (one, two, expected) in table {
        let mut index = index(beginning());
        index.apply(Change::Delete(key(Kind::Service, "service-0")));
        index.apply(sharer(one.0, "service-1", one.1, false));
        index.apply(sharer(two.0, "service-2", two.1, false));
        for name in ["service-1", "service-2"] {
            for namespace in ["default", "other"] {
                let Change::Apply(mut key, mut raw) = slice(name, name, NODE, true) else {
                    unreachable!()
                };
                key.name = ObjectName::new(namespace, name);
                raw.metadata.namespace = Some(namespace.to_owned());
                index.apply(Change::Apply(key, raw));
            }
        }
        let first = (format!("{}/service-1", one.0), "Announced");
        let second = (format!("{}/service-2", two.0), expected);
        assert_eq!(codes(&index), [first, second]);
    }
}

#[test]
fn one_of_two_sharers_with_the_same_pods_may_allow_other_pods_too() {
    for opted_in in [[true, false], [false, true], [true, true], [false, false]] {
        let mut index = index(beginning());
        index.apply(Change::Delete(key(Kind::Service, "service-0")));
        for (name, opt_in) in ["service-1", "service-2"].into_iter().zip(opted_in) {
            index.apply(sharer("default", name, &json!({ "app": "web" }), opt_in));
        }
        index.apply(slice("slice-1", "service-1", NODE, true));
        index.apply(slice("slice-2", "service-2", NODE, true));
        let announced = ["default/service-1", "default/service-2"]
            .map(|name| (name.to_owned(), "Announced".to_owned()));
        let codes: Vec<(String, String)> = codes(&index)
            .into_iter()
            .map(|(name, code)| (name, code.to_string()))
            .collect();
        assert_eq!(codes, announced, "{opted_in:?}");
    }
}

#[test]
fn a_shared_local_address_is_announced_where_all_sharers_have_an_endpoint() {
    let mut index = index(beginning());
    index.apply(Change::Delete(key(Kind::Service, "service-0")));
    for name in ["service-1", "service-2"] {
        index.apply(sharer("default", name, &json!({ "app": name }), true));
    }
    index.apply(slice("slice-1", "service-1", NODE, true));
    let of = |one, two| {
        let names = [
            "default/service-1".to_owned(),
            "default/service-2".to_owned(),
        ];
        names.into_iter().zip([one, two]).collect::<Vec<_>>()
    };
    let missing = of("NoLocalEndpointsOfSharer", "NoLocalEndpoints");
    assert_eq!(codes(&index), missing);
    assert!(routes(&index).is_empty());

    let dirty = index.apply(slice("slice-2", "service-2", NODE, true));
    assert_eq!(dirty.services.len(), 2, "{dirty:?}");
    assert_eq!(codes(&index), of("Announced", "Announced"));
    assert_eq!(routes(&index).len(), 2);

    index.apply(slice("slice-2", "service-2", "node-1", true));
    assert_eq!(codes(&index), missing);
    assert!(routes(&index).is_empty());
}
