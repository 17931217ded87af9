//! Matches connections to peers by their addresses.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::fsm::peer::Peer;
use crate::rib::PeerIndex;

/// Both ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fsm) struct SocketPair {
    pub(in crate::fsm) local: SocketAddr,
    pub(in crate::fsm) remote: SocketAddr,
}

impl SocketPair {
    /// Without IPv4-mapped IPv6 addresses, flow labels and scopes: an IPv4 connection on an IPv6
    /// socket is an IPv4 connection, and only addresses and ports identify it.
    pub(in crate::fsm) fn canonical(self) -> Self {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self {
            local: canonical(self.local),
            remote: canonical(self.remote),
        }
    }

    /// The connection as the other end sees it.
    pub(in crate::fsm) fn reversed(self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
        }
    }
}

impl Peer {
    /// Whether the peer has this address, or a network that contains it.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.config().remote.contains(address)
    }

    /// Whether a connection between these addresses belongs to the peer.
    pub(super) fn matches(&self, local: IpAddr, remote: IpAddr) -> bool {
        let source = self.config().transport.source_address;
        self.has_address(remote) && source.is_none_or(|source| source.to_canonical() == local)
    }

    /// Whether the peer is configured with exactly this network.
    pub(super) fn has_network(&self, network: IpNet) -> bool {
        self.template().is_none() && self.config().remote.network() == network
    }

    /// Whether the peer is a dynamic neighbor of this template.
    pub(super) fn is_of(&self, template: PeerIndex) -> bool {
        self.template().is_some_and(|of| of.index == template)
    }
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
