//! The shared Adj-RIB-Out: sessions as cursors over the table of prefixes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;

use super::batch::Batch;
use super::chunk::{Chunk, ChunkCache, Request};
use super::table::Table;
use super::{PeerIndex, Route, SessionEncoding};
use crate::wire::{Family, end_of_rib};

/// What was sent in the present session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Prefixes the peer holds from us.
    pub prefixes: u64,
    /// UPDATE messages handed out, End-of-RIB included.
    pub updates: u64,
    /// Announcements left out because their attributes alone fill the longest message the peer
    /// accepts. What the peer was told about these prefixes before stays as it was.
    pub left_out: u64,
}

/// How far a session has come.
#[derive(Debug)]
struct Cursor {
    batch: Arc<Batch>,
    position: usize,
}

#[derive(Debug)]
struct Session {
    encoding: Arc<SessionEncoding>,
    /// Changes up to this version were told, or are in the cursor's batch.
    seen: u64,
    /// `None` between two batches.
    cursor: Option<Cursor>,
    /// Families whose End-of-RIB is still to come.
    end_of_rib: Vec<Family>,
    counters: SessionCounters,
}

/// The Adj-RIB-Out of all peers of a speaker.
///
/// What is desired changes with [`set`](Self::set), in batches that [`commit`](Self::commit) ends.
/// What goes to a peer is asked for with [`poll_transmit`](Self::poll_transmit), and follows these
/// rules:
///
/// * Nothing, not even End-of-RIB, before [`open_gate`](Self::open_gate).
/// * Only differences to what the peer was told. A change that was taken back or overtaken before
///   it was sent is never sent, and replacing attributes is an announcement alone (RFC 4271 §3.1).
/// * What has gathered is told in one go, withdrawals first, then announcements; what changes in the
///   meantime comes after it.
/// * After the first complete table one End-of-RIB for each family, sendable or not (RFC 4724 §2).
///
/// # What it costs
///
/// A prefix costs about 250 octets, and two bits per peer beyond the 64th. A session costs its
/// cursor and, while it lags, four octets for each prefix of the batch it is working on; it never
/// has a second batch. The table is walked when a session ends, on ROUTE-REFRESH and for
/// [`advertised`](Self::advertised), not otherwise.
#[derive(Debug, Default)]
pub struct AdjRibOut {
    table: Table,
    sessions: HashMap<PeerIndex, Session>,
    /// One more than the highest index seen.
    peers: u32,
    gate_open: bool,
    /// The batches that end at the table's version, by the version they begin after.
    batches: HashMap<u64, Arc<Batch>>,
    last_batch: u64,
    chunks: ChunkCache,
}

impl AdjRibOut {
    /// An empty table with its gate closed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what `peer` is to be told about `prefix`; `None` means nothing.
    ///
    /// Whether it has a session doesn't matter. The change waits for [`commit`](Self::commit).
    /// Setting what is set already is not a change.
    pub fn set(&mut self, peer: PeerIndex, prefix: IpNet, route: Option<Route>) {
        self.know(peer);
        // Host bits can't be told on the wire.
        if self.table.set(peer, prefix.trunc(), route) {
            self.chunks.clear();
        }
    }

    /// Sets that `peer` is to be told of nothing: what it holds is withdrawn, what it was not told yet never will be.
    /// Waits for [`commit`](Self::commit) as [`set`](Self::set) does.
    pub fn withdraw_all(&mut self, peer: PeerIndex) {
        if self.table.desire_nothing(peer) {
            self.chunks.clear();
        }
    }

    /// Ends a batch of [`set`](Self::set)s: from now on sessions are told.
    pub fn commit(&mut self) {
        if self.table.commit() {
            self.batches.clear();
        }
    }

    /// Forgets a peer: its session and what it was to be told. Its index may be used again.
    pub fn remove_peer(&mut self, peer: PeerIndex) {
        self.session_down(peer);
        self.table.forget_desired(peer);
    }

    /// A session reached Established: the peer holds nothing and is to be told everything.
    pub fn session_up(&mut self, peer: PeerIndex, encoding: SessionEncoding) {
        self.session_down(peer);
        self.know(peer);
        let session = Session {
            seen: 0,
            cursor: None,
            end_of_rib: encoding.families.clone(),
            counters: SessionCounters::default(),
            encoding: Arc::new(encoding),
        };
        self.sessions.insert(peer, session);
    }

    /// The session ended and the peer holds nothing any more. What it is to be told stays.
    pub fn session_down(&mut self, peer: PeerIndex) {
        if self.sessions.remove(&peer).is_some() {
            self.table.forget_told(peer);
            self.chunks.forget(peer);
        }
    }

