//! The ROUTE-REFRESH message (RFC 2918), and what RFC 7313 adds to it.

use bytes::{BufMut, Bytes, BytesMut};

use super::codes::MessageType;
use super::error::DecodeError;
use super::family::{Afi, Family, Safi};
use super::{HEADER_LENGTH, put_header};

/// A request to advertise a family again, or where that begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// What to advertise again.
    pub family: Family,
    /// One of the constants here; others are to be ignored (RFC 7313 §5), and without enhanced
    /// route refresh all but a request are.
    pub subtype: u8,
}

impl RouteRefresh {
    /// Subtype of a request (RFC 2918 §3).
    pub const REQUEST: u8 = 0;
    /// Subtype of what comes before the routes: BoRR (RFC 7313 §3.2).
    pub const BEGIN: u8 = 1;
    /// Subtype of what comes after the routes: EoRR (RFC 7313 §3.2).
    pub const END: u8 = 2;

    /// Length of the body in octets (RFC 2918 §3).
    const BODY_LENGTH: usize = 4;

    /// The whole message.
    pub fn encode(&self) -> Bytes {
        let length = HEADER_LENGTH + Self::BODY_LENGTH;
        let mut message = BytesMut::with_capacity(length);
        put_header(&mut message, length, MessageType::ROUTE_REFRESH);
        message.put_u16(self.family.afi.0);
        message.put_u8(self.subtype);
        message.put_u8(self.family.safi.0);
        message.freeze()
    }

    /// Reads a whole message. One of another length is an error of ROUTE-REFRESH itself where it
    /// says where routes begin or end, and is to be ignored with a subtype that is unknown
    /// (RFC 7313 §5); a request of another length has just that (RFC 4271 §6.1).
    pub(super) fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::BadLength {
            kind: MessageType::ROUTE_REFRESH,
            length: u16::try_from(octets.len()).unwrap_or(u16::MAX),
        };
        let body = octets.get(HEADER_LENGTH..).unwrap_or_default();
        let fits = body.len() == Self::BODY_LENGTH;
        match *body {
            [_, _, Self::BEGIN | Self::END, ..] if !fits => Err(DecodeError::RouteRefreshLength(
                Bytes::copy_from_slice(octets),
            )),
            [_, _, Self::REQUEST, ..] if !fits => Err(wrong()),
            [high, low, subtype, safi, ..] => {
                let afi = Afi(u16::from_be_bytes([high, low]));
                let safi = Safi(safi);
                let family = Family { afi, safi };
                Ok(Self { family, subtype })
            }
            _ => Err(wrong()),
        }
    }
}
