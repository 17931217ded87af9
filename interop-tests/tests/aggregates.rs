//! Aggregates that are announced without a Service inside, and what the nodes do with packets to
//! addresses of them that no Service has.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::bounce::{Bounces, PACKETS, traceroute};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL};
use ferrolb_interop_tests::metrics;
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::router::{Bird, RouteEntry, Router, await_kernel, await_table};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{Node, TOR_IPV4, Topology, ipv4_addresses};

const PREFIXES: [&str; 2] = ["192.0.2.0/24", "2001:db8:5::/64"];
/// Addresses in them that no Service has.
const UNUSED: [&str; 2] = ["192.0.2.77", "2001:db8:5::77"];
const TIMEOUT: Duration = Duration::from_secs(30);
/// What other programs remove is added again after 30 s.
const REFRESH: Duration = Duration::from_secs(45);
/// The table of discard routes.
const TABLE: &str = "1717922914";

/// ferrolb's BGPAdvertisement of the pool, whole.
fn always(pool: &str) -> String {
    format!(
        "apiVersion: ferrolb.io/v1alpha1
kind: BGPAdvertisement
metadata: {{name: whole, namespace: metallb-system}}
spec:
  ipAddressPools: [{pool}]
  aggregationLength: 24
  aggregationLengthV6: 64
  announceAggregates: always
  communities: [\"64700:120\", \"large:64700:300:100\"]
"
    )
}

/// The routes of these nodes.
fn routes(nodes: &[&Node]) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for node in nodes {
        let next_hops = [node.ipv4.to_string(), node.ipv6.to_string()];
        for (prefix, next_hop) in PREFIXES.iter().zip(next_hops) {
            let route = RouteEntry::new(prefix, &next_hop)?;
            let route = route.communities(&["64700:120"]);
            routes.insert(route.large_communities(&["64700:300:100"]));
        }
    }
    Ok(routes)
}

/// Waits until a node discards packets to both prefixes, or to none.
fn await_discarded(node: &Node, expected: bool, timeout: Duration) -> Result<()> {
    eventually(
        format!("{} discards: {expected}", node.name),
        timeout,
        || {
            let (mut rules, mut routes) = (String::new(), String::new());
            for family in ["-4", "-6"] {
                rules += &node.namespace.ip(&[family, "rule"])?;
                // Without a route the table doesn't exist, which is an error.
                let table = ["route", "show", "table", TABLE];
                let table = [&[family], &table[..]].concat();
                routes += &node.namespace.ip(&table).unwrap_or_default();
            }
            let found = PREFIXES.iter().filter(|prefix| routes.contains(*prefix));
            let count = if expected { 2 } else { 0 };
            ensure!(
                rules.matches(TABLE).count() == count && found.count() == count,
                "rules: {rules} routes: {routes}"
            );
            Ok(())
        },
    )
}

fn check_no_bounce(rack: &Topology) -> Result<()> {
    for target in UNUSED {
        let bounces = Bounces::count(rack, target.parse()?)?;
        ensure!(bounces == Bounces::NONE, "{target}: {bounces:?}");
        // The router, and then no answer: the node discards the packet.
        let hops = traceroute(rack, target.parse()?)?;
        let answered = hops.iter().flatten().count();
        ensure!(answered == 1 && hops[0].is_some(), "{target}: {hops:?}");
    }
    Ok(())
}

/// A probe that a node sends back. Otherwise [`check_no_bounce`] would show nothing.
fn check_bounce_without_rules(rack: &Topology) -> Result<()> {
    for node in &rack.nodes {
        for family in ["-4", "-6"] {
            node.namespace
                .ip(&[family, "rule", "del", "pref", "32765"])?;
        }
    }
    for target in UNUSED {
        let bounces = Bounces::count(rack, target.parse()?)?;
        ensure!(
            bounces.by_nodes > 100 && bounces.time_exceeded > 0,
            "{target}: {bounces:?}"
        );
        // The router is every second hop.
        let hops = traceroute(rack, target.parse()?)?;
        let is_repeated = |hop| hops.iter().flatten().filter(|other| *other == hop).count() > 2;
        ensure!(hops.iter().flatten().any(is_repeated), "{target}: {hops:?}");
    }
    Ok(())
}

/// Some service proxies deliver by host routes in the main table.
fn check_host_routes_take_precedence(rack: &Topology) -> Result<()> {
    const DELIVERED: &str = "192.0.2.200";
    let proxy = Namespace::new("proxy")?;
    for node in &rack.nodes {
        Link::new((&node.namespace, "proxy"), (&proxy, &node.name))?;
        let ip = |arguments: &[&str]| node.namespace.ip(arguments);
        ip(&["route", "add", DELIVERED, "dev", "proxy"])?;
        let ethernet = ["lladdr", "02:00:00:00:00:01", "dev", "proxy"];
        ip(&[&["neigh", "add", DELIVERED], &ethernet[..]].concat())?;
    }
    let delivered = Bounces::count(rack, DELIVERED.parse()?)?;
    let all = Bounces {
        by_nodes: PACKETS,
        ..Bounces::NONE
    };
    ensure!(delivered == all, "{delivered:?}");
    Ok(())
}

