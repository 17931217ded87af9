//! How routes leave when a node is to carry no more traffic.

use std::time::Duration;

/// Settings of a BGPPeer, or of a Service by the annotation `ferrolb.io/drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long routes stay after they were told again with GRACEFUL_SHUTDOWN (RFC 8326). Zero: they are withdrawn at once.
    pub time: Duration,
    /// Whether a cordon of the node alone is reason enough.
    pub on_cordon: bool,
}

impl Drain {
    /// Long enough for routers to take other paths, short enough for any termination grace period.
    pub const DEFAULT_TIME: Duration = Duration::from_secs(10);
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
