//! How a peer's session ends when the speaker does.

use std::time::Instant;

use crate::fsm::events::ConnectionId;
use crate::fsm::peer::connection::Connection;
use crate::fsm::peer::lifecycle::Ending;
use crate::fsm::peer::{Dial, Peer};
use crate::fsm::shared::Shared;
use crate::fsm::shutdown::ShutdownMode;
use crate::wire::{ErrorCode, Notification, subcode};

/// How the session will end, once everything is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// With a NOTIFICATION, all routes withdrawn before.
    Withdraw,
    /// Without, so that the peer keeps them.
    Preserve,
}

/// Whether the peer is to drop our routes also where the N bit was exchanged, so that it would
/// otherwise keep them until the restart time is over. RFC 8538 §5.1 advises for each subcode.
fn ends_routes(notification: &Notification) -> bool {
    use subcode::cease;
    // An accident: we come back as soon as we can.
    if notification.code != ErrorCode::CEASE {
        return false;
    }
    match notification.subcode {
        // Nobody comes back before somebody has changed something.
        cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED
        | cease::ADMINISTRATIVE_SHUTDOWN
        | cease::PEER_DE_CONFIGURED => true,
        // We say it to a session only where its configuration can't be put into effect, which is no
        // matter of a moment.
        cease::OUT_OF_RESOURCES => true,
        // Routes over a lost path are not worth keeping.
        cease::BFD_DOWN => true,
        // We are back at once, or never were there.
        cease::ADMINISTRATIVE_RESET
        | cease::CONNECTION_REJECTED
        | cease::OTHER_CONFIGURATION_CHANGE
        | cease::CONNECTION_COLLISION_RESOLUTION => false,
        _ => false,
    }
}

impl Connection {
    /// What the peer is told at the end: inside a Hard Reset if anything else would leave our routes
    /// where they are not to stay (RFC 8538 §3.1).
    pub(super) fn parting(&self, notification: Notification) -> Notification {
        let agreed = self.negotiated().and_then(|n| n.graceful_restart);
        if agreed.is_some_and(|restart| restart.notification) && ends_routes(&notification) {
            Notification::hard_reset(&notification)
        } else {
            notification
        }
    }
}

impl Peer {
    /// Begins the end of the speaker: no new connections, and on the session what is still to be told.
    pub(in crate::fsm) fn begin_leaving(
        &mut self,
        now: Instant,
        mode: ShutdownMode,
        shared: &mut Shared,
    ) {
        self.stop_dialling(shared);
        self.dial = Dial::Never;
        let established = self.established_connection();
        let keeps = self.slots.best().is_some_and(Connection::peer_keeps_routes);
        self.leaving = Some(match mode {
            ShutdownMode::GracefulRestart if keeps => Leaving::Preserve,
            // It may hold routes of the process before this one, and would drop them on a NOTIFICATION.
            ShutdownMode::GracefulRestart
                if established.is_none() && self.config.graceful_restart.is_some() =>
            {
                Leaving::Preserve
            }
            ShutdownMode::GracefulRestart | ShutdownMode::Withdraw => {
                shared.rib.withdraw_all(self.index);
                Leaving::Withdraw
            }
        });
        for id in self.slots.ids() {
            if Some(id) != established {
                let ending = self.last_word(shared);
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
            let ending = self.last_word(shared);
            self.end(now, id, ending, shared);
        }
        self.tell_state(now, shared);
    }

    fn last_word(&self, shared: &Shared) -> Ending {
        if self.leaving == Some(Leaving::Preserve) {
            return Ending::Preserve;
        }
        let general = shared
            .stopping
            .as_ref()
            .map_or("", |stopping| &stopping.text);
        let text = self.config.shutdown_text.as_deref().unwrap_or(general);
        Ending::Notify(Notification::administrative_shutdown(text))
    }

    pub(super) fn established_connection(&self) -> Option<ConnectionId> {
        self.slots.established().map(|connection| connection.id)
    }
}
