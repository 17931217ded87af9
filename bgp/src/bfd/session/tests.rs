//! A single session: every input in every state, and the transmission schedule.

use std::num::NonZeroU8;

use super::*;
use crate::bfd::timers::Timers;

const STATES: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];
const OURS: u32 = 7;
const THEIRS: u32 = 9;

fn path() -> Path {
    Path {
        remote: "192.0.2.1".parse().unwrap(),
        local: None,
        interface: None,
        hops: Hops::Single,
    }
}

fn timers(tx: u32, rx: u32, mult: u8) -> Timers {
    Timers {
        desired_min_tx: Interval::from_millis(tx),
        required_min_rx: Interval::from_millis(rx),
        detect_mult: NonZeroU8::new(mult).unwrap(),
    }
}

fn config(tx: u32, rx: u32, mult: u8) -> SessionConfig {
    SessionConfig {
        timers: timers(tx, rx, mult),
        ..SessionConfig::default()
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A packet of the peer, 100 ms × 3 in both directions.
fn packet(state: State) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        detect_mult: 3,
        my_discriminator: THEIRS,
        your_discriminator: OURS,
        desired_min_tx: Interval::from_millis(100),
        required_min_rx: Interval::from_millis(100),
        required_min_echo_rx: Interval(0),
        authentication: None,
    }
}

/// An input to a session.
type Act = fn(&mut Bench) -> Option<Change>;

/// A session with virtual time.
struct Bench {
    session: BfdSession,
    now: Instant,
    rng: fastrand::Rng,
}

impl Bench {
    fn new(config: SessionConfig) -> Self {
        let now = Instant::now();
        Self {
            session: BfdSession::new(now, path(), config, OURS),
            now,
            rng: fastrand::Rng::with_seed(1),
        }
    }

    /// In `state`, after packets in both directions, with nothing due.
    fn in_state(config: SessionConfig, state: State) -> Self {
        let mut bench = Self::new(config);
        bench.receive(packet(State::Down));
        match state {
            State::Init => {}
            State::Up => {
                bench.receive(packet(State::Up));
            }
            State::Down => {
                bench.receive(packet(State::AdminDown));
            }
            State::AdminDown => {
                bench.session.admin_down(bench.now);
            }
        }
        assert_eq!(bench.session.state, state);
        bench.sent();
        bench
    }

    /// In state Up, after its Poll Sequence.
    fn up(config: SessionConfig) -> Self {
        let mut bench = Self::in_state(config, State::Up);
        bench.receive(Packet {
            is_final: true,
            ..packet(State::Up)
        });
        assert!(!bench.session.intervals.polling());
        bench
    }

    fn receive(&mut self, packet: Packet) -> Option<Change> {
        self.session.check(&packet, 255).expect("good");
        self.session.received(self.now, &packet)
    }

    /// All packets that are due.
    fn sent(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.session.transmit(self.now, &mut self.rng))
            .map(|octets| Packet::decode(&octets).expect("good"))
            .collect()
    }

    /// Advances the time from deadline to deadline. Returns the sent packets.
    fn pass(&mut self, time: Duration) -> Vec<(Instant, Packet)> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.session.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.timeout(self.now);
            sent.extend(self.sent().into_iter().map(|packet| (self.now, packet)));
            assert!(self.session.deadline().is_none_or(|at| at > self.now));
        }
        self.now = end;
        sent
    }
}

