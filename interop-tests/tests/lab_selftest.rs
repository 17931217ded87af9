//! Tests of the lab itself, without ferrolb: links are cut and restored, routers load the peering
//! examples, and the lab reads their tables exactly. BIRD runs on the nodes instead of ferrolb.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::lan::{Capture, Host, Switch, answers, mac};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{
    Bird, Kind, RouteEntry, Router, await_kernel, await_sessions, await_table, check_table,
    router_scenario,
};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{
    MD5_PASSWORD, NODE_ASN, Node, TOR_ASN, TOR_IPV4, TOR_IPV6, Topology, ipv4_addresses,
};

const UP: Duration = Duration::from_secs(20);
/// The announcers' hold time, which is shorter than the routers'.
const HOLD_TIME: Duration = Duration::from_secs(3);

fn ping(from: &Namespace, to: &str) -> Result<()> {
    from.run("busybox", &["ping", "-c1", "-W1", "-q", to])
        .map(drop)
}

/// Starts BIRD on a node. Each node announces `203.0.113.10/32` and `2001:db8:113::10/128`, the
/// first one also `198.51.100.0/28`.
fn announcer<'lab>(scratch: &'lab Scratch, node: &'lab Node, session: &str) -> Result<Bird<'lab>> {
    let own = if node.name == "node1" {
        "route 198.51.100.0/28 blackhole;"
    } else {
        ""
    };
    let text = format!(
        "router id {ipv4};
         log stderr all;
         protocol device {{}}
         protocol static {{ ipv4; route 203.0.113.10/32 blackhole; {own} }}
         protocol static {{ ipv6; route 2001:db8:113::10/128 blackhole; }}
         filter marked {{
           bgp_community.add((64700,120)); bgp_community.add((64700,20));
           bgp_community.add((65535,0));
           bgp_large_community.add((64700,1,2));
           bgp_local_pref = 150;
           accept;
         }}
         {session}",
        ipv4 = node.ipv4
    );
    let configuration = scratch.file(&format!("{}.conf", node.name));
    fs::write(&configuration, text)?;
    let mut bird = Bird::with_configuration(scratch, &node.namespace, configuration);
    bird.start()?;
    Ok(bird)
}

/// Configuration of a session over IPv4 with both families.
fn session(node: &Node, tor_asn: u32, more: &str) -> String {
    format!(
        "protocol bgp tor {{
           local {ipv4} as {NODE_ASN}; neighbor {TOR_IPV4} as {tor_asn};
           connect delay time 1; connect retry time 2; error wait time 1,2;
           hold time {hold_time}; {more}
           ipv4 {{ import none; export filter marked; }};
           ipv6 {{ import none; export filter marked; next hop address {ipv6}; }};
         }}",
        ipv4 = node.ipv4,
        ipv6 = node.ipv6,
        hold_time = HOLD_TIME.as_secs()
    )
}

/// The expected table while `nodes` announce.
fn expected(nodes: &[&Node], local_pref: Option<u32>) -> Result<BTreeSet<RouteEntry>> {
    let mut routes = BTreeSet::new();
    for node in nodes {
        let (ipv4, ipv6) = (node.ipv4.to_string(), node.ipv6.to_string());
        let mut announced = vec![("203.0.113.10/32", &ipv4), ("2001:db8:113::10/128", &ipv6)];
        if node.name == "node1" {
            announced.push(("198.51.100.0/28", &ipv4));
        }
        for (prefix, next_hop) in announced {
            let mut route = RouteEntry::new(prefix, next_hop)?
                .communities(&["64700:120", "64700:20", "65535:0"])
                .large_communities(&["64700:1:2"]);
            route.local_pref = local_pref;
            routes.insert(route);
        }
    }
    Ok(routes)
}

/// Checks the kernel's next hops for the prefixes that all of these nodes announce.
fn check_kernel(router: &dyn Router, topology: &Topology, nodes: &[&Node]) -> Result<()> {
    if router.installs_routes() {
        await_kernel(&topology.tor, "203.0.113.10/32", &ipv4_addresses(nodes), UP)?;
    }
    // BIRD also sends a link-local next hop, which FRR prefers.
    if router.kind() == Kind::Bird {
        let next_hops = nodes.iter().map(|node| IpAddr::V6(node.ipv6)).collect();
        await_kernel(&topology.tor, "2001:db8:113::10/128", &next_hops, UP)?;
    }
    Ok(())
}

