//! An invalid or unreadable object keeps its last good value.

use super::*;
use crate::core::config::Severity;
use crate::core::model::Family;

#[test]
fn a_bad_object_keeps_its_last_good_value() {
    let mut index = index(initial());
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
        assert!(named, "expected {name} among {:?}", index.problems());
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
fn an_unreadable_pool_is_frozen_until_it_is_listed_again() {
    let mut index = index(initial());
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
        "a single readable pool doesn't unfreeze the others"
    );
    let Change::Apply(key, raw) = pool("pool-0", "192.0.2.0/24") else {
        unreachable!()
    };
    index.apply(Change::Reset(Kind::IpAddressPool, vec![(key, raw)]));
    assert_eq!(frozen(&index), (false, true));
}

#[test]
fn services_of_a_pool_that_never_had_a_good_value_stay_announced() {
    let mut changes = initial();
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
fn deleting_a_pool_withdraws_its_services() {
    let mut index = index(initial());
    index.apply(Change::Delete(key(Kind::IpAddressPool, "pool-0")));
    assert!(routes(&index).is_empty());
    assert!(index.config().pools.complete());
}

#[test]
fn an_invalid_endpoint_address_is_reported_and_the_last_good_slice_stays() {
    let mut index = Index::default();
    index.apply(slice_of("slice", "IPv4", "10.1.0.1", true));
    index.apply(slice_of("slice", "IPv4", "backend", true));
    let service = ObjectName::new("default", "service-0");
    assert_eq!(index.endpoints(&service, Family::V4).healthy, 1);
    let problems = index.problems();
    let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        messages,
        [r#"endpoints[0].addresses[0]: "backend" is not an IP address"#]
    );
}

#[test]
fn a_peer_whose_bfd_profile_is_deleted_keeps_its_last_good_value() {
    let profile = |receive: u32| {
        let spec = json!({ "receiveInterval": receive });
        object(Kind::BfdProfile, "fast", json!({ "spec": spec }))
    };
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.9", "bfdProfile": "fast"
    });
    let mut index = index(initial());
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
fn a_daemon_rejects_a_peer_without_its_secret_and_keeps_the_last_good_value() {
    let mut index = Index::default();
    let peer = |secret: &str| {
        let spec = json!({
            "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1",
            "passwordSecret": { "name": secret }
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

#[test]
fn a_peer_is_valid_as_soon_as_its_secret_and_its_bfd_profile_exist() {
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "bfdProfile": "fast",
        "passwordSecret": { "name": "tor" }
    });
    let secret = json!({ "type": "kubernetes.io/basic-auth", "stringData": { "password": "pw" } });
    let mut index = index(vec![object(Kind::BgpPeer, "tor", json!({ "spec": spec }))]);
    let missing = |index: &Index| {
        let problems = index.problems();
        let texts = problems.iter().map(ToString::to_string);
        texts.collect::<Vec<_>>().join(" ")
    };
    assert!(missing(&index).contains("there is no Secret"));
    assert!(missing(&index).contains("there is no BFDProfile"));
    index.apply(object(Kind::Secret, "tor", secret));
    assert!(index.config().peers.is_empty());
    index.apply(object(Kind::BfdProfile, "fast", json!({ "spec": {} })));
    assert_eq!(missing(&index), "");
    assert!(index.config().peers.contains_key("tor"));
}
