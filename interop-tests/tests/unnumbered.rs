//! Unnumbered sessions: the daemon and a router on links without configured addresses, with
//! MetalLB's BGPPeer `interface`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::manifest::{self, NAMESPACE};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{Bird, Frr, Kind, Router, await_kernel};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{MD5_PASSWORD, NODE_ASN, Node, TOR_IPV4, TOR_IPV6};
use serde_json::Value;

const UP: Duration = Duration::from_secs(30);
/// Less than the hold time of 9 s.
const DETECTED: Duration = Duration::from_secs(4);

const SERVICE_V4: &str = "203.0.113.10";
const SERVICE_V6: &str = "2001:db8:113::10";

/// A router with one link to each node. The links have the kernel's link-local addresses only.
struct Fabric {
    tor: Namespace,
    nodes: Vec<Node>,
}

impl Fabric {
    fn new(nodes: u8) -> Result<Self> {
        let tor = Namespace::new("tor")?;
        tor.address("lo", &format!("{TOR_IPV4}/32"))?;
        tor.address("lo", &format!("{TOR_IPV6}/128"))?;
        let nodes = (1..=nodes).map(|number| node(&tor, number));
        let nodes = nodes.collect::<Result<_>>()?;
        Ok(Self { tor, nodes })
    }

    /// Waits until the router's kernel forwards both addresses to exactly these nodes.
    fn await_routes(&self, nodes: &[&Node]) -> Result<()> {
        for prefix in [format!("{SERVICE_V4}/32"), format!("{SERVICE_V6}/128")] {
            eventually(format!("{prefix} in the kernel"), UP, || {
                // An address changes with its interface.
                let own = nodes.iter().map(|node| link_local(&node.namespace, "eth1"));
                let expected = own.collect::<Result<BTreeSet<IpAddr>>>()?;
                let found = self.tor.kernel_next_hops(&prefix)?;
                ensure!(found == expected, "{found:?}, expected {expected:?}");
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// A node with its addresses on the loopback interface, as on unnumbered links.
fn node(tor: &Namespace, number: u8) -> Result<Node> {
    let name = format!("node{number}");
    let namespace = Namespace::new(&name)?;
    let uplink = Link::new((&namespace, "eth1"), (tor, &name))?;
    let host = number + 10;
    let node = Node {
        ipv4: Ipv4Addr::new(10, 99, 0, host),
        ipv6: format!("fd99::{host}").parse()?,
        name,
        namespace,
        uplink,
    };
    for address in [
        format!("{}/32", node.ipv4),
        format!("{}/128", node.ipv6),
        format!("{SERVICE_V4}/32"),
        format!("{SERVICE_V6}/128"),
    ] {
        node.namespace.address("lo", &address)?;
    }
    Ok(node)
}

/// The kernel's link-local address of an interface.
fn link_local(namespace: &Namespace, interface: &str) -> Result<IpAddr> {
    let arguments = [
        "-6", "-j", "addr", "show", "dev", interface, "scope", "link",
    ];
    let shown = namespace.json("ip", &arguments)?;
    let infos = shown.as_array().into_iter().flatten();
    let mut infos = infos.flat_map(|link| link["addr_info"].as_array().into_iter().flatten());
    let local = infos.find_map(|info| info["local"].as_str());
    Ok(local
        .with_context(|| format!("{interface}: {shown}"))?
        .parse()?)
}

/// MetalLB's BGPPeer `tor` with `interface`.
fn peer(more: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: tor, namespace: {NAMESPACE}}}
spec: {{myASN: {NODE_ASN}, dynamicASN: external, interface: eth1{more}}}
"
    )
}

/// The Service and the nodes; the last node has no IPv6 InternalIP.
fn folder<'lab>(scratch: &'lab Scratch, fabric: &Fabric, more: &str) -> Result<Folder<'lab>> {
    let folder = Folder::new(scratch)?;
    for node in &fabric.nodes {
        folder.write_node(node, &[])?;
    }
    let last = fabric.nodes.last().context("no node")?;
    let text = format!(
        "apiVersion: v1
kind: Node
metadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}}}}}
status: {{addresses: [{{type: InternalIP, address: {ipv4}}}]}}
",
        name = last.name,
        ipv4 = last.ipv4
    );
    folder.write(&format!("{}.yaml", last.name), &text)?;
    let service = manifest::join(&[
        &manifest::pool("203.0.113.0/24, \"2001:db8:113::/64\""),
        &manifest::advertisement(""),
        &manifest::bfd_profile(),
        &manifest::dual_stack_service(SERVICE_V4, SERVICE_V6, "node1"),
    ]);
    folder.write("service.yaml", &service)?;
    folder.write("peer.yaml", &peer(more))?;
    Ok(folder)
}

