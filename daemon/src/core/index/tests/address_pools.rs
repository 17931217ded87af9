//! MetalLB's AddressPools: what they mean, and what takes precedence.

use super::*;
use crate::core::api::CONFIG_MAP;
use crate::core::config::Severity;

fn address_pool(spec: Value) -> Change {
    object(Kind::AddressPool, "pool-0", json!({ "spec": spec }))
}

fn bgp() -> Value {
    json!({
        "protocol": "bgp", "addresses": ["192.0.2.0/24"], "autoAssign": false,
        "bgpAdvertisements": [
            { "localPref": 200, "communities": ["64512:1"] },
            { "aggregationLength": 24 }
        ]
    })
}

fn layer2() -> Value {
    json!({ "protocol": "layer2", "addresses": ["192.0.2.0/24"], "avoidBuggyIPs": true })
}

/// The objects besides pools and advertisements, and an AddressPool.
fn with(spec: Value) -> Index {
    let kept =
        |change: &Change| !matches!(change.kind(), Kind::IpAddressPool | Kind::BgpAdvertisement);
    let mut changes: Vec<Change> = initial().into_iter().filter(kept).collect();
    changes.push(address_pool(spec));
    index(changes)
}

fn problems(index: &Index) -> Vec<String> {
    let problems = index.problems().into_iter();
    problems.map(|problem| problem.to_string()).collect()
}

/// The names of the advertisements of layer 2 that select the pool.
fn layer2_ads(index: &Index) -> Vec<&str> {
    let ads = index.config().layer2_advertisements.values();
    let ads = ads.filter(|ad| ad.selection.selects_pool("pool-0", None));
    ads.map(|ad| &*ad.name).collect()
}

#[test]
fn an_address_pool_means_a_pool_and_an_advertisement_for_each_entry() {
    let index = with(bgp());
    assert_eq!(problems(&index), Vec::<String>::new());
    let all = ["peer-0", "peer-1"]
        .map(|peer| ["192.0.2.0/24", "192.0.2.1/32"].map(|prefix| format!("{peer} {prefix}")));
    assert_eq!(routes(&index), all.concat());
    let config = index.config();
    let pool = config.pools.get("pool-0").expect("the pool");
    assert!(!pool.options().auto_assign && config.pools.complete());
    let ads = &config.advertisements;
    assert_eq!(ads["addresspool/pool-0/1"].local_pref, Some(200));
    assert_eq!(ads["addresspool/pool-0/2"].aggregation_length, 24);
    assert_eq!(ads.len(), 2);
}

#[test]
fn without_entries_it_is_announced_by_host_routes_to_all_peers() {
    let index = with(json!({ "protocol": "bgp", "addresses": ["192.0.2.0/24"] }));
    assert_eq!(
        routes(&index),
        ["peer-0 192.0.2.1/32", "peer-1 192.0.2.1/32"]
    );
    let pool = index.config().pools.get("pool-0").expect("the pool");
    assert!(pool.options().auto_assign);
}

/// MetalLB 0.13 gave AddressPools to no L2Advertisement and no BGPAdvertisement.
#[test]
fn its_protocol_alone_says_how_it_is_announced() {
    let mut index = with(layer2());
    index.apply(advertisement("all", json!({})));
    assert_eq!(routes(&index), Vec::<String>::new());
    assert_eq!(layer2_ads(&index), ["addresspool/pool-0"]);
    assert_eq!(problems(&index), Vec::<String>::new());
    index.apply(advertisement(
        "named",
        json!({ "ipAddressPools": ["pool-0"] }),
    ));
    assert_eq!(routes(&index), Vec::<String>::new());
    assert_eq!(
        problems(&index),
        [
            "BGPAdvertisement metallb-system/named: spec.ipAddressPools: pool-0 is an AddressPool, \
             which its protocol alone announces: write an IPAddressPool instead of it"
        ]
    );
    let mut index = with(bgp());
    index.apply(layer2_advertisement("all", json!({}), true));
    assert_eq!(layer2_ads(&index), Vec::<&str>::new());
}

