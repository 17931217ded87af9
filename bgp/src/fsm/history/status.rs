//! The status of a peer, for the CLI and metrics.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::config::{PeerConfig, Remote, RemoteAsn};
use crate::fsm::bfd_target::BfdStatus;
use crate::fsm::history::journal::JournalEntry;
use crate::fsm::history::summary::{CauseSummary, NotificationSummary, OpenSummary};
use crate::fsm::history::update_stats::{
    AttributeErrorCount, PrefixCount, PrefixLimit, UpdateErrors,
};
use crate::fsm::state::State;
use crate::fsm::timers::Timer;
use crate::wire::{Agreement, Asn, MessageType};

/// Messages by type, in one direction, since the peer was configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MessageCounters {
    /// OPENs.
    pub open: u64,
    /// UPDATEs, End-of-RIB included.
    pub update: u64,
    /// NOTIFICATIONs.
    pub notification: u64,
    /// KEEPALIVEs.
    pub keepalive: u64,
    /// ROUTE-REFRESHes.
    pub route_refresh: u64,
}

impl MessageCounters {
    pub(super) fn count(&mut self, kind: MessageType) {
        match kind {
            MessageType::OPEN => self.open += 1,
            MessageType::UPDATE => self.update += 1,
            MessageType::NOTIFICATION => self.notification += 1,
            MessageType::KEEPALIVE => self.keepalive += 1,
            MessageType::ROUTE_REFRESH => self.route_refresh += 1,
            _ => {}
        }
    }

    /// The number of all messages.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.open + self.update + self.notification + self.keepalive + self.route_refresh
    }
}

/// A snapshot of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerStatus {
    /// The configured name. A dynamic neighbor has that of its template and its address:
    /// `rack@192.0.2.7`.
    pub name: String,
    /// The template's name, if this is a dynamic neighbor. The template itself has a network as its
    /// [`remote`](Self::remote), and never a session.
    pub template: Option<String>,
    /// Its address, or the network of a template.
    pub remote: Remote,
    /// What is known of the interface, if the peer is unnumbered.
    #[cfg_attr(feature = "serde", serde(default))]
    pub link: Option<LinkStatus>,
    /// Our AS number towards the peer.
    pub local_asn: Asn,
    /// The AS numbers that the peer may have.
    pub remote_asn: RemoteAsn,
    /// The most advanced state of its connections.
    pub state: State,
    /// Seconds in that state.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub since: Duration,
    /// What was negotiated for the session, or for the one being opened.
    pub negotiated: Option<Agreement>,
    /// BFD, if it is configured.
    pub bfd: Option<BfdStatus>,
    /// Our address on the session.
    pub local_address: Option<IpAddr>,
    /// Our BGP identifier on the session.
    pub local_router_id: Option<Ipv4Addr>,
    /// The peer's BGP identifier.
    pub remote_router_id: Option<Ipv4Addr>,
    /// Why the last session or attempt ended.
    pub last_error: Option<LastError>,
    /// Seconds until the next attempt, or until the peer's connections are accepted again.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub retry_in: Option<Duration>,
    /// Messages sent, since the peer was configured.
    pub sent: MessageCounters,
    /// Messages received, since the peer was configured.
    pub received: MessageCounters,
    /// Prefixes announced to the peer at present.
    pub prefixes_advertised: u64,
    /// Announcements not sent since the peer was configured: their attributes leave no room for a
    /// prefix in the longest message that the peer accepts. The peer keeps what it last received
    /// for these prefixes.
    #[cfg_attr(feature = "serde", serde(default))]
    pub announcements_left_out: u64,
    /// Announcements of prefixes in this session. A prefix announced twice counts twice, and one
    /// that was withdrawn still counts: received routes are not stored. With a prefix limit,
    /// [`PrefixLimit::received`] is the present number.
    pub announcements_received: u64,
    /// The limit of prefixes that the peer may announce.
    pub prefix_limit: Option<PrefixLimit>,
    /// Errors in UPDATEs of the peer, since it was configured.
    pub update_errors: UpdateErrors,
    /// Sessions established since the peer was configured.
    pub established_count: u64,
}

