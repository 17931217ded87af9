//! The recorded cases, and the speaker that they are sent to.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{
    ConnectionId, Event, Input, Output, PeerRoutes, Speaker, SpeakerConfig, State,
};
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::wire::{
    Asn, DecodeContext, Framer, Message, Notification, Treatment, Update, keepalive,
};
use ipnet::IpNet;

const ID: ConnectionId = ConnectionId::Dialled(0);
/// The prefix that every UPDATE case announces or withdraws. It is announced correctly before.
const P: &str = "198.51.1.0/24";
const ANNOUNCE_P: &str = "0000 0014 4001010040020602010000fde94003040a630101 18c63301";
/// Announced afterwards, to check that the session is still up.
const SENTINEL: &str = "198.51.100.0/24";
const ANNOUNCE_SENTINEL: &str = "0000 0014 4001010040020602010000fde94003040a630101 18c63364";
/// The injector's OPEN: AS 65001, both families, route refresh, graceful restart.
const OPEN: &str = "04fde9005a0aff00011a0218010400010001010400020001020041040000fde940020078";

/// A line of the fixture.
pub(super) struct Case {
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    message_type: &'static str,
    body: &'static str,
    pub(super) ours: &'static str,
    pub(super) why: &'static str,
    pub(super) rfc: &'static str,
    /// BIRD, FRR, GoBGP, OpenBGPD.
    pub(super) engines: [&'static str; 4],
}

/// All cases in order.
pub(super) fn cases() -> Vec<Case> {
    let lines = include_str!("../fixtures/wire_cases.tsv").lines().skip(1);
    let case = |line: &'static str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [
            kind,
            name,
            message_type,
            body,
            ours,
            why,
            rfc,
            bird,
            frr,
            gobgp,
            openbgpd,
        ] = columns[..]
        else {
            panic!("not eleven columns: {line}");
        };
        Case {
            kind,
            name,
            message_type,
            body,
            ours,
            why,
            rfc,
            engines: [bird, frr, gobgp, openbgpd],
        }
    };
    let cases: Vec<Case> = lines.map(case).collect();
    assert_eq!(cases.len(), 146);
    cases
}

impl Case {
    /// The whole message.
    pub(super) fn message(&self) -> Vec<u8> {
        match self.kind {
            "HEADER" => octets(self.body),
            _ => message(self.message_type, self.body),
        }
    }
}

fn octets(text: &str) -> Vec<u8> {
    let group = |group: &str| {
        let (hex, times) = match group.split_once('*') {
            Some((hex, times)) => (hex, times.parse().unwrap()),
            None => (group, 1),
        };
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len())
            .step_by(2)
            .map(digit)
            .collect::<Vec<u8>>()
            .repeat(times)
    };
    text.split_whitespace().flat_map(group).collect()
}

/// A message with a valid header.
pub(super) fn message(message_type: &str, body: &str) -> Vec<u8> {
    let body = octets(body);
    let length = u16::try_from(19 + body.len()).unwrap();
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.extend(octets(message_type));
    message.extend(body);
    message
}

/// A speaker of AS 65002 at 10.99.1.2 whose only peer is the injector, AS 65001 at 10.99.1.1.
struct Lone {
    speaker: Speaker,
    now: Instant,
    framer: Framer,
    updates: Vec<Update>,
    /// The prefixes received and not withdrawn.
    received: BTreeSet<IpNet>,
    closed: bool,
}

impl Lone {
    /// A connected speaker that has sent its OPEN.
    fn new() -> Self {
        let router_id_fallback = [10, 255, 0, 2].into();
        let mut lone = Self {
            speaker: Speaker::new(SpeakerConfig {
                router_id_fallback,
                seed: 7,
                host_uptime: None,
            }),
            now: Instant::now(),
            framer: Framer::default(),
            updates: Vec::new(),
            received: BTreeSet::new(),
            closed: false,
        };
        let remote = "10.99.1.1:179".parse().unwrap();
        lone.input(Input::SetPeer(PeerConfig {
            receive: true,
            router_id: Some(router_id_fallback),
            ..PeerConfig::new("injector", remote, Asn(65002), Asn(65001))
        }));
        let route = Some(Arc::new(RouteAttributes::default()));
        lone.input(Input::Routes(vec![PeerRoutes {
            peer: "injector".to_owned(),
            changes: vec![("192.0.2.1/32".parse().unwrap(), route)],
        }]));
        lone.input(Input::OpenGate);
        lone.input(Input::Connected {
            connection: ID,
            local: "10.99.1.2:40000".parse().unwrap(),
            remote,
        });
        assert!(matches!(lone.sent()[..], [Message::Open(_)]));
        lone
    }

