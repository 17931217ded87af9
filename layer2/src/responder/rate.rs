//! A limit of frames per second.

use std::time::Duration;

use crate::config::Time;

/// Allows frames at a rate, and some of them at once after an idle time (the generic cell rate
/// algorithm).
#[derive(Debug)]
pub(super) struct Limiter {
    /// The reciprocal of the rate.
    interval: Duration,
    /// Frames that may follow a first one without a pause.
    burst: u32,
    /// When the next frame would be sent at exactly the rate.
    next: Time,
}

impl Limiter {
    /// `rate`: frames per second, at least 1. In no second are there more than `rate` and `burst`
    /// together, and one.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        let mut limiter = Self {
            interval: Duration::ZERO,
            burst: 0,
            next: Time::ZERO,
        };
        limiter.set_rate(rate, burst);
        limiter
    }

    /// Begins again, as after an idle time.
    pub(super) fn set_rate(&mut self, rate: u32, burst: u32) {
        self.interval = Duration::from_secs(1) / rate.max(1);
        self.burst = burst;
        self.next = Time::ZERO;
    }

    /// When the next frame is allowed: possibly a moment in the past.
    pub(super) fn ready_at(&self) -> Time {
        self.next.saturating_sub(self.interval * self.burst)
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
