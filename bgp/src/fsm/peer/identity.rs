//! Which connections are the peer's, and what it is to its speaker.

use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;

use super::super::cause::Cause;
use super::super::connection::Ends;
use super::super::dynamic::DYNAMIC_KEPT;
use super::super::io::{ConnectionId, Output, State};
use super::super::journal::JournalEvent;
use super::super::shared::Shared;
use super::course::Ending;
use super::{Dial, Peer};
use crate::config::PeerConfig;
use crate::rib::PeerIndex;

impl Peer {
    /// Whether connections from this address are the peer's.
    pub(in crate::fsm) fn is_at(&self, address: IpAddr) -> bool {
        self.config.remote.contains(address)
    }

    /// Whether a connection between these addresses is the peer's.
    pub(in crate::fsm) fn takes(&self, local: IpAddr, remote: IpAddr) -> bool {
        let source = self.config.transport.source_address;
        self.is_at(remote) && source.is_none_or(|source| source.to_canonical() == local)
    }

    /// Whether the peer is configured for just this network.
    pub(in crate::fsm) fn is_in(&self, network: IpNet) -> bool {
        self.template.is_none() && self.config.remote.network() == network
    }

    /// Whether it is a dynamic neighbour of this template.
    pub(in crate::fsm) fn is_of(&self, template: PeerIndex) -> bool {
        self.template
            .as_ref()
            .is_some_and(|of| of.index == template)
    }

    /// When a dynamic neighbour without a connection is forgotten.
    pub(in crate::fsm) fn forgotten_at(&self) -> Option<Instant> {
        let quiet = self.template.is_some() && self.state == State::Active;
        quiet.then(|| self.since + DYNAMIC_KEPT)
    }

    /// The connection with these ends.
    pub(in crate::fsm) fn connection_between(&self, ends: Ends) -> Option<ConnectionId> {
        let connection = self.slots.iter().find(|connection| connection.ends == ends);
        connection.map(|connection| connection.id)
    }

    pub(in crate::fsm) fn note(&mut self, now: Instant, event: JournalEvent) {
        self.record.journal.note(now, event);
    }

    /// This connection, or attempt at one, leads to ourselves.
    pub(in crate::fsm) fn met_ourselves(
        &mut self,
        now: Instant,
        id: ConnectionId,
        shared: &mut Shared,
    ) {
        match self.dial {
            Dial::Connect { connection, .. } if connection == id => {
                shared.close(id);
                self.dial = Dial::Rest;
                if self.slots.best().is_some() {
                    self.connection_closed(now, id, Cause::OwnAddress, shared);
                } else {
                    self.retry(now, Cause::OwnAddress, false, shared);
                }
            }
            _ => self.end(now, id, Ending::Silent(Cause::OwnAddress), shared),
        }
        self.tell_state(now, shared);
    }

    /// Gives a changed password to the connections there are. Answers whether there is an attempt
    /// that must be made again with it.
    pub(super) fn rekey(&mut self, old: &PeerConfig, shared: &mut Shared) -> bool {
        let Some(password) = &self.config.transport.password else {
            return false;
        };
        if old.transport.password.as_ref() == Some(password) {
            return false;
        }
        for connection in self.slots.iter() {
            shared.outputs.push_back(Output::Rekey {
                connection: connection.id,
                peer: self.config.name.clone(),
                remote: connection.ends.remote.ip(),
                password: password.clone(),
            });
        }
        matches!(self.dial, Dial::Connect { .. })
    }
}