/// The status of the peer `tor`, from `ferrolb peers`.
fn status(folder: &Folder<'_>, node: &Node) -> Result<Value> {
    let output = folder.ask(node, &["peers", "-o", "json"])?;
    let peers: Value = serde_json::from_str(&output)?;
    let peer = peers.as_array().and_then(|peers| peers.first());
    Ok(peer.with_context(|| output.clone())?.clone())
}

fn await_status(
    folder: &Folder<'_>,
    node: &Node,
    what: &str,
    within: Duration,
    check: impl Fn(&Value) -> bool,
) -> Result<()> {
    eventually(format!("{what} on {}", node.name), within, || {
        let status = status(folder, node)?;
        ensure!(check(&status), "{status}");
        Ok(())
    })
}

fn is_established(status: &Value) -> bool {
    status["state"] == "Established"
}

/// The router reaches the Service on these nodes over the links: they refuse the connections, since
/// nothing listens there.
fn reach(fabric: &Fabric, nodes: &[&Node]) -> Result<()> {
    for node in nodes {
        let router = link_local(&fabric.tor, &node.name)?.to_string();
        for (family, prefix) in [("-4", TOR_IPV4.to_string()), ("-6", TOR_IPV6.to_string())] {
            let via = ["via", "inet6", &router, "dev", "eth1"];
            let route = [&[family, "route", "replace", &prefix], &via[..]].concat();
            node.namespace.ip(&route)?;
        }
    }
    for address in [SERVICE_V4, SERVICE_V6] {
        let connect = format!("exec 3<>/dev/tcp/{address}/9");
        let error = fabric.tor.run("bash", &["-c", &connect]);
        let error = error.err().context("something listens there")?;
        let text = format!("{error:#}");
        ensure!(text.contains("Connection refused"), "{address}: {text}");
    }
    Ok(())
}

#[test]
fn frr_learns_both_families_over_links_without_addresses() {
    scenario("unnumbered-frr", |scratch| {
        let fabric = Fabric::new(2)?;
        let mut frr = Frr::new(scratch, &fabric.tor, "unnumbered");
        frr.start()?;
        let folder = folder(scratch, &fabric, "")?;
        let nodes: Vec<&Node> = fabric.nodes.iter().collect();
        let running = nodes.iter().map(|node| folder.run(node));
        let _daemons = running.collect::<Result<Vec<Process>>>()?;
        fabric.await_routes(&nodes)?;
        reach(&fabric, &nodes)?;
        for node in nodes {
            let router = link_local(&fabric.tor, &node.name)?;
            let peers = folder.ask(node, &["peers"])?;
            let shown = format!("[{router}%eth1]:179");
            ensure!(peers.contains(&shown), "{shown} is not in: {peers}");
        }
        // Our advertisements make no node a default router.
        let default = fabric.tor.run("ip", &["-6", "route", "show", "default"])?;
        ensure!(default.trim().is_empty(), "{default}");
        Ok(())
    });
}

#[test]
fn frr_accepts_no_session_without_net_raw_and_the_status_says_why() {
    scenario("unnumbered-no-net-raw", |scratch| {
        let fabric = Fabric::new(1)?;
        let mut frr = Frr::new(scratch, &fabric.tor, "unnumbered");
        frr.start()?;
        let folder = folder(scratch, &fabric, "")?;
        let node = &fabric.nodes[0];
        let daemon = folder.run_without(node, "all", "net_raw")?;
        await_status(&folder, node, "the router is found", UP, |status| {
            let remote = status["remote"].to_string();
            remote.contains("fe80:")
        })?;
        let peers = folder.ask(node, &["peers"])?;
        ensure!(peers.contains("NET_RAW"), "{peers}");
        daemon.check_log(&["packet sockets are refused", "NET_RAW"])?;
        consistently("no session", Duration::from_secs(3), || {
            let status = status(&folder, node)?;
            ensure!(!is_established(&status), "{status}");
            Ok::<_, anyhow::Error>(())
        })
    });
}