#[test]
fn every_input_in_every_state_rfc5880_6_8_6() {
    use Cause::{Administrative, DetectionTimeExpired, Handshake, PeerAdminDown};
    use State::{AdminDown, Down, Init, Up};
    let peer_down = Cause::PeerDown(Diagnostic::PATH_DOWN);
    let (none, expired, signaled, admin) = (
        Diagnostic::NONE,
        Diagnostic::DETECTION_TIME_EXPIRED,
        Diagnostic::NEIGHBOR_SIGNALED_DOWN,
        Diagnostic::ADMINISTRATIVELY_DOWN,
    );
    // Rows are inputs, columns are states. `None` means no change.
    type Cell = Option<(State, Cause, Diagnostic)>;
    fn receive(bench: &mut Bench, state: State) -> Option<Change> {
        bench.receive(Packet {
            diagnostic: Diagnostic::PATH_DOWN,
            ..packet(state)
        })
    }
    let rows: [(&str, Act, [Cell; 4]); 7] = [
        (
            "receives AdminDown",
            |b| receive(b, AdminDown),
            [
                None,
                None,
                Some((Down, PeerAdminDown, signaled)),
                Some((Down, PeerAdminDown, signaled)),
            ],
        ),
        (
            "receives Down",
            |b| receive(b, Down),
            [
                None,
                // The diagnostic of the last failure is kept.
                Some((Init, Handshake, signaled)),
                None,
                Some((Down, peer_down, signaled)),
            ],
        ),
        (
            "receives Init",
            |b| receive(b, Init),
            [
                None,
                Some((Up, Handshake, none)),
                Some((Up, Handshake, none)),
                None,
            ],
        ),
        (
            "receives Up",
            |b| receive(b, Up),
            [None, None, Some((Up, Handshake, none)), None],
        ),
        (
            "detection time expires",
            |b| {
                b.now += Duration::from_secs(60);
                b.session.timeout(b.now)
            },
            [
                None,
                None,
                Some((Down, DetectionTimeExpired, expired)),
                Some((Down, DetectionTimeExpired, expired)),
            ],
        ),
        (
            "AdminDown requested",
            |b| b.session.admin_down(b.now),
            [
                None,
                Some((AdminDown, Administrative, admin)),
                Some((AdminDown, Administrative, admin)),
                Some((AdminDown, Administrative, admin)),
            ],
        ),
        (
            "AdminUp requested",
            |b| b.session.admin_up(b.now),
            [Some((Down, Administrative, none)), None, None, None],
        ),
    ];
    for (what, act, cells) in rows {
        for (from, cell) in STATES.into_iter().zip(cells) {
            let mut bench = Bench::in_state(config(100, 100, 3), from);
            let before = bench.session.diagnostic;
            let change = act(&mut bench);
            let expected = cell.map(|(to, cause, _)| Change {
                path: path(),
                from,
                to,
                cause,
            });
            assert_eq!(change, expected, "{from} {what}");
            let diagnostic = cell.map_or(before, |(_, _, diagnostic)| diagnostic);
            assert_eq!(bench.session.diagnostic, diagnostic, "{from} {what}");
            assert_eq!(
                bench.session.early.is_some(),
                cell.is_some(),
                "{from} {what}: a state change, and nothing else, is sent at once"
            );
        }
    }
}

#[test]
fn only_an_unrequested_transition_out_of_up_is_a_failure_and_a_flap() {
    let lost: [(Act, bool); 4] = [
        (|b| b.receive(packet(State::Down)), true),
        (
            |b| {
                b.now += Duration::from_secs(60);
                b.session.timeout(b.now)
            },
            true,
        ),
        (|b| b.receive(packet(State::AdminDown)), false),
        (|b| b.session.admin_down(b.now), false),
    ];
    for (act, failure) in lost {
        let mut bench = Bench::up(config(100, 100, 3));
        let change = act(&mut bench).expect("went down");
        assert_eq!(change.is_failure(), failure, "{change:?}");
        let status = bench.session.status();
        assert_eq!(status.flaps, u64::from(failure));
        assert_eq!(status.last_flap, failure.then_some(bench.now));
    }
}

#[test]
fn an_unfinished_handshake_is_not_a_failure() {
    let mut bench = Bench::in_state(config(100, 100, 3), State::Init);
    bench.now += Duration::from_secs(60);
    let change = bench.session.timeout(bench.now).expect("went down");
    assert_eq!(change.cause, Cause::DetectionTimeExpired);
    assert!(!change.is_failure());
    assert_eq!(bench.session.status().flaps, 0);
}

#[test]
fn transmission_is_slow_until_the_session_is_up_rfc5880_6_8_3() {
    for state in [State::AdminDown, State::Down, State::Init] {
        let mut bench = Bench::in_state(config(50, 50, 3), state);
        let sent = bench.pass(millis(2900));
        assert!((2..=4).contains(&sent.len()), "{state}: {}", sent.len());
        let slow = |(_, packet): &(Instant, Packet)| packet.desired_min_tx == SLOW;
        assert!(sent.iter().all(slow), "{state}");
    }
}

