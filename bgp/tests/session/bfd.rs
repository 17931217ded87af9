//! Sessions that BFD watches over: what the machine asks for, and what it makes of the news.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_bgp::bfd::{
    self, Cause, Change, Diagnostic, Discarded, Path, SessionConfig, SessionStatus,
};
use ferrolb_bgp::config::{BfdOptions, GracefulRestart, PeerConfig};
use ferrolb_bgp::fsm::{
    BfdEvent, BfdTarget, ConnectionId, Event, Input, IoFailure, Output, PeerRoutes, ShutdownMode,
    Speaker, SpeakerConfig, State,
};
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::wire::{
    Asn, DecodeContext, Family, Framer, Message, Notification, Open, keepalive, subcode,
};

struct Host {
    speaker: Speaker,
    now: Instant,
    connection: Option<ConnectionId>,
    asked: Vec<String>,
    target: Option<BfdTarget>,
    events: Vec<Event>,
}

fn config(strict: bool) -> PeerConfig {
    PeerConfig {
        bfd: Some(BfdOptions {
            session: SessionConfig::default(),
            strict,
        }),
        graceful_restart: None::<GracefulRestart>,
        ..PeerConfig::new(
            "tor",
            "192.0.2.1:179".parse().unwrap(),
            Asn(65001),
            Asn(65002),
        )
    }
}

impl Host {
    fn new(strict: bool) -> Self {
        let speaker = Speaker::new(SpeakerConfig {
            router_id_fallback: Ipv4Addr::new(10, 0, 0, 1),
            seed: 1,
            host_uptime: None,
        });
        let mut host = Self {
            speaker,
            now: Instant::now(),
            connection: None,
            asked: Vec::new(),
            target: None,
            events: Vec::new(),
        };
        host.input(Input::SetPeer(config(strict)));
        host.connect();
        host
    }

    fn connect(&mut self) {
        let connection = self.connection.expect("it dials");
        self.input(Input::Connected {
            connection,
            local: "192.0.2.2:40000".parse().unwrap(),
            remote: "192.0.2.1:179".parse().unwrap(),
        });
        let open = Open::new(
            Asn(65002),
            30,
            Ipv4Addr::new(10, 0, 0, 2),
            &[Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        );
        for octets in [open.encode(), keepalive()] {
            self.input(Input::Received { connection, octets });
        }
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Connect { connection, .. } => self.connection = Some(connection),
                Output::BfdSet { target, .. } => {
                    self.asked.push("set".to_owned());
                    self.target = Some(target);
                }
                Output::BfdRemove { .. } => self.asked.push("remove".to_owned()),
                Output::BfdAdminDown { .. } => self.asked.push("admin down".to_owned()),
                Output::Stopped => self.asked.push("stopped".to_owned()),
                Output::Event(event) => self.events.push(event),
                _ => {}
            }
        }
    }

    fn bfd(&mut self, from: bfd::State, to: bfd::State, cause: Cause, remote_state: bfd::State) {
        let path = Path {
            remote: "192.0.2.1".parse().unwrap(),
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
            since: self.now,
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
        self.input(Input::Bfd { peer, event });
    }

    fn up(&mut self) {
        self.bfd(
            bfd::State::Init,
            bfd::State::Up,
            Cause::Handshake,
            bfd::State::Up,
        );
    }

    fn lost(&mut self) {
        let cause = Cause::DetectionTimeExpired;
        self.bfd(bfd::State::Up, bfd::State::Down, cause, bfd::State::Down);
    }

    fn sends(&mut self) -> Vec<String> {
        let mut framer = Framer::default();
        while let Some(octets) =
            self.speaker
                .poll_transmit(self.now, self.connection.unwrap(), 4096)
        {
            framer.push(&octets);
        }
        let mut sent = Vec::new();
        while let Some(message) = framer.next(&DecodeContext::default()) {
            sent.push(match message.unwrap() {
                Message::Notification(notification) => notification.to_string(),
                other => other.kind().to_string(),
            });
        }
        sent
    }

    fn state(&self) -> State {
        self.speaker.status(self.now)[0].state
    }

    fn retry(&self) -> Duration {
        self.speaker.status(self.now)[0]
            .retry_in
            .expect("it retries")
    }
}

#[test]
fn a_lost_path_ends_the_session_at_once() {
    let mut host = Host::new(false);
    assert_eq!(host.state(), State::Established);
    host.up();
    host.sends();
    host.lost();
    assert_eq!(host.state(), State::Idle);
    assert_eq!(host.sends(), ["Cease/BFD Down (6/10)"]);
    assert!(host.retry() <= Duration::from_secs(1));
    assert_eq!(host.asked, ["set"], "BFD itself goes on");
}

#[test]
fn the_end_of_bfd_on_purpose_is_no_failure() {
    let mut host = Host::new(true);
    host.up();
    assert_eq!(host.state(), State::Established);
    host.bfd(
        bfd::State::Up,
        bfd::State::Down,
        Cause::PeerAdminDown,
        bfd::State::AdminDown,
    );
    assert_eq!(host.state(), State::Established);
}

#[test]
fn strict_mode_withholds_the_keepalive_until_bfd_is_up() {
    let mut host = Host::new(true);
    assert_eq!(host.sends(), ["OPEN"]);
    assert_eq!(host.state(), State::OpenConfirm);
    let waiting = |event: &Event| matches!(event, Event::Bfd { reason, .. } if reason.contains("waiting for BFD"));
    assert!(host.events.iter().any(waiting));
    host.up();
    assert_eq!(
        host.state(),
        State::Established,
        "the peer's KEEPALIVE was there already"
    );
    assert_eq!(host.sends(), ["KEEPALIVE"]);
}

