//! One speaker whose peer refuses it, or is refused: what the next attempt is like, and when.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrolb_bgp::config::{HoldTime, PeerConfig, Secret, Timers, Transport};
use ferrolb_bgp::fsm::{
    Cause, ConnectionId, Event, Input, JournalEvent, Md5Drops, Output, PeerStatus, Speaker,
    SpeakerConfig, State,
};
use ferrolb_bgp::wire::{
    Asn, Capability, DecodeContext, ErrorCode, Family, Framer, Message, MessageType, Notification,
    Open, keepalive, subcode,
};

const BOTH: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];

/// A speaker whose peer, the test, takes every connection.
struct Lone {
    speaker: Speaker,
    now: Instant,
    connection: ConnectionId,
    framer: Framer,
    events: Vec<Event>,
}

impl Lone {
    fn new(config: PeerConfig) -> Self {
        let mut lone = Self {
            speaker: Speaker::new(SpeakerConfig {
                router_id_fallback: Ipv4Addr::new(10, 255, 0, 1),
                seed: 3,
                host_uptime: None,
            }),
            now: Instant::now(),
            connection: ConnectionId::Dialled(0),
            framer: Framer::default(),
            events: Vec::new(),
        };
        lone.input(Input::OpenGate);
        lone.input(Input::SetPeer(config));
        lone
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Connect { connection, .. } => self.connection = connection,
                Output::Event(event) => self.events.push(event),
                _ => {}
            }
        }
    }

    fn sent(&mut self) -> Vec<Message> {
        while let Some(octets) = self
            .speaker
            .poll_transmit(self.now, self.connection, 65_535)
        {
            self.framer.push(&octets);
        }
        let context = DecodeContext {
            families: BOTH.to_vec(),
            ..DecodeContext::default()
        };
        std::iter::from_fn(|| self.framer.next(&context))
            .map(|message| message.unwrap())
            .collect()
    }

    /// The connection being dialled comes up; our OPEN.
    fn connect(&mut self) -> Open {
        self.framer = Framer::default();
        self.input(Input::Connected {
            connection: self.connection,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: "10.0.0.2:179".parse().unwrap(),
        });
        match &self.sent()[..] {
            [Message::Open(open)] => open.clone(),
            other => panic!("no OPEN: {other:?}"),
        }
    }

    /// Waits for the next dial, and takes it.
    fn reconnect(&mut self) -> Open {
        let old = self.connection;
        while self.connection == old {
            self.now = self.speaker.poll_timeout().unwrap().max(self.now);
            self.input(Input::Timeout);
        }
        self.connect()
    }

    fn receive(&mut self, octets: Bytes) {
        self.input(Input::Received {
            connection: self.connection,
            octets,
        });
    }

    fn establish(&mut self) {
        let router_id = Ipv4Addr::new(10, 255, 0, 2);
        self.receive(Open::new(Asn(65002), 90, router_id, &BOTH).encode());
        self.receive(keepalive());
        assert_eq!(self.status().state, State::Established);
    }

    /// Time goes by, with a peer that talks.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_secs(10);
            self.receive(keepalive());
            self.input(Input::Timeout);
            self.sent();
        }
    }

    fn status(&self) -> PeerStatus {
        self.speaker.status(self.now).pop().unwrap()
    }

    fn cause(&self) -> &Cause {
        let down = self.events.iter().rev().find_map(|event| match event {
            Event::Down { cause, .. } => Some(cause),
            _ => None,
        });
        down.expect("it ended")
    }
}

fn config() -> PeerConfig {
    let address = "10.0.0.2:179".parse().unwrap();
    PeerConfig::new("tor", address, Asn(65001), Asn(65002))
}

fn open_error(subcode: u8, data: &[u8]) -> Bytes {
    Notification::new(ErrorCode::OPEN, subcode)
        .with_data(data.to_vec())
        .encode()
}

