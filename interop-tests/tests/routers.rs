//! The real ferrolb binary, one per node, against real routers: what each router holds is exactly
//! what `ferrolb plan` says, also after everything that can go wrong.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::daemon::{Folder, announced_waits, http, metric, said};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::process::{Process, Scratch, scenario};
use ferrolb_interop_tests::router::{
    Kind, RouteEntry, Router, await_kernel, await_sessions, await_table, check_table,
};
use ferrolb_interop_tests::topology::{
    MD5_PASSWORD, NODE_ASN, Node, TOR_ASN, TOR_IPV4, TOR_IPV6, Topology,
};

const UP: Duration = Duration::from_secs(30);
const HOLD_TIME: Duration = Duration::from_secs(3);
/// What needs no timer is done within this, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A router that keeps no routes for us is given this long to take other paths.
const DRAINED: Duration = Duration::from_secs(15);
/// How long nothing may happen after what must have no effect.
const QUIET: Duration = Duration::from_secs(1);

/// Excluded from every announcement by its label.
const EXCLUDED: &str = "node4";

/// A rack of four nodes, the last of them excluded, and the folder that they all read.
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
                EXCLUDED => &[(
                    "node.kubernetes.io/exclude-from-external-load-balancers",
                    "",
                )],
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

    /// Whether the Pod of web on node2 is ready.
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

    /// The nodes but those.
    fn without(&self, names: &[&str]) -> Vec<&'lab Node> {
        let mut nodes = self.nodes();
        nodes.retain(|node| !names.contains(&node.name.as_str()));
        nodes
    }

    /// Waits until the router holds what the plan says of these nodes, and gives how much that is.
    fn as_planned(
        &self,
        router: &dyn Router,
        nodes: &[&Node],
        within: Duration,
    ) -> Result<BTreeSet<RouteEntry>> {
        let planned = self.folder.plan()?.routes(nodes, "tor")?;
        await_table(router, &planned, within)?;
        Ok(planned)
    }

    /// Waits until the kernel behind the router forwards each prefix to the nodes that announce it.
    fn kernel_follows(&self, router: &dyn Router, routes: &BTreeSet<RouteEntry>) -> Result<()> {
        if !router.installs_routes() {
            return Ok(());
        }
        let prefixes: BTreeSet<_> = routes.iter().map(|route| route.prefix).collect();
        for prefix in prefixes {
            let same = routes.iter().filter(|route| route.prefix == prefix);
            let next_hops = same.map(|route| route.next_hop).collect();
            await_kernel(&self.topology.tor, &prefix.to_string(), &next_hops, AT_ONCE)?;
        }
        Ok(())
    }
}

