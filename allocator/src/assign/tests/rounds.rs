//! The order of decisions in a round, and which services a change affects.

use super::*;

#[test]
fn requests_for_specific_addresses_are_decided_before_others() {
    let requests = [
        service("a"),
        requesting("b", "10.0.0.0"),
        with_addresses("c", "10.0.0.1", "p"),
    ];
    let outcomes = allocate_all(pool_set(&[("p", "10.0.0.0/24", options())]), &requests);
    let summary: Vec<_> = outcomes
        .iter()
        .map(|(k, o)| format!("{} {}", k.name, summary(o)))
        .collect();
    assert_eq!(summary, ["c 10.0.0.1", "b 10.0.0.0", "a 10.0.0.2"]);
}

#[test]
fn services_that_request_an_address_are_decided_before_services_that_must_move() {
    let mut asks = with_addresses("z", "10.0.0.1", "p");
    asks.requested = Ok(ips("10.0.0.0"));
    let requests = [with_addresses("a", "10.9.0.0", "gone"), asks];
    let outcomes = allocate_all(pool_set(&[("p", "10.0.0.0/24", options())]), &requests);
    let summary: Vec<_> = outcomes
        .iter()
        .map(|(k, o)| format!("{} {}", k.name, summary(o)))
        .collect();
    assert_eq!(summary, ["z 10.0.0.0", "a 10.0.0.1 (AddressNotInPool)"]);
}

#[test]
fn waiting_services_get_addresses_that_others_release() {
    // They request each other's addresses. The first must wait until the second has moved.
    let mut a = with_addresses("a", "10.0.0.1", "p");
    a.requested = Ok(ips("10.0.0.2"));
    let mut b = with_addresses("b", "10.0.0.2", "p");
    b.requested = Ok(ips("10.0.0.1"));
    let outcomes = allocate_all(pool_set(&[("p", "10.0.0.0/24", options())]), &[a, b]);
    let summary: Vec<_> = outcomes.iter().map(|(_, o)| summary(o)).collect();
    assert_eq!(summary, ["10.0.0.2", "10.0.0.1"]);
}

#[test]
fn a_service_that_lost_an_address_gets_its_missing_family_when_it_is_released() {
    // The oldest loses 10.9.0.1, which is in no pool. Its pool is full until another service moves.
    let pools = pool_set(&[
        ("p", "10.0.0.0/32 fc00::/127", options()),
        ("q", "10.1.0.0/32", manual()),
    ]);
    let current = AllocationRequest {
        created: 1,
        ..with_addresses("old", "fc00:: 10.9.0.1", "p")
    };
    let old = dual(FamilyPolicy::PreferDualStack, current);
    let moving = AllocationRequest {
        created: 2,
        requested_pool: Some("q".to_owned()),
        ..with_addresses("moving", "10.0.0.0", "p")
    };
    let outcomes = allocate_all(pools, &[old, moving]);
    let addresses: Vec<_> = outcomes.iter().map(|(_, o)| o.addresses()).collect();
    assert_eq!(addresses, [ips("10.0.0.0 fc00::"), ips("10.1.0.0")]);
}

#[test]
fn a_round_ends_when_no_waiting_service_gains_an_address() {
    // b keeps its address and waits for one of the other family, until c releases it.
    let both = |request| dual(FamilyPolicy::RequireDualStack, request);
    let headless = AllocationRequest {
        cluster_families: Vec::new(),
        ..with_addresses("c", "fc00::", "q")
    };
    let requests = [
        requesting_pool("a", "p"),
        both(with_addresses("b", "10.0.0.0", "p")),
        headless,
    ];
    let pools = [
        ("p", "10.0.0.0/32", options()),
        ("q", "fc00::/128", options()),
    ];
    let outcomes = allocate_all(incomplete_set(&pools), &requests);
    let summary: Vec<_> = outcomes
        .iter()
        .map(|(k, o)| format!("{} {}", k.name, summary(o)))
        .collect();
    assert_eq!(
        summary,
        ["b 10.0.0.0 fc00::", "c (NoClusterIP)", "a (PoolExhausted)"]
    );
}

#[test]
fn the_service_that_changed_loses_the_shared_address_if_the_change_was_seen() {
    let born = |created, request: AllocationRequest| AllocationRequest { created, ..request };
    let mut old = born(1, sharing("old", "k", "", &["TCP/80"]));
    let mut young = born(2, sharing("young", "k", "", &["TCP/81"]));
    let pools = || pool_set(&[("p", "10.0.0.0/24", options())]);
    let mut allocator = Allocator::new(pools());
    let fold = |allocator: &mut Allocator, requests: &[AllocationRequest]| -> Vec<String> {
        let outcomes = allocator.allocate_requests(requests);
        outcomes
            .iter()
            .map(|(k, o)| format!("{} {}", k.name, summary(o)))
            .collect()
    };
    let first = fold(&mut allocator, &[old.clone(), young.clone()]);
    assert_eq!(first, ["old 10.0.0.0", "young 10.0.0.0"]);
    old = AllocationRequest {
        sharing_key: String::new(),
        current: ips("10.0.0.0"),
        ..old
    };
    young.current = ips("10.0.0.0");
    let requests = [old, young];
    assert_eq!(
        fold(&mut allocator, &requests),
        ["old 10.0.0.1 (SharingChanged)", "young 10.0.0.0"]
    );
    assert_eq!(
        fold(&mut Allocator::new(pools()), &requests),
        ["old 10.0.0.0", "young 10.0.0.1 (AddressConflict)"],
        "a new leader does not know which service changed"
    );
    assert_eq!(fold(&mut allocator, &requests[1..]), ["young 10.0.0.0"]);
    assert_eq!(
        allocator.addresses(&key("old")),
        ips(""),
        "services that are not listed are released"
    );
    // Another client changed the status: the addresses from the API server take precedence.
    let written = AllocationRequest {
        current: ips("10.0.0.9"),
        ..requests[1].clone()
    };
    assert_eq!(fold(&mut allocator, &[written]), ["young 10.0.0.9"]);
}

#[test]
fn a_waiting_service_gets_an_address_that_another_one_shares_now() {
    let mut allocator = Allocator::new(pool_set(&[("p", "10.0.0.0/32", options())]));
    let requests = [
        sharing("a", "j", "", &["TCP/80"]),
        sharing("b", "k", "", &["TCP/81"]),
    ];
    let summaries = |outcomes: Vec<(ServiceKey, Outcome)>| {
        let mut summaries: Vec<String> = outcomes
            .iter()
            .map(|(key, outcome)| format!("{} {}", key.name, summary(outcome)))
            .collect();
        summaries.sort();
        summaries
    };
    let first = allocator.allocate_requests(&requests);
    assert_eq!(summaries(first), ["a 10.0.0.0", "b (PoolExhausted)"]);
    let changed = AllocationRequest {
        current: ips("10.0.0.0"),
        ..sharing("a", "k", "", &["TCP/80"])
    };
    let outcomes = allocator.update(shared(&[changed]), &[]);
    assert_eq!(summaries(outcomes), ["a 10.0.0.0", "b 10.0.0.0"]);
}
