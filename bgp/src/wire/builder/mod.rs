//! Packs prefixes into UPDATE messages (RFC 4271 §4.3, RFC 4760, RFC 7606 §5.1).

use std::mem;

use bytes::{BufMut, Bytes, BytesMut};
use ipnet::IpNet;

use super::attribute::{AttributeFlags, PathAttributes};
use super::attribute_encode::put_attribute_header;
use super::attribute_table::encode_attributes;
use super::codes::{AttributeType, MessageType};
use super::context::EncodeContext;
use super::error::EncodeError;
use super::family::Family;
use super::next_hop::NextHop;
use super::{HEADER_LENGTH, MARKER, MAX_LENGTH, nlri, put_header};

/// The length of an UPDATE without routes and attributes, in octets (RFC 4271 §4.3).
const EMPTY_UPDATE_LENGTH: usize = HEADER_LENGTH + 4;
/// The most octets of MP_REACH_NLRI before its prefixes: header, family, length of the next hop, a
/// next hop of two addresses, the reserved octet (RFC 4760 §3, RFC 2545 §3).
const LONGEST_PREAMBLE: usize = 4 + 3 + 1 + 32 + 1;

/// The field with the prefixes. A message has only one of them (RFC 7606 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Nlri,
    Withdrawn,
    MpReach,
    MpUnreach,
}

/// Packs prefixes into UPDATEs.
///
/// The attributes are encoded once. Call `push` until it returns `false`, then `finish` the
/// message, and continue with the next message of the same attributes.
#[derive(Clone, Debug)]
pub struct UpdateBuilder {
    family: Family,
    field: Field,
    /// The octets before the prefixes, with placeholders for the lengths.
    head: BytesMut,
    /// The octets after the prefixes.
    tail: BytesMut,
    /// The current message, zero-filled at its end; empty before its first prefix.
    message: Vec<u8>,
    /// The length written so far, `head` included.
    used: usize,
    /// The most octets before `tail`.
    room: usize,
}

impl UpdateBuilder {
    /// Announces prefixes of `family`: IPv4 in the NLRI field, IPv6 in MP_REACH_NLRI, which is the
    /// first attribute. IPv4 prefixes with an IPv6 next hop are in MP_REACH_NLRI too, for peers
    /// with that capability (RFC 8950 §3). Communities are sorted, without duplicates;
    /// `attributes.next_hop` is ignored.
    ///
    /// # Errors
    /// [`EncodeError`] if the message has no room for a prefix, or the next hop or the family is
    /// unsupported.
    pub fn announce(
        family: Family,
        attributes: &PathAttributes,
        next_hop: &NextHop,
        context: &EncodeContext,
    ) -> Result<Self, EncodeError> {
        let mut head = head();
        let field = match (family, *next_hop) {
            (Family::IPV4_UNICAST, NextHop::V4(_)) => Field::Nlri,
            (Family::IPV4_UNICAST | Family::IPV6_UNICAST, NextHop::V6 { global, link_local }) => {
                put_multiprotocol(&mut head, family);
                head.put_u8(if link_local.is_some() { 32 } else { 16 });
                head.put_slice(&global.octets());
                if let Some(link_local) = link_local {
                    head.put_slice(&link_local.octets());
                }
                // Reserved (RFC 4760 §3).
                head.put_u8(0);
                Field::MpReach
            }
            (Family::IPV6_UNICAST, next_hop) => {
                return Err(EncodeError::NextHop { family, next_hop });
            }
            (family, _) => return Err(EncodeError::Family(family)),
        };
        let next_hop_attribute = match *next_hop {
            NextHop::V4(address) => Some(address),
            NextHop::V6 { .. } => None,
        };
        let attributes = encode_attributes(attributes, next_hop_attribute, context.four_octet_asn);
        if field == Field::MpReach {
            return Self::new(family, field, head, attributes, context);
        }
        head.put_slice(&attributes);
        set_u16(&mut head, HEADER_LENGTH + 2, attributes.len());
        Self::new(family, field, head, BytesMut::new(), context)
    }

    /// Withdraws prefixes of `family`: IPv4 in the withdrawn field, IPv6 in MP_UNREACH_NLRI.
    ///
    /// # Errors
    /// [`EncodeError`] if the family is not IP unicast, or the message has no room for a prefix.
    pub fn withdraw(family: Family, context: &EncodeContext) -> Result<Self, EncodeError> {
        let mut head = head();
        let mut tail = BytesMut::new();
        let field = match family {
            Family::IPV4_UNICAST => {
                // The length of the attributes follows the routes.
                head.truncate(HEADER_LENGTH + 2);
                tail.put_u16(0);
                Field::Withdrawn
            }
            Family::IPV6_UNICAST => {
                put_multiprotocol(&mut head, family);
                Field::MpUnreach
            }
            family => return Err(EncodeError::Family(family)),
        };
        Self::new(family, field, head, tail, context)
    }

    fn new(
        family: Family,
        field: Field,
        head: BytesMut,
        tail: BytesMut,
        context: &EncodeContext,
    ) -> Result<Self, EncodeError> {
        // The limit of the length fields.
        let max_length = context.max_length.min(u16::MAX.into());
        let longest_prefix = if family == Family::IPV4_UNICAST {
            5
        } else {
            17
        };
        let length = head.len() + tail.len() - EMPTY_UPDATE_LENGTH;
        let room = max_length
            .checked_sub(tail.len())
            .filter(|&room| room >= head.len() + longest_prefix)
            .ok_or(EncodeError::AttributesTooLong { length, max_length })?;
        Ok(Self {
            family,
            field,
            used: head.len(),
            head,
            tail,
            message: Vec::new(),
            room,
        })
    }

