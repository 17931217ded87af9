//! Shutdown of a speaker: withdrawals, the RFC 9003 message, and the limits of its duration.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{ConnectionId, Input, Output, ShutdownMode, SpeakerConfig};
use ferrolb_bgp::wire::Asn;

use crate::harness::{
    CheckedSpeaker, World, established_pair, net, route, routes, seconds, shutdown,
};

/// The [`pair`], after host 0 announced `count` routes.
fn announced(count: u32) -> World {
    let mut world = established_pair(|_| {});
    let changes = (0..count).map(|i| {
        let prefix = net(&format!("10.{}.{}.1/32", i / 250, i % 250));
        (prefix, route(1))
    });
    world.input(0, routes("b", changes.collect()));
    world.input(0, Input::OpenGate);
    world.run_until(seconds(5), "routes received", |world| {
        world.hosts[1].table().len() == usize::try_from(count).unwrap()
    });
    world
}

fn speaker() -> CheckedSpeaker {
    CheckedSpeaker::new(SpeakerConfig {
        router_id_fallback: Ipv4Addr::new(10, 255, 0, 9),
        seed: 1,
        host_uptime: None,
    })
}

fn set_peer(name: &str, remote: &str) -> Input {
    let remote = remote.parse().unwrap();
    Input::SetPeer(PeerConfig::new(name, remote, Asn(65001), Asn(65002)))
}

#[test]
fn shutdown_withdraws_all_routes_and_sends_the_reason_rfc9003() {
    let mut world = announced(2000);
    world.input(
        0,
        shutdown("maintenance until noon", ShutdownMode::Withdraw),
    );
    world.run(seconds(1));
    assert!(world.hosts[1].table().is_empty());
    let cause = world.hosts[1].causes()[0];
    let (notification, _) = cause.notification().expect("a NOTIFICATION");
    assert_eq!((notification.code.0, notification.subcode), (6, 2));
    let text = cause.to_string();
    assert!(text.contains("maintenance until noon"), "{text}");
    assert!(world.hosts[0].speaker.stopped());
}

#[test]
fn shutdown_ends_in_bounded_time_if_the_peer_does_not_read() {
    let mut world = announced(20_000);
    world.hosts[1].stalled = true;
    world.input(0, shutdown("", ShutdownMode::Withdraw));
    world.run(Duration::from_millis(4100));
    assert!(world.hosts[0].speaker.stopped());
}

fn outputs(speaker: &mut CheckedSpeaker) -> Vec<Output> {
    std::iter::from_fn(|| speaker.poll_output()).collect()
}

fn stopped(outputs: &[Output]) -> bool {
    outputs
        .iter()
        .any(|output| matches!(output, Output::Stopped))
}

/// Peer b conflicts with peer a, and must not start when a is removed.
#[test]
fn a_conflicting_peer_does_not_start_during_a_shutdown() {
    let now = Instant::now();
    let mut speaker = speaker();
    speaker.handle(now, set_peer("a", "10.2.0.1:179"));
    speaker.handle(now, set_peer("b", "10.2.0.1:179"));
    speaker.handle(now, shutdown("", ShutdownMode::Withdraw));
    drop(outputs(&mut speaker));
    speaker.handle(now, Input::RemovePeer("a".to_owned()));
    assert_eq!(speaker.status(now).len(), 1);
    let outputs = outputs(&mut speaker);
    assert!(
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Connect { .. } | Output::Listen { .. })),
        "{outputs:?}"
    );
}

/// Connections from the address of a peer are closed at once.
#[test]
fn connections_accepted_during_a_shutdown_do_not_prolong_it() {
    let start = Instant::now();
    let mut now = start;
    let mut speaker = speaker();
    speaker.handle(now, set_peer("a", "10.2.0.1:179"));
    let remote = "10.2.0.1:50000".parse().unwrap();
    let local = "10.1.0.1:179".parse().unwrap();
    let mut accepted = 0;
    let mut accept = |speaker: &mut CheckedSpeaker, now| {
        let connection = ConnectionId::Accepted(accepted);
        accepted += 1;
        let input = Input::Accepted {
            connection,
            local,
            remote,
        };
        speaker.handle(now, input);
        connection
    };
    // This connection is in OpenSent, and its peer does not read the NOTIFICATION.
    accept(&mut speaker, now);
    drop(outputs(&mut speaker));
    speaker.handle(now, shutdown("", ShutdownMode::Withdraw));
    let mut ended = stopped(&outputs(&mut speaker));
    while !ended {
        let connection = accept(&mut speaker, now);
        let outcome = outputs(&mut speaker);
        let closed =
            |output: &Output| matches!(output, Output::Close { connection: c } if *c == connection);
        assert!(outcome.iter().any(closed), "{outcome:?}");
        assert!(now <= start + Duration::from_secs(5), "{:?}", now - start);
        now += Duration::from_millis(100);
        if speaker.poll_timeout().is_some_and(|at| at <= now) {
            speaker.handle(now, Input::Timeout);
        }
        ended = stopped(&outcome) || stopped(&outputs(&mut speaker));
    }
    assert_eq!(speaker.poll_timeout(), None);
}
