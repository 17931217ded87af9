//! What every peer is to be told, what it has been told, and the UPDATEs in between.
//!
//! One [`AdjRibOut`] serves all peers of a speaker. It holds, for each prefix, the routes that are
//! desired and the routes that were sent, each with the set of peers it applies to. Nothing is
//! queued per peer: a session is a cursor, and octets are made from the latest state at the moment
//! somebody asks for them with [`AdjRibOut::poll_transmit`]. What was made for one peer is kept and
//! handed to the others that are to get the same.

mod adj_rib_out;
mod batch;
mod chunk;
mod interned;
mod peer_out;
mod peer_routes;
mod peer_set;
mod table;

use std::sync::Arc;

pub use self::adj_rib_out::{AdjRibOut, Advertised, SessionCounters};
use crate::wire::{
    Aggregator, Asn, Community, ExtendedCommunity, Family, Ipv6ExtendedCommunity, LargeCommunity,
    NextHop, Origin,
};

/// What we want to say about a prefix, before a session turns it into octets.
///
/// The next hop, AS_PATH and the use of LOCAL_PREF are the session's business.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RouteAttributes {
    /// ORIGIN (RFC 4271 §5.1.1).
    pub origin: Origin,
    /// MULTI_EXIT_DISC (RFC 4271 §5.1.4); left out of the UPDATE when `None`.
    pub med: Option<u32>,
    /// LOCAL_PREF (RFC 4271 §5.1.5), used on iBGP sessions only; [`DEFAULT_LOCAL_PREF`] when `None`.
    pub local_pref: Option<u32>,
    /// How many more times than once our own AS number stands in AS_PATH; on eBGP sessions only.
    pub prepend: u8,
    /// ATOMIC_AGGREGATE (RFC 4271 §5.1.6).
    pub atomic_aggregate: bool,
    /// AGGREGATOR (RFC 4271 §5.1.7).
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997); keep them sorted, equal sets are told apart otherwise.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY (RFC 8092); keep them sorted, equal sets are told apart otherwise.
    pub large_communities: Vec<LargeCommunity>,
    /// Extended communities (RFC 4360); keep them sorted, equal sets are told apart otherwise.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// Those with IPv6 addresses (RFC 5701); keep them sorted, equal sets are told apart otherwise.
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

/// LOCAL_PREF on iBGP where nobody asked for another: the value every implementation assumes.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// Attributes shared by all prefixes and peers that use them.
pub type Route = Arc<RouteAttributes>;

/// A peer's number within one [`AdjRibOut`].
///
/// It is a position in bit sets, so whoever gives them out keeps them small and uses them again
/// after [`AdjRibOut::remove_peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIndex(pub u32);

/// What a session negotiated, as far as it changes the octets of an UPDATE.
///
/// Sessions with equal values share encoded messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionEncoding {
    /// The families both sides announced (RFC 4760 §8).
    pub families: Vec<Family>,
    /// The AS number to put into AS_PATH on an eBGP session; `None` on iBGP.
    pub ebgp: Option<Asn>,
    /// Both sides speak four-octet AS numbers (RFC 6793 §4.1).
    pub four_octet_asn: bool,
    /// The longest message the peer accepts, in octets: 4096, or 65535 with RFC 8654.
    pub max_length: usize,
    /// Next hop of IPv4 routes, an IPv6 one only where that was agreed (RFC 8950); without it they
    /// aren't sent on the session.
    pub ipv4_next_hop: Option<NextHop>,
    /// Next hop of IPv6 routes; without it they aren't sent on the session.
    pub ipv6_next_hop: Option<NextHop>,
    /// A refresh is told where it begins and ends (RFC 7313).
    pub enhanced_route_refresh: bool,
}

impl SessionEncoding {
    /// The next hop of `family`'s routes, `None` when they can't be sent on this session.
    #[must_use]
    pub fn next_hop(&self, family: Family) -> Option<NextHop> {
        match family {
            _ if !self.families.contains(&family) => None,
            Family::IPV4_UNICAST => self.ipv4_next_hop,
            Family::IPV6_UNICAST => self.ipv6_next_hop,
            _ => None,
        }
    }

    /// The negotiated families whose routes can't be sent, because no next hop is known for them.
    pub fn families_without_next_hop(&self) -> impl Iterator<Item = Family> + '_ {
        self.families
            .iter()
            .copied()
            .filter(|family| self.next_hop(*family).is_none())
    }
}
