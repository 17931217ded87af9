//! Octets to path attributes, and what follows from each error (RFC 7606 §3 to §7).

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use ipnet::IpNet;
use nom::Parser;
use nom::combinator::{all_consuming, rest};
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32};

use super::{MpReach, MpUnreach};
use crate::wire::as_path::{self, AsPath, Confederation};
use crate::wire::asn::Asn;
use crate::wire::attribute::{
    Aggregator, AttributeFlags, AttributeType, Origin, PathAttributes, UnknownAttribute,
};
use crate::wire::community::{Community, LargeCommunity};
use crate::wire::error::{AttributeError, AttributeErrorKind, DecodeError, Treatment};
use crate::wire::extended_community::{ExtendedCommunity, Ipv6ExtendedCommunity};
use crate::wire::family::{Afi, Family, Safi};
use crate::wire::framer::DecodeContext;
use crate::wire::next_hop::NextHop;
use crate::wire::{Parsed, nlri};

/// One attribute as received.
struct RawAttribute<'a> {
    flags: AttributeFlags,
    code: AttributeType,
    value: &'a [u8],
    /// All of it, header included.
    octets: &'a [u8],
}

/// What is wrong with an attribute and what to do about it.
type Fault = (AttributeErrorKind, Treatment);

fn withdraw(kind: AttributeErrorKind) -> Fault {
    (kind, Treatment::TreatAsWithdraw)
}

fn discard(kind: AttributeErrorKind) -> Fault {
    (kind, Treatment::Discard)
}

/// A set of attribute types, one bit for each.
#[derive(Debug, Default)]
struct Types([u64; 4]);

impl Types {
    fn contains(&self, code: AttributeType) -> bool {
        let word = self.0.get(usize::from(code.0 / 64));
        word.is_some_and(|word| word >> (code.0 % 64) & 1 == 1)
    }

    /// Adds a type; says whether it is new.
    fn insert(&mut self, code: AttributeType) -> bool {
        let new = !self.contains(code);
        if let Some(word) = self.0.get_mut(usize::from(code.0 / 64)) {
            *word |= 1 << (code.0 % 64);
        }
        new
    }
}

/// Collects the attributes of one UPDATE. Each type has two errors at most: of its first
/// attribute, and that there are more.
pub(super) struct AttributeReader<'a> {
    context: &'a DecodeContext,
    pub(super) attributes: PathAttributes,
    pub(super) mp_reach: Option<MpReach>,
    pub(super) mp_unreach: Option<MpUnreach>,
    pub(super) errors: Vec<AttributeError>,
    /// The first error that withdraws, with the octets it was found in.
    pub(super) first_withdraw: Option<(AttributeError, &'a [u8])>,
    /// The attributes ran past their field.
    pub(super) overrun: bool,
    /// MP_REACH_NLRI has prefixes, or is of a family whose prefixes don't matter.
    pub(super) names_routes: bool,
    seen: Types,
    /// Types that were there more than once: one error each, however often.
    repeated: Types,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
}

impl<'a> AttributeReader<'a> {
    pub(super) fn new(context: &'a DecodeContext) -> Self {
        Self {
            context,
            attributes: PathAttributes::default(),
            mp_reach: None,
            mp_unreach: None,
            errors: Vec::new(),
            first_withdraw: None,
            overrun: false,
            names_routes: false,
            seen: Types::default(),
            repeated: Types::default(),
            as4_path: None,
            as4_aggregator: None,
        }
    }

    /// Reads the whole attribute field. Errors are those that end the session.
    pub(super) fn read(&mut self, mut input: &'a [u8]) -> Result<(), DecodeError> {
        while !input.is_empty() {
            let Ok((tail, raw)) = attribute(input) else {
                return self.overrun(input);
            };
            self.attribute(&raw)?;
            input = tail;
        }
        Ok(())
    }

    /// Whether an attribute of that type was there, good or bad.
    pub(super) fn has_seen(&self, code: AttributeType) -> bool {
        self.seen.contains(code)
    }

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

    fn discard(&mut self, attribute: AttributeType, kind: AttributeErrorKind) {
        let treatment = Treatment::Discard;
        self.errors.push(AttributeError {
            attribute: Some(attribute),
            kind,
            treatment,
        });
    }

