//! The attributes of RFC 4271, RFC 1997 and RFC 4456, except AS_PATH.

use super::*;

#[test]
fn a1_an_invalid_origin_withdraws_rfc7606_7_1() {
    let origin = |octets: &str| decode(&format!("{octets} {AS_PATH} {NEXT_HOP}"));
    assert_withdrawn(&origin("400100"), 1, AttributeErrorKind::Length);
    assert_withdrawn(&origin("4001020000"), 1, AttributeErrorKind::Length);
    assert_withdrawn(&origin("40010103"), 1, AttributeErrorKind::Value);
    assert_eq!(
        origin("40010102").attributes.origin,
        Some(Origin::Incomplete)
    );
}

#[test]
fn a3_an_invalid_next_hop_withdraws_rfc7606_7_3() {
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

#[test]
fn a4_a_med_of_invalid_length_withdraws_rfc7606_7_4() {
    assert_withdrawn(&with("800403000000"), 4, AttributeErrorKind::Length);
}

#[test]
fn a5_local_pref_is_discarded_from_ebgp_and_checked_from_ibgp_rfc7606_7_5() {
    let kind = AttributeErrorKind::NotFromThisPeer;
    assert_discarded(&with("40050400000064"), 5, kind);
    assert_discarded(&with("400503000064"), 5, kind);
    assert_discarded(&with("c00500"), 5, kind);
    assert_eq!(with("40050400000064").attributes.local_pref, None);
    let from_ibgp = |octets: &str| decode_with(&ibgp(), &format!("{BASE} {octets}"), P);
    assert_withdrawn(&from_ibgp("400503000064"), 5, AttributeErrorKind::Length);
    assert_eq!(from_ibgp("40050400000064").attributes.local_pref, Some(100));
}

#[test]
fn a6_atomic_aggregate_with_a_value_is_discarded_rfc7606_7_6() {
    let update = with("40060100");
    assert_discarded(&update, 6, AttributeErrorKind::Length);
    assert!(!update.attributes.atomic_aggregate);
}

#[test]
fn a7_an_invalid_aggregator_is_discarded_rfc7606_7_7() {
    assert_discarded(&with("c007050000fde90a"), 7, AttributeErrorKind::Length);
    assert_discarded(&with("c00706fde90a000001"), 7, AttributeErrorKind::Length);
    assert_discarded(
        &with("c00708000000000a000002"),
        7,
        AttributeErrorKind::AsZero,
    );
    let base = format!("{ORIGIN} 4002040201fde9 {NEXT_HOP}");
    let update = decode_with(&two_octet(), &format!("{base} c00706fde90a000001"), P);
    assert_accepted(&update);
    assert_eq!(
        update.attributes.aggregator.map(|from| from.asn),
        Some(Asn(65001))
    );
    let update = decode_with(&two_octet(), &format!("{base} c007080000fde90a000001"), P);
    assert_discarded(&update, 7, AttributeErrorKind::Length);
}

#[test]
fn a8_communities_of_invalid_length_withdraw_rfc7606_7_8() {
    assert_withdrawn(&with("c00805fde9000100"), 8, AttributeErrorKind::Length);
    assert_eq!(
        with("c00804fde90001").attributes.communities,
        [Community::new(65001, 1)]
    );
}

#[test]
fn a9_originator_id_from_ebgp_is_discarded_rfc7606_7_9() {
    let kind = AttributeErrorKind::NotFromThisPeer;
    assert_discarded(&with("8009030a0000"), 9, kind);
    assert_discarded(&with("8009040a000001"), 9, kind);
}

#[test]
fn a9_originator_id_of_invalid_length_from_ibgp_withdraws_rfc7606_7_9() {
    assert_withdrawn(&from_ibgp("8009030a0000"), 9, AttributeErrorKind::Length);
    assert_withdrawn(&from_ibgp("800900"), 9, AttributeErrorKind::Length);
    let update = from_ibgp("8009040a000001");
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown.len(), 1);
}

#[test]
fn a10_cluster_list_from_ebgp_is_discarded_rfc7606_7_10() {
    let kind = AttributeErrorKind::NotFromThisPeer;
    assert_discarded(&with("800a050a00000200"), 10, kind);
    assert_discarded(&with("800a040a000002"), 10, kind);
}

#[test]
fn a10_cluster_list_of_invalid_length_from_ibgp_withdraws_rfc7606_7_10() {
    for octets in ["800a00", "800a050a00000200", "800a060a0000020a00"] {
        assert_withdrawn(&from_ibgp(octets), 10, AttributeErrorKind::Length);
    }
    let update = from_ibgp("800a080a0000020a000003");
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown.len(), 1);
}

#[test]
fn a_loopback_next_hop_is_valid_only_in_a_session_over_the_loopback_rfc4271_6_3() {
    let attributes = "4001010040020602010000fde94003047f000001";
    let elsewhere = decode_with(&ebgp(), attributes, "18c63301");
    assert_eq!(elsewhere.announced().count(), 0);
    let loopback = DecodeContext {
        loopback: true,
        ..ebgp()
    };
    let here = decode_with(&loopback, attributes, "18c63301");
    assert_eq!(here.announced().count(), 1);
}

#[test]
fn a8_duplicate_communities_are_removed() {
    let update = with("c00808fde90001fde90001");
    assert_eq!(update.attributes.communities, [Community::new(65001, 1)]);
}
