//! The `bgp` crate on its own: its example `announce` against each router, without the daemon and
//! without Kubernetes.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::process::{Daemon, Scratch, run, scenario, signal_pid};
use ferrolb_interop_tests::router::{
    Kind, RouteEntry, Router, await_kernel, await_sessions, await_table,
};
use ferrolb_interop_tests::topology::{
    MD5_PASSWORD, NODE_ASN, Node, TOR_ASN, TOR_IPV4, TOR_IPV6, Topology,
};
use ferrolb_interop_tests::wait::holds;

const UP: Duration = Duration::from_secs(20);
const HOLD_TIME: Duration = Duration::from_secs(3);
/// What needs no timer is done within this, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Builds the example once.
fn program() -> Result<PathBuf> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.clone());
    }
    let cargo = std::env::var("CARGO").context("to be run by cargo")?;
    let messages = run(Command::new(cargo)
        .args(["build", "--quiet", "--message-format=json"])
        .args(["-p", "ferrolb-bgp", "--example", "announce"]))?;
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .context("cargo named no executable")?;
    Ok(PROGRAM.get_or_init(|| program).clone())
}

/// Starts the example in a node, announcing an address of each family.
fn announce(scratch: &Scratch, node: &Node, peer_asn: u32, more: &[&str]) -> Result<Daemon> {
    let mut command = node.namespace.command(program()?);
    command.args(["--local-asn", &NODE_ASN.to_string()]);
    command.args(["--peer-asn", &peer_asn.to_string()]);
    command.args(["--hold-time", &HOLD_TIME.as_secs().to_string()]);
    command.args(["--next-hop6", &node.ipv6.to_string()]);
    command.args(["--prefix", "203.0.113.10/32"]);
    command.args(["--prefix", "2001:db8:113::10/128"]);
    command.args(["--community", "64700:120", "--large-community", "64700:1:2"]);
    command.args(more);
    Daemon::start(scratch, &format!("announce-{}", node.name), &command)
}

/// Over IPv4 to the router.
fn announce_over_ipv4(scratch: &Scratch, node: &Node, peer_asn: u32) -> Result<Daemon> {
    announce(scratch, node, peer_asn, &["--peer", &TOR_IPV4.to_string()])
}

/// What the router is to hold of these nodes.
fn expected(nodes: &[&Node]) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for node in nodes {
        for (prefix, next_hop) in [
            ("203.0.113.10/32", node.ipv4.to_string()),
            ("2001:db8:113::10/128", node.ipv6.to_string()),
        ] {
            routes.insert(
                RouteEntry::new(prefix, &next_hop)?
                    .communities(&["64700:120"])
                    .large_communities(&["64700:1:2"]),
            );
        }
    }
    Ok(routes)
}

/// The router has these nodes' routes, and its kernel forwards to them.
fn reached(router: &dyn Router, rack: &Topology, nodes: &[&Node], within: Duration) -> Result<()> {
    await_table(router, &expected(nodes)?, within)?;
    if router.installs_routes() {
        let ipv4 = nodes.iter().map(|node| IpAddr::V4(node.ipv4)).collect();
        await_kernel(&rack.tor, "203.0.113.10/32", &ipv4, AT_ONCE)?;
        let ipv6 = nodes.iter().map(|node| IpAddr::V6(node.ipv6)).collect();
        await_kernel(&rack.tor, "2001:db8:113::10/128", &ipv6, AT_ONCE)?;
    }
    Ok(())
}