    /// RFC 7606 §4: withdrawn, unless it is the attribute with the routes that cannot be read
    /// (§5.3).
    fn overrun(&mut self, octets: &'a [u8]) -> Result<(), DecodeError> {
        self.overrun = true;
        let code = octets.get(1).copied().map(AttributeType);
        match code {
            Some(code @ (AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI)) => {
                Err(reset(code, AttributeErrorKind::Multiprotocol, octets))
            }
            _ => {
                self.treat_as_withdraw(code, AttributeErrorKind::Overrun, octets);
                Ok(())
            }
        }
    }

    fn attribute(&mut self, raw: &RawAttribute<'a>) -> Result<(), DecodeError> {
        let multiprotocol = matches!(
            raw.code,
            AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI
        );
        if !self.seen.insert(raw.code) {
            // RFC 7606 §3 (g).
            if multiprotocol {
                return Err(DecodeError::MalformedAttributeList);
            }
            if self.repeated.insert(raw.code) {
                self.discard(raw.code, AttributeErrorKind::Repeated);
            }
            return Ok(());
        }
        if multiprotocol {
            return self
                .multiprotocol(raw)
                .map_err(|kind| reset(raw.code, kind, raw.octets));
        }
        match self.value(raw) {
            Ok(()) => {}
            Err((kind, Treatment::Discard)) => self.discard(raw.code, kind),
            Err((kind, Treatment::TreatAsWithdraw)) => {
                self.treat_as_withdraw(Some(raw.code), kind, raw.octets);
            }
        }
        Ok(())
    }

    /// Reads every attribute but the multiprotocol ones.
    fn value(&mut self, raw: &RawAttribute<'_>) -> Result<(), Fault> {
        let Some(flags) = specified_flags(raw.code) else {
            return self.unknown(raw);
        };
        if !self.is_for_us(raw.code) {
            return Err(discard(AttributeErrorKind::NotFromThisPeer));
        }
        // The low bits may be anything (RFC 4271 §4.3).
        if (raw.flags.0 ^ flags) & (AttributeFlags::OPTIONAL | AttributeFlags::TRANSITIVE) != 0 {
            return Err(withdraw(AttributeErrorKind::Flags));
        }
        let attributes = &mut self.attributes;
        match raw.code {
            AttributeType::ORIGIN => attributes.origin = Some(origin(raw.value)?),
            AttributeType::AS_PATH => attributes.as_path = Some(as_path(raw.value, self.context)?),
            AttributeType::NEXT_HOP => {
                attributes.next_hop = Some(ipv4_next_hop(raw.value, self.context.loopback)?)
            }
            AttributeType::MULTI_EXIT_DISC => attributes.med = Some(number(raw.value)?),
            AttributeType::LOCAL_PREF => attributes.local_pref = Some(number(raw.value)?),
            AttributeType::ATOMIC_AGGREGATE => {
                if !raw.value.is_empty() {
                    return Err(discard(AttributeErrorKind::Length));
                }
                attributes.atomic_aggregate = true;
            }
            AttributeType::AGGREGATOR => {
                let aggregator = aggregator(raw.value, self.context.four_octet_asn)?;
                attributes.aggregator = Some(aggregator);
            }
            AttributeType::AS4_AGGREGATOR => {
                self.as4_aggregator = Some(aggregator(raw.value, true)?);
            }
            AttributeType::AS4_PATH => self.as4_path = Some(as4_path(raw.value)?),
            AttributeType::COMMUNITIES => attributes.communities = list(raw.value, community)?,
            AttributeType::LARGE_COMMUNITY => {
                attributes.large_communities = list(raw.value, large_community)?;
            }
            AttributeType::ORIGINATOR_ID | AttributeType::ONLY_TO_CUSTOMER => {
                number(raw.value)?;
                self.keep(raw);
            }
            AttributeType::CLUSTER_LIST => {
                check_list(raw.value, 4)?;
                self.keep(raw);
            }
            AttributeType::EXTENDED_COMMUNITIES => {
                attributes.extended_communities = list(raw.value, ExtendedCommunity)?;
            }
            AttributeType::IPV6_EXTENDED_COMMUNITIES => {
                attributes.ipv6_extended_communities = list(raw.value, Ipv6ExtendedCommunity)?;
            }
            // Read for its errors only: it means nothing to us, and isn't passed on.
            AttributeType::TRAFFIC_ENGINEERING => traffic_engineering(raw.value)?,
            AttributeType::ATTR_SET => {
                attribute_set(raw.value)?;
                self.keep(raw);
            }
            _ => self.keep(raw),
        }
        Ok(())
    }

