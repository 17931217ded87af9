//! The Adj-RIB-Out shared by all peers: combines the table, the sessions and the message cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

use super::batch::Batch;
use super::chunk::{ChunkCache, ChunkRequest};
use super::peer_out::{Cursor, Next, PeerOut, SessionCounters};
use super::table::{INITIAL_TABLE, SentAt, Table};
use super::{PeerIndex, Route, SessionEncoding};
use crate::wire::Family;

/// A route announced to a peer.
#[derive(Clone, Copy, Debug)]
pub struct Advertised<'a> {
    /// The prefix.
    pub prefix: IpNet,
    /// Attributes before the session's additions.
    pub route: &'a Route,
    /// Time of the last announcement, in whole seconds.
    pub sent: Instant,
}

/// The Adj-RIB-Out of all peers of a speaker.
///
/// [`set`](Self::set) changes desired routes; [`commit`](Self::commit) ends a batch of changes.
/// [`poll_transmit`](Self::poll_transmit) returns the messages for a peer, by these rules:
///
/// * Before [`open_gate`](Self::open_gate) it returns nothing, not even End-of-RIB.
/// * It sends only differences from the sent routes. A change that was reverted or superseded
///   before transmission is never sent. New attributes replace the old ones without a withdrawal
///   (RFC 4271 §3.1).
/// * It sends all committed changes as one batch, withdrawals first, then announcements. Later
///   changes follow in the next batch.
/// * After the initial table it sends one End-of-RIB for each negotiated family, even if that
///   family has no next hop (RFC 4724 §2). By then all desired routes are sent: a peer that
///   retained routes over a restart deletes those it has not received again.
/// * A refresh sends a family again from the latest state. Further requests for a family while its
///   refresh is pending change nothing, and the next refresh of that family starts one second after
///   the end of the last ([`poll_timeout`](Self::poll_timeout)).
///
/// # Cost
///
/// A prefix takes about 60 octets for any number of peers, provided that many prefixes have the
/// same desired and sent routes for the same peers. A session takes its cursor and, while it lags,
/// four octets for each prefix in its current batch; it never has a second batch. Only the end of a
/// session, a refresh, [`withdraw_all`](Self::withdraw_all) and [`advertised`](Self::advertised)
/// walk the whole table.
#[derive(Debug, Default)]
pub struct AdjRibOut {
    table: Table,
    sessions: HashMap<PeerIndex, PeerOut>,
    /// One more than the highest peer index so far.
    peers: u32,
    gate_open: bool,
    /// Batches up to the current version of the table, by start version and refreshed family.
    batches: HashMap<(u64, Option<Family>), Arc<Batch>>,
    last_batch: u64,
    chunks: ChunkCache,
    /// Time of the first poll; [`SentAt`] counts from here.
    epoch: Option<Instant>,
}

impl AdjRibOut {
    /// Creates an empty table with a closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the desired route of `peer` for `prefix`; `None` withdraws it.
    ///
    /// The peer need not have a session. The change takes effect with [`commit`](Self::commit).
    /// Setting an equal route is not a change. Host bits of `prefix` are cleared.
    pub fn set(&mut self, peer: PeerIndex, prefix: IpNet, route: Option<Route>) {
        self.track_index(peer);
        if self.table.set(peer, prefix.trunc(), route) {
            self.chunks.clear();
        }
    }

    /// Whether a route to `prefix` is desired for `peer`.
    #[must_use]
    pub fn is_desired(&self, peer: PeerIndex, prefix: &IpNet) -> bool {
        self.table.is_desired(peer, prefix)
    }

    /// Removes all desired routes of `peer`: announced routes are withdrawn, the others are never
    /// sent. Takes effect with [`commit`](Self::commit).
    pub fn withdraw_all(&mut self, peer: PeerIndex) {
        if self.table.clear_desired(peer) {
            self.chunks.clear();
        }
    }

    /// Copies the desired routes of `other` to `peer`, which is new and has no session.
    pub fn copy_desired(&mut self, other: PeerIndex, peer: PeerIndex) {
        self.track_index(peer);
        self.table.copy_desired(other, peer);
        self.chunks.clear();
    }

    /// Commits all changes since the last commit for transmission.
    pub fn commit(&mut self) {
        if self.table.commit() {
            self.batches.clear();
        }
    }

    /// Removes a peer with its session and desired routes. Its index may be reused.
    pub fn remove_peer(&mut self, peer: PeerIndex) {
        self.session_down(peer);
        self.table.forget_desired(peer);
        // A cached chunk may be valid for the peer even if it has no session.
        self.chunks.invalidate_for(peer);
    }

    /// Starts a session: nothing is announced to the peer yet.
    pub fn session_up(&mut self, peer: PeerIndex, encoding: SessionEncoding) {
        self.session_down(peer);
        self.track_index(peer);
        self.sessions.insert(peer, PeerOut::new(Arc::new(encoding)));
    }

    /// Ends a session: nothing is announced to the peer any more. Its desired routes stay.
    pub fn session_down(&mut self, peer: PeerIndex) {
        if self.sessions.remove(&peer).is_some() {
            self.table.forget_sent(peer);
            self.chunks.invalidate_for(peer);
        }
    }

