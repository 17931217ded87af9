//! What a router may have or not have: attributes, capabilities, GTSM.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce::Announcer;
use ferrolb_interop_tests::router::{RouteEntry, await_kernel};
use ferrolb_interop_tests::topology::{TOR_IPV4, TOR_IPV6};
use ferrolb_interop_tests::wait::{holds, until};

use crate::{AT_ONCE, Cell, UP};

/// The AS of the collector in the examples `collector`.
const COLLECTOR_ASN: u32 = 64800;

/// A route target, as each of them prints it.
const ROUTE_TARGET: &[(&str, &str)] = &[
    ("BIRD", "(rt, 64700, 7)"),
    ("FRR", "RT:64700:7"),
    ("GoBGP", r#""value":"64700:7""#),
    ("OpenBGPD", "rt 64700:7"),
    ("ExaBGP", "target:64700:7"),
    ("ferrolb", "rt:64700:7"),
];

/// The words of this cell's router.
fn words<'a>(cell: &Cell<'_>, table: &'a [(&str, &str)]) -> Result<&'a str> {
    let name = cell.router.name();
    let found = table.iter().find(|(router, _)| *router == name);
    Ok(found.with_context(|| format!("no words for {name}"))?.1)
}

pub(crate) fn extended_communities(cell: &Cell<'_>) -> Result<()> {
    let announcer = cell.dialler().with("--extended-community", "rt:64700:7");
    let _announcer = cell.run(&announcer)?;
    let wanted = words(cell, ROUTE_TARGET)?;
    for prefix in cell.prefixes() {
        let described = cell.router.describe(prefix)?;
        ensure!(
            described.contains(wanted),
            "{wanted:?} is not in {described}"
        );
    }
    Ok(())
}

/// `rt:[2001:db8::1]:7`, as each of them prints it.
const IPV6_ROUTE_TARGET: &[(&str, &str)] = &[
    ("BIRD", "BGP.19 [t]: 00 02 20 01 0d b8"),
    ("GoBGP", r#""value":"2001:db8::1:7""#),
    ("OpenBGPD", "000220010db80000000000000000000000010007"),
    // Without the zeros in front.
    ("ExaBGP", "0x220010DB80000000000000000000000010007"),
    ("ferrolb", "ipv6-extended-community rt:[2001:db8::1]:7"),
];

pub(crate) fn ipv6_extended_communities(cell: &Cell<'_>) -> Result<()> {
    let option = "--ipv6-extended-community";
    let _announcer = cell.run(&cell.dialler().with(option, "rt:[2001:db8::1]:7"))?;
    let wanted = words(cell, IPV6_ROUTE_TARGET)?;
    for prefix in cell.prefixes() {
        let described = cell.router.describe(prefix)?;
        ensure!(
            described.contains(wanted),
            "{wanted:?} is not in {described}"
        );
    }
    Ok(())
}

pub(crate) fn passed_on(cell: &Cell<'_>) -> Result<()> {
    collected(
        cell,
        &[
            ("--community", "64700:120"),
            ("--large-community", "64700:1:2"),
            ("--extended-community", "rt:64700:7"),
        ],
    )
}

pub(crate) fn ipv6_passed_on(cell: &Cell<'_>) -> Result<()> {
    collected(cell, &[("--ipv6-extended-community", "rt:[2001:db8::1]:7")])
}

/// The second node is a collector in an AS of its own, and prints what the router tells it of the first one's routes.
fn collected(cell: &Cell<'_>, communities: &[(&str, &str)]) -> Result<()> {
    let mut announcer = cell.dialler();
    let mut wanted = String::new();
    for (option, value) in communities {
        announcer = announcer.with(option, value);
        write!(wanted, " {} {value}", option.trim_start_matches("--"))?;
    }
    let _announcer = announcer.start()?;
    let collector = Announcer::new(cell.scratch, &cell.nodes[1])
        .local_asn(COLLECTOR_ASN)
        .with("--peer", TOR_IPV4)
        .flag("--receive");
    let collector = collector.start()?;
    for prefix in cell.prefixes() {
        // On Linux its IPv6 next hop is ::1, which is none.
        if cell.router.name() == "OpenBGPD" && prefix.addr().is_ipv6() {
            continue;
        }
        until(format!("{prefix} at the collector"), UP, || {
            let log = collector.log_text()?;
            let line = format!(" + {prefix} via ");
            let told = log.lines().rfind(|told| told.contains(&line));
            let told = told.context("nothing")?;
            ensure!(told.ends_with(&wanted), "{told}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Three nodes with links of 1, 2 and 10 Gb/s announce one address.
pub(crate) fn weights(cell: &Cell<'_>) -> Result<()> {
    const LINKS: [&str; 3] = ["125000000", "250000000", "1250000000"];
    let prefixes = cell.prefixes();
    let mut announcers = Vec::new();
    for (node, link) in cell.nodes.iter().zip(LINKS) {
        let announcer = Announcer::new(cell.scratch, node)
            .with("--peer", TOR_IPV4)
            .with("--prefix", prefixes[0])
            .with("--prefix", prefixes[1])
            .with("--extended-community", format!("lb:64700:{link}"));
        announcers.push(announcer.start()?);
    }
    let expected: &[u64] = match cell.router.name() {
        // FRR's share of 100, rounded down.
        "FRR" => &[7, 15, 76],
        _ => &[1, 1, 1],
    };
    for prefix in prefixes {
        let expected: BTreeMap<IpAddr, u64> = cell
            .nodes
            .iter()
            .map(|node| {
                if prefix.addr().is_ipv4() {
                    IpAddr::V4(node.ipv4)
                } else {
                    IpAddr::V6(node.ipv6)
                }
            })
            .zip(expected.iter().copied())
            .collect();
        until(format!("weights of {prefix}"), UP, || {
            let found = cell.rack.tor.kernel_weights(&prefix.to_string())?;
            ensure!(found == expected, "{found:?}");
            Ok(())
        })?;
    }
    Ok(())
}

pub(crate) fn gtsm(cell: &Cell<'_>) -> Result<()> {
    cell.run(&cell.dialler().with("--gtsm", 1)).map(drop)
}

pub(crate) fn without_gtsm(cell: &Cell<'_>) -> Result<()> {
    let _announcer = cell.dialler().start()?;
    let peer = cell.address();
    holds("no session", Duration::from_secs(4), || {
        let sessions = cell.router.sessions()?;
        ensure!(!sessions.contains_key(&peer), "{sessions:?}");
        Ok(())
    })
}

pub(crate) fn ipv6_only(cell: &Cell<'_>) -> Result<()> {
    let _announcer = cell.announcer().with("--peer", TOR_IPV6).start()?;
    let [v4, v6] = cell.prefixes().map(|prefix| prefix.to_string());
    let node = cell.node();
    let next_hop = node.ipv6.to_string();
    let expected = [&v4, &v6].map(|prefix| RouteEntry::new(prefix, &next_hop));
    let expected: BTreeSet<RouteEntry> = expected.into_iter().collect::<Result<_>>()?;
    cell.await_routes(&expected, UP)?;
    if cell.router.installs_routes() {
        let next_hops = BTreeSet::from([IpAddr::V6(node.ipv6)]);
        await_kernel(&cell.rack.tor, &v4, &next_hops, AT_ONCE)?;
        await_kernel(&cell.rack.tor, &v6, &next_hops, AT_ONCE)?;
    }
    Ok(())
}

pub(crate) fn extended_messages(cell: &Cell<'_>) -> Result<()> {
    // 2,000 prefixes of 17 octets: nine messages of 4,096 octets, or one.
    let prefixes: Vec<String> = (0..2000)
        .map(|host| format!("2001:db8:8654::{host:x}/128"))
        .collect();
    let file = cell.scratch.file("many-prefixes");
    fs::write(&file, prefixes.join("\n"))?;
    let _announcer = cell
        .dialler()
        .with("--prefix-file", file.display())
        .start()?;
    until("all prefixes", UP, || {
        let count = cell.held()?.len();
        ensure!(count == prefixes.len() + 2, "{count}");
        Ok(())
    })?;
    agreed(cell, EXTENDED_MESSAGE)?;
    // BIRD counts prefixes instead.
    if cell.router.name() != "BIRD" {
        let updates = cell.router.updates_from(cell.address())?;
        ensure!(updates < 9, "{updates} UPDATEs");
    }
    Ok(())
}

/// They offer it, we don't, and the routes come without path identifiers.
pub(crate) fn add_path(cell: &Cell<'_>) -> Result<()> {
    cell.run(&cell.dialler()).map(drop)
}

pub(crate) fn enhanced_refresh(cell: &Cell<'_>) -> Result<()> {
    let _announcer = cell.run(&cell.dialler())?;
    agreed(cell, ENHANCED_REFRESH)?;
    cell.router.refresh(cell.address())?;
    holds("the routes", Duration::from_secs(2), || {
        cell.holds_exactly(&cell.routes()?)
    })
}

/// What a router says of a capability that both have, and how often.
const EXTENDED_MESSAGE: &[(&str, &str)] = &[
    ("BIRD", "Extended message"),
    ("FRR", r#""extendedMessage":"advertisedAndReceived""#),
    ("ExaBGP", r#""name": "extended-message""#),
];
const ENHANCED_REFRESH: &[(&str, &str)] = &[
    ("BIRD", "Enhanced refresh"),
    ("FRR", r#""enhancedRouteRefresh":"advertisedAndReceived""#),
    ("OpenBGPD", r#""enhanced_refresh": true"#),
];

/// The router says that both have the capability: BIRD and OpenBGPD once for themselves
/// and once for their neighbour.
fn agreed(cell: &Cell<'_>, table: &[(&str, &str)]) -> Result<()> {
    let wanted = words(cell, table)?;
    let described = cell.router.describe_peer(cell.address())?;
    let times = if matches!(cell.router.name(), "FRR" | "ExaBGP") {
        1
    } else {
        2
    };
    let found = described.matches(wanted).count();
    ensure!(found >= times, "{found} times {wanted:?} in {described}");
    Ok(())
}

pub(crate) fn two_octet_as(cell: &Cell<'_>) -> Result<()> {
    let _announcer = cell.run(&cell.dialler().local_asn(4_200_000_700))?;
    for prefix in cell.prefixes() {
        let described = cell.router.describe(prefix)?;
        ensure!(described.contains("4200000700"), "{described}");
    }
    Ok(())
}
