//! Parsing of pools, their overlaps and capacity. The ranges are test vectors of MetalLB.

use std::net::IpAddr;

use super::*;
use crate::pool_set::{PoolSet, PoolSetError};

fn parse(entries: &[&str]) -> Result<Pool, PoolError> {
    parse_with(entries, PoolOptions::default())
}

fn parse_with(entries: &[&str], options: PoolOptions) -> Result<Pool, PoolError> {
    let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
    Pool::parse("p", &entries, options)
}

fn named(name: &str, entry: &str) -> Pool {
    Pool::parse(name, &[entry.to_owned()], PoolOptions::default()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefixes(entry: &str) -> Vec<String> {
    parse(&[entry])
        .unwrap()
        .prefixes()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_range_becomes_the_smallest_set_of_cidrs() {
    let table: &[(&str, &[&str])] = &[
        (
            "10.0.0.5-10.0.0.20",
            &[
                "10.0.0.5/32",
                "10.0.0.6/31",
                "10.0.0.8/29",
                "10.0.0.16/30",
                "10.0.0.20/32",
            ],
        ),
        (
            "192.168.1.240-192.168.1.250",
            &["192.168.1.240/29", "192.168.1.248/31", "192.168.1.250/32"],
        ),
        (
            "192.168.0.255-192.168.1.1",
            &["192.168.0.255/32", "192.168.1.0/31"],
        ),
        (
            "fc00::5-fc00::9",
            &["fc00::5/128", "fc00::6/127", "fc00::8/127"],
        ),
        ("10.0.0.7-10.0.0.7", &["10.0.0.7/32"]),
        ("128.0.0.0-159.255.255.255", &["128.0.0.0/3"]),
        (
            "2000::-3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            &["2000::/3"],
        ),
    ];
    for (range, expected) in table {
        assert_eq!(&prefixes(range), expected, "{range}");
    }
    let long = prefixes("10.40.0.16-10.60.0.16");
    assert_eq!(
        (long.len(), long[0].as_str(), long[18].as_str()),
        (19, "10.40.0.16/28", "10.60.0.16/32")
    );
    // MetalLB accepts a range from IPv4 to IPv6 as an empty one. ferrolb rejects it.
    for mixed in ["10.0.0.1-fc00::1", "fc00::1-10.0.0.1"] {
        assert!(
            matches!(parse(&[mixed]), Err(PoolError::MixedFamilies { .. })),
            "{mixed}"
        );
    }
}

#[test]
fn accepts_cidrs_with_host_bits_and_ranges_with_blanks() {
    // Entry, an address that it contains, an address that it does not contain.
    let table = [
        ("10.0.0.7/24", "10.0.0.0", "10.0.1.0"),
        ("10.0.0.7/24", "10.0.0.255", "9.255.255.255"),
        ("10.0.0.5-10.0.0.20", "10.0.0.5", "10.0.0.4"),
        ("10.0.0.5 - 10.0.0.20", "10.0.0.20", "10.0.0.21"),
        ("fc00::/120", "fc00::ff", "fc00::100"),
        (" 10.0.0.1/32 ", "10.0.0.1", "::ffff:10.0.0.1"),
    ];
    for (entry, inside, outside) in table {
        let pool = parse(&[entry]).unwrap();
        assert!(pool.contains(ip(inside)), "{entry} {inside}");
        assert!(!pool.contains(ip(outside)), "{entry} {outside}");
    }
    let mixed = parse(&["10.0.0.0/30", "fc00::1-fc00::3"]).unwrap();
    assert_eq!(
        (mixed.capacity(Family::V4), mixed.capacity(Family::V6)),
        (4, 3)
    );
}

#[test]
fn rejects_invalid_reversed_and_overlapping_entries() {
    let table: &[(&[&str], &str)] = &[
        (&[], "no addresses"),
        (&["10.0.0.1"], "\"10.0.0.1\" is neither a CIDR"),
        (&["10.0.0.20-10.0.0.5"], "starts above its end"),
        (&["10.0.0.0/33"], "\"10.0.0.0/33\" is neither"),
        (&["fc00::/129"], "neither"),
        (&["pool"], "neither"),
        (&[""], "neither"),
        (&["-"], "neither"),
        (&["10.0.0.1-"], "neither"),
        (&["10.0.0.1-10.0.0.2-10.0.0.3"], "neither"),
        (
            &["10.0.0.0/24", "10.0.0.9/32"],
            "\"10.0.0.9/32\" overlaps \"10.0.0.0/24\"",
        ),
        (
            &["10.0.0.9/32", "10.1.0.0/16", "10.0.0.0/8"],
            "\"10.0.0.0/8\" overlaps \"10.0.0.9/32\"",
        ),
        (&["10.0.0.1-10.0.0.5", "10.0.0.5-10.0.0.6"], "overlaps"),
    ];
    for (entries, message) in table {
        let error = parse(entries)
            .expect_err(&format!("{entries:?}"))
            .to_string();
        assert!(
            error.starts_with("pool p") && error.contains(message),
            "{entries:?}: {error}"
        );
    }
}

#[test]
fn a_pool_set_rejects_overlapping_pools_and_equal_names() {
    let table = [
        ("10.0.0.0/24", "10.0.0.0/24", "10.0.0.0-10.0.0.255"),
        ("10.0.0.0/24", "10.0.0.7/32", "10.0.0.7-10.0.0.7"),
        ("10.0.0.7/32", "10.0.0.0/8", "10.0.0.7-10.0.0.7"),
        (
            "10.0.0.1-10.0.0.5",
            "10.0.0.5-10.0.0.9",
            "10.0.0.5-10.0.0.5",
        ),
        ("fc00::/64", "fc00::1/128", "fc00::1-fc00::1"),
    ];
    for (one, two, common) in table {
        let error = PoolSet::new([named("one", one), named("two", two)], true).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "pools two and one overlap in {common}: remove these addresses from one of them"
            )
        );
    }
    let twice = PoolSet::new([named("a", "10.0.0.0/24"), named("a", "10.0.1.0/24")], true);
    assert_eq!(
        twice,
        Err(PoolSetError::DuplicateName {
            name: "a".to_owned()
        })
    );

    // A rejected pool leaves the set unchanged.
    let mut set = PoolSet::new([named("a", "10.0.0.0/24")], true).unwrap();
    let before = set.clone();
    assert!(set.insert(named("b", "10.0.0.128/25")).is_err());
    assert_eq!(set, before);
    set.insert(named("b", "10.0.1.0/24")).unwrap();
    assert_eq!(set.containing(ip("10.0.1.255")).map(Pool::name), Some("b"));
    assert_eq!(set.containing(ip("10.0.2.0")), None);
    assert_eq!(set.containing(ip("fc00::1")), None);
}

#[test]
fn options_default_to_automatic_assignment_of_all_addresses() {
    let options = PoolOptions::default();
    assert!(options.auto_assign && !options.avoid_buggy_ips && !options.frozen);
    assert_eq!(options.pinned, None);
}

#[test]
fn the_capacity_of_huge_ranges_does_not_overflow() {
    let two = parse(&["2001:db8::/64", "2001:db8:1::/64"]).unwrap();
    assert_eq!(two.capacity(Family::V6), 1 << 65);
    let all = parse(&["8000::/2", "0400::/6", "2000::/3", "4000::/2"]).unwrap();
    assert_eq!(
        all.capacity(Family::V6),
        (1 << 126) + (1 << 122) + (1 << 125) + (1 << 126)
    );
}

#[test]
fn capacity_excludes_buggy_addresses() {
    let table = [
        ("10.0.0.0/24", 256, 254),
        ("10.0.0.0/22", 1024, 1016),
        ("10.0.0.0/30", 4, 3),
        ("10.0.0.252/30", 4, 3),
        ("10.0.0.4/30", 4, 4),
        ("10.0.0.255-10.0.1.0", 2, 0),
        ("10.0.0.5-10.0.1.5", 257, 255),
        ("128.0.0.0/3", 1 << 29, (1 << 29) - (1 << 22)),
        ("fc00::/120", 256, 256),
        ("2000::/3", 1 << 125, 1 << 125),
    ];
    for (entry, all, without_buggy) in table {
        let family = Family::of(parse(&[entry]).unwrap().prefixes()[0].addr());
        assert_eq!(parse(&[entry]).unwrap().capacity(family), all, "{entry}");
        let options = PoolOptions {
            avoid_buggy_ips: true,
            ..PoolOptions::default()
        };
        assert_eq!(
            parse_with(&[entry], options).unwrap().capacity(family),
            without_buggy
        );
    }
}
