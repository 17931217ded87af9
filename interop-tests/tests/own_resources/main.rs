//! ferrolb's own kinds in a real API server: validation by their CRDs, and coexistence of its
//! BGPPeer with MetalLB's.

mod conditions;
mod oldest;
mod specs;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::Rack;
use ferrolb_interop_tests::manifest::{self, NAMESPACE};
use ferrolb_interop_tests::router::RouteEntry;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use serde_json::json;

/// ferrolb detects a new CRD within half a minute.
const TIMEOUT: Duration = Duration::from_secs(60);

/// MetalLB's resources and a Service.
fn metallb_configuration() -> String {
    manifest::join(&[
        &manifest::metallb_peer(""),
        &manifest::pool("192.0.2.0/28"),
        &manifest::advertisement("peers: [tor, tor-own]"),
        &manifest::service("web", "", ""),
    ])
}

/// Series of the rejected BGPPeer.
const REJECTED: &str = "ferrolb_object_refused_bool{kind=\"BGPPeer.ferrolb.io\",name=\"tor-own\",\
    namespace=\"metallb-system\"}";

/// ferrolb's BGPPeer with this spec.
fn bgp_peer(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: ferrolb.io/v1alpha1, kind: BGPPeer, \
         metadata: {{name: {name}, namespace: metallb-system}}, spec: {spec}}}"
    )
}

#[test]
fn ferrolbs_bgp_peer_replaces_metallbs_without_a_gap() {
    scenario("own-peers", |scratch| {
        let mut topology = Topology::new(1)?;
        topology.add_client()?;
        let rack = Rack::start(scratch, &topology, "ebgp", &metallb_configuration())?;
        let prefix = format!("{}/32", rack.await_addresses("web")?[0]);
        let routes = rack.routes(&prefix, &[0])?;
        rack.await_routes(&routes)?;
        let announcer = &rack.announcers[0];
        ensure!(
            !std::fs::read_to_string(announcer.log())?.contains("can't be read"),
            "the missing CRD of ferrolb must not be reported"
        );

        rack.cp.install_ferrolb_crds()?;
        specs::check(&rack.cp, scratch)?;

        rack.cp.apply(&bgp_peer(
            "tor-own",
            "{myASN: 64700, dynamicASN: auto, peerAddress: 10.99.0.1}",
        ))?;
        eventually(
            "the younger of two conflicting peers is rejected",
            TIMEOUT,
            || {
                ensure!(announcer.metric(REJECTED)? == 1.0);
                Ok(())
            },
        )?;
        rack.await_routes(&routes)?;
        rack.cp.kubectl(&[
            "delete",
            "bgppeers.metallb.io",
            "tor",
            "-n",
            "metallb-system",
        ])?;
        announcer.await_log(&["resolved", "tor-own"], TIMEOUT)?;
        rack.await_routes(&routes)
    });
}

/// ferrolb's object of a kind with this spec.
fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: ferrolb.io/v1alpha1, kind: {kind}, \
         metadata: {{name: {name}, namespace: metallb-system}}, spec: {spec}}}\n"
    )
}

#[test]
fn a_cluster_with_ferrolbs_crds_alone_announces_a_reserved_address() {
    scenario("own-kinds", |scratch| {
        let mut topology = Topology::new(1)?;
        topology.add_client()?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.cp.install_ferrolb_crds()?;
        // The address that any other Service would get first.
        let reservation = "{namespace: default, name: web, addresses: [192.0.2.0]}";
        rack.cp.apply(&manifest::join(&[
            &object(
                "IPAddressPool",
                "pool",
                &format!(
                    "{{addresses: [192.0.2.0/28, '2001:db8:10::/120'], \
                     reservations: [{reservation}]}}"
                ),
            ),
            &object(
                "Community",
                "names",
                "{communities: [{name: near, value: '64700:1'}]}",
            ),
            &manifest::ferrolb_peer("10.99.0.1", ""),
            &object(
                "BGPAdvertisement",
                "all",
                "{ipAddressPools: [pool], peers: [tor], communities: [near]}",
            ),
            &manifest::service("other", "", ""),
        ]))?;
        rack.start_ferrolb()?;
        for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
            process.await_ready()?;
        }
        rack.await_address("other", "192.0.2.1")?;
        rack.cp.apply(&manifest::service("web", "", ""))?;
        rack.await_address("web", "192.0.2.0")?;
        let mut routes = rack.routes("192.0.2.0/32", &[0])?;
        routes.extend(rack.routes("192.0.2.1/32", &[0])?);
        let with_community = |route: RouteEntry| route.communities(&["64700:1"]);
        rack.await_routes(&routes.into_iter().map(with_community).collect())?;
        rack.await_answers("192.0.2.0".parse()?, &[0])?;

        the_status_counts_addresses(&rack)?;
        the_names_and_columns_are_shown(&rack)?;
        a_second_address_leaves_the_ip_mode_of_the_first(&rack)?;
        for process in rack.allocators.iter().chain(&rack.announcers) {
            let log = std::fs::read_to_string(process.log())?;
            ensure!(!log.contains("can't be read"), "{log}");
        }
        Ok(())
    });
}

