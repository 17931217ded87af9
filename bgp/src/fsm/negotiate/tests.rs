//! Each rule of RFC 4271 §6.2 alone.

use std::time::Duration;

use super::*;
use crate::config::{HoldTime, Timers};
use crate::wire::Capability;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 2);

fn config() -> PeerConfig {
    PeerConfig::new(
        "tor",
        "192.0.2.1:179".parse().unwrap(),
        Asn(65001),
        Asn(4_200_000_001),
    )
}

fn open() -> Open {
    let theirs = PeerConfig {
        local_asn: Asn(4_200_000_001),
        remote_asn: Asn(65001).into(),
        ..config()
    };
    our_open(&theirs, Ipv4Addr::new(10, 255, 0, 1), false, None)
}

fn agree(open: &Open, config: &PeerConfig) -> Result<Agreement, Notification> {
    negotiate(open, &our_open(config, OURS, false, None), config)
}

fn rejected(open: &Open, config: &PeerConfig) -> (u8, u8, Vec<u8>) {
    let notification = agree(open, config).expect_err("must be rejected");
    (
        notification.code.0,
        notification.subcode,
        notification.data.to_vec(),
    )
}

#[test]
fn a_four_octet_as_is_sent_as_as_trans_and_read_from_its_capability_rfc6793_4_1() {
    assert_eq!(open().asn, 23456);
    let negotiated = agree(&open(), &config()).unwrap();
    assert!(negotiated.four_octet_asn && negotiated.route_refresh);
    assert_eq!(negotiated.remote_asn, Asn(4_200_000_001));
    assert_eq!(
        negotiated.families,
        [Family::IPV4_UNICAST, Family::IPV6_UNICAST]
    );
}

#[test]
fn the_first_as_number_of_four_octets_is_65536_rfc6793_4_1() {
    for (asn, sent) in [(65535, 65535), (65536, 23456), (65537, 23456)] {
        let config = PeerConfig {
            local_asn: Asn(asn),
            ..config()
        };
        assert_eq!(our_open(&config, OURS, false, None).asn, sent, "AS {asn}");
    }
}

#[test]
fn an_unsupported_version_is_answered_with_ours_rfc4271_6_2() {
    for version in [0, 3, 5] {
        assert_eq!(
            rejected(&Open { version, ..open() }, &config()),
            (2, 1, vec![0, 4])
        );
    }
}

#[test]
fn a_wrong_zero_or_contradictory_as_is_bad_peer_as_rfc4271_6_2() {
    let wrong = PeerConfig {
        remote_asn: Asn(65009).into(),
        ..config()
    };
    assert_eq!(rejected(&open(), &wrong), (2, 2, vec![]));
    let zero = Open {
        asn: 0,
        capabilities: vec![],
        ..open()
    };
    assert_eq!(rejected(&zero, &config()), (2, 2, vec![]));
    let mut both = open();
    both.capabilities.push(Capability::FourOctetAsn(Asn(65010)));
    assert_eq!(rejected(&both, &config()), (2, 2, vec![]));
}

#[test]
fn router_id_zero_or_our_own_in_one_as_is_bad_bgp_identifier_rfc6286_2_2() {
    let zero = Open {
        router_id: Ipv4Addr::UNSPECIFIED,
        ..open()
    };
    assert_eq!(rejected(&zero, &config()), (2, 3, vec![]));
    let same = Open {
        router_id: OURS,
        ..open()
    };
    assert!(
        agree(&same, &config()).is_ok(),
        "legal between ASes (RFC 6286)"
    );
    let ibgp = PeerConfig {
        local_asn: Asn(4_200_000_001),
        ..config()
    };
    assert_eq!(rejected(&same, &ibgp), (2, 3, vec![]));
    for odd in ["224.0.0.1", "255.255.255.255"] {
        let open = Open {
            router_id: odd.parse().unwrap(),
            ..open()
        };
        assert!(agree(&open, &config()).is_ok(), "{odd}");
    }
}

#[test]
fn hold_times_one_and_two_are_unacceptable_and_the_smaller_one_is_used_rfc4271_6_2() {
    for hold_time in [1, 2] {
        assert_eq!(
            rejected(
                &Open {
                    hold_time,
                    ..open()
                },
                &config()
            ),
            (2, 6, vec![])
        );
    }
    let nine = agree(
        &Open {
            hold_time: 9,
            ..open()
        },
        &config(),
    )
    .unwrap();
    assert_eq!(nine.hold_time.as_secs(), 9);
    assert_eq!(nine.keepalive_time, Some(Duration::from_secs(3)));
    let none = agree(
        &Open {
            hold_time: 0,
            ..open()
        },
        &config(),
    )
    .unwrap();
    assert_eq!(
        (none.hold_time, none.keepalive_time),
        (HoldTime::ZERO, None)
    );
    let eager = PeerConfig {
        timers: Timers {
            keepalive_time: Some(Duration::from_secs(2)),
            ..Timers::default()
        },
        ..config()
    };
    let eager = agree(&open(), &eager).unwrap();
    assert_eq!(eager.keepalive_time, Some(Duration::from_secs(2)));
}

#[test]
fn a_peer_without_capabilities_has_ipv4_unicast_and_two_octet_as_numbers() {
    let plain = Open {
        asn: 65002,
        capabilities: vec![],
        ..open()
    };
    let config = PeerConfig {
        remote_asn: Asn(65002).into(),
        ..config()
    };
    let negotiated = agree(&plain, &config).unwrap();
    assert_eq!(negotiated.families, [Family::IPV4_UNICAST]);
    assert!(!negotiated.four_octet_asn && !negotiated.route_refresh);
}

#[test]
fn no_common_family_is_unsupported_capability_with_our_families_rfc5492_5() {
    let v6 = PeerConfig {
        families: vec![Family::IPV6_UNICAST],
        ..config()
    };
    let mut only_v4 = open();
    only_v4
        .capabilities
        .retain(|c| *c != Capability::Multiprotocol(Family::IPV6_UNICAST));
    assert_eq!(rejected(&only_v4, &v6), (2, 7, vec![1, 4, 0, 2, 0, 1]));
}
