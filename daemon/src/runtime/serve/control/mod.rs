//! How a running daemon is asked what it does: one line of JSON in, one line of JSON out (but for
//! routes, of which each has a line), over a Unix socket that its owner alone may use. [`server`]
//! answers, [`client`] asks.

pub(crate) mod client;
pub(crate) mod server;

use std::net::{IpAddr, Ipv6Addr};

use ferrolb_bgp::fsm::{JournalEntry, PeerStatus};
use ferrolb_bgp::speaker::AdvertisedRoute;
use ferrolb_bgp::wire::{Aggregator, NextHop};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where the daemon listens if it is told nothing else.
pub(crate) const DEFAULT_SOCKET: &str = "/run/ferrolb/ferrolb.sock";

/// A question. Peers go by the BGPPeer's name or by the router's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase")]
pub(crate) enum Request {
    /// All peers, in short: [`PeerLine`]s.
    Peers,
    /// One peer, all of it: a [`ferrolb_bgp::fsm::PeerDetail`].
    Peer {
        /// Which.
        peer: String,
    },
    /// BGPPeers that are refused, as they stand or on this node: [`RefusedPeer`]s.
    Refused,
    /// What peers hold from us: a [`RouteLine`] in each answer, of any number; the last one holds
    /// none.
    Routes {
        /// Only this one's.
        peer: Option<String>,
    },
    /// What happened: [`LogLine`]s, the oldest first.
    Log {
        /// Only this one's.
        peer: Option<String>,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer<T> {
    /// What was asked for.
    Ok(T),
    /// Why it can't be had, and what to do.
    Error(String),
}

/// A peer in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerLine {
    /// As the BGP engine tells it.
    #[serde(flatten)]
    pub status: PeerStatus,
    /// How many prefixes it should hold from us.
    pub prefixes_desired: usize,
}

/// A BGPPeer that is refused. Where an edit is at fault, its last good value keeps its session;
/// where it can't be on this node (an interface that is missing, another BGPPeer in its way), it
/// has none here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefusedPeer {
    /// The BGPPeer's name.
    pub name: String,
    /// Which object that is: `BGPPeer metallb-system/tor`.
    pub object: String,
    /// Field, what is wrong there, and the remedy.
    pub refused: String,
}

/// A prefix that a peer holds from us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RouteLine {
    /// The peer.
    pub peer: String,
    /// The prefix.
    pub prefix: IpNet,
    /// Where packets go.
    pub next_hop: Option<IpAddr>,
    /// The link-local address sent beside it (RFC 2545 §3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_local_next_hop: Option<Ipv6Addr>,
    /// LOCAL_PREF; iBGP only.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES.
    pub communities: Vec<String>,
    /// LARGE_COMMUNITY.
    pub large_communities: Vec<String>,
    /// Extended communities.
    pub extended_communities: Vec<String>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// How many more times than once our AS stands in AS_PATH.
    pub prepend: u8,
    /// The node drains, and the route stays since the router shows no other path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_other_path: bool,
    /// How long ago it was last sent, in whole seconds.
    pub sent_seconds_ago: u64,
}

impl RouteLine {
    /// From what the engine holds. `ibgp` says whether LOCAL_PREF is told.
    fn new(peer: &str, next_hop: Option<NextHop>, ibgp: bool, told: &AdvertisedRoute) -> Self {
        fn texts<T: ToString>(values: &[T]) -> Vec<String> {
            values.iter().map(T::to_string).collect()
        }
        let route = &told.route;
        let local_pref = route
            .local_pref
            .unwrap_or(ferrolb_bgp::rib::DEFAULT_LOCAL_PREF);
        Self {
            peer: peer.to_owned(),
            prefix: told.prefix,
            next_hop: next_hop.map(|next_hop| next_hop.address()),
            link_local_next_hop: next_hop.and_then(|next_hop| next_hop.link_local()),
            local_pref: ibgp.then_some(local_pref),
            med: route.med,
            communities: texts(&route.communities),
            large_communities: texts(&route.large_communities),
            extended_communities: texts(&route.extended_communities),
            atomic_aggregate: route.atomic_aggregate,
            aggregator: route.aggregator,
            waits_for_other_path: false,
            sent_seconds_ago: told.age.as_secs(),
            prepend: if ibgp { 0 } else { route.prepend },
        }
    }
}

/// Something that happened to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// When, by the daemon's clock; the last time, if it happened more than once.
    pub at: jiff::Timestamp,
    /// The peer.
    pub peer: String,
    /// What.
    #[serde(flatten)]
    pub entry: JournalEntry,
}

#[cfg(test)]
mod tests;
