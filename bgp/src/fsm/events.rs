//! What goes into the machine and what comes out of it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;

use crate::config::{PeerConfig, Secret, Timers};
use crate::fsm::bfd_target::{BfdEvent, BfdTarget};
use crate::fsm::history::cause::Cause;
use crate::fsm::history::summary::CapabilitySummary;
use crate::fsm::shutdown::ShutdownMode;
use crate::fsm::timers::send_hold;
use crate::rib::Route;
use crate::wire::{Agreement, Family, Update};

/// One TCP connection. The machine numbers those it dials, the driver those it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionId {
    /// We dialled.
    Dialled(u64),
    /// The peer dialled.
    Accepted(u64),
}

/// The states of RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Nothing going on, and connections of the peer are refused: backing off after an error.
    #[default]
    Idle,
    /// Waiting to dial (again), or for the peer to dial.
    Active,
    /// Dialling.
    Connect,
    /// OPEN sent, the peer's not yet seen.
    OpenSent,
    /// Both OPENs exchanged, waiting for the first KEEPALIVE.
    OpenConfirm,
    /// The session is up.
    Established,
}

impl State {
    /// Its name in RFC 4271.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Active => "Active",
            Self::Connect => "Connect",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the kernel said when a connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoFailure {
    /// Its kind.
    pub kind: io::ErrorKind,
    /// In the kernel's words, and with what was tried where that isn't plain.
    pub text: String,
}

impl From<io::Error> for IoFailure {
    fn from(error: io::Error) -> Self {
        Self {
            kind: error.kind(),
            text: error.to_string(),
        }
    }
}

/// Segments that the kernel dropped for their TCP MD5 signature (RFC 2385 §2), by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Md5Drops {
    /// There was none, and a password is configured for the sender.
    pub missing: u64,
    /// There was one, and no password is configured for the sender.
    pub unexpected: u64,
    /// It was made with another password.
    pub wrong: u64,
}

/// Changes of what one peer is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerRoutes {
    /// The peer's name.
    pub peer: String,
    /// Prefixes with their new route; `None` withdraws.
    pub changes: Vec<(IpNet, Option<Route>)>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Add a peer or change it. The configuration has passed [`PeerConfig::check`].
    SetPeer(PeerConfig),
    /// Forget the peer of this name.
    RemovePeer(String),
    /// New desired routes, for as many peers as the change concerns: what comes in one batch
    /// is encoded once for all of them.
    Routes(Vec<PeerRoutes>),
    /// The first complete desired state has been handed over: from now on peers are told.
    OpenGate,
    /// Whether to keep up to date what [`Speaker::other_paths`](super::Speaker::other_paths) gives.
    /// Each time that this is wanted, routers are asked for their routes again (RFC 2918), after
    /// what is still to be sent. What is known already stays known.
    TrackOtherPaths(bool),
    /// A dialled connection is up.
    Connected {
        /// Which one.
        connection: ConnectionId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// A dialled connection failed.
    ConnectFailed {
        /// Which one.
        connection: ConnectionId,
        /// Why.
        error: IoFailure,
    },
    /// The kernel dropped segments for their TCP MD5 signature since a connection is being dialled.
    /// They may have been anybody's: it is a hint, used if dialling fails.
    Md5Dropped {
        /// The connection.
        connection: ConnectionId,
        /// How many, in all since we dial.
        drops: Md5Drops,
    },
    /// Somebody connected to us.
    Accepted {
        /// The number the driver gave it.
        connection: ConnectionId,
        /// Our end.
        local: SocketAddr,
        /// The other end.
        remote: SocketAddr,
    },
    /// Octets arrived.
    Received {
        /// Where.
        connection: ConnectionId,
        /// In any portions.
        octets: Bytes,
    },
    /// The peer closed (no error), or the connection broke.
    Closed {
        /// Which one.
        connection: ConnectionId,
        /// What broke it.
        error: Option<IoFailure>,
    },
    /// The peer's configuration can't be put into effect (say, its MD5 key not be installed):
    /// it doesn't run until it is set anew.
    PeerUnusable {
        /// The peer's name.
        peer: String,
        /// Why.
        reason: String,
    },
    /// BFD has something to tell (RFC 5882).
    Bfd {
        /// The peer's name.
        peer: String,
        /// What.
        event: BfdEvent,
    },
    /// The time of [`poll_timeout`](super::Speaker::poll_timeout) has come. Never harmful.
    Timeout,
    /// Take leave of every peer, and end.
    Shutdown {
        /// Shown to the peer's operator (RFC 9003), where the peer's configuration says nothing else.
        text: String,
        /// What becomes of the routes.
        mode: ShutdownMode,
    },
}

