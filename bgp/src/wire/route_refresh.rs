//! The ROUTE-REFRESH message (RFC 2918).

use bytes::{BufMut, Bytes, BytesMut};

use super::codes::MessageType;
use super::family::{Afi, Family, Safi};
use super::{HEADER_LENGTH, put_header};

/// A request to advertise a family again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// What to advertise again.
    pub family: Family,
    /// Zero for a request; other values belong to RFC 7313 and are ignored without it.
    pub subtype: u8,
}

impl RouteRefresh {
    /// Length of the body in octets (RFC 2918 §3).
    pub(super) const BODY_LENGTH: usize = 4;

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

    /// Reads a body of exactly four octets.
    pub(super) fn decode(body: [u8; Self::BODY_LENGTH]) -> Self {
        let [high, low, subtype, safi] = body;
        let family = Family {
            afi: Afi(u16::from_be_bytes([high, low])),
            safi: Safi(safi),
        };
        Self { family, subtype }
    }
}
