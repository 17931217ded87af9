//! Dials and retries: when the speaker dials, and how long it waits after failures.

use std::time::Duration;

use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{Cause, Input, State};
use ferrolb_bgp::wire::{Asn, ErrorCode, Family, Notification, Open, subcode};

use crate::harness::{
    Router, World, established_pair, hold_time, net, passive, peer, route, router, routes, seconds,
};

#[test]
fn a_passive_peer_is_never_dialled_and_remains_active() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.host("10.0.0.2", true);
    let config = passive(peer("b", "10.0.0.2", 65001, 65002));
    world.input(0, Input::SetPeer(config));
    for _ in 0..20 {
        world.run(seconds(60));
        assert_eq!(world.state(0), State::Active);
    }
    assert_eq!(world.hosts[0].dials, []);
    assert_eq!(world.status(0).retry_in, None);

    world.input(1, Input::SetPeer(peer("a", "10.0.0.1", 65002, 65001)));
    world.run_until(seconds(5), "session established", World::established);
    assert_eq!(world.hosts[0].dials, []);
}

#[test]
fn refused_connections_are_retried_with_exponential_backoff() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.input(0, Input::SetPeer(peer("b", "10.0.0.2", 65001, 65002)));
    world.run(seconds(600));
    assert_exponential(&world.hosts[0].dials);
    let cause = world.hosts[0].causes()[0].to_string();
    assert!(cause.contains("nothing listens there"), "{cause}");
    assert!(
        world
            .status(0)
            .retry_in
            .is_some_and(|wait| wait <= seconds(60))
    );
}

/// Asserts waits of 1, 2, 4 … 60 s, each shortened by at most a quarter.
fn assert_exponential(dials: &[Duration]) {
    let gaps: Vec<f64> = dials
        .windows(2)
        .map(|two| (two[1] - two[0]).as_secs_f64())
        .collect();
    assert!((12..=22).contains(&gaps.len()), "{gaps:?}");
    for (gap, full) in gaps.iter().zip(
        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
            .into_iter()
            .chain([60.0; 99]),
    ) {
        assert!(
            (full * 0.75..=full + 0.1).contains(gap),
            "{gap} is not about {full}: {gaps:?}"
        );
    }
}

#[test]
fn a_lost_stable_session_is_dialled_again_at_once_and_gets_all_routes() {
    let mut world = established_pair(|_| {});
    world.input(0, routes("b", vec![(net("203.0.113.10/32"), route(5))]));
    world.input(0, Input::OpenGate);
    world.run(seconds(300));
    world.restart(1);
    let mut receiver = passive(peer("a", "10.0.0.1", 65002, 65001));
    receiver.receive = true;
    world.input(1, Input::SetPeer(receiver));
    world.run_until(seconds(2), "routes received again", |world| {
        world.hosts[1].table().len() == 1
    });
    let cause = world.hosts[0].causes()[0];
    assert!(matches!(
        cause,
        Cause::Closed {
            state: State::Established,
            error: None
        }
    ));
}

#[test]
fn a_session_that_is_not_stable_does_not_reset_the_backoff() {
    let mut world = established_pair(hold_time(9));
    for _ in 0..6 {
        world.run_until(seconds(70), "session established", World::established);
        world.restart(1);
        let config = passive(peer("a", "10.0.0.1", 65002, 65001));
        world.input(1, Input::SetPeer(config));
        world.run(Duration::from_millis(10));
    }
    let last = world.status(0).retry_in.expect("a retry");
    assert!(last > seconds(20), "{last:?}");
}

