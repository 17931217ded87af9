use ferrolb_bgp::bfd;
use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{BfdStatus, CauseSummary, Input, LastError, MessageCounters};
use ferrolb_bgp::fsm::{NotificationSummary, Speaker, SpeakerConfig};
use ferrolb_bgp::wire::Asn;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A ledger with a clock. The peers say how long ago something was; the test how much time passes.
struct Lab {
    ledger: Ledger,
    start: Instant,
    now: Instant,
}

impl Lab {
    fn new() -> Self {
        Self::seeded(1)
    }

    fn seeded(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            ledger: Ledger::new("node1", seed),
            start: now,
            now,
        }
    }

    fn wall(&self) -> Timestamp {
        let begin: Timestamp = "2026-01-01T00:00:00.7Z".parse().expect("a time");
        begin.checked_add(self.now - self.start).expect("a time")
    }

    fn update(&mut self, peers: &[PeerStatus]) -> Outcome {
        self.ledger.update(self.now, self.wall(), peers)
    }

    /// Whether something is to be written after this time.
    fn writes_after(&mut self, time: Duration, peer: &PeerStatus) -> bool {
        self.now += time;
        self.update(std::slice::from_ref(peer)).changed
    }

    fn status(&self) -> BgpSessionStatus {
        let (_, status) = self.ledger.statuses().next().expect("a session");
        status.clone()
    }
}

fn peer(state: State) -> PeerStatus {
    let now = Instant::now();
    let mut speaker = Speaker::new(SpeakerConfig {
        router_id_fallback: [127, 0, 0, 1].into(),
        seed: 0,
        host_uptime: None,
    });
    let address = "10.0.0.1:179".parse().expect("an address");
    let config = PeerConfig::new("tor".to_owned(), address, Asn(64512), Asn(64513));
    speaker.handle(now, Input::SetPeer(config));
    PeerStatus {
        state,
        established_count: u64::from(state == State::Established),
        ..speaker.status(now).remove(0)
    }
}

fn error(code: &'static str, ago: Duration) -> LastError {
    LastError {
        cause: CauseSummary {
            code: code.into(),
            text: format!("{code}\u{1b}[2J"),
            notification: (code == "peer-shut-down").then(|| NotificationSummary {
                sent: false,
                code: 6,
                subcode: 2,
                name: "Cease/Administrative Shutdown (6/2)".to_owned(),
                text: Some("new\nlinecard".to_owned()),
                data_in_words: None,
                data: String::new(),
            }),
        },
        ago,
    }
}

#[test]
fn an_established_session_is_written_at_once_and_one_that_is_being_opened_a_moment_later() {
    let mut lab = Lab::new();
    assert!(lab.update(&[peer(State::Established)]).changed);
    assert!(lab.ledger.is_complete());

    let mut lab = Lab::new();
    let opening = lab.update(&[peer(State::OpenSent)]);
    let next = lab.now + TRANSITION_GAP;
    assert_eq!(
        opening,
        Outcome {
            changed: false,
            next: Some(next)
        }
    );
    assert!(!lab.ledger.is_complete());
    // Its states on the way are never written.
    assert!(lab.writes_after(SECOND / 10, &peer(State::Established)));
    assert_eq!(lab.status().bgp, BgpState::Established);

    let mut lab = Lab::new();
    lab.update(&[peer(State::Connect)]);
    assert!(lab.writes_after(TRANSITION_GAP, &peer(State::Connect)));
    assert_eq!(lab.status().bgp, BgpState::Connect);
}

