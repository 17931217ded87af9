//! Wall clocks that are wrong or set, and hellos that are replayed later.

use std::rc::Rc;

use ferrolb_layer2::mac::Mac;
use ferrolb_layer2::status::Event;

use crate::world::{World, addresses, ms};

const HOUR: i64 = 3_600_000;

fn rejections(world: &World, node: usize) -> Vec<String> {
    let log = world.nodes[node].log.iter();
    log.filter_map(|(_, event)| match event {
        Event::PeerRejected { why, .. } => Some(why.clone()),
        _ => None,
    })
    .collect()
}

fn accepts(world: &World, node: usize) -> bool {
    let peers = &world.status(node).segments[0].peers;
    peers.len() == 1 && peers[0].alive && peers[0].rejected.is_none()
}

/// The hellos that a node sends within a time.
fn hellos(world: &mut World, from: Mac, time: u64) -> Vec<Rc<[u8]>> {
    world.record(0);
    world.run(ms(time));
    let frames = world.recorded().into_iter();
    frames
        .filter(|(by, frame)| *by == from && frame[12..14] == [8, 0])
        .map(|(_, frame)| frame)
        .collect()
}

#[test]
fn a_clock_that_is_set_right_after_the_start_is_followed() {
    let all = addresses(4);
    let mut world = World::cluster(1, 1, &[]);
    let late = world.add_node(&[0]);
    world.nodes[late].clock = -HOUR;
    world.restart(late);
    for node in 0..2 {
        world.introduce(node, &all, 2);
        world.run(ms(1_500));
    }
    world.run(ms(3_000));
    for node in 0..2 {
        assert!(!accepts(&world, node));
        assert!(rejections(&world, node)[0].contains("set the clocks"));
    }
    world.nodes[late].clock = 0;
    world.run(ms(3_000));
    assert!(accepts(&world, 0) && accepts(&world, 1));
    assert!(all.iter().all(|address| world.owners(*address).len() == 1));
}

#[test]
fn a_clock_that_is_set_while_nodes_receive_each_other_changes_nothing() {
    for step in [-HOUR, -10_000, -150, 150, 10_000, HOUR] {
        let all = addresses(4);
        let mut world = World::cluster(1, 2, &all);
        world.run(ms(3_000));
        world.nodes[1].clock = step;
        world.run(ms(10_000));
        assert_eq!(world.counts(), [2, 2]);
        for node in 0..2 {
            assert_eq!(rejections(&world, node), [""; 0], "{step}");
            let log = world.nodes[node].log.iter();
            let mut downs = log.filter(|(_, event)| matches!(event, Event::PeerDown { .. }));
            assert!(downs.next().is_none(), "{step}");
        }
    }
}

#[test]
fn a_process_that_starts_after_the_clock_was_set_back_is_reported_and_accepted_again() {
    let all = addresses(4);
    let mut world = World::cluster(1, 2, &all);
    world.run(ms(3_000));
    world.kill(1);
    world.run(ms(5_000));
    world.nodes[1].clock = -60_000;
    world.restart(1);
    world.introduce(1, &all, 2);
    world.run(ms(1_500));
    assert!(!accepts(&world, 0));
    assert!(rejections(&world, 0)[0].contains("the clock of the node was set back"));
    world.run(ms(3_000));
    assert!(accepts(&world, 0) && accepts(&world, 1));
    assert_eq!(rejections(&world, 0).len(), 1);
    assert!(all.iter().all(|address| world.owners(*address).len() == 1));
}

#[test]
fn hellos_that_are_replayed_slowly_do_not_keep_a_dead_node_alive() {
    let all = addresses(4);
    let mut world = World::cluster(1, 2, &all);
    world.run(ms(3_000));
    let dead = world.mac(0);
    let frames = hellos(&mut world, dead, 15_000);
    // Its requests show that the network works.
    world.add_client(1, &all);
    assert!(frames.len() > 140);
    world.power_off(0);
    world.kill(1);
    world.restart(1);
    world.introduce(1, &all, 2);
    for frame in &frames[..60] {
        world.transmit(0, dead, frame.clone());
        world.run(ms(280));
    }
    assert_eq!(world.nodes[1].announced.len(), 4);
    assert!(!accepts(&world, 1));
}
