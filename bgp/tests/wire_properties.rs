//! Properties of the codec for random routes and random octets.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml spares only functions marked as tests"
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use ferrolb_bgp::wire::{
    AddPath, Aggregator, AsPath, Asn, AttributeFlags, AttributeType, Capability, CapabilityCode,
    Community, DecodeContext, DecodeError, EncodeContext, ErrorCode, ExtendedCommunity,
    ExtendedNextHop, Family, Framer, GracefulRestartCapability, Ipv6ExtendedCommunity,
    LargeCommunity, Message, NextHop, Notification, Open, Origin, PathAttributes, RouteRefresh,
    UnknownAttribute, UpdateBuilder, end_of_rib, keepalive,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;

const FAMILIES: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];

fn context(four_octet_asn: bool) -> DecodeContext {
    DecodeContext {
        four_octet_asn,
        ibgp: true,
        families: FAMILIES.to_vec(),
        ..DecodeContext::default()
    }
}

fn asn() -> impl Strategy<Value = Asn> {
    // AS_TRANS is a placeholder that refers to AS4_PATH, not an AS number.
    prop_oneof![1..=65535u32, 65536..=u32::MAX]
        .prop_filter("AS_TRANS", |&number| number != Asn::TRANS.0)
        .prop_map(Asn)
}

/// Any attribute except ATTR_SET, whose structure is checked.
fn unknown() -> impl Strategy<Value = UnknownAttribute> {
    let code = (40u8..=255).prop_filter("not ATTR_SET", |code| *code != 128);
    (any::<bool>(), code, vec(any::<u8>(), 0..300)).prop_map(|(partial, code, value)| {
        let partial = if partial { AttributeFlags::PARTIAL } else { 0 };
        UnknownAttribute {
            flags: AttributeFlags(AttributeFlags::OPTIONAL | AttributeFlags::TRANSITIVE | partial),
            code: AttributeType(code),
            value: Bytes::from(value),
        }
    })
}

prop_compose! {
    /// Attributes as the decoder returns them.
    fn attributes()(
        origin in prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        as_path in vec(asn(), 0..300),
        med in any::<Option<u32>>(),
        local_pref in any::<u32>(),
        atomic_aggregate in any::<bool>(),
        aggregator in proptest::option::of((asn(), any::<Ipv4Addr>())),
        mut communities in vec(any::<u32>().prop_map(Community), 0..80),
        mut large_communities in vec(
            any::<(u32, u32, u32)>()
                .prop_map(|(global, local1, local2)| LargeCommunity { global, local1, local2 }),
            0..30,
        ),
        mut extended_communities in vec(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..20),
        mut ipv6_extended_communities in
            vec(any::<[u8; 20]>().prop_map(Ipv6ExtendedCommunity), 0..10),
        mut unknown in vec(unknown(), 0..3),
    ) -> PathAttributes {
        communities.sort_unstable();
        communities.dedup();
        large_communities.sort_unstable();
        large_communities.dedup();
        extended_communities.sort_unstable();
        extended_communities.dedup();
        ipv6_extended_communities.sort_unstable();
        ipv6_extended_communities.dedup();
        unknown.sort_by_key(|attribute| attribute.code);
        unknown.dedup_by_key(|attribute| attribute.code);
        PathAttributes {
            origin: Some(origin),
            as_path: Some(AsPath(as_path)),
            next_hop: None,
            med,
            local_pref: Some(local_pref),
            atomic_aggregate,
            aggregator: aggregator.map(|(asn, router_id)| Aggregator { asn, router_id }),
            communities,
            large_communities,
            extended_communities,
            ipv6_extended_communities,
            unknown,
        }
    }
}

fn ipv4() -> impl Strategy<Value = IpNet> {
    (0..224u32 << 24, 0..=32u8).prop_map(|(address, length)| {
        IpNet::V4(
            Ipv4Net::new(Ipv4Addr::from(address), length)
                .unwrap()
                .trunc(),
        )
    })
}

fn ipv6() -> impl Strategy<Value = IpNet> {
    (0..0xfe_u128 << 120, 0..=128u8).prop_map(|(address, length)| {
        IpNet::V6(
            Ipv6Net::new(Ipv6Addr::from(address), length)
                .unwrap()
                .trunc(),
        )
    })
}