#[test]
fn a_lost_session_is_written_at_once_with_its_notification_and_the_time() {
    let mut lab = Lab::new();
    lab.update(&[peer(State::Established)]);
    let lost = PeerStatus {
        established_count: 1,
        last_error: Some(error("peer-shut-down", Duration::ZERO)),
        ..peer(State::Active)
    };
    assert!(lab.writes_after(SECOND * 100, &lost));
    let status = lab.status();
    assert_eq!(status.bgp, BgpState::Active);
    assert_eq!(status.since, "2026-01-01T00:01:40Z");
    let shown = status.last_error.expect("an error");
    assert_eq!(shown.reason, "peer-shut-down");
    assert_eq!(shown.message, "peer-shut-down\\u{1b}[2J", "for terminals");
    let notification = status.last_notification.expect("a NOTIFICATION");
    assert_eq!(notification.name, "Cease/Administrative Shutdown (6/2)");
    assert_eq!(notification.text.as_deref(), Some("new\\nlinecard"));
    assert_eq!(notification.time, "2026-01-01T00:01:40Z");

    // The attempts that follow fail without one.
    let refused = PeerStatus {
        last_error: Some(error("connection-refused", Duration::ZERO)),
        ..lost
    };
    assert!(!lab.writes_after(SECOND, &refused), "not at once");
    assert!(lab.writes_after(CAUSE_GAP - SECOND, &refused));
    let status = lab.status();
    assert_eq!(
        status.last_error.expect("an error").reason,
        "connection-refused"
    );
    assert!(status.last_notification.is_some(), "it is still known");
    assert_eq!(
        status.since, "2026-01-01T00:01:40Z",
        "when the session was lost"
    );
}

#[test]
fn bfd_is_written_at_once_when_it_goes_down_or_up_and_not_on_its_way() {
    let with = |state| PeerStatus {
        bfd: Some(BfdStatus {
            state,
            since: Duration::ZERO,
            diagnostic: String::new(),
            remote_state: state,
            remote_diagnostic: String::new(),
            transmit_interval: None,
            detection_time: None,
            flaps: 0,
            sent: 0,
            received: 0,
            discarded: 0,
            last_discard: None,
        }),
        ..peer(State::Established)
    };
    let mut lab = Lab::new();
    lab.update(&[with(bfd::State::Up)]);
    assert!(lab.writes_after(SECOND, &with(bfd::State::Down)));
    assert_eq!(lab.status().bfd.as_deref(), Some("Down"));
    assert!(!lab.writes_after(SECOND, &with(bfd::State::Init)));
    assert!(lab.writes_after(SECOND, &with(bfd::State::Up)));
    assert_eq!(lab.status().bfd.as_deref(), Some("Up"));
}

#[test]
fn attempts_that_fail_in_the_same_way_are_written_at_most_once_a_minute() {
    let mut lab = Lab::new();
    let failing = |state| PeerStatus {
        last_error: Some(error("connection-refused", Duration::ZERO)),
        ..peer(state)
    };
    lab.update(&[failing(State::Active)]);
    let mut writes = 0;
    for attempt in 0..600 {
        let state = [State::Connect, State::Active][attempt % 2];
        writes += usize::from(lab.writes_after(SECOND, &failing(state)));
    }
    // The first two, and then one each 60 to 90 s.
    assert!((6..=12).contains(&writes), "{writes}");
}

#[test]
fn counters_are_written_soon_after_a_transition_and_then_at_most_once_a_minute_with_jitter() {
    let with = |prefixes_advertised| PeerStatus {
        prefixes_advertised,
        ..peer(State::Established)
    };
    let intervals = |seed| {
        let mut lab = Lab::seeded(seed);
        lab.update(&[with(0)]);
        let mut written = Vec::new();
        for second in 1..=300 {
            if lab.writes_after(SECOND, &with(second)) {
                written.push(second);
                assert_eq!(
                    lab.status().prefixes_sent,
                    i64::try_from(second).expect("few")
                );
            }
        }
        written
    };
    let one = intervals(1);
    assert!((3..=7).contains(&one[0]), "{one:?}");
    for pair in one.windows(2) {
        assert!((60..=91).contains(&(pair[1] - pair[0])), "{one:?}");
    }
    assert_ne!(one, intervals(2), "not all nodes at the same moment");
}

