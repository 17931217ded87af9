//! Which addresses a service without addresses gets.

use super::*;

#[test]
fn allocates_the_lowest_usable_address_of_the_first_entry() {
    let v6 = AllocationRequest {
        cluster_families: vec![Family::V6],
        ..service("a")
    };
    assert_eq!(
        allocate_one(&[("p", "10.0.0.0/24", options())], &service("a")),
        "10.0.0.0"
    );
    assert_eq!(
        allocate_one(
            &[("p", "10.0.9.0/24 10.0.0.0/24", options())],
            &service("a")
        ),
        "10.0.9.0"
    );
    assert_eq!(
        allocate_one(&[("p", "10.0.0.0/24", avoiding())], &service("a")),
        "10.0.0.1"
    );
    assert_eq!(
        allocate_one(&[("p", "10.0.0.255-10.0.1.9", avoiding())], &service("a")),
        "10.0.1.1"
    );
    assert_eq!(
        allocate_one(
            &[("p", "10.0.0.255-10.0.1.0 10.3.0.0/31", avoiding())],
            &service("a")
        ),
        "10.3.0.1"
    );
    assert_eq!(
        allocate_one(&[("p", "10.0.0.0/32", avoiding())], &service("a")),
        "(NoPoolWithFamily)",
        "a pool of only buggy addresses has no usable address"
    );
    assert_eq!(
        allocate_one(&[("p", "fc00::/120", avoiding())], &v6),
        "fc00::"
    );

    let mut allocator = Allocator::new(pool_set(&[("p", "10.0.9.0/31 10.0.0.0/31", options())]));
    let got: Vec<String> = ["a", "b", "c", "d", "e"]
        .map(|n| summary(&allocator.step(&service(n))))
        .into();
    assert_eq!(
        got,
        [
            "10.0.9.0",
            "10.0.9.1",
            "10.0.0.0",
            "10.0.0.1",
            "(PoolExhausted)"
        ]
    );
}

#[test]
fn allocates_a_released_address_again() {
    let mut allocator = Allocator::new(pool_set(&[("p", "10.0.0.0/30", options())]));
    for name in ["a", "b", "c", "d"] {
        allocator.step(&service(name));
    }
    assert_eq!(summary(&allocator.step(&service("e"))), "(PoolExhausted)");
    assert_eq!(allocator.release(&key("c")), ips("10.0.0.2"));
    assert_eq!(allocator.release(&key("c")), ips(""));
    assert_eq!(allocator.release(&key("b")), ips("10.0.0.1"));
    assert_eq!(summary(&allocator.step(&service("e"))), "10.0.0.1");
    assert_eq!(allocator.addresses(&key("e")), ips("10.0.0.1"));
}

#[test]
fn requested_addresses_must_be_usable_and_in_pools_that_accept_the_service() {
    let pools = [
        ("a", "10.0.0.0/24 fc00::/64", avoiding()),
        ("b", "10.0.1.0/24 fc00:1::/64", manual()),
        ("c", "10.0.2.0/24", pinned(0)),
    ];
    let both = |list| dual(FamilyPolicy::RequireDualStack, requesting("s", list));
    let mut both_in_one = both("10.0.0.9 fc00:1::1");
    both_in_one.requested_pool = Some("a".to_owned());
    let mut wrong_pool = requesting("s", "10.0.0.9");
    wrong_pool.requested_pool = Some("b".to_owned());
    let mut right_pool = requesting("s", "10.0.1.9");
    right_pool.requested_pool = Some("b".to_owned());
    let mut accepted = requesting("s", "10.0.2.9");
    accepted.accepted_by.insert("c".to_owned());
    let table = [
        (requesting("s", "10.0.0.9"), "10.0.0.9"),
        (requesting("s", "10.0.1.0"), "10.0.1.0"),
        (requesting("s", "10.0.0.0"), "(BuggyAddress)"),
        (requesting("s", "10.0.0.255"), "(BuggyAddress)"),
        (requesting("s", "10.9.0.1"), "(AddressNotInPool)"),
        (requesting("s", "fc00::1"), "(FamilyMismatch)"),
        (requesting("s", "10.0.0.9 fc00::1"), "(FamilyMismatch)"),
        (both("10.0.0.9"), "(FamilyMismatch)"),
        (both("10.0.0.9 fc00::1"), "10.0.0.9 fc00::1"),
        (both("fc00::1 10.0.0.9"), "fc00::1 10.0.0.9"),
        (both("10.0.0.9 fc00:1::1"), "10.0.0.9 fc00:1::1"),
        (both("fc00:1::1 10.0.2.9"), "(PoolDoesNotAcceptService)"),
        (both_in_one, "(AddressNotInPool)"),
        (wrong_pool, "(AddressNotInPool)"),
        (right_pool, "10.0.1.9"),
        (requesting("s", "10.0.2.9"), "(PoolDoesNotAcceptService)"),
        (accepted, "10.0.2.9"),
    ];
    for (request, expected) in table {
        assert_eq!(
            allocate_one(&pools, &request),
            expected,
            "{:?}",
            request.requested
        );
    }
}

