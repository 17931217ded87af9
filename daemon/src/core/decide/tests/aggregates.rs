//! Tests of aggregates that are announced without a service, and of what is discarded inside.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::advertisements::{NODES, object, rack};
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::decide::discards::discards;
use crate::core::decide::node_routes::NodeRoutes;
use crate::core::decide::{Reason, merge};
use crate::core::index::Index;
use crate::core::index::change::Change;

fn advertise(index: &mut Index, name: &str, mut spec: Value) {
    if spec["announceAggregates"].is_null() {
        spec["announceAggregates"] = json!("always");
    }
    let body = json!({ "spec": spec });
    let dirty = index.apply(object(Kind::FerrolbBgpAdvertisement, name, "", body));
    assert!(dirty.configuration);
}

fn pool(index: &mut Index, name: &str, addresses: &[&str]) {
    let body = json!({ "spec": { "addresses": addresses } });
    index.apply(object(Kind::IpAddressPool, name, "", body));
}

fn delete(index: &mut Index, kind: Kind, namespace: &str, name: &str) {
    let name = ObjectName::new(namespace, name);
    index.apply(Change::Delete(ObjectKey::new(kind, name)));
}

fn without_services() -> Index {
    let mut index = rack();
    for name in ["a", "b", "c"] {
        delete(&mut index, Kind::Service, "default", name);
    }
    index
}

/// Peer and prefix of each route.
fn routes(index: &Index, node: &str) -> Vec<String> {
    let node_routes = NodeRoutes::of(index, node);
    let routes = node_routes.routes().keys();
    routes
        .map(|(peer, prefix)| format!("{peer} {prefix}"))
        .collect()
}

fn reasons(index: &Index, node: &str, pool: &str) -> Vec<(Option<String>, Reason)> {
    let node_routes = NodeRoutes::of(index, node);
    let verdicts = node_routes.pools()[pool].verdicts.iter();
    verdicts
        .map(|verdict| (verdict.peer.as_deref().map(str::to_owned), verdict.reason))
        .collect()
}

fn set(prefixes: &[&str]) -> BTreeSet<IpNet> {
    let prefixes = prefixes.iter();
    prefixes
        .map(|text| text.parse().expect("a prefix"))
        .collect()
}

#[test]
fn every_selected_node_announces_the_whole_pool_with_the_attributes_of_the_advertisement() {
    let mut index = without_services();
    let spec = json!({
        "aggregationLength": 25, "peers": ["internal", "external"], "localPref": 200,
        "communities": ["64512:120", "large:64512:300:100"],
    });
    advertise(&mut index, "all", spec);
    for node in NODES {
        let node_routes = NodeRoutes::of(&index, node);
        assert_eq!(
            routes(&index, node),
            [
                "external 192.0.2.0/25",
                "external 192.0.2.128/25",
                "internal 192.0.2.0/25",
                "internal 192.0.2.128/25",
            ]
        );
        for ((peer, _), route) in node_routes.routes() {
            assert_eq!(route.communities.len(), 1);
            assert_eq!(route.large_communities.len(), 1);
            assert_eq!(route.local_pref, (&**peer == "internal").then_some(200));
            assert!(
                !route.atomic_aggregate,
                "all parts have the same attributes"
            );
        }
        let announced = |peer: &str| (Some(peer.to_owned()), Reason::Announced);
        let not_selected = (Some("auto".to_owned()), Reason::PeerNotSelected);
        let expected = [not_selected, announced("external"), announced("internal")];
        assert_eq!(reasons(&index, node, "pool"), expected);
    }
}

#[test]
fn a_service_inside_changes_nothing() {
    let (mut without, mut with) = (without_services(), rack());
    for index in [&mut without, &mut with] {
        advertise(index, "all", json!({ "aggregationLength": 24 }));
    }
    for node in NODES {
        let of = |index: &Index| NodeRoutes::of(index, node).routes().clone();
        assert_eq!(of(&without), of(&with));
    }
}