fn ipv4(nodes: &[&Node]) -> BTreeSet<IpAddr> {
    nodes.iter().map(|node| IpAddr::V4(node.ipv4)).collect()
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

/// Both families over IPv4.
fn ebgp_peer() -> String {
    peer(
        "tor",
        &format!(
            "  peerASN: {TOR_ASN}\n  peerAddress: {TOR_IPV4}\n  dualStackAddressFamily: true\n"
        ),
    )
}

/// What the manifests of `routers/` lead to, thought out by hand. On iBGP with local preferences.
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
        // externalTrafficPolicy Local: the two nodes with a ready Pod.
        public("203.0.113.10/32", "10.99.0.11")?,
        public("203.0.113.10/32", "10.99.0.12")?,
        public("2001:db8:113::10/128", "fd99::11")?,
        public("2001:db8:113::10/128", "fd99::12")?,
        // Cluster: all nodes but the excluded one.
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

/// The plan is right, the router holds it, the kernel forwards so.
fn first_routes(rack: &Rack<'_>, router: &dyn Router, ibgp: bool) -> Result<()> {
    let plan = rack.folder.plan()?;
    let planned = plan.routes(&rack.nodes(), "tor")?;
    let expected = expected(ibgp)?;
    ensure!(planned == expected, "plan: {}", plan.0);
    let other = plan.routes(&rack.nodes(), "elsewhere")?;
    let prefixes: BTreeSet<String> = other.iter().map(|route| route.prefix.to_string()).collect();
    ensure!(
        prefixes.contains("192.0.2.64/32"),
        "to the other router: {other:?}"
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
    await_sessions(router, &ipv4(&rack.nodes()), UP)?;
    rack.kernel_follows(router, &expected)
}

/// Probes and metrics of a node that announces and of one that doesn't.
fn observed(rack: &Rack<'_>) -> Result<()> {
    let [first, .., last] = &rack.topology.nodes[..] else {
        unreachable!("four nodes");
    };
    for node in [first, last] {
        ensure!(http(node, "/livez")?.trim() == "ok");
        ensure!(http(node, "/readyz")?.trim() == "ok");
        let up = metric(node, "metallb_bgp_session_up{peer=\"10.99.0.1:179\"}")?;
        ensure!(up == 1.0, "{up}");
    }
    let planned = rack.folder.plan()?.routes(&[first], "tor")?.len();
    let name = "metallb_bgp_announced_prefixes_total{peer=\"10.99.0.1:179\"}";
    for (node, count) in [(first, planned), (last, 0)] {
        let value = metric(node, name)?;
        ensure!(
            value.to_string() == count.to_string(),
            "{}: {value}",
            node.name
        );
    }
    let down = metric(first, "metallb_bgp_session_up{peer=\"10.99.0.99:179\"}")?;
    ensure!(down == 0.0, "a session with nobody: {down}");
    Ok(())
}

/// Everything stays as it is, and no session was lost, while `step` has its effect.
fn without_reset(router: &dyn Router, step: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = router.sessions()?;
    step()?;
    let after = router.sessions()?;
    ensure!(before == after, "sessions {before:?} became {after:?}");
    Ok(())
}

/// Edits with mistakes: refused by name, and what was announced stays.
fn bad_edits(rack: &Rack<'_>, router: &dyn Router) -> Result<()> {
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
            eventually("the complaint", AT_ONCE, || {
                said(daemon, &["ERROR", place, message])
            })?;
        }
        // An object that is there counts as refused; what isn't even YAML is an error at the source.
        let (object, source) = if file == "peers.yaml" {
            (true, 0.0)
        } else {
            (false, 1.0)
        };
        eventually("the metrics", AT_ONCE, || stale(rack, object, source))?;
        consistently(format!("table with a bad {file}"), QUIET, || {
            check_table(router, &planned)
        })?;
        let checked = rack.folder.check()?;
        ensure!(
            !checked.valid && checked.output.contains(place) && checked.output.contains(message),
            "{}",
            checked.output
        );
        rack.folder.write(file, &good)?;
        eventually("the metrics after the mistake", AT_ONCE, || {
            stale(rack, false, 0.0)
        })?;
    }
    Ok(())
}

/// What the first node's daemon counts as refused: the BGPPeer, and places at the source.
fn stale(rack: &Rack<'_>, object: bool, source: f64) -> Result<()> {
    let first = &rack.topology.nodes[0];
    let stale = metric(first, "metallb_k8s_client_config_stale_bool")?;
    let expected = object || source > 0.0;
    ensure!((stale == 1.0) == expected, "stale: {stale}");
    let peer =
        "ferrolb_object_refused_bool{kind=\"BGPPeer\",name=\"tor\",namespace=\"metallb-system\"}";
    let refused = metric(first, peer).is_ok_and(|value| value == 1.0);
    ensure!(refused == object, "refused: {refused}");
    let errors = metric(first, "ferrolb_source_errors")?;
    ensure!(errors == source, "source errors: {errors}");
    Ok(())
}

