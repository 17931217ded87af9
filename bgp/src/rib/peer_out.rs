//! How far a session has come, and what it is to be told next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::batch::Batch;
use super::chunk::Chunk;
use super::table::{Table, Tick};
use super::{PeerIndex, SessionCounters, SessionEncoding};
use crate::wire::{Family, RouteRefresh, end_of_rib};

/// How long a family rests after a refresh before it is told again: a refresh is a whole table, and
/// asking for one costs the peer nothing.
const REFRESH_REST: Duration = Duration::from_secs(1);

/// A batch under way.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) batch: Arc<Batch>,
    pub(super) position: usize,
}

impl Cursor {
    /// An empty batch is over before it begins.
    pub(super) fn at_the_beginning(batch: Arc<Batch>) -> Option<Self> {
        (!batch.slots.is_empty()).then_some(Self { batch, position: 0 })
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) encoding: Arc<SessionEncoding>,
    /// Changes up to this version were told, or are in the cursor's batch.
    pub(super) seen: u64,
    /// `None` between two batches.
    pub(super) cursor: Option<Cursor>,
    /// Families whose End-of-RIB is still to come.
    pub(super) end_of_rib: Vec<Family>,
    /// When the first table was told.
    pub(super) first_table: Option<Instant>,
    /// Families to be told again, each once however often it was asked for.
    asked: Vec<Family>,
    /// Families that were told again just now, and until when they rest.
    resting: Vec<(Family, Instant)>,
    /// The refresh under way, and up to which version it repeats.
    refreshing: Option<(Family, u64)>,
    pub(super) counters: SessionCounters,
}

/// What comes between two batches.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, for now.
    Rest,
    /// What changed since.
    Changes,
    /// What changed in a family since a version, whether it was told or not.
    Again(Family, u64),
    /// A message.
    Octets(Bytes),
}

impl Session {
    /// The peer holds nothing and is to be told everything.
    pub(super) fn new(encoding: Arc<SessionEncoding>) -> Self {
        Self {
            seen: 0,
            cursor: None,
            end_of_rib: encoding.families.clone(),
            first_table: None,
            asked: Vec::new(),
            resting: Vec::new(),
            refreshing: None,
            counters: SessionCounters::default(),
            encoding,
        }
    }

    /// The peer wants a family again. A second wish before the first is under way is the same one.
    pub(super) fn ask(&mut self, family: Family) {
        if self.encoding.families.contains(&family) && !self.asked.contains(&family) {
            self.asked.push(family);
        }
    }

    /// When a family that is asked for has rested.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let resting = self.resting.iter();
        let asked = resting.filter(|(family, _)| self.asked.contains(family));
        asked.map(|(_, until)| *until).min()
    }

    /// Families that have rested may be told again.
    pub(super) fn timeout(&mut self, now: Instant) {
        self.resting.retain(|(_, until)| *until > now);
    }

    /// Where the next family to be told again is in `asked`.
    fn due(&self) -> Option<usize> {
        let rests = |family: &Family| self.resting.iter().any(|(resting, _)| resting == family);
        self.asked.iter().position(|family| !rests(family))
    }

    /// Whether [`next`](Self::next) would say anything but to rest, or a batch is under way.
    pub(super) fn pending(&self, table: &Table) -> bool {
        if self.cursor.is_some() || self.seen < table.version() {
            true
        } else if let Some((_, to)) = self.refreshing {
            to < table.version() || table.is_committed()
        } else if !self.end_of_rib.is_empty() {
            table.is_committed()
        } else {
            self.due().is_some()
        }
    }

    /// What to do when no batch is under way.
    ///
    /// After End-of-RIB, and after the end of a refresh, the peer drops what it wasn't told. What
    /// changed meanwhile was passed over, so nothing may be left when they are said.
    pub(super) fn next(&mut self, now: Instant, table: &Table) -> Next {
        if let Some((family, to)) = self.refreshing
            && to < table.version()
        {
            return Next::Again(family, to);
        }
        let due = self.due();
        if self.seen < table.version() && (due.is_none() || self.owes_an_end()) {
            return Next::Changes;
        }
        if self.owes_an_end() {
            if !table.is_committed() {
                return Next::Rest;
            }
            if let Some(octets) = self.take_end(now) {
                return Next::Octets(octets);
            }
        }
        // What has ended just now rests.
        self.due()
            .map_or(Next::Rest, |due| Next::Again(self.asked.remove(due), 0))
    }

    /// A refresh repeats what is in `batch`. At its beginning that is said, where the peer knows it.
    pub(super) fn repeats(&mut self, family: Family, batch: &Batch) -> Option<Bytes> {
        let begins = self.refreshing.is_none() && self.encoding.enhanced_route_refresh;
        self.refreshing = Some((family, batch.to));
        begins.then(|| self.mark(family, RouteRefresh::BEGIN))
    }

    /// Notes what the peer learns from `chunk`, and moves behind it.
    pub(super) fn advance(&mut self, peer: PeerIndex, table: &mut Table, chunk: &Chunk, at: Tick) {
        let Some(cursor) = &mut self.cursor else {
            return;
        };
        let batch = &cursor.batch;
        for (run, positions) in &chunk.messages {
            let change = &batch.runs[*run].change;
            let mut known = None;
            for slot in &batch.slots[positions.clone()] {
                let Some(state) = table.state_as_of(*slot, batch.to) else {
                    continue;
                };
                let needs = match known {
                    Some((known, needs)) if known == state => needs,
                    _ => table.needs(state, peer, change, batch.repeat),
                };
                known = Some((state, needs));
                if needs {
                    let delta = table.tell(*slot, peer, change, at);
                    self.counters.prefixes = self.counters.prefixes.saturating_add_signed(delta);
                }
            }
        }
        self.counters.updates += chunk.updates;
        self.counters.left_out += chunk.left_out;
        let first = self.counters.first_left_out.or(chunk.first_left_out);
        self.counters.first_left_out = first;
        cursor.position = chunk.next;
        if chunk.next == batch.slots.len() {
            self.cursor = None;
        }
    }

    fn owes_an_end(&self) -> bool {
        !self.end_of_rib.is_empty() || self.refreshing.is_some()
    }

    /// What ends here; `None` if the peer doesn't know the message.
    fn take_end(&mut self, now: Instant) -> Option<Bytes> {
        if let Some((family, _)) = self.refreshing.take() {
            self.resting.retain(|(resting, _)| *resting != family);
            self.resting.push((family, now + REFRESH_REST));
            let enhanced = self.encoding.enhanced_route_refresh;
            return enhanced.then(|| self.mark(family, RouteRefresh::END));
        }
        self.first_table = Some(now);
        let mut octets = BytesMut::new();
        for family in self.end_of_rib.drain(..) {
            octets.extend_from_slice(&end_of_rib(family));
            self.counters.updates += 1;
        }
        Some(octets.freeze())
    }

    fn mark(&mut self, family: Family, subtype: u8) -> Bytes {
        self.counters.refreshes += 1;
        RouteRefresh { family, subtype }.encode()
    }
}
