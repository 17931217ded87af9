//! Two speakers and a network that does its worst.

use std::collections::BTreeMap;
use std::time::Duration;

use ferrolb_bgp::fsm::{Event, Input};
use ipnet::IpNet;

use super::harness::world::{self as pair, World, net, route, routes, seconds};
use super::octets::Octets;

/// More than that is only slow.
const STEPS: usize = 200;
/// Prefixes that are announced all the time; only their attributes change.
const KEPT: u8 = 8;

/// What host 0 is to tell: prefixes with their MED.
type Desired = BTreeMap<IpNet, u32>;

/// Connections are cut, delayed, split, doubled and left unread, processes die and come back, and
/// routes change all the while. Once that ends, the receiver holds what is desired, and it was never
/// told to drop what stayed desired.
pub fn two_speakers(data: &[u8]) {
    let mut octets = Octets(data);
    let choice = octets.octet();
    let mut world = pair::pair(|config| {
        pair::hold(9)(config);
        // Both dial: connections collide.
        config.transport.passive &= choice & 1 == 0;
    });
    world.hosts[0].listens = choice & 2 != 0;
    let mut desired = Desired::new();
    for low in 0..KEPT {
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
    world.hear(0);
    world.hear(1);
    let synced = |world: &World| world.established() && held(world) == desired;
    world.until(seconds(900), "everything is told", synced);
    world.run(seconds(30));
    assert_eq!(held(&world), desired);
}

fn act(
    world: &mut World,
    desired: &mut Desired,
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
        7 => world.portion = [usize::MAX, 1, 7, 18, 19, 100, 1000, 4096][usize::from(argument % 8)],
        8 => world.reset_connections(),
        9 => world.silent_connection(usize::from(argument % 2), 1 - usize::from(argument % 2)),
        10 => {
            // Longer than the hold time: TCP loses nothing that anybody still waits for.
            world.cut = true;
            world.run(seconds(10 + u64::from(argument)));
            world.reset_connections();
            world.cut = false;
        }
        11 => world.hosts[usize::from(argument % 2)].deaf = true,
        12 => world.hear(usize::from(argument % 2)),
        13 => {
            let host = usize::from(argument % 2);
            world.restart(host);
            let (name, address) = [("b", "10.0.0.2"), ("a", "10.0.0.1")][host];
            let asns = [(65001, 65002), (65002, 65001)][host];
            let mut config = pair::peer(name, address, asns.0, asns.1);
            pair::hold(9)(&mut config);
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

/// Announces or withdraws one of 64 prefixes; the kept ones are never withdrawn.
fn change(world: &mut World, desired: &mut Desired, low: u8, med: Option<u32>) {
    let low = low % 64;
    let med = if low < KEPT { med.or(Some(0)) } else { med };
    let prefix = net(&format!("192.0.2.{low}/32"));
    match med {
        Some(med) => desired.insert(prefix, med),
        None => desired.remove(&prefix),
    };
    let route = med.and_then(route);
    world.input(0, routes("b", vec![(prefix, route)]));
}

/// What host 1 holds: routes go with their session.
fn held(world: &World) -> Desired {
    let kept: Vec<IpNet> = (0..KEPT)
        .map(|low| net(&format!("192.0.2.{low}/32")))
        .collect();
    let mut table = Desired::new();
    for (_, event) in &world.hosts[1].events {
        match event {
            Event::Established { .. } | Event::Down { .. } => table.clear(),
            Event::Received { update, .. } => {
                assert!(update.errors.is_empty(), "{update:?}");
                for prefix in update.withdrawn_prefixes() {
                    assert!(!kept.contains(&prefix), "{prefix} was withdrawn");
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
