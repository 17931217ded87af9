//! Error handling (RFC 4271 §6): the reaction to invalid and unexpected messages in each state.

use std::net::Ipv4Addr;

use bytes::Bytes;
use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{Event, Input, JournalEvent, State};
use ferrolb_bgp::wire::Message;

use crate::harness::{Router, router, seconds};

/// OPEN of AS 65002: hold time 90, router ID 10.255.0.1, both families, route refresh.
const OPEN: &str =
    "003701 04 fdea 005a 0aff0001 1a 0218 010400010001 010400020001 0200 41040000fdea 40020078";
const KEEPALIVE: &str = "001304";
/// A route with ORIGIN IGP, AS_PATH 65002, NEXT_HOP 10.0.0.2.
const UPDATE: &str = "002f02 0000 0014 40010100 400206 0201 0000fdea 4003040a000002 18c63364";

/// A message from its hexadecimal form without the marker.
fn raw(hex: &str) -> Bytes {
    let digits: String = hex.split_whitespace().collect();
    let octets = (0..digits.len()).step_by(2);
    let octets = octets.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    std::iter::repeat_n(0xff, 16).chain(octets).collect()
}

/// A router whose session is in this state. It has read all messages of the speaker.
fn in_state(state: State) -> Router {
    let mut router = Router::new(PeerConfig {
        receive: true,
        ..router()
    });
    router.input(Input::OpenGate);
    router.connect();
    if state >= State::OpenConfirm {
        router.receive(raw(OPEN));
        assert_eq!(router.sent(), [Message::Keepalive]);
    }
    if state >= State::Established {
        router.receive(raw(KEEPALIVE));
        router.sent();
    }
    assert_eq!(router.state(), state);
    router
}

/// Code, subcode and data of the NOTIFICATION that ended the session. Asserts that the speaker
/// sends it last, and closes the connection after it.
fn notification(router: &mut Router) -> (u8, u8, Vec<u8>) {
    let sent = router.sent();
    let Some(Message::Notification(last)) = sent.last() else {
        panic!("no NOTIFICATION: {sent:?}")
    };
    let all = sent
        .iter()
        .filter(|message| matches!(message, Message::Notification(_)));
    assert_eq!(all.count(), 1);
    assert!(
        router.finished,
        "the connection is closed too early or never"
    );
    (last.code.0, last.subcode, last.data.to_vec())
}

/// Sends a message in a state, and asserts the NOTIFICATION that answers it.
fn assert_notification(state: State, message: &str, code: u8, subcode: u8, data: &[u8]) {
    let mut router = in_state(state);
    router.receive(raw(message));
    assert_eq!(
        notification(&mut router),
        (code, subcode, data.to_vec()),
        "{state} {message}"
    );
    assert_eq!(router.state(), State::Idle);
    // Later messages are ignored, and the connection is closed even if the peer does not close it.
    router.receive(raw(UPDATE));
    router.receive(raw(KEEPALIVE));
    assert!(router.sent().is_empty() && !router.closed);
    router.now += seconds(2);
    router.input(Input::Timeout);
    assert!(router.closed);
}

#[test]
fn invalid_headers_are_message_header_errors_in_every_state_rfc4271_6_1() {
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        assert_notification(state, "001204", 1, 2, &[0, 0x12]);
        assert_notification(state, "1001 01", 1, 2, &[0x10, 1]); // without waiting for 4097 octets
        assert_notification(state, "ffff 01", 1, 2, &[0xff, 0xff]);
        assert_notification(state, "001404 00", 1, 2, &[0, 0x14]);
        assert_notification(state, "001302", 1, 2, &[0, 0x13]);
        assert_notification(state, "001300", 1, 3, &[0]);
        assert_notification(state, "001306", 1, 3, &[6]);
        assert_notification(state, "0013ff", 1, 3, &[255]);
        let mut router = in_state(state);
        let mut octets = raw(KEEPALIVE).to_vec();
        octets[15] = 0;
        router.receive(octets.into());
        assert_eq!(notification(&mut router), (1, 1, vec![]), "marker, {state}");
    }
    // We announce support of longer messages (RFC 8654), but only after an OPEN they are valid.
    assert_notification(State::OpenSent, "1001 02", 1, 2, &[0x10, 1]);
}