    /// Whether this kind of peer may send the attribute at all; if not it is left out unread
    /// (RFC 7606 §7.5, §7.9, §7.10; RFC 6793 §4.1).
    fn is_for_us(&self, code: AttributeType) -> bool {
        match code {
            AttributeType::LOCAL_PREF
            | AttributeType::ORIGINATOR_ID
            | AttributeType::CLUSTER_LIST => self.context.ibgp,
            AttributeType::AS4_PATH | AttributeType::AS4_AGGREGATOR => !self.context.four_octet_asn,
            _ => true,
        }
    }

    /// RFC 4271 §5. What claims to be well-known and is not is an optional attribute with a wrong
    /// flag, for which RFC 7606 §3 (c) withdraws, rather than the mandatory attribute of
    /// RFC 4271 §6.3 that we fail to recognise: there is none (docs/bgp-errors.md).
    fn unknown(&mut self, raw: &RawAttribute<'_>) -> Result<(), Fault> {
        if !raw.flags.optional() {
            return Err(withdraw(AttributeErrorKind::UnrecognizedWellKnown));
        }
        if raw.flags.transitive() {
            self.keep(raw);
        }
        Ok(())
    }

    fn keep(&mut self, raw: &RawAttribute<'_>) {
        self.attributes.unknown.push(UnknownAttribute {
            flags: AttributeFlags(raw.flags.0 & !AttributeFlags::EXTENDED_LENGTH),
            code: raw.code,
            value: Bytes::copy_from_slice(raw.value),
        });
    }

    /// Puts together what a peer with two-octet AS numbers had to split (RFC 6793 §4.2.3).
    pub(super) fn merge_four_octet(&mut self) {
        let attributes = &mut self.attributes;
        let mut as4_path = self.as4_path.take();
        let as4_aggregator = self.as4_aggregator.take();
        if let (Some(aggregator), Some(as4_aggregator)) =
            (&mut attributes.aggregator, as4_aggregator)
        {
            if aggregator.asn == Asn::TRANS {
                *aggregator = as4_aggregator;
            } else {
                as4_path = None;
                self.discard(AttributeType::AS4_AGGREGATOR, AttributeErrorKind::Mismatch);
            }
        }
        let (Some(AsPath(path)), Some(AsPath(as4_path))) = (&mut self.attributes.as_path, as4_path)
        else {
            return;
        };
        match path.len().checked_sub(as4_path.len()) {
            Some(leading) => {
                path.truncate(leading);
                path.extend(as4_path);
            }
            None => self.discard(AttributeType::AS4_PATH, AttributeErrorKind::Mismatch),
        }
    }

    /// Where all routes are in MP_REACH_NLRI, the value of NEXT_HOP has no meaning, right or wrong
    /// (RFC 4760 §3). Some send 0.0.0.0 there. A NEXT_HOP that overruns the field stays an error,
    /// since it hides the attributes behind it (RFC 7606 §4).
    pub(super) fn ignore_next_hop(&mut self) {
        if self.names_routes {
            self.attributes.next_hop = None;
            self.errors.retain(|error| {
                error.attribute != Some(AttributeType::NEXT_HOP)
                    || error.kind == AttributeErrorKind::Overrun
            });
        }
    }

    /// Reads MP_REACH_NLRI or MP_UNREACH_NLRI. What cannot be taken apart ends the session
    /// (RFC 7606 §5.3).
    fn multiprotocol(&mut self, raw: &RawAttribute<'a>) -> Result<(), AttributeErrorKind> {
        let malformed = |_: nom::Err<()>| AttributeErrorKind::Multiprotocol;
        let (value, family) = family(raw.value).map_err(malformed)?;
        let readable = matches!(family, Family::IPV4_UNICAST | Family::IPV6_UNICAST);
        if !readable || !self.context.families.contains(&family) {
            self.names_routes |= raw.code == AttributeType::MP_REACH_NLRI;
            self.discard(raw.code, AttributeErrorKind::FamilyNotNegotiated(family));
            return Ok(());
        }
        if !raw.flags.optional() || raw.flags.transitive() {
            return Err(AttributeErrorKind::Flags);
        }
        if raw.code == AttributeType::MP_UNREACH_NLRI {
            let (nlri, path_ids) = self.prefixes(family, value)?;
            self.mp_unreach = Some(MpUnreach {
                family,
                nlri,
                path_ids,
            });
            return Ok(());
        }
        let fields: Parsed<'_, (&[u8], u8, &[u8])> = (length_data(be_u8), be_u8, rest).parse(value);
        let (_, (next_hop, _reserved, nlri)) = fields.map_err(malformed)?;
        let v6 = family == Family::IPV6_UNICAST || self.context.ipv4_next_hop_v6;
        let v4 = family == Family::IPV4_UNICAST;
        let next_hop = multiprotocol_next_hop(next_hop, v4, v6)?;
        let (nlri, path_ids) = self.prefixes(family, nlri)?;
        self.names_routes |= !nlri.is_empty();
        if !nlri.is_empty() && !is_host(&next_hop, self.context.loopback) {
            let kind = AttributeErrorKind::NextHop;
            self.treat_as_withdraw(Some(raw.code), kind, raw.octets);
        }
        self.mp_reach = Some(MpReach {
            family,
            next_hop,
            nlri,
            path_ids,
        });
        Ok(())
    }

