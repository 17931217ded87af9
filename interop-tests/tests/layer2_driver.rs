//! The layer 2 engine on real interfaces: the example `announce` of the `layer2` crate, and kernels
//! as clients.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::example::{self, program};
use ferrolb_interop_tests::lan::{Host, Mac, Switch, answers, cached_answer};
use ferrolb_interop_tests::netns::{Link, Namespace};
use ferrolb_interop_tests::process::{Process, run};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;

const IPV4: &str = "10.99.0.200";
const IPV6: &str = "fd99::200";
const BOTH: [&str; 2] = [IPV4, IPV6];

/// Settling, conflict detection and a step without a timer, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// Starts the example in a namespace. It never uses interfaces whose name begins with "skip".
fn announce(scratch: &Scratch, host: &Namespace, addresses: &[&str]) -> Result<Process> {
    announce_as(scratch, host.name(), host, addresses, &["host"])
}

/// Starts the example with the name of a log. `nodes` are all candidates, the first one is this.
fn announce_as(
    scratch: &Scratch,
    log: &str,
    host: &Namespace,
    addresses: &[&str],
    nodes: &[&str],
) -> Result<Process> {
    let mut command = host.command(program(example::LAYER2)?);
    for address in addresses {
        command.args(["--address", address]);
    }
    command.args(["--node", nodes.first().context("no node")?]);
    for node in nodes {
        command.args(["--candidate", node]);
    }
    command.args(["--key", "secret", "--exclude", "skip"]);
    Process::start(scratch, log, &command)
}

fn mac_of(host: &Namespace, interface: &str) -> Result<Mac> {
    let links = host.json("ip", &["-j", "link", "show", "dev", interface])?;
    links[0]["address"].as_str().context("no address")?.parse()
}