#[test]
fn parses_requested_addresses_from_the_annotation_or_the_field() {
    let table = [
        (None, None, ""),
        (Some(""), None, ""),
        (Some(" "), Some(""), ""),
        (Some("10.0.0.1"), None, "10.0.0.1"),
        (None, Some("10.0.0.1"), "10.0.0.1"),
        (Some(" 10.0.0.1 , fc00::1 "), None, "10.0.0.1 fc00::1"),
        (Some(""), Some("10.0.0.1"), "10.0.0.1"),
        (Some("::ffff:10.0.0.1"), None, "10.0.0.1"),
    ];
    for (annotation, field, expected) in table {
        assert_eq!(
            parse_requested(annotation, field),
            Ok(ips(expected)),
            "{annotation:?}"
        );
    }
    let table = [
        (Some("10.0.0.1"), Some("10.0.0.1"), "RequestedTwice"),
        (Some("10.0.0.1,10.0.0.2"), None, "RequestFamilies"),
        (Some("10.0.0.1,fc00::1,fc00::2"), None, "RequestFamilies"),
        (Some("10.0.0.1,"), None, "RequestUnparsable"),
        (None, Some("10.0.0.1,fc00::1"), "RequestUnparsable"),
        (Some("host"), None, "RequestUnparsable"),
    ];
    for (annotation, field, code) in table {
        let error = parse_requested(annotation, field).unwrap_err();
        assert_eq!(error.code(), code, "{annotation:?} {field:?}");
    }
}

#[test]
fn a_requested_pool_must_exist_and_accept_the_service() {
    let pools = [
        ("auto", "10.0.0.0/24", options()),
        ("manual", "10.0.1.0/24", manual()),
        ("picky", "10.0.2.0/24", pinned(0)),
    ];
    assert_eq!(
        allocate_one(&pools, &requesting_pool("s", "manual")),
        "10.0.1.0"
    );
    assert_eq!(
        allocate_one(&pools, &requesting_pool("s", "nothere")),
        "(UnknownPool)"
    );
    assert_eq!(
        allocate_one(&pools, &requesting_pool("s", "picky")),
        "(PoolDoesNotAcceptService)"
    );
    assert_eq!(allocate_one(&pools, &requesting_pool("s", "")), "10.0.0.0");
    assert_eq!(allocate_one(&pools[1..], &service("s")), "(NoEligiblePool)");
}

#[test]
fn pinned_pools_are_tried_first_by_priority_then_by_name() {
    let pools = [
        ("a-general", "10.0.0.0/32", options()),
        ("b-last", "10.0.1.0/32", pinned(0)),
        ("c-20", "10.0.2.0/32", pinned(20)),
        ("d-10", "10.0.3.0/32", pinned(10)),
        ("e-foreign", "10.0.4.0/32", pinned(1)),
        ("f-10", "10.0.5.0/32", pinned(10)),
    ];
    let accepted_by = ["b-last", "c-20", "d-10", "f-10"].map(str::to_owned).into();
    let request = |name| AllocationRequest {
        accepted_by: BTreeSet::clone(&accepted_by),
        ..service(name)
    };
    let mut allocator = Allocator::new(pool_set(&pools));
    let got: Vec<String> = ["a", "b", "c", "d", "e", "f"]
        .map(|n| summary(&allocator.step(&request(n))))
        .into();
    assert_eq!(
        got,
        [
            "10.0.3.0",
            "10.0.5.0",
            "10.0.2.0",
            "10.0.1.0",
            "10.0.0.0",
            "(PoolExhausted)"
        ]
    );
    assert_eq!(allocate_one(&pools, &service("s")), "10.0.0.0");
}

