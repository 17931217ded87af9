//! What can be wrong with received octets, and what follows from it (RFC 4271 §6, RFC 7606).

use std::fmt;
use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::asn::Asn;
use super::attribute::AttributeType;
use super::capability::Capability;
use super::codes::{ErrorCode, MessageType, subcode};
use super::family::Family;
use super::notification::Notification;

/// The version of BGP spoken here.
pub const BGP_VERSION: u8 = 4;

/// An error that ends the session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The 16 marker octets are not all ones.
    #[error("the message header's marker is not all ones")]
    NotSynchronized,
    /// The header's length is outside what BGP or the message's type allows.
    #[error("{kind} cannot be {length} octets long")]
    BadLength {
        /// Type in the same header.
        kind: MessageType,
        /// The length field.
        length: u16,
    },
    /// The header's type is none we know.
    #[error("message type {0} is unknown")]
    BadType(u8),
    /// ROUTE-REFRESH that says where routes begin or end, and isn't as long as that takes. This is
    /// all of it (RFC 7313 §5).
    #[error("ROUTE-REFRESH cannot be {} octets long", .0.len())]
    RouteRefreshLength(Bytes),
    /// OPEN of another version.
    #[error("BGP version {0} is not supported")]
    UnsupportedVersion(u8),
    /// OPEN from another AS than the configured one, from AS 0, or naming two.
    #[error("the OPEN comes from AS {received}, not from {}", Expected(.expected))]
    BadPeerAs {
        /// The AS in the OPEN.
        received: Asn,
        /// The AS it should be; none where any would do.
        expected: Option<Asn>,
    },
    /// OPEN with router id 0.0.0.0, or with our own one inside our AS (RFC 6286 §2.2).
    #[error("router id {0} is not acceptable")]
    BadRouterId(Ipv4Addr),
    /// OPEN with a parameter that is not a list of capabilities.
    #[error("optional parameter {0} is not supported")]
    UnsupportedParameter(u8),
    /// OPEN whose optional parameters or capabilities don't fit into each other.
    #[error("the OPEN's optional parameters are malformed")]
    MalformedOpen,
    /// OPEN with a hold time of one or two seconds.
    #[error("a hold time of {0} s is not acceptable")]
    UnacceptableHoldTime(u16),
    /// OPEN without capabilities we cannot do without; these are they.
    #[error("the peer lacks capabilities that we need: {}", Listed(.0))]
    MissingCapability(Vec<Capability>),
    /// UPDATE whose length fields contradict each other, or with a second MP attribute.
    #[error("the UPDATE's attribute list is malformed")]
    MalformedAttributeList,
    /// UPDATE with a prefix that is too long or cut off in the withdrawn or NLRI field.
    #[error("the UPDATE has a prefix that cannot be delimited")]
    InvalidNetwork,
    /// An attribute error that leaves no way to tell which routes it is about
    /// (RFC 7606 §3 (j), §5.2, §5.3).
    #[error("{attribute} {kind}")]
    Attribute {
        /// The attribute.
        attribute: AttributeType,
        /// What is wrong with it.
        kind: AttributeErrorKind,
        /// The attribute as received, as far as it was received.
        octets: Bytes,
    },
}

/// Prints what AS was expected.
struct Expected<'a>(&'a Option<Asn>);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(asn) => write!(f, "AS {asn}"),
            None => f.write_str("one valid AS"),
        }
    }
}