#[test]
fn invalid_opens_are_open_message_errors_rfc4271_6_2() {
    let open = |fixed: &str| format!("001d01 {fixed} 00");
    assert_notification(
        State::OpenSent,
        &open("03 fdea 005a 0aff0001"),
        2,
        1,
        &[0, 4],
    );
    assert_notification(
        State::OpenSent,
        &open("05 fdea 005a 0aff0001"),
        2,
        1,
        &[0, 4],
    );
    for (fixed, subcode) in [
        ("04 fe4b 005a 0aff0001", 2), // another AS
        ("04 0000 005a 0aff0001", 2), // AS 0
        ("04 fdea 005a 00000000", 3), // router ID 0
        ("04 fdea 0001 0aff0001", 6), // hold time 1
        ("04 fdea 0002 0aff0001", 6), // hold time 2
    ] {
        let mut router = in_state(State::OpenSent);
        router.receive(raw(&open(fixed)));
        let (code, got, _) = notification(&mut router);
        assert_eq!((code, got), (2, subcode), "{fixed}");
        assert!(matches!(router.cause().notification(), Some((_, true))));
    }
    // Optional parameters longer than the message, and an unknown one.
    let mut router = in_state(State::OpenSent);
    router.receive(raw("002501 04 fdea 005a 0aff0001 14 0206 0104 00010001"));
    assert_eq!(notification(&mut router).0, 2);
    let mut router = in_state(State::OpenSent);
    router.receive(raw("002101 04 fdea 005a 0aff0001 04 4d02 0000"));
    let (code, subcode, _) = notification(&mut router);
    assert_eq!((code, subcode), (2, 4));
}

#[test]
fn unexpected_messages_are_fsm_errors_with_the_state_as_subcode_rfc6608() {
    assert_notification(State::OpenSent, UPDATE, 5, 1, &[2]);
    assert_notification(State::OpenSent, KEEPALIVE, 5, 1, &[4]);
    assert_notification(State::OpenSent, "001705 0001 00 01", 5, 1, &[5]);
    assert_notification(State::OpenConfirm, OPEN, 5, 2, &[1]);
    assert_notification(State::OpenConfirm, UPDATE, 5, 2, &[2]);
    assert_notification(State::Established, OPEN, 5, 3, &[1]);
    // An unexpected message is an FSM error even if it is malformed.
    assert_notification(State::OpenSent, "001b02 ffff 0000 00000000", 5, 1, &[2]);
    assert_notification(State::OpenConfirm, "001b02 ffff 0000 00000000", 5, 2, &[2]);
    assert_notification(
        State::Established,
        "001d01 03 fdea 005a 0aff0001 00",
        5,
        3,
        &[1],
    );
}

#[test]
fn only_an_update_with_inconsistent_lengths_ends_the_session_rfc7606() {
    let mut router = in_state(State::Established);
    router.receive(raw("001b02 ffff 0000 00000000"));
    let (code, subcode, _) = notification(&mut router);
    assert_eq!((code, subcode), (3, 1));

    // ORIGIN 9: treat-as-withdraw (RFC 7606 §7.1).
    let mut router = in_state(State::Established);
    router.receive(raw(&UPDATE.replacen("40010100", "40010109", 1)));
    assert_eq!(router.state(), State::Established);
    let update = router.events.iter().find_map(|event| match event {
        Event::Received { update, .. } => Some(update),
        _ => None,
    });
    let update = update.expect("a received UPDATE");
    assert_eq!(update.announced().count(), 0);
    assert_eq!(update.withdrawn_prefixes().count(), 1);
}

