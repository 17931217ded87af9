//! The OPEN message (RFC 4271 §4.2).

use std::net::Ipv4Addr;

use bytes::{BufMut, Bytes, BytesMut};
use nom::Parser;
use nom::bytes::complete::take;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32};

use super::asn::Asn;
use super::capability::{Capability, CapabilityCode, ExtendedNextHop, GracefulRestartCapability};
use super::codes::MessageType;
use super::error::{BGP_VERSION, DecodeError};
use super::family::Family;
use super::{HEADER_LENGTH, MAX_LENGTH, Parsed, put_header};

/// The optional parameter with capabilities (RFC 5492 §4).
const CAPABILITIES_PARAMETER: u8 = 2;
/// In place of the first parameter's type: the lengths have two octets (RFC 9072 §2).
const EXTENDED_PARAMETERS: u8 = 255;
/// Octets between the header and the optional parameters, their length included.
const FIXED_LENGTH: usize = 10;

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// The BGP version: four.
    pub version: u8,
    /// The AS number in two octets; [`Asn::TRANS`] if it needs four.
    pub asn: u16,
    /// The proposed hold time in seconds; zero disables the hold timer.
    pub hold_time: u16,
    /// The BGP identifier: any number except zero (RFC 6286 §2.1).
    pub router_id: Ipv4Addr,
    /// The capabilities in the order sent.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// An OPEN with the capabilities of every session: the families, route refresh and four-octet
    /// AS numbers.
    pub fn new(asn: Asn, hold_time: u16, router_id: Ipv4Addr, families: &[Family]) -> Self {
        let mut capabilities: Vec<_> = families
            .iter()
            .copied()
            .map(Capability::Multiprotocol)
            .collect();
        capabilities.push(Capability::RouteRefresh);
        capabilities.push(Capability::FourOctetAsn(asn));
        Self {
            version: BGP_VERSION,
            asn: asn.two_octet(),
            hold_time,
            router_id,
            capabilities,
        }
    }

    /// Adds a capability.
    pub fn with(mut self, capability: Capability) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// The AS number in the four-octet AS capability (RFC 6793 §4.1).
    pub(super) fn four_octet_asn(&self) -> Option<Asn> {
        self.capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::FourOctetAsn(asn) => Some(*asn),
                _ => None,
            })
    }

    /// The sender's AS number.
    pub(super) fn sender_asn(&self) -> Asn {
        self.four_octet_asn().unwrap_or(self.asn.into())
    }

    /// The graceful restart capability; of several the last (RFC 4724 §3).
    pub(super) fn graceful_restart(&self) -> Option<&GracefulRestartCapability> {
        self.capabilities
            .iter()
            .rev()
            .find_map(|capability| match capability {
                Capability::GracefulRestart(restart) => Some(restart),
                _ => None,
            })
    }

    /// Whether the sender accepts IPv6 next hops for IPv4 unicast routes (RFC 8950 §4).
    pub(super) fn ipv4_next_hop_v6(&self) -> bool {
        self.capabilities.iter().any(|capability| match capability {
            Capability::ExtendedNextHop(list) => list.contains(&ExtendedNextHop::IPV4_OVER_IPV6),
            _ => false,
        })
    }

    /// The offered families without duplicates; IPv4 unicast if there is no multiprotocol
    /// capability (RFC 4760 §8).
    pub fn families(&self) -> Vec<Family> {
        let mut families = Vec::new();
        for capability in &self.capabilities {
            if let Capability::Multiprotocol(family) = capability
                && !families.contains(family)
            {
                families.push(*family);
            }
        }
        if families.is_empty() {
            families.push(Family::IPV4_UNICAST);
        }
        families
    }

    /// Encodes the message, with all capabilities in one parameter, which has the extended form of
    /// RFC 9072 if needed. Capabilities beyond 4096 octets are omitted.
    pub fn encode(&self) -> Bytes {
        let room = MAX_LENGTH - HEADER_LENGTH - FIXED_LENGTH - 6;
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            let before = capabilities.len();
            capability.put(&mut capabilities);
            if capabilities.len() > room {
                capabilities.truncate(before);
            }
        }
        let parameters = parameters(&capabilities);
        let length = HEADER_LENGTH + FIXED_LENGTH - 1 + parameters.len();
        let mut message = BytesMut::with_capacity(length);
        put_header(&mut message, length, MessageType::OPEN);
        message.put_u8(self.version);
        message.put_u16(self.asn);
        message.put_u16(self.hold_time);
        message.put_slice(&self.router_id.octets());
        message.put_slice(&parameters);
        message.freeze()
    }

    /// Decodes a body.
    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        fn fixed(input: &[u8]) -> Parsed<'_, (u8, u16, u16, u32)> {
            (be_u8, be_u16, be_u16, be_u32).parse(input)
        }
        let malformed = |_: nom::Err<()>| DecodeError::MalformedOpen;
        // The format of the rest depends on the version.
        check_version(body.first().copied().unwrap_or(0))?;
        let (tail, (version, asn, hold_time, router_id)) = fixed(body).map_err(malformed)?;
        Ok(Self {
            version,
            asn,
            hold_time,
            router_id: router_id.into(),
            capabilities: decode_parameters(tail)?,
        })
    }
}

