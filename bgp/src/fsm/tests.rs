//! A snapshot of every input in every state.

use std::fmt::Write;

use ipnet::IpNet;

use super::*;
use crate::config::{PeerConfig, Timers, Transport};
use crate::wire::{
    Asn, DecodeContext, ErrorCode, Family, Framer, Message, Notification, Open, RouteRefresh,
    UpdateBuilder, keepalive,
};

const LOCAL: &str = "10.0.0.1:40000";
const REMOTE: &str = "10.0.0.2:179";
const STATES: [State; 6] = [
    State::Idle,
    State::Active,
    State::Connect,
    State::OpenSent,
    State::OpenConfirm,
    State::Established,
];

fn config() -> PeerConfig {
    PeerConfig::new("tor", REMOTE.parse().unwrap(), Asn(65001), Asn(65002))
}

fn open(asn: u32) -> Bytes {
    let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    Open::new(Asn(asn), 90, Ipv4Addr::new(10, 255, 0, 2), &families).encode()
}

fn broken(kind: u8) -> Bytes {
    let mut octets = keepalive().to_vec();
    octets[18] = kind;
    octets.into()
}

fn update() -> Bytes {
    let mut builder = UpdateBuilder::withdraw(
        Family::IPV4_UNICAST,
        &crate::wire::EncodeContext {
            four_octet_asn: true,
            max_length: 4096,
        },
    )
    .expect("fits");
    assert!(builder.push(&"203.0.113.0/24".parse::<IpNet>().unwrap()));
    builder.finish()
}

struct Machine {
    speaker: Speaker,
    now: Instant,
    connection: ConnectionId,
    log: String,
}

impl Machine {
    fn new() -> Self {
        let router_id_fallback = Ipv4Addr::new(10, 255, 0, 1);
        let mut machine = Self {
            speaker: Speaker::new(SpeakerConfig {
                router_id_fallback,
                seed: 1,
                host_uptime: None,
            }),
            now: Instant::now(),
            connection: ConnectionId::Dialled(0),
            log: String::new(),
        };
        machine.input(Input::SetPeer(config()));
        machine
    }

    fn in_state(state: State) -> Self {
        let mut machine = Self::new();
        match state {
            State::Connect => {}
            State::Active => machine.input(machine.connect_failed()),
            State::Idle => {
                machine.connect();
                machine.receive(Notification::new(ErrorCode::OPEN, 2).encode());
            }
            State::OpenSent => machine.connect(),
            State::OpenConfirm => {
                machine.connect();
                machine.receive(open(65002));
            }
            State::Established => {
                machine.connect();
                machine.receive(open(65002));
                machine.receive(keepalive());
            }
        }
        assert_eq!(machine.state(), Some(state));
        machine.log.clear();
        machine
    }

    fn connect(&mut self) {
        self.input(self.connected());
    }

    fn connected(&self) -> Input {
        Input::Connected {
            connection: self.connection,
            local: LOCAL.parse().unwrap(),
            remote: REMOTE.parse().unwrap(),
        }
    }

    fn connect_failed(&self) -> Input {
        let kind = std::io::ErrorKind::ConnectionRefused;
        let error = IoFailure {
            kind,
            text: "Connection refused".to_owned(),
        };
        Input::ConnectFailed {
            connection: self.connection,
            error,
        }
    }

    fn accepted(&self) -> Input {
        Input::Accepted {
            connection: ConnectionId::Accepted(9),
            local: "10.0.0.1:179".parse().unwrap(),
            remote: "10.0.0.2:50000".parse().unwrap(),
        }
    }

    fn receive(&mut self, octets: Bytes) {
        self.input(Input::Received {
            connection: self.connection,
            octets,
        });
    }

    fn state(&self) -> Option<State> {
        self.speaker.status(self.now).first().map(|peer| peer.state)
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        self.drain();
        for connection in [self.connection, ConnectionId::Accepted(9)] {
            let mut framer = Framer::default();
            while let Some(octets) = self.speaker.poll_transmit(self.now, connection, 4096) {
                framer.push(&octets);
                while let Some(message) = framer.next(&DecodeContext::default()) {
                    self.log(&match message.expect("readable") {
                        Message::Notification(notification) => format!("sends {notification}"),
                        message => format!("sends {}", message.kind()),
                    });
                }
                self.drain();
            }
        }
    }

