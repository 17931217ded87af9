//! The row of BFD: sessions beside a table that is sent again and again while all cores are busy.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{available_parallelism, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::daemons::Kind;
use super::load::{Load, Watch};
use super::responder::{INTERVAL_MS, Report, Responder, TIMERS};
use super::row;
use super::trial::{Lab, Trial, median, milliseconds};

/// All sessions, from nothing. Before they are up they send once a second.
const UP: Duration = Duration::from_secs(60);
/// For the intervals to be agreed on.
const CALM: Duration = Duration::from_secs(2);
/// Until everybody must have noticed a cut.
const CUT: Duration = Duration::from_secs(1);
/// How often the table's progress is looked at.
const STEP: Duration = Duration::from_millis(5);

/// How long, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// For how long false downs are counted.
    pub(crate) duration: Duration,
    /// How many silent cuts follow.
    pub(crate) cuts: u32,
}

/// Threads of ordinary priority that do nothing and never rest, one for each core.
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

/// Measures one daemon and prints its row.
pub(crate) fn measure(lab: &Lab<'_>, kind: Kind, load: Load, course: Course) -> Result<()> {
    let watch = load.watch.context("no BFD")?;
    let mut trial = Trial::start(lab, kind, load)?;
    let responder = trial.responder()?;
    let sessions = usize::try_from(watch.sessions)?;
    let late = await_up(&mut trial, &responder, sessions)?;
    ensure!(late == 0, "{late} BFD sessions don't come up");
    trial.establish()?;
    trial.refresh();
    let _busy = Busy::new()?;
    let mut tables = u32::from(again(&mut trial, CALM)? > 0);
    responder.count()?;
    tables += again(&mut trial, course.duration)?;
    let loaded = responder.report()?;
    for _ in 0..course.cuts {
        await_up(&mut trial, &responder, sessions)?;
        again(&mut trial, CALM)?;
        responder.silence()?;
        again(&mut trial, CUT)?;
        responder.answer()?;
    }
    print(kind, watch, course, tables, &loaded, &responder.report()?);
    Ok(())
}

/// Lets the table be sent for a while; how often it was.
fn again(trial: &mut Trial<'_>, duration: Duration) -> Result<u32> {
    let start = Instant::now();
    let mut tables = 0;
    while start.elapsed() < duration {
        tables += u32::from(trial.again()?);
        sleep(STEP);
    }
    Ok(tables)
}

/// Waits until the sessions are up, and gives how many are not in the end.
fn await_up(trial: &mut Trial<'_>, responder: &Responder, sessions: usize) -> Result<usize> {
    let start = Instant::now();
    loop {
        let up = responder.report()?.up;
        if up == sessions || start.elapsed() > UP {
            return Ok(sessions - up);
        }
        again(trial, 10 * STEP)?;
    }
}

fn print(kind: Kind, watch: Watch, course: Course, tables: u32, loaded: &Report, cut: &Report) {
    let priority = match kind {
        Kind::Ferrolb if watch.real_time => "real-time",
        _ => "ordinary",
    };
    let noticed: Vec<f64> = cut
        .noticed
        .iter()
        .flatten()
        .copied()
        .map(milliseconds)
        .collect();
    let interval = u64::from(INTERVAL_MS);
    let multiplier = u64::from(TIMERS.detect_mult.get());
    row::print(
        "speakers_bfd",
        &[
            ("daemon", json!(kind.name())),
            ("priority", json!(priority)),
            ("sessions", json!(watch.sessions)),
            ("seconds", json!(course.duration.as_secs())),
            ("tables_sent", json!(tables)),
            ("downs_told_by_it", json!(loaded.lost_by_daemon)),
            ("downs_for_its_silence", json!(loaded.lost_here)),
            ("longest_silence_ms", json!(milliseconds(loaded.silence))),
            ("cut", json!(cut.noticed.len())),
            ("noticed", json!(noticed.len())),
            ("noticed_p50_ms", json!(median(noticed.iter().copied()))),
            (
                "noticed_max_ms",
                json!(noticed.iter().copied().fold(0.0, f64::max)),
            ),
            ("least_ms", json!(interval * (multiplier - 1))),
            ("most_ms", json!(interval * multiplier)),
            ("responder_late_ms", json!(milliseconds(cut.late))),
        ],
    );
}
