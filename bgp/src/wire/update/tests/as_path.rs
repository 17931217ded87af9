//! AS_PATH, AS4_PATH and AS4_AGGREGATOR.

use super::*;

fn path(context: &DecodeContext, octets: &str) -> Update {
    decode_with(context, &format!("{ORIGIN} {octets} {NEXT_HOP}"), P)
}

#[test]
fn a2_an_as_path_with_malformed_segments_withdraws_rfc7606_7_2() {
    for octets in [
        "40020600010000fde9",
        "40020605010000fde9",
        "4002020200",
        "40020602ff0000fde9",
        "40020702010000fde900",
        "40020102",
        "4002040201fde9",
    ] {
        assert_withdrawn(&path(&ebgp(), octets), 2, AttributeErrorKind::AsPath);
    }
    // AS numbers of two octets decoded as four, and vice versa.
    assert_withdrawn(
        &path(&two_octet(), "40020602010000fde9"),
        2,
        AttributeErrorKind::AsPath,
    );
    let update = path(&two_octet(), "4002040201fde9");
    assert_accepted(&update);
    assert_eq!(update.attributes.as_path, Some(AsPath(vec![Asn(65001)])));
    let update = path(&ebgp(), &format!("500203fe02ff{}", "0000fde9".repeat(255)));
    assert_accepted(&update);
    assert_eq!(
        update.attributes.as_path.map(|path| path.0.len()),
        Some(255)
    );
}

#[test]
fn a2b_as_sets_withdraw_rfc9774_3() {
    let update = path(&ebgp(), "40020c02010000fde9010100001234");
    assert_withdrawn(&update, 2, AttributeErrorKind::AsSet);
    let update = path(&ebgp(), "40020604010000fde9");
    assert_withdrawn(&update, 2, AttributeErrorKind::AsSet);
}

#[test]
fn a2c_confederation_segments_withdraw_rfc5065_5() {
    let octets = "40020c03010000fde902010000fde9";
    assert_withdrawn(&path(&ebgp(), octets), 2, AttributeErrorKind::Confederation);
}

#[test]
fn a2d_as_zero_in_the_path_withdraws_rfc7607_2() {
    for octets in [
        "40020a02020000fde900000000",
        "40020c02010000fde9020100000000",
    ] {
        assert_withdrawn(&path(&ebgp(), octets), 2, AttributeErrorKind::AsZero);
    }
}

#[test]
fn a2e_a_first_as_that_is_not_the_peers_is_no_error_rfc4271_6_3() {
    assert_accepted(&path(&ebgp(), "40020602010000ffff"));
    assert_accepted(&path(&ebgp(), "400200"));
}

#[test]
fn a2f_our_own_as_is_no_error_rfc4271_9_1_2() {
    let update = path(&ebgp(), "40020a02020000fde90000fdea");
    assert_accepted(&update);
    assert!(
        update
            .attributes
            .as_path
            .is_some_and(|path| path.contains(Asn(65002)))
    );
}

#[test]
fn a17_as4_path_from_a_four_octet_peer_is_discarded_rfc6793_4_1() {
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

#[test]
fn a17_as4_path_from_a_two_octet_peer_is_merged_or_discarded_rfc6793_4_2_3() {
    let path = |update: &Update| update.attributes.as_path.clone().unwrap().to_string();
    let update = from_two_octet_peer("c0110a0202 00011170 0000fc00");
    assert_accepted(&update);
    assert_eq!(path(&update), "70000 64512");
    let update = from_two_octet_peer("c01106 0201 0000fc01");
    assert_accepted(&update);
    assert_eq!(path(&update), "23456 64513");
    // Confederation segments are ignored (RFC 6793 §6).
    let update = from_two_octet_peer("c0110c 0301 00000001 0201 0000fc01");
    assert_accepted(&update);
    assert_eq!(path(&update), "23456 64513");
    let update = from_two_octet_peer("c01110 0402 00000001 00000002 0201 0000fc01");
    assert_accepted(&update);
    assert_eq!(path(&update), "23456 64513");
    let update = from_two_octet_peer("c01106 0301 00000001");
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
        let update = from_two_octet_peer(octets);
        assert_discarded(&update, 17, kind);
        assert_eq!(path(&update), "23456 64512");
    }
    assert_withdrawn(
        &from_two_octet_peer("c01106 0101 0000fc01"),
        17,
        AttributeErrorKind::AsSet,
    );
}

#[test]
fn a18_as4_aggregator_is_merged_or_discarded_rfc6793_4_2_3() {
    assert_discarded(
        &with("c012080001117001020304"),
        18,
        AttributeErrorKind::NotFromThisPeer,
    );
    assert_discarded(
        &from_two_octet_peer("c012060001117001 02"),
        18,
        AttributeErrorKind::Length,
    );
    let asn = |update: &Update| update.attributes.aggregator.map(|from| from.asn);
    let update = from_two_octet_peer("c007065ba001020304 c012080001117001020304");
    assert_accepted(&update);
    assert_eq!(asn(&update), Some(Asn(70000)));
    // With an AGGREGATOR other than AS_TRANS, both are ignored (RFC 6793 §4.2.3).
    let update =
        from_two_octet_peer("c00706fc0001020304 c0110a02020001117000011170 c012080001117001020304");
    assert_discarded(&update, 18, AttributeErrorKind::Mismatch);
    assert_eq!(asn(&update), Some(Asn(64512)));
    assert_eq!(
        update.attributes.as_path.unwrap().to_string(),
        "23456 64512"
    );
}
