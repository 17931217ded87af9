use super::*;
use crate::wire::{DecodeContext, Message};

fn shutdown(data: &[u8]) -> Option<String> {
    Notification::cease(subcode::cease::ADMINISTRATIVE_SHUTDOWN)
        .with_data(data.to_vec())
        .shutdown_text()
}

#[test]
fn notifications_print_names_and_numbers() {
    let text = |code, subcode| Notification::new(ErrorCode(code), subcode).to_string();
    assert_eq!(text(6, 2), "Cease/Administrative Shutdown (6/2)");
    assert_eq!(text(4, 0), "Hold Timer Expired (4/0)");
    assert_eq!(text(2, 0), "OPEN Message Error (2/0)");
    assert_eq!(
        text(5, 3),
        "Finite State Machine Error/Unexpected Message in Established (5/3)"
    );
    assert_eq!(text(8, 0), "Send Hold Timer Expired (8/0)");
    assert_eq!(
        text(7, 1),
        "ROUTE-REFRESH Message Error/Invalid Message Length (7/1)"
    );
    assert_eq!(text(6, 99), "Cease (6/99)");
    assert_eq!(text(200, 1), "error code 200 (200/1)");
}

#[test]
fn a_notification_encodes_to_these_octets_rfc4271_4_5() {
    let notification = Notification::unexpected_message(
        subcode::fsm::UNEXPECTED_MESSAGE_IN_ESTABLISHED,
        MessageType::OPEN,
    );
    let expected = [&[0xff; 16][..], &[0, 22, 3, 5, 3, 1]].concat();
    assert_eq!(notification.encode(), expected);
    let decoded = Message::decode(&expected, &DecodeContext::default());
    assert_eq!(decoded, Some(Ok(Message::Notification(notification))));
}

#[test]
fn excess_data_is_truncated_to_4096_octets() {
    let notification = Notification::new(ErrorCode::UPDATE, 1).with_data(vec![7; 70_000]);
    let message = notification.encode();
    assert_eq!(message.len(), MAX_LENGTH);
    let decoded = Message::decode(&message, &DecodeContext::default());
    let Some(Ok(Message::Notification(decoded))) = decoded else {
        panic!("{decoded:?}")
    };
    assert_eq!(decoded.data.len(), MAX_LENGTH - 21);
}

#[test]
fn a_shutdown_message_is_encoded_and_decoded_rfc9003_2() {
    let notification = Notification::administrative_shutdown("Wartung bis 10 Uhr, grüße");
    assert_eq!(notification.data[0], 27);
    assert_eq!(
        notification.shutdown_text().as_deref(),
        Some("Wartung bis 10 Uhr, grüße")
    );
    let reset = Notification::cease(subcode::cease::ADMINISTRATIVE_RESET)
        .with_data([&[13], &b"new router id"[..]].concat());
    assert_eq!(reset.shutdown_text().as_deref(), Some("new router id"));
    assert!(Notification::administrative_shutdown("").data.is_empty());
}

#[test]
fn a_long_shutdown_message_is_truncated_between_characters_rfc9003_2() {
    let notification = Notification::administrative_shutdown(&"ü".repeat(200));
    assert_eq!(notification.data[0], 254);
    assert_eq!(notification.shutdown_text(), Some("ü".repeat(127)));
}

/// CVE-2019-16159: a length beyond the data.
#[test]
fn a_malformed_shutdown_message_is_shown_as_far_as_possible_rfc9003_2() {
    assert_eq!(shutdown(&[]), None);
    assert_eq!(shutdown(&[0]), None);
    assert_eq!(shutdown(&[0x80]), None);
    assert_eq!(shutdown(&[0x80, b'h', b'i']).as_deref(), Some("hi"));
    assert_eq!(shutdown(&[2, b'h', b'i', b'!']).as_deref(), Some("hi"));
    assert_eq!(
        shutdown(&[3, b'h', 0xff, b'i']).as_deref(),
        Some("h\u{fffd}i")
    );
    assert_eq!(
        shutdown(&[3, b'h', b'\n', 0x1b]).as_deref(),
        Some("h\u{fffd}\u{fffd}")
    );
}

#[test]
fn only_administrative_shutdown_and_reset_have_a_shutdown_message_rfc9003_2() {
    let other = Notification::cease(subcode::cease::PEER_DE_CONFIGURED).with_data(vec![2, 65, 66]);
    assert_eq!(other.shutdown_text(), None);
}

