//! Keys, forged hellos and replayed ones.

use std::rc::Rc;

use ferrolb_layer2::config::{Command, Keys};
use ferrolb_layer2::status::{Event, OwnerReason};
use ferrolb_layer2::wire::hello_frame;

use crate::world::{World, addresses, ms};

#[test]
fn without_a_key_a_node_claims_nothing() {
    let all = addresses(2);
    let mut world = World::new(1);
    let node = world.add_node(&[0]);
    world.command(node, Command::Keys(Keys::default()));
    world.introduce(node, &all, 1);
    world.run(ms(5_000));
    assert_eq!(world.counts(), [0]);
    let status = world.status(node);
    assert!(
        status
            .addresses
            .values()
            .all(|status| status.reason == OwnerReason::NoKey)
    );
    let key = world.key.clone();
    world.set_keys(node, &key, &[]);
    world.run(ms(2_000));
    assert_eq!(world.counts(), [2]);
}

#[test]
fn a_wrong_key_is_reported_at_both_ends_once() {
    let all = addresses(2);
    let mut world = World::cluster(1, 2, &all);
    world.set_keys(1, b"another key", &[]);
    world.run(ms(20_000));
    for node in 0..2 {
        let rejections = world.nodes[node]
            .log
            .iter()
            .filter(|(_, event)| matches!(event, Event::PeerRejected { .. }))
            .count();
        assert_eq!(rejections, 1);
        let peers = &world.status(node).segments[0].peers;
        assert!(peers.iter().any(|peer| peer.rejected.is_some()));
        assert!(world.status(node).counters.hellos_unauthenticated > 0);
    }
}

#[test]
fn a_rotation_of_the_key_moves_nothing() {
    let all = addresses(6);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    let before = world.announced();
    let old = world.key.clone();
    // Each node accepts both before the first one uses the new one.
    for node in 0..3 {
        world.set_keys(node, &old, &[b"the new key"]);
        world.run(ms(700));
    }
    for node in 0..3 {
        world.set_keys(node, b"the new key", &[&old]);
        world.run(ms(700));
    }
    for node in 0..3 {
        world.set_keys(node, b"the new key", &[]);
        world.run(ms(700));
    }
    world.run(ms(3_000));
    let after = world.announced();
    assert_eq!(before, after);
    for node in 0..3 {
        assert_eq!(world.status(node).counters.owner_changes, 2);
    }
}

#[test]
fn replayed_hellos_of_a_dead_node_do_not_keep_it_alive() {
    let all = addresses(6);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    world.record(0);
    world.run(ms(1_000));
    let dead = world.mac(0);
    let frames: Vec<Rc<[u8]>> = world
        .recorded()
        .into_iter()
        .filter(|(from, frame)| *from == dead && frame[12..14] == [8, 0])
        .map(|(_, frame)| frame)
        .collect();
    world.power_off(0);
    for frame in frames.iter().cycle().take(100) {
        world.transmit(0, dead, frame.clone());
        world.run(ms(10));
    }
    assert_eq!(world.counts(), [0, 3, 3]);
    assert!(world.status(1).counters.hellos_replayed > 50);
}

#[test]
fn forged_hellos_change_nothing() {
    let all = addresses(6);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    let before = world.announced();
    world.record(0);
    world.run(ms(300));
    let frames = world.recorded();
    for (from, frame) in frames {
        let Some((_, payload)) = hello_frame::decapsulate(&frame) else {
            continue;
        };
        for position in [0, 18, 38, 58, 78, payload.len() - 1] {
            let mut forged = payload.to_vec();
            if let Some(octet) = forged.get_mut(position) {
                *octet ^= 0x55;
            }
            let source = std::net::Ipv4Addr::new(10, 100, 0, 1);
            let forged = hello_frame::encapsulate(from, source.into(), &forged);
            world.transmit(0, from, forged.into());
        }
    }
    world.run(ms(3_000));
    let after = world.announced();
    assert_eq!(before, after);
}

#[test]
fn a_node_with_another_key_is_not_reported_as_one_whose_hellos_do_not_arrive() {
    let mut world = World::cluster(1, 2, &[]);
    world.set_keys(1, b"another key", &[]);
    for node in 0..2 {
        let ready = ["n0".into(), "n1".into()].into();
        world.command(node, Command::ReadyNodes(Some(ready)));
    }
    world.run(ms(25_000));
    let status = world.status(0);
    assert_eq!(status.segments[0].warnings, Vec::<String>::new());
    assert!(status.segments[0].peers[0].rejected.is_some());
}

#[test]
fn forged_hellos_in_the_name_of_a_peer_that_is_alive_are_counted_and_not_reported() {
    let mut world = World::cluster(1, 2, &addresses(2));
    world.run(ms(3_000));
    world.record(0);
    world.run(ms(2_000));
    let peer = world.mac(1);
    for (from, frame) in world.recorded() {
        if from == peer && frame[12..14] == [8, 0] {
            let (_, payload) = hello_frame::decapsulate(&frame).unwrap();
            // The key id.
            let mut payload = payload.to_vec();
            payload[5] ^= 0x55;
            let source = std::net::Ipv4Addr::new(10, 100, 0, 2);
            let forged = hello_frame::encapsulate(from, source.into(), &payload);
            world.transmit(0, from, forged.into());
            world.run(ms(150));
        }
    }
    let log = world.nodes[0].log.iter();
    let mut rejected = log.filter(|(_, event)| matches!(event, Event::PeerRejected { .. }));
    assert!(rejected.next().is_none());
    assert!(world.status(0).counters.hellos_unauthenticated >= 20);
}

#[test]
fn a_rejected_peer_that_is_silent_is_shown_no_longer_after_a_minute() {
    let mut world = World::cluster(1, 2, &addresses(2));
    world.set_keys(1, b"another key", &[]);
    world.run(ms(3_000));
    let is_rejected = |world: &World| {
        let peers = &world.status(0).segments[0].peers;
        peers.iter().any(|peer| peer.rejected.is_some())
    };
    assert!(is_rejected(&world));
    world.power_off(1);
    world.run(ms(50_000));
    assert!(is_rejected(&world));
    world.run(ms(15_000));
    assert!(!is_rejected(&world));
}
