//! The bodies of the fuzz targets: functions that take any octets and panic if a property is
//! violated. `fuzz/` runs them under libFuzzer, the test `fuzz_targets` on the stable toolchain.
#![allow(dead_code, unreachable_pub)] // two crates use a part each
#![allow(clippy::unwrap_used)] // a panic fails the target

pub mod codec;
pub mod machine;
#[path = "../../../../bgp/tests/fuzz_targets/bodies/octets.rs"]
pub mod octets;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name in `fuzz/Cargo.toml`, and the folder of its seeds.
    pub name: &'static str,
    /// The body.
    pub run: fn(&[u8]),
    /// Valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many inputs a property test tries.
    pub cases: u32,
}

/// All targets, the fastest first.
pub const TARGETS: [Target; 4] = [
    target("arp", codec::arp, codec::arp_seeds, 1000),
    target("ndp", codec::ndp, codec::ndp_seeds, 1000),
    target("hello", codec::hello, codec::hello_seeds, 1000),
    target(
        "layer2_machine",
        machine::layer2_machine,
        machine::seeds,
        100,
    ),
];

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    cases: u32,
) -> Target {
    Target {
        name,
        run,
        seeds,
        cases,
    }
}
