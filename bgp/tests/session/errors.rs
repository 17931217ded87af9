//! One speaker against octets that no good peer would send, and against silence.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{
    Cause, ConnectionId, Event, Input, JournalEvent, Output, Speaker, SpeakerConfig, State,
};
use ferrolb_bgp::wire::{Asn, DecodeContext, Framer, Message};

const ID: ConnectionId = ConnectionId::Dialled(0);

/// OPEN of AS 65002, hold time 90, router ID 10.255.0.1, both families, route refresh.
const OPEN: &str =
    "003701 04 fdea 005a 0aff0001 1a 0218 010400010001 010400020001 0200 41040000fdea 40020078";
const KEEPALIVE: &str = "001304";
/// A route, ORIGIN IGP, AS_PATH 65002, NEXT_HOP 10.0.0.2.
const UPDATE: &str = "002f02 0000 0014 40010100 400206 0201 0000fdea 4003040a000002 18c63364";

/// Octets of a message from its hexadecimal form after the marker.
fn raw(hex: &str) -> Bytes {
    let digits: String = hex.split_whitespace().collect();
    let octets = (0..digits.len()).step_by(2);
    let octets = octets.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    std::iter::repeat_n(0xff, 16).chain(octets).collect()
}

/// A speaker whose peer is the test.
struct Lone {
    speaker: Speaker,
    now: Instant,
    framer: Framer,
    events: Vec<Event>,
    finished: bool,
    closed: bool,
}

impl Lone {
    /// Dialled and connected: its OPEN is out.
    fn new() -> Self {
        let router_id_fallback = Ipv4Addr::new(10, 255, 0, 99);
        let mut lone = Self {
            speaker: Speaker::new(SpeakerConfig {
                router_id_fallback,
                seed: 7,
                host_uptime: None,
            }),
            now: Instant::now(),
            framer: Framer::default(),
            events: Vec::new(),
            finished: false,
            closed: false,
        };
        let address = "10.0.0.2:179".parse().unwrap();
        let config = PeerConfig::new("tor", address, Asn(65001), Asn(65002));
        lone.input(Input::SetPeer(PeerConfig {
            receive: true,
            ..config
        }));
        lone.input(Input::OpenGate);
        let local = "10.0.0.1:40000".parse().unwrap();
        lone.input(Input::Connected {
            connection: ID,
            local,
            remote: address,
        });
        assert!(matches!(lone.sent()[..], [Message::Open(_)]));
        lone
    }

    fn in_state(state: State) -> Self {
        let mut lone = Self::new();
        if state >= State::OpenConfirm {
            lone.receive(OPEN);
            assert_eq!(lone.sent(), [Message::Keepalive]);
        }
        if state >= State::Established {
            lone.receive(KEEPALIVE);
            lone.sent();
        }
        assert_eq!(lone.state(), state);
        lone
    }

    fn state(&self) -> State {
        self.speaker.status(self.now)[0].state
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Event(event) => self.events.push(event),
                Output::Finish { connection } if connection == ID => self.finished = true,
                Output::Close { connection } if connection == ID => self.closed = true,
                _ => {}
            }
        }
    }

    fn receive(&mut self, hex: &str) {
        self.input(Input::Received {
            connection: ID,
            octets: raw(hex),
        });
    }

    /// What it sends when the socket takes everything.
    fn sent(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(octets) = self.speaker.poll_transmit(self.now, ID, 65536) {
            self.framer.push(&octets);
            let context = DecodeContext {
                four_octet_asn: true,
                ..DecodeContext::default()
            };
            while let Some(message) = self.framer.next(&context) {
                messages.push(message.expect("we send what we can read"));
            }
        }
        self.drain();
        messages
    }

    /// The NOTIFICATION that ended it, checked to be the only and last thing sent.
    fn notification(&mut self) -> (u8, u8, Vec<u8>) {
        let sent = self.sent();
        let Some(Message::Notification(last)) = sent.last() else {
            panic!("no NOTIFICATION: {sent:?}")
        };
        let all = sent
            .iter()
            .filter(|message| matches!(message, Message::Notification(_)));
        assert_eq!(all.count(), 1);
        assert!(
            self.finished,
            "it must reach the peer before the connection is closed"
        );
        (last.code.0, last.subcode, last.data.to_vec())
    }

    fn cause(&self) -> &Cause {
        let cause = self.events.iter().find_map(|event| match event {
            Event::Down { cause, .. } => Some(cause),
            _ => None,
        });
        cause.expect("down")
    }
}

/// What is fed in which state, and the NOTIFICATION demanded.
fn demand(state: State, message: &str, code: u8, subcode: u8, data: &[u8]) {
    let mut lone = Lone::in_state(state);
    lone.receive(message);
    assert_eq!(
        lone.notification(),
        (code, subcode, data.to_vec()),
        "{state} {message}"
    );
    assert_eq!(lone.state(), State::Idle);
    // Nothing that comes later counts, and its connection goes away even if the peer doesn't close.
    lone.receive(UPDATE);
    lone.receive(KEEPALIVE);
    assert!(lone.sent().is_empty() && !lone.closed);
    lone.now += Duration::from_secs(2);
    lone.input(Input::Timeout);
    assert!(lone.closed);
}

