use super::limits::PASSWORD_MAX;
use super::*;
use crate::bfd::{Interval, TimersError};
use crate::wire::InvalidHoldTime;

fn peer() -> PeerConfig {
    PeerConfig::new(
        "tor",
        "192.0.2.1:179".parse().unwrap(),
        Asn(65001),
        Asn(65002),
    )
}

#[test]
fn a_secret_is_never_printed() {
    let config = PeerConfig {
        transport: Transport {
            password: Some(Secret::new("hunter2")),
            ..Transport::default()
        },
        ..peer()
    };
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{config:?}").contains("104")); // nor its octets
}

#[test]
fn hold_times_of_one_and_two_seconds_are_invalid_rfc4271_4_2() {
    for seconds in [1, 2] {
        assert_eq!(HoldTime::from_secs(seconds), Err(InvalidHoldTime(seconds)));
    }
    for seconds in [0, 3, 90, u16::MAX] {
        assert_eq!(
            HoldTime::from_secs(seconds).map(HoldTime::as_secs),
            Ok(seconds)
        );
    }
}

#[test]
fn only_changes_of_negotiated_parameters_reset_the_session() {
    let old = peer();
    assert_eq!(old.impact(&old), Impact::None);
    let unaffected = PeerConfig {
        timers: Timers {
            connect_retry: Some(Duration::from_secs(5)),
            ..Timers::default()
        },
        transport: Transport {
            passive: true,
            ..Transport::default()
        },
        ..peer()
    };
    assert_eq!(unaffected.impact(&old), Impact::None);
    let subscribed = PeerConfig {
        receive: true,
        ..peer()
    };
    assert_eq!(subscribed.impact(&old), Impact::Reset);
    assert_eq!(old.impact(&subscribed), Impact::None);
    for changed in [
        PeerConfig {
            transport: Transport {
                password: Some(Secret::new("x")),
                ..Transport::default()
            },
            ..peer()
        },
        PeerConfig {
            local_asn: Asn(65003),
            ..peer()
        },
        PeerConfig {
            timers: Timers {
                hold_time: HoldTime::ZERO,
                ..Timers::default()
            },
            ..peer()
        },
        PeerConfig {
            families: vec![Family::IPV4_UNICAST],
            ..peer()
        },
        PeerConfig {
            graceful_restart: Some(GracefulRestart::default()),
            ..peer()
        },
        PeerConfig {
            remote: Remote::Router("192.0.2.1:1790".parse().unwrap()),
            ..peer()
        },
    ] {
        assert_eq!(changed.impact(&old), Impact::Reset, "{changed:?}");
    }
}

#[test]
fn an_invalid_configuration_is_rejected_with_its_reason() {
    assert_eq!(peer().check(), Ok(()));
    let long = Secret::new(vec![b'x'; PASSWORD_MAX + 1]);
    let cases = [
        (
            PeerConfig {
                name: String::new(),
                ..peer()
            },
            ConfigError::NoName,
        ),
        (
            PeerConfig {
                remote: Remote::Router("192.0.2.1:0".parse().unwrap()),
                ..peer()
            },
            ConfigError::PortZero,
        ),
        (
            PeerConfig {
                remote_asn: Asn(0).into(),
                ..peer()
            },
            ConfigError::AsnZero,
        ),
        (
            PeerConfig {
                router_id: Some(Ipv4Addr::UNSPECIFIED),
                ..peer()
            },
            ConfigError::RouterIdZero,
        ),
        (
            PeerConfig {
                timers: Timers {
                    send_hold_time: Some(Duration::from_secs(90)),
                    ..Timers::default()
                },
                ..peer()
            },
            ConfigError::SendHoldTime {
                send_hold: Duration::from_secs(90),
                hold: HoldTime::DEFAULT,
            },
        ),
        (
            PeerConfig {
                timers: Timers {
                    connect_retry: Some(Duration::MAX),
                    ..Timers::default()
                },
                ..peer()
            },
            ConfigError::TooLong {
                time: Duration::MAX,
            },
        ),
        (
            PeerConfig {
                graceful_restart: Some(GracefulRestart {
                    restart_time: 4096,
                    notification: false,
                }),
                ..peer()
            },
            ConfigError::RestartTime { seconds: 4096 },
        ),
        (
            PeerConfig {
                bfd: Some(BfdOptions {
                    session: SessionConfig {
                        timers: crate::bfd::Timers {
                            desired_min_tx: Interval(0),
                            ..crate::bfd::Timers::default()
                        },
                        ..SessionConfig::default()
                    },
                    strict: false,
                }),
                ..peer()
            },
            ConfigError::Bfd(TimersError::DesiredMinTx(Interval(0))),
        ),
        (
            PeerConfig {
                families: vec![],
                ..peer()
            },
            ConfigError::NoFamilies,
        ),
        (
            PeerConfig {
                transport: Transport {
                    password: Some(Secret::new("")),
                    ..Transport::default()
                },
                ..peer()
            },
            ConfigError::PasswordEmpty,
        ),
        (
            PeerConfig {
                transport: Transport {
                    password: Some(long),
                    ..Transport::default()
                },
                ..peer()
            },
            ConfigError::PasswordTooLong { length: 81 },
        ),
    ];
    for (config, error) in cases {
        assert_eq!(config.check(), Err(error));
    }
    let source = PeerConfig {
        transport: Transport {
            source_address: Some("::1".parse().unwrap()),
            ..Transport::default()
        },
        ..peer()
    };
    assert!(matches!(
        source.check(),
        Err(ConfigError::SourceFamily { .. })
    ));
    let passive = PeerConfig {
        transport: Transport {
            passive: true,
            ..Transport::default()
        },
        remote: Remote::Router("192.0.2.1:0".parse().unwrap()),
        ..peer()
    };
    assert_eq!(passive.check(), Ok(()));
}

#[test]
fn an_unnumbered_peer_needs_an_interface_and_is_on_its_link() {
    let unnumbered = |port, change: fn(&mut Transport)| {
        let mut config = peer();
        config.remote = Remote::unknown_on_link(port);
        config.transport = Transport {
            source_interface: Some("eth1".to_owned()),
            ..Transport::default()
        };
        change(&mut config.transport);
        config.check()
    };
    assert_eq!(unnumbered(179, |_| {}), Ok(()));
    assert_eq!(unnumbered(0, |transport| transport.passive = true), Ok(()));
    assert_eq!(unnumbered(0, |_| {}), Err(ConfigError::PortZero));
    let none = unnumbered(179, |transport| transport.source_interface = None);
    assert_eq!(none, Err(ConfigError::NoInterface));
    let far = unnumbered(179, |transport| transport.multihop = true);
    assert_eq!(far, Err(ConfigError::NotOnLink));
    let sourced = unnumbered(179, |transport| {
        transport.source_address = "fd00::1".parse().ok();
    });
    assert_eq!(sourced, Err(ConfigError::NotOnLink));
}