#[test]
fn trap_16_a_router_without_capabilities_gets_an_open_without_and_all_again_after_a_stable_session()
{
    let mut lone = Lone::new(config());
    let everything = lone.connect();
    lone.receive(open_error(
        subcode::open::UNSUPPORTED_OPTIONAL_PARAMETER,
        &[],
    ));
    let told = lone.events.iter().any(|event| {
        matches!(event, Event::CapabilitiesDropped { peer, capabilities }
            if peer == "tor" && capabilities.len() == everything.capabilities.len())
    });
    assert!(told, "{:?}", lone.events);
    let detail = lone.speaker.peer(lone.now, "tor").unwrap();
    assert!(
        detail
            .journal
            .iter()
            .any(|entry| matches!(entry.event, JournalEvent::CapabilitiesDropped { .. }))
    );

    assert_eq!(lone.reconnect().capabilities, []);
    lone.establish();
    let families = lone.status().negotiated.unwrap().families;
    assert_eq!(families, [Family::IPV4_UNICAST]);

    // Not yet stable: it stays as it is.
    lone.receive(Notification::cease(subcode::cease::ADMINISTRATIVE_RESET).encode());
    assert_eq!(lone.reconnect().capabilities, []);
    lone.establish();
    lone.run(Duration::from_secs(300));
    lone.receive(Notification::cease(subcode::cease::ADMINISTRATIVE_RESET).encode());
    assert_eq!(lone.reconnect(), everything);
}

#[test]
fn what_the_router_lists_is_left_out_until_the_configuration_changes() {
    let mut lone = Lone::new(config());
    let everything = lone.connect();
    lone.receive(open_error(
        subcode::open::UNSUPPORTED_CAPABILITY,
        &[1, 4, 0, 2, 0, 1],
    ));
    assert_eq!(
        lone.cause().code(),
        "capability-refused",
        "{}",
        lone.cause()
    );
    let next = lone.reconnect();
    assert_eq!(next.families(), [Family::IPV4_UNICAST]);
    assert_eq!(next.capabilities.len() + 1, everything.capabilities.len());
    assert!(next.capabilities.contains(&Capability::ExtendedMessage));

    lone.input(Input::SetPeer(PeerConfig {
        shutdown_text: Some("bye".to_owned()),
        ..config()
    }));
    lone.input(Input::Closed {
        connection: lone.connection,
        error: None,
    });
    assert_eq!(lone.reconnect(), everything);
}

#[test]
fn trap_9_the_configured_send_hold_time_ends_a_session_whose_peer_does_not_read() {
    let timers = |send_hold| Timers {
        hold_time: HoldTime::from_secs(30).unwrap(),
        send_hold_time: Some(Duration::from_secs(send_hold)),
        ..Timers::default()
    };
    let with = |send_hold| PeerConfig {
        timers: timers(send_hold),
        ..config()
    };
    let mut lone = Lone::new(with(60));
    lone.connect();
    lone.establish();
    lone.sent();
    // A change is no reason for a new session, and counts from what is sent next.
    lone.input(Input::SetPeer(with(100)));
    lone.sent();
    lone.run(Duration::from_secs(20));
    let begin = lone.now;
    while lone.status().state == State::Established {
        assert!(lone.now - begin <= Duration::from_secs(110));
        lone.now += Duration::from_secs(5);
        lone.receive(keepalive());
        lone.input(Input::Timeout);
    }
    assert_eq!(lone.cause(), &Cause::SendHoldTimerExpired);
    assert!(lone.now - begin >= Duration::from_secs(90));
}

#[test]
fn trap_21_a_wrong_as_number_waits_the_longest_time_at_once_and_both_numbers_are_named() {
    let mut lone = Lone::new(config());
    lone.connect();
    lone.receive(open_error(subcode::open::BAD_PEER_AS, &[]));
    assert!(
        lone.status().retry_in >= Some(Duration::from_secs(45)),
        "RFC 4271: no tight loop"
    );
    let text = lone.cause().to_string();
    assert!(
        text.contains("AS 65001") && text.contains("AS 65002"),
        "{text}"
    );

    // Whoever corrects the configuration doesn't wait.
    let corrected = PeerConfig {
        local_asn: Asn(65005),
        ..config()
    };
    let before = lone.connection;
    lone.input(Input::SetPeer(corrected));
    assert_ne!(lone.connection, before);
    lone.connect();
    let router_id = Ipv4Addr::new(10, 255, 0, 2);
    lone.receive(Open::new(Asn(65009), 90, router_id, &BOTH).encode());
    assert_eq!(lone.cause().code(), "wrong-asn");
    let text = lone.cause().to_string();
    assert!(
        text.contains("AS 65009") && text.contains("AS 65002"),
        "{text}"
    );
    assert!(lone.status().retry_in >= Some(Duration::from_secs(45)));
}

