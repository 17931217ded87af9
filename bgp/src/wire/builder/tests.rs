use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::wire::{
    Aggregator, Asn, Community, DecodeContext, ExtendedCommunity, Ipv6ExtendedCommunity,
    LargeCommunity, Message, Origin, UnknownAttribute, Update,
};

fn octets(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn message(hex: &str) -> Vec<u8> {
    [vec![0xff; 16], octets(hex)].concat()
}

fn external() -> PathAttributes {
    PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some([Asn(64512)].into_iter().collect()),
        ..PathAttributes::default()
    }
}

fn internal(local_pref: u32, communities: &[Community]) -> PathAttributes {
    PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some([].into_iter().collect()),
        local_pref: Some(local_pref),
        communities: communities.to_vec(),
        ..PathAttributes::default()
    }
}

const V4: NextHop = NextHop::V4(Ipv4Addr::new(10, 0, 0, 1));
const GLOBAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const V6: NextHop = NextHop::V6 {
    global: GLOBAL,
    link_local: None,
};
const V6_BOTH: NextHop = NextHop::V6 {
    global: GLOBAL,
    link_local: Some(LINK_LOCAL),
};
const OLD: EncodeContext = EncodeContext {
    four_octet_asn: false,
    max_length: 4096,
};

fn announce(
    attributes: &PathAttributes,
    next_hop: NextHop,
    context: &EncodeContext,
) -> UpdateBuilder {
    let family = match next_hop {
        NextHop::V4(_) => Family::IPV4_UNICAST,
        NextHop::V6 { .. } => Family::IPV6_UNICAST,
    };
    UpdateBuilder::announce(family, attributes, &next_hop, context).unwrap()
}

fn one(mut builder: UpdateBuilder, prefixes: &[&str]) -> Bytes {
    for prefix in prefixes {
        assert!(builder.push(&prefix.parse().unwrap()), "{prefix} fits");
    }
    builder.finish()
}

/// Each prefix overwrites the excess octets of the one before.
#[test]
fn host_bits_are_not_sent_at_any_prefix_length() {
    let context = EncodeContext::default();
    let mut builder = UpdateBuilder::withdraw(Family::IPV6_UNICAST, &context).unwrap();
    let mut expected = Vec::new();
    for length in (0..=128u8).rev() {
        let prefix = ipnet::Ipv6Net::new([0xff; 16].into(), length).unwrap();
        assert!(builder.push(&prefix.into()));
        expected.push(length);
        expected.extend(&prefix.network().octets()[..length.div_ceil(8).into()]);
    }
    assert!(builder.finish().ends_with(&expected));
    let withdraw = UpdateBuilder::withdraw(Family::IPV4_UNICAST, &context).unwrap();
    let update = one(
        withdraw,
        &["10.20.30.255/20", "10.20.30.255/32", "10.9.9.9/0"],
    );
    assert_eq!(update[19..], octets("000a 140a1410 200a141eff 00 0000"));
}

fn read(message: &[u8], four_octet_asn: bool, ibgp: bool) -> Update {
    let context = DecodeContext {
        four_octet_asn,
        ibgp,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ..DecodeContext::default()
    };
    match Message::decode(message, &context) {
        Some(Ok(Message::Update(update))) => update,
        other => panic!("{other:?}"),
    }
}

#[test]
fn updates_have_the_octets_of_metallbs() {
    let new = EncodeContext::default();
    let prefix = ["10.20.30.1/32"];
    assert_eq!(
        one(announce(&external(), V4, &new), &prefix),
        message("0030 02 0000 0014 40010100 4002060201 0000fc00 4003040a000001 20 0a141e01")
    );
    assert_eq!(
        one(announce(&external(), V4, &OLD), &prefix),
        message("002e 02 0000 0012 40010100 4002040201 fc00 4003040a000001 20 0a141e01")
    );
    let attributes = internal(100, &[Community::NO_EXPORT, Community::new(64512, 1)]);
    assert_eq!(
        one(announce(&attributes, V4, &new), &prefix),
        message(
            "003c 02 0000 0020 40010100 400200 4003040a000001 40050400000064 \
             c00808 fc000001 ffffff01 20 0a141e01"
        )
    );
    assert_eq!(
        one(announce(&internal(0, &[]), V4, &new), &["10.20.30.0/24"]),
        message("0030 02 0000 0015 40010100 400200 4003040a000001 40050400000000 18 0a141e")
    );
    let withdraw = UpdateBuilder::withdraw(Family::IPV4_UNICAST, &new).unwrap();
    assert_eq!(
        one(withdraw, &["10.20.30.1/32", "10.20.30.0/24"]),
        message("0020 02 0009 20 0a141e01 18 0a141e 0000")
    );
}

