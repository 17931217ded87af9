//! Handwritten packets and recorded packets of real routers.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Up, poll, Detect Mult 3, discriminators 1 and 2, 50 ms and 100 ms, no echo.
const UP: [u8; PACKET_LENGTH] = [
    0x20, 0xe0, 3, 24, // version 1, no diagnostic; Up and P
    0, 0, 0, 1, 0, 0, 0, 2, // discriminators
    0, 0, 0xc3, 0x50, 0, 1, 0x86, 0xa0, 0, 0, 0, 0,
];

fn up() -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        poll: true,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        detect_mult: 3,
        my_discriminator: 1,
        your_discriminator: 2,
        desired_min_tx: Interval::from_millis(50),
        required_min_rx: Interval::from_millis(100),
        required_min_echo_rx: Interval(0),
        authentication: None,
    }
}

fn with(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut octets = UP.to_vec();
    for (at, value) in changes {
        octets[*at] = *value;
    }
    octets
}

fn authenticated(section: &[u8]) -> Vec<u8> {
    let length = u8::try_from(PACKET_LENGTH + section.len()).expect("short");
    [&with(&[(1, 0xe4), (3, length)]), section].concat()
}

#[test]
fn a_packet_encodes_to_these_octets_rfc5880_4_1() {
    assert_eq!(up().encode(), UP);
    assert_eq!(Packet::decode(&UP), Ok(up()));
}

#[test]
fn flags_state_and_diagnostic_use_the_bits_of_rfc5880_4_1() {
    let cases: [(u8, u8, Packet); 7] = [
        (
            0x21,
            0x40,
            Packet {
                diagnostic: Diagnostic::DETECTION_TIME_EXPIRED,
                state: State::Down,
                poll: false,
                ..up()
            },
        ),
        (
            0x23,
            0x80,
            Packet {
                diagnostic: Diagnostic::NEIGHBOR_SIGNALED_DOWN,
                state: State::Init,
                poll: false,
                ..up()
            },
        ),
        (
            0x27,
            0x00,
            Packet {
                diagnostic: Diagnostic::ADMINISTRATIVELY_DOWN,
                state: State::AdminDown,
                poll: false,
                ..up()
            },
        ),
        (
            0x3f,
            0xc0,
            Packet {
                diagnostic: Diagnostic(31),
                poll: false,
                ..up()
            },
        ),
        (
            0x20,
            0xd0,
            Packet {
                is_final: true,
                poll: false,
                ..up()
            },
        ),
        (
            0x20,
            0xc8,
            Packet {
                control_plane_independent: true,
                poll: false,
                ..up()
            },
        ),
        (
            0x20,
            0xc2,
            Packet {
                demand: true,
                poll: false,
                ..up()
            },
        ),
    ];
    for (first, second, packet) in cases {
        let octets = with(&[(0, first), (1, second)]);
        assert_eq!(packet.encode().as_slice(), octets);
        assert_eq!(Packet::decode(&octets), Ok(packet));
    }
}

#[test]
fn a_diagnostic_of_more_than_five_bits_does_not_change_the_version() {
    let packet = Packet {
        diagnostic: Diagnostic(0xff),
        ..up()
    };
    assert_eq!(packet.encode()[0], 0x3f);
}

#[test]
fn each_check_rejects_an_otherwise_valid_packet_rfc5880_6_8_6() {
    let length = |length, octets| PacketError::Length { length, octets };
    let cases = [
        (UP[..23].to_vec(), PacketError::Short { octets: 23 }),
        (Vec::new(), PacketError::Short { octets: 0 }),
        (with(&[(0, 0x00)]), PacketError::Version(0)),
        (with(&[(0, 0x40)]), PacketError::Version(2)),
        (with(&[(3, 23)]), length(23, 24)),
        (with(&[(3, 25)]), length(25, 24)),
        (with(&[(3, 0)]), length(0, 24)),
        // With the A bit the minimum length is two octets higher.
        (with(&[(1, 0xe4)]), length(24, 24)),
        (with(&[(2, 0)]), PacketError::DetectMult),
        (with(&[(1, 0xe1)]), PacketError::Multipoint),
        (with(&[(7, 0)]), PacketError::MyDiscriminator),
        (with(&[(11, 0)]), PacketError::YourDiscriminator(State::Up)),
        (
            with(&[(1, 0x80), (11, 0)]),
            PacketError::YourDiscriminator(State::Init),
        ),
    ];
    for (octets, error) in cases {
        assert_eq!(Packet::decode(&octets), Err(error), "{octets:02x?}");
    }
}

#[test]
fn your_discriminator_may_be_zero_in_down_and_admin_down_rfc5880_6_8_6() {
    for flags in [0x00, 0x40] {
        let packet = Packet::decode(&with(&[(1, flags), (11, 0)])).expect("good");
        assert_eq!(packet.your_discriminator, 0);
    }
}

