//! Peers come, change and go; and which of them can't run beside which.

use std::time::Instant;

use ipnet::IpNet;

use super::Speaker;
use super::io::{Event, Output, PeerRoutes};
use super::peer::Peer;
use crate::config::{Impact, PeerConfig, Remote};
use crate::rib::PeerIndex;
use crate::wire::{Notification, subcode};

impl Speaker {
    pub(super) fn set_peer(&mut self, now: Instant, config: PeerConfig) {
        if self.shared.stopping.is_some() {
            return;
        }
        self.remove_dynamic_named(now, &config.name);
        let conflict = self.conflict(&config);
        let known = self.names.get(&config.name).copied();
        let index = known.unwrap_or_else(|| self.free_index());
        self.names.insert(config.name.clone(), index);
        let old = self.peers.get(&index);
        let old_address = old.map(|peer| peer.config.remote.network());
        // One that doesn't run begins anew whatever the difference.
        let impact = old
            .filter(|peer| peer.runs())
            .map(|peer| config.impact(&peer.config));
        let remote = config.remote.network();
        let rekeyed =
            old.is_some_and(|peer| peer.config.transport.password != config.transport.password);
        if conflict.is_none() && (impact != Some(Impact::None) || rekeyed) {
            self.shared.outputs.push_back(Output::Listen {
                peer: config.name.clone(),
                remote,
                options: (&config).into(),
            });
        }
        let runs = conflict.is_none();
        let shared = &mut self.shared;
        let fresh = || Peer::new(now, index, config.clone());
        let peer = self.peers.entry(index).or_insert_with(fresh);
        match (conflict, impact) {
            (Some(reason), _) => {
                peer.unusable(now, reason, shared);
                peer.config = config.clone();
            }
            (None, Some(Impact::None)) => peer.adjust(now, config.clone(), shared),
            (None, Some(Impact::Reset) | None) => peer.reconfigure(now, config.clone(), shared),
        }
        self.set_dynamic(now, index, runs.then_some(&config));
        if let Some(old) = old_address.filter(|old| *old != remote) {
            self.unlisten(old);
            self.try_again_at(now, old);
        }
        self.try_again_at(now, remote);
    }

    /// A change at an address may have ended what kept another peer there from running.
    fn try_again_at(&mut self, now: Instant, remote: IpNet) {
        let mut waiting = self.peers.values().filter(|peer| {
            !peer.runs() && peer.is_in(remote) && self.conflict(&peer.config).is_none()
        });
        // One at a time: each that runs may be in the way of the next.
        if let Some(config) = waiting.next().map(|peer| peer.config.clone()) {
            self.set_peer(now, config);
        }
    }

    /// Why the peer can't run beside those that run already.
    fn conflict(&self, config: &PeerConfig) -> Option<String> {
        let remote = config.remote.network();
        let mut others = self
            .peers
            .values()
            .filter(|peer| peer.runs() && peer.config.name != config.name && peer.is_in(remote))
            .map(|peer| &peer.config);
        others.find_map(|other| {
            let name = &other.name;
            if same_session(config, other) {
                return Some(format!(
                    "peer {name} has the same address and the same source address; give each a \
                     source address of its own, or remove one"
                ));
            }
            // The kernel knows one MD5 key per address.
            (other.transport.password != config.transport.password)
                .then(|| format!("peer {name} has the same address but another password"))
        })
    }

    pub(super) fn remove_peer(&mut self, now: Instant, name: &str) {
        if self.dynamic_named(name).is_some() {
            return; // not configured by anybody
        }
        let Some(index) = self.names.remove(name) else {
            return;
        };
        let notification = Notification::cease(subcode::cease::PEER_DE_CONFIGURED);
        self.remove_dynamic_of(now, index, &notification);
        let Some(mut peer) = self.peers.remove(&index) else {
            return;
        };
        peer.stop(now, &notification, &mut self.shared);
        self.shared.rib.remove_peer(index);
        self.unlisten(peer.config.remote.network());
        self.try_again_at(now, peer.config.remote.network());
    }

    pub(super) fn unusable(&mut self, now: Instant, name: &str, reason: String) {
        let Some(index) = self.names.get(name).copied() else {
            return;
        };
        self.set_dynamic(now, index, None);
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.unusable(now, reason, &mut self.shared);
        }
    }

    fn unlisten(&mut self, remote: IpNet) {
        if !self.peers.values().any(|peer| peer.is_in(remote)) {
            self.shared.outputs.push_back(Output::Unlisten { remote });
        }
    }

    /// The smallest number not in use: it is a position in the Adj-RIB-Out's bit sets.
    pub(super) fn free_index(&self) -> PeerIndex {
        (0..)
            .map(PeerIndex)
            .find(|index| !self.peers.contains_key(index))
            .unwrap_or(PeerIndex(0))
    }

    pub(super) fn set_routes(&mut self, routes: Vec<PeerRoutes>) {
        if self.shared.stopping.is_some() {
            return;
        }
        for PeerRoutes { peer, changes } in routes {
            let index = self.names.get(&peer).copied();
            let Some(index) = index.filter(|_| self.dynamic_named(&peer).is_none()) else {
                self.shared.emit(Event::UnknownPeer { peer });
                continue;
            };
            let mut told = vec![index];
            told.extend(self.dynamic_of(index));
            for (prefix, route) in changes {
                for index in &told {
                    self.shared.rib.set(*index, prefix, route.clone());
                }
            }
        }
        self.shared.rib.commit();
    }
}

/// Whether the two would be the same session to the router: it tells its neighbours apart by
/// address.
fn same_session(config: &PeerConfig, other: &PeerConfig) -> bool {
    let source = |config: &PeerConfig| config.transport.source_address;
    let same_port = match (config.remote, other.remote) {
        (Remote::Router(one), Remote::Router(two)) => {
            one.port() == two.port() || config.dials().is_none() || other.dials().is_none()
        }
        _ => true,
    };
    source(config) == source(other) && same_port
}
