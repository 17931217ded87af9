//! Tests of the plan: addresses of nodes, routers, Pods and the cluster's own Services are never
//! allocated, whenever they become known.

use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::index::Index;
use crate::core::index::change::Change;
use crate::core::plan::allocate;
use serde_json::{Value, json};

fn keyed(kind: Kind, name: &str, mut body: Value) -> (ObjectKey, RawObject) {
    body["kind"] = json!(kind.name());
    body["apiVersion"] = json!(kind.api_version());
    body["metadata"]["name"] = json!(name);
    let raw: RawObject = serde_json::from_value(body).expect("an object");
    let namespace = match kind {
        kind if kind.is_cluster_scoped() => "",
        kind if kind.is_configuration() => "metallb-system",
        _ => "default",
    };
    (ObjectKey::new(kind, ObjectName::new(namespace, name)), raw)
}

fn object(kind: Kind, name: &str, body: Value) -> Change {
    let (key, raw) = keyed(kind, name, body);
    Change::Apply(key, raw)
}

fn node(address: &str) -> Value {
    json!({ "status": { "addresses": [{ "type": "InternalIP", "address": address }] } })
}

fn pool() -> Change {
    let spec = json!({ "addresses": ["10.0.0.0/30"] });
    object(Kind::IpAddressPool, "pool", json!({ "spec": spec }))
}

fn service(name: &str) -> Change {
    let spec =
        json!({ "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] });
    object(Kind::Service, name, json!({ "spec": spec }))
}

fn addresses(index: &Index) -> Vec<String> {
    let services = index.services();
    let addresses = services.flat_map(|service| service.addresses());
    addresses.map(ToString::to_string).collect()
}

fn problems(index: &Index) -> Vec<String> {
    index.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn an_allocator_reads_only_the_addresses_of_peers() {
    // The allocator can't read Secrets and BFDProfiles, so it must not reject the BGPPeer.
    let kinds = [Kind::Service, Kind::IpAddressPool, Kind::BgpPeer];
    let mut index = Index::for_kinds(&kinds);
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.0", "sourceAddress": "10.0.0.2",
        "bfdProfile": "fast", "passwordSecret": { "name": "tor" }
    });
    index.apply(object(Kind::BgpPeer, "tor", json!({ "spec": spec })));
    index.apply(pool());
    index.apply(service("a"));
    index.apply(service("b"));
    allocate(&mut index);
    assert_eq!(addresses(&index), ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(
        problems(&index),
        [
            "IPAddressPool metallb-system/pool: spec.addresses: contains addresses in use, which \
             are never allocated: 10.0.0.0 (the peerAddress of BGPPeer metallb-system/tor), \
             10.0.0.2 (the sourceAddress of BGPPeer metallb-system/tor): remove them"
        ]
    );
}

#[test]
fn a_new_node_takes_no_address_from_a_service_and_a_deleted_node_frees_its_own() {
    let mut index = Index::default();
    index.apply(pool());
    index.apply(service("a"));
    allocate(&mut index);
    assert_eq!(addresses(&index), ["10.0.0.0"]);
    let nodes = vec![
        keyed(Kind::Node, "node-a", node("10.0.0.0")),
        keyed(Kind::Node, "node-b", node("10.0.0.1")),
    ];
    let dirty = index.apply(Change::Reset(Kind::Node, nodes));
    assert!(dirty.problems && dirty.configuration);
    index.apply(service("b"));
    allocate(&mut index);
    assert_eq!(addresses(&index), ["10.0.0.0", "10.0.0.2"]);
    let service_a = "Service default/a: status.loadBalancer: 10.0.0.0 is an address of Node \
        node-a: the service keeps it";
    assert!(
        problems(&index)
            .iter()
            .any(|problem| problem.starts_with(service_a))
    );
    // Other labels of the node don't change the pools.
    let mut labelled = node("10.0.0.1");
    labelled["metadata"] = json!({ "labels": { "a": "b" } });
    assert!(
        !index
            .apply(object(Kind::Node, "node-b", labelled))
            .configuration
    );
    for gone in ["node-a", "node-b"] {
        let key = ObjectKey::new(Kind::Node, ObjectName::new("", gone));
        assert!(index.apply(Change::Delete(key)).configuration);
    }
    assert_eq!(problems(&index), Vec::<String>::new());
    index.apply(service("c"));
    allocate(&mut index);
    assert_eq!(addresses(&index), ["10.0.0.0", "10.0.0.2", "10.0.0.1"]);
}

#[test]
fn an_api_server_without_service_cidrs_is_no_problem() {
    let mut index = Index::default();
    index.apply(Change::Absent(Kind::ServiceCidr, "unknown kind".into()));
    assert!(index.is_synced(&[Kind::ServiceCidr]));
    assert_eq!(problems(&index), Vec::<String>::new());
    let spec = json!({ "cidrs": ["10.0.0.0/31"] });
    index.apply(pool());
    let dirty = index.apply(object(
        Kind::ServiceCidr,
        "kubernetes",
        json!({ "spec": spec }),
    ));
    assert!(dirty.configuration);
    index.apply(service("a"));
    allocate(&mut index);
    assert_eq!(addresses(&index), ["10.0.0.2"]);
}

#[test]
fn host_bits_of_a_cidr_are_reported_with_the_resulting_range() {
    let mut index = Index::default();
    let spec = json!({ "addresses": ["192.0.2.5/30", "192.0.2.8/30"] });
    index.apply(object(Kind::IpAddressPool, "pool", json!({ "spec": spec })));
    assert_eq!(
        problems(&index),
        [
            "IPAddressPool metallb-system/pool: spec.addresses: 192.0.2.5/30 has host bits and is \
             read as all of 192.0.2.4/30, 192.0.2.4-192.0.2.7: write that, or a range"
        ]
    );
}

#[test]
fn an_unknown_name_in_an_advertisement_is_reported() {
    let mut index = Index::default();
    index.apply(pool());
    let bad = json!({ "addresses": ["nonsense"] });
    index.apply(object(Kind::IpAddressPool, "bad", json!({ "spec": bad })));
    let spec = json!({ "ipAddressPools": ["pool", "pol", "bad"], "peers": ["tor"] });
    index.apply(object(
        Kind::BgpAdvertisement,
        "ad",
        json!({ "spec": spec }),
    ));
    let of_ad: Vec<String> = problems(&index)
        .into_iter()
        .filter_map(|problem| {
            let text = problem.strip_prefix("BGPAdvertisement metallb-system/ad: ")?;
            Some(text.to_owned())
        })
        .collect();
    assert_eq!(
        of_ad,
        [
            "spec.ipAddressPools: IPAddressPool bad is invalid: fix it (ferrolb check reports its \
             error)",
            "spec.ipAddressPools: there is no IPAddressPool pol: create it, or correct the name",
            "spec.peers: there is no BGPPeer tor: create it, or correct the name",
        ]
    );
}

#[test]
fn a_pool_whose_namespace_selectors_match_nothing_accepts_no_service() {
    let mut index = Index::default();
    let selector = json!({ "matchLabels": { "team": "a" } });
    let spec = json!({
        "addresses": ["10.0.0.0/30"], "serviceAllocation": { "namespaceSelectors": [selector] }
    });
    index.apply(object(Kind::IpAddressPool, "pool", json!({ "spec": spec })));
    let requests_pool = json!({
        "metadata": { "annotations": { "metallb.io/address-pool": "pool" } },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] }
    });
    index.apply(service("a"));
    index.apply(object(Kind::Service, "b", requests_pool));
    allocate(&mut index);
    assert_eq!(addresses(&index), Vec::<String>::new());
    let labelled = json!({ "metadata": { "labels": { "team": "a" } } });
    index.apply(object(Kind::Namespace, "default", labelled));
    allocate(&mut index);
    assert_eq!(addresses(&index), ["10.0.0.0", "10.0.0.1"]);
    let other = json!({ "metadata": { "labels": { "team": "b" } } });
    index.apply(object(Kind::Namespace, "default", other));
    allocate(&mut index);
    assert_eq!(addresses(&index), Vec::<String>::new());
}

