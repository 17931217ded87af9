//! Stall detection: whether this process itself was stopped, shown by a timer that is handled late.
//!
//! A stopped process, a suspended machine or a host without CPU time neither receives nor sends. If
//! a hold timer expires then, neither the peer nor the network is at fault.

use std::time::{Duration, Instant};

use crate::config::HoldTime;

/// A timer handled later than this shows a stall.
const STALL_MIN: Duration = Duration::from_secs(1);
/// How long after a stall sessions may end because of it. What waits in the sockets is read at
/// once.
const STALL_GRACE: Duration = Duration::from_secs(5);

/// The last stall.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StallDetector {
    /// When it ended, and its minimum length.
    last: Option<(Instant, Duration)>,
}

impl StallDetector {
    /// Compares the time with the deadline of the next timer. Call before that timer is handled.
    pub(super) fn check(&mut self, now: Instant, deadline: Option<Instant>) {
        let late = deadline.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if late >= STALL_MIN {
            self.last = Some((now, late));
        }
    }

    /// The length of the last stall, if it explains that a session with this hold time ended: it is
    /// recent, and lasted at least half the hold time. The other half may have passed before it.
    pub(super) fn explains(&self, now: Instant, hold_time: HoldTime) -> Option<Duration> {
        let (at, late) = self.last?;
        let recent = now.saturating_duration_since(at) <= STALL_GRACE;
        let long = late * 2 >= hold_time.duration()?;
        (recent && long).then_some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recent_stall_of_half_the_hold_time_explains_its_expiry() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let hold_time = HoldTime::from_secs(90).unwrap();
        let stalled = |seconds| {
            let mut stall = StallDetector::default();
            stall.check(after(seconds), Some(start));
            stall
        };
        assert_eq!(stalled(0).explains(start, hold_time), None);
        assert_eq!(stalled(44).explains(after(44), hold_time), None);
        let late = Some(Duration::from_secs(45));
        assert_eq!(stalled(45).explains(after(45), hold_time), late);
        assert_eq!(stalled(45).explains(after(50), hold_time), late);
        assert_eq!(stalled(45).explains(after(51), hold_time), None);
    }
}
