//! BFD for sessions (RFC 5882): what the state machine requests from BFD, and how BFD's state
//! affects the session.

use std::io::ErrorKind;
use std::time::Duration;

use ferrolb_bgp::bfd::{
    self, Cause, Change, Diagnostic, Discarded, Path, SessionConfig, SessionStatus,
};
use ferrolb_bgp::config::{BfdOptions, PeerConfig};
use ferrolb_bgp::fsm::{BfdEvent, Event, Input, IoFailure, ShutdownMode, State};
use ferrolb_bgp::wire::{Message, Notification, subcode};

use crate::harness::{Router, net, route, router, routes, shutdown};

fn config(strict: bool) -> PeerConfig {
    PeerConfig {
        bfd: Some(BfdOptions {
            session: SessionConfig::default(),
            strict,
        }),
        ..router()
    }
}

/// A router that sent an OPEN with a hold time of 30 s, and a KEEPALIVE.
fn established(strict: bool) -> Router {
    let mut router = Router::new(config(strict));
    connect(&mut router);
    router
}

/// Accepts the connection, and sends an OPEN and a KEEPALIVE.
fn connect(router: &mut Router) {
    router.connect();
    router.send_open(30);
}

/// BFD changes its state for this reason.
fn bfd_changed(
    router: &mut Router,
    from: bfd::State,
    to: bfd::State,
    cause: Cause,
    remote_state: bfd::State,
) {
    let path = Path {
        remote: "10.0.0.2".parse().unwrap(),
        local: None,
        interface: None,
        hops: bfd::Hops::Single,
    };
    let change = Change {
        path,
        from,
        to,
        cause,
    };
    let status = SessionStatus {
        path,
        state: to,
        since: router.now,
        diagnostic: Diagnostic::NONE,
        discriminator: 1,
        remote_discriminator: 2,
        remote_state,
        remote_diagnostic: Diagnostic::NONE,
        transmit_interval: None,
        detection_time: None,
        remote_detection_time: Duration::from_millis(900),
        flaps: 0,
        last_flap: None,
        received: 0,
        sent: 0,
        discarded: Discarded::default(),
    };
    let peer = "tor".to_owned();
    let event = BfdEvent::Changed { change, status };
    router.input(Input::Bfd { peer, event });
}

fn up(router: &mut Router) {
    let (init, up) = (bfd::State::Init, bfd::State::Up);
    bfd_changed(router, init, up, Cause::Handshake, up);
}

fn lost(router: &mut Router) {
    let (up, down) = (bfd::State::Up, bfd::State::Down);
    bfd_changed(router, up, down, Cause::DetectionTimeExpired, down);
}

/// The messages that the speaker sends, by type; NOTIFICATIONs with code and subcode.
fn sent(router: &mut Router) -> Vec<String> {
    let sent = router.sent().into_iter();
    sent.map(|message| match message {
        Message::Notification(notification) => notification.to_string(),
        other => other.kind().to_string(),
    })
    .collect()
}

#[test]
fn a_bfd_failure_ends_the_session_at_once_rfc9384() {
    let mut router = established(false);
    assert_eq!(router.state(), State::Established);
    up(&mut router);
    sent(&mut router);
    lost(&mut router);
    assert_eq!(router.state(), State::Idle);
    assert_eq!(sent(&mut router), ["Cease/BFD Down (6/10)"]);
    assert!(router.retry_in() <= Duration::from_secs(1));
    assert_eq!(router.bfd_requests, ["set"], "the BFD session continues");
}

#[test]
fn admin_down_at_the_peer_does_not_end_the_session_rfc5882_3_2() {
    let mut router = established(true);
    up(&mut router);
    assert_eq!(router.state(), State::Established);
    bfd_changed(
        &mut router,
        bfd::State::Up,
        bfd::State::Down,
        Cause::PeerAdminDown,
        bfd::State::AdminDown,
    );
    assert_eq!(router.state(), State::Established);
}

#[test]
fn strict_mode_sends_no_keepalive_before_bfd_is_up() {
    let mut router = established(true);
    assert_eq!(sent(&mut router), [] as [&str; 0]);
    assert_eq!(router.state(), State::OpenConfirm);
    let waiting = |event: &Event| match event {
        Event::Bfd { reason, .. } => reason.contains("waiting for BFD"),
        _ => false,
    };
    assert!(router.events.iter().any(waiting));
    up(&mut router);
    assert_eq!(
        router.state(),
        State::Established,
        "the KEEPALIVE of the peer was received before"
    );
    assert_eq!(sent(&mut router), ["KEEPALIVE"]);
}

#[test]
fn a_session_that_waits_for_bfd_is_established_when_strict_mode_is_turned_off() {
    let mut router = established(true);
    sent(&mut router);
    assert_eq!(router.state(), State::OpenConfirm);
    router.events.clear();
    router.input(Input::SetPeer(config(false)));
    assert_eq!(sent(&mut router), ["KEEPALIVE"]);
    assert_eq!(router.state(), State::Established);
    let reported = |event: &Event| {
        matches!(
            event,
            Event::StateChanged {
                to: State::Established,
                ..
            }
        )
    };
    assert!(router.events.iter().any(reported), "{:?}", router.events);
}

