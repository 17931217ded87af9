//! Targets of the wire format: properties of the decoder for any octets.

use std::net::Ipv4Addr;

use ferrolb_bgp::wire::{
    Agreement, Asn, DecodeContext, DecodeError, EncodeContext, Family, Framer, HEADER_LENGTH,
    MAX_LENGTH, Message, NextHop, Notification, Open, PathAttributes, Treatment, Update,
    UpdateBuilder,
};
use ipnet::IpNet;

use super::octets::Octets;

/// One of the contexts in which a session decodes messages.
pub fn context(choice: u8) -> DecodeContext {
    let bit = |bit: u8| choice & (1 << bit) != 0;
    let mut families = vec![Family::IPV4_UNICAST];
    if !bit(2) {
        families.push(Family::IPV6_UNICAST);
    }
    DecodeContext {
        four_octet_asn: !bit(0),
        ibgp: bit(1),
        families,
        loopback: bit(4),
        ..DecodeContext::default()
    }
}

/// A body after a valid header, truncated to the maximum length.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(MAX_LENGTH - HEADER_LENGTH)];
    let length = u16::try_from(HEADER_LENGTH + body.len()).unwrap();
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// The NOTIFICATION of an error is a valid message, and has no more data than was received
/// (CVE-2017-15865).
fn check_error(error: &DecodeError, received: &[u8], context: &DecodeContext) {
    let notification = error.notification();
    assert!((1..=3).contains(&notification.code.0), "{error}");
    assert!(
        notification.data.len() <= received.len().max(64),
        "more data than was received: {error}"
    );
    let encoded = notification.encode();
    assert!(encoded.len() <= MAX_LENGTH);
    let again = Message::decode(&encoded, context);
    assert_eq!(again, Some(Ok(Message::Notification(notification))));
    assert!(!error.to_string().is_empty());
}

/// A stream in segments of any size gives the same messages. Each is as long as its header says.
/// None follows an error.
pub fn framing(data: &[u8]) {
    let mut octets = Octets(data);
    let context = context(octets.octet());
    let segment = usize::from(octets.octet()) + 1;
    let stream = octets.0;

    let mut framer = Framer::default();
    framer.push(stream);
    let mut at = 0;
    let mut whole = Vec::new();
    while let Some(next) = framer.next(&context) {
        let rest = &stream[at..];
        match &next {
            Ok(message) => {
                let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
                let alone = Message::decode(&rest[..length], &context);
                assert_eq!(
                    alone,
                    Some(Ok(message.clone())),
                    "a message was decoded with octets of the next one"
                );
                at += length;
            }
            Err(error) => check_error(error, rest, &context),
        }
        let failed = next.is_err();
        whole.push(next);
        if failed {
            framer.push(stream);
            assert_eq!(framer.next(&context), None, "a message after an error");
        }
    }

    let mut framer = Framer::default();
    let mut segmented = Vec::new();
    for octets in stream.chunks(segment) {
        framer.push(octets);
        while let Some(next) = framer.next(&context) {
            segmented.push(next);
        }
    }
    assert_eq!(whole, segmented, "the result depends on the segments");
}

