//! Matches connections to peers by their addresses.

use std::net::IpAddr;

use crate::config::Remote;
use crate::fsm::peer::Peer;
use crate::rib::PeerIndex;

impl Peer {
    /// Whether the peer has this address, or a network that contains it.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.config().remote.contains(address)
    }

    /// Whether a connection between these addresses belongs to the peer. `scope`: the index of its
    /// interface if the addresses are link-local, else 0.
    pub(super) fn matches(&self, local: IpAddr, remote: IpAddr, scope: u32) -> bool {
        let source = self.config().transport.source_address;
        let own_scope = self.config().remote.scope();
        self.has_address(remote)
            && (own_scope == 0 || own_scope == scope)
            && source.is_none_or(|source| source.to_canonical() == local)
    }

    /// Whether the peer is configured with exactly this network or address.
    pub(super) fn has_remote(&self, remote: Remote) -> bool {
        let own = self.config().remote;
        self.template().is_none()
            && (own.network(), own.scope()) == (remote.network(), remote.scope())
    }

    /// Whether the peer is a dynamic neighbor of this template.
    pub(super) fn is_of(&self, template: PeerIndex) -> bool {
        self.template().is_some_and(|of| of.index == template)
    }
}
