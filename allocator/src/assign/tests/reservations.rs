//! Addresses that a pool reserves for services.

use super::*;
use crate::pool::PoolError;

/// A pool with reservations: the service, and its entries separated by blanks.
fn reserving(entries: &str, options: PoolOptions, reservations: &[(&str, &str)]) -> Pool {
    let list = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let mut pool = Pool::parse("p", &list(entries), options).unwrap();
    for (name, addresses) in reservations {
        pool = pool.reserving(key(name), &list(addresses)).unwrap();
    }
    pool
}

fn allocator(pool: Pool) -> Allocator {
    Allocator::new(PoolSet::new([pool], true).unwrap())
}

#[test]
fn a_reserved_address_goes_to_its_service_only() {
    let pool = reserving("10.0.0.0/30", options(), &[("web", "10.0.0.1")]);
    let mut allocator = allocator(pool);
    let got: Vec<String> = ["a", "b", "web", "c", "d"]
        .map(|name| summary(&allocator.step(&service(name))))
        .into();
    let expected = [
        "10.0.0.0",
        "10.0.0.2",
        "10.0.0.1",
        "10.0.0.3",
        "(PoolExhausted)",
    ];
    assert_eq!(got, expected);
    // It stays reserved when the service is gone.
    allocator.release(&key("web"));
    assert_eq!(summary(&allocator.step(&service("d"))), "(PoolExhausted)");
    assert_eq!(summary(&allocator.step(&service("web"))), "10.0.0.1");
}

#[test]
fn a_request_for_an_address_that_is_reserved_for_another_service_is_refused() {
    let pool = reserving("10.0.0.0/30", options(), &[("web", "10.0.0.2-10.0.0.3")]);
    let mut allocator = allocator(pool);
    let outcome = allocator.step(&requesting("a", "10.0.0.3"));
    assert_eq!(
        outcome.message().as_deref(),
        Some(
            "10.0.0.3 is reserved for ns/web in pool p: request another address, or change \
             spec.reservations of the pool"
        )
    );
    assert_eq!(outcome.reason().map(Reason::code), Some("AddressReserved"));
    // Its own service may choose one of them, or another address.
    assert_eq!(
        summary(&allocator.step(&requesting("web", "10.0.0.3"))),
        "10.0.0.3"
    );
    assert_eq!(
        summary(&allocator.step(&requesting("web", "10.0.0.1"))),
        "10.0.0.1"
    );
}

#[test]
fn a_reservation_moves_no_address() {
    let pool = reserving("10.0.0.0/30", options(), &[("web", "10.0.0.1")]);
    let others = with_addresses("old", "10.0.0.1", "p");
    let own = with_addresses("web", "10.0.0.2", "p");
    let mut allocator = allocator(pool);
    let outcomes = allocator.allocate_requests(&[others, own]);
    let got: Vec<String> = outcomes
        .iter()
        .map(|(_, outcome)| summary(outcome))
        .collect();
    assert_eq!(got, ["10.0.0.1", "10.0.0.2"], "each keeps what it has");
    // A request for the address that it has changes nothing either.
    let outcome = allocator.step(&requesting("old", "10.0.0.1"));
    assert_eq!(summary(&outcome), "10.0.0.1");
}

#[test]
fn a_service_waits_for_its_reserved_address() {
    let pool = reserving("10.0.0.0/30", options(), &[("web", "10.0.0.1")]);
    let mut allocator = allocator(pool);
    allocator.adopt_one(&with_addresses("old", "10.0.0.1", "p"));
    let outcome = allocator.step(&service("web"));
    assert_eq!(
        outcome.message().as_deref(),
        Some(
            "pool p reserves IPv4 addresses for this service, but none is free: 10.0.0.1 is in use \
             by ns/old; release it, or change spec.reservations of the pool"
        )
    );
    let outcomes = allocator.update(Vec::new(), &[key("old")]);
    let got: Vec<String> = outcomes
        .iter()
        .map(|(_, outcome)| summary(outcome))
        .collect();
    assert_eq!(got, ["10.0.0.1"]);
}

#[test]
fn a_reservation_counts_in_pools_that_do_not_serve_the_service_otherwise() {
    let entries = "10.0.0.0/30";
    for options in [manual(), pinned(1)] {
        let pool = reserving(entries, options.clone(), &[("web", "10.0.0.2")]);
        let mut allocator = allocator(pool);
        assert_eq!(summary(&allocator.step(&service("web"))), "10.0.0.2");
        assert_eq!(
            summary(&allocator.step(&service("web"))),
            "10.0.0.2",
            "it is kept"
        );
        assert_eq!(summary(&allocator.step(&service("a"))), "(NoEligiblePool)");
    }
    // It admits the service to no other address of the pool.
    let pool = reserving(entries, pinned(1), &[("web", "10.0.0.2")]);
    let outcome = allocator(pool).step(&requesting("web", "10.0.0.3"));
    assert_eq!(summary(&outcome), "(PoolDoesNotAcceptService)");
    let pool = reserving(entries, frozen(), &[("web", "10.0.0.2")]);
    let outcome = allocator(pool).step(&service("web"));
    assert_eq!(summary(&outcome), "(PoolFrozen)");
}

