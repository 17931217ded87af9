//! MP_REACH_NLRI and MP_UNREACH_NLRI.

use super::*;

#[test]
fn a3_next_hop_is_ignored_if_all_routes_are_in_mp_reach_rfc4760_3() {
    for next_hop in ["40030400000000", "4003030a6301", NEXT_HOP] {
        let attributes = format!("{ORIGIN} {AS_PATH} {next_hop} {REACH}");
        let update = decode_with(&ebgp(), &attributes, "");
        assert_eq!(update.errors, []);
        assert_eq!(update.attributes.next_hop, None);
        assert_eq!(names(update.announced()), ["2001:db8:a::9/128"]);
    }
}

/// Found by the fuzzer: the overrun may hide ORIGIN and AS_PATH.
#[test]
fn u5_a_next_hop_that_exceeds_the_field_withdraws_the_routes_in_mp_reach_rfc7606_4() {
    let update = decode_with(
        &ebgp(),
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
fn a14_a_malformed_mp_reach_resets_the_session_rfc7606_7_11() {
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
            rejection("", &attributes, P),
            (3, 9, octets(octets_)),
            "{octets_}"
        );
    }
}

#[test]
fn a14_mp_reach_is_decoded_rfc4760_3() {
    let base = format!("{ORIGIN} {AS_PATH}");
    let update = decode_with(&ebgp(), &format!("{base} {REACH}"), "");
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
    let update = decode_with(&ebgp(), &format!("{both} {base}"), "");
    let link_local = Some("fe80::1".parse().unwrap());
    assert_eq!(
        update.mp_reach.as_ref().map(|reach| reach.next_hop),
        Some(NextHop::V6 { global, link_local })
    );
    let only_link_local = both.replace("fd990001000000000000000000000001", &"00".repeat(16));
    let update = decode_with(&ebgp(), &format!("{only_link_local} {base}"), "");
    assert_eq!(update.errors, []);
    let v4 = "800e0d 0001 01 04 0a630101 00 18c63301";
    let update = decode_with(&ebgp(), &format!("{v4} {base}"), "");
    assert_accepted(&update);
}

/// A next hop of 16 or 32 octets if negotiated, and one of 4 octets as before.
#[test]
fn a14_ipv4_routes_can_have_ipv6_next_hops_rfc8950_3() {
    let context = DecodeContext {
        ipv4_next_hop_v6: true,
        ..ebgp()
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

/// Old speakers send such UPDATEs.
#[test]
fn a14_all_four_fields_in_one_update_are_decoded_rfc7606_5_1() {
    let attributes = format!("{REACH} 800f08 0002 01 20 20010db8 {BASE}");
    let update = decode_body(&fields("18c63302", &attributes, P), &ebgp()).unwrap();
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
fn a14b_routes_of_families_that_were_not_negotiated_are_discarded_rfc4760_6() {
    let ipv4_only = DecodeContext {
        families: vec![Family::IPV4_UNICAST],
        ..ebgp()
    };
    let update = decode_with(&ipv4_only, &format!("{REACH} {BASE}"), P);
    let kind = AttributeErrorKind::FamilyNotNegotiated(Family::IPV6_UNICAST);
    assert_discarded(&update, 14, kind);
    let vpn = "800e200001800c00000000000000000a63010100700000110000fde900000001c63364";
    let update = decode_with(&ebgp(), &format!("{vpn} {BASE}"), P);
    assert_eq!(update.treatment(), Some(Treatment::Discard));
    assert_eq!(update.mp_reach, None);
    let ipv6_only = DecodeContext {
        families: vec![Family::IPV6_UNICAST],
        ..ebgp()
    };
    let update = decode_with(&ipv6_only, BASE, P);
    assert_eq!(names(update.announced()), [""; 0]);
    assert_eq!(update.treatment(), Some(Treatment::Discard));
}

#[test]
fn a14c_an_invalid_next_hop_in_mp_reach_withdraws_rfc4271_6_3() {
    for global in [
        "00000000000000000000000000000000",
        "ff020000000000000000000000000001",
    ] {
        let reach = REACH.replace("fd990001000000000000000000000001", global);
        let update = decode_with(&ebgp(), &format!("{reach} {ORIGIN} {AS_PATH}"), "");
        assert_eq!(update.errors.len(), 1);
        assert_eq!(update.errors[0].kind, AttributeErrorKind::NextHop);
        assert_eq!(names(update.announced()), [""; 0]);
        assert_eq!(names(update.withdrawn_prefixes()), ["2001:db8:a::9/128"]);
    }
}

#[test]
fn a14d_a_transitive_mp_reach_resets_the_session_rfc7606_5_3() {
    let reach = REACH.replace("800e26", "c00e26");
    assert_eq!(
        rejection("", &format!("{reach} {BASE}"), P),
        (3, 4, octets(&reach))
    );
}

#[test]
fn a15_a_malformed_mp_unreach_resets_the_session_rfc7606_7_12() {
    for octets_ in [
        "800f020002",
        "800f080002014020010db8",
        "800f0400020181",
        "c00f03000201",
    ] {
        let (code, subcode, data) = rejection("", &format!("{BASE} {octets_}"), P);
        let expected = if octets_.starts_with("c0") { 4 } else { 9 };
        assert_eq!((code, subcode, data), (3, expected, octets(octets_)));
    }
}

/// Such routes need no withdrawal, so the error is no reason for a session reset.
#[test]
fn a14b_an_error_next_to_routes_of_another_family_is_only_reported() {
    let vpn = "800e200001800c00000000000000000a63010100700000110000fde900000001c63364";
    let update = decode_with(&ebgp(), &format!("{vpn} {ORIGIN} {AS_PATH} c00800"), "");
    assert_eq!(update.treatment(), Some(Treatment::TreatAsWithdraw));
    assert_eq!(names(update.withdrawn_prefixes()), [""; 0]);
}

#[test]
fn a14b_ipv4_routes_are_discarded_if_only_ipv6_was_negotiated_rfc4760_6() {
    let context = DecodeContext {
        families: vec![Family::IPV6_UNICAST],
        ..ebgp()
    };
    let update = decode_with(&context, &format!("{REACH} {ORIGIN} {AS_PATH}"), "");
    assert_eq!(update.errors, []);
    assert_eq!(names(update.announced()), ["2001:db8:a::9/128"]);
}

#[test]
fn a14d_mp_reach_with_well_known_flags_resets_the_session_rfc7606_5_3() {
    let reach = REACH.replace("800e26", "000e26");
    let expected = (3, 4, octets(&reach));
    assert_eq!(rejection("", &format!("{reach} {BASE}"), P), expected);
}

/// Some speakers fill the second half of the next hop with other octets.
#[test]
fn a14_a_second_next_hop_that_is_not_link_local_is_ignored_rfc2545_3() {
    let global = "fd990001000000000000000000000001";
    let reach =
        format!("800e36 0002 01 20 {global} {global} 00 80 20010db8000a00000000000000000009");
    let update = decode_with(&ebgp(), &format!("{reach} {ORIGIN} {AS_PATH}"), "");
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
