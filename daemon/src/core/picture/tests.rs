//! Tests of the picture, of its updates, and of the colours of assumptions.

use std::sync::Arc;

use serde_json::{Value, json};

use super::colours::{Colour, Colours};
use super::scene::{EmptyIndex, Scene};
use super::{Picture, ServiceShape, State};
use crate::core::api::bgp_session::{AllSessions, BgpSessionStatus, BgpState, SessionError};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::explain::Subject;
use crate::core::index::Index;
use crate::core::index::change::Change;
use crate::core::plan::what_if::Event;

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

type Object = (ObjectKey, RawObject);

fn node(name: &str, address: &str) -> Object {
    let status = json!({
        "addresses": [{ "type": "InternalIP", "address": address }],
        "conditions": [{ "type": "Ready", "status": "True" }],
    });
    keyed(Kind::Node, name, json!({ "status": status }))
}

fn peer(name: &str) -> Object {
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "password": "quite-secret",
    });
    keyed(Kind::BgpPeer, name, json!({ "spec": spec }))
}

fn pool(name: &str, addresses: &str) -> Object {
    let spec = json!({ "addresses": [addresses] });
    keyed(Kind::IpAddressPool, name, json!({ "spec": spec }))
}

fn advertisement(kind: Kind, name: &str, pool: &str) -> Object {
    keyed(kind, name, json!({ "spec": { "ipAddressPools": [pool] } }))
}

fn service(name: &str, policy: &str, addresses: &[&str]) -> Object {
    let spec = json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }],
        "externalTrafficPolicy": policy,
    });
    let ingress: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    let status = json!({ "loadBalancer": { "ingress": ingress } });
    keyed(
        Kind::Service,
        name,
        json!({ "spec": spec, "status": status }),
    )
}

fn endpoints(service: &str, nodes: &[&str]) -> Object {
    let endpoints = nodes.iter().enumerate().map(|(i, node)| {
        let address = format!("10.244.0.{}", i + 1);
        json!({ "addresses": [address], "nodeName": node, "conditions": { "ready": true } })
    });
    let body = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "endpoints": endpoints.collect::<Vec<_>>(),
    });
    keyed(Kind::EndpointSlice, &format!("{service}-1"), body)
}

/// Two nodes with a BGPPeer, a pool for each protocol, and services of all kinds.
fn objects() -> Vec<Object> {
    vec![
        node("node-a", "10.0.0.11"),
        node("node-b", "10.0.0.12"),
        peer("tor"),
        pool("routed", "192.0.2.0/28"),
        pool("local", "198.51.100.0/28"),
        advertisement(Kind::BgpAdvertisement, "routed", "routed"),
        advertisement(Kind::L2Advertisement, "local", "local"),
        service("web", "Cluster", &["192.0.2.1"]),
        endpoints("web", &["node-a"]),
        service("shop", "Local", &["192.0.2.2"]),
        endpoints("shop", &["node-b"]),
        service("dns", "Cluster", &["198.51.100.1"]),
        endpoints("dns", &["node-a"]),
        service("idle", "Cluster", &["192.0.2.3"]),
        service("new", "Cluster", &[]),
        service("lost", "Cluster", &["203.0.113.9"]),
    ]
}

fn empty() -> EmptyIndex {
    Arc::new(Index::for_prediction)
}

fn cluster(objects: impl IntoIterator<Item = Object>) -> Scene {
    let mut scene = Scene::of_cluster(empty());
    for (key, raw) in objects {
        scene.apply([Change::Apply(key, raw)]);
    }
    scene
}

fn manifests(objects: impl IntoIterator<Item = Object>) -> Scene {
    let changes = objects
        .into_iter()
        .map(|(key, raw)| Change::Apply(key, raw));
    Scene::of_manifests(empty(), changes.collect())
}

fn of<'a>(picture: &'a Picture, service: &str) -> &'a ServiceShape {
    let mut services = picture.services.iter();
    let name = format!("default/{service}");
    services
        .find(|shape| shape.name == name)
        .expect("the service")
}

