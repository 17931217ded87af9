//! Octets to UPDATEs: the fields, and what holds for the message as a whole (RFC 7606).

use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net};
use nom::Parser;
use nom::combinator::rest;
use nom::multi::length_data;
use nom::number::complete::be_u16;

use super::attributes::AttributeReader;
use super::{MpReach, Update};
use crate::wire::attribute::AttributeType;
use crate::wire::error::{AttributeError, AttributeErrorKind, DecodeError, Treatment};
use crate::wire::family::Family;
use crate::wire::framer::DecodeContext;
use crate::wire::{Parsed, nlri};

impl Update {
    /// Reads a body.
    pub(in crate::wire) fn decode(
        body: &[u8],
        context: &DecodeContext,
    ) -> Result<Self, DecodeError> {
        let fields: Parsed<'_, (&[u8], &[u8], &[u8])> =
            (length_data(be_u16), length_data(be_u16), rest).parse(body);
        let (_, (withdrawn, attributes, nlri)) =
            fields.map_err(|_| DecodeError::MalformedAttributeList)?;
        let withdrawn = nlri::ipv4_prefixes(withdrawn).ok_or(DecodeError::InvalidNetwork)?;
        let nlri: Vec<Ipv4Net> = nlri::ipv4_prefixes(nlri).ok_or(DecodeError::InvalidNetwork)?;

        let mut reader = AttributeReader::new(context);
        reader.read(attributes)?;
        reader.merge_four_octet();
        if nlri.is_empty() {
            reader.ignore_next_hop();
        }
        require_attributes(&mut reader, &nlri, context);
        refuse_unlocatable(&reader, &nlri)?;

        let mut update = Self {
            withdrawn,
            attributes: reader.attributes,
            nlri,
            mp_reach: reader.mp_reach,
            mp_unreach: reader.mp_unreach,
            errors: reader.errors,
            malformed: None,
        };
        update.leave_out_family(context);
        update.leave_out_not_unicast();
        update.let_announcements_win();
        if !update.errors.is_empty() {
            update.malformed = Some(Bytes::copy_from_slice(body));
        }
        Ok(update)
    }

    /// IPv4 routes outside the multiprotocol attributes are of a family like any other.
    fn leave_out_family(&mut self, context: &DecodeContext) {
        let family = Family::IPV4_UNICAST;
        let empty = self.nlri.is_empty() && self.withdrawn.is_empty();
        if !empty && !context.families.contains(&family) {
            self.nlri.clear();
            self.withdrawn.clear();
            self.discarded(AttributeErrorKind::FamilyNotNegotiated(family));
        }
    }

    /// RFC 4271 §6.3: a prefix that is semantically wrong is ignored and logged, nothing more.
    fn leave_out_not_unicast(&mut self) {
        let mut left_out = 0u16;
        let mut keep = |prefix: &IpNet| {
            let keep = nlri::is_unicast(prefix);
            left_out = left_out.saturating_add((!keep).into());
            keep
        };
        self.nlri.retain(|&prefix| keep(&prefix.into()));
        if let Some(reach) = &mut self.mp_reach {
            reach.nlri.retain(keep);
        }
        if left_out > 0 {
            self.discarded(AttributeErrorKind::NotUnicast(left_out));
        }
    }

    /// RFC 4271 §4.3: a prefix both withdrawn and announced is announced.
    fn let_announcements_win(&mut self) {
        if !self.withdrawn.is_empty() && !self.nlri.is_empty() {
            let announced = sorted(&self.nlri);
            self.withdrawn
                .retain(|prefix| announced.binary_search(prefix).is_err());
        }
        if let (Some(MpReach { nlri, .. }), Some(unreach)) = (&self.mp_reach, &mut self.mp_unreach)
            && !nlri.is_empty()
        {
            let announced = sorted(nlri);
            unreach
                .nlri
                .retain(|prefix| announced.binary_search(prefix).is_err());
        }
    }

    fn discarded(&mut self, kind: AttributeErrorKind) {
        let treatment = Treatment::Discard;
        self.errors.push(AttributeError {
            attribute: None,
            kind,
            treatment,
        });
    }
}

fn sorted<P: Ord + Clone>(prefixes: &[P]) -> Vec<P> {
    let mut prefixes = prefixes.to_vec();
    prefixes.sort_unstable();
    prefixes
}

/// RFC 4271 §5, RFC 7606 §3 (d): what must come with an announcement.
fn require_attributes(reader: &mut AttributeReader<'_>, nlri: &[Ipv4Net], context: &DecodeContext) {
    let in_mp_reach = reader
        .mp_reach
        .as_ref()
        .is_some_and(|reach| !reach.nlri.is_empty());
    // What comes after an overrun may well have been there.
    if reader.overrun || (nlri.is_empty() && !in_mp_reach) {
        return;
    }
    let required = [
        (AttributeType::ORIGIN, true),
        (AttributeType::AS_PATH, true),
        (AttributeType::NEXT_HOP, !nlri.is_empty()),
        (AttributeType::LOCAL_PREF, context.ibgp),
    ];
    for (code, required) in required {
        if required && !reader.has_seen(code) {
            reader.treat_as_withdraw(Some(code), AttributeErrorKind::Missing, &[]);
        }
    }
}

/// RFC 7606 §5.2: to treat as withdrawal one must know what. An error beside attributes that
/// belong to no route in sight may hide the routes.
fn refuse_unlocatable(reader: &AttributeReader<'_>, nlri: &[Ipv4Net]) -> Result<(), DecodeError> {
    let Some((error, octets)) = &reader.first_withdraw else {
        return Ok(());
    };
    if reader.names_routes || !nlri.is_empty() {
        return Ok(());
    }
    Err(match error.attribute {
        Some(attribute) => DecodeError::Attribute {
            attribute,
            kind: error.kind,
            octets: Bytes::copy_from_slice(octets),
        },
        None => DecodeError::MalformedAttributeList,
    })
}
