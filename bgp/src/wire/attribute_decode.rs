//! Decodes the values of path attributes, with the checks of RFC 7606 §7.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use ipnet::IpNet;
use nom::Parser;
use nom::combinator::{all_consuming, rest};
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32};

use super::as_path::{self, AsPath, Confederation};
use super::asn::Asn;
use super::attribute::{
    Aggregator, AttributeFlags, MpReach, MpUnreach, Origin, PathAttributes, UnknownAttribute,
};
use super::codes::AttributeType;
use super::community::{Community, LargeCommunity};
use super::context::DecodeContext;
use super::error::{AttributeError, AttributeErrorKind, Treatment};
use super::extended_community::{ExtendedCommunity, Ipv6ExtendedCommunity};
use super::family::{Afi, Family, Safi};
use super::next_hop::NextHop;
use super::{Parsed, nlri};

/// One attribute as received.
pub(super) struct RawAttribute<'a> {
    pub(super) flags: AttributeFlags,
    pub(super) code: AttributeType,
    pub(super) value: &'a [u8],
    /// The whole attribute, header included.
    pub(super) octets: &'a [u8],
}

/// A set of attribute types, one bit for each.
#[derive(Debug, Default)]
pub(super) struct Types([u64; 4]);

impl Types {
    pub(super) fn contains(&self, code: AttributeType) -> bool {
        let word = self.0.get(usize::from(code.0 / 64));
        word.is_some_and(|word| word >> (code.0 % 64) & 1 == 1)
    }

    /// Adds a type; returns whether it was absent.
    pub(super) fn insert(&mut self, code: AttributeType) -> bool {
        let new = !self.contains(code);
        if let Some(word) = self.0.get_mut(usize::from(code.0 / 64)) {
            *word |= 1 << (code.0 % 64);
        }
        new
    }
}

/// Collects the attributes of one UPDATE. It records at most two errors per attribute type: one in
/// the first occurrence, and one for all repetitions.
pub(super) struct AttributeReader<'a> {
    pub(super) context: &'a DecodeContext,
    pub(super) attributes: PathAttributes,
    pub(super) mp_reach: Option<MpReach>,
    pub(super) mp_unreach: Option<MpUnreach>,
    pub(super) errors: Vec<AttributeError>,
    /// The first treat-as-withdraw error, with the octets of its attribute.
    pub(super) first_withdraw: Option<(AttributeError, &'a [u8])>,
    /// An attribute runs past the end of the attribute field.
    pub(super) overrun: bool,
    /// MP_REACH_NLRI has prefixes, or is of a family that isn't in use.
    pub(super) names_routes: bool,
    pub(super) seen: Types,
    pub(super) repeated: Types,
    pub(super) as4_path: Option<AsPath>,
    pub(super) as4_aggregator: Option<Aggregator>,
}

impl<'a> AttributeReader<'a> {
    /// Records an error that withdraws the routes.
    pub(super) fn treat_as_withdraw(
        &mut self,
        attribute: Option<AttributeType>,
        kind: AttributeErrorKind,
        octets: &'a [u8],
    ) {
        let error = AttributeError {
            attribute,
            kind,
            treatment: Treatment::TreatAsWithdraw,
        };
        if self.first_withdraw.is_none() {
            self.first_withdraw = Some((error.clone(), octets));
        }
        self.errors.push(error);
    }

    pub(super) fn discard(&mut self, attribute: AttributeType, kind: AttributeErrorKind) {
        let treatment = Treatment::Discard;
        self.errors.push(AttributeError {
            attribute: Some(attribute),
            kind,
            treatment,
        });
    }

    pub(super) fn keep(&mut self, raw: &RawAttribute<'_>) {
        self.attributes.unknown.push(UnknownAttribute {
            flags: AttributeFlags(raw.flags.0 & !AttributeFlags::EXTENDED_LENGTH),
            code: raw.code,
            value: Bytes::copy_from_slice(raw.value),
        });
    }

