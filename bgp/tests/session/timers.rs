//! Hold, keepalive and send hold timers.

use std::net::Ipv4Addr;
use std::time::Duration;

use ferrolb_bgp::config::{HoldTime, PeerConfig, Timers};
use ferrolb_bgp::fsm::{Cause, ConnectionId, Input, State, TcpOptions};
use ferrolb_bgp::wire::{Asn, ErrorCode, Family, Message, Notification, Open, keepalive};

use crate::harness::{
    Router, World, established_pair, hold_time, net, pair, passive, peer, route, router, routes,
    seconds,
};

#[test]
fn the_hold_timer_expires_at_both_ends_of_a_cut_link_rfc4271_6_5() {
    let mut world = established_pair(hold_time(9));
    world.run(seconds(30));
    assert!(world.established());
    let before = world.elapsed();
    world.cut = true;
    world.run_until(seconds(12), "both sessions down", |world| {
        (0..2).all(|host| world.state(host) != State::Established)
    });
    let took = world.elapsed() - before;
    assert!(
        (Duration::from_millis(5900)..=Duration::from_millis(9100)).contains(&took),
        "{took:?}"
    );
    for host in 0..2 {
        let cause = world.hosts[host].causes()[0];
        assert!(matches!(cause, Cause::Sent(_)));
        let (notification, _) = cause.notification().expect("a NOTIFICATION");
        assert_eq!((notification.code.0, notification.subcode), (4, 0));
    }
    // The session is established again soon after the link is restored.
    world.cut = false;
    world.run_until(seconds(65), "session established again", World::established);
}

#[test]
fn keepalives_are_sent_every_third_of_the_hold_time_with_jitter_rfc4271_10() {
    let mut world = established_pair(hold_time(9));
    world.run(seconds(120));
    for host in 0..2 {
        let times: Vec<Duration> = world.hosts[host]
            .sent
            .iter()
            .filter(|(_, message)| *message == Message::Keepalive)
            .map(|(at, _)| *at)
            .collect();
        assert!((40..=54).contains(&times.len()), "{}", times.len());
        for gap in times.windows(2).map(|two| two[1] - two[0]) {
            assert!(
                (Duration::from_millis(2250)..=seconds(3)).contains(&gap),
                "{gap:?}"
            );
        }
        let first = times[2] - times[1];
        assert!(
            times.windows(2).any(|two| two[1] - two[0] != first),
            "no jitter"
        );
    }
    assert_eq!(world.status(0).established_count, 1);
}