#[test]
fn erroneous_updates_are_reported_at_most_every_ten_seconds_with_their_octets() {
    let mut router = in_state(State::Established);
    let bad = UPDATE.replacen("40010100", "40010109", 1);
    for _ in 0..3 {
        router.receive(raw(&bad));
    }
    router.now += seconds(10);
    router.receive(raw(&bad));
    let reported: Vec<(Vec<String>, usize, u64)> = router
        .events
        .iter()
        .filter_map(|event| match event {
            Event::UpdateErrors {
                errors,
                octets,
                suppressed,
                ..
            } => Some((
                errors.iter().map(ToString::to_string).collect(),
                octets.len(),
                *suppressed,
            )),
            _ => None,
        })
        .collect();
    let errors = vec!["ORIGIN has an undefined value: treat-as-withdraw".to_owned()];
    let body = raw(&bad).len() - 19;
    assert_eq!(reported, [(errors.clone(), body, 0), (errors, body, 2)]);

    let detail = router.speaker.peer(router.now, "tor").unwrap();
    let entries = detail
        .journal
        .iter()
        .filter_map(|entry| match &entry.event {
            JournalEvent::UpdateErrors {
                octets, suppressed, ..
            } => Some((octets.len(), *suppressed)),
            _ => None,
        });
    assert_eq!(
        entries.collect::<Vec<_>>(),
        [(2 * body, 0), (2 * body, 2)],
        "two digits per octet"
    );
}

#[test]
fn a_notification_is_not_answered_rfc4271_6_4() {
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        for message in [
            "001503 0202",
            "001503 0602",
            "0017 03 0602 80 41",
            "001503 0000",
        ] {
            let mut router = in_state(state);
            router.receive(raw(message));
            assert!(router.sent().is_empty());
            assert!(router.closed && !router.finished);
            assert!(matches!(router.cause().notification(), Some((_, false))));
        }
    }
}

#[test]
fn messages_may_arrive_in_single_octets_or_all_at_once() {
    let mut router = in_state(State::OpenSent);
    for octet in [OPEN, KEEPALIVE, UPDATE]
        .iter()
        .flat_map(|message| raw(message))
    {
        router.receive(Bytes::from(vec![octet]));
    }
    assert_eq!(router.state(), State::Established);
    assert_eq!(
        router.speaker.status(router.now)[0].announcements_received,
        1
    );

    let mut router = in_state(State::OpenSent);
    let octets = [OPEN, KEEPALIVE, UPDATE]
        .iter()
        .flat_map(|message| raw(message))
        .collect();
    router.receive(octets);
    assert_eq!(router.state(), State::Established);
    assert_eq!(router.speaker.status(router.now)[0].received.total(), 3);
}

/// RFC 7313 §5 and RFC 2918 §4: it is not answered and does not end the session.
#[test]
fn m4_a_route_refresh_of_another_subtype_or_family_is_ignored() {
    for body in ["0001 09 01", "0001 01 01", "0063 00 01", "0001 00 80"] {
        let mut router = in_state(State::Established);
        router.receive(raw(&format!("001705 {body}")));
        assert_eq!(router.sent(), [], "{body}");
        assert_eq!(router.state(), State::Established);
    }
}

/// 7/1 is only defined with enhanced route refresh, which was not negotiated.
#[test]
fn m4_a_route_refresh_of_another_length_is_1_2() {
    assert_notification(State::Established, "001605 000100", 1, 2, &[0, 0x16]);
    assert_notification(State::Established, "001805 00010001 00", 1, 2, &[0, 0x18]);
}

/// RFC 4271 §6.3: ignored without a NOTIFICATION. Our address is 10.0.0.1; 192.0.2.77 is in none of
/// our subnets.
#[test]
fn a3b_a_route_with_our_next_hop_or_one_off_the_subnet_sends_no_notification() {
    for next_hop in ["0a000001", "c000024d"] {
        let mut router = in_state(State::Established);
        router.receive(raw(&UPDATE.replacen("0a000002", next_hop, 1)));
        router.receive(raw(UPDATE));
        assert_eq!(router.sent(), [], "{next_hop}");
        assert_eq!(router.state(), State::Established);
        let next_hops = router.events.iter().filter_map(|event| match event {
            Event::Received { update, .. } => update.attributes.next_hop,
            _ => None,
        });
        let received = u32::from_str_radix(next_hop, 16).unwrap();
        assert_eq!(
            next_hops.collect::<Vec<_>>(),
            [Ipv4Addr::from(received), [10, 0, 0, 2].into()],
            "the next hops are reported as received"
        );
    }
}
