//! The clock of the engine.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::config::Time;

/// The time since the host was booted, suspends included. CLOCK_MONOTONIC stands still while the
/// host is suspended: a process that resumes would not notice that others took its addresses.
pub(super) fn now() -> Time {
    duration(clock_gettime(ClockId::Boottime))
}

/// The wall clock, in ms since 1970.
pub(super) fn wall() -> u64 {
    let wall = duration(clock_gettime(ClockId::Realtime)).as_millis();
    u64::try_from(wall).unwrap_or(u64::MAX)
}

fn duration(time: Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_the_uptime_of_the_host() {
        let before = now();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        // /proc/uptime has two decimals.
        assert!(before.as_secs_f64() < uptime + 0.01);
        assert!(uptime < now().as_secs_f64() + 0.01);
    }
}