#[test]
fn ipv6_routes_are_in_mp_reach_which_is_the_first_attribute_rfc7606_5_1() {
    let update = one(
        announce(&external(), V6, &EncodeContext::default()),
        &["2001:db8:a::9/128"],
    );
    let expected = message(
        "0051 02 0000 003a 800e26 0002 01 10 20010db8000000000000000000000001 00 \
         80 20010db8000a00000000000000000009 40010100 40020602010000fc00",
    );
    let expected = {
        let mut expected = expected;
        let length = u16::try_from(expected.len()).unwrap();
        expected[16..18].copy_from_slice(&length.to_be_bytes());
        let attributes = length - 23;
        expected[21..23].copy_from_slice(&attributes.to_be_bytes());
        expected
    };
    assert_eq!(update, expected);
    let withdraw =
        UpdateBuilder::withdraw(Family::IPV6_UNICAST, &EncodeContext::default()).unwrap();
    assert_eq!(
        one(withdraw, &["2001:db8::/32"]),
        message("0022 02 0000 000b 800f08 0002 01 20 20010db8")
    );
}

/// The number of prefixes in a full message and its length, and the number of messages for 10,000,
/// 100,000 and a million prefixes.
fn capacity(builder: &UpdateBuilder, prefix: &str) -> (usize, usize, [usize; 3]) {
    let prefix: IpNet = prefix.parse().unwrap();
    let mut builder = builder.clone();
    let mut count = 0;
    while builder.push(&prefix) {
        count += 1;
    }
    let size = builder.finish().len();
    (
        count,
        size,
        [10_000usize, 100_000, 1_000_000].map(|total| total.div_ceil(count)),
    )
}

#[test]
fn messages_are_filled_to_the_limit() {
    let context = EncodeContext::default();
    let v4 = announce(&external(), V4, &context);
    assert_eq!(capacity(&v4, "10.0.0.1/32"), (810, 4093, [13, 124, 1235]));
    assert_eq!(capacity(&v4, "10.0.1.0/24"), (1013, 4095, [10, 99, 988]));
    let v6 = announce(&external(), V6, &context);
    assert_eq!(
        capacity(&v6, "2001:db8::1/128"),
        (237, 4090, [43, 422, 4220])
    );
    let v6 = announce(&external(), V6_BOTH, &context);
    assert_eq!(
        capacity(&v6, "2001:db8::1/128"),
        (236, 4089, [43, 424, 4238])
    );
    let withdraw = UpdateBuilder::withdraw(Family::IPV4_UNICAST, &context).unwrap();
    assert_eq!(
        capacity(&withdraw, "10.0.0.1/32"),
        (814, 4093, [13, 123, 1229])
    );
    let withdraw = UpdateBuilder::withdraw(Family::IPV6_UNICAST, &context).unwrap();
    assert_eq!(
        capacity(&withdraw, "2001:db8::1/128"),
        (239, 4093, [42, 419, 4185])
    );
    let extended = EncodeContext {
        max_length: 65535,
        ..context
    };
    let v4 = announce(&external(), V4, &extended);
    assert_eq!(capacity(&v4, "10.0.0.1/32"), (13098, 65533, [1, 8, 77]));
}

#[test]
fn communities_take_four_octets_each() {
    let size = |attributes: &PathAttributes| {
        one(
            announce(attributes, V4, &EncodeContext::default()),
            &["10.0.0.1/32"],
        )
        .len()
    };
    let none = size(&external());
    let with = |count: u16| PathAttributes {
        communities: (0..count).map(|low| Community::new(64512, low)).collect(),
        ..external()
    };
    assert_eq!(size(&with(1)), none + 3 + 4);
    assert_eq!(size(&with(63)), none + 3 + 63 * 4);
    assert_eq!(
        size(&with(64)),
        none + 4 + 64 * 4,
        "the length needs its second octet"
    );
}

