//! Who leads, decided over one Lease object. Pure: no clock, no network.
//!
//! As in client-go, nobody compares the clocks of two machines. A candidate counts the lease as live for its duration
//! since the candidate itself last saw it change; the leader counts from the moment it *sent* its last successful
//! renewal, and stops at the renew deadline, which is shorter. Every write names the version it replaces, so of two
//! candidates one fails.

use std::time::{Duration, Instant};

/// How long things take. `renew_deadline` < `duration`: the difference is how far two clocks may drift apart in one
/// duration, and how late a leader may notice the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// How long others wait after the last change they saw.
    pub(super) duration: Duration,
    /// How long a leader leads after it sent its last successful renewal.
    pub(super) renew_deadline: Duration,
    /// Between renewals, and after failures.
    pub(super) retry: Duration,
    /// No request takes longer.
    pub(super) request: Duration,
}

impl Timing {
    /// A leader that is killed is replaced after 12 to 14 s.
    pub(super) const DEFAULT: Self = Self {
        duration: Duration::from_secs(12),
        renew_deadline: Duration::from_secs(8),
        retry: Duration::from_secs(2),
        request: Duration::from_secs(3),
    };

    /// A lease that states a longer duration than this is not believed: nobody would ever lead.
    const LONGEST: Duration = Duration::from_secs(60);
}

/// What matters of a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// `metadata.resourceVersion`.
    pub(super) version: String,
    /// Empty: nobody.
    pub(super) holder: String,
    /// What the holder promises.
    pub(super) duration: Duration,
    /// How often it changed hands.
    pub(super) transitions: i32,
}

/// A write that the elector wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// The version that is replaced; absent: the Lease is created.
    pub(super) replaces: Option<String>,
    /// Who holds it then; empty: nobody.
    pub(super) holder: String,
    /// How often it changed hands then.
    pub(super) transitions: i32,
    /// Whether this begins a holder's time rather than prolonging it.
    pub(super) acquires: bool,
    /// The answer is not waited for any longer.
    pub(super) deadline: Instant,
}

/// What the elector wants to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Write the Lease, then tell [`Elector::written`].
    Write(Write),
    /// Read the Lease, then tell [`Elector::read`].
    Read {
        /// The answer is not waited for any longer.
        deadline: Instant,
    },
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It stands.
    Done(Record),
    /// Somebody else wrote first.
    Conflict,
    /// Refused, or no answer: it may stand or not.
    Failed,
}

