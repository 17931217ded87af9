//! Other hosts answer for an address.

use std::collections::BTreeSet;

use ferrolb_layer2::config::{AddressSpec, Command, ConflictDetection};
use ferrolb_layer2::machine::Input;
use ferrolb_layer2::status::{Event, OwnerReason};

use crate::world::{World, addresses, candidates, ms, spec};

fn conflicts(world: &World, node: usize) -> usize {
    let log = world.nodes[node].log.iter();
    log.filter(|(_, event)| matches!(event, Event::Conflict { .. }))
        .count()
}

#[test]
fn an_address_that_another_host_has_is_withheld_and_probed_every_30_s() {
    let all = addresses(2);
    let mut world = World::cluster(1, 3, &all);
    let foreign = world.add_host(9, &all[..1]);
    world.run(ms(20_000));
    assert_eq!(world.owners(all[0]), []);
    assert_eq!(world.owners(all[1]).len(), 1);
    let withheld = (0..3)
        .find(|node| conflicts(&world, *node) > 0)
        .expect("a node");
    let status = &world.status(withheld).addresses[&all[0]];
    assert_eq!(status.reason, OwnerReason::AddressConflict);
    assert_eq!(status.conflict, Some(foreign));
    assert_eq!(conflicts(&world, withheld), 1);
    world.hosts.clear();
    world.run(ms(31_000));
    assert_eq!(world.owners(all[0]).len(), 1);
    let resolved = world
        .nodes
        .iter()
        .flat_map(|node| &node.log)
        .any(|(_, event)| matches!(event, Event::ConflictResolved { .. }));
    assert!(resolved);
}

#[test]
fn an_owner_defends_its_address_at_most_once_in_10_s() {
    let all = addresses(1);
    let mut world = World::cluster(1, 2, &all);
    let client = world.add_client(1, &all);
    world.run(ms(10_000));
    let owner = world.owners(all[0])[0];
    let foreign = world.add_host(9, &all);
    let sent = world.status(owner).counters.gratuitous_sent;
    for _ in 0..25 {
        world.boast(foreign, all[0]);
        world.run(ms(1_000));
    }
    assert_eq!(world.owners(all[0]), [owner]);
    assert_eq!(conflicts(&world, owner), 1);
    let defences = world.status(owner).counters.gratuitous_sent - sent;
    assert!((2..=4).contains(&defences), "{defences}");
    world.run(ms(62_000));
    assert_eq!(world.status(owner).addresses[&all[0]].conflict, None);
    assert!(!world.hosts[&client].received.is_empty());
}

#[test]
fn while_the_node_of_a_peer_answers_by_another_program_the_address_is_withheld() {
    let all = addresses(1);
    let mut world = World::cluster(1, 3, &all);
    let speaker = world.mac(2);
    world
        .speakers
        .insert(speaker, all.iter().copied().collect());
    world.run(ms(6_000));
    let owners = world.owners(all[0]);
    // The node on which it runs does not see it.
    assert!(owners.is_empty() || owners == [2], "{owners:?}");
    if owners.is_empty() {
        let reasons: Vec<_> = (0..2)
            .map(|n| world.status(n).addresses[&all[0]].reason)
            .collect();
        assert!(reasons.contains(&OwnerReason::OtherSpeaker), "{reasons:?}");
    }
    world.speakers.clear();
    world.run(ms(6_000));
    assert_eq!(world.owners(all[0]).len(), 1);
}

/// As when a MetalLB speaker takes over from another one: it announces for some seconds.
#[test]
fn an_owner_stops_when_another_load_balancer_on_a_peer_announces_the_address() {
    for detection in [ConflictDetection::Fast, ConflictDetection::Off] {
        another_load_balancer_announces_the_address(detection);
    }
}

fn another_load_balancer_announces_the_address(detection: ConflictDetection) {
    let all = addresses(1);
    let mut world = World::cluster(1, 3, &all);
    for node in 0..3 {
        let spec = AddressSpec {
            conflict_detection: detection,
            ..spec(0, &candidates(3))
        };
        world.command(node, Command::SetAddress(all[0], spec));
    }
    world.run(ms(3_000));
    let [owner] = world.owners(all[0])[..] else {
        panic!("{:?}", world.owners(all[0]));
    };
    let peer = (owner + 1) % 3;
    let speaker = world.mac(peer);
    world
        .speakers
        .insert(speaker, all.iter().copied().collect());
    for _ in 0..5 {
        world.boast(speaker, all[0]);
        world.run(ms(1_100));
    }
    assert_eq!(conflicts(&world, owner), 1);
    world.run(ms(20_000));
    let owners = world.owners(all[0]);
    // The node on which the other one runs does not see it, and has the same Ethernet address.
    assert!(owners.is_empty() || owners == [peer], "{owners:?}");
    world.speakers.clear();
    world.run(ms(6_000));
    assert_eq!(world.owners(all[0]).len(), 1);
    // A node does not report a conflict of an address that another one owns.
    for node in 0..3 {
        let status = world.status(node);
        assert_eq!(status.addresses[&all[0]].conflict, None, "node {node}");
    }
}