    /// Advances to the next deadline, and handles it.
    fn expire(&mut self) {
        if let Some(next) = self.speaker.poll_timeout() {
            self.now = self.now.max(next);
        }
        self.input(Input::Timeout);
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            let text = match output {
                Output::Connect { .. } => "dials".to_owned(),
                Output::Listen { .. } => "listens".to_owned(),
                Output::Unlisten { .. } => "stops listening".to_owned(),
                Output::Rekey { .. } => "replaces the key".to_owned(),
                Output::Finish { .. } => "finishes".to_owned(),
                Output::Close { .. } => "closes".to_owned(),
                Output::BfdSet { .. } => "sets BFD up".to_owned(),
                Output::BfdRemove { .. } => "removes BFD".to_owned(),
                Output::BfdAdminDown { .. } => "sends BFD AdminDown".to_owned(),
                Output::Stopped => "stops".to_owned(),
                Output::Event(Event::StateChanged { .. }) => continue,
                Output::Event(Event::Established { .. }) => "UP".to_owned(),
                Output::Event(Event::Down { cause, retry, .. }) => {
                    let short = cause.to_string();
                    let short = short.split(';').next().unwrap_or_default().to_owned();
                    format!(
                        "DOWN {short}, {}",
                        if retry.is_some() { "retry" } else { "no retry" }
                    )
                }
                Output::Event(Event::ConnectionClosed { cause, .. }) => {
                    format!("one of two: {cause}")
                }
                Output::Event(Event::Rejected { reason, .. }) => format!("rejects: {reason}"),
                Output::Event(Event::NoNextHop { family, .. }) => format!("no next hop {family}"),
                Output::Event(Event::Received { .. }) => "passes on the UPDATE".to_owned(),
                Output::Event(Event::UpdateErrors { errors, .. }) => {
                    format!("reports {} errors in an UPDATE", errors.len())
                }
                Output::Event(Event::Bfd { state, reason, .. }) => format!("BFD {state}: {reason}"),
                Output::Event(Event::RouteTooLong { prefix, .. }) => format!("{prefix} too long"),
                Output::Event(Event::CapabilitiesDropped { capabilities, .. }) => {
                    let codes: Vec<u8> = capabilities.iter().map(|c| c.code).collect();
                    format!("drops capabilities {codes:?}")
                }
                Output::Event(Event::UnknownPeer { .. }) => "unknown peer".to_owned(),
                Output::Event(Event::Missed { .. }) => "drops events".to_owned(),
            };
            self.log(&text);
        }
    }

    fn log(&mut self, text: &str) {
        if !self.log.is_empty() {
            self.log.push_str(" | ");
        }
        self.log.push_str(text);
    }
}

type Act = fn(&mut Machine);

const INPUTS: &[(&str, Act)] = &[
    ("the same configuration", |m| {
        m.input(Input::SetPeer(config()))
    }),
    ("another hold time", |m| {
        m.input(Input::SetPeer(PeerConfig {
            timers: Timers {
                hold_time: crate::config::HoldTime::ZERO,
                ..Timers::default()
            },
            ..config()
        }));
    }),
    ("becomes passive", |m| {
        m.input(Input::SetPeer(PeerConfig {
            transport: Transport {
                passive: true,
                ..Transport::default()
            },
            ..config()
        }))
    }),
    ("unusable", |m| {
        let reason = "no key".to_owned();
        m.input(Input::PeerUnusable {
            peer: "tor".to_owned(),
            reason,
        });
    }),
    ("removed", |m| m.input(Input::RemovePeer("tor".to_owned()))),
    ("gate opens", |m| m.input(Input::OpenGate)),
    ("shutdown", |m| {
        m.input(Input::Shutdown {
            text: "maintenance".to_owned(),
            mode: ShutdownMode::Withdraw,
        })
    }),
    ("connected", |m| m.input(m.connected())),
    ("connect failed", |m| m.input(m.connect_failed())),
    ("accepted", |m| m.input(m.accepted())),
    ("accepted, OPEN on it", |m| {
        m.input(m.accepted());
        m.input(Input::Received {
            connection: ConnectionId::Accepted(9),
            octets: open(65002),
        });
    }),
    ("peer closes", |m| {
        m.input(Input::Closed {
            connection: m.connection,
            error: None,
        })
    }),
    ("OPEN", |m| m.receive(open(65002))),
    ("OPEN, wrong AS", |m| m.receive(open(65009))),
    ("KEEPALIVE", |m| m.receive(keepalive())),
    ("UPDATE", |m| m.receive(update())),
    ("NOTIFICATION Cease", |m| {
        m.receive(Notification::cease(4).encode())
    }),
    ("NOTIFICATION version", |m| {
        m.receive(Notification::new(ErrorCode::OPEN, 1).encode())
    }),
    ("NOTIFICATION parameter", |m| {
        m.receive(Notification::new(ErrorCode::OPEN, 4).encode())
    }),
    ("ROUTE-REFRESH", |m| {
        let family = Family::IPV4_UNICAST;
        m.receive(RouteRefresh { family, subtype: 0 }.encode());
    }),
    ("unknown type", |m| m.receive(broken(77))),
    ("short UPDATE", |m| m.receive(broken(2))),
    ("spurious timeout", |m| m.input(Input::Timeout)),
    ("next timer", Machine::expire),
    ("silence for 4 minutes", |m| {
        m.now += Duration::from_secs(240);
        m.input(Input::Timeout);
    }),
];

#[test]
fn every_input_in_every_state() {
    let mut table = String::new();
    for state in STATES {
        writeln!(table, "== {state}").unwrap();
        for (name, act) in INPUTS {
            let mut machine = Machine::in_state(state);
            act(&mut machine);
            let after = machine.state().map_or("gone", State::name);
            let same = if after == state.name() { "." } else { after };
            writeln!(table, "{name:<24} -> {same:<12} {}", machine.log).unwrap();
        }
    }
    let table: String = table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    insta::assert_snapshot!(table);
}