#[test]
fn a_hard_reset_encloses_a_notification_rfc8538_3_1() {
    let inner = Notification::administrative_shutdown("moved");
    let outer = Notification::hard_reset(&inner);
    assert_eq!((outer.code, outer.subcode), (ErrorCode::CEASE, 9));
    assert_eq!(outer.data, [&[6, 2, 5][..], b"moved"].concat());
    assert_eq!(outer.enclosed(), Some(inner.clone()));
    assert_eq!(outer.shutdown_text().as_deref(), Some("moved"));
    assert_eq!(
        outer.to_string(),
        "Cease/Hard Reset (6/9), Cease/Administrative Shutdown (6/2)"
    );
    assert_eq!(inner.enclosed(), None);
    // A Hard Reset inside a Hard Reset is not opened.
    let twice = Notification::hard_reset(&outer);
    assert_eq!(twice.enclosed(), Some(outer));
    assert_eq!(twice.shutdown_text(), None);
    assert_eq!(
        twice.to_string(),
        "Cease/Hard Reset (6/9), Cease/Hard Reset (6/9)"
    );
}

/// As in the public capture bgp-malformed-hard-reset.
#[test]
fn a_malformed_hard_reset_encloses_nothing_rfc8538_3_1() {
    for data in [&[][..], &[6]] {
        let reset = Notification::cease(subcode::cease::HARD_RESET).with_data(data.to_vec());
        assert_eq!(reset.enclosed(), None);
        assert_eq!(reset.shutdown_text(), None);
        assert_eq!(reset.data_in_words(), None);
        assert_eq!(reset.to_string(), "Cease/Hard Reset (6/9)");
    }
    let reset = Notification::cease(9).with_data(vec![6, 2, 200, b'a']);
    assert_eq!(reset.shutdown_text().as_deref(), Some("a"));
    let reset = Notification::cease(9).with_data(vec![99, 98]);
    assert_eq!(
        reset.to_string(),
        "Cease/Hard Reset (6/9), error code 99 (99/98)"
    );
}

#[test]
fn well_formed_data_is_shown_as_text() {
    let words = |code, subcode, data: &[u8]| {
        Notification::new(ErrorCode(code), subcode)
            .with_data(data.to_vec())
            .data_in_words()
    };
    for (code, subcode, data, expected) in [
        (1, 2, &[0x10, 1][..], "length 4097"),
        (1, 3, &[6], "message type 6"),
        (2, 1, &[0, 4], "supported version 4"),
        (
            2,
            7,
            &[1, 4, 0, 2, 0, 1, 70, 0],
            "ipv6-unicast, enhanced route refresh",
        ),
        (3, 3, &[3], "attribute NEXT_HOP"),
        (3, 5, &[0x40, 1, 0], "attribute ORIGIN"),
        (3, 9, &[0x80, 14, 1, 0], "attribute MP_REACH_NLRI"),
        (3, 4, &[0xc0, 99], "attribute 99"),
        (5, 3, &[1], "OPEN"),
        (
            6,
            1,
            &[0, 1, 1, 0, 0, 0, 100],
            "limit of 100 ipv4-unicast prefixes",
        ),
        (6, 9, &[1, 3, 6], "message type 6"),
    ] {
        assert_eq!(words(code, subcode, data).as_deref(), Some(expected));
    }
    // Other speakers send malformed data, or data of their own.
    for (code, subcode, data) in [
        (1, 2, &[][..]),
        (2, 1, &[4]),
        (2, 2, &[0xfd, 0xe9]),
        (2, 7, &[]),
        (2, 7, &[1, 4, 0]),
        (3, 3, &[]),
        (3, 5, &[0x40]),
        (3, 11, &[0x40, 2, 0]),
        (5, 0, &[1]),
        (6, 1, &[0, 1, 1]),
        (6, 2, &[1, b'a']),
    ] {
        assert_eq!(words(code, subcode, data), None, "{code}/{subcode}");
    }
}

#[test]
fn cease_has_the_prefix_limit_as_data_rfc4486_4() {
    let limit = Notification::maximum_prefixes(Family::IPV6_UNICAST, 70_000);
    assert_eq!(limit.data[..], [0, 2, 1, 0, 1, 0x11, 0x70]);
    assert_eq!(
        limit.data_in_words().as_deref(),
        Some("limit of 70000 ipv6-unicast prefixes")
    );
    let down = Notification::cease(subcode::cease::BFD_DOWN);
    assert_eq!(down.to_string(), "Cease/BFD Down (6/10)");
}

/// With as many capabilities as fit into an extended message.
#[test]
fn the_list_of_unsupported_capabilities_is_limited_rfc5492_5() {
    let subcode = subcode::open::UNSUPPORTED_CAPABILITY;
    let list = |octets: Vec<u8>| Notification::new(ErrorCode::OPEN, subcode).with_data(octets);
    let many = list([200, 0].repeat(32_000));
    assert_eq!(many.capabilities().len(), Notification::CAPABILITIES_MAX);
    let words = many.data_in_words().unwrap();
    assert!(words.len() < 1000, "{}", words.len());
    assert!(words.ends_with(", and 31984 more"), "{words}");
    let cut_off = list([[200, 0].repeat(32_000), vec![1, 4, 0]].concat());
    assert!(cut_off.capabilities().is_empty());
    assert_eq!(cut_off.data_in_words(), None);
}
