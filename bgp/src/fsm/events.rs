//! The inputs and outputs of the state machine.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;

use super::bfd_target::{BfdEvent, BfdTarget};
use super::history::cause::Cause;
use super::history::summary::CapabilitySummary;
use super::shutdown::ShutdownMode;
use super::timers::send_hold;
use crate::config::{PeerConfig, Secret, Timers};
use crate::rib::Route;
use crate::wire::{Agreement, Family, Update};

/// The number of a TCP connection. The machine numbers those it dials, the driver those it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionId {
    /// We dialled.
    Dialled(u64),
    /// The peer dialled.
    Accepted(u64),
}

/// The states of RFC 4271 §8.2.2, ordered from the first to the last.
///
/// # Transitions
///
/// The events of RFC 4271 §8.1 that cause them are in brackets. A peer with two connections is in
/// the state of the more advanced one.
///
/// | from | to | when |
/// |---|---|---|
/// | Idle | Connect | the peer is configured [1, 3], or its wait is over [13] |
/// | Idle | Active | the same for a passive peer [4, 5, 13] |
/// | Connect | OpenSent | the attempt succeeded [16]: sends OPEN |
/// | Connect | Active | the attempt failed [18] or timed out [9] |
/// | Active | Connect | the wait is over [9] |
/// | Active, Connect | OpenSent | a connection was accepted [17]: sends OPEN |
/// | OpenSent | OpenConfirm | received an acceptable OPEN [19]: sends KEEPALIVE |
/// | OpenConfirm | Established | received KEEPALIVE [26] |
/// | OpenSent, OpenConfirm | Idle | the hold timer expired [10] |
/// | Established | Active | the hold timer expired [10], or the send hold timer (RFC 9687) [29] |
/// | Established | OpenConfirm | a new connection replaces the session (RFC 4724 §4.2) |
/// | OpenSent and later | Active | received Cease [25], closed [18], or reconfigured |
/// | OpenSent and later | Idle | received another NOTIFICATION [24, 25] |
/// | OpenSent and later | Idle | malformed [21, 22, 28] or unexpected message |
/// | OpenSent and later | Idle | prefix limit exceeded, BFD down |
/// | any | Idle | shutdown, removed, or the configuration cannot be applied [2, 8] |
///
/// In BFD strict mode the KEEPALIVE of OpenConfirm is sent once BFD is up.
///
/// Two rules differ from RFC 4271. Idle refuses connections of the peer, so it is entered only
/// after an error that is likely to repeat; after all others the peer waits in Active. And a failed
/// attempt to connect leads to Active with the ConnectRetryTimer, not to Idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Waiting after an error, disabled, or a template. Connections of the peer are refused.
    #[default]
    Idle,
    /// Waiting for the next attempt to connect, or for the peer to connect.
    Active,
    /// Connecting.
    Connect,
    /// Waiting for the peer's OPEN.
    OpenSent,
    /// Both OPENs are received and acceptable; waiting for the first KEEPALIVE.
    OpenConfirm,
    /// The session is established.
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

/// The kernel's error for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoFailure {
    /// Its kind.
    pub kind: io::ErrorKind,
    /// Its text, with what was tried where the error does not say it.
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

/// Numbers of segments that the kernel dropped for their TCP MD5 signature (RFC 2385 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Md5Drops {
    /// Without a signature, though a password is configured for the sender.
    pub missing: u64,
    /// With a signature, though no password is configured for the sender.
    pub unexpected: u64,
    /// With a signature of another password.
    pub wrong: u64,
}

/// Changes of the routes that are to be announced to one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerRoutes {
    /// The peer's name.
    pub peer: String,
    /// Prefixes with their new route; `None` withdraws.
    pub changes: Vec<(IpNet, Option<Route>)>,
}