#[test]
fn allocates_one_address_for_each_family_of_the_cluster_ips() {
    use FamilyPolicy::{PreferDualStack, RequireDualStack, SingleStack};
    let v4 = ("a-v4", "10.0.0.0/24", options());
    let v6 = ("b-v6", "fc00::/64", options());
    let both = ("c-both", "fc01::/64 10.1.0.0/24", options());
    let families = |list: &[Family], policy| AllocationRequest {
        cluster_families: list.to_vec(),
        family_policy: policy,
        ..service("s")
    };
    let (f4, f6) = (Family::V4, Family::V6);
    let all = [v4.clone(), v6.clone(), both.clone()];
    let split = [v4.clone(), v6.clone()];
    type Row<'a> = (
        &'a [(&'a str, &'a str, PoolOptions)],
        &'a [Family],
        FamilyPolicy,
        &'a str,
    );
    let table: &[Row<'_>] = &[
        (&all, &[], SingleStack, "(NoClusterIP)"),
        (&all, &[f4], SingleStack, "10.0.0.0"),
        (&all, &[f6], SingleStack, "fc00::"),
        (&all, &[f4], PreferDualStack, "10.0.0.0"),
        (&all, &[f6], PreferDualStack, "fc00::"),
        (&all, &[f4], RequireDualStack, "(NotEnoughClusterIPs)"),
        (&all, &[f4, f4], RequireDualStack, "(ClusterIPFamilies)"),
        (&all, &[f4, f6], RequireDualStack, "10.1.0.0 fc01::"),
        (&all, &[f6, f4], RequireDualStack, "10.1.0.0 fc01::"),
        (&all, &[f4, f6], PreferDualStack, "10.1.0.0 fc01::"),
        (&split, &[f4, f6], RequireDualStack, "10.0.0.0 fc00::"),
        (&split, &[f4, f6], PreferDualStack, "10.0.0.0 fc00::"),
        (
            &split[..1],
            &[f4, f6],
            RequireDualStack,
            "(NoPoolWithFamily)",
        ),
        (
            &split[..1],
            &[f6, f4],
            PreferDualStack,
            "10.0.0.0 (SecondFamilyUnavailable)",
        ),
        (
            &split[1..],
            &[f4, f6],
            PreferDualStack,
            "fc00:: (SecondFamilyUnavailable)",
        ),
        (&split[..1], &[f6], SingleStack, "(NoPoolWithFamily)"),
        (&[], &[f4], SingleStack, "(NoPools)"),
    ];
    for (pools, list, policy, expected) in table {
        let request = families(list, *policy);
        assert_eq!(
            &allocate_one(pools, &request),
            expected,
            "{list:?} {policy:?}"
        );
    }
}

#[test]
fn two_pools_serve_a_dual_stack_service_only_if_no_pool_has_both_families() {
    use FamilyPolicy::{PreferDualStack, RequireDualStack};
    let accepted = |policy| AllocationRequest {
        accepted_by: ["pinned".to_owned()].into(),
        ..dual(policy, service("s"))
    };
    let outcome = |pools: &[(&str, &str, PoolOptions)], policy| {
        let outcome = Allocator::new(pool_set(pools)).step(&accepted(policy));
        let pool = outcome.pool().unwrap_or("none").to_owned();
        format!("{} of {pool}", summary(&outcome))
    };
    let general = ("both", "10.1.0.0/24 fc01::/64", options());
    let v4 = ("a-v4", "10.0.0.0/24", options());
    let v6 = ("b-v6", "fc00::/64", options());
    let pinned = ("pinned", "10.2.0.0/24", pinned(1));
    let all = [v4.clone(), v6.clone(), general, pinned.clone()];
    assert_eq!(outcome(&all, RequireDualStack), "10.1.0.0 fc01:: of both");
    // As in MetalLB, a preference is no reason to leave the pinned pool.
    assert_eq!(
        outcome(&all, PreferDualStack),
        "10.2.0.0 fc00:: of pinned,b-v6"
    );
    let split = [v4, v6.clone(), pinned];
    for policy in [RequireDualStack, PreferDualStack] {
        assert_eq!(outcome(&split, policy), "10.2.0.0 fc00:: of pinned,b-v6");
    }
    // A frozen pool may be the one that has the missing family.
    let frozen = [v6, ("f", "10.3.0.0/24", frozen())];
    assert_eq!(outcome(&frozen, RequireDualStack), "(PoolFrozen) of none");
    let prefers = outcome(&frozen, PreferDualStack);
    assert_eq!(prefers, "fc00:: (SecondFamilyUnavailable) of b-v6");
}

#[test]
fn allocates_ten_thousand_addresses_that_cannot_be_shared() {
    let pools = pool_set(&[("p", "fc00::/64", options())]);
    let requests: Vec<AllocationRequest> = (0..10_000)
        .map(|i| AllocationRequest {
            cluster_families: vec![Family::V6],
            // With equal keys and ports, no service can join the address of another.
            ..sharing(&format!("s{i:05}"), "k", "", &["TCP/80"])
        })
        .collect();
    let outcomes = allocate_all(pools, &requests);
    let last = "fc00::270f".parse::<IpAddr>().unwrap();
    assert_eq!(outcomes[9_999].1.addresses(), [last]);
}
