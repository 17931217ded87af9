//! The Adj-RIB-Out: desired routes, sent routes, and the UPDATEs that turn one into the other.
//!
//! One [`AdjRibOut`] serves all peers of a speaker. For each prefix it stores the desired routes
//! and the sent routes, each with the set of peers it applies to. There is no queue per peer: a
//! session stores its position in the changes, and [`AdjRibOut::poll_transmit`] encodes the latest
//! state. Encoded messages
//! are cached and shared with all peers that need the same ones.
//!
//! | file | contents |
//! |---|---|
//! | `table` | prefixes with their desired and sent routes, in commit order |
//! | `peer_routes`, `interned`, `peer_set` | storage: one copy of each distinct value |
//! | `batch` | the changes between two versions of the table, in transmission order |
//! | `chunk` | encoded messages of a part of a batch, and their cache |
//! | `peer_out` | a session: cursor, End-of-RIB, route refresh |
//! | `dump` | a table encoded from the beginning, for monitoring |
//! | `adj_rib_out` | the public type that combines them |

mod adj_rib_out;
mod batch;
mod chunk;
mod dump;
mod interned;
mod peer_out;
mod peer_routes;
mod peer_set;
mod table;

use std::sync::Arc;

pub use self::adj_rib_out::{AdjRibOut, Advertised};
pub use self::dump::table_updates;
pub use self::peer_out::SessionCounters;
use crate::wire::{
    Aggregator, Asn, Community, ExtendedCommunity, Family, Ipv6ExtendedCommunity, LargeCommunity,
    NextHop, Origin,
};

/// Path attributes of a route, independent of the session.
///
/// The session adds the next hop and AS_PATH, and decides whether LOCAL_PREF is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RouteAttributes {
    /// ORIGIN (RFC 4271 §5.1.1).
    pub origin: Origin,
    /// MULTI_EXIT_DISC (RFC 4271 §5.1.4); not sent when `None`.
    pub med: Option<u32>,
    /// LOCAL_PREF (RFC 4271 §5.1.5), sent on iBGP sessions only; [`DEFAULT_LOCAL_PREF`] when
    /// `None`.
    pub local_pref: Option<u32>,
    /// Number of additional copies of our AS number in AS_PATH, on eBGP sessions only.
    pub prepend: u8,
    /// ATOMIC_AGGREGATE (RFC 4271 §5.1.6).
    pub atomic_aggregate: bool,
    /// AGGREGATOR (RFC 4271 §5.1.7).
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997). Sort all communities: a different order is a different route.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY (RFC 8092), sorted.
    pub large_communities: Vec<LargeCommunity>,
    /// Extended communities (RFC 4360), sorted.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// IPv6-specific extended communities (RFC 5701), sorted.
    pub ipv6_extended_communities: Vec<Ipv6ExtendedCommunity>,
}

impl Default for RouteAttributes {
    /// ORIGIN IGP and nothing else.
    fn default() -> Self {
        Self {
            origin: Origin::Igp,
            med: None,
            local_pref: None,
            prepend: 0,
            atomic_aggregate: false,
            aggregator: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            extended_communities: Vec::new(),
            ipv6_extended_communities: Vec::new(),
        }
    }
}

/// LOCAL_PREF on iBGP unless a route sets one: the common default of implementations.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// Attributes, shared by all prefixes and peers with this route.
pub type Route = Arc<RouteAttributes>;

/// Index of a peer in one [`AdjRibOut`].
///
/// It is a position in bit sets: assign small indexes, and reuse them after
/// [`AdjRibOut::remove_peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIndex(pub u32);

/// The properties of a session that affect encoded messages. Sessions with equal values share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionEncoding {
    /// Families that both sides advertised (RFC 4760 §8).
    pub families: Vec<Family>,
    /// AS number in AS_PATH on an eBGP session; `None` on iBGP.
    pub ebgp: Option<Asn>,
    /// Both sides support four-octet AS numbers (RFC 6793 §4.1).
    pub four_octet_asn: bool,
    /// Maximum message length of the peer in octets: 4096, or 65535 with RFC 8654.
    pub max_length: usize,
    /// Next hop of IPv4 routes; an IPv6 address only if negotiated (RFC 8950). `None` suppresses
    /// IPv4 routes on this session.
    pub ipv4_next_hop: Option<NextHop>,
    /// Next hop of IPv6 routes. `None` suppresses IPv6 routes on this session.
    pub ipv6_next_hop: Option<NextHop>,
    /// A refresh is delimited by BoRR and EoRR messages (RFC 7313).
    pub enhanced_route_refresh: bool,
}

impl SessionEncoding {
    /// Next hop of the routes of `family`; `None` if they cannot be sent on this session.
    #[must_use]
    pub fn next_hop(&self, family: Family) -> Option<NextHop> {
        match family {
            _ if !self.families.contains(&family) => None,
            Family::IPV4_UNICAST => self.ipv4_next_hop,
            Family::IPV6_UNICAST => self.ipv6_next_hop,
            _ => None,
        }
    }

    /// Negotiated families whose routes cannot be sent because their next hop is unknown.
    pub fn families_without_next_hop(&self) -> impl Iterator<Item = Family> + '_ {
        self.families
            .iter()
            .copied()
            .filter(|family| self.next_hop(*family).is_none())
    }
}
