//! Example programs of the crates, which the lab runs on its hosts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::process::run;

/// The example `announce` of the crate `bgp`.
pub const BGP: &[&str] = &["-p", "ferrolb-bgp", "--example", "announce"];
/// The example `announce` of the crate `layer2`.
pub const LAYER2: &[&str] = &[
    "-p",
    "ferrolb-layer2",
    "--features",
    "driver",
    "--example",
    "announce",
];

/// Builds an example once and returns its path. `example` is the selection for `cargo build`.
///
/// # Errors
/// When cargo can't build it, or this process wasn't started by cargo.
pub fn program(example: &'static [&'static str]) -> Result<PathBuf> {
    static PROGRAMS: Mutex<BTreeMap<&[&str], PathBuf>> = Mutex::new(BTreeMap::new());
    // The lock serializes callers: only the first one builds.
    let mut built = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = built.get(example) {
        return Ok(program.clone());
    }
    let cargo = std::env::var("CARGO").context("CARGO is not set: run the tests with cargo")?;
    let messages = run(Command::new(cargo)
        .args(["build", "--quiet", "--message-format=json"])
        .args(example))?;
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .context("cargo reported no executable")?;
    built.insert(example, program.clone());
    Ok(program)
}
