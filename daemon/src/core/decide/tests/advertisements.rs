//! Tests of several BGPAdvertisements for one prefix: an edit of one never withdraws what another
//! one requests, and what has no effect is reported.

use std::collections::BTreeMap;

use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::decide::node_routes::NodeRoutes;
use crate::core::index::Index;
use crate::core::index::change::Change;
use ferrolb_bgp::rib::Route;
use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) const NODES: [&str; 2] = ["node-0", "node-1"];

pub(super) fn object(kind: Kind, name: &str, created: &str, mut body: Value) -> Change {
    let namespace = match kind {
        Kind::Node => "",
        kind if kind.is_configuration() => "metallb-system",
        _ => "default",
    };
    body["kind"] = json!(kind.name());
    body["apiVersion"] = json!(kind.api_version());
    body["metadata"]["name"] = json!(name);
    body["metadata"]["creationTimestamp"] = json!(created);
    let raw: RawObject = serde_json::from_value(body).expect("an object");
    Change::Apply(ObjectKey::new(kind, ObjectName::new(namespace, name)), raw)
}

fn advertisement(name: &str, created: &str, spec: &Value) -> Change {
    object(
        Kind::BgpAdvertisement,
        name,
        created,
        json!({ "spec": spec }),
    )
}

fn peer(name: &str, spec: Value) -> Change {
    let mut spec = spec;
    spec["myASN"] = json!(64512);
    object(Kind::FerrolbBgpPeer, name, "", json!({ "spec": spec }))
}

