use serde_json::{Value, json};

use super::addresses::Layer2Addresses;
use super::*;
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::index::change::Change;
use crate::core::plan::index_of;

/// Objects from `kind/name` and the rest of the object.
fn index(objects: &[(&str, Value)]) -> Index {
    let changes = objects.iter().map(|(key, body)| {
        let (kind, name) = key.split_once('/').expect("kind/name");
        let kind = match kind {
            "FerrolbL2Advertisement" => Kind::FerrolbL2Advertisement,
            kind => Kind::ALL
                .into_iter()
                .find(|k| k.name() == kind)
                .expect("a kind"),
        };
        Change::object(kind, "default", name, body.clone())
    });
    index_of(changes)
}

const A: &str = "192.0.2.1";

fn pool() -> (&'static str, Value) {
    let spec = json!({ "addresses": ["192.0.2.0/24", "2001:db8::/64"] });
    ("IPAddressPool/pool", json!({ "spec": spec }))
}

fn node(labels: Value) -> Value {
    json!({ "metadata": { "labels": labels } })
}

fn service(policy: &str, addresses: &[&str], port: u16) -> Value {
    let ingress: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "metadata": { "annotations": { "metallb.io/allow-shared-ip": "us" } },
        "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": policy,
            "clusterIPs": ["10.96.0.1", "2001:db8:1::1"], "selector": { "app": "web" },
            "ports": [{ "port": port }]
        },
        "status": { "loadBalancer": { "ingress": ingress } }
    })
}

