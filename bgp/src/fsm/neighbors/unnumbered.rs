//! Unnumbered peers: the router at the other end of an interface, whose link-local address is found
//! by the owner of the speaker.

use std::net::SocketAddrV6;
use std::time::Instant;

use crate::config::{PeerConfig, Remote};
use crate::fsm::Speaker;
use crate::fsm::link::LinkState;

impl Speaker {
    /// Something changed on an interface. Its unnumbered peers follow.
    pub(in crate::fsm) fn set_link(&mut self, now: Instant, interface: String, state: LinkState) {
        let peers: Vec<PeerConfig> = self
            .peers
            .values()
            .filter(|peer| peer.template().is_none())
            .map(|peer| peer.config())
            .filter(|config| config.remote.is_unnumbered())
            .filter(|config| config.transport.source_interface.as_ref() == Some(&interface))
            .cloned()
            .collect();
        self.shared.links.insert(interface, state);
        for config in peers {
            if self.resolved(config.clone()).remote != config.remote {
                self.set_peer(now, config);
            }
        }
    }

    /// The configuration with the present address of an unnumbered peer.
    pub(super) fn resolved(&self, mut config: PeerConfig) -> PeerConfig {
        let Remote::Link(configured) = config.remote else {
            return config;
        };
        let interface = config.transport.source_interface.as_ref();
        let link = interface.and_then(|interface| self.shared.links.get(interface));
        config.remote = match link.and_then(|link| link.router) {
            Some(router) => Remote::Link(SocketAddrV6::new(
                router.address,
                configured.port(),
                0,
                router.interface,
            )),
            None => Remote::unknown_on_link(configured.port()),
        };
        config
    }
}