pub(super) fn check_version(version: u8) -> Result<(), DecodeError> {
    if version == BGP_VERSION {
        Ok(())
    } else {
        Err(DecodeError::UnsupportedVersion(version))
    }
}

/// The optional parameters, preceded by their length.
fn parameters(capabilities: &[u8]) -> BytesMut {
    let mut parameters = BytesMut::with_capacity(capabilities.len() + 7);
    if capabilities.is_empty() {
        parameters.put_u8(0);
    } else if let (Ok(length), Ok(outer)) = (
        u8::try_from(capabilities.len()),
        u8::try_from(capabilities.len() + 2),
    ) {
        parameters.put_slice(&[outer, CAPABILITIES_PARAMETER, length]);
    } else {
        // Both lengths are below 4096 by the caller's limit.
        let length = u16::try_from(capabilities.len()).unwrap_or(u16::MAX - 3);
        parameters.put_slice(&[EXTENDED_PARAMETERS, EXTENDED_PARAMETERS]);
        parameters.put_u16(length + 3);
        parameters.put_u8(CAPABILITIES_PARAMETER);
        parameters.put_u16(length);
    }
    parameters.put_slice(capabilities);
    parameters
}

/// Decodes the optional parameters, their length included (RFC 4271 §4.2, RFC 9072 §2).
fn decode_parameters(input: &[u8]) -> Result<Vec<Capability>, DecodeError> {
    let malformed = |_: nom::Err<()>| DecodeError::MalformedOpen;
    // RFC 9072 §2: the type 255 marks the extended form; the length before it is nonzero.
    let extended = matches!(input, [length, EXTENDED_PARAMETERS, ..] if *length > 0);
    let field: Parsed<'_, &[u8]> = if extended {
        (take(2usize), length_data(be_u16))
            .map(|(_, field)| field)
            .parse(input)
    } else {
        length_data(be_u8).parse(input)
    };
    let (after, mut field) = field.map_err(malformed)?;
    if !after.is_empty() {
        return Err(DecodeError::MalformedOpen);
    }
    let mut capabilities = Vec::new();
    while !field.is_empty() {
        let parameter: Parsed<'_, (u8, &[u8])> = if extended {
            (be_u8, length_data(be_u16)).parse(field)
        } else {
            (be_u8, length_data(be_u8)).parse(field)
        };
        let (tail, (kind, value)) = parameter.map_err(malformed)?;
        if kind != CAPABILITIES_PARAMETER {
            return Err(DecodeError::UnsupportedParameter(kind));
        }
        capabilities.append(&mut decode_capabilities(value)?);
        field = tail;
    }
    Ok(capabilities)
}

/// Decodes the capabilities of one parameter.
fn decode_capabilities(mut input: &[u8]) -> Result<Vec<Capability>, DecodeError> {
    let mut capabilities = Vec::new();
    while !input.is_empty() {
        let capability: Parsed<'_, (u8, &[u8])> = (be_u8, length_data(be_u8)).parse(input);
        let (tail, (code, value)) = capability.map_err(|_| DecodeError::MalformedOpen)?;
        capabilities.push(Capability::decode(CapabilityCode(code), value)?);
        input = tail;
    }
    Ok(capabilities)
}

#[cfg(test)]
mod tests;