#[test]
fn updates_restart_the_keepalive_timer_rfc4271_4_4() {
    let mut world = pair(hold_time(9));
    world.input(0, Input::OpenGate);
    world.run_until(seconds(2), "session established", World::established);
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

#[test]
fn hold_time_zero_sends_no_keepalive_in_established_rfc4271_4_4() {
    let mut world = established_pair(hold_time(0));
    assert_eq!(world.hosts[0].speaker.poll_timeout(), None);
    world.run(seconds(86_400));
    assert!(world.established());
    // Only the one that confirmed the OPEN.
    assert_eq!(world.status(0).sent.keepalive, 1);
}

#[test]
fn a_keepalive_with_hold_time_zero_is_accepted_and_starts_no_timer() {
    let mut world = established_pair(hold_time(0));
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

/// A peer that sends an OPEN and no KEEPALIVE must not keep the connection forever.
#[test]
fn hold_time_zero_still_limits_the_time_in_open_confirm() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.host("10.0.0.2", false);
    let config = passive(peer("b", "10.0.0.2", 65001, 65002));
    world.input(0, Input::SetPeer(config));
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
    let last = world.status(0).last_error.expect("an error");
    assert_eq!(last.cause.code, "hold-timer-expired");
}

#[test]
fn a_peer_that_sends_no_open_is_disconnected_after_four_minutes_rfc4271_8_2_2() {
    let mut router = Router::new(router());
    router.connect();
    router.now += seconds(239);
    router.input(Input::Timeout);
    assert_eq!(router.state(), State::OpenSent);
    router.now += seconds(1);
    router.input(Input::Timeout);
    let expired = Message::Notification(Notification::hold_timer_expired());
    assert_eq!(router.sent(), [expired]);
    assert!(router.finished);
}

#[test]
fn the_send_hold_timer_ends_the_session_of_a_peer_that_does_not_read_rfc9687() {
    let mut router = Router::new(router());
    router.input(Input::OpenGate);
    router.connect();
    router.establish();
    router.sent();
    let begin = router.now;
    while !router.closed {
        assert!(router.now - begin < seconds(490), "RFC 9687: 480 s");
        router.now += seconds(10);
        router.receive(keepalive());
        router.input(Input::Timeout);
    }
    assert!(router.now - begin >= seconds(480));
    assert_eq!(router.cause(), &Cause::SendHoldTimerExpired);
    assert!(!router.finished, "a NOTIFICATION could not be sent");
}

#[test]
fn a_changed_send_hold_time_applies_to_the_running_session() {
    let with = |send_hold_time| PeerConfig {
        timers: Timers {
            hold_time: HoldTime::from_secs(30).unwrap(),
            send_hold_time: Some(seconds(send_hold_time)),
            ..Timers::default()
        },
        ..router()
    };
    let mut router = Router::new(with(60));
    router.input(Input::OpenGate);
    router.connect();
    router.establish();
    router.sent();
    // The new time counts from the next octets that are sent.
    router.input(Input::SetPeer(with(100)));
    router.sent();
    router.run(seconds(20));
    let begin = router.now;
    while router.state() == State::Established {
        assert!(router.now - begin <= seconds(110));
        router.now += seconds(5);
        router.receive(keepalive());
        router.input(Input::Timeout);
    }
    assert_eq!(router.cause(), &Cause::SendHoldTimerExpired);
    assert!(router.now - begin >= seconds(90));
}

/// The kernel can't distinguish a peer that does not read from one that is gone. RFC 9687 §4 gives
/// the former more time. By then the hold timer, if any, has expired for the latter.
#[test]
fn the_tcp_user_timeout_is_longer_than_the_send_hold_time_rfc9687_4() {
    let mut config = peer("b", "10.0.0.2", 65001, 65002);
    let mut user_timeout = |hold: u16, send_hold: Option<u64>| {
        hold_time(hold)(&mut config);
        config.timers.send_hold_time = send_hold.map(seconds);
        TcpOptions::from(&config).user_timeout.unwrap()
    };
    for (hold, send_hold, least) in [
        (90, None, 480),
        (300, None, 600),
        (9, Some(10), 10),
        (0, None, 480),
    ] {
        let timeout = user_timeout(hold, send_hold);
        let bounds = seconds(least + 1)..seconds(least + 10);
        assert!(bounds.contains(&timeout), "{hold}: {timeout:?}");
    }
}

#[test]
fn a_hold_timer_that_expires_during_a_local_stall_is_not_attributed_to_the_peer() {
    let short = PeerConfig {
        timers: Timers {
            hold_time: HoldTime::from_secs(3).unwrap(),
            ..Timers::default()
        },
        ..router()
    };
    let established = || {
        let mut router = Router::new(short.clone());
        router.input(Input::OpenGate);
        router.connect();
        router.establish();
        router.sent();
        router
    };
    // As after SIGSTOP for ten seconds. In one case the peer has closed the session meanwhile, and
    // its NOTIFICATION is read before any timer.
    for sent in [false, true] {
        let mut router = established();
        router.now += seconds(10);
        if sent {
            router.input(Input::Timeout);
        } else {
            router.receive(Notification::hold_timer_expired().encode());
        }
        let cause = router.cause();
        assert_eq!(cause.code(), "stood-still", "{cause}");
        let (notification, by_us) = cause.notification().unwrap();
        assert_eq!(
            (notification.code, by_us),
            (ErrorCode::HOLD_TIMER_EXPIRED, sent)
        );
        assert!(cause.to_string().contains("was stalled for"), "{cause}");
    }
    // If all timeouts are in time, the cause is the silence of the peer.
    let mut router = established();
    while router.state() == State::Established {
        router.now = router.speaker.poll_timeout().unwrap();
        router.input(Input::Timeout);
        router.sent();
    }
    assert_eq!(router.cause().code(), "hold-timer-expired");
}
