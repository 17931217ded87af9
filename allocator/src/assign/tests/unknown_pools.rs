//! Frozen pools and incomplete pool sets cost no address.

use super::*;

#[test]
fn a_frozen_pool_keeps_its_services_and_allocates_nothing() {
    let pools = || {
        pool_set(&[
            (
                "frozen",
                "10.0.0.0/24 fc00::/64",
                PoolOptions {
                    pinned: Some(0),
                    ..frozen()
                },
            ),
            ("ok", "10.1.0.0/24", manual()),
        ])
    };
    let accepted = |request| AllocationRequest {
        accepted_by: ["frozen".to_owned()].into(),
        ..request
    };
    let mut to_ok = with_addresses("to-ok", "10.0.0.3", "frozen");
    to_ok.requested_pool = Some("ok".to_owned());
    let mut to_frozen = with_addresses("to-frozen", "10.1.0.3", "ok");
    to_frozen.requested_pool = Some("frozen".to_owned());
    let mut other = with_addresses("other", "10.0.0.4", "frozen");
    other.requested = Ok(ips("10.0.0.5"));
    let two = |policy, name| dual(policy, with_addresses(name, "10.0.0.6", "frozen"));
    let requests = [
        with_addresses("stays", "10.0.0.1", "frozen"),
        accepted(service("new")),
        accepted(requesting("asks", "10.0.0.9")),
        requesting_pool("named", "frozen"),
        to_ok,
        to_frozen,
        other,
        two(FamilyPolicy::PreferDualStack, "prefer"),
    ];
    let expected = [
        "10.0.0.1",
        "(PoolFrozen)",
        "(PoolFrozen)",
        "(PoolFrozen)",
        "10.1.0.0",
        "10.1.0.3 (PoolFrozen)",
        "10.0.0.4 (PoolFrozen)",
        "10.0.0.6 (PoolFrozen)",
    ];
    assert_eq!(adopt_and_allocate(pools(), &requests), expected);
    assert_eq!(
        adopt_and_allocate(pools(), &[two(FamilyPolicy::RequireDualStack, "require")]),
        ["10.0.0.6 (PoolFrozen)"]
    );
}

#[test]
fn an_incomplete_pool_set_costs_no_address_of_an_unknown_pool() {
    let mut wants_other = with_addresses("wants-other", "10.9.0.2", "unseen");
    wants_other.requested = Ok(ips("10.9.0.3"));
    let mut wants_pool = with_addresses("wants-pool", "10.0.0.2", "p");
    wants_pool.requested_pool = Some("unseen".to_owned());
    let requests = [
        with_addresses("unseen", "10.9.0.1", "unseen"),
        with_addresses("unrecorded", "10.9.0.7", ""),
        wants_other,
        wants_pool,
        service("new"),
        requesting("taken", "10.9.0.1"),
        // Its recorded pool is known and valid, so an operator removed the address from it.
        with_addresses("edited", "10.0.1.1", "p"),
    ];
    assert_eq!(
        adopt_and_allocate(
            incomplete_set(&[("p", "10.0.0.0/24", options())]),
            &requests
        ),
        [
            "10.9.0.1 (PoolUnknown)",
            "10.9.0.7 (PoolUnknown)",
            "10.9.0.2 (AddressNotInPool)",
            "10.0.0.2 (UnknownPool)",
            "10.0.0.0",
            "(AddressNotInPool)",
            "10.0.0.1 (AddressNotInPool)",
        ]
    );
    assert_eq!(
        adopt_and_allocate(incomplete_set(&[]), &requests),
        [
            "10.9.0.1 (PoolUnknown)",
            "10.9.0.7 (PoolUnknown)",
            "10.9.0.2 (NoPools)",
            "10.0.0.2 (PoolUnknown)",
            "(NoPools)",
            "(NoPools)",
            "10.0.1.1 (PoolUnknown)",
        ]
    );
}

#[test]
fn a_request_for_an_unknown_pool_costs_nothing_if_its_other_address_is_in_use() {
    let entries = ["10.0.0.0/30", "fc00::/126"].map(str::to_owned);
    let pool = Pool::parse("p", &entries, options()).unwrap();
    let mut allocator = Allocator::new(PoolSet::new([pool], false).unwrap());
    let wish = AllocationRequest {
        cluster_families: vec![Family::V4, Family::V6],
        family_policy: FamilyPolicy::RequireDualStack,
        ..requesting("s", "fc00:: 10.9.0.9")
    };
    let wish = AllocationRequest {
        current: ips("10.0.0.1"),
        current_pool: Some("p".to_owned()),
        ..wish
    };
    allocator.adopt_one(&wish);
    assert_eq!(
        summary(&allocator.step(&wish)),
        "10.0.0.1 (AddressNotInPool)"
    );
    let other = AllocationRequest {
        cluster_families: vec![Family::V6],
        ..requesting("other", "fc00::")
    };
    assert_eq!(summary(&allocator.step(&other)), "fc00::");
    assert_eq!(summary(&allocator.step(&wish)), "10.0.0.1 (AddressInUse)");
}

#[test]
fn an_address_kept_from_an_unknown_pool_keeps_its_recorded_pool() {
    let mut allocator = Allocator::new(incomplete_set(&[]));
    allocator.adopt_one(&with_addresses("a", "10.0.0.9", "p"));
    assert_eq!(
        summary(&allocator.step(&service("a"))),
        "10.0.0.9 (PoolUnknown)"
    );
    // Pool p is now known and does not contain the address: an operator removed it.
    allocator.set_pools(incomplete_set(&[("p", "10.0.0.0/29", options())]));
    assert_eq!(
        summary(&allocator.step(&service("a"))),
        "10.0.0.0 (AddressNotInPool)"
    );
}

#[test]
fn services_of_a_refused_pool_keep_addresses_that_are_now_in_another_pool() {
    let overlapping = |refused: bool| {
        let mut pools = incomplete_set(&[("old", "10.0.0.0/24", pinned(0))]);
        if refused {
            pools.refuse("young");
        }
        pools
    };
    let requests = [
        // Pool old does not accept them.
        with_addresses("of-young", "10.0.0.1", "young"),
        with_addresses("of-old", "10.0.0.2", "old"),
    ];
    let kept = "10.0.0.1 (PoolUnknown)";
    let decided = adopt_and_allocate(overlapping(true), &requests);
    assert_eq!(decided[0], kept);
    assert!(decided[1].starts_with('('), "{decided:?}");
    let decided = adopt_and_allocate(overlapping(false), &requests);
    assert!(decided[0].starts_with('('), "the pool is gone: {decided:?}");

    // It stays recorded for its pool.
    let mut allocator = Allocator::new(overlapping(true));
    allocator.adopt_one(&requests[0]);
    for _ in 0..2 {
        let outcome = allocator.step(&service("of-young"));
        assert_eq!((summary(&outcome).as_str(), outcome.pool()), (kept, None));
    }
}

#[test]
fn the_services_of_a_pool_are_unaffected_by_a_refused_one_of_its_name() {
    let mut pools = incomplete_set(&[("same", "10.0.0.0/24", options())]);
    pools.refuse("same");
    let requests = [
        with_addresses("of-used", "10.0.0.1", "same"),
        with_addresses("of-refused", "10.9.0.1", "same"),
        service("new"),
    ];
    assert_eq!(
        adopt_and_allocate(pools, &requests),
        ["10.0.0.1", "10.9.0.1 (PoolUnknown)", "10.0.0.0"]
    );
}
