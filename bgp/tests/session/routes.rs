//! Announcements and withdrawals: End-of-RIB, next hops, path attributes, route refresh.

use std::time::Duration;

use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{ConnectionId, Event, Input};
use ferrolb_bgp::rib::{Route, RouteAttributes};
use ferrolb_bgp::wire::{Asn, Community, Family, Message, RouteRefresh};

use crate::harness::{
    WINDOW, World, established_pair, net, pair, passive, peer, route, routes, seconds,
};

/// The number of UPDATEs that host 0 sent.
fn updates_sent(world: &World) -> usize {
    let sent = world.hosts[0].sent.iter();
    sent.filter(|(_, message)| matches!(message, Message::Update(_)))
        .count()
}

/// Two hosts at these addresses with an established session. Host 0 announces `prefixes` to host 1.
fn announce_between(
    addresses: [&str; 2],
    prefixes: &[&str],
    change: impl Fn(&mut PeerConfig),
) -> World {
    let mut world = World::new();
    world.host(addresses[0], false);
    world.host(addresses[1], true);
    let mut theirs = passive(peer("a", addresses[0], 65002, 65001));
    theirs.receive = true;
    world.input(1, Input::SetPeer(theirs));
    let mut ours = peer("b", addresses[1], 65001, 65002);
    change(&mut ours);
    world.input(0, Input::SetPeer(ours));
    let announced = prefixes.iter().map(|prefix| (net(prefix), route(1)));
    world.input(0, routes("b", announced.collect()));
    world.input(0, Input::OpenGate);
    world.run_until(seconds(5), "session established", World::established);
    world.run(seconds(1));
    let no_next_hop = |(_, event): &(Duration, Event)| matches!(event, Event::NoNextHop { .. });
    assert!(!world.hosts[0].events.iter().any(no_next_hop));
    world
}

