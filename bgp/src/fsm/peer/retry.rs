//! Retry policy: how long a peer waits after a failed attempt or an ended session, and whether it
//! refuses the peer's own connections in that time.

use std::time::{Duration, Instant};

use crate::config::limits::{CONNECT_RETRY_DEFAULT, CONNECT_RETRY_MIN};
use crate::fsm::history::cause::{Cause, meaning};
use crate::fsm::peer::bfd_guard::is_path_lost;
use crate::fsm::timers::jittered;
use crate::wire::{ErrorCode, Notification, subcode};

/// How long after a stable session the waits do not grow. Most routers restart within this time.
const RESTART_GRACE: Duration = Duration::from_secs(30);

/// Exponential back-off between the attempts of one peer.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Failures in a row.
    failures: u32,
    /// End of the time in which a router that had a stable session is probably restarting.
    restarting_until: Option<Instant>,
}

impl Backoff {
    /// Forgets the failures: the configuration changed, or the path is known to work.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// A stable session ended: forgets the failures, and expects the router to restart.
    pub(super) fn stable_session_ended(&mut self, now: Instant) {
        self.failures = 0;
        self.restarting_until = Some(now + RESTART_GRACE);
    }

    /// The wait before the next attempt, after one that ended with `cause`.
    pub(super) fn after(
        &mut self,
        now: Instant,
        cause: &Cause,
        was_established: bool,
        max: Option<Duration>,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        if needs_operator(cause) {
            self.exhaust();
        }
        // The router accepted us, so its configuration is right. `BfdGuard` dampens paths that fail
        // often. A restarted router can be back at once: FRR 8.4 starts BFD again as soon as the
        // first session is up.
        if was_established && is_path_lost(cause) {
            self.reset();
        }
        let restarting = self.restarting_until.is_some_and(|until| now < until);
        if restarting && is_unanswered(cause, was_established) {
            return jittered(CONNECT_RETRY_MIN, rng);
        }
        self.next(max, rng)
    }

    /// Counts one more failure. The wait doubles with each, up to `max`.
    pub(super) fn next(&mut self, max: Option<Duration>, rng: &mut fastrand::Rng) -> Duration {
        let max = max.unwrap_or(CONNECT_RETRY_DEFAULT).max(CONNECT_RETRY_MIN);
        let full =
            CONNECT_RETRY_MIN.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = (self.failures + 1).min(31);
        jittered(full.min(max), rng)
    }

    /// From now on, the longest wait.
    fn exhaust(&mut self) {
        self.failures = 31;
        self.restarting_until = None;
    }
}

/// Whether the attempt reached no BGP speaker that knows us: TCP was refused, or closed without a
/// NOTIFICATION, as a restarting router does.
fn is_unanswered(cause: &Cause, was_established: bool) -> bool {
    match cause {
        Cause::ConnectFailed { .. } => true,
        Cause::Closed { .. } => !was_established,
        _ => false,
    }
}

/// Whether the peer's own connections are refused during the wait. They are after a protocol error,
/// so that two speakers that cannot agree do not loop. They are not after a lost connection or a
/// Cease: such a peer may return at once. Nor are they after the peer refused us: two peers that
/// both dial would otherwise refuse each other forever.
pub(super) fn refuses_inbound(cause: &Cause, was_established: bool) -> bool {
    match cause {
        Cause::Sent(notification) => {
            !(was_established && notification.code == ErrorCode::HOLD_TIMER_EXPIRED)
        }
        Cause::Received(notification) => notification.code != ErrorCode::CEASE,
        Cause::AsnMismatch { .. } => true,
        Cause::LocalStall { .. } => !was_established,
        Cause::ConnectFailed { .. }
        | Cause::Closed { .. }
        | Cause::GracefulRestart
        | Cause::OwnAddress
        | Cause::Replaced
        | Cause::SendHoldTimerExpired
        | Cause::Unusable { .. } => false,
    }
}

/// Whether the sessions stay down until an operator changes a configuration.
fn needs_operator(cause: &Cause) -> bool {
    let limit = subcode::cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED;
    cause.notification().is_some_and(|(notification, sent)| {
        is_bad_peer_as(notification) || sent && meaning(notification) == (ErrorCode::CEASE, limit)
    })
}

/// Whether one end has another AS number than the other end expects.
pub(super) fn is_bad_peer_as(notification: &Notification) -> bool {
    meaning(notification) == (ErrorCode::OPEN, subcode::open::BAD_PEER_AS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::state::State;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_over_after_a_reset() {
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
            assert!(backoff.next(None, &mut rng) <= CONNECT_RETRY_DEFAULT);
        }
        backoff.reset();
        assert!(backoff.next(None, &mut rng) <= CONNECT_RETRY_MIN);
        backoff.exhaust();
        assert!(backoff.next(None, &mut rng) >= CONNECT_RETRY_DEFAULT.mul_f64(0.75));
    }

    #[test]
    fn waits_do_not_grow_for_half_a_minute_after_a_stable_session() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::default();
        let unanswered = Cause::Closed {
            state: State::OpenSent,
            error: None,
        };
        let end = Instant::now();
        backoff.stable_session_ended(end);
        for second in 0..30 {
            let now = end + Duration::from_secs(second);
            let wait = backoff.after(now, &unanswered, false, None, &mut rng);
            assert!(wait <= CONNECT_RETRY_MIN, "{second}: {wait:?}");
        }
        let later = end + RESTART_GRACE;
        for full in [1, 2, 4] {
            let wait = backoff.after(later, &unanswered, false, None, &mut rng);
            let wait = wait.as_secs_f64();
            assert!(wait >= 0.75 * f64::from(full), "{full}: {wait}");
        }
        // A restart does not correct what only an operator can correct.
        backoff.stable_session_ended(end);
        backoff.exhaust();
        let wait = backoff.after(end, &unanswered, false, None, &mut rng);
        assert!(wait >= CONNECT_RETRY_DEFAULT.mul_f64(0.75));
    }

    #[test]
    fn the_configured_maximum_is_the_limit_but_never_below_one_second() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            let wait = backoff.next(Some(Duration::from_secs(5)), &mut rng);
            assert!(wait <= Duration::from_secs(5));
        }
        let mut backoff = Backoff::default();
        assert!(backoff.next(Some(Duration::ZERO), &mut rng) >= Duration::from_millis(750));
    }

    #[test]
    fn a_hard_reset_needs_an_operator_if_the_enclosed_reason_does_rfc8538_3_1() {
        let limit = subcode::cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED;
        let wrong_asn = Notification::new(ErrorCode::OPEN, subcode::open::BAD_PEER_AS);
        for notification in [Notification::cease(limit), wrong_asn] {
            let enclosing = Notification::hard_reset(&notification);
            assert!(needs_operator(&Cause::Sent(notification)));
            assert!(needs_operator(&Cause::Sent(enclosing)));
        }
        let shutdown = Notification::cease(subcode::cease::ADMINISTRATIVE_SHUTDOWN);
        let enclosing = Notification::hard_reset(&shutdown);
        assert!(!needs_operator(&Cause::Received(enclosing)));
    }
}
