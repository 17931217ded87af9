use super::*;

const IPV6: Family = Family::IPV6_UNICAST;
const IPV4: Family = Family::IPV4_UNICAST;

/// The value is what the capability is put as and read from.
fn both_ways(capability: &Capability, value: &[u8]) {
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
fn capabilities_are_read_as_they_are_written() {
    both_ways(&Capability::Multiprotocol(IPV6), &[0, 2, 0, 1]);
    both_ways(&Capability::RouteRefresh, &[]);
    both_ways(&Capability::FourOctetAsn(Asn(65001)), &[0, 0, 0xfd, 0xe9]);
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
    both_ways(
        &Capability::ExtendedNextHop(next_hops),
        &[0, 1, 0, 1, 0, 2, 0, 1, 0, 128, 0, 2],
    );
    // RFC 8654 §3, RFC 7313 §3.1.
    both_ways(&Capability::ExtendedMessage, &[]);
    both_ways(&Capability::EnhancedRouteRefresh, &[]);
    // RFC 7911 §4.
    let paths = vec![
        (IPV4, AddPath::Receive),
        (IPV6, AddPath::Send),
        (IPV6, AddPath::Both),
    ];
    both_ways(
        &Capability::AddPath(paths),
        &[0, 1, 1, 1, 0, 2, 1, 2, 0, 2, 1, 3],
    );
}

/// RFC 4724 §3, RFC 8538 §2.
#[test]
fn graceful_restart_is_read_as_it_is_written() {
    let restart = |restarted, notification, restart_time, families: &[_]| {
        Capability::GracefulRestart(GracefulRestartCapability {
            restarted,
            notification,
            restart_time,
            families: families.to_vec(),
        })
    };
    both_ways(&restart(false, false, 120, &[]), &[0, 120]);
    both_ways(
        &restart(true, true, 4095, &[(IPV4, true), (IPV6, false)]),
        &[0xcf, 0xff, 0, 1, 1, 0x80, 0, 2, 1, 0],
    );
    let mut octets = BytesMut::new();
    restart(false, false, 0xffff, &[]).put(&mut octets);
    assert_eq!(octets[..], [64, 2, 0x0f, 0xff]);
}

/// The speaker counts as one that doesn't offer them; the octets are still there to be seen.
#[test]
fn optional_capabilities_of_a_wrong_form_stay_octets() {
    for (code, value) in [
        (CapabilityCode::EXTENDED_NEXT_HOP, &[0, 1, 0, 1, 0][..]),
        (CapabilityCode::EXTENDED_NEXT_HOP, &[0, 1, 1, 1, 0, 2]),
        (CapabilityCode::EXTENDED_MESSAGE, &[0]),
        (CapabilityCode::ENHANCED_ROUTE_REFRESH, &[0]),
        (CapabilityCode::GRACEFUL_RESTART, &[]),
        (CapabilityCode::GRACEFUL_RESTART, &[0]),
        (CapabilityCode::GRACEFUL_RESTART, &[0, 120, 0]),
        (CapabilityCode::ADD_PATH, &[0, 1, 1]),
        // RFC 7911 §4: a direction that is none.
        (CapabilityCode::ADD_PATH, &[0, 1, 1, 0]),
        (CapabilityCode::ADD_PATH, &[0, 1, 1, 4]),
    ] {
        let unknown = Capability::Unknown {
            code,
            value: Bytes::copy_from_slice(value),
        };
        both_ways(&unknown, value);
    }
}

/// RFC 4271 §6.2: these three every speaker has, so their form is the OPEN's.
#[test]
fn the_usual_capabilities_have_their_length() {
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
fn capabilities_print_in_words() {
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
fn a_value_beyond_a_length_octet_is_not_said() {
    let long = Capability::AddPath(vec![(IPV4, AddPath::Both); 64]);
    let mut octets = BytesMut::new();
    long.put(&mut octets);
    assert!(octets.is_empty());
}
