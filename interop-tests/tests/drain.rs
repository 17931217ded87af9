//! Drain of a node while the router has no session with another node of the same prefix.

use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::manifest::{self, EXCLUDE_LABEL};
use ferrolb_interop_tests::router::{Kind, Router, await_kernel};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology, ipv4_addresses};

const PREFIX: &str = "203.0.113.10/32";
const UP: Duration = Duration::from_secs(30);
/// The hold time, and time for the router to remove the routes.
const HOLD_TIME_EXPIRED: Duration = Duration::from_secs(9);
/// Three times `drain.time`.
const AFTER_DRAIN: Duration = Duration::from_secs(3);

/// A Service that both nodes announce.
fn manifests() -> String {
    manifest::join(&[
        &manifest::ferrolb_peer(TOR_IPV4, ", holdTime: 3s, drain: {time: 1s}"),
        &manifest::pool(PREFIX),
        &manifest::advertisement(""),
        &manifest::service("web", "", "clusterIP: 10.96.0.10,"),
        &manifest::endpoint_slice("web", "IPv4", "10.244.1.10", "node1"),
    ])
}

/// The router of the example `ebgp`, edited to export routes to the nodes and to set LOCAL_PREF 0
/// for GRACEFUL_SHUTDOWN (RFC 8326 §4.2).
fn exporting<'lab>(
    kind: Kind,
    scratch: &'lab Scratch,
    topology: &'lab Topology,
) -> Result<Box<dyn Router + 'lab>> {
    let edits: &[(&str, &str)] = match kind {
        // FRR does the latter by default.
        Kind::Frr => &[("route-map TO-NODES deny 10", "route-map TO-NODES permit 10")],
        _ => &[
            ("export none;", "export where source = RTS_BGP;"),
            (
                "filter services4 {",
                "filter services4 {\n  if (65535, 0) ~ bgp_community then bgp_local_pref = 0;",
            ),
        ],
    };
    let edits: Vec<(String, String)> = edits
        .iter()
        .map(|(old, new)| ((*old).to_owned(), (*new).to_owned()))
        .collect();
    kind.edited(scratch, &topology.tor, "ebgp", &edits)
}

/// Of two nodes with a prefix one has lost its session, the other one is excluded.
fn the_last_path_stays(kind: Kind) {
    scenario(&format!("drain-{kind:?}"), |scratch| {
        let topology = Topology::new(2)?;
        // BIRD prefers the path of node1, which has the lower router ID, and sends it to node2.
        let [other, drained] = &topology.nodes[..] else {
            unreachable!("two nodes");
        };
        let mut router = exporting(kind, scratch, &topology)?;
        router.start()?;
        let folder = Folder::new(scratch)?;
        folder.write("all.yaml", &manifests())?;
        for node in [drained, other] {
            folder.write_node(node, &[])?;
        }
        let _other = folder.run(other)?;
        let daemon = folder.run(drained)?;
        await_kernel(
            &topology.tor,
            PREFIX,
            &ipv4_addresses(&[drained, other]),
            UP,
        )?;

        other.uplink.cut()?;
        await_kernel(
            &topology.tor,
            PREFIX,
            &ipv4_addresses(&[drained]),
            HOLD_TIME_EXPIRED,
        )?;
        folder.write_node(drained, &[(EXCLUDE_LABEL, "")])?;
        consistently("the last route", AFTER_DRAIN, || {
            let found = topology.tor.kernel_next_hops(PREFIX)?;
            ensure!(found == ipv4_addresses(&[drained]), "{found:?}");
            Ok(())
        })?;
        let words = ["WARN", "router tor has no other path to", PREFIX];
        eventually("the reason in the log", AFTER_DRAIN, || {
            daemon.check_log(&words)
        })?;

        other.uplink.restore()?;
        eventually("only the route of the other node", UP, || {
            let found = topology.tor.kernel_next_hops(PREFIX)?;
            ensure!(found == ipv4_addresses(&[other]), "{found:?}");
            Ok(())
        })
    });
}

#[test]
fn frr_keeps_the_last_path_to_a_prefix_while_the_other_nodes_session_is_down() {
    the_last_path_stays(Kind::Frr);
}

#[test]
fn bird_keeps_the_last_path_to_a_prefix_while_the_other_nodes_session_is_down() {
    the_last_path_stays(Kind::Bird);
}
