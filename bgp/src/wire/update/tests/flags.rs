//! Rules for any attribute: rules F in `docs/bgp-errors.md`.

use super::*;

#[test]
fn f1_wrong_flags_withdraw_rfc7606_3() {
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
        assert_withdrawn(&from_ibgp(octets), attribute, AttributeErrorKind::Flags);
    }
    let local_pref = format!("{BASE} c0050400000064");
    let update = decode_with(&ibgp(), &local_pref, P);
    assert_withdrawn(&update, 5, AttributeErrorKind::Flags);
    let ipv6_communities = format!("801914{}", "00".repeat(20));
    assert_withdrawn(&with(&ipv6_communities), 25, AttributeErrorKind::Flags);
    for (attribute, octets) in [
        (17, "8011060201 0000fc01"),
        (18, "401208 00011170 01020304"),
    ] {
        assert_withdrawn(
            &from_two_octet_peer(octets),
            attribute,
            AttributeErrorKind::Flags,
        );
    }
}

#[test]
fn f2_other_flag_bits_are_ignored_rfc4271_4_3() {
    assert_accepted(&with("cf0804fde90001"));
    assert_accepted(&with("ef0804fde90001"));
    assert_accepted(&with("a0040400000001"));
    assert_accepted(&with("d0080004fde90001"));
}

#[test]
fn f3_empty_values_withdraw_rfc7606_4() {
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
fn f4_the_first_of_repeated_attributes_counts_rfc7606_3() {
    let update = decode(&format!("{BASE} 40010102"));
    assert_discarded(&update, 1, AttributeErrorKind::Repeated);
    assert_eq!(update.attributes.origin, Some(Origin::Igp));
    // Even if the first one is malformed.
    let update = decode(&format!("40010109 {BASE}"));
    assert_eq!(update.errors[0].kind, AttributeErrorKind::Value);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.1.0/24"]);
    assert_discarded(&with("c06301aa c06301bb"), 99, AttributeErrorKind::Repeated);
}

#[test]
fn f5_repeated_multiprotocol_attributes_reset_the_session_rfc7606_3() {
    let twice = format!("{REACH} {REACH} {ORIGIN} {AS_PATH}");
    assert_eq!(rejection("", &twice, ""), (3, 1, vec![]));
    assert_eq!(
        rejection("", "800f03000201 800f03000201", ""),
        (3, 1, vec![])
    );
}

#[test]
fn f6_unknown_attributes_with_well_known_flags_withdraw_rfc7606_3() {
    let kind = AttributeErrorKind::UnrecognizedWellKnown;
    assert_withdrawn(&with("406304deadbeef"), 99, kind);
}

#[test]
fn f7_unknown_transitive_attributes_are_kept_rfc4271_5() {
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
    // As in the experiment of 2010: long, partial, unknown.
    assert_accepted(&with(&format!("f0630bb8{}", "00".repeat(3000))));
}

#[test]
fn f8_unknown_non_transitive_attributes_are_dropped_rfc4271_5() {
    let update = with("806304deadbeef");
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown, []);
}
