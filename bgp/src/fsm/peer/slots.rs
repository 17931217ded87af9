//! The connection slots of a peer.

use std::time::Instant;

use crate::fsm::events::{ConnectionId, State};
use crate::fsm::peer::connection::Connection;
use crate::fsm::timers::earlier;

/// The two slots of RFC 4271 §6.8, and one for RFC 4724 §4.2.
#[derive(Debug, Default)]
pub(in crate::fsm) struct Slots {
    pub(in crate::fsm) dialled: Option<Connection>,
    pub(in crate::fsm) accepted: Option<Connection>,
    /// Waits for its OPEN, with which it replaces the session. Only while that is in `accepted`.
    successor: Option<Connection>,
}

impl Slots {
    fn slot(&mut self, id: ConnectionId) -> Option<&mut Option<Connection>> {
        [&mut self.dialled, &mut self.accepted, &mut self.successor]
            .into_iter()
            .find(|slot| slot.as_ref().is_some_and(|connection| connection.id == id))
    }

    pub(in crate::fsm) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slot(id)?.as_mut()
    }

    /// Takes a connection out. If it was the session, its successor takes its place.
    pub(in crate::fsm) fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        let taken = self.slot(id)?.take();
        if self.accepted.is_none() {
            self.accepted = self.successor.take();
        }
        taken
    }

    /// Puts an accepted connection where there is room: call [`take_waiting`](Self::take_waiting) before.
    pub(in crate::fsm) fn accept(&mut self, connection: Connection) {
        if self.accepted.is_none() {
            self.accepted = Some(connection);
        } else {
            self.successor = Some(connection);
        }
    }

    /// Takes out the accepted connection that waits for its OPEN, if there is one.
    pub(in crate::fsm) fn take_waiting(&mut self) -> Option<Connection> {
        let waits = |connection: &mut Connection| connection.state() == State::OpenSent;
        self.successor
            .take()
            .or_else(|| self.accepted.take_if(waits))
    }

    pub(in crate::fsm) fn other(&self, id: ConnectionId) -> Option<&Connection> {
        match id {
            ConnectionId::Dialled(_) => self.accepted.as_ref(),
            ConnectionId::Accepted(_) => self.dialled.as_ref(),
        }
    }

    pub(in crate::fsm) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.dialled
            .iter()
            .chain(&self.accepted)
            .chain(&self.successor)
    }

    /// The next timer of a connection.
    pub(in crate::fsm) fn deadline(&self) -> Option<Instant> {
        self.iter().map(Connection::deadline).fold(None, earlier)
    }

    pub(in crate::fsm) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.dialled
            .iter_mut()
            .chain(&mut self.accepted)
            .chain(&mut self.successor)
    }

    pub(in crate::fsm) fn ids(&self) -> Vec<ConnectionId> {
        self.iter().map(|connection| connection.id).collect()
    }

    /// The connection that is furthest.
    pub(in crate::fsm) fn best(&self) -> Option<&Connection> {
        self.iter().max_by_key(|connection| connection.state())
    }

    /// The connection that carries the session.
    pub(in crate::fsm) fn established(&self) -> Option<&Connection> {
        self.iter()
            .find(|connection| connection.state() == State::Established)
    }
}
