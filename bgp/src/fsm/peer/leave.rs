//! How a peer's session ends when the speaker does.

use std::time::Instant;

use super::super::connection::Connection;
use super::super::farewell::Farewell;
use super::super::io::{ConnectionId, State};
use super::super::shared::Shared;
use super::course::Ending;
use super::{Dial, Peer};
use crate::wire::Notification;

/// How the session will end, once everything is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// With a NOTIFICATION, all routes withdrawn before.
    Withdraw,
    /// Without, so that the peer keeps them.
    Preserve,
}

impl Peer {
    /// Begins the end of the speaker: no new connections, and on the session what is still to be told.
    pub(in crate::fsm) fn begin_leaving(
        &mut self,
        now: Instant,
        farewell: Farewell,
        shared: &mut Shared,
    ) {
        self.stop_dialling(shared);
        self.dial = Dial::Never;
        let established = self.established_connection();
        let keeps = self.slots.best().is_some_and(Connection::peer_keeps_routes);
        self.leaving = Some(match farewell {
            Farewell::Preserve if keeps => Leaving::Preserve,
            // It may hold routes of the process before this one, and would drop them on a NOTIFICATION.
            Farewell::Preserve
                if established.is_none() && self.config.graceful_restart.is_some() =>
            {
                Leaving::Preserve
            }
            Farewell::Preserve | Farewell::Withdraw => {
                shared.rib.withdraw_all(self.index);
                Leaving::Withdraw
            }
        });
        for id in self.slots.ids() {
            if Some(id) != established {
                let ending = self.last_word(id, shared);
                self.end(now, id, ending, shared);
            }
        }
        self.tell_state(now, shared);
    }

    /// Ends the session if everything is said.
    pub(in crate::fsm) fn leave(&mut self, now: Instant, shared: &mut Shared) {
        if self.leaving.is_some() && !shared.rib.pending(self.index) {
            self.leave_now(now, shared);
        }
    }

    /// Ends the session, whatever is left to say.
    pub(in crate::fsm) fn leave_now(&mut self, now: Instant, shared: &mut Shared) {
        for id in self.slots.ids() {
            let ending = self.last_word(id, shared);
            self.end(now, id, ending, shared);
        }
        self.tell_state(now, shared);
    }

    /// A NOTIFICATION after which the peer keeps nothing of us (RFC 8538 §3).
    pub(super) fn for_good(
        &mut self,
        id: ConnectionId,
        notification: Notification,
    ) -> Notification {
        let survives = self
            .slots
            .get(id)
            .and_then(|connection| connection.negotiated())
            .and_then(|negotiated| negotiated.graceful_restart.as_ref())
            .is_some_and(|restart| restart.notification);
        if survives {
            Notification::hard_reset(&notification)
        } else {
            notification
        }
    }

    fn last_word(&mut self, id: ConnectionId, shared: &Shared) -> Ending {
        if self.leaving == Some(Leaving::Preserve) {
            return Ending::Preserve;
        }
        let general = shared
            .stopping
            .as_ref()
            .map_or("", |stopping| &stopping.text);
        let text = self.config.shutdown_text.as_deref().unwrap_or(general);
        let notification = Notification::administrative_shutdown(text);
        Ending::Notify(self.for_good(id, notification))
    }

    fn established_connection(&self) -> Option<ConnectionId> {
        let best = self.slots.best();
        best.filter(|connection| connection.state() == State::Established)
            .map(|connection| connection.id)
    }
}
