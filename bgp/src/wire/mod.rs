//! The codec: decodes and encodes BGP messages (RFC 4271 §4, §6). It has no session state, no clock
//! and no sockets.
//!
//! * Decoding: a [`Framer`] turns received octets into [`Message`]s. An error that ends the session
//!   is a [`DecodeError`], from which the [`Notification`] follows. Attribute errors that the
//!   session survives are in [`Update::errors`] (RFC 7606).
//! * Encoding: OPEN, NOTIFICATION and ROUTE-REFRESH have `encode`; [`keepalive`] and [`end_of_rib`]
//!   are whole messages; an [`UpdateBuilder`] packs prefixes with the same attributes into UPDATEs.
//! * Negotiation: [`Agreement`] combines two OPENs into the parameters of the session, codec
//!   contexts included.
//! * Each path attribute has one row in `attribute_table.rs`.
//!
//! Unknown code points are values, not errors. Decoding allocates at most a small multiple of the
//! length of the input.

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
mod context;
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
    Aggregator, AttributeFlags, MpReach, MpUnreach, Origin, PathAttributes, UnknownAttribute,
};
pub use builder::{UpdateBuilder, end_of_rib};
pub use capability::{
    AddPath, Capability, CapabilityCode, ExtendedNextHop, GracefulRestartCapability,
};
pub use codes::{AttributeType, ErrorCode, MessageType, subcode};
pub use community::{Community, CommunityParseError, LargeCommunity};
pub use context::{DecodeContext, EncodeContext};
pub use error::{
    AttributeError, AttributeErrorKind, BGP_VERSION, DecodeError, EncodeError, Treatment,
};
pub use extended_community::{
    ExtendedCommunity, Ipv6ExtendedCommunity, LinkBandwidth, NotLinkBandwidth,
};
pub use family::{Afi, Family, Safi};
pub use framer::Framer;
pub use hold_time::{HoldTime, InvalidHoldTime, KEEPALIVE_TIME_MIN};
pub use next_hop::NextHop;
pub use notification::Notification;
pub use open::Open;
pub use route_refresh::RouteRefresh;
pub use update::Update;

use bytes::{BufMut, Bytes};

/// The length of the message header in octets (RFC 4271 §4.1).
pub const HEADER_LENGTH: usize = 19;
/// The longest message in octets (RFC 4271 §4.1).
pub const MAX_LENGTH: usize = 4096;
/// The longest message in octets with the extended message capability (RFC 8654 §4).
pub const MAX_EXTENDED_LENGTH: usize = 65_535;

const MARKER: [u8; 16] = [0xff; 16];

/// The result of a parser. Callers choose the error.
type Parsed<'a, T> = nom::IResult<&'a [u8], T, ()>;

/// A BGP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Starts a session and carries the capabilities.
    Open(Open),
    /// Announces and withdraws routes.
    Update(Update),
    /// Ends the session with an error.
    Notification(Notification),
    /// Keeps the session alive.
    Keepalive,
    /// Requests the routes of a family again, or marks the beginning or end of a refresh.
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// The message type.
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

/// A KEEPALIVE message (RFC 4271 §4.4).
pub fn keepalive() -> Bytes {
    const KEEPALIVE: [u8; HEADER_LENGTH] = [
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 19, 4,
    ];
    Bytes::from_static(&KEEPALIVE)
}

/// Appends a message header. `length` is that of the whole message.
fn put_header(buffer: &mut impl BufMut, length: usize, kind: MessageType) {
    buffer.put_slice(&MARKER);
    // Every encoder limits its messages to 65,535 octets.
    buffer.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    buffer.put_u8(kind.0);
}
