//! Excluded addresses (of nodes, routers and Pods) are never allocated, but a service that has one
//! keeps it.

use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_allocator::{
    AllocationRequest, Allocator, Exclusion, Family, Outcome, Pool, PoolOptions, PoolSet,
    ServiceKey, canonical,
};
use ipnet::IpNet;
use proptest::prelude::*;

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn pool(addresses: &[&str], exclusions: &[Exclusion]) -> Pool {
    let addresses: Vec<String> = addresses.iter().map(|text| (*text).to_owned()).collect();
    let pool = Pool::parse("pool", &addresses, PoolOptions::default()).expect("a valid pool");
    pool.excluding(exclusions)
}

fn service(name: &str) -> AllocationRequest {
    AllocationRequest {
        uid: name.to_owned(),
        ..AllocationRequest::new(ServiceKey::new("default", name))
    }
}

fn outcomes(pool: Pool, requests: &[AllocationRequest]) -> Vec<Outcome> {
    let pools = PoolSet::new([pool], true).expect("one pool");
    let requests = requests.iter().cloned().map(Arc::new).collect();
    let outcomes = Allocator::new(pools).allocate_all(requests).into_iter();
    outcomes.map(|(_, outcome)| outcome).collect()
}

#[test]
fn addresses_that_are_not_excluded_are_allocated() {
    let exclusions = [
        Exclusion::new(net("10.0.0.0/31"), "the podCIDR of Node a"),
        Exclusion::new(net("10.0.0.3/32"), "an address of Node a"),
        Exclusion::new(net("192.0.2.1/32"), "an address of Node b"),
    ];
    let pool = pool(&["10.0.0.0/29"], &exclusions);
    assert_eq!(
        pool.excluded(),
        &exclusions[..2],
        "an exclusion outside the pool is ignored"
    );
    assert_eq!(pool.capacity(Family::V4), 5);
    assert!(pool.contains(ip("10.0.0.3")));
    let requests: Vec<AllocationRequest> = ["a", "b", "c", "d", "e", "f"].map(service).to_vec();
    let outcomes = outcomes(pool, &requests);
    let addresses: Vec<IpAddr> = outcomes
        .iter()
        .flat_map(Outcome::addresses)
        .copied()
        .collect();
    let expected = ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"].map(ip);
    assert_eq!(addresses, expected);
    let last = outcomes.last().and_then(Outcome::reason);
    assert_eq!(last.map(|reason| reason.code()), Some("PoolExhausted"));
}

#[test]
fn a_request_for_an_excluded_address_is_refused_unless_the_service_has_it() {
    let exclusion = Exclusion::new(net("10.0.0.3/32"), "an address of Node a");
    let without = AllocationRequest {
        requested: Ok(vec![ip("10.0.0.3")]),
        ..service("s")
    };
    let with = AllocationRequest {
        current: vec![ip("10.0.0.3")],
        ..without.clone()
    };
    let pool = || pool(&["10.0.0.0/29"], std::slice::from_ref(&exclusion));
    let refused = &outcomes(pool(), &[without])[0];
    assert_eq!(
        refused.reason().map(ToString::to_string).as_deref(),
        Some(
            "10.0.0.3 is an address of Node a and can't be assigned to a service: request another \
             address"
        )
    );
    assert_eq!(outcomes(pool(), &[with])[0].addresses(), [ip("10.0.0.3")]);
}

#[test]
fn an_excluded_ipv6_network_is_skipped_in_one_step() {
    let exclusion = Exclusion::new(net("fd00::/66"), "a ServiceCIDR");
    let pool = pool(&["fd00::/64"], &[exclusion]);
    let request = AllocationRequest {
        cluster_families: vec![Family::V6],
        ..service("s")
    };
    assert_eq!(
        outcomes(pool, &[request])[0].addresses(),
        [ip("fd00:0:0:0:4000::")]
    );
}

#[test]
fn ipv4_mapped_networks_and_ranges_are_ipv4() {
    assert_eq!(canonical(net("::ffff:192.0.2.0/120")), net("192.0.2.0/24"));
    assert_eq!(canonical(net("::/0")), net("::/0"));
    assert_eq!(canonical(net("2001:db8::/32")), net("2001:db8::/32"));
    let pool = pool(&["::ffff:192.0.2.0/126", "::ffff:192.0.2.8-192.0.2.9"], &[]);
    assert_eq!(
        (pool.capacity(Family::V4), pool.capacity(Family::V6)),
        (6, 0)
    );
}

#[test]
fn rejects_pools_with_reserved_addresses() {
    let parse = |text: &str| Pool::parse("pool", &[text.to_owned()], PoolOptions::default());
    for (entry, what) in [
        (
            "0.0.0.0/0",
            "unspecified addresses (RFC 1122 §3.2.1.3) (0.0.0.0/8)",
        ),
        (
            "126.255.255.255-127.0.0.1",
            "loopback addresses (127.0.0.0/8)",
        ),
        ("169.254.1.0/24", "link-local addresses (169.254.0.0/16)"),
        ("239.0.0.0/24", "multicast addresses (224.0.0.0/4)"),
        (
            "255.255.255.255/32",
            "the broadcast address (255.255.255.255/32)",
        ),
        ("::/128", "the unspecified address (::/128)"),
        ("::1/128", "the loopback address (::1/128)"),
        (
            "::fffe:0:0-::1:0:0:0",
            "IPv4-mapped addresses (::ffff:0.0.0.0/96)",
        ),
        ("fe80::/64", "link-local addresses (fe80::/10)"),
        ("ff02::/64", "multicast addresses (ff00::/8)"),
    ] {
        let error = parse(entry).expect_err(entry).to_string();
        let expected = format!("{entry:?} contains {what}, which no service can have");
        assert!(error.contains(&expected), "{error}");
    }
    for entry in ["126.0.0.0/8", "240.0.0.0/24", "fec0::/64", "::2/127"] {
        assert!(parse(entry).is_ok(), "{entry}");
    }
}

proptest! {
    #[test]
    fn all_addresses_but_the_excluded_ones_are_allocated(
        excluded in prop::collection::vec((0..64_u8, 26..=32_u8), 0..6)
    ) {
        let networks = excluded.iter().map(|(last, length)| {
            IpNet::new(IpAddr::from([10, 0, 0, *last]), *length).expect("a length")
        });
        let exclusions: Vec<Exclusion> = networks.map(|net| Exclusion::new(net, "taken")).collect();
        let free: Vec<IpAddr> = net("10.0.0.0/27")
            .hosts()
            .chain([ip("10.0.0.0"), ip("10.0.0.31")])
            .filter(|address| exclusions.iter().all(|e| !e.network().contains(address)))
            .collect();
        let pool = pool(&["10.0.0.0/28", "10.0.0.16-10.0.0.31"], &exclusions);
        prop_assert_eq!(pool.capacity(Family::V4), free.len() as u128);
        let requests: Vec<AllocationRequest> = (0..33).map(|n| service(&format!("s{n}"))).collect();
        let outcomes = outcomes(pool, &requests);
        let allocated = outcomes.iter().flat_map(Outcome::addresses);
        let mut allocated: Vec<IpAddr> = allocated.copied().collect();
        allocated.sort();
        let mut free = free;
        free.sort();
        prop_assert_eq!(allocated, free);
    }
}
