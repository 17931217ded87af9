//! The whole BFD machine: session lookup, two machines joined by a lossy link, random inputs.

use std::num::NonZeroU8;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const INTERFACE: u32 = 3;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn path(remote: &str) -> Path {
    Path {
        remote: ip(remote),
        local: None,
        interface: None,
        hops: Hops::Single,
    }
}

fn config(tx: u32, rx: u32, mult: u8) -> SessionConfig {
    SessionConfig {
        timers: Timers {
            desired_min_tx: Interval::from_millis(tx),
            required_min_rx: Interval::from_millis(rx),
            detect_mult: NonZeroU8::new(mult).unwrap(),
        },
        ..SessionConfig::default()
    }
}

fn set(path: Path, config: SessionConfig) -> Input<'static> {
    Input::Set { path, config }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn arrival<'a>(remote: &str, octets: &'a [u8]) -> Arrival<'a> {
    Arrival {
        remote: ip(remote),
        local: ip(A),
        interface: INTERFACE,
        hops: Hops::Single,
        ttl: 255,
        octets,
    }
}

/// A packet of a peer in state Down with timers 100 ms × 3.
fn hello(your_discriminator: u32) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Down,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        detect_mult: 3,
        my_discriminator: 42,
        your_discriminator,
        desired_min_tx: Interval::from_millis(100),
        required_min_rx: Interval::from_millis(100),
        required_min_echo_rx: Interval(0),
        authentication: None,
    }
}

fn status(bfd: &Bfd, path: Path) -> SessionStatus {
    bfd.status()
        .find(|status| status.path == path)
        .expect("there")
}

/// A machine with one session in state Up, 100 ms × 3 in both directions.
fn up() -> (Bfd, Instant) {
    let (mut bfd, now) = (Bfd::new(1), Instant::now());
    bfd.handle(now, set(path(B), config(100, 100, 3)));
    bfd.handle(now, Input::Received(arrival(B, &hello(0).encode())));
    let init = Packet {
        state: State::Init,
        ..hello(status(&bfd, path(B)).discriminator)
    };
    bfd.handle(now, Input::Received(arrival(B, &init.encode())));
    assert_eq!(status(&bfd, path(B)).state, State::Up);
    while bfd.poll_output().is_some() {}
    (bfd, now)
}

#[test]
fn an_invalid_packet_is_counted_and_does_not_restart_the_detection_time_rfc5880_6_8_6() {
    let (bfd, _) = up();
    let ours = status(&bfd, path(B)).discriminator;
    let good = Packet {
        state: State::Up,
        ..hello(ours)
    };
    let with = |at: usize, value: u8| {
        let mut octets = good.encode().to_vec();
        octets[at] = value;
        octets
    };
    let unknown = Packet {
        your_discriminator: ours ^ 1,
        ..good
    };
    let authenticated = {
        let mut octets = with(1, 0xc4);
        octets[3] = 28;
        octets.extend([1, 4, 7, b'x']);
        octets
    };
    let mut without_discriminator = with(1, 0xc0);
    without_discriminator[8..12].fill(0);
    let cases: [(&str, Vec<u8>, u8); 11] = [
        ("version", with(0, 0x40), 255),
        ("length below minimum", with(3, 23), 255),
        ("length above datagram", with(3, 25), 255),
        ("short", good.encode()[..20].to_vec(), 255),
        ("multiplier", with(2, 0), 255),
        ("multipoint", with(1, 0xc1), 255),
        ("my discriminator", with(7, 0), 255),
        ("unknown discriminator", unknown.encode().to_vec(), 255),
        ("no discriminator in Up", without_discriminator, 255),
        ("authentication", authenticated, 255),
        ("TTL", good.encode().to_vec(), 254),
    ];
    for (name, octets, ttl) in cases {
        let (mut bfd, mut now) = up();
        for _ in 0..20 {
            now += millis(50);
            let bad = Arrival {
                ttl,
                ..arrival(B, &octets)
            };
            bfd.handle(now, Input::Received(bad));
            bfd.handle(now, Input::Timeout);
        }
        let status = status(&bfd, path(B));
        let without_session = bfd.without_session().count;
        assert_eq!(status.discarded.count + without_session, 20, "{name}");
        assert_eq!(
            without_session > 0,
            name == "unknown discriminator",
            "{name}"
        );
        assert_eq!(
            status.diagnostic,
            Diagnostic::DETECTION_TIME_EXPIRED,
            "{name}"
        );
        assert_eq!(status.received, 2, "{name}");
    }
}

