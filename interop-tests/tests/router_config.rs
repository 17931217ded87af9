//! `ferrolb router-config` and the daemons of the nodes read one folder of manifests: each router,
//! started with the generated configuration, gets exactly the planned routes, rejects a prefix
//! outside of the pools, and where it can, keeps all routes while ferrolb restarts.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{ControlPlane, Metallb, Nodes};
use ferrolb_interop_tests::manifest::{self, NAMESPACE};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::process::{Process, ferrolb, run};
use ferrolb_interop_tests::router::{
    Kind, Router, await_kernel_routes, await_sessions, await_table,
};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{
    MD5_PASSWORD, NODE_ASN, Node, TOR_ASN, TOR_IPV4, TOR_IPV6, Topology, ipv4_addresses,
};

const UP: Duration = Duration::from_secs(40);
/// Time in which a router removes routes that it doesn't keep, and in which the next daemon is up.
const RESTARTED: Duration = Duration::from_secs(4);
/// Time for a shutdown.
const DOWN: Duration = Duration::from_secs(15);

/// A Service outside of the pools that the router knows.
const OUTSIDE: &str = "192.0.2.77/32";

/// All routers that ferrolb is tested with, with the name of their syntax.
const ROUTERS: [(Kind, &str); 5] = [
    (Kind::Frr, "frr"),
    (Kind::Bird, "bird"),
    (Kind::Gobgp, "gobgp"),
    (Kind::Openbgpd, "openbgpd"),
    (Kind::Exabgp, "exabgp"),
];

/// Pools, advertisements and Services: single addresses of both families, a range, and a pool that
/// is announced as a whole and in single addresses.
fn services() -> String {
    let pools = format!(
        "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: public, namespace: {NAMESPACE}}}
spec: {{addresses: [203.0.113.0/25, 203.0.113.200-203.0.113.210, \"2001:db8:113::/64\"]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: internal, namespace: {NAMESPACE}}}
spec: {{addresses: [198.51.100.0/24]}}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {{name: whole, namespace: {NAMESPACE}}}
spec: {{ipAddressPools: [internal], aggregationLength: 24}}
"
    );
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let nodes = ["node1", "node2", "node3"];
    manifest::join(&[
        &pools,
        &manifest::advertisement(""),
        &manifest::service_at(address("203.0.113.10"), 1, &nodes),
        &manifest::service_at(address("203.0.113.205"), 2, &nodes),
        &manifest::service_at(address("198.51.100.7"), 3, &nodes),
        &manifest::service_at(address("2001:db8:113::10"), 4, &nodes),
    ])
}

/// The password, where the BGPPeer refers to it.
fn secret() -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: tor-password, namespace: {NAMESPACE}}}
type: kubernetes.io/basic-auth
stringData: {{password: {MD5_PASSWORD}}}
"
    )
}

/// The folder that the router's configuration and the daemons are made from.
fn folder_with<'lab>(scratch: &'lab Scratch, nodes: &[Node], peer: &str) -> Result<Folder<'lab>> {
    let folder = Folder::new(scratch)?;
    for node in nodes {
        folder.write_node(node, &[])?;
    }
    folder.write("services.yaml", &services())?;
    folder.write("peer.yaml", peer)?;
    folder.write("bfd.yaml", &manifest::bfd_profile())?;
    folder.write("secret.yaml", &secret())?;
    Ok(folder)
}

/// The generated configuration, in which the variables are replaced as an operator does.
fn configuration(folder: &Folder<'_>, syntax: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut text = folder.router_config(syntax)?;
    ensure!(!text.contains(MD5_PASSWORD), "a password: {text}");
    for (name, value) in values {
        let variable = format!("${{{name}}}");
        ensure!(text.contains(&variable), "no {variable}: {text}");
        text = text.replace(&variable, value);
    }
    Ok(text)
}

const PASSWORD: &[(&str, &str)] = &[("PASSWORD_METALLB_SYSTEM_TOR_PASSWORD", MD5_PASSWORD)];