#[test]
fn bird_learns_both_families_over_links_without_addresses() {
    scenario("unnumbered-bird", |scratch| {
        let fabric = Fabric::new(2)?;
        let mut bird = Bird::new(scratch, &fabric.tor, "unnumbered");
        bird.start()?;
        let folder = folder(scratch, &fabric, "")?;
        let nodes: Vec<&Node> = fabric.nodes.iter().collect();
        let running = nodes.iter().map(|node| folder.run(node));
        let _daemons = running.collect::<Result<Vec<Process>>>()?;
        fabric.await_routes(&nodes)?;
        reach(&fabric, &nodes)
    });
}

#[test]
fn bfd_detects_a_cut_between_link_local_addresses_of_frr() {
    bfd_detects_a_cut(Kind::Frr);
}

#[test]
fn bfd_detects_a_cut_between_link_local_addresses_of_bird() {
    bfd_detects_a_cut(Kind::Bird);
}

fn bfd_detects_a_cut(kind: Kind) {
    scenario(&format!("unnumbered-bfd-{kind:?}"), |scratch| {
        let fabric = Fabric::new(1)?;
        let mut router = kind.router(scratch, &fabric.tor, "unnumbered");
        router.start()?;
        let folder = folder(scratch, &fabric, ", bfdProfile: fast")?;
        let node = &fabric.nodes[0];
        let _daemon = folder.run(node)?;
        let up = |status: &Value| is_established(status) && status["bfd"]["state"] == "Up";
        await_status(&folder, node, "BFD", UP, up)?;
        fabric.await_routes(&[node])?;
        node.uplink.cut()?;
        await_status(&folder, node, "detection", DETECTED, |status| {
            !is_established(status)
        })?;
        eventually("the router detects it too", DETECTED, || {
            let found = fabric.tor.kernel_next_hops(&format!("{SERVICE_V4}/32"))?;
            ensure!(found.is_empty(), "{found:?}");
            Ok(())
        })?;
        node.uplink.restore()?;
        await_status(&folder, node, "BFD again", UP, up)?;
        fabric.await_routes(&[node])
    });
}

#[test]
fn a_replaced_router_and_a_new_interface_are_followed() {
    scenario("unnumbered-changes", |scratch| {
        let fabric = Fabric::new(1)?;
        let mut frr = Frr::new(scratch, &fabric.tor, "unnumbered");
        frr.start()?;
        let folder = folder(scratch, &fabric, "")?;
        let node = &fabric.nodes[0];
        let _daemon = folder.run(node)?;
        fabric.await_routes(&[node])?;

        // Another MAC address: another link-local address.
        let old = link_local(&fabric.tor, "node1")?;
        for change in ["down", "address 02:00:00:00:77:01", "up"] {
            let words: Vec<&str> = change.split(' ').collect();
            let command = [&["link", "set", "node1"], &words[..]].concat();
            fabric.tor.ip(&command)?;
        }
        eventually("the router's new address", UP, || {
            let new = link_local(&fabric.tor, "node1")?;
            ensure!(new != old, "{new}");
            Ok(())
        })?;
        let new = link_local(&fabric.tor, "node1")?.to_string();
        await_status(
            &folder,
            node,
            "a session with the new address",
            2 * UP,
            |status| is_established(status) && status["remote"].to_string().contains(&new),
        )?;
        fabric.await_routes(&[node])?;

        node.namespace.ip(&["link", "del", "eth1"])?;
        await_status(&folder, node, "the interface is missing", UP, |status| {
            status["link"]["notes"]
                .to_string()
                .contains("does not exist")
        })?;
        Link::new((&node.namespace, "eth1"), (&fabric.tor, "node1"))?;
        await_status(&folder, node, "a session again", 2 * UP, is_established)?;
        fabric.await_routes(&[node])
    });
}

