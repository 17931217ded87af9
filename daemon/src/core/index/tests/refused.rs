//! Which of several objects that conflict is refused: the same in every process, however long it
//! has run.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_allocator::Pool;
use proptest::prelude::*;

use super::*;

/// The object of this kind and name, created in this second.
fn created(kind: Kind, name: &str, second: u8, spec: &Value) -> Change {
    let time = format!("2026-01-01T00:00:{second:02}Z");
    let body = json!({ "metadata": { "creationTimestamp": time }, "spec": spec });
    object(kind, name, body)
}

/// A pool of 192.0.2.0/28, of MetalLB's or ferrolb's.
fn part(name: &str, own: bool, second: u8, first: u8, last: u8) -> Change {
    let kind = if own {
        Kind::FerrolbIpAddressPool
    } else {
        Kind::IpAddressPool
    };
    let range = format!("192.0.2.{first}-192.0.2.{last}");
    created(kind, name, second, &json!({ "addresses": [range] }))
}

fn used(index: &Index) -> BTreeMap<&str, bool> {
    let pools = index.config().pools.iter();
    pools
        .map(|pool| (pool.name(), pool.options().frozen))
        .collect()
}

fn refused(index: &Index) -> Vec<(String, &'static str)> {
    let refused = index.config().refused.iter();
    refused
        .map(|(key, refusal)| (key.to_string(), refusal.cause.code()))
        .collect()
}

#[test]
fn an_old_pool_that_is_edited_takes_precedence_over_the_younger_one_that_it_overlaps_now() {
    let edited = part("old", false, 1, 0, 9);
    let mut running = index(vec![
        part("old", false, 1, 0, 3),
        part("young", true, 2, 4, 7),
    ]);
    running.apply(edited.clone());
    let fresh = index(vec![edited, part("young", true, 2, 4, 7)]);
    for index in [&running, &fresh] {
        assert_eq!(used(index), [("old", false)].into());
        let young = "IPAddressPool.ferrolb.io metallb-system/young".to_owned();
        assert_eq!(refused(index), [(young, "Overlap")]);
        assert!(!index.config().pools.complete());
    }
    assert_eq!(running.config(), fresh.config());
}

#[test]
fn a_refused_pool_keeps_its_last_good_value_unless_that_overlaps_a_pool_in_use() {
    let mut index = index(vec![
        part("old", false, 1, 0, 3),
        part("middle", false, 2, 4, 7),
    ]);
    index.apply(part("middle", false, 2, 3, 7));
    assert_eq!(used(&index), [("middle", true), ("old", false)].into());
    // A process that starts now has no last good value, and uses the youngest pool.
    index.apply(part("young", true, 3, 6, 9));
    assert_eq!(used(&index), [("old", false), ("young", false)].into());
    assert!(index.config().unreadable_pools.contains_key("middle"));
    let gone = key(Kind::FerrolbIpAddressPool, "young");
    index.apply(Change::Delete(gone));
    assert_eq!(used(&index), [("middle", true), ("old", false)].into());
    index.apply(part("young", true, 3, 6, 9));
    index.apply(part("middle", false, 2, 4, 5));
    assert_eq!(used(&index).values().filter(|frozen| **frozen).count(), 0);
    assert_eq!(refused(&index), []);
}

#[test]
fn services_of_a_refused_pool_are_announced_as_its_own_advertisements_say() {
    let ad = |pool: &str, peer: &str| {
        advertisement(pool, json!({ "ipAddressPools": [pool], "peers": [peer] }))
    };
    let mut changes = initial();
    changes.truncate(1);
    changes.extend([
        peer("peer-0", "10.0.0.9", 64512),
        peer("peer-1", "10.0.0.8", 64512),
        part("old", false, 1, 8, 9),
        part("young", true, 2, 0, 7),
        ad("old", "peer-0"),
        ad("young", "peer-1"),
        slice("slice-0", "service-0", NODE, true),
    ]);
    let Change::Apply(key, mut raw) = service("service-0", "Cluster", "192.0.2.1") else {
        unreachable!()
    };
    let recorded = "metallb.io/ip-allocated-from-pool";
    raw.metadata
        .annotations
        .insert(recorded.into(), "young".into());
    changes.push(Change::Apply(key, raw));
    let mut index = index(changes);
    assert_eq!(routes(&index), ["peer-1 192.0.2.1/32"]);
    index.apply(part("old", false, 1, 0, 9));
    assert_eq!(used(&index), [("old", false)].into());
    assert_eq!(routes(&index), ["peer-1 192.0.2.1/32"]);
    let young = super::key(Kind::FerrolbIpAddressPool, "young");
    index.apply(Change::Delete(young));
    assert_eq!(routes(&index), ["peer-0 192.0.2.1/32"]);
}