#[test]
fn an_invalid_state_keeps_the_last_valid_one() {
    let mut index = with(bgp());
    let before = routes(&index);
    let mut invalid = bgp();
    invalid["protocol"] = json!("BGP");
    index.apply(address_pool(invalid));
    assert_eq!(routes(&index), before);
    assert_eq!(
        problems(&index),
        [
            "AddressPool metallb-system/pool-0: spec.protocol: \"BGP\" is not known: write layer2 \
             or bgp (the last valid state stays in effect)"
        ]
    );
    index.apply(Change::Delete(key(Kind::AddressPool, "pool-0")));
    assert_eq!((routes(&index), problems(&index)), (vec![], vec![]));
    assert!(index.config().pools.complete() && index.config().pools.get("pool-0").is_none());
}

/// Otherwise the leader would clear the status of its Services.
#[test]
fn one_that_was_never_valid_or_can_not_be_read_releases_no_address() {
    for (spec, message) in [
        (
            json!(null),
            "spec.protocol: is missing: write layer2 or bgp",
        ),
        (json!("layer2"), "spec: is no object: write its fields"),
        (
            json!({ "protocol": "layer2", "bgpAdvertisements": [{}] }),
            "spec.bgpAdvertisements: have no effect with protocol: layer2: remove them, or write \
             protocol: bgp",
        ),
        (
            json!({ "protocol": "bgp", "bgpAdvertisements": {} }),
            "spec.bgpAdvertisements: is no list: begin each entry with - and a space",
        ),
        (
            json!({ "protocol": "bgp", "bgpAdvertisements": [7] }),
            "spec.bgpAdvertisements[0]: is no object: write its fields",
        ),
    ] {
        let index = with(spec);
        assert!(!index.config().pools.complete(), "{message}");
        assert_eq!(
            problems(&index),
            [format!(
                "AddressPool metallb-system/pool-0: {message} (its services keep their addresses)"
            )]
        );
    }
    let mut index = with(layer2());
    index.apply(Change::Unreadable(
        Kind::AddressPool,
        "forbidden".to_owned(),
    ));
    assert!(!index.config().pools.complete());
    let pool = index.config().pools.get("pool-0").expect("the pool");
    assert!(pool.options().frozen);
    assert_eq!(layer2_ads(&index), ["addresspool/pool-0"]);
    // Without the CRD, there is none.
    let mut index = index_without_pools();
    index.apply(Change::Absent(Kind::AddressPool, "no CRD".to_owned()));
    assert!(index.config().pools.complete() && index.is_listed(&[Kind::AddressPool]));
    assert_eq!(problems(&index), Vec::<String>::new());
}

fn index_without_pools() -> Index {
    let mut index = with(layer2());
    index.apply(Change::Delete(key(Kind::AddressPool, "pool-0")));
    index
}

#[test]
fn a_problem_of_a_meant_object_names_the_field_of_the_address_pool() {
    let mut spec = bgp();
    spec["bgpAdvertisements"][1]["communities"] = json!(["64512"]);
    spec["bgpAdvertisements"][1]["peers"] = json!(["peer-0"]);
    spec["addreses"] = json!([]);
    let index = with(spec);
    let problems = problems(&index);
    let named = |part: &str| {
        let part = format!("AddressPool metallb-system/pool-0: {part}");
        assert!(
            problems.iter().any(|problem| problem.starts_with(&part)),
            "{part}\nis not in\n{problems:#?}"
        );
    };
    named("spec.bgpAdvertisements[1].communities");
    named("spec.bgpAdvertisements[1].peers: has no effect, because AddressPool has no such field");
    named("spec.addreses: has no effect, because AddressPool has no such field");
    assert_eq!(problems.len(), 3);
    let severities: Vec<Severity> = index.problems().iter().map(|one| one.severity).collect();
    let unknown = |severity: &&Severity| **severity == Severity::UnknownField;
    assert_eq!(severities.iter().filter(unknown).count(), 2);
    // Of the pool itself.
    let index = with(json!({ "protocol": "layer2", "addresses": ["192.0.2.0/33"] }));
    let expected = "AddressPool metallb-system/pool-0: spec.addresses: ";
    let problems = self::problems(&index);
    assert!(problems[0].starts_with(expected), "{problems:?}");
}