    /// The family of a multiprotocol attribute and the octets after it; `None` if the family isn't
    /// in use, in which case the attribute is discarded.
    fn multiprotocol(
        &mut self,
        raw: &RawAttribute<'a>,
    ) -> Result<Option<(Family, &'a [u8])>, AttributeErrorKind> {
        let (value, family) = family(raw.value).map_err(|_| AttributeErrorKind::Multiprotocol)?;
        let supported = matches!(family, Family::IPV4_UNICAST | Family::IPV6_UNICAST);
        if !supported || !self.context.families.contains(&family) {
            self.names_routes |= raw.code == AttributeType::MP_REACH_NLRI;
            self.discard(raw.code, AttributeErrorKind::FamilyNotNegotiated(family));
            return Ok(None);
        }
        if !raw.has_flags(AttributeFlags(AttributeFlags::OPTIONAL)) {
            return Err(AttributeErrorKind::Flags);
        }
        Ok(Some((family, value)))
    }
}

impl RawAttribute<'_> {
    /// Compares the Optional and Transitive bits. The low bits may have any value
    /// (RFC 4271 §4.3).
    pub(super) fn has_flags(&self, flags: AttributeFlags) -> bool {
        const COMPARED: u8 = AttributeFlags::OPTIONAL | AttributeFlags::TRANSITIVE;
        (self.flags.0 ^ flags.0) & COMPARED == 0
    }
}

pub(super) fn is_multiprotocol(code: AttributeType) -> bool {
    matches!(
        code,
        AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI
    )
}

/// Splits one attribute off the field, without a look at its type (RFC 4271 §4.3).
pub(super) fn attribute(input: &[u8]) -> Parsed<'_, RawAttribute<'_>> {
    let (tail, (flags, code)) = (be_u8, be_u8).parse(input)?;
    let flags = AttributeFlags(flags);
    let (tail, value): (_, &[u8]) = if flags.extended_length() {
        length_data(be_u16).parse(tail)?
    } else {
        length_data(be_u8).parse(tail)?
    };
    let octets = &input[..input.len() - tail.len()];
    Ok((
        tail,
        RawAttribute {
            flags,
            code: AttributeType(code),
            value,
            octets,
        },
    ))
}

type Decoded = Result<(), AttributeErrorKind>;

pub(super) fn origin(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    let [code] = raw.value else {
        return Err(AttributeErrorKind::Length);
    };
    let origin = Origin::from_code(*code).ok_or(AttributeErrorKind::Value)?;
    reader.attributes.origin = Some(origin);
    Ok(())
}

pub(super) fn as_path(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    let four_octet = reader.context.four_octet_asn;
    let path = as_path::decode(raw.value, four_octet, Confederation::Reject)?;
    reader.attributes.as_path = Some(path);
    Ok(())
}

pub(super) fn next_hop(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    let address = Ipv4Addr::from(number(raw.value)?);
    if !is_host(&NextHop::V4(address), reader.context.loopback) {
        return Err(AttributeErrorKind::NextHop);
    }
    reader.attributes.next_hop = Some(address);
    Ok(())
}

pub(super) fn med(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    reader.attributes.med = Some(number(raw.value)?);
    Ok(())
}

pub(super) fn local_pref(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    reader.attributes.local_pref = Some(number(raw.value)?);
    Ok(())
}

pub(super) fn atomic_aggregate(
    reader: &mut AttributeReader<'_>,
    raw: &RawAttribute<'_>,
) -> Decoded {
    if !raw.value.is_empty() {
        return Err(AttributeErrorKind::Length);
    }
    reader.attributes.atomic_aggregate = true;
    Ok(())
}

pub(super) fn aggregator(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    let aggregator = aggregator_value(raw.value, reader.context.four_octet_asn)?;
    reader.attributes.aggregator = Some(aggregator);
    Ok(())
}

pub(super) fn communities(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    reader.attributes.communities = set(raw.value, |octets| Community(u32::from_be_bytes(octets)))?;
    Ok(())
}

pub(super) fn extended_communities(
    reader: &mut AttributeReader<'_>,
    raw: &RawAttribute<'_>,
) -> Decoded {
    reader.attributes.extended_communities = set(raw.value, ExtendedCommunity)?;
    Ok(())
}

pub(super) fn ipv6_extended_communities(
    reader: &mut AttributeReader<'_>,
    raw: &RawAttribute<'_>,
) -> Decoded {
    reader.attributes.ipv6_extended_communities = set(raw.value, Ipv6ExtendedCommunity)?;
    Ok(())
}

