//! Property test: what `ferrolb plan --against` predicts for a change is what the index of a
//! running process becomes after the same change, object by object and in any order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::what_if::{Event, Objects};
use super::{Plan, allocate, fill, plan};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::index::Index;
use crate::core::index::change::Change;
use crate::core::model::annotations::{ALLOCATED_ANNOTATION, EXCLUDE_LABEL};

/// The objects that may exist. A Service and its EndpointSlice have one name.
const OBJECTS: [(Kind, &str); 17] = [
    (Kind::Node, "node-a"),
    (Kind::Node, "node-b"),
    (Kind::Node, "node-c"),
    (Kind::IpAddressPool, "few"),
    (Kind::IpAddressPool, "many"),
    (Kind::BgpPeer, "tor"),
    (Kind::BgpPeer, "spine"),
    (Kind::BgpAdvertisement, "all"),
    (Kind::BgpAdvertisement, "some"),
    (Kind::L2Advertisement, "segment"),
    (Kind::Service, "web"),
    (Kind::Service, "api"),
    (Kind::Service, "ftp"),
    (Kind::EndpointSlice, "web"),
    (Kind::EndpointSlice, "api"),
    (Kind::EndpointSlice, "ftp"),
    (Kind::FerrolbBgpPeer, "leaf"),
];

/// The number of forms that each of them has.
const FORMS: u8 = 4;

fn selector(key: &str, value: &str) -> Value {
    json!([{ "matchLabels": { key: value } }])
}

/// A valid object in one of its forms.
fn body(kind: Kind, name: &str, form: u8) -> Value {
    let number = usize::from(name.as_bytes()[name.len() - 1]) % 10;
    match kind {
        Kind::Node => {
            let rack = if form.is_multiple_of(2) { "one" } else { "two" };
            let address = json!([{ "type": "InternalIP", "address": format!("10.0.0.{number}") }]);
            let mut labels = json!({ "rack": rack });
            if form == 3 {
                labels[EXCLUDE_LABEL] = json!("");
            }
            json!({ "metadata": { "labels": labels }, "status": { "addresses": address } })
        }
        Kind::IpAddressPool => {
            let network = if name == "few" { 0 } else { 1 };
            let length = [30, 31, 32, 29][usize::from(form % FORMS)];
            let addresses = format!("192.0.2.{}/{length}", network * 64);
            json!({ "spec": { "addresses": [addresses], "autoAssign": form != 3 } })
        }
        Kind::BgpPeer | Kind::FerrolbBgpPeer => {
            let mut spec = json!({
                "myASN": 64512, "peerASN": 64513, "peerAddress": format!("10.9.{form}.{number}"),
            });
            if form == 1 {
                spec["nodeSelectors"] = selector("rack", "one");
            }
            json!({ "spec": spec })
        }
        Kind::BgpAdvertisement => {
            let spec = match form {
                0 => json!({}),
                1 => json!({ "serviceSelectors": selector("tier", "web") }),
                2 => json!({ "peers": ["tor"], "communities": ["64512:7"] }),
                _ => json!({ "nodeSelectors": selector("rack", "two"), "localPref": 200 }),
            };
            json!({ "spec": spec })
        }
        Kind::L2Advertisement => {
            let spec = match form {
                0 => json!({ "ipAddressPools": ["few"] }),
                1 => json!({ "nodeSelectors": selector("rack", "one") }),
                _ => json!({}),
            };
            json!({ "spec": spec })
        }
        Kind::Service => {
            let policy = if form.is_multiple_of(2) {
                "Cluster"
            } else {
                "Local"
            };
            let tier = if form < 2 { "web" } else { "other" };
            let pool = if form == 3 { "many" } else { "" };
            json!({
                "metadata": {
                    "labels": { "tier": tier }, "annotations": { "metallb.io/address-pool": pool },
                    "creationTimestamp": format!("2026-01-01T00:00:0{number}Z"), "uid": name,
                },
                "spec": {
                    "type": "LoadBalancer", "clusterIP": format!("10.96.0.{number}"),
                    "ports": [{ "port": 80 }], "externalTrafficPolicy": policy,
                },
            })
        }
        _ => {
            let nodes = ["node-a", "node-b", "node-c"].into_iter().enumerate();
            let nodes = nodes.filter(|(place, _)| usize::from(form) != *place);
            let endpoints: Vec<Value> = nodes
                .map(|(place, node)| {
                    json!({ "addresses": [format!("10.{number}.0.{place}")], "nodeName": node,
                        "conditions": { "ready": form != 3 || place == 0 } })
                })
                .collect();
            let labels = json!({ "kubernetes.io/service-name": name });
            json!({ "metadata": { "labels": labels }, "addressType": "IPv4",
                "endpoints": endpoints })
        }
    }
}