#[test]
fn strict_mode_waits_no_longer_than_the_hold_time() {
    let mut host = Host::new(true);
    host.sends();
    host.now += Duration::from_secs(29);
    host.input(Input::Timeout);
    assert_eq!(host.state(), State::OpenConfirm);
    host.now += Duration::from_secs(2);
    host.input(Input::Timeout);
    assert_eq!(host.sends(), ["Cease/BFD Down (6/10)"]);
}

#[test]
fn new_timers_reach_bfd_and_not_bgp() {
    let mut host = Host::new(false);
    host.up();
    let mut faster = config(false);
    let timers = &mut faster.bfd.as_mut().unwrap().session.timers;
    timers.desired_min_tx = bfd::Interval::from_millis(50);
    let wanted = *timers;
    host.input(Input::SetPeer(faster));
    assert_eq!(host.asked, ["set", "set"]);
    assert_eq!(host.target.as_ref().unwrap().config.timers, wanted);
    assert_eq!(host.state(), State::Established);

    let without = PeerConfig {
        bfd: None,
        ..config(false)
    };
    host.input(Input::SetPeer(without));
    assert_eq!(host.asked, ["set", "set", "remove"]);
    assert_eq!(host.state(), State::Established);
    host.lost();
    assert_eq!(host.state(), State::Established, "news of the past");
    assert_eq!(host.speaker.status(host.now)[0].bfd, None);
}

#[test]
fn a_path_that_flaps_is_held_back() {
    let mut host = Host::new(false);
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(host.state(), State::Established);
        host.up();
        host.lost();
        let wait = host.retry();
        waits.push(wait.as_secs());
        host.now += wait;
        host.input(Input::Timeout);
        host.connect();
    }
    // The first few times it is back at once: within a second.
    assert_eq!(waits, [0, 0, 0, 10, 20, 40]);
}

#[test]
fn a_path_that_comes_back_is_tried_within_a_second() {
    let mut host = Host::new(false);
    host.up();
    let connection = host.connection.unwrap();
    let error = None;
    host.input(Input::Closed { connection, error });
    for _ in 0..5 {
        host.now += host.retry();
        host.input(Input::Timeout);
        let connection = host.connection.unwrap();
        let error = IoFailure {
            kind: ErrorKind::ConnectionRefused,
            text: "refused".to_owned(),
        };
        host.input(Input::ConnectFailed { connection, error });
    }
    assert!(host.retry() > Duration::from_secs(20));
    host.up();
    assert!(host.retry() <= Duration::from_secs(1));
    host.now += Duration::from_secs(1);
    host.input(Input::Timeout);
    host.connect();
    assert_eq!(host.state(), State::Established);
}

#[test]
fn a_path_that_comes_back_too_often_is_not() {
    let mut host = Host::new(false);
    for times in 1..=4 {
        let connection = host.connection.unwrap();
        let octets = Notification::cease(subcode::cease::BFD_DOWN).encode();
        host.input(Input::Received { connection, octets });
        assert_eq!(host.state(), State::Active);
        host.up();
        if times <= 3 {
            host.now += Duration::from_secs(1);
            host.input(Input::Timeout);
            host.connect();
        }
    }
    assert_eq!(host.state(), State::Active);
    assert!(host.retry() > Duration::from_secs(9));
}

#[test]
fn without_bfd_to_be_had_the_peer_asks_again() {
    let mut host = Host::new(false);
    let event = BfdEvent::Failed {
        reason: "port taken".to_owned(),
    };
    host.input(Input::Bfd {
        peer: "tor".to_owned(),
        event,
    });
    assert!(host.state() < State::OpenSent);
    let down = |event: &Event| matches!(event, Event::Down { cause, .. } if cause.to_string().contains("no BFD: port taken"));
    assert!(host.events.iter().any(down));
    host.now += host.retry();
    host.input(Input::Timeout);
    assert_eq!(
        host.asked,
        ["set", "remove", "set"],
        "nothing is left behind"
    );
}

/// A peer that neither reads nor goes away, and whose BFD is slow: the end waits for neither.
#[test]
fn the_end_comes_in_time_however_slow_bfd_is() {
    let mut host = Host::new(false);
    host.up();
    let route = Some(Arc::new(RouteAttributes::default()));
    host.input(Input::OpenGate);
    host.input(Input::Routes(vec![PeerRoutes {
        peer: "tor".to_owned(),
        changes: vec![("203.0.113.1/32".parse().unwrap(), route)],
    }]));
    let connection = host.connection.expect("it dialled");
    while let Some(octets) = host.speaker.poll_transmit(host.now, connection, 4096) {
        assert!(!octets.is_empty());
    }
    // From here on it reads nothing, the withdrawal least of all.
    let start = host.now;
    host.input(Input::Shutdown {
        text: String::new(),
        mode: ShutdownMode::Withdraw,
    });
    while let Some(at) = host.speaker.poll_timeout() {
        assert!(at > host.now, "a timer that stays due");
        host.now = at;
        host.input(Input::Timeout);
    }
    assert!(
        host.asked
            .ends_with(&["admin down".into(), "stopped".into()])
    );
    // Four seconds, and what BFD has for its last packet.
    assert!(host.now - start <= Duration::from_millis(4100));
}
