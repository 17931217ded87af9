//! Rules for the UPDATE as a whole: rules U in `docs/bgp-errors.md`.

use super::*;

#[test]
fn every_attribute_of_a_valid_update_is_decoded() {
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
fn u1_length_fields_beyond_the_message_reset_the_session_rfc7606_3() {
    for body in [
        "0000 0022 40010100",
        "00c8 0014 40010100",
        "ffff 0000",
        "0001 0000",
    ] {
        let error = decode_body(&octets(body), &ebgp()).unwrap_err();
        assert_eq!(error, DecodeError::MalformedAttributeList, "{body}");
        let notification = error.notification();
        assert_eq!((notification.code.0, notification.subcode), (3, 1));
        assert!(notification.data.is_empty());
    }
}

#[test]
fn u2_too_long_and_truncated_prefixes_reset_the_session_rfc7606_5_3() {
    for nlri in ["21c633640100", "18c6330120c633", "18", "ff"] {
        assert_eq!(rejection("", BASE, nlri), (3, 10, vec![]), "{nlri}");
        assert_eq!(rejection(nlri, "", ""), (3, 10, vec![]), "{nlri}");
    }
}

#[test]
fn u3_prefixes_that_are_not_unicast_are_dropped_rfc4271_6_3() {
    let update = decode_with(&ebgp(), BASE, "18c63301 10e001 08f0 20ffffffff");
    assert_eq!(names(update.announced()), ["198.51.1.0/24"]);
    let kind = AttributeErrorKind::NotUnicast(3);
    let error = AttributeError {
        attribute: None,
        kind,
        treatment: Treatment::Discard,
    };
    assert_eq!(update.errors, [error]);
    let update = decode_with(&ebgp(), &REACH.replace("80 20010db8", "80 ff020db8"), "");
    assert_eq!(names(update.announced()), [""; 0]);
}

#[test]
fn u4_a_prefix_both_withdrawn_and_announced_is_announced_rfc4271_4_3() {
    let update = decode_body(&fields("18c63301 18c63302", BASE, P), &ebgp()).unwrap();
    assert_accepted(&update);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.2.0/24"]);
    let unreach = "800f25 0002 01 80 20010db8000a00000000000000000009 \
                   80 20010db8000a00000000000000000008";
    let update = decode_with(
        &ebgp(),
        &format!("{REACH} {unreach} {ORIGIN} {AS_PATH}"),
        "",
    );
    assert_eq!(names(update.announced()), ["2001:db8:a::9/128"]);
    assert_eq!(names(update.withdrawn_prefixes()), ["2001:db8:a::8/128"]);
}

#[test]
fn u5_attributes_that_exceed_the_field_withdraw_rfc7606_4() {
    assert_withdrawn(&with("c00820fde90001"), 8, AttributeErrorKind::Overrun);
    assert_withdrawn(&with("c008"), 8, AttributeErrorKind::Overrun);
    assert_withdrawn(&with("d00800"), 8, AttributeErrorKind::Overrun);
    // OTC as in 2025: re-encoded with the extended-length flag and a short length.
    assert_withdrawn(&with("f023040000fde9"), 35, AttributeErrorKind::Overrun);
    let update = with("c0");
    assert_eq!(update.errors.len(), 1);
    assert_eq!(update.errors[0].attribute, None);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.1.0/24"]);
}

#[test]
fn u5_a_multiprotocol_attribute_that_exceeds_the_field_resets_the_session_rfc7606_5_3() {
    let cut = "800e26 0002 01 10 fd99";
    assert_eq!(
        rejection("", &format!("{BASE} {cut}"), P),
        (3, 9, octets(cut))
    );
    assert_eq!(rejection("", "800f05", P), (3, 9, octets("800f05")));
}

#[test]
fn u6_an_error_without_readable_routes_resets_the_session_rfc7606_5_2() {
    assert_eq!(rejection("", "40012000", ""), (3, 5, octets("40012000")));
    assert_eq!(
        rejection("", "400103000000", ""),
        (3, 5, octets("400103000000"))
    );
    assert_eq!(rejection("", "40010103", ""), (3, 6, octets("40010103")));
    assert_eq!(rejection("", "c0010100", ""), (3, 4, octets("c0010100")));
    assert_eq!(
        rejection("", "40030400000000", ""),
        (3, 8, octets("40030400000000"))
    );
    assert_eq!(rejection("", "400202 0200", ""), (3, 11, vec![]));
    assert_eq!(rejection("", "406300", ""), (3, 2, octets("406300")));
    assert_eq!(rejection("", "c0", ""), (3, 1, vec![]));
    assert_eq!(rejection(P, "c00800", ""), (3, 5, octets("c00800")));
    // A discard needs no routes.
    assert_eq!(decode_with(&ebgp(), "40060100", "").errors.len(), 1);
}

#[test]
fn u7_withdrawals_need_no_attributes_rfc4271_4_3() {
    let update = decode_body(&fields(P, "", ""), &ebgp()).unwrap();
    assert_eq!(update.errors, []);
    assert_eq!(names(update.withdrawn_prefixes()), ["198.51.1.0/24"]);
    let update = decode_with(&ebgp(), "800f08 0002 01 20 20010db8", "");
    assert_eq!(update.errors, []);
    assert_eq!(names(update.withdrawn_prefixes()), ["2001:db8::/32"]);
    assert_eq!(update.end_of_rib(), None);
}

#[test]
fn u8_missing_mandatory_attributes_withdraw_rfc7606_3() {
    let missing = AttributeErrorKind::Missing;
    assert_withdrawn(&decode(&format!("{AS_PATH} {NEXT_HOP}")), 1, missing);
    assert_withdrawn(&decode(&format!("{ORIGIN} {NEXT_HOP}")), 2, missing);
    assert_withdrawn(&decode(&format!("{ORIGIN} {AS_PATH}")), 3, missing);
    assert_withdrawn(&decode_with(&ibgp(), BASE, P), 5, missing);
    // MP_REACH_NLRI has a next hop of its own, and needs the other attributes.
    assert_eq!(
        decode_with(&ebgp(), &format!("{REACH} {ORIGIN} {AS_PATH}"), "").errors,
        []
    );
    let update = decode_with(&ebgp(), REACH, "");
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
fn the_errors_of_an_update_are_limited_and_keep_the_strongest_treatment() {
    let context = DecodeContext {
        max_length: MAX_EXTENDED_LENGTH,
        ..DecodeContext::default()
    };
    // Unknown attributes, each type twice, the first one 10,000 more times: 60 errors.
    let codes = 140..200u8;
    let mut attributes: Vec<u8> = codes
        .flat_map(|code| [0xc0, code, 0, 0xc0, code, 0])
        .collect();
    attributes.extend([0xc0, 140, 0].repeat(10_000));
    // An undefined ORIGIN, and no AS_PATH and NEXT_HOP: 3 errors that withdraw.
    attributes.extend([0x40, 1, 1, 9]);
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    let nlri = [24, 203, 0, 113];
    let body = [&[0, 0][..], &length, &attributes, &nlri].concat();
    let update = Update::decode(&body, &context).unwrap();
    assert_eq!(update.errors.len(), Update::ERRORS_MAX);
    assert_eq!(update.errors_omitted, 63 - Update::ERRORS_MAX);
    assert_eq!(update.treatment(), Some(Treatment::TreatAsWithdraw));
    assert_eq!(update.announced().count(), 0);
    let words = update.error_texts();
    assert_eq!(words.last().unwrap(), "and 47 more errors");
    assert!(
        words[Update::ERRORS_MAX - 1].contains("ORIGIN"),
        "{words:?}"
    );
}

/// CVE-2023-38283.
#[test]
fn a_malformed_attribute_does_not_affect_the_other_attributes() {
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

/// A session reset takes precedence over all attribute errors.
#[test]
fn the_strongest_treatment_applies_rfc7606_3() {
    let update = with("40060100 800403000000");
    assert_eq!(update.errors.len(), 2);
    assert_eq!(update.treatment(), Some(Treatment::TreatAsWithdraw));
    assert_eq!(
        rejection("", &format!("{BASE} 800403000000"), "21"),
        (3, 10, vec![])
    );
    let attributes = format!("{BASE} 800403000000 800f020002");
    assert_eq!(rejection("", &attributes, P), (3, 9, octets("800f020002")));
}

/// By content, not by length.
#[test]
fn end_of_rib_is_an_update_without_routes_and_attributes_rfc4724_2() {
    let eor = |attributes: &str| decode_with(&ebgp(), attributes, "").end_of_rib();
    assert_eq!(eor(""), Some(Family::IPV4_UNICAST));
    assert_eq!(eor("800f03000201"), Some(Family::IPV6_UNICAST));
    assert_eq!(eor("900f0003000201"), Some(Family::IPV6_UNICAST));
    assert_eq!(eor("800f03000101"), Some(Family::IPV4_UNICAST));
    assert_eq!(eor("800f03000180"), None, "not negotiated");
    assert_eq!(eor("c0ff00"), None, "an attribute is something");
}

#[test]
fn u5_attributes_after_an_overrun_are_not_reported_as_missing() {
    let update = decode("40010100 c00820");
    assert_withdrawn(&update, 8, AttributeErrorKind::Overrun);
}

#[test]
fn u6_the_notification_is_for_the_first_error() {
    assert_eq!(
        rejection("", "40010103 400400 c00800", ""),
        (3, 6, octets("40010103"))
    );
}

#[test]
fn u6_malformed_as_path_has_no_data_rfc4271_6_3() {
    for value in ["0200", "01010000fde9", "03010000fde9", "020100000000"] {
        let attribute = format!("4002{:02x}{value}", value.len() / 2);
        assert_eq!(rejection("", &attribute, ""), (3, 11, vec![]), "{value}");
    }
}

#[test]
fn u3_ipv6_prefixes_that_are_not_unicast_are_dropped_rfc4271_6_3() {
    let reach = "800e1f 0002 01 10 fd990001000000000000000000000001 00 08ff 0afe80 20 20010db8";
    let update = decode_with(&ebgp(), &format!("{reach} {ORIGIN} {AS_PATH}"), "");
    assert_eq!(names(update.announced()), ["2001:db8::/32"]);
    assert_eq!(update.errors.len(), 1);
    assert_eq!(update.errors[0].kind, AttributeErrorKind::NotUnicast(2));
}