fn object(place: usize, form: u8) -> (ObjectKey, RawObject) {
    let (kind, name) = OBJECTS[place];
    let mut body = body(kind, name, form);
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

/// The objects of a cluster whose allocator has written all addresses.
fn live(forms: &[Option<u8>]) -> Objects {
    let existing = forms.iter().enumerate();
    let existing = existing.filter_map(|(place, form)| Some(object(place, (*form)?)));
    let mut objects = Objects::default();
    objects.apply(existing);
    let mut index = fill(Index::for_prediction(), objects.clone().into_changes());
    allocate(&mut index);
    let services = keyed(&objects).into_iter();
    let services = services.filter(|(key, _)| key.kind == Kind::Service);
    let written = services.map(|(key, mut raw)| {
        let service = index.service(&key.name).expect("a service of the index");
        let ingress: Vec<Value> = service
            .addresses()
            .iter()
            .map(|address| json!({ "ip": address.to_string() }))
            .collect();
        let status = json!({ "loadBalancer": { "ingress": ingress } });
        raw.body.insert("status".to_owned(), status);
        if let Some(pool) = &service.request.current_pool {
            let annotations = &mut raw.metadata.annotations;
            annotations.insert(ALLOCATED_ANNOTATION.to_owned(), pool.clone());
        }
        (key, raw)
    });
    objects.apply(written.collect::<Vec<_>>());
    objects
}

fn keyed(objects: &Objects) -> BTreeMap<ObjectKey, RawObject> {
    let changes = objects.clone().into_changes().into_iter();
    let objects = changes.flat_map(|change| match change {
        Change::Reset(_, objects) => objects,
        _ => Vec::new(),
    });
    objects.collect()
}

/// What the watches deliver if the objects become other ones.
fn delivered(before: &Objects, after: &Objects) -> Vec<Change> {
    let (mut before, after) = (keyed(before), keyed(after));
    let mut changes = Vec::new();
    for (key, raw) in after {
        if before.remove(&key).as_ref() != Some(&raw) {
            changes.push(Change::Apply(key, raw));
        }
    }
    changes.extend(before.into_keys().map(Change::Delete));
    changes
}

fn event() -> impl Strategy<Value = Event> {
    let node = prop::sample::select(vec!["node-a", "node-b", "node-c"]);
    let peer = prop::sample::select(vec!["tor", "spine", "leaf"]);
    (0..3_u8, node, peer).prop_map(|(which, node, peer)| match which {
        0 => Event::Drain(node.to_owned()),
        1 => Event::LoseNode(node.to_owned()),
        _ => Event::LosePeer(peer.to_owned()),
    })
}

proptest! {
    #[test]
    fn a_prediction_is_what_an_index_becomes_when_the_change_happens(
        forms in prop::collection::vec(
            prop::option::weighted(0.8, 0..FORMS), OBJECTS.len(),
        ),
        applied in prop::collection::vec((0..OBJECTS.len(), 0..FORMS), 0..6),
        events in prop::collection::vec(event(), 0..2),
        prunes in prop::bool::weighted(0.2),
        rotated in 0..16_usize,
    ) {
        let before = live(&forms);
        let mut after = before.clone();
        if prunes {
            after.prune(|key| key.name.name != "all");
        }
        after.apply(applied.into_iter().map(|(place, form)| object(place, form)));
        for event in &events {
            // A node or BGPPeer that doesn't exist can't be lost.
            _ = after.assume(event);
        }
        let predicted = plan(Index::for_prediction(), after.clone().into_changes());

        let running = fill(Index::for_prediction(), before.clone().into_changes());
        let mut changes = delivered(&before, &after);
        if !changes.is_empty() {
            let places = changes.len();
            changes.rotate_left(rotated % places);
        }
        let happened = plan(running, changes);
        let shown = |plan: &Plan| serde_json::to_value(plan).expect("JSON");
        prop_assert_eq!(shown(&predicted), shown(&happened));
        prop_assert_eq!(&predicted.announced, &happened.announced);
    }
}
