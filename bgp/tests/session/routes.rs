//! Two speakers under a virtual clock: what a session does from its first SYN to its end.

use std::time::Duration;

use crate::harness::world::{World, hold, net, pair, peer, route, routes, seconds};
use ferrolb_bgp::config::{PeerConfig, Transport};
use ferrolb_bgp::fsm::{Cause, ConnectionId, Event, Input, RejectReason, ShutdownMode, State};
use ferrolb_bgp::wire::{ErrorCode, Family, Message, RouteRefresh};

fn up(change: impl Fn(&mut PeerConfig)) -> World {
    let mut world = pair(change);
    world.until(seconds(2), "session up", World::established);
    world
}

fn code(cause: &Cause) -> (u8, u8) {
    let (n, _) = cause.notification().expect("with a NOTIFICATION");
    (n.code.0, n.subcode)
}

#[test]
fn a_session_comes_up_and_routes_arrive_with_next_hop_and_path() {
    let mut world = pair(|config| config.next_hops.v6 = Some("2001:db8::1".parse().unwrap()));
    let changes = vec![
        (net("203.0.113.10/32"), route(5)),
        (net("2001:db8:1::10/128"), route(5)),
    ];
    world.input(0, routes("b", changes));
    world.input(0, Input::OpenGate);
    world.until(seconds(2), "routes", |world| {
        world.hosts[1].table().len() == 2
    });

    let table = world.hosts[1].table();
    let v4 = &table[&net("203.0.113.10/32")];
    assert_eq!(v4.attributes.next_hop, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(v4.attributes.med, Some(5));
    assert_eq!(v4.attributes.local_pref, None);
    let path = v4
        .attributes
        .as_path
        .as_ref()
        .expect("AS_PATH is mandatory");
    assert!(format!("{path:?}").contains("65001"), "{path:?}");
    let status = world.status(0);
    assert_eq!(
        (status.prefixes_advertised, status.established_count),
        (2, 1)
    );
    assert_eq!(status.local_address, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(status.local_router_id, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(status.remote_router_id, Some("10.0.0.2".parse().unwrap()));
    assert_eq!(status.negotiated.map(|n| n.hold_time.as_secs()), Some(90));
    assert_eq!(world.status(1).announcements_received, 2);

    world.input(0, routes("b", vec![(net("203.0.113.10/32"), None)]));
    world.until(seconds(1), "withdrawn", |world| {
        world.hosts[1].table().len() == 1
    });
}

#[test]
fn ibgp_keeps_the_path_empty_and_carries_local_pref() {
    let mut world = up(|config| {
        config.local_asn = ferrolb_bgp::wire::Asn(65000);
        config.remote_asn = config.local_asn.into();
    });
    world.input(0, routes("b", vec![(net("203.0.113.10/32"), route(5))]));
    world.input(0, Input::OpenGate);
    world.until(seconds(2), "route", |world| {
        world.hosts[1].table().len() == 1
    });
    let table = world.hosts[1].table();
    let attributes = &table[&net("203.0.113.10/32")].attributes;
    assert_eq!(attributes.local_pref, Some(100));
    assert!(!format!("{:?}", attributes.as_path).contains("65000"));
}

#[test]
fn nothing_is_said_before_the_gate_opens_and_then_one_end_of_rib_per_family() {
    let mut world = up(|config| config.next_hops.v6 = Some("2001:db8::1".parse().unwrap()));
    world.input(0, routes("b", vec![(net("203.0.113.10/32"), route(5))]));
    world.run(seconds(60));
    let updates = |world: &World| {
        let sent = world.hosts[0].sent.iter();
        sent.filter(|(_, message)| matches!(message, Message::Update(_)))
            .count()
    };
    assert_eq!(updates(&world), 0);
    world.input(0, Input::OpenGate);
    world.run(seconds(1));
    let ends: Vec<Family> = world.hosts[1]
        .updates()
        .iter()
        .filter_map(|update| update.end_of_rib())
        .collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(ends.contains(&Family::IPV4_UNICAST) && ends.contains(&Family::IPV6_UNICAST));
    assert_eq!(updates(&world), 3);
}

#[test]
fn a_family_without_next_hop_is_reported_and_not_announced() {
    let mut world = up(|_| {});
    world.input(0, routes("b", vec![(net("2001:db8:1::10/128"), route(5))]));
    world.input(0, Input::OpenGate);
    world.run(seconds(1));
    assert!(world.hosts[1].table().is_empty());
    assert!(world.hosts[0].events.iter().any(|(_, event)| matches!(
        event,
        Event::NoNextHop { family, .. } if *family == Family::IPV6_UNICAST
    )));
}

/// RFC 4271 §9.2: what fits no message is reported once in a session, and the rest is announced.
#[test]
fn a_route_whose_attributes_fill_a_message_is_reported_and_not_announced() {
    let mut world = up(|_| {});
    let communities = (0..20_000).map(ferrolb_bgp::wire::Community).collect();
    let long = Some(std::sync::Arc::new(ferrolb_bgp::rib::RouteAttributes {
        communities,
        ..Default::default()
    }));
    let [long_one, long_two, plain] = ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"].map(net);
    let changes = vec![
        (long_one, long.clone()),
        (long_two, long),
        (plain, route(1)),
    ];
    world.input(0, routes("b", changes));
    world.input(0, Input::OpenGate);
    world.run(seconds(1));
    assert_eq!(
        world.hosts[1].table().into_keys().collect::<Vec<_>>(),
        [plain]
    );
    assert_eq!(world.status(0).announcements_left_out, 2);
    let reported = world.hosts[0].events.iter();
    let reported: Vec<_> = reported
        .filter_map(|(_, event)| match event {
            Event::RouteTooLong {
                prefix, max_length, ..
            } => Some((*prefix, *max_length)),
            _ => None,
        })
        .collect();
    assert_eq!(reported, [(long_one, 65_535)]);
}

#[test]
fn a_silent_cut_ends_the_session_on_both_sides_after_the_hold_time() {
    let mut world = up(hold(9));
    world.run(seconds(30));
    assert!(world.established());
    let before = world.elapsed();
    world.cut = true;
    world.until(seconds(12), "both down", |world| {
        (0..2).all(|host| world.state(host) != State::Established)
    });
    let took = world.elapsed() - before;
    assert!(
        (Duration::from_millis(5900)..=Duration::from_millis(9100)).contains(&took),
        "{took:?}"
    );
    for host in 0..2 {
        let cause = world.hosts[host].causes()[0];
        assert!(matches!(cause, Cause::Sent(_)));
        assert_eq!(code(cause), (4, 0));
    }
    // And when the link is back, so is the session, soon.
    world.cut = false;
    world.until(seconds(65), "back", World::established);
}

#[test]
fn keepalives_are_spaced_by_a_third_of_the_hold_time_with_jitter() {
    let mut world = up(hold(9));
    world.run(seconds(120));
    for host in 0..2 {
        let times: Vec<Duration> = world.hosts[host]
            .sent
            .iter()
            .filter(|(_, message)| *message == Message::Keepalive)
            .map(|(at, _)| *at)
            .collect();
        assert!((40..=54).contains(&times.len()), "{}", times.len());
        for gap in times.windows(2).map(|two| two[1] - two[0]) {
            assert!(
                (Duration::from_millis(2250)..=seconds(3)).contains(&gap),
                "{gap:?}"
            );
        }
        let first = times[2] - times[1];
        assert!(
            times.windows(2).any(|two| two[1] - two[0] != first),
            "no jitter"
        );
    }
    assert_eq!(world.status(0).established_count, 1);
}

#[test]
fn hold_time_zero_needs_no_keepalives_ever() {
    let mut world = up(hold(0));
    assert_eq!(world.hosts[0].speaker.poll_timeout(), None);
    world.run(seconds(86_400));
    assert!(world.established());
    // The one that confirmed the OPEN.
    assert_eq!(world.status(0).sent.keepalive, 1);
}

#[test]
fn a_wrong_as_number_is_told_and_retried_with_the_longest_delay() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.host("10.0.0.2", true);
    let passive = PeerConfig {
        transport: Transport {
            passive: true,
            ..Transport::default()
        },
        ..peer("a", "10.0.0.1", 65002, 65009)
    };
    world.input(1, Input::SetPeer(passive));
    world.input(0, Input::SetPeer(peer("b", "10.0.0.2", 65001, 65002)));
    world.run(seconds(1));
    assert_eq!(code(world.hosts[1].causes()[0]), (2, 2));
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
fn a_closed_port_is_tried_with_growing_delays() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.input(0, Input::SetPeer(peer("b", "10.0.0.2", 65001, 65002)));
    world.run(seconds(600));
    assert_growing(&world.hosts[0].dials);
    let cause = world.hosts[0].causes()[0].to_string();
    assert!(cause.contains("nothing listens there"), "{cause}");
    assert!(
        world
            .status(0)
            .retry_in
            .is_some_and(|wait| wait <= seconds(60))
    );
}

/// 1, 2, 4 … 60 s, each shortened by at most a quarter.
fn assert_growing(dials: &[Duration]) {
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
fn a_lost_session_that_had_been_up_is_dialled_again_at_once_and_gets_everything() {
    let mut world = up(|_| {});
    world.input(0, routes("b", vec![(net("203.0.113.10/32"), route(5))]));
    world.input(0, Input::OpenGate);
    world.run(seconds(300));
    world.restart(1);
    let receiver = PeerConfig {
        transport: Transport {
            passive: true,
            ..Transport::default()
        },
        receive: true,
        ..peer("a", "10.0.0.1", 65002, 65001)
    };
    world.input(1, Input::SetPeer(receiver));
    world.until(seconds(2), "all back", |world| {
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
fn a_session_that_never_gets_stable_does_not_reset_the_delays() {
    let mut world = up(hold(9));
    for _ in 0..6 {
        world.until(seconds(70), "session up", World::established);
        world.restart(1);
        let passive = PeerConfig {
            transport: Transport {
                passive: true,
                ..Transport::default()
            },
            ..peer("a", "10.0.0.1", 65002, 65001)
        };
        world.input(1, Input::SetPeer(passive));
        world.run(Duration::from_millis(10));
    }
    let last = world.status(0).retry_in.expect("waiting");
    assert!(last > seconds(20), "{last:?}");
}

#[test]
fn a_peer_that_does_not_read_costs_nothing_and_gets_only_the_latest() {
    let mut world = up(|_| {});
    world.input(0, Input::OpenGate);
    world.run(seconds(1));
    world.hosts[1].deaf = true;
    let before = world.hosts[0].octets;
    let prefixes: Vec<_> = (0..5000u32)
        .map(|i| net(&format!("10.{}.{}.1/32", i / 250, i % 250)))
        .collect();
    for med in 0..50 {
        let changes = prefixes
            .iter()
            .map(|prefix| (*prefix, route(med)))
            .collect();
        world.input(0, routes("b", changes));
    }
    world.run(seconds(1));
    let sent = world.hosts[0].octets - before;
    assert!(
        sent <= crate::harness::world::WINDOW + 4096,
        "{sent} octets to a shut window"
    );
    world.hear(1);
    world.run(seconds(1));
    let table = world.hosts[1].table();
    assert_eq!(table.len(), prefixes.len());
    assert!(
        table
            .values()
            .all(|update| update.attributes.med == Some(49))
    );
    // A window full of old ones, then each prefix once: not fifty times.
    let sent = world.hosts[0].octets - before;
    assert!(sent < 60_000, "{sent} octets");
}

#[test]
fn route_refresh_is_answered_with_everything_of_the_family() {
    let mut world = up(|_| {});
    world.input(0, routes("b", vec![(net("203.0.113.10/32"), route(5))]));
    world.input(0, Input::OpenGate);
    world.run(seconds(1));
    let before = world.hosts[1].updates().len();
    let refresh = RouteRefresh {
        family: Family::IPV4_UNICAST,
        subtype: 0,
    };
    let octets = refresh.encode();
    let connection = ConnectionId::Dialled(0);
    world.input(0, Input::Received { connection, octets });
    world.run(seconds(1));
    let again = &world.hosts[1].updates()[before..];
    assert!(
        again.iter().any(|update| update.announced().count() == 1),
        "{again:?}"
    );
    assert!(world.established());
}

#[test]
fn a_removed_peer_is_told_that_it_was_de_configured() {
    let mut world = up(|_| {});
    world.input(0, Input::RemovePeer("b".to_owned()));
    world.run(seconds(1));
    assert_eq!(code(world.hosts[1].causes()[0]), (6, 3));
    assert!(world.hosts[0].speaker.status(world.now()).is_empty());
    assert_eq!(world.hosts[0].speaker.poll_timeout(), None);
}

#[test]
fn a_change_that_matters_resets_the_session_and_one_that_does_not_leaves_it() {
    let mut world = up(|_| {});
    world.run(seconds(200));
    let mut config = peer("b", "10.0.0.2", 65001, 65002);
    config.timers.connect_retry = Some(seconds(5));
    world.input(0, Input::SetPeer(config.clone()));
    world.run(seconds(5));
    assert_eq!(world.status(0).established_count, 1);
    config.timers.hold_time = ferrolb_bgp::config::HoldTime::from_secs(30).unwrap();
    world.input(0, Input::SetPeer(config));
    world.run(seconds(5));
    assert_eq!(code(world.hosts[1].causes()[0]), (6, 6));
    assert!(world.established());
    assert_eq!(world.status(0).negotiated.unwrap().hold_time.as_secs(), 30);
}

#[test]
fn shutdown_withdraws_everything_then_says_why_and_ends() {
    let mut world = up(|_| {});
    let changes = (0..2000u32).map(|i| net(&format!("10.1.{}.{}/32", i / 250, i % 250)));
    world.input(
        0,
        routes("b", changes.map(|prefix| (prefix, route(1))).collect()),
    );
    world.input(0, Input::OpenGate);
    world.until(seconds(2), "routes", |world| {
        world.hosts[1].table().len() == 2000
    });
    world.input(
        0,
        Input::Shutdown {
            text: "maintenance until noon".to_owned(),
            mode: ShutdownMode::Withdraw,
        },
    );
    world.run(seconds(1));
    assert!(
        world.hosts[1].table().is_empty(),
        "all withdrawn before the end"
    );
    let cause = world.hosts[1].causes()[0];
    assert_eq!(code(cause), (6, 2));
    assert!(
        cause.to_string().contains("maintenance until noon"),
        "{cause}"
    );
    assert!(world.hosts[0].stopped);
}

#[test]
fn shutdown_ends_in_bounded_time_even_if_the_peer_does_not_read() {
    let mut world = up(|_| {});
    let changes = (0..20_000u32).map(|i| net(&format!("10.{}.{}.1/32", i / 250, i % 250)));
    world.input(
        0,
        routes("b", changes.map(|prefix| (prefix, route(1))).collect()),
    );
    world.input(0, Input::OpenGate);
    world.until(seconds(5), "routes", |world| {
        world.hosts[1].table().len() == 20_000
    });
    world.hosts[1].deaf = true;
    world.input(
        0,
        Input::Shutdown {
            text: String::new(),
            mode: ShutdownMode::Withdraw,
        },
    );
    world.run(Duration::from_millis(4100));
    assert!(world.hosts[0].stopped);
}

#[test]
fn a_second_connection_of_a_peer_with_a_session_is_turned_away() {
    let mut world = up(|_| {});
    let connection = ConnectionId::Accepted(77);
    let local = "10.0.0.2:179".parse().unwrap();
    for (remote, reason) in [
        ("10.0.0.1:555", RejectReason::SessionExists),
        ("192.0.2.66:555", RejectReason::UnknownAddress),
    ] {
        let remote = remote.parse().unwrap();
        world.input(
            1,
            Input::Accepted {
                connection,
                local,
                remote,
            },
        );
        let told = world.hosts[1].events.iter().any(|(_, event)| {
            matches!(event, Event::Rejected { remote: r, reason: because }
                if *r == remote && *because == reason)
        });
        assert!(told, "{reason}");
    }
    world.run(seconds(5));
    assert!(world.established());
}

#[test]
fn a_peer_in_back_off_after_an_error_refuses_connections_until_it_is_over() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.host("10.0.0.2", true);
    let passive = PeerConfig {
        transport: Transport {
            passive: true,
            ..Transport::default()
        },
        ..peer("a", "10.0.0.1", 65002, 65009)
    };
    world.input(1, Input::SetPeer(passive));
    world.input(0, Input::SetPeer(peer("b", "10.0.0.2", 65001, 65002)));
    world.run(Duration::from_millis(100));
    assert_eq!(world.state(1), State::Idle);
    let connection = ConnectionId::Accepted(77);
    let (local, remote) = (
        "10.0.0.2:179".parse().unwrap(),
        "10.0.0.1:555".parse().unwrap(),
    );
    let now = world.now();
    world.hosts[1].speaker.handle(
        now,
        Input::Accepted {
            connection,
            local,
            remote,
        },
    );
    let answer = world.hosts[1]
        .speaker
        .poll_transmit(now, connection, 4096)
        .expect("Cease");
    assert_eq!(answer[18..], [3, ErrorCode::CEASE.0, 5]);
    world.run(seconds(3));
    assert_ne!(world.hosts[1].causes().len(), 0);
}

#[test]
fn a_peer_whose_password_another_one_at_its_address_contradicts_does_not_run() {
    let mut world = World::new();
    world.host("10.0.0.2", true);
    let secret = |text: &str| Some(ferrolb_bgp::config::Secret::new(text));
    let with = |name: &str, password| PeerConfig {
        transport: Transport {
            passive: true,
            password,
            source_address: (name == "second").then(|| "10.0.0.3".parse().unwrap()),
            ..Transport::default()
        },
        ..peer(name, "10.0.0.1", 65002, 65001)
    };
    world.input(0, Input::SetPeer(with("first", secret("one"))));
    world.input(0, Input::SetPeer(with("second", None)));
    let status = world.hosts[0].speaker.status(world.now());
    assert_eq!(status[0].state, State::Active);
    assert_eq!(status[1].state, State::Idle);
    let error = status[1].last_error.as_ref().expect("told why");
    let error = &error.cause.text;
    assert!(
        error.contains("peer first has the same address but another password"),
        "{error}"
    );
    // The first one is not touched, however often it is set.
    world.input(0, Input::SetPeer(with("first", secret("one"))));
    assert_eq!(
        world.hosts[0].speaker.status(world.now())[0].state,
        State::Active
    );
    // With the same one they share the key.
    world.input(0, Input::SetPeer(with("second", secret("one"))));
    assert_eq!(
        world.hosts[0].speaker.status(world.now())[1].state,
        State::Active
    );
    // A new password for both, one after the other: the first waits for the second, and comes back by itself.
    let state =
        |world: &World, index: usize| world.hosts[0].speaker.status(world.now())[index].state;
    world.input(0, Input::SetPeer(with("first", secret("two"))));
    assert_eq!(state(&world, 0), State::Idle);
    world.input(0, Input::SetPeer(with("second", secret("two"))));
    assert_eq!(state(&world, 0), State::Active);
    assert_eq!(state(&world, 1), State::Active);
    // The same when the one in the way is removed.
    world.input(0, Input::SetPeer(with("first", None)));
    assert_eq!(state(&world, 0), State::Idle);
    world.input(0, Input::RemovePeer("second".to_owned()));
    assert_eq!(state(&world, 0), State::Active);
}

/// RFC 8950: both ends say that they can, and the IPv4 routes of an IPv6 session need no IPv4 address.
#[test]
fn ipv4_routes_cross_an_ipv6_session() {
    let mut world = World::new();
    world.host("2001:db8::1", false);
    world.host("2001:db8::2", true);
    let mut theirs = peer("a", "2001:db8::1", 65002, 65001);
    theirs.transport.passive = true;
    theirs.receive = true;
    world.input(1, Input::SetPeer(theirs));
    world.input(0, Input::SetPeer(peer("b", "2001:db8::2", 65001, 65002)));
    world.input(0, routes("b", vec![(net("192.0.2.1/32"), route(1))]));
    world.input(0, Input::OpenGate);
    world.until(seconds(5), "a session", World::established);
    world.run(seconds(1));
    let negotiated = world.status(0).negotiated.unwrap();
    assert!(negotiated.ipv4_next_hop_v6);
    let table = world.hosts[1].table();
    let reach = table[&net("192.0.2.1/32")].mp_reach.as_ref();
    assert_eq!(reach.unwrap().next_hop.to_string(), "2001:db8::1");
    let complaints = world.hosts[0].events.iter();
    let complaints = complaints.filter(|(_, event)| matches!(event, Event::NoNextHop { .. }));
    assert_eq!(complaints.count(), 0);
}

/// RFC 2545 §3: the global address, and the link-local one that the peer can always reach.
#[test]
fn a_session_between_link_local_addresses_sends_both_next_hops() {
    let mut world = World::new();
    world.host("fe80::1", false);
    world.host("fe80::2", true);
    let mut theirs = peer("a", "fe80::1", 65002, 65001);
    theirs.transport.passive = true;
    theirs.receive = true;
    world.input(1, Input::SetPeer(theirs));
    let mut ours = peer("b", "fe80::2", 65001, 65002);
    ours.next_hops.v6 = Some("2001:db8::1".parse().unwrap());
    world.input(0, Input::SetPeer(ours));
    let prefixes = [net("192.0.2.1/32"), net("2001:db8:1::1/128")];
    let announced = prefixes.map(|prefix| (prefix, route(1)));
    world.input(0, routes("b", announced.into()));
    world.input(0, Input::OpenGate);
    world.until(seconds(5), "a session", World::established);
    world.run(seconds(1));
    let table = world.hosts[1].table();
    for prefix in prefixes {
        let reach = table[&prefix].mp_reach.as_ref().unwrap();
        assert_eq!(
            reach.next_hop.to_string(),
            "2001:db8::1 (fe80::1)",
            "{prefix}"
        );
    }
    let complaints = world.hosts[0].events.iter();
    let complaints = complaints.filter(|(_, event)| matches!(event, Event::NoNextHop { .. }));
    assert_eq!(complaints.count(), 0);
}

/// RFC 7313, between two of us: the one that asks hears where it begins and ends.
#[test]
fn a_refresh_between_two_of_us_has_a_beginning_and_an_end() {
    let mut world = pair(|_| {});
    world.input(0, routes("b", vec![(net("192.0.2.1/32"), route(1))]));
    world.input(0, Input::OpenGate);
    world.until(seconds(5), "a session", World::established);
    world.run(seconds(1));
    let sent = world.hosts[0].sent.len();
    let (connection, family) = (ConnectionId::Dialled(0), Family::IPV4_UNICAST);
    let octets = RouteRefresh {
        family,
        subtype: RouteRefresh::REQUEST,
    };
    let octets: bytes::Bytes = octets.encode().repeat(10).into();
    let ask = |world: &mut World| {
        let octets = octets.clone();
        world.input(0, Input::Received { connection, octets });
    };
    ask(&mut world);
    world.run(seconds(1));
    let said = world.hosts[0].sent[sent..]
        .iter()
        .map(|(_, message)| match message {
            Message::RouteRefresh(refresh) => refresh.subtype.to_string(),
            other => other.kind().to_string(),
        });
    // Asked for ten times before the first was under way.
    assert_eq!(said.collect::<Vec<_>>(), ["1", "UPDATE", "2"]);
    let status = world.status(0);
    assert_eq!(
        (status.sent.route_refresh, status.received.route_refresh),
        (2, 10)
    );
    // Asked for all the time: at once, and then once a second.
    world.run(seconds(2));
    for _ in 0..100 {
        ask(&mut world);
        world.run(Duration::from_millis(50));
    }
    let ends = (world.status(0).sent.route_refresh - 2) / 2;
    assert_eq!(ends, 6);
}

/// The router restarts, and refuses connections meanwhile.
#[test]
fn a_router_that_refuses_after_a_stable_session_is_dialled_every_second_for_half_a_minute() {
    let mut world = pair(hold(9));
    world.until(seconds(5), "a session", World::established);
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
        "the waits grow after that: {dials:?}"
    );

    world.hosts[1].listens = true;
    world.until(seconds(61), "a session", World::established);
}

/// Without a stable session before, nothing speaks for a short absence.
#[test]
fn a_router_that_refuses_after_a_short_session_is_dialled_less_and_less_often() {
    let mut world = pair(hold(9));
    world.until(seconds(5), "a session", World::established);
    world.run(seconds(10));
    world.hosts[1].listens = false;
    let ended = world.elapsed();
    world.reset_connections();
    world.run(seconds(30));
    let dials = world.hosts[0].dials.iter().filter(|at| **at > ended);
    assert!(dials.count() <= 6);
}
