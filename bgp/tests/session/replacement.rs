//! Replacement of the session of a restarted peer, which connects again while its old session is
//! still established (RFC 4724 §4.2).

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::{World, net, peer, route, routes, seconds, shutdown};
use ferrolb_bgp::config::{GracefulRestart, PeerConfig, Remote, RemoteAsn, Secret};
use ferrolb_bgp::fsm::{
    ConnectionId, Event, Input, JournalEvent, PeerStatus, RejectReason, ShutdownMode, State,
};
use ferrolb_bgp::wire::{Asn, Capability, Family, Message, Open};

/// Enough to establish a session, and much less than a hold time.
const SOON: Duration = Duration::from_secs(3);
/// The age from which on a session may be replaced.
const SETTLED: Duration = Duration::from_secs(6);

fn graceful(config: &mut PeerConfig) {
    config.graceful_restart = Some(GracefulRestart {
        restart_time: 120,
        notification: false,
    });
}

/// The configuration of the router for us.
fn theirs(change: impl Fn(&mut PeerConfig)) -> PeerConfig {
    let mut config = peer("a", "10.0.0.1", 65002, 65001);
    config.receive = true;
    change(&mut config);
    config
}

/// Host 0 announces a route to the router, host 1. One of them dialled.
fn in_session(dialled_by_router: bool, change: impl Fn(&mut PeerConfig)) -> World {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.host("10.0.0.2", true);
    let mut ours = peer("b", "10.0.0.2", 65001, 65002);
    change(&mut ours);
    ours.transport.passive = dialled_by_router;
    let mut router = theirs(change);
    router.transport.passive = !dialled_by_router;
    world.input(0, Input::SetPeer(ours));
    world.input(1, Input::SetPeer(router));
    world.input(0, routes("b", vec![(net("192.0.2.1/32"), route(1))]));
    world.input(0, Input::OpenGate);
    world.run_until(SOON, "session established", World::established);
    world.run(SETTLED);
    assert_eq!(world.hosts[1].table().len(), 1);
    world
}

/// The router loses power, restarts and dials.
fn power_cycle(world: &mut World, change: impl Fn(&mut PeerConfig)) {
    world.power_cycle(1);
    world.input(1, Input::SetPeer(theirs(change)));
}

/// The causes of the ended sessions of host 0.
fn ended(world: &World) -> Vec<&'static str> {
    let events = world.hosts[0].events.iter();
    let ends = events.filter_map(|(_, event)| match event {
        Event::Down {
            cause,
            was_established: true,
            ..
        } => Some(cause.code()),
        _ => None,
    });
    ends.collect()
}

fn rejections(world: &World) -> Vec<RejectReason> {
    let events = world.hosts[0].events.iter();
    let rejections = events.filter_map(|(_, event)| match event {
        Event::Rejected { reason, .. } => Some(*reason),
        _ => None,
    });
    rejections.collect()
}

fn accept(world: &mut World, number: u64, remote: &str) -> ConnectionId {
    let connection = ConnectionId::Accepted(number);
    let (local, remote) = (
        "10.0.0.1:179".parse().unwrap(),
        SocketAddr::new(remote.parse().unwrap(), 50001),
    );
    world.input(
        0,
        Input::Accepted {
            connection,
            local,
            remote,
        },
    );
    connection
}

fn receive(world: &mut World, connection: ConnectionId, octets: bytes::Bytes) {
    world.input(0, Input::Received { connection, octets });
}

fn open(asn: u32) -> bytes::Bytes {
    let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    Open::new(Asn(asn), 90, "10.0.0.2".parse().unwrap(), &families).encode()
}

#[test]
fn a_restarted_peer_with_graceful_restart_replaces_its_session_rfc4724_4_2() {
    for dialled_by_router in [false, true] {
        let mut world = in_session(dialled_by_router, graceful);
        let cycled = world.elapsed();
        power_cycle(&mut world, graceful);
        world.run_until(SOON, "routes received", |world| {
            world.hosts[1].table().len() == 1
        });
        assert!(world.elapsed() - cycled < seconds(90) / 10);
        assert!(world.established());
        assert_eq!(ended(&world), ["replaced-by-peer"]);
        let status = world.status(0);
        assert_eq!(status.established_count, 2);
        assert_eq!(status.last_error.unwrap().cause.code, "replaced-by-peer");
        // RFC 4724 §4.2: the old connection is closed without a NOTIFICATION.
        assert!(world.hosts[0].notifications_sent().is_empty());
        // No timer of the old session ends the new one.
        world.run(seconds(300));
        assert_eq!(world.status(0).established_count, 2);
        assert!(world.established());
    }
}

