//! Admission: finds the peer of an incoming connection by both addresses, or rejects it.

use std::cmp::Reverse;
use std::time::Instant;

use crate::fsm::Speaker;
use crate::fsm::events::Event;
use crate::fsm::history::journal::JournalEvent;
use crate::fsm::peer::Peer;
use crate::fsm::tcp::SocketPair;
use crate::fsm::tcp::{ConnectionId, RejectReason};
use crate::rib::PeerIndex;
use crate::wire::{Notification, subcode};

/// The peer of a connection; or why it is rejected, and the peer in whose journal that is noted.
type Choice = Result<PeerIndex, (Option<PeerIndex>, RejectReason)>;

impl Speaker {
    /// A connection was accepted.
    pub(in crate::fsm) fn accept(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        ends: SocketPair,
    ) {
        if let Some((index, dialled)) = self.own_other_end(ends) {
            self.shared.close(connection);
            if let Some(peer) = self.peers.get_mut(&index) {
                peer.on_self_connection(now, dialled, &mut self.shared);
            }
            return;
        }
        match self.choose(now, ends) {
            Ok(index) => {
                if let Some(peer) = self.peers.get_mut(&index) {
                    peer.accepted(now, connection, ends, &mut self.shared);
                }
            }
            Err((index, reason)) => {
                if let Some(peer) = index.and_then(|index| self.peers.get_mut(&index)) {
                    peer.note(now, JournalEvent::Rejected { reason });
                }
                self.reject(now, connection, ends, reason);
            }
        }
    }

    /// A dialled connection is established.
    pub(in crate::fsm) fn connected(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        ends: SocketPair,
    ) {
        let other_end = self.own_other_end(ends);
        if let Some((index, accepted)) = other_end
            && let Some(peer) = self.peers.get_mut(&index)
        {
            peer.on_self_connection(now, accepted, &mut self.shared);
        }
        self.with_owner(connection, |peer, shared| {
            if other_end.is_some() {
                peer.on_self_connection(now, connection, shared);
            } else {
                peer.connected(now, connection, ends, shared);
            }
        });
    }

    /// The other end of this connection, if it is one of ours.
    fn own_other_end(&self, ends: SocketPair) -> Option<(PeerIndex, ConnectionId)> {
        let reversed = ends.reversed().canonical();
        self.peers.iter().find_map(|(index, peer)| {
            let connection = peer.connection_between(reversed)?;
            Some((*index, connection))
        })
    }

    /// Prefers a configured router to a dynamic neighbor, a peer with our address as its source
    /// address to one without, and a template with a small network to one with a large network.
    fn choose(&mut self, now: Instant, ends: SocketPair) -> Choice {
        let scope = ends.scope();
        let ends = ends.canonical();
        let (local, remote) = (ends.local.ip(), ends.remote.ip());
        let configured = |peer: &Peer| peer.template().is_none();
        let router = |peer: &Peer| peer.config().remote.is_one_router();
        let matches = |peer: &Peer| peer.matches(local, remote, scope);
        let is_router = |peer: &Peer| configured(peer) && router(peer) && matches(peer);
        if let Some(choice) = self.choose_among(now, is_router) {
            return choice;
        }
        let is_dynamic = |peer: &Peer| !configured(peer) && matches(peer);
        if let Some(choice) = self.choose_among(now, is_dynamic) {
            return choice;
        }
        let templates = self
            .peers
            .iter()
            .filter(|(_, peer)| !router(peer) && matches(peer));
        let best = templates.min_by_key(|(_, peer)| {
            let any_source = peer.config().transport.source_address.is_none();
            let length = peer.config().remote.network().prefix_len();
            (any_source, Reverse(length))
        });
        let Some((template, peer)) = best else {
            return Err((None, RejectReason::UnknownAddress));
        };
        let template = *template;
        if !peer.is_enabled() || self.shared.is_shutting_down() {
            return Err((Some(template), RejectReason::Idle));
        }
        self.add_dynamic(now, template, remote)
            .ok_or((Some(template), RejectReason::TooMany))
    }

    /// Chooses among the `candidates`; `None` if there are none.
    fn choose_among(&self, now: Instant, candidates: impl Fn(&Peer) -> bool) -> Option<Choice> {
        let with_source = |wanted: bool| {
            let candidates = &candidates;
            self.peers.iter().filter(move |(_, peer)| {
                peer.config().transport.source_address.is_some() == wanted && candidates(peer)
            })
        };
        let mut rejected = None;
        let mut second_best = None;
        let exact = with_source(true).next().is_some();
        for (index, peer) in with_source(exact) {
            match peer.accepts(now) {
                Err(reason) => rejected = Some((Some(*index), reason)),
                Ok(()) if peer.expects_connection() => return Some(Ok(*index)),
                Ok(()) => second_best = second_best.or(Some(*index)),
            }
        }
        second_best.map(Ok).or(rejected.map(Err))
    }

    fn reject(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        ends: SocketPair,
        reason: RejectReason,
    ) {
        let shared = &mut self.shared;
        let subcode = match reason {
            RejectReason::UnknownAddress => None,
            RejectReason::SessionExists => Some(subcode::cease::CONNECTION_COLLISION_RESOLUTION),
            RejectReason::Idle => Some(subcode::cease::CONNECTION_REJECTED),
            RejectReason::TooMany => Some(subcode::cease::OUT_OF_RESOURCES),
        };
        let remote = ends.canonical().remote;
        match subcode.map(Notification::cease) {
            None => shared.close(connection),
            Some(cease) => {
                shared.dismiss(now, connection, remote.ip(), [].into(), &cease);
            }
        }
        shared.emit(Event::Rejected { remote, reason });
    }
}