#[test]
fn an_owner_goes_on_if_a_peer_that_uses_its_address_does_not_answer_for_it() {
    let all = addresses(1);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    let before = world.owners(all[0]);
    let peer = (before[0] + 1) % 3;
    for _ in 0..20 {
        world.boast(world.mac(peer), all[0]);
        world.run(ms(700));
        assert_eq!(world.owners(all[0]), before);
    }
}

#[test]
fn the_answers_of_the_service_proxy_on_all_nodes_do_not_withhold_an_address() {
    let all = addresses(3);
    let mut world = World::cluster(1, 3, &all);
    let proxied: BTreeSet<_> = all.iter().copied().collect();
    for node in 0..3 {
        world.speakers.insert(world.mac(node), proxied.clone());
        world.input(node, Input::ServiceProxyAddresses(proxied.clone()));
    }
    world.run(ms(3_000));
    assert_eq!(world.counts(), [1, 1, 1]);
    for node in 0..3 {
        let log = world.nodes[node].log.iter();
        let warnings = log
            .filter(|(_, event)| matches!(event, Event::InterfaceWarning { .. }))
            .count();
        assert_eq!(warnings, 1);
    }
}

#[test]
fn a_host_with_an_address_of_a_dead_node_withholds_only_that_one() {
    let all = addresses(6);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    let lost = *world.nodes[0].announced.first().expect("an address");
    world.power_off(0);
    world.add_host(9, &[lost]);
    world.run(ms(2_000));
    assert_eq!(world.owners(lost), []);
    assert_eq!(world.counts().iter().sum::<usize>(), 5);
    world.hosts.clear();
    world.run(ms(35_000));
    assert_eq!(world.owners(lost).len(), 1);
}

#[test]
fn conflicts_with_several_hosts_are_reported_once() {
    let all = addresses(1);
    let mut world = World::cluster(1, 1, &all);
    world.run(ms(3_000));
    let foreign = [world.add_host(8, &[]), world.add_host(9, &[])];
    for round in 0..20 {
        world.boast(foreign[round % 2], all[0]);
        world.run(ms(100));
    }
    assert_eq!(world.owners(all[0]), [0]);
    assert_eq!(conflicts(&world, 0), 1);
    let status = world.status(0);
    assert_eq!(status.counters.address_conflicts, 1);
    assert_eq!(status.addresses[&all[0]].conflict, Some(foreign[1]));
}

#[test]
fn a_peer_that_answers_for_an_address_of_a_dead_node_withholds_only_that_one() {
    let all = addresses(6);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    let lost = *world.nodes[0].announced.first().expect("an address");
    world.power_off(0);
    for peer in [1, 2] {
        world.speakers.insert(world.mac(peer), [lost].into());
    }
    world.run(ms(3_000));
    assert_eq!(world.owners(lost), []);
    assert_eq!(world.counts().iter().sum::<usize>(), 5);
    let reasons = [1, 2].map(|node| world.status(node).addresses[&lost].reason);
    assert!(reasons.contains(&OwnerReason::OtherSpeaker), "{reasons:?}");
}

#[test]
fn a_dead_process_whose_service_proxy_answers_is_replaced() {
    let all = addresses(2);
    let mut world = World::cluster(1, 2, &all);
    let proxied: BTreeSet<_> = all.iter().copied().collect();
    for node in 0..2 {
        world.speakers.insert(world.mac(node), proxied.clone());
        world.input(node, Input::ServiceProxyAddresses(proxied.clone()));
    }
    world.run(ms(3_000));
    world.kill(0);
    world.run(ms(10_000));
    assert_eq!(world.counts(), [0, 2]);
}

#[test]
fn an_address_that_was_removed_and_added_again_stays_with_its_new_owner() {
    let all = addresses(2);
    let mut world = World::cluster(1, 2, &[]);
    let only_first = candidates(1);
    for node in 0..2 {
        for address in &all {
            world.command(node, Command::SetAddress(*address, spec(1, &only_first)));
        }
    }
    world.run(ms(3_000));
    assert_eq!(world.owners(all[0]), [0]);
    for node in 0..2 {
        world.command(node, Command::RemoveAddress(all[0]));
    }
    world.run(ms(1_000));
    for node in 0..2 {
        let again = spec(2, &candidates(2));
        world.command(node, Command::SetAddress(all[0], again));
    }
    world.run(ms(10_000));
    assert_eq!(world.owners(all[0]), [1]);
    for node in 0..2 {
        assert_eq!(conflicts(&world, node), 0);
    }
    assert_eq!(world.status(1).counters.owner_changes, 1);
}

#[test]
fn of_two_nodes_that_do_not_accept_each_other_one_announces_an_address() {
    let all = addresses(1);
    let mut world = World::cluster(1, 2, &all);
    world.set_keys(1, b"another key", &[]);
    world.run(ms(300_000));
    assert_eq!(world.owners(all[0]).len(), 1);
}
