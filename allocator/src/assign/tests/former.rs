//! A service that is created again gets its former addresses.

use super::*;

/// An allocator with one address for each service, in this order.
fn with_services(pools: PoolSet, names: &[&str]) -> Allocator {
    let mut allocator = Allocator::new(pools);
    let requests: Vec<AllocationRequest> = names.iter().map(|name| service(name)).collect();
    allocator.allocate_requests(&requests);
    allocator
}

fn create(allocator: &mut Allocator, request: AllocationRequest) -> String {
    let outcomes = allocator.update(vec![Arc::new(request)], &[]);
    let [(_, outcome)] = outcomes.as_slice() else {
        panic!("{outcomes:?}");
    };
    if let Outcome::Assigned { new, .. } = outcome {
        assert!(*new, "{outcome:?}");
    }
    summary(outcome)
}

fn delete(allocator: &mut Allocator, names: &[&str]) {
    let names: Vec<ServiceKey> = names.iter().map(|name| key(name)).collect();
    allocator.update(Vec::new(), &names);
}

fn four() -> PoolSet {
    pool_set(&[("p", "10.0.0.0/30", options())])
}

#[test]
fn a_service_that_is_deleted_and_created_again_gets_its_address_back() {
    let mut allocator = with_services(four(), &["a", "b", "c"]);
    delete(&mut allocator, &["a", "b"]);
    // Another service gets an address that no service had.
    assert_eq!(create(&mut allocator, service("new")), "10.0.0.3");
    assert_eq!(create(&mut allocator, service("b")), "10.0.0.1");
    // It does so in one step too, if only the new object is seen.
    let again = AllocationRequest {
        uid: "another".to_owned(),
        ..service("b")
    };
    assert_eq!(create(&mut allocator, again), "10.0.0.1");
    // An address that a service has again is no longer a former one.
    assert!(allocator.ledger.former.of(&key("b")).is_empty());
    // Another service gets a former address when the pool has no other one.
    assert_eq!(create(&mut allocator, service("newer")), "10.0.0.0");
    assert_eq!(create(&mut allocator, service("a")), "(PoolExhausted)");
    delete(&mut allocator, &["newer"]);
    assert_eq!(allocator.addresses(&key("a")), ips("10.0.0.0"));
}

#[test]
fn a_service_that_waits_gets_an_address_before_the_service_that_had_it_returns() {
    let mut allocator = with_services(four(), &["a", "b", "c", "d"]);
    assert_eq!(create(&mut allocator, service("waits")), "(PoolExhausted)");
    delete(&mut allocator, &["a"]);
    assert_eq!(allocator.addresses(&key("waits")), ips("10.0.0.0"));
    assert_eq!(create(&mut allocator, service("a")), "(PoolExhausted)");
}

#[test]
fn a_cleared_status_gets_the_same_address_again() {
    let mut allocator = with_services(four(), &["a", "b"]);
    delete(&mut allocator, &["a"]);
    // The free 10.0.0.0 comes first in the pool.
    assert_eq!(create(&mut allocator, service("b")), "10.0.0.1");
}

#[test]
fn a_former_address_is_used_only_if_the_service_could_get_it_now() {
    let pools = || {
        [
            ("a", "10.0.0.0/30", options()),
            ("m", "10.1.0.0/30", manual()),
        ]
    };
    let from_manual = || {
        let mut allocator = Allocator::new(pool_set(&pools()));
        allocator.allocate_requests(&[requesting_pool("s", "m")]);
        delete(&mut allocator, &["s"]);
        allocator
    };
    assert_eq!(
        create(&mut from_manual(), requesting_pool("s", "m")),
        "10.1.0.0"
    );
    // It no longer requests the pool, or requests an address.
    assert_eq!(create(&mut from_manual(), service("s")), "10.0.0.0");
    assert_eq!(
        create(&mut from_manual(), requesting("s", "10.1.0.3")),
        "10.1.0.3"
    );
    // The pool changed.
    for (pool, expected) in [
        (("a", "10.0.0.2/31", options()), "10.0.0.2"),
        (("a", "10.0.0.0/30", frozen()), "(PoolFrozen)"),
        (("a", "10.0.0.0/30", pinned(1)), "(NoEligiblePool)"),
        (("a", "10.0.0.0/30", avoiding()), "10.0.0.1"),
    ] {
        let mut allocator = with_services(four(), &["s"]);
        delete(&mut allocator, &["s"]);
        allocator.set_pools(pool_set(&[pool]));
        assert_eq!(create(&mut allocator, service("s")), expected);
    }
    // The address is another service's by reservation, or excluded.
    let pool = || Pool::parse("p", &["10.0.0.0/30".to_owned()], options()).unwrap();
    let first = || "10.0.0.0/32".to_owned();
    let reserved = pool().reserving(key("other"), &[first()]).unwrap();
    let own = ["10.0.0.2".to_owned()];
    let other_reserved = pool().reserving(key("s"), &own).unwrap();
    let node = crate::Exclusion::new(first().parse().unwrap(), "an address of Node a");
    for (pool, expected) in [
        (reserved, "10.0.0.1"),
        (other_reserved, "10.0.0.2"),
        (pool().excluding(&[node]), "10.0.0.1"),
    ] {
        let mut allocator = with_services(four(), &["s"]);
        delete(&mut allocator, &["s"]);
        allocator.set_pools(PoolSet::new([pool], true).unwrap());
        assert_eq!(create(&mut allocator, service("s")), expected);
    }
}

#[test]
fn both_former_addresses_of_a_dual_stack_service_are_restored_if_they_are_free() {
    use FamilyPolicy::{PreferDualStack, RequireDualStack};
    let pools = || pool_set(&[("p", "10.0.0.0/30 fc00::/126", options())]);
    for policy in [PreferDualStack, RequireDualStack] {
        let deleted = || {
            let mut allocator = with_services(pools(), &["first"]);
            assert_eq!(
                create(&mut allocator, dual(policy, service("s"))),
                "10.0.0.1 fc00::"
            );
            delete(&mut allocator, &["first", "s"]);
            allocator
        };
        let mut allocator = deleted();
        assert_eq!(
            create(&mut allocator, dual(policy, service("s"))),
            "10.0.0.1 fc00::"
        );
        // With one family it gets the address of that family.
        assert_eq!(create(&mut deleted(), service("s")), "10.0.0.1");
        // One of them is in use.
        let mut allocator = deleted();
        assert_eq!(
            create(&mut allocator, requesting("taker", "10.0.0.1")),
            "10.0.0.1"
        );
        let restored = create(&mut allocator, dual(policy, service("s")));
        assert_eq!(restored, "10.0.0.2 fc00::");
    }
}

#[test]
fn an_allocator_that_is_reset_knows_former_addresses_and_those_that_it_was_shown() {
    let mut allocator = with_services(four(), &["a", "b", "c"]);
    delete(&mut allocator, &["b"]);
    allocator.remember(&key("c"), &ips("10.0.0.2"));
    allocator.reset();
    assert!(allocator.addresses(&key("a")).is_empty());
    allocator.set_pools(four());
    // A service that another process gave an address meanwhile.
    let mut taker = service("taker");
    taker.current = ips("10.0.0.2");
    taker.current_pool = Some("p".to_owned());
    allocator.allocate_requests(&[taker]);
    assert_eq!(create(&mut allocator, service("new")), "10.0.0.0");
    assert_eq!(create(&mut allocator, service("c")), "10.0.0.3");
    assert_eq!(create(&mut allocator, service("b")), "10.0.0.1");
}
