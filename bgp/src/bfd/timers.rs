//! How fast: the configured timers, and what of them is in force (RFC 5880 §6.8.3, §6.5).

use std::num::NonZeroU8;
use std::time::Duration;

use thiserror::Error;

use super::packet::Interval;

/// While a session isn't up, it doesn't say that it wants to send faster than this (§6.8.3).
pub(super) const SLOW: Interval = Interval::from_millis(1000);
/// Never faster than this: a scheduler that is late by less must not look like a dead path.
pub const INTERVAL_MIN: Interval = Interval::from_millis(10);
/// Never slower than this: nobody needs BFD for that.
pub const INTERVAL_MAX: Interval = Interval::from_millis(60_000);

/// What is wished for. A change takes no session down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timers {
    /// How often we would like to send.
    pub desired_min_tx: Interval,
    /// How often the peer may send.
    pub required_min_rx: Interval,
    /// After how many lost packets in a row the peer takes the session down.
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

/// Timers nobody should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimersError {
    /// The interval for sending is out of bounds.
    #[error("transmit interval of {} µs is not between 10 ms and 60 s", .0.0)]
    DesiredMinTx(Interval),
    /// The interval for receiving is out of bounds.
    #[error("receive interval of {} µs is not between 10 ms and 60 s", .0.0)]
    RequiredMinRx(Interval),
}

impl Timers {
    /// Whether the intervals are within [`INTERVAL_MIN`] and [`INTERVAL_MAX`].
    ///
    /// # Errors
    /// The first that isn't.
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

/// The two intervals of our end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) tx: Interval,
    pub(super) rx: Interval,
}

/// What our packets say, what we keep to, and the Poll Sequence that joins the two.
///
/// What is in force is always the careful choice until the peer has confirmed: sending at the
/// faster of the old and the new rate, and counting on the slower of them.
#[derive(Debug)]
pub(super) struct Intervals {
    announced: Pair,
    in_force: Pair,
    polling: bool,
    /// Polls sent that were not answered.
    unanswered: u8,
    /// Answers to polls of before the last change, which may still be under way.
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

    /// Whether packets are to have the P bit.
    pub(super) fn polling(&self) -> bool {
        self.polling
    }

    /// New values for a session that is up: they are polled for. `most` bounds how many late
    /// answers are waited for: an older one than the peer's detection time isn't under way any more.
    pub(super) fn change(&mut self, pair: Pair, most: NonZeroU8) {
        if pair == self.announced {
            return;
        }
        self.announced = pair;
        self.in_force.tx = self.in_force.tx.min(pair.tx);
        self.in_force.rx = self.in_force.rx.max(pair.rx);
        self.stale = self.stale.saturating_add(self.unanswered).min(most.get());
        self.unanswered = 0;
        self.polling = true;
    }

    /// A packet with the P bit went out.
    pub(super) fn poll_sent(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// A packet with the F bit came.
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

/// A random part of the interval (RFC 5880 §6.8.7): 75 to 100 %, and no more than 90 % where the
/// loss of a single packet counts.
pub(super) fn jitter(detect_mult: NonZeroU8, rng: &mut fastrand::Rng) -> f64 {
    let span = if detect_mult.get() == 1 { 0.15 } else { 0.25 };
    0.75 + span * rng.f64()
}

/// How long silence is borne (RFC 5880 §6.8.4). At most 255 × (2³² − 1) µs: 13 days.
pub(super) fn detection_time(detect_mult: u8, rx: Interval, tx: Interval) -> Duration {
    rx.max(tx).duration() * u32::from(detect_mult)
}
