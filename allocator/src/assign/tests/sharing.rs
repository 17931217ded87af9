//! Which services may share an address.

use super::*;

#[test]
fn services_share_with_equal_keys_equal_backends_and_distinct_ports() {
    let first = sharing("a", "k", "", &["TCP/80"]);
    let other = AllocationRequest {
        service: ServiceKey::new("other", "b"),
        ..sharing("", "k", "", &["TCP/81"])
    };
    let table = [
        (first.clone(), sharing("b", "k", "", &["TCP/81"]), Ok(())),
        (first.clone(), other, Ok(())),
        (first.clone(), sharing("b", "k", "", &["UDP/80"]), Ok(())),
        (
            first.clone(),
            sharing("b", "k", "", &["TCP/81", "TCP/80"]),
            Err("TCP/80"),
        ),
        (
            first.clone(),
            sharing("b", "j", "", &["TCP/81"]),
            Err("allow-shared-ip"),
        ),
        (
            first.clone(),
            sharing("b", "", "", &["TCP/81"]),
            Err("allow-shared-ip"),
        ),
        (
            first,
            sharing("b", "k", "local:", &["TCP/81"]),
            Err("externalTrafficPolicy"),
        ),
        (
            sharing("a", "", "", &["TCP/80"]),
            sharing("b", "", "", &["TCP/81"]),
            Err("allow-shared-ip"),
        ),
        (
            sharing("a", "k", "local:app=x", &["TCP/80"]),
            sharing("b", "k", "local:app=x", &["TCP/81"]),
            Ok(()),
        ),
        (
            sharing("a", "k", "local:app=x", &["TCP/80"]),
            sharing("b", "k", "local:app=y", &["TCP/81"]),
            Err("externalTrafficPolicy"),
        ),
    ];
    for (one, two, expected) in table {
        let mut allocator = Allocator::new(pool_set(&[("p", "10.0.0.0/24", options())]));
        assert_eq!(summary(&allocator.step(&one)), "10.0.0.0");
        let two = AllocationRequest {
            requested: Ok(ips("10.0.0.0")),
            ..two
        };
        let outcome = allocator.step(&two);
        match expected {
            Ok(()) => assert_eq!(summary(&outcome), "10.0.0.0", "{two:?}"),
            Err(text) => {
                assert_eq!(summary(&outcome), "(AddressInUse)", "{two:?}");
                let message = outcome.reason().unwrap().to_string();
                assert!(
                    message.contains("ns/a") && message.contains(text),
                    "{message}"
                );
            }
        }
    }
}

#[test]
fn services_with_different_backends_share_if_both_accept_any_backend() {
    let sharer = |name, created, backend, port, any_backend| AllocationRequest {
        created,
        any_backend,
        current: ips("10.0.0.0"),
        current_pool: Some("p".to_owned()),
        ..sharing(name, "k", backend, &[port])
    };
    let pool = || pool_set(&[("p", "10.0.0.0/24", options())]);
    let outcome = |old: AllocationRequest, young: AllocationRequest| {
        let outcomes = allocate_all(pool(), &[old, young]);
        let found = outcomes.iter().find(|(key, _)| &*key.name == "young");
        found.unwrap().1.clone()
    };
    for (any_old, any_young) in [(false, false), (true, false), (false, true), (true, true)] {
        let old = || sharer("old", 1, "web", "TCP/80", any_old);
        // An edit of one of two that have the same Pods moves neither.
        let same = outcome(old(), sharer("young", 2, "web", "TCP/81", any_young));
        assert_eq!(summary(&same), "10.0.0.0", "{any_old} {any_young}");
        let other = outcome(old(), sharer("young", 2, "db", "TCP/81", any_young));
        if any_old && any_young {
            assert_eq!(summary(&other), "10.0.0.0");
        } else {
            assert_eq!(summary(&other), "10.0.0.1 (AddressConflict)");
            let message = other.message().unwrap();
            let remedy = "ferrolb.io/allow-shared-local: \"true\" on both";
            assert!(message.contains(remedy), "{message}");
        }
    }
    // A third service must be able to share with both.
    let pair = [
        sharer("a", 1, "web", "TCP/80", true),
        sharer("b", 2, "db", "TCP/81", true),
    ];
    let third = sharer("c", 3, "web", "TCP/82", false);
    let outcomes = allocate_all(pool(), &[pair[0].clone(), pair[1].clone(), third]);
    let summary: Vec<String> = outcomes
        .iter()
        .map(|(_, outcome)| summary(outcome))
        .collect();
    assert_eq!(
        summary,
        ["10.0.0.0", "10.0.0.0", "10.0.0.1 (AddressConflict)"]
    );
}

#[test]
fn local_without_a_selector_does_not_share_with_cluster() {
    let requests = [
        sharing("a", "k", "", &["TCP/80"]),
        // The daemon's backend key for Local with an empty selector.
        sharing("b", "k", "Local ", &["TCP/81"]),
    ];
    let outcomes = allocate_all(pool_set(&[("p", "10.0.0.0/24", options())]), &requests);
    let summary: Vec<_> = outcomes.iter().map(|(_, o)| summary(o)).collect();
    assert_eq!(summary, ["10.0.0.0", "10.0.0.1"]);
}

