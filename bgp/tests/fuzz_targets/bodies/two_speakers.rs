//! Target of two speakers in an unreliable network.

use std::collections::BTreeMap;
use std::time::Duration;

use ferrolb_bgp::fsm::{Event, Input};
use ipnet::IpNet;

use super::harness::{World, hold_time, net, pair, peer, route, routes, seconds};
use super::octets::Octets;

/// The maximum number of steps: more only take longer.
const STEPS: usize = 200;
/// The number of prefixes that are always announced. Only their attributes change.
const PERMANENT: u8 = 8;

/// The routes that host 0 announces: prefixes with their MED.
type Routes = BTreeMap<IpNet, u32>;

/// Packets are lost, delayed and split, connections collide and are not read, processes restart,
/// and routes change. Afterwards the receiver has exactly the announced routes, and no permanent
/// route was ever withdrawn.
pub fn two_speakers(data: &[u8]) {
    let mut octets = Octets(data);
    let choice = octets.octet();
    let mut world = pair(|config| {
        hold_time(9)(config);
        // If both dial, connections collide.
        config.transport.passive &= choice & 1 == 0;
    });
    world.hosts[0].listens = choice & 2 != 0;
    let mut desired = Routes::new();
    for low in 0..PERMANENT {
        change(&mut world, &mut desired, low, Some(0));
    }
    world.input(0, Input::OpenGate);
    for step in 0..STEPS {
        if octets.is_empty() {
            break;
        }
        let both = [choice & 1, choice & 2].map(|bit| bit != 0);
        act(&mut world, &mut desired, &mut octets, both, step);
    }
    world.cut = false;
    world.latency = Duration::from_millis(1);
    world.resume(0);
    world.resume(1);
    let synced = |world: &World| world.established() && received(world) == desired;
    world.run_until(seconds(900), "all routes received", synced);
    world.run(seconds(30));
    assert_eq!(received(&world), desired);
}

fn act(
    world: &mut World,
    desired: &mut Routes,
    octets: &mut Octets<'_>,
    both: [bool; 2],
    step: usize,
) {
    let choice = octets.octet();
    let argument = choice >> 4;
    let med = u32::try_from(step).unwrap();
    match choice & 0x0f {
        0..=2 => change(world, desired, octets.octet(), Some(med)),
        3 => change(world, desired, octets.octet(), None),
        4 => world.run(Duration::from_millis(u64::from(argument) * 10)),
        5 => world.run(seconds(argument.into())),
        6 => world.latency = Duration::from_millis(1 << (argument % 12)),
        7 => world.segment = [usize::MAX, 1, 7, 18, 19, 100, 1000, 4096][usize::from(argument % 8)],
        8 => world.reset_connections(),
        9 => world.silent_connection(usize::from(argument % 2), 1 - usize::from(argument % 2)),
        10 => {
            // Longer than the hold time. TCP would retransmit after a shorter outage.
            world.cut = true;
            world.run(seconds(10 + u64::from(argument)));
            world.reset_connections();
            world.cut = false;
        }
        11 => world.hosts[usize::from(argument % 2)].stalled = true,
        12 => world.resume(usize::from(argument % 2)),
        13 => {
            let host = usize::from(argument % 2);
            world.restart(host);
            let (name, address) = [("b", "10.0.0.2"), ("a", "10.0.0.1")][host];
            let asns = [(65001, 65002), (65002, 65001)][host];
            let mut config = peer(name, address, asns.0, asns.1);
            hold_time(9)(&mut config);
            config.transport.passive = host == 1 && !both[0];
            config.receive = host == 1;
            world.input(host, Input::SetPeer(config));
            if host == 0 {
                let all = desired.iter().map(|(prefix, med)| (*prefix, route(*med)));
                world.input(0, routes("b", all.collect()));
                world.input(0, Input::OpenGate);
            }
        }
        14 => world.input(usize::from(argument % 2), Input::Timeout),
        _ => {
            let subtype = 0;
            let family = ferrolb_bgp::wire::Family::IPV4_UNICAST;
            let octets = ferrolb_bgp::wire::RouteRefresh { family, subtype }.encode();
            world.inject(1, octets);
        }
    }
}

/// Announces or withdraws one of 64 prefixes. The permanent ones are never withdrawn.
fn change(world: &mut World, desired: &mut Routes, low: u8, med: Option<u32>) {
    let low = low % 64;
    let med = if low < PERMANENT {
        med.or(Some(0))
    } else {
        med
    };
    let prefix = net(&format!("192.0.2.{low}/32"));
    match med {
        Some(med) => desired.insert(prefix, med),
        None => desired.remove(&prefix),
    };
    let route = med.and_then(route);
    world.input(0, routes("b", vec![(prefix, route)]));
}

/// The routes that host 1 received in its current session.
fn received(world: &World) -> Routes {
    let permanent: Vec<IpNet> = (0..PERMANENT)
        .map(|low| net(&format!("192.0.2.{low}/32")))
        .collect();
    let mut table = Routes::new();
    for (_, event) in &world.hosts[1].events {
        match event {
            Event::Established { .. } | Event::Down { .. } => table.clear(),
            Event::Received { update, .. } => {
                assert!(update.errors.is_empty(), "{update:?}");
                for prefix in update.withdrawn_prefixes() {
                    assert!(!permanent.contains(&prefix), "{prefix} was withdrawn");
                    table.remove(&prefix);
                }
                let med = update.attributes.med.unwrap_or_default();
                table.extend(update.announced().map(|prefix| (prefix, med)));
            }
            _ => {}
        }
    }
    table
}