#[test]
fn the_text_of_a_discard_states_the_reason() {
    let authentication = Discard::Authenticated(AuthenticationType::KEYED_SHA1).to_string();
    assert_eq!(
        authentication,
        "Keyed SHA1 authentication is unsupported: disable BFD authentication on the peer"
    );
    let ttl = Discard::Ttl { ttl: 63, min: 255 };
    assert_eq!(ttl.to_string(), "TTL 63 is below 255");
}

#[test]
fn a_first_packet_is_matched_by_port_addresses_and_interface_rfc5881_3() {
    let mut bfd = Bfd::new(1);
    let now = Instant::now();
    let any = path(B);
    let exact = Path {
        local: Some(ip(A)),
        ..path(B)
    };
    let far = Path {
        hops: Hops::Multi,
        ..path(B)
    };
    let link = Path {
        interface: Some(INTERFACE),
        ..path("fe80::2")
    };
    for path in [any, exact, far, link] {
        bfd.handle(now, set(path, config(100, 100, 3)));
    }
    let octets = hello(0).encode();
    let from = |remote| arrival(remote, &octets);
    let cases = [
        (from(B), Some(exact)),
        (from("::ffff:192.0.2.2"), Some(exact)),
        (
            Arrival {
                local: ip("192.0.2.9"),
                ..from(B)
            },
            Some(any),
        ),
        (
            Arrival {
                hops: Hops::Multi,
                ttl: 254,
                ..from(B)
            },
            Some(far),
        ),
        (from("fe80::2"), Some(link)),
        (
            Arrival {
                interface: 4,
                ..from("fe80::2")
            },
            None,
        ),
        (from("192.0.2.3"), None),
    ];
    for (arrival, expected) in cases {
        let count = |bfd: &Bfd| -> Vec<_> { bfd.status().map(|s| (s.path, s.received)).collect() };
        let (before, without_session) = (count(&bfd), bfd.without_session().count);
        bfd.handle(now, Input::Received(arrival));
        let differs = |((path, after), (_, before)): &((Path, u64), (Path, u64))| {
            (after > before).then_some(*path)
        };
        let hit: Vec<_> = count(&bfd)
            .into_iter()
            .zip(before)
            .filter_map(|x| differs(&x))
            .collect();
        assert_eq!(hit, Vec::from_iter(expected), "{arrival:?}");
        assert_eq!(
            bfd.without_session().count - without_session,
            u64::from(expected.is_none())
        );
    }
    assert_eq!(bfd.without_session().last, Some(Discard::UnknownAddress));
}

#[test]
fn a_discriminator_takes_precedence_over_the_address_but_not_over_the_port() {
    let (mut bfd, now) = up();
    let ours = status(&bfd, path(B)).discriminator;
    let octets = Packet {
        state: State::Up,
        ..hello(ours)
    }
    .encode();
    bfd.handle(now, Input::Received(arrival("192.0.2.77", &octets)));
    assert_eq!(status(&bfd, path(B)).received, 3);
    let far = Arrival {
        hops: Hops::Multi,
        ..arrival(B, &octets)
    };
    bfd.handle(now, Input::Received(far));
    assert_eq!(
        bfd.without_session().last,
        Some(Discard::UnknownDiscriminator(ours))
    );
}

#[test]
fn the_minimum_ttl_of_a_multihop_session_is_configurable_rfc5883_5() {
    let far = Path {
        hops: Hops::Multi,
        ..path(B)
    };
    let mut bfd = Bfd::new(1);
    let now = Instant::now();
    let config = SessionConfig {
        min_ttl: 250,
        ..config(100, 100, 3)
    };
    bfd.handle(now, set(far, config));
    for (ttl, received) in [(249, 0), (250, 1), (255, 2)] {
        let octets = hello(0).encode();
        let arrival = Arrival {
            hops: Hops::Multi,
            ttl,
            ..arrival(B, &octets)
        };
        bfd.handle(now, Input::Received(arrival));
        assert_eq!(status(&bfd, far).received, received, "{ttl}");
    }
    let expected = Discard::Ttl { ttl: 249, min: 250 };
    assert_eq!(status(&bfd, far).discarded.last, Some(expected));
    assert_eq!((Hops::Single.port(), Hops::Multi.port()), (3784, 4784));
}

