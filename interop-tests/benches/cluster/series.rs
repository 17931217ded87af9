//! Changes of one EndpointSlice, one after another, each followed to the routers.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::json;

use super::api::{ApiClient, Shown};
use super::milliseconds;
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

/// All changes.
#[derive(Debug)]
pub(crate) struct Series(Vec<Change>);

/// Makes the endpoint of the first Service unready and ready again, many times.
pub(crate) fn measure(
    api: &ApiClient,
    shown: &Shown,
    routers: &mut Routers,
    node: &str,
    prefix: IpNet,
) -> Result<Series> {
    // The first makes connections, and shows that the watch works.
    for announces in [false, true] {
        change(api, shown, routers, node, prefix, announces)?;
    }
    let changes = (0..CHANGES).map(|index| {
        // Not in step with anybody's timer.
        sleep(PAUSE + Duration::from_millis(index as u64 * 7 % 20));
        change(api, shown, routers, node, prefix, index % 2 == 1)
    });
    changes.collect::<Result<_>>().map(Series)
}

fn change(
    api: &ApiClient,
    shown: &Shown,
    routers: &mut Routers,
    node: &str,
    prefix: IpNet,
    announces: bool,
) -> Result<Change> {
    let sent = Instant::now();
    let version = api.set_ready(node, 0, announces)?;
    let answered = Instant::now();
    let (first_update, last_update) = routers.await_change(prefix, announces, TIMEOUT)?;
    let shown = await_version(shown, &version)?;
    let since = |at: Instant| milliseconds(at.duration_since(sent));
    Ok(Change {
        announces,
        answered: since(answered),
        shown: since(shown),
        first_update: since(first_update),
        last_update: since(last_update),
    })
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
            let changes = || self.0.iter().filter(|change| change.announces == announces);
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
    }
}

fn print(services: usize, peers: u8, change: &str, until: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let rounded = |time: f64| (time * 1e3).round() / 1e3;
    // Nearest rank: a time that was measured, none in between.
    let percentile = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100);
        times.get(rank.saturating_sub(1)).copied().map(rounded)
    };
    row::print(
        "endpoint_slice_to_update",
        &[
            ("services", json!(services)),
            ("peers", json!(peers)),
            ("change", json!(change)),
            ("until", json!(until)),
            ("changes", json!(times.len())),
            ("p50_ms", json!(percentile(50))),
            ("p90_ms", json!(percentile(90))),
            ("p99_ms", json!(percentile(99))),
            ("max_ms", json!(percentile(100))),
        ],
    );
}
