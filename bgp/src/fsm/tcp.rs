//! TCP connections, as far as the state machine knows them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::timers::send_hold;
use crate::config::{PeerConfig, Secret, Timers};

/// The number of a TCP connection. The machine numbers those it dials, the driver those it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionId {
    /// We dialled.
    Dialled(u64),
    /// The peer dialled.
    Accepted(u64),
}

/// Both ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketPair {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl SocketPair {
    /// Without IPv4-mapped IPv6 addresses, flow labels and scopes: an IPv4 connection on an IPv6
    /// socket is an IPv4 connection, and only addresses and ports identify it.
    pub(super) fn canonical(self) -> Self {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self {
            local: canonical(self.local),
            remote: canonical(self.remote),
        }
    }

    /// The index of the interface of a connection between link-local addresses; else 0.
    pub(super) fn scope(self) -> u32 {
        match self.remote {
            SocketAddr::V6(remote) => remote.scope_id(),
            SocketAddr::V4(_) => 0,
        }
    }

    /// The connection as the other end sees it.
    pub(super) fn reversed(self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_connection_on_an_ipv6_socket_is_an_ipv4_connection() {
        let pair = SocketPair {
            local: "[::ffff:10.0.0.1]:179".parse().unwrap(),
            remote: "[::ffff:10.0.0.2]:40000".parse().unwrap(),
        };
        let canonical = SocketPair {
            local: "10.0.0.1:179".parse().unwrap(),
            remote: "10.0.0.2:40000".parse().unwrap(),
        };
        assert_eq!(pair.canonical(), canonical);
        assert_eq!(canonical.reversed().reversed(), canonical);
        assert_ne!(canonical.reversed(), canonical);
    }
}