#[test]
fn a_removed_session_sends_nothing_and_its_packets_match_no_session() {
    let (mut bfd, now) = up();
    let ours = status(&bfd, path(B)).discriminator;
    bfd.handle(now, Input::Remove { path: path(B) });
    assert_eq!(bfd.poll_timeout(), None);
    assert_eq!(bfd.poll_transmit(now + millis(5000)), None);
    let octets = Packet {
        state: State::Up,
        ..hello(ours)
    }
    .encode();
    bfd.handle(now, Input::Received(arrival(B, &octets)));
    assert_eq!(
        bfd.without_session().last,
        Some(Discard::UnknownDiscriminator(ours))
    );
    // They do not match a new session on the same path either.
    bfd.handle(now, set(path(B), config(100, 100, 3)));
    bfd.handle(now, Input::Received(arrival(B, &octets)));
    let received = status(&bfd, path(B)).received;
    assert_eq!((received, bfd.without_session().count), (0, 2));
}

/// Two machines joined by a link with virtual time.
struct Link {
    ends: [Bfd; 2],
    now: Instant,
    /// Packets in flight: arrival time, receiving end, octets.
    wire: Vec<(Instant, usize, Vec<u8>)>,
    /// State changes of each end.
    changes: [Vec<(Instant, Change)>; 2],
    /// Packets sent by each end, lost ones included.
    sent: [u64; 2],
    rng: fastrand::Rng,
    /// Packet loss towards each end, in percent.
    loss: [u32; 2],
    /// Maximum scheduling delay of the host, in milliseconds.
    late: u64,
}

const NAMES: [&str; 2] = [A, B];

impl Link {
    fn new(configs: [SessionConfig; 2], seed: u64) -> Self {
        let now = Instant::now();
        let mut link = Self {
            ends: [Bfd::new(seed), Bfd::new(seed + 1)],
            now,
            wire: Vec::new(),
            changes: [Vec::new(), Vec::new()],
            sent: [0; 2],
            rng: fastrand::Rng::with_seed(seed),
            loss: [0; 2],
            late: 0,
        };
        for (end, config) in configs.into_iter().enumerate() {
            link.input(end, set(path(NAMES[1 - end]), config));
        }
        link
    }

    fn input(&mut self, end: usize, input: Input<'_>) {
        let bfd = &mut self.ends[end];
        bfd.handle(self.now, input);
        while let Some(change) = bfd.poll_output() {
            self.changes[end].push((self.now, change));
        }
        while let Some(transmit) = bfd.poll_transmit(self.now) {
            self.sent[end] += 1;
            let there = 1 - end;
            if self.rng.u32(0..100) >= self.loss[there] {
                let at = self.now + Duration::from_micros(self.rng.u64(200..3000));
                // Packets keep their order: a Down after an Init would be a new failure.
                let mut before = self.wire.iter().filter(|(_, to, _)| *to == there);
                let at = before.next_back().map_or(at, |(last, ..)| at.max(*last));
                self.wire.push((at, there, transmit.octets.to_vec()));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timeouts = self.ends.iter().filter_map(Bfd::poll_timeout);
            let next = self.wire.iter().map(|(at, ..)| *at).chain(timeouts).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next) + millis(self.rng.u64(0..=self.late));
            let now = self.now;
            // Readable datagrams are processed before timeouts.
            let (due, rest) = self.wire.drain(..).partition(|(at, ..)| *at <= now);
            self.wire = rest;
            for (_, to, octets) in Vec::from_iter::<Vec<_>>(due) {
                self.input(to, Input::Received(arrival(NAMES[1 - to], &octets)));
            }
            self.input(0, Input::Timeout);
            self.input(1, Input::Timeout);
        }
        self.now = self.now.max(end);
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|end| status(&self.ends[end], path(NAMES[1 - end])).state)
    }

    fn failures(&self) -> usize {
        let changes = self.changes.iter().flatten();
        changes.filter(|(_, change)| change.is_failure()).count()
    }
}

