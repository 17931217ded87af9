//! How routes leave when a node is to carry no more traffic.

use std::time::Duration;

use crate::core::api::FieldError;
use crate::core::api::duration::duration;

/// Settings of a BGPPeer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long routes stay after they were told again with GRACEFUL_SHUTDOWN (RFC 8326). Zero: they are withdrawn at once.
    pub time: Duration,
    /// Whether a cordon of the node alone is reason enough.
    pub on_cordon: bool,
}

impl Drain {
    /// Long enough for routers to take other paths, short enough for any termination grace period.
    pub const DEFAULT_TIME: Duration = Duration::from_secs(5);
    /// The longest time that may be asked for: what a Pod's grace period leaves.
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

/// What a Service asks for by its annotation `ferrolb.io/drain`, beyond what the BGPPeer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainOverride {
    /// Instead of the peer's.
    pub time: Option<Duration>,
    /// Whether a cordon is reason enough, also where the peer says no.
    pub on_cordon: bool,
}

impl DrainOverride {
    const ON_CORDON: &str = "on-cordon";

    /// Reads `30s`, `on-cordon` or `30s,on-cordon`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for word in text.split(',').map(str::trim) {
            if word == Self::ON_CORDON {
                parsed.on_cordon = true;
            } else {
                let time = drain_time("", word);
                let time = time.map_err(|_| {
                    format!(
                        "{text:?} is none of 0s to {}s, on-cordon, or both (30s,on-cordon)",
                        Drain::MAX_TIME.as_secs()
                    )
                })?;
                parsed.time = Some(time);
            }
        }
        Ok(parsed)
    }

    /// What holds for a service towards a peer.
    #[must_use]
    pub fn applied_to(self, peer: Drain) -> Drain {
        Drain {
            time: self.time.unwrap_or(peer.time),
            on_cordon: self.on_cordon || peer.on_cordon,
        }
    }
}

/// A time for [`Drain`], wherever it stands.
///
/// # Errors
/// No duration, or a longer one than a Pod has seconds left.
pub(crate) fn drain_time(path: &str, text: &str) -> Result<Duration, FieldError> {
    let time = duration(path, text)?;
    if time <= Drain::MAX_TIME {
        return Ok(time);
    }
    let most = Drain::MAX_TIME.as_secs();
    Err(FieldError::new(path, format!("{text}: use 0s to {most}s")))
}