pub(super) fn large_communities(
    reader: &mut AttributeReader<'_>,
    raw: &RawAttribute<'_>,
) -> Decoded {
    reader.attributes.large_communities = set(raw.value, |octets: [u8; 12]| LargeCommunity {
        global: word(&octets, 0),
        local1: word(&octets, 1),
        local2: word(&octets, 2),
    })?;
    Ok(())
}

pub(super) fn as4_path(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    let path = as_path::decode(raw.value, true, Confederation::Skip)?;
    reader.as4_path = Some(path);
    Ok(())
}

pub(super) fn as4_aggregator(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    reader.as4_aggregator = Some(aggregator_value(raw.value, true)?);
    Ok(())
}

/// ORIGINATOR_ID and ONLY_TO_CUSTOMER: four octets.
pub(super) fn keep_number(reader: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    number(raw.value)?;
    reader.keep(raw);
    Ok(())
}

pub(super) fn keep_cluster_list(
    reader: &mut AttributeReader<'_>,
    raw: &RawAttribute<'_>,
) -> Decoded {
    check_list(raw.value, 4)?;
    reader.keep(raw);
    Ok(())
}

/// An AS number and whole attributes (RFC 6368 §5). Their values stay unchecked, as only the
/// speaker that unpacks the set uses them.
pub(super) fn keep_attribute_set(
    reader: &mut AttributeReader<'_>,
    raw: &RawAttribute<'_>,
) -> Decoded {
    let origin: Parsed<'_, u32> = be_u32.parse(raw.value);
    let (mut input, _) = origin.map_err(|_| AttributeErrorKind::Length)?;
    while !input.is_empty() {
        (input, _) = attribute(input).map_err(|_| AttributeErrorKind::Overrun)?;
    }
    reader.keep(raw);
    Ok(())
}

/// Only checked: it is not transitive. RFC 7606 §7.13 leaves open what malformed means; the fixed
/// part of one descriptor is the minimum (RFC 5543 §3), and the rest depends on its switching type.
pub(super) fn traffic_engineering(_: &mut AttributeReader<'_>, raw: &RawAttribute<'_>) -> Decoded {
    const DESCRIPTOR_MIN: usize = 4 + 8 * 4;
    if raw.value.len() < DESCRIPTOR_MIN {
        return Err(AttributeErrorKind::Length);
    }
    Ok(())
}

pub(super) fn mp_reach<'a>(reader: &mut AttributeReader<'a>, raw: &RawAttribute<'a>) -> Decoded {
    let Some((family, value)) = reader.multiprotocol(raw)? else {
        return Ok(());
    };
    let fields: Parsed<'_, (&[u8], u8, &[u8])> = (length_data(be_u8), be_u8, rest).parse(value);
    let (_, (next_hop, _reserved, nlri)) = fields.map_err(|_| AttributeErrorKind::Multiprotocol)?;
    let v6 = family == Family::IPV6_UNICAST || reader.context.ipv4_next_hop_v6;
    let v4 = family == Family::IPV4_UNICAST;
    let next_hop = multiprotocol_next_hop(next_hop, v4, v6)?;
    let nlri = prefixes(family, nlri)?;
    reader.names_routes |= !nlri.is_empty();
    if !nlri.is_empty() && !is_host(&next_hop, reader.context.loopback) {
        let kind = AttributeErrorKind::NextHop;
        reader.treat_as_withdraw(Some(raw.code), kind, raw.octets);
    }
    reader.mp_reach = Some(MpReach {
        family,
        next_hop,
        nlri,
    });
    Ok(())
}

pub(super) fn mp_unreach<'a>(reader: &mut AttributeReader<'a>, raw: &RawAttribute<'a>) -> Decoded {
    if let Some((family, value)) = reader.multiprotocol(raw)? {
        let nlri = prefixes(family, value)?;
        reader.mp_unreach = Some(MpUnreach { family, nlri });
    }
    Ok(())
}

fn prefixes(family: Family, octets: &[u8]) -> Result<Vec<IpNet>, AttributeErrorKind> {
    let prefixes = match family {
        Family::IPV4_UNICAST => nlri::ipv4_prefixes(octets),
        _ => nlri::ipv6_prefixes(octets),
    };
    prefixes.ok_or(AttributeErrorKind::Multiprotocol)
}

