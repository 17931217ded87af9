//! The daemon on four nodes against each filtering router: the router's table always equals the
//! output of `ferrolb plan`, also after configuration errors, crashes, cut links and restarts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::daemon::{Folder, retry_delays};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::manifest::EXCLUDE_LABEL;
use ferrolb_interop_tests::metrics;
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{
    Kind, RouteEntry, Router, await_kernel_routes, await_sessions, await_table, check_table,
    router_scenario,
};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{
    MD5_PASSWORD, NODE_ASN, Node, TOR_ASN, TOR_IPV4, TOR_IPV6, Topology, ipv4_addresses,
};

const UP: Duration = Duration::from_secs(30);
const HOLD_TIME: Duration = Duration::from_secs(3);
/// Time for a step that waits for no timer, on a busy machine.
const IMMEDIATELY: Duration = Duration::from_secs(2);
/// Time for a shutdown with drain.
const DRAINED: Duration = Duration::from_secs(15);
/// Time to observe that a change has no effect.
const QUIET: Duration = Duration::from_secs(1);

/// The node with the exclude label.
const EXCLUDED: &str = "node4";

/// The daemons on up to four nodes and their common folder of manifests.
struct Rack<'lab> {
    topology: &'lab Topology,
    folder: Folder<'lab>,
    daemons: Vec<Process>,
}

impl<'lab> Rack<'lab> {
    fn new(scratch: &'lab Scratch, topology: &'lab Topology, peers: &str) -> Result<Self> {
        let folder = Folder::new(scratch)?;
        for node in &topology.nodes {
            let labels: &[(&str, &str)] = match node.name.as_str() {
                "node3" => &[],
                EXCLUDED => &[(EXCLUDE_LABEL, "")],
                _ => &[("role", "edge")],
            };
            folder.write_node(node, labels)?;
        }
        folder.write("pools.yaml", include_str!("routers/pools.yaml"))?;
        folder.write("services.yaml", include_str!("routers/services.yaml"))?;
        folder.write("peers.yaml", peers)?;
        let mut rack = Self {
            topology,
            folder,
            daemons: Vec::new(),
        };
        rack.set_ready(true)?;
        for node in &topology.nodes {
            rack.daemons.push(rack.folder.run(node)?);
        }
        Ok(rack)
    }

    /// Sets whether the Pod of the Service `web` on node2 is ready.
    fn set_ready(&self, ready: bool) -> Result<()> {
        let text = include_str!("routers/web-endpoints.yaml");
        self.folder.write(
            "web-endpoints.yaml",
            &text.replace("{node2-ready}", &ready.to_string()),
        )
    }

    fn nodes(&self) -> Vec<&'lab Node> {
        self.topology.nodes.iter().collect()
    }

    /// The other nodes.
    fn without(&self, names: &[&str]) -> Vec<&'lab Node> {
        let mut nodes = self.nodes();
        nodes.retain(|node| !names.contains(&node.name.as_str()));
        nodes
    }

    /// Waits until the router has exactly the planned routes of these nodes, and returns them.
    fn await_planned(
        &self,
        router: &dyn Router,
        nodes: &[&Node],
        within: Duration,
    ) -> Result<BTreeSet<RouteEntry>> {
        let planned = self.folder.plan()?.routes(nodes, "tor")?;
        await_table(router, &planned, within)?;
        Ok(planned)
    }

    /// Waits until the router's kernel, if it installs routes, has the next hops of these routes.
    fn await_kernel(&self, router: &dyn Router, routes: &BTreeSet<RouteEntry>) -> Result<()> {
        if !router.installs_routes() {
            return Ok(());
        }
        await_kernel_routes(&self.topology.tor, routes, IMMEDIATELY)
    }
}

/// A BGPPeer for all nodes.
fn peer(name: &str, more: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: {name}, namespace: metallb-system}}
spec:
  myASN: {NODE_ASN}
  holdTime: {hold_time}s
{more}",
        hold_time = HOLD_TIME.as_secs()
    )
}

/// A BGPPeer with both families over IPv4.
fn ebgp_peer() -> String {
    peer(
        "tor",
        &format!(
            "  peerASN: {TOR_ASN}\n  peerAddress: {TOR_IPV4}\n  dualStackAddressFamily: true\n"
        ),
    )
}

