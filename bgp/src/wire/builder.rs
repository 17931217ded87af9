//! UPDATEs as large as they may be (RFC 4271 §4.3, RFC 4760, RFC 7606 §5.1).

use bytes::{BufMut, Bytes, BytesMut};
use ipnet::IpNet;

use super::attribute::{AttributeFlags, AttributeType, PathAttributes};
use super::attribute_encode::{encode_attributes, put_attribute_header};
use super::codes::MessageType;
use super::error::EncodeError;
use super::family::Family;
use super::next_hop::NextHop;
use super::{HEADER_LENGTH, MAX_LENGTH, nlri, put_header};

/// Octets of an UPDATE without routes and attributes (RFC 4271 §4.3).
const EMPTY_UPDATE_LENGTH: usize = HEADER_LENGTH + 4;
/// Octets of MP_REACH_NLRI before its prefixes: family, a next hop of two addresses and its length,
/// and the reserved octet (RFC 4760 §3, RFC 2545 §3).
const LONGEST_PREAMBLE: usize = 3 + 1 + 32 + 1;

/// What writing UPDATEs depends on besides the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodeContext {
    /// AS numbers in AS_PATH and AGGREGATOR have four octets (RFC 6793).
    pub four_octet_asn: bool,
    /// Octets a message may have.
    pub max_length: usize,
}

/// For a peer that reads four-octet AS numbers and messages of the usual length.
impl Default for EncodeContext {
    fn default() -> Self {
        Self {
            four_octet_asn: true,
            max_length: MAX_LENGTH,
        }
    }
}

/// The field that the prefixes go into. Never two of them in one message (RFC 7606 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Nlri,
    Withdrawn,
    MpReach,
    MpUnreach,
}

/// Packs prefixes into UPDATEs.
///
/// The attributes are encoded once. `push` prefixes until it says that the message is full,
/// `finish` it, and go on pushing for the next one with the same attributes.
#[derive(Clone, Debug)]
pub struct UpdateBuilder {
    family: Family,
    field: Field,
    /// The attributes but for the one that carries the prefixes.
    attributes: BytesMut,
    /// What precedes the prefixes inside MP_REACH_NLRI or MP_UNREACH_NLRI.
    preamble: BytesMut,
    /// The prefixes of the message under way, and octets to write more to.
    prefixes: Vec<u8>,
    /// Octets of `prefixes` that have been written.
    used: usize,
    /// Octets that may be written.
    room: usize,
}

impl UpdateBuilder {
    /// Announces prefixes of `family`: IPv4 in the NLRI field, IPv6 in MP_REACH_NLRI, which comes
    /// first. So do IPv4 prefixes with an IPv6 next hop, for peers with which that was agreed
    /// (RFC 8950 §3). Communities are sorted and sent once each; `attributes.next_hop` is ignored.
    ///
    /// # Errors
    /// [`EncodeError`] if not one prefix can be announced this way.
    pub fn announce(
        family: Family,
        attributes: &PathAttributes,
        next_hop: &NextHop,
        context: &EncodeContext,
    ) -> Result<Self, EncodeError> {
        let mut preamble = BytesMut::with_capacity(LONGEST_PREAMBLE);
        let (field, next_hop_attribute) = match (family, *next_hop) {
            (Family::IPV4_UNICAST, NextHop::V4(address)) => (Field::Nlri, Some(address)),
            (Family::IPV4_UNICAST | Family::IPV6_UNICAST, NextHop::V6 { global, link_local }) => {
                put_family(&mut preamble, family);
                preamble.put_u8(if link_local.is_some() { 32 } else { 16 });
                preamble.put_slice(&global.octets());
                if let Some(link_local) = link_local {
                    preamble.put_slice(&link_local.octets());
                }
                // Reserved (RFC 4760 §3).
                preamble.put_u8(0);
                (Field::MpReach, None)
            }
            (Family::IPV6_UNICAST, next_hop) => {
                return Err(EncodeError::NextHop { family, next_hop });
            }
            (family, _) => return Err(EncodeError::Family(family)),
        };
        let attributes = encode_attributes(attributes, next_hop_attribute, context.four_octet_asn);
        Self::new(family, field, attributes, preamble, context)
    }

    /// Withdraws prefixes of `family`: IPv4 in the withdrawn field, IPv6 in MP_UNREACH_NLRI.
    ///
    /// # Errors
    /// [`EncodeError`] if the family is not IP unicast, or not one prefix fits.
    pub fn withdraw(family: Family, context: &EncodeContext) -> Result<Self, EncodeError> {
        let mut preamble = BytesMut::new();
        let field = match family {
            Family::IPV4_UNICAST => Field::Withdrawn,
            Family::IPV6_UNICAST => {
                put_family(&mut preamble, family);
                Field::MpUnreach
            }
            family => return Err(EncodeError::Family(family)),
        };
        Self::new(family, field, BytesMut::new(), preamble, context)
    }

    fn new(
        family: Family,
        field: Field,
        attributes: BytesMut,
        preamble: BytesMut,
        context: &EncodeContext,
    ) -> Result<Self, EncodeError> {
        // No length field of a message can say more.
        let max_length = context.max_length.min(u16::MAX.into());
        // Room for the long form of the MP attribute's header, even where it ends up short.
        let length = attributes.len()
            + if preamble.is_empty() {
                0
            } else {
                4 + preamble.len()
            };
        let longest_prefix = if family == Family::IPV4_UNICAST {
            5
        } else {
            17
        };
        let room = max_length
            .checked_sub(EMPTY_UPDATE_LENGTH + length)
            .filter(|&room| room >= longest_prefix)
            .ok_or(EncodeError::AttributesTooLong { length, max_length })?;
        Ok(Self {
            family,
            field,
            attributes,
            preamble,
            prefixes: vec![0; room.min(MAX_LENGTH) + nlri::LONGEST_PREFIX],
            used: 0,
            room,
        })
    }