/// An UPDATE: prefixes 198.51.100.n/32 withdrawn and announced, with this next hop and path.
fn update(withdrawn: &[u8], announced: &[u8], next_hop: [u8; 4], path: &[u32]) -> Bytes {
    let prefixes =
        |last: &[u8]| -> Vec<u8> { last.iter().flat_map(|n| [32, 198, 51, 100, *n]).collect() };
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2];
    let count = u8::try_from(path.len()).unwrap();
    attributes.extend([count * 4 + 2, 2, count]);
    attributes.extend(path.iter().flat_map(|asn| asn.to_be_bytes()));
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop);
    if announced.is_empty() {
        attributes.clear();
    }
    let length = |octets: &[u8]| u16::try_from(octets.len()).unwrap().to_be_bytes();
    let withdrawn = prefixes(withdrawn);
    let mut body = length(&withdrawn).to_vec();
    body.extend(&withdrawn);
    body.extend(length(&attributes));
    body.extend(&attributes);
    body.extend(prefixes(announced));
    let whole = u16::try_from(19 + body.len()).unwrap().to_be_bytes();
    [&[0xff; 16], &whole[..], &[MessageType::UPDATE.0], &body]
        .concat()
        .into()
}

const NEXT_HOP: [u8; 4] = [10, 0, 0, 2];

#[test]
fn more_prefixes_than_allowed_end_the_session_for_long_and_the_peer_is_told_the_limit() {
    let limited = PeerConfig {
        prefix_limit: Some(3),
        receive: true,
        ..config()
    };
    let mut lone = Lone::new(limited);
    lone.connect();
    lone.establish();
    lone.sent();
    let held = |lone: &Lone| {
        lone.status()
            .prefix_limit
            .map(|limit| (limit.received, limit.limit))
    };
    lone.receive(update(&[], &[1, 2, 3], NEXT_HOP, &[65002]));
    assert_eq!(held(&lone), Some((3, 3)));
    // Again is not more, and who goes makes room.
    lone.receive(update(&[], &[1, 2, 3], NEXT_HOP, &[65002]));
    lone.receive(update(&[1], &[4], NEXT_HOP, &[65002]));
    assert_eq!(held(&lone), Some((3, 3)));
    lone.receive(update(&[4, 9], &[], NEXT_HOP, &[]));
    assert_eq!(held(&lone), Some((2, 3)));
    assert_eq!(lone.status().state, State::Established);

    lone.receive(update(&[], &[5, 6, 7], NEXT_HOP, &[65002]));
    assert_eq!(lone.cause().code(), "prefix-limit", "{}", lone.cause());
    let text = lone.cause().to_string();
    assert!(text.contains("limit of 3 ipv4-unicast prefixes"), "{text}");
    assert_eq!(
        lone.sent(),
        [Message::Notification(
            Notification::cease(1).with_data(vec![0, 1, 1, 0, 0, 0, 3])
        )]
    );
    let received = lone
        .events
        .iter()
        .filter(|event| matches!(event, Event::Received { .. }));
    assert_eq!(received.count(), 4, "what was too much isn't handed out");
    let status = lone.status();
    assert_eq!(status.state, State::Idle);
    assert!(status.retry_in >= Some(Duration::from_secs(45)));
    assert_eq!(held(&lone), Some((0, 3)));

    lone.reconnect();
    lone.establish();
    lone.receive(update(&[], &[1], NEXT_HOP, &[65002]));
    assert_eq!(held(&lone), Some((1, 3)));
}

