//! The connections of one peer.

use crate::fsm::peer::connection::Connection;
use crate::fsm::state::State;
use crate::fsm::tcp::ConnectionId;
use crate::fsm::tcp::SocketPair;

/// The two connections that may collide (RFC 4271 §6.8), and the one that may replace the session
/// (RFC 4724 §4.2).
#[derive(Debug, Default)]
pub(super) struct Slots {
    dialled: Option<Connection>,
    accepted: Option<Connection>,
    /// Waits for its OPEN, with which it replaces the session. Occupied only while `accepted` is
    /// the session.
    successor: Option<Connection>,
}

impl Slots {
    fn slot(&mut self, id: ConnectionId) -> Option<&mut Option<Connection>> {
        [&mut self.dialled, &mut self.accepted, &mut self.successor]
            .into_iter()
            .find(|slot| {
                slot.as_ref()
                    .is_some_and(|connection| connection.id() == id)
            })
    }

    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slot(id)?.as_mut()
    }

    /// Takes a connection out. If it was the session, its successor takes its place.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        let taken = self.slot(id)?.take();
        if self.accepted.is_none() {
            self.accepted = self.successor.take();
        }
        taken
    }

    /// Puts in a connection that we dialled.
    pub(super) fn put_dialled(&mut self, connection: Connection) {
        self.dialled = Some(connection);
    }

    /// Puts in a connection that the peer dialled. [`take_waiting`](Self::take_waiting) makes room
    /// for it.
    pub(super) fn put_accepted(&mut self, connection: Connection) {
        if self.accepted.is_none() {
            self.accepted = Some(connection);
        } else {
            self.successor = Some(connection);
        }
    }

    /// Takes out the accepted connection that waits for the peer's OPEN.
    pub(super) fn take_waiting(&mut self) -> Option<Connection> {
        let waits = |connection: &mut Connection| connection.state() == State::OpenSent;
        self.successor
            .take()
            .or_else(|| self.accepted.take_if(waits))
    }

    /// The connection that the peer dialled, the successor excepted.
    pub(super) fn accepted(&self) -> Option<&Connection> {
        self.accepted.as_ref()
    }

    /// The connection that collides with this one.
    pub(super) fn other(&self, id: ConnectionId) -> Option<&Connection> {
        match id {
            ConnectionId::Dialled(_) => self.accepted.as_ref(),
            ConnectionId::Accepted(_) => self.dialled.as_ref(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.dialled
            .iter()
            .chain(&self.accepted)
            .chain(&self.successor)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.dialled
            .iter_mut()
            .chain(&mut self.accepted)
            .chain(&mut self.successor)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.iter().map(Connection::id).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The connection in the most advanced state.
    pub(super) fn best(&self) -> Option<&Connection> {
        self.iter().max_by_key(|connection| connection.state())
    }

    /// The connection that carries the session.
    pub(super) fn established(&self) -> Option<&Connection> {
        self.iter()
            .find(|connection| connection.state() == State::Established)
    }

    /// The connection with this number.
    pub(super) fn find(&self, id: ConnectionId) -> Option<&Connection> {
        self.iter().find(|connection| connection.id() == id)
    }

    /// The connection with these ends.
    pub(super) fn between(&self, ends: SocketPair) -> Option<&Connection> {
        self.iter().find(|connection| connection.ends() == ends)
    }
}