/// Ferrolb's CRDs are missing, and MetalLB's have no other objects.
#[test]
fn with_an_address_pool_no_other_pool_or_advertisement_is_needed() {
    let mut index = with(bgp());
    let kinds = [
        Kind::IpAddressPool,
        Kind::BgpAdvertisement,
        Kind::FerrolbIpAddressPool,
        Kind::FerrolbBgpAdvertisement,
    ];
    for kind in kinds {
        index.apply(if kind.is_own() {
            Change::Absent(kind, "no CRD".to_owned())
        } else {
            Change::Reset(kind, Vec::new())
        });
    }
    assert_eq!(problems(&index), Vec::<String>::new());
    assert!(index.config().pools.complete() && index.is_listed(&kinds));
    // MetalLB's CRD may be gone by mistake.
    index.apply(Change::Absent(Kind::IpAddressPool, "no CRD".to_owned()));
    assert!(!index.config().pools.complete());
}

/// `kubectl apply` creates the IPAddressPool first.
#[test]
fn an_ip_address_pool_of_the_same_name_has_the_addresses_and_the_announcements_stay() {
    let mut index = with(bgp());
    let before = routes(&index);
    index.apply(pool("pool-0", "192.0.2.0/24"));
    assert_eq!(routes(&index), before);
    let problems = problems(&index);
    assert!(
        problems.len() == 1
            && problems[0].starts_with(
                "AddressPool metallb-system/pool-0: its addresses are ignored, because \
                 IPAddressPool metallb-system/pool-0 exists"
            )
            && problems[0]
                .contains("kubectl delete -n metallb-system addresspools.metallb.io pool-0"),
        "{problems:?}"
    );
    // Now other advertisements select it as well.
    index.apply(layer2_advertisement("all", json!({}), false));
    assert_eq!(layer2_ads(&index), ["all"]);
}

/// As after an upgrade from a version that did not read it.
#[test]
fn an_address_pool_that_is_left_over_takes_nothing_from_another_pool() {
    for kind in [Kind::IpAddressPool, Kind::FerrolbIpAddressPool] {
        for name in ["pool-0", "newer"] {
            let spec = json!({ "addresses": ["192.0.2.0/24"] });
            let created = json!({ "creationTimestamp": "2026-02-01T00:00:00Z" });
            let pool = object(kind, name, json!({ "metadata": created, "spec": spec }));
            let old = json!({ "creationTimestamp": "2020-01-01T00:00:00Z" });
            let left_over = json!({ "metadata": old, "spec": bgp() });
            let mut index = with(bgp());
            index.apply(object(Kind::AddressPool, "pool-0", left_over));
            index.apply(pool);
            index.apply(layer2_advertisement("all", json!({}), false));
            let config = index.config();
            let used = &config.pool_details[name];
            assert_eq!(used.object.kind, kind, "{:?}", problems(&index));
            let ads = config.layer2_advertisements.values();
            let selected = ads.filter(|ad| ad.selection.selects_pool(name, None));
            assert_eq!(selected.count(), 1, "{kind:?} {name}");
        }
    }
}

#[test]
fn an_address_pool_takes_precedence_over_the_config_map() {
    let mut index = with(bgp());
    let text = "address-pools:\n- name: old\n  protocol: bgp\n  addresses: [198.51.100.0/24]\n";
    index.apply(object(
        Kind::ConfigMap,
        CONFIG_MAP,
        json!({ "data": { "config": text } }),
    ));
    assert!(index.config().pools.get("old").is_none() && index.config().pools.complete());
}