/// Waits until exactly these Ethernet addresses answer for both addresses.
fn await_answers(client: &Namespace, expected: &[&Mac]) -> Result<()> {
    let expected: BTreeSet<Mac> = expected.iter().copied().cloned().collect();
    for address in BOTH {
        eventually(format!("answers for {address}"), SOON, || {
            let seen = answers(client, address.parse()?)?;
            ensure!(seen == expected, "{seen:?}, not {expected:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A host without addresses that is connected to an interface of the node.
fn neighbor(node: &Namespace, interface: &str) -> Result<Namespace> {
    let host = Namespace::new("neighbor")?;
    Link::new((&host, "uplink"), (node, interface))?;
    host.address("uplink", "10.99.0.101/24")?;
    host.address("uplink", "fd99::101/64")?;
    Ok(host)
}

#[test]
fn each_interface_answers_with_its_own_address_and_bridge_ports_never_do() {
    scenario("l2-bridge", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0].namespace;
        let client = Host::new(&rack, "client", 100)?;
        node.bridge("br0")?;
        let behind_port = neighbor(node, "port0")?;
        node.attach("port0", "br0")?;
        let behind_excluded = neighbor(node, "skip0")?;
        let process = announce(scratch, node, &BOTH)?;

        await_answers(&client.namespace, &[&mac_of(node, "uplink")?])?;
        await_answers(&behind_port, &[&mac_of(node, "br0")?])?;
        await_answers(&behind_excluded, &[])?;
        process.await_log(&["segments", "br0", "uplink"], SOON)?;
        ensure!(process.check_log(&["segments", "port0"]).is_err());
        ensure!(process.check_log(&["segments", "skip0"]).is_err());
        Ok(())
    });
}

#[test]
fn answers_follow_the_interface_that_appears_and_is_enslaved_renamed_or_replaced() {
    scenario("l2-changes", |scratch| {
        let node = Namespace::new("node")?;
        node.bridge("br0")?;
        let process = announce(scratch, &node, &BOTH)?;
        process.await_log(&["segments", "br0"], SOON)?;

        let client = neighbor(&node, "eth1")?;
        let own = mac_of(&node, "eth1")?;
        await_answers(&client, &[&own])?;
        node.attach("eth1", "br0")?;
        await_answers(&client, &[&mac_of(&node, "br0")?])?;
        node.ip(&["link", "set", "eth1", "nomaster"])?;
        await_answers(&client, &[&own])?;

        for (name, expected) in [("skip1", &[][..]), ("eth2", &[&own][..])] {
            let current = if name == "skip1" { "eth1" } else { "skip1" };
            node.ip(&["link", "set", current, "down"])?;
            node.ip(&["link", "set", current, "name", name])?;
            node.ip(&["link", "set", name, "up"])?;
            await_answers(&client, expected)?;
        }

        node.ip(&["link", "set", "eth2", "address", "02:00:00:00:53:02"])?;
        await_answers(&client, &[&"02:00:00:00:53:02".parse()?])?;
        node.ip(&["link", "del", "eth2"])?;
        let other = neighbor(&node, "eth2")?;
        await_answers(&other, &[&mac_of(&node, "eth2")?])
    });
}

#[test]
fn strict_reverse_path_filtering_is_reported_when_it_is_set() {
    scenario("l2-rp-filter", |scratch| {
        let node = Namespace::new("node")?;
        let _neighbors = [neighbor(&node, "eth1")?, neighbor(&node, "eth2")?];
        let process = announce(scratch, &node, &BOTH)?;
        process.await_log(&["segments", "eth1", "eth2"], SOON)?;
        ensure!(process.check_log(&["InterfaceWarning"]).is_err());
        node.sysctl(&["net.ipv4.conf.eth2.rp_filter=1"])?;
        let remedy = "net.ipv4.conf.eth2.rp_filter=2";
        process.await_log(&["InterfaceWarning", remedy], SOON)
    });
}

#[test]
fn a_link_that_comes_back_is_announced_to_clients_with_an_old_answer() {
    scenario("l2-carrier", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0].namespace;
        let client = Host::new(&rack, "client", 100)?;
        let own = mac_of(node, "uplink")?;
        let process = announce(scratch, node, &BOTH)?;
        await_answers(&client.namespace, &[&own])?;

        Switch(&rack.tor).unplug("node1")?;
        process.await_log(&["segments", "\"uplink\": \"no carrier"], SOON)?;
        for address in BOTH {
            remember(&client.namespace, address, "02:00:00:00:53:99")?;
        }
        Switch(&rack.tor).plug("node1")?;
        for address in BOTH {
            await_cached(&client.namespace, address, &own)?;
        }
        await_answers(&client.namespace, &[&own])
    });
}

/// Sets an entry of the neighbor cache, as if its host had answered before.
fn remember(client: &Namespace, address: &str, mac: &str) -> Result<()> {
    let entry = ["lladdr", mac, "dev", "uplink", "nud", "stale"];
    let arguments = [&["neigh", "replace", address], &entry[..]].concat();
    client.ip(&arguments).map(drop)
}

fn await_cached(client: &Namespace, address: &str, expected: &Mac) -> Result<()> {
    eventually(format!("cached answer for {address}"), SOON, || {
        let seen = cached_answer(client, address.parse()?)?;
        ensure!(seen.as_ref() == Some(expected), "{seen:?}");
        Ok(())
    })
}

#[test]
fn clients_learn_a_new_owner_within_the_lock_time_of_their_cache() {
    scenario("l2-locktime", |scratch| {
        let rack = Topology::new(2)?;
        let client = Host::new(&rack, "client", 100)?;
        // In hundredths of a second. 1 s is the default: then any frame would do, only later.
        let lock_time = "net.ipv4.neigh.uplink.locktime=60000";
        client.namespace.sysctl(&[lock_time])?;
        let [first, second] = [&rack.nodes[0].namespace, &rack.nodes[1].namespace];
        let mut process = announce(scratch, first, &BOTH)?;
        await_answers(&client.namespace, &[&mac_of(first, "uplink")?])?;
        for address in BOTH {
            // The kernel of the client asks by itself.
            let socket = client.namespace.open()?;
            socket.inside(|| send_to(&[address.parse()?]))?;
            await_cached(&client.namespace, address, &mac_of(first, "uplink")?)?;
        }
        process.kill()?;
        let _second = announce(scratch, second, &BOTH)?;
        for address in BOTH {
            await_cached(&client.namespace, address, &mac_of(second, "uplink")?)?;
        }
        Ok(())
    });
}

/// Sends a datagram to each address, so that the kernel resolves it.
fn send_to(addresses: &[IpAddr]) -> Result<()> {
    for address in addresses {
        let any: IpAddr = if address.is_ipv4() {
            [0, 0, 0, 0].into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.send_to(b"x", (*address, 9))?;
    }
    Ok(())
}

#[test]
fn four_thousand_ipv6_addresses_are_resolved_through_a_switch_that_snoops_mld() {
    scenario("l2-groups", |scratch| {
        let rack = Topology::new(1)?;
        let client = Host::new(&rack, "client", 100)?;
        // One group for each address: more than one socket can join. The bridge forwards unknown
        // groups to all ports until it has been the querier for the time of a response, here 1 s.
        for setting in [
            "mcast_hash_max 65536",
            "mcast_query_response_interval 100",
            "mcast_snooping 0",
            "mcast_snooping 1",
            "mcast_querier 1",
        ] {
            let setting: Vec<&str> = setting.split(' ').collect();
            let bridge = ["link", "set", "rack", "type", "bridge"];
            rack.tor.ip(&[&bridge[..], &setting].concat())?;
        }
        let node = &rack.nodes[0].namespace;
        let _process = announce(scratch, node, &["fd99::1:0/116"])?;
        let own = mac_of(node, "uplink")?;
        let all: Vec<IpAddr> = (0..4096)
            .map(|host| Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 1, host).into())
            .collect();
        await_cached_first(&client.namespace, &all, &own)?;
        // A neighbor cache has about a thousand entries.
        for chunk in all.chunks(400) {
            await_resolved(&client.namespace, chunk, &own)?;
        }
        Ok(())
    });
}

/// Waits until the last address is answered: then all are announced.
fn await_cached_first(client: &Namespace, all: &[IpAddr], own: &Mac) -> Result<()> {
    let last = *all.last().context("no address")?;
    let expected = BTreeSet::from([own.clone()]);
    eventually(format!("answer for {last}"), SOON * 6, || {
        let seen = answers(client, last)?;
        ensure!(seen == expected, "{seen:?}");
        Ok(())
    })
}

/// Lets the kernel of the client resolve these addresses.
fn await_resolved(client: &Namespace, addresses: &[IpAddr], own: &Mac) -> Result<()> {
    client.ip(&["-6", "neigh", "flush", "dev", "uplink"])?;
    let wanted: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
    eventually("resolved addresses", SOON, || {
        client.open()?.inside(|| send_to(addresses))?;
        let entries = client.json("ip", &["-6", "-j", "neigh", "show", "dev", "uplink"])?;
        let entries = entries.as_array().into_iter().flatten();
        let resolved: BTreeSet<String> = entries
            .filter(|entry| entry["lladdr"] == own.to_string())
            .filter_map(|entry| Some(entry["dst"].as_str()?.to_owned()))
            .collect();
        let missing: Vec<_> = wanted.difference(&resolved).take(3).collect();
        ensure!(missing.is_empty(), "not resolved: {missing:?} …");
        Ok(())
    })
}

#[test]
fn the_capability_net_raw_is_enough_and_its_absence_is_named() {
    scenario("l2-capability", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0].namespace;
        let client = Host::new(&rack, "client", 100)?;
        let with = |capabilities: &str| -> Result<Command> {
            let mut command = node.command("setpriv");
            command.args([capabilities, "--inh-caps=-all", "--no-new-privs", "--"]);
            command.arg(program(example::LAYER2)?);
            command.args(["--key", "secret", "--address", IPV4, "--address", IPV6]);
            Ok(command)
        };
        let refused = run(&mut with("--bounding-set=-all")?);
        let error = refused.err().context("it started without NET_RAW")?;
        let error = format!("{error:#}");
        ensure!(error.contains("the capability NET_RAW"), "{error}");

        let net_raw = with("--bounding-set=-all,+net_raw")?;
        let _process = Process::start(scratch, "net-raw", &net_raw)?;
        await_answers(&client.namespace, &[&mac_of(node, "uplink")?])
    });
}