fn the_status_counts_addresses(rack: &Rack<'_>) -> Result<()> {
    let status = ["ipaddresspools.ferrolb.io", "pool", "-n", "metallb-system"];
    let expected = json!({
        "assignedIPv4": 2, "assignedIPv6": 0, "availableIPv4": 14, "availableIPv6": 256
    });
    eventually("the status of the pool", TIMEOUT, || {
        let pool = rack.cp.get(&status)?;
        ensure!(pool["status"] == expected, "{}", pool["status"]);
        Ok(())
    })
}

fn the_names_and_columns_are_shown(rack: &Rack<'_>) -> Result<()> {
    let all = rack
        .cp
        .kubectl(&["get", "ferrolb", "-n", "metallb-system", "-o", "name"])?;
    ensure!(all.lines().count() == 4, "{all}");
    for (name, columns) in [
        (
            "lbpool",
            "NAME AUTO ASSIGN AVOID BUGGY IPS ADDRESSES ASSIGNED IPV4 FREE IPV4 ASSIGNED IPV6 FREE \
             IPV6 ACCEPTED",
        ),
        (
            "lbpeer",
            "NAME ADDRESS NETWORK INTERFACE ASN BFD PROFILE MULTI HOPS ACCEPTED",
        ),
        (
            "lbbgp",
            "NAME IPADDRESSPOOLS IPADDRESSPOOL SELECTORS PEERS NODE SELECTORS ACCEPTED",
        ),
    ] {
        let shown = rack
            .cp
            .kubectl(&["get", name, "-n", NAMESPACE, "-o", "wide"])?;
        let header: Vec<&str> = shown
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        ensure!(header.join(" ") == columns, "{shown}");
    }
    Ok(())
}

/// The status of `other` says that a proxy answers, which another program may have written.
fn a_second_address_leaves_the_ip_mode_of_the_first(rack: &Rack<'_>) -> Result<()> {
    let proxy = json!([
        { "op": "add", "path": "/status/loadBalancer/ingress/0/ipMode", "value": "Proxy" }
    ]);
    let (proxy, status) = (proxy.to_string(), "--subresource=status");
    let other = ["patch", "service", "other"];
    let change = [&other[..], &[status, "--type=json", "-p", &proxy]].concat();
    rack.cp.kubectl(&change)?;
    let dual_stack = r#"{"spec": {"ipFamilyPolicy": "PreferDualStack"}}"#;
    rack.cp
        .kubectl(&[&other[..], &["-p", dual_stack]].concat())?;
    let expected = json!([
        { "ip": "192.0.2.1", "ipMode": "Proxy" }, { "ip": "2001:db8:10::", "ipMode": "VIP" }
    ]);
    eventually("the second address", TIMEOUT, || {
        let service = rack.cp.get(&["service", "other"])?;
        let ingress = &service["status"]["loadBalancer"]["ingress"];
        ensure!(*ingress == expected, "{ingress}");
        Ok(())
    })
}

/// The BGPPeer tor, whose sessions come from this network.
fn tor_from(network: &str) -> String {
    manifest::ferrolb_peer("10.99.0.1", &format!(", sourceAddress: {network}"))
}

/// The routes of a prefix via these next hops, with these communities.
fn routes_via(prefix: &str, via: &[&str], communities: &[&str]) -> Result<BTreeSet<RouteEntry>> {
    let routes = via.iter().map(|next_hop| {
        let route = RouteEntry::new(prefix, next_hop)?;
        Ok(route.communities(communities))
    });
    routes.collect()
}

