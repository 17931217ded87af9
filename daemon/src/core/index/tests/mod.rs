//! Tests of the index, with the objects that they share.

mod address_pools;
mod community_labels;
mod config_map;
mod endpoints;
mod incremental;
mod last_good;
mod lists;
mod nodes;
mod other_ipam;
mod own_kinds;
mod problems;
mod refused;
mod sharing;
mod source_networks;
mod specs;

pub(crate) use self::incremental::{random_changes, random_worlds};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::decide::node_routes::NodeRoutes;
use crate::core::index::Index;
use crate::core::index::change::Change;
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

fn ferrolb_peer(name: &str, address: &str) -> Change {
    let spec = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": address });
    object(Kind::FerrolbBgpPeer, name, json!({ "spec": spec }))
}

/// A BGPPeer that requests weights.
fn weighted_peer(name: &str) -> Change {
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.7", "linkBandwidth": "transitive"
    });
    object(Kind::FerrolbBgpPeer, name, json!({ "spec": spec }))
}

fn weighted_node(name: &str, weight: &str) -> Change {
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

fn ferrolb_advertisement(name: &str, spec: Value) -> Change {
    object(Kind::FerrolbBgpAdvertisement, name, json!({ "spec": spec }))
}

fn layer2_advertisement(name: &str, spec: Value, own: bool) -> Change {
    let kind = if own {
        Kind::FerrolbL2Advertisement
    } else {
        Kind::L2Advertisement
    };
    object(kind, name, json!({ "spec": spec }))
}

fn cordoned_node(name: &str) -> Change {
    object(
        Kind::Node,
        name,
        json!({ "spec": { "unschedulable": true } }),
    )
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

fn labelled_service(name: &str, labels: &Value) -> Change {
    let Change::Apply(key, mut raw) = service(name, "Cluster", "192.0.2.1") else {
        unreachable!()
    };
    raw.metadata.labels = serde_json::from_value(labels.clone()).expect("labels");
    Change::Apply(key, raw)
}

/// A Local service in a namespace that may share 192.0.2.1, with its own port.
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

/// Initial objects, so that routes are announced and withdrawn.
fn initial() -> Vec<Change> {
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

fn index(changes: Vec<Change>) -> Index {
    let mut index = Index::default();
    for change in changes {
        index.apply(change);
    }
    index
}

fn routes(index: &Index) -> Vec<String> {
    let node_routes = NodeRoutes::of(index, NODE);
    node_routes
        .routes()
        .keys()
        .map(|(peer, prefix)| format!("{peer} {prefix}"))
        .collect()
}

/// A slice with one endpoint of `service-0`.
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
