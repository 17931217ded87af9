//! Per-peer history and status, for the CLI and metrics. They decide nothing, with one exception:
//! the prefix limit.

pub(super) mod cause;
pub(super) mod journal;
mod received_prefixes;
pub(super) mod status;
pub(super) mod summary;
pub(super) mod update_stats;

use std::time::{Duration, Instant};

use ipnet::IpNet;

use self::cause::Cause;
use self::journal::{Journal, JournalEntry, JournalEvent};
use self::status::{LastError, MessageCounters, PastNotification};
use self::summary::{CauseSummary, NotificationSummary, OpenSummary, hexadecimal};
use self::update_stats::UpdateStats;
use crate::rib::SessionCounters;
use crate::wire::{Asn, MessageType, Open, Update};

/// The least time between two reports of erroneous UPDATEs: a peer must fill neither journal nor
/// log.
const UPDATE_ERRORS_MIN_INTERVAL: Duration = Duration::from_secs(10);

/// What happened to one peer since it was configured.
#[derive(Debug)]
pub(super) struct History {
    journal: Journal,
    updates: UpdateStats,
    open_sent: Option<OpenSummary>,
    open_received: Option<OpenSummary>,
    last_error: Option<(CauseSummary, Instant)>,
    /// When erroneous UPDATEs were last reported, and how many followed.
    update_errors: Option<(Instant, u64)>,
    last_sent: Option<(NotificationSummary, Instant)>,
    last_received: Option<(NotificationSummary, Instant)>,
    /// Without the UPDATEs and ROUTE-REFRESHes of the present session, which the RIB counts.
    sent: MessageCounters,
    received: MessageCounters,
    /// Announcements of past sessions that did not fit into a message.
    left_out: u64,
    /// Whether the first such announcement of the present session was reported.
    left_out_reported: bool,
}

impl History {
    /// An empty history whose journal entries are numbered from `number` + 1.
    pub(super) fn after(number: u64) -> Self {
        Self {
            journal: Journal::after(number),
            updates: UpdateStats::default(),
            open_sent: None,
            open_received: None,
            last_error: None,
            update_errors: None,
            last_sent: None,
            last_received: None,
            sent: MessageCounters::default(),
            received: MessageCounters::default(),
            left_out: 0,
            left_out_reported: false,
        }
    }

    pub(super) fn note(&mut self, now: Instant, event: JournalEvent) {
        self.journal.note(now, event);
    }

    pub(super) fn open_sent(&mut self, now: Instant, open: &Open) {
        let open = OpenSummary::from(open);
        self.open_sent = Some(open.clone());
        self.note(now, JournalEvent::OpenSent { open });
    }

    pub(super) fn open_received(&mut self, now: Instant, open: &Open) {
        let open = OpenSummary::from(open);
        self.open_received = Some(open.clone());
        self.note(now, JournalEvent::OpenReceived { open });
    }

    pub(super) fn message_sent(&mut self, kind: MessageType) {
        self.sent.count(kind);
    }

    pub(super) fn message_received(&mut self, kind: MessageType) {
        self.received.count(kind);
    }

    pub(super) fn session_established(&mut self) {
        self.updates.session_established();
    }

    /// The session with these counters ended.
    pub(super) fn session_ended(&mut self, counters: &SessionCounters) {
        self.sent.update += counters.updates;
        self.sent.route_refresh += counters.refreshes;
        self.left_out += counters.left_out;
        self.left_out_reported = false;
        self.updates.session_ended();
    }

    /// The route to this prefix does not fit into a message. Returns whether that is to be
    /// reported: for the first such route of a session.
    pub(super) fn route_too_long(
        &mut self,
        now: Instant,
        prefix: IpNet,
        max_length: usize,
    ) -> bool {
        if self.left_out_reported {
            return false;
        }
        self.left_out_reported = true;
        self.note(now, JournalEvent::RouteTooLong { prefix, max_length });
        true
    }