/// RFC 4724 §4.1: only the router restarted.
#[test]
fn after_a_replacement_we_do_not_set_the_restart_bit_rfc4724_3() {
    let mut world = in_session(false, graceful);
    power_cycle(&mut world, graceful);
    world.run_until(SOON, "session established", World::established);
    let opens = world.hosts[0].sent.iter().filter_map(|(_, message)| {
        let Message::Open(open) = message else {
            return None;
        };
        let restart = open.capabilities.iter().find_map(|c| match c {
            Capability::GracefulRestart(restart) => Some(restart.clone()),
            _ => None,
        });
        Some(restart.unwrap())
    });
    let last = opens.last().unwrap();
    assert!(!last.restarted);
    assert!(last.families.iter().all(|(_, forwarding)| *forwarding));
}

/// RFC 4271 §6.8 applies unless both sides support graceful restart.
#[test]
fn without_graceful_restart_the_session_stays_until_the_hold_timer_expires() {
    for change in [|_: &mut PeerConfig| {}, graceful] {
        let mut world = in_session(true, |_| {});
        // Support of one side only is not enough.
        power_cycle(&mut world, change);
        world.run(seconds(30));
        assert_eq!(world.state(0), State::Established);
        assert_ne!(world.state(1), State::Established);
        assert!(rejections(&world).contains(&RejectReason::SessionExists));
        world.run_until(
            seconds(120),
            "session established again",
            World::established,
        );
        assert_eq!(ended(&world), ["hold-timer-expired"]);
    }
}

#[test]
fn a_connection_without_a_valid_open_replaces_nothing() {
    for dialled_by_router in [false, true] {
        let mut world = in_session(dialled_by_router, graceful);
        for number in 70..80 {
            accept(&mut world, number, "10.0.0.2");
        }
        world.run(seconds(5));
        let wrong_asn = accept(&mut world, 80, "10.0.0.2");
        receive(&mut world, wrong_asn, open(65099));
        let no_bgp = accept(&mut world, 81, "10.0.0.2");
        receive(&mut world, no_bgp, bytes::Bytes::from_static(&[0; 19]));
        let closed = accept(&mut world, 82, "10.0.0.2");
        world.input(
            0,
            Input::Closed {
                connection: closed,
                error: None,
            },
        );
        world.run(seconds(300));
        assert!(world.established());
        assert_eq!(world.status(0).established_count, 1);
        assert!(ended(&world).is_empty());
    }
}

#[test]
fn a_connection_from_an_unknown_address_replaces_nothing() {
    let mut world = in_session(false, graceful);
    let unknown = accept(&mut world, 70, "192.0.2.66");
    receive(&mut world, unknown, open(65002));
    assert_eq!(rejections(&world), [RejectReason::UnknownAddress]);
    world.run(seconds(100));
    assert_eq!(world.status(0).established_count, 1);
}

/// The second connection may be a collision: both ends may have dialled.
#[test]
fn a_session_that_was_just_established_is_not_replaced() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.host("10.0.0.2", true);
    let mut ours = peer("b", "10.0.0.2", 65001, 65002);
    graceful(&mut ours);
    world.input(0, Input::SetPeer(ours));
    let mut router = theirs(graceful);
    router.transport.passive = true;
    world.input(1, Input::SetPeer(router));
    world.run_until(SOON, "session established", World::established);
    let late = accept(&mut world, 70, "10.0.0.2");
    receive(&mut world, late, open(65002));
    assert_eq!(rejections(&world), [RejectReason::SessionExists]);
    world.run(SETTLED);
    assert!(world.established());
}

#[test]
fn a_session_is_not_replaced_during_a_shutdown() {
    let mut world = in_session(false, graceful);
    world.hosts[1].stalled = true;
    let changes = (0..20_000u32).map(|i| net(&format!("10.{}.{}.1/32", i / 250, i % 250)));
    let changes = changes.map(|prefix| (prefix, route(1))).collect();
    world.input(0, routes("b", changes));
    world.input(0, shutdown("", ShutdownMode::Withdraw));
    accept(&mut world, 70, "10.0.0.2");
    assert_eq!(rejections(&world), [RejectReason::SessionExists]);
    world.run(seconds(5));
    assert!(world.hosts[0].speaker.stopped());
}

