//! One speaker whose only peer, a router, is the test.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{
    BfdTarget, Cause, ConnectionId, Event, Input, Output, PeerStatus, SpeakerConfig, State,
};
use ferrolb_bgp::wire::{Asn, DecodeContext, Family, Framer, Message, Open, keepalive};

use super::CheckedSpeaker;

const ROUTER_ASN: Asn = Asn(65002);
const FAMILIES: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];

/// The configuration of the router: "tor" at 10.0.0.2 in AS 65002. The speaker is in AS 65001.
pub(crate) fn router() -> PeerConfig {
    let address = "10.0.0.2:179".parse().unwrap();
    PeerConfig::new("tor", address, Asn(65001), ROUTER_ASN)
}

/// The speaker as the router sees it: the test receives its messages and sends it any octets.
pub(crate) struct Router {
    pub(crate) speaker: CheckedSpeaker,
    /// Advanced by the tests. The speaker learns of it with the next input.
    pub(crate) now: Instant,
    /// The latest connection that the speaker dialled.
    pub(crate) dialled: ConnectionId,
    /// The latest connection that the router accepted.
    connection: ConnectionId,
    /// Whether the speaker closes this connection after its last octets.
    pub(crate) finished: bool,
    /// Whether the speaker closed this connection.
    pub(crate) closed: bool,
    pub(crate) events: Vec<Event>,
    /// The requests to BFD, and "stopped".
    pub(crate) bfd_requests: Vec<&'static str>,
    pub(crate) bfd_target: Option<BfdTarget>,
    framer: Framer,
}

impl Router {
    /// A speaker that has just dialled the router.
    pub(crate) fn new(config: PeerConfig) -> Self {
        let mut router = Self {
            speaker: CheckedSpeaker::new(SpeakerConfig {
                router_id_fallback: Ipv4Addr::new(10, 255, 0, 99),
                seed: 7,
                host_uptime: None,
            }),
            now: Instant::now(),
            dialled: ConnectionId::Dialled(0),
            connection: ConnectionId::Dialled(0),
            finished: false,
            closed: false,
            events: Vec::new(),
            bfd_requests: Vec::new(),
            bfd_target: None,
            framer: Framer::default(),
        };
        router.input(Input::SetPeer(config));
        router
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Connect { connection, .. } => self.dialled = connection,
                Output::Event(event) => self.events.push(event),
                Output::Finish { connection } => self.finished |= connection == self.connection,
                Output::Close { connection } => self.closed |= connection == self.connection,
                Output::BfdSet { target, .. } => {
                    self.bfd_requests.push("set");
                    self.bfd_target = Some(target);
                }
                Output::BfdRemove { .. } => self.bfd_requests.push("remove"),
                Output::BfdAdminDown { .. } => self.bfd_requests.push("admin down"),
                Output::Stopped => self.bfd_requests.push("stopped"),
                _ => {}
            }
        }
    }

    /// The messages that the speaker sends if the router reads everything.
    pub(crate) fn sent(&mut self) -> Vec<Message> {
        let context = DecodeContext {
            four_octet_asn: true,
            families: FAMILIES.to_vec(),
            ..DecodeContext::default()
        };
        let mut messages = Vec::new();
        loop {
            let octets = self
                .speaker
                .poll_transmit(self.now, self.connection, 65_535);
            let Some(octets) = octets else { break };
            self.framer.push(&octets);
            while let Some(message) = self.framer.next(&context) {
                messages.push(message.expect("a valid message"));
            }
        }
        self.drain();
        messages
    }

    /// Accepts the connection that the speaker dialled. Returns its OPEN.
    pub(crate) fn connect(&mut self) -> Open {
        self.framer = Framer::default();
        self.connection = self.dialled;
        (self.finished, self.closed) = (false, false);
        self.input(Input::Connected {
            connection: self.connection,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: "10.0.0.2:179".parse().unwrap(),
        });
        match &self.sent()[..] {
            [Message::Open(open)] => open.clone(),
            other => panic!("not one OPEN: {other:?}"),
        }
    }

    /// Advances the time to the next dial, and accepts it. Returns the OPEN of the speaker.
    pub(crate) fn reconnect(&mut self) -> Open {
        let old = self.dialled;
        while self.dialled == old {
            self.now = self.speaker.poll_timeout().unwrap().max(self.now);
            self.input(Input::Timeout);
        }
        self.connect()
    }

    pub(crate) fn receive(&mut self, octets: Bytes) {
        self.input(Input::Received {
            connection: self.connection,
            octets,
        });
    }

    /// Sends an OPEN and a KEEPALIVE.
    pub(crate) fn send_open(&mut self, hold_time: u16) {
        let router_id = Ipv4Addr::new(10, 255, 0, 2);
        self.receive(Open::new(ROUTER_ASN, hold_time, router_id, &FAMILIES).encode());
        self.receive(keepalive());
    }

    /// Establishes a session on the connection, with a hold time of 90 s.
    pub(crate) fn establish(&mut self) {
        self.send_open(90);
        assert_eq!(self.state(), State::Established);
    }

    /// Advances the time by `time`. The router reads, and sends a KEEPALIVE every 10 s.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_secs(10);
            self.receive(keepalive());
            self.input(Input::Timeout);
            self.sent();
        }
    }

    /// Closes the connection.
    pub(crate) fn close(&mut self) {
        let (connection, error) = (self.connection, None);
        self.input(Input::Closed { connection, error });
    }

    pub(crate) fn status(&self) -> PeerStatus {
        self.speaker.status(self.now).pop().unwrap()
    }

    pub(crate) fn state(&self) -> State {
        self.status().state
    }

    /// The time to the next dial.
    pub(crate) fn retry_in(&self) -> Duration {
        self.status().retry_in.expect("a retry")
    }

    /// Why the latest session or connection attempt ended.
    pub(crate) fn cause(&self) -> &Cause {
        let down = self.events.iter().rev().find_map(|event| match event {
            Event::Down { cause, .. } => Some(cause),
            _ => None,
        });
        down.expect("an Event::Down")
    }
}
