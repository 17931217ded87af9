//! ferrolb's own kinds beside MetalLB's, and MetalLB's older BGPPeer.

use super::*;
use ferrolb_bgp::wire::{Community, LargeCommunity};

fn own_pool(name: &str, spec: Value) -> Change {
    object(Kind::FerrolbIpAddressPool, name, json!({ "spec": spec }))
}

fn with_spec(kind: Kind, name: &str, spec: Value) -> Change {
    object(kind, name, json!({ "spec": spec }))
}

/// The object with a creation time of this day.
fn created(change: Change, day: u8) -> Change {
    let Change::Apply(key, mut raw) = change else {
        unreachable!()
    };
    raw.metadata.creation_timestamp = format!("2026-01-{day:02}T00:00:00Z");
    Change::Apply(key, raw)
}

fn absent(kind: Kind) -> Change {
    Change::Absent(kind, "no CRD".into())
}

fn problems(index: &Index) -> Vec<String> {
    index.problems().iter().map(ToString::to_string).collect()
}

/// A peer of ferrolb's with a BFDProfile, a pool, an alias, and an advertisement with them.
fn own_objects() -> Vec<Change> {
    let peer = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.9", "bfdProfile": "fast"
    });
    let aliases = json!({ "communities": [{ "name": "near", "value": "64512:1" }] });
    let advertisement = json!({
        "ipAddressPools": ["pool-0"], "peers": ["peer-0"], "communities": ["near"]
    });
    vec![
        own_pool("pool-0", json!({ "addresses": ["192.0.2.0/24"] })),
        with_spec(
            Kind::FerrolbBfdProfile,
            "fast",
            json!({ "receiveInterval": 50 }),
        ),
        with_spec(Kind::FerrolbBgpPeer, "peer-0", peer),
        with_spec(Kind::FerrolbCommunity, "names", aliases),
        with_spec(Kind::FerrolbBgpAdvertisement, "all", advertisement),
        node(NODE, json!({})),
        service("service-0", "Cluster", "192.0.2.1"),
        slice("slice-0", "service-0", NODE, true),
    ]
}

/// All of MetalLB's kinds are absent.
fn without_metallb() -> Vec<Change> {
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| kind.is_custom() && !kind.is_own());
    kinds.map(absent).collect()
}

#[test]
fn ferrolbs_own_kinds_are_enough() {
    let mut index = index(without_metallb());
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_own()) {
        index.apply(Change::Reset(kind, Vec::new()));
    }
    let before = problems(&index);
    assert!(before.len() == 1 && before[0].starts_with("IPAddressPool *: there is none"));
    for change in own_objects() {
        index.apply(change);
    }
    assert_eq!(problems(&index), [""; 0]);
    assert_eq!(routes(&index), ["peer-0 192.0.2.1/32"]);
    assert!(index.config().pools.complete());
    let needed = [
        Kind::IpAddressPool,
        Kind::BgpPeer,
        Kind::BgpAdvertisement,
        Kind::BfdProfile,
    ];
    assert!(index.is_listed(&needed));
    let advertisement = &index.config().advertisements["all"];
    assert!(
        advertisement
            .communities
            .contains(&Community::new(64512, 1))
    );
}

#[test]
fn a_cluster_with_neither_group_has_one_problem_for_each_kind_that_it_needs() {
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_custom());
    let index = index(kinds.map(absent).collect());
    let named: Vec<String> = problems(&index)
        .iter()
        .map(|problem| problem.split(':').next().unwrap_or_default().to_owned())
        .collect();
    let expected = [
        "IPAddressPool *",
        "BGPPeer *",
        "BGPAdvertisement *",
        "Community *",
    ];
    assert_eq!(named, expected);
}

#[test]
fn a_group_without_pools_costs_no_address_while_the_other_group_is_absent() {
    let mut index = index(vec![
        absent(Kind::IpAddressPool),
        Change::Reset(Kind::FerrolbIpAddressPool, Vec::new()),
    ]);
    // The pools may have been MetalLB's, whose CRD is gone.
    assert!(!index.config().pools.complete());
    let [notice] = &problems(&index)[..] else {
        panic!("{:?}", index.problems())
    };
    assert!(
        notice.starts_with("IPAddressPool *: there is none, and the API server knows"),
        "{notice}"
    );
    index.apply(own_pool("pool-0", json!({ "addresses": ["192.0.2.0/24"] })));
    assert!(index.config().pools.complete() && index.problems().is_empty());
    // The only pool is deleted on purpose.
    index.apply(Change::Delete(key(Kind::FerrolbIpAddressPool, "pool-0")));
    assert!(index.config().pools.complete());
    index.apply(Change::Unreadable(Kind::IpAddressPool, "forbidden".into()));
    assert!(!index.config().pools.complete());
}

