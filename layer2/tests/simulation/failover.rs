//! A node dies.

use crate::world::{World, addresses, ms};

#[test]
fn nodes_settle_and_one_of_them_announces_an_address() {
    let address = addresses(1)[0];
    let mut world = World::cluster(1, 3, &[address]);
    world.run(ms(2_000));
    let owners = world.owners(address);
    assert_eq!(owners.len(), 1);
    let name = world.nodes[owners[0]].name.clone();
    for index in 0..3 {
        assert_eq!(
            world.status(index).addresses[&address].owner,
            Some(name.clone())
        );
    }
}

#[test]
fn another_node_announces_the_address_of_a_dead_one() {
    let address = addresses(1)[0];
    let mut world = World::cluster(1, 3, &[address]);
    world.run(ms(5_000));
    let [owner] = world.owners(address)[..] else {
        panic!("one owner: {:?}", world.owners(address));
    };
    world.power_off(owner);
    world.run(ms(600));
    let owners = world.owners(address);
    assert_eq!(owners.len(), 1);
    assert_ne!(owners[0], owner);
}