#[test]
fn admin_down_is_sent_at_the_former_rate_for_one_detection_time_rfc5880_6_8_16() {
    let mut bench = Bench::up(config(50, 50, 4));
    // The peer's Required Min RX Interval is 100 ms.
    let detection_time = bench.session.status().remote_detection_time;
    assert_eq!(detection_time, millis(400));
    bench.pass(millis(10));
    bench.session.admin_down(bench.now).expect("a change");
    let sent = bench.pass(detection_time);
    assert!((4..=7).contains(&sent.len()), "{}", sent.len());
    for (_, packet) in &sent {
        assert_eq!(packet.state, State::AdminDown);
        assert_eq!(packet.diagnostic, Diagnostic::ADMINISTRATIVELY_DOWN);
    }
    // Then the slow rate applies.
    bench.pass(millis(1000));
    assert!(bench.pass(millis(2900)).len() <= 4);
    // AdminDown before the session is Up again: the slow rate applies.
    bench.session.admin_up(bench.now).expect("a change");
    bench.sent();
    bench.session.admin_down(bench.now).expect("a change");
    assert!(bench.pass(millis(900)).len() <= 2);
}

#[test]
fn jitter_is_75_to_100_percent_of_the_interval_and_at_most_90_with_detect_mult_1_rfc5880_6_8_7() {
    for (mult, most) in [(3, 1000), (1, 900)] {
        let mut bench = Bench::new(config(1000, 1000, mult));
        let sent = bench.pass(Duration::from_secs(500));
        let gaps = sent.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let (least, longest) = gaps.fold((Duration::MAX, Duration::ZERO), |(a, b), gap| {
            (a.min(gap), b.max(gap))
        });
        assert!((750..770).contains(&least.as_millis()), "{least:?}");
        assert!(longest <= millis(most), "{longest:?}");
        assert!(longest > millis(most - 20), "{longest:?}");
    }
}

#[test]
fn the_transmit_interval_is_the_larger_of_our_tx_and_the_peers_rx_rfc5880_6_8_7() {
    for (ours, theirs, interval) in [(100, 300, 300), (300, 100, 300), (50, 10_000, 10_000)] {
        let mut bench = Bench::up(config(ours, 100, 3));
        bench.receive(Packet {
            required_min_rx: Interval::from_millis(theirs),
            ..packet(State::Up)
        });
        let status = bench.session.status();
        assert_eq!(status.transmit_interval, Some(millis(interval)));
        assert_eq!(status.remote_detection_time, millis(3 * interval));
    }
}

#[test]
fn a_lower_required_min_rx_of_the_peer_applies_at_once() {
    let mut bench = Bench::up(config(100, 100, 3));
    let slow = Packet {
        required_min_rx: Interval::from_millis(10_000),
        desired_min_tx: Interval::from_millis(10_000),
        ..packet(State::Up)
    };
    bench.receive(slow);
    bench.sent();
    assert!(bench.pass(Duration::from_secs(5)).is_empty());
    bench.receive(packet(State::Up));
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn the_detection_time_is_the_peers_multiplier_times_the_larger_interval_rfc5880_6_8_4() {
    for (our_rx, their_tx, their_mult, detection) in [
        (100, 50, 3, 300),
        (100, 400, 3, 1200),
        (50, 50, 1, 50),
        (50, 50, 255, 12_750),
    ] {
        let mut bench = Bench::up(config(100, our_rx, 7));
        bench.receive(Packet {
            desired_min_tx: Interval::from_millis(their_tx),
            detect_mult: their_mult,
            ..packet(State::Up)
        });
        bench.pass(millis(detection - 1));
        assert_eq!(bench.session.state, State::Up);
        bench.pass(millis(1));
        assert_eq!(bench.session.state, State::Down);
    }
}

#[test]
fn the_largest_values_of_a_packet_do_not_overflow() {
    let mut bench = Bench::up(config(100, 100, 3));
    bench.receive(Packet {
        desired_min_tx: Interval(u32::MAX),
        required_min_rx: Interval(u32::MAX),
        detect_mult: 255,
        ..packet(State::Up)
    });
    let expected = Duration::from_micros(255 * u64::from(u32::MAX));
    assert_eq!(bench.session.status().detection_time, Some(expected));
    assert!(bench.session.deadline().is_some_and(|at| at > bench.now));
}

#[test]
fn a_late_packet_that_is_processed_before_the_timeout_keeps_the_session_up() {
    let mut bench = Bench::up(config(100, 100, 3));
    bench.now += millis(500);
    bench.receive(packet(State::Up));
    assert_eq!(bench.session.timeout(bench.now), None);
    assert_eq!(bench.session.state, State::Up);
}

#[test]
fn a_poll_is_answered_at_once_in_every_state_but_admin_down_rfc5880_6_8_7() {
    for state in STATES {
        let mut bench = Bench::in_state(config(100, 100, 3), state);
        bench.receive(Packet {
            poll: true,
            // Up keeps a session in Up.
            state: if state == State::Up {
                State::Up
            } else {
                State::AdminDown
            },
            ..packet(state)
        });
        let answers: Vec<_> = bench.sent().iter().map(|p| (p.is_final, p.poll)).collect();
        let expected: &[_] = if state == State::AdminDown {
            &[]
        } else {
            &[(true, false)]
        };
        assert_eq!(answers, expected, "{state}");
    }
}

#[test]
fn a_final_does_not_shift_the_schedule_of_periodic_packets() {
    let mut bench = Bench::up(config(100, 100, 3));
    let due = bench.session.periodic_at();
    bench.now += millis(10);
    bench.receive(Packet {
        poll: true,
        ..packet(State::Up)
    });
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.session.periodic_at(), due);
}