#[test]
fn an_edit_to_when_deliverable_withdraws_what_has_no_service() {
    let mut index = rack();
    advertise(&mut index, "all", json!({ "aggregationLength": 25 }));
    assert_eq!(routes(&index, "node-1").len(), 6);
    let spec = json!({ "aggregationLength": 25, "announceAggregates": "whenDeliverable" });
    advertise(&mut index, "all", spec);
    let peers = ["auto", "external", "internal"].map(|peer| format!("{peer} 192.0.2.0/25"));
    assert_eq!(
        routes(&index, "node-1"),
        peers,
        "the services have endpoints"
    );
}

#[test]
fn without_a_discard_route_an_aggregate_needs_a_service_inside() {
    for (mut index, count) in [(without_services(), 0), (rack(), 3)] {
        advertise(&mut index, "all", json!({ "aggregationLength": 24 }));
        let mut node_routes = NodeRoutes::of(&index, "node-0");
        assert_eq!(node_routes.routes().len(), 3);
        let dirty = index.set_discard_error("node-0", Some("not permitted".to_owned()));
        node_routes.update(&index, &dirty);
        assert_eq!(node_routes.routes().len(), count);
        assert_eq!(
            reasons(&index, "node-0", "pool"),
            [(None, Reason::CannotDiscard)]
        );
        let problems = index.problems();
        let problem = problems.last().expect("a notice").to_string();
        assert!(
            problem.starts_with("Node node-0: CannotDiscard: ") && problem.contains("NET_ADMIN"),
            "{problem}"
        );
        let again = index.set_discard_error("node-0", Some("not permitted".to_owned()));
        assert!(again.is_empty());
        let dirty = index.set_discard_error("node-0", None);
        node_routes.update(&index, &dirty);
        assert_eq!(node_routes.routes().len(), 3);
        assert!(index.problems().is_empty());
    }
}

#[test]
fn an_excluded_or_unselected_node_announces_no_aggregate() {
    let mut index = without_services();
    let selectors = json!([{ "matchLabels": { "node": "node-0" } }]);
    let spec = json!({ "aggregationLength": 24, "nodeSelectors": selectors });
    advertise(&mut index, "some", spec);
    assert_eq!(routes(&index, "node-0").len(), 3);
    assert_eq!(
        reasons(&index, "node-1", "pool"),
        [(None, Reason::NodeNotSelected)]
    );
    let labels = json!({
        "node": "node-0", crate::core::model::annotations::EXCLUDE_LABEL: "",
    });
    let body = json!({ "metadata": { "labels": labels } });
    index.apply(object(Kind::Node, "node-0", "", body));
    assert_eq!(
        reasons(&index, "node-0", "pool"),
        [(None, Reason::NodeExcluded)]
    );
    // Its routes are drained, and packets arrive meanwhile.
    assert_eq!(discards(&index, "node-0"), Some(set(&["192.0.2.0/24"])));
}

#[test]
fn a_pool_that_outgrows_the_limit_is_withheld_and_the_advertisement_reported() {
    let mut index = without_services();
    advertise(&mut index, "all", json!({ "aggregationLength": 24 }));
    pool(&mut index, "pool", &["172.16.0.0/12"]);
    assert_eq!(routes(&index, "node-0"), Vec::<String>::new());
    let reasons = reasons(&index, "node-0", "pool");
    assert!(
        reasons
            .iter()
            .all(|(_, reason)| *reason == Reason::TooManyAggregates)
    );
    let problem = index.problems()[0].to_string();
    assert!(
        problem.contains("spec.aggregationLength: 24 cuts pool pool into 4096 aggregates"),
        "{problem}"
    );
}

#[test]
fn always_without_an_aggregation_length_is_refused() {
    let mut index = without_services();
    advertise(&mut index, "all", json!({ "aggregationLength": 32 }));
    let problem = index.problems()[0].to_string();
    assert!(
        problem.contains("spec.announceAggregates: always has no effect on host routes: set"),
        "{problem}"
    );
}

