//! The decisions of the leading allocator that look at all nodes: whether some node announces each
//! Service, and whether as many do as `minAnnouncers` requests.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ferrolb_interop_tests::kube::ControlPlane;
use ferrolb_interop_tests::manifest::NAMESPACE;
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::proc_stats::cpu_time;
use ferrolb_lab_bench::statistics::milliseconds;
use serde_json::json;

use crate::api::ApiClient;

/// A process is idle when it uses less than this CPU time in each window. On a busy machine it
/// may wait for a CPU meanwhile.
const IDLE: Duration = Duration::from_millis(15);
const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: u8 = 2;
const TIMEOUT: Duration = Duration::from_secs(300);

/// Nodes × Services beyond which, on a busy machine, one look at all of them takes longer than the
/// leader may go without a renewal of its Lease. It would lose the Lease and look again, without
/// end.
const PAIRS_MAX: usize = 1_000_000;

/// Waits until a process is idle. Returns the CPU time that it used.
pub(crate) fn cpu_until_idle(pid: u32) -> Result<Duration> {
    let start = cpu_time(pid)?;
    let deadline = Instant::now() + TIMEOUT;
    let (mut before, mut idle) = (start, 0);
    while Instant::now() < deadline {
        sleep(WINDOW);
        let now = cpu_time(pid)?;
        idle = if now.saturating_sub(before) < IDLE {
            idle + 1
        } else {
            0
        };
        if idle == WINDOWS {
            return Ok(now.saturating_sub(start));
        }
        before = now;
    }
    bail!("process {pid} is busy after {} s", TIMEOUT.as_secs())
}

/// A change of an object.
type Change<'a> = &'a (dyn Fn(&ApiClient) -> Result<()> + Sync);

/// Measures the CPU time of each decision.
pub(crate) fn measure(
    cp: &ControlPlane<'_>,
    pid: u32,
    nodes: usize,
    services: usize,
    change: impl Fn(Change<'_>) -> Result<()>,
) -> Result<()> {
    let advertisement = |patch: &str| {
        let name = "bgpadvertisements.ferrolb.io";
        let patch = ["-p", patch, "--type=merge", "-n", NAMESPACE];
        cp.kubectl(&[&["patch", name, "public"][..], &patch].concat())
            .map(drop)
    };
    let cordon = |cordoned: bool| change(&move |api: &ApiClient| api.cordon(1, cordoned));
    let print = |what: &str, spent: Duration| {
        measurement::print(
            "scale_leader",
            &[
                ("nodes", json!(nodes)),
                ("services", json!(services)),
                ("change", json!(what)),
                ("cpu_ms", json!(milliseconds(spent))),
            ],
        );
    };
    cordon(true)?;
    print("a Node; every Service is announced", cpu_until_idle(pid)?);
    cordon(false)?;
    cpu_until_idle(pid)?;

    if nodes * services > PAIRS_MAX {
        return Ok(());
    }
    advertisement(r#"{"spec":{"nodeSelectors":[{"matchLabels":{"no":"such"}}]}}"#)?;
    print(
        "the configuration; no Service is announced",
        cpu_until_idle(pid)?,
    );
    advertisement(r#"{"spec":{"nodeSelectors":null}}"#)?;
    cpu_until_idle(pid)?;

    advertisement(r#"{"spec":{"minAnnouncers":2}}"#)?;
    cpu_until_idle(pid)?;
    cordon(true)?;
    print("a Node; minAnnouncers is 2", cpu_until_idle(pid)?);
    cordon(false)?;
    advertisement(r#"{"spec":{"minAnnouncers":null}}"#)?;
    cpu_until_idle(pid).map(drop)
}