/// What a TCP connection has to have; one that can't get it must not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// The interface it is bound to, by name.
    pub interface: Option<String>,
    /// TCP MD5 key, and no other.
    pub password: Option<Secret>,
    /// The least TTL or hop limit that segments may arrive with (RFC 5082); ours leave with 255 then.
    pub min_ttl: Option<u8>,
    /// Give up when sent octets stay unacknowledged, or the peer's window closed, for that long
    /// (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
}

impl From<&PeerConfig> for TcpOptions {
    fn from(config: &PeerConfig) -> Self {
        let transport = &config.transport;
        Self {
            interface: transport.source_interface.clone(),
            password: transport.password.clone(),
            // One hop: 255, since nobody in between has decremented it.
            min_ttl: transport.ttl_security.map(|hops| 0u8.wrapping_sub(hops)),
            user_timeout: Some(user_timeout(&config.timers)),
        }
    }
}

/// When TCP gives up by itself. A peer that doesn't read looks to the kernel like one that is gone
/// (tcp(7)), and it may leave us unread for the send hold time (RFC 9687 §4): that timer comes first,
/// and says what is wrong. TCP sees two things that it doesn't: KEEPALIVEs for a closed window, which
/// fit into the kernel's buffer for days, and, with hold time zero, a dead path. Any other dead path
/// the hold timers of both ends have noticed long before.
fn user_timeout(timers: &Timers) -> Duration {
    const HEAD_START: Duration = Duration::from_secs(5);
    send_hold(timers.hold_time, timers.send_hold_time) + HEAD_START
}

/// Something for the driver to do, or for the speaker's owner to know.
#[derive(Clone, Debug)]
pub enum Output {
    /// Dial. Answered with `Connected` or `ConnectFailed`.
    Connect {
        /// The number of the new connection.
        connection: ConnectionId,
        /// The peer's name, for logs.
        peer: String,
        /// Where to.
        remote: SocketAddr,
        /// From where; the kernel chooses if not given.
        source: Option<IpAddr>,
        /// What has to be in place before the first segment leaves.
        options: TcpOptions,
    },
    /// Expect connections from this network, with this key and no other.
    Listen {
        /// The peer's name.
        peer: String,
        /// Where they come from: one address, or many for dynamic neighbours.
        remote: IpNet,
        /// What they have to have.
        options: TcpOptions,
    },
    /// Expect no more connections from this network.
    Unlisten {
        /// The network.
        remote: IpNet,
    },
    /// Watch over the path to the peer, or change how. Answered with [`Input::Bfd`], in time.
    BfdSet {
        /// The peer's name.
        peer: String,
        /// The session.
        target: BfdTarget,
    },
    /// End the BFD session in order: AdminDown for one detection time, then it is forgotten.
    BfdRemove {
        /// The peer's name.
        peer: String,
    },
    /// Put the BFD session into AdminDown.
    BfdAdminDown {
        /// The peer's name.
        peer: String,
    },
    /// From now on this connection's segments are signed with this TCP MD5 key. It had another one
    /// before: changing the key is no reason for a new session. If that fails, the answer is
    /// `PeerUnusable`.
    Rekey {
        /// Which one.
        connection: ConnectionId,
        /// The peer's name.
        peer: String,
        /// Its address.
        remote: IpAddr,
        /// The new key.
        password: Secret,
    },
    /// Send what `poll_transmit` still has, close the sending half, read to the end and throw
    /// that away, then report `Closed`. A `Close` follows in any case.
    Finish {
        /// Which one.
        connection: ConnectionId,
    },
    /// Close now and forget. Every connection ends with exactly one of these.
    Close {
        /// Which one.
        connection: ConnectionId,
    },
    /// For the owner.
    Event(Event),
    /// After `Shutdown`: nothing is left to do.
    Stopped,
}

