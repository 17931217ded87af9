//! Delays: jitter from the seed, and the growing wait between attempts.

use std::time::{Duration, Instant};

use crate::config::HoldTime;

/// The least send hold time, unless the peer's configuration names another (RFC 9687 §4).
const SEND_HOLD_MIN: Duration = Duration::from_secs(480);
/// The first wait after a failure.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest wait, unless the peer's configuration names another.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long the waits don't grow after a stable session: most routers are back from a restart by
/// then.
const RESTART_PATIENCE: Duration = Duration::from_secs(30);

/// Between three quarters of `full` and all of it (RFC 4271 §10).
pub(super) fn jittered(full: Duration, rng: &mut fastrand::Rng) -> Duration {
    full.mul_f64(0.75 + 0.25 * rng.f64())
}

/// How long a peer may leave unread what we send: longer than the hold time (RFC 9687 §4).
pub(super) fn send_hold(hold_time: HoldTime, wish: Option<Duration>) -> Duration {
    let hold = hold_time.duration().unwrap_or_default();
    wish.unwrap_or((hold * 2).max(SEND_HOLD_MIN))
}

/// The earlier of two deadlines, where there may be none.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// How often it went wrong in a row, and so how long to wait.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// The end of the time in which a router that had a stable session is probably restarting.
    restarting_until: Option<Instant>,
}

impl Backoff {
    /// A new configuration, or proof that the path works: forget the failures.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// A stable session ended: forget the failures, and expect that the router restarts.
    pub(super) fn restarting(&mut self, now: Instant) {
        self.failures = 0;
        self.restarting_until = Some(now + RESTART_PATIENCE);
    }

    /// It will not get better soon: the longest wait from now on.
    pub(super) fn exhaust(&mut self) {
        self.failures = 31;
        self.restarting_until = None;
    }

    /// The wait after an attempt that reached no BGP speaker: the shortest while the router is
    /// probably restarting, else that of [`next`](Self::next).
    pub(super) fn unanswered(
        &mut self,
        now: Instant,
        max: Option<Duration>,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        if self.restarting_until.is_some_and(|until| now < until) {
            return jittered(RETRY_MIN, rng);
        }
        self.next(max, rng)
    }

    /// One more failure; the wait before the next attempt: doubling, never more than `max`.
    pub(super) fn next(&mut self, max: Option<Duration>, rng: &mut fastrand::Rng) -> Duration {
        let max = max.unwrap_or(RETRY_MAX).max(RETRY_MIN);
        let full = RETRY_MIN.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = (self.failures + 1).min(31);
        jittered(full.min(max), rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_begin_anew_after_a_reset() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::default();
        for full in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = backoff.next(None, &mut rng).as_secs_f64();
            assert!(
                (0.75 * f64::from(full)..=f64::from(full)).contains(&wait),
                "{full}: {wait}"
            );
        }
        for _ in 0..100 {
            assert!(backoff.next(None, &mut rng) <= RETRY_MAX);
        }
        backoff.reset();
        assert!(backoff.next(None, &mut rng) <= RETRY_MIN);
        backoff.exhaust();
        assert!(backoff.next(None, &mut rng) >= RETRY_MAX.mul_f64(0.75));
    }

    #[test]
    fn waits_do_not_grow_for_half_a_minute_after_a_stable_session() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::default();
        let end = Instant::now();
        backoff.restarting(end);
        for second in 0..30 {
            let wait = backoff.unanswered(end + Duration::from_secs(second), None, &mut rng);
            assert!(wait <= RETRY_MIN, "{second}: {wait:?}");
        }
        let later = end + RESTART_PATIENCE;
        for full in [1, 2, 4] {
            let wait = backoff.unanswered(later, None, &mut rng).as_secs_f64();
            assert!(wait >= 0.75 * f64::from(full), "{full}: {wait}");
        }
        // What only an operator can correct is not expected to be over soon.
        backoff.restarting(end);
        backoff.exhaust();
        assert!(backoff.unanswered(end, None, &mut rng) >= RETRY_MAX.mul_f64(0.75));
    }

    #[test]
    fn a_configured_maximum_holds_but_never_makes_a_tight_loop() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            let wait = backoff.next(Some(Duration::from_secs(5)), &mut rng);
            assert!(wait <= Duration::from_secs(5));
        }
        let mut backoff = Backoff::default();
        assert!(backoff.next(Some(Duration::ZERO), &mut rng) >= Duration::from_millis(750));
    }
}
