//! Octets to messages and back (RFC 4271 §4, §6). Pure: no session, no clock, no socket.
//!
//! * Reading: a [`Framer`] is fed whatever arrives and gives [`Message`]s. An error that ends the
//!   session is a [`DecodeError`], which knows its [`Notification`]. Errors in attributes that the
//!   session survives are values in [`Update::errors`] (RFC 7606).
//! * Writing: OPEN, NOTIFICATION and ROUTE-REFRESH have `encode`, [`keepalive`] and
//!   [`end_of_rib`] are whole messages, and an [`UpdateBuilder`] packs as many prefixes of one
//!   attribute set into a message as fit.
//!
//! Unknown code points are values. Nothing received makes this module allocate more than a small
//! multiple of its own length.

mod agreement;
mod as_path;
mod asn;
mod attribute;
mod attribute_decode;
mod attribute_encode;
mod attribute_table;
mod builder;
mod capability;
mod codes;
mod community;
mod error;
mod extended_community;
mod family;
mod framer;
mod hold_time;
mod next_hop;
mod nlri;
mod notification;
mod open;
mod route_refresh;
mod update;

pub use agreement::{Agreement, RestartAgreement};
pub use as_path::AsPath;
pub use asn::Asn;
pub use attribute::{
    Aggregator, AttributeFlags, AttributeType, Origin, PathAttributes, UnknownAttribute,
};
pub use builder::{EncodeContext, UpdateBuilder, end_of_rib};
pub use capability::{
    AddPath, Capability, CapabilityCode, ExtendedNextHop, GracefulRestartCapability,
};
pub use codes::{ErrorCode, MessageType, subcode};
pub use community::{Community, CommunityParseError, LargeCommunity};
pub use error::{
    AttributeError, AttributeErrorKind, BGP_VERSION, DecodeError, EncodeError, Treatment,
};
pub use extended_community::{
    ExtendedCommunity, Ipv6ExtendedCommunity, LinkBandwidth, NotLinkBandwidth,
};
pub use family::{Afi, Family, Safi};
pub use framer::{DecodeContext, Framer};
pub use hold_time::{HoldTime, InvalidHoldTime};
pub use next_hop::NextHop;
pub use notification::Notification;
pub use open::Open;
pub use route_refresh::RouteRefresh;
pub use update::{MpReach, MpUnreach, Update};

use bytes::{BufMut, Bytes};

/// Octets of a message's header (RFC 4271 §4.1).
pub const HEADER_LENGTH: usize = 19;
/// Octets of the longest message (RFC 4271 §4.1).
pub const MAX_LENGTH: usize = 4096;
/// Octets of the longest message once both sides agreed on it (RFC 8654 §4).
pub const MAX_EXTENDED_LENGTH: usize = 65_535;

const MARKER: [u8; 16] = [0xff; 16];

/// What the parsers here give; what went wrong is decided where they are called.
type Parsed<'a, T> = nom::IResult<&'a [u8], T, ()>;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Introduces the speaker.
    Open(Open),
    /// Announces and withdraws routes.
    Update(Update),
    /// Ends the session.
    Notification(Notification),
    /// Shows that the speaker is alive.
    Keepalive,
    /// Asks for routes to be advertised again.
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// Its type on the wire.
    pub fn kind(&self) -> MessageType {
        match self {
            Self::Open(_) => MessageType::OPEN,
            Self::Update(_) => MessageType::UPDATE,
            Self::Notification(_) => MessageType::NOTIFICATION,
            Self::Keepalive => MessageType::KEEPALIVE,
            Self::RouteRefresh(_) => MessageType::ROUTE_REFRESH,
        }
    }
}

/// A whole KEEPALIVE (RFC 4271 §4.4).
pub fn keepalive() -> Bytes {
    const KEEPALIVE: [u8; HEADER_LENGTH] = [
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 19, 4,
    ];
    Bytes::from_static(&KEEPALIVE)
}

/// Appends a header. `length` counts the whole message.
fn put_header(buffer: &mut impl BufMut, length: usize, kind: MessageType) {
    buffer.put_slice(&MARKER);
    // Every encoder keeps below its own limit, which fits.
    buffer.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    buffer.put_u8(kind.0);
}
