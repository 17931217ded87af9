//! CPU time and memory of all processes in a network namespace.

use std::time::Duration;

use anyhow::Result;
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_lab_bench::proc_stats::{cpu_time as of_process, memory};

/// CPU time of all processes so far. A process that ends during the read is not counted.
pub(crate) fn cpu_time(namespace: &Namespace) -> Result<Duration> {
    let pids = namespace.pids()?;
    Ok(pids.iter().filter_map(|pid| of_process(*pid).ok()).sum())
}

/// Resident memory of all processes in KiB.
pub(crate) fn resident(namespace: &Namespace) -> Result<u64> {
    let pids = namespace.pids()?;
    let memory = pids.iter().filter_map(|pid| memory(*pid).ok());
    Ok(memory.map(|memory| memory.now).sum())
}
