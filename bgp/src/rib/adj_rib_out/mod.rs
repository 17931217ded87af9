//! The shared Adj-RIB-Out: sessions as cursors over the table of prefixes.

use std::collections::HashMap;
use std::sync::Arc;

use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

use super::batch::Batch;
use super::chunk::{ChunkCache, Request};
use super::peer_out::{Cursor, Next, Session};
use super::table::{Table, Tick};
use super::{PeerIndex, Route, SessionEncoding};
use crate::wire::Family;

/// What was sent in the present session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Prefixes the peer holds from us.
    pub prefixes: u64,
    /// UPDATE messages handed out, End-of-RIB included.
    pub updates: u64,
    /// ROUTE-REFRESH messages handed out: the begin and the end of refreshes (RFC 7313).
    pub refreshes: u64,
    /// Announcements left out because their attributes alone fill the longest message the peer
    /// accepts. What the peer was told about these prefixes before stays as it was.
    pub left_out: u64,
    /// The prefix of the first of these.
    pub first_left_out: Option<IpNet>,
}

/// A route that a peer holds from us.
#[derive(Clone, Copy, Debug)]
pub struct Advertised<'a> {
    /// The prefix.
    pub prefix: IpNet,
    /// What was said of it, before the session turned it into octets.
    pub route: &'a Route,
    /// When it was last sent, to the second.
    pub sent: Instant,
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
///   Nothing that was desired all the time is missing then: a peer that kept routes over a restart
///   drops what it wasn't told.
/// * A family that the peer asks for again is told once more from the latest state, not more than
///   once at a time however often it is asked for, and then not for a second
///   ([`poll_timeout`](Self::poll_timeout)).
///
/// # What it costs
///
/// A prefix costs about 60 octets whatever the number of peers, as long as many of them are in the
/// same state: the same routes desired and told, for the same peers. A session costs its cursor
/// and, while it lags, four octets for each prefix of the batch it is working on; it never has a
/// second batch. The table is walked when a session ends, for a refresh and for
/// [`advertised`](Self::advertised), not otherwise.
#[derive(Debug, Default)]
pub struct AdjRibOut {
    table: Table,
    sessions: HashMap<PeerIndex, Session>,
    /// One more than the highest index seen.
    peers: u32,
    gate_open: bool,
    /// The batches that end at the table's version, by the version they begin after, or by the family
    /// they repeat.
    batches: HashMap<(u64, Option<Family>), Arc<Batch>>,
    last_batch: u64,
    chunks: ChunkCache,
    /// When something was sent for the first time.
    first_day: Option<Instant>,
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

    /// Whether `peer` is to have a route to `prefix`.
    #[must_use]
    pub fn is_desired(&self, peer: PeerIndex, prefix: &IpNet) -> bool {
        self.table.is_desired(peer, prefix)
    }

    /// Sets that `peer` is to be told of nothing: what it holds is withdrawn, what it was not told yet never will be.
    /// Waits for [`commit`](Self::commit) as [`set`](Self::set) does.
    pub fn withdraw_all(&mut self, peer: PeerIndex) {
        if self.table.desire_nothing(peer) {
            self.chunks.clear();
        }
    }

    /// `peer`, which is new and has no session, is to be told what `other` is to be told.
    pub fn copy_desired(&mut self, other: PeerIndex, peer: PeerIndex) {
        self.know(peer);
        self.table.copy_desired(other, peer);
        self.chunks.clear();
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
        // Even without a session it may be among those a chunk was found to be good for.
        self.chunks.forget(peer);
    }