#[test]
fn interfaces_are_read_again_after_events_were_lost() {
    scenario("l2-overflow", |scratch| {
        let node = Namespace::new("node")?;
        let mut process = announce(scratch, &node, &BOTH)?;
        let client = neighbor(&node, "eth1")?;
        await_answers(&client, &[&mac_of(&node, "eth1")?])?;
        process.suspend()?;
        // Some thousand events: more than the queue has room for.
        for _ in 0..20 {
            let add = "for i in $(seq 100); do echo link add skip$i type veth peer skipp$i; done";
            node.run("sh", &["-c", &format!("({add}) | ip -batch -")])?;
            let delete = "for i in $(seq 100); do echo link del skip$i; done";
            node.run("sh", &["-c", &format!("({delete}) | ip -batch -")])?;
        }
        node.ip(&["link", "del", "eth1"])?;
        let other = neighbor(&node, "eth2")?;
        process.resume()?;
        await_answers(&other, &[&mac_of(&node, "eth2")?])?;
        process.ensure_running()
    });
}

/// Sends an ARP request to an Ethernet address, with an IEEE 802.1Q tag unless the VLAN is 0, and
/// prints the senders of the replies within a second.
const REQUEST: &str = r"
import socket, sys, time
destination = bytes.fromhex(sys.argv[1].replace(':', ''))
vlan, target = int(sys.argv[2]), socket.inet_aton(sys.argv[3])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
s.bind(('uplink', 0x0003))
mac = s.getsockname()[4]
tag = bytes.fromhex('8100') + vlan.to_bytes(2, 'big') if vlan else b''
arp = bytes.fromhex('0806000108000604') + b'\x00\x01' + mac + socket.inet_aton('10.99.0.100')
s.send(destination + mac + tag + arp + b'\x00' * 6 + target)
end = time.monotonic() + 1
while (left := end - time.monotonic()) > 0:
    s.settimeout(left)
    try:
        frame = s.recv(2048)
    except TimeoutError:
        break
    if frame[:6] == mac and frame[12:14] == b'\x08\x06' and frame[21] == 2:
        print(frame[6:12].hex(':'))