/// What the speaker's owner may want to know. `peer` is always the configured name, or that of a
/// dynamic neighbour ([`PeerStatus::name`](super::PeerStatus::name)).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The state of a peer changed.
    StateChanged {
        /// The peer.
        peer: String,
        /// Before.
        from: State,
        /// Now.
        to: State,
    },
    /// A session is up.
    Established {
        /// The peer.
        peer: String,
        /// What both ends agreed on.
        negotiated: Agreement,
    },
    /// A session, or an attempt at one, ended.
    Down {
        /// The peer.
        peer: String,
        /// Why.
        cause: Cause,
        /// Whether a session was up.
        was_established: bool,
        /// When we dial again; `None` if we don't by ourselves.
        retry: Option<Duration>,
    },
    /// One of two connections to the same peer went; the other lives on.
    ConnectionClosed {
        /// The peer.
        peer: String,
        /// Which one.
        connection: ConnectionId,
        /// Why.
        cause: Cause,
    },
    /// A connection was turned away.
    Rejected {
        /// Who it was.
        remote: SocketAddr,
        /// Why.
        reason: RejectReason,
    },
    /// A negotiated family isn't announced, because no next hop of it is known.
    NoNextHop {
        /// The peer.
        peer: String,
        /// The family.
        family: Family,
    },
    /// Routes are not announced because their attributes leave no room for a prefix in the longest
    /// message that the peer takes. Emitted for the first of a session; [`PeerStatus`] has the count.
    ///
    /// [`PeerStatus`]: super::PeerStatus
    RouteTooLong {
        /// The peer.
        peer: String,
        /// The prefix of one such route.
        prefix: IpNet,
        /// The longest message that the peer takes, in octets.
        max_length: usize,
    },
    /// An UPDATE of a peer with [`PeerConfig::receive`].
    Received {
        /// The peer.
        peer: String,
        /// As decoded, with RFC 7606 errors inside.
        update: Box<Update>,
    },
    /// An UPDATE had errors that the session survives (RFC 7606 §6 wants it logged). Told once in ten
    /// seconds at most: a peer must not fill the log.
    UpdateErrors {
        /// The peer.
        peer: String,
        /// What was wrong, and what was done about it, in words.
        errors: Vec<String>,
        /// All of it but the header.
        octets: Bytes,
        /// Such UPDATEs since the last that was told.
        suppressed: u64,
    },
    /// BFD of a peer changed its state, or a session is waiting for it (strict mode).
    Bfd {
        /// The peer.
        peer: String,
        /// The state now.
        state: crate::bfd::State,
        /// Why, in words.
        reason: String,
    },
    /// The peer refused capabilities of our OPEN: the next goes without them (RFC 5492 §3).
    CapabilitiesDropped {
        /// The peer.
        peer: String,
        /// Which ones.
        capabilities: Vec<CapabilitySummary>,
    },
    /// The owner read so slowly that events were dropped; received UPDATEs never are. A snapshot says
    /// how peers are now.
    Missed {
        /// How many.
        events: usize,
    },
    /// Routes came for a peer that isn't configured; they were dropped.
    UnknownPeer {
        /// The name used.
        peer: String,
    },
}

/// Why an incoming connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RejectReason {
    /// No peer has these addresses.
    #[error("no peer is configured with its address and ours")]
    UnknownAddress,
    /// The peer has a session already.
    #[error("the peer has a session already")]
    SessionExists,
    /// Backing off after an error, or shutting down.
    #[error("the peer is Idle")]
    Idle,
    /// The template has as many neighbours as are allowed.
    #[error("the template has too many neighbours")]
    TooMany,
}