#[test]
fn routes_stay_while_the_daemon_is_killed_and_started_again() {
    scenario("unnumbered-restart", |scratch| {
        let fabric = Fabric::new(1)?;
        let mut frr = Frr::new(scratch, &fabric.tor, "unnumbered");
        frr.start()?;
        let folder = folder(scratch, &fabric, ", enableGracefulRestart: true")?;
        let node = &fabric.nodes[0];
        let mut daemon = folder.run(node)?;
        await_status(&folder, node, "session", UP, is_established)?;
        fabric.await_routes(&[node])?;
        let own = BTreeSet::from([link_local(&node.namespace, "eth1")?]);
        let kept = || {
            let found = fabric.tor.kernel_next_hops(&format!("{SERVICE_V4}/32"))?;
            ensure!(found == own, "{found:?}");
            Ok::<_, anyhow::Error>(())
        };
        daemon.kill()?;
        consistently("the route while nothing runs", Duration::from_secs(2), kept)?;
        let _daemon = folder.run(node)?;
        let mut lost = None;
        eventually("a session again", UP, || {
            lost = lost.take().or(kept().err());
            let status = status(&folder, node)?;
            ensure!(is_established(&status), "{status}");
            Ok(())
        })?;
        ensure!(lost.is_none(), "the route was gone: {lost:?}");
        consistently("the route afterwards", Duration::from_secs(3), kept)
    });
}

/// As on many routers: fe80::1 on both links. And TCP MD5 (RFC 2385).
#[test]
fn two_links_of_one_node_to_routers_with_one_address_and_a_password() {
    scenario("unnumbered-two-links", |scratch| {
        let fabric = Fabric::new(1)?;
        let node = &fabric.nodes[0];
        Link::new((&node.namespace, "eth2"), (&fabric.tor, "node2"))?;
        for interface in ["node1", "node2"] {
            let flush = ["-6", "addr", "flush", "dev", interface, "scope", "link"];
            fabric.tor.ip(&flush)?;
            fabric.tor.address(interface, "fe80::1/64")?;
        }
        let mut frr = Frr::new(scratch, &fabric.tor, "unnumbered");
        frr.start()?;
        let password = format!("neighbor NODES password {MD5_PASSWORD}");
        frr.configure_lines(&["router bgp", &password])?;
        let more = format!(", password: {MD5_PASSWORD}");
        let folder = folder(scratch, &fabric, &more)?;
        let second = peer(&more).replace("eth1", "eth2").replace("tor", "tor2");
        folder.write("peer2.yaml", &second)?;
        let _daemon = folder.run(node)?;
        let own = [
            link_local(&node.namespace, "eth1")?,
            link_local(&node.namespace, "eth2")?,
        ];
        for prefix in [format!("{SERVICE_V4}/32"), format!("{SERVICE_V6}/128")] {
            await_kernel(&fabric.tor, &prefix, &own.into(), UP)?;
        }
        let peers = folder.ask(node, &["peers"])?;
        for shown in ["[fe80::1%eth1]:179", "[fe80::1%eth2]:179"] {
            ensure!(peers.contains(shown), "{shown} is not in: {peers}");
        }
        Ok(())
    });
}

#[test]
fn frr_dials_a_passive_daemon_whose_address_it_learnt() {
    scenario("unnumbered-passive", |scratch| {
        let fabric = Fabric::new(1)?;
        let mut frr = Frr::new(scratch, &fabric.tor, "unnumbered");
        frr.start()?;
        let folder = folder(scratch, &fabric, "")?;
        let passive = peer(", passive: true").replace("metallb.io/v1beta2", "ferrolb.io/v1alpha1");
        folder.write("peer.yaml", &passive)?;
        let node = &fabric.nodes[0];
        let _daemon = folder.run_listening(node, "[::]:179")?;
        await_status(&folder, node, "a session", 2 * UP, is_established)?;
        fabric.await_routes(&[node])
    });
}
