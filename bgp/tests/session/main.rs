//! Sessions of the state machine under a virtual clock.
#![allow(clippy::unwrap_used)] // a panic fails the test

#[path = "../harness/mod.rs"]
mod harness;

mod bfd;
mod capability_fallback;
mod collision;
mod dynamic_neighbors;
mod errors;
mod graceful_restart;
mod journal;
mod other_paths;
mod poll_contract;
mod replacement;
mod routes;
mod shutdown;
mod timers;
