//! The state machine of the whole speaker, without I/O.
//!
//! [`Speaker`] holds the peers and the Adj-RIB-Out. The crate's front page says how it is driven.
//! Below it: `peer` (two connection slots, dialling, back-off), `connection` (RFC 4271 §8 from
//! OpenSent on), `negotiate`, [`collision`], `timer`.

mod bfd;
mod cause;
pub mod collision;
mod connection;
mod farewell;
mod io;
mod journal;
mod negotiate;
mod peer;
mod record;
#[cfg(feature = "serde")]
mod seconds;
mod shared;
mod slots;
mod status;
mod summary;
mod tally;
mod timer;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

pub use self::bfd::{BfdNews, BfdStatus, BfdTarget};
pub use self::cause::Cause;
pub use self::farewell::Farewell;
pub use self::io::{
    ConnectionId, Event, Input, IoFailure, Output, PeerRoutes, RejectReason, State, TcpOptions,
};
pub use self::journal::{JournalEntry, JournalEvent};
pub use self::negotiate::{Negotiated, RestartAgreement};
pub use self::status::{
    LastError, MessageCounters, PastNotification, PeerDetail, PeerStatus, SessionTimers,
    UpdateErrors,
};
pub use self::summary::{CapabilitySummary, CauseSummary, NotificationSummary, OpenSummary};
pub use self::tally::{AttributeErrorCount, PrefixCount};

use self::connection::Ends;
use self::peer::Peer;
use self::shared::Shared;
use self::timer::earlier;
use crate::config::{Impact, PeerConfig};
use crate::rib::{Advertised, PeerIndex};
use crate::wire::{Notification, subcode};

/// What concerns all peers.
#[derive(Clone, Copy, Debug)]
pub struct SpeakerConfig {
    /// BGP identifier where neither the peer's configuration nor the session's address gives one.
    pub router_id_fallback: Ipv4Addr,
    /// Where jitter comes from. The same seed and inputs give the same outputs.
    pub seed: u64,
    /// How long the host has been up when the speaker begins. Whether peers may go on forwarding to
    /// us while we come back (RFC 4724 §3, the F bit) depends on it; not known: they may not.
    pub host_uptime: Option<Duration>,
}

/// All peers and what they are to be told.
#[derive(Debug)]
pub struct Speaker {
    peers: BTreeMap<PeerIndex, Peer>,
    names: BTreeMap<String, PeerIndex>,
    shared: Shared,
    stopped: bool,
}

impl Speaker {
    /// A speaker without peers.
    #[must_use]
    pub fn new(config: SpeakerConfig) -> Self {
        Self {
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            shared: Shared::new(config),
            stopped: false,
        }
    }

