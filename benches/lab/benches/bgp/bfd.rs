//! Measures BFD under load: false downs and detection times while the daemon keeps sending its
//! table and all cores are busy.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{available_parallelism, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::statistics::{median, milliseconds};
use serde_json::json;

use super::daemons::Kind;
use super::load::{BfdLoad, Load};
use super::responder::{INTERVAL_MS, Report, Responder, TIMERS};
use super::trial::{Lab, Trial};

/// Time for all sessions to come up. A session that is down sends one packet a second
/// (RFC 5880 §6.8.3).
const UP: Duration = Duration::from_secs(60);
/// Time for the Poll Sequence that negotiates the intervals.
const NEGOTIATION: Duration = Duration::from_secs(2);
/// Time after a cut in which the daemon must detect it.
const CUT: Duration = Duration::from_secs(1);
/// How often the progress of the table is checked.
const STEP: Duration = Duration::from_millis(5);

/// Duration of the measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// Time during which false downs are counted.
    pub(crate) duration: Duration,
    /// Number of silent cuts afterwards.
    pub(crate) cuts: u32,
}

/// One thread of ordinary priority per core that spins.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..available_parallelism()?.get() {
            let stop = stop.clone();
            spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        Ok(Self(stop))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Measures one daemon and prints the result.
pub(crate) fn measure(lab: &Lab<'_>, kind: Kind, load: Load, course: Course) -> Result<()> {
    let bfd = load.bfd.context("no BFD")?;
    let mut trial = Trial::start(lab, kind, load)?;
    let responder = trial.responder()?;
    let sessions = usize::try_from(bfd.sessions)?;
    let late = await_up(&mut trial, &responder, sessions)?;
    ensure!(late == 0, "{late} BFD sessions did not come up");
    trial.establish()?;
    trial.refresh();
    let _busy = Busy::new()?;
    let mut tables = u32::from(keep_sending(&mut trial, NEGOTIATION)? > 0);
    responder.reset()?;
    tables += keep_sending(&mut trial, course.duration)?;
    let loaded = responder.report()?;
    for _ in 0..course.cuts {
        await_up(&mut trial, &responder, sessions)?;
        keep_sending(&mut trial, NEGOTIATION)?;
        responder.silence()?;
        keep_sending(&mut trial, CUT)?;
        responder.resume()?;
    }
    print(kind, bfd, course, tables, &loaded, &responder.report()?);
    Ok(())
}

/// Has the daemon send its table repeatedly for `duration`; returns how often it did.
fn keep_sending(trial: &mut Trial<'_>, duration: Duration) -> Result<u32> {
    let start = Instant::now();
    let mut tables = 0;
    while start.elapsed() < duration {
        tables += u32::from(trial.refresh_when_complete()?);
        sleep(STEP);
    }
    Ok(tables)
}

/// Waits until the sessions are up; returns how many are still down at the timeout.
fn await_up(trial: &mut Trial<'_>, responder: &Responder, sessions: usize) -> Result<usize> {
    let start = Instant::now();
    loop {
        let up = responder.report()?.up;
        if up == sessions || start.elapsed() > UP {
            return Ok(sessions - up);
        }
        keep_sending(trial, 10 * STEP)?;
    }
}

fn print(kind: Kind, bfd: BfdLoad, course: Course, tables: u32, loaded: &Report, cut: &Report) {
    let priority = match kind {
        Kind::Ferrolb if bfd.real_time => "real-time",
        _ => "ordinary",
    };
    let detected: Vec<f64> = cut
        .detected
        .iter()
        .flatten()
        .copied()
        .map(milliseconds)
        .collect();
    let interval = u64::from(INTERVAL_MS);
    let multiplier = u64::from(TIMERS.detect_mult.get());
    measurement::print(
        "speakers_bfd",
        &[
            ("daemon", json!(kind.name())),
            ("priority", json!(priority)),
            ("sessions", json!(bfd.sessions)),
            ("seconds", json!(course.duration.as_secs())),
            ("tables_sent", json!(tables)),
            ("downs_reported_by_daemon", json!(loaded.lost_by_daemon)),
            ("downs_for_daemon_silence", json!(loaded.lost_here)),
            ("longest_silence_ms", json!(milliseconds(loaded.silence))),
            ("cut", json!(cut.detected.len())),
            ("detected", json!(detected.len())),
            ("detected_p50_ms", json!(median(detected.iter().copied()))),
            (
                "detected_max_ms",
                json!(detected.iter().copied().fold(0.0, f64::max)),
            ),
            ("least_ms", json!(interval * (multiplier - 1))),
            ("most_ms", json!(interval * multiplier)),
            ("responder_late_ms", json!(milliseconds(cut.late))),
        ],
    );
}