    /// Adds a prefix, with its host bits cleared. Returns `false` if the message is full and the
    /// prefix was not added.
    ///
    /// The prefix must be of the builder's family: debug builds panic otherwise, release builds
    /// skip it.
    #[inline]
    pub fn push(&mut self, prefix: &IpNet) -> bool {
        if Family::of(prefix) != self.family {
            debug_assert!(false, "{prefix} pushed among {} prefixes", self.family);
            return true;
        }
        match prefix {
            // Host routes, the most common prefixes, have no host bits.
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

    /// Writes the whole address, because a copy of constant length is faster. The next prefix
    /// overwrites the excess octets.
    #[inline]
    fn put<const N: usize>(&mut self, length: u8, address: [u8; N]) -> bool {
        let end = self.used + nlri::encoded_length(length);
        if end > self.room {
            return false;
        }
        let Some(free) = self.message.get_mut(self.used..=self.used + N) else {
            return self.put_after_growing(length, address);
        };
        free[0] = length;
        free[1..].copy_from_slice(&address);
        self.used = end;
        true
    }

    /// Starts a message, or grows one beyond 4096 octets.
    #[cold]
    fn put_after_growing<const N: usize>(&mut self, length: u8, address: [u8; N]) -> bool {
        let room = if self.is_empty() {
            self.room.min(MAX_LENGTH.max(self.head.len()))
        } else {
            self.room
        };
        // Includes the excess octets of the last prefix.
        let size = room + self.tail.len() + nlri::LONGEST_PREFIX;
        self.message.resize(size, 0);
        self.message[..self.head.len()].copy_from_slice(&self.head);
        self.put(length, address)
    }

    /// Whether no prefix was added since the last message.
    pub fn is_empty(&self) -> bool {
        self.message.is_empty()
    }

    /// Returns the message and resets the builder. Returns no octets if no prefix was added,
    /// because an UPDATE without prefixes would be an End-of-RIB marker.
    pub fn finish(&mut self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        let mut message = mem::take(&mut self.message);
        message.truncate(self.used);
        self.used = self.head.len();
        match self.field {
            Field::Nlri => {}
            Field::Withdrawn => {
                let length = message.len() - HEADER_LENGTH - 2;
                set_u16(&mut message, HEADER_LENGTH, length);
            }
            Field::MpReach => set_attribute_header(&mut message, AttributeType::MP_REACH_NLRI),
            Field::MpUnreach => set_attribute_header(&mut message, AttributeType::MP_UNREACH_NLRI),
        }
        message.extend_from_slice(&self.tail);
        let length = message.len();
        if matches!(self.field, Field::MpReach | Field::MpUnreach) {
            set_u16(
                &mut message,
                HEADER_LENGTH + 2,
                length - EMPTY_UPDATE_LENGTH,
            );
        }
        set_u16(&mut message, MARKER.len(), length);
        message.into_boxed_slice().into()
    }
}

/// Writes a number; the message must be long enough.
fn set_u16(message: &mut [u8], position: usize, number: usize) {
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    message[position..position + 2].copy_from_slice(&number.to_be_bytes());
}

/// Writes the header of the first and only attribute into the four octets reserved for it. If three
/// are enough, the rest moves up.
fn set_attribute_header(message: &mut Vec<u8>, code: AttributeType) {
    let start = EMPTY_UPDATE_LENGTH;
    let length = message.len() - start - 4;
    if length <= u8::MAX.into() {
        message.remove(start);
    }
    let flags = AttributeFlags(AttributeFlags::OPTIONAL);
    put_attribute_header(&mut &mut message[start..], flags, code, length);
}

/// The start of an UPDATE up to its attributes, with placeholders for the lengths.
fn head() -> BytesMut {
    let mut head = BytesMut::with_capacity(EMPTY_UPDATE_LENGTH + LONGEST_PREAMBLE);
    put_header(&mut head, 0, MessageType::UPDATE);
    head.put_slice(&[0; 4]);
    head
}

/// Appends the start of MP_REACH_NLRI or MP_UNREACH_NLRI.
fn put_multiprotocol(head: &mut BytesMut, family: Family) {
    // Reserves the long form of the header.
    head.put_slice(&[0; 4]);
    put_family(head, family);
}

/// The start of an UPDATE without routes, up to its attributes.
fn update(attributes_length: u16) -> BytesMut {
    let length = EMPTY_UPDATE_LENGTH + usize::from(attributes_length);
    let mut message = BytesMut::with_capacity(length);
    put_header(&mut message, length, MessageType::UPDATE);
    message.put_u16(0);
    message.put_u16(attributes_length);
    message
}

fn put_family(buffer: &mut BytesMut, family: Family) {
    buffer.put_u16(family.afi.0);
    buffer.put_u8(family.safi.0);
}

/// The End-of-RIB marker of a family (RFC 4724 §2).
pub fn end_of_rib(family: Family) -> Bytes {
    if family == Family::IPV4_UNICAST {
        return update(0).freeze();
    }
    let mut message = update(6);
    let flags = AttributeFlags(AttributeFlags::OPTIONAL);
    put_attribute_header(&mut message, flags, AttributeType::MP_UNREACH_NLRI, 3);
    put_family(&mut message, family);
    message.freeze()
}

#[cfg(test)]
mod tests;