";

/// The senders of the replies, one a line.
fn replies(client: &Namespace, destination: &str, vlan: &str) -> Result<String> {
    client.run("python3", &["-c", REQUEST, destination, vlan, IPV4])
}

#[test]
fn a_request_of_another_vlan_is_not_answered() {
    scenario("l2-tagged", |scratch| {
        let rack = Topology::new(1)?;
        let client = Host::new(&rack, "client", 100)?;
        let own = mac_of(&rack.nodes[0].namespace, "uplink")?;
        let _process = announce(scratch, &rack.nodes[0].namespace, &BOTH)?;
        await_answers(&client.namespace, &[&own])?;
        let broadcast = "ff:ff:ff:ff:ff:ff";
        let untagged = replies(&client.namespace, broadcast, "0")?;
        ensure!(untagged == format!("{own}\n"), "{untagged}");
        let tagged = replies(&client.namespace, broadcast, "100")?;
        ensure!(tagged.is_empty(), "{tagged}");
        Ok(())
    });
}

#[test]
fn a_frame_of_an_interface_on_top_of_another_is_received_by_the_upper_one_only() {
    scenario("l2-upper", |scratch| {
        let rack = Topology::new(1)?;
        let client = Host::new(&rack, "client", 100)?;
        let node = &rack.nodes[0].namespace;
        // As a VLAN interface does, it has the Ethernet address of the lower one, and the kernel
        // passes its unicast frames to sockets of both.
        let upper = ["upper", "up", "type", "macvlan", "mode", "passthru"];
        node.ip(&[&["link", "add", "link", "uplink", "name"], &upper[..]].concat())?;
        let own = mac_of(node, "uplink")?;
        ensure!(
            own == mac_of(node, "upper")?,
            "different Ethernet addresses"
        );
        let process = announce(scratch, node, &BOTH)?;
        process.await_log(&["segments", "uplink", "upper"], SOON)?;
        await_answers(&client.namespace, &[&own])?;
        let seen = replies(&client.namespace, &own.to_string(), "0")?;
        ensure!(seen == format!("{own}\n"), "{seen}");
        Ok(())
    });
}