const UP: [State; 2] = [State::Up, State::Up];

#[test]
fn two_ends_come_up_at_once_and_then_send_at_the_negotiated_rate_rfc5880_6_8_2() {
    let mut link = Link::new([config(50, 100, 3), config(200, 50, 5)], 1);
    link.pass(millis(1100));
    assert_eq!(link.states(), UP);
    link.pass(millis(1000));
    let [a, b] = [0, 1].map(|end| status(&link.ends[end], path(NAMES[1 - end])));
    assert_eq!(a.transmit_interval, Some(millis(50)));
    assert_eq!(b.transmit_interval, Some(millis(200)));
    assert_eq!(a.detection_time, Some(millis(5 * 200)));
    assert_eq!(b.detection_time, Some(millis(3 * 50)));
    assert_eq!(a.remote_detection_time, millis(3 * 50));
    let before = link.sent;
    link.pass(Duration::from_secs(100));
    let sent = [0, 1].map(|end| link.sent[end] - before[end]);
    assert!((2000..=2667).contains(&sent[0]), "{sent:?}");
    assert!((500..=667).contains(&sent[1]), "{sent:?}");
    assert_eq!(link.failures(), 0);
}

#[test]
fn a_passive_end_comes_up_with_an_active_one_only_rfc5880_6_1() {
    let passive = SessionConfig {
        role: Role::Passive,
        ..config(100, 100, 3)
    };
    let mut link = Link::new([config(100, 100, 3), passive], 2);
    link.pass(millis(1500));
    assert_eq!(link.states(), UP);
    let mut link = Link::new([passive, passive], 2);
    link.pass(millis(5000));
    assert_eq!((link.states(), link.sent), ([State::Down; 2], [0, 0]));
}

#[test]
fn a_path_failure_is_detected_within_the_detection_time_and_recovers() {
    for seed in 0..20 {
        let mut link = Link::new([config(50, 50, 3); 2], seed);
        link.pass(millis(2500));
        assert_eq!(link.states(), UP);
        link.loss = [100, 100];
        let cut = link.now;
        // Packets in flight may still arrive for 3 ms.
        link.pass(millis(153));
        for changes in &link.changes {
            let (at, change) = changes.last().expect("changed");
            assert_eq!(change.cause, Cause::DetectionTimeExpired);
            assert!(*at > cut + millis(90), "two packets in a row may be lost");
        }
        link.pass(millis(5000));
        assert_eq!(link.states(), [State::Down; 2]);
        link.loss = [0, 0];
        link.pass(millis(2100));
        assert_eq!(link.states(), UP);
        assert_eq!(status(&link.ends[0], path(B)).flaps, 1);
    }
}

