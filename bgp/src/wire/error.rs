//! Errors of the codec, and the reaction that each requires (RFC 4271 §6, RFC 7606).

use std::fmt;
use std::net::Ipv4Addr;

use bytes::Bytes;
use thiserror::Error;

use super::asn::Asn;
use super::codes::{AttributeType, MessageType, subcode};
use super::family::Family;

/// The supported BGP version.
pub const BGP_VERSION: u8 = 4;

/// An error that ends the session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The 16 marker octets are not all ones.
    #[error("message header: the marker is not all ones")]
    NotSynchronized,
    /// The length in the header is invalid for BGP or for the message type.
    #[error("invalid {kind} length: {length} octets")]
    BadLength {
        /// The message type in the header.
        kind: MessageType,
        /// The length in the header.
        length: u16,
    },
    /// The message type is unknown.
    #[error("unknown message type {0}")]
    BadType(u8),
    /// BoRR or EoRR of an invalid length, with the whole message (RFC 7313 §5).
    #[error("invalid ROUTE-REFRESH length: {} octets", .0.len())]
    RouteRefreshLength(Bytes),
    /// OPEN with an unsupported version.
    #[error("unsupported BGP version {0}: only version {BGP_VERSION} is supported")]
    UnsupportedVersion(u8),
    /// OPEN from an AS that isn't the configured one, from AS 0, or with two different AS numbers.
    #[error("OPEN from AS {received}, expected {}", Expected(.expected))]
    BadPeerAs {
        /// The AS in the OPEN.
        received: Asn,
        /// The configured AS; `None` if any is accepted.
        expected: Option<Asn>,
    },
    /// OPEN with router ID 0.0.0.0, or with our router ID from within our AS (RFC 6286 §2.2).
    #[error("invalid router ID {0}: zero, or the same as ours")]
    BadRouterId(Ipv4Addr),
    /// OPEN with an optional parameter other than capabilities.
    #[error("unsupported optional parameter {0} in the OPEN")]
    UnsupportedParameter(u8),
    /// OPEN whose optional parameters or capabilities have inconsistent lengths.
    #[error("malformed optional parameters in the OPEN")]
    MalformedOpen,
    /// OPEN with a hold time of one or two seconds.
    #[error("unacceptable hold time {0} s")]
    UnacceptableHoldTime(u16),
    /// OPEN without a family in common; these are ours.
    #[error("the peer supports none of our families: {}", Listed(.0))]
    NoCommonFamily(Vec<Family>),
    /// UPDATE with inconsistent length fields, or with a repeated MP_REACH_NLRI or MP_UNREACH_NLRI.
    #[error("malformed attribute list in the UPDATE")]
    MalformedAttributeList,
    /// UPDATE with a prefix that is too long or truncated in the withdrawn or NLRI field.
    #[error("invalid prefix in the UPDATE: too long or truncated")]
    InvalidNetwork,
    /// An attribute error in an UPDATE whose routes are unreadable (RFC 7606 §3 (j), §5.2, §5.3).
    #[error("{attribute} {kind}")]
    Attribute {
        /// The attribute.
        attribute: AttributeType,
        /// The error.
        kind: AttributeErrorKind,
        /// The attribute as received, possibly truncated.
        octets: Bytes,
    },
}

/// Prints the expected AS.
struct Expected<'a>(&'a Option<Asn>);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(asn) => write!(f, "AS {asn}"),
            None => f.write_str("a valid AS"),
        }
    }
}

/// Prints families, separated by commas.
struct Listed<'a>(&'a [Family]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, family) in self.0.iter().enumerate() {
            write!(f, "{}{family}", if position > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// The treatment of an attribute error that the session survives, the weakest first
/// (RFC 7606 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Treatment {
    /// Attribute discard: the attribute (or the routes that `kind` names) is ignored.
    Discard,
    /// Treat-as-withdraw: every route in the UPDATE counts as withdrawn.
    TreatAsWithdraw,
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discard => "discard",
            Self::TreatAsWithdraw => "treat-as-withdraw",
        })
    }
}

/// An error in an UPDATE that the session survives (RFC 7606).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttributeError {
    /// The attribute; `None` if the error is not in an attribute.
    pub attribute: Option<AttributeType>,
    /// The error.
    pub kind: AttributeErrorKind,
    /// The treatment.
    pub treatment: Treatment,
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attribute {
            Some(attribute) => write!(f, "{attribute} {}: {}", self.kind, self.treatment),
            None => write!(f, "UPDATE {}: {}", self.kind, self.treatment),
        }
    }
}