    /// An Established session: our route is announced, P is received.
    fn established() -> Self {
        let mut lone = Self::new();
        lone.receive(message("01", OPEN));
        lone.receive(keepalive().to_vec());
        lone.receive(message("02", ANNOUNCE_P));
        assert!(lone.is_established() && lone.has(P));
        assert!(!lone.sent().is_empty(), "our route is announced");
        lone.updates.clear();
        lone
    }

    fn is_established(&self) -> bool {
        self.speaker.status(self.now)[0].state == State::Established
    }

    fn has(&self, prefix: &str) -> bool {
        self.received.contains(&prefix.parse().unwrap())
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Event(Event::Received { update, .. }) => {
                    for prefix in update.withdrawn_prefixes() {
                        self.received.remove(&prefix);
                    }
                    self.received.extend(update.announced());
                    self.updates.push(*update);
                }
                Output::Finish { connection } | Output::Close { connection }
                    if connection == ID =>
                {
                    self.closed = true;
                }
                _ => {}
            }
        }
    }

    fn receive(&mut self, octets: Vec<u8>) {
        self.input(Input::Received {
            connection: ID,
            octets: Bytes::from(octets),
        });
    }

    /// The messages that it sends if the socket accepts everything.
    fn sent(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(octets) = self.speaker.poll_transmit(self.now, ID, 65536) {
            self.framer.push(&octets);
            let context = DecodeContext {
                four_octet_asn: true,
                ..DecodeContext::default()
            };
            while let Some(message) = self.framer.next(&context) {
                messages.push(message.expect("we send valid messages"));
            }
        }
        self.drain();
        messages
    }

    /// Whether the session still accepts routes.
    fn accepts_the_sentinel(&mut self) -> bool {
        self.receive(message("02", ANNOUNCE_SENTINEL));
        self.is_established() && self.has(SENTINEL)
    }
}

fn notification_text(notification: &Notification) -> String {
    let mut text = format!("{}/{}", notification.code.0, notification.subcode);
    if !notification.data.is_empty() {
        text.push(' ');
    }
    for octet in &notification.data {
        write!(text, "{octet:02x}").unwrap();
    }
    text
}

/// The reaction of the speaker to a case, as written in the fixture.
pub(super) fn reaction(case: &Case) -> String {
    let mut lone = match case.kind {
        "OPEN" => Lone::new(),
        _ => Lone::established(),
    };
    lone.receive(case.message());
    let sent = lone.sent();
    if let [Message::Notification(notification)] = &sent[..] {
        assert!(lone.closed, "{}", case.name);
        return notification_text(notification);
    }
    assert!(!lone.closed, "{}: closed without a NOTIFICATION", case.name);
    if case.kind == "OPEN" {
        assert_eq!(sent, [Message::Keepalive], "{}", case.name);
        return "ok".to_owned();
    }
    let update = lone.updates.pop();
    let p_stays = lone.has(P);
    assert!(lone.accepts_the_sentinel(), "{}", case.name);
    let Some(update) = update else {
        let again = sent
            .iter()
            .any(|message| matches!(message, Message::Update(_)));
        return if again { "advertised again" } else { "ignored" }.to_owned();
    };
    assert_eq!(update.errors.is_empty(), update.malformed.is_none());
    assert_eq!(update.end_of_rib(), None, "{}", case.name);
    let word = match update.treatment() {
        None => "keep",
        Some(Treatment::Discard) => "discard",
        Some(Treatment::TreatAsWithdraw) => "TaW",
    };
    let p: IpNet = P.parse().unwrap();
    let withdrawn = update.withdrawn_prefixes().any(|prefix| prefix == p);
    assert_eq!(p_stays, !withdrawn, "{}", case.name);
    word.to_owned()
}
