//! Octets to UPDATEs: the fields, and what holds for the message as a whole (RFC 7606).

use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net};
use nom::Parser;
use nom::combinator::rest;
use nom::multi::length_data;
use nom::number::complete::be_u16;

use super::Update;
use super::attributes::AttributeReader;
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
        let (withdrawn, withdrawn_ids) = prefixes(withdrawn, context)?;
        let (nlri, nlri_ids) = prefixes(nlri, context)?;

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
            withdrawn_ids,
            attributes: reader.attributes,
            nlri,
            nlri_ids,
            mp_reach: reader.mp_reach,
            mp_unreach: reader.mp_unreach,
            errors: reader.errors,
            errors_left_out: 0,
            malformed: None,
        };
        update.leave_out_family(context);
        update.leave_out_not_unicast();
        update.let_announcements_win();
        update.bound_errors();
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
            self.nlri_ids.clear();
            self.withdrawn.clear();
            self.withdrawn_ids.clear();
            self.discarded(AttributeErrorKind::FamilyNotNegotiated(family));
        }
    }

    /// RFC 4271 §6.3: a prefix that is semantically wrong is ignored and logged, nothing more.
    fn leave_out_not_unicast(&mut self) {
        let mut multiprotocol = self.mp_reach.iter().flat_map(|reach| &reach.nlri);
        if self.nlri.iter().all(nlri::is_ipv4_unicast) && multiprotocol.all(nlri::is_unicast) {
            return; // as nearly always
        }
        let mut left_out = 0u16;
        let mut keep = |prefix: &IpNet| {
            let keep = nlri::is_unicast(prefix);
            left_out = left_out.saturating_add((!keep).into());
            keep
        };
        retain(&mut self.nlri, &mut self.nlri_ids, |&prefix, _| {
            keep(&prefix.into())
        });
        if let Some(reach) = &mut self.mp_reach {
            retain(&mut reach.nlri, &mut reach.path_ids, |prefix, _| {
                keep(prefix)
            });
        }
        if left_out > 0 {
            self.discarded(AttributeErrorKind::NotUnicast(left_out));
        }
    }

    /// RFC 4271 §4.3: a prefix both withdrawn and announced is announced. With path identifiers
    /// that is so for each path (RFC 7911 §5).
    fn let_announcements_win(&mut self) {
        leave_out_announced(
            (&mut self.withdrawn, &mut self.withdrawn_ids),
            (&self.nlri, &self.nlri_ids),
        );
        if let (Some(reach), Some(unreach)) = (&self.mp_reach, &mut self.mp_unreach) {
            leave_out_announced(
                (&mut unreach.nlri, &mut unreach.path_ids),
                (&reach.nlri, &reach.path_ids),
            );
        }
    }

    /// Keeps the first errors, and among them the first of the strongest treatment.
    fn bound_errors(&mut self) {
        self.errors_left_out = self.errors.len().saturating_sub(Self::ERRORS_MAX);
        if self.errors_left_out == 0 {
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

/// The prefixes of the withdrawn or the NLRI field, and their path identifiers if they have any.
fn prefixes(
    field: &[u8],
    context: &DecodeContext,
) -> Result<(Vec<Ipv4Net>, Vec<u32>), DecodeError> {
    let mut ids = Vec::new();
    let with_ids = context.add_path.contains(&Family::IPV4_UNICAST);
    let prefixes = nlri::ipv4_prefixes(field, with_ids.then_some(&mut ids));
    Ok((prefixes.ok_or(DecodeError::InvalidNetwork)?, ids))
}

/// The identifier at `position`, zero where there are none at all.
fn id_at(ids: &[u32], position: usize) -> u32 {
    ids.get(position).copied().unwrap_or(0)
}

/// Keeps what `keep` wants of prefixes and of the identifiers that belong to them.
fn retain<P>(prefixes: &mut Vec<P>, ids: &mut Vec<u32>, mut keep: impl FnMut(&P, u32) -> bool) {
    if ids.is_empty() {
        return prefixes.retain(|prefix| keep(prefix, 0));
    }
    let mut position = 0;
    let mut kept_ids = Vec::with_capacity(ids.len());
    prefixes.retain(|prefix| {
        let id = id_at(ids, position);
        position += 1;
        let keep = keep(prefix, id);
        if keep {
            kept_ids.push(id);
        }
        keep
    });
    *ids = kept_ids;
}

/// Takes what is announced out of what is withdrawn, each given with its path identifiers.
fn leave_out_announced<P: Ord + Copy>(
    (withdrawn, withdrawn_ids): (&mut Vec<P>, &mut Vec<u32>),
    (announced, announced_ids): (&[P], &[u32]),
) {
    if withdrawn.is_empty() || announced.is_empty() {
        return;
    }
    let path = |(position, &prefix)| (prefix, id_at(announced_ids, position));
    let mut announced: Vec<(P, u32)> = announced.iter().enumerate().map(path).collect();
    announced.sort_unstable();
    retain(withdrawn, withdrawn_ids, |&prefix, id| {
        announced.binary_search(&(prefix, id)).is_err()
    });
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
