use super::*;
use crate::wire::{Afi, ErrorCode, Family, MAX_EXTENDED_LENGTH, Safi, keepalive};

fn header(length: u16, kind: u8) -> Vec<u8> {
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat()
}

/// Code, subcode and data of the NOTIFICATION for a header; `None` if the header is valid.
fn reaction(header: &[u8]) -> Option<(u8, u8, Vec<u8>)> {
    let mut framer = Framer::default();
    framer.push(header);
    let error = framer
        .next(&DecodeContext::default())?
        .expect_err("no message is this short");
    let notification = error.notification();
    Some((
        notification.code.0,
        notification.subcode,
        notification.data.to_vec(),
    ))
}

#[test]
fn m1_a_marker_that_is_not_all_ones_is_1_1_rfc4271_6_1() {
    for position in 0..16 {
        let mut octets = header(19, 4);
        octets[position] = 0xfe;
        assert_eq!(reaction(&octets), Some((1, 1, vec![])));
    }
}

/// Without waiting for the body.
#[test]
fn m2_an_invalid_length_is_1_2_rfc4271_6_1() {
    for (length, kind) in [
        (0, 4),
        (18, 4),
        (4097, 2),
        (0xffff, 2),
        (0xffff, 1),
        (28, 1),
        (22, 2),
        (20, 3),
        (20, 4),
        (4096, 4),
        (22, 5),
        (24, 5),
    ] {
        let expected = (1, 2, u16::to_be_bytes(length).to_vec());
        assert_eq!(
            reaction(&header(length, kind)),
            Some(expected),
            "{length} {kind}"
        );
    }
    for (length, kind) in [(29, 1), (4096, 1), (23, 2), (4096, 2), (21, 3), (23, 5)] {
        assert_eq!(reaction(&header(length, kind)), None, "{length} {kind}");
    }
}

#[test]
fn m3_an_unknown_type_is_1_3_rfc4271_6_1() {
    for kind in [0, 6, 7, 255] {
        assert_eq!(reaction(&header(19, kind)), Some((1, 3, vec![kind])));
        assert_eq!(reaction(&header(4096, kind)), Some((1, 3, vec![kind])));
    }
}

#[test]
fn m2_extended_messages_are_longer_except_open_and_keepalive_rfc8654_4() {
    let context = DecodeContext {
        max_length: MAX_EXTENDED_LENGTH,
        ..DecodeContext::default()
    };
    let reaction = |length: u16, kind| {
        let mut framer = Framer::default();
        framer.push(&header(length, kind));
        framer.next(&context).map(Result::unwrap_err)
    };
    for (length, kind) in [(4097, 2), (65_535, 2), (65_535, 3)] {
        assert_eq!(reaction(length, kind), None, "{length} {kind}");
    }
    for (length, kind) in [
        (18, 2),
        (22, 2),
        (4097, 1),
        (65_535, 1),
        (4097, 4),
        (4097, 5),
    ] {
        let kind = MessageType(kind);
        let error = DecodeError::BadLength { kind, length };
        assert_eq!(reaction(length, kind.0), Some(error));
    }
    assert_eq!(reaction(65_535, 6), Some(DecodeError::BadType(6)));
    let withdrawals = [header(65_535, 2), vec![0xff, 0xe8], vec![0; 65_512 + 2]].concat();
    let Some(Ok(Message::Update(update))) = Message::decode(&withdrawals, &context) else {
        panic!("not an UPDATE")
    };
    assert_eq!(update.withdrawn.len(), 65_512);
}

