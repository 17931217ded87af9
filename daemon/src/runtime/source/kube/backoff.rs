//! Exponential backoff of requests to the API server.

use std::time::Duration;

/// First delay.
pub(super) const FIRST: Duration = Duration::from_millis(500);
/// Upper limit of the delay.
pub(super) const MAX: Duration = Duration::from_secs(8);

/// The delay after this many earlier failures, without jitter.
pub(super) fn delay(failures: u32) -> Duration {
    (FIRST * 2_u32.saturating_pow(failures.min(10))).min(MAX)
}

/// Delays between attempts, with jitter so that a fleet does not retry at the same moment.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Starts again with the first delay, after a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the next delay: between half and all of [`delay`].
    pub(super) fn next(&mut self) -> Duration {
        let delay = delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_reset() {
        let mut backoff = Backoff::default();
        let delays: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(delays[0] >= FIRST / 2 && delays[0] <= FIRST);
        let mut last = delays[10..].iter();
        assert!(last.all(|delay| *delay >= MAX / 2 && *delay <= MAX));
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