#[test]
fn a_process_that_only_allocates_knows_what_is_refused_and_reports_what_is_not_about_bgp() {
    let peer = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.9" });
    let names = json!({ "communities": [{ "name": "near", "value": "64512:1" }] });
    let pool = json!({ "addresses": ["192.0.2.0/24"] });
    let pairs = [
        (Kind::FerrolbCommunity, names),
        (Kind::FerrolbIpAddressPool, pool),
        (Kind::FerrolbBfdProfile, json!({})),
        (Kind::FerrolbBgpPeer, peer.clone()),
        (Kind::FerrolbBgpAdvertisement, json!({})),
        (Kind::FerrolbL2Advertisement, json!({})),
    ];
    let mut index = Index::for_kinds(&[]);
    for (own, spec) in &pairs {
        let theirs = own.other_group().expect("both groups");
        index.apply(created(theirs, "same", 1, spec));
        index.apply(created(*own, "same", 2, spec));
    }
    let expected: BTreeSet<(String, &str)> = pairs
        .iter()
        .map(|(own, _)| (key(*own, "same").to_string(), "NameInUse"))
        .collect();
    assert_eq!(
        refused(&index).into_iter().collect::<BTreeSet<_>>(),
        expected
    );
    let reported: Vec<Kind> = index.problems().iter().map(|p| p.object.kind).collect();
    let expected = [Kind::FerrolbIpAddressPool, Kind::FerrolbL2Advertisement];
    assert_eq!(reported, expected);

    // What it refers to is read, unless the API server refuses that.
    let mut with_bfd = peer;
    with_bfd["bfdProfile"] = json!("absent");
    index.apply(created(Kind::FerrolbBgpPeer, "other", 3, &with_bfd));
    let other = key(Kind::FerrolbBgpPeer, "other");
    assert_eq!(index.config().refused[&other].cause.code(), "Invalid");
    index.apply(Change::Unreadable(Kind::BfdProfile, "forbidden".into()));
    assert!(!index.config().refused.contains_key(&other));
}

/// An edit of one of a few pools, of which no two have the same age. The name says the age and the
/// group, so that an edit changes neither.
fn edit() -> impl Strategy<Value = Change> {
    let names = prop_oneof![
        Just(("a", 3)),
        Just(("b", 1)),
        Just(("c", 2)),
        Just(("d", 4))
    ];
    (names, any::<bool>(), 0..8_u8, 0..4_u8, 0..8_u8).prop_map(
        |((name, second), own, first, length, action)| match action {
            0 => {
                let Change::Apply(key, _) = part(name, own, second, 0, 0) else {
                    unreachable!()
                };
                Change::Delete(key)
            }
            // Invalid: it ends before it begins.
            1 => part(name, own, second, first + 1, first),
            _ => part(name, own, second, first, first + length),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn which_pools_are_used_does_not_depend_on_the_history_of_a_process(
        edits in prop::collection::vec(edit(), 1..20)
    ) {
        let mut running = Index::default();
        let mut objects = BTreeMap::new();
        for edit in edits {
            match &edit {
                Change::Apply(key, _) => _ = objects.insert(key.clone(), edit.clone()),
                Change::Delete(key) => _ = objects.remove(key),
                _ => unreachable!(),
            }
            running.apply(edit);
        }
        let fresh = index(objects.into_values().collect());
        let (running, fresh) = (running.config(), fresh.config());
        let in_use = |pools: &ferrolb_allocator::PoolSet| -> Vec<Pool> {
            let used = pools.iter().filter(|pool| !pool.options().frozen);
            used.cloned().collect()
        };
        prop_assert_eq!(in_use(&running.pools), in_use(&fresh.pools));
        // Also the messages, so that two processes write the same condition.
        prop_assert_eq!(&running.refused, &fresh.refused);
        // What differs are last good values, frozen.
        for (name, details) in &running.pool_details {
            let same = fresh.pool_details.get(name) == Some(details);
            prop_assert!(same || running.refused.contains_key(&details.object));
        }
    }
}