#[test]
fn routes_are_received_with_next_hop_med_and_as_path() {
    let mut world = pair(|config| config.next_hops.v6 = Some("2001:db8::1".parse().unwrap()));
    let changes = vec![
        (net("203.0.113.10/32"), route(5)),
        (net("2001:db8:1::10/128"), route(5)),
    ];
    world.input(0, routes("b", changes));
    world.input(0, Input::OpenGate);
    world.run_until(seconds(2), "routes received", |world| {
        world.hosts[1].table().len() == 2
    });

    let table = world.hosts[1].table();
    let v4 = &table[&net("203.0.113.10/32")];
    assert_eq!(v4.attributes.next_hop, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(v4.attributes.med, Some(5));
    assert_eq!(v4.attributes.local_pref, None);
    let path = v4.attributes.as_path.as_ref().expect("an AS_PATH");
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
    world.run_until(seconds(1), "route withdrawn", |world| {
        world.hosts[1].table().len() == 1
    });
}

#[test]
fn ibgp_sends_local_pref_and_does_not_prepend_to_the_as_path_rfc4271_5_1() {
    let mut world = established_pair(|config| {
        config.local_asn = Asn(65000);
        config.remote_asn = config.local_asn.into();
    });
    world.input(0, routes("b", vec![(net("203.0.113.10/32"), route(5))]));
    world.input(0, Input::OpenGate);
    world.run_until(seconds(2), "route received", |world| {
        world.hosts[1].table().len() == 1
    });
    let table = world.hosts[1].table();
    let attributes = &table[&net("203.0.113.10/32")].attributes;
    assert_eq!(attributes.local_pref, Some(100));
    assert!(!format!("{:?}", attributes.as_path).contains("65000"));
}

#[test]
fn no_update_is_sent_before_the_gate_opens_then_one_end_of_rib_per_family() {
    let mut world =
        established_pair(|config| config.next_hops.v6 = Some("2001:db8::1".parse().unwrap()));
    world.input(0, routes("b", vec![(net("203.0.113.10/32"), route(5))]));
    world.run(seconds(60));
    assert_eq!(updates_sent(&world), 0);
    world.input(0, Input::OpenGate);
    world.run(seconds(1));
    let ends: Vec<Family> = world.hosts[1]
        .updates()
        .iter()
        .filter_map(|update| update.end_of_rib())
        .collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(ends.contains(&Family::IPV4_UNICAST) && ends.contains(&Family::IPV6_UNICAST));
    assert_eq!(updates_sent(&world), 3);
}

#[test]
fn a_family_without_next_hop_is_reported_and_not_announced() {
    let mut world = established_pair(|_| {});
    world.input(0, routes("b", vec![(net("2001:db8:1::10/128"), route(5))]));
    world.input(0, Input::OpenGate);
    world.run(seconds(1));
    assert!(world.hosts[1].table().is_empty());
    assert!(world.hosts[0].events.iter().any(|(_, event)| matches!(
        event,
        Event::NoNextHop { family, .. } if *family == Family::IPV6_UNICAST
    )));
}

/// Reported once in a session. Other routes are announced.
#[test]
fn a_route_that_fits_in_no_message_is_reported_and_not_announced_rfc4271_9_2() {
    let mut world = established_pair(|_| {});
    let communities = (0..20_000).map(Community).collect();
    let long = Some(Route::new(RouteAttributes {
        communities,
        ..RouteAttributes::default()
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

/// RFC 8950: IPv4 routes over an IPv6 session need no IPv4 next hop.
#[test]
fn ipv4_routes_are_announced_over_an_ipv6_session_rfc8950() {
    let prefix = "192.0.2.1/32";
    let world = announce_between(["2001:db8::1", "2001:db8::2"], &[prefix], |_| {});
    let negotiated = world.status(0).negotiated.unwrap();
    assert!(negotiated.ipv4_next_hop_v6);
    let table = world.hosts[1].table();
    let reach = table[&net(prefix)].mp_reach.as_ref();
    assert_eq!(reach.unwrap().next_hop.to_string(), "2001:db8::1");
}

/// The global address, and the link-local one that the peer can always reach.
#[test]
fn a_session_between_link_local_addresses_sends_both_next_hops_rfc2545_3() {
    let prefixes = ["192.0.2.1/32", "2001:db8:1::1/128"];
    let world = announce_between(["fe80::1", "fe80::2"], &prefixes, |config| {
        config.next_hops.v6 = Some("2001:db8::1".parse().unwrap());
    });
    let table = world.hosts[1].table();
    for prefix in prefixes {
        let reach = table[&net(prefix)].mp_reach.as_ref().unwrap();
        assert_eq!(
            reach.next_hop.to_string(),
            "2001:db8::1 (fe80::1)",
            "{prefix}"
        );
    }
}

#[test]
fn a_peer_that_does_not_read_gets_only_the_latest_routes() {
    let mut world = established_pair(|_| {});
    world.input(0, Input::OpenGate);
    world.run(seconds(1));
    world.hosts[1].stalled = true;
    let before = world.hosts[0].octets_sent;
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
    let sent = world.hosts[0].octets_sent - before;
    assert!(sent <= WINDOW + 4096, "{sent} octets to a closed window");
    world.resume(1);
    world.run(seconds(1));
    let table = world.hosts[1].table();
    assert_eq!(table.len(), prefixes.len());
    assert!(
        table
            .values()
            .all(|update| update.attributes.med == Some(49))
    );
    // One window of old routes, then each prefix once rather than fifty times.
    let sent = world.hosts[0].octets_sent - before;
    assert!(sent < 60_000, "{sent} octets");
}

#[test]
fn flaps_of_a_route_between_two_writes_send_one_update_or_none() {
    let mut world = pair(|_| {});
    world.input(0, Input::OpenGate);
    world.run_until(seconds(2), "session established", World::established);
    world.run(seconds(1));
    let before = world.status(0).sent.update;
    // Only the state after the ten flaps counts. It is the state before them.
    let flaps = (0..10).flat_map(|med| {
        let prefix = net("203.0.113.0/24");
        [(prefix, route(med)), (prefix, None)]
    });
    let mut changes: Vec<_> = flaps.collect();
    world.input(0, routes("b", changes.clone()));
    world.run(seconds(1));
    assert_eq!(world.status(0).sent.update, before);
    changes.push((net("203.0.113.0/24"), route(77)));
    world.input(0, routes("b", changes));
    world.run(seconds(1));
    assert_eq!(world.status(0).sent.update, before + 1);
}

#[test]
fn a_route_refresh_is_answered_with_all_routes_of_the_family_rfc2918() {
    let mut world = established_pair(|_| {});
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
fn an_enhanced_route_refresh_has_a_begin_and_an_end_marker_rfc7313() {
    let mut world = pair(|_| {});
    world.input(0, routes("b", vec![(net("192.0.2.1/32"), route(1))]));
    world.input(0, Input::OpenGate);
    world.run_until(seconds(5), "session established", World::established);
    world.run(seconds(1));
    let sent = world.hosts[0].sent.len();
    let (connection, family) = (ConnectionId::Dialled(0), Family::IPV4_UNICAST);
    let octets = RouteRefresh {
        family,
        subtype: RouteRefresh::REQUEST,
    };
    let octets: bytes::Bytes = octets.encode().repeat(10).into();
    let request = |world: &mut World| {
        let octets = octets.clone();
        world.input(0, Input::Received { connection, octets });
    };
    request(&mut world);
    world.run(seconds(1));
    let answers = world.hosts[0].sent[sent..]
        .iter()
        .map(|(_, message)| match message {
            Message::RouteRefresh(refresh) => refresh.subtype.to_string(),
            other => other.kind().to_string(),
        });
    // Ten requests that arrive before the first answer get one answer.
    assert_eq!(answers.collect::<Vec<_>>(), ["1", "UPDATE", "2"]);
    let status = world.status(0);
    assert_eq!(
        (status.sent.route_refresh, status.received.route_refresh),
        (2, 10)
    );
    // Continuous requests are answered at once, and then once a second.
    world.run(seconds(2));
    for _ in 0..100 {
        request(&mut world);
        world.run(Duration::from_millis(50));
    }
    let ends = (world.status(0).sent.route_refresh - 2) / 2;
    assert_eq!(ends, 6);
}

#[test]
fn without_a_session_no_prefix_counts_as_announced() {
    let mut world = established_pair(|_| {});
    world.input(0, routes("b", vec![(net("203.0.113.10/32"), route(5))]));
    world.input(0, Input::OpenGate);
    world.run(seconds(1));
    assert_eq!(world.status(0).prefixes_advertised, 1);
    world.hosts[1].listens = false;
    world.reset_connections();
    world.run(seconds(1));
    assert!(!world.established());
    assert_eq!(world.status(0).prefixes_advertised, 0);
}