fn next_hop_v6() -> impl Strategy<Value = NextHop> {
    (1u64.., any::<Option<u64>>()).prop_map(|(global, link_local)| NextHop::V6 {
        global: Ipv6Addr::from((0x2001_0db8 << 96) | u128::from(global)),
        link_local: link_local.map(|low| Ipv6Addr::from((0xfe80 << 112) | u128::from(low))),
    })
}

fn prefixes(family: Family) -> BoxedStrategy<Vec<IpNet>> {
    if family == Family::IPV4_UNICAST {
        vec(ipv4(), 1..1500).boxed()
    } else {
        vec(ipv6(), 1..500).boxed()
    }
}

/// Packs all prefixes into messages.
fn pack(mut builder: UpdateBuilder, prefixes: &[IpNet]) -> Vec<Bytes> {
    let mut messages = Vec::new();
    for prefix in prefixes {
        if !builder.push(prefix) {
            messages.push(builder.finish());
            assert!(
                builder.push(prefix),
                "an empty message has room for one prefix"
            );
        }
    }
    messages.push(builder.finish());
    messages
}

fn check_announcement(
    family: Family,
    attributes: &PathAttributes,
    next_hop: NextHop,
    prefixes: &[IpNet],
    four_octet_asn: bool,
) -> Result<(), TestCaseError> {
    let encode = EncodeContext {
        four_octet_asn,
        max_length: 4096,
    };
    let Ok(builder) = UpdateBuilder::announce(family, attributes, &next_hop, &encode) else {
        return Err(TestCaseError::reject("attributes too long"));
    };
    let mut announced = Vec::new();
    for message in pack(builder, prefixes) {
        prop_assert!(message.len() <= 4096);
        let decoded = Message::decode(&message, &context(four_octet_asn));
        let Some(Ok(Message::Update(mut update))) = decoded else {
            return Err(TestCaseError::fail(format!("{decoded:?}")));
        };
        prop_assert_eq!(&update.errors, &[]);
        announced.extend(update.announced());
        let received = match (update.attributes.next_hop.take(), &update.mp_reach) {
            (Some(address), None) => NextHop::V4(address),
            (None, Some(reach)) => reach.next_hop,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(received, next_hop);
        prop_assert_eq!(&update.attributes, attributes);
    }
    prop_assert_eq!(announced, prefixes);
    Ok(())
}

/// A stream of valid messages.
fn stream() -> Vec<u8> {
    let attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath::default()),
        local_pref: Some(100),
        ..PathAttributes::default()
    };
    let next_hop = NextHop::V4(Ipv4Addr::new(10, 0, 0, 1));
    let family = Family::IPV4_UNICAST;
    let mut update =
        UpdateBuilder::announce(family, &attributes, &next_hop, &EncodeContext::default()).unwrap();
    update.push(&"192.0.2.0/24".parse().unwrap());
    [
        Open::new(Asn(65001), 90, Ipv4Addr::new(10, 0, 0, 1), &FAMILIES).encode(),
        keepalive(),
        update.finish(),
        end_of_rib(Family::IPV4_UNICAST),
        end_of_rib(Family::IPV6_UNICAST),
        RouteRefresh {
            family: Family::IPV6_UNICAST,
            subtype: 0,
        }
        .encode(),
        Notification::administrative_shutdown("good night").encode(),
    ]
    .concat()
}

fn read_all(framer: &mut Framer, messages: &mut Vec<Message>) {
    while let Some(message) = framer.next(&context(true)) {
        messages.push(message.unwrap());
    }
}

