//! All other attributes.

use super::*;

#[test]
fn a16_extended_communities_of_invalid_length_withdraw_rfc7606_7_14() {
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

/// The attribute is kept as octets, unchecked.
#[track_caller]
fn assert_opaque(octets: &str) {
    let update = with(octets);
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown.len(), 1, "{octets}");
}

#[test]
fn a22_pmsi_tunnel_is_kept_without_checks_rfc4271_5() {
    assert_opaque("c0160400060000");
    assert_opaque("c01600");
}

/// CVE-2023-38802.
#[test]
fn a23_tunnel_encapsulation_is_kept_without_checks_rfc4271_5() {
    assert_opaque("c01703000700");
    assert_opaque("c017060007000401ff");
}

/// A descriptor has at least 36 octets.
#[test]
fn a24_traffic_engineering_shorter_than_a_descriptor_withdraws_rfc7606_7_13() {
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

/// Sessions flapped because some speakers applied the format of an older specification.
#[test]
fn a28_entropy_label_capability_is_kept_without_checks_rfc7447() {
    for octets in ["e01c00", "c01c0100", "f01c0000", "c01c04deadbeef"] {
        assert_opaque(octets);
    }
}

/// May 2025; CVE-2024-31948.
#[test]
fn a40_prefix_sid_is_kept_without_checks_rfc8669_6() {
    for octets in ["c0280100", "e028060100ff000000", "c028060500ff000000"] {
        assert_opaque(octets);
    }
    assert_opaque(&format!("c02825{}", "00".repeat(37)));
}

/// The value is an AS number of four octets, then attributes.
#[test]
fn a128_a_truncated_attr_set_withdraws_rfc7606_7_16() {
    for octets in ["c08000", "c0800100", "c080030000fd"] {
        assert_withdrawn(&with(octets), 128, AttributeErrorKind::Length);
    }
    // A truncated header, with and without Extended Length; a truncated value.
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

#[test]
fn a128_attr_set_is_kept_with_any_attribute_values_rfc6368_5() {
    assert_opaque("c080040000fde9");
    assert_opaque("c080080000fde940010109");
    assert_opaque("c0800d0000fde9500100010040030100");
}

#[test]
fn a25_ipv6_extended_communities_of_invalid_length_withdraw_rfc7606_7_15() {
    assert_withdrawn(&with("c01900"), 25, AttributeErrorKind::Length);
    assert_withdrawn(&with("c0190100"), 25, AttributeErrorKind::Length);
    assert_accepted(&with(&format!("c01914{}", "00".repeat(20))));
}

/// Not transitive and unknown.
#[track_caller]
fn assert_dropped(octets: &str) {
    let update = with(octets);
    assert_accepted(&update);
    assert_eq!(update.attributes.unknown, [], "{octets}");
}

/// Includes CVE-2023-41359.
#[test]
fn a26_aigp_is_dropped_rfc7311_3() {
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
fn a29_bgp_ls_is_dropped_rfc4271_5() {
    assert_dropped("801d0100");
    assert_dropped("801d00");
}

#[test]
fn a32_large_communities_of_invalid_length_withdraw_rfc8092_6() {
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
fn a35_only_to_customer_of_invalid_length_withdraws_rfc9234_5() {
    assert_withdrawn(&with("c023030000fd"), 35, AttributeErrorKind::Length);
    assert_accepted(&with("f02300040000fde9"));
}
