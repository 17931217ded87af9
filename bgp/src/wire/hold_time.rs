//! The hold time (RFC 4271 §4.2).

use std::time::Duration;

/// A valid hold time: zero, which disables the hold and keepalive timers, or at least three
/// seconds (RFC 4271 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HoldTime(u16);

impl HoldTime {
    /// 90 seconds, as RFC 4271 §10 suggests.
    pub const DEFAULT: Self = Self(90);
    /// No hold timer and no keepalive timer.
    pub const ZERO: Self = Self(0);

    /// Converts seconds.
    ///
    /// # Errors
    /// [`InvalidHoldTime`] for one and two seconds.
    pub fn from_secs(seconds: u16) -> Result<Self, InvalidHoldTime> {
        match seconds {
            1 | 2 => Err(InvalidHoldTime(seconds)),
            _ => Ok(Self(seconds)),
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