#[test]
fn multihop_of_an_ibgp_peer_is_accepted_with_a_notice() {
    let mut index = Index::default();
    let spec = json!({
        "myASN": 64512, "dynamicASN": "internal", "peerAddress": "10.0.0.9", "ebgpMultiHop": true
    });
    index.apply(object(Kind::BgpPeer, "tor", json!({ "spec": spec })));
    assert!(index.config().peers.contains_key("tor"));
    assert_eq!(
        problems(&index),
        [
            "BGPPeer metallb-system/tor: spec.ebgpMultiHop: has no effect with dynamicASN \
             internal: an iBGP session may cross any number of hops"
        ]
    );
}

#[test]
fn an_address_of_a_service_of_another_class_is_not_allocated() {
    let foreign = || {
        let body = json!({
            "spec": {
                "type": "LoadBalancer", "loadBalancerClass": "example.com/lb",
                "clusterIP": "10.96.0.2", "ports": [{ "port": 80 }]
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "10.0.0.0" }] } }
        });
        object(Kind::Service, "foreign", body)
    };
    let addresses_of = |changes: Vec<Change>| {
        let mut index = Index::default();
        for change in changes {
            index.apply(change);
        }
        allocate(&mut index);
        let service = index.service(&ObjectName::new("default", "a"));
        (
            service.expect("a service").addresses().to_vec(),
            problems(&index),
        )
    };
    let free: std::net::IpAddr = "10.0.0.1".parse().expect("an address");
    let notice = "never allocated: 10.0.0.0 (an address of Service default/foreign of another \
         loadBalancerClass)";
    for changes in [
        vec![pool(), foreign(), service("a")],
        vec![foreign(), service("a"), pool()],
    ] {
        let (addresses, problems) = addresses_of(changes);
        assert_eq!(addresses, [free]);
        assert!(
            problems.iter().any(|problem| problem.contains(notice)),
            "{problems:?}"
        );
    }
    let key = ObjectKey::new(Kind::Service, ObjectName::new("default", "foreign"));
    let (addresses, problems) =
        addresses_of(vec![pool(), foreign(), Change::Delete(key), service("a")]);
    assert_eq!(
        addresses,
        ["10.0.0.0".parse::<std::net::IpAddr>().expect("an address")]
    );
    assert!(problems.is_empty(), "{problems:?}");
}
