//! Which connections are the peer's, and what it is to its speaker.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::fsm::peer::Peer;
use crate::rib::PeerIndex;

impl Peer {
    /// Whether connections from this address are the peer's.
    pub(in crate::fsm) fn is_at(&self, address: IpAddr) -> bool {
        self.config.remote.contains(address)
    }

    /// Whether a connection between these addresses is the peer's.
    pub(in crate::fsm) fn takes(&self, local: IpAddr, remote: IpAddr) -> bool {
        let source = self.config.transport.source_address;
        self.is_at(remote) && source.is_none_or(|source| source.to_canonical() == local)
    }

    /// Whether the peer is configured for just this network.
    pub(in crate::fsm) fn is_in(&self, network: IpNet) -> bool {
        self.template.is_none() && self.config.remote.network() == network
    }

    /// Whether it is a dynamic neighbour of this template.
    pub(in crate::fsm) fn is_of(&self, template: PeerIndex) -> bool {
        self.template
            .as_ref()
            .is_some_and(|of| of.index == template)
    }
}
