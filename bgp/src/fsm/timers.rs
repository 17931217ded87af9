//! The timers of a peer, and jitter. `peer/connection.rs` and `peer/dial.rs` decide what happens
//! when one expires.

use std::time::{Duration, Instant};

use crate::config::HoldTime;
use crate::config::limits::SEND_HOLD_TIME_DEFAULT_MIN;

/// How long a closing NOTIFICATION may take to reach the peer before the connection is closed.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// The timers of a peer, by the names of RFC 4271 §8.1.3 and §10 where it has one.
///
/// DelayOpenTimer and the intervals MinASOriginationInterval and MinRouteAdvertisementInterval are
/// not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// ConnectRetryTimer: in Connect, until the attempt is given up; in Active, until the next one.
    ConnectRetry,
    /// IdleHoldTimer: until Idle ends after an error.
    IdleHold,
    /// SendHoldTimer (RFC 9687): until the peer counts as one that does not read.
    SendHold,
    /// HoldTimer: until the session ends unless the peer sends something. Before the peer's OPEN,
    /// until we stop waiting for it.
    Hold,
    /// KeepaliveTimer: until we send a KEEPALIVE.
    Keepalive,
    /// Until a dynamic neighbor without a connection is removed.
    DynamicIdle,
}

impl Timer {
    /// All timers. Expired ones of a connection are handled in this order: those first that end the
    /// session.
    const ALL: [Self; 6] = [
        Self::SendHold,
        Self::Hold,
        Self::Keepalive,
        Self::ConnectRetry,
        Self::IdleHold,
        Self::DynamicIdle,
    ];
}

/// The running timers of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimerTable {
    /// When each timer of [`Timer::ALL`] expires.
    deadlines: [Option<Instant>; Timer::ALL.len()],
}

impl TimerTable {
    /// Sets when a timer expires; `None` stops it.
    pub(super) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        let timers = Timer::ALL.iter().zip(&mut self.deadlines);
        for (_, deadline) in timers.filter(|(other, _)| **other == timer) {
            *deadline = at;
        }
    }

    /// The running timers, those first that end a session.
    pub(super) fn running(&self) -> impl Iterator<Item = (Timer, Instant)> + use<> {
        let timers = Timer::ALL.into_iter().zip(self.deadlines);
        timers.filter_map(|(timer, at)| Some((timer, at?)))
    }

    /// The expired timer that is handled first.
    pub(super) fn expired(&self, now: Instant) -> Option<Timer> {
        let expired = self.running().find(|(_, at)| *at <= now);
        expired.map(|(timer, _)| timer)
    }
}

/// Between three quarters of `full` and all of it (RFC 4271 §10).
pub(super) fn jittered(full: Duration, rng: &mut fastrand::Rng) -> Duration {
    full.mul_f64(0.75 + 0.25 * rng.f64())
}

/// How long a peer may not read what we send: longer than the hold time (RFC 9687 §4).
pub(super) fn send_hold(hold_time: HoldTime, configured: Option<Duration>) -> Duration {
    let hold = hold_time.duration().unwrap_or_default();
    configured.unwrap_or((hold * 2).max(SEND_HOLD_TIME_DEFAULT_MIN))
}

/// The earlier of two deadlines, where there may be none.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_that_ends_the_session_comes_before_a_keepalive() {
        let now = Instant::now();
        let mut timers = TimerTable::default();
        assert_eq!(timers.expired(now), None);
        timers.set(Timer::Keepalive, Some(now));
        timers.set(Timer::Hold, Some(now + Duration::from_secs(1)));
        assert_eq!(timers.expired(now), Some(Timer::Keepalive));
        assert_eq!(
            timers.expired(now + Duration::from_secs(1)),
            Some(Timer::Hold)
        );
        timers.set(Timer::Hold, None);
        assert_eq!(timers.running().count(), 1);
    }

    #[test]
    fn the_send_hold_time_exceeds_the_hold_time_rfc9687_4() {
        let seconds = |hold, configured: Option<u64>| {
            let hold = HoldTime::from_secs(hold).unwrap();
            send_hold(hold, configured.map(Duration::from_secs)).as_secs()
        };
        assert_eq!(seconds(90, None), 480);
        assert_eq!(seconds(300, None), 600);
        assert_eq!(seconds(0, None), 480);
        assert_eq!(seconds(90, Some(120)), 120);
    }
}
