//! The interface of the BGP and BFD state machines (RFC 5882): the BFD session that a peer
//! requests, and the events and status that it gets back.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::bfd::{Change, Hops, SessionConfig, SessionStatus, State};
use crate::config::PeerConfig;

/// The BFD session that a peer requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdTarget {
    /// The peer's address.
    pub remote: IpAddr,
    /// Our address, if it is configured.
    pub local: Option<IpAddr>,
    /// The interface's name, if it is configured.
    pub interface: Option<String>,
    /// Single-hop or multihop.
    pub hops: Hops,
    /// Timers and role of the session.
    pub config: SessionConfig,
}

impl BfdTarget {
    /// The BFD session that is configured. A template of dynamic neighbors has none.
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

    /// Whether both sessions have the same ends; their timers may differ.
    pub(super) fn has_same_path(&self, other: &Self) -> bool {
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

/// An event of the BFD session of a peer.
#[derive(Clone, Debug)]
pub enum BfdEvent {
    /// The state changed.
    Changed {
        /// The change.
        change: Change,
        /// The status after the change.
        status: SessionStatus,
    },
    /// The status, sent periodically.
    Status(SessionStatus),
    /// The session could not be set up. The peer requests it again at its next attempt.
    Failed {
        /// Why, and what to do about it.
        reason: String,
    },
}

/// The status of a peer's BFD session, for the CLI and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BfdStatus {
    /// Our state.
    pub state: State,
    /// Seconds in that state.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub since: Duration,
    /// Why it last changed, as sent to the peer.
    pub diagnostic: String,
    /// The peer's state.
    pub remote_state: State,
    /// Why that last changed.
    pub remote_diagnostic: String,
    /// Seconds between our packets; `None` if we are passive and wait for the peer.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub transmit_interval: Option<Duration>,
    /// Seconds without a packet after which the path is lost; `None` while none is received.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub detection_time: Option<Duration>,
    /// Number of times the path was lost.
    pub flaps: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets received and valid.
    pub received: u64,
    /// Packets discarded.
    pub discarded: u64,
    /// Why the last one was discarded.
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
