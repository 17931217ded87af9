//! Matches connections to peers by their addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::fsm::peer::Peer;
use crate::rib::PeerIndex;

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
