//! ferrolb's own kinds in a real API server: validation by their CRDs, and coexistence of its
//! BGPPeer with MetalLB's.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Metallb, OLDEST, Rack, deploy};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::router::RouteEntry;
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{TOR_IPV4, Topology};

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
        the_crd_accepts_valid_and_rejects_invalid_specs(&rack.cp)?;
        the_crd_of_l2_advertisements_does_too(&rack.cp)?;
        the_other_crds_do_too(&rack.cp)?;

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

fn the_crd_accepts_valid_and_rejects_invalid_specs(cp: &ControlPlane<'_>) -> Result<()> {
    let good = [
        "{myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.7}",
        // All of MetalLB's fields except those that exclude others.
        "{myASN: 64700, peerASN: 64600, localASN: 64701, peerAddress: 10.99.0.7, \
         sourceAddress: 10.99.0.11, peerPort: 1790, holdTime: 90s, keepaliveTime: 30s, \
         connectTime: 5s, \
         routerID: 1.2.3.4, passwordSecret: {name: s}, bfdProfile: b, \
         nodeSelectors: [{matchLabels: {a: b}, \
         matchExpressions: [{key: a, operator: In, values: [b]}]}], \
         enableGracefulRestart: true, ebgpMultiHop: true, vrf: '', dualStackAddressFamily: true, \
         disableMP: false}",
        "{myASN: 64700, peerASN: 64600, interface: eth1}",
        "{myASN: 4200000000, dynamicASN: auto, peerNetwork: 'fd00::/64', passive: true, \
         sourceAddress: 'fd00::/64', ttlSecurity: 254, sourceInterface: eth1, sendHoldTime: 10m, \
         prefixLimit: 1, restartTime: 1m30s, \
         bfdProfile: b, bfdStrict: true, shutdownText: bye, linkBandwidth: none, \
         drain: {time: 0s, onCordon: true}, prepend: 16, med: 4294967295, holdTime: 0s}",
    ];
    for spec in good {
        cp.apply(&bgp_peer("good", spec))?;
        cp.kubectl(&[
            "delete",
            "bgppeers.ferrolb.io",
            "good",
            "-n",
            "metallb-system",
        ])?;
    }
    let base = "myASN: 64700, peerASN: 64600, peerAddress: 10.99.0.7";
    let bad = [
        ("peerASN: 64600, peerAddress: 10.99.0.7", "spec.myASN"),
        (
            "myASN: 64700, peerAddress: 10.99.0.7",
            "set either peerASN or dynamicASN",
        ),
        (
            "myASN: 64700, peerASN: 64600",
            "set exactly one of peerAddress, peerNetwork and interface",
        ),
        (
            &format!("{base}, peerNetwork: 10.0.0.0/8"),
            "set exactly one of peerAddress, peerNetwork and interface",
        ),
        (
            &format!("{base}, interface: eth1"),
            "set exactly one of peerAddress, peerNetwork and interface",
        ),
        (
            &format!("{base}, dynamicASN: external"),
            "set either peerASN or dynamicASN",
        ),
        (
            &format!("{base}, password: p, passwordSecret: {{name: s}}"),
            "set at most one of password and passwordSecret",
        ),
        (
            &format!("{base}, holdTime: 2s"),
            "holdTime is 0s, or 3s and more",
        ),
        (
            &format!("{base}, holdTime: 9s, keepaliveTime: 10s"),
            "keepaliveTime is longer than holdTime",
        ),
        (
            &format!("{base}, ttlSecurity: 1, ebgpMultiHop: true"),
            "remove ebgpMultiHop",
        ),
        (&format!("{base}, ttlSecurity: 255"), "spec.ttlSecurity"),
        (&format!("{base}, bfdStrict: true"), "set bfdProfile"),
        (
            &format!("{base}, restartTime: 9s, enableGracefulRestart: false"),
            "restartTime conflicts",
        ),
        (
            &format!("{base}, linkBandwidth: heavy"),
            "spec.linkBandwidth",
        ),
        (&format!("{base}, peerPort: 17000"), "spec.peerPort"),
    ];
    for (spec, message) in bad {
        let Err(error) = cp.apply(&bgp_peer("bad", &format!("{{{spec}}}"))) else {
            anyhow::bail!("{spec} was accepted");
        };
        let error = format!("{error:#}");
        ensure!(error.contains(message), "{spec}: {error}");
    }
    Ok(())
}

