//! Drain settings: how routes are withdrawn when a node must receive no more traffic.

use std::time::Duration;

use crate::core::api::FieldError;
use crate::core::api::duration::duration;

/// Drain settings of a BGPPeer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long routes stay announced with GRACEFUL_SHUTDOWN (RFC 8326) before they are withdrawn.
    /// Zero: they are withdrawn at once.
    pub time: Duration,
    /// Whether cordoning the node is enough to drain it.
    pub on_cordon: bool,
}

impl Drain {
    /// Long enough for routers to switch to other paths, short enough for any termination grace
    /// period.
    pub const DEFAULT_TIME: Duration = Duration::from_secs(5);
    /// Maximum drain time: it must end within a Pod's termination grace period.
    pub const MAX_TIME: Duration = Duration::from_secs(45);
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            time: Self::DEFAULT_TIME,
            on_cordon: false,
        }
    }
}

/// The drain settings of a Service's annotation `ferrolb.io/drain`: its time replaces that of the
/// BGPPeer; a cordon drains the routes if either of them asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainOverride {
    /// Replaces the peer's time.
    pub time: Option<Duration>,
    /// Drains on cordon even if the peer doesn't.
    pub on_cordon: bool,
}

impl DrainOverride {
    const ON_CORDON: &str = "on-cordon";

    /// Parses `30s`, `on-cordon` or `30s,on-cordon`.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for word in text.split(',').map(str::trim) {
            if word == Self::ON_CORDON {
                parsed.on_cordon = true;
            } else {
                let time = drain_time("", word);
                let time = time.map_err(|_| {
                    format!(
                        "{text:?} is not valid: write a time from 0s to {}s, on-cordon, or both \
                         (30s,on-cordon)",
                        Drain::MAX_TIME.as_secs()
                    )
                })?;
                parsed.time = Some(time);
            }
        }
        Ok(parsed)
    }

    /// The settings for a service's routes to a peer.
    #[must_use]
    pub fn applied_to(self, peer: Drain) -> Drain {
        Drain {
            time: self.time.unwrap_or(peer.time),
            on_cordon: self.on_cordon || peer.on_cordon,
        }
    }
}

/// Parses a drain time of a BGPPeer or a Service.
///
/// # Errors
/// The text is no duration, or the time exceeds [`Drain::MAX_TIME`].
pub(crate) fn drain_time(path: &str, text: &str) -> Result<Duration, FieldError> {
    let time = duration(path, text)?;
    if time <= Drain::MAX_TIME {
        return Ok(time);
    }
    let max = Drain::MAX_TIME.as_secs();
    Err(FieldError::new(path, format!("{text}: use 0s to {max}s")))
}