    /// A session reached Established: the peer holds nothing and is to be told everything.
    pub fn session_up(&mut self, peer: PeerIndex, encoding: SessionEncoding) {
        self.session_down(peer);
        self.know(peer);
        self.sessions.insert(peer, Session::new(Arc::new(encoding)));
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
    /// That begins after what is under way, and costs nothing before. Without a session, or for a
    /// family that isn't negotiated, this does nothing.
    pub fn refresh(&mut self, peer: PeerIndex, family: Family) {
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.ask(family);
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
    pub fn poll_transmit(&mut self, now: Instant, peer: PeerIndex, max: usize) -> Option<Bytes> {
        if !self.gate_open {
            return None;
        }
        let today = self.tick(now);
        loop {
            let session = self.sessions.get_mut(&peer)?;
            let Some(cursor) = &session.cursor else {
                match session.next(now, &self.table) {
                    Next::Rest => {
                        self.tidy();
                        return None;
                    }
                    Next::Octets(octets) => return Some(octets),
                    Next::Changes => {
                        let batch = self.batch(self.sessions.get(&peer)?.seen, None);
                        let session = self.sessions.get_mut(&peer)?;
                        session.seen = batch.to;
                        session.cursor = Cursor::at_the_beginning(batch);
                    }
                    Next::Again(family, from) => {
                        // What others are told doesn't fit one who is told it twice.
                        self.chunks.forget(peer);
                        let batch = self.batch(from, Some(family));
                        let session = self.sessions.get_mut(&peer)?;
                        let begin = session.repeats(family, &batch);
                        session.cursor = Cursor::at_the_beginning(batch);
                        if begin.is_some() {
                            return begin;
                        }
                    }
                }
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
            let at = if session.end_of_rib.is_empty() {
                today
            } else {
                0
            };
            session.advance(peer, &mut self.table, chunk, at);
            let octets = chunk.octets.clone();
            if self.sessions.len() == 1 {
                self.chunks.clear();
            }
            if !octets.is_empty() {
                return Some(octets);
            }
        }
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something for `peer`.
    ///
    /// May: changes that concern only others are noticed by polling. After a poll that answered
    /// `None` this is false until something changes.
    #[must_use]
    pub fn pending(&self, peer: PeerIndex) -> bool {
        let session = self.sessions.get(&peer);
        self.gate_open && session.is_some_and(|session| session.pending(&self.table))
    }

    /// When [`timeout`](Self::timeout) is due, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.sessions.values();
        sessions.filter_map(Session::poll_timeout).min()
    }

    /// Lets refreshes begin that had to wait until now.
    pub fn timeout(&mut self, now: Instant) {
        for session in self.sessions.values_mut() {
            session.timeout(now);
        }
    }

    /// What the peer holds from us, in no order. `now` stands for what is being told right now.
    pub fn advertised(
        &self,
        now: Instant,
        peer: PeerIndex,
    ) -> impl Iterator<Item = Advertised<'_>> + '_ {
        let session = self.sessions.get(&peer);
        let first = session.and_then(|session| session.first_table);
        let first_day = self.first_day.unwrap_or(now);
        self.table.entries().filter_map(move |entry| {
            let (route, at) = self.table.told(entry.state, peer)?;
            let sent = match at {
                0 => first.unwrap_or(now),
                at => first_day + Duration::from_secs(u64::from(at) - 1),
            };
            Some(Advertised {
                prefix: entry.prefix,
                route,
                sent,
            })
        })
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

    fn tick(&mut self, now: Instant) -> Tick {
        let first_day = *self.first_day.get_or_insert(now);
        let seconds = now.saturating_duration_since(first_day).as_secs();
        // After 136 years everything was sent just then.
        u32::try_from(seconds + 1).unwrap_or(u32::MAX)
    }

    /// The changes after version `from`, or what has changed in a family and is to be told again: the
    /// same batch for all who ask before the next commit.
    fn batch(&mut self, from: u64, again: Option<Family>) -> Arc<Batch> {
        let (table, last) = (&self.table, &mut self.last_batch);
        let batch = self.batches.entry((from, again)).or_insert_with(|| {
            *last += 1;
            Arc::new(Batch::new(*last, table, from, again))
        });
        Arc::clone(batch)
    }

    /// A session that is alone shares with nobody.
    fn tidy(&mut self) {
        if self.sessions.len() == 1 {
            self.batches.clear();
            self.chunks.clear();
        }
    }
}

#[cfg(test)]
mod tests;
