//! The table of path attributes: one row for each attribute that the codec knows.
//!
//! A row gives the attribute's name, its flags, the peers that may send it, the effect of an error
//! in it (RFC 7606), and the functions that decode and encode its value. To add an attribute, add
//! a row here, a field to [`PathAttributes`], the two functions in `attribute_decode.rs` and
//! `attribute_encode.rs`, and the rule to `bgp/tests/fixtures/error_rules.tsv`, which names the
//! tests.

use std::fmt;
use std::net::Ipv4Addr;

use bytes::BytesMut;

use super::attribute::{AttributeFlags, PathAttributes};
use super::attribute_decode::{self as decode, AttributeReader, RawAttribute};
use super::attribute_encode::{self as encode, AttributeWriter};
use super::codes::AttributeType;
use super::context::DecodeContext;
use super::error::AttributeErrorKind;

/// What the codec knows about one path attribute.
pub(super) struct AttributeSpec {
    pub(super) code: AttributeType,
    /// The name that the RFCs use.
    pub(super) name: &'static str,
    /// The Optional and Transitive bits that the attribute must have.
    pub(super) flags: AttributeFlags,
    pub(super) sender: Sender,
    pub(super) on_error: OnError,
    pub(super) decode: Decode,
    /// `None` if only the decoder needs the attribute, or the message builder writes it.
    pub(super) encode: Option<Encode>,
}

type Decode =
    for<'a> fn(&mut AttributeReader<'a>, &RawAttribute<'a>) -> Result<(), AttributeErrorKind>;
type Encode = fn(&mut AttributeWriter<'_>);

/// The peers that may send an attribute. From any other peer it is discarded without a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Any,
    /// Peers in our AS (RFC 7606 §7.5, §7.9, §7.10).
    Internal,
    /// Peers without four-octet AS numbers (RFC 6793 §4.1).
    TwoOctet,
}

impl Sender {
    pub(super) fn includes(self, context: &DecodeContext) -> bool {
        match self {
            Self::Any => true,
            Self::Internal => context.ibgp,
            Self::TwoOctet => !context.four_octet_asn,
        }
    }
}

/// The effect of a malformed attribute (RFC 7606 §2). Wrong flags always cause treat-as-withdraw
/// (RFC 7606 §3 c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnError {
    /// Attribute discard.
    Discard,
    /// Treat-as-withdraw.
    Withdraw,
    /// Session reset.
    Reset,
}

const WELL_KNOWN: u8 = AttributeFlags::TRANSITIVE;
const OPTIONAL: u8 = AttributeFlags::OPTIONAL;
const TRANSITIVE: u8 = AttributeFlags::OPTIONAL | AttributeFlags::TRANSITIVE;

/// Declares each attribute once: its constant in [`AttributeType`] and its row.
macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $flags:expr,
        $sender:ident, $on_error:ident, $decode:expr, $encode:expr;)*) => {
        impl AttributeType {
            $($(#[$doc])* pub const $name: Self = Self($code);)*
        }

        mod row {
            use super::*;
            $(pub(super) static $name: AttributeSpec = AttributeSpec {
                code: AttributeType::$name,
                name: $text,
                flags: AttributeFlags($flags),
                sender: Sender::$sender,
                on_error: OnError::$on_error,
                decode: $decode,
                encode: $encode,
            };)*
        }

        /// All rows by type code, which is the order of attributes in an UPDATE
        /// (RFC 4271 appendix F.4).
        static ATTRIBUTES: &[&AttributeSpec] = &[$(&row::$name),*];

        /// The row of an attribute; `None` for attributes that the codec doesn't know.
        pub(super) fn spec(code: AttributeType) -> Option<&'static AttributeSpec> {
            match code {
                $(AttributeType::$name => Some(&row::$name),)*
                _ => None,
            }
        }
    };
}