#[test]
fn a_session_that_comes_up_polls_for_its_faster_timers_until_the_final_rfc5880_6_8_3() {
    let mut bench = Bench::in_state(config(100, 100, 3), State::Init);
    bench.receive(packet(State::Init));
    let first = bench.sent();
    assert!(
        matches!(
            first[..],
            [Packet {
                poll: true,
                state: State::Up,
                ..
            }]
        ),
        "{first:?}"
    );
    bench.receive(packet(State::Up));
    let next = bench.pass(millis(100));
    assert!(next.iter().all(|(_, packet)| packet.poll) && !next.is_empty());
    bench.receive(Packet {
        is_final: true,
        ..packet(State::Up)
    });
    let after = bench.pass(millis(100));
    assert!(after.iter().all(|(_, packet)| !packet.poll) && !after.is_empty());
}

#[test]
fn a_longer_transmit_interval_waits_for_the_final_and_a_shorter_does_not_rfc5880_6_8_3() {
    let mut bench = Bench::up(config(100, 100, 3));
    bench.session.configure(config(1000, 100, 3));
    assert_eq!(bench.session.transmit_interval(), millis(100));
    let polls = bench.pass(millis(100));
    assert!(
        polls
            .iter()
            .all(|(_, p)| p.poll && p.desired_min_tx == Interval::from_millis(1000))
    );
    bench.receive(Packet {
        is_final: true,
        ..packet(State::Up)
    });
    assert_eq!(bench.session.transmit_interval(), millis(1000));

    bench.session.configure(config(200, 100, 3));
    assert_eq!(bench.session.transmit_interval(), millis(200));
    assert!(bench.session.intervals.polling());
}

#[test]
fn a_shorter_receive_interval_waits_for_the_final_and_a_longer_does_not_rfc5880_6_8_3() {
    let mut bench = Bench::up(config(100, 500, 3));
    assert_eq!(bench.session.detection_time(), millis(1500));
    bench.session.configure(config(100, 200, 3));
    assert_eq!(bench.session.detection_time(), millis(1500));
    bench.pass(millis(100));
    bench.receive(Packet {
        is_final: true,
        ..packet(State::Up)
    });
    assert_eq!(bench.session.detection_time(), millis(600));
    bench.session.configure(config(100, 900, 3));
    assert_eq!(bench.session.detection_time(), millis(2700));
}

#[test]
fn a_new_detect_mult_needs_no_poll_sequence_rfc5880_6_8_12() {
    let mut bench = Bench::up(config(100, 100, 3));
    bench.session.configure(config(100, 100, 9));
    let sent = bench.pass(millis(100));
    assert!(sent.iter().all(|(_, p)| p.detect_mult == 9 && !p.poll) && !sent.is_empty());
}

#[test]
fn an_unrequested_or_stale_final_does_not_end_the_poll_sequence_rfc5880_6_5() {
    let answer = || Packet {
        is_final: true,
        ..packet(State::Up)
    };
    let mut bench = Bench::up(config(100, 100, 3));
    bench.session.configure(config(1000, 100, 3));
    bench.receive(answer());
    assert!(bench.session.intervals.polling(), "no poll was sent yet");
    assert!(!bench.pass(millis(100)).is_empty());
    // Another change while the final for that poll is in flight.
    bench.session.configure(config(2000, 100, 3));
    assert!(!bench.pass(millis(100)).is_empty());
    bench.receive(answer());
    assert!(
        bench.session.intervals.polling(),
        "the final answered the first poll"
    );
    bench.receive(answer());
    assert!(!bench.session.intervals.polling());
    assert_eq!(bench.session.transmit_interval(), millis(2000));
}