fn the_crd_of_l2_advertisements_does_too(cp: &ControlPlane<'_>) -> Result<()> {
    let advertisement = |spec: &str| {
        format!(
            "{{apiVersion: ferrolb.io/v1alpha1, kind: L2Advertisement, \
             metadata: {{name: lan, namespace: metallb-system}}{spec}}}"
        )
    };
    let good = [
        "",
        ", spec: {ipAddressPools: [p], ipAddressPoolSelectors: [{matchLabels: {a: b}}], \
         nodeSelectors: [{matchExpressions: [{key: a, operator: Exists}]}], interfaces: [eth0], \
         serviceSelectors: [{matchLabels: {a: b}}], \
         preferredNodeSelectors: [{weight: 100, preference: {matchLabels: {a: b}}}], \
         conflictDetection: none, gratuitousRate: 1, sticky: false, helloInterval: 50ms, \
         drain: {onCordon: true}, loadBalancerClasses: [example.com/other, any]}",
    ];
    for spec in good {
        cp.apply(&advertisement(spec))?;
    }
    cp.kubectl(&[
        "delete",
        "l2advertisements.ferrolb.io",
        "lan",
        "-n",
        "metallb-system",
    ])?;
    let bad = [
        ("conflictDetection: fastest", "spec.conflictDetection"),
        ("gratuitousRate: 0", "spec.gratuitousRate"),
        ("helloInterval: 49ms", "helloInterval is 50ms to 10s"),
        ("helloInterval: 11s", "helloInterval is 50ms to 10s"),
        (
            "preferredNodeSelectors: [{weight: 101, preference: {}}]",
            "weight",
        ),
        ("preferredNodeSelectors: [{weight: 1}]", "preference"),
    ];
    for (spec, message) in bad {
        let Err(error) = cp.apply(&advertisement(&format!(", spec: {{{spec}}}"))) else {
            anyhow::bail!("{spec} was accepted");
        };
        let error = format!("{error:#}");
        ensure!(error.contains(message), "{spec}: {error}");
    }
    Ok(())
}

/// ferrolb's object of a kind with this spec.
fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: ferrolb.io/v1alpha1, kind: {kind}, \
         metadata: {{name: {name}, namespace: metallb-system}}, spec: {spec}}}\n"
    )
}

/// The kind, a valid spec with all fields, and invalid specs with a part of the error.
type Specs = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const POOL: Specs = (
    "IPAddressPool",
    "{addresses: [10.9.0.0/24, '10.9.1.1-10.9.1.9', '10.9.2.1 - 10.9.2.9', 'fd09::/64'], \
     autoAssign: false, avoidBuggyIPs: true, serviceAllocation: {priority: -1, namespaces: [a, b], \
     namespaceSelectors: [{matchLabels: {a: b}}], serviceSelectors: [{matchExpressions: \
     [{key: a, operator: NotIn, values: [b]}]}]}, \
     reservations: [{namespace: a, name: b, addresses: [10.9.0.1, 'fd09::1/128']}, \
     {namespace: a, name: c, addresses: ['10.9.1.1-10.9.1.2']}]}",
    &[
        ("{}", "spec.addresses"),
        ("{addresses: []}", "spec.addresses"),
        ("{addresses: [10.9.0.1]}", "spec.addresses[0]"),
        ("{addresses: [nonsense/24]}", "spec.addresses[0]"),
        (
            "{addresses: [10.9.0.0/24], serviceAllocation: {namespaces: [a, a]}}",
            "spec.serviceAllocation.namespaces[1]",
        ),
        (
            "{addresses: [10.9.0.0/24], reservations: [{namespace: a, addresses: [10.9.0.1]}]}",
            "spec.reservations[0].name",
        ),
        (
            "{addresses: [10.9.0.0/24], reservations: [{namespace: a, name: b, addresses: []}]}",
            "spec.reservations[0].addresses",
        ),
        (
            "{addresses: [10.9.0.0/24], reservations: \
             [{namespace: a, name: b, addresses: [10.9.0.1]}, \
             {namespace: a, name: b, addresses: [10.9.0.2]}]}",
            "spec.reservations[1]",
        ),
    ],
);

