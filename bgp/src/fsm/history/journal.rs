//! The journal of a peer: its latest events, for `ferrolb log`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::fsm::history::summary::{
    CapabilitySummary, CauseSummary, OpenSummary, capability_octets,
};
use crate::fsm::state::State;
use crate::fsm::tcp::RejectReason;
use crate::wire::{Agreement, Family};

/// Entries stored for each peer.
const ENTRIES_MAX: usize = 128;
/// Most octets of memory for these entries, text included. The latest entry is always stored: an
/// OPEN with 64 capabilities takes about half of this.
pub(in crate::fsm) const OCTETS_MAX: usize = 64 * 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum JournalEvent {
    /// The peer was configured, or its configuration changed.
    Configured {
        /// Whether an enabled peer started over: a session or an attempt ended, if it had one.
        reset: bool,
    },
    /// The state changed. Changes among Idle, Connect and Active are not stored: `Ended` reports
    /// attempts.
    State {
        /// The old state.
        from: State,
        /// The new state.
        to: State,
    },
    /// We sent an OPEN.
    OpenSent {
        /// The OPEN.
        open: OpenSummary,
    },
    /// We received an OPEN.
    OpenReceived {
        /// The OPEN.
        open: OpenSummary,
    },
    /// The session was established.
    Established {
        /// What both ends negotiated.
        negotiated: Agreement,
    },
    /// A session, or an attempt at one, ended.
    Ended {
        /// Why.
        cause: CauseSummary,
        /// Whether the session was established.
        was_established: bool,
        /// Seconds until the next attempt; `None` if we make none.
        #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
        retry: Option<Duration>,
    },
    /// One of two connections ended; the other goes on.
    ConnectionClosed {
        /// Why.
        cause: CauseSummary,
    },
    /// A connection of the peer was rejected.
    Rejected {
        /// Why.
        reason: RejectReason,
    },
    /// The peer rejected capabilities. Our OPENs leave them out until the configuration changes or
    /// a session was stable (RFC 5492 §3).
    #[cfg_attr(feature = "serde", serde(rename = "capabilities-left-out"))]
    CapabilitiesDropped {
        /// The rejected capabilities.
        capabilities: Vec<CapabilitySummary>,
    },
    /// A route is not announced: its attributes leave no room for a prefix in a message. Stored for
    /// the first of a session.
    RouteTooLong {
        /// The prefix of that route.
        prefix: IpNet,
        /// The longest message that the peer accepts, in octets.
        max_length: usize,
    },
    /// An UPDATE had errors that do not end the session (RFC 7606 §6). Stored once in ten seconds
    /// at most.
    UpdateErrors {
        /// The errors and their treatment as text.
        errors: Vec<String>,
        /// The first 1024 octets of the message after its header, in hexadecimal.
        octets: String,
        /// Number of erroneous UPDATEs suppressed since the last reported one.
        #[cfg_attr(feature = "serde", serde(rename = "untold"))]
        suppressed: u64,
    },
    /// BFD changed, or explains why it is not up (RFC 5882).
    Bfd {
        /// The old state.
        from: String,
        /// The new state.
        to: String,
        /// Why.
        reason: String,
    },
}

impl JournalEvent {
    /// Octets of heap memory.
    fn octets(&self) -> usize {
        match self {
            Self::Configured { .. }
            | Self::State { .. }
            | Self::Rejected { .. }
            | Self::RouteTooLong { .. } => 0,
            Self::OpenSent { open } | Self::OpenReceived { open } => open.octets(),
            Self::Established { negotiated } => {
                let families = negotiated.families.capacity();
                families * size_of::<Family>()
            }
            Self::Ended { cause, .. } | Self::ConnectionClosed { cause } => cause.octets(),
            Self::CapabilitiesDropped { capabilities } => capability_octets(capabilities),
            Self::UpdateErrors { errors, octets, .. } => {
                let texts = errors.iter().map(String::capacity);
                let list = errors.capacity() * size_of::<String>();
                list + texts.sum::<usize>() + octets.capacity()
            }
            Self::Bfd { from, to, reason } => from.capacity() + to.capacity() + reason.capacity(),
        }
    }

    /// Whether this event repeats `other`, so that it is only counted.
    fn repeats(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Ended {
                    cause,
                    was_established,
                    retry: _,
                },
                Self::Ended {
                    cause: old_cause,
                    was_established: old_established,
                    retry: _,
                },
            ) => cause == old_cause && was_established == old_established,
            _ => self == other,
        }
    }
}

/// An entry of a peer's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct JournalEntry {
    /// Grows with each entry of this peer, also if it is removed and configured again: by it
    /// a client finds new entries.
    pub number: u64,
    /// Seconds since the event, or since the last of several.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub age: Duration,
    /// Seconds since the first of them.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub first_age: Duration,
    /// Number of repetitions in a row.
    pub times: u64,
    /// The event.
    pub event: JournalEvent,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    first: Instant,
    at: Instant,
    times: u64,
    event: JournalEvent,
}