#[test]
fn a_requested_pool_takes_precedence_over_reservations_in_other_pools() {
    let reserving = reserving("10.0.0.0/30", options(), &[("web", "10.0.0.2")]);
    let other = Pool::parse("q", &["10.1.0.0/30".to_owned()], options()).unwrap();
    let set = PoolSet::new([reserving, other], true).unwrap();
    let mut allocator = Allocator::new(set);
    assert_eq!(
        summary(&allocator.step(&requesting_pool("web", "q"))),
        "10.1.0.0"
    );
    assert_eq!(
        summary(&allocator.step(&requesting_pool("web", "p"))),
        "10.0.0.2"
    );
}

#[test]
fn the_families_of_a_reservation_follow_the_policy_of_the_service() {
    let both = "10.0.0.0/30 fc00::/126";
    let dual_in = |entries: &str, reserved: &str, policy| {
        let pool = reserving(entries, options(), &[("web", reserved)]);
        summary(&allocator(pool).step(&dual(policy, service("web"))))
    };
    let (prefer, require) = (
        FamilyPolicy::PreferDualStack,
        FamilyPolicy::RequireDualStack,
    );
    for policy in [prefer, require] {
        assert_eq!(
            dual_in(both, "10.0.0.2 fc00::2", policy),
            "10.0.0.2 fc00::2"
        );
        assert_eq!(dual_in(both, "10.0.0.2", policy), "10.0.0.2 fc00::");
        assert_eq!(dual_in(both, "fc00::2", policy), "10.0.0.0 fc00::2");
    }
    let one = "10.0.0.0/30";
    assert_eq!(
        dual_in(one, "10.0.0.2", prefer),
        "10.0.0.2 (SecondFamilyUnavailable)"
    );
    assert_eq!(dual_in(one, "10.0.0.2", require), "(NoPoolWithFamily)");
    // A reservation of a family that the service doesn't have is none.
    let pool = reserving(both, options(), &[("web", "fc00::2")]);
    assert_eq!(summary(&allocator(pool).step(&service("web"))), "10.0.0.0");
    // The second family of a service that keeps its first one.
    let pool = reserving(both, options(), &[("web", "10.0.0.2 fc00::2")]);
    let mut allocator = allocator(pool);
    allocator.step(&service("web"));
    let outcome = allocator.step(&dual(prefer, service("web")));
    assert_eq!(summary(&outcome), "10.0.0.2 fc00::2");
}

#[test]
fn services_with_one_reservation_share_its_address_if_they_may() {
    let reservations = [("tcp", "10.0.0.2"), ("udp", "10.0.0.2")];
    let mut allocator = allocator(reserving("10.0.0.0/30", options(), &reservations));
    let outcome = allocator.step(&sharing("tcp", "dns", "", &["TCP/53"]));
    assert_eq!(summary(&outcome), "10.0.0.2");
    let outcome = allocator.step(&sharing("udp", "dns", "", &["UDP/53"]));
    assert_eq!(summary(&outcome), "10.0.0.2");
    // The same sharing key doesn't make it available to a third service.
    let outcome = allocator.step(&sharing("third", "dns", "", &["TCP/80"]));
    assert_eq!(summary(&outcome), "10.0.0.0");
}

#[test]
fn reserved_addresses_that_are_excluded_or_avoided_are_never_allocated() {
    let node = crate::Exclusion::new("10.0.0.2/32".parse().unwrap(), "an address of Node a");
    let pool = reserving("10.0.0.0/29", avoiding(), &[("web", "10.0.0.2 10.0.0.0")]);
    let pool = pool.excluding(std::slice::from_ref(&node));
    assert_eq!(pool.capacity(Family::V4), 6);
    let outcome = allocator(pool).step(&service("web"));
    assert_eq!(summary(&outcome), "(ReservationUnavailable)");
    let pool = Pool::parse("p", &["10.0.0.0/29".to_owned()], options()).unwrap();
    let pool = pool.excluding(&[node]);
    let pool = pool
        .reserving(key("web"), &["10.0.0.0/30".to_owned()])
        .unwrap();
    assert_eq!(
        pool.capacity(Family::V4),
        7,
        "reserved addresses are usable"
    );
    assert_eq!(summary(&allocator(pool).step(&service("web"))), "10.0.0.0");
}

#[test]
fn a_reservation_lists_addresses_of_its_pool() {
    let pool = || reserving("10.0.0.0/30 10.0.0.4/31 fc00::/126", options(), &[]);
    let reserve = |entry: &str| pool().reserving(key("web"), &[entry.to_owned()]);
    for entry in [
        "10.0.0.1",
        " 10.0.0.1 ",
        "10.0.0.0/31",
        "10.0.0.3 - 10.0.0.4",
        "fc00::1",
    ] {
        assert!(reserve(entry).is_ok(), "{entry}");
    }
    for entry in [
        "",
        "web",
        "10.0.0.0/33",
        "10.0.0.2-10.0.0.1",
        "10.0.0.1-fc00::1",
    ] {
        let error = reserve(entry).unwrap_err();
        assert!(
            matches!(error, PoolError::ReservationUnparsable { .. }),
            "{entry}: {error}"
        );
    }
    for entry in ["10.0.0.6", "10.0.0.4/30", "10.0.0.5-10.0.0.6", "fc00::4"] {
        let error = reserve(entry).unwrap_err();
        assert!(
            matches!(error, PoolError::ReservationOutside { .. }),
            "{entry}: {error}"
        );
    }
}
