//! Dynamic neighbors: each address in the network of a template that connects to us becomes a peer.
//!
//! A dynamic neighbor is named after template and address, and gets the routes of the template. The
//! template itself has a place in the Adj-RIB-Out, without a session, from which the routes of a
//! new dynamic neighbor are copied.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::config::{Impact, PeerConfig, Remote};
use crate::fsm::Speaker;
use crate::fsm::peer::{Peer, Template};
use crate::rib::PeerIndex;
use crate::wire::{Notification, subcode};

/// Most dynamic neighbors of one template.
pub(in crate::fsm) const DYNAMIC_MAX: usize = 256;

/// The configuration of a dynamic neighbor.
fn neighbor(template: &PeerConfig, address: IpAddr) -> PeerConfig {
    let mut config = template.clone();
    config.name = name(template, address);
    config.remote = Remote::Router(SocketAddr::new(address, 0));
    config.transport.passive = true;
    config
}

/// The name of a dynamic neighbor.
pub(in crate::fsm) fn name(template: &PeerConfig, address: IpAddr) -> String {
    format!("{}@{address}", template.name)
}

impl Speaker {
    /// Adds a dynamic neighbor. Returns `None` if the template has too many.
    pub(in crate::fsm) fn add_dynamic(
        &mut self,
        now: Instant,
        template: PeerIndex,
        address: IpAddr,
    ) -> Option<PeerIndex> {
        let config = self.peers.get(&template)?.config();
        let (name, config) = (config.name.clone(), neighbor(config, address));
        if self.names.contains_key(&config.name) || !self.make_room(now, template) {
            return None;
        }
        let index = self.free_index();
        self.names.insert(config.name.clone(), index);
        let of = Template {
            index: template,
            name,
        };
        let mut peer = Peer::new(now, index, config.clone(), Some(of), &self.shared);
        peer.reconfigure(now, config, &mut self.shared);
        self.peers.insert(index, peer);
        self.shared.rib.copy_desired(template, index);
        Some(index)
    }

    /// Makes room for one more, if necessary by removing the one that is without a connection for
    /// the longest time. Returns whether there is room.
    fn make_room(&mut self, now: Instant, template: PeerIndex) -> bool {
        let all = self.dynamic_of(template);
        if all.len() < DYNAMIC_MAX {
            return true;
        }
        let idle = |index: &PeerIndex| {
            let peer = self.peers.get(index)?;
            Some((peer.removed_at()?, *index))
        };
        let Some((_, oldest)) = all.iter().filter_map(idle).min() else {
            return false;
        };
        self.remove_dynamic(now, oldest, &gone());
        true
    }

    /// The dynamic neighbors of a template; none of any other peer.
    pub(in crate::fsm) fn dynamic_of(&self, template: PeerIndex) -> Vec<PeerIndex> {
        let is_template = self
            .peers
            .get(&template)
            .is_some_and(|peer| !peer.config().remote.is_one_router());
        self.peers
            .iter()
            .filter(|(_, peer)| is_template && peer.is_of(template))
            .map(|(index, _)| *index)
            .collect()
    }

    pub(in crate::fsm) fn dynamic_named(&self, name: &str) -> Option<PeerIndex> {
        let index = self.names.get(name)?;
        let peer = self.peers.get(index)?;
        peer.template().map(|_| *index)
    }

    /// Applies a changed configuration at `index` to dynamic neighbors: those of a template, or the
    /// one that has the address of a new router. `None` means that the peer is disabled.
    pub(in crate::fsm) fn set_dynamic(
        &mut self,
        now: Instant,
        index: PeerIndex,
        config: Option<&PeerConfig>,
    ) {
        let Some(config) = config else {
            return self.remove_dynamic_of(now, index, &removed());
        };
        if let Some(router) = config.remote.router() {
            self.remove_dynamic_of(now, index, &removed());
            let source = config.transport.source_address;
            return self.remove_dynamic_at(now, router.ip(), source);
        }
        for child in self.neighbors(index) {
            let Some(peer) = self.peers.get_mut(&child) else {
                continue;
            };
            let address = peer.config().remote.network().addr();
            if !config.remote.contains(address) {
                self.remove_dynamic(now, child, &removed());
                continue;
            }
            let new = neighbor(config, address);
            match new.impact(peer.config()) {
                Impact::None => peer.adjust(now, new, &mut self.shared),
                Impact::Reset => peer.reconfigure(now, new, &mut self.shared),
            }
        }
    }

    /// The dynamic neighbors of what is, or was until now, a template.
    fn neighbors(&self, template: PeerIndex) -> Vec<PeerIndex> {
        let all = self.peers.iter().filter(|(_, peer)| peer.is_of(template));
        all.map(|(index, _)| *index).collect()
    }

    pub(in crate::fsm) fn remove_dynamic_of(
        &mut self,
        now: Instant,
        template: PeerIndex,
        notification: &Notification,
    ) {
        for child in self.neighbors(template) {
            self.remove_dynamic(now, child, notification);
        }
    }

    /// A configured peer takes the name of a dynamic neighbor.
    pub(in crate::fsm) fn remove_dynamic_named(&mut self, now: Instant, name: &str) {
        if let Some(index) = self.dynamic_named(name) {
            self.remove_dynamic(now, index, &removed());
        }
    }

    /// A configured router takes the address of a dynamic neighbor.
    fn remove_dynamic_at(&mut self, now: Instant, address: IpAddr, source: Option<IpAddr>) {
        let present = self.peers.iter().filter(|(_, peer)| {
            let theirs = peer.config().transport.source_address;
            let overlap = source.is_none() || theirs.is_none() || source == theirs;
            peer.template().is_some() && overlap && peer.has_address(address)
        });
        for index in present.map(|(index, _)| *index).collect::<Vec<_>>() {
            self.remove_dynamic(now, index, &changed());
        }
    }

    fn remove_dynamic(&mut self, now: Instant, index: PeerIndex, notification: &Notification) {
        if let Some(peer) = self.peers.remove(&index) {
            self.names.remove(&peer.config().name);
            peer.remove(now, notification, &mut self.shared);
        }
    }

    /// Removes dynamic neighbors without a connection for longer than is kept for inspection.
    pub(in crate::fsm) fn remove_idle_dynamic(&mut self, now: Instant) {
        let idle = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.removed_at().is_some_and(|at| at <= now));
        for index in idle.map(|(index, _)| *index).collect::<Vec<_>>() {
            self.remove_dynamic(now, index, &gone());
        }
    }
}

/// This address is no longer configured.
fn removed() -> Notification {
    Notification::cease(subcode::cease::PEER_DE_CONFIGURED)
}

/// Another peer is configured for this address.
fn changed() -> Notification {
    Notification::cease(subcode::cease::OTHER_CONFIGURATION_CHANGE)
}

/// Never sent: an idle neighbor has no connection.
fn gone() -> Notification {
    Notification::cease(subcode::cease::OUT_OF_RESOURCES)
}
