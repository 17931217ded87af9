//! Many nodes and addresses.

use crate::world::{World, addresses, ms};

#[test]
fn five_hundred_nodes_share_ten_thousand_addresses_evenly_and_replace_a_dead_one() {
    let all = addresses(10_000);
    let mut world = World::cluster(1, 500, &all);
    world.lans[0].only_hellos = true;
    world.run(ms(1_800));
    assert_eq!(world.counts(), vec![20; 500]);
    world.power_off(7);
    // The interval is 250 ms, and rank 0 of each address acts.
    world.run(ms(1_000));
    let counts = world.counts();
    assert_eq!(counts.iter().sum::<usize>(), 10_000);
    let others = counts.iter().enumerate().filter(|(node, _)| *node != 7);
    assert!(
        others
            .map(|(_, count)| count)
            .all(|count| (20..=21).contains(count))
    );
    // To free five million addresses would take a third of the time.
    std::mem::forget(world);
}