/// The expected routes for the manifests in `routers/`, worked out by hand; with LOCAL_PREF on
/// iBGP.
fn expected(ibgp: bool) -> Result<BTreeSet<RouteEntry>> {
    let (standard, large) = (
        ["64700:120", "64700:20"],
        ["64700:1:2", "64700:4200000000:7"],
    );
    let public = |prefix: &str, next_hop: &str| -> Result<RouteEntry> {
        let route = RouteEntry::new(prefix, next_hop)?;
        Ok(route.communities(&standard).large_communities(&large))
    };
    let mut routes = BTreeSet::from([
        // externalTrafficPolicy Local: only the two nodes with a ready Pod.
        public("203.0.113.10/32", "10.99.0.11")?,
        public("203.0.113.10/32", "10.99.0.12")?,
        public("2001:db8:113::10/128", "fd99::11")?,
        public("2001:db8:113::10/128", "fd99::12")?,
        // Cluster: all nodes except the excluded one.
        public("203.0.113.1/32", "10.99.0.11")?,
        public("203.0.113.1/32", "10.99.0.12")?,
        public("203.0.113.1/32", "10.99.0.13")?,
    ]);
    for node in ["10.99.0.11", "10.99.0.12", "10.99.0.13"] {
        routes.insert(RouteEntry::new("198.51.100.0/24", node)?.communities(&["64700:24"]));
    }
    routes = routes
        .into_iter()
        .map(|route| if ibgp { route.local_pref(100) } else { route })
        .collect();
    for node in ["10.99.0.11", "10.99.0.12"] {
        let route = RouteEntry::new("198.51.100.7/32", node)?;
        routes.insert(if ibgp { route.local_pref(150) } else { route });
    }
    Ok(routes)
}

/// Checks the plan and its reasons, and waits until the router and its kernel have the planned
/// routes.
fn first_routes(rack: &Rack<'_>, router: &dyn Router, ibgp: bool) -> Result<()> {
    let plan = rack.folder.plan()?;
    let planned = plan.routes(&rack.nodes(), "tor")?;
    let expected = expected(ibgp)?;
    ensure!(planned == expected, "plan: {}", plan.0);
    let other = plan.routes(&rack.nodes(), "elsewhere")?;
    let prefixes: BTreeSet<String> = other.iter().map(|route| route.prefix.to_string()).collect();
    ensure!(
        prefixes.contains("192.0.2.64/32"),
        "routes to the other router: {other:?}"
    );
    for (service, node, reason) in [
        ("web", "node3", "NoLocalEndpoints"),
        ("web", "node4", "NodeExcluded"),
        ("partner", "node2", "PeerNotSelected"),
        ("foreign", "node1", "ForeignLoadBalancerClass"),
        ("empty", "node1", "NoEndpoints"),
    ] {
        let reasons = plan.withheld(service, node);
        ensure!(reasons == [reason], "{service} from {node}: {reasons:?}");
    }
    await_table(router, &expected, UP)?;
    await_sessions(router, &ipv4_addresses(&rack.nodes()), UP)?;
    rack.await_kernel(router, &expected)
}

/// Checks probes and metrics of an announcing node and of the excluded one.
fn probes_and_metrics(rack: &Rack<'_>) -> Result<()> {
    let [first, .., last] = &rack.topology.nodes[..] else {
        unreachable!("four nodes");
    };
    for node in [first, last] {
        ensure!(metrics::get(&node.namespace, "/livez")?.trim() == "ok");
        ensure!(metrics::get(&node.namespace, "/readyz")?.trim() == "ok");
        let up = metrics::value(
            &node.namespace,
            "metallb_bgp_session_up{peer=\"10.99.0.1:179\"}",
        )?;
        ensure!(up == 1.0, "{up}");
    }
    let planned = rack.folder.plan()?.routes(&[first], "tor")?.len();
    let name = "metallb_bgp_announced_prefixes_total{peer=\"10.99.0.1:179\"}";
    for (node, count) in [(first, planned), (last, 0)] {
        let value = metrics::value(&node.namespace, name)?;
        ensure!(
            value.to_string() == count.to_string(),
            "{}: {value}",
            node.name
        );
    }
    let down = metrics::value(
        &first.namespace,
        "metallb_bgp_session_up{peer=\"10.99.0.99:179\"}",
    )?;
    ensure!(
        down == 0.0,
        "a session with a router that does not exist: {down}"
    );
    Ok(())
}

