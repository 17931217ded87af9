//! The attribute → action list, one test for each row: U for the message, F for any attribute,
//! A with the type's number for one.

use super::*;
use crate::wire::{
    AsPath, Asn, AttributeErrorKind, AttributeType, Community, DecodeContext, DecodeError,
    ExtendedCommunity, LargeCommunity, MAX_EXTENDED_LENGTH, Message, Origin,
};

const ORIGIN: &str = "40010100";
const AS_PATH: &str = "40020602010000fde9";
const NEXT_HOP: &str = "4003040a630101";
/// ORIGIN, AS_PATH and NEXT_HOP of a good route.
const BASE: &str = "40010100 40020602010000fde9 4003040a630101";
/// 198.51.1.0/24.
const P: &str = "18c63301";
/// 2001:db8:a::9/128 by way of fd99:1::1.
const REACH: &str = "800e26 0002 01 10 fd990001000000000000000000000001 00 \
                     80 20010db8000a00000000000000000009";

fn octets(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn external() -> DecodeContext {
    DecodeContext {
        four_octet_asn: true,
        ibgp: false,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ..DecodeContext::default()
    }
}

fn internal() -> DecodeContext {
    DecodeContext {
        ibgp: true,
        ..external()
    }
}

fn old() -> DecodeContext {
    DecodeContext {
        four_octet_asn: false,
        ..external()
    }
}

fn decode_body(body: &[u8], context: &DecodeContext) -> Result<Update, DecodeError> {
    let length = u16::try_from(19 + body.len()).unwrap();
    let message = [&[0xff; 16][..], &length.to_be_bytes(), &[2], body].concat();
    match Message::decode(&message, context) {
        Some(Ok(Message::Update(update))) => Ok(update),
        Some(Err(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn fields(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    let field = |hex| {
        let octets = octets(hex);
        let length = u16::try_from(octets.len()).unwrap().to_be_bytes();
        [&length[..], &octets].concat()
    };
    [field(withdrawn), field(attributes), octets(nlri)].concat()
}

fn decode_with(context: &DecodeContext, attributes: &str, nlri: &str) -> Update {
    decode_body(&fields("", attributes, nlri), context).expect("the session survives")
}

/// Announces P with `attributes` to an external peer.
fn decode(attributes: &str) -> Update {
    decode_with(&external(), attributes, P)
}

/// Announces P with the good attributes and one more.
fn with(extra: &str) -> Update {
    decode(&format!("{BASE} {extra}"))
}

/// What a refused UPDATE is answered with: code, subcode, data.
fn refused(withdrawn: &str, attributes: &str, nlri: &str) -> (u8, u8, Vec<u8>) {
    let error = decode_body(&fields(withdrawn, attributes, nlri), &external());
    let notification = error.expect_err("the session ends").notification();
    (
        notification.code.0,
        notification.subcode,
        notification.data.to_vec(),
    )
}

fn names(prefixes: impl Iterator<Item = IpNet>) -> Vec<String> {
    prefixes.map(|prefix| prefix.to_string()).collect()
}

#[track_caller]
fn assert_error(update: &Update, attribute: u8, kind: AttributeErrorKind, treatment: Treatment) {
    let error = AttributeError {
        attribute: Some(AttributeType(attribute)),
        kind,
        treatment,
    };
    assert_eq!(update.errors, [error]);
    assert!(update.malformed.is_some(), "kept for the log");
}

/// P is gone, for exactly this reason.
#[track_caller]
fn assert_withdrawn(update: &Update, attribute: u8, kind: AttributeErrorKind) {
    assert_error(update, attribute, kind, Treatment::TreatAsWithdraw);
    assert_eq!(names(update.announced()), [""; 0]);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.1.0/24"]);
}

/// P stands, the attribute is left out for exactly this reason.
#[track_caller]
fn assert_discarded(update: &Update, attribute: u8, kind: AttributeErrorKind) {
    assert_error(update, attribute, kind, Treatment::Discard);
    assert_eq!(names(update.announced()), ["198.51.1.0/24"]);
    assert_eq!(names(update.withdrawn_prefixes()), [""; 0]);
}

/// P stands and nothing was wrong.
#[track_caller]
fn assert_accepted(update: &Update) {
    assert_eq!(update.errors, []);
    assert_eq!(update.malformed, None);
    assert_eq!(names(update.announced()), ["198.51.1.0/24"]);
}

#[test]
fn a_good_update_is_read_whole() {
    let update = with(
        "80040400000007 400600 c007080000fde90a000001 c0080cfde90001ffffff0100000001 \
         c0200c000000010000000200000003",
    );
    assert_accepted(&update);
    let attributes = &update.attributes;
    assert_eq!(attributes.origin, Some(Origin::Igp));
    assert_eq!(attributes.as_path, Some(AsPath(vec![Asn(65001)])));
    assert_eq!(attributes.next_hop, Some([10, 99, 1, 1].into()));
    assert_eq!(attributes.med, Some(7));
    assert!(attributes.atomic_aggregate);
    assert_eq!(attributes.aggregator.map(|from| from.asn), Some(Asn(65001)));
    let communities = [Community(1), Community::new(65001, 1), Community::NO_EXPORT];
    assert_eq!(attributes.communities, communities);
    let large = LargeCommunity {
        global: 1,
        local1: 2,
        local2: 3,
    };
    assert_eq!(attributes.large_communities, [large]);
    assert_eq!(update.end_of_rib(), None);
}

#[test]
fn u1_lengths_beyond_the_message_end_the_session() {
    for body in [
        "0000 0022 40010100",
        "00c8 0014 40010100",
        "ffff 0000",
        "0001 0000",
    ] {
        let error = decode_body(&octets(body), &external()).unwrap_err();
        assert_eq!(error, DecodeError::MalformedAttributeList, "{body}");
        let notification = error.notification();
        assert_eq!((notification.code.0, notification.subcode), (3, 1));
        assert!(notification.data.is_empty());
    }
}

#[test]
fn u2_prefixes_that_cannot_be_delimited_end_the_session() {
    for nlri in ["21c633640100", "18c6330120c633", "18", "ff"] {
        assert_eq!(refused("", BASE, nlri), (3, 10, vec![]), "{nlri}");
        assert_eq!(refused(nlri, "", ""), (3, 10, vec![]), "{nlri}");
    }
}

#[test]
fn u3_prefixes_that_are_not_unicast_are_left_out() {
    let update = decode_with(&external(), BASE, "18c63301 10e001 08f0 20ffffffff");
    assert_eq!(names(update.announced()), ["198.51.1.0/24"]);
    let kind = AttributeErrorKind::NotUnicast(3);
    let error = AttributeError {
        attribute: None,
        kind,
        treatment: Treatment::Discard,
    };
    assert_eq!(update.errors, [error]);
    let update = decode_with(
        &external(),
        &REACH.replace("80 20010db8", "80 ff020db8"),
        "",
    );
    assert_eq!(names(update.announced()), [""; 0]);
}

#[test]
fn u4_a_prefix_withdrawn_and_announced_is_announced() {
    let update = decode_body(&fields("18c63301 18c63302", BASE, P), &external()).unwrap();
    assert_accepted(&update);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.2.0/24"]);
    let unreach = "800f25 0002 01 80 20010db8000a00000000000000000009 \
                   80 20010db8000a00000000000000000008";
    let update = decode_with(
        &external(),
        &format!("{REACH} {unreach} {ORIGIN} {AS_PATH}"),
        "",
    );
    assert_eq!(names(update.announced()), ["2001:db8:a::9/128"]);
    assert_eq!(names(update.withdrawn_prefixes()), ["2001:db8:a::8/128"]);
}

#[test]
fn u5_attributes_past_their_field_withdraw() {
    assert_withdrawn(&with("c00820fde90001"), 8, AttributeErrorKind::Overrun);
    assert_withdrawn(&with("c008"), 8, AttributeErrorKind::Overrun);
    assert_withdrawn(&with("d00800"), 8, AttributeErrorKind::Overrun);
    // 2025's OTC, written anew with the flag for a long length and a short length.
    assert_withdrawn(&with("f023040000fde9"), 35, AttributeErrorKind::Overrun);
    let update = with("c0");
    assert_eq!(update.errors.len(), 1);
    assert_eq!(update.errors[0].attribute, None);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.1.0/24"]);
}

/// RFC 7606 §5.3: an overrun of the attribute that holds the routes.
#[test]
fn u5_multiprotocol_attributes_past_their_field_end_the_session() {
    let cut = "800e26 0002 01 10 fd99";
    assert_eq!(
        refused("", &format!("{BASE} {cut}"), P),
        (3, 9, octets(cut))
    );
    assert_eq!(refused("", "800f05", P), (3, 9, octets("800f05")));
}

#[test]
fn u6_an_error_without_routes_in_sight_ends_the_session() {
    assert_eq!(refused("", "40012000", ""), (3, 5, octets("40012000")));
    assert_eq!(
        refused("", "400103000000", ""),
        (3, 5, octets("400103000000"))
    );
    assert_eq!(refused("", "40010103", ""), (3, 6, octets("40010103")));
    assert_eq!(refused("", "c0010100", ""), (3, 4, octets("c0010100")));
    assert_eq!(
        refused("", "40030400000000", ""),
        (3, 8, octets("40030400000000"))
    );
    assert_eq!(refused("", "400202 0200", ""), (3, 11, vec![]));
    assert_eq!(refused("", "406300", ""), (3, 2, octets("406300")));
    assert_eq!(refused("", "c0", ""), (3, 1, vec![]));
    assert_eq!(refused(P, "c00800", ""), (3, 5, octets("c00800")));
    // Nothing stronger than a discard: nothing to locate.
    assert_eq!(decode_with(&external(), "40060100", "").errors.len(), 1);
}

#[test]
fn u7_withdrawals_need_no_attributes() {
    let update = decode_body(&fields(P, "", ""), &external()).unwrap();
    assert_eq!(update.errors, []);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.1.0/24"]);
    let update = decode_with(&external(), "800f08 0002 01 20 20010db8", "");
    assert_eq!(update.errors, []);
    assert_eq!(names(update.withdrawn_prefixes()), ["2001:db8::/32"]);
    assert_eq!(update.end_of_rib(), None);
}

#[test]
fn u8_missing_mandatory_attributes_withdraw() {
    let missing = AttributeErrorKind::Missing;
    assert_withdrawn(&decode(&format!("{AS_PATH} {NEXT_HOP}")), 1, missing);
    assert_withdrawn(&decode(&format!("{ORIGIN} {NEXT_HOP}")), 2, missing);
    assert_withdrawn(&decode(&format!("{ORIGIN} {AS_PATH}")), 3, missing);
    assert_withdrawn(&decode_with(&internal(), BASE, P), 5, missing);
    // MP_REACH_NLRI brings its own next hop, and needs the others.
    assert_eq!(
        decode_with(&external(), &format!("{REACH} {ORIGIN} {AS_PATH}"), "").errors,
        []
    );
    let update = decode_with(&external(), REACH, "");
    assert_eq!(update.errors.len(), 2);
    assert_eq!(names(update.withdrawn_prefixes()), ["2001:db8:a::9/128"]);
    // CVE-2023-41358, CVE-2023-46753, CVE-2023-47234, CVE-2023-47235.
    for attributes in [
        "",
        "ff1f001000000000000000000000000000000000",
        "800f03000201",
        "c0ff00",
    ] {
        let update = decode(attributes);
        assert_eq!(update.errors.len(), 3, "{attributes}");
        assert_eq!(names(update.withdrawn_prefixes()), ["198.51.1.0/24"]);
        assert_eq!(update.end_of_rib(), None);
    }
}

#[test]
fn f1_wrong_flags_withdraw() {
    for (attribute, octets) in [
        (1, "c0010100"),
        (1, "00010100"),
        (2, "c0020602010000fde9"),
        (3, "0003040a630101"),
    ] {
        let attributes = [(1, ORIGIN), (2, AS_PATH), (3, NEXT_HOP)]
            .map(|(code, good)| if code == attribute { octets } else { good })
            .concat();
        assert_withdrawn(&decode(&attributes), attribute, AttributeErrorKind::Flags);
    }
    for (attribute, octets) in [
        (4, "c004040000000a"),
        (6, "c00600"),
        (7, "4007080000fde90a000001"),
        (8, "800804fde90001"),
        (16, "8010080002fde900000001"),
        (32, "40200c000000010000000200000003"),
        (35, "8023040000fde9"),
    ] {
        assert_withdrawn(&with(octets), attribute, AttributeErrorKind::Flags);
    }
    for (attribute, octets) in [(9, "c009040a000001"), (10, "400a040a000002")] {
        assert_withdrawn(&from_inside(octets), attribute, AttributeErrorKind::Flags);
    }
    let local_pref = format!("{BASE} c0050400000064");
    let update = decode_with(&internal(), &local_pref, P);
    assert_withdrawn(&update, 5, AttributeErrorKind::Flags);
    let ipv6_communities = format!("801914{}", "00".repeat(20));
    assert_withdrawn(&with(&ipv6_communities), 25, AttributeErrorKind::Flags);
    for (attribute, octets) in [
        (17, "8011060201 0000fc01"),
        (18, "401208 00011170 01020304"),
    ] {
        assert_withdrawn(&from_old(octets), attribute, AttributeErrorKind::Flags);
    }
}

#[test]
fn f2_other_flag_bits_are_tolerated() {
    assert_accepted(&with("cf0804fde90001"));
    assert_accepted(&with("ef0804fde90001"));
    assert_accepted(&with("a0040400000001"));
    assert_accepted(&with("d0080004fde90001"));
}

#[test]
fn f3_empty_values_are_syntax_errors() {
    let length = AttributeErrorKind::Length;
    for (attribute, octets) in [
        (4, "800400"),
        (8, "c00800"),
        (16, "c01000"),
        (32, "c02000"),
        (35, "c02300"),
    ] {
        assert_withdrawn(&with(octets), attribute, length);
    }
    assert_discarded(&with("c00700"), 7, length);
    assert_accepted(&with("400600"));
    assert_accepted(&decode(&format!("{ORIGIN} 400200 {NEXT_HOP}")));
}

#[test]
fn f4_the_first_of_repeated_attributes_counts() {
    let update = decode(&format!("{BASE} 40010102"));
    assert_discarded(&update, 1, AttributeErrorKind::Repeated);
    assert_eq!(update.attributes.origin, Some(Origin::Igp));
    // Even when it is the bad one.
    let update = decode(&format!("40010109 {BASE}"));
    assert_eq!(update.errors[0].kind, AttributeErrorKind::Value);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.1.0/24"]);
    assert_discarded(&with("c06301aa c06301bb"), 99, AttributeErrorKind::Repeated);
}

/// However many errors there are, and wherever the one that withdraws is.
#[test]
fn errors_are_bounded_and_the_strongest_treatment_is_kept() {
    let context = DecodeContext {
        max_length: MAX_EXTENDED_LENGTH,
        ..DecodeContext::default()
    };
    // Unknown attributes, each type twice and the first of them 10,000 times more: 60 errors.
    let codes = 140..200u8;
    let mut attributes: Vec<u8> = codes
        .flat_map(|code| [0xc0, code, 0, 0xc0, code, 0])
        .collect();
    attributes.extend([0xc0, 140, 0].repeat(10_000));
    // ORIGIN of a value that there isn't, and AS_PATH and NEXT_HOP missing: 3 errors that withdraw.
    attributes.extend([0x40, 1, 1, 9]);
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    let nlri = [24, 203, 0, 113];
    let body = [&[0, 0][..], &length, &attributes, &nlri].concat();
    let update = Update::decode(&body, &context).unwrap();
    assert_eq!(update.errors.len(), Update::ERRORS_MAX);
    assert_eq!(update.errors_left_out, 63 - Update::ERRORS_MAX);
    assert_eq!(update.treatment(), Some(Treatment::TreatAsWithdraw));
    assert_eq!(update.announced().count(), 0);
    let words = update.errors_in_words();
    assert_eq!(words.last().unwrap(), "and 47 more errors");
    assert!(
        words[Update::ERRORS_MAX - 1].contains("ORIGIN"),
        "{words:?}"
    );
}

#[test]
fn f5_repeated_multiprotocol_attributes_end_the_session() {
    let twice = format!("{REACH} {REACH} {ORIGIN} {AS_PATH}");
    assert_eq!(refused("", &twice, ""), (3, 1, vec![]));
    assert_eq!(refused("", "800f03000201 800f03000201", ""), (3, 1, vec![]));
}

#[test]
fn f6_unknown_attributes_that_claim_to_be_well_known_withdraw() {
    let kind = AttributeErrorKind::UnrecognizedWellKnown;
    assert_withdrawn(&with("406304deadbeef"), 99, kind);
}

#[test]
fn f7_unknown_transitive_attributes_are_kept() {
    for attribute in ["c0ff04deadbeef", "e0ff04deadbeef", "f0ff0004deadbeef"] {
        let update = with(attribute);
        assert_accepted(&update);
        let [unknown] = &update.attributes.unknown[..] else {
            panic!("{update:?}")
        };
        assert_eq!(unknown.code, AttributeType(255));
        assert_eq!(unknown.value[..], [0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(unknown.flags.0 & 0x10, 0);
    }
    // 2010's experiment: long, partial, unknown.
    assert_accepted(&with(&format!("f0630bb8{}", "00".repeat(3000))));
}

#[test]
fn f8_unknown_non_transitive_attributes_are_dropped() {
    let update = with("806304deadbeef");
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown, []);
}

#[test]
fn a1_origin_of_another_length_or_value_withdraws() {
    let origin = |octets: &str| decode(&format!("{octets} {AS_PATH} {NEXT_HOP}"));
    assert_withdrawn(&origin("400100"), 1, AttributeErrorKind::Length);
    assert_withdrawn(&origin("4001020000"), 1, AttributeErrorKind::Length);
    assert_withdrawn(&origin("40010103"), 1, AttributeErrorKind::Value);
    assert_eq!(
        origin("40010102").attributes.origin,
        Some(Origin::Incomplete)
    );
}

fn path(context: &DecodeContext, octets: &str) -> Update {
    decode_with(context, &format!("{ORIGIN} {octets} {NEXT_HOP}"), P)
}

#[test]
fn a2_as_path_with_malformed_segments_withdraws() {
    for octets in [
        "40020600010000fde9",
        "40020605010000fde9",
        "4002020200",
        "40020602ff0000fde9",
        "40020702010000fde900",
        "40020102",
        "4002040201fde9",
    ] {
        assert_withdrawn(&path(&external(), octets), 2, AttributeErrorKind::AsPath);
    }
    // Two and four octets mistaken for each other.
    assert_withdrawn(
        &path(&old(), "40020602010000fde9"),
        2,
        AttributeErrorKind::AsPath,
    );
    let update = path(&old(), "4002040201fde9");
    assert_accepted(&update);
    assert_eq!(update.attributes.as_path, Some(AsPath(vec![Asn(65001)])));
    let update = path(
        &external(),
        &format!("500203fe02ff{}", "0000fde9".repeat(255)),
    );
    assert_accepted(&update);
    assert_eq!(
        update.attributes.as_path.map(|path| path.0.len()),
        Some(255)
    );
}

#[test]
fn a2b_as_sets_withdraw() {
    let update = path(&external(), "40020c02010000fde9010100001234");
    assert_withdrawn(&update, 2, AttributeErrorKind::AsSet);
    let update = path(&external(), "40020604010000fde9");
    assert_withdrawn(&update, 2, AttributeErrorKind::AsSet);
}

#[test]
fn a2c_confederation_segments_withdraw() {
    let octets = "40020c03010000fde902010000fde9";
    assert_withdrawn(
        &path(&external(), octets),
        2,
        AttributeErrorKind::Confederation,
    );
}

#[test]
fn a2d_as_zero_anywhere_withdraws() {
    for octets in [
        "40020a02020000fde900000000",
        "40020c02010000fde9020100000000",
    ] {
        assert_withdrawn(&path(&external(), octets), 2, AttributeErrorKind::AsZero);
    }
}

#[test]
fn a2e_a_first_as_that_is_not_the_peers_is_no_error_rfc4271_6_3() {
    assert_accepted(&path(&external(), "40020602010000ffff"));
    assert_accepted(&path(&external(), "400200"));
}

#[test]
fn a2f_our_own_as_is_no_error() {
    let update = path(&external(), "40020a02020000fde90000fdea");
    assert_accepted(&update);
    assert!(
        update
            .attributes
            .as_path
            .is_some_and(|path| path.contains(Asn(65002)))
    );
}

#[test]
fn a3_next_hop_that_is_no_host_withdraws() {
    let next_hop = |octets: &str| decode(&format!("{ORIGIN} {AS_PATH} {octets}"));
    for octets in ["400300", "4003010a", "4003030a6301", "4003050a63010100"] {
        assert_withdrawn(&next_hop(octets), 3, AttributeErrorKind::Length);
    }
    for octets in [
        "40030400000000",
        "4003047f000001",
        "400304e0000001",
        "400304ffffffff",
    ] {
        assert_withdrawn(&next_hop(octets), 3, AttributeErrorKind::NextHop);
    }
}

/// RFC 4760 §3: without an NLRI field to speak for it is ignored, whatever is in it.
#[test]
fn a3_next_hop_beside_mp_reach_only() {
    for next_hop in ["40030400000000", "4003030a6301", NEXT_HOP] {
        let attributes = format!("{ORIGIN} {AS_PATH} {next_hop} {REACH}");
        let update = decode_with(&external(), &attributes, "");
        assert_eq!(update.errors, []);
        assert_eq!(update.attributes.next_hop, None);
        assert_eq!(names(update.announced()), ["2001:db8:a::9/128"]);
    }
}

/// Found by the fuzzer: ORIGIN and AS_PATH may be behind the NEXT_HOP whose length is wrong.
#[test]
fn u5_next_hop_past_the_field_withdraws_what_mp_reach_announces() {
    let update = decode_with(
        &external(),
        &format!("{REACH} ff0301 00 {ORIGIN} {AS_PATH}"),
        "",
    );
    assert_error(
        &update,
        3,
        AttributeErrorKind::Overrun,
        Treatment::TreatAsWithdraw,
    );
    assert_eq!(names(update.announced()), [""; 0]);
    assert_eq!(names(update.withdrawn_prefixes()), ["2001:db8:a::9/128"]);
}

#[test]
fn a4_med_of_another_length_withdraws() {
    assert_withdrawn(&with("800403000000"), 4, AttributeErrorKind::Length);
}

#[test]
fn a5_local_pref_is_discarded_from_outside_and_checked_from_inside() {
    let kind = AttributeErrorKind::NotFromThisPeer;
    assert_discarded(&with("40050400000064"), 5, kind);
    assert_discarded(&with("400503000064"), 5, kind);
    assert_discarded(&with("c00500"), 5, kind);
    assert_eq!(with("40050400000064").attributes.local_pref, None);
    let from_inside = |octets: &str| decode_with(&internal(), &format!("{BASE} {octets}"), P);
    assert_withdrawn(&from_inside("400503000064"), 5, AttributeErrorKind::Length);
    assert_eq!(
        from_inside("40050400000064").attributes.local_pref,
        Some(100)
    );
}

#[test]
fn a6_atomic_aggregate_with_a_value_is_discarded() {
    let update = with("40060100");
    assert_discarded(&update, 6, AttributeErrorKind::Length);
    assert!(!update.attributes.atomic_aggregate);
}

#[test]
fn a7_aggregator_of_another_length_or_as_zero_is_discarded() {
    assert_discarded(&with("c007050000fde90a"), 7, AttributeErrorKind::Length);
    assert_discarded(&with("c00706fde90a000001"), 7, AttributeErrorKind::Length);
    assert_discarded(
        &with("c00708000000000a000002"),
        7,
        AttributeErrorKind::AsZero,
    );
    let base = format!("{ORIGIN} 4002040201fde9 {NEXT_HOP}");
    let update = decode_with(&old(), &format!("{base} c00706fde90a000001"), P);
    assert_accepted(&update);
    assert_eq!(
        update.attributes.aggregator.map(|from| from.asn),
        Some(Asn(65001))
    );
    let update = decode_with(&old(), &format!("{base} c007080000fde90a000001"), P);
    assert_discarded(&update, 7, AttributeErrorKind::Length);
}

#[test]
fn a8_communities_of_another_length_withdraw() {
    assert_withdrawn(&with("c00805fde9000100"), 8, AttributeErrorKind::Length);
    assert_eq!(
        with("c00804fde90001").attributes.communities,
        [Community::new(65001, 1)]
    );
}

fn from_inside(extra: &str) -> Update {
    decode_with(&internal(), &format!("{BASE} 40050400000064 {extra}"), P)
}

#[test]
fn a9_originator_id_from_outside_is_discarded() {
    let kind = AttributeErrorKind::NotFromThisPeer;
    assert_discarded(&with("8009030a0000"), 9, kind);
    assert_discarded(&with("8009040a000001"), 9, kind);
}

#[test]
fn a9_originator_id_from_inside_has_four_octets() {
    assert_withdrawn(&from_inside("8009030a0000"), 9, AttributeErrorKind::Length);
    assert_withdrawn(&from_inside("800900"), 9, AttributeErrorKind::Length);
    let update = from_inside("8009040a000001");
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown.len(), 1);
}

#[test]
fn a10_cluster_list_from_outside_is_discarded() {
    let kind = AttributeErrorKind::NotFromThisPeer;
    assert_discarded(&with("800a050a00000200"), 10, kind);
    assert_discarded(&with("800a040a000002"), 10, kind);
}

#[test]
fn a10_cluster_list_from_inside_has_four_octets_a_piece() {
    for octets in ["800a00", "800a050a00000200", "800a060a0000020a00"] {
        assert_withdrawn(&from_inside(octets), 10, AttributeErrorKind::Length);
    }
    let update = from_inside("800a080a0000020a000003");
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown.len(), 1);
}

#[test]
fn a14_mp_reach_that_cannot_be_taken_apart_ends_the_session() {
    for octets_ in [
        "800e020002",
        "800e03000201",
        "800e04000201 00",
        "800e1f00020109fd9900010000000000008020010db8000a00000000000000000009",
        "800e1a000201040a630101008020010db8000a00000000000000000009",
        "800e1600020100008020010db8000a00000000000000000009",
        "800e1500020140fd99000100000000000000000000000100",
        "800e2700020110fd990001000000000000000000000001008120010db8000a0000000000000000000900",
        "800e1a00020110fd990001000000000000000000000001004020010db8",
        "800e1900010110fd9900010000000000000000000000010018cb0071",
    ] {
        let attributes = format!("{octets_} {BASE}");
        assert_eq!(
            refused("", &attributes, P),
            (3, 9, octets(octets_)),
            "{octets_}"
        );
    }
}

#[test]
fn a14_mp_reach_is_read() {
    let base = format!("{ORIGIN} {AS_PATH}");
    let update = decode_with(&external(), &format!("{base} {REACH}"), "");
    let global = "fd99:1::1".parse().unwrap();
    assert_eq!(
        update.mp_reach.as_ref().map(|reach| reach.next_hop),
        Some(NextHop::V6 {
            global,
            link_local: None
        })
    );
    assert_eq!(names(update.announced()), ["2001:db8:a::9/128"]);
    let both = "800e36 0002 01 20 fd990001000000000000000000000001 \
                fe800000000000000000000000000001 00 80 20010db8000a00000000000000000009";
    let update = decode_with(&external(), &format!("{both} {base}"), "");
    let link_local = Some("fe80::1".parse().unwrap());
    assert_eq!(
        update.mp_reach.as_ref().map(|reach| reach.next_hop),
        Some(NextHop::V6 { global, link_local })
    );
    let only_link_local = both.replace("fd990001000000000000000000000001", &"00".repeat(16));
    let update = decode_with(&external(), &format!("{only_link_local} {base}"), "");
    assert_eq!(update.errors, []);
    let v4 = "800e0d 0001 01 04 0a630101 00 18c63301";
    let update = decode_with(&external(), &format!("{v4} {base}"), "");
    assert_accepted(&update);
}

/// All four fields at once, as old senders may (RFC 7606 §5.1).
/// RFC 8950 §3: 16 or 32 octets of next hop for IPv4 where that was agreed, and 4 as ever.
#[test]
fn a14_ipv4_routes_with_ipv6_next_hops() {
    let context = DecodeContext {
        ipv4_next_hop_v6: true,
        ..external()
    };
    let global = "fd99:1::1".parse().unwrap();
    let link_local = "fe80::1".parse().unwrap();
    let one = "10 fd990001000000000000000000000001";
    let two = "20 fd990001000000000000000000000001 fe800000000000000000000000000001";
    let v6 = |link_local| NextHop::V6 { global, link_local };
    for (head, next_hop, expected) in [
        ("800e19", one, v6(None)),
        ("800e29", two, v6(Some(link_local))),
        ("800e0d", "04 0a630101", NextHop::V4([10, 99, 1, 1].into())),
    ] {
        let attributes = format!("{head} 0001 01 {next_hop} 00 {P} {ORIGIN} {AS_PATH}");
        let update = decode_with(&context, &attributes, "");
        assert_eq!(update.errors, []);
        let reach = update.mp_reach.as_ref().unwrap();
        assert_eq!(reach.next_hop, expected);
        assert_eq!(names(update.announced()), ["198.51.1.0/24"]);
    }
    let twelve = "800e15 0001 01 0c fd9900010000000000000000 00";
    let attributes = format!("{twelve} {P} {ORIGIN} {AS_PATH}");
    let error = decode_body(&fields("", &attributes, ""), &context).unwrap_err();
    assert_eq!(error.notification().subcode, 9);
}

#[test]
fn a14_beside_all_other_fields() {
    let attributes = format!("{REACH} 800f08 0002 01 20 20010db8 {BASE}");
    let update = decode_body(&fields("18c63302", &attributes, P), &external()).unwrap();
    assert_eq!(update.errors, []);
    assert_eq!(
        names(update.announced()),
        ["198.51.1.0/24", "2001:db8:a::9/128"]
    );
    assert_eq!(
        names(update.withdrawn_prefixes()),
        ["198.51.2.0/24", "2001:db8::/32"]
    );
}

#[test]
fn a14b_families_that_were_not_negotiated_are_left_out() {
    let ipv4_only = DecodeContext {
        families: vec![Family::IPV4_UNICAST],
        ..external()
    };
    let update = decode_with(&ipv4_only, &format!("{REACH} {BASE}"), P);
    let kind = AttributeErrorKind::FamilyNotNegotiated(Family::IPV6_UNICAST);
    assert_discarded(&update, 14, kind);
    let vpn = "800e200001800c00000000000000000a63010100700000110000fde900000001c63364";
    let update = decode_with(&external(), &format!("{vpn} {BASE}"), P);
    assert_eq!(update.treatment(), Some(Treatment::Discard));
    assert_eq!(update.mp_reach, None);
    let ipv6_only = DecodeContext {
        families: vec![Family::IPV6_UNICAST],
        ..external()
    };
    let update = decode_with(&ipv6_only, BASE, P);
    assert_eq!(names(update.announced()), [""; 0]);
    assert_eq!(update.treatment(), Some(Treatment::Discard));
}

#[test]
fn a14c_next_hops_that_are_no_hosts_withdraw() {
    for global in [
        "00000000000000000000000000000000",
        "ff020000000000000000000000000001",
    ] {
        let reach = REACH.replace("fd990001000000000000000000000001", global);
        let update = decode_with(&external(), &format!("{reach} {ORIGIN} {AS_PATH}"), "");
        assert_eq!(update.errors.len(), 1);
        assert_eq!(update.errors[0].kind, AttributeErrorKind::NextHop);
        assert_eq!(names(update.announced()), [""; 0]);
        assert_eq!(names(update.withdrawn_prefixes()), ["2001:db8:a::9/128"]);
    }
}

#[test]
fn a14d_wrong_flags_end_the_session() {
    let reach = REACH.replace("800e26", "c00e26");
    assert_eq!(
        refused("", &format!("{reach} {BASE}"), P),
        (3, 4, octets(&reach))
    );
}

#[test]
fn a15_mp_unreach_that_cannot_be_taken_apart_ends_the_session() {
    for octets_ in [
        "800f020002",
        "800f080002014020010db8",
        "800f0400020181",
        "c00f03000201",
    ] {
        let (code, subcode, data) = refused("", &format!("{BASE} {octets_}"), P);
        let expected = if octets_.starts_with("c0") { 4 } else { 9 };
        assert_eq!((code, subcode, data), (3, expected, octets(octets_)));
    }
}

#[test]
fn a16_extended_communities_of_another_length_withdraw_and_unknown_ones_stay() {
    assert_withdrawn(
        &with("c010090002fde90000000100"),
        16,
        AttributeErrorKind::Length,
    );
    let update = with("c01008ffffffffffffffff");
    assert_accepted(&update);
    assert_eq!(
        update.attributes.extended_communities,
        [ExtendedCommunity([0xff; 8])]
    );
}

#[test]
fn a17_as4_path_from_a_new_peer_is_discarded() {
    let kind = AttributeErrorKind::NotFromThisPeer;
    assert_discarded(&with("c01103020100"), 17, kind);
    assert_discarded(&with("c01106020100010001"), 17, kind);
    // CVE-2026-41643: before AS_PATH.
    assert_discarded(
        &decode(&format!("{ORIGIN} c01106020100010001 {AS_PATH} {NEXT_HOP}")),
        17,
        kind,
    );
}

fn from_old(extra: &str) -> Update {
    // AS_PATH 23456 64512.
    decode_with(
        &old(),
        &format!("{ORIGIN} 4002060202 5ba0 fc00 {NEXT_HOP} {extra}"),
        P,
    )
}

#[test]
fn a17_as4_path_from_an_old_peer_is_merged_or_discarded() {
    let path = |update: &Update| update.attributes.as_path.clone().unwrap().to_string();
    let update = from_old("c0110a0202 00011170 0000fc00");
    assert_accepted(&update);
    assert_eq!(path(&update), "70000 64512");
    let update = from_old("c01106 0201 0000fc01");
    assert_accepted(&update);
    assert_eq!(path(&update), "23456 64513");
    // Confederation segments are passed over.
    let update = from_old("c0110c 0301 00000001 0201 0000fc01");
    assert_accepted(&update);
    assert_eq!(path(&update), "23456 64513");
    let update = from_old("c01110 0402 00000001 00000002 0201 0000fc01");
    assert_accepted(&update);
    assert_eq!(path(&update), "23456 64513");
    let update = from_old("c01106 0301 00000001");
    assert_accepted(&update);
    assert_eq!(path(&update), "23456 64512");
    for (octets, kind) in [
        ("c01103020100", AttributeErrorKind::AsPath),
        ("c011020200", AttributeErrorKind::AsPath),
        ("c01106020200000001", AttributeErrorKind::AsPath),
        ("c01106020100000000", AttributeErrorKind::AsZero),
        (
            "c0110e0203000000010000000200000003",
            AttributeErrorKind::Mismatch,
        ),
    ] {
        let update = from_old(octets);
        assert_discarded(&update, 17, kind);
        assert_eq!(path(&update), "23456 64512");
    }
    assert_withdrawn(
        &from_old("c01106 0101 0000fc01"),
        17,
        AttributeErrorKind::AsSet,
    );
}

#[test]
fn a18_as4_aggregator_is_merged_or_discarded() {
    assert_discarded(
        &with("c012080001117001020304"),
        18,
        AttributeErrorKind::NotFromThisPeer,
    );
    assert_discarded(
        &from_old("c012060001117001 02"),
        18,
        AttributeErrorKind::Length,
    );
    let asn = |update: &Update| update.attributes.aggregator.map(|from| from.asn);
    let update = from_old("c007065ba001020304 c012080001117001020304");
    assert_accepted(&update);
    assert_eq!(asn(&update), Some(Asn(70000)));
    // An AGGREGATOR that is not AS_TRANS makes both void.
    let update = from_old("c00706fc0001020304 c0110a02020001117000011170 c012080001117001020304");
    assert_discarded(&update, 18, AttributeErrorKind::Mismatch);
    assert_eq!(asn(&update), Some(Asn(64512)));
    assert_eq!(
        update.attributes.as_path.unwrap().to_string(),
        "23456 64512"
    );
}

/// Kept as it came: nobody here looks inside.
#[track_caller]
fn assert_opaque(octets: &str) {
    let update = with(octets);
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown.len(), 1, "{octets}");
}

#[test]
fn a22_pmsi_is_not_looked_into() {
    assert_opaque("c0160400060000");
    assert_opaque("c01600");
}

/// CVE-2023-38802.
#[test]
fn a23_tunnel_encapsulation_is_not_looked_into() {
    assert_opaque("c01703000700");
    assert_opaque("c017060007000401ff");
}

/// One descriptor has 36 octets, and more where its switching type has something to add.
#[test]
fn a24_traffic_engineering_of_less_than_a_descriptor_withdraws() {
    for octets in ["801800", "80180100", &format!("801823{}", "00".repeat(35))] {
        assert_withdrawn(&with(octets), 24, AttributeErrorKind::Length);
    }
    assert_withdrawn(
        &with(&format!("c01824{}", "00".repeat(36))),
        24,
        AttributeErrorKind::Flags,
    );
    for length in [36, 44, 72] {
        let update = with(&format!("8018{length:02x}{}", "01".repeat(length)));
        assert_accepted(&update);
        assert_eq!(update.attributes.unknown, []);
    }
}

/// The attribute that made sessions flap for what an older revision had meant by it.
#[test]
fn a28_entropy_label_capability_is_never_validated() {
    for octets in ["e01c00", "c01c0100", "f01c0000", "c01c04deadbeef"] {
        assert_opaque(octets);
    }
}

/// May 2025; CVE-2024-31948.
#[test]
fn a40_prefix_sid_is_not_looked_into() {
    for octets in ["c0280100", "e028060100ff000000", "c028060500ff000000"] {
        assert_opaque(octets);
    }
    assert_opaque(&format!("c02825{}", "00".repeat(37)));
}

/// An AS number of four octets, then attributes.
#[test]
fn a128_attr_set_that_is_cut_short_withdraws() {
    for octets in ["c08000", "c0800100", "c080030000fd"] {
        assert_withdrawn(&with(octets), 128, AttributeErrorKind::Length);
    }
    // A header cut, with and without Extended Length; a value cut.
    for octets in [
        "c080060000fde94001",
        "c080070000fde9500100",
        "c080080000fde940010200",
        "c0800b0000fde94001010040030a",
    ] {
        assert_withdrawn(&with(octets), 128, AttributeErrorKind::Overrun);
    }
    assert_withdrawn(&with("8080040000fde9"), 128, AttributeErrorKind::Flags);
}

/// Whole attributes with any value: they are for whoever takes them out.
#[test]
fn a128_attr_set_keeps_what_its_attributes_say() {
    assert_opaque("c080040000fde9");
    assert_opaque("c080080000fde940010109");
    assert_opaque("c0800d0000fde9500100010040030100");
}

#[test]
fn a25_ipv6_extended_communities_of_another_length_withdraw() {
    assert_withdrawn(&with("c01900"), 25, AttributeErrorKind::Length);
    assert_withdrawn(&with("c0190100"), 25, AttributeErrorKind::Length);
    assert_accepted(&with(&format!("c01914{}", "00".repeat(20))));
}

/// Not transitive and not ours.
#[track_caller]
fn assert_dropped(octets: &str) {
    let update = with(octets);
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown, [], "{octets}");
}

/// CVE-2023-41359 among them.
#[test]
fn a26_aigp_is_dropped() {
    for octets in [
        "801a00",
        "801a0101",
        "801a053000023030",
        "801a0b01000b0000000000000001",
    ] {
        assert_dropped(octets);
    }
}

#[test]
fn a29_bgp_ls_is_dropped() {
    assert_dropped("801d0100");
    assert_dropped("801d00");
}

#[test]
fn a32_large_communities_of_another_length_withdraw() {
    assert_withdrawn(
        &with("c0200d0000fde9000000010000000200"),
        32,
        AttributeErrorKind::Length,
    );
    let one = "0000fde90000000100000002";
    let update = with(&format!("c02018{one}{one}"));
    assert_accepted(&update);
    assert_eq!(update.attributes.large_communities.len(), 1);
}

#[test]
fn a35_only_to_customer_of_another_length_withdraws() {
    assert_withdrawn(&with("c023030000fd"), 35, AttributeErrorKind::Length);
    assert_accepted(&with("f02300040000fde9"));
}

/// CVE-2023-38283: what follows a bad attribute must still be read as if it were good.
#[test]
fn a_bad_attribute_leaves_its_neighbours_alone() {
    for (bad, strongest) in [
        ("800403000000", Treatment::TreatAsWithdraw),
        ("c00805fde9000100", Treatment::TreatAsWithdraw),
        ("c02000", Treatment::TreatAsWithdraw),
        ("406304deadbeef", Treatment::TreatAsWithdraw),
        ("40060100", Treatment::Discard),
        ("c007050000fde90a", Treatment::Discard),
        ("400503000064", Treatment::Discard),
        ("c01103020100", Treatment::Discard),
    ] {
        for attributes in [
            format!("{bad} {BASE} c01701aa"),
            format!("{ORIGIN} {bad} {AS_PATH} {NEXT_HOP} c01701aa"),
            format!("{BASE} c01701aa {bad}"),
        ] {
            let update = decode(&attributes);
            assert_eq!(update.errors.len(), 1, "{attributes}");
            assert_eq!(update.treatment(), Some(strongest));
            assert_eq!(update.attributes.origin, Some(Origin::Igp));
            assert_eq!(update.attributes.as_path, Some(AsPath(vec![Asn(65001)])));
            assert!(update.attributes.next_hop.is_some());
            assert_eq!(update.attributes.unknown.len(), 1);
        }
    }
}

/// The strongest of several errors counts, and an error of the message beats them all.
#[test]
fn the_strongest_error_wins() {
    let update = with("40060100 800403000000");
    assert_eq!(update.errors.len(), 2);
    assert_eq!(update.treatment(), Some(Treatment::TreatAsWithdraw));
    assert_eq!(
        refused("", &format!("{BASE} 800403000000"), "21"),
        (3, 10, vec![])
    );
    let attributes = format!("{BASE} 800403000000 800f020002");
    assert_eq!(refused("", &attributes, P), (3, 9, octets("800f020002")));
}

/// RFC 4724 §2, by meaning and not by length.
#[test]
fn end_of_rib_is_an_update_with_nothing_in_it() {
    let eor = |attributes: &str| decode_with(&external(), attributes, "").end_of_rib();
    assert_eq!(eor(""), Some(Family::IPV4_UNICAST));
    assert_eq!(eor("800f03000201"), Some(Family::IPV6_UNICAST));
    assert_eq!(eor("900f0003000201"), Some(Family::IPV6_UNICAST));
    assert_eq!(eor("800f03000101"), Some(Family::IPV4_UNICAST));
    assert_eq!(eor("800f03000180"), None, "not negotiated");
    assert_eq!(eor("c0ff00"), None, "an attribute is something");
}

/// RFC 4271 §6.3: a loopback address is no next hop, unless the session itself runs over it.
#[test]
fn a_loopback_next_hop_is_right_on_the_loopback_only() {
    let attributes = "4001010040020602010000fde94003047f000001";
    let elsewhere = decode_with(&external(), attributes, "18c63301");
    assert_eq!(elsewhere.announced().count(), 0);
    let loopback = DecodeContext {
        loopback: true,
        ..external()
    };
    let here = decode_with(&loopback, attributes, "18c63301");
    assert_eq!(here.announced().count(), 1);
}

/// What the overrun hides may well have been there.
#[test]
fn u5_attributes_after_an_overrun_are_not_missed() {
    let update = decode("40010100 c00820");
    assert_withdrawn(&update, 8, AttributeErrorKind::Overrun);
}

/// The first of several errors is the one told.
#[test]
fn u6_tells_the_first_error() {
    assert_eq!(
        refused("", "40010103 400400 c00800", ""),
        (3, 6, octets("40010103"))
    );
}

/// RFC 4271 §6.3: Malformed AS_PATH comes without data, whatever is malformed about it.
#[test]
fn u6_as_path_errors_have_no_data() {
    for value in ["0200", "01010000fde9", "03010000fde9", "020100000000"] {
        let attribute = format!("4002{:02x}{value}", value.len() / 2);
        assert_eq!(refused("", &attribute, ""), (3, 11, vec![]), "{value}");
    }
}

#[test]
fn a8_communities_are_read_once_each() {
    let update = with("c00808fde90001fde90001");
    assert_eq!(update.attributes.communities, [Community::new(65001, 1)]);
}

/// Routes of a family that doesn't matter need no withdrawing, so an error beside them is no
/// reason to end the session.
#[test]
fn a14b_an_error_beside_a_family_that_was_not_negotiated() {
    let vpn = "800e200001800c00000000000000000a63010100700000110000fde900000001c63364";
    let update = decode_with(&external(), &format!("{vpn} {ORIGIN} {AS_PATH} c00800"), "");
    assert_eq!(update.treatment(), Some(Treatment::TreatAsWithdraw));
    assert_eq!(names(update.withdrawn_prefixes()), [""; 0]);
}

/// Without IPv4 negotiated, an UPDATE that has none of it is as good as ever.
#[test]
fn a14b_only_ipv6_negotiated() {
    let context = DecodeContext {
        families: vec![Family::IPV6_UNICAST],
        ..external()
    };
    let update = decode_with(&context, &format!("{REACH} {ORIGIN} {AS_PATH}"), "");
    assert_eq!(update.errors, []);
    assert_eq!(names(update.announced()), ["2001:db8:a::9/128"]);
}

#[test]
fn a14d_well_known_mp_reach_ends_the_session() {
    let reach = REACH.replace("800e26", "000e26");
    let expected = (3, 4, octets(&reach));
    assert_eq!(refused("", &format!("{reach} {BASE}"), P), expected);
}

/// Some fill the second half of a next hop with anything.
#[test]
fn a14_a_link_local_next_hop_that_is_none_is_passed_over() {
    let global = "fd990001000000000000000000000001";
    let reach =
        format!("800e36 0002 01 20 {global} {global} 00 80 20010db8000a00000000000000000009");
    let update = decode_with(&external(), &format!("{reach} {ORIGIN} {AS_PATH}"), "");
    assert_eq!(update.errors, []);
    let next_hop = update.mp_reach.map(|reach| reach.next_hop);
    let global = "fd99:1::1".parse().unwrap();
    assert_eq!(
        next_hop,
        Some(NextHop::V6 {
            global,
            link_local: None
        })
    );
}

#[test]
fn u3_ipv6_prefixes_that_are_not_unicast_are_left_out() {
    let reach = "800e1f 0002 01 10 fd990001000000000000000000000001 00 08ff 0afe80 20 20010db8";
    let update = decode_with(&external(), &format!("{reach} {ORIGIN} {AS_PATH}"), "");
    assert_eq!(names(update.announced()), ["2001:db8::/32"]);
    assert_eq!(update.errors.len(), 1);
    assert_eq!(update.errors[0].kind, AttributeErrorKind::NotUnicast(2));
}