/// Runs `test` with a started router and the daemons of three nodes, when the router has exactly
/// the planned routes.
fn with_rack(
    (kind, syntax): (Kind, &str),
    peer: &str,
    values: &[(&str, &str)],
    test: impl FnOnce(&Scratch, &Topology, &Folder<'_>, &dyn Router, &mut [Process]) -> Result<()>,
) {
    scenario(&format!("router-config-{syntax}"), |scratch| {
        let topology = Topology::new(3)?;
        let folder = folder_with(scratch, &topology.nodes, peer)?;
        let text = configuration(&folder, syntax, values)?;
        let mut router = kind.configured(scratch, &topology.tor, &text)?;
        router.start()?;
        let daemons = topology.nodes.iter().map(|node| folder.run(node));
        let mut daemons: Vec<Process> = daemons.collect::<Result<_>>()?;
        let nodes: Vec<&Node> = topology.nodes.iter().collect();
        let planned = folder.plan()?.routes(&nodes, "tor")?;
        ensure!(planned.len() == 15, "{planned:?}");
        await_sessions(&*router, &ipv4_addresses(&nodes), UP)?;
        await_table(&*router, &planned, UP)?;
        if router.installs_routes() {
            await_kernel_routes(&topology.tor, &planned, UP)?;
        }
        test(scratch, &topology, &folder, &*router, &mut daemons)
    });
}

/// After the router was configured, a pool is added to the cluster: its routes don't pass.
fn outside_is_rejected(folder: &Folder<'_>, router: &dyn Router) -> Result<()> {
    let outside: ipnet::IpNet = OUTSIDE.parse()?;
    let pool = manifest::pool("192.0.2.64/27");
    let service = manifest::service_at(outside.addr(), 5, &["node1", "node2", "node3"]);
    let before = router.table()?;
    folder.write("added.yaml", &manifest::join(&[&pool, &service]))?;
    eventually("the rejected prefix", UP, || {
        let rejected = router.rejected()?;
        ensure!(rejected == BTreeSet::from([outside]), "{rejected:?}");
        Ok(())
    })?;
    ensure!(router.table()? == before, "{:?}", router.table()?);
    folder.remove("added.yaml")
}

/// A restart of ferrolb on one node, as planned: no route is missing at any time, neither in the
/// router's table nor in its kernel.
fn restart_loses_nothing(
    scratch: &Scratch,
    topology: &Topology,
    folder: &Folder<'_>,
    router: &dyn Router,
    daemons: &mut [Process],
) -> Result<()> {
    let node = &topology.nodes[0];
    let before = router.table()?;
    eventually("routes without those added", UP, || {
        let rejected = router.rejected()?;
        ensure!(rejected.is_empty(), "{rejected:?}");
        Ok(())
    })?;
    let mut monitor = topology.tor.command("ip");
    monitor.args(["-o", "monitor", "route"]);
    let monitor = Process::start(scratch, "monitor", &monitor)?;
    let status = daemons[0].terminate(DOWN)?;
    ensure!(status.success(), "{status}");
    let table = |what: &str| {
        consistently(what, RESTARTED, || {
            let table = router.table()?;
            ensure!(table == before, "{table:?}");
            Ok(())
        })
    };
    table("routes while ferrolb is down")?;
    daemons[0] = folder.run(node)?;
    table("routes while it starts")?;
    let nodes: Vec<&Node> = topology.nodes.iter().collect();
    await_sessions(router, &ipv4_addresses(&nodes), UP)?;
    table("routes after the restart")?;
    let changes = monitor.log_text()?;
    // Replacing a route by one with as many next hops is allowed.
    let worse = |line: &&str| {
        let mut services = ["203.0.113.", "198.51.100.", "2001:db8:"].iter();
        let fewer = line.matches("via ").count() < topology.nodes.len();
        services.any(|prefix| line.contains(prefix)) && (line.starts_with("Deleted ") || fewer)
    };
    let worse: Vec<&str> = changes.lines().filter(worse).collect();
    ensure!(worse.is_empty(), "{worse:#?}");
    Ok(())
}

/// The whole of it: a password, both families, BFD where the router has it, graceful restart.
fn generated_from_the_folder(kind: Kind, syntax: &'static str) {
    let peer = manifest::ferrolb_peer(
        TOR_IPV4,
        ", dualStackAddressFamily: true, holdTime: 9s, bfdProfile: fast, passwordSecret: {name: \
         tor-password}",
    );
    with_rack(
        (kind, syntax),
        &peer,
        PASSWORD,
        |scratch, topology, folder, router, daemons| {
            if kind != Kind::Exabgp {
                outside_is_rejected(folder, router)?;
                restart_loses_nothing(scratch, topology, folder, router, daemons)?;
            }
            Ok(())
        },
    );
}

#[test]
fn frr_with_the_generated_configuration_accepts_the_pools_and_keeps_routes() {
    generated_from_the_folder(Kind::Frr, "frr");
}

#[test]
fn bird_with_the_generated_configuration_accepts_the_pools_and_keeps_routes() {
    generated_from_the_folder(Kind::Bird, "bird");
}

#[test]
fn gobgp_with_the_generated_configuration_accepts_the_pools_and_keeps_routes() {
    generated_from_the_folder(Kind::Gobgp, "gobgp");
}

#[test]
fn openbgpd_with_the_generated_configuration_accepts_the_pools_and_keeps_routes() {
    generated_from_the_folder(Kind::Openbgpd, "openbgpd");
}

#[test]
fn exabgp_with_the_generated_configuration_gets_the_planned_routes() {
    generated_from_the_folder(Kind::Exabgp, "exabgp");
}

/// `sourceAddress` as a network: dynamic neighbors where the router has them, and named ones where
/// it hasn't.
#[test]
fn nodes_that_dial_from_a_network_are_accepted() {
    let peer = manifest::ferrolb_peer(
        TOR_IPV4,
        ", dualStackAddressFamily: true, holdTime: 9s, sourceAddress: 10.99.0.0/24",
    );
    for (kind, syntax) in ROUTERS {
        with_rack((kind, syntax), &peer, &[], |_, _, folder, router, _| {
            let text = folder.router_config(syntax)?;
            let mut statements = text.lines().filter(|line| !line.starts_with(['!', '#']));
            let is_range = statements.any(|line| line.contains("10.99.0.0/24"));
            ensure!(is_range == (kind != Kind::Exabgp), "{text}");
            if kind == Kind::Exabgp {
                return Ok(());
            }
            outside_is_rejected(folder, router)
        });
    }
}

#[test]
fn ibgp_routes_arrive_and_share_the_load() {
    let peer = manifest::ferrolb_peer(
        TOR_IPV4,
        ", dualStackAddressFamily: true, holdTime: 9s, bfdProfile: fast",
    );
    let peer = peer.replace(&TOR_ASN.to_string(), &NODE_ASN.to_string());
    for (kind, syntax) in ROUTERS {
        with_rack((kind, syntax), &peer, &[], |_, _, _, _, _| Ok(()));
    }
}

#[test]
fn a_router_with_gtsm_has_the_nodes_on_its_link() {
    let peer = manifest::ferrolb_peer(
        TOR_IPV4,
        ", dualStackAddressFamily: true, holdTime: 9s, ttlSecurity: 1",
    );
    for (kind, syntax) in ROUTERS {
        with_rack((kind, syntax), &peer, &[], |_, _, _, _, _| Ok(()));
    }
}

/// Nodes in front of the router as if they were several hops away.
#[test]
fn ebgp_over_several_hops_gets_the_planned_routes() {
    let peer = manifest::ferrolb_peer(
        TOR_IPV4,
        ", dualStackAddressFamily: true, holdTime: 9s, ebgpMultiHop: true, bfdProfile: fast",
    );
    let profile = "detectMultiplier: 3, minimumTtl: 60}";
    let peer = manifest::join(&[
        &peer.replace("bfdProfile: fast", "bfdProfile: far"),
        &manifest::bfd_profile()
            .replace("name: fast", "name: far")
            .replace("detectMultiplier: 3}", profile),
    ]);
    for (kind, syntax) in ROUTERS {
        with_rack((kind, syntax), &peer, &[], |_, _, _, _, _| Ok(()));
    }
}

/// The next hop is the node's InternalIP of the same family.
#[test]
fn sessions_over_ipv6_carry_prefixes_of_both_families() {
    let peer = manifest::ferrolb_peer(TOR_IPV6, ", dualStackAddressFamily: true, holdTime: 9s");
    for (kind, syntax) in ROUTERS {
        scenario(&format!("router-config-v6-{syntax}"), |scratch| {
            let topology = Topology::new(2)?;
            let folder = folder_with(scratch, &topology.nodes, &peer)?;
            let values = &[("ROUTER_ID", "10.99.0.1")];
            let text = configuration(&folder, syntax, values)?;
            let mut router = kind.configured(scratch, &topology.tor, &text)?;
            router.start()?;
            let daemons = topology.nodes.iter().map(|node| folder.run(node));
            let _daemons: Vec<Process> = daemons.collect::<Result<_>>()?;
            let nodes: Vec<&Node> = topology.nodes.iter().collect();
            let planned = folder.plan()?.routes(&nodes, "tor")?;
            ensure!(planned.len() == 10, "{planned:?}");
            await_table(&*router, &planned, UP)
        });
    }
}

/// A router with one link to each node. The links have the kernel's link-local addresses only.
fn fabric_node(tor: &Namespace, number: u8) -> Result<Node> {
    let name = format!("node{number}");
    let namespace = Namespace::new(&name)?;
    let uplink = Link::new((&namespace, "eth1"), (tor, &name))?;
    let host = number + 10;
    let node = Node {
        ipv4: format!("10.99.0.{host}").parse()?,
        ipv6: format!("fd99::{host}").parse()?,
        name,
        namespace,
        uplink,
    };
    for address in [format!("{}/32", node.ipv4), format!("{}/128", node.ipv6)] {
        node.namespace.address("lo", &address)?;
    }
    Ok(node)
}

#[test]
fn unnumbered_nodes_are_neighbors_by_interface() {
    let peer = format!(
        "apiVersion: ferrolb.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor, namespace: {NAMESPACE}}}
spec: {{myASN: {NODE_ASN}, dynamicASN: external, interface: eth1, holdTime: 9s, bfdProfile: fast}}
"
    );
    for (kind, syntax) in [(Kind::Frr, "frr"), (Kind::Bird, "bird")] {
        scenario(&format!("router-config-unnumbered-{syntax}"), |scratch| {
            let tor = Namespace::new("tor")?;
            tor.address("lo", &format!("{TOR_IPV4}/32"))?;
            let nodes = (1..=2).map(|number| fabric_node(&tor, number));
            let nodes = nodes.collect::<Result<Vec<Node>>>()?;
            let folder = folder_with(scratch, &nodes, &peer)?;
            let asn = TOR_ASN.to_string();
            let values: &[(&str, &str)] = &[("ROUTER_ASN", &asn), ("ROUTER_ID", "10.99.0.1")];
            let text = configuration(&folder, syntax, values)?;
            let mut router = kind.configured(scratch, &tor, &text)?;
            router.start()?;
            let daemons = nodes.iter().map(|node| folder.run(node));
            let _daemons: Vec<Process> = daemons.collect::<Result<_>>()?;
            for prefix in ["203.0.113.10/32", "198.51.100.0/24", "2001:db8:113::10/128"] {
                eventually(format!("two next hops of {prefix}"), UP, || {
                    let hops = tor.kernel_next_hops(prefix)?;
                    ensure!(hops.len() == 2, "{hops:?}");
                    Ok(())
                })?;
            }
            Ok(())
        });
    }
}

/// FRR inside other systems gets the same statements.
#[test]
fn frr_loads_the_text_for_systems_that_have_it_inside() {
    let peer = manifest::ferrolb_peer(TOR_IPV4, ", holdTime: 9s, bfdProfile: fast");
    for syntax in ["vyos", "cumulus", "sonic"] {
        scenario(&format!("router-config-{syntax}"), |scratch| {
            let topology = Topology::new(1)?;
            let folder = folder_with(scratch, &topology.nodes, &peer)?;
            let text = configuration(&folder, syntax, &[])?;
            let mut router = Kind::Frr.configured(scratch, &topology.tor, &text)?;
            router.start()?;
            let _daemon = folder.run(&topology.nodes[0])?;
            let planned = folder.plan()?.routes(&[&topology.nodes[0]], "tor")?;
            await_table(&*router, &planned, UP)
        });
    }
}

/// From an API server, and from its objects as manifests. The password is in neither.
#[test]
fn a_cluster_gives_the_configuration_of_its_manifests() {
    scenario("router-config-live", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        let peer = manifest::metallb_peer(
            ", passwordSecret: {name: tor-password}, bfdProfile: fast, enableGracefulRestart: true",
        );
        cp.apply(&manifest::join(&[
            &peer,
            &secret(),
            &manifest::bfd_profile(),
            &manifest::pool("203.0.113.0/24"),
            &manifest::advertisement(""),
        ]))?;
        for (name, address) in [("node1", "10.99.0.11"), ("node2", "10.99.0.12")] {
            cp.create_node(name, &[address.parse()?])?;
        }
        let arguments = ["router-config", "--for", "bird"];
        let mut live = cp.command(ferrolb()?);
        live.args(arguments).arg("--kubeconfig");
        let live = run(live.arg(cp.admin_kubeconfig()))?;
        let kinds = "nodes,bgppeers,bfdprofiles,ipaddresspools,bgpadvertisements";
        let file = scratch.file("objects.yaml");
        fs::write(&file, cp.kubectl(&["get", kinds, "-A", "-o", "yaml"])?)?;
        let exported = run(Command::new(ferrolb()?).args(arguments).arg("-f").arg(file))?;
        ensure!(live == exported, "{live}\n{exported}");
        ensure!(!live.contains(MD5_PASSWORD), "{live}");
        for part in [
            "${PASSWORD_",
            "neighbor 10.99.0.12 as 64700",
            "203.0.113.0/24{32,32}",
        ] {
            ensure!(live.contains(part), "no {part}: {live}");
        }
        Ok(())
    });
}
