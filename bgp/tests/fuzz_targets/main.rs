//! Every fuzz target as a property test on stable: over its seeds, over seeds with something
//! changed, over random octets. `fuzz/README.md` says how to let libFuzzer search for longer.
#![allow(clippy::unwrap_used)] // what fails here fails the test

mod bodies;

use std::collections::BTreeMap;
use std::path::Path;

use bodies::seeds::{self, Seed};
use bodies::{TARGETS, Target};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

fn of(target: &Target, seeds: &[Seed]) -> Vec<Vec<u8>> {
    let mine = seeds.iter().filter(|seed| seed.target == target.name);
    mine.map(|seed| seed.octets.clone()).collect()
}

fn named(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).unwrap()
}

/// With `FERROLB_SEEDS_TO` in the environment they are written there too, a folder per target.
#[test]
fn every_target_has_seeds_and_survives_them() {
    let seeds = [seeds::own(), seeds::public()].concat();
    let folder = std::env::var_os("FERROLB_SEEDS_TO");
    let mut counts = BTreeMap::new();
    for target in TARGETS {
        let mine = of(&target, &seeds);
        assert!(!mine.is_empty(), "{} has none", target.name);
        for octets in &mine {
            (target.run)(octets);
        }
        if let Some(folder) = &folder {
            let folder = Path::new(folder).join(target.name);
            std::fs::create_dir_all(&folder).unwrap();
            for (number, octets) in mine.iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{number:03}")), octets).unwrap();
            }
        }
        counts.insert(target.name, mine.len());
    }
    println!("{counts:?}");
}

/// Each seed cut at every offset, and each of its octets set to what breaks lengths and flags.
/// Headers stay right: the targets put them in front themselves.
#[test]
fn seeds_cut_anywhere_and_with_any_octet_broken_are_survived() {
    let seeds = seeds::own();
    for target in ["framing", "open", "update", "notification"].map(named) {
        for octets in of(&target, &seeds) {
            if octets.len() > 300 {
                continue;
            }
            for at in 0..octets.len() {
                (target.run)(&octets[..at]);
                let value = octets[at];
                let flipped = (0..8).map(|bit| value ^ (1 << bit));
                let near = [0, 1, 255, value.wrapping_sub(1), value.wrapping_add(1)];
                let mut broken = octets.clone();
                for other in flipped.chain(near) {
                    broken[at] = other;
                    (target.run)(&broken);
                }
            }
        }
    }
}

/// Random octets, and seeds put together and broken at random.
fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(prop::sample::select(seeds), 1..4);
    let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..6);
    let spliced = (pieces, changes, any::<Index>()).prop_map(|(pieces, changes, cut)| {
        let mut octets = pieces.concat();
        for (at, value) in changes {
            if !octets.is_empty() {
                let at = at.index(octets.len());
                octets[at] = value;
            }
        }
        let length = cut.index(2 * octets.len() + 1);
        octets.truncate(length);
        octets
    });
    prop_oneof![
        3 => spliced,
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

fn search(name: &str, cases: u32) {
    let target = named(name);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let run = |octets: Vec<u8>| {
        (target.run)(&octets);
        Ok(())
    };
    let outcome = TestRunner::new(config).run(&input(of(&target, &seeds::own())), run);
    if let Err(failure) = outcome {
        panic!("{name}: {failure}");
    }
}

#[test]
fn framing_survives_anything() {
    search("framing", 2000);
}

#[test]
fn open_survives_anything() {
    search("open", 2000);
}

#[test]
fn update_survives_anything() {
    search("update", 2000);
}

#[test]
fn notification_survives_anything() {
    search("notification", 2000);
}

#[test]
fn route_refresh_survives_anything() {
    search("route_refresh", 50);
}

#[test]
fn bfd_packet_survives_anything() {
    search("bfd_packet", 2000);
}

#[test]
fn fsm_events_survives_anything() {
    search("fsm_events", 300);
}

#[test]
fn two_speakers_survives_anything() {
    search("two_speakers", 60);
}
