//! Frames are lost, and processes stall.

use ferrolb_layer2::status::{Event, OwnerReason};

use crate::world::{World, addresses, ms};

/// The hello interval plus a round trip, in periods of a client's questions.
const HEAL: std::time::Duration = ms(140);

#[test]
fn each_part_has_one_owner_and_one_of_them_stops_soon_after_the_lan_heals() {
    for seed in 0..10 {
        let all = addresses(12);
        let mut world = World::cluster(seed, 4, &all);
        let client = world.add_client(1, &all);
        let witness = world.add_client(2, &[]);
        world.run(ms(3_000));
        for mac in [world.mac(2), world.mac(3), witness] {
            world.lans[0].part.insert(mac, 1);
        }
        world.run(ms(2_000));
        for address in &all {
            let owners = world.owners(*address);
            assert_eq!(owners.iter().filter(|owner| **owner < 2).count(), 1);
            assert_eq!(owners.iter().filter(|owner| **owner >= 2).count(), 1);
        }
        world.lans[0].part.clear();
        let healed = world.now;
        world.run(ms(3_000));
        for address in &all {
            assert_eq!(world.owners(*address).len(), 1, "seed {seed}");
            let answers = world.answers(client, *address, healed);
            assert!(
                answers.several() <= HEAL,
                "seed {seed}: {:?}",
                answers.several()
            );
            assert_eq!(answers.none(), ms(0));
        }
        let conflicts: u64 = (0..4)
            .map(|node| world.status(node).counters.claim_conflicts)
            .sum();
        assert!(conflicts > 0);
    }
}

#[test]
fn a_stalled_process_never_answers_beside_its_successor() {
    for seed in 0..20 {
        let all = addresses(6);
        let mut world = World::cluster(seed, 3, &all);
        let client = world.add_client(1, &all);
        world.run(ms(3_000));
        let start = world.now;
        world.stall(0);
        // Its kernel answers, so that peers wait.
        world.run(ms(2_000 + seed * 60));
        world.resume(0);
        world.run(ms(3_000));
        for address in &all {
            assert_eq!(world.owners(*address).len(), 1);
            let answers = world.answers(client, *address, start);
            assert_eq!(answers.several(), ms(0), "seed {seed}");
        }
        assert_eq!(world.status(0).counters.stalls, 1);
        let conflicts: u64 = (0..3)
            .map(|node| world.status(node).counters.claim_conflicts)
            .sum();
        assert_eq!(conflicts, 0);
    }
}

#[test]
fn a_process_that_stalls_for_less_than_the_others_wait_goes_on_answering_soon() {
    let all = addresses(6);
    let mut world = World::cluster(1, 3, &all);
    let client = world.add_client(1, &all);
    world.run(ms(3_000));
    let owned = world.nodes[0].announced.clone();
    let start = world.now;
    world.stall(0);
    world.run(ms(1_000));
    world.resume(0);
    world.run(ms(3_000));
    assert_eq!(world.nodes[0].announced, owned);
    for address in &all {
        let answers = world.answers(client, *address, start);
        assert_eq!(answers.several(), ms(0));
        assert!(answers.none() <= ms(1_250), "{:?}", answers.none());
    }
}

#[test]
fn a_node_that_is_not_received_yields_to_its_successor() {
    for seed in 0..10 {
        let all = addresses(6);
        let mut world = World::cluster(seed, 3, &all);
        let client = world.add_client(1, &all);
        world.run(ms(3_000));
        let start = world.now;
        for other in [1, 2] {
            let pair = (world.mac(0), world.mac(other));
            world.lans[0].one_way.insert(pair);
        }
        world.run(ms(3_000));
        for address in &all {
            assert_eq!(world.owners(*address).len(), 1, "seed {seed}");
            let answers = world.answers(client, *address, start);
            assert!(answers.several() <= HEAL, "{:?}", answers.several());
        }
        assert_eq!(world.counts()[0], 0);
        world.lans[0].one_way.clear();
        world.run(ms(30_000));
        assert_eq!(world.counts()[0], 0);
    }
}

