//! Output side of one peer's session: its position in the changes, End-of-RIB and route refresh.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;

use super::batch::Batch;
use super::chunk::Chunk;
use super::table::{SentAt, Table};
use super::{PeerIndex, SessionEncoding};
use crate::wire::{Family, RouteRefresh, end_of_rib};

/// Minimum time between the end of a refresh and the next one of the same family. A refresh sends a
/// whole table, while a request costs the peer nothing.
const REFRESH_MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Counters of the current session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Prefixes that are currently announced to the peer.
    pub prefixes: u64,
    /// UPDATE messages, End-of-RIB included.
    pub updates: u64,
    /// ROUTE-REFRESH messages, BoRR and EoRR (RFC 7313).
    pub refreshes: u64,
    /// Announcements that were not sent because their attributes alone exceed the maximum message
    /// length of the peer. A route announced earlier for such a prefix stays in place.
    pub left_out: u64,
    /// Prefix of the first of them.
    pub first_left_out: Option<IpNet>,
}

/// Position in the batch that is being sent.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) batch: Arc<Batch>,
    pub(super) position: usize,
}

impl Cursor {
    /// `None` for an empty batch.
    pub(super) fn at_start_of(batch: Arc<Batch>) -> Option<Self> {
        (!batch.slots.is_empty()).then_some(Self { batch, position: 0 })
    }
}

/// Output state of an Established session.
#[derive(Debug)]
pub(super) struct PeerOut {
    pub(super) encoding: Arc<SessionEncoding>,
    /// Changes up to this version were sent or are in the cursor's batch.
    pub(super) seen: u64,
    /// `None` between two batches.
    pub(super) cursor: Option<Cursor>,
    /// Families whose End-of-RIB has not been sent.
    pub(super) end_of_rib: Vec<Family>,
    /// When the initial table was complete.
    pub(super) first_table: Option<Instant>,
    /// Families with a requested refresh; no duplicates.
    requested: Vec<Family>,
    /// Recently refreshed families and the earliest time of their next refresh.
    not_before: Vec<(Family, Instant)>,
    /// The current refresh and the version up to which its routes are sent or in the cursor's
    /// batch.
    refreshing: Option<(Family, u64)>,
    pub(super) counters: SessionCounters,
}

/// The next step of a session between two batches.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing to send.
    Idle,
    /// Send the changes since `seen`.
    Changes,
    /// Send the routes of a family that changed after a version, even those that were already sent.
    Repeat(Family, u64),
    /// Send a message.
    Octets(Bytes),
}

impl PeerOut {
    /// Starts a session to which nothing has been sent.
    pub(super) fn new(encoding: Arc<SessionEncoding>) -> Self {
        Self {
            seen: 0,
            cursor: None,
            end_of_rib: encoding.families.clone(),
            first_table: None,
            requested: Vec::new(),
            not_before: Vec::new(),
            refreshing: None,
            counters: SessionCounters::default(),
            encoding,
        }
    }

    /// Requests a refresh. Requests for a family are merged until its refresh starts.
    pub(super) fn request_refresh(&mut self, family: Family) {
        if self.encoding.families.contains(&family) && !self.requested.contains(&family) {
            self.requested.push(family);
        }
    }

    /// When the next delayed refresh may start.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let delayed = self.not_before.iter();
        let delayed = delayed.filter(|(family, _)| self.requested.contains(family));
        delayed.map(|(_, until)| *until).min()
    }

    /// Ends the delays that have expired.
    pub(super) fn timeout(&mut self, now: Instant) {
        self.not_before.retain(|(_, until)| *until > now);
    }

    /// Position in `requested` of the next family that may be refreshed.
    fn due(&self) -> Option<usize> {
        let delayed =
            |family: &Family| self.not_before.iter().any(|(delayed, _)| delayed == family);
        self.requested.iter().position(|family| !delayed(family))
    }

    /// Whether a batch is in progress or [`next`](Self::next) would not return [`Next::Idle`].
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

    /// The next step when no batch is in progress.
    ///
    /// On End-of-RIB and on the end of a refresh (EoRR) the peer deletes all routes that it has not
    /// received since. Entries that change during a batch move to a later batch, so both markers
    /// must wait until every change is committed and sent.
    pub(super) fn next(&mut self, now: Instant, table: &Table) -> Next {
        if let Some((family, to)) = self.refreshing
            && to < table.version()
        {
            return Next::Repeat(family, to);
        }
        let due = self.due();
        if self.seen < table.version() && (due.is_none() || self.owes_end_marker()) {
            return Next::Changes;
        }
        if self.owes_end_marker() {
            if !table.is_committed() {
                return Next::Idle;
            }
            if let Some(octets) = self.take_end_marker(now) {
                return Next::Octets(octets);
            }
        }
        // Recompute: a refresh that has just ended delays its family.
        self.due().map_or(Next::Idle, |due| {
            Next::Repeat(self.requested.remove(due), 0)
        })
    }

    /// Starts or continues a refresh with `batch`. Returns BoRR at the start if the peer supports
    /// it.
    pub(super) fn continue_refresh(&mut self, family: Family, batch: &Batch) -> Option<Bytes> {
        let begins = self.refreshing.is_none() && self.encoding.enhanced_route_refresh;
        self.refreshing = Some((family, batch.to));
        begins.then(|| self.refresh_marker(family, RouteRefresh::BEGIN))
    }

    /// Records the routes in `chunk` as sent and moves the cursor past it.
    pub(super) fn advance(
        &mut self,
        peer: PeerIndex,
        table: &mut Table,
        chunk: &Chunk,
        at: SentAt,
    ) {
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
                    let delta = table.mark_sent(*slot, peer, change, at);
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

    fn owes_end_marker(&self) -> bool {
        !self.end_of_rib.is_empty() || self.refreshing.is_some()
    }

    /// Ends the refresh or the initial table. Returns EoRR or End-of-RIB; `None` if the peer does
    /// not support EoRR.
    fn take_end_marker(&mut self, now: Instant) -> Option<Bytes> {
        if let Some((family, _)) = self.refreshing.take() {
            self.not_before.retain(|(delayed, _)| *delayed != family);
            self.not_before.push((family, now + REFRESH_MIN_INTERVAL));
            let enhanced = self.encoding.enhanced_route_refresh;
            return enhanced.then(|| self.refresh_marker(family, RouteRefresh::END));
        }
        self.first_table = Some(now);
        let mut octets = BytesMut::new();
        for family in self.end_of_rib.drain(..) {
            octets.extend_from_slice(&end_of_rib(family));
            self.counters.updates += 1;
        }
        Some(octets.freeze())
    }

    fn refresh_marker(&mut self, family: Family, subtype: u8) -> Bytes {
        self.counters.refreshes += 1;
        RouteRefresh { family, subtype }.encode()
    }
}
