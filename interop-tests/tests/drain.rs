//! Nodes that leave while the router lacks another node's session.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::daemon::{Folder, said};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::process::{Scratch, scenario};
use ferrolb_interop_tests::router::{Kind, Router, await_kernel};
use ferrolb_interop_tests::topology::{NODE_ASN, Node, TOR_ASN, TOR_IPV4, Topology};

const PREFIX: &str = "203.0.113.10/32";
const UP: Duration = Duration::from_secs(30);
/// The hold time, and what the router needs after that.
const LOST: Duration = Duration::from_secs(9);
/// Three times the drain's time.
const AFTER_DRAIN: Duration = Duration::from_secs(3);
const EXCLUDED: (&str, &str) = (
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "",
);

/// One service that both nodes announce.
fn manifests() -> String {
    format!(
        "apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor}}
spec:
  myASN: {NODE_ASN}
  peerASN: {TOR_ASN}
  peerAddress: {TOR_IPV4}
  holdTime: 3s
  drain: {{time: 1s}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: pool, namespace: metallb-system}}
spec: {{addresses: [{PREFIX}]}}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {{name: all, namespace: metallb-system}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{type: LoadBalancer, clusterIP: 10.96.0.10, ports: [{{port: 443}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{{addresses: [10.244.1.10], nodeName: node1}}]
"
    )
}

/// The router of the examples, but it exports to the nodes, and acts on GRACEFUL_SHUTDOWN as RFC 8326 §4.2 says.
fn exporting<'lab>(
    kind: Kind,
    scratch: &'lab Scratch,
    topology: &'lab Topology,
) -> Result<Box<dyn Router + 'lab>> {
    let edits: &[(&str, &str)] = match kind {
        // FRR does so by itself.
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
    let path = match kind {
        Kind::Frr => "frr/ebgp.conf",
        _ => "bird/ebgp.conf",
    };
    kind.edited(scratch, &topology.tor, path, &edits)
}

fn next_hops(nodes: &[&Node]) -> BTreeSet<IpAddr> {
    nodes.iter().map(|node| IpAddr::V4(node.ipv4)).collect()
}

/// Two nodes are to announce a prefix, and one of them has lost its session. The other one is excluded.
fn the_last_path_stays(kind: Kind) {
    scenario(&format!("drain-{kind:?}"), |scratch| {
        let topology = Topology::new(2)?;
        // BIRD prefers the path of node1, whose router id is lower, and sends it to node2.
        let [other, leaves] = &topology.nodes[..] else {
            unreachable!("two nodes");
        };
        let mut router = exporting(kind, scratch, &topology)?;
        router.start()?;
        let folder = Folder::new(scratch)?;
        folder.write("all.yaml", &manifests())?;
        for node in [leaves, other] {
            folder.write_node(node, &[])?;
        }
        let _other = folder.run(other)?;
        let daemon = folder.run(leaves)?;
        await_kernel(&topology.tor, PREFIX, &next_hops(&[leaves, other]), UP)?;

        other.uplink.cut()?;
        await_kernel(&topology.tor, PREFIX, &next_hops(&[leaves]), LOST)?;
        folder.write_node(leaves, &[EXCLUDED])?;
        consistently("the last route", AFTER_DRAIN, || {
            let found = topology.tor.kernel_next_hops(PREFIX)?;
            ensure!(found == next_hops(&[leaves]), "{found:?}");
            Ok(())
        })?;
        let words = ["WARN", "router tor has no other path to", PREFIX];
        eventually("why the route stays", AFTER_DRAIN, || said(&daemon, &words))?;

        other.uplink.mend()?;
        eventually("the other node alone", UP, || {
            let found = topology.tor.kernel_next_hops(PREFIX)?;
            ensure!(found == next_hops(&[other]), "{found:?}");
            Ok(())
        })
    });
}

#[test]
fn frr_keeps_the_last_path_to_a_prefix_while_the_other_node_s_session_is_down() {
    the_last_path_stays(Kind::Frr);
}

#[test]
fn bird_keeps_the_last_path_to_a_prefix_while_the_other_node_s_session_is_down() {
    the_last_path_stays(Kind::Bird);
}
