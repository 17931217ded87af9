//! What a router may have or not have: attributes, capabilities, GTSM.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::announce_example::AnnounceExample;
use ferrolb_interop_tests::daemon::CONFIG_NAMESPACE;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::router::{RouteEntry, await_kernel};
use ferrolb_interop_tests::topology::{NODE_ASN, TOR_ASN, TOR_IPV4, TOR_IPV6, TOR_LINK_LOCAL};

use crate::{AT_ONCE, Cell, UP, restarts};

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
    shown(cell, "--extended-community", "rt:64700:7", ROUTE_TARGET)
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
    shown(cell, option, "rt:[2001:db8::1]:7", IPV6_ROUTE_TARGET)
}

/// What is announced with this option is told by the router in its words.
fn shown(cell: &Cell<'_>, option: &str, value: &str, table: &[(&str, &str)]) -> Result<()> {
    let _announcer = cell.run(&cell.dialler().with(option, value))?;
    let wanted = words(cell, table)?;
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
    let collector = AnnounceExample::new(cell.scratch, &cell.nodes[1])
        .local_asn(COLLECTOR_ASN)
        .with("--peer", TOR_IPV4)
        .flag("--receive");
    let collector = collector.start()?;
    for prefix in cell.prefixes() {
        // On Linux its IPv6 next hop is ::1, which is none.
        if cell.router.name() == "OpenBGPD" && prefix.addr().is_ipv6() {
            continue;
        }
        eventually(format!("{prefix} at the collector"), UP, || {
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

/// AS_PATH of three, MULTI_EXIT_DISC 70; then ATOMIC_AGGREGATE and AGGREGATOR. As each of them prints it, without blanks.
const PATH_ATTRIBUTES: &[(&str, [&[&str]; 2])] = &[
    (
        "BIRD",
        [
            &["BGP.as_path:647006470064700BGP", "BGP.med:70"],
            &["BGP.atomic_aggr:", "AS64700"],
        ],
    ),
    (
        "FRR",
        [
            &[r#""string":"647006470064700""#, r#""metric":70"#],
            &[r#""atomicAggregate":true"#, r#""aggregatorAs":64700"#],
        ],
    ),
    (
        "GoBGP",
        [
            &[r#""asns":[64700,64700,64700]"#, r#"{"type":4,"metric":70}"#],
            &[r#"{"type":6}"#, r#""type":7"#],
        ],
    ),
    (
        "OpenBGPD",
        [
            &["647006470064700", r#""metric":70"#],
            &["AtomicAggregate", r#""AS":64700"#],
        ],
    ),
    (
        "ExaBGP",
        [
            &[r#""as-path":[64700,64700,64700]"#, r#""med":70"#],
            &[r#""atomic-aggregate":true"#, r#""aggregator":"64700:"#],
        ],
    ),
];

/// The daemon's: `prepend` and `med` of the BGPPeer; an aggregate of services that differ.
pub(crate) fn path_attributes(cell: &Cell<'_>) -> Result<()> {
    let scratch = cell.scratch.within("path-attributes")?;
    let folder = restarts::folder(cell, &scratch)?;
    folder.write(
        "peer.yaml",
        &format!(
            "apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor, namespace: {CONFIG_NAMESPACE}}}
spec: {{myASN: {NODE_ASN}, peerASN: {TOR_ASN}, peerAddress: {TOR_IPV4}, dualStackAddressFamily: true, prepend: 2, med: 70}}
"
        ),
    )?;
    folder.write("aggregate.yaml", &aggregate(cell))?;
    let _daemon = folder.run(cell.node())?;
    let name = cell.router.name();
    let found = PATH_ATTRIBUTES.iter().find(|(router, _)| *router == name);
    let (_, wanted) = found.with_context(|| format!("no words for {name}"))?;
    for (prefix, words) in [cell.prefixes()[0], AGGREGATE.parse()?]
        .into_iter()
        .zip(wanted)
    {
        eventually(format!("{prefix} with its attributes"), UP, || {
            let described = cell.router.describe(prefix)?;
            let plain: String = described.split_whitespace().collect();
            for word in *words {
                ensure!(plain.contains(word), "{word:?} is not in {plain}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

const AGGREGATE: &str = "198.51.100.2/31";

/// Two pools that meet inside one aggregate, announced with different communities, and a service on each side.
fn aggregate(cell: &Cell<'_>) -> String {
    let node = &cell.node().name;
    let side = |name: &str, range: &str, address: u8| {
        format!(
            "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: {name}, namespace: {CONFIG_NAMESPACE}}}
spec: {{addresses: [{range}]}}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {{name: {name}, namespace: {CONFIG_NAMESPACE}}}
spec: {{ipAddressPools: [{name}], aggregationLength: 31, communities: [\"64700:{address}\"]}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1{address}
  clusterIPs: [10.96.0.1{address}]
  ipFamilies: [IPv4]
  ports: [{{port: 80}}]
status: {{loadBalancer: {{ingress: [{{ip: 198.51.100.{address}}}]}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-4, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{{addresses: [10.244.0.1{address}], nodeName: {node}, conditions: {{ready: true}}}}]
---
"
        )
    };
    side("low", "198.51.100.0-198.51.100.2", 2) + &side("high", "198.51.100.3-198.51.100.6", 3)
}

/// Three nodes with links of 1, 2 and 10 Gb/s announce one address.
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
        let next_hops = BTreeSet::from([IpAddr::V6(node.ipv6)]);
        await_kernel(&cell.rack.tor, &v4, &next_hops, AT_ONCE)?;
        await_kernel(&cell.rack.tor, &v6, &next_hops, AT_ONCE)?;
    }
    Ok(())
}

/// IPv6 routes with both next hops.
pub(crate) fn link_local(cell: &Cell<'_>) -> Result<()> {
    between_link_local_addresses(cell, false)
}

/// IPv4 routes with the same next hops.
pub(crate) fn ipv4_link_local(cell: &Cell<'_>) -> Result<()> {
    between_link_local_addresses(cell, true)
}

/// The daemon, with a BGPPeer whose address is a link-local one.
fn between_link_local_addresses(cell: &Cell<'_>, dual_stack: bool) -> Result<()> {
    let node = cell.node();
    let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, node.ipv6.segments()[7]);
    node.namespace.address("uplink", &format!("{own}/64"))?;
    let scratch = cell.scratch.within(&format!("link-local-{}", node.name))?;
    let folder = restarts::folder(cell, &scratch)?;
    let peer = format!(
        "apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor, namespace: {CONFIG_NAMESPACE}}}
spec: {{myASN: {NODE_ASN}, peerASN: {TOR_ASN}, peerAddress: \"{TOR_LINK_LOCAL}\", sourceAddress: \"{own}\",
  sourceInterface: uplink, dualStackAddressFamily: {dual_stack}}}
"
    );
    folder.write("peer.yaml", &peer)?;
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
        eventually(format!("{prefix} in the kernel"), AT_ONCE, || {
            let found = cell.rack.tor.kernel_next_hops(&prefix.to_string())?;
            // FRR prefers the link-local one, BIRD the global one where that is on the link.
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
    consistently("the routes", Duration::from_secs(2), || {
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