#[test]
fn trap_15_our_own_routes_back_and_our_own_next_hop_are_counted_and_no_errors() {
    let mut lone = Lone::new(config());
    lone.connect();
    lone.establish();
    lone.sent();
    lone.receive(update(&[], &[1, 2], NEXT_HOP, &[65002, 65001]));
    assert_eq!(lone.status().update_errors.looped, 2);
    lone.receive(update(&[], &[3], [10, 0, 0, 1], &[65002]));
    assert_eq!(lone.status().update_errors.looped, 3);
    lone.receive(update(&[], &[4], NEXT_HOP, &[65002, 65003]));
    let errors = lone.status().update_errors;
    assert_eq!(
        (
            errors.looped,
            errors.treated_as_withdraw,
            errors.attributes_discarded
        ),
        (3, 0, 0)
    );
    assert_eq!(lone.status().state, State::Established);
    assert_eq!(lone.status().prefix_limit, None);
}

#[test]
fn a_hold_timer_that_expired_while_we_stood_still_is_not_blamed_on_the_peer() {
    let short = PeerConfig {
        timers: Timers {
            hold_time: HoldTime::from_secs(3).unwrap(),
            ..Timers::default()
        },
        ..config()
    };
    // SIGSTOP for ten seconds: the peer has left meanwhile, and that is read before any timer.
    for sent in [false, true] {
        let mut lone = Lone::new(short.clone());
        lone.connect();
        lone.establish();
        lone.sent();
        lone.now += Duration::from_secs(10);
        if sent {
            lone.input(Input::Timeout);
        } else {
            lone.receive(Notification::hold_timer_expired().encode());
        }
        assert_eq!(lone.cause().code(), "stood-still", "{}", lone.cause());
        let (notification, by_us) = lone.cause().notification().unwrap();
        assert_eq!(
            (notification.code, by_us),
            (ErrorCode::HOLD_TIMER_EXPIRED, sent)
        );
        let text = lone.cause().to_string();
        assert!(text.contains("was stalled for"), "{text}");
    }
    // A peer that is silent while we look at every timer in time is to blame.
    let mut lone = Lone::new(short);
    lone.connect();
    lone.establish();
    lone.sent();
    while lone.status().state == State::Established {
        lone.now = lone.speaker.poll_timeout().unwrap();
        lone.input(Input::Timeout);
        lone.sent();
    }
    assert_eq!(lone.cause().code(), "hold-timer-expired");
}

#[test]
fn signatures_that_the_kernel_dropped_while_we_dialled_explain_the_silence() {
    let fail = |password: Option<&str>, drops: Option<Md5Drops>| {
        let mut lone = Lone::new(PeerConfig {
            transport: Transport {
                password: password.map(Secret::new),
                ..Transport::default()
            },
            ..config()
        });
        let connection = lone.connection;
        if let Some(drops) = drops {
            lone.input(Input::Md5Dropped { connection, drops });
        }
        while lone.status().state == State::Connect {
            lone.now = lone.speaker.poll_timeout().unwrap();
            lone.input(Input::Timeout);
        }
        (lone.cause().code(), lone.cause().to_string())
    };
    let drops = Md5Drops::default();
    let wrong = Some(Md5Drops { wrong: 3, ..drops });
    let missing = Some(Md5Drops {
        missing: 1,
        ..drops
    });
    let unexpected = Some(Md5Drops {
        unexpected: 2,
        ..drops
    });
    for (password, drops, code, words) in [
        (
            Some("a"),
            wrong,
            "md5-mismatch",
            "passwords on both sides differ",
        ),
        (
            Some("a"),
            missing,
            "md5-mismatch",
            "the router has no password",
        ),
        (None, unexpected, "md5-mismatch", "none is configured here"),
        // Somebody else's.
        (None, wrong, "connect-timeout", "a firewall"),
        (Some("a"), unexpected, "connect-timeout", "a firewall"),
        (Some("a"), None, "connect-timeout", "a firewall"),
    ] {
        let (got, text) = fail(password, drops);
        assert_eq!(got, code, "{text}");
        assert!(text.contains(words), "{text}");
    }
}