/// The router refuses connections while it restarts.
#[test]
fn a_router_that_restarts_after_a_stable_session_is_dialled_every_second_for_30_s() {
    let mut world = established_pair(hold_time(9));
    world.run(seconds(20));
    world.hosts[1].listens = false;
    let ended = world.elapsed();
    world.reset_connections();
    world.run(seconds(90));
    let dials: Vec<Duration> = world.hosts[0].dials.clone();
    let mut dials: Vec<Duration> = dials.into_iter().filter(|at| *at > ended).collect();
    dials.insert(0, ended);
    for pair in dials
        .windows(2)
        .filter(|pair| pair[0] < ended + seconds(29))
    {
        assert!(pair[1] - pair[0] <= seconds(1), "{dials:?}");
    }
    let last = dials.windows(2).last().map(|pair| pair[1] - pair[0]);
    assert!(
        last > Some(seconds(10)),
        "exponential backoff after 30 s: {dials:?}"
    );

    world.hosts[1].listens = true;
    world.run_until(seconds(61), "session established", World::established);
}

#[test]
fn refused_connections_after_an_unstable_session_are_retried_with_backoff() {
    let mut world = established_pair(hold_time(9));
    world.run(seconds(10));
    world.hosts[1].listens = false;
    let ended = world.elapsed();
    world.reset_connections();
    world.run(seconds(30));
    let dials = world.hosts[0].dials.iter().filter(|at| **at > ended);
    assert!(dials.count() <= 6);
}

#[test]
fn a_wrong_as_number_is_reported_at_both_ends_and_retried_with_the_longest_delay() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.host("10.0.0.2", true);
    let config = passive(peer("a", "10.0.0.1", 65002, 65009));
    world.input(1, Input::SetPeer(config));
    world.input(0, Input::SetPeer(peer("b", "10.0.0.2", 65001, 65002)));
    world.run(seconds(1));
    let (notification, _) = world.hosts[1].causes()[0].notification().unwrap();
    assert_eq!((notification.code.0, notification.subcode), (2, 2));
    let received = world.hosts[0].causes()[0];
    assert_eq!(received.code(), "wrong-asn-at-peer");
    assert!(received.to_string().contains("than AS 65001"), "{received}");
    let sent = world.hosts[1].causes()[0].to_string();
    assert!(sent.contains("has AS 65001"), "{sent}");
    assert!(sent.contains("AS 65009 is configured"), "{sent}");

    world.run(seconds(600));
    let dials = &world.hosts[0].dials;
    assert!((10..=15).contains(&dials.len()), "{dials:?}");
    for pair in dials.windows(2) {
        assert!(pair[1] - pair[0] >= seconds(45), "{dials:?}");
    }
    assert_eq!(world.status(0).established_count, 0);
}

#[test]
fn a_rejected_as_number_waits_the_longest_delay_until_the_configuration_changes() {
    let longest = seconds(45)..=seconds(60);
    let mut router = Router::new(router());
    router.connect();
    let bad_peer_as = Notification::new(ErrorCode::OPEN, subcode::open::BAD_PEER_AS);
    router.receive(bad_peer_as.encode());
    assert!(longest.contains(&router.retry_in()));
    let text = router.cause().to_string();
    assert!(
        text.contains("AS 65001") && text.contains("AS 65002"),
        "{text}"
    );

    // A corrected configuration is used at once.
    let corrected = PeerConfig {
        local_asn: Asn(65005),
        ..crate::harness::router()
    };
    let before = router.dialled;
    router.input(Input::SetPeer(corrected));
    assert_ne!(router.dialled, before);
    router.connect();
    let router_id = "10.255.0.2".parse().unwrap();
    let families = [Family::IPV4_UNICAST];
    router.receive(Open::new(Asn(65009), 90, router_id, &families).encode());
    assert_eq!(router.cause().code(), "wrong-asn");
    let text = router.cause().to_string();
    assert!(
        text.contains("AS 65009") && text.contains("AS 65002"),
        "{text}"
    );
    assert!(longest.contains(&router.retry_in()));
}

#[test]
fn a_connection_closed_in_open_sent_suggests_to_check_the_configuration() {
    let mut router = Router::new(router());
    router.connect();
    router.close();
    let cause = router.cause().to_string();
    assert!(cause.contains("AS numbers and password"), "{cause}");
    // FRR closes connections in Idle, without a fault of either side.
    assert!(
        cause.contains("for some time after an earlier error"),
        "{cause}"
    );
    assert_eq!(router.state(), State::Active);
}