#[test]
fn each_family_has_its_end_of_rib_rfc4724_2() {
    assert_eq!(
        end_of_rib(Family::IPV4_UNICAST),
        message("0017 02 0000 0000")
    );
    let v6 = end_of_rib(Family::IPV6_UNICAST);
    assert_eq!(v6, message("001d 02 0000 0006 800f03 0002 01"));
    assert_eq!(
        read(&v6, true, false).end_of_rib(),
        Some(Family::IPV6_UNICAST)
    );
}

#[test]
fn a_builder_continues_with_the_same_attributes() {
    let mut builder = announce(&external(), V4, &EncodeContext::default());
    let mut announced = Vec::new();
    let wanted: Vec<IpNet> = (0..2000u32)
        .map(|host| IpNet::new(Ipv4Addr::from(host << 8).into(), 32).unwrap())
        .collect();
    let mut messages = 0;
    for prefix in &wanted {
        if !builder.push(prefix) {
            announced.extend(read(&builder.finish(), true, false).announced());
            messages += 1;
            assert!(builder.is_empty() && builder.push(prefix));
        }
    }
    let last = read(&builder.finish(), true, false);
    assert_eq!(last.attributes.as_path, external().as_path);
    announced.extend(last.announced());
    assert_eq!(announced, wanted);
    assert_eq!(messages, 2);
}

#[test]
fn a_builder_without_prefixes_returns_no_message() {
    let mut announce = announce(&external(), V4, &EncodeContext::default());
    assert!(announce.finish().is_empty());
    let withdraw = UpdateBuilder::withdraw(Family::IPV4_UNICAST, &EncodeContext::default());
    assert!(
        withdraw.unwrap().finish().is_empty(),
        "it would be an End-of-RIB"
    );
}

#[test]
fn ipv4_routes_with_an_ipv6_next_hop_are_in_mp_reach_rfc8950_3() {
    let family = Family::IPV4_UNICAST;
    for next_hop in [V6, V6_BOTH] {
        let context = EncodeContext::default();
        let builder = UpdateBuilder::announce(family, &external(), &next_hop, &context).unwrap();
        let update = one(builder, &["192.0.2.0/24", "10.0.0.1/32"]);
        let agreed = DecodeContext {
            ipv4_next_hop_v6: true,
            four_octet_asn: true,
            ..DecodeContext::default()
        };
        let Some(Ok(Message::Update(read))) = Message::decode(&update, &agreed) else {
            panic!("not an UPDATE")
        };
        assert_eq!(read.errors, []);
        let reach = read.mp_reach.unwrap();
        assert_eq!((reach.family, reach.next_hop), (family, next_hop));
        let names: Vec<_> = reach.nlri.iter().map(IpNet::to_string).collect();
        assert_eq!(names, ["192.0.2.0/24", "10.0.0.1/32"]);
        assert_eq!((read.nlri, read.attributes.next_hop), (vec![], None));
        // Without the capability the next hop length is invalid (RFC 8950 §4).
        let plain = DecodeContext {
            ipv4_next_hop_v6: false,
            ..agreed
        };
        let rejected = Message::decode(&update, &plain).unwrap().unwrap_err();
        assert_eq!(rejected.notification().subcode, 9);
    }
}

#[test]
fn extended_messages_are_filled_to_65535_octets_rfc8654_4() {
    let context = EncodeContext {
        max_length: 65_535,
        ..EncodeContext::default()
    };
    let mut builder = announce(&external(), V4, &context);
    let (count, length, _) = capacity(&builder, "10.0.0.1/32");
    assert_eq!((count, length), (13_098, 65_533));
    for _ in 0..count {
        assert!(builder.push(&"10.0.0.1/32".parse().unwrap()));
    }
    let agreed = DecodeContext {
        max_length: 65_535,
        four_octet_asn: true,
        ..DecodeContext::default()
    };
    let message = builder.finish();
    let Some(Ok(Message::Update(update))) = Message::decode(&message, &agreed) else {
        panic!("not an UPDATE")
    };
    assert_eq!(update.nlri.len(), count);
}

