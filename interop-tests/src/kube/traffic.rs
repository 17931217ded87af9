//! The client side of `lab-traffic`: requests from a namespace while things happen, and what became
//! of them.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::netns::Namespace;

/// Requests under way. Dropping it ends them without a report.
#[derive(Debug)]
pub struct Load {
    child: Child,
}

/// What `lab-traffic load` measured. Times are milliseconds.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// New connections answered, by the Pod that answered.
    pub answered: BTreeMap<String, u64>,
    /// Addresses that the Pods saw as their client's.
    pub seen_as: BTreeMap<IpAddr, u64>,
    /// New connections without an answer within a second.
    pub failed: u64,
    /// The first 20 failures: time since the start, and why.
    pub failures: Vec<(u64, String)>,
    /// From the first to the last attempt that failed.
    pub failing_ms: u64,
    /// Longest time without any answer.
    pub longest_gap_ms: u64,
    /// Long-lived connections opened.
    pub long_lived: u64,
    /// Long-lived connections that ended or stopped echoing.
    pub broken: u64,
    /// How long it ran.
    pub ran_ms: u64,
}

impl Report {
    /// New connections answered by anybody.
    #[must_use]
    pub fn total_answered(&self) -> u64 {
        self.answered.values().sum()
    }
}

impl Load {
    /// Starts asking `target` from `client`: so many new connections a second, and so many held
    /// open that echo every 100 ms.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn start(
        client: &Namespace,
        target: SocketAddr,
        new_per_second: u32,
        long_lived: u32,
    ) -> Result<Self> {
        let child = client
            .command(traffic_program()?)
            .args(["load", &target.to_string()])
            .args([new_per_second.to_string(), long_lived.to_string()])
            // It runs until this pipe is closed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start lab-traffic")?;
        Ok(Self { child })
    }

    /// Ends the requests and gives what became of them.
    ///
    /// # Errors
    /// When the program failed or its report can't be read.
    pub fn stop(mut self) -> Result<Report> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        let stdout = self.child.stdout.as_mut().context("stdout is piped")?;
        stdout.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "lab-traffic: {status}");
        serde_json::from_str(&text).with_context(|| format!("lab-traffic printed: {text}"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // After `stop` it has ended, and both give errors that mean nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Path of the `lab-traffic` program, which Cargo builds beside the tests of this package.
///
/// # Errors
/// When it isn't there.
pub fn traffic_program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    // A test is target/PROFILE/deps/NAME-HASH, a program target/PROFILE/NAME.
    test.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("lab-traffic"))
        .find(|program| program.is_file())
        .with_context(|| {
            let build = "cargo build -p ferrolb-interop-tests --bin lab-traffic";
            format!(
                "no lab-traffic beside {}; build it with `{build}`",
                test.display()
            )
        })
}
