//! Whose connection is it: incoming ones find their peer by both addresses.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Instant;

use crate::fsm::Speaker;
use crate::fsm::events::{ConnectionId, Event, RejectReason};
use crate::fsm::history::journal::JournalEvent;
use crate::fsm::peer::Peer;
use crate::fsm::peer::connection::Ends;
use crate::rib::PeerIndex;
use crate::wire::{Notification, subcode};

/// Who may take a connection, and who gets to hear if nobody does.
type Choice = Result<PeerIndex, (Option<PeerIndex>, RejectReason)>;

impl Speaker {
    pub(in crate::fsm) fn accept(&mut self, now: Instant, connection: ConnectionId, ends: Ends) {
        if let Some((index, dialled)) = self.mirror(ends) {
            self.shared.close(connection);
            if let Some(peer) = self.peers.get_mut(&index) {
                peer.met_ourselves(now, dialled, &mut self.shared);
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
                self.turn_away(now, connection, ends, reason);
            }
        }
    }

    /// A dialled connection is up.
    pub(in crate::fsm) fn connected(&mut self, now: Instant, connection: ConnectionId, ends: Ends) {
        let mirror = self.mirror(ends);
        if let Some((index, accepted)) = mirror
            && let Some(peer) = self.peers.get_mut(&index)
        {
            peer.met_ourselves(now, accepted, &mut self.shared);
        }
        self.with_owner(connection, |peer, shared| {
            if mirror.is_some() {
                peer.met_ourselves(now, connection, shared);
            } else {
                peer.connected(now, connection, ends, shared);
            }
        });
    }

    /// The other end of this very connection, if that is ours too.
    fn mirror(&self, ends: Ends) -> Option<(PeerIndex, ConnectionId)> {
        let mirror = Ends {
            local: ends.remote,
            remote: ends.local,
        }
        .canonical();
        self.peers.iter().find_map(|(index, peer)| {
            let connection = peer.connection_between(mirror)?;
            Some((*index, connection))
        })
    }

    /// A configured router before a dynamic neighbour, one with our end as its source address
    /// before one with any, a small network before a large one.
    fn choose(&mut self, now: Instant, ends: Ends) -> Choice {
        let ends = ends.canonical();
        let (local, remote) = (ends.local.ip(), ends.remote.ip());
        let configured = |peer: &Peer| peer.template.is_none();
        let router = |peer: &Peer| peer.config.remote.router().is_some();
        if let Some(choice) = self.among(now, ends, |peer| configured(peer) && router(peer)) {
            return choice;
        }
        if let Some(choice) = self.among(now, ends, |peer| !configured(peer)) {
            return choice;
        }
        let mut templates: Vec<(PeerIndex, &Peer)> = self
            .peers
            .iter()
            .filter(|(_, peer)| !router(peer) && peer.takes(local, remote))
            .map(|(index, peer)| (*index, peer))
            .collect();
        templates.sort_by_key(|(_, peer)| {
            let any_source = peer.config.transport.source_address.is_none();
            (
                any_source,
                Reverse(peer.config.remote.network().prefix_len()),
            )
        });
        let Some((template, peer)) = templates.first() else {
            return Err((None, RejectReason::UnknownAddress));
        };
        let template = *template;
        if !peer.runs() || self.shared.stopping.is_some() {
            return Err((Some(template), RejectReason::Idle));
        }
        self.add_dynamic(now, template, remote)
            .ok_or((Some(template), RejectReason::TooMany))
    }

    /// The choice among those of `which` that have these addresses; `None` if there are none.
    fn among(&self, now: Instant, ends: Ends, which: impl Fn(&Peer) -> bool) -> Option<Choice> {
        let (local, remote) = (ends.local.ip(), ends.remote.ip());
        let with_source = |wanted: bool| {
            let which = &which;
            self.peers.iter().filter(move |(_, peer)| {
                peer.config.transport.source_address.is_some() == wanted
                    && which(peer)
                    && peer.takes(local, remote)
            })
        };
        let mut turned_away = None;
        let mut second_best = None;
        let exact = with_source(true).next().is_some();
        for (index, peer) in with_source(exact) {
            match peer.accepts(now) {
                Err(reason) => turned_away = Some((Some(*index), reason)),
                Ok(()) if peer.expects_connection() => return Some(Ok(*index)),
                Ok(()) => second_best = second_best.or(Some(*index)),
            }
        }
        second_best.map(Ok).or(turned_away.map(Err))
    }

    fn turn_away(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        ends: Ends,
        reason: RejectReason,
    ) {
        let shared = &mut self.shared;
        let cease = match reason {
            RejectReason::UnknownAddress => None,
            RejectReason::SessionExists => Some(subcode::cease::CONNECTION_COLLISION_RESOLUTION),
            RejectReason::Idle => Some(subcode::cease::CONNECTION_REJECTED),
            RejectReason::TooMany => Some(subcode::cease::OUT_OF_RESOURCES),
        };
        let Ends { remote, .. } = ends.canonical();
        match cease.map(Notification::cease) {
            None => shared.close(connection),
            Some(cease) => {
                shared.dismiss(now, connection, remote.ip(), [].into(), &cease);
            }
        }
        shared.emit(Event::Rejected { remote, reason });
    }
}

impl Ends {
    /// An IPv4 connection on an IPv6 socket is an IPv4 connection; and only addresses and ports
    /// tell connections apart.
    pub(in crate::fsm) fn canonical(self) -> Self {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self {
            local: canonical(self.local),
            remote: canonical(self.remote),
        }
    }
}
