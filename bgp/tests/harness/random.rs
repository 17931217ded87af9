//! One speaker and arbitrary operations, for property tests and fuzz targets.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrolb_bgp::config::{HoldTime, PeerConfig, Timers, Transport};
use ferrolb_bgp::fsm::{
    ConnectionId, Input, IoFailure, Output, PeerRoutes, ShutdownMode, SpeakerConfig,
};
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::wire::{
    Asn, ErrorCode, Family, MessageType, Notification, Open, RouteRefresh, end_of_rib, keepalive,
};

use super::CheckedSpeaker;

/// The number of peers that operations may name.
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
    /// Operations may follow.
    Shutdown {
        graceful_restart: bool,
    },
    /// `which` selects one of the latest connections, open or closed.
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

/// A speaker that performs operations. The transcript has all its outputs and octets.
pub(crate) struct Run {
    speaker: CheckedSpeaker,
    now: Instant,
    connections: Vec<ConnectionId>,
    accepted: u64,
    pub(crate) transcript: String,
}

impl Run {
    pub(crate) fn new(start: Instant) -> Self {
        let router_id_fallback = Ipv4Addr::new(10, 255, 0, 9);
        Self {
            speaker: CheckedSpeaker::new(SpeakerConfig {
                router_id_fallback,
                seed: 42,
                host_uptime: None,
            }),
            now: start,
            connections: Vec::new(),
            accepted: 0,
            transcript: String::new(),
        }
    }

    fn pick(&self, which: u8) -> ConnectionId {
        // One of the latest six.
        let back = usize::from(which) % self.connections.len().clamp(1, 6);
        self.connections
            .iter()
            .rev()
            .nth(back)
            .copied()
            .unwrap_or(ConnectionId::Dialled(999))
    }

    pub(crate) fn perform(&mut self, op: &Op) {
        let input = match op {
            Op::SetPeer {
                peer,
                hold,
                passive,
            } => Input::SetPeer(config(*peer, *hold, *passive)),
            Op::RemovePeer { peer } => Input::RemovePeer(name(*peer)),
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
            Op::Shutdown { graceful_restart } => Input::Shutdown {
                text: "early".to_owned(),
                mode: if *graceful_restart {
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
                self.connections.push(connection);
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
            Op::Timeout => Input::Timeout,
            Op::Read { which } => return self.read(self.pick(*which)),
        };
        self.input(input);
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        self.drain();
    }

    fn read(&mut self, connection: ConnectionId) {
        for turn in 0.. {
            assert!(turn < 1000, "endless octets");
            let octets = self.speaker.poll_transmit(self.now, connection, 4096);
            let Some(octets) = octets else { break };
            self.transcript
                .push_str(&format!("{connection:?} {octets:?}\n"));
            self.drain();
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            self.transcript.push_str(&format!("{output:?}\n"));
            if let Output::Connect { connection, .. } = output {
                self.connections.push(connection);
            }
        }
        self.speaker.assert_states(self.now);
    }

    /// Shuts the speaker down, and asserts that it stops within 50 timeouts and leaves nothing.
    pub(crate) fn shut_down(&mut self) {
        self.input(Input::Shutdown {
            text: "end".to_owned(),
            mode: ShutdownMode::Withdraw,
        });
        for _ in 0..50 {
            if let Some(at) = self.speaker.poll_timeout() {
                self.now = self.now.max(at);
                self.input(Input::Timeout);
            }
        }
        self.speaker.assert_nothing_left();
    }
}

fn name(peer: u8) -> String {
    format!("peer{peer}")
}

fn config(peer: u8, hold: u8, passive: bool) -> PeerConfig {
    // The last peer has the address of the first one, and conflicts with it.
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

/// An UPDATE: two prefixes, ORIGIN IGP, AS_PATH 65002 in four octets, NEXT_HOP 10.2.0.0.
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
