//! Planned changes of the owner: a new one announces before the old one stops.

use std::sync::Arc;

use ferrolb_layer2::config::{Candidate, Command, ConflictDetection};
use ferrolb_layer2::status::{Event, OwnerReason};

use crate::world::{World, addresses, candidates, ms, spec};

/// One hello on its way.
const OVERLAP: std::time::Duration = ms(40);

#[test]
fn a_node_that_leaves_hands_everything_over_without_a_gap() {
    for seed in 0..10 {
        let all = addresses(30);
        let mut world = World::cluster(seed, 3, &all);
        let client = world.add_client(1, &all);
        world.run(ms(3_000));
        let start = world.now;
        world.command(1, Command::Leave { restarting: false });
        world.run(ms(500));
        assert!(
            world.nodes[1]
                .log
                .iter()
                .any(|(_, event)| *event == Event::Left)
        );
        world.kill(1);
        world.run(ms(5_000));
        assert_eq!(world.counts(), [15, 0, 15]);
        for address in &all {
            let answers = world.answers(client, *address, start);
            assert_eq!(answers.none(), ms(0), "seed {seed}");
            assert!(answers.several() <= OVERLAP, "{:?}", answers.several());
        }
    }
}

#[test]
fn a_node_that_is_no_candidate_any_more_hands_over_without_a_gap() {
    let all = addresses(12);
    let mut world = World::cluster(1, 3, &all);
    let client = world.add_client(1, &all);
    world.run(ms(3_000));
    let start = world.now;
    let others: Arc<[Candidate]> = candidates(3)[..2].into();
    for node in [2, 0, 1] {
        for (order, address) in (0..).zip(&all) {
            world.command(node, Command::SetAddress(*address, spec(order, &others)));
        }
        world.run(ms(5));
    }
    world.run(ms(2_000));
    assert_eq!(world.counts(), [6, 6, 0]);
    for address in &all {
        let answers = world.answers(client, *address, start);
        assert_eq!(answers.none(), ms(0));
        assert!(answers.several() <= OVERLAP, "{:?}", answers.several());
    }
}

#[test]
fn an_address_without_candidates_is_withdrawn_at_once() {
    let all = addresses(3);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    for node in 0..3 {
        let none: Arc<[Candidate]> = [].into();
        world.command(node, Command::SetAddress(all[0], spec(0, &none)));
    }
    world.run(ms(100));
    assert_eq!(world.owners(all[0]), []);
    let reason = world.status(0).addresses[&all[0]].reason;
    assert_eq!(reason, OwnerReason::NoCandidate);
}

#[test]
fn an_operator_moves_an_address_from_any_node() {
    let all = addresses(3);
    for asked in 0..3 {
        let mut world = World::cluster(1, 3, &all);
        let client = world.add_client(1, &all);
        world.run(ms(3_000));
        let owner = world.owners(all[0])[0];
        let target = (owner + 1) % 3;
        let start = world.now;
        let name = world.nodes[target].name.clone();
        world.command(asked, Command::Move(all[0], name));
        world.run(ms(1_000));
        assert_eq!(world.owners(all[0]), [target]);
        let status = &world.status(target).addresses[&all[0]];
        assert_eq!(status.reason, OwnerReason::Moved);
        assert_eq!(status.moves[0].from, Some(world.nodes[owner].name.clone()));
        let withdrawn = world.nodes[owner].log.iter().any(|(_, event)| {
            matches!(
                event,
                Event::Withdrawn {
                    reason: OwnerReason::Moved,
                    ..
                }
            )
        });
        assert!(withdrawn);
        assert_eq!(world.answers(client, all[0], start).none(), ms(0));
    }
}