#[test]
fn a_unidirectional_failure_takes_both_ends_down_with_diagnostics_1_and_3_rfc5880_4_1() {
    let mut link = Link::new([config(50, 50, 3); 2], 3);
    link.pass(millis(2500));
    link.loss = [0, 100];
    link.pass(millis(160));
    let causes = [0, 1].map(|end| link.changes[end].last().map(|(_, change)| change.cause));
    let signaled = Cause::PeerDown(Diagnostic::DETECTION_TIME_EXPIRED);
    assert_eq!(causes, [Some(signaled), Some(Cause::DetectionTimeExpired)]);
    let diagnostic = status(&link.ends[0], path(B)).diagnostic;
    assert_eq!(diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    // The end that receives nothing never sends Init, so neither end comes up.
    link.pass(millis(10_000));
    assert!(!link.states().contains(&State::Up), "{:?}", link.states());
}

#[test]
fn the_session_survives_two_consecutive_lost_packets_but_not_three() {
    for (lost, failures) in [(2, 0), (3, 1)] {
        let mut link = Link::new([config(100, 100, 3); 2], 4);
        link.pass(millis(3000));
        let begun = link.sent[0];
        link.loss = [0, 100];
        while link.sent[0] < begun + lost {
            link.pass(millis(1));
        }
        // With short jitter the packet after the third could arrive in time: wait longer.
        if lost == 3 {
            link.pass(millis(80));
        }
        link.loss = [0, 0];
        link.pass(millis(100));
        let failed = status(&link.ends[1], path(A)).flaps;
        assert_eq!(failed, failures, "{lost} lost");
    }
}

#[test]
fn admin_down_is_not_a_failure_at_either_end_and_admin_up_recovers_rfc5882_4_2() {
    let mut link = Link::new([config(50, 50, 3); 2], 5);
    link.pass(millis(2500));
    link.input(0, Input::AdminDown { path: path(B) });
    link.pass(millis(10_000));
    assert_eq!(link.states(), [State::AdminDown, State::Down]);
    assert_eq!(
        link.changes[1].last().map(|(_, c)| c.cause),
        Some(Cause::PeerAdminDown)
    );
    link.input(0, Input::AdminUp { path: path(B) });
    link.pass(millis(3000));
    assert_eq!((link.states(), link.failures()), (UP, 0));
}

#[test]
fn a_restart_of_the_peer_is_detected_and_the_session_recovers() {
    let mut link = Link::new([config(50, 50, 3); 2], 6);
    link.pass(millis(2500));
    link.ends[1] = Bfd::new(99);
    link.input(1, set(path(A), config(50, 50, 3)));
    link.pass(millis(2500));
    assert_eq!((link.states(), link.failures()), (UP, 1));
}

#[test]
fn timer_changes_take_no_session_down_on_a_slow_host_rfc5880_6_8_3() {
    for seed in 0..10 {
        let mut link = Link::new([config(50, 50, 3); 2], seed);
        link.late = 4;
        link.pass(millis(2500));
        assert_eq!(link.states(), UP);
        for _ in 0..200 {
            let mut any = || link.rng.choice([50, 60, 100, 300, 1000, 2000]).unwrap();
            let (tx, rx) = (any(), any());
            let mult = link.rng.u8(3..6);
            let end = link.rng.usize(0..2);
            link.input(end, set(path(NAMES[1 - end]), config(tx, rx, mult)));
            let pause = millis(link.rng.u64(1..400));
            link.pass(pause);
        }
        assert_eq!((link.states(), link.failures()), (UP, 0), "seed {seed}");
        // The last configuration is in force at both ends.
        for end in [0, 1] {
            link.input(end, set(path(NAMES[1 - end]), config(50, 50, 3)));
        }
        link.pass(Duration::from_secs(10));
        let status = status(&link.ends[0], path(B));
        assert_eq!(status.detection_time, Some(millis(150)), "seed {seed}");
        assert_eq!(status.transmit_interval, Some(millis(50)), "seed {seed}");
    }
}

#[test]
fn the_same_seed_and_inputs_produce_the_same_packets() {
    let run = |seed| {
        let (mut bfd, begin) = (Bfd::new(seed), Instant::now());
        bfd.handle(begin, set(path(B), config(1000, 1000, 3)));
        let mut now = begin;
        let mut sent = Vec::new();
        while sent.len() < 20 {
            bfd.handle(now, Input::Timeout);
            sent.extend(
                bfd.poll_transmit(now)
                    .map(|packet| (now - begin, packet.octets)),
            );
            now = bfd.poll_timeout().expect("goes on");
        }
        sent
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any loss and any configuration changes.
    #[test]
    fn two_ends_come_up_once_packets_are_no_longer_lost(
        seed in any::<u64>(),
        loss in (0u32..101, 0u32..101),
        settings in prop::collection::vec((10u32..400, 10u32..400, 3u8..6, 0u64..700), 1..12),
    ) {
        let mut link = Link::new([config(50, 50, 3); 2], seed);
        link.loss = [loss.0, loss.1];
        for (i, (tx, rx, mult, pause)) in settings.into_iter().enumerate() {
            let end = i % 2;
            link.input(end, set(path(NAMES[1 - end]), config(tx, rx, mult)));
            link.pass(millis(pause));
        }
        link.loss = [0, 0];
        // The longest detection time of `settings` and two packets at the slow rate.
        link.pass(millis(5 * 1000 + 2000));
        prop_assert_eq!(link.states(), UP);
        let failures = link.failures();
        link.pass(Duration::from_secs(20));
        prop_assert_eq!((link.states(), link.failures()), (UP, failures));
        let polling = link.wire.iter().any(|(_, _, octets)| octets[1] & 0x30 != 0);
        prop_assert!(!polling, "every poll was answered");
    }
}

/// One random input.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Set(u32, u32, u8, bool),
    Admin(bool),
    /// State and flags, timers, multiplier, whether Your Discriminator is correct.
    Receive(u8, u32, u32, u8, bool),
    Octets(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..2000).prop_map(Step::Wait),
        1 => (10u32..2000, 10u32..2000, 1u8.., any::<bool>())
            .prop_map(|(tx, rx, mult, passive)| Step::Set(tx, rx, mult, passive)),
        1 => any::<bool>().prop_map(Step::Admin),
        8 => (any::<u8>(), 0u32..3_000_000, 0u32..3_000_000, 0u8..6, any::<bool>())
            .prop_map(|(flags, tx, rx, mult, ours)| Step::Receive(flags & !5, tx, rx, mult, ours)),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Octets),
    ]
}

