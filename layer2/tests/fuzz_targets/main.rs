//! All fuzz targets as property tests on the stable toolchain: with their seeds, with mutated seeds
//! and with random octets. `fuzz/README.md` describes longer runs with libFuzzer.
#![allow(clippy::unwrap_used)] // a panic fails the test

mod bodies;
#[path = "../../../fuzz/property_tests.rs"]
mod property_tests;

use std::path::Path;

use bodies::TARGETS;

/// If the environment variable `FERROLB_SEEDS_TO` names a folder, writes the seeds to it, one
/// folder per target.
#[test]
fn every_target_has_seeds_and_accepts_them() {
    let folder = std::env::var_os("FERROLB_SEEDS_TO");
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for octets in &seeds {
            (target.run)(octets);
        }
        if let Some(folder) = &folder {
            let folder = Path::new(folder).join(target.name);
            std::fs::create_dir_all(&folder).unwrap();
            for (number, octets) in seeds.iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{number:03}")), octets).unwrap();
            }
        }
    }
}

#[test]
fn targets_accept_seeds_truncated_at_any_offset_and_with_any_octet_changed() {
    for target in TARGETS {
        for octets in (target.seeds)() {
            for at in 0..octets.len() {
                (target.run)(&octets[..at]);
                let mut changed = octets.clone();
                for value in [0, 1, 255, octets[at] ^ 0x80, octets[at].wrapping_add(1)] {
                    changed[at] = value;
                    (target.run)(&changed);
                }
            }
        }
    }
}

#[test]
fn targets_accept_mutated_seeds_and_random_octets() {
    for target in TARGETS {
        property_tests::search(target.name, target.run, (target.seeds)(), target.cases);
    }
}
