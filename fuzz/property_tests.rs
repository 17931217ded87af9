//! Fuzz targets as property tests: seeds with random changes, and random octets. The tests
//! `fuzz_targets` of ferrolb-bgp and ferrolb-layer2 include this file.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// Random octets, and concatenated seeds with random changes.
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

/// Runs the body of a target with this many inputs.
pub(crate) fn search(name: &str, run: fn(&[u8]), seeds: Vec<Vec<u8>>, cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let run = |octets: Vec<u8>| {
        run(&octets);
        Ok(())
    };
    if let Err(failure) = TestRunner::new(config).run(&input(seeds), run) {
        panic!("{name}: {failure}");
    }
}
