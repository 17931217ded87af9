//! Client load on a Service with `lab-traffic`, and its report.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::netns::Namespace;

/// The most new connections that are open at one moment at the rates of the tests: one begins
/// every 20 ms and takes a few milliseconds, more on a busy machine.
const MAX_OPEN_REQUESTS: u64 = 2;

/// A running client. Dropping it kills the client without a report.
#[derive(Debug)]
pub struct Load {
    child: Child,
}

/// Output of `lab-traffic load`. Times are in milliseconds.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// Answered new connections by Pod.
    pub answered: BTreeMap<String, u64>,
    /// Client addresses that the Pods saw.
    pub seen_as: BTreeMap<IpAddr, u64>,
    /// New connections without an answer within a second.
    pub failed: u64,
    /// Those of them that opened, and then closed or had no answer.
    pub cut: u64,
    /// The first 20 failures: time since the start, and the error.
    pub failures: Vec<(u64, String)>,
    /// From the first to the last failed attempt.
    pub failing_ms: u64,
    /// Longest time without an answer.
    pub longest_gap_ms: u64,
    /// Long-lived connections opened.
    pub long_lived: u64,
    /// Long-lived connections that closed or stopped echoing.
    pub broken: u64,
    /// Duration of the run.
    pub ran_ms: u64,
}

impl Report {
    /// Answered new connections, summed over all Pods.
    #[must_use]
    pub fn total_answered(&self) -> u64 {
        self.answered.values().sum()
    }

    /// Whether an address that moved on purpose lost no new connection, but for those that were
    /// open at that moment. They end with their node, as all other connections through it do.
    #[must_use]
    pub const fn handed_over(&self) -> bool {
        self.failed == self.cut && self.cut <= MAX_OPEN_REQUESTS
    }
}

impl Load {
    /// Starts a client with `new_per_second` new connections a second and `long_lived` open
    /// connections that echo every 100 ms.
    ///
    /// # Errors
    /// When the client can't be started.
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
            // The client runs until this pipe is closed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start lab-traffic")?;
        Ok(Self { child })
    }

    /// Stops the client and returns its report.
    ///
    /// # Errors
    /// When the client failed or printed no report.
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
        // Both fail after `stop`, when the client has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Path of the program `lab-traffic`, which Cargo builds with the tests of this package.
///
/// # Errors
/// When it wasn't built.
pub fn traffic_program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    // Tests are in target/PROFILE/deps, programs in target/PROFILE.
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