/// The kinds of attribute errors. The texts follow the name of the attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum AttributeErrorKind {
    /// The Optional or Transitive bit contradicts the specification (RFC 7606 §3 (c)).
    #[error("has wrong flags")]
    Flags,
    /// A length that the specification doesn't allow (RFC 7606 §7).
    #[error("has an invalid length")]
    Length,
    /// The attribute exceeds the attribute field, or the field ends in a partial attribute
    /// (RFC 7606 §4).
    #[error("exceeds the attribute field")]
    Overrun,
    /// A mandatory attribute is missing (RFC 7606 §3 (d)).
    #[error("is missing")]
    Missing,
    /// The attribute occurs more than once; the first counts (RFC 7606 §3 (g)).
    #[error("is repeated")]
    Repeated,
    /// The attribute is unknown, although its flags say well-known (RFC 4271 §6.3).
    #[error("has the flags of a well-known attribute, but is unknown")]
    UnrecognizedWellKnown,
    /// An undefined value (ORIGIN, RFC 7606 §7.1).
    #[error("has an undefined value")]
    Value,
    /// A segment of unknown type, without AS numbers, or with too many (RFC 7606 §7.2).
    #[error("has malformed segments")]
    AsPath,
    /// An AS_SET or AS_CONFED_SET (RFC 9774).
    #[error("contains an AS_SET")]
    AsSet,
    /// Confederation segments from outside our confederation (RFC 5065 §5).
    #[error("contains confederation segments")]
    Confederation,
    /// AS 0 (RFC 7607 §2).
    #[error("contains AS 0")]
    AsZero,
    /// A next hop that is not the address of a host (RFC 4271 §6.3).
    #[error("has a next hop that is not a host address")]
    NextHop,
    /// This peer must not send the attribute (RFC 7606 §7.5, §7.9, §7.10; RFC 6793 §4.1).
    #[error("is not allowed from this peer")]
    NotFromThisPeer,
    /// AS4_PATH with more hops than AS_PATH, or AS4_AGGREGATOR with an AGGREGATOR that has another
    /// AS than AS_TRANS (RFC 6793 §4.2.3).
    #[error("contradicts its two-octet counterpart")]
    Mismatch,
    /// Routes of a family that was not negotiated (RFC 4760 §6).
    #[error("has routes of {0}, which was not negotiated")]
    FamilyNotNegotiated(Family),
    /// Malformed MP_REACH_NLRI or MP_UNREACH_NLRI (RFC 7606 §5.3).
    #[error("is malformed")]
    Multiprotocol,
    /// This number of prefixes is multicast or reserved, and was dropped.
    #[error("has {0} prefixes that are not unicast")]
    NotUnicast(u16),
}

impl AttributeErrorKind {
    /// The subcode of UPDATE Message Error if the error ends the session.
    pub(super) fn subcode(self) -> u8 {
        use subcode::update;
        match self {
            Self::Flags => update::ATTRIBUTE_FLAGS_ERROR,
            Self::Length | Self::Overrun => update::ATTRIBUTE_LENGTH_ERROR,
            Self::Missing => update::MISSING_WELL_KNOWN_ATTRIBUTE,
            Self::Repeated => update::MALFORMED_ATTRIBUTE_LIST,
            Self::UnrecognizedWellKnown => update::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
            Self::Value => update::INVALID_ORIGIN_ATTRIBUTE,
            Self::AsPath | Self::AsSet | Self::Confederation | Self::AsZero => {
                update::MALFORMED_AS_PATH
            }
            Self::NextHop => update::INVALID_NEXT_HOP_ATTRIBUTE,
            Self::NotFromThisPeer
            | Self::Mismatch
            | Self::FamilyNotNegotiated(_)
            | Self::Multiprotocol
            | Self::NotUnicast(_) => update::OPTIONAL_ATTRIBUTE_ERROR,
        }
    }
}

/// The reason why an UPDATE can't be encoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The attributes leave no room for a prefix.
    #[error(
        "attributes of {length} octets leave no room for a prefix in a message of {max_length} \
         octets"
    )]
    AttributesTooLong {
        /// The length of the attributes in octets.
        length: usize,
        /// The longest message in octets.
        max_length: usize,
    },
    /// The next hop is unsupported for the family.
    #[error("{next_hop} can't be the next hop of {family} routes")]
    NextHop {
        /// The family of the routes.
        family: Family,
        /// The next hop.
        next_hop: super::NextHop,
    },
    /// A family other than IPv4 and IPv6 unicast.
    #[error("{0} routes can't be encoded: only IPv4 and IPv6 unicast are supported")]
    Family(Family),
}
