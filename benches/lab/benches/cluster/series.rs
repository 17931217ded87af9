//! Measures the time from a change of an EndpointSlice to the UPDATEs, one change at a time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::proc_stats::cpu_time;
use ferrolb_lab_bench::statistics::{median, milliseconds, percentile};
use ipnet::IpNet;
use serde_json::json;

use super::api_client::{ApiClient, WatchedVersions};
use super::routers::Routers;

/// Half of the changes withdraw, half announce.
const CHANGES: usize = 400;
/// Longer than the announcer's batch window, so that each change starts a new batch.
const PAUSE: Duration = Duration::from_millis(25);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Times of one change, in milliseconds since its request was sent.
#[derive(Debug)]
struct Change {
    announces: bool,
    response: f64,
    watch_event: f64,
    first_update: f64,
    last_update: f64,
}

/// All changes and their cost for the announcer.
#[derive(Debug)]
pub(crate) struct Series {
    changes: Vec<Change>,
    /// CPU time of the announcer per change, without its idle load.
    cpu: Duration,
    /// CPU time per second while idle.
    idle: f64,
}

/// Inputs of a series.
pub(crate) struct Measurement<'a> {
    /// Writes the changes.
    pub(crate) api: &'a ApiClient,
    /// A plain watch of the slice that changes.
    pub(crate) watched: &'a WatchedVersions,
    /// The routers that receive the UPDATEs.
    pub(crate) routers: &'a mut Routers,
    /// The node of the endpoint.
    pub(crate) node: &'a str,
    /// The prefix that is announced and withdrawn.
    pub(crate) prefix: IpNet,
    /// Process id of the announcer.
    pub(crate) pid: u32,
    /// CPU time of the announcer per second while idle.
    pub(crate) idle: f64,
}

impl Measurement<'_> {
    /// Sets the endpoint of the first Service unready and ready again, many times.
    pub(crate) fn run(&mut self) -> Result<Series> {
        // The first changes open connections and check that the watch works.
        for announces in [false, true] {
            self.change(announces)?;
        }
        let (began, cpu_before) = (Instant::now(), cpu_time(self.pid)?);
        let mut changes = Vec::new();
        for index in 0..CHANGES {
            // Varied, so as not to be in phase with any timer.
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
        let response = Instant::now();
        let (first_update, last_update) =
            self.routers.await_change(self.prefix, announces, TIMEOUT)?;
        let watch_event = await_version(self.watched, &version)?;
        let since = |at: Instant| milliseconds(at.duration_since(sent));
        Ok(Change {
            announces,
            response: since(response),
            watch_event: since(watch_event),
            first_update: since(first_update),
            last_update: since(last_update),
        })
    }
}

fn await_version(watched: &WatchedVersions, version: &str) -> Result<Instant> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = watched.recv_timeout(left);
        let (seen, at) =
            event.with_context(|| format!("the watch did not report version {version}"))??;
        if seen == version {
            return Ok(at);
        }
    }
}

/// Medians of a series, in milliseconds.
pub(crate) struct Summary {
    /// From the request to the UPDATE at the last router.
    pub(crate) last_update: f64,
    /// From the event at the plain watch to the UPDATE at the last router.
    pub(crate) after_event: f64,
    /// CPU time of the announcer per change (the mean).
    pub(crate) cpu: f64,
}

impl Series {
    pub(crate) fn summary(&self) -> Summary {
        let changes = self.changes.iter();
        Summary {
            last_update: median(changes.clone().map(|change| change.last_update)),
            after_event: median(changes.map(|change| change.last_update - change.watch_event)),
            cpu: milliseconds(self.cpu),
        }
    }

    /// Prints one row per kind of change and milestone.
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
                changes().map(|c| c.response).collect(),
            );
            row(
                "event at a plain watch",
                changes().map(|c| c.watch_event).collect(),
            );
            row(
                "UPDATE at the first peer",
                changes().map(|c| c.first_update).collect(),
            );
            row(
                "UPDATE at the last peer",
                changes().map(|c| c.last_update).collect(),
            );
            let ours = changes().map(|c| c.last_update - c.watch_event);
            row(
                "UPDATE at the last peer, after the event at the plain watch",
                ours.collect(),
            );
        }
        measurement::print(
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
    measurement::print(
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
