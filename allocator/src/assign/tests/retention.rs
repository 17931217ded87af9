//! When a service keeps, gains or loses an address.

use super::*;

#[test]
fn services_keep_their_addresses_while_pools_and_requests_allow_it() {
    let pools = || {
        pool_set(&[
            ("p", "10.0.0.0/24 fc00::/64", options()),
            ("q", "10.1.0.0/31", manual()),
        ])
    };
    let turned = AllocationRequest {
        requested: Ok(ips("fc00::7 10.0.0.7")),
        ..dual(
            FamilyPolicy::RequireDualStack,
            with_addresses("turned", "10.0.0.7 fc00::7", "p"),
        )
    };
    let requests = [
        service("waits"),
        with_addresses("a", "10.0.0.0", "p"),
        with_addresses("manual", "10.1.0.1", "q"),
        turned,
    ];
    let expected = ["10.0.0.1", "10.0.0.0", "10.1.0.1", "10.0.0.7 fc00::7"];
    assert_eq!(adopt_and_allocate(pools(), &requests), expected);
    let outcome = Allocator::new(pools()).step(&with_addresses("a", "10.0.0.9", "p"));
    assert!(
        matches!(outcome, Outcome::Assigned { new: true, .. }),
        "addresses that were not adopted are not kept: {outcome:?}"
    );
}

#[test]
fn services_get_other_addresses_if_their_pools_or_requests_no_longer_match() {
    let pools = [
        ("p", "10.0.0.0/24", options()),
        ("q", "10.1.0.0/24", options()),
        ("picky", "10.2.0.0/24", pinned(0)),
        ("z-avoids", "10.3.0.0/24", avoiding()),
    ];
    let moved = |request: AllocationRequest, current: &str, from: &str| {
        let request = AllocationRequest {
            current: ips(current),
            current_pool: Some(from.to_owned()),
            ..request
        };
        adopt_and_allocate(pool_set(&pools), &[request]).remove(0)
    };
    let v6 = AllocationRequest {
        cluster_families: vec![Family::V6],
        ..service("s")
    };
    assert_eq!(
        moved(requesting("s", "10.0.0.8"), "10.0.0.7", "p"),
        "10.0.0.8"
    );
    assert_eq!(
        moved(requesting("s", "10.9.0.8"), "10.0.0.7", "p"),
        "(AddressNotInPool)"
    );
    assert_eq!(
        moved(requesting_pool("s", "q"), "10.0.0.7", "p"),
        "10.1.0.0"
    );
    assert_eq!(
        moved(requesting_pool("s", "p"), "10.0.0.7", "p"),
        "10.0.0.7"
    );
    assert_eq!(
        moved(requesting_pool("s", "nothere"), "10.0.0.7", "p"),
        "(UnknownPool)"
    );
    assert_eq!(
        moved(service("s"), "10.2.0.7", "picky"),
        "10.0.0.0 (PoolDoesNotAcceptService)"
    );
    assert_eq!(
        moved(service("s"), "10.3.0.0", "z-avoids"),
        "10.0.0.0 (BuggyAddress)"
    );
    assert_eq!(
        moved(service("s"), "10.9.0.7", "gone"),
        "10.0.0.0 (AddressNotInPool)"
    );
    assert_eq!(moved(service("s"), "10.1.0.7", "renamed"), "10.1.0.7");
    assert_eq!(moved(v6, "10.0.0.7", "p"), "(NoPoolWithFamily)");
    assert_eq!(
        moved(service("s"), "10.0.0.7 10.0.0.8 fc00::1", "p"),
        "10.0.0.7"
    );
}

#[test]
fn addresses_follow_changes_of_the_pools() {
    let mut allocator = Allocator::new(pool_set(&[]));
    assert_eq!(summary(&allocator.step(&service("s"))), "(NoPools)");
    allocator.set_pools(pool_set(&[("p", "10.0.0.0/24", options())]));
    assert_eq!(summary(&allocator.step(&service("s"))), "10.0.0.0");
    allocator.set_pools(pool_set(&[("p", "10.0.0.8/29", options())]));
    assert_eq!(
        summary(&allocator.step(&service("s"))),
        "10.0.0.8 (AddressNotInPool)"
    );
    assert_eq!(summary(&allocator.step(&service("s"))), "10.0.0.8");
    allocator.set_pools(pool_set(&[]));
    assert_eq!(summary(&allocator.step(&service("s"))), "(NoPools)");
    assert_eq!(allocator.addresses(&key("s")), ips(""));
}

#[test]
fn an_invalid_request_costs_no_address() {
    let mistake = Err(Reason::RequestedTwice);
    let holder = AllocationRequest {
        requested: mistake.clone(),
        ..with_addresses("a", "10.0.0.7", "p")
    };
    let waiter = AllocationRequest {
        requested: mistake.clone(),
        ..service("b")
    };
    let outside = AllocationRequest {
        requested: mistake,
        ..with_addresses("c", "10.9.0.7", "p")
    };
    assert_eq!(
        adopt_and_allocate(
            pool_set(&[("p", "10.0.0.0/24", options())]),
            &[holder, waiter, outside]
        ),
        [
            "10.0.0.7 (RequestedTwice)",
            "(RequestedTwice)",
            "(RequestedTwice)"
        ]
    );
}

