//! Peers come, change and go; and which of them can't run beside which.

use std::time::Instant;

use ipnet::IpNet;

use crate::config::{Impact, PeerConfig, Remote};
use crate::fsm::Speaker;
use crate::fsm::events::{Event, Output, PeerRoutes};
use crate::fsm::peer::Peer;
use crate::rib::PeerIndex;
use crate::wire::{Notification, subcode};

impl Speaker {
    pub(in crate::fsm) fn set_peer(&mut self, now: Instant, config: PeerConfig) {
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
        let fresh = || Peer::new(now, index, config.clone(), shared);
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

    /// A change at an address may have ended what kept other peers there from running.
    fn try_again_at(&mut self, now: Instant, remote: IpNet) {
        if self.shared.stopping.is_some() {
            return; // none runs any more
        }
        // One at a time: each that runs may be in the way of the next.
        while let Some(config) = self.waiting_at(remote) {
            self.set_peer(now, config);
        }
    }

    /// A peer that doesn't run, though nothing is in its way.
    fn waiting_at(&self, remote: IpNet) -> Option<PeerConfig> {
        let mut waiting = self.configured_at(remote).filter(|peer| !peer.runs());
        let free = waiting.find(|peer| self.conflict(&peer.config).is_none());
        free.map(|peer| peer.config.clone())
    }

    /// The peers at this address or in this network, and the networks around it.
    fn configured_at(&self, remote: IpNet) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(move |peer| {
            let network = peer.config.remote.network();
            let meet = network.contains(&remote) || remote.contains(&network);
            peer.template.is_none() && meet
        })
    }

    /// Why the peer can't run beside those that run already.
    fn conflict(&self, config: &PeerConfig) -> Option<String> {
        let mut others = self
            .configured_at(config.remote.network())
            .filter(|peer| peer.runs() && peer.config.name != config.name)
            .map(|peer| &peer.config);
        others.find_map(|other| {
            if config.remote.network() == other.remote.network() {
                conflict_at_one_address(config, other)
            } else {
                conflict_of_networks(config, other)
            }
        })
    }

    pub(in crate::fsm) fn remove_peer(&mut self, now: Instant, name: &str) {
        if self.dynamic_named(name).is_some() {
            return; // not configured by anybody
        }
        let Some(index) = self.names.remove(name) else {
            return;
        };
        let notification = Notification::cease(subcode::cease::PEER_DE_CONFIGURED);
        self.remove_dynamic_of(now, index, &notification);
        let Some(peer) = self.peers.remove(&index) else {
            return;
        };
        let remote = peer.config.remote.network();
        peer.remove(now, &notification, &mut self.shared);
        self.unlisten(remote);
        self.try_again_at(now, remote);
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

    fn unlisten(&mut self, remote: IpNet) {
        if !self.peers.values().any(|peer| peer.is_in(remote)) {
            self.shared.outputs.push_back(Output::Unlisten { remote });
        }
    }

    /// The smallest number not in use: it is a position in the Adj-RIB-Out's bit sets.
    pub(in crate::fsm) fn free_index(&self) -> PeerIndex {
        (0..)
            .map(PeerIndex)
            .find(|index| !self.peers.contains_key(index))
            .unwrap_or(PeerIndex(0))
    }

    pub(in crate::fsm) fn set_routes(&mut self, routes: Vec<PeerRoutes>) {
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

/// Why the two can't both run, if they have the same address.
fn conflict_at_one_address(config: &PeerConfig, other: &PeerConfig) -> Option<String> {
    let name = &other.name;
    if same_session(config, other) {
        return Some(format!(
            "peer {name} has the same address and the same source address; give each a source \
             address of its own, or remove one"
        ));
    }
    // The kernel knows one MD5 key per address; and which of the two dials us is known only after
    // the connection's options are set.
    let (ours, theirs) = (&config.transport, &other.transport);
    let differs = if ours.password != theirs.password {
        "password"
    } else if ours.ttl_security != theirs.ttl_security {
        "TTL security"
    } else if ours.source_interface != theirs.source_interface {
        "source interface"
    } else {
        return None;
    };
    Some(format!(
        "peer {name} has the same address but another {differs}; give both the same, or remove one"
    ))
}

/// Why the two can't both run, if one's network has the other in it: the kernel demands the
/// network's MD5 key of everybody in there who has none of their own.
fn conflict_of_networks(config: &PeerConfig, other: &PeerConfig) -> Option<String> {
    let inside = other.remote.network().contains(&config.remote.network());
    let (inner, outer) = if inside {
        (config, other)
    } else {
        (other, config)
    };
    if inner.transport.password.is_some() || outer.transport.password.is_none() {
        return None;
    }
    Some(format!(
        "peer {} has a password and its network {} contains {}, which has none here (peer {}): give \
         that one a password too, or keep it out of the network",
        outer.name,
        outer.remote.network(),
        inner.remote.network(),
        inner.name
    ))
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
