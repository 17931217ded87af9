//! Services that have the same address but can't share it.

use super::*;

#[test]
fn the_oldest_of_several_services_keeps_their_address() {
    let born = |created, uid: &str, request| AllocationRequest {
        created,
        uid: uid.to_owned(),
        ..request
    };
    let requests = [
        born(2, "a", with_addresses("young", "10.0.0.0", "p")),
        born(1, "b", with_addresses("old", "10.0.0.0", "p")),
        born(2, "b", with_addresses("youngest", "10.0.0.0", "p")),
    ];
    assert_eq!(
        adopt_and_allocate(pool_set(&[("p", "10.0.0.0/24", options())]), &requests),
        [
            "10.0.0.1 (AddressConflict)",
            "10.0.0.0",
            "10.0.0.2 (AddressConflict)"
        ]
    );
    let outcomes = allocate_all(pool_set(&[("p", "10.0.0.0/24", options())]), &requests);
    let summary: Vec<_> = outcomes
        .iter()
        .map(|(k, o)| (&*k.name, summary(o)))
        .collect();
    assert_eq!(
        summary,
        [
            ("old", "10.0.0.0".to_owned()),
            ("young", "10.0.0.1 (AddressConflict)".to_owned()),
            ("youngest", "10.0.0.2 (AddressConflict)".to_owned()),
        ]
    );
    let found = conflicts(&shared(&requests));
    assert_eq!(
        found.keys().map(|k| &*k.name).collect::<Vec<_>>(),
        ["young", "youngest"]
    );
    assert_eq!(
        found[&key("young")].values().next(),
        Some(&Reason::AddressConflict {
            address: ips("10.0.0.0")[0],
            by: key("old"),
            cause: SharingConflict::SharingKey,
        })
    );
}

#[test]
fn the_loser_of_its_requested_address_reports_the_conflict() {
    let mut loser = with_addresses("b", "10.0.0.7", "p");
    loser.requested = Ok(ips("10.0.0.7"));
    assert_eq!(
        adopt_and_allocate(
            pool_set(&[("p", "10.0.0.0/24", options())]),
            &[with_addresses("a", "10.0.0.7", "p"), loser]
        ),
        ["10.0.0.7", "(AddressConflict)"]
    );
}

#[test]
fn a_service_that_loses_a_conflict_excludes_no_other() {
    // b conflicts with a and loses the address, so c can share it with a.
    let born = |created, request: AllocationRequest| AllocationRequest {
        created,
        current: ips("10.0.0.0"),
        ..request
    };
    let a = born(1, sharing("a", "k", "", &["TCP/80"]));
    let b = born(2, sharing("b", "", "", &["TCP/81"]));
    let c = born(3, sharing("c", "k", "", &["TCP/82"]));
    let expected = ["10.0.0.0", "10.0.0.1 (AddressConflict)", "10.0.0.0"];
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let requests = [a, b, c];
    for order in orders {
        let mut allocator = Allocator::new(pool_set(&[("p", "10.0.0.0/24", options())]));
        order
            .iter()
            .for_each(|&i| allocator.adopt_one(&requests[i]));
        for i in order {
            assert_eq!(
                summary(&allocator.step(&requests[i])),
                expected[i],
                "{order:?}"
            );
        }
        let found = conflicts(&shared(&requests));
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [key("b")]);
    }
}
