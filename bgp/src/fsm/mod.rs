//! The state machine of the whole speaker, without I/O.
//!
//! [`Speaker`] has all peers and the Adj-RIB-Out, and passes each input to the peer that it
//! concerns. The crate's documentation describes how to drive it.
//!
//! * `events`: inputs, outputs and events; `state`: the states with their transitions;
//! * `neighbors`: configured and dynamic peers, their conflicts, and the peer that an incoming
//!   connection belongs to;
//! * `link`: the interfaces of unnumbered peers;
//! * `peer`: one peer, with dialling, connections, collisions, BFD guarding and capability
//!   fallback;
//! * `negotiate`: our OPEN, and whether the peer's is acceptable;
//! * `timers`, `stall`, `shutdown`: timers of a peer, stalls and the end of the speaker;
//! * `loop_check`, `other_paths`: what received routes are used for;
//! * `session_up`: an established session, for monitoring;
//! * `history`: journal, counters, causes and status, for the CLI and metrics.

mod bfd_target;
mod events;
mod history;
mod link;
mod loop_check;
mod negotiate;
mod neighbors;
mod other_paths;
mod peer;
mod session_up;
mod shared;
mod shutdown;
mod stall;
mod state;
mod tcp;
mod timers;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::bfd_target::{BfdEvent, BfdStatus, BfdTarget};
pub use self::events::{Event, Input, Output, PeerRoutes, ShutdownMode};
pub use self::history::cause::Cause;
pub use self::history::journal::{JournalEntry, JournalEvent};
pub use self::history::status::{
    LastError, LinkStatus, MessageCounters, PastNotification, PeerDetail, PeerStatus, RunningTimers,
};
pub use self::history::summary::{
    CapabilitySummary, CauseSummary, NotificationSummary, OpenSummary,
};
#[cfg(feature = "speaker")]
pub(crate) use self::history::summary::{TEXT_MAX, shortened};
pub use self::history::update_stats::{
    AttributeErrorCount, PrefixCount, PrefixLimit, UpdateErrors,
};
pub use self::link::{LinkRouter, LinkState};
pub use self::neighbors::conflicts::{
    SharedOption, different_options, have_same_session, is_within,
};
pub use self::other_paths::OtherPaths;
pub use self::session_up::SessionUp;
pub use self::state::State;
pub use self::tcp::{ConnectionId, IoFailure, Md5Drops, RejectReason, TcpOptions};
pub use self::timers::Timer;

use self::peer::Peer;
use self::shared::Shared;
use self::tcp::SocketPair;
use self::timers::earlier;
use crate::capture::CapturedSession;
use crate::rib::{Advertised, PeerIndex};

/// The configuration of the speaker itself.
#[derive(Clone, Copy, Debug)]
pub struct SpeakerConfig {
    /// BGP identifier of peers whose configuration sets none: the same in all sessions
    /// (RFC 4271 §4.2).
    pub router_id_fallback: Ipv4Addr,
    /// Seed of all jitter. The same seed and inputs give the same outputs.
    pub seed: u64,
    /// How long the host was up when the speaker started. It decides whether peers may continue to
    /// forward to us while we restart (the F bit of RFC 4724 §3); if unknown, they may not.
    pub host_uptime: Option<Duration>,
}

/// All peers, and the routes to announce to them.
#[derive(Debug)]
pub struct Speaker {
    peers: BTreeMap<PeerIndex, Peer>,
    names: BTreeMap<String, PeerIndex>,
    shared: Shared,
}

impl Speaker {
    /// A speaker without peers.
    #[must_use]
    pub fn new(config: SpeakerConfig) -> Self {
        Self {
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            shared: Shared::new(config),
        }
    }

    /// Takes one input. Drain [`poll_output`](Self::poll_output) before the next.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let shared = &mut self.shared;
        shared.started.get_or_insert(now);
        match input {
            Input::SetPeer(config) => self.set_peer(now, config),
            Input::Link { interface, state } => self.set_link(now, interface, state),
            Input::RemovePeer(name) => self.remove_peer(now, &name),
            Input::Routes(routes) => self.set_routes(routes),
            Input::OpenGate => shared.rib.open_gate(),
            Input::TrackOtherPaths(tracked) => self.track_other_paths(tracked),
            Input::Connected {
                connection,
                local,
                remote,
            } => {
                self.connected(now, connection, SocketPair { local, remote });
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
                self.accept(now, connection, SocketPair { local, remote });
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
        self.finish_shutdown(now);
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.peers
            .values()
            .map(Peer::poll_timeout)
            .fold(self.shared.poll_timeout(), earlier)
    }

    /// Octets to send on a connection whose socket accepts some: one or several whole messages.
    /// UPDATEs have at most `max` octets, which must be at least 4096.
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
        self.finish_shutdown(now);
        octets
    }

    /// The status of every peer, sorted by name.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<PeerStatus> {
        self.names
            .values()
            .filter_map(|index| self.peers.get(index))
            .map(|peer| peer.status(now, &self.shared))
            .collect()
    }

    /// Everything about the peer of this name.
    #[must_use]
    pub fn peer(&self, now: Instant, name: &str) -> Option<PeerDetail> {
        let peer = self.peers.get(self.names.get(name)?)?;
        Some(peer.detail(now, &self.shared))
    }

    /// What a recording of a connection says about it, and the octets received that belong to no
    /// complete message yet. `None` if the connection belongs to no peer, or is not established.
    #[must_use]
    pub fn captured(&self, connection: ConnectionId) -> Option<(CapturedSession, &[u8])> {
        let peer = self.peers.get(self.shared.owners.get(&connection)?)?;
        peer.captured(connection)
    }

    /// The established sessions.
    #[must_use]
    pub fn sessions_up(&self) -> Vec<SessionUp> {
        self.peers.values().filter_map(Peer::session_up).collect()
    }

    /// The established session of the peer of this name.
    #[must_use]
    pub fn session_up(&self, name: &str) -> Option<SessionUp> {
        self.peers.get(self.names.get(name)?)?.session_up()
    }

    /// The routes announced to the peer of this name.
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

    /// What routers with an established session show of paths to our prefixes other than ours.
    /// Tracking begins with [`Input::TrackOtherPaths`].
    #[must_use]
    pub fn other_paths(&self) -> Vec<OtherPaths> {
        let peers = self.names.values().filter_map(|name| self.peers.get(name));
        peers.filter_map(Peer::other_paths).collect()
    }

    fn track_other_paths(&mut self, tracked: bool) {
        self.shared.tracks_other_paths = tracked;
        for peer in self.peers.values_mut() {
            peer.track_other_paths(tracked);
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
        self.remove_idle_dynamic(now);
        self.shared.rib.timeout(now);
        self.shared.timeout(now);
        self.end_unflushed(now);
    }
}

#[cfg(test)]
mod tests;
