//! The ROUTE-REFRESH message (RFC 2918, RFC 7313).

use bytes::{BufMut, Bytes, BytesMut};

use super::codes::MessageType;
use super::error::DecodeError;
use super::family::{Afi, Family, Safi};
use super::{HEADER_LENGTH, put_header};

/// A request to advertise the routes of a family again, or the beginning or end of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// The family.
    pub family: Family,
    /// One of the constants below. Others are ignored (RFC 7313 §5); without enhanced route
    /// refresh, all except requests are.
    pub subtype: u8,
}

impl RouteRefresh {
    /// Route refresh request (RFC 2918 §3).
    pub const REQUEST: u8 = 0;
    /// Beginning of route refresh, BoRR (RFC 7313 §3.2).
    pub const BEGIN: u8 = 1;
    /// End of route refresh, EoRR (RFC 7313 §3.2).
    pub const END: u8 = 2;

    /// The length of the body in octets (RFC 2918 §3).
    const BODY_LENGTH: usize = 4;

    /// Encodes the message.
    pub fn encode(&self) -> Bytes {
        let length = HEADER_LENGTH + Self::BODY_LENGTH;
        let mut message = BytesMut::with_capacity(length);
        put_header(&mut message, length, MessageType::ROUTE_REFRESH);
        message.put_u16(self.family.afi.0);
        message.put_u8(self.subtype);
        message.put_u8(self.family.safi.0);
        message.freeze()
    }

    /// Decodes a whole message, header included. A wrong length is Invalid Message Length of
    /// ROUTE-REFRESH for BoRR and EoRR (RFC 7313 §5), Bad Message Length for a request
    /// (RFC 4271 §6.1), and no error for an unknown subtype, which is ignored.
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