impl PeerStatus {
    /// The peer's address for people: with the name of the interface if it is unnumbered.
    #[must_use]
    pub fn address_text(&self) -> String {
        let interface = self.link.as_ref().map(|link| &*link.interface);
        crate::config::address_text(&self.remote, interface)
    }
}

/// The interface of an unnumbered peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LinkStatus {
    /// Its name.
    pub interface: String,
    /// What an operator should know about it.
    pub notes: Vec<String>,
}

/// Why and when the last session or attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LastError {
    /// Why.
    pub cause: CauseSummary,
    /// Seconds since then.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub ago: Duration,
}

/// A NOTIFICATION and when it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PastNotification {
    /// The NOTIFICATION.
    pub notification: NotificationSummary,
    /// Seconds since then.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub ago: Duration,
}

/// The running timers of a peer, each in seconds until it expires. Those of a connection are those
/// of the session, or of the connection closest to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RunningTimers {
    /// [`Timer::ConnectRetry`].
    #[cfg_attr(feature = "serde", serde(default, with = "crate::seconds::option"))]
    pub connect_retry: Option<Duration>,
    /// [`Timer::IdleHold`].
    #[cfg_attr(feature = "serde", serde(default, with = "crate::seconds::option"))]
    pub idle_hold: Option<Duration>,
    /// [`Timer::Hold`].
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub hold: Option<Duration>,
    /// [`Timer::Keepalive`].
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub keepalive: Option<Duration>,
    /// [`Timer::SendHold`].
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::option"))]
    pub send_hold: Option<Duration>,
    /// [`Timer::DynamicIdle`].
    #[cfg_attr(feature = "serde", serde(default, with = "crate::seconds::option"))]
    pub dynamic_idle: Option<Duration>,
}

impl RunningTimers {
    /// The running timers, each with the time until it expires.
    pub fn iter(&self) -> impl Iterator<Item = (Timer, Duration)> + use<> {
        [
            (Timer::ConnectRetry, self.connect_retry),
            (Timer::IdleHold, self.idle_hold),
            (Timer::Hold, self.hold),
            (Timer::Keepalive, self.keepalive),
            (Timer::SendHold, self.send_hold),
            (Timer::DynamicIdle, self.dynamic_idle),
        ]
        .into_iter()
        .filter_map(|(timer, left)| Some((timer, left?)))
    }
}

impl FromIterator<(Timer, Duration)> for RunningTimers {
    fn from_iter<T: IntoIterator<Item = (Timer, Duration)>>(running: T) -> Self {
        let mut timers = Self::default();
        for (timer, left) in running {
            let slot = match timer {
                Timer::ConnectRetry => &mut timers.connect_retry,
                Timer::IdleHold => &mut timers.idle_hold,
                Timer::Hold => &mut timers.hold,
                Timer::Keepalive => &mut timers.keepalive,
                Timer::SendHold => &mut timers.send_hold,
                Timer::DynamicIdle => &mut timers.dynamic_idle,
            };
            *slot = Some(left);
        }
        timers
    }
}

/// Everything about one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerDetail {
    /// The status.
    pub status: PeerStatus,
    /// The configuration, without the password.
    pub config: PeerConfig,
    /// Our latest OPEN.
    pub open_sent: Option<OpenSummary>,
    /// The peer's latest OPEN.
    pub open_received: Option<OpenSummary>,
    /// The running timers.
    pub timers: RunningTimers,
    /// Prefixes that the peer announced and withdrew in this session, by family.
    pub prefixes: Vec<PrefixCount>,
    /// Errors in UPDATEs by attribute and treatment, since the peer was configured.
    pub attribute_errors: Vec<AttributeErrorCount>,
    /// The last NOTIFICATION we sent.
    pub last_sent: Option<PastNotification>,
    /// The last NOTIFICATION the peer sent.
    pub last_received: Option<PastNotification>,
    /// The journal, oldest entry first.
    pub journal: Vec<JournalEntry>,
}
