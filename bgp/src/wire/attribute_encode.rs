//! Encodes path attributes in the order of their type codes (RFC 4271 §5, appendix F.4).

use std::borrow::Cow;
use std::iter::Peekable;
use std::net::Ipv4Addr;
use std::vec;

use bytes::{BufMut, BytesMut};

use super::as_path::{self, AsPath};
use super::attribute::{Aggregator, AttributeFlags, PathAttributes, UnknownAttribute};
use super::codes::AttributeType;
use super::community::LargeCommunity;

/// Appends flags, type and length. The length takes one octet if it fits, else two.
pub(super) fn put_attribute_header(
    buffer: &mut impl BufMut,
    flags: AttributeFlags,
    code: AttributeType,
    length: usize,
) {
    let flags = flags.0 & !AttributeFlags::EXTENDED_LENGTH;
    match u8::try_from(length) {
        Ok(length) => buffer.put_slice(&[flags, code.0, length]),
        Err(_) => {
            buffer.put_slice(&[flags | AttributeFlags::EXTENDED_LENGTH, code.0]);
            // The builder rejects longer attributes, as they leave no room for a prefix.
            buffer.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
        }
    }
}

/// Writes the attributes of one UPDATE in the order of their type codes, and inserts those that are
/// kept as octets.
pub(super) struct AttributeWriter<'a> {
    attributes: &'a PathAttributes,
    next_hop: Option<Ipv4Addr>,
    four_octet_asn: bool,
    octets: BytesMut,
    /// Flags and type of the attribute being encoded.
    flags: AttributeFlags,
    code: AttributeType,
    /// Attributes kept as octets that are not written yet, sorted.
    unknown: Peekable<vec::IntoIter<&'a UnknownAttribute>>,
}

impl<'a> AttributeWriter<'a> {
    pub(super) fn new(
        attributes: &'a PathAttributes,
        next_hop: Option<Ipv4Addr>,
        four_octet_asn: bool,
    ) -> Self {
        let mut unknown: Vec<_> = attributes.unknown.iter().collect();
        unknown.sort_by_key(|attribute| attribute.code);
        Self {
            attributes,
            next_hop,
            four_octet_asn,
            // Enough for most attribute sets.
            octets: BytesMut::with_capacity(128),
            flags: AttributeFlags(0),
            code: AttributeType(0),
            unknown: unknown.into_iter().peekable(),
        }
    }

