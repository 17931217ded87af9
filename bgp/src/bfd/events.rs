//! Inputs, outputs and status of the BFD machine.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::packet::{AuthenticationType, Diagnostic, PACKET_LENGTH, PacketError, State};
use super::timers::Timers;

/// Distance to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hops {
    /// On the same link (RFC 5881).
    Single,
    /// Behind routers (RFC 5883).
    Multi,
}

impl Hops {
    /// UDP destination port.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Single => 3784,
            Self::Multi => 4784,
        }
    }
}

/// The endpoints of a session, which identify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// Address of the peer.
    pub remote: IpAddr,
    /// Local address; `None` accepts any.
    pub local: Option<IpAddr>,
    /// Interface index; `None` accepts any. Required for link-local addresses.
    pub interface: Option<u32>,
    /// Distance to the peer.
    pub hops: Hops,
}

/// Role of our end (RFC 5880 §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Role {
    /// We send packets from the start.
    #[default]
    Active,
    /// We send packets only after we have received one.
    Passive,
}

/// Configuration of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionConfig {
    /// Timers that have passed [`Timers::check`].
    pub timers: Timers,
    /// Role of our end.
    pub role: Role,
    /// Minimum TTL or hop limit of a received packet with [`Hops::Multi`]. On a single hop the
    /// minimum is always 255 (RFC 5881 §5).
    pub min_ttl: u8,
}

impl Default for SessionConfig {
    /// 300 ms × 3, active; with [`Hops::Multi`], at most one router on the path.
    fn default() -> Self {
        Self {
            timers: Timers::default(),
            role: Role::Active,
            min_ttl: 254,
        }
    }
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Source address.
    pub remote: IpAddr,
    /// Destination address.
    pub local: IpAddr,
    /// Index of the receiving interface.
    pub interface: u32,
    /// Distance that belongs to the port of the receiving socket.
    pub hops: Hops,
    /// TTL or hop limit.
    pub ttl: u8,
    /// UDP payload.
    pub octets: &'a [u8],
}

/// An input of the machine. Inputs for an unknown path have no effect.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Create a session or change its configuration. A change does not take the session down.
    Set {
        /// The session.
        path: Path,
        /// Its configuration.
        config: SessionConfig,
    },
    /// Remove the session without sending AdminDown; an established peer then sees a detection
    /// timeout. Use [`Input::AdminDown`] first to avoid that.
    Remove {
        /// The session.
        path: Path,
    },
    /// Take the session administratively down (RFC 5880 §6.8.16) and keep sending AdminDown.
    AdminDown {
        /// The session.
        path: Path,
    },
    /// Leave AdminDown.
    AdminUp {
        /// The session.
        path: Path,
    },
    /// A datagram was received.
    Received(Arrival<'a>),
    /// The time of [`poll_timeout`](super::Bfd::poll_timeout) was reached. An early or repeated
    /// timeout is harmless.
    Timeout,
}

/// A packet to send now, with [`TRANSMIT_TTL`](super::TRANSMIT_TTL), from the session's port in
/// [`SOURCE_PORTS`](super::SOURCE_PORTS) to the port of its [`Hops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The session.
    pub path: Path,
    /// UDP payload.
    pub octets: [u8; PACKET_LENGTH],
}

/// Cause of a state change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A packet of the three-way handshake.
    Handshake,
    /// No packet within the detection time.
    DetectionTimeExpired,
    /// The peer reported Down, with this diagnostic.
    PeerDown(Diagnostic),
    /// The peer reported AdminDown, which is not a path failure (RFC 5882 §4.2).
    PeerAdminDown,
    /// [`Input::AdminDown`] or [`Input::AdminUp`].
    Administrative,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake => f.write_str("handshake with the peer"),
            Self::DetectionTimeExpired => {
                f.write_str("detection time expired without a packet from the peer")
            }
            Self::PeerDown(diagnostic) => {
                write!(f, "peer signaled Down with diagnostic \"{diagnostic}\"")
            }
            Self::PeerAdminDown => f.write_str("peer signaled AdminDown"),
            Self::Administrative => f.write_str("administrative change on this side"),
        }
    }
}

/// A state change of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The session.
    pub path: Path,
    /// Previous state.
    pub from: State,
    /// New state.
    pub to: State,
    /// Cause of the change.
    pub cause: Cause,
}

impl Change {
    /// Whether the path failed, so that clients of BFD must act (RFC 5882 §4.2). An administrative
    /// shutdown by either side is not a failure.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        let failed = matches!(self.cause, Cause::DetectionTimeExpired | Cause::PeerDown(_));
        self.from == State::Up && failed
    }
}

/// Reason for discarding a packet. A discarded packet does not restart the detection time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Discard {
    /// Malformed, or fails a check of RFC 5880 §6.8.6.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Your Discriminator matches no session.
    #[error("no session has the discriminator {0:#010x}")]
    UnknownDiscriminator(u32),
    /// Your Discriminator is 0 and the addresses match no session.
    #[error("no session with this address")]
    UnknownAddress,
    /// The packet passed more routers than permitted (RFC 5881 §5, RFC 5883 §5).
    #[error("TTL {ttl} is below {min}")]
    Ttl {
        /// TTL or hop limit of the packet.
        ttl: u8,
        /// Permitted minimum.
        min: u8,
    },
    /// The packet is authenticated, which is unsupported.
    #[error("{0} authentication is unsupported: disable BFD authentication on the peer")]
    Authenticated(AuthenticationType),
}

/// Counter of discarded packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Number of discarded packets.
    pub count: u64,
    /// Reason for the last one.
    pub last: Option<Discard>,
}

impl Discarded {
    pub(super) fn count(&mut self, reason: Discard) {
        self.count += 1;
        self.last = Some(reason);
    }
}

/// Snapshot of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// The session.
    pub path: Path,
    /// Local state.
    pub state: State,
    /// Time of the last state change.
    pub since: Instant,
    /// Local diagnostic: reason of the last state change, as sent to the peer.
    pub diagnostic: Diagnostic,
    /// Local discriminator.
    pub discriminator: u32,
    /// Discriminator of the peer; 0 if unknown.
    pub remote_discriminator: u32,
    /// State of the peer in its last packet.
    pub remote_state: State,
    /// Diagnostic of the peer in its last packet.
    pub remote_diagnostic: Diagnostic,
    /// Transmit interval before jitter; `None` while no periodic packets are sent.
    pub transmit_interval: Option<Duration>,
    /// Detection time of our end; `None` until a packet is received, and after expiry.
    pub detection_time: Option<Duration>,
    /// Detection time of the peer. Send AdminDown for as long as this was before
    /// [`Input::AdminDown`], then remove the session.
    pub remote_detection_time: Duration,
    /// Number of failures: transitions out of Up that neither side requested.
    pub flaps: u64,
    /// Time of the last failure.
    pub last_flap: Option<Instant>,
    /// Accepted packets.
    pub received: u64,
    /// Sent packets.
    pub sent: u64,
    /// Discarded packets with the session's addresses or discriminator.
    pub discarded: Discarded,
}
