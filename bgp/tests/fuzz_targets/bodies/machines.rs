//! Targets of the state machines: one speaker with any inputs, and BFD with any packets.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrolb_bgp::bfd::{
    Arrival, Bfd, Hops, Input as BfdInput, Interval, Packet, Path, SessionConfig, State, Timers,
};
use ferrolb_bgp::fsm::Input;
use ferrolb_bgp::wire::{DecodeContext, Message};

use super::codec::message;
use super::harness::random::{Op, PEERS, Run};
use super::harness::{hold_time, net, pair, route, routes, seconds};
use super::octets::Octets;

/// Any sequence of inputs: the speaker obeys the poll contract, and a second run is equal.
pub fn fsm_events(data: &[u8]) {
    let start = Instant::now();
    let run = || {
        let mut octets = Octets(data);
        let mut run = Run::new(start);
        while !octets.is_empty() {
            run.perform(&op(&mut octets));
        }
        run.shut_down();
        run.transcript
    };
    assert_eq!(run(), run(), "two runs of the same input differ");
}

/// An operation of at most two octets, except noise, so that a short input has many operations.
fn op(octets: &mut Octets<'_>) -> Op {
    let choice = octets.octet();
    let (peer, which) = (choice / 13 % PEERS, choice / 13 % 6);
    match choice % 13 {
        0 => Op::Message {
            which,
            kind: octets.octet() % 12,
        },
        1 => Op::Read { which },
        2 => Op::Wait {
            millis: u32::from(octets.octet()) * 400,
        },
        3 => Op::Timeout,
        4 => Op::SetPeer {
            peer,
            hold: octets.octet() % 4,
            passive: choice & 0x80 != 0,
        },
        5 => Op::RemovePeer { peer },
        6 => Op::Routes {
            peer,
            prefix: octets.octet() % 20,
            announce: choice & 0x80 == 0,
        },
        7 if which == 5 => Op::Shutdown {
            graceful_restart: choice & 0x80 != 0,
        },
        7 => Op::OpenGate,
        8 => Op::Connected { which },
        9 => Op::ConnectFailed { which },
        10 => Op::Accepted { from: which % 4 },
        11 => {
            let length = octets.octet().into();
            Op::Noise {
                which,
                octets: octets.take(length).to_vec(),
            }
        }
        _ => Op::Closed { which },
    }
}

/// ROUTE-REFRESH bodies of four octets: the encoding equals the input. The session remains
/// established, sends a bounded number of octets, and the peer keeps all routes.
pub fn route_refresh(data: &[u8]) {
    let context = DecodeContext::default();
    let mut world = pair(hold_time(90));
    let prefixes: Vec<_> = (0..20u8)
        .map(|low| net(&format!("192.0.2.{low}/32")))
        .collect();
    let changes = prefixes.iter().map(|prefix| (*prefix, route(1))).collect();
    world.input(0, routes("b", changes));
    world.input(0, Input::OpenGate);
    world.run_until(seconds(10), "session established", |world| {
        world.established()
    });
    world.run(seconds(1));
    let before = world.hosts[0].octets_sent;
    let mut sent = 0;
    for body in data.chunks(4).take(64) {
        let octets = message(5, body);
        let decoded = Message::decode(&octets, &context);
        match decoded {
            Some(Ok(Message::RouteRefresh(refresh))) => assert_eq!(refresh.encode(), octets),
            Some(Err(_)) => assert_ne!(body.len(), 4),
            other => panic!("a ROUTE-REFRESH was decoded as {other:?}"),
        }
        if body.len() == 4 {
            sent += octets.len();
            world.inject(1, Bytes::from(octets));
        }
    }
    world.run(seconds(2));
    assert!(world.established(), "a ROUTE-REFRESH ended the session");
    let answered = world.hosts[0].octets_sent - before;
    // 43 octets and 5 per prefix, in addition to RFC 7313 markers and KEEPALIVEs.
    assert!(answered <= 1000 + 16 * sent, "{answered} octets for {sent}");
    assert!(
        prefixes
            .iter()
            .all(|prefix| world.hosts[1].table().contains_key(prefix))
    );
}

/// BFD packets of up to 48 octets, each preceded by the time since the last one: the session
/// follows the state machine, does not send too often, and ignores invalid packets.
pub fn bfd_packet(data: &[u8]) {
    let mut octets = Octets(data);
    let mut now = Instant::now();
    let mut bfd = Bfd::new(7);
    let path = Path {
        remote: [10, 0, 0, 2].into(),
        local: None,
        interface: None,
        hops: Hops::Single,
    };
    let timers = Timers {
        desired_min_tx: Interval::from_millis(50),
        required_min_rx: Interval::from_millis(50),
        detect_mult: NonZeroU8::MIN,
    };
    let config = SessionConfig {
        timers,
        ..SessionConfig::default()
    };
    bfd.handle(now, BfdInput::Set { path, config });
    let mut state = State::Down;
    while !octets.is_empty() {
        let choice = octets.octet();
        now += Duration::from_millis(u64::from(choice & 0x3f) * 4);
        settle(&mut bfd, now, &mut state);
        let length = usize::from(octets.octet()) % 49;
        let mut packet = octets.take(length).to_vec();
        let ours = bfd.status().next().map_or(0, |status| status.discriminator);
        // The input can't guess our discriminator, so a bit inserts it.
        if choice & 0x40 != 0
            && let Some(your) = packet.get_mut(8..12)
        {
            your.copy_from_slice(&ours.to_be_bytes());
        }
        check_packet(&packet);
        let arrival = Arrival {
            remote: path.remote,
            local: [10, 0, 0, 1].into(),
            interface: 1,
            hops: Hops::Single,
            ttl: if choice & 0x80 == 0 { 255 } else { 254 },
            octets: &packet,
        };
        let counted = |bfd: &Bfd| bfd.status().next().map(|status| status.received);
        let before = counted(&bfd);
        bfd.handle(now, BfdInput::Received(arrival));
        if arrival.ttl < 255 || Packet::decode(&packet).is_err() {
            assert_eq!(counted(&bfd), before, "an invalid packet was counted");
        }
        settle(&mut bfd, now, &mut state);
    }
    // The longest detection time expires without a packet.
    now += Duration::from_secs(5000 * 255);
    settle(&mut bfd, now, &mut state);
    assert_ne!(state, State::Up);
}

/// Polls as the driver does after each input, and checks the outputs.
fn settle(bfd: &mut Bfd, now: Instant, state: &mut State) {
    bfd.handle(now, BfdInput::Timeout);
    let mut sent = 0;
    while let Some(transmit) = bfd.poll_transmit(now) {
        sent += 1;
        assert!(sent <= 2, "a burst of packets");
        let packet = Packet::decode(&transmit.octets).expect("a valid packet");
        assert_eq!(packet.encode(), transmit.octets);
    }
    while let Some(change) = bfd.poll_output() {
        assert_eq!(change.from, *state);
        assert_ne!(change.to, *state);
        *state = change.to;
    }
    let due = bfd.poll_timeout();
    assert!(due.is_none_or(|due| due > now), "a timer remains due");
}

/// A decoded packet equals the one decoded from its encoding, without authentication, which is
/// never sent.
fn check_packet(octets: &[u8]) {
    match Packet::decode(octets) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(packet) => {
            let plain = Packet {
                authentication: None,
                ..packet
            };
            assert_eq!(Packet::decode(&packet.encode()), Ok(plain));
            assert_eq!(packet.authentication.is_some(), octets[1] & 4 != 0);
        }
    }
}