/// Three announcers start, one is killed, one is cut off, the router restarts; all come back.
fn table_follows_the_announcers(kind: Kind) {
    router_scenario(kind, "ebgp", 3, "ebgp", |scratch, topology, router| {
        let all: Vec<&Node> = topology.nodes.iter().collect();
        ensure!(router.table()?.is_empty() && router.sessions()?.is_empty());
        let mut announcers = Vec::new();
        for node in &topology.nodes {
            announcers.push(announcer(scratch, node, &session(node, TOR_ASN, ""))?);
        }
        await_sessions(router, &ipv4_addresses(&all), UP)?;
        await_table(router, &expected(&all, None)?, UP)?;
        check_kernel(router, topology, &all)?;

        // A wrong expectation is reported with the difference.
        let two = expected(&all[..2], None)?;
        let error = check_table(router, &two).err().context("no error")?;
        let error = error.to_string();
        ensure!(
            error.starts_with("5 routes as expected; missing: []; unexpected: [")
                && error.contains("203.0.113.10/32 via 10.99.0.13 64700:120"),
            "{error}"
        );

        announcers[2].kill()?;
        await_table(router, &expected(&all[..2], None)?, Duration::from_secs(2))?;
        check_kernel(router, topology, &all[..2])?;

        let before = router.sessions()?;
        topology.nodes[1].uplink.cut()?;
        await_table(router, &expected(&all[..1], None)?, HOLD_TIME * 3)?;
        check_kernel(router, topology, &all[..1])?;
        topology.nodes[1].uplink.restore()?;
        await_table(router, &expected(&all[..2], None)?, UP)?;
        let after = router.sessions()?;
        let node = |index: usize| IpAddr::V4(topology.nodes[index].ipv4);
        ensure!(before[&node(0)] == after[&node(0)], "{before:?} {after:?}");
        ensure!(before[&node(1)] != after[&node(1)], "{before:?} {after:?}");

        announcers[2].start()?;
        router.stop()?;
        router.start()?;
        await_table(router, &expected(&all, None)?, UP)?;
        check_kernel(router, topology, &all)?;

        router.kill()?;
        // The kernel keeps the routes of a crashed router.
        check_kernel(router, topology, &all)?;
        announcers[2].stop()?;
        router.start()?;
        await_table(router, &expected(&all[..2], None)?, UP)?;
        check_kernel(router, topology, &all[..2])
    });
}

#[test]
fn the_table_of_frr_is_read_exactly() {
    table_follows_the_announcers(Kind::Frr);
}

#[test]
fn the_table_of_bird_is_read_exactly() {
    table_follows_the_announcers(Kind::Bird);
}

#[test]
fn the_table_of_gobgp_is_read_exactly() {
    table_follows_the_announcers(Kind::Gobgp);
}

#[test]
fn the_table_has_local_pref_with_ibgp() {
    for kind in Kind::FILTERING {
        router_scenario(kind, "ibgp", 2, "ibgp", |scratch, topology, router| {
            let all: Vec<&Node> = topology.nodes.iter().collect();
            let mut announcers = Vec::new();
            for node in &topology.nodes {
                announcers.push(announcer(scratch, node, &session(node, NODE_ASN, ""))?);
            }
            await_table(router, &expected(&all, Some(150))?, UP)?;
            check_kernel(router, topology, &all)
        });
    }
}

#[test]
fn only_the_right_password_gets_a_session() {
    for kind in Kind::FILTERING {
        router_scenario(kind, "md5", 3, "md5", |scratch, topology, router| {
            let passwords = [
                format!("password \"{MD5_PASSWORD}\";"),
                "password \"wrong\";".to_owned(),
                String::new(),
            ];
            let mut announcers = Vec::new();
            for (node, password) in topology.nodes.iter().zip(&passwords) {
                announcers.push(announcer(scratch, node, &session(node, TOR_ASN, password))?);
            }
            let right = &topology.nodes[0];
            await_table(router, &expected(&[right], None)?, UP)?;
            // The others retry every second or two.
            consistently("only one session", Duration::from_secs(4), || {
                await_sessions(router, &ipv4_addresses(&[right]), Duration::ZERO)
            })
        });
    }
}

#[test]
fn ipv6_sessions_carry_ipv6_routes() {
    for kind in Kind::FILTERING {
        router_scenario(kind, "ipv6", 1, "ebgp", |scratch, topology, router| {
            let node = &topology.nodes[0];
            let session = format!(
                "protocol bgp tor {{
                   local {} as {NODE_ASN}; neighbor {TOR_IPV6} as {TOR_ASN}; connect delay time 1;
                   ipv6 {{ import none; export filter marked; }};
                 }}",
                node.ipv6
            );
            let _announcer = announcer(scratch, node, &session)?;
            await_sessions(router, &BTreeSet::from([IpAddr::V6(node.ipv6)]), UP)?;
            let mut routes = expected(&[node], None)?;
            routes.retain(|route| route.next_hop == IpAddr::V6(node.ipv6));
            await_table(router, &routes, UP)
        });
    }
}

