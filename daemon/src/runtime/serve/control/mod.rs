//! The protocol of the control socket: one line of JSON per request and per answer (routes and
//! captures: one line per route or message), over a Unix socket with access for its owner only.
//! [`server`] answers, [`client`] asks.

pub(crate) mod capture;
pub(crate) mod client;
mod explain;
pub(crate) mod layer2;
pub(crate) mod server;

use std::net::{IpAddr, Ipv6Addr};

use ferrolb_bgp::fsm::{JournalEntry, PeerStatus};
use ferrolb_bgp::speaker::AdvertisedRoute;
use ferrolb_bgp::wire::{Aggregator, NextHop};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::runtime::status::Probe;

/// Default path of the socket.
pub(crate) const DEFAULT_SOCKET: &str = "/run/ferrolb/ferrolb.sock";
/// Default path of the socket of a process whose only role is layer 2, since an announcer may run
/// on the same host.
pub(crate) const LAYER2_SOCKET: &str = "/run/ferrolb/layer2.sock";
/// The same for an allocator, which answers probes on it.
pub(crate) const ALLOCATOR_SOCKET: &str = "/run/ferrolb/allocator.sock";

/// A request. A peer is selected by the BGPPeer's name or the router's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase")]
pub(crate) enum Request {
    /// Summary of all peers: [`PeerLine`]s.
    Peers,
    /// Details of one peer: a [`ferrolb_bgp::fsm::PeerDetail`].
    Peer {
        /// Name or address.
        peer: String,
    },
    /// BGPPeers that are rejected, in general or on this node: [`RejectedPeer`]s.
    Refused,
    /// What is not announced yet, since its first announcement waits: [`WithheldLine`]s.
    Withheld,
    /// Why this process does or does not announce a service: a
    /// [`crate::core::explain::Explanation`].
    Explain {
        /// The service as `namespace/name`.
        service: String,
    },
    /// Routes sent to peers: one [`RouteLine`] per answer; an answer without one ends the list.
    Routes {
        /// Name or address; absent for all peers.
        peer: Option<String>,
    },
    /// Events of sessions: [`LogLine`]s, oldest first.
    Log {
        /// Name or address; absent for all peers.
        peer: Option<String>,
    },
    /// Messages of a session from now on: one [`capture::CaptureLine`] per answer, until the client
    /// closes the connection.
    Capture {
        /// Name or address.
        peer: String,
    },
    /// A probe of the kubelet. Fails with the reason.
    Probe {
        /// Which one.
        probe: Probe,
    },
    /// Layer 2: a [`layer2::Layer2Status`], or null if the engine is idle.
    L2 {
        /// Only this address, with its candidates.
        address: Option<IpAddr>,
    },
    /// Requests that the owner of an address hands it over: a [`layer2::MoveStarted`].
    L2Move {
        /// The address.
        address: IpAddr,
        /// The node that takes it over.
        node: String,
    },
    /// Plans moves that even out the nodes: a [`ferrolb_layer2::moves::Rebalance`].
    L2Rebalance,
    /// Requests that a peer resolves an address: a [`layer2::TestStarted`].
    L2Test {
        /// The address.
        address: IpAddr,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer<T> {
    /// The result.
    Ok(T),
    /// Why the request failed, and what to do.
    Error(String),
}

/// Summary of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerLine {
    /// Status in the BGP engine.
    #[serde(flatten)]
    pub status: PeerStatus,
    /// Number of prefixes to announce to it.
    pub prefixes_desired: usize,
}

/// A rejected BGPPeer. If its last valid version is in use, it has a session; if it conflicts on
/// this node (missing interface, another BGPPeer with the same address), it has none here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RejectedPeer {
    /// Name of the BGPPeer.
    pub name: String,
    /// The object, as in `BGPPeer metallb-system/tor`.
    pub object: String,
    /// The field, what is wrong with it, and the remedy.
    #[serde(rename = "refused")]
    pub reason: String,
}

/// What is not announced yet, since its first announcement has to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WithheldLine {
    /// The service as `namespace/name`. Absent: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The reason code.
    pub reason: String,
    /// The reason in words, with its remedy.
    pub message: String,
}

/// A route as sent to a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RouteLine {
    /// Name of the peer.
    pub peer: String,
    /// The prefix.
    pub prefix: IpNet,
    /// NEXT_HOP.
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
    /// Additional copies of our AS in AS_PATH.
    pub prepend: u8,
    /// The node is draining, and the route stays since the router has no other path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_other_path: bool,
    /// Whole seconds since it was last sent.
    pub sent_seconds_ago: u64,
}

impl RouteLine {
    /// Converts a route of the engine. `ibgp` decides whether LOCAL_PREF is sent.
    fn new(
        peer: &str,
        next_hop: Option<NextHop>,
        ibgp: bool,
        advertised: &AdvertisedRoute,
    ) -> Self {
        fn texts<T: ToString>(values: &[T]) -> Vec<String> {
            values.iter().map(T::to_string).collect()
        }
        let route = &advertised.route;
        let local_pref = route
            .local_pref
            .unwrap_or(ferrolb_bgp::rib::DEFAULT_LOCAL_PREF);
        Self {
            peer: peer.to_owned(),
            prefix: advertised.prefix,
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
            sent_seconds_ago: advertised.age.as_secs(),
            prepend: if ibgp { 0 } else { route.prepend },
        }
    }
}

/// An event of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// Time by the daemon's clock; of the last occurrence, if there were several.
    pub at: jiff::Timestamp,
    /// Name of the peer.
    pub peer: String,
    /// The event.
    #[serde(flatten)]
    pub entry: JournalEntry,
}

#[cfg(test)]
mod tests;