#[test]
fn a_status_of_a_pool_changes_no_configuration() {
    let spec = json!({ "addresses": ["192.0.2.0/24"] });
    let with = |spec: &Value, version: &str| {
        let body = json!({
            "metadata": { "resourceVersion": version }, "spec": spec,
            "status": { "assignedIPv4": version.len() }
        });
        object(Kind::FerrolbIpAddressPool, "pool-0", body)
    };
    let mut index = index(vec![own_pool("pool-0", spec.clone())]);
    assert!(index.apply(with(&spec, "1")).is_empty());
    assert!(index.apply(with(&spec, "12")).is_empty());
    let other = json!({ "addresses": ["198.51.100.0/24"] });
    assert!(index.apply(with(&other, "12")).configuration);
}

#[test]
fn an_unreadable_group_freezes_its_own_pools_only() {
    let mut index = index(vec![
        pool("theirs", "192.0.2.0/24"),
        own_pool("ours", json!({ "addresses": ["198.51.100.0/24"] })),
    ]);
    index.apply(Change::Unreadable(Kind::IpAddressPool, "no CRD".into()));
    let frozen = |name: &str| {
        let pools = &index.config().pools;
        pools.get(name).map(|pool| pool.options().frozen)
    };
    assert_eq!(
        (frozen("theirs"), frozen("ours")),
        (Some(true), Some(false))
    );
}

#[test]
fn of_two_objects_with_one_name_in_both_groups_the_older_one_is_used() {
    let bfd = |kind, interval: u32| with_spec(kind, "same", json!({ "receiveInterval": interval }));
    let ad = |kind, preference: u32| with_spec(kind, "same", json!({ "localPref": preference }));
    let own = |addresses: &str| own_pool("same", json!({ "addresses": [addresses] }));
    let pairs = [
        (pool("same", "192.0.2.0/24"), own("198.51.100.0/24")),
        (bfd(Kind::BfdProfile, 50), bfd(Kind::FerrolbBfdProfile, 60)),
        (
            ad(Kind::BgpAdvertisement, 1),
            ad(Kind::FerrolbBgpAdvertisement, 2),
        ),
    ];
    let split = |change| match change {
        Change::Apply(key, raw) => (key, raw),
        _ => unreachable!(),
    };
    for (theirs, ours) in pairs {
        let ((first, theirs), (second, ours)) = (split(theirs), split(ours));
        let both = |age_of_theirs, age_of_ours| {
            let theirs = Change::Apply(first.clone(), theirs.clone());
            let ours = Change::Apply(second.clone(), ours.clone());
            index(vec![
                created(theirs, age_of_theirs),
                created(ours, age_of_ours),
            ])
        };
        for (index, used, refused) in [(both(1, 2), &first, &second), (both(2, 1), &second, &first)]
        {
            let expected =
                format!("{refused}: metadata.name: is already used by {used}, which is older");
            let [problem] = &problems(&index)[..] else {
                panic!("{:?}", index.problems())
            };
            assert!(problem.starts_with(&expected), "{problem}");
        }
    }
}

#[test]
fn the_older_of_two_pools_with_one_name_is_used_even_if_the_younger_one_was_in_use() {
    let ours = json!({ "addresses": ["198.51.100.0/24"] });
    let mut index = index(vec![
        created(pool("same", "nonsense"), 1),
        created(own_pool("same", ours), 2),
    ]);
    let used = |index: &Index| index.config().pool_details["same"].object.kind;
    assert_eq!(used(&index), Kind::FerrolbIpAddressPool);
    // Every process, also one that starts now, decides the same.
    index.apply(created(pool("same", "192.0.2.0/24"), 1));
    assert_eq!(used(&index), Kind::IpAddressPool);
    assert!(
        !index.config().pools.complete(),
        "services keep the addresses of the other"
    );
}

#[test]
fn a_community_name_of_an_older_object_is_used_even_if_it_appears_later() {
    let alias = |value: &str| json!({ "communities": [{ "name": "near", "value": value }] });
    let theirs = created(with_spec(Kind::Community, "theirs", alias("64512:3")), 2);
    let ours = created(
        with_spec(Kind::FerrolbCommunity, "ours", alias("64512:1")),
        1,
    );
    let index = index(vec![
        theirs,
        ours,
        advertisement("all", json!({ "communities": ["near"] })),
    ]);
    let communities = &index.config().advertisements["all"].communities;
    assert!(
        communities.iter().eq([&Community::new(64512, 1)]),
        "{communities:?}"
    );
    let [problem] = &problems(&index)[..] else {
        panic!("{:?}", index.problems())
    };
    assert!(
        problem.starts_with("Community metallb-system/theirs: "),
        "{problem}"
    );
}

