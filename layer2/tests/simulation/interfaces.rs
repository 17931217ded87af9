//! Several interfaces, and interfaces that come and go.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_layer2::config::{AddressSpec, Command, Interfaces};
use ferrolb_layer2::machine::Input;
use ferrolb_layer2::status::{Event, OwnerReason};

use crate::world::{World, addresses, candidates, ms, spec};

fn on(name: &str, order: i64, nodes: usize) -> AddressSpec {
    AddressSpec {
        interfaces: Arc::new(Interfaces::Named([name.into()].into())),
        ..spec(order, &candidates(nodes))
    }
}

#[test]
fn an_address_on_interfaces_that_do_not_exist_is_not_announced() {
    let all = addresses(1);
    let mut world = World::new(1);
    let node = world.add_node(&[0]);
    world.command(node, Command::SetAddress(all[0], on("eth7", 0, 1)));
    world.command(node, Command::AddressesComplete);
    world.run(ms(5_000));
    assert_eq!(world.counts(), [0]);
    let reason = world.status(node).addresses[&all[0]].reason;
    assert_eq!(reason, OwnerReason::NoInterface);
}

#[test]
fn a_node_without_the_interface_leaves_the_address_to_one_that_has_it() {
    let all = addresses(8);
    let mut world = World::new(1);
    let second = world.add_lan();
    for lans in [&[0][..], &[0, second], &[0, second]] {
        let node = world.add_node(lans);
        for (order, address) in (0..).zip(&all) {
            world.command(node, Command::SetAddress(*address, on("eth1", order, 3)));
        }
        world.command(node, Command::AddressesComplete);
    }
    world.run(ms(10_000));
    assert_eq!(world.counts(), [0, 4, 4]);
}

#[test]
fn a_node_whose_link_fails_loses_its_addresses_and_does_not_answer_when_it_returns() {
    let all = addresses(9);
    let mut world = World::cluster(1, 3, &all);
    let client = world.add_client(1, &all);
    world.run(ms(3_000));
    let start = world.now;
    world.set_carrier(0, 0, false);
    world.run(ms(1_000));
    let others: usize = world.counts()[1..].iter().sum();
    assert_eq!(others, 9);
    world.set_carrier(0, 0, true);
    world.run(ms(2_000));
    assert_eq!(world.counts()[0], 0);
    for address in &all {
        assert_eq!(world.answers(client, *address, start).several(), ms(0));
    }
}

#[test]
fn a_short_failure_of_a_link_moves_nothing() {
    let all = addresses(9);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    let before = world.announced();
    world.set_carrier(0, 0, false);
    world.run(ms(150));
    world.set_carrier(0, 0, true);
    world.run(ms(3_000));
    let after = world.announced();
    assert_eq!(before, after);
    assert_eq!(world.status(0).counters.stalls, 0);
}

#[test]
fn a_node_hands_over_addresses_whose_only_interface_fails_by_another_one() {
    let all = addresses(4);
    let mut world = World::new(1);
    let second = world.add_lan();
    for _ in 0..3 {
        let node = world.add_node(&[0, second]);
        for (order, address) in (0..).zip(&all) {
            world.command(node, Command::SetAddress(*address, on("eth1", order, 3)));
        }
        world.command(node, Command::AddressesComplete);
    }
    world.run(ms(3_000));
    let node = (0..3)
        .find(|node| world.counts()[*node] > 0)
        .expect("an owner");
    world.set_carrier(node, 1, false);
    world.run(ms(100));
    assert_eq!(world.counts()[node], 0);
    assert_eq!(world.counts().iter().sum::<usize>(), 4);
}

#[test]
fn an_interface_that_is_gone_and_comes_back_is_used_again() {
    let all = addresses(2);
    let mut world = World::cluster(1, 1, &all);
    world.run(ms(2_000));
    let link = world.nodes[0].interfaces[0].1.clone();
    world.input(0, Input::InterfaceGone(link.index));
    world.run(ms(2_000));
    assert_eq!(world.status(0).segments.len(), 0);
    world.input(0, Input::Interface(link));
    let client = world.add_client(1, &all);
    let start = world.now;
    world.run(ms(2_000));
    assert_eq!(world.counts(), [2]);
    assert!(world.answers(client, all[0], start).none() < ms(600));
}

#[test]
fn a_candidate_on_whose_interface_the_address_is_on_link_is_chosen() {
    let address: IpAddr = "192.0.2.7".parse().expect("an address");
    let mut world = World::new(1);
    for node in 0..3 {
        world.add_node(&[0]);
        if node == 1 {
            let mut link = world.nodes[1].interfaces[0].1.clone();
            link.networks
                .push("192.0.2.1/24".parse().expect("a network"));
            world.nodes[1].interfaces[0].1 = link.clone();
            world.input(1, Input::Interface(link));
        }
        world.command(node, Command::SetAddress(address, spec(0, &candidates(3))));
        world.command(node, Command::AddressesComplete);
    }
    world.run(ms(3_000));
    assert_eq!(world.owners(address), [1]);
}

