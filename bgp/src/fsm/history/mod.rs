//! What is kept of a peer's past for whoever looks at it; nothing is decided by it.

pub(super) mod cause;
pub(super) mod journal;
mod received_prefixes;
pub(super) mod status;
pub(super) mod summary;
pub(super) mod update_stats;

use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::fsm::history::cause::Cause;
use crate::fsm::history::journal::{Journal, JournalEvent};
use crate::fsm::history::status::{LastError, PastNotification};
use crate::fsm::history::summary::{CauseSummary, NotificationSummary, OpenSummary, hexadecimal};
use crate::fsm::history::update_stats::Tally;
use crate::wire::{Open, Update};

/// Between two UPDATEs with errors that are told: a peer must fill neither journal nor log.
const UPDATE_ERRORS_REST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(in crate::fsm) struct Record {
    pub(in crate::fsm) journal: Journal,
    pub(in crate::fsm) tally: Tally,
    pub(in crate::fsm) open_sent: Option<OpenSummary>,
    pub(in crate::fsm) open_received: Option<OpenSummary>,
    last_error: Option<(CauseSummary, Instant)>,
    /// When UPDATEs with errors were told of last, and how many came since.
    update_errors: Option<(Instant, u64)>,
    sent: Option<(NotificationSummary, Instant)>,
    received: Option<(NotificationSummary, Instant)>,
}

impl Record {
    /// Nothing happened yet; the journal's numbers go on after this one.
    pub(in crate::fsm) fn after(number: u64) -> Self {
        Self {
            journal: Journal::after(number),
            tally: Tally::default(),
            open_sent: None,
            open_received: None,
            last_error: None,
            update_errors: None,
            sent: None,
            received: None,
        }
    }

    pub(in crate::fsm) fn open_sent(&mut self, now: Instant, open: &Open) {
        let open = OpenSummary::from(open);
        self.open_sent = Some(open.clone());
        self.journal.note(now, JournalEvent::OpenSent { open });
    }

    pub(in crate::fsm) fn open_received(&mut self, now: Instant, open: &Open) {
        let open = OpenSummary::from(open);
        self.open_received = Some(open.clone());
        self.journal.note(now, JournalEvent::OpenReceived { open });
    }

    pub(in crate::fsm) fn route_too_long(
        &mut self,
        now: Instant,
        prefix: IpNet,
        max_length: usize,
    ) {
        let event = JournalEvent::RouteTooLong { prefix, max_length };
        self.journal.note(now, event);
    }

    /// A connection is gone; nothing of it went wrong as long as another lives on.
    pub(in crate::fsm) fn connection_closed(&mut self, now: Instant, cause: &Cause) {
        let cause = self.ending(now, cause);
        let event = JournalEvent::ConnectionClosed { cause };
        self.journal.note(now, event);
    }

    pub(in crate::fsm) fn ended(
        &mut self,
        now: Instant,
        cause: &Cause,
        was_established: bool,
        retry: Option<Duration>,
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

    /// Counts an UPDATE. If it had errors and it is time to tell of them: how many others had some
    /// since the last that was told.
    pub(in crate::fsm) fn update(&mut self, now: Instant, update: &Update) -> Option<u64> {
        self.tally.update(update);
        let octets = update.malformed.as_ref()?;
        if let Some((told, since)) = &mut self.update_errors
            && now.saturating_duration_since(*told) < UPDATE_ERRORS_REST
        {
            *since += 1;
            return None;
        }
        let told = self.update_errors.replace((now, 0));
        let suppressed = told.map_or(0, |(_, since)| since);
        let event = JournalEvent::UpdateErrors {
            errors: update.errors_in_words(),
            octets: hexadecimal(octets),
            suppressed,
        };
        self.journal.note(now, event);
        Some(suppressed)
    }

    pub(in crate::fsm) fn last_error(&self, now: Instant) -> Option<LastError> {
        let (cause, at) = self.last_error.as_ref()?;
        Some(LastError {
            cause: cause.clone(),
            ago: now.saturating_duration_since(*at),
        })
    }

    pub(in crate::fsm) fn last_sent(&self, now: Instant) -> Option<PastNotification> {
        past(now, self.sent.as_ref())
    }

    pub(in crate::fsm) fn last_received(&self, now: Instant) -> Option<PastNotification> {
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
