//! Capabilities (RFC 5492).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use nom::Parser;
use nom::combinator::all_consuming;
use nom::number::complete::{be_u8, be_u16, be_u32};

use super::Parsed;
use super::asn::Asn;
use super::error::DecodeError;
use super::family::{Afi, Family, Safi};

/// Code of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapabilityCode(pub u8);

impl CapabilityCode {
    /// RFC 4760 §8.
    pub const MULTIPROTOCOL: Self = Self(1);
    /// RFC 2918 §2.
    pub const ROUTE_REFRESH: Self = Self(2);
    /// RFC 6793 §3.
    pub const FOUR_OCTET_ASN: Self = Self(65);
}

/// Something a speaker can do, told in its OPEN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Exchanges routes of a family (RFC 4760 §8).
    Multiprotocol(Family),
    /// Advertises its routes again when asked (RFC 2918 §2).
    RouteRefresh,
    /// Has this AS number and reads four-octet ones (RFC 6793 §3).
    FourOctetAsn(Asn),
    /// Any other.
    Unknown {
        /// Its code.
        code: CapabilityCode,
        /// Its value, at most 255 octets.
        value: Bytes,
    },
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multiprotocol(family) => write!(f, "{family}"),
            Self::RouteRefresh => f.write_str("route refresh"),
            Self::FourOctetAsn(asn) => write!(f, "four-octet AS {asn}"),
            Self::Unknown { code, .. } => write!(f, "capability {}", code.0),
        }
    }
}

impl Capability {
    /// The code on the wire.
    pub fn code(&self) -> CapabilityCode {
        match self {
            Self::Multiprotocol(_) => CapabilityCode::MULTIPROTOCOL,
            Self::RouteRefresh => CapabilityCode::ROUTE_REFRESH,
            Self::FourOctetAsn(_) => CapabilityCode::FOUR_OCTET_ASN,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Appends code, length and value. A value of more than 255 octets cannot be said and
    /// appends nothing.
    pub(super) fn put(&self, buffer: &mut BytesMut) {
        let mut value = BytesMut::new();
        match self {
            Self::Multiprotocol(Family { afi, safi }) => {
                value.put_u16(afi.0);
                value.put_u8(0);
                value.put_u8(safi.0);
            }
            Self::RouteRefresh => {}
            Self::FourOctetAsn(asn) => value.put_u32(asn.0),
            Self::Unknown { value: octets, .. } => value.put_slice(octets),
        }
        if let Ok(length) = u8::try_from(value.len()) {
            buffer.put_u8(self.code().0);
            buffer.put_u8(length);
            buffer.put_slice(&value);
        }
    }

    /// Reads a value, all of it and nothing beyond. A capability we know with a length that isn't
    /// its own is malformed (RFC 4271 §6.2).
    pub(super) fn decode(code: CapabilityCode, value: &[u8]) -> Result<Self, DecodeError> {
        fn family(input: &[u8]) -> Parsed<'_, Family> {
            (be_u16, be_u8, be_u8)
                .map(|(afi, _reserved, safi)| Family {
                    afi: Afi(afi),
                    safi: Safi(safi),
                })
                .parse(input)
        }
        let malformed = |_: nom::Err<()>| DecodeError::MalformedOpen;
        match code {
            CapabilityCode::MULTIPROTOCOL => {
                let (_, family) = all_consuming(family).parse(value).map_err(malformed)?;
                Ok(Self::Multiprotocol(family))
            }
            CapabilityCode::ROUTE_REFRESH if value.is_empty() => Ok(Self::RouteRefresh),
            CapabilityCode::ROUTE_REFRESH => Err(DecodeError::MalformedOpen),
            CapabilityCode::FOUR_OCTET_ASN => {
                let (_, asn) = all_consuming(be_u32).parse(value).map_err(malformed)?;
                Ok(Self::FourOctetAsn(Asn(asn)))
            }
            code => Ok(Self::Unknown {
                code,
                value: Bytes::copy_from_slice(value),
            }),
        }
    }
}
