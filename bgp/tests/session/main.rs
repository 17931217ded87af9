//! Tests of sessions: the state machine under a virtual clock, one module per subject.
//!
//! The documentation of [`harness`] says how to write one.
#![allow(clippy::unwrap_used)] // a panic fails the test

#[path = "../harness/mod.rs"]
mod harness;

mod admission;
mod bfd;
mod capability_fallback;
mod collision;
mod dynamic_neighbors;
mod errors;
mod graceful_restart;
mod journal;
mod other_paths;
mod passwords;
mod poll_contract;
mod received_routes;
mod reconfiguration;
mod replacement;
mod retry;
mod routes;
mod shutdown;
mod timers;
mod unnumbered;