/// The data of 7/1 is the whole message. An unknown subtype is ignored.
#[test]
fn m4_an_invalid_length_of_borr_and_eorr_is_7_1_and_of_a_request_1_2_rfc7313_5() {
    let context = DecodeContext {
        enhanced_route_refresh: true,
        ..DecodeContext::default()
    };
    let message = |body: &[u8]| {
        let length = u16::try_from(19 + body.len()).unwrap();
        [header(length, 5), body.to_vec()].concat()
    };
    for subtype in [RouteRefresh::BEGIN, RouteRefresh::END] {
        for rest in [&[][..], &[1, 0], &[1; 300]] {
            let octets = message(&[&[0, 1, subtype], rest].concat());
            let mut framer = Framer::default();
            framer.push(&octets[..octets.len() - 1]);
            assert_eq!(framer.next(&context), None);
            framer.push(&octets[octets.len() - 1..]);
            let error = framer.next(&context).unwrap().unwrap_err();
            let notification = error.notification();
            assert_eq!((notification.code.0, notification.subcode), (7, 1));
            assert_eq!(notification.data, octets);
        }
    }
    for body in [&[0, 1, 0][..], &[0, 1, 0, 1, 0], &[0, 1], &[], &[0, 1, 9]] {
        let octets = message(body);
        let error = Message::decode(&octets, &context).unwrap().unwrap_err();
        let notification = error.notification();
        assert_eq!((notification.code.0, notification.subcode), (1, 2));
        assert_eq!(notification.data, octets[16..18]);
    }
    let family = Family::IPV4_UNICAST;
    for body in [&[0, 1, 9, 1][..], &[0, 1, 9, 1, 7, 7]] {
        let refresh = RouteRefresh { family, subtype: 9 };
        let decoded = Message::decode(&message(body), &context);
        assert_eq!(decoded, Some(Ok(Message::RouteRefresh(refresh))));
    }
    for subtype in [
        RouteRefresh::REQUEST,
        RouteRefresh::BEGIN,
        RouteRefresh::END,
    ] {
        let refresh = RouteRefresh { family, subtype };
        let decoded = Message::decode(&refresh.encode(), &context);
        assert_eq!(decoded, Some(Ok(Message::RouteRefresh(refresh))));
    }
}

#[test]
fn m4_route_refresh_of_any_family_and_subtype_is_decoded() {
    let octets = [header(23, 5), vec![0, 99, 9, 1]].concat();
    let family = Family {
        afi: Afi(99),
        safi: Safi(1),
    };
    let refresh = RouteRefresh { family, subtype: 9 };
    let decoded = Message::decode(&octets, &DecodeContext::default());
    assert_eq!(decoded, Some(Ok(Message::RouteRefresh(refresh))));
    assert_eq!(refresh.encode(), octets);
}

#[test]
fn an_incomplete_message_is_not_decoded() {
    let octets = [
        keepalive(),
        RouteRefresh {
            family: Family::IPV6_UNICAST,
            subtype: 0,
        }
        .encode(),
    ]
    .concat();
    let mut framer = Framer::default();
    let mut seen = Vec::new();
    for (position, octet) in octets.iter().enumerate() {
        framer.push(&[*octet]);
        if let Some(message) = framer.next(&DecodeContext::default()) {
            seen.push((position, message.unwrap().kind()));
        }
    }
    assert_eq!(
        seen,
        [
            (18, MessageType::KEEPALIVE),
            (41, MessageType::ROUTE_REFRESH)
        ]
    );
}

#[test]
fn several_messages_in_one_read_are_decoded_in_order() {
    let mut framer = Framer::default();
    framer.push(&keepalive().repeat(3));
    for _ in 0..3 {
        assert_eq!(
            framer.next(&DecodeContext::default()),
            Some(Ok(Message::Keepalive))
        );
    }
    assert_eq!(framer.next(&DecodeContext::default()), None);
}

#[test]
fn no_message_is_decoded_after_an_error() {
    let mut framer = Framer::default();
    framer.push(&header(19, 77));
    framer.push(&keepalive());
    let first = framer.next(&DecodeContext::default());
    assert_eq!(first, Some(Err(DecodeError::BadType(77))));
    framer.push(&keepalive());
    assert_eq!(framer.next(&DecodeContext::default()), None);
}

#[test]
fn a_keepalive_has_nineteen_octets_rfc4271_4_4() {
    assert_eq!(keepalive(), header(19, 4));
}

#[test]
fn decode_accepts_exactly_one_message() {
    let context = DecodeContext::default();
    let octets = keepalive();
    assert_eq!(
        Message::decode(&octets, &context),
        Some(Ok(Message::Keepalive))
    );
    assert_eq!(Message::decode(&octets[..18], &context), None);
    assert_eq!(Message::decode(&octets.repeat(2), &context), None);
}

#[test]
fn header_errors_have_a_text() {
    let error = DecodeError::BadLength {
        kind: MessageType::UPDATE,
        length: 7,
    };
    assert_eq!(error.notification().code, ErrorCode::MESSAGE_HEADER);
    assert_eq!(error.to_string(), "invalid UPDATE length: 7 octets");
}
