//! The state machine of the whole speaker, without I/O.
//!
//! [`Speaker`] holds the peers and the Adj-RIB-Out. The crate's front page says how it is driven.
//! Below it: `peer` (two connection slots, dialling, back-off), `peer/connection` (RFC 4271 §8 from
//! OpenSent on), `negotiate`, [`collision`], `timers`.

mod bfd_target;
pub mod collision;
mod events;
mod history;
mod loop_check;
mod negotiate;
mod neighbors;
mod other_paths;
mod peer;
mod shared;
mod shutdown;
mod stall;
mod timers;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::bfd_target::{BfdEvent, BfdStatus, BfdTarget};
pub use self::events::{
    ConnectionId, Event, Input, IoFailure, Md5Drops, Output, PeerRoutes, RejectReason, State,
    TcpOptions,
};
pub use self::history::cause::Cause;
pub use self::history::journal::{JournalEntry, JournalEvent};
pub use self::history::status::{
    LastError, MessageCounters, PastNotification, PeerDetail, PeerStatus, PrefixLimit,
    SessionTimers, UpdateErrors,
};
pub use self::history::summary::{
    CapabilitySummary, CauseSummary, NotificationSummary, OpenSummary,
};
#[cfg(feature = "speaker")]
pub(crate) use self::history::summary::{TEXT_MAX, shortened};
pub use self::history::update_stats::{AttributeErrorCount, PrefixCount};
pub use self::other_paths::OtherPaths;
pub use self::shutdown::ShutdownMode;

use self::peer::Peer;
use self::peer::connection::Ends;
use self::shared::Shared;
use self::timers::earlier;
use crate::rib::{Advertised, PeerIndex};

/// What concerns all peers.
#[derive(Clone, Copy, Debug)]
pub struct SpeakerConfig {
    /// BGP identifier where the peer's configuration gives none: one value for all sessions,
    /// whatever address each of them has (RFC 4271 §4.2).
    pub router_id_fallback: Ipv4Addr,
    /// Where jitter comes from. The same seed and inputs give the same outputs.
    pub seed: u64,
    /// How long the host has been up when the speaker begins. Whether peers may go on forwarding to
    /// us while we come back (RFC 4724 §3, the F bit) depends on it; not known: they may not.
    pub host_uptime: Option<Duration>,
}

/// All peers and what they are to be told.
#[derive(Debug)]
pub struct Speaker {
    peers: BTreeMap<PeerIndex, Peer>,
    names: BTreeMap<String, PeerIndex>,
    shared: Shared,
    /// When BFD will have said that we leave.
    hushed_until: Option<Instant>,
    stopped: bool,
}

impl Speaker {
    /// A speaker without peers.
    #[must_use]
    pub fn new(config: SpeakerConfig) -> Self {
        Self {
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            shared: Shared::new(config),
            hushed_until: None,
            stopped: false,
        }
    }

    /// Takes one thing that happened. Drain [`poll_output`](Self::poll_output) before the next.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let shared = &mut self.shared;
        shared.started.get_or_insert(now);
        match input {
            Input::SetPeer(config) => self.set_peer(now, config),
            Input::RemovePeer(name) => self.remove_peer(now, &name),
            Input::Routes(routes) => self.set_routes(routes),
            Input::OpenGate => shared.rib.open_gate(),
            Input::TrackOtherPaths(watched) => self.watch_paths(watched),
            Input::Connected {
                connection,
                local,
                remote,
            } => {
                self.connected(now, connection, Ends { local, remote });
            }
            Input::ConnectFailed { connection, error } => {
                self.with_owner(connection, |peer, shared| {
                    peer.connect_failed(now, connection, error, shared);
                });
            }
            Input::Md5Dropped { connection, drops } => {
                self.with_owner(connection, |peer, _| peer.md5_dropped(connection, drops));
            }
            Input::Accepted {
                connection,
                local,
                remote,
            } => {
                self.accept(now, connection, Ends { local, remote });
            }
            Input::Received { connection, octets } => {
                self.with_owner(connection, |peer, shared| {
                    peer.received(now, connection, &octets, shared);
                });
            }
            Input::Closed { connection, error } => {
                shared.closed(connection);
                self.with_owner(connection, |peer, shared| {
                    peer.closed(now, connection, error, shared);
                });
            }
            Input::PeerUnusable { peer, reason } => {
                self.unusable(now, &peer, reason);
            }
            Input::Bfd { peer, event } => {
                if let Some(peer) = self.names.get(&peer).and_then(|i| self.peers.get_mut(i)) {
                    peer.bfd(now, event, shared);
                }
            }
            Input::Timeout => self.timeout(now),
            Input::Shutdown { text, mode } => self.shutdown(now, text, mode),
        }
        self.tell_end(now);
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.peers
            .values()
            .map(Peer::deadline)
            .fold(earlier(self.shared.deadline(), self.hushed_until), earlier)
    }

    /// Octets for a connection whose socket can take some: one or several whole messages, at most
    /// `max` octets (at least 4096) unless a single message of another kind is due.
    ///
    /// Outputs may follow: drain them.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        max: usize,
    ) -> Option<Bytes> {
        let octets = self.shared.transmit_closing(connection).or_else(|| {
            let index = self.shared.owners.get(&connection)?;
            self.peers
                .get_mut(index)?
                .transmit(now, connection, max, &mut self.shared)
        });
        self.tell_end(now);
        octets
    }

    /// A snapshot of every peer, by name.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<PeerStatus> {
        self.names
            .values()
            .filter_map(|index| self.peers.get(index))
            .map(|peer| peer.status(now, &self.shared))
            .collect()
    }

    /// All there is to know about the peer of this name.
    #[must_use]
    pub fn peer(&self, now: Instant, name: &str) -> Option<PeerDetail> {
        let peer = self.peers.get(self.names.get(name)?)?;
        Some(peer.detail(now, &self.shared))
    }

    /// What the peer of this name holds from us.
    pub fn advertised(
        &self,
        now: Instant,
        name: &str,
    ) -> impl Iterator<Item = Advertised<'_>> + '_ {
        self.names
            .get(name)
            .into_iter()
            .flat_map(move |index| self.shared.rib.advertised(now, *index))
    }

    /// What routers with an Established session show of paths other than ours to prefixes of ours.
    /// Nothing is known of prefixes before [`Input::TrackOtherPaths`].
    #[must_use]
    pub fn other_paths(&self) -> Vec<OtherPaths> {
        let peers = self.names.values().filter_map(|name| self.peers.get(name));
        peers.filter_map(Peer::other_paths).collect()
    }

    fn watch_paths(&mut self, watched: bool) {
        self.shared.watches_paths = watched;
        for peer in self.peers.values_mut() {
            peer.watch_paths(watched);
        }
    }

    fn with_owner(&mut self, connection: ConnectionId, f: impl FnOnce(&mut Peer, &mut Shared)) {
        let owner = self.shared.owners.get(&connection);
        if let Some(peer) = owner.and_then(|index| self.peers.get_mut(index)) {
            f(peer, &mut self.shared);
        }
    }

    fn timeout(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.timeout(now, &mut self.shared);
        }
        self.forget_dynamic(now);
        self.shared.rib.timeout(now);
        self.shared.timeout(now);
        self.end_farewell(now);
    }
}

#[cfg(test)]
mod tests;
