//! Changes of one EndpointSlice, one after another, each followed to the routers.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::json;

use super::api::{ApiClient, Shown};
use super::milliseconds;
use super::process::cpu_time;
use super::routers::Routers;
use super::row;

/// Half of them withdraw, half announce.
const CHANGES: usize = 400;
/// Longer than the time for which the announcer gathers changes, so that each is a first one.
const PAUSE: Duration = Duration::from_millis(25);
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a change took, in milliseconds from when its request was sent.
#[derive(Debug)]
struct Change {
    announces: bool,
    answered: f64,
    shown: f64,
    first_update: f64,
    last_update: f64,
}

/// All changes, and what they cost the announcer.
#[derive(Debug)]
pub(crate) struct Series {
    changes: Vec<Change>,
    /// CPU time of the announcer per change, without what it takes when nothing happens.
    cpu: Duration,
    /// CPU time per second when nothing happens.
    idle: f64,
}

/// What a series is measured with.
pub(crate) struct Measurement<'a> {
    /// Writes the changes.
    pub(crate) api: &'a ApiClient,
    /// A plain watch of the slice that changes.
    pub(crate) shown: &'a Shown,
    /// Where UPDATEs arrive.
    pub(crate) routers: &'a mut Routers,
    /// Where the endpoint is.
    pub(crate) node: &'a str,
    /// What is announced and withdrawn.
    pub(crate) prefix: IpNet,
    /// The announcer.
    pub(crate) pid: u32,
    /// Its CPU time per second when nothing happens.
    pub(crate) idle: f64,
}

impl Measurement<'_> {
    /// Makes the endpoint of the first Service unready and ready again, many times.
    pub(crate) fn run(&mut self) -> Result<Series> {
        // The first makes connections, and shows that the watch works.
        for announces in [false, true] {
            self.change(announces)?;
        }
        let (began, cpu_before) = (Instant::now(), cpu_time(self.pid)?);
        let mut changes = Vec::new();
        for index in 0..CHANGES {
            // Not in step with anybody's timer.
            sleep(PAUSE + Duration::from_millis(index as u64 * 7 % 20));
            changes.push(self.change(index % 2 == 1)?);
        }
        let spent = cpu_time(self.pid)?.saturating_sub(cpu_before);
        let idle = began.elapsed().mul_f64(self.idle);
        Ok(Series {
            changes,
            cpu: spent.saturating_sub(idle) / u32::try_from(CHANGES)?,
            idle: self.idle,
        })
    }

    fn change(&mut self, announces: bool) -> Result<Change> {
        let sent = Instant::now();
        let version = self.api.set_ready(self.node, 0, announces)?;
        let answered = Instant::now();
        let (first_update, last_update) =
            self.routers.await_change(self.prefix, announces, TIMEOUT)?;
        let shown = await_version(self.shown, &version)?;
        let since = |at: Instant| milliseconds(at.duration_since(sent));
        Ok(Change {
            announces,
            answered: since(answered),
            shown: since(shown),
            first_update: since(first_update),
            last_update: since(last_update),
        })
    }
}

fn await_version(shown: &Shown, version: &str) -> Result<Instant> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = shown.recv_timeout(left);
        let (seen, at) = event.with_context(|| format!("the watch did not show {version}"))??;
        if seen == version {
            return Ok(at);
        }
    }
}

impl Series {
    /// One row per kind of change and thing waited for.
    pub(crate) fn print(&self, services: usize, peers: u8) {
        for (kind, announces) in [("announce", true), ("withdraw", false)] {
            let changes = || {
                self.changes
                    .iter()
                    .filter(|change| change.announces == announces)
            };
            let row = |until: &str, times: Vec<f64>| print(services, peers, kind, until, times);
            row(
                "answer to the write",
                changes().map(|c| c.answered).collect(),
            );
            row(
                "event at a plain watch",
                changes().map(|c| c.shown).collect(),
            );
            row(
                "UPDATE at the first peer",
                changes().map(|c| c.first_update).collect(),
            );
            row(
                "UPDATE at the last peer",
                changes().map(|c| c.last_update).collect(),
            );
            let ours = changes().map(|c| c.last_update - c.shown);
            row(
                "UPDATE at the last peer, after the event at the plain watch",
                ours.collect(),
            );
        }
        row::print(
            "endpoint_slice_cpu",
            &[
                ("services", json!(services)),
                ("peers", json!(peers)),
                ("changes", json!(self.changes.len())),
                ("cpu_ms_per_change", json!(milliseconds(self.cpu))),
                (
                    "cpu_ms_per_idle_second",
                    json!(milliseconds(Duration::from_secs_f64(self.idle))),
                ),
            ],
        );
    }
}

fn print(services: usize, peers: u8, change: &str, until: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    row::print(
        "endpoint_slice_to_update",
        &[
            ("services", json!(services)),
            ("peers", json!(peers)),
            ("change", json!(change)),
            ("until", json!(until)),
            ("changes", json!(times.len())),
            ("p50_ms", json!(percentile(&times, 50))),
            ("p90_ms", json!(percentile(&times, 90))),
            ("p99_ms", json!(percentile(&times, 99))),
            ("max_ms", json!(percentile(&times, 100))),
        ],
    );
}

/// Of sorted times, by nearest rank: a time that was measured, none in between.
pub(crate) fn percentile(times: &[f64], percent: usize) -> Option<f64> {
    let rank = (times.len() * percent).div_ceil(100);
    let time = times.get(rank.saturating_sub(1))?;
    Some((time * 1e3).round() / 1e3)
}