    /// Adds a prefix, host bits cleared; false if the message is full and it was not added.
    ///
    /// A prefix of another family than the builder's is a mistake of the caller's: debug builds
    /// panic, others leave it out.
    pub fn push(&mut self, prefix: &IpNet) -> bool {
        if Family::of(prefix) != self.family {
            debug_assert!(false, "{prefix} pushed among {} prefixes", self.family);
            return true;
        }
        match prefix {
            // Single addresses are the most usual and have no host bits.
            IpNet::V4(prefix) if prefix.prefix_len() == 32 => self.put(32, prefix.addr().octets()),
            IpNet::V6(prefix) if prefix.prefix_len() == 128 => {
                self.put(128, prefix.addr().octets())
            }
            prefix => self.push_network(prefix),
        }
    }

    #[inline(never)]
    fn push_network(&mut self, prefix: &IpNet) -> bool {
        match prefix {
            IpNet::V4(prefix) => self.put(prefix.prefix_len(), prefix.network().octets()),
            IpNet::V6(prefix) => self.put(prefix.prefix_len(), prefix.network().octets()),
        }
    }

    /// The address is written whole, since a number of octets that the compiler doesn't know takes
    /// longer. The next prefix goes over those that are too many.
    #[inline]
    fn put<const N: usize>(&mut self, length: u8, address: [u8; N]) -> bool {
        let end = self.used + nlri::encoded_length(length);
        if end > self.room {
            return false;
        }
        let free = self.prefixes.get_mut(self.used..).unwrap_or_default();
        let free = free.split_first_mut();
        let Some((first, Some(rest))) = free.map(|(first, rest)| (first, rest.first_chunk_mut()))
        else {
            return self.put_beyond(length, address);
        };
        (*first, *rest) = (length, address);
        self.used = end;
        true
    }

    /// Goes on in a message of more than the usual length.
    #[cold]
    fn put_beyond<const N: usize>(&mut self, length: u8, address: [u8; N]) -> bool {
        self.prefixes.resize(self.room + nlri::LONGEST_PREFIX, 0);
        self.put(length, address)
    }

    /// Whether nothing was pushed since the last message.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The message, and the builder empty again. No octets if nothing was pushed, because an
    /// UPDATE without prefixes would be an End-of-RIB.
    pub fn finish(&mut self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        let prefixes = &self.prefixes[..self.used];
        let length = EMPTY_UPDATE_LENGTH + self.attributes.len() + prefixes.len();
        let message = match self.field {
            Field::Nlri => {
                let mut message = update(length, &[], self.attributes.len());
                message.put_slice(&self.attributes);
                message.put_slice(prefixes);
                message
            }
            Field::Withdrawn => update(length, prefixes, 0),
            Field::MpReach => self.multiprotocol(AttributeType::MP_REACH_NLRI, prefixes),
            Field::MpUnreach => self.multiprotocol(AttributeType::MP_UNREACH_NLRI, prefixes),
        };
        self.used = 0;
        message.freeze()
    }

    /// The message with the prefixes inside an attribute.
    fn multiprotocol(&self, code: AttributeType, prefixes: &[u8]) -> BytesMut {
        let value_length = self.preamble.len() + prefixes.len();
        let header_length = if value_length > u8::MAX.into() { 4 } else { 3 };
        let attributes_length = header_length + value_length + self.attributes.len();
        let mut message = update(
            EMPTY_UPDATE_LENGTH + attributes_length,
            &[],
            attributes_length,
        );
        let flags = AttributeFlags(AttributeFlags::OPTIONAL);
        put_attribute_header(&mut message, flags, code, value_length);
        message.put_slice(&self.preamble);
        message.put_slice(prefixes);
        message.put_slice(&self.attributes);
        message
    }
}

/// An UPDATE up to its attributes, with capacity for the rest.
fn update(length: usize, withdrawn: &[u8], attributes_length: usize) -> BytesMut {
    let mut message = BytesMut::with_capacity(length);
    put_header(&mut message, length, MessageType::UPDATE);
    // Neither is longer than the message, whose length has two octets.
    message.put_u16(u16::try_from(withdrawn.len()).unwrap_or(u16::MAX));
    message.put_slice(withdrawn);
    message.put_u16(u16::try_from(attributes_length).unwrap_or(u16::MAX));
    message
}

fn put_family(buffer: &mut BytesMut, family: Family) {
    buffer.put_u16(family.afi.0);
    buffer.put_u8(family.safi.0);
}

/// The message that says that everything of a family was sent (RFC 4724 §2).
pub fn end_of_rib(family: Family) -> Bytes {
    if family == Family::IPV4_UNICAST {
        return update(EMPTY_UPDATE_LENGTH, &[], 0).freeze();
    }
    let mut message = update(EMPTY_UPDATE_LENGTH + 6, &[], 6);
    let flags = AttributeFlags(AttributeFlags::OPTIONAL);
    put_attribute_header(&mut message, flags, AttributeType::MP_UNREACH_NLRI, 3);
    put_family(&mut message, family);
    message.freeze()
}

#[cfg(test)]
mod tests;
