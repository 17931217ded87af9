//! A node or its process dies.

use std::time::Duration;

use ferrolb_layer2::config::{Command, Time};
use ferrolb_layer2::status::{Event, OwnerReason};

use crate::world::{World, addresses, candidates, ms, spec};

/// The first frame for an address from another host than its owner, after a moment.
fn first_frame_of_successor(
    world: &World,
    client: ferrolb_layer2::mac::Mac,
    address: std::net::IpAddr,
    owner: usize,
    since: Time,
) -> Option<Duration> {
    world.hosts[&client]
        .received
        .iter()
        .find(|(at, of, mac)| *at > since && *of == address && *mac != world.mac(owner))
        .map(|(at, ..)| *at - since)
}

#[test]
fn nodes_settle_and_one_of_them_announces_an_address() {
    let address = addresses(1)[0];
    let mut world = World::cluster(1, 3, &[address]);
    world.run(ms(2_000));
    let owners = world.owners(address);
    assert_eq!(owners.len(), 1);
    let name = world.nodes[owners[0]].name.clone();
    for index in 0..3 {
        let owner = &world.status(index).addresses[&address].owner;
        assert_eq!(*owner, Some(name.clone()));
    }
}

#[test]
fn the_first_frame_of_a_successor_follows_power_loss_within_0_39_s_at_p50_and_0_6_s_at_most() {
    let mut times = Vec::new();
    for seed in 0..60 {
        let all = addresses(10);
        let mut world = World::cluster(seed, 5, &all);
        let client = world.add_host(1, &[]);
        world.run(ms(5_000 + seed * 7));
        let address = all[0];
        let owner = world.owners(address)[0];
        let share = world.nodes[owner].announced.clone();
        let since = world.now;
        world.power_off(owner);
        world.run(ms(1_500));
        for address in share {
            let time = first_frame_of_successor(&world, client, address, owner, since);
            times.push(time.expect("a successor"));
            assert_eq!(world.owners(address).len(), 1);
        }
    }
    times.sort();
    let (p50, max) = (times[times.len() / 2], times[times.len() - 1]);
    assert!(p50 <= ms(390), "p50 {p50:?}");
    assert!(max <= ms(600), "max {max:?}");
}

#[test]
fn a_death_moves_only_the_share_of_the_dead_node_and_spreads_it_evenly() {
    let all = addresses(60);
    let mut world = World::cluster(3, 5, &all);
    world.run(ms(3_000));
    assert_eq!(world.counts(), [12; 5]);
    let before = world.announced();
    world.power_off(2);
    world.run(ms(2_000));
    for index in [0, 1, 3, 4] {
        let now = &world.nodes[index].announced;
        assert!(before[index].is_subset(now));
        assert_eq!(now.len(), 15);
    }
}

#[test]
fn a_node_that_returns_moves_nothing() {
    let all = addresses(20);
    let mut world = World::cluster(4, 3, &all);
    world.run(ms(3_000));
    world.power_off(1);
    world.run(ms(3_000));
    let before = world.announced();
    world.restart(1);
    world.introduce(1, &all, 3);
    world.run(ms(60_000));
    let after = world.announced();
    assert_eq!(before, after);
}

#[test]
fn two_nodes_that_die_together_are_both_replaced() {
    for (seed, nodes, each) in (0..60).flat_map(|seed| [(seed, 5, 10), (seed, 4, 4)]) {
        let all = addresses(each * (nodes - 2));
        let mut world = World::cluster(seed, nodes.into(), &all);
        world.lans[0].latency = (ms(0), ms(15));
        world.run(ms(3_000));
        let dead = [0, 1].map(|next| (seed + next) % u64::from(nodes));
        world.power_off(index(dead[0]));
        world.run(ms(seed % 13 * 7));
        world.power_off(index(dead[1]));
        world.run(ms(900));
        for address in &all {
            assert_eq!(world.owners(*address).len(), 1, "seed {seed} {address}");
        }
        for node in (0..u64::from(nodes)).filter(|node| !dead.contains(node)) {
            let count = world.counts()[index(node)];
            assert_eq!(count, usize::from(each), "seed {seed} node {node}");
        }
    }
}

fn index(node: u64) -> usize {
    usize::try_from(node).expect("a small number")
}

#[test]
fn the_last_of_two_nodes_needs_a_witness_to_take_over() {
    let all = addresses(4);
    let mut world = World::cluster(5, 2, &all);
    world.run(ms(3_000));
    world.power_off(0);
    world.run(ms(5_000));
    assert_eq!(world.counts()[1], 2);
    let status = world.status(1);
    let isolated = |reason| reason == OwnerReason::Isolated;
    assert_eq!(
        status
            .addresses
            .values()
            .filter(|status| isolated(status.reason))
            .count(),
        2
    );
    let host = world.add_host(1, &[]);
    world.ask(host, 0, "10.100.0.250".parse().expect("an address"));
    world.run(ms(500));
    assert_eq!(world.counts()[1], 4);
}

