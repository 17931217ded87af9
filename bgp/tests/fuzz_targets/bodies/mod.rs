//! The body of every fuzz target: one function each that takes any octets and panics if something
//! is wrong. `fuzz/` runs them under libFuzzer, `fuzz_targets` on stable over seeds and random octets.
#![allow(dead_code, unreachable_pub)] // each of the two uses its part
#![allow(clippy::unwrap_used)] // what fails here fails the target

#[path = "../../harness/mod.rs"]
mod harness;

pub mod codec;
pub mod machines;
pub mod octets;
pub mod seeds;
pub mod two_speakers;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name in `fuzz/Cargo.toml`, and the folder of its seeds.
    pub name: &'static str,
    /// What it does with the octets.
    pub run: fn(&[u8]),
}

/// All of them, from the cheapest to the dearest.
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
