//! One machine driven by hand: whatever goes in, it has to keep its side of the poll contract.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrolb_bgp::config::{HoldTime, PeerConfig, Timers, Transport};
use ferrolb_bgp::fsm::{
    ConnectionId, Event, Input, IoFailure, Output, PeerRoutes, ShutdownMode, Speaker,
    SpeakerConfig, State,
};
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::wire::{
    Asn, ErrorCode, Family, MessageType, Notification, Open, RouteRefresh, end_of_rib, keepalive,
};

/// Peers there may be, by number.
pub(crate) const PEERS: u8 = 4;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    SetPeer {
        peer: u8,
        hold: u8,
        passive: bool,
    },
    RemovePeer {
        peer: u8,
    },
    Routes {
        peer: u8,
        prefix: u8,
        announce: bool,
    },
    OpenGate,
    /// The end may come before the last input does.
    Shutdown {
        preserve: bool,
    },
    /// Connections are chosen among those that ever were, closed ones too.
    Connected {
        which: u8,
    },
    ConnectFailed {
        which: u8,
    },
    Accepted {
        from: u8,
    },
    Message {
        which: u8,
        kind: u8,
    },
    Noise {
        which: u8,
        octets: Vec<u8>,
    },
    Closed {
        which: u8,
    },
    Wait {
        millis: u32,
    },
    Timeout,
    Read {
        which: u8,
    },
}

/// Asserts after every step; the transcript holds whatever came out.
pub(crate) struct Run {
    pub speaker: Speaker,
    pub now: Instant,
    seen: Vec<ConnectionId>,
    closed: BTreeSet<ConnectionId>,
    states: BTreeMap<String, State>,
    accepted: u64,
    stopped: bool,
    pub transcript: String,
}

impl Run {
    pub(crate) fn new(start: Instant) -> Self {
        let router_id_fallback = Ipv4Addr::new(10, 255, 0, 9);
        Self {
            speaker: Speaker::new(SpeakerConfig {
                router_id_fallback,
                seed: 42,
                host_uptime: None,
            }),
            now: start,
            seen: Vec::new(),
            closed: BTreeSet::new(),
            states: BTreeMap::new(),
            accepted: 0,
            stopped: false,
            transcript: String::new(),
        }
    }

    fn pick(&self, which: u8) -> ConnectionId {
        // The latest ones are the interesting ones.
        let back = usize::from(which) % self.seen.len().clamp(1, 6);
        self.seen
            .iter()
            .rev()
            .nth(back)
            .copied()
            .unwrap_or(ConnectionId::Dialled(999))
    }

    pub(crate) fn act(&mut self, op: &Op) {
        let input = match op {
            Op::SetPeer {
                peer,
                hold,
                passive,
            } => Input::SetPeer(config(*peer, *hold, *passive)),
            Op::RemovePeer { peer } => {
                self.input(Input::RemovePeer(name(*peer)));
                self.states.remove(&name(*peer));
                return;
            }
            Op::Routes {
                peer,
                prefix,
                announce,
            } => {
                let route = announce.then(|| Arc::new(RouteAttributes::default()));
                let changes = vec![(format!("10.0.0.{prefix}/32").parse().unwrap(), route)];
                Input::Routes(vec![PeerRoutes {
                    peer: name(*peer),
                    changes,
                }])
            }
            Op::OpenGate => Input::OpenGate,
            Op::Shutdown { preserve } => Input::Shutdown {
                text: "early".to_owned(),
                mode: if *preserve {
                    ShutdownMode::GracefulRestart
                } else {
                    ShutdownMode::Withdraw
                },
            },
            Op::Connected { which } => Input::Connected {
                connection: self.pick(*which),
                local: "10.1.0.1:40000".parse().unwrap(),
                remote: "10.2.0.0:179".parse().unwrap(),
            },
            Op::ConnectFailed { which } => {
                let error = IoFailure {
                    kind: std::io::ErrorKind::TimedOut,
                    text: "timed out".to_owned(),
                };
                Input::ConnectFailed {
                    connection: self.pick(*which),
                    error,
                }
            }
            Op::Accepted { from } => {
                let connection = ConnectionId::Accepted(self.accepted);
                self.accepted += 1;
                self.seen.push(connection);
                Input::Accepted {
                    connection,
                    local: "10.1.0.1:179".parse().unwrap(),
                    remote: format!("10.2.0.{from}:50000").parse().unwrap(),
                }
            }
            Op::Message { which, kind } => Input::Received {
                connection: self.pick(*which),
                octets: message(*kind),
            },
            Op::Noise { which, octets } => Input::Received {
                connection: self.pick(*which),
                octets: Bytes::copy_from_slice(octets),
            },
            Op::Closed { which } => Input::Closed {
                connection: self.pick(*which),
                error: None,
            },
            Op::Wait { millis } => {
                self.now += Duration::from_millis((*millis).into());
                return;
            }
            Op::Timeout => return self.timeout(),
            Op::Read { which } => return self.read(self.pick(*which)),
        };
        self.input(input);
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        self.drain();
    }

