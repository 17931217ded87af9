//! Admission of connections: which peer a connection belongs to, and which are rejected.

use std::net::SocketAddr;
use std::time::Duration;

use ferrolb_bgp::config::{PeerConfig, Remote, RemoteAsn};
use ferrolb_bgp::fsm::{ConnectionId, Event, Input, Output, PeerStatus, RejectReason, State};
use ferrolb_bgp::wire::ErrorCode;

use crate::harness::{World, established_pair, net, passive, peer, seconds};

/// A peer for all routers of a network.
fn template(network: &str) -> PeerConfig {
    PeerConfig {
        remote: Remote::Network(net(network)),
        remote_asn: RemoteAsn::External,
        ..peer("rack", "10.0.0.0", 65001, 0)
    }
}

fn all(world: &World) -> Vec<PeerStatus> {
    world.hosts[0].speaker.status(world.now())
}

fn status(world: &World, name: &str) -> PeerStatus {
    let mut all = all(world).into_iter();
    all.find(|status| status.name == name).unwrap()
}

fn state(world: &World, name: &str) -> State {
    status(world, name).state
}

/// A connection from the address `remote` to the address `local` of the speaker.
fn accepted(number: u64, local: &str, remote: &str) -> Input {
    let end = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
    Input::Accepted {
        connection: ConnectionId::Accepted(number),
        local: end(local, 179),
        remote: end(remote, 50000),
    }
}

#[test]
fn connections_of_established_and_unknown_peers_are_rejected() {
    let mut world = established_pair(|_| {});
    let connection = ConnectionId::Accepted(77);
    let local = "10.0.0.2:179".parse().unwrap();
    for (remote, reason) in [
        ("10.0.0.1:555", RejectReason::SessionExists),
        ("192.0.2.66:555", RejectReason::UnknownAddress),
    ] {
        let remote = remote.parse().unwrap();
        world.input(
            1,
            Input::Accepted {
                connection,
                local,
                remote,
            },
        );
        let reported = world.hosts[1].events.iter().any(|(_, event)| {
            matches!(event, Event::Rejected { remote: r, reason: because }
                if *r == remote && *because == reason)
        });
        assert!(reported, "{reason}");
    }
    world.run(seconds(5));
    assert!(world.established());
}

#[test]
fn a_peer_in_idle_after_an_error_rejects_connections_rfc4271_8_2_2() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.host("10.0.0.2", true);
    let config = passive(peer("a", "10.0.0.1", 65002, 65009));
    world.input(1, Input::SetPeer(config));
    world.input(0, Input::SetPeer(peer("b", "10.0.0.2", 65001, 65002)));
    world.run(Duration::from_millis(100));
    assert_eq!(world.state(1), State::Idle);
    let connection = ConnectionId::Accepted(77);
    let (local, remote) = (
        "10.0.0.2:179".parse().unwrap(),
        "10.0.0.1:555".parse().unwrap(),
    );
    let now = world.now();
    world.hosts[1].speaker.handle(
        now,
        Input::Accepted {
            connection,
            local,
            remote,
        },
    );
    let answer = world.hosts[1]
        .speaker
        .poll_transmit(now, connection, 4096)
        .expect("a Cease");
    assert_eq!(answer[18..], [3, ErrorCode::CEASE.0, 5]);
    world.run(seconds(3));
    assert_ne!(world.hosts[1].causes().len(), 0);
}

#[test]
fn peers_at_one_address_are_distinguished_by_the_local_address() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    for (name, source) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let mut config = passive(peer(name, "10.0.0.9", 65001, 65009));
        config.transport.source_address = Some(source.parse().unwrap());
        world.input(0, Input::SetPeer(config));
    }
    world.input(0, accepted(1, "10.0.0.2", "10.0.0.9"));
    assert_eq!(state(&world, "b"), State::OpenSent);
    assert_eq!(state(&world, "a"), State::Active);
    world.input(0, accepted(2, "10.0.0.1", "10.0.0.9"));
    assert_eq!(state(&world, "a"), State::OpenSent);
    // A connection to an address that neither of them uses.
    world.input(0, accepted(3, "10.0.0.3", "10.0.0.9"));
    assert!(matches!(
        world.hosts[0].events.last(),
        Some((_, Event::Rejected { .. }))
    ));
}

#[test]
fn of_two_peers_with_equal_remote_and_source_the_later_one_is_rejected() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    let with = |name: &str, source: Option<&str>| {
        let mut config = peer(name, "10.0.0.9", 65001, 65009);
        config.transport.source_address = source.map(|source| source.parse().unwrap());
        Input::SetPeer(config)
    };
    world.input(0, with("z-first", None));
    world.input(0, with("a-second", None));
    assert_eq!(state(&world, "z-first"), State::Connect);
    let second = status(&world, "a-second");
    let cause = second.last_error.unwrap().cause;
    assert_eq!((second.state, &*cause.code), (State::Idle, "unusable"));
    assert!(
        cause.text.contains("peer z-first has the same address"),
        "{}",
        cause.text
    );
    // Another port is another router. Another source address is another session.
    let mut other_port = peer("other-port", "10.0.0.9", 65001, 65009);
    other_port.remote = Remote::Router("10.0.0.9:1179".parse().unwrap());
    world.input(0, Input::SetPeer(other_port));
    assert_ne!(state(&world, "other-port"), State::Idle);
    world.input(0, with("a-second", Some("10.0.0.2")));
    assert_ne!(state(&world, "a-second"), State::Idle);
    // The rejected peer starts when the conflicting one is removed.
    world.input(0, with("a-second", None));
    assert_eq!(state(&world, "a-second"), State::Idle);
    world.input(0, Input::RemovePeer("z-first".to_owned()));
    assert_ne!(state(&world, "a-second"), State::Idle);
}

