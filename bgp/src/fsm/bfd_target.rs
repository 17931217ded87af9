//! Between the machine of BGP and that of BFD (RFC 5882): what one asks for and the other tells.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::bfd::{Change, Hops, SessionConfig, SessionStatus, State};
use crate::config::PeerConfig;

/// A BFD session that a peer wants to be watched over by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdTarget {
    /// The peer.
    pub remote: IpAddr,
    /// Our address, if the peer's configuration names one.
    pub local: Option<IpAddr>,
    /// The interface, by name.
    pub interface: Option<String>,
    /// How far away the peer is.
    pub hops: Hops,
    /// How the session runs.
    pub config: SessionConfig,
}

impl BfdTarget {
    /// What the configuration asks for; a network of dynamic neighbours has no path of its own.
    pub(super) fn of(config: &PeerConfig) -> Option<Self> {
        let bfd = config.bfd?;
        let transport = &config.transport;
        Some(Self {
            remote: config.remote.router()?.ip().to_canonical(),
            local: transport.source_address,
            interface: transport.source_interface.clone(),
            hops: if transport.multihop {
                Hops::Multi
            } else {
                Hops::Single
            },
            config: bfd.session,
        })
    }

    /// Whether it is the same session, however it runs.
    pub(super) fn is_along(&self, other: &Self) -> bool {
        let Self {
            remote,
            local,
            interface,
            hops,
            config: _,
        } = self;
        *remote == other.remote
            && *local == other.local
            && *interface == other.interface
            && *hops == other.hops
    }
}

/// What the driver of BFD tells a peer.
#[derive(Clone, Debug)]
pub enum BfdEvent {
    /// The session changed its state.
    Changed {
        /// How.
        change: Change,
        /// All of it, after that.
        status: SessionStatus,
    },
    /// How it is, from time to time.
    Status(SessionStatus),
    /// There can be no session. The peer asks again at its next attempt.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

/// BFD of a peer as an operator wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BfdStatus {
    /// Its state.
    pub state: State,
    /// How long it has been in that state, in seconds.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub since: Duration,
    /// Why we last changed it, as we tell the peer.
    pub diagnostic: String,
    /// The peer's state.
    pub remote_state: State,
    /// Why the peer last changed it.
    pub remote_diagnostic: String,
    /// How often we send, in seconds; none if the peer isn't there for a passive end.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub transmit_interval: Option<Duration>,
    /// After how much silence the path counts as lost, in seconds; none while nothing is heard.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub detection_time: Option<Duration>,
    /// How often the path was lost.
    pub flaps: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that counted.
    pub received: u64,
    /// Packets thrown away.
    pub discarded: u64,
    /// Why the last of them was.
    pub last_discard: Option<String>,
}

impl BfdStatus {
    pub(super) fn new(now: Instant, status: &SessionStatus) -> Self {
        Self {
            state: status.state,
            since: now.saturating_duration_since(status.since),
            diagnostic: status.diagnostic.to_string(),
            remote_state: status.remote_state,
            remote_diagnostic: status.remote_diagnostic.to_string(),
            transmit_interval: status.transmit_interval,
            detection_time: status.detection_time,
            flaps: status.flaps,
            sent: status.sent,
            received: status.received,
            discarded: status.discarded.count,
            last_discard: status.discarded.last.map(|reason| reason.to_string()),
        }
    }
}