#[derive(Debug)]
enum Known {
    Nothing,
    /// Free to be created from this moment.
    Absent(Instant),
    Present {
        record: Record,
        since: Instant,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    None,
    Write { sent: Instant, holder: String },
    Read,
}

/// One candidate.
#[derive(Debug)]
pub(super) struct Elector {
    identity: String,
    timing: Timing,
    known: Known,
    request: Request,
    /// A conflict showed that we know an old version.
    outdated: bool,
    /// After a failure nothing is asked before this.
    pause_until: Option<Instant>,
    /// When the last successful renewal was sent, while leading.
    renewed: Option<Instant>,
    term: u64,
}

impl Elector {
    /// A candidate that knows nothing. `identity` must be unique to this process.
    pub(super) fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            known: Known::Nothing,
            request: Request::None,
            outdated: false,
            pause_until: None,
            renewed: None,
            term: 0,
        }
    }

    /// Until when this candidate leads, if it does. Ask again after everything it hears.
    pub(super) fn leads_until(&self, now: Instant) -> Option<Instant> {
        let until = self.renewed? + self.timing.renew_deadline;
        (now < until).then_some(until)
    }

    /// Counts the times it began to lead: a new term begins with a fresh look at everything.
    pub(super) fn term(&self) -> u64 {
        self.term
    }

    /// Who holds the lease, as far as is known.
    pub(super) fn holder(&self) -> Option<&str> {
        match &self.known {
            Known::Present { record, .. } => Some(&record.holder),
            Known::Nothing | Known::Absent(_) => None,
        }
    }

    /// The watch shows the Lease, or that there is none.
    pub(super) fn seen(&mut self, now: Instant, lease: Option<Record>) {
        match lease {
            Some(record) => self.see_record(now, record),
            // The list of a watch may be older than what we know: the API server itself is asked.
            None if matches!(self.known, Known::Present { .. }) => self.outdated = true,
            None => self.see_nothing(now),
        }
        self.tick(now);
    }

    fn see_record(&mut self, now: Instant, record: Record) {
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

    /// A deleted Lease ends the leadership of its holder, but the holder hears of it later than others may.
    fn see_nothing(&mut self, now: Instant) {
        self.renewed = None;
        let free_at = match &self.known {
            Known::Nothing => now,
            Known::Absent(free_at) => *free_at,
            Known::Present { record, since } => self.expiry(record, *since),
        };
        self.known = Known::Absent(free_at);
    }

    /// A [`Action::Write`] has ended.
    pub(super) fn written(&mut self, now: Instant, result: Written) {
        let Request::Write { sent, holder } = std::mem::replace(&mut self.request, Request::None)
        else {
            return;
        };
        match result {
            Written::Done(record) => {
                let superseded = matches!(&self.known, Known::Present { record: known, .. }
                    if known.holder != holder && is_newer(&known.version, &record.version));
                self.see_record(now, record);
                if holder == self.identity && !superseded {
                    self.renew(now, sent);
                }
            }
            Written::Conflict => self.outdated = true,
            Written::Failed => self.pause_until = Some(now + self.timing.retry),
        }
        self.tick(now);
    }

    fn renew(&mut self, now: Instant, sent: Instant) {
        if self.leads_until(now).is_none() {
            self.term += 1;
        }
        // If the answer took too long, this is over already.
        self.renewed = Some(sent);
    }

    /// A [`Action::Read`] has ended; an error if there was no answer.
    pub(super) fn read(&mut self, now: Instant, result: Result<Option<Record>, ()>) {
        self.request = Request::None;
        match result {
            Ok(lease) => {
                self.outdated = false;
                // Nothing newer, and yet a conflict: whoever answers lags behind.
                let known = match (&self.known, &lease) {
                    (Known::Present { record: old, .. }, Some(new)) => old.version == new.version,
                    _ => false,
                };
                self.pause_until = known.then(|| now + self.timing.retry);
                match lease {
                    Some(record) => self.see_record(now, record),
                    None => self.see_nothing(now),
                }
            }
            Err(()) => self.pause_until = Some(now + self.timing.retry),
        }
        self.tick(now);
    }

    /// Ends a leadership whose time is over. Harmless at any time.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.leads_until(now).is_none() {
            self.renewed = None;
        }
    }

    /// What is to be done now. One thing at a time: until its end is told, nothing more.
    pub(super) fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.tick(now);
        if self.request != Request::None || self.next_action_at(now)? > now {
            return None;
        }
        self.pause_until = None;
        let request_ends = now + self.timing.request;
        if self.outdated {
            self.request = Request::Read;
            return Some(Action::Read {
                deadline: request_ends,
            });
        }
        let (replaces, transitions, acquires) = match &self.known {
            Known::Nothing => return None,
            Known::Absent(_) => (None, 0, true),
            Known::Present { record, .. } => {
                let acquires = record.holder != self.identity;
                let transitions = record.transitions.saturating_add(i32::from(acquires));
                (Some(record.version.clone()), transitions, acquires)
            }
        };
        self.request = Request::Write {
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

    /// When something is to be done or ends, if nothing is heard before.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let action = (self.request == Request::None)
            .then(|| self.next_action_at(now))
            .flatten();
        [action, self.leads_until(now)].into_iter().flatten().min()
    }

    /// Stops leading at once, and gives the write that tells the others, if there is something to tell.
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
                (Known::Nothing, _) => return None,
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
                .min(Timing::LONGEST)
                .max(self.timing.duration)
    }
}

/// Versions of one object are numbers that grow; should they ever not be, whatever differs is newer.
fn is_newer(version: &str, than: &str) -> bool {
    match (version.parse::<u128>(), than.parse::<u128>()) {
        (Ok(version), Ok(than)) => version > than,
        _ => version != than,
    }
}

#[cfg(test)]
mod tests;
