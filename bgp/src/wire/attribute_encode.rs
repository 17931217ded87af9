//! Path attributes to octets, in the order of their type codes (RFC 4271 §5, §F.4).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};

use super::as_path;
use super::attribute::{Aggregator, AttributeFlags, AttributeType, PathAttributes};

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
    let mut list: Vec<(AttributeFlags, AttributeType, BytesMut)> = Vec::new();
    let mut add = |flags, code, value: &[u8]| list.push((flags, code, BytesMut::from(value)));
    if let Some(origin) = attributes.origin {
        add(WELL_KNOWN, AttributeType::ORIGIN, &[origin.code()]);
    }
    if let Some(path) = &attributes.as_path {
        add(
            WELL_KNOWN,
            AttributeType::AS_PATH,
            &as_path::encode(path, four_octet_asn),
        );
        if !four_octet_asn && path.0.iter().any(|asn| asn.is_four_octet()) {
            add(
                TRANSITIVE,
                AttributeType::AS4_PATH,
                &as_path::encode(path, true),
            );
        }
    }
    if let Some(next_hop) = next_hop {
        add(WELL_KNOWN, AttributeType::NEXT_HOP, &next_hop.octets());
    }
    if let Some(med) = attributes.med {
        add(
            NON_TRANSITIVE,
            AttributeType::MULTI_EXIT_DISC,
            &med.to_be_bytes(),
        );
    }
    if let Some(local_pref) = attributes.local_pref {
        add(
            WELL_KNOWN,
            AttributeType::LOCAL_PREF,
            &local_pref.to_be_bytes(),
        );
    }
    if attributes.atomic_aggregate {
        add(WELL_KNOWN, AttributeType::ATOMIC_AGGREGATE, &[]);
    }
    if let Some(from) = &attributes.aggregator {
        add(
            TRANSITIVE,
            AttributeType::AGGREGATOR,
            &aggregator(from, four_octet_asn),
        );
        if !four_octet_asn && from.asn.is_four_octet() {
            add(
                TRANSITIVE,
                AttributeType::AS4_AGGREGATOR,
                &aggregator(from, true),
            );
        }
    }
    if !attributes.communities.is_empty() {
        let communities: BTreeSet<_> = attributes.communities.iter().collect();
        let value: Vec<u8> = communities
            .iter()
            .flat_map(|one| one.0.to_be_bytes())
            .collect();
        add(TRANSITIVE, AttributeType::COMMUNITIES, &value);
    }
    if !attributes.large_communities.is_empty() {
        let communities: BTreeSet<_> = attributes.large_communities.iter().collect();
        let numbers = communities
            .iter()
            .flat_map(|one| [one.global, one.local1, one.local2]);
        let value: Vec<u8> = numbers.flat_map(u32::to_be_bytes).collect();
        add(TRANSITIVE, AttributeType::LARGE_COMMUNITY, &value);
    }
    for unknown in &attributes.unknown {
        add(unknown.flags, unknown.code, &unknown.value);
    }
    list.sort_by_key(|&(_, code, _)| code);
    let mut buffer = BytesMut::new();
    for (flags, code, value) in list {
        put_attribute_header(&mut buffer, flags, code, value.len());
        buffer.put_slice(&value);
    }
    buffer
}

fn aggregator(aggregator: &Aggregator, four_octet: bool) -> BytesMut {
    let mut value = BytesMut::with_capacity(8);
    aggregator.asn.put(&mut value, four_octet);
    value.put_slice(&aggregator.router_id.octets());
    value
}