/// An input of the state machine. In brackets: the events of RFC 4271 §8.1 that it stands for.
///
/// Not supported, as RFC 4271 §8.1.1 allows: DampPeerOscillations by a separate counter (events 6
/// and 7; [`Timer::IdleHold`](super::Timer::IdleHold) grows instead) and DelayOpen (events 12 and
/// 20).
#[derive(Clone, Debug)]
pub enum Input {
    /// Adds or changes a peer. The configuration has passed [`PeerConfig::check`].
    ///
    /// [1 ManualStart, 3 AutomaticStart; for a passive peer 4
    /// ManualStart_with_PassiveTcpEstablishment, 5 AutomaticStart_with_PassiveTcpEstablishment]
    SetPeer(PeerConfig),
    /// Removes the peer of this name.
    ///
    /// [2 ManualStop]
    RemovePeer(String),
    /// New desired routes of any number of peers. What comes in one batch is encoded once for all
    /// of them.
    Routes(Vec<PeerRoutes>),
    /// The first complete set of desired routes was given: announcing may begin.
    OpenGate,
    /// Whether to keep the answer of [`Speaker::other_paths`](super::Speaker::other_paths) up to
    /// date. Each `true` requests the routes of all routers again (RFC 2918), after the updates
    /// that are still to be sent. What is known stays known.
    TrackOtherPaths(bool),
    /// A dialled connection is established.
    ///
    /// [16 Tcp_CR_Acked]
    Connected {
        /// The connection.
        connection: ConnectionId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// An attempt to connect failed.
    ///
    /// [18 TcpConnectionFails]
    ConnectFailed {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        error: IoFailure,
    },
    /// The kernel dropped segments for their TCP MD5 signature during an attempt to connect. Other
    /// hosts may have sent them, so they only explain an attempt that fails.
    Md5Dropped {
        /// The connection.
        connection: ConnectionId,
        /// Total since the attempt began.
        drops: Md5Drops,
    },
    /// A connection was accepted; the machine decides whose it is.
    ///
    /// [17 TcpConnectionConfirmed; 14 TcpConnection_Valid or 15 Tcp_CR_Invalid after the decision]
    Accepted {
        /// The connection, as numbered by the driver.
        connection: ConnectionId,
        /// Our end.
        local: SocketAddr,
        /// The other end.
        remote: SocketAddr,
    },
    /// Octets arrived, in any portions.
    ///
    /// [19 BGPOpen, 21 BGPHeaderErr, 22 BGPOpenMsgErr, 23 OpenCollisionDump, 24 NotifMsgVerErr, 25
    /// NotifMsg, 26 KeepAliveMsg, 27 UpdateMsg, 28 UpdateMsgErr, depending on the message]
    Received {
        /// The connection.
        connection: ConnectionId,
        /// The octets.
        octets: Bytes,
    },
    /// The peer closed the connection, or it broke.
    ///
    /// [18 TcpConnectionFails]
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// Why it broke; `None` if the peer closed it in order.
        error: Option<IoFailure>,
    },
    /// The peer's configuration cannot be applied, for example because the kernel refused its MD5
    /// key. The peer is disabled until it is configured again.
    ///
    /// [2 ManualStop]
    PeerUnusable {
        /// The peer's name.
        peer: String,
        /// Why.
        reason: String,
    },
    /// An event of the peer's BFD session (RFC 5882).
    Bfd {
        /// The peer's name.
        peer: String,
        /// The event.
        event: BfdEvent,
    },
    /// The time of [`poll_timeout`](super::Speaker::poll_timeout) has come. An early timeout does
    /// no harm.
    ///
    /// [9 ConnectRetryTimer_Expires, 10 HoldTimer_Expires, 11 KeepaliveTimer_Expires, 13
    /// IdleHoldTimer_Expires, 29 SendHoldTimer_Expires (RFC 9687), depending on the timers]
    Timeout,
    /// Ends all sessions, then the speaker.
    ///
    /// [2 ManualStop, 8 AutomaticStop]
    Shutdown {
        /// The message to the peers' operators (RFC 9003) where the peer's configuration sets no
        /// other.
        text: String,
        /// What becomes of our routes.
        mode: ShutdownMode,
    },
}

/// Required options of a TCP connection. A connection that cannot get them must not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// The name of the interface to bind to.
    pub interface: Option<String>,
    /// The TCP MD5 key.
    pub password: Option<Secret>,
    /// The least TTL or hop limit of received segments (RFC 5082). With it, ours are sent with 255.
    pub min_ttl: Option<u8>,
    /// How long sent octets may stay unacknowledged, or the peer's window closed, until the
    /// connection breaks (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
}

impl From<&PeerConfig> for TcpOptions {
    fn from(config: &PeerConfig) -> Self {
        let transport = &config.transport;
        Self {
            interface: transport.source_interface.clone(),
            password: transport.password.clone(),
            // One hop: 255, since no router decremented it.
            min_ttl: transport.ttl_security.map(|hops| 0u8.wrapping_sub(hops)),
            user_timeout: Some(user_timeout(&config.timers)),
        }
    }
}

/// When the kernel gives up a connection. To the kernel, a peer that does not read looks like a
/// dead one (tcp(7)). Such a peer may leave octets unread for the send hold time (RFC 9687 §4), and
/// that timer names the reason, so it must expire first. The kernel's timeout covers what the timer
/// misses: KEEPALIVEs to a closed window, of which the kernel buffers days' worth, and, with hold
/// time zero, a dead path. On any other dead path a hold timer expires much earlier.
fn user_timeout(timers: &Timers) -> Duration {
    const MARGIN: Duration = Duration::from_secs(5);
    send_hold(timers.hold_time, timers.send_hold_time) + MARGIN
}