#[test]
fn the_reason_for_a_replaced_address_says_how_to_restore_it() {
    let pools = pool_set(&[("p", "10.0.0.0/24", options())]);
    let mut allocator = Allocator::new(pools);
    allocator.adopt_one(&with_addresses("s", "10.9.0.7", "gone"));
    let outcome = allocator.step(&service("s"));
    assert_eq!(summary(&outcome), "10.0.0.0 (AddressNotInPool)");
    let message = outcome.message().expect("a reason");
    assert_eq!(
        message,
        "10.9.0.7, the previous address of this service, is no longer in any pool and was \
         released: to restore it, add it to a pool and request it with the annotation \
         metallb.io/loadBalancerIPs"
    );
    // A request for such an address has another remedy.
    let message = allocator.step(&requesting("other", "10.9.0.8")).message();
    let message = message.expect("a reason");
    assert!(
        message.contains("is not in any pool: add it to a pool"),
        "{message}"
    );
}

#[test]
fn a_refused_service_reports_why_it_lost_its_address_and_why_it_gets_no_other() {
    let mut allocator = Allocator::new(pool_set(&[("p", "10.0.0.0/32", options())]));
    let old = sharing("old", "k", "", &["TCP/80"]);
    let young = sharing("young", "k", "", &["TCP/81"]);
    let first = allocator.allocate_requests(&[old, young.clone()]);
    assert!(
        first
            .iter()
            .all(|(_, outcome)| summary(outcome) == "10.0.0.0")
    );
    let both = |outcome: &Outcome| {
        let lost = outcome.lost().map_or("", Reason::code);
        format!("{} after {lost}", summary(outcome))
    };
    // First its sharing key changes, then its externalTrafficPolicy.
    for changed in [
        sharing("young", "other", "", &["TCP/81"]),
        sharing("young", "k", "Local", &["TCP/81"]),
    ] {
        let changed = AllocationRequest {
            current: ips("10.0.0.0"),
            ..changed
        };
        allocator.adopt_one(&AllocationRequest {
            current: ips("10.0.0.0"),
            ..young.clone()
        });
        let outcomes = allocator.update(shared(std::slice::from_ref(&changed)), &[]);
        let [(_, outcome)] = outcomes.as_slice() else {
            panic!("{outcomes:?}");
        };
        assert_eq!(both(outcome), "(PoolExhausted) after SharingChanged");
        let message = outcome.message().unwrap();
        assert!(
            message.contains("no IPv4 address is free in p"),
            "{message}"
        );
        assert!(
            message.contains("can no longer share 10.0.0.0 with ns/old"),
            "{message}"
        );
        // The reasons remain after the status was cleared and the service is decided again.
        let cleared = AllocationRequest {
            current: Vec::new(),
            ..changed
        };
        let outcomes = allocator.update(shared(&[cleared]), &[]);
        assert_eq!(both(&outcomes[0].1), "(PoolExhausted) after SharingChanged");
    }
    // A service that has an address again reports no loss.
    let outcomes = allocator.update(Vec::new(), &[key("old")]);
    assert_eq!(both(&outcomes[0].1), "10.0.0.0 after ");
    // A service that loses a conflict and gets no other address also reports both.
    let older = AllocationRequest {
        created: -1,
        current: ips("10.0.0.0"),
        ..service("older")
    };
    let outcomes = allocator.update(shared(&[older]), &[]);
    let outcomes: Vec<_> = outcomes.iter().map(|(_, outcome)| both(outcome)).collect();
    assert_eq!(
        outcomes,
        ["10.0.0.0 after ", "(PoolExhausted) after AddressConflict"]
    );
}

#[test]
fn adds_the_second_family_and_keeps_the_first_address() {
    let request = dual(FamilyPolicy::PreferDualStack, service("s"));
    let mut allocator = Allocator::new(pool_set(&[("p", "10.0.0.5/32", options())]));
    assert_eq!(
        summary(&allocator.step(&request)),
        "10.0.0.5 (SecondFamilyUnavailable)"
    );
    assert_eq!(
        summary(&allocator.step(&request)),
        "10.0.0.5 (SecondFamilyUnavailable)"
    );
    allocator.set_pools(pool_set(&[
        ("o", "10.1.0.0/24 fc01::/64", options()),
        ("p", "10.0.0.0/24 fc00::/64", options()),
    ]));
    let added = allocator.step(&request);
    assert_eq!(summary(&added), "10.0.0.5 fc00::");
    assert!(matches!(added, Outcome::Assigned { new: true, .. }));
    assert!(matches!(
        allocator.step(&request),
        Outcome::Assigned { new: false, .. }
    ));
    // With one cluster IP, MetalLB would release and allocate the address again and again.
    let single = AllocationRequest {
        cluster_families: vec![Family::V4],
        ..request
    };
    assert_eq!(summary(&allocator.step(&single)), "10.0.0.5");
    assert_eq!(summary(&allocator.step(&single)), "10.0.0.5");
}

