//! The bodies of the fuzz targets: functions that take any octets and panic if a property is
//! violated. `fuzz/` runs them under libFuzzer, the test `fuzz_targets` on the stable toolchain.
#![allow(dead_code, unused_imports, unreachable_pub)] // two crates use a part each
#![allow(clippy::unwrap_used)] // a panic fails the target

#[path = "../../harness/mod.rs"]
mod harness;

pub mod codec;
pub mod machines;
pub mod octets;
pub mod seeds;
pub mod two_speakers;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name in `fuzz/Cargo.toml`, and the folder of its seeds.
    pub name: &'static str,
    /// The body.
    pub run: fn(&[u8]),
}

/// All targets, the fastest first.
pub const TARGETS: [Target; 8] = [
    target("framing", codec::framing),
    target("open", codec::open),
    target("update", codec::update),
    target("notification", codec::notification),
    target("route_refresh", machines::route_refresh),
    target("bfd_packet", machines::bfd_packet),
    target("fsm_events", machines::fsm_events),
    target("two_speakers", two_speakers::two_speakers),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}
