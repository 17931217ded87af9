//! All fuzz targets as property tests on the stable toolchain: with their seeds, with mutated seeds
//! and with random octets. `fuzz/README.md` describes longer runs with libFuzzer.
#![allow(clippy::unwrap_used)] // a panic fails the test

mod bodies;
#[path = "../../../fuzz/property_tests.rs"]
mod property_tests;

use std::collections::BTreeMap;
use std::path::Path;

use bodies::seeds::{self, Seed};
use bodies::{TARGETS, Target};

/// The seeds of a target.
fn seeds_of(target: &Target, seeds: &[Seed]) -> Vec<Vec<u8>> {
    let mine = seeds.iter().filter(|seed| seed.target == target.name);
    mine.map(|seed| seed.octets.clone()).collect()
}

fn named(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).unwrap()
}

/// If the environment variable `FERROLB_SEEDS_TO` names a folder, writes the seeds to it, one
/// folder per target.
#[test]
fn every_target_has_seeds_and_accepts_them() {
    let seeds = [seeds::own(), seeds::public()].concat();
    let folder = std::env::var_os("FERROLB_SEEDS_TO");
    let mut counts = BTreeMap::new();
    for target in TARGETS {
        let mine = seeds_of(&target, &seeds);
        assert!(!mine.is_empty(), "{} has no seeds", target.name);
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

/// Each octet is set to values that break lengths and flags. The targets add valid headers.
#[test]
fn targets_accept_seeds_truncated_at_any_offset_and_with_any_octet_changed() {
    let seeds = seeds::own();
    for target in ["framing", "open", "update", "notification"].map(named) {
        for octets in seeds_of(&target, &seeds) {
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

fn search(name: &str, cases: u32) {
    let target = named(name);
    let seeds = seeds_of(&target, &seeds::own());
    property_tests::search(name, target.run, seeds, cases);
}

#[test]
fn framing_accepts_mutated_seeds_and_random_octets() {
    search("framing", 2000);
}

#[test]
fn open_accepts_mutated_seeds_and_random_octets() {
    search("open", 2000);
}

#[test]
fn update_accepts_mutated_seeds_and_random_octets() {
    search("update", 2000);
}

#[test]
fn notification_accepts_mutated_seeds_and_random_octets() {
    search("notification", 2000);
}

#[test]
fn route_refresh_accepts_mutated_seeds_and_random_octets() {
    search("route_refresh", 50);
}

#[test]
fn bfd_packet_accepts_mutated_seeds_and_random_octets() {
    search("bfd_packet", 2000);
}

#[test]
fn fsm_events_accepts_mutated_seeds_and_random_octets() {
    search("fsm_events", 300);
}

#[test]
fn two_speakers_accepts_mutated_seeds_and_random_octets() {
    search("two_speakers", 60);
}
