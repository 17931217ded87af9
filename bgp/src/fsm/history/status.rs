//! A peer as an operator wants to see it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::config::{PeerConfig, Remote, RemoteAsn};
use crate::fsm::bfd_target::BfdStatus;
use crate::fsm::events::State;
use crate::fsm::history::journal::JournalEntry;
use crate::fsm::history::summary::{CauseSummary, NotificationSummary, OpenSummary};
use crate::fsm::history::update_stats::{AttributeErrorCount, PrefixCount};
use crate::wire::{Agreement, Asn};

/// Messages by type, in one direction, since the peer was configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerStatus {
    /// The configured name; of a dynamic neighbour, its template's and its address:
    /// `rack@192.0.2.7`.
    pub name: String,
    /// The name of the template, if this is a dynamic neighbour. The template itself has a network
    /// as its [`remote`](Self::remote), and never a session.
    pub template: Option<String>,
    /// Who it is.
    pub remote: Remote,
    /// Our AS number towards it.
    pub local_asn: Asn,
    /// Which AS number it may have.
    pub remote_asn: RemoteAsn,
    /// The best state of its connections.
    pub state: State,
    /// How long it has been in that state, in seconds.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub since: Duration,
    /// What the session, or the one being opened, runs with.
    pub negotiated: Option<Agreement>,
    /// BFD, if it watches over the path.
    pub bfd: Option<BfdStatus>,
    /// Our end of the session.
    pub local_address: Option<IpAddr>,
    /// Our BGP identifier on the session.
    pub local_router_id: Option<Ipv4Addr>,
    /// The peer's.
    pub remote_router_id: Option<Ipv4Addr>,
    /// Why the last session or attempt ended.
    pub last_error: Option<LastError>,
    /// In how many seconds we dial again, or take the peer's connections again, if we are waiting
    /// for that.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub retry_in: Option<Duration>,
    /// Messages sent.
    pub sent: MessageCounters,
    /// Messages received.
    pub received: MessageCounters,
    /// Prefixes the peer holds from us.
    pub prefixes_advertised: u64,
    /// Announcements that were not sent, since the peer was configured: their attributes leave no
    /// room for a prefix in the longest message that the peer takes. What the peer has of these
    /// prefixes stays as it was.
    #[cfg_attr(feature = "serde", serde(default))]
    pub announcements_left_out: u64,
    /// Announcements of prefixes in this session, counted one by one: a prefix announced twice counts
    /// twice, and one that was withdrawn still counts, since received routes are not kept. Where there
    /// is a limit they are: [`PrefixLimit::received`] says how many there are just now.
    pub announcements_received: u64,
    /// How many prefixes the peer may announce, where that is limited.
    pub prefix_limit: Option<PrefixLimit>,
    /// What was wrong with UPDATEs of the peer, since it was configured.
    pub update_errors: UpdateErrors,
    /// How many sessions came up since the peer was configured.
    pub established_count: u64,
}

/// A limit of the prefixes that a peer may announce, and how near it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PrefixLimit {
    /// How many prefixes of each family it may announce.
    pub limit: u32,
    /// How many it announces in this session, of the family with most; from when the limit was set.
    #[cfg_attr(feature = "serde", serde(rename = "held"))]
    pub received: u64,
}

/// UPDATEs with something wrong in them that the session survived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct UpdateErrors {
    /// UPDATEs that counted as withdrawals (RFC 7606).
    pub treated_as_withdraw: u64,
    /// Attributes that were left out (RFC 7606).
    pub attributes_discarded: u64,
    /// Prefixes announced with a path nobody could use: our own AS in it, or our own address as
    /// its next hop (RFC 4271 §6.3, §9.1.2). No errors: they are common where routers send back
    /// what they get.
    #[cfg_attr(feature = "serde", serde(rename = "ineligible"))]
    pub looped: u64,
}

/// Why the last session or attempt ended, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LastError {
    /// Why.
    pub cause: CauseSummary,
    /// How long ago, in seconds.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub ago: Duration,
}

/// A NOTIFICATION and how long ago it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PastNotification {
    /// The NOTIFICATION.
    pub notification: NotificationSummary,
    /// How long ago, in seconds.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub ago: Duration,
}

/// What is left of the timers of a session, or of the one being opened, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionTimers {
    /// Until the peer counts as dead; before its OPEN, until we stop waiting for that.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub hold: Option<Duration>,
    /// Until we send a KEEPALIVE.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub keepalive: Option<Duration>,
    /// Until the peer counts as one that doesn't read (RFC 9687).
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub send_hold: Option<Duration>,
}

/// All there is to know about one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerDetail {
    /// In short.
    pub status: PeerStatus,
    /// As configured; without the password.
    pub config: PeerConfig,
    /// Our latest OPEN.
    pub open_sent: Option<OpenSummary>,
    /// The peer's latest OPEN.
    pub open_received: Option<OpenSummary>,
    /// The session's timers.
    pub timers: SessionTimers,
    /// Prefixes announced and withdrawn by the peer in this session, by family.
    pub prefixes: Vec<PrefixCount>,
    /// Errors in UPDATEs, by attribute and what was done, since the peer was configured.
    pub attribute_errors: Vec<AttributeErrorCount>,
    /// The last NOTIFICATION we sent.
    pub last_sent: Option<PastNotification>,
    /// The last NOTIFICATION the peer sent.
    pub last_received: Option<PastNotification>,
    /// What happened, the oldest first; bounded.
    pub journal: Vec<JournalEntry>,
}