    pub(crate) fn timeout(&mut self) {
        self.input(Input::Timeout);
        let next = self.speaker.poll_timeout();
        assert!(
            next.is_none_or(|at| at > self.now),
            "a timer that stays due"
        );
    }

    pub(crate) fn read(&mut self, connection: ConnectionId) {
        for turn in 0.. {
            assert!(turn < 1000, "endless octets");
            let Some(octets) = self.speaker.poll_transmit(self.now, connection, 4096) else {
                break;
            };
            assert!(
                !self.closed.contains(&connection),
                "octets for a closed connection"
            );
            assert!(octets.len() <= 4096);
            self.transcript
                .push_str(&format!("{connection:?} {octets:?}\n"));
            self.drain();
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            self.transcript.push_str(&format!("{output:?}\n"));
            match output {
                Output::Connect { connection, .. } => {
                    assert!(!self.seen.contains(&connection), "a number used twice");
                    self.seen.push(connection);
                }
                Output::Close { connection } => {
                    assert!(self.seen.contains(&connection));
                    assert!(
                        self.closed.insert(connection),
                        "closed twice: {connection:?}"
                    );
                }
                Output::Event(Event::StateChanged { peer, from, to }) => {
                    let before = self.states.insert(peer, to).unwrap_or_default();
                    assert_eq!(before, from);
                    assert_ne!(from, to);
                }
                Output::Stopped => self.stopped = true,
                _ => {}
            }
        }
        for peer in self.speaker.status(self.now) {
            assert_eq!(
                peer.state,
                self.states.get(&peer.name).copied().unwrap_or_default()
            );
        }
    }

    /// Ends it: in a few seconds, whatever the state, nothing is left.
    pub(crate) fn shut_down(&mut self) {
        self.input(Input::Shutdown {
            text: "end".to_owned(),
            mode: ShutdownMode::Withdraw,
        });
        for _ in 0..50 {
            if let Some(at) = self.speaker.poll_timeout() {
                self.now = self.now.max(at);
                self.timeout();
            }
        }
        assert!(self.stopped);
        assert_eq!(self.speaker.poll_timeout(), None);
        let left: Vec<_> = self
            .seen
            .iter()
            .filter(|id| !self.closed.contains(id))
            .collect();
        assert!(left.is_empty(), "never closed: {left:?}");
    }
}

fn name(peer: u8) -> String {
    format!("peer{peer}")
}

fn config(peer: u8, hold: u8, passive: bool) -> PeerConfig {
    // The last one wants to be where the first one is.
    let address = format!("10.2.0.{}:179", peer % (PEERS - 1));
    let address = address.parse().unwrap();
    PeerConfig {
        timers: Timers {
            hold_time: HoldTime::from_secs([0, 3, 9, 90][usize::from(hold)]).unwrap(),
            ..Timers::default()
        },
        transport: Transport {
            passive,
            ..Transport::default()
        },
        receive: hold == 1,
        prefix_limit: (hold == 2).then_some(1),
        ..PeerConfig::new(name(peer), address, Asn(65001), Asn(65002))
    }
}

fn message(kind: u8) -> Bytes {
    let families = [Family::IPV4_UNICAST];
    match kind {
        0 | 1 => Open::new(Asn(65002), 9, Ipv4Addr::new(9, 9, 9, 9), &families).encode(),
        2..=4 => keepalive(),
        5 => end_of_rib(Family::IPV4_UNICAST),
        6 => RouteRefresh {
            family: Family::IPV4_UNICAST,
            subtype: 0,
        }
        .encode(),
        7 => Notification::cease(4).encode(),
        8 => Notification::new(ErrorCode::OPEN, 2).encode(),
        9 => Notification::new(ErrorCode::OPEN, 4).encode(),
        10 => Notification::new(ErrorCode::OPEN, 7)
            .with_data(vec![1, 4, 0, 2, 0, 1])
            .encode(),
        _ => announcement(),
    }
}

/// Two prefixes, ORIGIN IGP, AS_PATH 65002 with four octets, NEXT_HOP 10.2.0.0.
fn announcement() -> Bytes {
    let attributes = [
        0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xea, 0x40, 3, 4, 10, 2, 0, 0,
    ];
    let nlri = [32, 198, 51, 100, 1, 32, 198, 51, 100, 2];
    let header = [0, 53, MessageType::UPDATE.0, 0, 0, 0, 20];
    [&[0xff; 16], &header[..], &attributes, &nlri]
        .concat()
        .into()
}
