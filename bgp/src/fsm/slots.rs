//! The two connection slots of a peer.

use std::time::Instant;

use super::connection::Connection;
use super::io::ConnectionId;
use super::timer::earlier;

/// The two slots of RFC 4271 §6.8.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) dialled: Option<Connection>,
    pub(super) accepted: Option<Connection>,
}

impl Slots {
    fn slot(&mut self, id: ConnectionId) -> &mut Option<Connection> {
        match id {
            ConnectionId::Dialled(_) => &mut self.dialled,
            ConnectionId::Accepted(_) => &mut self.accepted,
        }
    }

    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slot(id)
            .as_mut()
            .filter(|connection| connection.id == id)
    }

    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        self.slot(id).take_if(|connection| connection.id == id)
    }

    pub(super) fn other(&self, id: ConnectionId) -> Option<&Connection> {
        match id {
            ConnectionId::Dialled(_) => self.accepted.as_ref(),
            ConnectionId::Accepted(_) => self.dialled.as_ref(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.dialled.iter().chain(&self.accepted)
    }

    /// The next timer of a connection.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.iter().map(Connection::deadline).fold(None, earlier)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.dialled.iter_mut().chain(&mut self.accepted)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.iter().map(|connection| connection.id).collect()
    }

    /// The connection that is furthest.
    pub(super) fn best(&self) -> Option<&Connection> {
        self.iter().max_by_key(|connection| connection.state())
    }
}