#[test]
fn nodes_that_never_receive_each_other_place_by_the_hash() {
    let all = addresses(20);
    let mut world = World::cluster(1, 3, &all);
    for node in 0..3 {
        let part = u8::try_from(node).expect("few");
        let mac = world.mac(node);
        world.lans[0].part.insert(mac, part);
        let ready: BTreeSet<Arc<str>> = (0..3).map(|n| format!("n{n}").into()).collect();
        world.command(node, Command::ReadyNodes(Some(ready)));
    }
    world.run(ms(20_000));
    for address in &all {
        assert_eq!(world.owners(*address).len(), 1, "{address}");
    }
    assert!(world.counts().iter().all(|count| *count > 0));
    for node in 0..3 {
        assert_eq!(world.status(node).segments[0].warnings.len(), 2);
        let log = world.nodes[node].log.iter();
        let warnings = log
            .filter(|(_, event)| matches!(event, Event::InterfaceWarning { .. }))
            .count();
        assert_eq!(warnings, 2);
    }
}

#[test]
fn addresses_of_both_ip_versions_are_placed_and_taken_over() {
    let mut all = addresses(6);
    all.extend((1..7).map(|number| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number])));
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    assert_eq!(world.counts(), [4, 4, 4]);
    world.power_off(1);
    world.run(ms(600));
    assert_eq!(world.counts(), [6, 0, 6]);
}

/// Two nodes with an interface on LAN 0, where the addresses are on-link, and on another one.
fn two_ports(all: &[IpAddr]) -> World {
    let mut world = World::new(1);
    let second = world.add_lan();
    for _ in 0..2 {
        let node = world.add_node(&[0, second]);
        world.introduce(node, all, 2);
    }
    world.run(ms(3_000));
    assert_eq!(world.counts(), [2, 2]);
    world
}

#[test]
fn a_node_whose_link_with_the_network_of_an_address_fails_is_replaced() {
    let all = addresses(4);
    let mut world = two_ports(&all);
    world.set_carrier(0, 0, false);
    world.run(ms(1_000));
    assert_eq!(world.counts(), [0, 4]);
    world.set_carrier(0, 0, true);
    world.run(ms(5_000));
    assert_eq!(world.counts(), [0, 4]);
}

#[test]
fn a_node_that_is_silent_only_where_an_address_is_on_link_is_replaced() {
    let all = addresses(4);
    let mut world = two_ports(&all);
    world.add_client(1, &all);
    let mac = world.mac(0);
    world.lans[0].part.insert(mac, 1);
    world.run(ms(5_000));
    assert_eq!(world.counts(), [0, 4]);
}

#[test]
fn a_node_without_an_interface_for_an_address_names_successors_again() {
    let all = addresses(1);
    let mut world = World::new(1);
    let second = world.add_lan();
    for _ in 0..2 {
        let node = world.add_node(&[0, second]);
        world.command(node, Command::SetAddress(all[0], on("eth1", 0, 2)));
        world.command(node, Command::AddressesComplete);
    }
    world.run(ms(3_000));
    let owner = world.owners(all[0])[0];
    let lost = (world.mac(owner), world.mac(1 - owner));
    world.lans[0].one_way.insert(lost);
    world.set_carrier(owner, 1, false);
    world.run(ms(1_200));
    assert_eq!(world.owners(all[0]), [owner]);
    world.lans[0].one_way.clear();
    world.run(ms(2_000));
    assert_eq!(world.owners(all[0]), [1 - owner]);
}

#[test]
fn a_node_that_is_ready_but_never_received_costs_no_address() {
    let all = addresses(18);
    let mut world = World::new(1);
    let ready: BTreeSet<Arc<str>> = (0..3).map(|n| format!("n{n}").into()).collect();
    for _ in 0..2 {
        let node = world.add_node(&[0]);
        world.introduce(node, &all[..12], 3);
        world.command(node, Command::ReadyNodes(Some(ready.clone())));
    }
    world.run(ms(5_000));
    assert_eq!(world.counts(), [6, 6]);
    world.run(ms(25_000));
    assert_eq!(world.counts(), [6, 6]);
    for node in 0..2 {
        world.introduce(node, &all, 3);
    }
    world.run(ms(10_000));
    for address in &all {
        assert_eq!(world.owners(*address).len(), 1, "{address}");
    }
}

#[test]
fn two_nodes_that_are_on_link_on_different_segments_do_not_both_keep_an_address() {
    let address: IpAddr = "192.0.2.7".parse().expect("an address");
    let mut world = World::new(1);
    let second = world.add_lan();
    for node in 0..2 {
        world.add_node(&[0, second]);
        let (lan, mut link) = world.nodes[node].interfaces[node].clone();
        link.networks
            .push("192.0.2.1/24".parse().expect("a network"));
        world.nodes[node].interfaces[node] = (lan, link.clone());
        world.input(node, Input::Interface(link));
        world.introduce(node, &[address], 2);
        for (lan, port) in world.nodes[node].interfaces.clone() {
            let part = u8::try_from(node).expect("few");
            world.lans[lan].part.insert(port.mac, part);
        }
    }
    world.run(ms(3_000));
    assert_eq!(world.owners(address), [0, 1]);
    for lan in &mut world.lans {
        lan.part.clear();
    }
    world.run(ms(5_000));
    assert_eq!(world.owners(address).len(), 1);
}
