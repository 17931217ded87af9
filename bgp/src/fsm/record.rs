//! What is kept of a peer's past for whoever looks at it; nothing is decided by it.

use std::time::Instant;

use super::cause::Cause;
use super::journal::{Journal, JournalEvent};
use super::status::{LastError, PastNotification};
use super::summary::{CauseSummary, NotificationSummary, OpenSummary};
use super::tally::Tally;
use crate::wire::Open;

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) journal: Journal,
    pub(super) tally: Tally,
    pub(super) open_sent: Option<OpenSummary>,
    pub(super) open_received: Option<OpenSummary>,
    last_error: Option<(CauseSummary, Instant)>,
    sent: Option<(NotificationSummary, Instant)>,
    received: Option<(NotificationSummary, Instant)>,
}

impl Record {
    pub(super) fn open_sent(&mut self, now: Instant, open: &Open) {
        let open = OpenSummary::from(open);
        self.open_sent = Some(open.clone());
        self.journal.note(now, JournalEvent::OpenSent { open });
    }

    pub(super) fn open_received(&mut self, now: Instant, open: &Open) {
        let open = OpenSummary::from(open);
        self.open_received = Some(open.clone());
        self.journal.note(now, JournalEvent::OpenReceived { open });
    }

    /// A connection is gone; nothing of it went wrong as long as another lives on.
    pub(super) fn connection_closed(&mut self, now: Instant, cause: &Cause) {
        let cause = self.ending(now, cause);
        let event = JournalEvent::ConnectionClosed { cause };
        self.journal.note(now, event);
    }

    pub(super) fn ended(
        &mut self,
        now: Instant,
        cause: &Cause,
        was_established: bool,
        retry: Option<std::time::Duration>,
    ) {
        let cause = self.ending(now, cause);
        self.last_error = Some((cause.clone(), now));
        let event = JournalEvent::Ended {
            cause,
            was_established,
            retry,
        };
        self.journal.note(now, event);
    }

    pub(super) fn last_error(&self, now: Instant) -> Option<LastError> {
        let (cause, at) = self.last_error.as_ref()?;
        Some(LastError {
            cause: cause.clone(),
            ago: now.saturating_duration_since(*at),
        })
    }

    pub(super) fn last_sent(&self, now: Instant) -> Option<PastNotification> {
        past(now, self.sent.as_ref())
    }

    pub(super) fn last_received(&self, now: Instant) -> Option<PastNotification> {
        past(now, self.received.as_ref())
    }

    fn ending(&mut self, now: Instant, cause: &Cause) -> CauseSummary {
        let cause = CauseSummary::from(cause);
        match &cause.notification {
            Some(notification) if notification.sent => {
                self.sent = Some((notification.clone(), now));
            }
            Some(notification) => self.received = Some((notification.clone(), now)),
            None => {}
        }
        cause
    }
}

fn past(now: Instant, past: Option<&(NotificationSummary, Instant)>) -> Option<PastNotification> {
    let (notification, at) = past?;
    Some(PastNotification {
        notification: notification.clone(),
        ago: now.saturating_duration_since(*at),
    })
}