#[test]
fn each_service_has_its_state_its_reason_and_its_nodes() {
    let picture = cluster(objects()).picture();
    let about = |service| {
        let shape = of(&picture, service);
        let spread = &picture.spreads[shape.spread];
        let nodes: Vec<usize> = spread
            .bgp
            .iter()
            .flat_map(|part| part.nodes.clone())
            .collect();
        let reason = shape.reason.as_deref();
        (shape.state, reason, nodes, spread.layer2.clone())
    };
    let (all, none) = (vec![0, 1], Vec::new());
    assert_eq!(
        about("web"),
        (State::Announced, None, all.clone(), none.clone())
    );
    assert_eq!(
        about("shop"),
        (State::Announced, None, vec![1], none.clone())
    );
    assert_eq!(about("dns"), (State::Announced, None, none.clone(), all));
    let idle = Some("NoEndpoints");
    assert_eq!(about("idle"), (State::Withheld, idle, none.clone(), none));
    let lost = about("lost");
    assert_eq!(
        (lost.0, lost.1),
        (State::Withheld, Some("AddressNotInPool"))
    );
    // Nothing is written, so it has no address until the allocator of the cluster writes one.
    let new = about("new");
    assert_eq!((new.0, new.1), (State::Withheld, Some("NoAddress")));
    let part = &picture.spreads[of(&picture, "web").spread].bgp[0];
    assert_eq!(part.peers, [0]);
    assert_eq!(picture.peers[0].address, "10.0.0.1");
    let prefixes: Vec<usize> = picture.links.iter().map(|link| link.prefixes).collect();
    assert_eq!(
        prefixes,
        [1, 2],
        "node-a announces web, node-b shop as well"
    );
}

#[test]
fn services_of_manifests_get_the_addresses_of_the_allocator() {
    let picture = manifests(objects()).picture();
    let new = of(&picture, "new");
    assert_eq!(new.addresses.len(), 1);
    assert!(new.state == State::Withheld && new.reason.is_some());
    assert_eq!(
        picture.nodes[0].ready, None,
        "manifests rarely have conditions"
    );
    assert_eq!(cluster(objects()).picture().nodes[0].ready, Some(true));
}

#[test]
fn a_picture_after_changes_is_that_of_the_objects() {
    let mut scene = cluster(objects());
    scene.picture();
    let excluded = "node.kubernetes.io/exclude-from-external-load-balancers";
    let labels = json!({ "metadata": { "labels": { excluded: "" } } });
    let apply = |(key, raw): Object| Change::Apply(key, raw);
    let steps = vec![
        apply(node("node-c", "10.0.0.13")),
        apply(endpoints("idle", &["node-c"])),
        Change::Delete(node("node-a", "").0),
        Change::Reset(Kind::IpAddressPool, vec![pool("routed", "203.0.113.0/28")]),
        apply(keyed(Kind::Node, "node-b", labels)),
        Change::Delete(service("web", "", &[]).0),
        Change::Delete(peer("tor").0),
    ];
    for change in steps {
        let about = format!("{change:?}");
        assert!(scene.apply([change]), "{about}");
        let mut again = scene.read_again();
        assert_eq!(scene.picture(), again.picture(), "{about}");
    }
    assert!(
        !scene.apply([apply(node("node-c", "10.0.0.13"))]),
        "nothing changed"
    );
}

#[test]
fn sessions_show_their_state_and_why_they_ended() {
    let mut scene = cluster(objects());
    let session = |bgp, sent| BgpSessionStatus {
        node: "node-a".to_owned(),
        peer: "tor".to_owned(),
        bgp,
        prefixes_sent: sent,
        last_error: Some(SessionError {
            message: "the hold timer expired".to_owned(),
            ..SessionError::default()
        }),
        ..BgpSessionStatus::default()
    };
    let mut sessions = AllSessions::new();
    sessions.insert("a".to_owned(), session(BgpState::Active, 0));
    assert!(scene.set_sessions(&sessions) && !scene.set_sessions(&sessions));
    let picture = scene.picture();
    let [first, second] = &picture.links[..] else {
        panic!("two sessions: {:?}", picture.links);
    };
    assert_eq!(first.state.as_deref(), Some("Active"));
    assert_eq!(first.error.as_deref(), Some("the hold timer expired"));
    assert_eq!((second.state.as_deref(), second.sent), (None, None));
    // Of several routers in a network, one with a session counts.
    sessions.insert("b".to_owned(), session(BgpState::Established, 1));
    scene.set_sessions(&sessions);
    let link = &scene.picture().links[0];
    assert_eq!(
        (link.state.as_deref(), link.sent),
        (Some("Established"), Some(1))
    );
    assert_eq!(link.error, None);
}