/// Three come; one is interrupted, one killed, one cut off; the router restarts.
fn life(kind: Kind) {
    scenario(&format!("announce-{kind:?}"), |scratch| {
        let rack = Topology::new(3)?;
        let nodes: Vec<&Node> = rack.nodes.iter().collect();
        let mut router = kind.router(scratch, &rack.tor, "ebgp");
        router.start()?;
        let mut announcers = Vec::new();
        for node in &nodes {
            announcers.push(announce_over_ipv4(scratch, node, TOR_ASN)?);
        }
        reached(&*router, &rack, &nodes, UP)?;

        signal_pid("INT", announcers[2].pid())?;
        let status = announcers[2].wait_exit(AT_ONCE)?;
        ensure!(status.success(), "{status}");
        reached(&*router, &rack, &nodes[..2], AT_ONCE)?;

        announcers[1].kill()?;
        reached(&*router, &rack, &nodes[..1], AT_ONCE)?;

        announcers[1] = announce_over_ipv4(scratch, nodes[1], TOR_ASN)?;
        reached(&*router, &rack, &nodes[..2], UP)?;
        nodes[1].uplink.cut()?;
        reached(&*router, &rack, &nodes[..1], HOLD_TIME * 2)?;
        nodes[1].uplink.mend()?;
        reached(&*router, &rack, &nodes[..2], UP)?;

        router.stop()?;
        router.start()?;
        reached(&*router, &rack, &nodes[..2], UP)?;
        let sessions = router.sessions()?;
        holds("sessions", HOLD_TIME * 2, || {
            let now = router.sessions()?;
            ensure!(now == sessions, "{now:?} after {sessions:?}");
            Ok(())
        })
    });
}

#[test]
fn frr_learns_and_forgets() {
    life(Kind::Frr);
}

#[test]
fn bird_learns_and_forgets() {
    life(Kind::Bird);
}

#[test]
fn gobgp_learns_and_forgets() {
    life(Kind::Gobgp);
}

#[test]
fn ibgp_carries_the_local_preference() {
    for kind in Kind::ALL {
        scenario(&format!("announce-ibgp-{kind:?}"), |scratch| {
            let rack = Topology::new(1)?;
            let node = &rack.nodes[0];
            let mut router = kind.router(scratch, &rack.tor, "ibgp");
            router.start()?;
            let more = ["--peer", &TOR_IPV4.to_string(), "--local-pref", "150"];
            let _announcer = announce(scratch, node, NODE_ASN, &more)?;
            let routes = expected(&[node])?.into_iter();
            let routes = routes.map(|route| route.local_pref(150)).collect();
            await_table(&*router, &routes, UP)
        });
    }
}

#[test]
fn an_ipv6_session_carries_ipv6_routes() {
    for kind in Kind::ALL {
        scenario(&format!("announce-ipv6-{kind:?}"), |scratch| {
            let rack = Topology::new(1)?;
            let node = &rack.nodes[0];
            let mut router = kind.router(scratch, &rack.tor, "ebgp");
            router.start()?;
            let more = ["--peer", &TOR_IPV6.to_string()];
            let _announcer = announce(scratch, node, TOR_ASN, &more)?;
            let mut routes = expected(&[node])?;
            routes.retain(|route| route.next_hop.is_ipv6());
            await_table(&*router, &routes, UP)
        });
    }
}

#[test]
fn md5_needs_the_right_password() {
    for kind in Kind::ALL {
        scenario(&format!("announce-md5-{kind:?}"), |scratch| {
            let rack = Topology::new(3)?;
            let mut router = kind.router(scratch, &rack.tor, "md5");
            router.start()?;
            let mut announcers = Vec::new();
            for (node, password) in rack
                .nodes
                .iter()
                .zip([Some(MD5_PASSWORD), Some("wrong"), None])
            {
                let peer = TOR_IPV4.to_string();
                let file = scratch.file(&format!("{}.password", node.name));
                let file_name = file.to_string_lossy();
                let mut more = vec!["--peer", &peer];
                if let Some(password) = password {
                    fs::write(&file, password)?;
                    more.extend(["--password-file", &file_name]);
                }
                announcers.push(announce(scratch, node, TOR_ASN, &more)?);
            }
            let right = &rack.nodes[0];
            await_table(&*router, &expected(&[right])?, UP)?;
            let only = BTreeSet::from([IpAddr::V4(right.ipv4)]);
            holds("only one session", Duration::from_secs(4), || {
                await_sessions(&*router, &only, Duration::ZERO)
            })
        });
    }
}
