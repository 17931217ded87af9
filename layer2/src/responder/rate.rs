//! A limit of frames per second.

use std::time::Duration;

use crate::config::Time;

/// Allows frames at a rate, and some of them at once after an idle time (the generic cell rate
/// algorithm).
#[derive(Debug)]
pub(super) struct Limiter {
    /// The reciprocal of the rate.
    interval: Duration,
    /// As many intervals as this contains may pass without a pause after the first frame.
    burst: Duration,
    /// When the next frame would be sent at exactly the rate.
    next: Time,
}

impl Limiter {
    /// `rate`: frames per second, at least 1.
    pub(super) fn new(rate: u32, burst: Duration) -> Self {
        Self {
            interval: Duration::from_secs(1) / rate.max(1),
            burst,
            next: Time::ZERO,
        }
    }

    pub(super) fn set_rate(&mut self, rate: u32) {
        self.interval = Duration::from_secs(1) / rate.max(1);
    }

    /// When the next frame is allowed: possibly a moment in the past.
    pub(super) fn ready_at(&self) -> Time {
        self.next.saturating_sub(self.burst)
    }

    /// Whether a frame is allowed now. If so, it counts as sent.
    pub(super) fn take(&mut self, now: Time) -> bool {
        let allowed = now >= self.ready_at();
        if allowed {
            self.next = self.next.max(now) + self.interval;
        }
        allowed
    }
}