#[test]
fn references_reach_objects_of_both_groups() {
    let peer = |name: &str, address: &str, profile: &str| {
        let spec = json!({
            "myASN": 64512, "peerASN": 64513, "peerAddress": address, "bfdProfile": profile
        });
        json!({ "name": name, "spec": spec })
    };
    let theirs = peer("theirs", "10.0.0.1", "ours");
    let ours = peer("ours", "10.0.0.2", "theirs");
    let alias =
        |name: &str, value: &str| json!({ "communities": [{ "name": name, "value": value }] });
    let everything = json!({
        "ipAddressPools": ["theirs", "ours"], "peers": ["theirs", "ours"],
        "communities": ["near", "far"]
    });
    let index = index(vec![
        pool("theirs", "192.0.2.0/24"),
        own_pool("ours", json!({ "addresses": ["198.51.100.0/24"] })),
        with_spec(Kind::BfdProfile, "theirs", json!({})),
        with_spec(Kind::FerrolbBfdProfile, "ours", json!({})),
        with_spec(Kind::BgpPeer, "theirs", theirs["spec"].clone()),
        with_spec(Kind::FerrolbBgpPeer, "ours", ours["spec"].clone()),
        with_spec(Kind::Community, "theirs", alias("near", "64512:1")),
        with_spec(
            Kind::FerrolbCommunity,
            "ours",
            alias("far", "large:64512:2:1"),
        ),
        with_spec(Kind::BgpAdvertisement, "theirs", everything.clone()),
        with_spec(Kind::FerrolbBgpAdvertisement, "ours", everything),
        layer2_advertisement("lan", json!({ "ipAddressPools": ["ours"] }), false),
    ]);
    assert_eq!(problems(&index), [""; 0]);
    let large = LargeCommunity {
        global: 64512,
        local1: 2,
        local2: 1,
    };
    for name in ["theirs", "ours"] {
        let advertisement = &index.config().advertisements[name];
        assert!(
            advertisement
                .communities
                .contains(&Community::new(64512, 1))
        );
        assert!(advertisement.large_communities.contains(&large));
        assert!(index.config().peers[name].session.bfd.is_some());
    }
}

#[test]
fn an_invalid_object_of_ferrolb_keeps_its_last_good_value_until_it_is_deleted() {
    let mut index = index(own_objects());
    let invalid = [
        (
            Kind::FerrolbIpAddressPool,
            "pool-0",
            json!({ "addresses": ["nonsense"] }),
        ),
        (
            Kind::FerrolbBfdProfile,
            "fast",
            json!({ "receiveInterval": 1 }),
        ),
        (
            Kind::FerrolbCommunity,
            "names",
            json!({ "communities": [{ "name": "near", "value": "?" }] }),
        ),
        (
            Kind::FerrolbBgpAdvertisement,
            "all",
            json!({ "aggregationLength": 33 }),
        ),
    ];
    let before = routes(&index);
    let count = invalid.len();
    for (kind, name, spec) in invalid {
        index.apply(with_spec(kind, name, spec));
    }
    assert_eq!(index.problems().len(), count, "{:?}", index.problems());
    assert_eq!(routes(&index), before);
    for (kind, name) in [
        (Kind::FerrolbBgpAdvertisement, "all"),
        (Kind::FerrolbCommunity, "names"),
        (Kind::FerrolbIpAddressPool, "pool-0"),
    ] {
        index.apply(Change::Delete(key(kind, name)));
    }
    assert_eq!(routes(&index), [""; 0]);
    let config = index.config();
    assert!(config.pools.get("pool-0").is_none() && config.advertisements.is_empty());
}

#[test]
fn min_announcers_is_one_unless_it_says_otherwise_and_zero_is_refused() {
    let mut index = index(own_objects());
    let floor = |index: &Index| index.config().advertisements["all"].min_announcers;
    assert_eq!(floor(&index), 1);
    let ad = |value: Value| with_spec(Kind::FerrolbBgpAdvertisement, "all", value);
    index.apply(ad(json!({ "minAnnouncers": 3 })));
    assert_eq!((floor(&index), problems(&index)), (3, vec![]));
    index.apply(ad(json!({ "minAnnouncers": 0 })));
    let expected = "BGPAdvertisement.ferrolb.io metallb-system/all: spec.minAnnouncers: 0 is not a \
                    number of nodes from 1 to 1000";
    assert_eq!(problems(&index), [expected]);
    assert_eq!(floor(&index), 3, "the last good value");
}

