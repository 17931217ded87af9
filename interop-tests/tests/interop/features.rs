//! Scenarios with optional features of routers: attributes, capabilities, GTSM, link-local
//! sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::manifest::{self, NAMESPACE};
use ferrolb_interop_tests::router::{Kind, RouteEntry, await_kernel_routes};
use ferrolb_interop_tests::topology::{TOR_IPV4, TOR_IPV6, TOR_LINK_LOCAL};

use crate::{Cell, IMMEDIATELY, UP, restarts};

/// AS of the collector in the examples `collector`.
const COLLECTOR_ASN: u32 = 64800;

/// The route target `rt:64700:7` in the output of each router.
const ROUTE_TARGET: &[(Kind, &str)] = &[
    (Kind::Bird, "(rt, 64700, 7)"),
    (Kind::Frr, "RT:64700:7"),
    (Kind::Gobgp, r#""value":"64700:7""#),
    (Kind::Openbgpd, "rt 64700:7"),
    (Kind::Exabgp, "target:64700:7"),
    (Kind::Ferrolb, "rt:64700:7"),
];

/// The entry of this cell's router.
fn lookup<T: Copy>(cell: &Cell<'_>, table: &[(Kind, T)]) -> Result<T> {
    let kind = cell.router.kind();
    let found = table.iter().find(|(router, _)| *router == kind);
    Ok(found.with_context(|| format!("no entry for {kind:?}"))?.1)
}

pub(crate) fn extended_communities(cell: &Cell<'_>) -> Result<()> {
    router_shows(cell, "--extended-community", "rt:64700:7", ROUTE_TARGET)
}

/// The route target `rt:[2001:db8::1]:7` in the output of each router.
const IPV6_ROUTE_TARGET: &[(Kind, &str)] = &[
    (Kind::Bird, "BGP.19 [t]: 00 02 20 01 0d b8"),
    (Kind::Gobgp, r#""value":"2001:db8::1:7""#),
    (Kind::Openbgpd, "000220010db80000000000000000000000010007"),
    // Without leading zeros.
    (Kind::Exabgp, "0x220010DB80000000000000000000000010007"),
    (Kind::Ferrolb, "ipv6-extended-community rt:[2001:db8::1]:7"),
];

pub(crate) fn ipv6_extended_communities(cell: &Cell<'_>) -> Result<()> {
    let option = "--ipv6-extended-community";
    router_shows(cell, option, "rt:[2001:db8::1]:7", IPV6_ROUTE_TARGET)
}

/// Announces routes with this option and checks that the router shows the value.
fn router_shows(cell: &Cell<'_>, option: &str, value: &str, table: &[(Kind, &str)]) -> Result<()> {
    let _announcer = cell.run(&cell.dialler().with(option, value))?;
    let wanted = lookup(cell, table)?;
    for prefix in cell.prefixes() {
        let described = cell.router.describe(prefix)?;
        ensure!(
            described.contains(wanted),
            "{wanted:?} is not in {described}"
        );
    }
    Ok(())
}

pub(crate) fn propagated(cell: &Cell<'_>) -> Result<()> {
    received_by_collector(
        cell,
        &[
            ("--community", "64700:120"),
            ("--large-community", "64700:1:2"),
            ("--extended-community", "rt:64700:7"),
        ],
    )
}

pub(crate) fn ipv6_propagated(cell: &Cell<'_>) -> Result<()> {
    received_by_collector(cell, &[("--ipv6-extended-community", "rt:[2001:db8::1]:7")])
}

/// The second node is a collector in another AS; it prints the routes of the first node that the
/// router propagates.
fn received_by_collector(cell: &Cell<'_>, communities: &[(&str, &str)]) -> Result<()> {
    let mut announcer = cell.dialler();
    let mut wanted = String::new();
    for (option, value) in communities {
        announcer = announcer.with(option, value);
        write!(wanted, " {} {value}", option.trim_start_matches("--"))?;
    }
    let _announcer = announcer.start()?;
    let collector = AnnounceExample::new(cell.scratch, &cell.nodes[1])
        .local_asn(COLLECTOR_ASN)
        .with("--peer", TOR_IPV4)
        .flag("--receive");
    let collector = collector.start()?;
    for prefix in cell.prefixes() {
        // On Linux OpenBGPD propagates IPv6 routes with the invalid next hop ::1.
        if cell.router.kind() == Kind::Openbgpd && prefix.addr().is_ipv6() {
            continue;
        }
        eventually(format!("{prefix} at the collector"), UP, || {
            let log = collector.log_text()?;
            let line = format!(" + {prefix} via ");
            let received = log.lines().rfind(|received| received.contains(&line));
            let received = received.context("no route")?;
            ensure!(received.ends_with(&wanted), "{received}");
            Ok(())
        })?;
    }
    Ok(())
}

/// In the output of each router without blanks: an AS_PATH of three with MULTI_EXIT_DISC 70, and
/// ATOMIC_AGGREGATE with AGGREGATOR.
const PATH_ATTRIBUTES: &[(Kind, [&[&str]; 2])] = &[
    (
        Kind::Bird,
        [
            &["BGP.as_path:647006470064700BGP", "BGP.med:70"],
            &["BGP.atomic_aggr:", "AS64700"],
        ],
    ),
    (
        Kind::Frr,
        [
            &[r#""string":"647006470064700""#, r#""metric":70"#],
            &[r#""atomicAggregate":true"#, r#""aggregatorAs":64700"#],
        ],
    ),
    (
        Kind::Gobgp,
        [
            &[r#""asns":[64700,64700,64700]"#, r#"{"type":4,"metric":70}"#],
            &[r#"{"type":6}"#, r#""type":7"#],
        ],
    ),
    (
        Kind::Openbgpd,
        [
            &["647006470064700", r#""metric":70"#],
            &["AtomicAggregate", r#""AS":64700"#],
        ],
    ),
    (
        Kind::Exabgp,
        [
            &[r#""as-path":[64700,64700,64700]"#, r#""med":70"#],
            &[r#""atomic-aggregate":true"#, r#""aggregator":"64700:"#],
        ],
    ),
];

/// Runs the daemon with `prepend` and `med` in the BGPPeer, and an aggregate of Services with
/// different communities.
pub(crate) fn path_attributes(cell: &Cell<'_>) -> Result<()> {
    let scratch = cell.scratch.within("path-attributes")?;
    let folder = restarts::folder(cell, &scratch)?;
    let more = ", dualStackAddressFamily: true, prepend: 2, med: 70";
    folder.write("peer.yaml", &manifest::ferrolb_peer(TOR_IPV4, more))?;
    folder.write("aggregate.yaml", &aggregate(cell))?;
    let _daemon = folder.run(cell.node())?;
    let expected = lookup(cell, PATH_ATTRIBUTES)?;
    for (prefix, texts) in [cell.prefixes()[0], AGGREGATE.parse()?]
        .into_iter()
        .zip(expected)
    {
        eventually(format!("{prefix} with its attributes"), UP, || {
            let described = cell.router.describe(prefix)?;
            let plain: String = described.split_whitespace().collect();
            for text in texts {
                ensure!(plain.contains(text), "{text:?} is not in {plain}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

const AGGREGATE: &str = "198.51.100.2/31";

/// Two pools with a Service each inside one aggregate, announced with different communities.
fn aggregate(cell: &Cell<'_>) -> String {
    let node = &cell.node().name;
    let side = |name: &str, range: &str, host: u8| {
        let address = format!("198.51.100.{host}");
        let resources = format!(
            "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{addresses: [{range}]}}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{ipAddressPools: [{name}], aggregationLength: 31, communities: [\"64700:{host}\"]}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1{host}
  clusterIPs: [10.96.0.1{host}]
  ipFamilies: [IPv4]
  ports: [{{port: 80}}]
status: {{loadBalancer: {{ingress: [{{ip: {address}}}]}}}}
"
        );
        let endpoint = format!("10.244.0.1{host}");
        manifest::join(&[
            &resources,
            &manifest::endpoint_slice(name, "IPv4", &endpoint, node),
        ])
    };
    manifest::join(&[
        &side("low", "198.51.100.0-198.51.100.2", 2),
        &side("high", "198.51.100.3-198.51.100.6", 3),
    ])
}

/// Three nodes with link bandwidths of 1, 2 and 10 Gb/s announce the same prefixes.
pub(crate) fn weights(cell: &Cell<'_>) -> Result<()> {
    const LINKS: [&str; 3] = ["125000000", "250000000", "1250000000"];
    let prefixes = cell.prefixes();
    let mut announcers = Vec::new();
    for (node, link) in cell.nodes.iter().zip(LINKS) {
        let announcer = AnnounceExample::new(cell.scratch, node)
            .with("--peer", TOR_IPV4)
            .with("--prefix", prefixes[0])
            .with("--prefix", prefixes[1])
            .with("--extended-community", format!("lb:64700:{link}"));
        announcers.push(announcer.start()?);
    }
    let expected: &[u64] = match cell.router.kind() {
        // FRR computes shares of 100, rounded down.
        Kind::Frr => &[7, 15, 76],
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
        eventually(format!("weights of {prefix}"), UP, || {
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
    consistently("no session", Duration::from_secs(4), || {
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
        await_kernel_routes(&cell.rack.tor, &expected, IMMEDIATELY)?;
    }
    Ok(())
}

/// IPv6 routes with a global and a link-local next hop.
pub(crate) fn link_local(cell: &Cell<'_>) -> Result<()> {
    link_local_session(cell, false)
}

/// IPv4 routes with the same next hops as IPv6 routes.
pub(crate) fn ipv4_link_local(cell: &Cell<'_>) -> Result<()> {
    link_local_session(cell, true)
}

/// Runs the daemon with a BGPPeer with a link-local address.
fn link_local_session(cell: &Cell<'_>, dual_stack: bool) -> Result<()> {
    let node = cell.node();
    let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, node.ipv6.segments()[7]);
    node.namespace.address("uplink", &format!("{own}/64"))?;
    let scratch = cell.scratch.within(&format!("link-local-{}", node.name))?;
    let folder = restarts::folder(cell, &scratch)?;
    let more = format!(
        ", sourceAddress: \"{own}\", sourceInterface: uplink, dualStackAddressFamily: {dual_stack}"
    );
    folder.write("peer.yaml", &manifest::ferrolb_peer(TOR_LINK_LOCAL, &more))?;
    let _daemon = folder.run(node)?;
    let [v4, v6] = cell.prefixes();
    let prefixes = if dual_stack { vec![v4, v6] } else { vec![v6] };
    let next_hop = node.ipv6.to_string();
    let expected = prefixes
        .iter()
        .map(|prefix| RouteEntry::new(&prefix.to_string(), &next_hop));
    cell.await_routes(&expected.collect::<Result<_>>()?, UP)?;
    if !cell.router.installs_routes() {
        return Ok(());
    }
    for prefix in prefixes {
        eventually(format!("{prefix} in the kernel"), IMMEDIATELY, || {
            let found = cell.rack.tor.kernel_next_hops(&prefix.to_string())?;
            // FRR uses the link-local next hop, BIRD the global one if it is on the link.
            let sent = [own, node.ipv6].map(|address| BTreeSet::from([IpAddr::V6(address)]));
            ensure!(sent.contains(&found), "{found:?}");
            Ok(())
        })?;
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
    eventually("all prefixes", UP, || {
        let count = cell.received()?.len();
        ensure!(count == prefixes.len() + 2, "{count}");
        Ok(())
    })?;
    negotiated(cell, EXTENDED_MESSAGE)?;
    // BIRD counts prefixes, not UPDATEs.
    if cell.router.kind() != Kind::Bird {
        let updates = cell.router.updates_from(cell.address())?;
        ensure!(updates < 9, "{updates} UPDATEs");
    }
    Ok(())
}

/// The router advertises ADD-PATH, ferrolb does not: routes have no path identifiers.
pub(crate) fn add_path(cell: &Cell<'_>) -> Result<()> {
    cell.run(&cell.dialler()).map(drop)
}

pub(crate) fn enhanced_refresh(cell: &Cell<'_>) -> Result<()> {
    let _announcer = cell.run(&cell.dialler())?;
    negotiated(cell, ENHANCED_REFRESH)?;
    cell.router.refresh(cell.address())?;
    consistently("the routes", Duration::from_secs(2), || {
        cell.check_routes(&cell.routes()?)
    })
}

/// The negotiated capability in the router's description of the peer.
const EXTENDED_MESSAGE: &[(Kind, &str)] = &[
    (Kind::Bird, "Extended message"),
    (Kind::Frr, r#""extendedMessage":"advertisedAndReceived""#),
    (Kind::Exabgp, r#""name": "extended-message""#),
];
const ENHANCED_REFRESH: &[(Kind, &str)] = &[
    (Kind::Bird, "Enhanced refresh"),
    (
        Kind::Frr,
        r#""enhancedRouteRefresh":"advertisedAndReceived""#,
    ),
    (Kind::Openbgpd, r#""enhanced_refresh": true"#),
];

/// Checks that the router shows the capability as negotiated. BIRD and OpenBGPD list it once for
/// themselves and once for the neighbor.
fn negotiated(cell: &Cell<'_>, table: &[(Kind, &str)]) -> Result<()> {
    let wanted = lookup(cell, table)?;
    let described = cell.router.describe_peer(cell.address())?;
    let times = if matches!(cell.router.kind(), Kind::Frr | Kind::Exabgp) {
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