    /// The prefixes of a unicast family, and their path identifiers if they have any.
    fn prefixes(
        &self,
        family: Family,
        octets: &[u8],
    ) -> Result<(Vec<IpNet>, Vec<u32>), AttributeErrorKind> {
        let mut ids = Vec::new();
        let with_ids = self.context.add_path.contains(&family);
        let with_ids = with_ids.then_some(&mut ids);
        let prefixes = match family {
            Family::IPV4_UNICAST => nlri::ipv4_prefixes(octets, with_ids),
            _ => nlri::ipv6_prefixes(octets, with_ids),
        };
        Ok((prefixes.ok_or(AttributeErrorKind::Multiprotocol)?, ids))
    }
}

fn reset(attribute: AttributeType, kind: AttributeErrorKind, octets: &[u8]) -> DecodeError {
    DecodeError::Attribute {
        attribute,
        kind,
        octets: Bytes::copy_from_slice(octets),
    }
}

/// One attribute of the field, whatever is in it (RFC 4271 §4.3).
fn attribute(input: &[u8]) -> Parsed<'_, RawAttribute<'_>> {
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

/// The Optional and Transitive bits an attribute must have; none for attributes whose definition
/// means nothing to us.
fn specified_flags(code: AttributeType) -> Option<u8> {
    match code {
        AttributeType::ORIGIN
        | AttributeType::AS_PATH
        | AttributeType::NEXT_HOP
        | AttributeType::LOCAL_PREF
        | AttributeType::ATOMIC_AGGREGATE => Some(AttributeFlags::TRANSITIVE),
        AttributeType::MULTI_EXIT_DISC
        | AttributeType::ORIGINATOR_ID
        | AttributeType::CLUSTER_LIST
        | AttributeType::TRAFFIC_ENGINEERING => Some(AttributeFlags::OPTIONAL),
        AttributeType::AGGREGATOR
        | AttributeType::COMMUNITIES
        | AttributeType::EXTENDED_COMMUNITIES
        | AttributeType::AS4_PATH
        | AttributeType::AS4_AGGREGATOR
        | AttributeType::IPV6_EXTENDED_COMMUNITIES
        | AttributeType::LARGE_COMMUNITY
        | AttributeType::ONLY_TO_CUSTOMER
        | AttributeType::ATTR_SET => Some(AttributeFlags::OPTIONAL | AttributeFlags::TRANSITIVE),
        _ => None,
    }
}

/// RFC 7606 §7.1.
fn origin(value: &[u8]) -> Result<Origin, Fault> {
    match value {
        [code] => Origin::from_code(*code).ok_or(withdraw(AttributeErrorKind::Value)),
        _ => Err(withdraw(AttributeErrorKind::Length)),
    }
}

/// A number of four octets (RFC 7606 §7.4, §7.5, §7.9; RFC 9234 §5).
fn number(value: &[u8]) -> Result<u32, Fault> {
    let number: Parsed<'_, u32> = all_consuming(be_u32).parse(value);
    number
        .map(|(_, number)| number)
        .map_err(|_| withdraw(AttributeErrorKind::Length))
}

/// RFC 7606 §7.3, RFC 4271 §6.3.
fn ipv4_next_hop(value: &[u8], loopback: bool) -> Result<Ipv4Addr, Fault> {
    let address = Ipv4Addr::from(number(value)?);
    match is_host(&NextHop::V4(address), loopback) {
        true => Ok(address),
        false => Err(withdraw(AttributeErrorKind::NextHop)),
    }
}

/// RFC 7606 §7.7, RFC 6793 §6, RFC 7607 §2.
fn aggregator(value: &[u8], four_octet: bool) -> Result<Aggregator, Fault> {
    let aggregator: Parsed<'_, (u32, u32)> = if four_octet {
        all_consuming((be_u32, be_u32)).parse(value)
    } else {
        all_consuming((be_u16.map(u32::from), be_u32)).parse(value)
    };
    match aggregator {
        Ok((_, (0, _))) => Err(discard(AttributeErrorKind::AsZero)),
        Ok((_, (asn, router_id))) => Ok(Aggregator {
            asn: Asn(asn),
            router_id: router_id.into(),
        }),
        Err(_) => Err(discard(AttributeErrorKind::Length)),
    }
}

