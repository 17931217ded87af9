//! The memory that peers and unknown senders can occupy, measured as resident memory of this
//! process. A single test, because others would run in the same process.
#![allow(clippy::unwrap_used)] // a failure fails the test

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use ferrolb_bgp::config::{PeerConfig, Remote, RemoteAsn};
use ferrolb_bgp::fsm::{ConnectionId, Event, Input, Output, Speaker, SpeakerConfig};
use ferrolb_bgp::wire::{Asn, Family, Open, keepalive};

/// Memory of one peer according to docs/announce.md, in octets.
const PEER_MAX: usize = 256 * 1024;
/// Maximum number of dynamic neighbors of a peerNetwork according to docs/announce.md.
const NEIGHBORS: u16 = 256;
/// Memory of a single message and overhead of the memory allocator, in octets.
const TRANSIENT: usize = 8 * 1024 * 1024;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<usize>().unwrap() * 1024
}

/// A message of up to 65,535 octets.
fn message(kind: u8, body: &[u8]) -> Bytes {
    let mut octets = BytesMut::new();
    octets.put_bytes(0xff, 16);
    octets.put_u16(u16::try_from(19 + body.len()).unwrap());
    octets.put_u8(kind);
    octets.put_slice(body);
    octets.freeze()
}

/// An OPEN of 4,096 octets whose text is as long as possible: ADD-PATH with families without a
/// name.
fn open(salt: u32) -> Bytes {
    let plain = Open::new(
        Asn(65002),
        90,
        Ipv4Addr::new(10, 0, 0, 2),
        &[Family::IPV4_UNICAST],
    );
    let plain = plain.encode();
    let mut body = BytesMut::from(&plain[19..28]);
    // Extended optional parameters (RFC 9072).
    let mut capabilities = BytesMut::new();
    // Multiprotocol, four-octet AS, extended messages.
    capabilities.put_slice(&[1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfd, 0xea, 6, 0]);
    let salt = salt.to_be_bytes();
    while capabilities.len() + 2 + 252 + 9 + 3 + 29 <= 4096 {
        capabilities.put_slice(&[69, 252]);
        for entry in 0..63u8 {
            capabilities.put_slice(&[salt[2] | 0x80, salt[3], entry | 0x80, 3]);
        }
    }
    body.put_slice(&[255, 255]);
    body.put_u16(u16::try_from(capabilities.len() + 3).unwrap());
    body.put_u8(2);
    body.put_u16(u16::try_from(capabilities.len()).unwrap());
    body.put_slice(&capabilities);
    message(1, &body)
}

/// An UPDATE of 65,535 octets whose attributes are all malformed and repeated.
fn update(salt: u8) -> Bytes {
    let mut attributes = BytesMut::new();
    // Optional transitive attributes without value, of all types except the multiprotocol ones.
    let types = (1..=255u8).filter(|code| !matches!(code, 14 | 15));
    for code in types.cycle() {
        if attributes.len() + 3 > 65_535 - 19 - 4 - 4 {
            break;
        }
        attributes.put_slice(&[0xc0 ^ (salt & 0x0f), code, 0]);
    }
    let mut body = BytesMut::new();
    body.put_u16(0);
    body.put_u16(u16::try_from(attributes.len()).unwrap());
    body.put_slice(&attributes);
    body.put_slice(&[24, 203, 0, 113]);
    message(2, &body)
}

/// A NOTIFICATION Unsupported Capability that lists as many capabilities as fit into `octets`.
fn notification(salt: u8, octets: usize) -> Bytes {
    let mut body = BytesMut::from(&[2, 7][..]);
    while body.len() + 2 <= octets - 19 {
        body.put_slice(&[200 + salt % 50, 0]);
    }
    message(3, &body)
}

struct Attack {
    speaker: Speaker,
    now: Instant,
    connections: u64,
    sessions: u64,
    lost: u64,
    largest_log: usize,
}