#[test]
fn a_dead_process_is_replaced_after_2_s_while_its_kernel_answers() {
    let all = addresses(6);
    let mut world = World::cluster(6, 3, &all);
    world.run(ms(3_000));
    world.kill(0);
    world.run(ms(1_900));
    assert_eq!(world.counts(), [0, 2, 2]);
    let status = world.status(1);
    let waiting = status
        .addresses
        .values()
        .filter(|status| status.reason == OwnerReason::OwnerRestarting);
    assert!(waiting.count() > 0);
    world.run(ms(600));
    assert_eq!(world.counts(), [0, 3, 3]);
}

#[test]
fn a_process_that_returns_within_2_s_resumes_its_addresses() {
    let all = addresses(30);
    let mut world = World::cluster(7, 3, &all);
    world.run(ms(3_000));
    let before = world.announced();
    world.kill(1);
    world.run(ms(1_200));
    world.restart(1);
    world.introduce(1, &all, 3);
    world.run(ms(1_000));
    let after = world.announced();
    assert_eq!(before, after);
    let resumed = world.nodes[1]
        .log
        .iter()
        .filter(|(_, event)| {
            matches!(
                event,
                Event::Announced {
                    reason: OwnerReason::Resumed,
                    ..
                }
            )
        })
        .count();
    assert_eq!(resumed, 10);
    world.run(ms(30_000));
    let after = world.announced();
    assert_eq!(before, after);
}

#[test]
fn a_process_that_says_it_restarts_has_10_s_while_its_kernel_answers() {
    let all = addresses(6);
    let mut world = World::cluster(8, 3, &all);
    world.run(ms(3_000));
    let left = |world: &World| world.nodes[0].log.iter().any(|(_, e)| *e == Event::Left);
    world.command(0, Command::Leave { restarting: true });
    world.run(ms(100));
    assert!(left(&world));
    world.kill(0);
    world.run(ms(9_000));
    assert_eq!(world.counts(), [0, 2, 2]);
    world.run(ms(2_000));
    assert_eq!(world.counts(), [0, 3, 3]);
}

#[test]
fn a_node_that_loses_power_while_its_process_restarts_is_replaced_at_once() {
    let all = addresses(6);
    let mut world = World::cluster(9, 3, &all);
    world.run(ms(3_000));
    world.command(0, Command::Leave { restarting: true });
    world.run(ms(100));
    world.kill(0);
    world.run(ms(3_000));
    assert_eq!(world.counts(), [0, 2, 2]);
    world.power_off(0);
    world.run(ms(800));
    assert_eq!(world.counts(), [0, 3, 3]);
}

#[test]
fn a_new_address_is_announced_by_exactly_one_node() {
    let all = addresses(3);
    let mut world = World::cluster(10, 3, &all[..2]);
    world.run(ms(3_000));
    for node in 0..3 {
        let new = spec(9, &candidates(3));
        world.command(node, Command::SetAddress(all[2], new));
        world.run(ms(7));
    }
    world.run(ms(600));
    assert_eq!(world.counts(), [1, 1, 1]);
}

#[test]
fn a_node_that_was_removed_is_forgotten_after_an_hour() {
    let mut world = World::cluster(1, 3, &addresses(3));
    world.run(ms(3_000));
    world.power_off(2);
    world.run(ms(3_000));
    let known = |world: &World| world.status(0).segments[0].peers.len();
    assert_eq!(known(&world), 2);
    // The other nodes are suspended, which takes less time than to simulate an hour.
    for node in 0..2 {
        world.stall(node);
    }
    world.run(ms(60 * 60 * 1_000));
    for node in 0..2 {
        world.resume(node);
    }
    world.run(ms(61_000));
    assert_eq!(known(&world), 1);
}

#[test]
fn a_low_rate_of_unsolicited_frames_delays_a_takeover_but_does_not_prevent_it() {
    let all = addresses(6);
    let mut world = World::new(1);
    world.settings.gratuitous_rate = 10;
    for _ in 0..2 {
        let node = world.add_node(&[0]);
        let mut link = world.nodes[node].interfaces[0].1.clone();
        let gateways = (240..244).map(|last| std::net::IpAddr::from([10, 100, 0, last]));
        link.gateways = gateways.collect();
        world.input(node, ferrolb_layer2::machine::Input::Interface(link));
        world.introduce(node, &all, 2);
    }
    world.add_client(1, &all);
    world.run(ms(30_000));
    assert_eq!(world.counts(), [3, 3]);
    world.power_off(0);
    world.run(ms(6_000));
    assert_eq!(world.counts(), [0, 6]);
}

#[test]
fn a_node_on_the_segment_of_a_new_process_sends_it_the_claims_of_the_one_before() {
    let address = addresses(1)[0];
    let mut world = World::new(1);
    let second = world.add_lan();
    for lans in [&[second][..], &[0, second], &[0]] {
        world.add_node(lans);
    }
    let only_last: std::sync::Arc<[_]> = candidates(3)[2..].into();
    let introduce = |world: &mut World, node| {
        world.command(node, Command::SetAddress(address, spec(0, &only_last)));
        world.command(node, Command::AddressesComplete);
    };
    for node in 0..3 {
        introduce(&mut world, node);
    }
    world.run(ms(3_000));
    assert_eq!(world.owners(address), [2]);
    world.restart(2);
    introduce(&mut world, 2);
    world.run(ms(3_000));
    assert_eq!(world.owners(address), [2]);
    let reason = world.status(2).addresses[&address].reason;
    assert_eq!(reason, OwnerReason::Resumed);
}
