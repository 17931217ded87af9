use super::*;
use crate::wire::{DecodeContext, Message};

fn shutdown(data: &[u8]) -> Option<String> {
    Notification::cease(subcode::cease::ADMINISTRATIVE_SHUTDOWN)
        .with_data(data.to_vec())
        .shutdown_text()
}

#[test]
fn prints_names_and_numbers() {
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
fn encodes_to_the_octet() {
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
fn too_much_data_is_cut_to_a_legal_message() {
    let notification = Notification::new(ErrorCode::UPDATE, 1).with_data(vec![7; 70_000]);
    let message = notification.encode();
    assert_eq!(message.len(), MAX_LENGTH);
    let decoded = Message::decode(&message, &DecodeContext::default());
    let Some(Ok(Message::Notification(decoded))) = decoded else {
        panic!("{decoded:?}")
    };
    assert_eq!(decoded.data.len(), MAX_LENGTH - 21);
}

/// RFC 9003 §2.
#[test]
fn shutdown_text_goes_out_and_comes_in() {
    let notification = Notification::administrative_shutdown("Wartung bis 10 Uhr, grüße");
    assert_eq!(notification.data[0], 27);
    assert_eq!(
        notification.shutdown_text().as_deref(),
        Some("Wartung bis 10 Uhr, grüße")
    );
    let reset = Notification::administrative_reset("new router id");
    assert_eq!((reset.code, reset.subcode), (ErrorCode::CEASE, 4));
    assert_eq!(reset.shutdown_text().as_deref(), Some("new router id"));
    assert!(Notification::administrative_shutdown("").data.is_empty());
}

#[test]
fn long_shutdown_text_is_cut_between_characters() {
    let notification = Notification::administrative_shutdown(&"ü".repeat(200));
    assert_eq!(notification.data[0], 254);
    assert_eq!(notification.shutdown_text(), Some("ü".repeat(127)));
}

/// CVE-2019-16159: a length beyond the data.
#[test]
fn shutdown_text_survives_bad_lengths_and_bad_text() {
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
fn only_shutdown_and_reset_have_a_text() {
    let other = Notification::cease(subcode::cease::PEER_DE_CONFIGURED).with_data(vec![2, 65, 66]);
    assert_eq!(other.shutdown_text(), None);
}