/// Prints capabilities with commas between.
struct Listed<'a>(&'a [Capability]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, capability) in self.0.iter().enumerate() {
            write!(f, "{}{capability}", if position > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl DecodeError {
    /// What to tell the other side before closing.
    pub fn notification(&self) -> Notification {
        use subcode::{header, open, update};
        let header_error = |subcode| Notification::new(ErrorCode::MESSAGE_HEADER, subcode);
        let open_error = |subcode| Notification::new(ErrorCode::OPEN, subcode);
        let update_error = |subcode| Notification::new(ErrorCode::UPDATE, subcode);
        match self {
            Self::NotSynchronized => header_error(header::CONNECTION_NOT_SYNCHRONIZED),
            Self::BadLength { length, .. } => {
                header_error(header::BAD_MESSAGE_LENGTH).with_data(length.to_be_bytes().to_vec())
            }
            Self::BadType(kind) => header_error(header::BAD_MESSAGE_TYPE).with_data(vec![*kind]),
            Self::RouteRefreshLength(message) => Notification::new(
                ErrorCode::ROUTE_REFRESH,
                subcode::route_refresh::INVALID_MESSAGE_LENGTH,
            )
            .with_data(message.clone()),
            Self::UnsupportedVersion(_) => {
                open_error(open::UNSUPPORTED_VERSION_NUMBER).with_data(vec![0, BGP_VERSION])
            }
            Self::BadPeerAs { .. } => open_error(open::BAD_PEER_AS),
            Self::BadRouterId(_) => open_error(open::BAD_BGP_IDENTIFIER),
            Self::UnsupportedParameter(_) => open_error(open::UNSUPPORTED_OPTIONAL_PARAMETER),
            Self::MalformedOpen => open_error(0),
            Self::UnacceptableHoldTime(_) => open_error(open::UNACCEPTABLE_HOLD_TIME),
            Self::MissingCapability(capabilities) => {
                let mut data = BytesMut::new();
                capabilities
                    .iter()
                    .for_each(|capability| capability.put(&mut data));
                open_error(open::UNSUPPORTED_CAPABILITY).with_data(data)
            }
            Self::MalformedAttributeList => update_error(update::MALFORMED_ATTRIBUTE_LIST),
            Self::InvalidNetwork => update_error(update::INVALID_NETWORK_FIELD),
            Self::Attribute {
                attribute,
                kind,
                octets,
            } => {
                let data = match kind {
                    AttributeErrorKind::Missing => Bytes::copy_from_slice(&[attribute.0]),
                    _ if kind.subcode() == update::MALFORMED_AS_PATH => Bytes::new(),
                    _ => octets.clone(),
                };
                update_error(kind.subcode()).with_data(data)
            }
        }
    }
}

/// What to do about an attribute error that doesn't end the session, weakest first (RFC 7606 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Treatment {
    /// The attribute (or what `attribute: None` speaks of) is left out, the rest is used.
    Discard,
    /// Every route in the UPDATE counts as withdrawn.
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
    /// The attribute; none where the error is not in one.
    pub attribute: Option<AttributeType>,
    /// What is wrong.
    pub kind: AttributeErrorKind,
    /// What was done about it.
    pub treatment: Treatment,
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attribute {
            Some(attribute) => write!(f, "{attribute} {}: {}", self.kind, self.treatment),
            None => write!(f, "{}: {}", self.kind, self.treatment),
        }
    }
}

/// What can be wrong with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum AttributeErrorKind {
    /// Optional or Transitive bit against the attribute's definition (RFC 7606 §3 (c)).
    #[error("has the wrong flags")]
    Flags,
    /// A length its definition doesn't allow (RFC 7606 §7).
    #[error("has the wrong length")]
    Length,
    /// The attributes run past their field, or end in an incomplete one (RFC 7606 §4).
    #[error("runs past the end of the attributes")]
    Overrun,
    /// Mandatory and not there (RFC 7606 §3 (d)).
    #[error("is missing")]
    Missing,
    /// There more than once; the first counts (RFC 7606 §3 (g)).
    #[error("is repeated")]
    Repeated,
    /// Marked well-known, and not known (RFC 4271 §6.3).
    #[error("claims to be well-known")]
    UnrecognizedWellKnown,
    /// A value that has no meaning (ORIGIN, RFC 7606 §7.1).
    #[error("has an undefined value")]
    Value,
    /// Segments of unknown type or running past the end (RFC 7606 §7.2).
    #[error("has malformed segments")]
    AsPath,
    /// An AS_SET or AS_CONFED_SET (RFC 9774).
    #[error("has an AS_SET")]
    AsSet,
    /// Confederation segments from outside any confederation of ours (RFC 5065 §5).
    #[error("has confederation segments")]
    Confederation,
    /// AS 0 (RFC 7607 §2).
    #[error("has AS 0")]
    AsZero,
    /// A next hop no packet can be sent to (RFC 4271 §6.3).
    #[error("has a next hop that is no host address")]
    NextHop,
    /// Not allowed from this kind of peer (RFC 7606 §7.5, §7.9, §7.10; RFC 6793 §4.1).
    #[error("is not for this kind of peer to send")]
    NotFromThisPeer,
    /// AS4_PATH with more hops than AS_PATH, or beside an AGGREGATOR that makes it void
    /// (RFC 6793 §4.2.3).
    #[error("doesn't match its two-octet counterpart")]
    Mismatch,
    /// Of a family that was not negotiated (RFC 4760 §6).
    #[error("is of {0}, which was not negotiated")]
    FamilyNotNegotiated(Family),
    /// MP_REACH_NLRI or MP_UNREACH_NLRI that cannot be taken apart (RFC 7606 §5.3).
    #[error("cannot be taken apart")]
    Multiprotocol,
    /// Prefixes no host can have, multicast or reserved; this many were left out.
    #[error("{0} prefixes are not unicast")]
    NotUnicast(u16),
}

impl AttributeErrorKind {
    /// The subcode of 3 under which the error is told where it ends the session.
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

/// Why an UPDATE cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The attributes leave no room for a prefix.
    #[error(
        "attributes of {length} octets leave no room for a prefix in a message of {max_length}"
    )]
    AttributesTooLong {
        /// Length of the attributes in octets.
        length: usize,
        /// Largest message in octets.
        max_length: usize,
    },
    /// The next hop cannot carry routes of the family.
    #[error("{family} routes cannot have {next_hop} as next hop")]
    NextHop {
        /// Family of the routes.
        family: Family,
        /// The next hop.
        next_hop: super::NextHop,
    },
    /// A family whose prefixes are not IP unicast.
    #[error("{0} routes cannot be encoded")]
    Family(Family),
}