#[test]
fn a_digest_is_computed_when_counters_are_due_and_never_outlives_its_routes() {
    let after = |update| PeerStatus {
        sent: MessageCounters {
            update,
            ..MessageCounters::default()
        },
        ..peer(State::Established)
    };
    let undigested = |lab: &Lab, peer: &PeerStatus| {
        let peers = std::slice::from_ref(peer);
        lab.ledger.undigested(lab.now, peers).len()
    };
    let mut lab = Lab::new();
    lab.update(&[after(0)]);
    assert_eq!(undigested(&lab, &after(2)), 0, "just written");
    lab.now += SECOND * 7;
    assert_eq!(undigested(&lab, &peer(State::Active)), 0, "no session");
    assert_eq!(undigested(&lab, &after(2)), 1);
    lab.ledger.set_digest(&after(2), "aa".to_owned());
    assert!(lab.writes_after(Duration::ZERO, &after(2)));
    assert_eq!(lab.status().digest.as_deref(), Some("aa"));
    // Equally many routes, but others. They wait as counters do.
    assert!(!lab.writes_after(SECOND, &after(3)));
    assert_eq!(undigested(&lab, &after(3)), 0, "not due yet");
    lab.now += SECOND * 91;
    assert_eq!(undigested(&lab, &after(3)), 1);
    lab.ledger.set_digest(&after(3), "aa".to_owned());
    assert!(!lab.writes_after(Duration::ZERO, &after(3)), "the same");
    lab.ledger.set_digest(&after(4), "bb".to_owned());
    assert!(lab.writes_after(Duration::ZERO, &after(4)));
    assert_eq!(lab.status().digest.as_deref(), Some("bb"));
    let lost = PeerStatus {
        sent: after(4).sent,
        ..peer(State::Active)
    };
    assert!(lab.writes_after(SECOND, &lost));
    assert_eq!(lab.status().digest, None);
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let mut lab = Lab::new();
    let mut established = PeerStatus {
        last_error: Some(error("peer-shut-down", SECOND * 9)),
        ..peer(State::Established)
    };
    lab.update(std::slice::from_ref(&established));
    for _ in 0..1000 {
        // The engine's times have fractions of seconds.
        let step = Duration::from_millis(1003);
        established.since += step;
        let error = established.last_error.as_mut().expect("an error");
        error.ago += step;
        assert!(!lab.writes_after(step, &established));
    }
}

#[test]
fn a_session_that_comes_and_goes_is_written_at_most_twice_a_second() {
    let mut lab = Lab::new();
    let mut writes = 0;
    for turn in 0..100_u64 {
        let state = [State::Established, State::Active][usize::from(turn % 2 == 1)];
        let flapping = PeerStatus {
            established_count: turn / 2 + 1,
            ..peer(state)
        };
        writes += usize::from(lab.writes_after(SECOND / 10, &flapping));
    }
    assert!((10..=20).contains(&writes), "{writes} in 10 s");
}

#[test]
fn a_removed_peer_loses_its_object_and_a_network_has_none() {
    let mut lab = Lab::new();
    lab.update(&[peer(State::Established)]);
    lab.now += SECOND;
    assert!(lab.update(&[]).changed);
    assert_eq!(lab.ledger.statuses().count(), 0);
    assert!(!lab.update(&[]).changed);

    let network = PeerStatus {
        remote: Remote::Network("10.0.0.0/24".parse().expect("a network")),
        ..peer(State::Idle)
    };
    let neighbour = PeerStatus {
        name: "tor@10.0.0.9".to_owned(),
        template: Some("tor".to_owned()),
        ..peer(State::Established)
    };
    lab.update(&[network, neighbour]);
    let (session, status) = lab.ledger.statuses().next().expect("a session");
    assert_eq!((session, &*status.peer), ("tor@10.0.0.9", "tor"));
    assert_eq!(lab.ledger.statuses().count(), 1);
}

#[test]
fn an_unnumbered_session_has_an_object_also_while_the_address_is_unknown() {
    let mut lab = Lab::new();
    let unnumbered = PeerStatus {
        remote: Remote::unknown_on_link(179),
        ..peer(State::Active)
    };
    lab.update(std::slice::from_ref(&unnumbered));
    assert!(lab.writes_after(SECOND, &unnumbered));
    assert_eq!(
        (lab.status().bgp, &*lab.status().address),
        (BgpState::Active, "")
    );
}
