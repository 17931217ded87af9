//! The types and values of path attributes (RFC 4271 §4.3, §5, and later RFCs).

use std::net::Ipv4Addr;

use bytes::Bytes;
use ipnet::IpNet;

use super::as_path::AsPath;
use super::asn::Asn;
use super::codes::AttributeType;
use super::community::{Community, LargeCommunity};
use super::extended_community::{ExtendedCommunity, Ipv6ExtendedCommunity};
use super::family::Family;
use super::next_hop::NextHop;

/// Flags octet of a path attribute (RFC 4271 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeFlags(pub u8);

impl AttributeFlags {
    /// Optional: a speaker may not recognize the attribute. Else it is well-known.
    pub const OPTIONAL: u8 = 0x80;
    /// Transitive: speakers that don't recognize the attribute pass it on.
    pub const TRANSITIVE: u8 = 0x40;
    /// Partial: a speaker that didn't recognize the attribute passed it on.
    pub const PARTIAL: u8 = 0x20;
    /// The length field has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;

    /// Whether the attribute is optional.
    pub(super) fn optional(self) -> bool {
        self.0 & Self::OPTIONAL != 0
    }

    /// Whether the attribute is transitive.
    pub(super) fn transitive(self) -> bool {
        self.0 & Self::TRANSITIVE != 0
    }

    /// Whether the length field has two octets.
    pub(super) fn extended_length(self) -> bool {
        self.0 & Self::EXTENDED_LENGTH != 0
    }
}

/// The origin of a route (RFC 4271 §5.1.1). Lower is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learned through EGP.
    Egp,
    /// Learned by some other means.
    Incomplete,
}

impl Origin {
    /// The value on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Igp => 0,
            Self::Egp => 1,
            Self::Incomplete => 2,
        }
    }

    /// The origin for a value on the wire; `None` for values above 2.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            _ => None,
        }
    }
}

/// The speaker that formed an aggregate route (RFC 4271 §5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its router ID.
    pub router_id: Ipv4Addr,
}

/// An attribute that is kept as octets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownAttribute {
    /// The flags as received, without the extended-length bit.
    pub flags: AttributeFlags,
    /// The type.
    pub code: AttributeType,
    /// The value.
    pub value: Bytes,
}

/// The attributes of an UPDATE, except MP_REACH_NLRI and MP_UNREACH_NLRI.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// AS_PATH, with AS4_PATH merged in (RFC 6793 §4.2.3).
    pub as_path: Option<AsPath>,
    /// NEXT_HOP. The encoder ignores it: the next hop is an argument there.
    pub next_hop: Option<Ipv4Addr>,
    /// MULTI_EXIT_DISC; lower is preferred.
    pub med: Option<u32>,
    /// LOCAL_PREF, only between peers in the same AS; higher is preferred.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, with AS4_AGGREGATOR merged in (RFC 6793 §4.2.3).
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES. Decoder and encoder sort them and remove duplicates.
    pub communities: Vec<Community>,
    /// EXTENDED COMMUNITIES, likewise.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// IPv6 EXTENDED COMMUNITIES, likewise.
    pub ipv6_extended_communities: Vec<Ipv6ExtendedCommunity>,
    /// LARGE_COMMUNITY, likewise (RFC 8092 §3).
    pub large_communities: Vec<LargeCommunity>,
    /// Attributes kept as octets, in the order received.
    pub unknown: Vec<UnknownAttribute>,
}

/// MP_REACH_NLRI (RFC 4760 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MpReach {
    /// The family of the prefixes.
    pub family: Family,
    /// The next hop.
    pub next_hop: NextHop,
    /// The prefixes.
    pub nlri: Vec<IpNet>,
}

/// MP_UNREACH_NLRI (RFC 4760 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MpUnreach {
    /// The family of the prefixes.
    pub family: Family,
    /// The prefixes.
    pub nlri: Vec<IpNet>,
}
