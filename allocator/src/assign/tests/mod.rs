//! MetalLB's rows 95–153 (spec/metallb.md §7 D and E), frozen pools, incomplete sets, conflicts.

use super::*;
use crate::pool::PoolOptions;
use crate::reason::Clash;
use crate::request::{Port, Protocol, parse_requested};

mod properties;

impl Allocator {
    /// Decides for one service, as it is.
    pub(crate) fn step(&mut self, request: &Request) -> Outcome {
        self.allocate(&Arc::new(request.clone())).0
    }

    /// Takes over what a service holds, without a decision.
    pub(crate) fn take_over(&mut self, request: &Request) {
        self.restore(&Arc::new(request.clone()));
    }

    pub(crate) fn fold(&mut self, requests: &[Request]) -> Vec<(ServiceKey, Outcome)> {
        self.allocate_all(shared(requests))
    }
}

pub(crate) fn shared(requests: &[Request]) -> Vec<Arc<Request>> {
    requests.iter().cloned().map(Arc::new).collect()
}

fn options() -> PoolOptions {
    PoolOptions::default()
}

fn manual() -> PoolOptions {
    PoolOptions {
        auto_assign: false,
        ..options()
    }
}

fn pinned(priority: i64) -> PoolOptions {
    PoolOptions {
        pinned: Some(priority),
        ..options()
    }
}

fn avoiding() -> PoolOptions {
    PoolOptions {
        avoid_buggy_ips: true,
        ..options()
    }
}

fn frozen() -> PoolOptions {
    PoolOptions {
        frozen: true,
        ..options()
    }
}

/// Pools as name, entries (separated by blanks), settings.
fn set(pools: &[(&str, &str, PoolOptions)]) -> PoolSet {
    let pools = pools.iter().map(|(name, entries, options)| {
        let entries: Vec<String> = entries.split(' ').map(str::to_owned).collect();
        Pool::parse(name, &entries, options.clone()).unwrap()
    });
    PoolSet::new(pools, true).unwrap()
}

fn incomplete(pools: &[(&str, &str, PoolOptions)]) -> PoolSet {
    let mut set = set(pools);
    set.set_complete(false);
    set
}

fn ips(list: &str) -> Vec<IpAddr> {
    list.split(' ')
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap())
        .collect()
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("ns", name)
}

fn service(name: &str) -> Request {
    Request::new(key(name))
}

fn asking(name: &str, list: &str) -> Request {
    Request {
        requested: Ok(ips(list)),
        ..service(name)
    }
}

fn from_pool(name: &str, pool: &str) -> Request {
    Request {
        requested_pool: Some(pool.to_owned()),
        ..service(name)
    }
}

fn holding(name: &str, list: &str, from: &str) -> Request {
    let holds_from = (!from.is_empty()).then(|| from.to_owned());
    Request {
        holds: ips(list),
        holds_from,
        ..service(name)
    }
}

fn dual(policy: FamilyPolicy, request: Request) -> Request {
    Request {
        cluster_families: vec![Family::V4, Family::V6],
        family_policy: policy,
        ..request
    }
}

fn sharing(name: &str, key: &str, backend: &str, ports: &[&str]) -> Request {
    let ports = ports
        .iter()
        .map(|port| {
            let (protocol, number) = port.split_once('/').unwrap();
            Port {
                protocol: Protocol::parse(protocol).unwrap(),
                number: number.parse().unwrap(),
            }
        })
        .collect();
    Request {
        sharing_key: key.to_owned(),
        backend_key: backend.to_owned(),
        ports,
        ..service(name)
    }
}

/// `addresses` if there are any, then the reason's code if there is one: "10.0.0.1 (Code)".
fn told(outcome: &Outcome) -> String {
    let mut words: Vec<String> = outcome
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    words.extend(
        outcome
            .reason()
            .map(|reason| format!("({})", reason.code())),
    );
    words.join(" ")
}

/// What one service gets from pools that nobody uses.
fn alone(pools: &[(&str, &str, PoolOptions)], request: &Request) -> String {
    told(&Allocator::new(set(pools)).step(request))
}

/// Restores the requests, then allocates in the order given.
fn pass(pools: PoolSet, requests: &[Request]) -> Vec<String> {
    let mut allocator = Allocator::new(pools);
    requests
        .iter()
        .for_each(|request| allocator.take_over(request));
    requests
        .iter()
        .map(|request| told(&allocator.step(request)))
        .collect()
}

