use serde_json::{Value, json};

use super::*;
use crate::core::api::Kind;
use crate::core::index::change::Change;

fn apply(index: &mut Index, kind: Kind, name: &str, body: Value) -> Dirty {
    index.apply(Change::object(kind, "shop", name, body))
}

fn advertisement(index: &mut Index, min_announcers: u32) -> Dirty {
    let spec = json!({ "minAnnouncers": min_announcers });
    apply(
        index,
        Kind::FerrolbBgpAdvertisement,
        "ad",
        json!({ "spec": spec }),
    )
}

fn endpoints(index: &mut Index, nodes: &[&str]) -> Dirty {
    let endpoints: Vec<Value> = nodes
        .iter()
        .zip(1..)
        .map(|(node, number)| {
            json!({ "addresses": [format!("10.1.0.{number}")], "nodeName": node,
                "conditions": { "ready": true } })
        })
        .collect();
    let labels = json!({ "kubernetes.io/service-name": "web" });
    let body = json!({
        "addressType": "IPv4", "metadata": { "labels": labels }, "endpoints": endpoints,
    });
    apply(index, Kind::EndpointSlice, "web-1", body)
}

/// Three nodes with a peer, and a Local service whose endpoints are on two of them. As an allocator
/// reads them: without the Secret of the peer.
fn cluster() -> Index {
    let mut index = Index::for_kinds(&[Kind::Service]);
    for node in ["a", "b", "c"] {
        apply(&mut index, Kind::Node, node, json!({}));
    }
    let pool = json!({ "spec": { "addresses": ["192.0.2.0/24"] } });
    apply(&mut index, Kind::IpAddressPool, "pool", pool);
    let peer = json!({ "spec": {
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1",
        "passwordSecret": { "name": "tor" }, "bfdProfile": "fast",
    } });
    apply(&mut index, Kind::BfdProfile, "fast", json!({}));
    apply(&mut index, Kind::BgpPeer, "tor", peer);
    let names = json!({ "communities": [{ "name": "web-tier", "value": "64512:1" }] });
    apply(
        &mut index,
        Kind::Community,
        "names",
        json!({ "spec": names }),
    );
    let named = json!({ "spec": { "communities": ["web-tier"] } });
    apply(&mut index, Kind::BgpAdvertisement, "named", named);
    let service = json!({
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }],
            "externalTrafficPolicy": "Local" },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
    });
    apply(&mut index, Kind::Service, "web", service);
    endpoints(&mut index, &["a", "b"]);
    index
}

fn reasons(events: &[ServiceEvent]) -> Vec<&'static str> {
    events.iter().map(|event| event.reason).collect()
}

#[test]
fn falling_below_the_floor_and_coming_back_is_one_event_each() {
    let (mut index, mut floors, start) = (cluster(), Floors::default(), Instant::now());
    let dirty = advertisement(&mut index, 2);
    assert_eq!(floors.update(start, &index, &dirty), []);
    assert_eq!(floors.below(), 0);
    let dirty = endpoints(&mut index, &["a"]);
    let events = floors.update(start, &index, &dirty);
    assert_eq!(reasons(&events), ["MinAnnouncersNotMet"]);
    assert!(events[0].warning && !events[0].may_be_known);
    let text = "1 node announces the service, but minAnnouncers is 2";
    assert!(events[0].message.starts_with(text), "{}", events[0].message);
    assert_eq!(floors.below(), 1);
    // Flapping is no news.
    for second in 1..30 {
        let now = start + Duration::from_secs(second);
        let nodes: &[&str] = if second % 2 == 0 { &["a"] } else { &["a", "b"] };
        let dirty = endpoints(&mut index, nodes);
        assert_eq!(floors.update(now, &index, &dirty), []);
        assert_eq!(floors.due(now, &index), []);
    }
    let back = start + Duration::from_secs(29);
    let almost = SETTLE_TIME.saturating_sub(Duration::from_millis(1));
    assert_eq!(floors.due(back + almost, &index), []);
    let events = floors.due(back + SETTLE_TIME, &index);
    assert_eq!(reasons(&events), ["MinAnnouncersMet"]);
    assert!(!events[0].warning);
    assert_eq!(floors.due(back + 2 * SETTLE_TIME, &index), []);
}

#[test]
fn a_new_service_has_a_minute_to_reach_its_floor() {
    let (mut index, mut floors, start) = (cluster(), Floors::default(), Instant::now());
    endpoints(&mut index, &[]);
    let dirty = advertisement(&mut index, 2);
    assert_eq!(floors.update(start, &index, &dirty), []);
    assert_eq!(floors.below(), 1);
    let late = start + SETTLE_TIME;
    let events = floors.due(late, &index);
    assert_eq!(reasons(&events), ["MinAnnouncersNotMet"]);
    assert!(events[0].message.starts_with("no node announces"));
    assert!(events[0].may_be_known, "as for a new leader");
    assert_eq!(floors.due(late + SETTLE_TIME, &index), []);
}

#[test]
fn a_node_that_leaves_does_not_count() {
    let (mut index, mut floors, now) = (cluster(), Floors::default(), Instant::now());
    let dirty = advertisement(&mut index, 2);
    floors.update(now, &index, &dirty);
    let leaving = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    let dirty = apply(&mut index, Kind::Node, "b", leaving);
    let events = floors.update(now, &index, &dirty);
    assert_eq!(reasons(&events), ["MinAnnouncersNotMet"]);
}

#[test]
fn without_a_floor_above_one_nothing_is_reported_by_an_allocator() {
    let (mut index, mut floors, now) = (cluster(), Floors::default(), Instant::now());
    let dirty = advertisement(&mut index, 1);
    floors.update(now, &index, &dirty);
    let dirty = endpoints(&mut index, &[]);
    assert_eq!(floors.update(now, &index, &dirty), []);
    assert_eq!(floors.below(), 0);
    advertisement(&mut index, 2);
    let config = index.config();
    assert_eq!((config.advertisements.len(), config.peers.len()), (2, 1));
    assert_eq!(config.problems, [], "announcers report them");
    let dirty = advertisement(&mut index, 1);
    assert_eq!(floors.update(now, &index, &dirty), []);
    assert_eq!(floors.below(), 0, "it no longer has a floor");
}
