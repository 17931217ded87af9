//! Processor time and memory of everything that runs in a namespace.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use ferrolb_interop_tests::netns::Namespace;

use super::process::memory;

/// Processor time of one thread, to the nanosecond.
pub(crate) fn thread_time(pid: u32, thread: i32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"))?;
    let nanoseconds = text
        .split_whitespace()
        .next()
        .context("schedstat is empty")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// Processor time of all threads that run there.
pub(crate) fn time(namespace: &Namespace) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in namespace.pids()? {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue; // ended meanwhile
        };
        for thread in threads.flatten() {
            let thread = thread.file_name().to_string_lossy().parse()?;
            total += thread_time(pid, thread).unwrap_or_default();
        }
    }
    Ok(total)
}

/// Resident memory of all processes there in KiB.
pub(crate) fn resident(namespace: &Namespace) -> Result<u64> {
    let pids = namespace.pids()?;
    Ok(pids
        .iter()
        .filter_map(|pid| memory(*pid).ok())
        .map(|memory| memory.now)
        .sum())
}