#[test]
fn a_peer_need_not_answer_all_of_many_unanswered_polls() {
    let mut bench = Bench::up(config(100, 100, 3));
    bench.session.configure(config(1000, 100, 3));
    for _ in 0..50 {
        bench.receive(packet(State::Up));
        bench.pass(millis(100));
    }
    bench.session.configure(config(2000, 100, 3));
    for answer in 1..=4 {
        assert!(bench.session.intervals.polling(), "before answer {answer}");
        bench.pass(millis(100));
        bench.receive(Packet {
            is_final: true,
            ..packet(State::Up)
        });
    }
    assert!(!bench.session.intervals.polling());
}

#[test]
fn a_peer_with_required_min_rx_0_receives_finals_only_rfc5880_6_8_7() {
    let mut bench = Bench::up(config(100, 100, 3));
    let no_periodic = Packet {
        required_min_rx: Interval(0),
        ..packet(State::Up)
    };
    bench.receive(no_periodic);
    assert!(bench.pass(millis(250)).is_empty());
    bench.receive(Packet {
        poll: true,
        ..no_periodic
    });
    assert!(matches!(bench.sent()[..], [Packet { is_final: true, .. }]));
    // Once the detection time has expired, the peer's request is void.
    bench.pass(millis(300));
    assert_eq!(bench.session.state, State::Down);
    assert!(!bench.pass(millis(1000)).is_empty());
}

#[test]
fn a_peer_in_demand_mode_receives_only_polls_while_both_ends_are_up_rfc5880_6_6() {
    let demand = |state| Packet {
        demand: true,
        ..packet(state)
    };
    let mut bench = Bench::up(config(100, 100, 3));
    bench.receive(demand(State::Up));
    assert!(bench.pass(millis(250)).is_empty());
    bench.session.configure(config(100, 200, 3));
    let polls = bench.sent();
    assert!(
        matches!(polls[..], [Packet { poll: true, .. }]),
        "{polls:?}"
    );
    bench.receive(Packet {
        is_final: true,
        ..demand(State::Up)
    });
    assert!(bench.pass(millis(250)).is_empty());
    bench.receive(demand(State::Down));
    let down = bench.sent();
    assert!(
        matches!(
            down[..],
            [Packet {
                state: State::Down,
                ..
            }]
        ),
        "{down:?}"
    );
}

#[test]
fn a_passive_end_sends_nothing_before_the_first_packet_and_after_expiry_rfc5880_6_8_7() {
    let passive = SessionConfig {
        role: Role::Passive,
        ..config(100, 100, 3)
    };
    let mut bench = Bench::new(passive);
    assert!(bench.pass(Duration::from_secs(60)).is_empty());
    assert_eq!(bench.session.deadline(), None);
    bench.receive(packet(State::Down));
    assert!(matches!(
        bench.sent()[..],
        [Packet {
            state: State::Init,
            ..
        }]
    ));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.session.state, State::Down);
    assert!(bench.pass(Duration::from_secs(60)).is_empty());
}

#[test]
fn the_remote_discriminator_is_cleared_when_the_detection_time_expires_rfc5880_6_8_1() {
    for state in STATES {
        let mut bench = Bench::in_state(config(100, 100, 3), state);
        assert_eq!(bench.session.status().remote_discriminator, THEIRS);
        bench.pass(millis(300));
        assert_eq!(bench.session.status().remote_discriminator, 0, "{state}");
        let sent = bench.pass(millis(1100));
        let last = sent.last().expect("a periodic packet");
        assert_eq!(last.1.your_discriminator, 0, "{state}");
    }
}

#[test]
fn a_restarted_peer_takes_the_session_down_at_once() {
    let mut bench = Bench::up(config(100, 100, 3));
    let fresh = Packet {
        my_discriminator: 1234,
        your_discriminator: 0,
        ..packet(State::Down)
    };
    assert!(
        bench
            .receive(fresh)
            .is_some_and(|change| change.is_failure())
    );
    let sent = bench.sent();
    assert!(matches!(
        sent[..],
        [Packet {
            state: State::Down,
            your_discriminator: 1234,
            ..
        }]
    ));
}

#[test]
fn an_error_names_the_interval_that_is_out_of_range() {
    assert_eq!(timers(10, 60_000, 1).check(), Ok(()));
    let slow = timers(100, 60_001, 3)
        .check()
        .expect_err("too slow")
        .to_string();
    assert_eq!(
        slow,
        "receive interval of 60001000 µs is not between 10 ms and 60 s"
    );
    let fast = timers(9, 100, 3).check().expect_err("too fast").to_string();
    assert_eq!(
        fast,
        "transmit interval of 9000 µs is not between 10 ms and 60 s"
    );
}