#[test]
fn bad_headers_are_1_x_in_every_state() {
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        demand(state, "001204", 1, 2, &[0, 0x12]);
        demand(state, "1001 01", 1, 2, &[0x10, 1]); // at once, not after 4097 octets
        demand(state, "ffff 01", 1, 2, &[0xff, 0xff]);
        demand(state, "001404 00", 1, 2, &[0, 0x14]);
        demand(state, "001302", 1, 2, &[0, 0x13]);
        demand(state, "001300", 1, 3, &[0]);
        demand(state, "001306", 1, 3, &[6]);
        demand(state, "0013ff", 1, 3, &[255]);
        let mut lone = Lone::in_state(state);
        let mut octets = raw(KEEPALIVE).to_vec();
        octets[15] = 0;
        lone.input(Input::Received {
            connection: ID,
            octets: octets.into(),
        });
        assert_eq!(lone.notification(), (1, 1, vec![]), "marker, {state}");
    }
    // We offer to read longer ones (RFC 8654 §6), but only an OPEN can tell so.
    demand(State::OpenSent, "1001 02", 1, 2, &[0x10, 1]);
}

#[test]
fn bad_opens_are_2_x() {
    let open = |fixed: &str| format!("001d01 {fixed} 00");
    demand(
        State::OpenSent,
        &open("03 fdea 005a 0aff0001"),
        2,
        1,
        &[0, 4],
    );
    demand(
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
        let mut lone = Lone::in_state(State::OpenSent);
        lone.receive(&open(fixed));
        let (code, got, _) = lone.notification();
        assert_eq!((code, got), (2, subcode), "{fixed}");
        assert!(matches!(lone.cause().notification(), Some((_, true))));
    }
    // Parameters that overrun the message; an unknown parameter.
    let mut lone = Lone::in_state(State::OpenSent);
    lone.receive("002501 04 fdea 005a 0aff0001 14 0206 0104 00010001");
    assert_eq!(lone.notification().0, 2);
    let mut lone = Lone::in_state(State::OpenSent);
    lone.receive("002101 04 fdea 005a 0aff0001 04 4d02 0000");
    let (code, subcode, _) = lone.notification();
    assert_eq!((code, subcode), (2, 4));
}

#[test]
fn a_message_out_of_place_is_5_x_by_state() {
    demand(State::OpenSent, UPDATE, 5, 1, &[2]);
    demand(State::OpenSent, KEEPALIVE, 5, 1, &[4]);
    demand(State::OpenSent, "001705 0001 00 01", 5, 1, &[5]);
    demand(State::OpenConfirm, OPEN, 5, 2, &[1]);
    demand(State::OpenConfirm, UPDATE, 5, 2, &[2]);
    demand(State::Established, OPEN, 5, 3, &[1]);
    // What doesn't even decode is still out of place.
    demand(State::OpenSent, "001b02 ffff 0000 00000000", 5, 1, &[2]);
    demand(State::OpenConfirm, "001b02 ffff 0000 00000000", 5, 2, &[2]);
    demand(
        State::Established,
        "001d01 03 fdea 005a 0aff0001 00",
        5,
        3,
        &[1],
    );
}

#[test]
fn an_update_whose_lengths_lie_is_3_1_and_lesser_errors_leave_the_session_up() {
    let mut lone = Lone::in_state(State::Established);
    lone.receive("001b02 ffff 0000 00000000");
    let (code, subcode, _) = lone.notification();
    assert_eq!((code, subcode), (3, 1));

    // ORIGIN 9: RFC 7606 wants the route withdrawn, not the session.
    let mut lone = Lone::in_state(State::Established);
    lone.receive(&UPDATE.replacen("40010100", "40010109", 1));
    assert_eq!(lone.state(), State::Established);
    let update = lone.events.iter().find_map(|event| match event {
        Event::Received { update, .. } => Some(update),
        _ => None,
    });
    let update = update.expect("handed out");
    assert_eq!(update.announced().count(), 0);
    assert_eq!(update.withdrawn_prefixes().count(), 1);
}

#[test]
fn updates_with_errors_are_told_whole_and_once_in_ten_seconds() {
    let mut lone = Lone::in_state(State::Established);
    let bad = UPDATE.replacen("40010100", "40010109", 1);
    for _ in 0..3 {
        lone.receive(&bad);
    }
    lone.now += Duration::from_secs(10);
    lone.receive(&bad);
    let told: Vec<(Vec<String>, usize, u64)> = lone
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
    let wrong = vec!["ORIGIN has an undefined value: treat-as-withdraw".to_owned()];
    let body = raw(&bad).len() - 19;
    assert_eq!(told, [(wrong.clone(), body, 0), (wrong, body, 2)]);

    let detail = lone.speaker.peer(lone.now, "tor").unwrap();
    let noted = detail
        .journal
        .iter()
        .filter_map(|entry| match &entry.event {
            JournalEvent::UpdateErrors {
                octets, suppressed, ..
            } => Some((octets.len(), *suppressed)),
            _ => None,
        });
    assert_eq!(
        noted.collect::<Vec<_>>(),
        [(2 * body, 0), (2 * body, 2)],
        "the octets in hexadecimal"
    );
}