/// A message with a valid header and any body.
fn message_of(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap();
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

proptest! {
    #[test]
    fn ipv4_announcements_decode_to_what_was_encoded(
        attributes in attributes(),
        next_hop in 1u32..100 << 24,
        prefixes in prefixes(Family::IPV4_UNICAST),
        four_octet_asn in any::<bool>(),
    ) {
        let next_hop = NextHop::V4(Ipv4Addr::from(next_hop | 1 << 24));
        let family = Family::IPV4_UNICAST;
        check_announcement(family, &attributes, next_hop, &prefixes, four_octet_asn)?;
    }

    #[test]
    fn ipv6_announcements_decode_to_what_was_encoded(
        attributes in attributes(),
        next_hop in next_hop_v6(),
        prefixes in prefixes(Family::IPV6_UNICAST),
        four_octet_asn in any::<bool>(),
    ) {
        let family = Family::IPV6_UNICAST;
        check_announcement(family, &attributes, next_hop, &prefixes, four_octet_asn)?;
    }

    #[test]
    fn withdrawals_decode_to_what_was_encoded(
        (family, prefixes) in proptest::sample::select(&FAMILIES[..])
            .prop_flat_map(|family| (Just(family), prefixes(family))),
    ) {
        let builder = UpdateBuilder::withdraw(family, &EncodeContext::default()).unwrap();
        let mut withdrawn = Vec::new();
        for message in pack(builder, &prefixes) {
            prop_assert!(message.len() <= 4096);
            let decoded = Message::decode(&message, &context(true));
            let Some(Ok(Message::Update(update))) = decoded else {
                return Err(TestCaseError::fail(format!("{decoded:?}")));
            };
            prop_assert_eq!(&update.errors, &[]);
            prop_assert_eq!(update.end_of_rib(), None);
            withdrawn.extend(update.withdrawn_prefixes());
        }
        prop_assert_eq!(withdrawn, prefixes);
    }

    /// Decoded from any value, encoded, and decoded again.
    #[test]
    fn capabilities_of_any_value_decode_to_what_was_encoded(
        values in vec(
            (prop_oneof![1..=9u8, 64..=76u8, any::<u8>()], vec(any::<u8>(), 0..20)),
            0..6,
        ),
    ) {
        let mut open = Open::new(Asn(65001), 90, Ipv4Addr::new(10, 0, 0, 1), &FAMILIES);
        open.capabilities.extend(values.into_iter().map(|(code, value)| Capability::Unknown {
            code: CapabilityCode(code),
            value: Bytes::from(value),
        }));
        let context = DecodeContext::default();
        match Message::decode(&open.encode(), &context) {
            Some(Ok(Message::Open(read))) => {
                prop_assert_eq!(read.capabilities.len(), open.capabilities.len());
                let _ = read.capabilities.iter().map(ToString::to_string).collect::<Vec<_>>();
                let again = Message::decode(&read.encode(), &context);
                prop_assert_eq!(again, Some(Ok(Message::Open(read))));
            }
            other => prop_assert_eq!(other, Some(Err(DecodeError::MalformedOpen))),
        }
    }

    #[test]
    fn opens_decode_to_what_was_encoded(
        asn in asn(),
        hold_time in any::<u16>(),
        router_id in any::<Ipv4Addr>(),
        restart in (any::<(bool, bool)>(), 0..4096u16, any::<[bool; 2]>()),
        values in vec((71u8..=255, vec(any::<u8>(), 0..255)), 0..10),
    ) {
        let ((restarted, notification), restart_time, kept) = restart;
        let mut open = Open::new(asn, hold_time, router_id, &FAMILIES)
            .with(Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_OVER_IPV6]))
            .with(Capability::ExtendedMessage)
            .with(Capability::GracefulRestart(GracefulRestartCapability {
                restarted,
                notification,
                restart_time,
                families: FAMILIES.into_iter().zip(kept).collect(),
            }))
            .with(Capability::AddPath(vec![(FAMILIES[0], AddPath::Receive)]))
            .with(Capability::EnhancedRouteRefresh);
        open.capabilities.extend(values.into_iter().map(|(code, value)| Capability::Unknown {
            code: CapabilityCode(code),
            value: Bytes::from(value),
        }));
        let decoded = Message::decode(&open.encode(), &DecodeContext::default());
        prop_assert_eq!(decoded, Some(Ok(Message::Open(open))));
    }

    #[test]
    fn notifications_decode_to_what_was_encoded(
        code in any::<u8>(),
        subcode in any::<u8>(),
        data in vec(any::<u8>(), 0..4000),
    ) {
        let notification = Notification::new(ErrorCode(code), subcode).with_data(data);
        let decoded = Message::decode(&notification.encode(), &DecodeContext::default());
        // For display only, but they must not panic.
        let _ = (notification.to_string(), notification.shutdown_text());
        prop_assert_eq!(decoded, Some(Ok(Message::Notification(notification))));
    }

    #[test]
    fn any_body_decodes_to_a_message_or_a_notification(
        kind in 0u8..8,
        body in vec(any::<u8>(), 0..400),
        four_octet_asn in any::<bool>(),
    ) {
        let message = message_of(kind, &body);
        let decoded = Message::decode(&message, &context(four_octet_asn)).expect("the length fits");
        if let Err(error) = decoded {
            let notification = error.notification();
            prop_assert!((1..=3).contains(&notification.code.0));
            prop_assert!(notification.data.len() <= message.len());
            let again = Message::decode(&notification.encode(), &context(four_octet_asn));
            prop_assert_eq!(again, Some(Ok(Message::Notification(notification))));
        }
    }

    /// Octets that look like attributes reach more code than random ones.
    #[test]
    fn any_attributes_decode_to_an_update_or_a_notification(
        attributes in vec((any::<u8>(), 0u8..45, vec(0u8..40, 0..40), -1i8..=1), 0..8),
        nlri in vec(0u8..40, 0..12),
        four_octet_asn in any::<bool>(),
        ibgp in any::<bool>(),
    ) {
        let mut field = Vec::new();
        for (flags, code, value, lie) in attributes {
            let length = u8::try_from(value.len()).unwrap().saturating_add_signed(lie);
            field.extend([flags & 0xef, code, length]);
            field.extend(value);
        }
        let length = u16::try_from(field.len()).unwrap().to_be_bytes();
        let body = [&[0, 0][..], &length, &field, &nlri].concat();
        let context = DecodeContext { ibgp, ..context(four_octet_asn) };
        let decoded = Message::decode(&message_of(2, &body), &context);
        match decoded.expect("the length fits") {
            Ok(Message::Update(update)) => {
                prop_assert_eq!(update.malformed.is_some(), !update.errors.is_empty());
                prop_assert!(update.errors.len() <= body.len());
            }
            Ok(other) => prop_assert!(false, "{other:?}"),
            Err(error) => prop_assert_eq!(error.notification().code, ErrorCode::UPDATE),
        }
    }

    #[test]
    fn any_stream_decodes_to_messages_and_at_most_one_error(
        pushes in vec(vec(prop_oneof![3 => Just(0xffu8), 1 => any::<u8>()], 0..60), 0..20),
    ) {
        let mut framer = Framer::default();
        let mut errors = 0;
        for octets in pushes {
            framer.push(&octets);
            while let Some(message) = framer.next(&context(true)) {
                errors += usize::from(message.is_err());
            }
        }
        prop_assert!(errors <= 1);
    }

    #[test]
    fn a_stream_in_any_pieces_decodes_to_the_same_messages(cuts in vec(1usize..40, 1..100)) {
        let stream = stream();
        let mut expected = Vec::new();
        let mut framer = Framer::default();
        framer.push(&stream);
        read_all(&mut framer, &mut expected);
        prop_assert_eq!(expected.len(), 7);

        let mut messages = Vec::new();
        let mut framer = Framer::default();
        let mut rest = &stream[..];
        for size in cuts.iter().cycle() {
            let (octets, tail) = rest.split_at(rest.len().min(*size));
            framer.push(octets);
            read_all(&mut framer, &mut messages);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(messages, expected);
    }

    #[test]
    fn flipped_bits_in_a_stream_do_not_panic(flips in vec((any::<usize>(), 0u8..8), 1..4)) {
        let mut stream = stream();
        for (position, bit) in flips {
            let position = position % stream.len();
            stream[position] ^= 1 << bit;
        }
        let mut framer = Framer::default();
        framer.push(&stream);
        let mut messages = 0;
        while framer.next(&context(true)).is_some() {
            messages += 1;
        }
        prop_assert!(messages <= stream.len() / 19);
    }
}
