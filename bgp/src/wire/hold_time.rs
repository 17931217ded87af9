//! The hold time (RFC 4271 §4.2) and the keepalive interval (RFC 4271 §4.4).

use std::time::Duration;

/// The shortest keepalive interval (RFC 4271 §4.4).
pub const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(1);

/// A valid hold time: zero, which disables the hold and keepalive timers, or at least three
/// seconds (RFC 4271 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HoldTime(u16);

impl HoldTime {
    /// 90 seconds, as RFC 4271 §10 suggests.
    pub const DEFAULT: Self = Self(90);
    /// The shortest hold time other than zero.
    pub const MIN: Self = Self(3);
    /// The longest hold time.
    pub const MAX: Self = Self(u16::MAX);
    /// No hold timer and no keepalive timer.
    pub const ZERO: Self = Self(0);

    /// Converts seconds.
    ///
    /// # Errors
    /// [`InvalidHoldTime`] for one and two seconds.
    pub fn from_secs(seconds: u16) -> Result<Self, InvalidHoldTime> {
        let hold_time = Self(seconds);
        if hold_time == Self::ZERO || hold_time >= Self::MIN {
            Ok(hold_time)
        } else {
            Err(InvalidHoldTime(seconds))
        }
    }

    /// In seconds.
    #[must_use]
    pub fn as_secs(self) -> u16 {
        self.0
    }

    /// As a duration, or `None` for zero.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        (self.0 != 0).then(|| Duration::from_secs(self.0.into()))
    }
}

impl Default for HoldTime {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A hold time of one or two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hold time {0} s is invalid: use 0, or at least 3 s (RFC 4271 §4.2)")]
pub struct InvalidHoldTime(pub u16);
