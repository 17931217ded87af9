//! The shared Adj-RIB-Out: sessions as cursors over the table of prefixes.

use bytes::Bytes;
use ipnet::IpNet;

use super::{PeerIndex, Route, SessionEncoding};
use crate::wire::Family;

/// What was sent in the present session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Prefixes the peer holds from us.
    pub prefixes: u64,
    /// UPDATE messages handed out, End-of-RIB included.
    pub updates: u64,
}

/// The Adj-RIB-Out of all peers of a speaker.
#[derive(Debug, Default)]
pub struct AdjRibOut {}

impl AdjRibOut {
    /// An empty table with its gate closed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Sets what `peer` is to be told about `prefix`; `None` means nothing.
    pub fn set(&mut self, _peer: PeerIndex, _prefix: IpNet, _route: Option<Route>) {}
    /// Ends a batch of [`set`](Self::set)s: from now on sessions are told.
    pub fn commit(&mut self) {}
    /// Forgets a peer: its session and what it was to be told.
    pub fn remove_peer(&mut self, _peer: PeerIndex) {}
    /// A session reached Established.
    pub fn session_up(&mut self, _peer: PeerIndex, _encoding: SessionEncoding) {}
    /// The session ended; what it is to be told stays.
    pub fn session_down(&mut self, _peer: PeerIndex) {}
    /// ROUTE-REFRESH (RFC 2918 §4): everything of `family` is to be told again.
    pub fn refresh(&mut self, _peer: PeerIndex, _family: Family) {}
    /// The first complete desired state is here.
    pub fn open_gate(&mut self) {}
    /// One or several whole messages for `peer`, at most `max` octets.
    pub fn poll_transmit(&mut self, _peer: PeerIndex, _max: usize) -> Option<Bytes> {
        None
    }
    /// Whether [`poll_transmit`](Self::poll_transmit) may have something for `peer`.
    #[must_use]
    pub fn pending(&self, _peer: PeerIndex) -> bool {
        false
    }
    /// What the peer holds from us, in no order.
    pub fn advertised(&self, _peer: PeerIndex) -> impl Iterator<Item = (IpNet, &Route)> + '_ {
        std::iter::empty()
    }
    /// Counters of the present session; zero without one.
    #[must_use]
    pub fn counters(&self, _peer: PeerIndex) -> SessionCounters {
        SessionCounters::default()
    }
}