/// The body of an OPEN: a decoded OPEN equals the one decoded from its encoding, and negotiation
/// gives an agreement or a valid error.
pub fn open(data: &[u8]) {
    let mut octets = Octets(data);
    let choice = octets.octet();
    let received = message(1, octets.0);
    let context = DecodeContext::default();
    let open = match Message::decode(&received, &context) {
        Some(Ok(Message::Open(open))) => open,
        Some(Err(error)) => return check_error(&error, &received, &context),
        other => panic!("an OPEN was decoded as {other:?}"),
    };
    assert!(open.capabilities.len() <= received.len() / 2);
    let encoded = open.encode();
    assert!(encoded.len() <= MAX_LENGTH);
    let again = Message::decode(&encoded, &context);
    assert_eq!(again, Some(Ok(Message::Open(open.clone()))));

    let families: &[Family] = if choice & 1 == 0 {
        &[Family::IPV4_UNICAST]
    } else {
        &[Family::IPV6_UNICAST, Family::IPV4_UNICAST]
    };
    let ours = Open::new(Asn(65002), 9, Ipv4Addr::new(10, 255, 0, 2), families);
    let expected = (choice & 2 != 0).then_some(Asn(65001));
    match Agreement::negotiate(&ours, &open, expected) {
        Err(error) => check_error(&error, &received, &context),
        Ok(agreement) => {
            assert!(!agreement.families.is_empty());
            assert!(
                agreement
                    .families
                    .iter()
                    .all(|family| families.contains(family))
            );
            assert!(expected.is_none_or(|asn| asn == agreement.remote_asn));
            assert!(agreement.hold_time.as_secs() <= 9);
            assert!(!matches!(agreement.hold_time.as_secs(), 1 | 2));
            assert!(!agreement.remote_router_id.is_unspecified());
        }
    }
}

/// The body of an UPDATE: its memory is a small multiple of its length, its prefixes are valid, and
/// its attributes equal those decoded from their encoding.
pub fn update(data: &[u8]) {
    let mut octets = Octets(data);
    let context = context(octets.octet());
    let received = message(2, octets.0);
    let update = match Message::decode(&received, &context) {
        Some(Ok(Message::Update(update))) => update,
        Some(Err(error)) => return check_error(&error, &received, &context),
        other => panic!("an UPDATE was decoded as {other:?}"),
    };
    // A prefix of length 0 is one octet on the wire.
    let memory = memory(&update);
    assert!(
        memory <= 64 * received.len(),
        "{memory} octets of memory for {}",
        received.len()
    );
    assert_eq!(update.malformed.is_some(), !update.errors.is_empty());
    check_errors(&update);
    if update.treatment() == Some(Treatment::TreatAsWithdraw) {
        assert_eq!(
            update.announced().count(),
            0,
            "a malformed route was announced"
        );
    }
    let prefixes = update.announced().chain(update.withdrawn_prefixes());
    for prefix in prefixes {
        assert_eq!(prefix, prefix.trunc(), "host bits are set");
    }
    if update.end_of_rib().is_some() {
        assert!(update.errors.is_empty() && update.announced().count() == 0);
        assert_eq!(update.withdrawn_prefixes().count(), 0);
    }
    if update.errors.is_empty() {
        check_round_trip(&update, &context);
    }
}

/// The recorded errors and their texts are bounded, and the number of omitted errors is known.
fn check_errors(update: &Update) {
    let kept = update.errors.len();
    assert!(kept <= Update::ERRORS_MAX, "{kept} errors kept");
    assert!(update.errors.capacity() <= 2 * Update::ERRORS_MAX);
    assert!(update.errors_omitted == 0 || kept == Update::ERRORS_MAX);
    // Two per attribute type, and those of the whole message.
    assert!(update.errors_omitted <= 2 * 256 + 8);
    let words = update.error_texts();
    assert!(words.iter().all(|text| (1..=200).contains(&text.len())));
    assert_eq!(words.len(), kept + usize::from(update.errors_omitted > 0));
}

