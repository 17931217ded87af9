//! When the peer does not take us as we are: fewer capabilities, and the numbers it is about.

use std::time::Instant;

use crate::config::HoldTime;
use crate::fsm::events::{ConnectionId, Event, State};
use crate::fsm::history::cause::{Cause, meaning};
use crate::fsm::history::journal::JournalEvent;
use crate::fsm::history::summary::CapabilitySummary;
use crate::fsm::peer::Peer;
use crate::fsm::shared::Shared;
use crate::wire::{ErrorCode, Notification, subcode};

impl Peer {
    /// The peer ended a connection: if our OPEN offered too much, the next offers less.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        id: ConnectionId,
        notification: &Notification,
        shared: &mut Shared,
    ) {
        let connection = self.slots.get(id);
        let Some(connection) = connection.filter(|c| c.state() != State::Established) else {
            return;
        };
        let dropped = self
            .refusals
            .learn(notification, &connection.open, &self.config);
        if dropped.is_empty() {
            return;
        }
        let capabilities: Vec<_> = dropped.iter().map(CapabilitySummary::from).collect();
        let event = JournalEvent::CapabilitiesDropped {
            capabilities: capabilities.clone(),
        };
        self.record.journal.note(now, event);
        shared.emit(Event::CapabilitiesDropped {
            peer: self.config.name.clone(),
            capabilities,
        });
    }

    /// The cause with what the NOTIFICATION alone doesn't tell.
    pub(super) fn explained(&self, now: Instant, cause: Cause, hold_time: HoldTime) -> Cause {
        let Some((notification, sent)) = cause.notification() else {
            return cause;
        };
        if meaning(notification).0 == ErrorCode::HOLD_TIMER_EXPIRED
            && let Some(late) = self.standstill.explains(now, hold_time)
        {
            return Cause::LocalStall {
                notification: notification.clone(),
                sent,
                late,
            };
        }
        if !is_bad_peer_as(notification) {
            return cause;
        }
        let theirs = self.record.open_received.as_ref().map(|open| open.asn);
        Cause::AsnMismatch {
            notification: notification.clone(),
            sent,
            ours: self.config.local_asn,
            theirs: theirs.filter(|_| sent),
            expected: self.config.remote_asn,
        }
    }
}

/// Whether only somebody who changes a configuration can help: no use in trying often.
pub(super) fn needs_an_operator(cause: &Cause) -> bool {
    let limit = subcode::cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED;
    cause.notification().is_some_and(|(notification, sent)| {
        is_bad_peer_as(notification) || sent && meaning(notification) == (ErrorCode::CEASE, limit)
    })
}

fn is_bad_peer_as(notification: &Notification) -> bool {
    meaning(notification) == (ErrorCode::OPEN, subcode::open::BAD_PEER_AS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8538 §3.1: what is enclosed is what it is about.
    #[test]
    fn what_needs_an_operator_needs_one_inside_a_hard_reset_too() {
        let limit = subcode::cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED;
        let wrong_asn = Notification::new(ErrorCode::OPEN, subcode::open::BAD_PEER_AS);
        for notification in [Notification::cease(limit), wrong_asn] {
            let enclosing = Notification::hard_reset(&notification);
            assert!(needs_an_operator(&Cause::Sent(notification)));
            assert!(needs_an_operator(&Cause::Sent(enclosing)));
        }
        let shutdown = Notification::cease(subcode::cease::ADMINISTRATIVE_SHUTDOWN);
        let enclosing = Notification::hard_reset(&shutdown);
        assert!(!needs_an_operator(&Cause::Received(enclosing)));
    }
}