const ADVERTISEMENT: Specs = (
    "BGPAdvertisement",
    "{aggregationLength: 24, aggregationLengthV6: 0, localPref: 4294967295, \
     communities: [near, '64512:1', 'large:64512:1:1'], ipAddressPools: [p, q], \
     ipAddressPoolSelectors: [{matchLabels: {a: b}}], nodeSelectors: [{matchLabels: {a: b}}], \
     peers: [tor], serviceSelectors: [], communityLabels: [community, example.com/community], \
      loadBalancerClasses: [example.com/other, any], minAnnouncers: 1000, \
      announceAggregates: always}",
    &[
        ("{minAnnouncers: 0}", "spec.minAnnouncers"),
        ("{minAnnouncers: 1001}", "spec.minAnnouncers"),
        ("{announceAggregates: never}", "spec.announceAggregates"),
        (
            "{announceAggregates: always}",
            "announceAggregates: always has no effect on host routes",
        ),
        (
            "{announceAggregates: always, aggregationLength: 32, aggregationLengthV6: 128}",
            "announceAggregates: always has no effect on host routes",
        ),
        ("{aggregationLength: 0}", "spec.aggregationLength"),
        ("{aggregationLength: 33}", "spec.aggregationLength"),
        ("{aggregationLengthV6: -1}", "spec.aggregationLengthV6"),
        ("{aggregationLengthV6: 129}", "spec.aggregationLengthV6"),
        ("{localPref: -1}", "spec.localPref"),
        ("{peers: [a, a]}", "spec.peers[1]"),
        ("{communities: [a, a]}", "spec.communities[1]"),
        ("{communityLabels: [a, a]}", "spec.communityLabels[1]"),
        ("{communityLabels: ['']}", "spec.communityLabels[0]"),
        ("{ipAddressPools: [a, a]}", "spec.ipAddressPools[1]"),
        (
            "{nodeSelectors: [{matchExpressions: [{key: a, operator: Is}]}]}",
            "operator",
        ),
        (
            "{aggregationLength: 24, serviceSelectors: [{matchLabels: {a: b}}]}",
            "serviceSelectors can't be combined with an aggregation length",
        ),
        (
            "{aggregationLengthV6: 64, serviceSelectors: [{matchLabels: {a: b}}]}",
            "serviceSelectors can't be combined with an aggregation length",
        ),
    ],
);

const COMMUNITY: Specs = (
    "Community",
    "{communities: [{name: near, value: '64512:1'}, {name: far, value: 'large:64512:1:1'}, \
     {name: none, value: no-export}]}",
    &[
        (
            "{communities: [{name: near, value: '64512'}]}",
            "spec.communities[0].value",
        ),
        (
            "{communities: [{name: near, value: 'large:1:2'}]}",
            "spec.communities[0].value",
        ),
        ("{communities: [{name: near}]}", "spec.communities[0].value"),
        (
            "{communities: [{name: a, value: '1:1'}, {name: a, value: '1:2'}]}",
            "spec.communities[1]",
        ),
    ],
);

const BFD_PROFILE: Specs = (
    "BFDProfile",
    "{receiveInterval: 10, transmitInterval: 60000, detectMultiplier: 255, echoInterval: 50, \
     echoMode: false, passiveMode: true, minimumTtl: 254}",
    &[
        ("{receiveInterval: 9}", "spec.receiveInterval"),
        ("{transmitInterval: 60001}", "spec.transmitInterval"),
        ("{echoInterval: 9}", "spec.echoInterval"),
        ("{detectMultiplier: 1}", "spec.detectMultiplier"),
        ("{minimumTtl: 255}", "spec.minimumTtl"),
    ],
);

fn the_other_crds_do_too(cp: &ControlPlane<'_>) -> Result<()> {
    for (kind, good, bad) in [POOL, ADVERTISEMENT, COMMUNITY, BFD_PROFILE] {
        cp.apply(&object(kind, "good", good))?;
        let resource = format!("{kind}.v1alpha1.ferrolb.io");
        cp.kubectl(&["delete", &resource, "good", "-n", "metallb-system"])?;
        for (spec, message) in bad {
            let Err(error) = cp.apply(&object(kind, "bad", spec)) else {
                anyhow::bail!("{kind} {spec} was accepted");
            };
            let error = format!("{error:#}");
            ensure!(error.contains(message), "{kind} {spec}: {error}");
        }
    }
    Ok(())
}