/// The old connection is closed between the new connection and its OPEN.
#[test]
fn if_the_old_session_ends_first_the_new_connection_continues() {
    for dialled_by_router in [false, true] {
        let mut world = in_session(dialled_by_router, graceful);
        world.power_cycle(1);
        let old = if dialled_by_router {
            ConnectionId::Accepted(0)
        } else {
            ConnectionId::Dialled(0)
        };
        let next = accept(&mut world, 70, "10.0.0.2");
        world.input(
            0,
            Input::Closed {
                connection: old,
                error: None,
            },
        );
        assert_eq!(world.state(0), State::OpenSent);
        assert_eq!(ended(&world), ["closed-without-notification"]);
        receive(&mut world, next, open(65002));
        receive(&mut world, next, ferrolb_bgp::wire::keepalive());
        assert_eq!(world.state(0), State::Established);
    }
}

/// After a protocol error connections of the peer are rejected for some time. This includes one
/// that is waiting.
#[test]
fn if_the_old_session_ends_with_an_error_the_new_connection_is_closed() {
    for dialled_by_router in [false, true] {
        let mut world = in_session(dialled_by_router, graceful);
        accept(&mut world, 70, "10.0.0.2");
        let garbage = bytes::Bytes::from_static(&[0; 19]);
        world.inject(1, garbage);
        world.run(Duration::from_millis(100));
        assert_eq!(world.state(0), State::Idle);
        assert_eq!(ended(&world), ["notification-sent"]);
        world.run_until(seconds(90), "session established again", World::established);
    }
}

#[test]
fn a_changed_password_applies_to_the_session_and_to_the_waiting_connection() {
    let with = |text: &'static str| {
        move |config: &mut PeerConfig| {
            graceful(config);
            config.transport.password = Some(Secret::new(text));
        }
    };
    let mut world = in_session(true, with("old"));
    let next = accept(&mut world, 70, "10.0.0.2");
    let mut ours = peer("b", "10.0.0.2", 65001, 65002);
    with("new")(&mut ours);
    ours.transport.passive = true;
    world.input(0, Input::SetPeer(ours));
    assert_eq!(
        world.hosts[0].rekeyed,
        [ConnectionId::Accepted(0), next],
        "both"
    );
    power_cycle(&mut world, with("new"));
    world.run_until(SOON, "session established", World::established);
    assert_eq!(ended(&world), ["replaced-by-peer"]);
}

#[test]
fn a_dynamic_neighbor_replaces_only_its_own_session() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    let mut template = PeerConfig {
        remote: Remote::Network(net("10.0.0.0/24")),
        remote_asn: RemoteAsn::External,
        ..peer("rack", "10.0.0.0", 65001, 0)
    };
    graceful(&mut template);
    world.input(0, Input::SetPeer(template));
    world.host("10.0.0.2", false);
    world.host("10.0.0.3", false);
    for host in [1, 2] {
        world.input(host, Input::SetPeer(theirs(graceful)));
    }
    let neighbors = |world: &World| -> Vec<PeerStatus> {
        let all = world.hosts[0].speaker.status(world.now()).into_iter();
        all.filter(|status| status.template.is_some()).collect()
    };
    let up = |world: &World| {
        let up = neighbors(world).into_iter();
        up.filter(|status| status.state == State::Established)
            .count()
            == 2
    };
    world.run_until(SOON, "both sessions established", up);
    world.run(SETTLED);
    power_cycle(&mut world, graceful);
    world.run_until(SOON, "session established", |world| {
        world.state(1) == State::Established
    });
    assert!(up(&world));
    let counts: Vec<u64> = neighbors(&world)
        .iter()
        .map(|status| status.established_count)
        .collect();
    assert_eq!(counts, [2, 1]);
    let detail = world.hosts[0].speaker.peer(world.now(), "rack@10.0.0.2");
    let journal = detail.unwrap().journal;
    let replaced = journal.iter().filter(|entry| {
        matches!(&entry.event, JournalEvent::Ended { cause, was_established: true, .. }
            if cause.code == "replaced-by-peer")
    });
    assert_eq!(replaced.count(), 1);
}
