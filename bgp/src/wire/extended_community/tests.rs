use super::*;

#[test]
fn printed_extended_communities_parse_back() {
    for (text, octets) in [
        ("rt:65001:1", "0x0002fde900000001"),
        ("rt:65001:4294967295", "0x0002fde9ffffffff"),
        ("soo:65001:7", "0x0003fde900000007"),
        ("rt:192.0.2.1:9", "0x0102c00002010009"),
        ("rt:4200000000:9", "0x0202fa56ea000009"),
        ("lb:65001:125000000", "0x4004fde94cee6b28"),
        ("transitive-lb:65001:125000000", "0x0004fde94cee6b28"),
        ("lb:23456:0.5", "0x40045ba03f000000"),
        // Negative and infinite bandwidths, a small AS in the four-octet type, other types.
        ("0x4004fde9ccee6b28", "0x4004fde9ccee6b28"),
        ("0x4004fde97f800000", "0x4004fde97f800000"),
        ("0x02020000fde90001", "0x02020000fde90001"),
        ("0x030c000000000008", "0x030c000000000008"),
    ] {
        let community: ExtendedCommunity = text.parse().unwrap();
        assert_eq!(Ok(community), octets.parse(), "{text}");
        assert_eq!(community.to_string(), text);
    }
}

#[test]
fn printed_ipv6_extended_communities_parse_back() {
    let text = "rt:[2001:db8::1]:258";
    let community: Ipv6ExtendedCommunity = text.parse().unwrap();
    let octets = "0x000220010db80000000000000000000000010102";
    assert_eq!(Ok(community), octets.parse());
    assert_eq!(community.to_string(), text);
    let other = "0x400b20010db80000000000000000000000010102";
    assert_eq!(
        other.parse::<Ipv6ExtendedCommunity>().unwrap().to_string(),
        other
    );
}

#[test]
fn other_texts_are_not_extended_communities() {
    for text in [
        "",
        "rt",
        "rt:1",
        "rt:1:",
        "rt::1",
        "rt:+1:2",
        "rt:1:2:3",
        "rt:65536:65536",
        "rt:a:1",
        "rt:192.0.2.1:65536",
        "xx:1:1",
        "lb:65536:1",
        "lb:1:-1",
        "lb:1:inf",
        "lb:1:nan",
        "lb:1:1e9",
        "lb:1:",
        "0x",
        "0x00",
        "0x4004fde94cee6b2",
        "0x4004fde94cee6b2g",
        "4004fde94cee6b28",
    ] {
        assert!(text.parse::<ExtendedCommunity>().is_err(), "{text:?}");
    }
    for text in [
        "rt:2001:db8::1:1",
        "rt:[2001:db8::1]",
        "rt:[192.0.2.1]:1",
        "0x00",
    ] {
        assert!(text.parse::<Ipv6ExtendedCommunity>().is_err(), "{text:?}");
    }
}

/// In the transitive and in the classic form.
#[test]
fn link_bandwidth_is_an_extended_community_rfc10005() {
    for transitive in [false, true] {
        let link = LinkBandwidth {
            asn: 65001,
            octets_per_second: 1.25e9,
            transitive,
        };
        let community = ExtendedCommunity::from(link);
        assert_eq!(LinkBandwidth::try_from(community), Ok(link));
    }
    let target: ExtendedCommunity = "rt:65001:1".parse().unwrap();
    let error = LinkBandwidth::try_from(target).unwrap_err();
    assert_eq!(error.to_string(), "rt:65001:1 is not a link bandwidth");
}