#[test]
fn a_notification_is_never_answered() {
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        for message in [
            "001503 0202",
            "001503 0602",
            "0017 03 0602 80 41",
            "001503 0000",
        ] {
            let mut lone = Lone::in_state(state);
            lone.receive(message);
            assert!(lone.sent().is_empty());
            assert!(lone.closed && !lone.finished);
            assert!(matches!(lone.cause().notification(), Some((_, false))));
        }
    }
}

#[test]
fn octets_may_come_one_by_one_or_all_at_once() {
    let mut lone = Lone::in_state(State::OpenSent);
    for octet in [OPEN, KEEPALIVE, UPDATE]
        .iter()
        .flat_map(|message| raw(message))
    {
        lone.input(Input::Received {
            connection: ID,
            octets: Bytes::from(vec![octet]),
        });
    }
    assert_eq!(lone.state(), State::Established);
    assert_eq!(lone.speaker.status(lone.now)[0].announcements_received, 1);

    let mut lone = Lone::in_state(State::OpenSent);
    let octets = [OPEN, KEEPALIVE, UPDATE]
        .iter()
        .flat_map(|message| raw(message))
        .collect();
    lone.input(Input::Received {
        connection: ID,
        octets,
    });
    assert_eq!(lone.state(), State::Established);
    assert_eq!(lone.speaker.status(lone.now)[0].received.total(), 3);
}

#[test]
fn a_peer_that_sends_no_open_is_left_after_four_minutes() {
    let mut lone = Lone::new();
    lone.now += Duration::from_secs(239);
    lone.input(Input::Timeout);
    assert_eq!(lone.state(), State::OpenSent);
    lone.now += Duration::from_secs(1);
    lone.input(Input::Timeout);
    assert_eq!(lone.notification(), (4, 0, vec![]));
}

#[test]
fn a_peer_that_talks_but_never_reads_is_left_by_the_send_hold_timer() {
    let mut lone = Lone::in_state(State::Established);
    let begin = lone.now;
    while !lone.closed {
        assert!(
            lone.now - begin < Duration::from_secs(490),
            "RFC 9687: 480 s"
        );
        lone.now += Duration::from_secs(10);
        lone.receive(KEEPALIVE);
        lone.input(Input::Timeout);
    }
    assert!(lone.now - begin >= Duration::from_secs(480));
    assert_eq!(lone.cause(), &Cause::SendHoldTimerExpired);
    assert!(!lone.finished, "there is no way to send a reason");
}

#[test]
fn a_connection_closed_in_open_sent_hints_at_the_configuration() {
    let mut lone = Lone::new();
    lone.input(Input::Closed {
        connection: ID,
        error: None,
    });
    let cause = lone.cause().to_string();
    assert!(cause.contains("AS numbers and password"), "{cause}");
    // FRR in Idle, say: nothing need be wrong on either side.
    assert!(
        cause.contains("for some time after an earlier error"),
        "{cause}"
    );
    assert_eq!(lone.state(), State::Active);
}

/// RFC 7313 §5 and RFC 2918 §4: neither is answered, neither ends the session.
#[test]
fn m4_refresh_of_other_subtypes_and_families_is_ignored() {
    for body in ["0001 09 01", "0001 01 01", "0063 00 01", "0001 00 80"] {
        let mut lone = Lone::in_state(State::Established);
        lone.receive(&format!("001705 {body}"));
        assert_eq!(lone.sent(), [], "{body}");
        assert_eq!(lone.state(), State::Established);
    }
}

/// Without enhanced route refresh 7/1 is nothing the peer would understand.
#[test]
fn m4_refresh_of_another_length_is_1_2() {
    demand(State::Established, "001605 000100", 1, 2, &[0, 0x16]);
    demand(State::Established, "001805 00010001 00", 1, 2, &[0, 0x18]);
}

/// RFC 4271 §6.3: such a route is to be ignored and nothing to be said. Ours are 10.0.0.1, and no
/// subnet that 192.0.2.77 would be in.
#[test]
fn a3b_a_next_hop_that_is_ours_or_off_the_subnet_says_nothing() {
    for next_hop in ["0a000001", "c000024d"] {
        let mut lone = Lone::in_state(State::Established);
        lone.receive(&UPDATE.replacen("0a000002", next_hop, 1));
        lone.receive(UPDATE);
        assert_eq!(lone.sent(), [], "{next_hop}");
        assert_eq!(lone.state(), State::Established);
        let next_hops = lone.events.iter().filter_map(|event| match event {
            Event::Received { update, .. } => update.attributes.next_hop,
            _ => None,
        });
        let received = u32::from_str_radix(next_hop, 16).unwrap();
        assert_eq!(
            next_hops.collect::<Vec<_>>(),
            [Ipv4Addr::from(received), [10, 0, 0, 2].into()],
            "whoever asked for the routes sees what they are"
        );
    }
}