    /// Takes one thing that happened. Drain [`poll_output`](Self::poll_output) before the next.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let shared = &mut self.shared;
        shared.started.get_or_insert(now);
        match input {
            Input::SetPeer(config) => self.set_peer(now, config),
            Input::RemovePeer(name) => self.remove_peer(now, &name),
            Input::Routes(routes) => self.set_routes(routes),
            Input::OpenGate => shared.rib.open_gate(),
            Input::Connected {
                connection,
                local,
                remote,
            } => {
                let ends = Ends { local, remote };
                self.with_owner(connection, |peer, shared| {
                    peer.connected(now, connection, ends, shared);
                });
            }
            Input::ConnectFailed { connection, error } => {
                self.with_owner(connection, |peer, shared| {
                    peer.connect_failed(now, connection, error, shared);
                });
            }
            Input::Accepted {
                connection,
                local,
                remote,
            } => {
                self.accept(now, connection, Ends { local, remote });
            }
            Input::Received { connection, octets } => {
                self.with_owner(connection, |peer, shared| {
                    peer.received(now, connection, &octets, shared);
                });
            }
            Input::Closed { connection, error } => {
                shared.closed(connection);
                self.with_owner(connection, |peer, shared| {
                    peer.closed(now, connection, error, shared);
                });
            }
            Input::PeerUnusable { peer, reason } => {
                if let Some(peer) = self.names.get(&peer).and_then(|i| self.peers.get_mut(i)) {
                    peer.unusable(now, reason, shared);
                }
            }
            Input::Bfd { peer, news } => {
                if let Some(peer) = self.names.get(&peer).and_then(|i| self.peers.get_mut(i)) {
                    peer.bfd(now, news, shared);
                }
            }
            Input::Timeout => self.timeout(now),
            Input::Shutdown { text, farewell } => self.shutdown(now, text, farewell),
        }
        self.tell_end();
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.peers
            .values()
            .map(Peer::deadline)
            .fold(self.shared.deadline(), earlier)
    }

    /// Octets for a connection whose socket can take some: one or several whole messages, at most
    /// `max` octets (at least 4096) unless a single message of another kind is due.
    ///
    /// Outputs may follow: drain them.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        max: usize,
    ) -> Option<Bytes> {
        let octets = self.shared.transmit_closing(connection).or_else(|| {
            let index = self.shared.owners.get(&connection)?;
            self.peers
                .get_mut(index)?
                .transmit(now, connection, max, &mut self.shared)
        });
        self.tell_end();
        octets
    }

    /// A snapshot of every peer, by name.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<PeerStatus> {
        self.names
            .values()
            .filter_map(|index| self.peers.get(index))
            .map(|peer| peer.status(now, &self.shared))
            .collect()
    }

    /// All there is to know about the peer of this name.
    #[must_use]
    pub fn peer(&self, now: Instant, name: &str) -> Option<PeerDetail> {
        let peer = self.peers.get(self.names.get(name)?)?;
        Some(peer.detail(now, &self.shared))
    }

    /// What the peer of this name holds from us.
    pub fn advertised(
        &self,
        now: Instant,
        name: &str,
    ) -> impl Iterator<Item = Advertised<'_>> + '_ {
        self.names
            .get(name)
            .into_iter()
            .flat_map(move |index| self.shared.rib.advertised(now, *index))
    }

    fn with_owner(&mut self, connection: ConnectionId, f: impl FnOnce(&mut Peer, &mut Shared)) {
        let owner = self.shared.owners.get(&connection);
        if let Some(peer) = owner.and_then(|index| self.peers.get_mut(index)) {
            f(peer, &mut self.shared);
        }
    }

    fn set_peer(&mut self, now: Instant, config: PeerConfig) {
        if self.shared.stopping.is_some() {
            return;
        }
        let conflict = self.password_conflict(&config);
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
        if conflict.is_none() && impact != Some(Impact::None) {
            self.shared.outputs.push_back(Output::Listen {
                peer: config.name.clone(),
                remote,
                options: (&config).into(),
            });
        }
        let shared = &mut self.shared;
        let fresh = || Peer::new(now, index, config.clone());
        let peer = self.peers.entry(index).or_insert_with(fresh);
        match (conflict, impact) {
            (Some(reason), _) => {
                peer.unusable(now, reason, shared);
                peer.config = config;
            }
            (None, Some(Impact::None)) => peer.adjust(now, config, shared),
            (None, Some(Impact::Reset) | None) => peer.reconfigure(now, config, shared),
        }
        if let Some(old) = old_address.filter(|old| *old != remote) {
            self.unlisten(old);
            self.try_again_at(now, old);
        }
        self.try_again_at(now, remote);
    }

    /// A change at an address may have ended what kept another peer there from running.
    fn try_again_at(&mut self, now: Instant, remote: IpNet) {
        let mut waiting = self.peers.values().filter(|peer| {
            !peer.runs() && peer.is_in(remote) && self.password_conflict(&peer.config).is_none()
        });
        // One at a time: each that runs may be in the way of the next.
        if let Some(config) = waiting.next().map(|peer| peer.config.clone()) {
            self.set_peer(now, config);
        }
    }

    /// The kernel knows one MD5 key per address: a second peer there must have the same.
    fn password_conflict(&self, config: &PeerConfig) -> Option<String> {
        let other = self.peers.values().find(|peer| {
            peer.runs()
                && peer.config.name != config.name
                && peer.is_in(config.remote.network())
                && peer.config.transport.password != config.transport.password
        })?;
        Some(format!(
            "peer {} has the same address but another password",
            other.config.name
        ))
    }

    fn remove_peer(&mut self, now: Instant, name: &str) {
        let Some(index) = self.names.remove(name) else {
            return;
        };
        let Some(mut peer) = self.peers.remove(&index) else {
            return;
        };
        let notification = Notification::cease(subcode::cease::PEER_DE_CONFIGURED);
        peer.stop(now, &notification, &mut self.shared);
        self.shared.rib.remove_peer(index);
        self.unlisten(peer.config.remote.network());
        self.try_again_at(now, peer.config.remote.network());
    }

    fn unlisten(&mut self, remote: IpNet) {
        if !self.peers.values().any(|peer| peer.is_in(remote)) {
            self.shared.outputs.push_back(Output::Unlisten { remote });
        }
    }

    /// The smallest number not in use: it is a position in the Adj-RIB-Out's bit sets.
    fn free_index(&self) -> PeerIndex {
        (0..)
            .map(PeerIndex)
            .find(|index| !self.peers.contains_key(index))
            .unwrap_or(PeerIndex(0))
    }

    fn set_routes(&mut self, routes: Vec<PeerRoutes>) {
        if self.shared.stopping.is_some() {
            return;
        }
        for PeerRoutes { peer, changes } in routes {
            let Some(index) = self.names.get(&peer) else {
                self.shared.emit(Event::UnknownPeer { peer });
                continue;
            };
            for (prefix, route) in changes {
                self.shared.rib.set(*index, prefix, route);
            }
        }
        self.shared.rib.commit();
    }

    /// Matches an incoming connection to a peer by its address.
    fn accept(&mut self, now: Instant, connection: ConnectionId, ends: Ends) {
        let shared = &mut self.shared;
        let mut reason = RejectReason::UnknownAddress;
        let mut chosen: Option<&mut Peer> = None;
        for peer in self
            .peers
            .values_mut()
            .filter(|peer| peer.is_at(ends.remote.ip()))
        {
            match peer.accepts() {
                Err(because) => reason = because,
                Ok(()) if peer.expects_connection() => {
                    chosen = Some(peer);
                    break;
                }
                Ok(()) => chosen = chosen.or(Some(peer)),
            }
        }
        if let Some(peer) = chosen {
            return peer.accepted(now, connection, ends, shared);
        }
        let cease = match reason {
            RejectReason::UnknownAddress => None,
            RejectReason::SessionExists => Some(subcode::cease::CONNECTION_COLLISION_RESOLUTION),
            RejectReason::Idle => Some(subcode::cease::CONNECTION_REJECTED),
        };
        match cease {
            None => shared.close(connection),
            Some(cease) => {
                shared.finish(now, connection, [].into(), &Notification::cease(cease));
            }
        }
        shared.emit(Event::Rejected {
            remote: remote_of(ends),
            reason,
        });
    }

    fn timeout(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.timeout(now, &mut self.shared);
        }
        self.shared.timeout(now);
        self.end_farewell(now);
    }

    fn tell_end(&mut self) {
        if self.shared.stopping.is_some() && !self.stopped && self.shared.silent() {
            self.stopped = true;
            self.shared.outputs.push_back(Output::Stopped);
        }
    }
}

fn remote_of(ends: Ends) -> SocketAddr {
    SocketAddr::new(ends.remote.ip().to_canonical(), ends.remote.port())
}

#[cfg(test)]
mod tests;