/// Decoded attributes and prefixes can be encoded, and decode to the same.
fn check_round_trip(update: &Update, context: &DecodeContext) {
    let context = DecodeContext {
        four_octet_asn: true,
        ..context.clone()
    };
    let encode = EncodeContext::default();
    for (family, next_hop) in [
        (
            Family::IPV4_UNICAST,
            update.attributes.next_hop.map(NextHop::V4),
        ),
        (
            Family::IPV6_UNICAST,
            update.mp_reach.as_ref().map(|reach| reach.next_hop),
        ),
    ] {
        let prefixes: Vec<IpNet> = update
            .announced()
            .filter(|prefix| matches!(prefix, IpNet::V4(_)) == (family == Family::IPV4_UNICAST))
            .collect();
        let Some(next_hop) = next_hop.filter(|_| !prefixes.is_empty()) else {
            continue;
        };
        // The longest attributes leave no room for prefixes.
        let Ok(builder) = UpdateBuilder::announce(family, &update.attributes, &next_hop, &encode)
        else {
            continue;
        };
        let mut announced = Vec::new();
        for message in pack(builder, &prefixes) {
            assert!(message.len() <= MAX_LENGTH);
            let decoded = Message::decode(&message, &context);
            let Some(Ok(Message::Update(again))) = decoded else {
                panic!("{message:02x?} was decoded as {decoded:?}");
            };
            assert_eq!(again.errors, []);
            announced.extend(again.announced());
            assert_eq!(
                comparable(&again.attributes),
                comparable(&update.attributes)
            );
        }
        assert_eq!(announced, prefixes);
    }
}

/// The messages for all prefixes.
fn pack(mut builder: UpdateBuilder, prefixes: &[IpNet]) -> Vec<bytes::Bytes> {
    let mut messages = Vec::new();
    for prefix in prefixes {
        if !builder.push(prefix) {
            messages.push(builder.finish());
            assert!(
                builder.push(prefix),
                "a prefix does not fit in an empty message"
            );
        }
    }
    messages.push(builder.finish());
    messages
}

/// The attributes with lists in the order of the encoder, without the next hop.
fn comparable(attributes: &PathAttributes) -> PathAttributes {
    let mut attributes = attributes.clone();
    attributes.next_hop = None;
    attributes.communities.sort_unstable();
    attributes.communities.dedup();
    attributes.large_communities.sort_unstable();
    attributes.large_communities.dedup();
    attributes.unknown.sort_by_key(|attribute| attribute.code);
    attributes
}

/// The octets of memory that the lists of an UPDATE occupy.
fn memory(update: &Update) -> usize {
    fn list<T>(list: &Vec<T>) -> usize {
        list.capacity() * size_of::<T>()
    }
    let attributes = &update.attributes;
    list(&update.withdrawn)
        + list(&update.nlri)
        + update
            .mp_reach
            .as_ref()
            .map_or(0, |reach| list(&reach.nlri))
        + update
            .mp_unreach
            .as_ref()
            .map_or(0, |unreach| list(&unreach.nlri))
        + attributes.as_path.as_ref().map_or(0, |path| list(&path.0))
        + list(&attributes.communities)
        + list(&attributes.large_communities)
        + list(&attributes.extended_communities)
        + list(&attributes.ipv6_extended_communities)
        + list(&attributes.unknown)
        + list(&update.errors)
        + update.malformed.as_ref().map_or(0, |octets| octets.len())
}

/// The body of a NOTIFICATION: its encoding equals the input, and its texts are bounded and
/// printable.
pub fn notification(data: &[u8]) {
    let received = message(3, data);
    let context = DecodeContext::default();
    let notification = match Message::decode(&received, &context) {
        Some(Ok(Message::Notification(notification))) => notification,
        Some(Err(error)) => return check_error(&error, &received, &context),
        other => panic!("a NOTIFICATION was decoded as {other:?}"),
    };
    assert_eq!(notification.encode(), received);
    assert!(notification.capabilities().len() <= Notification::CAPABILITIES_MAX);
    let words = notification.data_in_words().unwrap_or_default();
    assert!(words.len() <= 64 * 1024, "{} octets of words", words.len());
    let shown = notification.to_string();
    assert!(
        !shown.is_empty() && !shown.contains(char::is_control),
        "{shown:?}"
    );
    if let Some(text) = notification.shutdown_text() {
        assert!(!text.contains(char::is_control), "{text:?}");
        // Each invalid octet becomes U+FFFD, which has three octets.
        assert!(text.len() <= 3 * notification.data.len());
        // A complete text is encoded completely.
        let ours = Notification::administrative_shutdown(&text);
        assert!(text.len() > 255 || ours.shutdown_text().as_deref() == Some(&text));
    }
}
