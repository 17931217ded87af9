//! What goes into the machine and what comes out of it.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::packet::{AuthenticationType, Diagnostic, PACKET_LENGTH, PacketError, State};
use super::timers::Timers;

/// How far away the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hops {
    /// On the same link (RFC 5881).
    Single,
    /// Behind routers (RFC 5883).
    Multi,
}

impl Hops {
    /// The UDP port packets are sent to and received at.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Single => 3784,
            Self::Multi => 4784,
        }
    }
}

/// Between which ends a session runs: its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// The peer.
    pub remote: IpAddr,
    /// Our address; without it any of ours will do.
    pub local: Option<IpAddr>,
    /// Index of the interface; needed for link-local addresses, otherwise any will do.
    pub interface: Option<u32>,
    /// How far away the peer is.
    pub hops: Hops,
}

/// Who speaks first (RFC 5880 §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Role {
    /// We send whether or not the peer does.
    #[default]
    Active,
    /// We send nothing until the peer has.
    Passive,
}

/// How a session is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionConfig {
    /// How fast. They have passed [`Timers::check`].
    pub timers: Timers,
    /// Who speaks first.
    pub role: Role,
    /// The least TTL or hop limit a packet of [`Hops::Multi`] may arrive with. On a single hop it is
    /// always 255 (RFC 5881 §5).
    pub min_ttl: u8,
}

impl Default for SessionConfig {
    /// 300 ms × 3, active, one router on the way where it isn't a single hop.
    fn default() -> Self {
        Self {
            timers: Timers::default(),
            role: Role::Active,
            min_ttl: 254,
        }
    }
}

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Where from.
    pub remote: IpAddr,
    /// Where to.
    pub local: IpAddr,
    /// Index of the interface.
    pub interface: u32,
    /// Which port's socket it came to.
    pub hops: Hops,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The payload.
    pub octets: &'a [u8],
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Begin a session, or change how it runs, which does not take it down.
    Set {
        /// Which one.
        path: Path,
        /// How.
        config: SessionConfig,
    },
    /// Forget a session without a word. [`Input::AdminDown`] before it spares the peer the alarm.
    Remove {
        /// Which one.
        path: Path,
    },
    /// Tell the peer that the session ends on purpose, and keep telling it.
    AdminDown {
        /// Which one.
        path: Path,
    },
    /// Take it up again.
    AdminUp {
        /// Which one.
        path: Path,
    },
    /// A datagram came.
    Received(Arrival<'a>),
    /// The time of [`poll_timeout`](super::Bfd::poll_timeout) has come. Never harmful.
    Timeout,
}

/// A packet to be sent now, with TTL or hop limit 255, from a port of
/// [`SOURCE_PORTS`](super::SOURCE_PORTS) that stays the same as long as the session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Whose it is; the port is that of its [`Hops`].
    pub path: Path,
    /// The payload.
    pub octets: [u8; PACKET_LENGTH],
}

/// What brought a change of state about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The ends are finding each other.
    Handshake,
    /// No packet within the detection time.
    DetectionTimeExpired,
    /// The peer is down, and says why.
    PeerDown(Diagnostic),
    /// The peer ended the session on purpose: nothing failed (RFC 5882 §4.2).
    PeerAdminDown,
    /// We were told to.
    Administrative,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake => f.write_str("both ends hear each other"),
            Self::DetectionTimeExpired => {
                f.write_str("nothing was heard from the peer for the detection time")
            }
            Self::PeerDown(diagnostic) => write!(f, "the peer is down: {diagnostic}"),
            Self::PeerAdminDown => f.write_str("the peer ended BFD on purpose"),
            Self::Administrative => f.write_str("we were told to"),
        }
    }
}

/// A session changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub path: Path,
    /// Before.
    pub from: State,
    /// Now.
    pub to: State,
    /// Why.
    pub cause: Cause,
}

impl Change {
    /// Whether the path is lost, so that whoever relies on it has to act (RFC 5882 §4.2). The end of
    /// a session on purpose, by either side, is no failure.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        let failed = matches!(self.cause, Cause::DetectionTimeExpired | Cause::PeerDown(_));
        self.from == State::Up && failed
    }
}

/// Why a packet was thrown away. It then counts for nothing: the detection time runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Discard {
    /// It is no packet that may be looked at.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// It names a session that isn't ours.
    #[error("no session has the discriminator {0:#010x}")]
    UnknownDiscriminator(u32),
    /// It is from somebody we don't know.
    #[error("no session with this address")]
    UnknownAddress,
    /// It came over more hops than it may have (RFC 5881 §5, RFC 5883 §5).
    #[error("TTL {ttl} is below {least}")]
    Ttl {
        /// What it came with.
        ttl: u8,
        /// What it must have at least.
        least: u8,
    },
    /// It is authenticated, and we have no key.
    #[error("the peer uses {0}, but no authentication is configured here: turn it off at the peer")]
    Authenticated(AuthenticationType),
}

/// Packets that came to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// How many.
    pub count: u64,
    /// Why, the last one.
    pub last: Option<Discard>,
}

impl Discarded {
    pub(super) fn count(&mut self, reason: Discard) {
        self.count += 1;
        self.last = Some(reason);
    }
}

/// A snapshot of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Which one.
    pub path: Path,
    /// Its state.
    pub state: State,
    /// When it came into this state.
    pub since: Instant,
    /// Why it last went down, as we tell the peer.
    pub diagnostic: Diagnostic,
    /// Our number for it.
    pub discriminator: u32,
    /// The peer's number for it, 0 if unknown.
    pub remote_discriminator: u32,
    /// The peer's state, as it said last.
    pub remote_state: State,
    /// Why the peer last changed its state.
    pub remote_diagnostic: Diagnostic,
    /// How often packets are sent, before jitter; none if the peer wants none, or isn't there yet
    /// for a passive end.
    pub transmit_interval: Option<Duration>,
    /// After how much silence the session goes down; none while the peer isn't heard.
    pub detection_time: Option<Duration>,
    /// After how much silence of ours the peer takes it down. As it is before
    /// [`Input::AdminDown`], so long should that last before the session is removed.
    pub remote_detection_time: Duration,
    /// How often it went down from Up without anybody's wish.
    pub flaps: u64,
    /// When it last did.
    pub last_flap: Option<Instant>,
    /// Packets that counted.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets thrown away that came from the peer's address or named the session.
    pub discarded: Discarded,
}