/// A number of exactly four octets.
fn number(value: &[u8]) -> Result<u32, AttributeErrorKind> {
    let number: Parsed<'_, u32> = all_consuming(be_u32).parse(value);
    number
        .map(|(_, number)| number)
        .map_err(|_| AttributeErrorKind::Length)
}

/// The value of AGGREGATOR or AS4_AGGREGATOR (RFC 6793 §6, RFC 7607 §2).
fn aggregator_value(value: &[u8], four_octet: bool) -> Result<Aggregator, AttributeErrorKind> {
    let aggregator: Parsed<'_, (u32, u32)> = if four_octet {
        all_consuming((be_u32, be_u32)).parse(value)
    } else {
        all_consuming((be_u16.map(u32::from), be_u32)).parse(value)
    };
    match aggregator {
        Ok((_, (0, _))) => Err(AttributeErrorKind::AsZero),
        Ok((_, (asn, router_id))) => Ok(Aggregator {
            asn: Asn(asn),
            router_id: router_id.into(),
        }),
        Err(_) => Err(AttributeErrorKind::Length),
    }
}

/// Checks that a list has at least one element and only whole elements of `width` octets.
fn check_list(value: &[u8], width: usize) -> Result<(), AttributeErrorKind> {
    if value.is_empty() || !value.len().is_multiple_of(width) {
        return Err(AttributeErrorKind::Length);
    }
    Ok(())
}

/// A list of elements of `N` octets each, sorted and without duplicates (RFC 8092 §3).
fn set<const N: usize, T: Ord>(
    value: &[u8],
    element: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, AttributeErrorKind> {
    check_list(value, N)?;
    let octets = value.as_chunks().0.iter().copied();
    let mut list: Vec<_> = octets.map(element).collect();
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

/// The big-endian number in the four octets at `position` times four; zero past the end.
fn word(octets: &[u8], position: usize) -> u32 {
    let octets = octets
        .get(position * 4..position * 4 + 4)
        .unwrap_or_default();
    octets
        .iter()
        .fold(0, |number, &octet| (number << 8) | u32::from(octet))
}

fn family(input: &[u8]) -> Parsed<'_, Family> {
    (be_u16, be_u8)
        .map(|(afi, safi)| Family {
            afi: Afi(afi),
            safi: Safi(safi),
        })
        .parse(input)
}

/// The next hop in MP_REACH_NLRI (RFC 4760 §3, RFC 2545 §3, RFC 8950 §3). `v4` permits an IPv4
/// address, `v6` one or two IPv6 addresses.
fn multiprotocol_next_hop(
    octets: &[u8],
    v4: bool,
    v6: bool,
) -> Result<NextHop, AttributeErrorKind> {
    let address = |octets: &[u8; 16]| Ipv6Addr::from(*octets);
    if let (Ok(octets), true) = (<[u8; 4]>::try_from(octets), v4) {
        return Ok(NextHop::V4(octets.into()));
    }
    match octets.split_first_chunk() {
        Some((global, [])) if v6 => Ok(NextHop::V6 {
            global: address(global),
            link_local: None,
        }),
        Some((global, second)) if v6 && second.len() == 16 => Ok(NextHop::V6 {
            global: address(global),
            // Some speakers fill the second half with something else.
            link_local: second
                .first_chunk()
                .map(address)
                .filter(Ipv6Addr::is_unicast_link_local),
        }),
        _ => Err(AttributeErrorKind::Multiprotocol),
    }
}

/// Whether the next hop is the address of a host (RFC 4271 §6.3). Loopback addresses are hosts
/// only in a session over the loopback.
fn is_host(next_hop: &NextHop, loopback: bool) -> bool {
    match next_hop {
        NextHop::V4(address) => {
            let first = address.octets()[0];
            first != 0 && (first != 127 || loopback) && first < 224
        }
        NextHop::V6 { global, link_local } => {
            let unspecified = global.is_unspecified() && link_local.is_none();
            !unspecified && (!global.is_loopback() || loopback) && !global.is_multicast()
        }
    }
}
