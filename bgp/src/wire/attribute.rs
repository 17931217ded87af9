//! Path attributes (RFC 4271 §4.3 and the RFCs that added to it).

use std::fmt;
use std::net::Ipv4Addr;

use bytes::Bytes;

use super::as_path::AsPath;
use super::asn::Asn;
use super::community::{Community, LargeCommunity};
use super::extended_community::{ExtendedCommunity, Ipv6ExtendedCommunity};

/// Type code of a path attribute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u8);

/// Declares the named attribute types once, for the constants and for printing.
macro_rules! attribute_types {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl AttributeType {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The name the RFCs use, where this crate knows the attribute.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

attribute_types! {
    /// RFC 4271 §5.1.1.
    ORIGIN = 1, "ORIGIN";
    /// RFC 4271 §5.1.2.
    AS_PATH = 2, "AS_PATH";
    /// RFC 4271 §5.1.3.
    NEXT_HOP = 3, "NEXT_HOP";
    /// RFC 4271 §5.1.4.
    MULTI_EXIT_DISC = 4, "MULTI_EXIT_DISC";
    /// RFC 4271 §5.1.5.
    LOCAL_PREF = 5, "LOCAL_PREF";
    /// RFC 4271 §5.1.6.
    ATOMIC_AGGREGATE = 6, "ATOMIC_AGGREGATE";
    /// RFC 4271 §5.1.7.
    AGGREGATOR = 7, "AGGREGATOR";
    /// RFC 1997.
    COMMUNITIES = 8, "COMMUNITIES";
    /// RFC 4456 §8.
    ORIGINATOR_ID = 9, "ORIGINATOR_ID";
    /// RFC 4456 §8.
    CLUSTER_LIST = 10, "CLUSTER_LIST";
    /// RFC 4760 §3.
    MP_REACH_NLRI = 14, "MP_REACH_NLRI";
    /// RFC 4760 §4.
    MP_UNREACH_NLRI = 15, "MP_UNREACH_NLRI";
    /// RFC 4360.
    EXTENDED_COMMUNITIES = 16, "EXTENDED COMMUNITIES";
    /// RFC 6793 §3.
    AS4_PATH = 17, "AS4_PATH";
    /// RFC 6793 §3.
    AS4_AGGREGATOR = 18, "AS4_AGGREGATOR";
    /// RFC 5543.
    TRAFFIC_ENGINEERING = 24, "TRAFFIC_ENGINEERING";
    /// RFC 5701.
    IPV6_EXTENDED_COMMUNITIES = 25, "IPv6 EXTENDED COMMUNITIES";
    /// RFC 8092.
    LARGE_COMMUNITY = 32, "LARGE_COMMUNITY";
    /// RFC 9234 §5.
    ONLY_TO_CUSTOMER = 35, "ONLY_TO_CUSTOMER";
    /// RFC 6368 §5.
    ATTR_SET = 128, "ATTR_SET";
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "attribute {}", self.0),
        }
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.0)
    }
}

/// Flags octet of a path attribute (RFC 4271 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeFlags(pub u8);

impl AttributeFlags {
    /// Optional: a speaker need not know the attribute.
    pub const OPTIONAL: u8 = 0x80;
    /// Transitive: passed on even by speakers that do not know it.
    pub const TRANSITIVE: u8 = 0x40;
    /// Passed on by somebody who did not know it.
    pub const PARTIAL: u8 = 0x20;
    /// The length field has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;

    /// Whether the attribute is optional.
    pub fn optional(self) -> bool {
        self.0 & Self::OPTIONAL != 0
    }

    /// Whether the attribute is transitive.
    pub fn transitive(self) -> bool {
        self.0 & Self::TRANSITIVE != 0
    }

    /// Whether the length field has two octets.
    pub fn extended_length(self) -> bool {
        self.0 & Self::EXTENDED_LENGTH != 0
    }
}

/// How the route came into BGP (RFC 4271 §5.1.1). Lower is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learned through EGP.
    Egp,
    /// By some other means.
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

    /// The meaning of a value on the wire; values above 2 have none.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            _ => None,
        }
    }
}

/// Who formed an aggregate route (RFC 4271 §5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its router id.
    pub router_id: Ipv4Addr,
}

/// An attribute this crate keeps as octets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownAttribute {
    /// Its flags as received, the extended-length bit cleared.
    pub flags: AttributeFlags,
    /// Its type.
    pub code: AttributeType,
    /// Its value.
    pub value: Bytes,
}

/// The attributes of an UPDATE but for MP_REACH_NLRI and MP_UNREACH_NLRI.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// AS_PATH, with what AS4_PATH adds to it.
    pub as_path: Option<AsPath>,
    /// NEXT_HOP. The encoder takes the next hop as an argument and ignores this.
    pub next_hop: Option<Ipv4Addr>,
    /// MULTI_EXIT_DISC; lower is preferred.
    pub med: Option<u32>,
    /// LOCAL_PREF, only between peers of one AS; higher is preferred.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, with what AS4_AGGREGATOR adds to it.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES. The decoder and the encoder sort them and leave each once.
    pub communities: Vec<Community>,
    /// EXTENDED COMMUNITIES, likewise.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// IPv6 EXTENDED COMMUNITIES, likewise.
    pub ipv6_extended_communities: Vec<Ipv6ExtendedCommunity>,
    /// LARGE_COMMUNITY, likewise (RFC 8092 §3).
    pub large_communities: Vec<LargeCommunity>,
    /// Everything kept as octets, in the order received.
    pub unknown: Vec<UnknownAttribute>,
}