    /// Processes a ROUTE-REFRESH (RFC 2918 §4): sends all routes of `family` again.
    ///
    /// The refresh starts after the current batch. Without a session, or for a family that is not
    /// negotiated, the request is ignored.
    pub fn refresh(&mut self, peer: PeerIndex, family: Family) {
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.request_refresh(family);
        }
    }

    /// Commits, and permits transmission from now on: the initial set of routes is complete.
    pub fn open_gate(&mut self) {
        self.commit();
        self.gate_open = true;
    }

    /// Returns one or more complete messages for `peer`, at most `max` octets together, encoded
    /// from the latest state. `None` if there is nothing to send or no session.
    ///
    /// `max` is at least 4096. Peers share encoded messages only if they use the same `max`.
    pub fn poll_transmit(&mut self, now: Instant, peer: PeerIndex, max: usize) -> Option<Bytes> {
        if !self.gate_open {
            return None;
        }
        let sent_at = self.sent_at(now);
        loop {
            let session = self.sessions.get_mut(&peer)?;
            let Some(cursor) = &session.cursor else {
                match session.next(now, &self.table) {
                    Next::Idle => {
                        self.drop_unshared();
                        return None;
                    }
                    Next::Octets(octets) => return Some(octets),
                    Next::Changes => {
                        let batch = self.batch(self.sessions.get(&peer)?.seen, None);
                        let session = self.sessions.get_mut(&peer)?;
                        session.seen = batch.to;
                        session.cursor = Cursor::at_start_of(batch);
                    }
                    Next::Repeat(family, from) => {
                        // A refresh changes the sent routes of this peer only: chunks of shared
                        // batches no longer apply to it.
                        self.chunks.invalidate_for(peer);
                        let batch = self.batch(from, Some(family));
                        let session = self.sessions.get_mut(&peer)?;
                        let begin = session.continue_refresh(family, &batch);
                        session.cursor = Cursor::at_start_of(batch);
                        if begin.is_some() {
                            return begin;
                        }
                    }
                }
                continue;
            };
            let chunk = self.chunks.get(
                &self.table,
                &ChunkRequest {
                    peer,
                    encoding: &session.encoding,
                    batch: &cursor.batch,
                    position: cursor.position,
                    max,
                    peers: self.peers,
                },
            );
            let at = if session.end_of_rib.is_empty() {
                sent_at
            } else {
                INITIAL_TABLE
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

    /// Whether [`poll_transmit`](Self::poll_transmit) may return messages for `peer`.
    ///
    /// True also after changes that concern other peers only. False after a poll that returned
    /// `None`, until something changes.
    #[must_use]
    pub fn pending(&self, peer: PeerIndex) -> bool {
        let session = self.sessions.get(&peer);
        self.gate_open && session.is_some_and(|session| session.pending(&self.table))
    }

    /// When [`timeout`](Self::timeout) is due, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.sessions.values();
        sessions.filter_map(PeerOut::poll_timeout).min()
    }

    /// Starts refreshes that were delayed until now.
    pub fn timeout(&mut self, now: Instant) {
        for session in self.sessions.values_mut() {
            session.timeout(now);
        }
    }

    /// Routes announced to the peer, in no particular order. Routes of an initial table that is
    /// still being sent count as sent at `now`.
    pub fn advertised(
        &self,
        now: Instant,
        peer: PeerIndex,
    ) -> impl Iterator<Item = Advertised<'_>> + '_ {
        let session = self.sessions.get(&peer);
        let first = session.and_then(|session| session.first_table);
        let epoch = self.epoch.unwrap_or(now);
        self.table.entries().filter_map(move |entry| {
            let (route, at) = self.table.sent_route(entry.state, peer)?;
            let sent = match at {
                INITIAL_TABLE => first.unwrap_or(now),
                at => epoch + Duration::from_secs(u64::from(at) - 1),
            };
            Some(Advertised {
                prefix: entry.prefix,
                route,
                sent,
            })
        })
    }

    /// Counters of the current session; zero without one.
    #[must_use]
    pub fn counters(&self, peer: PeerIndex) -> SessionCounters {
        self.sessions
            .get(&peer)
            .map(|session| session.counters)
            .unwrap_or_default()
    }

    /// Number of encoded UPDATEs. Messages that several peers share count once; End-of-RIB does not
    /// count.
    #[must_use]
    pub fn encoded_updates(&self) -> u64 {
        self.chunks.encoded()
    }

    fn track_index(&mut self, peer: PeerIndex) {
        self.peers = self.peers.max(peer.0.saturating_add(1));
    }

    fn sent_at(&mut self, now: Instant) -> SentAt {
        let epoch = *self.epoch.get_or_insert(now);
        let seconds = now.saturating_duration_since(epoch).as_secs();
        // Saturates after 136 years.
        u32::try_from(seconds + 1).unwrap_or(u32::MAX)
    }

    /// The changes after version `from`, or those of a family for its refresh. All sessions share
    /// the batch until the next commit.
    fn batch(&mut self, from: u64, refresh: Option<Family>) -> Arc<Batch> {
        let (table, last) = (&self.table, &mut self.last_batch);
        let batch = self.batches.entry((from, refresh)).or_insert_with(|| {
            *last += 1;
            Arc::new(Batch::new(*last, table, from, refresh))
        });
        Arc::clone(batch)
    }

    /// Drops cached batches and messages if there is only one session to use them.
    fn drop_unshared(&mut self) {
        if self.sessions.len() == 1 {
            self.batches.clear();
            self.chunks.clear();
        }
    }
}

#[cfg(test)]
mod tests;
