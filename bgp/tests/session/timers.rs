//! Traps that other speakers are known to have walked into, where no other test is about them.

use std::net::Ipv4Addr;

use crate::harness::world::{World, hold, net, pair, peer, route, routes, seconds};
use ferrolb_bgp::config::{PeerConfig, Transport};
use ferrolb_bgp::fsm::{ConnectionId, Input, State, TcpOptions};
use ferrolb_bgp::wire::{Asn, Family, Message, Open, keepalive};

#[test]
fn trap_3_a_passive_peer_is_never_dialled_and_stays_active() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.host("10.0.0.2", true);
    let passive = PeerConfig {
        transport: Transport {
            passive: true,
            ..Transport::default()
        },
        ..peer("b", "10.0.0.2", 65001, 65002)
    };
    world.input(0, Input::SetPeer(passive));
    for _ in 0..20 {
        world.run(seconds(60));
        assert_eq!(world.state(0), State::Active);
    }
    assert_eq!(world.hosts[0].dials, []);
    assert_eq!(world.status(0).retry_in, None);

    world.input(1, Input::SetPeer(peer("a", "10.0.0.1", 65002, 65001)));
    world.until(seconds(5), "session up", World::established);
    assert_eq!(world.hosts[0].dials, []);
}

#[test]
fn trap_5_a_keepalive_with_hold_time_zero_is_taken_and_starts_no_timer() {
    let mut world = pair(hold(0));
    world.until(seconds(2), "session up", World::established);
    world.run(seconds(5));
    let before = world.status(0).received.keepalive;
    world.inject(1, keepalive());
    world.run(seconds(1));
    assert_eq!(world.status(0).received.keepalive, before + 1);
    assert_eq!(world.hosts[0].speaker.poll_timeout(), None);
    world.run(seconds(3600));
    assert!(world.established());
    assert_eq!(world.status(0).established_count, 1);
}

/// Until then the peer has to say something: else the connection would stay for ever.
#[test]
fn trap_5_with_hold_time_zero_a_peer_that_never_confirms_is_given_up() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.host("10.0.0.2", false);
    let mut passive = peer("b", "10.0.0.2", 65001, 65002);
    passive.transport.passive = true;
    world.input(0, Input::SetPeer(passive));
    world.silent_connection(1, 0);
    let families = [Family::IPV4_UNICAST];
    let open = Open::new(Asn(65002), 0, Ipv4Addr::new(10, 0, 0, 2), &families);
    let input = Input::Received {
        connection: ConnectionId::Accepted(0),
        octets: open.encode(),
    };
    world.input(0, input);
    world.run(seconds(85));
    assert_eq!(world.state(0), State::OpenConfirm);
    world.run(seconds(10));
    assert_ne!(world.state(0), State::OpenConfirm);
    let last = world.status(0).last_error.expect("it was given up");
    assert_eq!(last.cause.code, "hold-timer-expired");
}

#[test]
fn trap_7_under_a_stream_of_updates_no_keepalive_is_needed() {
    let mut world = pair(hold(9));
    world.input(0, Input::OpenGate);
    world.until(seconds(2), "session up", World::established);
    let begin = world.elapsed();
    for turn in 0..60u32 {
        let changes = vec![(net("203.0.113.0/24"), route(turn))];
        world.input(0, routes("b", changes));
        world.run(seconds(1));
    }
    let since = |kind: fn(&Message) -> bool| {
        let sent = world.hosts[0].sent.iter();
        sent.filter(|(at, message)| *at >= begin && kind(message))
            .count()
    };
    assert!(since(|m| matches!(m, Message::Update(_))) >= 60);
    let keepalives = since(|m| matches!(m, Message::Keepalive));
    assert!(keepalives <= 2, "{keepalives}");
    assert_eq!(world.status(1).established_count, 1);
    assert!(world.established());
}

/// To the kernel a peer that doesn't read looks like one that is gone, and RFC 9687 §4 gives the
/// former more time; the latter the hold timer has noticed by then, if there is one.
#[test]
fn trap_10_the_kernel_gives_up_by_itself_but_not_before_the_send_hold_timer() {
    let mut config = peer("b", "10.0.0.2", 65001, 65002);
    let mut given_up = |hold_time, send_hold: Option<u64>| {
        hold(hold_time)(&mut config);
        config.timers.send_hold_time = send_hold.map(seconds);
        TcpOptions::from(&config).user_timeout.unwrap()
    };
    for (hold_time, send_hold, least) in [
        (90, None, 480),
        (300, None, 600),
        (9, Some(10), 10),
        (0, None, 480),
    ] {
        let timeout = given_up(hold_time, send_hold);
        let bounds = seconds(least + 1)..seconds(least + 10);
        assert!(bounds.contains(&timeout), "{hold_time}: {timeout:?}");
    }
}

#[test]
fn trap_22_a_flap_between_two_looks_at_the_socket_is_one_update_or_none() {
    let mut world = pair(|_| {});
    world.input(0, Input::OpenGate);
    world.until(seconds(2), "session up", World::established);
    world.run(seconds(1));
    let before = world.status(0).sent.update;
    // Ten flaps in one turn of the loop come to the last word; the same as before is nothing.
    let flaps = (0..10).flat_map(|med| {
        let prefix = net("203.0.113.0/24");
        [(prefix, route(med)), (prefix, None)]
    });
    let mut changes: Vec<_> = flaps.collect();
    world.input(0, routes("b", changes.clone()));
    world.run(seconds(1));
    assert_eq!(world.status(0).sent.update, before);
    changes.push((net("203.0.113.0/24"), route(77)));
    world.input(0, routes("b", changes));
    world.run(seconds(1));
    assert_eq!(world.status(0).sent.update, before + 1);
}
