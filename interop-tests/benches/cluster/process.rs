//! What the kernel says of a process, and of the machine.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

/// Resident memory of a process in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// `VmRSS`.
    pub(crate) now: u64,
    /// `VmHWM`: the most since its start.
    pub(crate) most: u64,
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        anyhow::Ok(value.with_context(|| format!("no {name}"))?.parse()?)
    };
    Ok(Memory {
        now: field("VmRSS:")?,
        most: field("VmHWM:")?,
    })
}

/// CPU time of all threads of a process so far, kernel included.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that ended in between no longer counts; ferrolb's live as long as it does.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let ran = text.split_whitespace().next().context("empty schedstat")?;
        nanoseconds += ran.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// How much CPU time a process takes in a second while nothing happens, measured over `duration`.
pub(crate) fn cpu_share(pid: u32, duration: Duration) -> Result<f64> {
    let before = cpu_time(pid)?;
    sleep(duration);
    let spent = cpu_time(pid)?.saturating_sub(before);
    Ok(spent.as_secs_f64() / duration.as_secs_f64())
}

/// How much of all cores' time went into work during `duration`, and how much the hypervisor took away: both in per
/// cent. Before the lab starts, it is the share of others.
pub(crate) fn busy_percent(duration: Duration) -> Result<(f64, f64)> {
    let before = ticks()?;
    sleep(duration);
    let after = ticks()?;
    let spent: Vec<f64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let total: f64 = spent.iter().sum();
    // Columns of proc_stat(5): user nice system idle iowait irq softirq steal.
    let idle = spent[3] + spent[4];
    let percent = |part: f64| (1000.0 * part / total).round() / 10.0;
    Ok((percent(total - idle), percent(spent[7])))
}

fn ticks() -> Result<Vec<f64>> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks = line.split_whitespace().skip(1).take(8).map(str::parse);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>()?;
    anyhow::ensure!(ticks.len() == 8, "/proc/stat: {line}");
    Ok(ticks)
}
