//! Connection collisions (RFC 4271 §6.8): two speakers dial each other at the same time.

use std::time::Duration;

use crate::harness::{World, peer, seconds};
use ferrolb_bgp::config::GracefulRestart;
use ferrolb_bgp::fsm::{ConnectionId, Event, Input};

/// Two hosts with these router IDs that both dial and listen. The first one dials `head_start`
/// before the second.
fn collide(
    first_id: &str,
    second_id: &str,
    latency: Duration,
    head_start: Duration,
    graceful_restart: Option<GracefulRestart>,
) -> World {
    let mut world = World::new();
    world.latency = latency;
    world.host("10.0.0.1", true);
    world.host("10.0.0.2", true);
    let mut first = peer("b", "10.0.0.2", 65001, 65002);
    let mut second = peer("a", "10.0.0.1", 65002, 65001);
    first.router_id = Some(first_id.parse().unwrap());
    second.router_id = Some(second_id.parse().unwrap());
    for config in [&mut first, &mut second] {
        config.graceful_restart = graceful_restart;
    }
    world.input(0, Input::SetPeer(first));
    world.run(head_start);
    world.input(1, Input::SetPeer(second));
    world
}

#[test]
fn exactly_one_connection_survives_and_it_is_that_of_the_higher_router_id_rfc4271_6_8() {
    for (first, second) in [
        ("9.9.9.9", "10.0.0.9"),
        ("10.0.0.9", "9.9.9.9"),
        ("1.1.1.1", "1.1.1.1"),
    ] {
        let mut world = collide(
            first,
            second,
            Duration::from_millis(5),
            Duration::ZERO,
            None,
        );
        world.run_until(seconds(1), "session established", World::established);
        world.run(seconds(400));
        assert!(world.established());
        for host in 0..2 {
            assert_eq!(world.status(host).established_count, 1, "{first} {second}");
            let down = |(_, event): &(Duration, Event)| matches!(event, Event::Down { .. });
            assert!(
                !world.hosts[host].events.iter().any(down),
                "no session ended"
            );
        }
        // The connection of the lower router ID was closed with Cease 6/7.
        let first_is_higher = (first.parse::<std::net::Ipv4Addr>().unwrap(), 65001)
            > (second.parse().unwrap(), 65002);
        for host in 0..2 {
            let lost: Vec<ConnectionId> = world.hosts[host]
                .events
                .iter()
                .filter_map(|(_, event)| match event {
                    Event::ConnectionClosed { connection, .. } => Some(*connection),
                    _ => None,
                })
                .collect();
            let lost_its_own = matches!(lost[..], [ConnectionId::Dialled(_)]);
            assert_eq!(
                lost_its_own,
                (host == 0) != first_is_higher,
                "{first} {second} {host} {lost:?}"
            );
        }
        let notifications: Vec<_> = (0..2)
            .flat_map(|host| world.hosts[host].notifications_sent())
            .collect();
        assert!(!notifications.is_empty());
        assert!(
            notifications
                .iter()
                .all(|n| (n.code.0, n.subcode) == (6, 7)),
            "{notifications:?}"
        );
    }
}

#[test]
fn a_session_is_established_in_seconds_for_any_timing_of_the_dials() {
    let graceful_restart = GracefulRestart {
        restart_time: 120,
        notification: true,
    };
    let cases = [
        ("9.9.9.9", "10.0.0.9", None),
        ("10.0.0.9", "9.9.9.9", None),
        // A colliding connection is not a restarted peer in the sense of RFC 4724 §4.2.
        ("9.9.9.9", "10.0.0.9", Some(graceful_restart)),
        ("10.0.0.9", "9.9.9.9", Some(graceful_restart)),
    ];
    for head_start in (0..60).map(Duration::from_millis) {
        for (first, second, restart) in cases {
            let latency = Duration::from_millis(10);
            let mut world = collide(first, second, latency, head_start, restart);
            world.run_until(seconds(5), "session established", World::established);
            world.run(seconds(200));
            assert!(world.established());
            assert_eq!(
                world.status(0).established_count,
                1,
                "{head_start:?} {first}"
            );
        }
    }
}

#[test]
fn a_silent_connection_does_not_prevent_the_session() {
    // A connection from the address of the peer that sends nothing.
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.host("10.0.0.2", false);
    world.input(0, Input::SetPeer(peer("b", "10.0.0.2", 65001, 65002)));
    let connection = ConnectionId::Accepted(77);
    let (local, remote) = (
        "10.0.0.1:179".parse().unwrap(),
        "10.0.0.2:555".parse().unwrap(),
    );
    world.input(
        0,
        Input::Accepted {
            connection,
            local,
            remote,
        },
    );
    world.run(seconds(30));
    // The session is established with the next connection of the peer.
    world.input(1, Input::SetPeer(peer("a", "10.0.0.1", 65002, 65001)));
    world.run_until(seconds(5), "session established", World::established);
}