/// RFC 7606 §7.2, RFC 4271 §6.3.
fn as_path(value: &[u8], context: &DecodeContext) -> Result<AsPath, Fault> {
    let path =
        as_path::decode(value, context.four_octet_asn, Confederation::Refuse).map_err(withdraw)?;
    match context.first_asn {
        Some(asn) if !context.ibgp && path.first() != Some(asn) => {
            Err(withdraw(AttributeErrorKind::FirstAs))
        }
        _ => Ok(path),
    }
}

/// RFC 6793 §6: left out when malformed; RFC 9774: a set withdraws.
fn as4_path(value: &[u8]) -> Result<AsPath, Fault> {
    as_path::decode(value, true, Confederation::Skip).map_err(|kind| match kind {
        AttributeErrorKind::AsSet => withdraw(kind),
        kind => discard(kind),
    })
}

/// RFC 7606 §7.13: no document says what malformed is, but the fixed part of one descriptor is the
/// least there can be (RFC 5543 §3). What follows depends on switching types that are still to come.
fn traffic_engineering(value: &[u8]) -> Result<(), Fault> {
    const DESCRIPTOR_MIN: usize = 4 + 8 * 4;
    match value.len() >= DESCRIPTOR_MIN {
        true => Ok(()),
        false => Err(withdraw(AttributeErrorKind::Length)),
    }
}

/// RFC 6368 §5, RFC 7606 §7.16: an AS number, and whole attributes. Those are for whoever takes them
/// out, so that their values are not looked into.
fn attribute_set(value: &[u8]) -> Result<(), Fault> {
    let origin: Parsed<'_, u32> = be_u32.parse(value);
    let (mut input, _) = origin.map_err(|_| withdraw(AttributeErrorKind::Length))?;
    while !input.is_empty() {
        let attribute = attribute(input);
        (input, _) = attribute.map_err(|_| withdraw(AttributeErrorKind::Overrun))?;
    }
    Ok(())
}

/// Checks that a list has at least one element and only whole ones, `width` octets each.
fn check_list(value: &[u8], width: usize) -> Result<(), Fault> {
    match !value.is_empty() && value.len().is_multiple_of(width) {
        true => Ok(()),
        false => Err(withdraw(AttributeErrorKind::Length)),
    }
}

/// A list of elements of `N` octets each, sorted, each once (RFC 7606 §7.8, §7.14, §7.15;
/// RFC 8092 §3, §6).
fn list<const N: usize, T: Ord>(
    value: &[u8],
    element: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, Fault> {
    check_list(value, N)?;
    let octets = value.as_chunks().0.iter().copied();
    let mut list: Vec<_> = octets.map(element).collect();
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

fn community(octets: [u8; 4]) -> Community {
    Community(u32::from_be_bytes(octets))
}

fn large_community(octets: [u8; 12]) -> LargeCommunity {
    LargeCommunity {
        global: word(&octets, 0),
        local1: word(&octets, 1),
        local2: word(&octets, 2),
    }
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

/// RFC 4760 §3, RFC 2545 §3, RFC 8950 §3: an IPv4 address if it may be one, or one or two IPv6
/// addresses if it may be those.
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
            // Some fill the second half with anything.
            link_local: second
                .first_chunk()
                .map(address)
                .filter(Ipv6Addr::is_unicast_link_local),
        }),
        _ => Err(AttributeErrorKind::Multiprotocol),
    }
}

/// Whether packets can be sent there (RFC 4271 §6.3); to the loopback only from there.
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
