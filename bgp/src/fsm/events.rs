//! The inputs and outputs of the state machine.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;

use super::bfd_target::{BfdEvent, BfdTarget};
use super::history::cause::Cause;
use super::history::summary::CapabilitySummary;
use super::link::LinkState;
use super::state::State;
use super::tcp::{ConnectionId, IoFailure, Md5Drops, RejectReason, TcpOptions};
use crate::config::{PeerConfig, Secret};
use crate::rib::Route;
use crate::wire::{Agreement, Family, Update};

/// Changes of the routes that are to be announced to one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerRoutes {
    /// The peer's name.
    pub peer: String,
    /// Prefixes with their new route; `None` withdraws.
    pub changes: Vec<(IpNet, Option<Route>)>,
}

/// What becomes of our routes when the speaker shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// Routes are withdrawn, and every session ends with Cease/Administrative Shutdown, inside
    /// Cease/Hard Reset if the peer would otherwise keep them (RFC 8538 §3).
    Withdraw,
    /// Peers with graceful restart (RFC 4724) keep the routes: their sessions close without a
    /// NOTIFICATION after the last UPDATE. The other peers are treated as with `Withdraw`.
    GracefulRestart,
}

/// An input of the state machine. Its "Events" are those of RFC 4271 §8.1.
///
/// Not supported, as RFC 4271 §8.1.1 allows: DampPeerOscillations by a separate counter (events 6
/// and 7; [`Timer::IdleHold`](super::Timer::IdleHold) grows instead) and DelayOpen (events 12 and
/// 20).
#[derive(Clone, Debug)]
pub enum Input {
    /// Adds or changes a peer. The configuration has passed [`PeerConfig::check`].
    ///
    /// Events: 1 ManualStart, 3 AutomaticStart; for a passive peer 4
    /// ManualStart_with_PassiveTcpEstablishment, 5 AutomaticStart_with_PassiveTcpEstablishment.
    SetPeer(PeerConfig),
    /// The router at the other end of an interface was found, replaced or lost. The unnumbered
    /// peers on that interface follow.
    ///
    /// Events: as for `SetPeer`.
    Link {
        /// The name of the interface.
        interface: String,
        /// What is known of it.
        state: LinkState,
    },
    /// Removes the peer of this name.
    ///
    /// Events: 2 ManualStop.
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
    /// Events: 16 Tcp_CR_Acked.
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
    /// Events: 18 TcpConnectionFails.
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
    /// Events: 17 TcpConnectionConfirmed; 14 TcpConnection_Valid or 15 Tcp_CR_Invalid after the
    /// decision.
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
    /// Events: 19 BGPOpen, 21 BGPHeaderErr, 22 BGPOpenMsgErr, 23 OpenCollisionDump, 24
    /// NotifMsgVerErr, 25 NotifMsg, 26 KeepAliveMsg, 27 UpdateMsg, 28 UpdateMsgErr, depending on
    /// the message.
    Received {
        /// The connection.
        connection: ConnectionId,
        /// The octets.
        octets: Bytes,
    },
    /// The peer closed the connection, or it broke.
    ///
    /// Events: 18 TcpConnectionFails.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// Why it broke; `None` if the peer closed it in order.
        error: Option<IoFailure>,
    },
    /// The peer's configuration cannot be applied, for example because the kernel refused its MD5
    /// key. The peer is disabled until it is configured again.
    ///
    /// Events: 2 ManualStop.
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
    /// Events: 9 ConnectRetryTimer_Expires, 10 HoldTimer_Expires, 11 KeepaliveTimer_Expires, 13
    /// IdleHoldTimer_Expires, 29 SendHoldTimer_Expires (RFC 9687), depending on the timers.
    Timeout,
    /// Ends all sessions, then the speaker.
    ///
    /// Events: 2 ManualStop, 8 AutomaticStop.
    Shutdown {
        /// The message to the peers' operators (RFC 9003) where the peer's configuration sets no
        /// other.
        text: String,
        /// What becomes of our routes.
        mode: ShutdownMode,
    },
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
        /// The index of the interface that a link-local address belongs to; 0 for any.
        scope: u32,
        /// The required options.
        options: TcpOptions,
    },
    /// Accept no more connections from this network.
    Unlisten {
        /// The network.
        remote: IpNet,
        /// As in `Listen`.
        scope: u32,
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