#[test]
fn unsupported_families_next_hops_and_too_long_attributes_are_errors() {
    let context = EncodeContext::default();
    let family = Family::IPV6_UNICAST;
    let error = UpdateBuilder::announce(family, &external(), &V4, &context).unwrap_err();
    assert_eq!(
        error,
        EncodeError::NextHop {
            family,
            next_hop: V4
        }
    );
    let other = Family {
        afi: crate::wire::Afi(1),
        safi: crate::wire::Safi(128),
    };
    let error = UpdateBuilder::withdraw(other, &context).unwrap_err();
    assert_eq!(error, EncodeError::Family(other));
    let many = (0..1020).map(Community).collect();
    let attributes = PathAttributes {
        communities: many,
        ..external()
    };
    let error =
        UpdateBuilder::announce(Family::IPV4_UNICAST, &attributes, &V4, &context).unwrap_err();
    assert_eq!(
        error,
        EncodeError::AttributesTooLong {
            length: 20 + 4 + 4080,
            max_length: 4096
        }
    );
}

/// With the longest attributes that leave room for a prefix.
#[test]
fn a_builder_has_room_for_at_least_one_prefix() {
    for count in 1000..1020 {
        let communities = (0..count).map(Community).collect();
        let attributes = PathAttributes {
            communities,
            ..external()
        };
        let context = EncodeContext::default();
        for (family, next_hop, prefix) in [
            (Family::IPV4_UNICAST, V4, "10.0.0.1/32"),
            (Family::IPV6_UNICAST, V6_BOTH, "2001:db8::1/128"),
        ] {
            if let Ok(builder) = UpdateBuilder::announce(family, &attributes, &next_hop, &context) {
                let message = one(builder, &[prefix]);
                assert!(message.len() <= 4096);
                assert_eq!(read(&message, true, false).announced().count(), 1);
            }
        }
    }
}

#[test]
fn a_two_octet_peer_gets_as_trans_and_as4_path_rfc6793_4_2_2() {
    let path = [Asn(4_200_000_000), Asn(64512), Asn(70_000)];
    let attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(path.into_iter().collect()),
        aggregator: Some(Aggregator {
            asn: Asn(70_000),
            router_id: [1, 2, 3, 4].into(),
        }),
        ..PathAttributes::default()
    };
    let update = one(announce(&attributes, V4, &OLD), &["10.0.0.0/8"]);
    let body = octets(
        "40010100 4002080203 5ba0fc005ba0 4003040a000001 c007065ba001020304 \
         c0110e0203 fa56ea00 0000fc00 00011170 c01208 0001117001020304 080a",
    );
    assert_eq!(update[23..], body);
    let read = read(&update, false, false);
    assert_eq!(read.errors, []);
    assert_eq!(read.attributes.as_path, attributes.as_path);
    assert_eq!(read.attributes.aggregator, attributes.aggregator);
}

/// Such paths broke routers in 2009.
#[test]
fn paths_of_more_than_255_hops_are_split_into_segments_rfc4271_5_1_2() {
    let attributes = PathAttributes {
        as_path: Some((1..=600).map(Asn).collect()),
        ..external()
    };
    let update = one(
        announce(&attributes, V4, &EncodeContext::default()),
        &["10.0.0.0/8"],
    );
    let value = &update[23 + 4 + 4..];
    assert_eq!(value[..2], [2, 255]);
    assert_eq!(value[2 + 255 * 4..][..2], [2, 255]);
    assert_eq!(value[2 * (2 + 255 * 4)..][..2], [2, 90]);
    assert_eq!(
        read(&update, true, false).attributes.as_path,
        attributes.as_path
    );
}