#[test]
fn an_older_local_pref_takes_precedence_also_without_a_service() {
    let mut index = without_services();
    for (name, preference) in [("a-first", 50), ("b-second", 200)] {
        let community = format!("64512:{preference}");
        let spec = json!({
            "aggregationLength": 24, "localPref": preference, "communities": [community],
        });
        advertise(&mut index, name, spec);
    }
    let node_routes = NodeRoutes::of(&index, "node-0");
    let of = |peer: &str| {
        let prefix = "192.0.2.0/24".parse().expect("a prefix");
        node_routes.routes()[&(peer.into(), prefix)].clone()
    };
    assert_eq!(of("internal").local_pref, Some(50));
    assert_eq!(of("internal").communities.len(), 1);
    assert_eq!(of("external").communities.len(), 2);
}

#[test]
fn an_offer_without_weight_removes_the_weight_of_the_services_inside() {
    let mut index = rack();
    advertise(&mut index, "all", json!({ "aggregationLength": 24 }));
    let node_routes = NodeRoutes::of(&index, "node-0");
    let contributions = &node_routes.pools()["pool"].contributions;
    let offers = contributions[0].offers.iter().map(|(_, offer)| offer);
    let route = merge(offers).expect("a route");
    assert_eq!(route.extended_communities, []);
}

#[test]
fn a_node_discards_packets_to_the_aggregates_that_it_may_announce() {
    let mut index = without_services();
    assert_eq!(discards(&index, "node-0"), Some(BTreeSet::new()));
    let ordinary = json!("whenDeliverable");
    // Parts are discarded together.
    let spec = json!({ "aggregationLength": 28, "announceAggregates": ordinary });
    advertise(&mut index, "all", spec);
    assert_eq!(discards(&index, "node-0"), Some(set(&["192.0.2.0/24"])));
    // Host routes need nothing.
    let spec = json!({ "aggregationLength": 32, "announceAggregates": ordinary });
    advertise(&mut index, "all", spec);
    assert_eq!(discards(&index, "node-0"), Some(BTreeSet::new()));
    assert_eq!(discards(&index, "unknown"), None);
}

#[test]
fn what_a_range_does_not_contain_is_discarded_only_if_its_aggregates_exceed_it() {
    let mut index = without_services();
    delete(&mut index, Kind::IpAddressPool, "metallb-system", "pool");
    pool(&mut index, "range", &["198.51.100.1-198.51.100.7"]);
    let spec = json!({ "aggregationLength": 30 });
    advertise(&mut index, "all", spec);
    // The aggregate of a service at .1 would be 198.51.100.0/30, as in MetalLB.
    assert_eq!(discards(&index, "node-0"), Some(set(&["198.51.100.0/29"])));
    let routes = routes(&index, "node-0");
    assert!(
        routes.contains(&"external 198.51.100.1/32".to_owned()),
        "{routes:?}"
    );
    assert!(
        !routes.contains(&"external 198.51.100.0/30".to_owned()),
        "{routes:?}"
    );
}

#[test]
fn an_invalid_or_unreadable_pool_keeps_its_aggregates() {
    let mut index = without_services();
    advertise(&mut index, "all", json!({ "aggregationLength": 24 }));
    let (before, discarded) = (routes(&index, "node-0"), discards(&index, "node-0"));
    pool(&mut index, "pool", &["nonsense"]);
    assert_eq!(routes(&index, "node-0"), before);
    assert_eq!(discards(&index, "node-0"), discarded);
    index.apply(Change::Unreadable(Kind::IpAddressPool, "gone".into()));
    assert_eq!(routes(&index, "node-0"), before);
    assert_eq!(discards(&index, "node-0"), discarded);
}

#[test]
fn a_node_without_a_peer_for_an_aggregate_discards_nothing() {
    let mut index = without_services();
    advertise(
        &mut index,
        "all",
        json!({ "aggregationLength": 24, "peers": ["absent"] }),
    );
    assert_eq!(discards(&index, "node-0"), Some(BTreeSet::new()));
}
