//! Path attributes to octets, in the order of their type codes (RFC 4271 §5, §F.4).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};

use super::as_path;
use super::attribute::{Aggregator, AttributeFlags, AttributeType, PathAttributes};
use super::community::{Community, LargeCommunity};
use super::extended_community::{ExtendedCommunity, Ipv6ExtendedCommunity};

const WELL_KNOWN: AttributeFlags = AttributeFlags(AttributeFlags::TRANSITIVE);
const NON_TRANSITIVE: AttributeFlags = AttributeFlags(AttributeFlags::OPTIONAL);
const TRANSITIVE: AttributeFlags =
    AttributeFlags(AttributeFlags::OPTIONAL | AttributeFlags::TRANSITIVE);

/// Appends flags, type and length, the last in one octet where it fits.
pub(super) fn put_attribute_header(
    buffer: &mut BytesMut,
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
    let mut list = List::default();
    if let Some(origin) = attributes.origin {
        list.add(WELL_KNOWN, AttributeType::ORIGIN, &[origin.code()]);
    }
    list.add_as_path(attributes, four_octet_asn);
    if let Some(next_hop) = next_hop {
        list.add(WELL_KNOWN, AttributeType::NEXT_HOP, &next_hop.octets());
    }
    if let Some(med) = attributes.med {
        let code = AttributeType::MULTI_EXIT_DISC;
        list.add(NON_TRANSITIVE, code, &med.to_be_bytes());
    }
    if let Some(local_pref) = attributes.local_pref {
        let code = AttributeType::LOCAL_PREF;
        list.add(WELL_KNOWN, code, &local_pref.to_be_bytes());
    }
    if attributes.atomic_aggregate {
        list.add(WELL_KNOWN, AttributeType::ATOMIC_AGGREGATE, &[]);
    }
    list.add_aggregator(attributes, four_octet_asn);
    list.add_communities(attributes);
    for unknown in &attributes.unknown {
        list.add(unknown.flags, unknown.code, &unknown.value);
    }
    list.encode()
}

/// Attributes with their octets, in any order.
#[derive(Default)]
struct List(Vec<(AttributeFlags, AttributeType, BytesMut)>);

impl List {
    fn add(&mut self, flags: AttributeFlags, code: AttributeType, value: &[u8]) {
        self.0.push((flags, code, value.into()));
    }

    fn add_as_path(&mut self, attributes: &PathAttributes, four_octet_asn: bool) {
        let Some(path) = &attributes.as_path else {
            return;
        };
        let value = as_path::encode(path, four_octet_asn);
        self.add(WELL_KNOWN, AttributeType::AS_PATH, &value);
        if !four_octet_asn && path.0.iter().any(|asn| asn.is_four_octet()) {
            let value = as_path::encode(path, true);
            self.add(TRANSITIVE, AttributeType::AS4_PATH, &value);
        }
    }

    fn add_aggregator(&mut self, attributes: &PathAttributes, four_octet_asn: bool) {
        let Some(from) = &attributes.aggregator else {
            return;
        };
        let value = aggregator(from, four_octet_asn);
        self.add(TRANSITIVE, AttributeType::AGGREGATOR, &value);
        if !four_octet_asn && from.asn.is_four_octet() {
            let value = aggregator(from, true);
            self.add(TRANSITIVE, AttributeType::AS4_AGGREGATOR, &value);
        }
    }

    fn add_communities(&mut self, attributes: &PathAttributes) {
        let PathAttributes {
            communities,
            extended_communities: extended,
            ipv6_extended_communities: ipv6_extended,
            large_communities: large,
            ..
        } = attributes;
        let number = |one: &Community| one.0.to_be_bytes();
        self.add_set(AttributeType::COMMUNITIES, communities, number);
        let octets = |one: &ExtendedCommunity| one.0;
        self.add_set(AttributeType::EXTENDED_COMMUNITIES, extended, octets);
        let octets = |one: &Ipv6ExtendedCommunity| one.0;
        let code = AttributeType::IPV6_EXTENDED_COMMUNITIES;
        self.add_set(code, ipv6_extended, octets);
        let numbers = |one: &LargeCommunity| {
            [one.global, one.local1, one.local2]
                .into_iter()
                .flat_map(u32::to_be_bytes)
        };
        self.add_set(AttributeType::LARGE_COMMUNITY, large, numbers);
    }

    /// Communities of one kind, sorted, each once; no attribute without any.
    fn add_set<T: Ord, O: IntoIterator<Item = u8>>(
        &mut self,
        code: AttributeType,
        communities: &[T],
        octets: impl Fn(&T) -> O,
    ) {
        let communities: BTreeSet<_> = communities.iter().collect();
        if !communities.is_empty() {
            let value: Vec<u8> = communities.into_iter().flat_map(octets).collect();
            self.add(TRANSITIVE, code, &value);
        }
    }

    /// In the order of type codes.
    fn encode(mut self) -> BytesMut {
        self.0.sort_by_key(|&(_, code, _)| code);
        let mut buffer = BytesMut::new();
        for (flags, code, value) in self.0 {
            put_attribute_header(&mut buffer, flags, code, value.len());
            buffer.put_slice(&value);
        }
        buffer
    }
}

fn aggregator(aggregator: &Aggregator, four_octet: bool) -> BytesMut {
    let mut value = BytesMut::with_capacity(8);
    aggregator.asn.put(&mut value, four_octet);
    value.put_slice(&aggregator.router_id.octets());
    value
}