#[test]
fn attributes_are_in_the_order_of_their_type_codes_rfc4271_f_4() {
    let attributes = PathAttributes {
        origin: Some(Origin::Incomplete),
        as_path: Some([Asn(1)].into_iter().collect()),
        next_hop: Some(Ipv4Addr::new(9, 9, 9, 9)),
        med: Some(1),
        local_pref: Some(2),
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: Asn(1),
            router_id: [1, 1, 1, 1].into(),
        }),
        communities: vec![Community(7), Community(3), Community(7)],
        large_communities: vec![
            LargeCommunity {
                global: 1,
                local1: 2,
                local2: 3
            };
            2
        ],
        extended_communities: vec![ExtendedCommunity([8; 8]), ExtendedCommunity([2; 8])],
        ipv6_extended_communities: vec![Ipv6ExtendedCommunity([6; 20]); 2],
        unknown: [99, 40]
            .map(|code| UnknownAttribute {
                flags: AttributeFlags(0xc0),
                code: AttributeType(code),
                value: Bytes::from_static(&[0; 8]),
            })
            .to_vec(),
    };
    let update = one(
        announce(&attributes, V4, &EncodeContext::default()),
        &["10.0.0.0/8"],
    );
    let mut types = Vec::new();
    let mut rest = &update[23..update.len() - 2];
    while let [_, code, length, tail @ ..] = rest {
        types.push(*code);
        rest = &tail[usize::from(*length)..];
    }
    assert_eq!(types, [1, 2, 3, 4, 5, 6, 7, 8, 16, 25, 32, 40, 99]);
    let read = read(&update, true, true);
    assert_eq!(read.errors, []);
    assert_eq!(read.attributes.communities, [Community(3), Community(7)]);
    assert_eq!(read.attributes.large_communities.len(), 1);
    let extended = [ExtendedCommunity([2; 8]), ExtendedCommunity([8; 8])];
    assert_eq!(read.attributes.extended_communities, extended);
    assert_eq!(
        read.attributes.ipv6_extended_communities,
        [Ipv6ExtendedCommunity([6; 20])]
    );
    assert_eq!(read.attributes.next_hop, Some(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn extended_messages_have_room_for_attributes_of_more_than_4096_octets_rfc8654_4() {
    let attributes = PathAttributes {
        communities: (0..2000).map(Community).collect(),
        ..external()
    };
    let context = EncodeContext {
        max_length: 65_535,
        ..EncodeContext::default()
    };
    for (next_hop, prefix) in [(V4, "10.0.0.1/32"), (V6, "2001:db8::1/128")] {
        let prefix: IpNet = prefix.parse().unwrap();
        let mut builder = announce(&attributes, next_hop, &context);
        for pushed in [1, 2000] {
            for _ in 0..pushed {
                assert!(builder.push(&prefix));
            }
            let context = DecodeContext {
                four_octet_asn: true,
                families: vec![Family::of(&prefix)],
                max_length: 65_535,
                ..DecodeContext::default()
            };
            let message = Message::decode(&builder.finish(), &context);
            let Some(Ok(Message::Update(update))) = message else {
                panic!("{message:?}");
            };
            assert_eq!(update.errors, []);
            assert_eq!(update.attributes.communities, attributes.communities);
            assert!(update.announced().eq(vec![prefix; pushed]));
        }
    }
}

#[test]
fn the_message_length_is_limited_by_the_length_field() {
    let context = EncodeContext {
        max_length: 100_000,
        ..EncodeContext::default()
    };
    let v4 = announce(&external(), V4, &context);
    assert_eq!(capacity(&v4, "10.0.0.1/32").1, 65533);
}

#[test]
fn a_four_octet_peer_gets_no_as4_attributes_and_short_lengths_have_no_extended_flag() {
    let attributes = PathAttributes {
        aggregator: Some(Aggregator {
            asn: Asn(70_000),
            router_id: [1, 2, 3, 4].into(),
        }),
        unknown: vec![UnknownAttribute {
            flags: AttributeFlags(0xd0),
            code: AttributeType(99),
            value: Bytes::from_static(&[1]),
        }],
        ..PathAttributes::default()
    };
    let update = one(
        announce(&attributes, V4, &EncodeContext::default()),
        &["10.0.0.0/8"],
    );
    let body = octets("4003040a000001 c007080001117001020304 c0630101 080a");
    assert_eq!(update[23..], body);
}