#[test]
fn after_a_blackout_of_the_lan_each_node_still_has_its_own() {
    let all = addresses(50);
    let mut world = World::cluster(2, 5, &all);
    world.run(ms(3_000));
    let before = world.announced();
    world.lans[0].blackout = true;
    let frames = |world: &World| -> u64 {
        let sent = &world.lans[0].frames;
        (0..5).filter_map(|node| sent.get(&world.mac(node))).sum()
    };
    world.run(ms(30_000));
    world.lans[0].blackout = false;
    let before_heal = frames(&world);
    world.run(ms(10_000));
    let after = world.announced();
    assert_eq!(before, after);
    let hellos = 5 * 10 * 11;
    let refreshes = 50;
    let sent = frames(&world) - before_heal;
    assert!(sent < hellos + refreshes + 100, "{sent} frames");
}

/// A node that owns nothing sends hellos only once a second: it is no witness before its next one.
#[test]
fn after_a_blackout_owners_keep_their_addresses_also_if_a_node_owns_none() {
    for seed in 0..10 {
        let mut world = World::cluster(seed, 3, &addresses(2));
        world.run(ms(3_000));
        let before = world.announced();
        world.lans[0].blackout = true;
        world.run(ms(10_000));
        assert_eq!(world.announced(), before, "seed {seed}, in the blackout");
        world.lans[0].blackout = false;
        world.run(ms(5_000));
        assert_eq!(world.announced(), before, "seed {seed}");
    }
}

#[test]
fn a_lossy_lan_causes_no_second_owner() {
    for seed in 0..5 {
        let all = addresses(6);
        let mut world = World::cluster(seed, 4, &all);
        world.lans[0].loss = 0.02;
        world.run(ms(60_000));
        world.lans[0].loss = 0.0;
        world.run(ms(2_000));
        for address in &all {
            assert_eq!(world.owners(*address).len(), 1);
        }
        let lost = (0..4).any(|node| {
            let log = &world.nodes[node].log;
            log.iter()
                .any(|(_, event)| matches!(event, Event::Withdrawn { .. }))
        });
        assert!(!lost, "seed {seed}");
    }
}

#[test]
fn a_winner_whose_hellos_do_not_arrive_does_not_announce_all_the_time() {
    let all = addresses(2);
    let mut world = World::cluster(1, 2, &all);
    world.add_client(1, &all);
    let other = world.add_client(2, &all);
    world.run(ms(3_000));
    assert_eq!(world.counts(), [1, 1]);
    for mac in [world.mac(1), other] {
        world.lans[0].part.insert(mac, 1);
    }
    world.run(ms(2_000));
    assert_eq!(world.counts(), [2, 2]);
    world.lans[0].part.clear();
    let lost = (world.mac(0), world.mac(1));
    world.lans[0].one_way.insert(lost);
    world.run(ms(1_000));
    assert_eq!(world.counts(), [1, 2]);
    let sent = world.status(0).counters.gratuitous_sent;
    world.run(ms(10_000));
    let sent = world.status(0).counters.gratuitous_sent - sent;
    assert!(sent <= 16, "{sent} frames");
}

#[test]
fn a_node_that_was_cut_off_forgets_that_after_the_lan_heals() {
    let all = addresses(2);
    let mut world = World::cluster(1, 2, &all);
    world.run(ms(3_000));
    let theirs = *world.nodes[1].announced.first().expect("an address");
    let mac = world.mac(0);
    world.lans[0].part.insert(mac, 1);
    world.run(ms(3_000));
    let reason = |world: &World| world.status(0).addresses[&theirs].reason;
    assert_eq!(reason(&world), OwnerReason::Isolated);
    world.lans[0].part.clear();
    world.run(ms(3_000));
    assert_eq!(world.owners(theirs), [1]);
    assert_eq!(reason(&world), OwnerReason::Placed);
}
