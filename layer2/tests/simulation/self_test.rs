//! A node that does not own an address resolves it for another one.

use ferrolb_layer2::config::Command;
use ferrolb_layer2::status::SelfTest;

use crate::world::{World, addresses, ms};

fn tested(world: &mut World, by: usize) -> Option<SelfTest> {
    let address = addresses(1)[0];
    world.command(by, Command::SelfTest(address));
    world.run(ms(500));
    world.status(by).addresses[&address].self_test.clone()
}

#[test]
fn a_self_test_passes_if_only_the_owner_answers_another_node() {
    let mut world = World::cluster(1, 3, &addresses(1));
    world.run(ms(3_000));
    let owner = world.owners(addresses(1)[0])[0];
    for asks in 0..3 {
        let start = world.now;
        let test = tested(&mut world, asks).expect("a result");
        assert!(test.passed && test.at >= start, "{test:?}");
        assert_eq!(test.answers, [world.mac(owner)]);
        let by = world.nodes.iter().position(|node| node.name == test.by);
        assert!(by != Some(owner) && by != Some(asks), "{test:?}");
    }
}

#[test]
fn a_self_test_fails_if_another_host_answers_too() {
    let address = addresses(1)[0];
    let mut world = World::cluster(1, 3, &[address]);
    world.run(ms(3_000));
    let owner = world.owners(address)[0];
    let host = world.add_host(9, &[address]);
    let test = tested(&mut world, owner).expect("a result");
    let mut expected = [world.mac(owner), host];
    expected.sort();
    assert_eq!((test.passed, test.answers), (false, expected.to_vec()));
}

#[test]
fn a_self_test_fails_if_the_owner_does_not_answer() {
    let mut world = World::cluster(1, 3, &addresses(1));
    world.run(ms(3_000));
    let owner = world.owners(addresses(1)[0])[0];
    let asks = (owner + 1) % 3;
    world.command(asks, Command::SelfTest(addresses(1)[0]));
    // Its hellos arrived in time until now, its answer does not.
    world.stall(owner);
    world.run(ms(250));
    let test = world.status(asks).addresses[&addresses(1)[0]]
        .self_test
        .clone();
    let test = test.expect("a result");
    assert_eq!((test.passed, test.answers.len()), (false, 0));
}

#[test]
fn the_owner_and_another_node_alone_can_test_only_from_the_owner() {
    let mut world = World::cluster(1, 2, &addresses(1));
    world.run(ms(3_000));
    let owner = world.owners(addresses(1)[0])[0];
    assert_eq!(tested(&mut world, 1 - owner), None);
    assert!(tested(&mut world, owner).is_some_and(|test| test.passed));
}

#[test]
fn every_claimed_address_is_tested_by_itself_and_again_after_an_hour() {
    let all = addresses(6);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(6_000));
    let tests = |world: &World| {
        let tested = all.iter().map(|address| {
            let owner = world.owners(*address)[0];
            let test = world.status(owner).addresses[address].self_test.clone();
            test.expect("a result")
        });
        tested.collect::<Vec<SelfTest>>()
    };
    let first = tests(&world);
    assert!(first.iter().all(|test| test.passed), "{first:?}");
    // All nodes are suspended for an hour, which takes less time than to simulate it.
    for node in 0..3 {
        world.stall(node);
    }
    world.run(ms(60 * 60 * 1_000));
    for node in 0..3 {
        world.resume(node);
    }
    world.run(ms(70_000));
    for (first, second) in first.iter().zip(tests(&world)) {
        assert!(second.passed && second.at > first.at + ms(60 * 60 * 1_000 - 10_000));
    }
}