#[test]
fn a_whole_aggregate_arrives_without_a_service_and_no_packet_bounces() {
    scenario("aggregates-always", |scratch| {
        let mut rack = Topology::new(2)?;
        rack.add_client()?;
        let [first, second] = &rack.nodes[..] else {
            unreachable!("two nodes");
        };
        let mut router = Bird::new(scratch, &rack.tor, "ebgp");
        router.start()?;
        let folder = Folder::new(scratch)?;
        let peer = manifest::ferrolb_peer(
            TOR_IPV4,
            ", dualStackAddressFamily: true, drain: {time: 1s}",
        );
        let pool = manifest::pool("192.0.2.0/24, \"2001:db8:5::/64\"");
        folder.write("all.yaml", &manifest::join(&[&peer, &pool]))?;
        folder.write("whole.yaml", &always("pool"))?;
        for node in &rack.nodes {
            folder.write_node(node, &[])?;
        }
        let planned = folder.plan()?.routes(&[first, second], "tor")?;
        ensure!(planned == routes(&[first, second])?, "{planned:?}");
        let mut daemon = folder.run_with_only(first, "all", "net_admin")?;
        let _second = folder.run_with_only(second, "all", "net_admin")?;
        await_table(&router, &planned, TIMEOUT)?;
        await_kernel(
            &rack.tor,
            PREFIXES[0],
            &ipv4_addresses(&[first, second]),
            TIMEOUT,
        )?;
        check_no_bounce(&rack)?;
        check_bounce_without_rules(&rack)?;
        await_discarded(first, true, REFRESH)?;
        await_discarded(second, true, REFRESH)?;
        check_no_bounce(&rack)?;
        check_host_routes_take_precedence(&rack)?;

        // A node that is excluded drains its aggregates; the last one keeps them.
        folder.write_node(first, &[(EXCLUDE_LABEL, "")])?;
        await_table(&router, &routes(&[second])?, TIMEOUT)?;
        // A process that ends there for good discards no longer.
        await_discarded(first, true, Duration::ZERO)?;
        ensure!(daemon.terminate(TIMEOUT)?.success());
        await_discarded(first, false, Duration::ZERO)?;
        folder.write_node(first, &[])?;
        daemon = folder.run_with_only(first, "all", "net_admin")?;
        await_table(&router, &planned, TIMEOUT)?;

        // A restart leaves them in place, and the next process removes what is not wanted any more.
        ensure!(daemon.terminate(TIMEOUT)?.success());
        await_discarded(first, true, Duration::ZERO)?;
        folder.remove("whole.yaml")?;
        await_table(&router, &BTreeSet::new(), TIMEOUT)?;
        await_discarded(second, false, TIMEOUT)?;
        let _first = folder.run_with_only(first, "all", "net_admin")?;
        await_discarded(first, false, TIMEOUT)
    });
}

/// A pool of which a Service is announced in an aggregate, as MetalLB does.
const WITH_SERVICE: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: used, namespace: metallb-system}
spec: {addresses: [198.51.100.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: used, namespace: metallb-system}
spec: {ipAddressPools: [used], aggregationLength: 24}
";

#[test]
fn without_net_admin_an_aggregate_needs_a_service_inside_and_the_log_says_why() {
    scenario("aggregates-unprivileged", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0];
        let mut router = Bird::new(scratch, &rack.tor, "ebgp");
        router.start()?;
        let folder = Folder::new(scratch)?;
        let manifests = [
            manifest::ferrolb_peer(TOR_IPV4, ""),
            manifest::pool("192.0.2.0/24"),
            always("pool"),
            WITH_SERVICE.to_owned(),
            manifest::service("web", "annotations: {metallb.io/address-pool: used},", ""),
            manifest::endpoint_slice("web", "IPv4", "10.244.0.5", "node1"),
        ];
        let manifests: Vec<&str> = manifests.iter().map(String::as_str).collect();
        folder.write("all.yaml", &manifest::join(&manifests))?;
        folder.write_node(node, &[])?;
        let daemon = folder.run_without(node, "all", "net_admin")?;
        let used = RouteEntry::new("198.51.100.0/24", &node.ipv4.to_string())?;
        let expected = [used].into();
        await_table(&router, &expected, TIMEOUT)?;
        daemon.await_log(
            &[
                "WARN",
                "Node node1",
                "CannotDiscard",
                "NET_ADMIN",
                "not permitted",
            ],
            TIMEOUT,
        )?;
        let metric = "ferrolb_bgp_undiscarded_aggregates";
        eventually("the metric", TIMEOUT, || {
            ensure!(metrics::value(&node.namespace, metric)? == 2.0);
            Ok(())
        })?;
        consistently("no other aggregate", Duration::from_secs(3), || {
            ensure!(router.table()? == expected);
            Ok(())
        })?;
        let log = daemon.log_text()?;
        let warnings = log.matches("CannotDiscard").count();
        ensure!(warnings == 1, "{warnings} warnings: {log}");
        Ok(())
    });
}
