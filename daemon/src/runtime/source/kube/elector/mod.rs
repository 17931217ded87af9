//! Decides who leads, based on one Lease object. Pure: no clock and no network.
//!
//! As in client-go, clocks of different machines are never compared. A candidate treats the Lease
//! as live for its duration since the candidate last saw it change. The leader counts from the
//! moment it *sent* its last successful renewal, and stops at the renew deadline, which is shorter.
//! Every write names the version it replaces, so one of two concurrent candidates fails.

use std::time::{Duration, Instant};

/// Durations of the election. `renew_deadline` < `duration`: the difference bounds the drift of two
/// clocks over one duration, and how late a leader may notice its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// How long others wait after the last change of the Lease that they saw.
    pub(super) duration: Duration,
    /// How long a leader leads after it sent its last successful renewal.
    pub(super) renew_deadline: Duration,
    /// Interval of renewals, and delay after failures.
    pub(super) retry: Duration,
    /// Timeout of a request.
    pub(super) request: Duration,
}

impl Timing {
    /// A killed leader is replaced after 12 to 14 s.
    pub(super) const DEFAULT: Self = Self {
        duration: Duration::from_secs(12),
        renew_deadline: Duration::from_secs(8),
        retry: Duration::from_secs(2),
        request: Duration::from_secs(3),
    };

    /// Upper limit for the duration stated in a Lease; a longer one could block the election.
    const MAX_DURATION: Duration = Duration::from_secs(60);
}

/// The relevant fields of a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// `metadata.resourceVersion`.
    pub(super) version: String,
    /// Identity of the holder; empty if released.
    pub(super) holder: String,
    /// `leaseDurationSeconds`.
    pub(super) duration: Duration,
    /// `leaseTransitions`.
    pub(super) transitions: i32,
}

/// A write that the elector requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// The version to replace; `None` creates the Lease.
    pub(super) replaces: Option<String>,
    /// The new holder; empty releases the Lease.
    pub(super) holder: String,
    /// The new `leaseTransitions`.
    pub(super) transitions: i32,
    /// Whether the write acquires the Lease instead of renewing it.
    pub(super) acquires: bool,
    /// The write fails after this time.
    pub(super) deadline: Instant,
}

/// A request to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Write the Lease, then call [`Elector::written`].
    Write(Write),
    /// Read the Lease, then call [`Elector::read`].
    Read {
        /// The read fails after this time.
        deadline: Instant,
    },
}

/// Result of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteResult {
    /// It succeeded.
    Done(Record),
    /// Another process wrote first.
    Conflict,
    /// Rejected or without an answer, so it may have succeeded.
    Failed,
}

#[derive(Debug)]
enum Known {
    Unknown,
    /// There is no Lease; it may be created from this time on.
    Absent(Instant),
    Present {
        record: Record,
        since: Instant,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum PendingRequest {
    None,
    Write { sent: Instant, holder: String },
    Read,
}

/// State of one candidate.
#[derive(Debug)]
pub(super) struct Elector {
    identity: String,
    timing: Timing,
    known: Known,
    request: PendingRequest,
    /// A conflict showed that the known version is old.
    outdated: bool,
    /// No request before this time, after a failure.
    pause_until: Option<Instant>,
    /// When the last successful renewal was sent, while leading.
    renewed: Option<Instant>,
    term: u64,
}

impl Elector {
    /// A candidate without any knowledge. `identity` must be unique to this process. `term` is the
    /// number of its earlier terms.
    pub(super) fn new(identity: String, timing: Timing, term: u64) -> Self {
        Self {
            identity,
            timing,
            known: Known::Unknown,
            request: PendingRequest::None,
            outdated: false,
            pause_until: None,
            renewed: None,
            term,
        }
    }

    /// The end of the lead, if this candidate leads. Call it again after every input.
    pub(super) fn leads_until(&self, now: Instant) -> Option<Instant> {
        let until = self.renewed? + self.timing.renew_deadline;
        (now < until).then_some(until)
    }

    /// Number of terms so far. A new leader lists everything again.
    pub(super) fn term(&self) -> u64 {
        self.term
    }

    /// The holder of the Lease, if known.
    pub(super) fn holder(&self) -> Option<&str> {
        match &self.known {
            Known::Present { record, .. } => Some(&record.holder),
            Known::Unknown | Known::Absent(_) => None,
        }
    }

    /// The watch shows this Lease, or that there is none.
    pub(super) fn observe(&mut self, now: Instant, lease: Option<Record>) {
        match lease {
            Some(record) => self.observe_record(now, record),
            // The list of a watch may be older than the known version: read the Lease.
            None if matches!(self.known, Known::Present { .. }) => self.outdated = true,
            None => self.observe_absence(now),
        }
        self.tick(now);
    }

    fn observe_record(&mut self, now: Instant, record: Record) {
        if let Known::Present { record: old, .. } = &self.known
            && !is_newer(&record.version, &old.version)
        {
            return;
        }
        if record.holder != self.identity {
            self.renewed = None;
        }
        self.known = Known::Present { record, since: now };
    }

    /// A deleted Lease ends the lead of its holder, but the holder may notice it later than others,
    /// so wait until it would have expired.
    fn observe_absence(&mut self, now: Instant) {
        self.renewed = None;
        let free_at = match &self.known {
            Known::Unknown => now,
            Known::Absent(free_at) => *free_at,
            Known::Present { record, since } => self.expiry(record, *since),
        };
        self.known = Known::Absent(free_at);
    }

    /// An [`Action::Write`] has ended.
    pub(super) fn written(&mut self, now: Instant, result: WriteResult) {
        let PendingRequest::Write { sent, holder } =
            std::mem::replace(&mut self.request, PendingRequest::None)
        else {
            return;
        };
        match result {
            WriteResult::Done(record) => {
                let superseded = matches!(&self.known, Known::Present { record: known, .. }
                    if known.holder != holder && is_newer(&known.version, &record.version));
                self.observe_record(now, record);
                if holder == self.identity && !superseded {
                    self.renew(now, sent);
                }
            }
            WriteResult::Conflict => self.outdated = true,
            WriteResult::Failed => self.pause_until = Some(now + self.timing.retry),
        }
        self.tick(now);
    }

    fn renew(&mut self, now: Instant, sent: Instant) {
        if self.leads_until(now).is_none() {
            self.term += 1;
        }
        // If the answer took too long, this has already expired.
        self.renewed = Some(sent);
    }

    /// An [`Action::Read`] has ended; an error if there was no answer.
    pub(super) fn read(&mut self, now: Instant, result: Result<Option<Record>, ()>) {
        self.request = PendingRequest::None;
        match result {
            Ok(lease) => {
                self.outdated = false;
                // A conflict although the version is the same: the read was stale.
                let known = match (&self.known, &lease) {
                    (Known::Present { record: old, .. }, Some(new)) => old.version == new.version,
                    _ => false,
                };
                self.pause_until = known.then(|| now + self.timing.retry);
                match lease {
                    Some(record) => self.observe_record(now, record),
                    None => self.observe_absence(now),
                }
            }
            Err(()) => self.pause_until = Some(now + self.timing.retry),
        }
        self.tick(now);
    }

    /// Ends an expired lead. Can be called at any time.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.leads_until(now).is_none() {
            self.renewed = None;
        }
    }