#[test]
fn a_reserved_address_of_another_service_gets_a_notice_and_so_does_an_unused_reservation() {
    let reservation = |name: &str, address: &str| {
        let addresses = [address];
        json!({ "namespace": "default", "name": name, "addresses": addresses })
    };
    let pool = |reservations: Value| {
        own_pool(
            "pool-0",
            json!({ "addresses": ["192.0.2.0/24"], "reservations": reservations }),
        )
    };
    let mut index = index(vec![
        pool(json!([])),
        service("old", "Cluster", "192.0.2.1"),
        service("web", "Cluster", "192.0.2.2"),
        service("other", "Cluster", "192.0.2.3"),
    ]);
    assert_eq!(problems(&index), [""; 0]);
    index.apply(pool(json!([
        reservation("web", "192.0.2.1"),
        reservation("later", "192.0.2.4")
    ])));
    let expected = [
        "Service default/old: status.loadBalancer: 192.0.2.1 is reserved for default/web in pool \
         pool-0: the service keeps it until it requests another address: request one, or change \
         spec.reservations of the pool",
        "Service default/web: status.loadBalancer: pool pool-0 reserves 192.0.2.1 for this \
         service, which keeps 192.0.2.2: to move it, request 192.0.2.1 with the annotation \
         metallb.io/loadBalancerIPs",
    ];
    assert_eq!(problems(&index), expected);
    index.apply(pool(json!([
        reservation("web", "192.0.2.2"),
        reservation("old", "192.0.2.1")
    ])));
    assert_eq!(problems(&index), [""; 0]);
}

fn v1beta1_peer(spec: Value) -> Change {
    let Change::Apply(key, mut raw) = with_spec(Kind::BgpPeer, "old", spec) else {
        unreachable!()
    };
    raw.api_version = "metallb.io/v1beta1".into();
    Change::Apply(key, raw)
}

#[test]
fn a_v1beta1_peer_means_the_same_as_a_v1beta2_peer_with_its_fields() {
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "sourceAddress": "10.0.0.11",
        "peerPort": 1790, "holdTime": "30s", "keepaliveTime": "10s", "routerID": "1.2.3.4",
        "password": "p", "bfdProfile": "fast", "ebgpMultiHop": true,
        "nodeSelectors": [
            { "matchLabels": { "rack": "a" } },
            { "matchExpressions": [{ "key": "rack", "operator": "In", "values": ["b"] }] }
        ]
    });
    let compile = |peer: Change| {
        let index = index(vec![with_spec(Kind::BfdProfile, "fast", json!({})), peer]);
        assert_eq!(problems(&index), [""; 0]);
        index.config().peers["old"].clone()
    };
    let (old, new) = (
        v1beta1_peer(spec.clone()),
        with_spec(Kind::BgpPeer, "old", spec),
    );
    assert_eq!(compile(old), compile(new));
}

#[test]
fn a_v1beta1_peer_without_times_and_port_has_the_defaults() {
    let base = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1" });
    let mut zero = base.clone();
    zero["peerPort"] = json!(0);
    let compile = |peer: Change| index(vec![peer]).config().peers["old"].session.clone();
    let expected = compile(with_spec(Kind::BgpPeer, "old", base.clone()));
    assert_ne!(expected.timers.hold_time.as_secs(), 0);
    assert_eq!(compile(v1beta1_peer(base)), expected);
    assert_eq!(compile(v1beta1_peer(zero)), expected);
}

#[test]
fn a_v1beta1_peer_with_a_field_of_v1beta2_is_read_without_it() {
    let index = index(vec![v1beta1_peer(json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "vrf": "red", "pasword": "p"
    }))]);
    let mut found = problems(&index);
    found.sort();
    let expected = [
        "BGPPeer metallb-system/old: spec.pasword: has no effect, because BGPPeer has no such \
         field: check the spelling",
        "BGPPeer metallb-system/old: spec.vrf: has no effect, because metallb.io/v1beta1 doesn't \
         have this field: change apiVersion to metallb.io/v1beta2",
    ];
    assert_eq!(found, expected);
    assert!(index.config().peers.contains_key("old"));
}