#[test]
fn each_node_has_its_source_address_of_a_network_and_labels_name_communities() {
    scenario("own-fields", |scratch| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        // The kernel would choose the first address of each node.
        for (node, address) in topology.nodes.iter().zip(["10.99.0.211", "10.99.0.212"]) {
            node.namespace.address("uplink", &format!("{address}/24"))?;
        }
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.cp.install_ferrolb_crds()?;
        rack.cp.apply(&manifest::join(&[
            &object("IPAddressPool", "pool", "{addresses: [192.0.2.0/28]}"),
            &object(
                "Community",
                "names",
                "{communities: [{name: near, value: '64700:1'}]}",
            ),
            &object(
                "BGPAdvertisement",
                "all",
                "{communityLabels: [example.com/community]}",
            ),
            &tor_from("10.99.0.208/28"),
        ]))?;
        rack.start_ferrolb()?;
        for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
            process.await_ready()?;
        }
        rack.cp.apply(&manifest::service("web", "", ""))?;
        let prefix = format!("{}/32", rack.await_addresses("web")?[0]);
        let both = ["10.99.0.211", "10.99.0.212"];
        rack.await_routes(&routes_via(&prefix, &both, &[])?)?;
        each_announcer_has_written_one_event(&rack)?;
        communities_follow_labels(&rack, &prefix, &both)?;
        sources_follow_addresses(&rack, &prefix)
    });
}

fn each_announcer_has_written_one_event(rack: &Rack<'_>) -> Result<()> {
    let expected: BTreeSet<String> = ["node1", "node2"]
        .map(|node| format!("announcing from node \"{node}\" with protocol \"bgp\""))
        .into();
    eventually("one Event of each announcer", TIMEOUT, || {
        let events = rack.cp.get(&["events", "-n", "default"])?;
        let events = events["items"].as_array().context("no list")?.iter();
        let assigned = events.filter(|event| event["reason"] == "nodeAssigned");
        let messages = assigned.filter_map(|event| event["message"].as_str());
        let messages: Vec<&str> = messages.collect();
        ensure!(messages.len() == 2, "{messages:?}");
        let messages: BTreeSet<String> = messages.into_iter().map(str::to_owned).collect();
        ensure!(messages == expected, "{messages:?}");
        Ok(())
    })
}

fn communities_follow_labels(rack: &Rack<'_>, prefix: &str, via: &[&str]) -> Result<()> {
    let label = |object: &[&str], change: &str| {
        let arguments = [&["label", "--overwrite"], object, &[change]].concat();
        rack.cp.kubectl(&arguments).map(drop)
    };
    let (service, namespace) = (["service", "web"], ["namespace", "default"]);
    for (object, change, communities) in [
        (&service, "example.com/community=near", &["64700:1"][..]),
        (&service, "example.com/community=64700.2", &["64700:2"]),
        (&namespace, "example.com/community=64700.3", &["64700:2"]),
        (&service, "example.com/community-", &["64700:3"]),
        (&namespace, "example.com/community=near", &["64700:1"]),
        (&namespace, "example.com/community=far", &[]),
    ] {
        label(object, change)?;
        rack.await_routes(&routes_via(prefix, via, communities)?)
            .with_context(|| format!("{object:?} {change}"))?;
    }
    rack.announcers[0].await_log(
        &["Namespace default", "\\\"far\\\" is no community"],
        TIMEOUT,
    )?;
    label(&namespace, "example.com/community-")
}

fn sources_follow_addresses(rack: &Rack<'_>, prefix: &str) -> Result<()> {
    let uplink = &rack.topology.nodes[0].namespace;
    uplink.address("uplink", "10.99.0.213/24")?;
    uplink.ip(&["address", "delete", "10.99.0.211/24", "dev", "uplink"])?;
    let moved = routes_via(prefix, &["10.99.0.213", "10.99.0.212"], &[])?;
    rack.await_routes(&moved)?;

    // Neither node has an address there. What ran before continues.
    rack.cp.apply(&tor_from("10.99.0.224/28"))?;
    for announcer in &rack.announcers {
        let text = "no interface of the node has an address in 10.99.0.224/28";
        announcer.await_log(&[text, "the session from before stays in use"], TIMEOUT)?;
    }
    rack.await_routes(&moved)?;
    uplink.address("uplink", "10.99.0.225/24")?;
    let only_one = routes_via(prefix, &["10.99.0.225", "10.99.0.212"], &[])?;
    rack.await_routes(&only_one)
}