#[test]
fn octets_after_the_packet_are_ignored() {
    let longer = [&UP[..], &[0xff; 7]].concat();
    assert_eq!(Packet::decode(&longer), Ok(up()));
}

#[test]
fn an_authentication_section_is_reported_without_its_secret() {
    let password = [1, 9, 7, b's', b'e', b'c', b'r', b'e', b't'];
    let mut md5 = [0; 24];
    md5[..8].copy_from_slice(&[2, 24, 5, 0, 0, 0, 1, 0]);
    let mut sha1 = [0; 28];
    sha1[..8].copy_from_slice(&[5, 28, 6, 0, 0, 0, 0, 9]);
    let unknown = [77, 2];
    let cases: [(&[u8], AuthenticationType); 4] = [
        (&password, AuthenticationType::SIMPLE_PASSWORD),
        (&md5, AuthenticationType::KEYED_MD5),
        (&sha1, AuthenticationType::METICULOUS_KEYED_SHA1),
        (&unknown, AuthenticationType(77)),
    ];
    for (section, expected) in cases {
        let packet = Packet::decode(&authenticated(section)).expect("good");
        assert_eq!(packet.authentication, Some(expected));
        assert!(!format!("{packet:?}").contains("secret"));
    }
}

#[test]
fn an_authentication_section_is_complete_and_has_the_length_of_its_type_rfc5880_4_2() {
    let cases: [&[u8]; 7] = [
        &[1, 3, 0],
        &[1, 20],
        &[2, 23],
        &[4, 24],
        &[5, 28, 1],
        &[77, 1],
        &[0, 0],
    ];
    for section in cases {
        let error = PacketError::AuthenticationLength {
            kind: AuthenticationType(section[0]),
            length: section[1],
        };
        assert_eq!(
            Packet::decode(&authenticated(section)),
            Err(error),
            "{section:?}"
        );
    }
}

#[test]
fn unassigned_values_are_displayed_as_numbers() {
    assert_eq!(Diagnostic(9).to_string(), "diagnostic 9");
    assert_eq!(AuthenticationType(9).to_string(), "authentication type 9");
    assert_eq!(Diagnostic(1).to_string(), "Control Detection Time Expired");
}

/// BFD packets of FRR, BIRD and ferrolb, recorded in the lab.
fn recorded() -> Vec<(&'static str, Vec<u8>)> {
    let corpus = include_str!("../../../tests/fixtures/corpus.tsv");
    let packets = corpus.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [_, sender, "BFD", hex] = columns[..] else {
            return None;
        };
        let octets = (0..hex.len()).step_by(2);
        let octets = octets.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"));
        Some((sender, octets.collect()))
    });
    packets.collect()
}

#[test]
fn packets_of_real_routers_survive_a_round_trip() {
    let mut states = BTreeSet::new();
    for (sender, octets) in recorded() {
        let packet = Packet::decode(&octets).unwrap_or_else(|e| panic!("{sender}: {e}"));
        assert_eq!(packet.encode().as_slice(), octets, "{sender}");
        let sender = sender.split(' ').next().expect("a name");
        states.insert((sender, packet.state, packet.diagnostic));
    }
    for sender in ["BIRD", "FRR", "ferrolb"] {
        let up = (sender, State::Up, Diagnostic::NONE);
        assert!(states.contains(&up), "{up:?} of {states:?}");
    }
    let left = (
        "ferrolb",
        State::AdminDown,
        Diagnostic::ADMINISTRATIVELY_DOWN,
    );
    assert!(states.contains(&left), "{states:?}");
}

#[test]
fn a_suffix_of_a_recorded_packet_does_not_panic() {
    let (mut good, mut bad) = (0, 0);
    let packets = recorded();
    for (_, octets) in &packets {
        for at in 0..octets.len() {
            match Packet::decode(&octets[at..]) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
    }
    assert!(good >= packets.len() && bad > good, "{good}, {bad}");
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(packet) = Packet::decode(&octets) {
            prop_assert!(packet.my_discriminator != 0 && packet.detect_mult != 0);
        }
    }

    /// Arbitrary octets after a header that mostly passes the first checks.
    #[test]
    fn a_decoded_packet_encodes_to_the_same_octets(
        flags in any::<u8>(),
        diagnostic in 0u8..32,
        rest in prop::array::uniform20(any::<u8>()),
        mult in any::<u8>(),
    ) {
        let mut octets = [0x20 | diagnostic, flags & !0x05, mult, 24].to_vec();
        octets.extend(rest);
        if let Ok(packet) = Packet::decode(&octets) {
            prop_assert_eq!(packet.encode().to_vec(), octets);
        }
    }
}