/// An order to the driver, or an event for the speaker's owner.
#[derive(Clone, Debug)]
pub enum Output {
    /// Connect. The answer is `Connected` or `ConnectFailed`.
    Connect {
        /// The number of the new connection.
        connection: ConnectionId,
        /// The peer's name, for logs.
        peer: String,
        /// The destination.
        remote: SocketAddr,
        /// The source; the kernel chooses if there is none.
        source: Option<IpAddr>,
        /// To be set before the first segment is sent.
        options: TcpOptions,
    },
    /// Accept connections from this network, with these options only.
    Listen {
        /// The peer's name.
        peer: String,
        /// One address, or a network of dynamic neighbors.
        remote: IpNet,
        /// The required options.
        options: TcpOptions,
    },
    /// Accept no more connections from this network.
    Unlisten {
        /// The network.
        remote: IpNet,
    },
    /// Set up the BFD session of a peer, or change it. The answers are [`Input::Bfd`].
    BfdSet {
        /// The peer's name.
        peer: String,
        /// The session.
        target: BfdTarget,
    },
    /// Remove the BFD session after AdminDown was sent for one detection time.
    BfdRemove {
        /// The peer's name.
        peer: String,
    },
    /// Put the BFD session into AdminDown.
    BfdAdminDown {
        /// The peer's name.
        peer: String,
    },
    /// Replace the TCP MD5 key of this connection, so that a changed password does not end the
    /// session. The answer to a failure is `PeerUnusable`.
    Rekey {
        /// The connection.
        connection: ConnectionId,
        /// The peer's name.
        peer: String,
        /// The peer's address.
        remote: IpAddr,
        /// The new key.
        password: Secret,
    },
    /// Send what `poll_transmit` still has, close the sending half, read and discard to the end,
    /// then report `Closed`. A `Close` follows in any case.
    Finish {
        /// The connection.
        connection: ConnectionId,
    },
    /// Close now. Every connection ends with exactly one of these.
    Close {
        /// The connection.
        connection: ConnectionId,
    },
    /// An event for the owner.
    Event(Event),
    /// The shutdown is complete.
    Stopped,
}

/// An event for the speaker's owner. `peer` is the name of a configured peer or of a dynamic
/// neighbor ([`PeerStatus::name`](super::PeerStatus::name)).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The state of a peer changed.
    StateChanged {
        /// The peer.
        peer: String,
        /// The old state.
        from: State,
        /// The new state.
        to: State,
    },
    /// A session was established.
    Established {
        /// The peer.
        peer: String,
        /// What both ends negotiated.
        negotiated: Agreement,
    },
    /// A session, or an attempt at one, ended.
    Down {
        /// The peer.
        peer: String,
        /// Why.
        cause: Cause,
        /// Whether the session was established.
        was_established: bool,
        /// Time until the next attempt; `None` if we make none.
        retry: Option<Duration>,
    },
    /// One of two connections to the same peer ended; the other goes on.
    ConnectionClosed {
        /// The peer.
        peer: String,
        /// The connection that ended.
        connection: ConnectionId,
        /// Why.
        cause: Cause,
    },
    /// A connection was rejected.
    Rejected {
        /// Its other end.
        remote: SocketAddr,
        /// Why.
        reason: RejectReason,
    },
    /// A negotiated family is not announced, because there is no next hop for it.
    NoNextHop {
        /// The peer.
        peer: String,
        /// The family.
        family: Family,
    },
    /// Routes are not announced, because their attributes leave no room for a prefix in the longest
    /// message that the peer accepts. Emitted for the first of a session; [`PeerStatus`] has the
    /// number.
    ///
    /// [`PeerStatus`]: super::PeerStatus
    RouteTooLong {
        /// The peer.
        peer: String,
        /// The prefix of that route.
        prefix: IpNet,
        /// The longest message that the peer accepts, in octets.
        max_length: usize,
    },
    /// An UPDATE of a peer with [`PeerConfig::receive`].
    Received {
        /// The peer.
        peer: String,
        /// The decoded UPDATE, with its errors (RFC 7606).
        update: Box<Update>,
    },
    /// An UPDATE had errors that do not end the session (RFC 7606 §6 asks to log them). Emitted
    /// once in ten seconds at most: a peer must not fill the log.
    UpdateErrors {
        /// The peer.
        peer: String,
        /// The errors and their treatment as text.
        errors: Vec<String>,
        /// The message after its header.
        octets: Bytes,
        /// Number of erroneous UPDATEs suppressed since the last reported one.
        suppressed: u64,
    },
    /// The BFD state of a peer changed, or explains why a session waits (strict mode).
    Bfd {
        /// The peer.
        peer: String,
        /// The present state.
        state: crate::bfd::State,
        /// Why.
        reason: String,
    },
    /// The peer rejected capabilities of our OPEN. The next OPEN leaves them out (RFC 5492 §3).
    CapabilitiesDropped {
        /// The peer.
        peer: String,
        /// The rejected capabilities.
        capabilities: Vec<CapabilitySummary>,
    },
    /// The owner read events too slowly, so some were dropped; received UPDATEs never are. The
    /// status has the present state of the peers.
    Missed {
        /// The number of dropped events.
        events: usize,
    },
    /// Routes were given for a peer that is not configured; they are ignored.
    UnknownPeer {
        /// The name.
        peer: String,
    },
}

/// Why an incoming connection was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RejectReason {
    /// No peer has these addresses.
    #[error("no peer is configured with its address and ours")]
    UnknownAddress,
    /// The peer has a session.
    #[error("the peer has a session already")]
    SessionExists,
    /// The peer waits after an error, is disabled, or shuts down.
    #[error("the peer is Idle")]
    Idle,
    /// The template has the maximum number of dynamic neighbors.
    #[error("the template has too many neighbors")]
    TooMany,
}
