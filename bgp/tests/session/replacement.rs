//! A peer that connects again while its session is still considered up (RFC 4724 §4.2).

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::world::{World, net, peer, route, routes, seconds};
use ferrolb_bgp::config::{GracefulRestart, PeerConfig, Remote, RemoteAsn, Secret};
use ferrolb_bgp::fsm::{
    ConnectionId, Event, Input, JournalEvent, PeerStatus, RejectReason, ShutdownMode, State,
};
use ferrolb_bgp::wire::{Asn, Capability, Family, Message, Open};

/// Longer than any connection needs to come up, and far less than a hold time.
const SOON: Duration = Duration::from_secs(3);
/// Sessions are old enough to be replaced after this.
const SETTLED: Duration = Duration::from_secs(6);

fn graceful(config: &mut PeerConfig) {
    config.graceful_restart = Some(GracefulRestart {
        restart_time: 120,
        notification: false,
    });
}

/// The router's view of us.
fn theirs(change: impl Fn(&mut PeerConfig)) -> PeerConfig {
    let mut config = peer("a", "10.0.0.1", 65002, 65001);
    config.receive = true;
    change(&mut config);
    config
}

/// Host 0 announces a route to the router, host 1, in a session that one of them dialled.
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
    world.until(SOON, "a session", World::established);
    world.run(SETTLED);
    assert_eq!(world.hosts[1].table().len(), 1);
    world
}

/// The router loses power, and dials as soon as it is back.
fn power_cycle(world: &mut World, change: impl Fn(&mut PeerConfig)) {
    world.power_cycle(1);
    world.input(1, Input::SetPeer(theirs(change)));
}

/// How sessions of host 0 ended.
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
fn a_restarted_peer_with_graceful_restart_replaces_its_session() {
    for dialled_by_router in [false, true] {
        let mut world = in_session(dialled_by_router, graceful);
        let cycled = world.elapsed();
        power_cycle(&mut world, graceful);
        world.until(SOON, "the routes", |world| {
            world.hosts[1].table().len() == 1
        });
        assert!(world.elapsed() - cycled < seconds(90) / 10);
        assert!(world.established());
        assert_eq!(ended(&world), ["replaced-by-peer"]);
        let status = world.status(0);
        assert_eq!(status.established_count, 2);
        assert_eq!(status.last_error.unwrap().cause.code, "replaced-by-peer");
        // RFC 4724 §4.2: the old connection is simply closed.
        assert!(world.hosts[0].notifications_sent().is_empty());
        // And nothing is left of it that ends the new one at the old one's hold time.
        world.run(seconds(300));
        assert_eq!(world.status(0).established_count, 2);
        assert!(world.established());
    }
}

/// RFC 4724 §4.1: it is the router that restarted.
#[test]
fn a_replaced_session_does_not_make_us_a_restarting_speaker() {
    let mut world = in_session(false, graceful);
    power_cycle(&mut world, graceful);
    world.until(SOON, "a session", World::established);
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

/// RFC 4271 §6.8, where nothing else was agreed.
#[test]
fn without_graceful_restart_the_session_stays_until_the_hold_timer_expires() {
    for change in [|_: &mut PeerConfig| {}, graceful] {
        let mut world = in_session(true, |_| {});
        // Offered by one side only it is not agreed.
        power_cycle(&mut world, change);
        world.run(seconds(30));
        assert_eq!(world.state(0), State::Established);
        assert_ne!(world.state(1), State::Established);
        assert!(rejections(&world).contains(&RejectReason::SessionExists));
        world.until(seconds(120), "a session again", World::established);
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
fn a_stranger_replaces_nothing() {
    let mut world = in_session(false, graceful);
    let stranger = accept(&mut world, 70, "192.0.2.66");
    receive(&mut world, stranger, open(65002));
    assert_eq!(rejections(&world), [RejectReason::UnknownAddress]);
    world.run(seconds(100));
    assert_eq!(world.status(0).established_count, 1);
}

/// Both ends may have dialled for the session that just came up.
#[test]
fn a_session_that_just_came_up_is_not_replaced() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.host("10.0.0.2", true);
    let mut ours = peer("b", "10.0.0.2", 65001, 65002);
    graceful(&mut ours);
    world.input(0, Input::SetPeer(ours));
    let mut router = theirs(graceful);
    router.transport.passive = true;
    world.input(1, Input::SetPeer(router));
    world.until(SOON, "a session", World::established);
    let late = accept(&mut world, 70, "10.0.0.2");
    receive(&mut world, late, open(65002));
    assert_eq!(rejections(&world), [RejectReason::SessionExists]);
    world.run(SETTLED);
    assert!(world.established());
}

#[test]
fn who_leaves_lets_no_session_be_replaced() {
    let mut world = in_session(false, graceful);
    world.hosts[1].deaf = true;
    let changes = (0..20_000u32).map(|i| net(&format!("10.{}.{}.1/32", i / 250, i % 250)));
    let changes = changes.map(|prefix| (prefix, route(1))).collect();
    world.input(0, routes("b", changes));
    let (text, mode) = (String::new(), ShutdownMode::Withdraw);
    world.input(0, Input::Shutdown { text, mode });
    accept(&mut world, 70, "10.0.0.2");
    assert_eq!(rejections(&world), [RejectReason::SessionExists]);
    world.run(seconds(5));
    assert!(world.hosts[0].stopped);
}

/// The old connection's end arrives after all, between the new connection and its OPEN.
#[test]
fn a_session_that_ends_meanwhile_leaves_its_place_to_the_next_connection() {
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

/// After an error in the protocol the peer's own attempts are refused for a while: the one that is there too.
#[test]
fn a_session_that_ends_by_an_error_takes_the_next_connection_with_it() {
    for dialled_by_router in [false, true] {
        let mut world = in_session(dialled_by_router, graceful);
        accept(&mut world, 70, "10.0.0.2");
        let garbage = bytes::Bytes::from_static(&[0; 19]);
        world.inject(1, garbage);
        world.run(Duration::from_millis(100));
        assert_eq!(world.state(0), State::Idle);
        assert_eq!(ended(&world), ["notification-sent"]);
        world.until(seconds(90), "a session again", World::established);
    }
}

#[test]
fn a_password_changes_on_the_session_and_on_the_connection_that_may_replace_it() {
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
    world.until(SOON, "a session", World::established);
    assert_eq!(ended(&world), ["replaced-by-peer"]);
}

#[test]
fn a_dynamic_neighbour_replaces_its_own_session_and_no_other() {
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
    let neighbours = |world: &World| -> Vec<PeerStatus> {
        let all = world.hosts[0].speaker.status(world.now()).into_iter();
        all.filter(|status| status.template.is_some()).collect()
    };
    let up = |world: &World| {
        let up = neighbours(world).into_iter();
        up.filter(|status| status.state == State::Established)
            .count()
            == 2
    };
    world.until(SOON, "both sessions", up);
    world.run(SETTLED);
    power_cycle(&mut world, graceful);
    world.until(SOON, "a session", |world| {
        world.state(1) == State::Established
    });
    assert!(up(&world));
    let counts: Vec<u64> = neighbours(&world)
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