/// Pods and services come and go, sessions stay.
fn services_change(rack: &Rack<'_>, router: &dyn Router) -> Result<()> {
    let all = rack.nodes();
    rack.set_ready(false)?;
    let planned = rack.as_planned(router, &all, AT_ONCE)?;
    let gone = RouteEntry::new("203.0.113.10/32", "10.99.0.12")?;
    ensure!(
        planned.len() + 2 == expected(false)?.len()
            && !planned
                .iter()
                .any(|route| { route.prefix == gone.prefix && route.next_hop == gone.next_hop }),
        "{planned:?}"
    );
    rack.kernel_follows(router, &planned)?;
    rack.set_ready(true)?;
    ensure!(rack.as_planned(router, &all, AT_ONCE)? == expected(false)?);

    let services = include_str!("routers/services.yaml");
    let (web, others) = services.split_once("---\n").context("documents")?;
    rack.folder.write("services.yaml", others)?;
    let planned = rack.as_planned(router, &all, AT_ONCE)?;
    ensure!(planned.len() + 4 == expected(false)?.len(), "{planned:?}");
    rack.folder.write("web.yaml", web)?;
    ensure!(rack.as_planned(router, &all, AT_ONCE)? == expected(false)?);

    let pools = include_str!("routers/pools.yaml");
    let other = pools.replace("\"64700:24\"", "\"64700:25\", no-export-to-the-world");
    let other = other.replace(
        "{name: rack,",
        "{name: no-export-to-the-world, value: \"65535:65281\"}\n    - {name: rack,",
    );
    rack.folder.write("pools.yaml", &other)?;
    let planned = rack.as_planned(router, &all, AT_ONCE)?;
    let changed = planned
        .iter()
        .filter(|route| route.communities == ["64700:25", "65535:65281"]);
    ensure!(changed.count() == 3, "{planned:?}");
    rack.folder.write("pools.yaml", pools)?;
    ensure!(rack.as_planned(router, &all, AT_ONCE)? == expected(false)?);
    Ok(())
}