    /// The request to send now. There is at most one at a time.
    pub(super) fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.tick(now);
        if self.request != PendingRequest::None || self.next_action_at(now)? > now {
            return None;
        }
        self.pause_until = None;
        let request_ends = now + self.timing.request;
        if self.outdated {
            self.request = PendingRequest::Read;
            return Some(Action::Read {
                deadline: request_ends,
            });
        }
        let (replaces, transitions, acquires) = match &self.known {
            Known::Unknown => return None,
            Known::Absent(_) => (None, 0, true),
            Known::Present { record, .. } => {
                let acquires = record.holder != self.identity;
                let transitions = record.transitions.saturating_add(i32::from(acquires));
                (Some(record.version.clone()), transitions, acquires)
            }
        };
        self.request = PendingRequest::Write {
            sent: now,
            holder: self.identity.clone(),
        };
        let deadline = self
            .leads_until(now)
            .unwrap_or(request_ends)
            .min(request_ends);
        let holder = self.identity.clone();
        Some(Action::Write(Write {
            replaces,
            holder,
            transitions,
            acquires,
            deadline,
        }))
    }

    /// When the next action is due or the lead ends.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let action = (self.request == PendingRequest::None)
            .then(|| self.next_action_at(now))
            .flatten();
        [action, self.leads_until(now)].into_iter().flatten().min()
    }

    /// Stops leading at once and returns the write that releases the Lease, if this process is the
    /// holder.
    pub(super) fn release(&mut self, now: Instant) -> Option<Write> {
        self.renewed = None;
        match &self.known {
            Known::Present { record, .. } if record.holder == self.identity => Some(Write {
                replaces: Some(record.version.clone()),
                holder: String::new(),
                transitions: record.transitions,
                acquires: false,
                deadline: now + self.timing.request,
            }),
            _ => None,
        }
    }

    fn next_action_at(&self, now: Instant) -> Option<Instant> {
        let due = if self.outdated {
            now
        } else {
            match (&self.known, self.renewed) {
                (Known::Unknown, _) => return None,
                (_, Some(renewed)) => renewed + self.timing.retry,
                (Known::Absent(free_at), None) => *free_at,
                (Known::Present { record, .. }, None)
                    if record.holder.is_empty() || record.holder == self.identity =>
                {
                    now
                }
                (Known::Present { record, since }, None) => self.expiry(record, *since),
            }
        };
        Some(due.max(self.pause_until.unwrap_or(due)))
    }

    fn expiry(&self, record: &Record, since: Instant) -> Instant {
        if record.holder.is_empty() {
            return since;
        }
        since
            + record
                .duration
                .min(Timing::MAX_DURATION)
                .max(self.timing.duration)
    }
}

/// Versions of an object are growing numbers; versions in another format are newer if they differ.
fn is_newer(version: &str, than: &str) -> bool {
    match (version.parse::<u128>(), than.parse::<u128>()) {
        (Ok(version), Ok(than)) => version > than,
        _ => version != than,
    }
}

#[cfg(test)]
mod tests;