/// Runs `step` and checks that no session was lost.
fn without_reset(router: &dyn Router, step: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = router.sessions()?;
    step()?;
    let after = router.sessions()?;
    ensure!(before == after, "sessions {before:?} became {after:?}");
    Ok(())
}

/// Invalid manifests are reported with their place, and the announced routes stay.
fn invalid_manifests(rack: &Rack<'_>, router: &dyn Router) -> Result<()> {
    let planned = rack.folder.plan()?.routes(&rack.nodes(), "tor")?;
    let (bad_peer, bad_syntax) = (
        ebgp_peer().replace("10.99.0.1\n", "10.99.0.300\n"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: [web\n",
    );
    for (file, good, bad, place, message) in [
        (
            "peers.yaml",
            ebgp_peer(),
            bad_peer.as_str(),
            "BGPPeer metallb-system/tor",
            "\"10.99.0.300\" is not an IP address",
        ),
        (
            "services.yaml",
            include_str!("routers/services.yaml").to_owned(),
            bad_syntax,
            "services.yaml:3",
            "not valid YAML",
        ),
    ] {
        ensure!(
            rack.folder.check()?.valid,
            "{}",
            rack.folder.check()?.output
        );
        rack.folder.write(file, bad)?;
        for daemon in &rack.daemons {
            eventually("the error in the log", IMMEDIATELY, || {
                daemon.check_log(&["ERROR", place, message])
            })?;
        }
        // An invalid object is counted as rejected, invalid YAML as a source error.
        let (object, source) = if file == "peers.yaml" {
            (true, 0.0)
        } else {
            (false, 1.0)
        };
        eventually("the metrics", IMMEDIATELY, || {
            check_error_metrics(rack, object, source)
        })?;
        consistently(format!("table with an invalid {file}"), QUIET, || {
            check_table(router, &planned)
        })?;
        let checked = rack.folder.check()?;
        ensure!(
            !checked.valid && checked.output.contains(place) && checked.output.contains(message),
            "{}",
            checked.output
        );
        rack.folder.write(file, &good)?;
        eventually("the metrics after the correction", IMMEDIATELY, || {
            check_error_metrics(rack, false, 0.0)
        })?;
    }
    Ok(())
}

/// Checks the first node's metrics of the rejected BGPPeer and of source errors.
fn check_error_metrics(rack: &Rack<'_>, object: bool, source: f64) -> Result<()> {
    let first = &rack.topology.nodes[0];
    let stale = metrics::value(&first.namespace, "metallb_k8s_client_config_stale_bool")?;
    let expected = object || source > 0.0;
    ensure!((stale == 1.0) == expected, "stale: {stale}");
    let peer =
        "ferrolb_object_refused_bool{kind=\"BGPPeer\",name=\"tor\",namespace=\"metallb-system\"}";
    let rejected = metrics::value(&first.namespace, peer).is_ok_and(|value| value == 1.0);
    ensure!(rejected == object, "rejected: {rejected}");
    let errors = metrics::value(&first.namespace, "ferrolb_source_errors")?;
    ensure!(errors == source, "source errors: {errors}");
    Ok(())
}

/// Pods, Services and advertisements change; sessions stay.
fn services_change(rack: &Rack<'_>, router: &dyn Router) -> Result<()> {
    let all = rack.nodes();
    rack.set_ready(false)?;
    let planned = rack.await_planned(router, &all, IMMEDIATELY)?;
    let gone = RouteEntry::new("203.0.113.10/32", "10.99.0.12")?;
    ensure!(
        planned.len() + 2 == expected(false)?.len()
            && !planned
                .iter()
                .any(|route| { route.prefix == gone.prefix && route.next_hop == gone.next_hop }),
        "{planned:?}"
    );
    rack.await_kernel(router, &planned)?;
    rack.set_ready(true)?;
    ensure!(rack.await_planned(router, &all, IMMEDIATELY)? == expected(false)?);

    let services = include_str!("routers/services.yaml");
    let (web, others) = services.split_once("---\n").context("documents")?;
    rack.folder.write("services.yaml", others)?;
    let planned = rack.await_planned(router, &all, IMMEDIATELY)?;
    ensure!(planned.len() + 4 == expected(false)?.len(), "{planned:?}");
    rack.folder.write("web.yaml", web)?;
    ensure!(rack.await_planned(router, &all, IMMEDIATELY)? == expected(false)?);

    let pools = include_str!("routers/pools.yaml");
    let other = pools.replace("\"64700:24\"", "\"64700:25\", no-export-to-the-world");
    let other = other.replace(
        "{name: rack,",
        "{name: no-export-to-the-world, value: \"65535:65281\"}\n    - {name: rack,",
    );
    rack.folder.write("pools.yaml", &other)?;
    let planned = rack.await_planned(router, &all, IMMEDIATELY)?;
    let changed = planned
        .iter()
        .filter(|route| route.communities == ["64700:25", "65535:65281"]);
    ensure!(changed.count() == 3, "{planned:?}");
    rack.folder.write("pools.yaml", pools)?;
    ensure!(rack.await_planned(router, &all, IMMEDIATELY)? == expected(false)?);
    Ok(())
}

/// One daemon is killed, the link of another node is cut.
fn nodes_fail(rack: &mut Rack<'_>, router: &dyn Router) -> Result<()> {
    let all = rack.nodes();
    rack.daemons[0].kill()?;
    let rest = rack.without(&["node1"]);
    let planned = rack.await_planned(router, &rest, IMMEDIATELY)?;
    rack.await_kernel(router, &planned)?;
    rack.daemons[0] = rack.folder.run(all[0])?;
    rack.await_planned(router, &all, UP)?;

    let before = router.sessions()?;
    let rest = rack.without(&["node2"]);
    all[1].uplink.cut()?;
    let planned = rack.await_planned(router, &rest, HOLD_TIME * 3)?;
    rack.await_kernel(router, &planned)?;
    eventually(
        "the expired hold timer in node2's log",
        HOLD_TIME * 3,
        || rack.daemons[1].check_log(&["session down", "Hold Timer Expired", "peer=tor"]),
    )?;
    all[1].uplink.restore()?;
    rack.await_planned(router, &all, UP)?;
    let after = router.sessions()?;
    for node in all {
        let (was, is) = (&before[&node.ipv4.into()], &after[&node.ipv4.into()]);
        ensure!(
            (was != is) == (node.name == "node2"),
            "{}: {was} became {is}",
            node.name
        );
    }
    Ok(())
}

/// The router restarts, once after SIGTERM and once after a crash.
fn router_fails(rack: &Rack<'_>, router: &mut dyn Router) -> Result<()> {
    for crash in [false, true] {
        if crash {
            router.kill()?;
        } else {
            router.stop()?;
        }
        router.start()?;
        let planned = rack.await_planned(router, &rack.nodes(), UP)?;
        ensure!(planned == expected(false)?, "{planned:?}");
        rack.await_kernel(router, &planned)?;
        let sessions = router.sessions()?;
        consistently("sessions", HOLD_TIME + QUIET, || {
            let now = router.sessions()?;
            ensure!(now == sessions, "{now:?} after {sessions:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// All daemons shut down with an Administrative Shutdown that the router logs.
fn daemons_shut_down(rack: &mut Rack<'_>, router: &dyn Router) -> Result<()> {
    for index in [1, 0, 2, 3] {
        let status = rack.daemons[index].terminate(DRAINED)?;
        ensure!(status.success(), "{status}");
        if index == 1 {
            rack.await_planned(router, &rack.without(&["node2"]), IMMEDIATELY)?;
        }
    }
    await_table(router, &BTreeSet::new(), IMMEDIATELY)?;
    let words = "administrative shutdown";
    eventually("the reason in the router's log", IMMEDIATELY, || {
        let text = router.log()?.to_lowercase();
        let count = text.lines().filter(|line| line.contains(words)).count();
        ensure!(count >= 4, "{count} times {words:?}");
        Ok(())
    })
}

fn table_equals_the_plan(kind: Kind) {
    router_scenario(kind, "routers", 4, "ebgp", |scratch, topology, router| {
        let mut rack = Rack::new(scratch, topology, &ebgp_peer())?;
        first_routes(&rack, router, false)?;
        probes_and_metrics(&rack)?;
        without_reset(router, || {
            invalid_manifests(&rack, router)?;
            services_change(&rack, router)
        })?;
        nodes_fail(&mut rack, router)?;
        router_fails(&rack, router)?;
        daemons_shut_down(&mut rack, router)
    });
}

#[test]
fn frr_has_the_planned_routes_after_every_failure() {
    table_equals_the_plan(Kind::Frr);
}

#[test]
fn bird_has_the_planned_routes_after_every_failure() {
    table_equals_the_plan(Kind::Bird);
}

#[test]
fn gobgp_has_the_planned_routes_after_every_failure() {
    table_equals_the_plan(Kind::Gobgp);
}

#[test]
fn ibgp_routes_have_local_pref() {
    for kind in Kind::FILTERING {
        router_scenario(kind, "ibgp", 4, "ibgp", |scratch, topology, router| {
            let ibgp = ebgp_peer().replace(&TOR_ASN.to_string(), &NODE_ASN.to_string());
            let rack = Rack::new(scratch, topology, &ibgp)?;
            first_routes(&rack, router, true)
        });
    }
}

#[test]
fn ipv6_sessions_carry_ipv6_routes_only() {
    for kind in Kind::FILTERING {
        router_scenario(kind, "ipv6", 4, "ebgp", |scratch, topology, router| {
            let over_ipv6 = peer(
                "tor",
                &format!("  peerASN: {TOR_ASN}\n  peerAddress: \"{TOR_IPV6}\"\n"),
            );
            let rack = Rack::new(scratch, topology, &over_ipv6)?;
            let mut routes = expected(false)?;
            routes.retain(|route| route.prefix.addr().is_ipv6());
            ensure!(rack.await_planned(router, &rack.nodes(), UP)? == routes);
            let nodes = topology.nodes.iter().map(|node| node.ipv6.into()).collect();
            await_sessions(router, &nodes, UP)?;
            rack.await_kernel(router, &routes)?;
            let reasons = rack.folder.plan()?;
            let reasons = reasons.withheld("dns", "node2");
            ensure!(reasons == ["FamilyNotCarried"], "{reasons:?}");
            Ok(())
        });
    }
}

/// A BGPPeer for one node, optionally with a password from a Secret.
fn md5_peer(node: &str, password_secret: &str) -> String {
    let peer = peer(
        &format!("tor-{node}"),
        &format!(
            "  peerASN: {TOR_ASN}\n  peerAddress: {TOR_IPV4}\n  dualStackAddressFamily: true
  nodeSelectors: [{{matchLabels: {{kubernetes.io/hostname: {node}}}}}]\n"
        ),
    );
    match password_secret {
        "" => peer,
        name => format!("{peer}  passwordSecret: {{name: {name}}}\n"),
    }
}

fn secret(name: &str, password: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: metallb-system}}
type: kubernetes.io/basic-auth
stringData: {{password: {password}}}
"
    )
}

/// The nodes have the right, a wrong and no password; then the wrong one is corrected and the
/// missing one comes from a Secret that is created late.
#[test]
fn only_the_right_password_gets_a_session() {
    for kind in Kind::FILTERING {
        router_scenario(kind, "md5", 3, "md5", |scratch, topology, router| {
            let [right, wrong, none] = &topology.nodes[..] else {
                unreachable!("three nodes");
            };
            let peers = [
                secret("right", MD5_PASSWORD),
                secret("other", "wrong"),
                md5_peer("node1", "right"),
                md5_peer("node2", "other"),
                md5_peer("node3", ""),
            ];
            let rack = Rack::new(scratch, topology, &peers.join("---\n"))?;
            let planned = |nodes: &[&Node]| -> Result<BTreeSet<RouteEntry>> {
                let plan = rack.folder.plan()?;
                let routes = nodes
                    .iter()
                    .map(|node| plan.routes(&[node], &format!("tor-{}", node.name)));
                let routes: Result<Vec<_>> = routes.collect();
                Ok(routes?.into_iter().flatten().collect())
            };
            await_table(router, &planned(&[right])?, UP)?;
            ensure!(!planned(&[wrong])?.is_empty() && !planned(&[none])?.is_empty());
            for index in [1, 2] {
                let peer = format!("peer=tor-node{}", index + 1);
                eventually("the reason in the log", UP, || {
                    rack.daemons[index].check_log(&[
                        "session not established",
                        "TCP MD5 password",
                        &peer,
                    ])
                })?;
            }
            consistently("only one session", HOLD_TIME, || {
                await_sessions(router, &ipv4_addresses(&[right]), Duration::ZERO)
            })?;

            // The wrong Secret is corrected; node3 refers to a Secret that is created later.
            let peers = [
                secret("right", MD5_PASSWORD),
                secret("other", MD5_PASSWORD),
                md5_peer("node1", "right"),
                md5_peer("node2", "other"),
                md5_peer("node3", "late"),
            ];
            without_reset_of(router, right, || {
                rack.folder.write("peers.yaml", &peers.join("---\n"))?;
                await_table(router, &planned(&[right, wrong])?, UP)?;
                let missing = ["ERROR", "there is no Secret metallb-system/late"];
                eventually("the name of the missing Secret", IMMEDIATELY, || {
                    rack.daemons[2].check_log(&missing)
                })?;
                rack.folder
                    .write("late.yaml", &secret("late", MD5_PASSWORD))?;
                await_table(router, &planned(&[right, wrong, none])?, UP)
            })
        });
    }
}

/// Runs `step` and checks that this node's session was not lost.
fn without_reset_of(
    router: &dyn Router,
    node: &Node,
    step: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let address = IpAddr::V4(node.ipv4);
    let before = router.sessions()?.remove(&address);
    step()?;
    let after = router.sessions()?.remove(&address);
    ensure!(
        before.is_some() && before == after,
        "{before:?} became {after:?}"
    );
    Ok(())
}

/// Without a running router the retry delays grow.
#[test]
fn retry_delays_double_while_the_router_refuses_connections() {
    scenario("retry-delays", |scratch| {
        let topology = Topology::new(2)?;
        let peers = [md5_peer("node1", ""), md5_peer("node2", "")];
        let rack = Rack::new(scratch, &topology, &peers.join("---\n"))?;
        for (index, node) in topology.nodes.iter().enumerate() {
            let peer = format!("tor-{}", node.name);
            let delays = eventually("four attempts", UP, || {
                let delays = retry_delays(&rack.daemons[index], &peer)?;
                ensure!(delays.len() >= 4, "{delays:?}");
                Ok(delays)
            })?;
            ensure!(delays[0] >= 0.7 && delays.is_sorted(), "{delays:?}");
            // Doubling from 1 s, less a quarter at most.
            ensure!(delays[3] >= 5.0, "{delays:?}");
            rack.daemons[index].check_log(&["session not established", "refused"])?;
        }
        Ok(())
    });
}

/// The router rejects the AS of node1, and node2 rejects the AS of the router: retrying soon is
/// useless.
#[test]
fn a_wrong_as_delays_the_retry_until_the_configuration_is_corrected() {
    for kind in Kind::FILTERING {
        router_scenario(kind, "wrong-as", 2, "ebgp", |scratch, topology, router| {
            let wrong_asn = |node: &str, ours: &str, theirs: &str| {
                md5_peer(node, "")
                    .replace("myASN: 64700", &format!("myASN: {ours}"))
                    .replace("peerASN: 64600", &format!("peerASN: {theirs}"))
            };
            let peers = [
                wrong_asn("node1", "64701", "64600"),
                wrong_asn("node2", "64700", "64601"),
            ];
            let rack = Rack::new(scratch, topology, &peers.join("---\n"))?;
            for (index, node) in topology.nodes.iter().enumerate() {
                let peer = format!("tor-{}", node.name);
                let delays = eventually("an attempt", UP, || {
                    let delays = retry_delays(&rack.daemons[index], &peer)?;
                    ensure!(!delays.is_empty(), "{delays:?}");
                    Ok(delays)
                })?;
                // 60 s, less a quarter at most.
                ensure!(delays[0] >= 45.0, "{delays:?}");
                rack.daemons[index].check_log(&["session not established", "Bad Peer AS"])?;
            }
            ensure!(router.sessions()?.is_empty() && router.table()?.is_empty());

            // The correction takes effect at once, not after the delay.
            let peers = [md5_peer("node1", ""), md5_peer("node2", "")];
            rack.folder.write("peers.yaml", &peers.join("---\n"))?;
            await_sessions(router, &ipv4_addresses(&rack.nodes()), UP)
        });
    }
}
