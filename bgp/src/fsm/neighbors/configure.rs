//! Configuration: adds, changes and removes peers, and sets their routes.

use std::time::Instant;

use ipnet::IpNet;

use crate::config::{Impact, PeerConfig, Remote};
use crate::fsm::Speaker;
use crate::fsm::events::{Event, Output, PeerRoutes};
use crate::fsm::neighbors::conflicts::conflict;
use crate::fsm::peer::Peer;
use crate::rib::PeerIndex;
use crate::wire::{Notification, subcode};

impl Speaker {
    pub(in crate::fsm) fn set_peer(&mut self, now: Instant, config: PeerConfig) {
        if self.shared.is_shutting_down() {
            return;
        }
        let config = self.resolved(config);
        self.remove_dynamic_named(now, &config.name);
        let conflict = self.conflict(&config);
        let known = self.names.get(&config.name).copied();
        let index = known.unwrap_or_else(|| self.free_index());
        self.names.insert(config.name.clone(), index);
        let old = self.peers.get(&index);
        let old_remote = old.map(|peer| peer.config().remote);
        // A disabled peer always starts again.
        let impact = old
            .filter(|peer| peer.is_enabled())
            .map(|peer| config.impact(peer.config()));
        let remote = config.remote;
        let rekeyed =
            old.is_some_and(|peer| peer.config().transport.password != config.transport.password);
        let listens = conflict.is_none() && remote.is_known();
        if listens && (impact != Some(Impact::None) || rekeyed) {
            self.shared.outputs.push_back(Output::Listen {
                peer: config.name.clone(),
                remote: remote.network(),
                scope: remote.scope(),
                options: (&config).into(),
            });
        }
        let runs = conflict.is_none();
        let shared = &mut self.shared;
        let fresh = || Peer::new(now, index, config.clone(), None, shared);
        let peer = self.peers.entry(index).or_insert_with(fresh);
        match (conflict, impact) {
            (Some(reason), _) => peer.conflict(now, config.clone(), reason, shared),
            (None, Some(Impact::None)) => peer.adjust(now, config.clone(), shared),
            (None, Some(Impact::Reset) | None) => peer.reconfigure(now, config.clone(), shared),
        }
        self.set_dynamic(now, index, runs.then_some(&config));
        if let Some(old) = old_remote.filter(|old| *old != remote) {
            self.unlisten(old);
            self.retry_conflicting(now, old.network());
        }
        self.retry_conflicting(now, remote.network());
    }

    /// Starts peers at or around this address whose conflict has ended.
    fn retry_conflicting(&mut self, now: Instant, remote: IpNet) {
        if self.shared.is_shutting_down() {
            return;
        }
        // One at a time: each that starts may conflict with the next.
        while let Some(config) = self.startable_at(remote) {
            self.set_peer(now, config);
        }
    }

    /// A disabled peer without a conflict.
    fn startable_at(&self, remote: IpNet) -> Option<PeerConfig> {
        let mut disabled = self.configured_at(remote).filter(|peer| !peer.is_enabled());
        let startable = disabled.find(|peer| self.conflict(peer.config()).is_none());
        startable.map(|peer| peer.config().clone())
    }

    /// The configured peers whose address or network contains this one, or is in it.
    fn configured_at(&self, remote: IpNet) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(move |peer| {
            let network = peer.config().remote.network();
            let overlap = network.contains(&remote) || remote.contains(&network);
            peer.template().is_none() && overlap
        })
    }

    /// Why the peer cannot run beside those that are enabled.
    fn conflict(&self, config: &PeerConfig) -> Option<String> {
        let mut others = self
            .configured_at(config.remote.network())
            .filter(|peer| peer.is_enabled() && peer.config().name != config.name);
        others.find_map(|other| conflict(config, other.config()))
    }

    pub(in crate::fsm) fn remove_peer(&mut self, now: Instant, name: &str) {
        if self.dynamic_named(name).is_some() {
            return; // only its template is configured
        }
        let Some(index) = self.names.remove(name) else {
            return;
        };
        let notification = Notification::cease(subcode::cease::PEER_DE_CONFIGURED);
        self.remove_dynamic_of(now, index, &notification);
        let Some(peer) = self.peers.remove(&index) else {
            return;
        };
        let remote = peer.config().remote;
        peer.remove(now, &notification, &mut self.shared);
        self.unlisten(remote);
        self.retry_conflicting(now, remote.network());
    }

    pub(in crate::fsm) fn unusable(&mut self, now: Instant, name: &str, reason: String) {
        let Some(index) = self.names.get(name).copied() else {
            return;
        };
        self.set_dynamic(now, index, None);
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.unusable(now, reason, &mut self.shared);
        }
    }

    /// Accepts no more connections from there, unless another peer is configured with it.
    fn unlisten(&mut self, remote: Remote) {
        if remote.is_known() && !self.peers.values().any(|peer| peer.has_remote(remote)) {
            self.shared.outputs.push_back(Output::Unlisten {
                remote: remote.network(),
                scope: remote.scope(),
            });
        }
    }

    /// The smallest free number: it is a position in the bit sets of the Adj-RIB-Out.
    pub(super) fn free_index(&self) -> PeerIndex {
        (0..)
            .map(PeerIndex)
            .find(|index| !self.peers.contains_key(index))
            .unwrap_or(PeerIndex(0))
    }

    /// Sets routes. Those of a template are also set for its dynamic neighbors.
    pub(in crate::fsm) fn set_routes(&mut self, routes: Vec<PeerRoutes>) {
        if self.shared.is_shutting_down() {
            return;
        }
        for PeerRoutes { peer, changes } in routes {
            let index = self.names.get(&peer).copied();
            let Some(index) = index.filter(|_| self.dynamic_named(&peer).is_none()) else {
                self.shared.emit(Event::UnknownPeer { peer });
                continue;
            };
            let mut targets = vec![index];
            targets.extend(self.dynamic_of(index));
            for (prefix, route) in changes {
                for index in &targets {
                    self.shared.rib.set(*index, prefix, route.clone());
                    if route.is_none()
                        && let Some(peer) = self.peers.get_mut(index)
                    {
                        peer.withdrawn(&prefix);
                    }
                }
            }
        }
        self.shared.rib.commit();
    }
}
