//! Whether we stood still ourselves: a timer that is looked at long after its time tells.
//!
//! A stopped process, a suspended machine or a host without a CPU to spare hears nothing and says
//! nothing; then it isn't the peer or the network that is to blame for an expired hold timer.

use std::time::{Duration, Instant};

use crate::config::HoldTime;

/// How long after a standstill its consequences show: what waits in the sockets is read at once.
const AFTERMATH: Duration = Duration::from_secs(5);

/// The last standstill.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standstill {
    /// When it was over, and how long it was at least.
    last: Option<(Instant, Duration)>,
}

impl Standstill {
    /// Before anything is done about it: when should we have been here?
    pub(super) fn look(&mut self, now: Instant, deadline: Option<Instant>) {
        let late = deadline.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if late >= Duration::from_secs(1) {
            self.last = Some((now, late));
        }
    }

    /// How long we stood still, if that alone can have cost a session with this hold time.
    pub(super) fn explains(&self, now: Instant, hold_time: HoldTime) -> Option<Duration> {
        let (at, late) = self.last?;
        let recent = now.saturating_duration_since(at) <= AFTERMATH;
        let long = late * 2 >= hold_time.duration()?;
        (recent && long).then_some(late)
    }
}