#[test]
fn rows_96_97_98_100_the_lowest_address_of_the_first_entry() {
    let v6 = Request {
        cluster_families: vec![Family::V6],
        ..service("a")
    };
    assert_eq!(
        alone(&[("p", "10.0.0.0/24", options())], &service("a")),
        "10.0.0.0"
    );
    assert_eq!(
        alone(
            &[("p", "10.0.9.0/24 10.0.0.0/24", options())],
            &service("a")
        ),
        "10.0.9.0"
    );
    assert_eq!(
        alone(&[("p", "10.0.0.0/24", avoiding())], &service("a")),
        "10.0.0.1"
    );
    assert_eq!(
        alone(&[("p", "10.0.0.255-10.0.1.9", avoiding())], &service("a")),
        "10.0.1.1"
    );
    assert_eq!(
        alone(
            &[("p", "10.0.0.255-10.0.1.0 10.3.0.0/31", avoiding())],
            &service("a")
        ),
        "10.3.0.1"
    );
    assert_eq!(
        alone(&[("p", "10.0.0.0/32", avoiding())], &service("a")),
        "(NoPoolWithFamily)",
        "a pool with nothing but buggy addresses has none"
    );
    assert_eq!(alone(&[("p", "fc00::/120", avoiding())], &v6), "fc00::");

    let mut allocator = Allocator::new(set(&[("p", "10.0.9.0/31 10.0.0.0/31", options())]));
    let got: Vec<String> = ["a", "b", "c", "d", "e"]
        .map(|n| told(&allocator.step(&service(n))))
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
fn rows_94_101_139_a_released_address_is_used_again() {
    let mut allocator = Allocator::new(set(&[("p", "10.0.0.0/30", options())]));
    for name in ["a", "b", "c", "d"] {
        allocator.step(&service(name));
    }
    assert_eq!(told(&allocator.step(&service("e"))), "(PoolExhausted)");
    assert_eq!(allocator.release(&key("c")), ips("10.0.0.2"));
    assert_eq!(allocator.release(&key("c")), ips(""));
    assert_eq!(allocator.release(&key("b")), ips("10.0.0.1"));
    assert_eq!(told(&allocator.step(&service("e"))), "10.0.0.1");
    assert_eq!(allocator.held(&key("e")), ips("10.0.0.1"));
}

#[test]
fn rows_99_102_103_107_108_112_119_requested_addresses() {
    let pools = [
        ("a", "10.0.0.0/24 fc00::/64", avoiding()),
        ("b", "10.0.1.0/24 fc00:1::/64", manual()),
        ("c", "10.0.2.0/24", pinned(0)),
    ];
    let both = |list| dual(FamilyPolicy::RequireDualStack, asking("s", list));
    let mut wrong_pool = asking("s", "10.0.0.9");
    wrong_pool.requested_pool = Some("b".to_owned());
    let mut right_pool = asking("s", "10.0.1.9");
    right_pool.requested_pool = Some("b".to_owned());
    let mut accepted = asking("s", "10.0.2.9");
    accepted.accepted_by.insert("c".to_owned());
    let table = [
        (asking("s", "10.0.0.9"), "10.0.0.9"),
        (asking("s", "10.0.1.0"), "10.0.1.0"),
        (asking("s", "10.0.0.0"), "(BuggyAddress)"),
        (asking("s", "10.0.0.255"), "(BuggyAddress)"),
        (asking("s", "10.9.0.1"), "(AddressNotInPool)"),
        (asking("s", "fc00::1"), "(FamilyMismatch)"),
        (asking("s", "10.0.0.9 fc00::1"), "(FamilyMismatch)"),
        (both("10.0.0.9"), "(FamilyMismatch)"),
        (both("10.0.0.9 fc00::1"), "10.0.0.9 fc00::1"),
        (both("fc00::1 10.0.0.9"), "fc00::1 10.0.0.9"),
        (both("10.0.0.9 fc00:1::1"), "(AddressesInDifferentPools)"),
        (wrong_pool, "(AddressNotInPool)"),
        (right_pool, "10.0.1.9"),
        (asking("s", "10.0.2.9"), "(PoolDoesNotAcceptService)"),
        (accepted, "10.0.2.9"),
    ];
    for (request, expected) in table {
        assert_eq!(alone(&pools, &request), expected, "{:?}", request.requested);
    }
}

#[test]
fn rows_104_105_106_reading_a_request() {
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
fn row_105_a_mistake_in_the_request_costs_no_address() {
    let mistake = Err(Reason::RequestedTwice);
    let holder = Request {
        requested: mistake.clone(),
        ..holding("a", "10.0.0.7", "p")
    };
    let waiter = Request {
        requested: mistake.clone(),
        ..service("b")
    };
    let outside = Request {
        requested: mistake,
        ..holding("c", "10.9.0.7", "p")
    };
    assert_eq!(
        pass(
            set(&[("p", "10.0.0.0/24", options())]),
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
fn rows_109_110_111_113_requested_pool() {
    let pools = [
        ("auto", "10.0.0.0/24", options()),
        ("manual", "10.0.1.0/24", manual()),
        ("picky", "10.0.2.0/24", pinned(0)),
    ];
    assert_eq!(alone(&pools, &from_pool("s", "manual")), "10.0.1.0");
    assert_eq!(alone(&pools, &from_pool("s", "nothere")), "(UnknownPool)");
    assert_eq!(
        alone(&pools, &from_pool("s", "picky")),
        "(PoolDoesNotAcceptService)"
    );
    assert_eq!(alone(&pools, &from_pool("s", "")), "10.0.0.0");
    assert_eq!(alone(&pools[1..], &service("s")), "(NoEligiblePool)");
}

#[test]
fn rows_114_to_118_pinned_pools_come_first() {
    let pools = [
        ("a-general", "10.0.0.0/32", options()),
        ("b-last", "10.0.1.0/32", pinned(0)),
        ("c-20", "10.0.2.0/32", pinned(20)),
        ("d-10", "10.0.3.0/32", pinned(10)),
        ("e-foreign", "10.0.4.0/32", pinned(1)),
        ("f-10", "10.0.5.0/32", pinned(10)),
    ];
    let accepted_by = ["b-last", "c-20", "d-10", "f-10"].map(str::to_owned).into();
    let request = |name| Request {
        accepted_by: BTreeSet::clone(&accepted_by),
        ..service(name)
    };
    let mut allocator = Allocator::new(set(&pools));
    let got: Vec<String> = ["a", "b", "c", "d", "e", "f"]
        .map(|n| told(&allocator.step(&request(n))))
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
    assert_eq!(alone(&pools, &service("s")), "10.0.0.0");
}

#[test]
fn rows_95_120_to_124_126_families() {
    use FamilyPolicy::{PreferDualStack, RequireDualStack, SingleStack};
    let v4 = ("a-v4", "10.0.0.0/24", options());
    let v6 = ("b-v6", "fc00::/64", options());
    let both = ("c-both", "fc01::/64 10.1.0.0/24", options());
    let families = |list: &[Family], policy| Request {
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
        (&split, &[f4, f6], RequireDualStack, "(NoPoolWithFamily)"),
        (
            &split,
            &[f4, f6],
            PreferDualStack,
            "10.0.0.0 (SecondFamilyUnavailable)",
        ),
        (
            &split,
            &[f6, f4],
            PreferDualStack,
            "fc00:: (SecondFamilyUnavailable)",
        ),
        (
            &split[..1],
            &[f6, f4],
            PreferDualStack,
            "10.0.0.0 (SecondFamilyUnavailable)",
        ),
        (&split[..1], &[f6], SingleStack, "(NoPoolWithFamily)"),
        (&[], &[f4], SingleStack, "(NoPools)"),
    ];
    for (pools, list, policy, expected) in table {
        let request = families(list, *policy);
        assert_eq!(&alone(pools, &request), expected, "{list:?} {policy:?}");
    }
}

#[test]
fn row_125_the_second_family_is_added_and_the_first_kept() {
    let request = dual(FamilyPolicy::PreferDualStack, service("s"));
    let mut allocator = Allocator::new(set(&[("p", "10.0.0.5/32", options())]));
    assert_eq!(
        told(&allocator.step(&request)),
        "10.0.0.5 (SecondFamilyUnavailable)"
    );
    assert_eq!(
        told(&allocator.step(&request)),
        "10.0.0.5 (SecondFamilyUnavailable)"
    );
    allocator.set_pools(set(&[
        ("o", "10.1.0.0/24 fc01::/64", options()),
        ("p", "10.0.0.0/24 fc00::/64", options()),
    ]));
    let added = allocator.step(&request);
    assert_eq!(told(&added), "10.0.0.5 fc00::");
    assert!(matches!(added, Outcome::Assigned { new: true, .. }));
    assert!(matches!(
        allocator.step(&request),
        Outcome::Assigned { new: false, .. }
    ));
    // MetalLB goes round in circles with one cluster IP (§2.4 step 9).
    let single = Request {
        cluster_families: vec![Family::V4],
        ..request
    };
    assert_eq!(told(&allocator.step(&single)), "10.0.0.5");
    assert_eq!(told(&allocator.step(&single)), "10.0.0.5");
}

#[test]
fn rows_129_130_131_134_what_keeps_an_address() {
    let pools = || {
        set(&[
            ("p", "10.0.0.0/24 fc00::/64", options()),
            ("q", "10.1.0.0/31", manual()),
        ])
    };
    let turned = Request {
        requested: Ok(ips("fc00::7 10.0.0.7")),
        ..dual(
            FamilyPolicy::RequireDualStack,
            holding("turned", "10.0.0.7 fc00::7", "p"),
        )
    };
    let requests = [
        service("waits"),
        holding("a", "10.0.0.0", "p"),
        holding("manual", "10.1.0.1", "q"),
        turned,
    ];
    let expected = ["10.0.0.1", "10.0.0.0", "10.1.0.1", "10.0.0.7 fc00::7"];
    assert_eq!(pass(pools(), &requests), expected);
    let outcome = Allocator::new(pools()).step(&holding("a", "10.0.0.9", "p"));
    assert!(
        matches!(outcome, Outcome::Assigned { new: true, .. }),
        "what counts is what was restored: {outcome:?}"
    );
}

#[test]
fn rows_132_133_135_to_138_what_moves_an_address() {
    let pools = [
        ("p", "10.0.0.0/24", options()),
        ("q", "10.1.0.0/24", options()),
        ("picky", "10.2.0.0/24", pinned(0)),
        ("z-avoids", "10.3.0.0/24", avoiding()),
    ];
    let moved = |request: Request, holds: &str, from: &str| {
        let request = Request {
            holds: ips(holds),
            holds_from: Some(from.to_owned()),
            ..request
        };
        pass(set(&pools), &[request]).remove(0)
    };
    let v6 = Request {
        cluster_families: vec![Family::V6],
        ..service("s")
    };
    assert_eq!(moved(asking("s", "10.0.0.8"), "10.0.0.7", "p"), "10.0.0.8");
    assert_eq!(
        moved(asking("s", "10.9.0.8"), "10.0.0.7", "p"),
        "(AddressNotInPool)"
    );
    assert_eq!(moved(from_pool("s", "q"), "10.0.0.7", "p"), "10.1.0.0");
    assert_eq!(moved(from_pool("s", "p"), "10.0.0.7", "p"), "10.0.0.7");
    assert_eq!(
        moved(from_pool("s", "nothere"), "10.0.0.7", "p"),
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
fn the_reason_of_a_replaced_address_does_not_ask_to_keep_the_old_one() {
    let pools = set(&[("p", "10.0.0.0/24", options())]);
    let mut allocator = Allocator::new(pools);
    allocator.take_over(&holding("s", "10.9.0.7", "gone"));
    let outcome = allocator.step(&service("s"));
    assert_eq!(told(&outcome), "10.0.0.0 (AddressNotInPool)");
    let message = outcome.message().expect("a reason");
    assert_eq!(
        message,
        "10.9.0.7, which this service had, is no longer in any pool, so it was taken back: to have it again, add it to a \
         pool and request it with the annotation metallb.io/loadBalancerIPs"
    );
    // A request of such an address is another matter.
    let message = allocator.step(&asking("other", "10.9.0.8")).message();
    let message = message.expect("a reason");
    assert!(
        message.contains("is not in any pool: add it to a pool"),
        "{message}"
    );
}

#[test]
fn rows_136_140_pools_come_and_go() {
    let mut allocator = Allocator::new(set(&[]));
    assert_eq!(told(&allocator.step(&service("s"))), "(NoPools)");
    allocator.set_pools(set(&[("p", "10.0.0.0/24", options())]));
    assert_eq!(told(&allocator.step(&service("s"))), "10.0.0.0");
    allocator.set_pools(set(&[("p", "10.0.0.8/29", options())]));
    assert_eq!(
        told(&allocator.step(&service("s"))),
        "10.0.0.8 (AddressNotInPool)"
    );
    assert_eq!(told(&allocator.step(&service("s"))), "10.0.0.8");
    allocator.set_pools(set(&[]));
    assert_eq!(told(&allocator.step(&service("s"))), "(NoPools)");
    assert_eq!(allocator.held(&key("s")), ips(""));
}

#[test]
fn rows_141_to_148_who_may_share() {
    let first = sharing("a", "k", "", &["TCP/80"]);
    let other = Request {
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
        let mut allocator = Allocator::new(set(&[("p", "10.0.0.0/24", options())]));
        assert_eq!(told(&allocator.step(&one)), "10.0.0.0");
        let two = Request {
            requested: Ok(ips("10.0.0.0")),
            ..two
        };
        let outcome = allocator.step(&two);
        match expected {
            Ok(()) => assert_eq!(told(&outcome), "10.0.0.0", "{two:?}"),
            Err(text) => {
                assert_eq!(told(&outcome), "(AddressInUse)", "{two:?}");
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
fn rows_149_150_changing_the_key_of_a_holder() {
    let mut allocator = Allocator::new(set(&[("p", "10.0.0.0/24", options())]));
    assert_eq!(
        told(&allocator.step(&sharing("a", "k", "", &["TCP/80"]))),
        "10.0.0.0"
    );
    assert_eq!(
        told(&allocator.step(&sharing("a", "j", "", &["TCP/80"]))),
        "10.0.0.0"
    );
    assert_eq!(
        told(&allocator.step(&sharing("b", "j", "", &["TCP/81"]))),
        "10.0.0.0"
    );
    // The one that changes goes, though it is the older.
    let changed = sharing("a", "", "", &["TCP/80"]);
    assert_eq!(told(&allocator.step(&changed)), "10.0.0.1 (SharingChanged)");
    assert_eq!(
        told(&allocator.step(&sharing("b", "j", "", &["TCP/81"]))),
        "10.0.0.0"
    );
    assert_eq!(
        told(&allocator.step(&sharing("c", "j", "", &["TCP/82"]))),
        "10.0.0.0"
    );
    let clashes = sharing("c", "j", "", &["TCP/82", "TCP/81"]);
    assert_eq!(told(&allocator.step(&clashes)), "10.0.0.2 (SharingChanged)");
}

#[test]
fn rows_151_152_153_a_shared_address_lasts_as_long_as_its_last_holder() {
    let mut allocator = Allocator::new(set(&[("p", "10.0.0.0/30 fc00::/64", options())]));
    let share = |name, port| sharing(name, "k", "", &[port]);
    assert_eq!(told(&allocator.step(&service("own"))), "10.0.0.0");
    assert_eq!(told(&allocator.step(&share("a", "TCP/80"))), "10.0.0.1");
    assert_eq!(told(&allocator.step(&share("b", "TCP/81"))), "10.0.0.1");
    assert_eq!(told(&allocator.step(&share("c", "TCP/81"))), "10.0.0.2");
    allocator.release(&key("a"));
    assert_eq!(told(&allocator.step(&service("d"))), "10.0.0.3");
    assert_eq!(told(&allocator.step(&service("e"))), "(PoolExhausted)");
    assert_eq!(told(&allocator.step(&share("f", "TCP/80"))), "10.0.0.1");
    allocator.release(&key("f"));
    allocator.release(&key("b"));
    assert_eq!(told(&allocator.step(&service("e"))), "10.0.0.1");
}

#[test]
fn a_free_address_before_a_shared_one_is_taken() {
    let mut allocator = Allocator::new(set(&[("p", "10.0.0.0/30", options())]));
    let held = Request {
        requested: Ok(ips("10.0.0.2")),
        ..sharing("a", "k", "", &["TCP/80"])
    };
    allocator.step(&held);
    assert_eq!(
        told(&allocator.step(&sharing("b", "k", "", &["TCP/81"]))),
        "10.0.0.0"
    );
}

#[test]
fn row_98_a_buggy_address_is_not_shared_either() {
    let shares = |name, port| sharing(name, "k", "", &[port]);
    let first = Request {
        holds: ips("10.0.0.0"),
        ..shares("a", "TCP/80")
    };
    assert_eq!(
        pass(
            set(&[("p", "10.0.0.0/24", avoiding())]),
            &[shares("b", "TCP/81"), first]
        ),
        ["10.0.0.1", "10.0.0.1 (BuggyAddress)"]
    );
}

#[test]
fn a_frozen_pool_keeps_its_services_and_gives_nothing_new() {
    let pools = || {
        set(&[
            (
                "ice",
                "10.0.0.0/24 fc00::/64",
                PoolOptions {
                    pinned: Some(0),
                    ..frozen()
                },
            ),
            ("ok", "10.1.0.0/24", manual()),
        ])
    };
    let welcome = |request| Request {
        accepted_by: ["ice".to_owned()].into(),
        ..request
    };
    let mut to_ok = holding("to-ok", "10.0.0.3", "ice");
    to_ok.requested_pool = Some("ok".to_owned());
    let mut to_ice = holding("to-ice", "10.1.0.3", "ok");
    to_ice.requested_pool = Some("ice".to_owned());
    let mut other = holding("other", "10.0.0.4", "ice");
    other.requested = Ok(ips("10.0.0.5"));
    let two = |policy, name| dual(policy, holding(name, "10.0.0.6", "ice"));
    let requests = [
        holding("stays", "10.0.0.1", "ice"),
        welcome(service("new")),
        welcome(asking("asks", "10.0.0.9")),
        from_pool("named", "ice"),
        to_ok,
        to_ice,
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
    assert_eq!(pass(pools(), &requests), expected);
    assert_eq!(
        pass(pools(), &[two(FamilyPolicy::RequireDualStack, "require")]),
        ["10.0.0.6 (PoolFrozen)"]
    );
}

#[test]
fn an_allocator_that_has_not_seen_all_pools_releases_nothing() {
    let mut wants_other = holding("wants-other", "10.9.0.2", "unseen");
    wants_other.requested = Ok(ips("10.9.0.3"));
    let mut wants_pool = holding("wants-pool", "10.0.0.2", "p");
    wants_pool.requested_pool = Some("unseen".to_owned());
    let requests = [
        holding("unseen", "10.9.0.1", "unseen"),
        holding("unrecorded", "10.9.0.7", ""),
        wants_other,
        wants_pool,
        service("new"),
        asking("taken", "10.9.0.1"),
        // Its pool is known and good, so it was taken out of it on purpose.
        holding("edited", "10.0.1.1", "p"),
    ];
    assert_eq!(
        pass(incomplete(&[("p", "10.0.0.0/24", options())]), &requests),
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
        pass(incomplete(&[]), &requests),
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
fn a_wish_for_an_address_of_an_unseen_pool_costs_nothing_when_the_other_one_is_in_use() {
    let entries = ["10.0.0.0/30", "fc00::/126"].map(str::to_owned);
    let pool = Pool::parse("p", &entries, options()).unwrap();
    let mut allocator = Allocator::new(PoolSet::new([pool], false).unwrap());
    let wish = Request {
        cluster_families: vec![Family::V4, Family::V6],
        family_policy: FamilyPolicy::RequireDualStack,
        ..asking("s", "fc00:: 10.9.0.9")
    };
    let wish = Request {
        holds: ips("10.0.0.1"),
        holds_from: Some("p".to_owned()),
        ..wish
    };
    allocator.take_over(&wish);
    assert_eq!(told(&allocator.step(&wish)), "10.0.0.1 (AddressNotInPool)");
    let other = Request {
        cluster_families: vec![Family::V6],
        ..asking("other", "fc00::")
    };
    assert_eq!(told(&allocator.step(&other)), "fc00::");
    assert_eq!(told(&allocator.step(&wish)), "10.0.0.1 (AddressInUse)");
}

#[test]
fn what_is_kept_from_an_unseen_pool_stays_recorded() {
    let mut allocator = Allocator::new(incomplete(&[]));
    allocator.take_over(&holding("a", "10.0.0.9", "p"));
    assert_eq!(
        told(&allocator.step(&service("a"))),
        "10.0.0.9 (PoolUnknown)"
    );
    // Now pool p is seen, without the address: that was an edit.
    allocator.set_pools(incomplete(&[("p", "10.0.0.0/29", options())]));
    assert_eq!(
        told(&allocator.step(&service("a"))),
        "10.0.0.0 (AddressNotInPool)"
    );
}

#[test]
fn sharers_need_the_same_backend_or_both_allow_another_one() {
    let sharer = |name, created, backend, port, any_backend| Request {
        created,
        any_backend,
        holds: ips("10.0.0.0"),
        holds_from: Some("p".to_owned()),
        ..sharing(name, "k", backend, &[port])
    };
    let pool = || set(&[("p", "10.0.0.0/24", options())]);
    let outcome = |old: Request, young: Request| {
        let outcomes = allocate_all(pool(), &[old, young]);
        let found = outcomes.iter().find(|(key, _)| &*key.name == "young");
        found.unwrap().1.clone()
    };
    for (any_old, any_young) in [(false, false), (true, false), (false, true), (true, true)] {
        let old = || sharer("old", 1, "web", "TCP/80", any_old);
        // An edit of one of two that have the same Pods moves neither.
        let same = outcome(old(), sharer("young", 2, "web", "TCP/81", any_young));
        assert_eq!(told(&same), "10.0.0.0", "{any_old} {any_young}");
        let other = outcome(old(), sharer("young", 2, "db", "TCP/81", any_young));
        if any_old && any_young {
            assert_eq!(told(&other), "10.0.0.0");
        } else {
            assert_eq!(told(&other), "10.0.0.1 (AddressConflict)");
            let message = other.message().unwrap();
            let remedy = "ferrolb.io/allow-shared-local: \"true\" on both";
            assert!(message.contains(remedy), "{message}");
        }
    }
    // A third one has to get along with both.
    let pair = [
        sharer("a", 1, "web", "TCP/80", true),
        sharer("b", 2, "db", "TCP/81", true),
    ];
    let third = sharer("c", 3, "web", "TCP/82", false);
    let outcomes = allocate_all(pool(), &[pair[0].clone(), pair[1].clone(), third]);
    let told: Vec<String> = outcomes.iter().map(|(_, outcome)| told(outcome)).collect();
    assert_eq!(told, ["10.0.0.0", "10.0.0.0", "10.0.0.1 (AddressConflict)"]);
}

#[test]
fn of_two_sharers_that_have_other_pods_the_younger_gets_another_address() {
    let sharer = |name, created, backend, port| Request {
        created,
        holds: ips("10.0.0.0"),
        holds_from: Some("p".to_owned()),
        ..sharing(name, "k", backend, &[port])
    };
    let pool = || set(&[("p", "10.0.0.0/24", options())]);
    let old = sharer("old", 1, "Local one app=web", "TCP/80");
    let young = sharer("young", 2, "Local two app=web", "TCP/81");
    let outcomes = allocate_all(pool(), &[young, old.clone()]);
    let outcome = |name: &str| {
        let found = outcomes.iter().find(|(key, _)| &*key.name == name);
        &found.unwrap().1
    };
    assert_eq!(told(outcome("old")), "10.0.0.0");
    assert_eq!(told(outcome("young")), "10.0.0.1 (AddressConflict)");
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
    assert_eq!(pass(pool(), &[old, same]), ["10.0.0.0", "10.0.0.0"]);
}

#[test]
fn of_two_holders_the_younger_loses() {
    let born = |created, uid: &str, request| Request {
        created,
        uid: uid.to_owned(),
        ..request
    };
    let requests = [
        born(2, "a", holding("young", "10.0.0.0", "p")),
        born(1, "b", holding("old", "10.0.0.0", "p")),
        born(2, "b", holding("youngest", "10.0.0.0", "p")),
    ];
    assert_eq!(
        pass(set(&[("p", "10.0.0.0/24", options())]), &requests),
        [
            "10.0.0.1 (AddressConflict)",
            "10.0.0.0",
            "10.0.0.2 (AddressConflict)"
        ]
    );
    let outcomes = allocate_all(set(&[("p", "10.0.0.0/24", options())]), &requests);
    let told: Vec<_> = outcomes.iter().map(|(k, o)| (&*k.name, told(o))).collect();
    assert_eq!(
        told,
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
            clash: Clash::SharingKey,
        })
    );
}

#[test]
fn a_conflict_over_a_requested_address_is_told_as_one() {
    let mut loser = holding("b", "10.0.0.7", "p");
    loser.requested = Ok(ips("10.0.0.7"));
    assert_eq!(
        pass(
            set(&[("p", "10.0.0.0/24", options())]),
            &[holding("a", "10.0.0.7", "p"), loser]
        ),
        ["10.0.0.7", "(AddressConflict)"]
    );
}

#[test]
fn one_that_loses_keeps_nobody_else_out() {
    // b is in a's way, not in c's way: c shares with a.
    let born = |created, request: Request| Request {
        created,
        holds: ips("10.0.0.0"),
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
        let mut allocator = Allocator::new(set(&[("p", "10.0.0.0/24", options())]));
        order
            .iter()
            .for_each(|&i| allocator.take_over(&requests[i]));
        for i in order {
            assert_eq!(
                told(&allocator.step(&requests[i])),
                expected[i],
                "{order:?}"
            );
        }
        let found = conflicts(&shared(&requests));
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [key("b")]);
    }
}

#[test]
fn in_the_fold_requests_by_number_come_before_those_that_take_anything() {
    let requests = [
        service("a"),
        asking("b", "10.0.0.0"),
        holding("c", "10.0.0.1", "p"),
    ];
    let outcomes = allocate_all(set(&[("p", "10.0.0.0/24", options())]), &requests);
    let told: Vec<_> = outcomes
        .iter()
        .map(|(k, o)| format!("{} {}", k.name, told(o)))
        .collect();
    assert_eq!(told, ["c 10.0.0.1", "b 10.0.0.0", "a 10.0.0.2"]);
}

#[test]
fn the_fold_serves_those_who_wait_for_what_others_give_up() {
    // They want each other's addresses; the first to be asked must wait for the second to move.
    let mut a = holding("a", "10.0.0.1", "p");
    a.requested = Ok(ips("10.0.0.2"));
    let mut b = holding("b", "10.0.0.2", "p");
    b.requested = Ok(ips("10.0.0.1"));
    let outcomes = allocate_all(set(&[("p", "10.0.0.0/24", options())]), &[a, b]);
    let told: Vec<_> = outcomes.iter().map(|(_, o)| told(o)).collect();
    assert_eq!(told, ["10.0.0.2", "10.0.0.1"]);
}

#[test]
fn who_waits_for_a_family_is_served_although_it_lost_an_address() {
    // The oldest loses 10.9.0.1, which is in no pool; the pool is full until another moves out.
    let pools = set(&[
        ("p", "10.0.0.0/32 fc00::/127", options()),
        ("q", "10.1.0.0/32", options()),
    ]);
    let held = Request {
        created: 1,
        ..holding("old", "fc00:: 10.9.0.1", "p")
    };
    let old = dual(FamilyPolicy::PreferDualStack, held);
    let moving = Request {
        created: 2,
        requested_pool: Some("q".to_owned()),
        ..holding("moving", "10.0.0.0", "p")
    };
    let outcomes = allocate_all(pools, &[old, moving]);
    let addresses: Vec<_> = outcomes.iter().map(|(_, o)| o.addresses()).collect();
    assert_eq!(addresses, [ips("10.0.0.0 fc00::"), ips("10.1.0.0")]);
}

#[test]
fn row_150_in_the_kept_fold_the_one_that_changed_goes() {
    let born = |created, request: Request| Request { created, ..request };
    let mut old = born(1, sharing("old", "k", "", &["TCP/80"]));
    let mut young = born(2, sharing("young", "k", "", &["TCP/81"]));
    let pools = || set(&[("p", "10.0.0.0/24", options())]);
    let mut allocator = Allocator::new(pools());
    let fold = |allocator: &mut Allocator, requests: &[Request]| -> Vec<String> {
        let outcomes = allocator.fold(requests);
        outcomes
            .iter()
            .map(|(k, o)| format!("{} {}", k.name, told(o)))
            .collect()
    };
    let first = fold(&mut allocator, &[old.clone(), young.clone()]);
    assert_eq!(first, ["old 10.0.0.0", "young 10.0.0.0"]);
    old = Request {
        sharing_key: String::new(),
        holds: ips("10.0.0.0"),
        ..old
    };
    young.holds = ips("10.0.0.0");
    let requests = [old, young];
    assert_eq!(
        fold(&mut allocator, &requests),
        ["old 10.0.0.1 (SharingChanged)", "young 10.0.0.0"]
    );
    assert_eq!(
        fold(&mut Allocator::new(pools()), &requests),
        ["old 10.0.0.0", "young 10.0.0.1 (AddressConflict)"],
        "a new leader can't know who changed"
    );
    assert_eq!(fold(&mut allocator, &requests[1..]), ["young 10.0.0.0"]);
    assert_eq!(
        allocator.held(&key("old")),
        ips(""),
        "not listed any longer"
    );
    // Somebody else wrote the status: what the API server says counts.
    let written = Request {
        holds: ips("10.0.0.9"),
        ..requests[1].clone()
    };
    assert_eq!(fold(&mut allocator, &[written]), ["young 10.0.0.9"]);
}

#[test]
fn holders_that_ask_by_number_come_before_those_that_have_to_move() {
    let mut asks = holding("z", "10.0.0.1", "p");
    asks.requested = Ok(ips("10.0.0.0"));
    let requests = [holding("a", "10.9.0.0", "gone"), asks];
    let outcomes = allocate_all(set(&[("p", "10.0.0.0/24", options())]), &requests);
    let told: Vec<_> = outcomes
        .iter()
        .map(|(k, o)| format!("{} {}", k.name, told(o)))
        .collect();
    assert_eq!(told, ["z 10.0.0.0", "a 10.0.0.1 (AddressNotInPool)"]);
}

#[test]
fn the_fold_ends_when_nobody_waits_for_what_is_free() {
    // b keeps its address for want of a better one, until c gives up its own.
    let both = |request| dual(FamilyPolicy::RequireDualStack, request);
    let headless = Request {
        cluster_families: Vec::new(),
        ..holding("c", "10.1.0.0", "q")
    };
    let requests = [
        from_pool("a", "p"),
        both(holding("b", "10.0.0.0", "p")),
        headless,
    ];
    let pools = [
        ("p", "10.0.0.0/32", options()),
        ("q", "10.1.0.0/32 fc00::/64", options()),
    ];
    let outcomes = allocate_all(incomplete(&pools), &requests);
    let told: Vec<_> = outcomes
        .iter()
        .map(|(k, o)| format!("{} {}", k.name, told(o)))
        .collect();
    assert_eq!(told, ["b 10.1.0.0 fc00::", "c (NoClusterIP)", "a 10.0.0.0"]);
}

#[test]
fn ten_thousand_services_in_a_pool_of_2_to_the_64() {
    let pools = set(&[("p", "fc00::/64", options())]);
    let requests: Vec<Request> = (0..10_000)
        .map(|i| Request {
            cluster_families: vec![Family::V6],
            // The same key and port: each has to see that it can join none of the others.
            ..sharing(&format!("s{i:05}"), "k", "", &["TCP/80"])
        })
        .collect();
    let outcomes = allocate_all(pools, &requests);
    let last = "fc00::270f".parse::<IpAddr>().unwrap();
    assert_eq!(outcomes[9_999].1.addresses(), [last]);
}

#[test]
fn a_service_that_lost_its_address_and_finds_no_other_has_both_reasons() {
    let mut allocator = Allocator::new(set(&[("p", "10.0.0.0/32", options())]));
    let old = sharing("old", "k", "", &["TCP/80"]);
    let young = sharing("young", "k", "", &["TCP/81"]);
    let first = allocator.fold(&[old, young.clone()]);
    assert!(first.iter().all(|(_, outcome)| told(outcome) == "10.0.0.0"));
    let both = |outcome: &Outcome| {
        let lost = outcome.lost().map_or("", Reason::code);
        format!("{} after {lost}", told(outcome))
    };
    // Its key, then its traffic policy changes.
    for changed in [
        sharing("young", "other", "", &["TCP/81"]),
        sharing("young", "k", "Local", &["TCP/81"]),
    ] {
        let changed = Request {
            holds: ips("10.0.0.0"),
            ..changed
        };
        allocator.take_over(&Request {
            holds: ips("10.0.0.0"),
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
        // It is still so when the status was cleared and came back.
        let cleared = Request {
            holds: Vec::new(),
            ..changed
        };
        let outcomes = allocator.update(shared(&[cleared]), &[]);
        assert_eq!(both(&outcomes[0].1), "(PoolExhausted) after SharingChanged");
    }
    // With an address again there is nothing left to explain.
    let outcomes = allocator.update(Vec::new(), &[key("old")]);
    assert_eq!(both(&outcomes[0].1), "10.0.0.0 after ");
    // Who loses to an older service and finds nothing else has both, too.
    let older = Request {
        created: -1,
        holds: ips("10.0.0.0"),
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
fn prefer_dual_stack_keeps_the_address_that_its_pool_still_has() {
    // Its pool lost IPv6, and another pool has both families.
    let held = holding("a", "10.0.0.7 fc00::7", "p");
    let requests = [dual(FamilyPolicy::PreferDualStack, held)];
    let pools = set(&[
        ("p", "10.0.0.0/24", options()),
        ("q", "10.1.0.0/24 fc01::/120", options()),
    ]);
    let mut allocator = Allocator::new(pools);
    let outcomes = allocator.fold(&requests);
    assert_eq!(told(&outcomes[0].1), "10.0.0.7 (AddressNotInPool)");
    let now = Request {
        holds: ips("10.0.0.7"),
        ..requests[0].clone()
    };
    let outcomes = allocator.fold(&[now]);
    assert_eq!(told(&outcomes[0].1), "10.0.0.7 (SecondFamilyUnavailable)");
}

#[test]
fn require_dual_stack_that_asks_for_one_address_keeps_the_one_it_has() {
    let asks = |holds: &str| Request {
        requested: Ok(ips("10.0.0.7")),
        ..holding("a", holds, "p")
    };
    let require = |request| dual(FamilyPolicy::RequireDualStack, request);
    let pools = || set(&[("p", "10.0.0.0/24 fc00::/120", options())]);
    assert_eq!(
        pass(pools(), &[require(asks("10.0.0.7"))]),
        ["10.0.0.7 (FamilyMismatch)"]
    );
    // One that has nothing gets nothing for the same request.
    assert_eq!(pass(pools(), &[require(asks(""))]), ["(FamilyMismatch)"]);
}

#[test]
fn local_without_a_selector_does_not_share_with_cluster() {
    let requests = [
        sharing("a", "k", "", &["TCP/80"]),
        // What the daemon gives for Local with an empty selector.
        sharing("b", "k", "Local ", &["TCP/81"]),
    ];
    let outcomes = allocate_all(set(&[("p", "10.0.0.0/24", options())]), &requests);
    let told: Vec<_> = outcomes.iter().map(|(_, o)| told(o)).collect();
    assert_eq!(told, ["10.0.0.0", "10.0.0.1"]);
}