#[test]
fn a_pool_that_loses_one_family_costs_only_the_address_of_that_family() {
    // Its pool no longer has IPv6. Another pool has both families.
    let current = with_addresses("a", "10.0.0.7 fc00::7", "p");
    let requests = [dual(FamilyPolicy::PreferDualStack, current)];
    let pools = pool_set(&[
        ("p", "10.0.0.0/24", options()),
        ("q", "10.1.0.0/24 fc01::/120", options()),
    ]);
    let mut allocator = Allocator::new(pools);
    let outcomes = allocator.allocate_requests(&requests);
    assert_eq!(
        summary(&outcomes[0].1),
        "10.0.0.7 fc01:: (AddressNotInPool)"
    );
    assert_eq!(outcomes[0].1.pool(), Some("p,q"));
}

#[test]
fn a_pair_from_two_pools_is_kept_and_each_address_is_checked_against_its_own_pool() {
    let pair = |policy, request| {
        let request = AllocationRequest {
            current: ips("10.0.0.7 fc00::7"),
            current_pool: Some("v4,v6".to_owned()),
            ..request
        };
        dual(policy, request)
    };
    let both = ("both", "10.9.0.0/24 fc09::/64", options());
    let v4 = ("v4", "10.0.0.0/24", options());
    let v6 = ("v6", "fc00::/64", options());
    let outcome = |pools: PoolSet, request| {
        let outcomes = allocate_all(pools, &[request]);
        let outcome = &outcomes[0].1;
        format!(
            "{} of {}",
            summary(outcome),
            outcome.pool().unwrap_or("none")
        )
    };
    for policy in [
        FamilyPolicy::PreferDualStack,
        FamilyPolicy::RequireDualStack,
    ] {
        let request = || pair(policy, service("s"));
        let all = pool_set(&[both.clone(), v4.clone(), v6.clone()]);
        assert_eq!(outcome(all, request()), "10.0.0.7 fc00::7 of v4,v6");
        // One of the pools is gone: only its address is replaced.
        let without = pool_set(&[both.clone(), v4.clone()]);
        assert_eq!(
            outcome(without, request()),
            "10.0.0.7 fc09:: (AddressNotInPool) of v4,both"
        );
        // Nothing proves that the address was taken away while its pool is unknown.
        let unknown = incomplete_set(std::slice::from_ref(&v4));
        assert_eq!(
            outcome(unknown, request()),
            "10.0.0.7 fc00::7 (PoolUnknown) of none"
        );
    }
    // A requested pool has to contain both. PreferDualStack is satisfied with one.
    let pools = || pool_set(&[v4.clone(), v6.clone()]);
    let prefer = pair(FamilyPolicy::PreferDualStack, requesting_pool("s", "v6"));
    assert_eq!(
        outcome(pools(), prefer),
        "fc00::7 (SecondFamilyUnavailable) of v6"
    );
    let require = pair(FamilyPolicy::RequireDualStack, requesting_pool("s", "v6"));
    assert_eq!(outcome(pools(), require), "(NoPoolWithFamily) of none");
}

#[test]
fn a_service_that_becomes_dual_stack_keeps_its_address_and_gets_the_other_family_from_any_pool() {
    let pools = || {
        pool_set(&[
            ("a", "10.0.0.0/24 fc00::/64", options()),
            ("m", "fc01::/64", manual()),
            ("z", "10.1.0.0/24", manual()),
        ])
    };
    for policy in [
        FamilyPolicy::PreferDualStack,
        FamilyPolicy::RequireDualStack,
    ] {
        let request = dual(policy, with_addresses("s", "10.1.0.7", "z"));
        let outcomes = allocate_all(pools(), &[request]);
        assert_eq!(summary(&outcomes[0].1), "10.1.0.7 fc00::");
        assert_eq!(outcomes[0].1.pool(), Some("z,a"));
    }
}

#[test]
fn require_dual_stack_that_requests_one_address_keeps_its_address() {
    let asks = |current: &str| AllocationRequest {
        requested: Ok(ips("10.0.0.7")),
        ..with_addresses("a", current, "p")
    };
    let require = |request| dual(FamilyPolicy::RequireDualStack, request);
    let pools = || pool_set(&[("p", "10.0.0.0/24 fc00::/120", options())]);
    assert_eq!(
        adopt_and_allocate(pools(), &[require(asks("10.0.0.7"))]),
        ["10.0.0.7 (FamilyMismatch)"]
    );
    // A service without an address gets none for the same request.
    assert_eq!(
        adopt_and_allocate(pools(), &[require(asks(""))]),
        ["(FamilyMismatch)"]
    );
}
