//! Two processes of one node, as during a rollout with surge.

use ferrolb_layer2::config::Command;
use ferrolb_layer2::status::{Event, OwnerReason};

use crate::world::{World, addresses, candidates, ms, spec};

fn cluster(nodes: usize, all: &[std::net::IpAddr]) -> World {
    let mut world = World::new(1);
    for _ in 0..nodes {
        let node = world.add_node_with_loopback(&[0]);
        world.introduce(node, all, nodes);
    }
    world.run(ms(4_000));
    world
}

#[test]
fn a_newer_process_waits_and_takes_everything_over_when_the_older_one_leaves() {
    for restarting in [false, true] {
        let all = addresses(12);
        let mut world = cluster(3, &all);
        let client = world.add_client(1, &all);
        let before = world.nodes[0].announced.clone();
        assert_eq!(before.len(), 4);
        world.run(ms(500));
        let start = world.now;
        let newer = world.add_process(0);
        world.introduce(newer, &all, 3);
        world.run(ms(5_000));
        assert_eq!(world.nodes[newer].announced.len(), 0);
        assert_eq!(world.nodes[0].announced, before);
        world.command(0, Command::Leave { restarting });
        world.run(ms(300));
        assert!(
            world.nodes[0]
                .log
                .iter()
                .any(|(_, event)| *event == Event::Left)
        );
        world.kill(0);
        world.run(ms(10_000));
        assert_eq!(world.nodes[newer].announced, before);
        assert_eq!(world.counts()[1..3], [4, 4]);
        for address in &all {
            let answers = world.answers(client, *address, start);
            assert_eq!(answers.none(), ms(0));
            assert_eq!(answers.several(), ms(0));
        }
        for node in [1, 2] {
            let seen = &world.status(node).addresses;
            let resumed = seen
                .values()
                .filter(|s| s.reason == OwnerReason::Resumed)
                .count();
            assert_eq!(resumed, 4);
        }
    }
}

#[test]
fn a_newer_process_takes_everything_over_when_the_older_one_dies() {
    let all = addresses(12);
    let mut world = cluster(3, &all);
    let before = world.nodes[0].announced.clone();
    let newer = world.add_process(0);
    world.introduce(newer, &all, 3);
    world.run(ms(2_000));
    world.kill(0);
    world.run(ms(400));
    assert_eq!(world.nodes[newer].announced, before);
    world.run(ms(10_000));
    assert_eq!(world.nodes[newer].announced, before);
}

#[test]
fn a_rollout_of_all_nodes_moves_no_address() {
    let all = addresses(12);
    let mut world = cluster(3, &all);
    let before = world.announced();
    for (old, share) in before.iter().enumerate() {
        let newer = world.add_process(old);
        world.introduce(newer, &all, 3);
        world.run(ms(2_000));
        world.command(old, Command::Leave { restarting: false });
        world.run(ms(300));
        world.kill(old);
        assert_eq!(world.nodes[newer].announced, *share);
    }
    world.run(ms(20_000));
    assert_eq!(before, world.announced()[3..6]);
}

#[test]
fn a_newer_process_of_a_node_that_owned_nothing_is_a_candidate_afterwards() {
    let mut world = cluster(2, &[]);
    let newer = world.add_process(0);
    world.introduce(newer, &[], 2);
    world.run(ms(2_000));
    world.command(0, Command::Leave { restarting: false });
    world.run(ms(100));
    world.kill(0);
    world.run(ms(1_000));
    for (order, address) in (0..).zip(addresses(4)) {
        for node in [1, newer] {
            world.command(
                node,
                Command::SetAddress(address, spec(order, &candidates(2))),
            );
        }
    }
    world.run(ms(2_000));
    assert_eq!(world.counts(), [0, 2, 2]);
}

#[test]
fn an_older_process_that_wakes_after_a_newer_one_took_over_claims_nothing() {
    let all = addresses(12);
    let mut world = cluster(2, &all[..4]);
    let newer = world.add_process(0);
    world.introduce(newer, &all[..4], 2);
    world.run(ms(2_000));
    world.stall(0);
    world.run(ms(2_000));
    world.resume(0);
    world.run(ms(3_000));
    assert_eq!(world.counts(), [0, 2, 2]);
    for node in [0, 1, newer] {
        world.introduce(node, &all, 2);
    }
    world.run(ms(10_000));
    assert_eq!(world.counts(), [0, 6, 6]);
}
