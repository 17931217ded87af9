//! Any sequence of faults ends with exactly one owner for each address.

use ferrolb_layer2::config::Command;
use proptest::prelude::*;

use crate::world::{Process, World, addresses, ms};

const NODES: usize = 4;

#[derive(Clone, Debug)]
enum Fault {
    PowerOff(usize),
    Kill(usize),
    Restart(usize),
    Stall(usize),
    Resume(usize),
    Leave(usize, bool),
    Carrier(usize, bool),
    Partition(u8),
    OneWay(usize, usize),
    Loss(u8),
    Blackout(bool),
    Heal,
}

fn fault() -> impl Strategy<Value = Fault> {
    let node = || 0..NODES;
    prop_oneof![
        node().prop_map(Fault::PowerOff),
        node().prop_map(Fault::Kill),
        node().prop_map(Fault::Restart),
        node().prop_map(Fault::Stall),
        node().prop_map(Fault::Resume),
        (node(), any::<bool>()).prop_map(|(node, restarting)| Fault::Leave(node, restarting)),
        (node(), any::<bool>()).prop_map(|(node, carrier)| Fault::Carrier(node, carrier)),
        (0..16u8).prop_map(Fault::Partition),
        (node(), node()).prop_map(|(from, to)| Fault::OneWay(from, to)),
        (0..20u8).prop_map(Fault::Loss),
        any::<bool>().prop_map(Fault::Blackout),
        Just(Fault::Heal),
    ]
}

fn apply(world: &mut World, all: &[std::net::IpAddr], fault: &Fault) {
    match *fault {
        Fault::PowerOff(node) => world.power_off(node),
        Fault::Kill(node) => world.kill(node),
        Fault::Restart(node) => {
            world.restart(node);
            world.introduce(node, all, NODES);
        }
        Fault::Stall(node) if world.nodes[node].process == Process::Runs => world.stall(node),
        Fault::Resume(node) if world.nodes[node].process == Process::Stalled => world.resume(node),
        Fault::Stall(_) | Fault::Resume(_) => {}
        Fault::Leave(node, restarting) => {
            if world.nodes[node].process == Process::Runs {
                world.command(node, Command::Leave { restarting });
            }
        }
        Fault::Carrier(node, carrier) => {
            if world.nodes[node].process == Process::Runs {
                world.set_carrier(node, 0, carrier);
            }
        }
        Fault::Partition(parts) => {
            for node in 0..NODES {
                let mac = world.mac(node);
                world.lans[0].part.insert(mac, parts >> node & 1);
            }
        }
        Fault::OneWay(from, to) => {
            let pair = (world.mac(from), world.mac(to));
            world.lans[0].one_way.insert(pair);
        }
        Fault::Loss(percent) => world.lans[0].loss = f64::from(percent) / 100.0,
        Fault::Blackout(blackout) => world.lans[0].blackout = blackout,
        Fault::Heal => heal_lan(world),
    }
}

fn heal_lan(world: &mut World) {
    let lan = &mut world.lans[0];
    lan.part.clear();
    lan.one_way.clear();
    lan.loss = 0.0;
    lan.blackout = false;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 200, ..Default::default() })]

    #[test]
    fn after_any_faults_each_address_has_one_owner_and_soon_one_host_answers(
        seed in 0..1_000u64,
        faults in prop::collection::vec((fault(), 1..3_000u64), 1..10),
    ) {
        let all = addresses(6);
        let mut world = World::cluster(seed, NODES, &all);
        world.run(ms(3_000));
        for (fault, pause) in &faults {
            apply(&mut world, &all, fault);
            world.run(ms(*pause));
        }
        for node in 0..NODES {
            if world.nodes[node].process == Process::Stalled {
                world.resume(node);
            }
            if world.nodes[node].process == Process::Runs {
                world.set_carrier(node, 0, true);
            }
        }
        heal_lan(&mut world);
        let healed = world.now;
        let client = world.add_client(1, &all);
        world.run(ms(20_000));
        let lives = |node: &usize| {
            world.nodes[*node].process == Process::Runs
                && world.status(*node).state == ferrolb_layer2::status::NodeState::Ready
        };
        let alive: Vec<_> = (0..NODES).filter(lives).collect();
        for address in &all {
            let owners: Vec<_> = world
                .owners(*address)
                .into_iter()
                .filter(|owner| alive.contains(owner))
                .collect();
            if !alive.is_empty() {
                prop_assert_eq!(owners.len(), 1, "{} {:?}", address, world.counts());
            }
            for node in &alive {
                let status = &world.status(*node).addresses[address];
                prop_assert_eq!(&status.owner, &Some(world.nodes[owners[0]].name.clone()));
            }
            let answers = world.answers(client, *address, healed);
            prop_assert!(answers.several() <= ms(160), "{:?}", answers.several());
        }
    }

    #[test]
    fn placement_is_even_for_any_number_of_nodes_and_addresses(
        seed in 0..1_000u64,
        nodes in 1..12usize,
        count in 1..80u16,
    ) {
        let all = addresses(count);
        let mut world = World::cluster(seed, nodes, &all);
        world.run(ms(3_000));
        let counts = world.counts();
        prop_assert_eq!(counts.iter().sum::<usize>(), usize::from(count));
        let least = counts.iter().min().copied().unwrap_or_default();
        prop_assert!(counts.iter().all(|count| count - least <= 1), "{:?}", counts);
    }
}