    /// ROUTE-REFRESH (RFC 2918 §4): everything of `family` is to be told again.
    ///
    /// What else the peer wasn't told yet comes along. Without a session this does nothing.
    pub fn refresh(&mut self, peer: PeerIndex, family: Family) {
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.seen = 0;
            session.cursor = None;
            self.table
                .tell_again(peer, |prefix| Family::of(prefix) == family);
            self.chunks.forget(peer);
        }
    }

    /// The first complete desired state is here (and is committed by this): let it out.
    pub fn open_gate(&mut self) {
        self.commit();
        self.gate_open = true;
    }

    /// One or several whole messages for `peer`, at most `max` octets, made from the latest state.
    ///
    /// `None`: there is nothing to send. `max` is at least 4096, and best the same for all peers,
    /// since only then they share what was encoded. Without a session there is never anything.
    pub fn poll_transmit(&mut self, peer: PeerIndex, max: usize) -> Option<Bytes> {
        if !self.gate_open {
            return None;
        }
        loop {
            let version = self.table.version();
            let session = self.sessions.get_mut(&peer)?;
            let Some(cursor) = &session.cursor else {
                let first_is_complete = session.seen > 0 || version == 0;
                if first_is_complete && !session.end_of_rib.is_empty() {
                    return Some(session.take_end_of_rib());
                }
                if session.seen == version {
                    return None;
                }
                let seen = session.seen;
                let batch = self.batch_after(seen);
                let session = self.sessions.get_mut(&peer)?;
                session.seen = batch.to;
                session.cursor = Some(Cursor { batch, position: 0 });
                continue;
            };
            let chunk = self.chunks.get(
                &self.table,
                &Request {
                    peer,
                    encoding: &session.encoding,
                    batch: &cursor.batch,
                    position: cursor.position,
                    max,
                    peers: self.peers,
                },
            );
            session.advance(peer, &mut self.table, chunk);
            if !chunk.octets.is_empty() {
                return Some(chunk.octets.clone());
            }
        }
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something for `peer`.
    ///
    /// May: changes that concern only others are noticed by polling. After a poll that answered
    /// `None` this is false until something changes.
    #[must_use]
    pub fn pending(&self, peer: PeerIndex) -> bool {
        self.gate_open
            && self.sessions.get(&peer).is_some_and(|session| {
                session.cursor.is_some()
                    || !session.end_of_rib.is_empty()
                    || session.seen < self.table.version()
            })
    }

    /// What the peer holds from us, in no order.
    pub fn advertised(&self, peer: PeerIndex) -> impl Iterator<Item = (IpNet, &Route)> + '_ {
        self.table
            .entries()
            .filter_map(move |entry| entry.told.get(peer).map(|told| (entry.prefix, &told.route)))
    }

    /// Counters of the present session; zero without one.
    #[must_use]
    pub fn counters(&self, peer: PeerIndex) -> SessionCounters {
        self.sessions
            .get(&peer)
            .map(|session| session.counters)
            .unwrap_or_default()
    }

    /// How many UPDATEs were encoded, for whatever number of peers. End-of-RIB isn't counted.
    #[must_use]
    pub fn encoded_updates(&self) -> u64 {
        self.chunks.encoded()
    }

    fn know(&mut self, peer: PeerIndex) {
        self.peers = self.peers.max(peer.0.saturating_add(1));
    }

    /// The changes after version `from`, the same batch for all who ask before the next commit.
    fn batch_after(&mut self, from: u64) -> Arc<Batch> {
        let (table, last) = (&self.table, &mut self.last_batch);
        let batch = self.batches.entry(from).or_insert_with(|| {
            *last += 1;
            Arc::new(Batch::new(*last, table, from))
        });
        Arc::clone(batch)
    }
}

impl Session {
    /// Notes what the peer learns from `chunk`, and moves behind it.
    fn advance(&mut self, peer: PeerIndex, table: &mut Table, chunk: &Chunk) {
        let Some(cursor) = &mut self.cursor else {
            return;
        };
        let batch = &cursor.batch;
        for (run, positions) in &chunk.messages {
            let change = &batch.runs[*run].change;
            for slot in &batch.slots[positions.clone()] {
                let entry = table.entry_as_of(*slot, batch.to);
                if entry.is_some_and(|entry| entry.needs(peer, change)) {
                    let delta = table.tell(*slot, peer, change);
                    self.counters.prefixes = self.counters.prefixes.saturating_add_signed(delta);
                }
            }
        }
        self.counters.updates += chunk.updates;
        self.counters.left_out += chunk.left_out;
        cursor.position = chunk.next;
        if chunk.next == batch.slots.len() {
            self.cursor = None;
        }
    }

    fn take_end_of_rib(&mut self) -> Bytes {
        let mut octets = BytesMut::new();
        for family in self.end_of_rib.drain(..) {
            octets.extend_from_slice(&end_of_rib(family));
            self.counters.updates += 1;
        }
        octets.freeze()
    }
}

#[cfg(test)]
mod tests;
