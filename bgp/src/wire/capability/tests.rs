use super::*;

const IPV6: Family = Family::IPV6_UNICAST;
const IPV4: Family = Family::IPV4_UNICAST;

/// Checks that the capability encodes to the value and decodes from it.
fn check_encoding(capability: &Capability, value: &[u8]) {
    let mut octets = BytesMut::new();
    capability.put(&mut octets);
    let length = u8::try_from(value.len()).unwrap();
    let expected = [&[capability.code().0, length], value].concat();
    assert_eq!(octets, expected, "{capability}");
    assert_eq!(
        Capability::decode(capability.code(), value).as_ref(),
        Ok(capability)
    );
}

#[test]
fn capabilities_decode_to_what_was_encoded() {
    check_encoding(&Capability::Multiprotocol(IPV6), &[0, 2, 0, 1]);
    check_encoding(&Capability::RouteRefresh, &[]);
    check_encoding(&Capability::FourOctetAsn(Asn(65001)), &[0, 0, 0xfd, 0xe9]);
    // RFC 8950 §4.
    let next_hops = vec![
        ExtendedNextHop::IPV4_OVER_IPV6,
        ExtendedNextHop {
            family: Family {
                afi: Afi::IPV4,
                safi: Safi(128),
            },
            next_hop: Afi::IPV6,
        },
    ];
    check_encoding(
        &Capability::ExtendedNextHop(next_hops),
        &[0, 1, 0, 1, 0, 2, 0, 1, 0, 128, 0, 2],
    );
    // RFC 8654 §3, RFC 7313 §3.1.
    check_encoding(&Capability::ExtendedMessage, &[]);
    check_encoding(&Capability::EnhancedRouteRefresh, &[]);
    // RFC 7911 §4.
    let paths = vec![
        (IPV4, AddPath::Receive),
        (IPV6, AddPath::Send),
        (IPV6, AddPath::Both),
    ];
    check_encoding(
        &Capability::AddPath(paths),
        &[0, 1, 1, 1, 0, 2, 1, 2, 0, 2, 1, 3],
    );
}

#[test]
fn graceful_restart_decodes_to_what_was_encoded_rfc4724_3_rfc8538_2() {
    let restart = |restarted, notification, restart_time, families: &[_]| {
        Capability::GracefulRestart(GracefulRestartCapability {
            restarted,
            notification,
            restart_time,
            families: families.to_vec(),
        })
    };
    check_encoding(&restart(false, false, 120, &[]), &[0, 120]);
    check_encoding(
        &restart(true, true, 4095, &[(IPV4, true), (IPV6, false)]),
        &[0xcf, 0xff, 0, 1, 1, 0x80, 0, 2, 1, 0],
    );
    let mut octets = BytesMut::new();
    restart(false, false, 0xffff, &[]).put(&mut octets);
    assert_eq!(octets[..], [64, 2, 0x0f, 0xff]);
}

/// The octets are kept for display.
#[test]
fn malformed_optional_capabilities_count_as_not_offered_rfc5492_3() {
    for (code, value) in [
        (CapabilityCode::EXTENDED_NEXT_HOP, &[0, 1, 0, 1, 0][..]),
        (CapabilityCode::EXTENDED_NEXT_HOP, &[0, 1, 1, 1, 0, 2]),
        (CapabilityCode::EXTENDED_MESSAGE, &[0]),
        (CapabilityCode::ENHANCED_ROUTE_REFRESH, &[0]),
        (CapabilityCode::GRACEFUL_RESTART, &[]),
        (CapabilityCode::GRACEFUL_RESTART, &[0]),
        (CapabilityCode::GRACEFUL_RESTART, &[0, 120, 0]),
        (CapabilityCode::ADD_PATH, &[0, 1, 1]),
        // An undefined direction (RFC 7911 §4).
        (CapabilityCode::ADD_PATH, &[0, 1, 1, 0]),
        (CapabilityCode::ADD_PATH, &[0, 1, 1, 4]),
    ] {
        let unknown = Capability::Unknown {
            code,
            value: Bytes::copy_from_slice(value),
        };
        check_encoding(&unknown, value);
    }
}

#[test]
fn basic_capabilities_of_invalid_length_make_the_open_malformed_rfc4271_6_2() {
    for (code, value) in [
        (CapabilityCode::MULTIPROTOCOL, &[0, 1, 0][..]),
        (CapabilityCode::MULTIPROTOCOL, &[0, 1, 0, 1, 0]),
        (CapabilityCode::ROUTE_REFRESH, &[0]),
        (CapabilityCode::FOUR_OCTET_ASN, &[0, 0, 1]),
        (CapabilityCode::FOUR_OCTET_ASN, &[0; 5]),
    ] {
        assert_eq!(
            Capability::decode(code, value),
            Err(DecodeError::MalformedOpen)
        );
    }
}

#[test]
fn capabilities_print_as_text() {
    let text = |code, value: &[u8]| {
        Capability::decode(CapabilityCode(code), value)
            .unwrap()
            .to_string()
    };
    assert_eq!(text(1, &[0, 2, 0, 1]), "ipv6-unicast");
    assert_eq!(
        text(5, &[0, 1, 0, 1, 0, 2]),
        "extended next hop ipv4-unicast over ipv6"
    );
    assert_eq!(text(6, &[]), "extended message");
    assert_eq!(
        text(64, &[0xc0, 20, 0, 1, 1, 0x80, 0, 2, 1, 0]),
        "graceful restart 20 s, restarted, with notification, ipv4-unicast (forwarding), \
         ipv6-unicast"
    );
    assert_eq!(text(69, &[0, 1, 1, 3]), "ADD-PATH ipv4-unicast both");
    assert_eq!(text(70, &[]), "enhanced route refresh");
    assert_eq!(text(73, &[1, b'a', 0]), "host name");
    assert_eq!(text(74, &[]), "BFD strict mode");
    assert_eq!(text(200, &[]), "capability 200");
}

#[test]
fn a_value_of_more_than_255_octets_is_not_encoded() {
    let long = Capability::AddPath(vec![(IPV4, AddPath::Both); 64]);
    let mut octets = BytesMut::new();
    long.put(&mut octets);
    assert!(octets.is_empty());
}
