//! Reads the attribute field of an UPDATE: looks up each attribute in the table, and applies the
//! error handling of RFC 7606 §3 to §5.

use bytes::Bytes;

use crate::wire::as_path::AsPath;
use crate::wire::asn::Asn;
use crate::wire::attribute::PathAttributes;
use crate::wire::attribute_decode::{
    AttributeReader, RawAttribute, Types, attribute, is_multiprotocol,
};
use crate::wire::attribute_table::{self, OnError};
use crate::wire::codes::AttributeType;
use crate::wire::context::DecodeContext;
use crate::wire::error::{AttributeErrorKind, DecodeError};

/// An error in one attribute, and its effect.
type Fault = (AttributeErrorKind, OnError);

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

    /// Decodes the attribute field of an UPDATE. An error resets the session.
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

    /// Whether the UPDATE has an attribute of that type, valid or not.
    pub(super) fn has_seen(&self, code: AttributeType) -> bool {
        self.seen.contains(code)
    }

    /// RFC 7606 §4: treat-as-withdraw, but a session reset if the truncated attribute carries
    /// routes (§5.3).
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
        if !self.seen.insert(raw.code) {
            // RFC 7606 §3 (g).
            if is_multiprotocol(raw.code) {
                return Err(DecodeError::MalformedAttributeList);
            }
            if self.repeated.insert(raw.code) {
                self.discard(raw.code, AttributeErrorKind::Repeated);
            }
            return Ok(());
        }
        match self.value(raw) {
            Ok(()) => {}
            Err((kind, OnError::Discard)) => self.discard(raw.code, kind),
            Err((kind, OnError::Withdraw)) => {
                self.treat_as_withdraw(Some(raw.code), kind, raw.octets);
            }
            Err((kind, OnError::Reset)) => return Err(reset(raw.code, kind, raw.octets)),
        }
        Ok(())
    }

    /// Checks sender and flags, then decodes the value.
    fn value(&mut self, raw: &RawAttribute<'a>) -> Result<(), Fault> {
        let Some(spec) = attribute_table::spec(raw.code) else {
            return self.unknown(raw);
        };
        if !spec.sender.includes(self.context) {
            return Err((AttributeErrorKind::NotFromThisPeer, OnError::Discard));
        }
        // The family decides first whether errors in a multiprotocol attribute matter.
        if !is_multiprotocol(raw.code) && !raw.has_flags(spec.flags) {
            return Err((AttributeErrorKind::Flags, OnError::Withdraw));
        }
        (spec.decode)(self, raw).map_err(|kind| match kind {
            // RFC 9774 §3, in AS4_PATH too.
            AttributeErrorKind::AsSet => (kind, OnError::Withdraw),
            _ => (kind, spec.on_error),
        })
    }

    /// Keeps an unrecognized transitive attribute and drops a non-transitive one (RFC 4271 §5).
    ///
    /// An unrecognized attribute without the Optional bit counts as an optional attribute with
    /// wrong flags (treat-as-withdraw, RFC 7606 §3 (c)), not as an unrecognized well-known
    /// attribute (session reset, RFC 4271 §6.3): every well-known attribute is in the table. See
    /// docs/bgp-errors.md.
    fn unknown(&mut self, raw: &RawAttribute<'_>) -> Result<(), Fault> {
        if !raw.flags.optional() {
            let kind = AttributeErrorKind::UnrecognizedWellKnown;
            return Err((kind, OnError::Withdraw));
        }
        if raw.flags.transitive() {
            self.keep(raw);
        }
        Ok(())
    }

    /// Merges AS4_PATH into AS_PATH and AS4_AGGREGATOR into AGGREGATOR (RFC 6793 §4.2.3).
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

    /// Ignores NEXT_HOP and its errors in an UPDATE whose routes are all in MP_REACH_NLRI
    /// (RFC 4760 §3); some speakers send 0.0.0.0 there. A NEXT_HOP that overruns the field remains
    /// an error, because it hides the attributes after it (RFC 7606 §4).
    pub(super) fn ignore_next_hop(&mut self) {
        if self.names_routes {
            self.attributes.next_hop = None;
            self.errors.retain(|error| {
                error.attribute != Some(AttributeType::NEXT_HOP)
                    || error.kind == AttributeErrorKind::Overrun
            });
        }
    }
}

fn reset(attribute: AttributeType, kind: AttributeErrorKind, octets: &[u8]) -> DecodeError {
    DecodeError::Attribute {
        attribute,
        kind,
        octets: Bytes::copy_from_slice(octets),
    }
}