impl Attack {
    fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        while let Some(output) = self.speaker.poll_output() {
            let Output::Event(event) = output else {
                continue;
            };
            match event {
                Event::Established { .. } => self.sessions += 1,
                Event::Down { .. } => self.lost += 1,
                Event::UpdateErrors { errors, .. } => {
                    self.largest_log = self.largest_log.max(errors.join("; ").len());
                }
                _ => {}
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.input(Input::Timeout);
    }

    fn connect(&mut self, remote: IpAddr) -> ConnectionId {
        let connection = ConnectionId::Accepted(self.connections);
        self.connections += 1;
        let port = 1024 + u16::try_from(self.connections % 60_000).unwrap();
        self.input(Input::Accepted {
            connection,
            local: "10.0.0.1:179".parse().unwrap(),
            remote: SocketAddr::new(remote, port),
        });
        while self
            .speaker
            .poll_transmit(self.now, connection, 4096)
            .is_some()
        {}
        connection
    }

    fn send(&mut self, connection: ConnectionId, octets: Bytes) {
        for octets in octets.chunks(4096) {
            let octets = Bytes::copy_from_slice(octets);
            self.input(Input::Received { connection, octets });
        }
    }

    /// A session with erroneous UPDATEs that the peer ends.
    fn session(&mut self, remote: IpAddr, round: u32, updates: u8) {
        let (sessions, lost) = (self.sessions, self.lost);
        let connection = self.connect(remote);
        self.send(connection, open(round));
        self.send(connection, keepalive());
        assert_eq!(self.sessions, sessions + 1, "{remote} {round}");
        for salt in 0..updates {
            self.wait(11);
            self.send(connection, update(salt));
        }
        assert_eq!(self.lost, lost, "{remote} {round}");
        self.send(connection, notification(round.to_be_bytes()[3], 65_535));
        self.input(Input::Closed {
            connection,
            error: None,
        });
    }
}

fn address(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    [10, 0, high + 1, low].into()
}

#[test]
fn the_memory_that_peers_and_unknown_senders_occupy_is_bounded() {
    let mut attack = Attack {
        speaker: Speaker::new(SpeakerConfig {
            router_id_fallback: Ipv4Addr::new(10, 0, 0, 1),
            seed: 1,
            host_uptime: None,
        }),
        now: Instant::now(),
        connections: 0,
        sessions: 0,
        lost: 0,
        largest_log: 0,
    };
    attack.input(Input::SetPeer(PeerConfig {
        remote: Remote::Network("10.0.0.0/16".parse().unwrap()),
        remote_asn: RemoteAsn::External,
        ..PeerConfig::new("rack", "10.0.0.0:0".parse().unwrap(), Asn(65001), Asn(0))
    }));
    attack.input(Input::OpenGate);

    // One peer, one session after another. The first ones fill its journal.
    for round in 0..4 {
        attack.session(address(0), round, 2);
        attack.wait(200);
    }
    let before = resident();
    for round in 4..40 {
        attack.session(address(0), round, 2);
        attack.wait(200);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown <= PEER_MAX, "{grown} octets for one peer");
    assert!(
        attack.largest_log <= 2048,
        "{} octets in one line",
        attack.largest_log
    );

    // All dynamic neighbors that a network may have, and as many that are rejected.
    let before = resident();
    for round in 0..5 {
        for number in 0..NEIGHBORS {
            let updates = u8::from(round == 0 && number % 16 == 0);
            attack.session(address(number), round, updates);
        }
        attack.wait(100);
    }
    // Sessions that stay, each with an incomplete message of maximum length.
    for number in 0..NEIGHBORS {
        let connection = attack.connect(address(number));
        attack.send(connection, open(9));
        attack.send(connection, keepalive());
        attack.send(connection, update(9).slice(..65_000));
    }
    for number in NEIGHBORS..2 * NEIGHBORS {
        for _ in 0..4 {
            let connection = attack.connect(address(number));
            attack.send(connection, open(7));
            attack.send(connection, notification(7, 4096));
        }
    }
    let grown = resident().saturating_sub(before);
    let most = usize::from(NEIGHBORS) * PEER_MAX + TRANSIENT;
    assert!(grown <= most, "{grown} octets for all neighbors");
    assert!(
        grown >= usize::from(NEIGHBORS) * 128 * 1024,
        "{grown} octets: the attack stored nothing, so nothing was measured"
    );
    println!("{} KiB for each neighbor", grown / 1024 / 256);

    // Connections from addresses that belong to no peer.
    attack.wait(10);
    let before = resident();
    for number in 0..5_000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let connection = attack.connect([192, a, b, c].into());
        attack.send(connection, open(number));
    }
    let grown = resident().saturating_sub(before);
    assert!(grown <= PEER_MAX, "{grown} octets for unknown senders");
}