proptest! {
    #[test]
    fn random_inputs_never_break_the_transmission_rules_rfc5880_6_8_7(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (mut bfd, mut now) = (Bfd::new(1), Instant::now());
        bfd.handle(now, set(path(B), config(100, 100, 3)));
        let mut passive = false;
        let mut state = State::Down;
        for step in steps {
            let before = status(&bfd, path(B));
            let mut final_allowed = 0;
            match step {
                Step::Wait(wait) => {
                    now += millis(wait);
                    bfd.handle(now, Input::Timeout);
                }
                Step::Set(tx, rx, mult, role) => {
                    passive = role;
                    let role = if role { Role::Passive } else { Role::Active };
                    bfd.handle(now, set(path(B), SessionConfig { role, ..config(tx, rx, mult) }));
                }
                Step::Admin(true) => bfd.handle(now, Input::AdminDown { path: path(B) }),
                Step::Admin(false) => bfd.handle(now, Input::AdminUp { path: path(B) }),
                Step::Receive(flags, tx, rx, mult, ours) => {
                    let mut octets = hello(if ours { before.discriminator } else { 0 }).encode();
                    (octets[1], octets[2]) = (flags, mult);
                    octets[12..16].copy_from_slice(&tx.to_be_bytes());
                    octets[16..20].copy_from_slice(&rx.to_be_bytes());
                    final_allowed = usize::from(flags & 0x20 != 0);
                    bfd.handle(now, Input::Received(arrival(B, &octets)));
                }
                Step::Octets(octets) => bfd.handle(now, Input::Received(arrival(B, &octets))),
            }
            while let Some(change) = bfd.poll_output() {
                prop_assert_eq!(change.from, state, "changes are consecutive");
                prop_assert_ne!(change.from, change.to);
                state = change.to;
            }
            let after = status(&bfd, path(B));
            prop_assert_eq!(after.state, state, "every change is reported");
            prop_assert!(after.flaps >= before.flaps);
            let mut sent = Vec::new();
            while let Some(transmit) = bfd.poll_transmit(now) {
                sent.push(Packet::decode(&transmit.octets).expect("good"));
            }
            prop_assert!(sent.len() <= 2, "at most one periodic packet and one final");
            let finals = sent.iter().filter(|packet| packet.is_final).count();
            prop_assert!(finals <= final_allowed);
            for packet in sent {
                prop_assert!(!(packet.poll && packet.is_final));
                prop_assert!(!packet.poll || state == State::Up);
                prop_assert_eq!(packet.state, state);
                prop_assert_eq!(packet.my_discriminator, after.discriminator);
                prop_assert_eq!(packet.your_discriminator, after.remote_discriminator);
                prop_assert!(state == State::Up || packet.desired_min_tx.0 >= 1_000_000);
                prop_assert!(!passive || packet.your_discriminator != 0);
            }
            bfd.handle(now, Input::Timeout);
            while let Some(change) = bfd.poll_output() {
                state = change.to;
            }
            while bfd.poll_transmit(now).is_some() {}
            prop_assert!(bfd.poll_timeout().is_none_or(|at| at > now), "never a busy loop");
        }
    }
}
