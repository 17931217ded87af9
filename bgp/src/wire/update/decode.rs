//! Decodes UPDATE messages: the fields, and the rules for the message as a whole (RFC 7606).

use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net};
use nom::Parser;
use nom::combinator::rest;
use nom::multi::length_data;
use nom::number::complete::be_u16;

use super::Update;
use crate::wire::attribute_decode::AttributeReader;
use crate::wire::codes::AttributeType;
use crate::wire::context::DecodeContext;
use crate::wire::error::{AttributeError, AttributeErrorKind, DecodeError, Treatment};
use crate::wire::family::Family;
use crate::wire::{Parsed, nlri};

impl Update {
    /// Decodes the body of an UPDATE.
    pub(in crate::wire) fn decode(
        body: &[u8],
        context: &DecodeContext,
    ) -> Result<Self, DecodeError> {
        let fields: Parsed<'_, (&[u8], &[u8], &[u8])> =
            (length_data(be_u16), length_data(be_u16), rest).parse(body);
        let (_, (withdrawn, attributes, nlri)) =
            fields.map_err(|_| DecodeError::MalformedAttributeList)?;
        let prefixes = |field| nlri::ipv4_prefixes(field).ok_or(DecodeError::InvalidNetwork);
        let withdrawn = prefixes(withdrawn)?;
        let nlri = prefixes(nlri)?;

        let mut reader = AttributeReader::new(context);
        reader.read(attributes)?;
        reader.merge_four_octet();
        if nlri.is_empty() {
            reader.ignore_next_hop();
        }
        require_attributes(&mut reader, &nlri, context);
        reset_without_routes(&reader, &nlri)?;

        let mut update = Self {
            withdrawn,
            attributes: reader.attributes,
            nlri,
            mp_reach: reader.mp_reach,
            mp_unreach: reader.mp_unreach,
            errors: reader.errors,
            errors_omitted: 0,
            malformed: None,
        };
        update.drop_unnegotiated_ipv4(context);
        update.drop_not_unicast();
        update.let_announcements_win();
        update.bound_errors();
        if !update.errors.is_empty() {
            update.malformed = Some(Bytes::copy_from_slice(body));
        }
        Ok(update)
    }

    /// Drops the IPv4 routes of the NLRI and withdrawn fields unless IPv4 unicast was negotiated
    /// (RFC 4760 §6).
    fn drop_unnegotiated_ipv4(&mut self, context: &DecodeContext) {
        let family = Family::IPV4_UNICAST;
        let empty = self.nlri.is_empty() && self.withdrawn.is_empty();
        if !empty && !context.families.contains(&family) {
            self.nlri.clear();
            self.withdrawn.clear();
            self.discarded(AttributeErrorKind::FamilyNotNegotiated(family));
        }
    }

    /// Drops announced prefixes that are not unicast. RFC 4271 §6.3: a semantically incorrect
    /// prefix is logged and ignored.
    fn drop_not_unicast(&mut self) {
        let mut multiprotocol = self.mp_reach.iter().flat_map(|reach| &reach.nlri);
        if self.nlri.iter().all(nlri::is_ipv4_unicast) && multiprotocol.all(nlri::is_unicast) {
            return; // the common case
        }
        let mut dropped = 0u16;
        let mut keep = |prefix: &IpNet| {
            let keep = nlri::is_unicast(prefix);
            dropped = dropped.saturating_add((!keep).into());
            keep
        };
        self.nlri.retain(|&prefix| keep(&prefix.into()));
        if let Some(reach) = &mut self.mp_reach {
            reach.nlri.retain(|prefix| keep(prefix));
        }
        if dropped > 0 {
            self.discarded(AttributeErrorKind::NotUnicast(dropped));
        }
    }

    /// A prefix that is both withdrawn and announced counts as announced (RFC 4271 §4.3).
    fn let_announcements_win(&mut self) {
        remove_announced(&mut self.withdrawn, &self.nlri);
        if let (Some(reach), Some(unreach)) = (&self.mp_reach, &mut self.mp_unreach) {
            remove_announced(&mut unreach.nlri, &reach.nlri);
        }
    }

    /// Limits the errors to the first ones, the first of the strongest treatment included.
    fn bound_errors(&mut self) {
        self.errors_omitted = self.errors.len().saturating_sub(Self::ERRORS_MAX);
        if self.errors_omitted == 0 {
            return;
        }
        let strongest = self.treatment();
        let first = self.errors.iter();
        let first = first.map(|error| error.treatment);
        let first = first.map(Some).position(|treatment| treatment == strongest);
        if let Some(first) = first.filter(|first| *first >= Self::ERRORS_MAX) {
            self.errors.swap(Self::ERRORS_MAX - 1, first);
        }
        self.errors.truncate(Self::ERRORS_MAX);
        self.errors.shrink_to_fit();
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

/// Removes the announced prefixes from the withdrawn ones.
fn remove_announced<P: Ord + Copy>(withdrawn: &mut Vec<P>, announced: &[P]) {
    if withdrawn.is_empty() || announced.is_empty() {
        return;
    }
    let mut announced = announced.to_vec();
    announced.sort_unstable();
    withdrawn.retain(|prefix| announced.binary_search(prefix).is_err());
}

/// Reports mandatory attributes that an announcement lacks (RFC 4271 §5, RFC 7606 §3 (d)).
fn require_attributes(reader: &mut AttributeReader<'_>, nlri: &[Ipv4Net], context: &DecodeContext) {
    let in_mp_reach = reader
        .mp_reach
        .as_ref()
        .is_some_and(|reach| !reach.nlri.is_empty());
    // After an overrun the missing attribute may be in the unreadable rest.
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

/// Resets the session if treat-as-withdraw is needed but no route is readable (RFC 7606 §5.2): the
/// error may hide the routes to withdraw.
fn reset_without_routes(reader: &AttributeReader<'_>, nlri: &[Ipv4Net]) -> Result<(), DecodeError> {
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