#[test]
fn strict_mode_waits_no_longer_than_the_hold_time() {
    let mut router = established(true);
    sent(&mut router);
    router.now += Duration::from_secs(29);
    router.input(Input::Timeout);
    assert_eq!(router.state(), State::OpenConfirm);
    router.now += Duration::from_secs(2);
    router.input(Input::Timeout);
    assert_eq!(sent(&mut router), ["Cease/BFD Down (6/10)"]);
}

#[test]
fn changed_bfd_options_do_not_reset_the_session() {
    let mut router = established(false);
    up(&mut router);
    let mut faster = config(false);
    let timers = &mut faster.bfd.as_mut().unwrap().session.timers;
    timers.desired_min_tx = bfd::Interval::from_millis(50);
    let wanted = *timers;
    router.input(Input::SetPeer(faster));
    assert_eq!(router.bfd_requests, ["set", "set"]);
    assert_eq!(router.bfd_target.as_ref().unwrap().config.timers, wanted);
    assert_eq!(router.state(), State::Established);

    let without = PeerConfig {
        bfd: None,
        ..config(false)
    };
    router.input(Input::SetPeer(without));
    assert_eq!(router.bfd_requests, ["set", "set", "remove"]);
    assert_eq!(router.state(), State::Established);
    lost(&mut router);
    assert_eq!(
        router.state(),
        State::Established,
        "an event of a removed BFD session is ignored"
    );
    assert_eq!(router.speaker.status(router.now)[0].bfd, None);
}

#[test]
fn repeated_bfd_failures_delay_the_next_dial() {
    let mut router = established(false);
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(router.state(), State::Established);
        up(&mut router);
        lost(&mut router);
        let wait = router.retry_in();
        waits.push(wait.as_secs());
        router.now += wait;
        router.input(Input::Timeout);
        connect(&mut router);
    }
    // The first three dials follow within a second.
    assert_eq!(waits, [0, 0, 0, 10, 20, 40]);
}

#[test]
fn bfd_up_triggers_a_dial_within_a_second() {
    let mut router = established(false);
    up(&mut router);
    let connection = router.dialled;
    let error = None;
    router.input(Input::Closed { connection, error });
    for _ in 0..5 {
        router.now += router.retry_in();
        router.input(Input::Timeout);
        let connection = router.dialled;
        let error = IoFailure {
            kind: ErrorKind::ConnectionRefused,
            text: "refused".to_owned(),
        };
        router.input(Input::ConnectFailed { connection, error });
    }
    assert!(router.retry_in() > Duration::from_secs(20));
    up(&mut router);
    assert!(router.retry_in() <= Duration::from_secs(1));
    router.now += Duration::from_secs(1);
    router.input(Input::Timeout);
    connect(&mut router);
    assert_eq!(router.state(), State::Established);
}

#[test]
fn bfd_up_triggers_no_dial_after_repeated_failures() {
    let mut router = established(false);
    for times in 1..=4 {
        let connection = router.dialled;
        let octets = Notification::cease(subcode::cease::BFD_DOWN).encode();
        router.input(Input::Received { connection, octets });
        assert_eq!(router.state(), State::Active);
        up(&mut router);
        if times <= 3 {
            router.now += Duration::from_secs(1);
            router.input(Input::Timeout);
            connect(&mut router);
        }
    }
    assert_eq!(router.state(), State::Active);
    assert!(router.retry_in() > Duration::from_secs(9));
}

#[test]
fn a_peer_whose_bfd_session_could_not_be_set_up_retries() {
    let mut router = established(false);
    let event = BfdEvent::Failed {
        reason: "port taken".to_owned(),
    };
    router.input(Input::Bfd {
        peer: "tor".to_owned(),
        event,
    });
    assert!(router.state() < State::OpenSent);
    let down = |event: &Event| {
        matches!(event, Event::Down { cause, .. }
            if cause.to_string().contains("no BFD: port taken"))
    };
    assert!(router.events.iter().any(down));
    router.now += router.retry_in();
    router.input(Input::Timeout);
    assert_eq!(
        router.bfd_requests,
        ["set", "remove", "set"],
        "the failed session is removed"
    );
}

/// The peer neither reads nor closes, and its BFD is slow.
#[test]
fn shutdown_ends_in_time_with_slow_bfd() {
    let mut router = established(false);
    up(&mut router);
    router.input(Input::OpenGate);
    router.input(routes("tor", vec![(net("203.0.113.1/32"), route(1))]));
    router.sent();
    // The router reads nothing from here on.
    let start = router.now;
    router.input(shutdown("", ShutdownMode::Withdraw));
    while let Some(at) = router.speaker.poll_timeout() {
        router.now = at;
        router.input(Input::Timeout);
    }
    assert!(router.bfd_requests.ends_with(&["admin down", "stopped"]));
    // Four seconds, and the time for the last packet of BFD.
    assert!(router.now - start <= Duration::from_millis(4100));
}