/// One node's process is killed, another's link is cut.
fn nodes_fail(rack: &mut Rack<'_>, router: &dyn Router) -> Result<()> {
    let all = rack.nodes();
    rack.daemons[0].kill()?;
    let rest = rack.without(&["node1"]);
    let planned = rack.as_planned(router, &rest, AT_ONCE)?;
    rack.kernel_follows(router, &planned)?;
    rack.daemons[0] = rack.folder.run(all[0])?;
    rack.as_planned(router, &all, UP)?;

    let before = router.sessions()?;
    let rest = rack.without(&["node2"]);
    all[1].uplink.cut()?;
    let planned = rack.as_planned(router, &rest, HOLD_TIME * 3)?;
    rack.kernel_follows(router, &planned)?;
    eventually("node2's own opinion", HOLD_TIME * 3, || {
        said(
            &rack.daemons[1],
            &["session down", "Hold Timer Expired", "peer=tor"],
        )
    })?;
    all[1].uplink.mend()?;
    rack.as_planned(router, &all, UP)?;
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

/// The router restarts, once as an operator does it and once after a crash.
fn router_fails(rack: &Rack<'_>, router: &mut dyn Router) -> Result<()> {
    for crash in [false, true] {
        if crash {
            router.kill()?;
        } else {
            router.stop()?;
        }
        router.start()?;
        let planned = rack.as_planned(router, &rack.nodes(), UP)?;
        ensure!(planned == expected(false)?, "{planned:?}");
        rack.kernel_follows(router, &planned)?;
        let sessions = router.sessions()?;
        consistently("sessions", HOLD_TIME + QUIET, || {
            let now = router.sessions()?;
            ensure!(now == sessions, "{now:?} after {sessions:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// SIGTERM to all: they say goodbye, the router understands why.
fn nodes_leave(rack: &mut Rack<'_>, router: &dyn Router) -> Result<()> {
    for index in [1, 0, 2, 3] {
        let status = rack.daemons[index].terminate(DRAINED)?;
        ensure!(status.success(), "{status}");
        if index == 1 {
            rack.as_planned(router, &rack.without(&["node2"]), AT_ONCE)?;
        }
    }
    await_table(router, &BTreeSet::new(), AT_ONCE)?;
    let words = "administrative shutdown";
    eventually("the reason in the router's log", AT_ONCE, || {
        let text = router.log()?.to_lowercase();
        let count = text.lines().filter(|line| line.contains(words)).count();
        ensure!(count >= 4, "{count} times {words:?}");
        Ok(())
    })
}

fn life(kind: Kind) {
    scenario(&format!("life-{kind:?}"), |scratch| {
        let topology = Topology::new(4)?;
        let mut router = kind.router(scratch, &topology.tor, "ebgp");
        router.start()?;
        let mut rack = Rack::new(scratch, &topology, &ebgp_peer())?;
        first_routes(&rack, &*router, false)?;
        observed(&rack)?;
        without_reset(&*router, || {
            bad_edits(&rack, &*router)?;
            services_change(&rack, &*router)
        })?;
        nodes_fail(&mut rack, &*router)?;
        router_fails(&rack, &mut *router)?;
        nodes_leave(&mut rack, &*router)
    });
}

#[test]
fn frr_holds_what_is_planned_whatever_fails() {
    life(Kind::Frr);
}

#[test]
fn bird_holds_what_is_planned_whatever_fails() {
    life(Kind::Bird);
}

#[test]
fn gobgp_holds_what_is_planned_whatever_fails() {
    life(Kind::Gobgp);
}

#[test]
fn ibgp_carries_the_local_preference() {
    for kind in Kind::FILTERING {
        scenario(&format!("ibgp-{kind:?}"), |scratch| {
            let topology = Topology::new(4)?;
            let mut router = kind.router(scratch, &topology.tor, "ibgp");
            router.start()?;
            let ibgp = ebgp_peer().replace(&TOR_ASN.to_string(), &NODE_ASN.to_string());
            let rack = Rack::new(scratch, &topology, &ibgp)?;
            first_routes(&rack, &*router, true)
        });
    }
}

#[test]
fn ipv6_sessions_carry_ipv6_routes_only() {
    for kind in Kind::FILTERING {
        scenario(&format!("ipv6-{kind:?}"), |scratch| {
            let topology = Topology::new(4)?;
            let mut router = kind.router(scratch, &topology.tor, "ebgp");
            router.start()?;
            let over_ipv6 = peer(
                "tor",
                &format!("  peerASN: {TOR_ASN}\n  peerAddress: \"{TOR_IPV6}\"\n"),
            );
            let rack = Rack::new(scratch, &topology, &over_ipv6)?;
            let mut routes = expected(false)?;
            routes.retain(|route| route.prefix.addr().is_ipv6());
            ensure!(rack.as_planned(&*router, &rack.nodes(), UP)? == routes);
            let nodes = topology.nodes.iter().map(|node| node.ipv6.into()).collect();
            await_sessions(&*router, &nodes, UP)?;
            rack.kernel_follows(&*router, &routes)?;
            let reasons = rack.folder.plan()?;
            let reasons = reasons.withheld("dns", "node2");
            ensure!(reasons == ["FamilyNotCarried"], "{reasons:?}");
            Ok(())
        });
    }
}

/// A BGPPeer of one node, with its password's Secret.
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

/// The nodes' passwords: right, wrong and none; later right, mended, and from a Secret that comes late.
#[test]
fn only_the_right_password_gets_a_session() {
    for kind in Kind::FILTERING {
        scenario(&format!("md5-{kind:?}"), |scratch| {
            let topology = Topology::new(3)?;
            let [right, wrong, none] = &topology.nodes[..] else {
                unreachable!("three nodes");
            };
            let mut router = kind.router(scratch, &topology.tor, "md5");
            router.start()?;
            let peers = [
                secret("right", MD5_PASSWORD),
                secret("other", "wrong"),
                md5_peer("node1", "right"),
                md5_peer("node2", "other"),
                md5_peer("node3", ""),
            ];
            let rack = Rack::new(scratch, &topology, &peers.join("---\n"))?;
            let sees = |nodes: &[&Node]| -> Result<BTreeSet<RouteEntry>> {
                let plan = rack.folder.plan()?;
                let routes = nodes
                    .iter()
                    .map(|node| plan.routes(&[node], &format!("tor-{}", node.name)));
                let routes: Result<Vec<_>> = routes.collect();
                Ok(routes?.into_iter().flatten().collect())
            };
            await_table(&*router, &sees(&[right])?, UP)?;
            ensure!(!sees(&[wrong])?.is_empty() && !sees(&[none])?.is_empty());
            for index in [1, 2] {
                let peer = format!("peer=tor-node{}", index + 1);
                eventually("what went wrong", UP, || {
                    said(
                        &rack.daemons[index],
                        &["no session", "TCP MD5 password", &peer],
                    )
                })?;
            }
            consistently("only one session", HOLD_TIME, || {
                await_sessions(&*router, &ipv4(&[right]), Duration::ZERO)
            })?;

            // The Secret is mended; a password is asked for that isn't there, and then comes.
            let peers = [
                secret("right", MD5_PASSWORD),
                secret("other", MD5_PASSWORD),
                md5_peer("node1", "right"),
                md5_peer("node2", "other"),
                md5_peer("node3", "late"),
            ];
            without_reset_of(&*router, right, || {
                rack.folder.write("peers.yaml", &peers.join("---\n"))?;
                await_table(&*router, &sees(&[right, wrong])?, UP)?;
                let missing = ["ERROR", "there is no Secret metallb-system/late"];
                eventually("the missing Secret's name", AT_ONCE, || {
                    said(&rack.daemons[2], &missing)
                })?;
                rack.folder
                    .write("late.yaml", &secret("late", MD5_PASSWORD))?;
                await_table(&*router, &sees(&[right, wrong, none])?, UP)
            })
        });
    }
}

/// One node's session stays while `step` has its effect.
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

/// No router runs: neither node tries in a tight loop.
#[test]
fn who_is_refused_tries_less_and_less_often() {
    scenario("refused", |scratch| {
        let topology = Topology::new(2)?;
        let peers = [md5_peer("node1", ""), md5_peer("node2", "")];
        let rack = Rack::new(scratch, &topology, &peers.join("---\n"))?;
        for (index, node) in topology.nodes.iter().enumerate() {
            let peer = format!("tor-{}", node.name);
            let waits = eventually("four attempts", UP, || {
                let waits = announced_waits(&rack.daemons[index], &peer)?;
                ensure!(waits.len() >= 4, "{waits:?}");
                Ok(waits)
            })?;
            ensure!(waits[0] >= 0.7 && waits.is_sorted(), "{waits:?}");
            // Doubling from 1 s, less a quarter at most.
            ensure!(waits[3] >= 5.0, "{waits:?}");
            said(&rack.daemons[index], &["no session", "refused"])?;
        }
        Ok(())
    });
}

/// The router refuses node1's AS, node2 refuses the router's: trying again soon would change nothing.
#[test]
fn who_has_the_wrong_as_waits_long_and_no_longer_than_it_is_wrong() {
    for kind in Kind::FILTERING {
        scenario(&format!("wrong-as-{kind:?}"), |scratch| {
            let topology = Topology::new(2)?;
            let mut router = kind.router(scratch, &topology.tor, "ebgp");
            router.start()?;
            let wrong_asn = |node: &str, ours: &str, theirs: &str| {
                md5_peer(node, "")
                    .replace("myASN: 64700", &format!("myASN: {ours}"))
                    .replace("peerASN: 64600", &format!("peerASN: {theirs}"))
            };
            let peers = [
                wrong_asn("node1", "64701", "64600"),
                wrong_asn("node2", "64700", "64601"),
            ];
            let rack = Rack::new(scratch, &topology, &peers.join("---\n"))?;
            for (index, node) in topology.nodes.iter().enumerate() {
                let peer = format!("tor-{}", node.name);
                let waits = eventually("an attempt", UP, || {
                    let waits = announced_waits(&rack.daemons[index], &peer)?;
                    ensure!(!waits.is_empty(), "{waits:?}");
                    Ok(waits)
                })?;
                // 60 s, less a quarter at most.
                ensure!(waits[0] >= 45.0, "{waits:?}");
                said(&rack.daemons[index], &["no session", "Bad Peer AS"])?;
            }
            ensure!(router.sessions()?.is_empty() && router.table()?.is_empty());

            // Nobody waits for the end of a long wait after the mistake is mended.
            let peers = [md5_peer("node1", ""), md5_peer("node2", "")];
            rack.folder.write("peers.yaml", &peers.join("---\n"))?;
            await_sessions(&*router, &ipv4(&rack.nodes()), UP)
        });
    }
}