#[test]
fn a_preferred_node_takes_an_address_after_30_s() {
    let all = addresses(1);
    let mut world = World::cluster(1, 3, &all);
    world.run(ms(3_000));
    let owner = world.owners(all[0])[0];
    let preferred = (owner + 1) % 3;
    let mut weighted = candidates(3).to_vec();
    weighted[preferred].weight = 10;
    let weighted: Arc<[Candidate]> = weighted.into();
    for node in 0..3 {
        world.command(node, Command::SetAddress(all[0], spec(0, &weighted)));
    }
    world.run(ms(29_000));
    assert_eq!(world.owners(all[0]), [owner]);
    world.run(ms(3_000));
    assert_eq!(world.owners(all[0]), [preferred]);
    let reason = world.status(preferred).addresses[&all[0]].reason;
    assert_eq!(reason, OwnerReason::Preferred);
}

#[test]
fn addresses_that_are_not_sticky_return_to_an_even_distribution() {
    let all = addresses(9);
    let mut world = World::cluster(1, 3, &all);
    let loose = |order| ferrolb_layer2::config::AddressSpec {
        sticky: false,
        ..spec(order, &candidates(3))
    };
    let introduce = |world: &mut World, node| {
        for (order, address) in (0..).zip(&all) {
            world.command(node, Command::SetAddress(*address, loose(order)));
        }
        world.command(node, Command::AddressesComplete);
    };
    for node in 0..3 {
        introduce(&mut world, node);
    }
    world.run(ms(3_000));
    world.power_off(0);
    world.run(ms(3_000));
    world.restart(0);
    introduce(&mut world, 0);
    world.run(ms(10_000));
    assert_eq!(world.counts(), [3, 3, 3]);
}

#[test]
fn a_node_that_is_no_candidate_any_more_while_it_probes_claims_nothing() {
    let address = addresses(1)[0];
    let mut world = World::cluster(1, 2, &[]);
    let slow = |candidates: &[Candidate]| ferrolb_layer2::config::AddressSpec {
        conflict_detection: ConflictDetection::Rfc5227,
        ..spec(0, &candidates.into())
    };
    let all = candidates(2);
    for node in 0..2 {
        world.command(node, Command::SetAddress(address, slow(&all[..1])));
    }
    world.run(ms(2_000));
    let reason = world.status(0).addresses[&address].reason;
    assert_eq!(reason, OwnerReason::Probing);
    for node in 0..2 {
        world.command(node, Command::SetAddress(address, slow(&all[1..])));
    }
    world.run(ms(15_000));
    assert_eq!(world.owners(address), [1]);
    assert_eq!(world.status(0).counters.owner_changes, 0);
}

#[test]
fn an_address_that_was_moved_to_a_node_that_is_not_preferred_stays_there_for_30_s() {
    let address = addresses(1)[0];
    let mut world = World::cluster(1, 2, &[address]);
    world.run(ms(3_000));
    let owner = world.owners(address)[0];
    let preferred = 1 - owner;
    let mut weighted = candidates(2).to_vec();
    weighted[preferred].weight = 10;
    let weighted: Arc<[Candidate]> = weighted.into();
    for node in 0..2 {
        world.command(node, Command::SetAddress(address, spec(0, &weighted)));
    }
    world.run(ms(35_000));
    assert_eq!(world.owners(address), [preferred]);
    let name = world.nodes[owner].name.clone();
    world.command(owner, Command::Move(address, name));
    world.run(ms(25_000));
    assert_eq!(world.owners(address), [owner]);
    world.run(ms(8_000));
    assert_eq!(world.owners(address), [preferred]);
}

#[test]
fn peers_learn_at_once_that_a_removed_address_is_released() {
    let address = addresses(1)[0];
    let mut world = World::cluster(1, 2, &[address]);
    world.run(ms(3_000));
    let owner = world.owners(address)[0];
    let name = world.nodes[owner].name.clone();
    let peer = 1 - owner;
    assert_eq!(world.status(peer).addresses[&address].owner, Some(name));
    world.command(owner, Command::RemoveAddress(address));
    world.run(ms(12));
    assert_eq!(world.status(peer).addresses[&address].owner, None);
}