    /// Encodes the next attribute, if it is present.
    pub(super) fn put(
        &mut self,
        flags: AttributeFlags,
        code: AttributeType,
        encode: fn(&mut AttributeWriter<'_>),
    ) {
        (self.flags, self.code) = (flags, code);
        encode(self);
    }

    /// Writes the attributes that remain, and returns all octets.
    pub(super) fn finish(mut self) -> BytesMut {
        for unknown in self.unknown {
            put_unknown(&mut self.octets, unknown);
        }
        self.octets
    }

    /// Writes the header of the current attribute, after all attributes with smaller codes.
    fn header(&mut self, length: usize) {
        while let Some(unknown) = self.unknown.next_if(|unknown| unknown.code < self.code) {
            put_unknown(&mut self.octets, unknown);
        }
        put_attribute_header(&mut self.octets, self.flags, self.code, length);
    }

    fn value(&mut self, value: &[u8]) {
        self.header(value.len());
        self.octets.put_slice(value);
    }

    fn path(&mut self, path: &AsPath, four_octet: bool) {
        self.header(as_path::encoded_length(path, four_octet));
        as_path::put(path, &mut self.octets, four_octet);
    }

    fn aggregator(&mut self, aggregator: &Aggregator, four_octet: bool) {
        self.header(if four_octet { 8 } else { 6 });
        aggregator.asn.put(&mut self.octets, four_octet);
        self.octets.put_slice(&aggregator.router_id.octets());
    }

    /// Writes a set of communities: sorted, without duplicates. An empty set has no attribute.
    fn set<T: Ord + Clone, const N: usize>(
        &mut self,
        communities: &[T],
        octets: impl Fn(&T) -> [u8; N],
    ) {
        if communities.is_empty() {
            return;
        }
        let mut communities = Cow::Borrowed(communities);
        // Decoded sets already are.
        if !communities.is_sorted_by(|one, next| one < next) {
            let communities = communities.to_mut();
            communities.sort_unstable();
            communities.dedup();
        }
        self.header(communities.len() * N);
        for community in communities.iter() {
            self.octets.put_slice(&octets(community));
        }
    }
}

fn put_unknown(buffer: &mut BytesMut, attribute: &UnknownAttribute) {
    let UnknownAttribute { flags, code, value } = attribute;
    put_attribute_header(buffer, *flags, *code, value.len());
    buffer.put_slice(value);
}

pub(super) fn origin(writer: &mut AttributeWriter<'_>) {
    if let Some(origin) = writer.attributes.origin {
        writer.value(&[origin.code()]);
    }
}

pub(super) fn as_path(writer: &mut AttributeWriter<'_>) {
    if let Some(path) = &writer.attributes.as_path {
        writer.path(path, writer.four_octet_asn);
    }
}

pub(super) fn next_hop(writer: &mut AttributeWriter<'_>) {
    if let Some(next_hop) = writer.next_hop {
        writer.value(&next_hop.octets());
    }
}

pub(super) fn med(writer: &mut AttributeWriter<'_>) {
    if let Some(med) = writer.attributes.med {
        writer.value(&med.to_be_bytes());
    }
}

pub(super) fn local_pref(writer: &mut AttributeWriter<'_>) {
    if let Some(local_pref) = writer.attributes.local_pref {
        writer.value(&local_pref.to_be_bytes());
    }
}

pub(super) fn atomic_aggregate(writer: &mut AttributeWriter<'_>) {
    if writer.attributes.atomic_aggregate {
        writer.value(&[]);
    }
}

pub(super) fn aggregator(writer: &mut AttributeWriter<'_>) {
    if let Some(aggregator) = &writer.attributes.aggregator {
        writer.aggregator(aggregator, writer.four_octet_asn);
    }
}

pub(super) fn communities(writer: &mut AttributeWriter<'_>) {
    let communities = &writer.attributes.communities;
    writer.set(communities, |community| community.0.to_be_bytes());
}

pub(super) fn extended_communities(writer: &mut AttributeWriter<'_>) {
    let communities = &writer.attributes.extended_communities;
    writer.set(communities, |community| community.0);
}

/// The AS_PATH with the AS numbers that the two-octet AS_PATH can't carry.
pub(super) fn as4_path(writer: &mut AttributeWriter<'_>) {
    if let Some(path) = &writer.attributes.as_path
        && !writer.four_octet_asn
        && path.0.iter().any(|asn| asn.is_four_octet())
    {
        writer.path(path, true);
    }
}

/// The AGGREGATOR with an AS number that the two-octet AGGREGATOR can't carry.
pub(super) fn as4_aggregator(writer: &mut AttributeWriter<'_>) {
    if let Some(aggregator) = &writer.attributes.aggregator
        && !writer.four_octet_asn
        && aggregator.asn.is_four_octet()
    {
        writer.aggregator(aggregator, true);
    }
}

pub(super) fn ipv6_extended_communities(writer: &mut AttributeWriter<'_>) {
    let communities = &writer.attributes.ipv6_extended_communities;
    writer.set(communities, |community| community.0);
}

pub(super) fn large_communities(writer: &mut AttributeWriter<'_>) {
    writer.set(&writer.attributes.large_communities, large_community);
}

fn large_community(community: &LargeCommunity) -> [u8; 12] {
    let numbers = [community.global, community.local1, community.local2];
    let mut octets = [0; 12];
    for (octets, number) in octets.as_chunks_mut().0.iter_mut().zip(numbers) {
        *octets = number.to_be_bytes();
    }
    octets
}