#[test]
fn a_process_never_answers_its_own_requests() {
    scenario("l2-own", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0].namespace;
        let client = Host::new(&rack, "client", 100)?;
        let process = announce(scratch, node, &BOTH)?;
        await_answers(&client.namespace, &[&mac_of(node, "uplink")?])?;
        // The kernel of the node asks for an address that it has a route to, but not the address.
        consistently("no answer to this node", Duration::from_secs(2), || {
            let seen = answers(node, IPV4.parse()?)?;
            ensure!(seen.is_empty(), "{seen:?}");
            Ok(())
        })?;
        ensure!(process.check_log(&["Conflict"]).is_err());
        Ok(())
    });
}

#[test]
fn hosts_without_ipv4_share_an_address_by_hellos_in_ipv6() {
    scenario("l2-ipv6-only", |scratch| {
        let rack = Topology::new(2)?;
        let client = Host::new(&rack, "client", 100)?;
        let names = ["node1", "node2"];
        let mut processes = Vec::new();
        for (node, nodes) in rack.nodes.iter().zip([names, ["node2", "node1"]]) {
            let namespace = &node.namespace;
            namespace.ip(&["-4", "address", "flush", "dev", "uplink"])?;
            processes.push(announce_as(
                scratch,
                &node.name,
                namespace,
                &[IPV6],
                &nodes,
            )?);
        }
        for (process, peer) in processes.iter().zip(["node2", "node1"]) {
            process.await_log(&["PeerUp", peer], SOON)?;
        }
        let owner = eventually("one answer", SOON, || {
            let seen = answers(&client.namespace, IPV6.parse()?)?;
            ensure!(seen.len() == 1, "{seen:?}");
            seen.into_iter().next().context("no answer")
        })?;
        consistently("the same answer", Duration::from_secs(3), || {
            let seen = answers(&client.namespace, IPV6.parse()?)?;
            ensure!(seen == BTreeSet::from([owner.clone()]), "{seen:?}");
            Ok(())
        })
    });
}

#[test]
fn a_second_process_of_a_node_waits_for_the_first_one_by_hellos_on_the_loopback_interface() {
    scenario("l2-siblings", |scratch| {
        let rack = Topology::new(1)?;
        let node = &rack.nodes[0].namespace;
        let client = Host::new(&rack, "client", 100)?;
        let own = mac_of(node, "uplink")?;
        let start = |log: &str| announce_as(scratch, log, node, &BOTH, &["host"]);
        let mut first = start("first")?;
        await_answers(&client.namespace, &[&own])?;

        let mut second = start("second")?;
        second.await_log(&["segments", "uplink"], SOON)?;
        consistently("the second one waits", Duration::from_secs(3), || {
            let announced = second.check_log(&["Announced"]);
            ensure!(announced.is_err(), "it announced beside the first one");
            Ok(())
        })?;
        first.terminate(SOON)?;
        second.await_log(&["Announced", IPV4], SOON)?;
        await_answers(&client.namespace, &[&own])?;

        let third = start("third")?;
        third.await_log(&["segments", "uplink"], SOON)?;
        second.kill()?;
        third.await_log(&["Announced", IPV4], SOON)?;
        await_answers(&client.namespace, &[&own])
    });
}
