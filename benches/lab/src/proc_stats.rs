//! CPU time and memory of processes, and the load of the machine, from `/proc`.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Resident memory of a process in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// `VmRSS`: the current size.
    pub now: u64,
    /// `VmHWM`: the peak since the process started.
    pub peak: u64,
}

/// Reads the resident memory of a process.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        anyhow::Ok(value.with_context(|| format!("no {name}"))?.parse()?)
    };
    Ok(Memory {
        now: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}

/// CPU time of one thread so far, in nanosecond precision.
///
/// # Errors
/// When there is no such thread.
pub fn thread_cpu_time(pid: u32, thread: &str) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"))?;
    let nanoseconds = text.split_whitespace().next().context("empty schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// CPU time of all threads of a process so far, in user and kernel mode. A thread that ends during
/// the read is not counted.
///
/// # Errors
/// When there is no such process.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.file_name();
        total += thread_cpu_time(pid, &thread.to_string_lossy()).unwrap_or_default();
    }
    Ok(total)
}

/// CPU time of a process per second of real time, measured over `duration`.
///
/// # Errors
/// When the process ends.
pub fn cpu_share(pid: u32, duration: Duration) -> Result<f64> {
    let before = cpu_time(pid)?;
    sleep(duration);
    let spent = cpu_time(pid)?.saturating_sub(before);
    Ok(spent.as_secs_f64() / duration.as_secs_f64())
}

/// Percentage of all cores' time that was busy during `duration`, and the percentage that the
/// hypervisor stole. Measured before a benchmark starts, it is the load of other programs.
///
/// # Errors
/// When `/proc/stat` has an unknown format.
pub fn busy_percent(duration: Duration) -> Result<(f64, f64)> {
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
    ensure!(ticks.len() == 8, "/proc/stat: {line}");
    Ok(ticks)
}