fn if_happens(objects: Vec<Object>, event: Event) -> Colours {
    let assumable = manifests(objects).assumable();
    assumable
        .if_changed(|after| after.assume(&event))
        .expect("colours")
}

#[test]
fn a_lost_node_colours_the_services_that_it_carries() {
    let colours = if_happens(objects(), Event::LoseNode("node-b".to_owned()));
    assert!(colours.withdraws);
    let coloured = colours.services.iter();
    let coloured: Vec<_> = coloured
        .map(|one| (&*one.service, one.colour, one.moved_at_least))
        .collect();
    assert_eq!(
        coloured,
        [
            ("default/dns", Colour::Fewer, 0),
            ("default/shop", Colour::Lost, 100),
            ("default/web", Colour::Fewer, 50),
        ]
    );
    let web = &colours.services[2];
    assert!(web.gone.contains("node-b") && web.new.is_empty());
    let [link] = &colours.links[..] else {
        panic!("one session: {:?}", colours.links);
    };
    assert_eq!(
        (&*link.node, link.withdrawn, link.announced),
        ("node-b", 2, 0)
    );
}

#[test]
fn applied_manifests_colour_what_they_move_and_what_they_begin() {
    let scene = manifests(objects());
    let colours = scene.assumable().if_changed(|after| {
        let local = endpoints("shop", &["node-a"]);
        after.apply([
            pool("routed", "203.0.113.0/28"),
            local,
            endpoints("idle", &["node-a"]),
        ]);
        Ok(())
    });
    let colours = colours.expect("colours").services;
    let about = |name: &str| colours.iter().find(|one| one.service == name);
    let web = about("default/web").expect("web");
    assert_eq!(web.colour, Colour::Moved);
    assert!(web.addresses.is_some());
    assert!(
        web.gone.is_empty() && web.new.is_empty(),
        "the same nodes announce it: {web:?}"
    );
    assert_eq!(about("default/idle").expect("idle").colour, Colour::Gained);
    assert!(about("default/dns").is_none(), "nothing changes for it");
}

#[test]
fn an_assumption_about_what_does_not_exist_is_an_error() {
    let assumable = manifests(objects()).assumable();
    let refused = assumable.if_changed(|after| after.assume(&Event::Drain("node-x".to_owned())));
    let error = refused.expect_err("there is no node-x");
    assert!(error.contains("node-a, node-b"), "{error}");
}

#[test]
fn explanations_follow_the_objects() {
    let mut scene = cluster(objects());
    let subject = Subject::Service(ObjectName::new("default", "idle"));
    let explained = scene.explain(&subject).expect("a service");
    assert!(!explained.announced && explained.summary.contains("NoEndpoints"));
    let (key, raw) = endpoints("idle", &["node-a"]);
    scene.apply([Change::Apply(key, raw)]);
    assert!(scene.explain(&subject).expect("a service").announced);
    let mut sessions = AllSessions::new();
    let down = BgpSessionStatus {
        node: "node-a".to_owned(),
        peer: "tor".to_owned(),
        bgp: BgpState::Active,
        ..BgpSessionStatus::default()
    };
    sessions.insert("a".to_owned(), down);
    scene.set_sessions(&sessions);
    let explained = scene.explain(&subject).expect("a service");
    assert!(!explained.announced, "{}", explained.summary);
    let unknown = scene.explain(&Subject::Node("node-1".to_owned()));
    assert!(unknown.expect_err("none").contains("node-a"));
    scene.apply([Change::Unreadable(
        Kind::IpAddressPool,
        "forbidden".to_owned(),
    )]);
    assert_eq!(scene.unreadable().len(), 1);
}

#[test]
fn a_picture_contains_no_password() {
    let mut scene = cluster(objects());
    let text = serde_json::to_string(&scene.picture()).expect("JSON");
    assert!(
        text.contains("10.0.0.1") && !text.contains("quite-secret"),
        "{text}"
    );
}