#[test]
fn a_cluster_with_ferrolbs_crds_alone_announces_a_reserved_address() {
    scenario("own-kinds", |scratch| {
        let mut topology = Topology::new(1)?;
        topology.add_client()?;
        let mut rack = Rack::without_crds(scratch, &topology, "ebgp")?;
        rack.cp.install_ferrolb_crds()?;
        let reservation = "{namespace: default, name: web, addresses: [192.0.2.9]}";
        rack.cp.apply(&manifest::join(&[
            &object(
                "IPAddressPool",
                "pool",
                &format!("{{addresses: [192.0.2.0/28], reservations: [{reservation}]}}"),
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
            &manifest::service("web", "", ""),
        ]))?;
        rack.start_ferrolb()?;
        for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
            process.await_ready()?;
        }
        rack.await_address("web", "192.0.2.9")?;
        rack.await_address("other", "192.0.2.0")?;
        let mut routes = rack.routes("192.0.2.9/32", &[0])?;
        routes.extend(rack.routes("192.0.2.0/32", &[0])?);
        let with_community = |route: RouteEntry| route.communities(&["64700:1"]);
        rack.await_routes(&routes.into_iter().map(with_community).collect())?;
        rack.await_answers("192.0.2.9".parse()?, &[0])?;

        let status = ["ipaddresspools.ferrolb.io", "pool", "-n", "metallb-system"];
        let expected = serde_json::json!({
            "assignedIPv4": 2, "assignedIPv6": 0, "availableIPv4": 14, "availableIPv6": 0
        });
        eventually("the status of the pool", TIMEOUT, || {
            let pool = rack.cp.get(&status)?;
            ensure!(pool["status"] == expected, "{}", pool["status"]);
            Ok(())
        })?;

        // The names for kubectl.
        let all = rack
            .cp
            .kubectl(&["get", "ferrolb", "-n", "metallb-system", "-o", "name"])?;
        ensure!(all.lines().count() == 4, "{all}");
        let shown = rack
            .cp
            .kubectl(&["get", "lbpool", "-n", "metallb-system"])?;
        ensure!(
            shown.contains("FREE IPV4") && shown.contains("192.0.2.0/28"),
            "{shown}"
        );
        for process in rack.allocators.iter().chain(&rack.announcers) {
            let log = std::fs::read_to_string(process.log())?;
            ensure!(!log.contains("can't be read"), "{log}");
        }
        Ok(())
    });
}

/// The API server compiles the rules of the CRDs, and selects Services by `spec.type`.
#[test]
fn ferrolb_works_with_the_oldest_api_server_that_it_supports() {
    scenario("own-oldest", |scratch| {
        let cp = ControlPlane::start_oldest(scratch)?;
        let version = cp.get_raw("/version")?;
        ensure!(version["gitVersion"] == OLDEST, "{version}");
        cp.install_metallb_crds(Metallb::V0_16_2)?;
        let file = deploy().join("ferrolb.yaml");
        cp.kubectl(&["apply", "--server-side", "-f", &file.to_string_lossy()])?;
        cp.await_ferrolb_kinds()?;
        the_crd_accepts_valid_and_rejects_invalid_specs(&cp)?;
        the_crd_of_l2_advertisements_does_too(&cp)?;
        the_other_crds_do_too(&cp)?;

        let topology = Topology::new(2)?;
        let mut rack = Rack::around(cp, scratch, &topology, "ebgp")?;
        rack.cp.apply(&manifest::join(&[
            &manifest::ferrolb_peer(TOR_IPV4, ""),
            &manifest::pool("192.0.2.0/28"),
            &manifest::advertisement(""),
        ]))?;
        rack.start_ferrolb()?;
        for process in rack.allocators.iter_mut().chain(&mut rack.announcers) {
            process.await_ready()?;
        }
        for (name, policy) in [("web", "Cluster"), ("local", "Local")] {
            let policy = format!("externalTrafficPolicy: {policy},");
            rack.cp.apply(&manifest::service(name, "", &policy))?;
        }
        let mut routes = BTreeSet::new();
        for name in ["web", "local"] {
            let prefix = format!("{}/32", rack.await_addresses(name)?[0]);
            routes.extend(rack.routes(&prefix, &[0, 1])?);
        }
        rack.await_routes(&routes)
    });
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