    /// A connection ended while another goes on, which is no error of the peer.
    pub(super) fn connection_closed(&mut self, now: Instant, cause: &Cause) {
        let cause = self.summarize(now, cause);
        self.note(now, JournalEvent::ConnectionClosed { cause });
    }

    /// A session, or the last attempt at one, ended.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        cause: &Cause,
        was_established: bool,
        retry: Option<Duration>,
    ) {
        let cause = self.summarize(now, cause);
        self.last_error = Some((cause.clone(), now));
        let event = JournalEvent::Ended {
            cause,
            was_established,
            retry,
        };
        self.note(now, event);
    }

    fn summarize(&mut self, now: Instant, cause: &Cause) -> CauseSummary {
        let cause = CauseSummary::from(cause);
        if let Some(notification) = &cause.notification {
            let last = if notification.sent {
                &mut self.last_sent
            } else {
                &mut self.last_received
            };
            *last = Some((notification.clone(), now));
        }
        cause
    }

    /// Counts an UPDATE. If it has errors that are to be reported, returns the number of erroneous
    /// UPDATEs suppressed since the last report.
    pub(super) fn update(&mut self, now: Instant, update: &Update) -> Option<u64> {
        self.updates.update(update);
        let octets = update.malformed.as_ref()?;
        if let Some((reported, suppressed)) = &mut self.update_errors
            && now.saturating_duration_since(*reported) < UPDATE_ERRORS_MIN_INTERVAL
        {
            *suppressed += 1;
            return None;
        }
        let last = self.update_errors.replace((now, 0));
        let suppressed = last.map_or(0, |(_, suppressed)| suppressed);
        let event = JournalEvent::UpdateErrors {
            errors: update.error_texts(),
            octets: hexadecimal(octets),
            suppressed,
        };
        self.note(now, event);
        Some(suppressed)
    }

    pub(super) fn updates(&self) -> &UpdateStats {
        &self.updates
    }

    pub(super) fn updates_mut(&mut self) -> &mut UpdateStats {
        &mut self.updates
    }

    /// The AS number in the peer's latest OPEN.
    pub(super) fn remote_asn(&self) -> Option<Asn> {
        self.open_received.as_ref().map(|open| open.asn)
    }

    pub(super) fn last_open_sent(&self) -> Option<&OpenSummary> {
        self.open_sent.as_ref()
    }

    pub(super) fn last_open_received(&self) -> Option<&OpenSummary> {
        self.open_received.as_ref()
    }

    /// Messages sent, those of the present session included.
    pub(super) fn sent(&self, session: &SessionCounters) -> MessageCounters {
        MessageCounters {
            update: self.sent.update + session.updates,
            route_refresh: self.sent.route_refresh + session.refreshes,
            ..self.sent
        }
    }

    pub(super) fn received(&self) -> MessageCounters {
        self.received
    }

    /// Announcements that did not fit into a message, those of the present session included.
    pub(super) fn left_out(&self, session: &SessionCounters) -> u64 {
        self.left_out + session.left_out
    }

    pub(super) fn last_error(&self, now: Instant) -> Option<LastError> {
        let (cause, at) = self.last_error.as_ref()?;
        Some(LastError {
            cause: cause.clone(),
            ago: now.saturating_duration_since(*at),
        })
    }

    pub(super) fn last_notification_sent(&self, now: Instant) -> Option<PastNotification> {
        past(now, self.last_sent.as_ref())
    }

    pub(super) fn last_notification_received(&self, now: Instant) -> Option<PastNotification> {
        past(now, self.last_received.as_ref())
    }

    /// The journal, oldest entry first.
    pub(super) fn entries(&self, now: Instant) -> Vec<JournalEntry> {
        self.journal.entries(now)
    }

    /// The number of the latest journal entry.
    pub(super) fn latest_number(&self) -> u64 {
        self.journal.latest()
    }
}

fn past(now: Instant, past: Option<&(NotificationSummary, Instant)>) -> Option<PastNotification> {
    let (notification, at) = past?;
    Some(PastNotification {
        notification: notification.clone(),
        ago: now.saturating_duration_since(*at),
    })
}
