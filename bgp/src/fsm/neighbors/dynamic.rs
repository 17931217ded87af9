//! Dynamic neighbours: whoever dials us from a template's network gets a session of its own.
//!
//! Each is a peer like any other, named after template and address, and told the template's routes.
//! A template keeps its own place in the Adj-RIB-Out, without a session: it is what newcomers are
//! told.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::config::{Impact, PeerConfig, Remote};
use crate::fsm::Speaker;
use crate::fsm::peer::{Peer, Template};
use crate::rib::PeerIndex;
use crate::wire::{Notification, subcode};

/// Dynamic neighbours of one template.
pub(in crate::fsm) const DYNAMIC_MAX: usize = 256;
/// How long a neighbour without a connection is remembered, for whoever wants to know why.
pub(in crate::fsm) const DYNAMIC_KEPT: Duration = Duration::from_secs(300);

/// The configuration of one neighbour of a template.
fn neighbour(template: &PeerConfig, address: IpAddr) -> PeerConfig {
    let mut config = template.clone();
    config.name = name(template, address);
    config.remote = Remote::Router(SocketAddr::new(address, 0));
    config.transport.passive = true;
    config
}

/// The name of one neighbour of a template.
pub(in crate::fsm) fn name(template: &PeerConfig, address: IpAddr) -> String {
    format!("{}@{address}", template.name)
}

impl Speaker {
    /// A new neighbour of the template, unless there are too many of them.
    pub(in crate::fsm) fn add_dynamic(
        &mut self,
        now: Instant,
        template: PeerIndex,
        address: IpAddr,
    ) -> Option<PeerIndex> {
        let config = &self.peers.get(&template)?.config;
        let (name, config) = (config.name.clone(), neighbour(config, address));
        if self.names.contains_key(&config.name) || !self.make_room(now, template) {
            return None;
        }
        let index = self.free_index();
        self.names.insert(config.name.clone(), index);
        let mut peer = Peer::new(now, index, config.clone(), &self.shared);
        peer.template = Some(Template {
            index: template,
            name,
        });
        peer.reconfigure(now, config, &mut self.shared);
        self.peers.insert(index, peer);
        self.shared.rib.copy_desired(template, index);
        Some(index)
    }

    /// Makes sure that one more fits, at the cost of the one that has been quiet for longest.
    fn make_room(&mut self, now: Instant, template: PeerIndex) -> bool {
        let all = self.dynamic_of(template);
        if all.len() < DYNAMIC_MAX {
            return true;
        }
        let quiet = |index: &PeerIndex| {
            let peer = self.peers.get(index)?;
            Some((peer.forgotten_at()?, *index))
        };
        let Some((_, oldest)) = all.iter().filter_map(quiet).min() else {
            return false;
        };
        self.remove_dynamic(now, oldest, &gone());
        true
    }

    /// The neighbours of a template; none for any other peer.
    pub(in crate::fsm) fn dynamic_of(&self, template: PeerIndex) -> Vec<PeerIndex> {
        let is_template = self
            .peers
            .get(&template)
            .is_some_and(|peer| peer.config.remote.router().is_none());
        self.peers
            .iter()
            .filter(|(_, peer)| is_template && peer.is_of(template))
            .map(|(index, _)| *index)
            .collect()
    }

    pub(in crate::fsm) fn dynamic_named(&self, name: &str) -> Option<PeerIndex> {
        let index = self.names.get(name)?;
        let peer = self.peers.get(index)?;
        peer.template.as_ref().map(|_| *index)
    }

    /// What a changed configuration at `index` means for dynamic neighbours: its own, if it is a
    /// template, else the one that had the address before it. Without a configuration it doesn't run.
    pub(in crate::fsm) fn set_dynamic(
        &mut self,
        now: Instant,
        index: PeerIndex,
        config: Option<&PeerConfig>,
    ) {
        let Some(config) = config else {
            return self.remove_dynamic_of(now, index, &removed());
        };
        if let Remote::Router(router) = config.remote {
            self.remove_dynamic_of(now, index, &removed());
            let source = config.transport.source_address;
            return self.remove_dynamic_at(now, router.ip(), source);
        }
        for child in self.neighbours(index) {
            let Some(peer) = self.peers.get_mut(&child) else {
                continue;
            };
            let address = peer.config.remote.network().addr();
            if !config.remote.contains(address) {
                self.remove_dynamic(now, child, &removed());
                continue;
            }
            let new = neighbour(config, address);
            match new.impact(&peer.config) {
                Impact::None => peer.adjust(now, new, &mut self.shared),
                Impact::Reset => peer.reconfigure(now, new, &mut self.shared),
            }
        }
    }

    /// The neighbours of what is, or was until now, a template.
    fn neighbours(&self, template: PeerIndex) -> Vec<PeerIndex> {
        let all = self.peers.iter().filter(|(_, peer)| peer.is_of(template));
        all.map(|(index, _)| *index).collect()
    }

    pub(in crate::fsm) fn remove_dynamic_of(
        &mut self,
        now: Instant,
        template: PeerIndex,
        notification: &Notification,
    ) {
        for child in self.neighbours(template) {
            self.remove_dynamic(now, child, notification);
        }
    }

    /// A configured peer takes its name back.
    pub(in crate::fsm) fn remove_dynamic_named(&mut self, now: Instant, name: &str) {
        if let Some(index) = self.dynamic_named(name) {
            self.remove_dynamic(now, index, &removed());
        }
    }

    /// A configured peer has this address now.
    fn remove_dynamic_at(&mut self, now: Instant, address: IpAddr, source: Option<IpAddr>) {
        let there = self.peers.iter().filter(|(_, peer)| {
            let theirs = peer.config.transport.source_address;
            let meet = source.is_none() || theirs.is_none() || source == theirs;
            peer.template.is_some() && meet && peer.is_at(address)
        });
        for index in there.map(|(index, _)| *index).collect::<Vec<_>>() {
            self.remove_dynamic(now, index, &changed());
        }
    }

    fn remove_dynamic(&mut self, now: Instant, index: PeerIndex, notification: &Notification) {
        if let Some(peer) = self.peers.remove(&index) {
            self.names.remove(&peer.config.name);
            peer.remove(now, notification, &mut self.shared);
        }
    }

    /// Forgets neighbours that haven't been heard of for long.
    pub(in crate::fsm) fn forget_dynamic(&mut self, now: Instant) {
        let quiet = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.forgotten_at().is_some_and(|at| at <= now));
        for index in quiet.map(|(index, _)| *index).collect::<Vec<_>>() {
            self.remove_dynamic(now, index, &gone());
        }
    }
}

/// No peer is there any more for a neighbour at this address.
fn removed() -> Notification {
    Notification::cease(subcode::cease::PEER_DE_CONFIGURED)
}

/// Another peer is.
fn changed() -> Notification {
    Notification::cease(subcode::cease::OTHER_CONFIGURATION_CHANGE)
}

/// Never sent: a quiet neighbour has no connection.
fn gone() -> Notification {
    Notification::cease(subcode::cease::OUT_OF_RESOURCES)
}