impl Entry {
    fn octets(&self) -> usize {
        size_of::<Self>() + self.event.octets()
    }
}

/// The journal of one peer: bounded, oldest first.
#[derive(Debug)]
pub(in crate::fsm) struct Journal {
    entries: VecDeque<Entry>,
    /// Of all entries.
    octets: usize,
    /// The number of the latest entry.
    latest: u64,
}

impl Journal {
    /// An empty journal, numbered from `number` + 1.
    pub(in crate::fsm) fn after(number: u64) -> Self {
        let entries = VecDeque::new();
        Self {
            entries,
            octets: 0,
            latest: number,
        }
    }

    /// The number of the latest entry.
    pub(in crate::fsm) fn latest(&self) -> u64 {
        self.latest
    }

    /// Adds an event. Repetitions are counted in one entry.
    pub(in crate::fsm) fn note(&mut self, at: Instant, event: JournalEvent) {
        if let Some(last) = self.entries.back_mut()
            && event.repeats(&last.event)
        {
            self.octets -= last.octets();
            last.at = at;
            last.times += 1;
            last.event = event;
            self.octets += last.octets();
            return;
        }
        self.latest += 1;
        let entry = Entry {
            number: self.latest,
            first: at,
            at,
            times: 1,
            event,
        };
        self.octets += entry.octets();
        while !self.entries.is_empty()
            && (self.entries.len() == ENTRIES_MAX || self.octets > OCTETS_MAX)
        {
            self.octets -= self.entries.pop_front().map_or(0, |entry| entry.octets());
        }
        self.entries.push_back(entry);
    }

    /// All entries, oldest first.
    pub(in crate::fsm) fn entries(&self, now: Instant) -> Vec<JournalEntry> {
        let entry = |entry: &Entry| JournalEntry {
            number: entry.number,
            age: now.saturating_duration_since(entry.at),
            first_age: now.saturating_duration_since(entry.first),
            times: entry.times,
            event: entry.event.clone(),
        };
        self.entries.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(from: State) -> JournalEvent {
        let to = State::Idle;
        JournalEvent::State { from, to }
    }

    #[test]
    fn only_the_latest_entries_are_stored_in_order() {
        let start = Instant::now();
        let mut journal = Journal::after(0);
        for second in 0..300 {
            let from = if second % 2 == 0 {
                State::Established
            } else {
                State::OpenSent
            };
            journal.note(start + Duration::from_secs(second), state(from));
        }
        let entries = journal.entries(start + Duration::from_secs(300));
        assert_eq!(entries.len(), ENTRIES_MAX);
        assert_eq!(entries[ENTRIES_MAX - 1].age, Duration::from_secs(1));
        assert_eq!(entries[ENTRIES_MAX - 1].event, state(State::OpenSent));
        assert_eq!(entries[ENTRIES_MAX - 1].number, 300);
        assert!(entries.is_sorted_by(|a, b| a.age > b.age));
    }

    #[test]
    fn large_entries_displace_older_ones() {
        let start = Instant::now();
        let mut journal = Journal::after(0);
        for number in 0..1000usize {
            let event = JournalEvent::UpdateErrors {
                errors: vec!["x".repeat(100); 16],
                octets: number.to_string().repeat(500),
                suppressed: 0,
            };
            journal.note(start, event);
            let octets: usize = journal.entries.iter().map(Entry::octets).sum();
            assert_eq!(octets, journal.octets);
            assert!(octets <= OCTETS_MAX);
        }
        let entries = journal.entries(start);
        assert!((10..ENTRIES_MAX).contains(&entries.len()));
        assert_eq!(entries.last().unwrap().number, 1000);
    }

    #[test]
    fn a_repeated_failure_is_one_entry_with_the_latest_retry_time() {
        let start = Instant::now();
        let mut journal = Journal::after(0);
        let ended = |retry| JournalEvent::Ended {
            cause: CauseSummary {
                code: "connection-refused".into(),
                text: "can't connect".to_owned(),
                notification: None,
            },
            was_established: false,
            retry: Some(Duration::from_secs(retry)),
        };
        for second in 1..=60 {
            journal.note(start + Duration::from_secs(second), ended(second));
        }
        journal.note(
            start + Duration::from_secs(61),
            JournalEvent::Configured { reset: true },
        );
        let entries = journal.entries(start + Duration::from_secs(70));
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].times, entries[1].times), (60, 1));
        assert_eq!(entries[0].age, Duration::from_secs(10));
        assert_eq!(entries[0].first_age, Duration::from_secs(69));
        assert_eq!(entries[0].event, ended(60));
    }
}
