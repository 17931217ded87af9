//! Path attributes to octets, in the order of their type codes (RFC 4271 §5, §F.4).

use std::borrow::Cow;
use std::iter::Peekable;
use std::net::Ipv4Addr;
use std::vec;

use bytes::{BufMut, BytesMut};

use super::as_path::{self, AsPath};
use super::attribute::{
    Aggregator, AttributeFlags, AttributeType, PathAttributes, UnknownAttribute,
};
use super::community::{Community, LargeCommunity};
use super::extended_community::{ExtendedCommunity, Ipv6ExtendedCommunity};

const WELL_KNOWN: AttributeFlags = AttributeFlags(AttributeFlags::TRANSITIVE);
const NON_TRANSITIVE: AttributeFlags = AttributeFlags(AttributeFlags::OPTIONAL);
const TRANSITIVE: AttributeFlags =
    AttributeFlags(AttributeFlags::OPTIONAL | AttributeFlags::TRANSITIVE);

/// Appends flags, type and length, the last in one octet where it fits.
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
            // A longer one leaves no room for a prefix, which the builder refuses.
            buffer.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
        }
    }
}

/// Every attribute but the multiprotocol ones. For a peer without four-octet AS numbers those that
/// need four become AS_TRANS, and AS4_PATH and AS4_AGGREGATOR tell them (RFC 6793 §4.2.2).
pub(super) fn encode_attributes(
    attributes: &PathAttributes,
    next_hop: Option<Ipv4Addr>,
    four_octet_asn: bool,
) -> BytesMut {
    let mut writer = Writer::new(&attributes.unknown);
    if let Some(origin) = attributes.origin {
        writer.add(WELL_KNOWN, AttributeType::ORIGIN, &[origin.code()]);
    }
    if let Some(path) = &attributes.as_path {
        writer.add_path(WELL_KNOWN, AttributeType::AS_PATH, path, four_octet_asn);
    }
    if let Some(next_hop) = next_hop {
        writer.add(WELL_KNOWN, AttributeType::NEXT_HOP, &next_hop.octets());
    }
    if let Some(med) = attributes.med {
        let code = AttributeType::MULTI_EXIT_DISC;
        writer.add(NON_TRANSITIVE, code, &med.to_be_bytes());
    }
    if let Some(local_pref) = attributes.local_pref {
        let code = AttributeType::LOCAL_PREF;
        writer.add(WELL_KNOWN, code, &local_pref.to_be_bytes());
    }
    if attributes.atomic_aggregate {
        writer.add(WELL_KNOWN, AttributeType::ATOMIC_AGGREGATE, &[]);
    }
    if let Some(from) = &attributes.aggregator {
        let value = aggregator(from, four_octet_asn);
        writer.add(TRANSITIVE, AttributeType::AGGREGATOR, &value);
    }
    let number = |one: &Community| one.0.to_be_bytes();
    writer.add_set(AttributeType::COMMUNITIES, &attributes.communities, number);
    let extended = &attributes.extended_communities;
    let octets = |one: &ExtendedCommunity| one.0;
    writer.add_set(AttributeType::EXTENDED_COMMUNITIES, extended, octets);
    if !four_octet_asn {
        writer.add_four_octet(attributes);
    }
    let extended = &attributes.ipv6_extended_communities;
    let octets = |one: &Ipv6ExtendedCommunity| one.0;
    writer.add_set(AttributeType::IPV6_EXTENDED_COMMUNITIES, extended, octets);
    let large = &attributes.large_communities;
    writer.add_set(AttributeType::LARGE_COMMUNITY, large, large_community);
    writer.finish()
}

/// Attributes one after another. They are added in the order of their type codes; those that were
/// kept as octets come between.
struct Writer<'a> {
    octets: BytesMut,
    /// What was kept and is not written yet, sorted.
    unknown: Peekable<vec::IntoIter<&'a UnknownAttribute>>,
}

impl<'a> Writer<'a> {
    fn new(unknown: &'a [UnknownAttribute]) -> Self {
        let mut unknown: Vec<_> = unknown.iter().collect();
        unknown.sort_by_key(|attribute| attribute.code);
        Self {
            // Enough for most.
            octets: BytesMut::with_capacity(128),
            unknown: unknown.into_iter().peekable(),
        }
    }

    /// The header of the next attribute, after what comes before it.
    fn header(&mut self, flags: AttributeFlags, code: AttributeType, length: usize) {
        while let Some(unknown) = self.unknown.next_if(|unknown| unknown.code < code) {
            put_unknown(&mut self.octets, unknown);
        }
        put_attribute_header(&mut self.octets, flags, code, length);
    }

    fn add(&mut self, flags: AttributeFlags, code: AttributeType, value: &[u8]) {
        self.header(flags, code, value.len());
        self.octets.put_slice(value);
    }

    fn add_path(
        &mut self,
        flags: AttributeFlags,
        code: AttributeType,
        path: &AsPath,
        four_octet: bool,
    ) {
        self.header(flags, code, as_path::encoded_length(path, four_octet));
        as_path::put(path, &mut self.octets, four_octet);
    }

    /// What AS_PATH and AGGREGATOR could not say in two octets.
    fn add_four_octet(&mut self, attributes: &PathAttributes) {
        if let Some(path) = &attributes.as_path
            && path.0.iter().any(|asn| asn.is_four_octet())
        {
            self.add_path(TRANSITIVE, AttributeType::AS4_PATH, path, true);
        }
        if let Some(from) = &attributes.aggregator
            && from.asn.is_four_octet()
        {
            let value = aggregator(from, true);
            self.add(TRANSITIVE, AttributeType::AS4_AGGREGATOR, &value);
        }
    }

    /// Communities of one kind, sorted, each once; no attribute without any.
    fn add_set<T: Ord + Clone, const N: usize>(
        &mut self,
        code: AttributeType,
        communities: &[T],
        octets: impl Fn(&T) -> [u8; N],
    ) {
        if communities.is_empty() {
            return;
        }
        let mut communities = Cow::Borrowed(communities);
        // What was read is so already.
        if !communities.is_sorted_by(|one, next| one < next) {
            let communities = communities.to_mut();
            communities.sort_unstable();
            communities.dedup();
        }
        self.header(TRANSITIVE, code, communities.len() * N);
        for one in communities.iter() {
            self.octets.put_slice(&octets(one));
        }
    }

    fn finish(mut self) -> BytesMut {
        for unknown in self.unknown {
            put_unknown(&mut self.octets, unknown);
        }
        self.octets
    }
}

fn put_unknown(buffer: &mut BytesMut, attribute: &UnknownAttribute) {
    let UnknownAttribute { flags, code, value } = attribute;
    put_attribute_header(buffer, *flags, *code, value.len());
    buffer.put_slice(value);
}

fn large_community(community: &LargeCommunity) -> [u8; 12] {
    let numbers = [community.global, community.local1, community.local2];
    let mut octets = [0; 12];
    for (octets, number) in octets.as_chunks_mut().0.iter_mut().zip(numbers) {
        *octets = number.to_be_bytes();
    }
    octets
}

fn aggregator(aggregator: &Aggregator, four_octet: bool) -> BytesMut {
    let mut value = BytesMut::with_capacity(8);
    aggregator.asn.put(&mut value, four_octet);
    value.put_slice(&aggregator.router_id.octets());
    value
}