// Constant = code, name, flags, sender, on error, decode, encode. Attributes without a use for an
// announcer are checked as RFC 7606 asks and kept as octets (`keep_…`).
attributes! {
    /// RFC 4271 §5.1.1, RFC 7606 §7.1.
    ORIGIN = 1, "ORIGIN", WELL_KNOWN,
        Any, Withdraw, decode::origin, Some(encode::origin);
    /// RFC 4271 §5.1.2, RFC 7606 §7.2.
    AS_PATH = 2, "AS_PATH", WELL_KNOWN,
        Any, Withdraw, decode::as_path, Some(encode::as_path);
    /// RFC 4271 §5.1.3, RFC 7606 §7.3.
    NEXT_HOP = 3, "NEXT_HOP", WELL_KNOWN,
        Any, Withdraw, decode::next_hop, Some(encode::next_hop);
    /// RFC 4271 §5.1.4, RFC 7606 §7.4.
    MULTI_EXIT_DISC = 4, "MULTI_EXIT_DISC", OPTIONAL,
        Any, Withdraw, decode::med, Some(encode::med);
    /// RFC 4271 §5.1.5, RFC 7606 §7.5.
    LOCAL_PREF = 5, "LOCAL_PREF", WELL_KNOWN,
        Internal, Withdraw, decode::local_pref, Some(encode::local_pref);
    /// RFC 4271 §5.1.6, RFC 7606 §7.6.
    ATOMIC_AGGREGATE = 6, "ATOMIC_AGGREGATE", WELL_KNOWN,
        Any, Discard, decode::atomic_aggregate, Some(encode::atomic_aggregate);
    /// RFC 4271 §5.1.7, RFC 7606 §7.7.
    AGGREGATOR = 7, "AGGREGATOR", TRANSITIVE,
        Any, Discard, decode::aggregator, Some(encode::aggregator);
    /// RFC 1997, RFC 7606 §7.8.
    COMMUNITIES = 8, "COMMUNITIES", TRANSITIVE,
        Any, Withdraw, decode::communities, Some(encode::communities);
    /// RFC 4456 §8, RFC 7606 §7.9.
    ORIGINATOR_ID = 9, "ORIGINATOR_ID", OPTIONAL,
        Internal, Withdraw, decode::keep_number, None;
    /// RFC 4456 §8, RFC 7606 §7.10.
    CLUSTER_LIST = 10, "CLUSTER_LIST", OPTIONAL,
        Internal, Withdraw, decode::keep_cluster_list, None;
    /// RFC 4760 §3, RFC 7606 §7.11. The message builder writes it.
    MP_REACH_NLRI = 14, "MP_REACH_NLRI", OPTIONAL,
        Any, Reset, decode::mp_reach, None;
    /// RFC 4760 §4, RFC 7606 §7.12. The message builder writes it.
    MP_UNREACH_NLRI = 15, "MP_UNREACH_NLRI", OPTIONAL,
        Any, Reset, decode::mp_unreach, None;
    /// RFC 4360, RFC 7606 §7.14.
    EXTENDED_COMMUNITIES = 16, "EXTENDED COMMUNITIES", TRANSITIVE,
        Any, Withdraw, decode::extended_communities, Some(encode::extended_communities);
    /// RFC 6793 §3, §6.
    AS4_PATH = 17, "AS4_PATH", TRANSITIVE,
        TwoOctet, Discard, decode::as4_path, Some(encode::as4_path);
    /// RFC 6793 §3, §6.
    AS4_AGGREGATOR = 18, "AS4_AGGREGATOR", TRANSITIVE,
        TwoOctet, Discard, decode::as4_aggregator, Some(encode::as4_aggregator);
    /// RFC 5543, RFC 7606 §7.13.
    TRAFFIC_ENGINEERING = 24, "TRAFFIC_ENGINEERING", OPTIONAL,
        Any, Withdraw, decode::traffic_engineering, None;
    /// RFC 5701, RFC 7606 §7.15.
    IPV6_EXTENDED_COMMUNITIES = 25, "IPv6 EXTENDED COMMUNITIES", TRANSITIVE,
        Any, Withdraw, decode::ipv6_extended_communities, Some(encode::ipv6_extended_communities);
    /// RFC 8092 §3, §6.
    LARGE_COMMUNITY = 32, "LARGE_COMMUNITY", TRANSITIVE,
        Any, Withdraw, decode::large_communities, Some(encode::large_communities);
    /// RFC 9234 §5.
    ONLY_TO_CUSTOMER = 35, "ONLY_TO_CUSTOMER", TRANSITIVE,
        Any, Withdraw, decode::keep_number, None;
    /// RFC 6368 §5, RFC 7606 §7.16.
    ATTR_SET = 128, "ATTR_SET", TRANSITIVE,
        Any, Withdraw, decode::keep_attribute_set, None;
}

/// Encodes all attributes except MP_REACH_NLRI and MP_UNREACH_NLRI. For a peer without four-octet
/// AS numbers, AS_TRANS replaces the numbers that need four octets, and AS4_PATH and
/// AS4_AGGREGATOR carry the real ones (RFC 6793 §4.2.2).
pub(super) fn encode_attributes(
    attributes: &PathAttributes,
    next_hop: Option<Ipv4Addr>,
    four_octet_asn: bool,
) -> BytesMut {
    let mut writer = AttributeWriter::new(attributes, next_hop, four_octet_asn);
    for spec in ATTRIBUTES {
        if let Some(encode) = spec.encode {
            writer.put(spec.flags, spec.code, encode);
        }
    }
    writer.finish()
}

impl AttributeType {
    /// The name that the RFCs use, for attributes that the codec knows.
    pub fn name(self) -> Option<&'static str> {
        spec(self).map(|spec| spec.name)
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "attribute {}", self.0),
        }
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_type_codes_rfc4271_f_4() {
        assert!(ATTRIBUTES.is_sorted_by_key(|spec| spec.code));
    }
}
