//! What goes into the machine and what comes out of it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;

use super::negotiate::Negotiated;
use crate::config::{PeerConfig, Secret};
use crate::rib::Route;
use crate::wire::{ErrorCode, Family, Notification, Update};

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
    /// The time of [`poll_timeout`](super::Speaker::poll_timeout) has come. Never harmful.
    Timeout,
    /// Withdraw everything, tell every peer why, and end.
    Shutdown {
        /// Shown to the peer's operator (RFC 9003).
        text: String,
    },
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
        /// TCP MD5 key; without it in place the connection must not be made.
        password: Option<Secret>,
        /// Give up when sent octets stay unacknowledged for that long (`TCP_USER_TIMEOUT`).
        user_timeout: Option<Duration>,
    },
    /// Expect connections from this network, with this key and no other.
    Listen {
        /// The peer's name.
        peer: String,
        /// Where they come from: one address, or many for dynamic neighbours.
        remote: IpNet,
        /// TCP MD5 key.
        password: Option<Secret>,
        /// As for `Connect`.
        user_timeout: Option<Duration>,
    },
    /// Expect no more connections from this network.
    Unlisten {
        /// The network.
        remote: IpNet,
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

/// What the speaker's owner may want to know. `peer` is always the configured name.
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
        negotiated: Negotiated,
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
    /// An UPDATE of a peer with [`PeerConfig::receive`].
    Received {
        /// The peer.
        peer: String,
        /// As decoded, with RFC 7606 errors inside.
        update: Box<Update>,
    },
    /// Routes came for a peer that isn't configured; they were dropped.
    UnknownPeer {
        /// The name used.
        peer: String,
    },
}

/// Why an incoming connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// No peer has that address.
    #[error("no peer is configured with this address")]
    UnknownAddress,
    /// The peer has a session already.
    #[error("the peer has a session already")]
    SessionExists,
    /// Backing off after an error, or shutting down.
    #[error("the peer is Idle")]
    Idle,
}

/// Why a session, or an attempt at one, ended. Its `Display` says what to do where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Dialling failed.
    ConnectFailed {
        /// The kernel's answer.
        error: IoFailure,
        /// Whether TCP MD5 is on: then silence may mean a wrong password.
        md5: bool,
    },
    /// We ended it, with this NOTIFICATION.
    Sent(Notification),
    /// The peer ended it, with this NOTIFICATION.
    Received(Notification),
    /// The connection ended without a NOTIFICATION.
    Closed {
        /// The state it was in.
        state: State,
        /// What broke it; `None`: the peer closed it in order.
        error: Option<IoFailure>,
    },
    /// The peer didn't read for too long (RFC 9687).
    SendHoldTimerExpired,
    /// The configuration can't be put into effect.
    Unusable {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed { error, md5 } => {
                write!(
                    f,
                    "can't connect: {}{}",
                    error.text,
                    connect_advice(error.kind, *md5)
                )
            }
            Self::Sent(notification) => {
                write!(f, "sent {notification}{}", sent_advice(notification))
            }
            Self::Received(notification) => {
                write!(f, "received {notification}")?;
                if let Some(text) = notification.shutdown_text() {
                    write!(f, " \"{}\"", text.escape_debug())?;
                }
                f.write_str(received_advice(notification))
            }
            Self::Closed { state, error } => {
                match error {
                    None => f.write_str("the peer closed the connection without a NOTIFICATION")?,
                    Some(error) => write!(f, "the connection broke: {}", error.text)?,
                }
                write!(f, " (state {state})")?;
                if *state == State::OpenSent {
                    f.write_str(
                        "; it probably doesn't know us as a neighbour: compare address, AS \
                         numbers and password on both sides",
                    )?;
                }
                Ok(())
            }
            Self::SendHoldTimerExpired => {
                f.write_str("Send Hold Timer Expired: the peer stopped reading (RFC 9687)")
            }
            Self::Unusable { reason } => write!(f, "the peer can't run: {reason}"),
        }
    }
}

fn connect_advice(kind: io::ErrorKind, md5: bool) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => {
            "; nothing listens there, or the router doesn't know this address as a neighbour"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "; check the route to the peer and its address"
        }
        io::ErrorKind::AddrNotAvailable => "; the source address is not on this host",
        io::ErrorKind::TimedOut if md5 => {
            "; wrong or missing TCP MD5 password on one side, a firewall, or a wrong address"
        }
        io::ErrorKind::TimedOut => {
            "; a firewall, a wrong address, or the router demands a TCP MD5 password"
        }
        _ => "",
    }
}

fn sent_advice(notification: &Notification) -> &'static str {
    match (notification.code, notification.subcode) {
        (ErrorCode::OPEN, 2) => "; the peer's AS number is not the configured one",
        (ErrorCode::OPEN, 3) => "; the peer's router ID is 0.0.0.0, or the same as ours",
        (ErrorCode::OPEN, 7) => "; no address family is enabled on both sides",
        (ErrorCode::HOLD_TIMER_EXPIRED, _) => "; nothing was heard from the peer for the hold time",
        _ => "",
    }
}

fn received_advice(notification: &Notification) -> &'static str {
    match (notification.code, notification.subcode) {
        (ErrorCode::OPEN, 2) => "; the router expects another AS number from us",
        (ErrorCode::OPEN, 3) => "; two routers have the same router ID",
        (ErrorCode::OPEN, 7) => "; no address family is enabled on both sides",
        (ErrorCode::CEASE, 1) => "; we announce more prefixes than the router allows",
        (ErrorCode::CEASE, 3 | 5) => "; the router isn't configured to talk to us",
        _ => "",
    }
}