#[test]
fn peers_at_one_address_must_have_the_same_socket_options() {
    let with = |name: &str, ttl: Option<u8>, interface: Option<&str>| {
        let mut config = peer(name, "10.0.0.9", 65001, 65009);
        let source = if name == "a" { "10.0.0.1" } else { "10.0.0.2" };
        config.transport.source_address = Some(source.parse().unwrap());
        config.transport.ttl_security = ttl;
        config.transport.source_interface = interface.map(ToOwned::to_owned);
        Input::SetPeer(config)
    };
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.input(0, with("a", Some(1), Some("eth1")));
    for (ttl, interface, what) in [
        (None, Some("eth1"), "another TTL security"),
        (Some(2), Some("eth1"), "another TTL security"),
        (Some(1), None, "another source interface"),
    ] {
        world.input(0, with("b", ttl, interface));
        let rejected = status(&world, "b");
        assert_eq!(rejected.state, State::Idle);
        let text = rejected.last_error.unwrap().cause.text;
        assert!(text.contains("peer a has the same address"), "{text}");
        assert!(text.contains(what), "{text}");
    }
    world.input(0, with("b", Some(1), Some("eth1")));
    assert_ne!(state(&world, "b"), State::Idle);
    assert_ne!(state(&world, "a"), State::Idle);
}

/// The number of these connections that receive the reason of their rejection. The others are
/// closed at once.
fn notified(world: &mut World, connections: std::ops::Range<u64>, remote: &str) -> usize {
    let now = world.now();
    let notified = connections.filter(|number| {
        let connection = ConnectionId::Accepted(*number);
        let speaker = &mut world.hosts[0].speaker;
        speaker.handle(now, accepted(*number, "10.0.0.1", remote));
        let outputs: Vec<_> = std::iter::from_fn(|| speaker.poll_output()).collect();
        let finishes = |output: &Output| matches!(output, Output::Finish { .. });
        let closes =
            |output: &Output| matches!(output, Output::Close { connection: c } if *c == connection);
        let notified = outputs.iter().any(finishes);
        assert_ne!(notified, outputs.iter().any(closes), "either of them");
        let octets = speaker.poll_transmit(now, connection, 4096);
        assert_eq!(notified, octets.is_some());
        notified
    });
    notified.count()
}

#[test]
fn only_so_many_hear_why_they_are_notified() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.input(0, Input::SetPeer(template("10.0.0.0/24")));
    let reason = "no key".to_owned();
    let peer = "rack".to_owned();
    world.input(0, Input::PeerUnusable { peer, reason });
    assert_eq!(notified(&mut world, 0..10, "10.0.0.1"), 4);
    let others = (10..110).map(|n| notified(&mut world, n..n + 1, &format!("10.0.0.{n}")));
    assert_eq!(others.sum::<usize>(), 60, "64 in total");
    // After they are closed, others receive it.
    world.run(seconds(3));
    assert_eq!(notified(&mut world, 110..120, "10.0.0.1"), 4);
}

#[test]
fn a_peer_that_opens_many_connections_receives_few_notifications() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    let config = passive(peer("a", "10.0.0.9", 65001, 65009));
    world.input(0, Input::SetPeer(config));
    let now = world.now();
    let speaker = &mut world.hosts[0].speaker;
    let mut finished = 0;
    for number in 0..10 {
        speaker.handle(now, accepted(number, "10.0.0.1", "10.0.0.9"));
        let outputs = std::iter::from_fn(|| speaker.poll_output());
        finished += outputs
            .filter(|output| matches!(output, Output::Finish { .. }))
            .count();
    }
    assert_eq!(finished, 4);
    assert_eq!(status(&world, "a").sent.notification, 4);
}

#[test]
fn a_peer_with_our_own_address_is_reported_and_dialled_with_backoff() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.input(0, Input::SetPeer(peer("me", "10.0.0.1", 65001, 65002)));
    world.run(seconds(600));
    let me = status(&world, "me");
    let cause = me.last_error.unwrap().cause;
    assert_eq!(cause.code, "own-address");
    assert!(
        cause.text.contains("we connected to ourselves"),
        "{}",
        cause.text
    );
    assert_eq!(me.established_count, 0);
    let dials = world.hosts[0].dials.len();
    assert!((8..=20).contains(&dials), "{dials} in ten minutes");
    // No dynamic neighbor is created for our own connection.
    world.input(0, Input::SetPeer(template("10.0.0.0/24")));
    world.run(seconds(120));
    assert!(all(&world).iter().all(|status| status.template.is_none()));
}