/// Two nodes; an internal, an external and an undecided peer; and three services with endpoints,
/// two of which share an address.
pub(super) fn rack() -> Index {
    let mut index = Index::default();
    for (number, name) in NODES.into_iter().enumerate() {
        let address = format!("10.0.0.{}", number + 11);
        let status = json!({ "addresses": [{ "type": "InternalIP", "address": address }] });
        let metadata = json!({ "labels": { "node": name } });
        index.apply(object(
            Kind::Node,
            name,
            "",
            json!({ "metadata": metadata, "status": status }),
        ));
    }
    let spec = json!({ "addresses": ["192.0.2.0/24"] });
    index.apply(object(
        Kind::IpAddressPool,
        "pool",
        "",
        json!({ "spec": spec }),
    ));
    index.apply(peer(
        "internal",
        json!({ "peerAddress": "10.0.0.1", "peerASN": 64512 }),
    ));
    index.apply(peer(
        "external",
        json!({ "peerAddress": "10.0.0.2", "peerASN": 64513 }),
    ));
    index.apply(peer(
        "auto",
        json!({ "peerAddress": "10.0.0.3", "dynamicASN": "auto" }),
    ));
    for (name, address) in [("a", 1), ("b", 2), ("c", 2)] {
        let metadata = json!({
            "labels": { "service": name },
            "annotations": { "metallb.io/allow-shared-ip": "shared" }
        });
        let port = json!({ "port": name.as_bytes()[0] });
        let spec = json!({ "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [port] });
        let ingress = json!([{ "ip": format!("192.0.2.{address}") }]);
        let status = json!({ "loadBalancer": { "ingress": ingress } });
        let body = json!({ "metadata": metadata, "spec": spec, "status": status });
        index.apply(object(Kind::Service, name, "", body));
        let labels = json!({ "kubernetes.io/service-name": name });
        let endpoints = json!([{ "addresses": ["10.1.0.1"], "nodeName": "node-0" }]);
        let body = json!({
            "metadata": { "labels": labels }, "addressType": "IPv4", "endpoints": endpoints
        });
        index.apply(object(Kind::EndpointSlice, name, "", body));
    }
    index
}

type Routes = BTreeMap<(String, String, IpNet), Route>;

fn routes(index: &Index) -> Routes {
    let of_node = |node: &str| {
        let node_routes = NodeRoutes::of(index, node);
        let routes = node_routes.routes().iter();
        let routes = routes.map(|((peer, prefix), route)| {
            ((node.to_owned(), peer.to_string(), *prefix), route.clone())
        });
        routes.collect::<Vec<_>>()
    };
    NODES.into_iter().flat_map(of_node).collect()
}

fn with(advertisements: &[(String, String, Value)]) -> (Routes, Vec<String>) {
    let mut index = rack();
    for (name, created, spec) in advertisements {
        let kind = match spec.get("announceAggregates") {
            Some(_) => Kind::FerrolbBgpAdvertisement,
            None => Kind::BgpAdvertisement,
        };
        index.apply(object(kind, name, created, json!({ "spec": spec })));
    }
    let problems = index.problems();
    (
        routes(&index),
        problems.iter().map(ToString::to_string).collect(),
    )
}

fn spec() -> impl Strategy<Value = Value> {
    let local_pref = prop_oneof![Just(0), Just(100), Just(200), Just(50)];
    let peers = prop_oneof![
        Just(json!([])),
        Just(json!(["internal"])),
        Just(json!(["external", "auto"])),
    ];
    let labels = |key: &str, value: &str| json!([{ "matchLabels": { key: value } }]);
    let nodes = prop_oneof![3 => Just(json!([])), 1 => Just(labels("node", "node-0"))];
    let services = prop_oneof![
        2 => Just((32, json!([]), false)),
        1 => Just((24, json!([]), false)),
        1 => Just((24, json!([]), true)),
        1 => Just((32, labels("service", "a"), false)),
        1 => Just((32, labels("service", "b"), false)),
    ];
    (local_pref, peers, nodes, services, 1..9_u16).prop_map(
        |(local_pref, peers, nodes, (length, services, always), community)| {
            let mut spec = json!({
                "localPref": local_pref, "peers": peers, "nodeSelectors": nodes,
                "aggregationLength": length, "serviceSelectors": services,
                "communities": [format!("64512:{community}")],
            });
            if always {
                spec["announceAggregates"] = json!("always");
            }
            spec
        },
    )
}

fn advertisements() -> impl Strategy<Value = Vec<(String, String, Value)>> {
    prop::collection::vec((0..3_u8, spec()), 1..4).prop_map(|specs| {
        let named = specs.into_iter().enumerate();
        let named = named.map(|(number, (age, spec))| {
            (
                format!("ad-{number}"),
                format!("2026-01-0{}T00:00:00Z", age + 1),
                spec,
            )
        });
        named.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_edit_of_an_advertisement_withdraws_what_another_one_requests(
        before in advertisements(), edited in spec(), which in any::<prop::sample::Index>()
    ) {
        let mut after = before.clone();
        let which = which.index(after.len());
        after[which].2 = edited;
        let (together, _) = with(&after);
        for alone in &before {
            if alone.0 == after[which].0 {
                continue;
            }
            for key in with(std::slice::from_ref(alone)).0.keys() {
                prop_assert!(together.contains_key(key), "{key:?} is gone");
            }
        }
    }

    #[test]
    fn a_request_of_an_advertisement_is_announced_or_reported(all in advertisements()) {
        let (together, problems) = with(&all);
        let mut omitted = Vec::new();
        for ad in &all {
            for (key, alone) in with(std::slice::from_ref(ad)).0 {
                let route = &together[&key];
                let missing = !alone.communities.iter().all(|c| route.communities.contains(c));
                if missing {
                    prop_assert_ne!(&key.1, "external", "LOCAL_PREF conflict on an eBGP peer");
                    omitted.push(ad.0.clone());
                }
                prop_assert!(key.1 != "external" || route.local_pref.is_none());
            }
        }
        for name in omitted {
            let named = problems.iter().any(|problem| {
                problem.starts_with("BGPAdvertisement")
                    && problem.contains(&format!(" metallb-system/{name}: spec.localPref:"))
            });
            prop_assert!(named, "{name} is not among {problems:?}");
        }
    }
}

fn ad(name: &str, created: &str, spec: Value) -> (String, String, Value) {
    (name.to_owned(), created.to_owned(), spec)
}

#[test]
fn the_older_local_pref_takes_precedence_and_the_younger_is_reported() {
    let young = ad(
        "a-young",
        "2026-01-02T00:00:00Z",
        json!({ "localPref": 200 }),
    );
    let old = ad("z-old", "2026-01-01T00:00:00Z", json!({ "localPref": 50 }));
    let (routes, problems) = with(&[young, old]);
    let preference = |peer: &str| {
        let key = (
            "node-0".to_owned(),
            peer.to_owned(),
            "192.0.2.1/32".parse().expect("a prefix"),
        );
        routes[&key].local_pref
    };
    assert_eq!(preference("internal"), Some(50));
    assert_eq!(preference("external"), None);
    assert_eq!(
        problems,
        [
            "BGPAdvertisement metallb-system/a-young: spec.localPref: 200 conflicts with 50 of \
             BGPAdvertisement metallb-system/z-old, which is older (or first by name) and takes \
             precedence, for addresses of pool pool to BGPPeer.ferrolb.io metallb-system/auto: set \
             the same localPref on both, or select different peers, nodes, pools or services"
        ]
    );
}

#[test]
fn advertisements_without_a_common_route_do_not_conflict() {
    let selector = |key: &str, value: &str| json!([{ "matchLabels": { key: value } }]);
    let pairs = [
        // LOCAL_PREF isn't sent over eBGP (RFC 4271 §5.1.5).
        [
            json!({ "peers": ["external"], "localPref": 1 }),
            json!({ "peers": ["external"] }),
        ],
        [
            json!({ "peers": ["internal"], "localPref": 1 }),
            json!({ "peers": ["auto"] }),
        ],
        [
            json!({ "aggregationLength": 24, "localPref": 1 }),
            json!({}),
        ],
        [
            json!({ "nodeSelectors": selector("node", "node-0"), "localPref": 1 }),
            json!({ "nodeSelectors": selector("node", "node-1") }),
        ],
        [
            json!({ "serviceSelectors": selector("service", "a"), "localPref": 1 }),
            json!({ "serviceSelectors": selector("service", "b") }),
        ],
        [json!({ "localPref": 100 }), json!({})],
    ];
    for [one, other] in pairs {
        let (_, problems) = with(&[ad("one", "", one.clone()), ad("other", "", other)]);
        assert_eq!(problems, Vec::<String>::new(), "{one}");
    }
}

#[test]
fn a_conflict_by_service_selectors_begins_and_ends_with_the_service() {
    let mut index = rack();
    let selector = json!([{ "matchLabels": { "service": "d" } }]);
    let spec = json!({ "localPref": 200, "serviceSelectors": selector });
    index.apply(advertisement("all", "", &json!({})));
    index.apply(advertisement("some", "", &spec));
    assert!(index.problems().is_empty());
    let body = json!({
        "metadata": { "labels": { "service": "d" } },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }] } },
    });
    let dirty = index.apply(object(Kind::Service, "d", "", body));
    assert!(dirty.problems);
    let problem = index.problems()[0].to_string();
    assert!(
        problem.contains("metallb-system/some: spec.localPref: 200 conflicts with 100"),
        "{problem}"
    );
    assert!(
        problem.contains("(both select Service default/d)"),
        "{problem}"
    );
    let gone = Change::Delete(ObjectKey::new(
        Kind::Service,
        ObjectName::new("default", "d"),
    ));
    assert!(index.apply(gone).problems);
    assert!(index.problems().is_empty());
}

#[test]
fn the_highest_local_pref_of_several_services_applies_with_100_as_the_default() {
    let selector = |value: &str| json!([{ "matchLabels": { "service": value } }]);
    let (routes, problems) = with(&[
        ad(
            "one",
            "",
            json!({ "serviceSelectors": selector("b"), "localPref": 50 }),
        ),
        ad("other", "", json!({ "serviceSelectors": selector("c") })),
    ]);
    assert_eq!(problems, Vec::<String>::new());
    let key = (
        "node-0".to_owned(),
        "internal".to_owned(),
        "192.0.2.2/32".parse().expect("a prefix"),
    );
    assert_eq!(routes[&key].local_pref, None, "100 is the default of peers");
}