#[test]
fn prefixes_rejected_by_the_import_filter_are_reported() {
    for kind in Kind::FILTERING {
        router_scenario(kind, "rejected", 1, "ebgp", |scratch, topology, router| {
            let node = &topology.nodes[0];
            let session = format!(
                "protocol static {{ ipv4; route 10.1.2.3/32 blackhole; }} {}",
                session(node, TOR_ASN, "")
            );
            let _announcer = announcer(scratch, node, &session)?;
            eventually("rejected prefix", UP, || {
                let rejected = router.rejected()?;
                ensure!(
                    rejected == BTreeSet::from(["10.1.2.3/32".parse()?]),
                    "{rejected:?}"
                );
                Ok(())
            })?;
            let expected = expected(&[node], None)?;
            eventually("the error of check_table", UP, || {
                let error = check_table(router, &expected).err().context("no error")?;
                ensure!(
                    error.to_string().contains("rejected {10.1.2.3/32}"),
                    "{error}"
                );
                Ok(())
            })
        });
    }
}

#[test]
fn a_client_reaches_the_nodes_through_the_router() {
    scenario("client", |_| {
        let mut topology = Topology::new(2)?;
        topology.add_client()?;
        let client = topology.client()?;
        ping(client, "10.99.0.12")?;
        ping(client, "fd99::12")?;
        let node = topology.node_at("fd99::12".parse()?).expect("node2");
        ensure!(node.name == "node2");
        Ok(())
    });
}

#[test]
fn a_cut_link_drops_packets_and_keeps_its_carrier() {
    scenario("cut", |scratch| {
        let (left, right) = (Namespace::new("left")?, Namespace::new("right")?);
        let link = Link::new((&left, "eth-r"), (&right, "eth-l"))?;
        left.address("eth-r", "10.99.1.1/24")?;
        right.address("eth-l", "10.99.1.2/24")?;
        right.address("eth-l", "fd99:1::2/64")?;
        left.address("eth-r", "fd99:1::1/64")?;
        ping(&left, "10.99.1.2")?;
        ping(&left, "fd99:1::2")?;

        link.cut()?;
        ensure!(
            ping(&left, "10.99.1.2").is_err(),
            "the cut link delivered a packet"
        );
        ensure!(
            ping(&right, "fd99:1::1").is_err(),
            "the cut link delivered a packet"
        );
        let state = left.json("ip", &["-j", "link", "show", "eth-r"])?;
        ensure!(
            state[0]["operstate"] == "UP",
            "the carrier is down: {state}"
        );

        link.restore()?;
        ping(&left, "10.99.1.2")?;

        let sleeper = Process::start(scratch, "sleeper", right.command("sleep").arg("60"))?;
        eventually(
            "the process in the namespace",
            Duration::from_secs(2),
            || {
                let pids = right.pids()?;
                ensure!(pids == [sleeper.pid()], "{pids:?}");
                Ok(())
            },
        )?;
        let name = right.name().to_owned();
        drop(right);
        ensure!(!std::path::Path::new("/run/netns").join(name).exists());
        Ok(())
    });
}

#[test]
fn a_lan_shows_who_answers_and_loses_the_frames_that_it_should() {
    scenario("lan", |scratch| {
        let rack = Topology::new(1)?;
        let switch = Switch(&rack.tor);
        let [client, server] =
            [("client", 100), ("server", 101)].map(|(name, number)| Host::new(&rack, name, number));
        let (client, server) = (client?, server?);
        let expected = mac(&server.namespace)?;
        let addresses: [IpAddr; 2] = [server.ipv4.into(), server.ipv6.into()];
        let answered = |address| Ok::<_, anyhow::Error>(answers(&client.namespace, address)?.len());
        let capture = Capture::start(scratch, switch, "lan", "arp or icmp6")?;
        for address in addresses {
            let found = answers(&client.namespace, address)?;
            ensure!(found == [expected.clone()].into(), "{address}: {found:?}");
        }
        let captured = capture.stop()?;
        let frames = captured.frames()?;
        for address in addresses {
            let mut claims = frames.iter().filter(|frame| frame.claims(address));
            ensure!(claims.any(|frame| frame.source == expected), "{frames:#?}");
        }

        for address in addresses {
            switch.block(&["server"], &["client"])?;
            ensure!(answered(address)? == 0);
            switch.heal()?;
            ensure!(answered(address)? == 1);
            switch.black_out()?;
            ensure!(answered(address)? == 0);
            switch.heal()?;
        }
        switch.unplug("server")?;
        ensure!(answered(addresses[0])? == 0);
        switch.plug("server")?;
        ensure!(answered(addresses[0])? == 1);

        // A replayed frame has the sender's own Ethernet address; a forged one other contents.
        let capture = Capture::start(scratch, switch, "replayed", "arp")?;
        captured.replay(&client)?;
        captured.forged()?.replay(&client)?;
        let replayed = capture.stop()?.frames()?;
        let own = mac(&client.namespace)?;
        let mut claims = replayed.iter().filter(|frame| frame.claims(addresses[0]));
        ensure!(claims.any(|frame| frame.source == own), "{replayed:#?}");
        Ok(())
    });
}
