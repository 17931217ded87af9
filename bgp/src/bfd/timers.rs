//! BFD timers: configured intervals, Poll Sequences, detection time and jitter (RFC 5880 §6.5,
//! §6.8.3, §6.8.4, §6.8.7).

use std::num::NonZeroU8;
use std::time::Duration;

use thiserror::Error;

use super::packet::Interval;

/// Minimum of Desired Min TX Interval while a session is not Up (RFC 5880 §6.8.3).
pub(super) const SLOW: Interval = Interval::from_millis(1000);
/// Minimum configurable interval: with a shorter one, scheduling delay looks like a failed path.
pub const INTERVAL_MIN: Interval = Interval::from_millis(10);
/// Maximum configurable interval; the BGP hold timer detects a failure as early.
pub const INTERVAL_MAX: Interval = Interval::from_millis(60_000);

/// Configured timers. A change does not take the session down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timers {
    /// Desired Min TX Interval: shortest interval at which we send.
    pub desired_min_tx: Interval,
    /// Required Min RX Interval: shortest interval at which the peer may send.
    pub required_min_rx: Interval,
    /// Detect Mult: number of consecutive lost packets after which the peer declares us down.
    pub detect_mult: NonZeroU8,
}

impl Default for Timers {
    /// 300 ms in both directions, three packets.
    fn default() -> Self {
        Self {
            desired_min_tx: Interval::from_millis(300),
            required_min_rx: Interval::from_millis(300),
            detect_mult: NonZeroU8::MIN.saturating_add(2),
        }
    }
}

/// An interval is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimersError {
    /// The transmit interval.
    #[error("transmit interval of {} µs is not between 10 ms and 60 s", .0.0)]
    DesiredMinTx(Interval),
    /// The receive interval.
    #[error("receive interval of {} µs is not between 10 ms and 60 s", .0.0)]
    RequiredMinRx(Interval),
}

impl Timers {
    /// Checks that the intervals are between [`INTERVAL_MIN`] and [`INTERVAL_MAX`].
    ///
    /// # Errors
    /// The first interval that is not.
    pub fn check(&self) -> Result<(), TimersError> {
        let bounds = INTERVAL_MIN..=INTERVAL_MAX;
        if !bounds.contains(&self.desired_min_tx) {
            return Err(TimersError::DesiredMinTx(self.desired_min_tx));
        }
        if !bounds.contains(&self.required_min_rx) {
            return Err(TimersError::RequiredMinRx(self.required_min_rx));
        }
        Ok(())
    }
}

/// Transmit and receive interval of our end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) tx: Interval,
    pub(super) rx: Interval,
}

/// The intervals that our packets carry, the intervals in force, and the Poll Sequence that moves
/// the first into force (RFC 5880 §6.5, §6.8.3).
///
/// Until the peer confirms a change, the conservative choice is in force: we send at the faster of
/// the old and the new rate, and expect packets at the slower one.
#[derive(Debug)]
pub(super) struct Intervals {
    announced: Pair,
    in_force: Pair,
    polling: bool,
    /// Polls sent since the last change and not answered.
    unanswered: u8,
    /// Finals that answer polls sent before the last change and may still arrive.
    stale: u8,
}

impl Intervals {
    pub(super) fn new(pair: Pair) -> Self {
        Self {
            announced: pair,
            in_force: pair,
            polling: false,
            unanswered: 0,
            stale: 0,
        }
    }

    pub(super) fn announced(&self) -> Pair {
        self.announced
    }

    pub(super) fn in_force(&self) -> Pair {
        self.in_force
    }

    /// Whether periodic packets carry the Poll bit.
    pub(super) fn polling(&self) -> bool {
        self.polling
    }

    /// Starts a Poll Sequence for new intervals of a session that is Up. `max_stale` limits the
    /// number of late finals to expect: none arrives later than the peer's detection time.
    pub(super) fn change(&mut self, pair: Pair, max_stale: NonZeroU8) {
        if pair == self.announced {
            return;
        }
        self.announced = pair;
        self.in_force.tx = self.in_force.tx.min(pair.tx);
        self.in_force.rx = self.in_force.rx.max(pair.rx);
        let stale = self.stale.saturating_add(self.unanswered);
        self.stale = stale.min(max_stale.get());
        self.unanswered = 0;
        self.polling = true;
    }

    /// Counts a sent packet with the Poll bit.
    pub(super) fn poll_sent(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// Processes a received packet with the Final bit.
    pub(super) fn final_received(&mut self) {
        if self.stale > 0 {
            self.stale -= 1;
        } else if self.unanswered > 0 {
            self.unanswered -= 1;
            self.polling = false;
            self.in_force = self.announced;
        }
    }
}

/// Random fraction of the transmit interval (RFC 5880 §6.8.7): 75 to 100 %, and at most 90 % if
/// Detect Mult is 1.
pub(super) fn jitter(detect_mult: NonZeroU8, rng: &mut fastrand::Rng) -> f64 {
    let span = if detect_mult.get() == 1 { 0.15 } else { 0.25 };
    0.75 + span * rng.f64()
}

/// Detection time (RFC 5880 §6.8.4). At most 255 × (2³² − 1) µs, which is 13 days.
pub(super) fn detection_time(detect_mult: u8, rx: Interval, tx: Interval) -> Duration {
    rx.max(tx).duration() * u32::from(detect_mult)
}