#[test]
fn of_two_sharers_with_different_pods_the_younger_gets_another_address() {
    let sharer = |name, created, backend, port| AllocationRequest {
        created,
        current: ips("10.0.0.0"),
        current_pool: Some("p".to_owned()),
        ..sharing(name, "k", backend, &[port])
    };
    let pool = || pool_set(&[("p", "10.0.0.0/24", options())]);
    let old = sharer("old", 1, "Local one app=web", "TCP/80");
    let young = sharer("young", 2, "Local two app=web", "TCP/81");
    let outcomes = allocate_all(pool(), &[young, old.clone()]);
    let outcome = |name: &str| {
        let found = outcomes.iter().find(|(key, _)| &*key.name == name);
        &found.unwrap().1
    };
    assert_eq!(summary(outcome("old")), "10.0.0.0");
    assert_eq!(summary(outcome("young")), "10.0.0.1 (AddressConflict)");
    let message = outcome("young").reason().unwrap().to_string();
    assert!(message.contains("ns/old"), "{message}");
    assert!(
        message.contains("same selector in one namespace"),
        "{message}"
    );
    assert!(
        message.contains("ferrolb.io/allow-shared-local"),
        "{message}"
    );

    let same = sharer("young", 2, "Local one app=web", "TCP/81");
    assert_eq!(
        adopt_and_allocate(pool(), &[old, same]),
        ["10.0.0.0", "10.0.0.0"]
    );
}

#[test]
fn a_service_that_changes_its_sharing_key_loses_a_shared_address() {
    let mut allocator = Allocator::new(pool_set(&[("p", "10.0.0.0/24", options())]));
    assert_eq!(
        summary(&allocator.step(&sharing("a", "k", "", &["TCP/80"]))),
        "10.0.0.0"
    );
    assert_eq!(
        summary(&allocator.step(&sharing("a", "j", "", &["TCP/80"]))),
        "10.0.0.0"
    );
    assert_eq!(
        summary(&allocator.step(&sharing("b", "j", "", &["TCP/81"]))),
        "10.0.0.0"
    );
    // The service that changed loses the address, although it is the older one.
    let changed = sharing("a", "", "", &["TCP/80"]);
    assert_eq!(
        summary(&allocator.step(&changed)),
        "10.0.0.1 (SharingChanged)"
    );
    assert_eq!(
        summary(&allocator.step(&sharing("b", "j", "", &["TCP/81"]))),
        "10.0.0.0"
    );
    assert_eq!(
        summary(&allocator.step(&sharing("c", "j", "", &["TCP/82"]))),
        "10.0.0.0"
    );
    let clashes = sharing("c", "j", "", &["TCP/82", "TCP/81"]);
    assert_eq!(
        summary(&allocator.step(&clashes)),
        "10.0.0.2 (SharingChanged)"
    );
}

#[test]
fn a_shared_address_is_free_after_its_last_service_is_released() {
    let mut allocator = Allocator::new(pool_set(&[("p", "10.0.0.0/30 fc00::/64", options())]));
    let share = |name, port| sharing(name, "k", "", &[port]);
    assert_eq!(summary(&allocator.step(&service("own"))), "10.0.0.0");
    assert_eq!(summary(&allocator.step(&share("a", "TCP/80"))), "10.0.0.1");
    assert_eq!(summary(&allocator.step(&share("b", "TCP/81"))), "10.0.0.1");
    assert_eq!(summary(&allocator.step(&share("c", "TCP/81"))), "10.0.0.2");
    allocator.release(&key("a"));
    assert_eq!(summary(&allocator.step(&service("d"))), "10.0.0.3");
    assert_eq!(summary(&allocator.step(&service("e"))), "(PoolExhausted)");
    assert_eq!(summary(&allocator.step(&share("f", "TCP/80"))), "10.0.0.1");
    allocator.release(&key("f"));
    allocator.release(&key("b"));
    assert_eq!(summary(&allocator.step(&service("e"))), "10.0.0.1");
}

#[test]
fn a_free_address_before_a_shared_one_is_preferred() {
    let mut allocator = Allocator::new(pool_set(&[("p", "10.0.0.0/30", options())]));
    let current = AllocationRequest {
        requested: Ok(ips("10.0.0.2")),
        ..sharing("a", "k", "", &["TCP/80"])
    };
    allocator.step(&current);
    assert_eq!(
        summary(&allocator.step(&sharing("b", "k", "", &["TCP/81"]))),
        "10.0.0.0"
    );
}

#[test]
fn a_buggy_address_is_not_shared() {
    let shares = |name, port| sharing(name, "k", "", &[port]);
    let first = AllocationRequest {
        current: ips("10.0.0.0"),
        ..shares("a", "TCP/80")
    };
    assert_eq!(
        adopt_and_allocate(
            pool_set(&[("p", "10.0.0.0/24", avoiding())]),
            &[shares("b", "TCP/81"), first]
        ),
        ["10.0.0.1", "10.0.0.1 (BuggyAddress)"]
    );
}
