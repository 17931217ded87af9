//! Many nodes and addresses.

use std::collections::BTreeSet;

use crate::world::{World, addresses, ms};

#[test]
fn five_hundred_nodes_share_ten_thousand_addresses_evenly_and_replace_a_dead_one() {
    let all = addresses(10_000);
    let mut world = World::cluster(1, 500, &all);
    world.lans[0].only_hellos = true;
    world.run(ms(1_800));
    assert_eq!(world.counts(), vec![20; 500]);
    let before = world.announced();
    world.power_off(7);
    // The interval is 250 ms, and rank 0 of each address acts.
    world.run(ms(1_000));
    let after = world.announced();
    assert_eq!(after.iter().flatten().count(), 10_000);
    assert_eq!(
        after.iter().flatten().collect::<BTreeSet<_>>().len(),
        10_000
    );
    // Only the share of the dead node moves, and each other node gets one of it at most.
    let nodes = before.iter().zip(&after).enumerate();
    for (node, (before, after)) in nodes.filter(|(node, _)| *node != 7) {
        assert!(before.is_subset(after), "node {node} lost an address");
        assert!(after.len() <= 21, "node {node}: {}", after.len());
    }
    // To free five million addresses would take a third of the time.
    std::mem::forget(world);
}