/// A slice of a service with an endpoint on each node: ready, or terminating and serving.
fn slice(service: &str, nodes: &[(&str, bool)]) -> Value {
    let endpoints = nodes.iter().enumerate().map(|(n, (node, ready))| {
        json!({
            "addresses": [format!("10.1.0.{n}")], "nodeName": node,
            "conditions": { "ready": ready, "serving": true }
        })
    });
    json!({
        "metadata": { "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4", "endpoints": endpoints.collect::<Vec<_>>()
    })
}

fn addresses(index: &Index, node: &str) -> Layer2Addresses {
    let mut addresses = Layer2Addresses::new(node);
    addresses.update_all(index);
    addresses
}

/// The candidates of an address: `node=weight`.
fn candidates(index: &Index, address: &str) -> Vec<String> {
    let addresses = addresses(index, "a");
    let spec = addresses
        .addresses()
        .get(&address.parse().expect("an address"));
    let candidates = spec.into_iter().flat_map(|spec| spec.candidates.iter());
    candidates
        .map(|c| format!("{}={}", c.node, c.weight))
        .collect()
}

fn reason(index: &Index, service: &str) -> Option<Reason> {
    let name = ObjectName::new("default", service);
    addresses(index, "a")
        .withheld(&name)
        .map(|(reason, _)| reason)
}

fn three_nodes() -> Vec<(&'static str, Value)> {
    vec![
        pool(),
        ("Node/a", node(json!({ "rack": "1" }))),
        ("Node/b", node(json!({ "rack": "1", "ssd": "" }))),
        ("Node/c", node(json!({ "rack": "2" }))),
        ("Service/web", service("Cluster", &[A], 80)),
        ("EndpointSlice/web", slice("web", &[("c", true)])),
    ]
}

fn with(more: Vec<(&'static str, Value)>) -> Index {
    let mut objects = three_nodes();
    objects.extend(more);
    index(&objects)
}

fn ad(spec: Value) -> (&'static str, Value) {
    ("L2Advertisement/lan", json!({ "spec": spec }))
}

#[test]
fn without_an_l2_advertisement_nothing_is_announced_and_the_reasons_are_those_of_bgp() {
    let index = with(Vec::new());
    assert!(candidates(&index, A).is_empty());
    assert_eq!(reason(&index, "web"), None);
    let name = ObjectName::new("default", "web");
    assert_eq!(addresses(&index, "a").decision(&name), None);
}

#[test]
fn a_service_of_bgp_has_a_reason_of_layer_2_only_if_an_l2_advertisement_selects_its_pool() {
    let of = |spec: Value| {
        let bgp = ("BGPAdvertisement/bgp", json!({ "spec": {} }));
        reason(&with(vec![bgp, ad(spec)]), "web")
    };
    let unselected = json!({ "serviceSelectors": [{ "matchLabels": { "app": "other" } }] });
    assert_eq!(of(unselected), Some(Reason::ServiceNotSelected));
    assert_eq!(of(json!({ "ipAddressPools": ["other"] })), None);
    assert_eq!(of(json!({})), None);
}

#[test]
fn all_nodes_are_candidates_under_policy_cluster_and_without_node_selectors() {
    let index = with(vec![ad(json!({}))]);
    assert_eq!(candidates(&index, A), ["a=0", "b=0", "c=0"]);
    assert_eq!(reason(&index, "web"), None);
}

#[test]
fn weights_count_only_in_advertisements_that_select_the_node() {
    let rack = |name: &str| json!({ "matchLabels": { "rack": name } });
    let ssd = json!({ "matchExpressions": [{ "key": "ssd", "operator": "Exists" }] });
    let first = ad(json!({
        "nodeSelectors": [rack("1")],
        "preferredNodeSelectors": [
            { "weight": 10, "preference": ssd }, { "weight": 50, "preference": rack("2") }
        ]
    }));
    let second = json!({ "preferredNodeSelectors": [{ "weight": 1, "preference": {} }] });
    let index = with(vec![
        first,
        ("L2Advertisement/all", json!({ "spec": second })),
    ]);
    assert_eq!(candidates(&index, A), ["a=1", "b=11", "c=1"]);
}

#[test]
fn a_node_that_is_excluded_unreachable_or_leaving_is_no_candidate() {
    let label = "node.kubernetes.io/exclude-from-external-load-balancers";
    let condition = json!({ "type": "NetworkUnavailable", "status": "True" });
    let index = with(vec![
        ad(json!({})),
        ("Node/a", node(json!({ label: "" }))),
        ("Node/b", json!({ "status": { "conditions": [condition] } })),
        (
            "Node/d",
            json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
        ),
    ]);
    assert_eq!(candidates(&index, A), ["c=0"]);
}

#[test]
fn a_cordoned_node_is_no_candidate_if_the_advertisement_or_the_service_asks_for_it() {
    let cordoned = || ("Node/c", json!({ "spec": { "unschedulable": true } }));
    let on_cordon = || {
        let spec = json!({ "drain": { "onCordon": true } });
        ("FerrolbL2Advertisement/own", json!({ "spec": spec }))
    };
    assert_eq!(
        candidates(&with(vec![ad(json!({})), cordoned()]), A).len(),
        3
    );
    let index = with(vec![on_cordon(), cordoned()]);
    assert_eq!(candidates(&index, A), ["a=0", "b=0"]);
    // Another advertisement that selects the node keeps it.
    let index = with(vec![on_cordon(), ad(json!({})), cordoned()]);
    assert_eq!(candidates(&index, A).len(), 3);
    let mut annotated = service("Cluster", &[A], 80);
    annotated["metadata"]["annotations"]["ferrolb.io/drain"] = json!("on-cordon");
    let index = with(vec![ad(json!({})), cordoned(), ("Service/web", annotated)]);
    assert_eq!(candidates(&index, A), ["a=0", "b=0"]);
}

#[test]
fn under_policy_local_candidates_have_a_ready_endpoint_or_else_a_serving_one() {
    let local = || ("Service/web", service("Local", &[A], 80));
    let with_slice = |nodes: &[(&str, bool)]| {
        with(vec![
            ad(json!({})),
            local(),
            ("EndpointSlice/web", slice("web", nodes)),
        ])
    };
    assert_eq!(
        candidates(&with_slice(&[("a", true), ("b", false)]), A),
        ["a=0"]
    );
    assert_eq!(
        candidates(&with_slice(&[("b", false), ("c", false)]), A),
        ["b=0", "c=0"]
    );
    let nowhere = with_slice(&[]);
    assert!(candidates(&nowhere, A).is_empty());
    assert_eq!(reason(&nowhere, "web"), Some(Reason::NoLocalEndpoints));
    // An endpoint on a node that may not announce.
    let elsewhere = with_slice(&[("x", true)]);
    assert_eq!(reason(&elsewhere, "web"), Some(Reason::NoEligibleNode));
}

#[test]
fn a_dual_stack_service_is_announced_in_the_family_that_has_endpoints() {
    let both = service("Cluster", &[A, "2001:db8::1"], 80);
    let index = with(vec![ad(json!({})), ("Service/web", both)]);
    assert_eq!(candidates(&index, A).len(), 3);
    assert!(candidates(&index, "2001:db8::1").is_empty());
    assert_eq!(reason(&index, "web"), Some(Reason::NoEndpoints));
}

#[test]
fn candidates_of_a_shared_address_are_those_of_all_its_services() {
    let on = |rack: &str| json!({ "matchLabels": { "rack": rack } });
    let local = |nodes: &[(&str, bool)]| {
        vec![
            ad(json!({ "preferredNodeSelectors": [{ "weight": 3, "preference": on("2") }] })),
            ("Service/web", service("Local", &[A], 80)),
            ("Service/dns", service("Local", &[A], 53)),
            (
                "EndpointSlice/web",
                slice("web", &[("b", true), ("c", true)]),
            ),
            ("EndpointSlice/dns", slice("dns", nodes)),
        ]
    };
    assert_eq!(
        candidates(&with(local(&[("a", true), ("c", true)])), A),
        ["c=3"]
    );
    // A service without endpoints needs no node.
    assert_eq!(candidates(&with(local(&[])), A), ["b=0", "c=3"]);
    let apart = with(local(&[("a", true)]));
    assert!(candidates(&apart, A).is_empty());
    assert_eq!(reason(&apart, "web"), Some(Reason::NoCommonNode));
}

#[test]
fn a_shared_address_stays_announced_while_one_of_its_services_exists() {
    let delete = |index: &mut Index, name: &str| {
        let name = ObjectName::new("default", name);
        index.apply(Change::Delete(ObjectKey::new(Kind::Service, name)));
    };
    let mut index = with(vec![
        ad(json!({})),
        ("Service/dns", service("Cluster", &[A], 53)),
        ("EndpointSlice/dns", slice("dns", &[("c", true)])),
    ]);
    let all = ["a=0", "b=0", "c=0"];
    assert_eq!(candidates(&index, A), all);
    delete(&mut index, "web");
    assert_eq!(candidates(&index, A), all);
    delete(&mut index, "dns");
    assert_eq!(candidates(&index, A), [""; 0]);
}

#[test]
fn the_oldest_service_of_an_address_gives_its_age() {
    let created = |time: &str, port| {
        let mut service = service("Cluster", &[A], port);
        service["metadata"]["creationTimestamp"] = json!(time);
        service
    };
    let index = with(vec![
        ad(json!({})),
        ("Service/web", created("1970-01-01T00:01:00Z", 80)),
        ("Service/dns", created("1970-01-01T00:00:30Z", 53)),
        ("EndpointSlice/dns", slice("dns", &[("c", true)])),
    ]);
    let addresses = addresses(&index, "a");
    let created = addresses.addresses().values().map(|spec| spec.created);
    assert_eq!(created.collect::<Vec<_>>(), [30]);
}

#[test]
fn interfaces_are_those_of_all_advertisements_that_select_the_node() {
    let rack = |name: &str| json!([{ "matchLabels": { "rack": name } }]);
    let more = |interfaces: Value| {
        vec![
            ad(json!({ "interfaces": ["eth0"] })),
            (
                "L2Advertisement/rack-1",
                json!({ "spec": { "interfaces": interfaces, "nodeSelectors": rack("1") } }),
            ),
        ]
    };
    let of = |index: &Index, node: &str| {
        let addresses = addresses(index, node);
        let spec = addresses.addresses().values().next().expect("an address");
        match &*spec.interfaces {
            Interfaces::All => "all".to_owned(),
            Interfaces::Named(names) => names
                .iter()
                .map(|name| &**name)
                .collect::<Vec<_>>()
                .join(" "),
        }
    };
    let index = with(more(json!(["eth1"])));
    assert_eq!([of(&index, "a"), of(&index, "c")], ["eth0 eth1", "eth0"]);
    let index = with(more(json!([])));
    assert_eq!([of(&index, "a"), of(&index, "c")], ["all", "eth0"]);
}

#[test]
fn of_all_advertisements_the_shortest_interval_and_the_lowest_rate_apply() {
    let own = |name: &'static str, interval: &str, rate: u32| {
        let spec = json!({ "helloInterval": interval, "gratuitousRate": rate });
        (name, json!({ "spec": spec }))
    };
    let index = with(vec![
        own("FerrolbL2Advertisement/one", "200ms", 500),
        own("FerrolbL2Advertisement/two", "1s", 100),
    ]);
    let settings = settings(index.config(), 7);
    assert_eq!(settings.cluster, 7);
    assert_eq!(settings.hello_interval.as_millis(), 200);
    assert_eq!(settings.gratuitous_rate, 100);
}

#[test]
fn equal_candidates_are_stored_once() {
    let index = with(vec![
        ad(json!({})),
        ("Service/dns", service("Cluster", &["192.0.2.2"], 53)),
        ("EndpointSlice/dns", slice("dns", &[("c", true)])),
    ]);
    let addresses = addresses(&index, "a");
    let specs: Vec<_> = addresses.addresses().values().collect();
    assert_eq!(specs.len(), 2);
    assert!(Arc::ptr_eq(&specs[0].candidates, &specs[1].candidates));
    assert!(Arc::ptr_eq(&specs[0].interfaces, &specs[1].interfaces));
}
