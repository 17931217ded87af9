//! A peer as an operator wants to see it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::io::State;
use super::negotiate::Negotiated;
use crate::config::{Remote, RemoteAsn};
use crate::wire::Asn;

/// Messages by type, in one direction, since the peer was configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounters {
    /// OPEN.
    pub open: u64,
    /// UPDATE, End-of-RIB included.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

impl MessageCounters {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.open + self.update + self.notification + self.keepalive + self.route_refresh
    }
}

/// A snapshot of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The configured name.
    pub name: String,
    /// Who it is.
    pub remote: Remote,
    /// Our AS number towards it.
    pub local_asn: Asn,
    /// Which AS number it may have.
    pub remote_asn: RemoteAsn,
    /// The best state of its connections.
    pub state: State,
    /// How long it has been in that state.
    pub since: Duration,
    /// What the session, or the one being opened, runs with.
    pub negotiated: Option<Negotiated>,
    /// Our end of the session.
    pub local_address: Option<IpAddr>,
    /// Our BGP identifier on the session.
    pub local_router_id: Option<Ipv4Addr>,
    /// The peer's.
    pub remote_router_id: Option<Ipv4Addr>,
    /// Why the last session or attempt ended, with what to do about it; and how long ago.
    pub last_error: Option<(String, Duration)>,
    /// When we dial again, if we are waiting for that.
    pub retry_in: Option<Duration>,
    /// Messages sent.
    pub sent: MessageCounters,
    /// Messages received.
    pub received: MessageCounters,
    /// Prefixes the peer holds from us.
    pub prefixes_advertised: u64,
    /// Announcements of prefixes in this session, counted one by one: an announcement repeated
    /// counts again, since received routes are not kept.
    pub prefixes_received: u64,
    /// How many sessions came up since the peer was configured.
    pub established_count: u64,
}
