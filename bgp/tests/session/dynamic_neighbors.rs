//! Dynamic neighbors: sessions with routers that connect from a network.

use std::net::SocketAddr;
use std::time::Duration;

use ferrolb_bgp::config::{PeerConfig, Remote, RemoteAsn};
use ferrolb_bgp::fsm::{ConnectionId, Event, Input, JournalEvent, PeerStatus, State};

use crate::harness::{World, hold_time, net, passive, peer, route, routes, seconds};

/// A peer for all routers of a network.
fn template(network: &str) -> PeerConfig {
    PeerConfig {
        remote: Remote::Network(net(network)),
        remote_asn: RemoteAsn::External,
        ..peer("rack", "10.0.0.0", 65001, 0)
    }
}

/// Host 0 is 10.0.0.1 and has a template for the rack. The other hosts dial it.
fn rack(routers: u8) -> World {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.input(0, Input::SetPeer(template("10.0.0.0/24")));
    for router in 0..routers {
        let host = world.host(&format!("10.0.0.{}", 10 + router), false);
        let asn = 65010 + u32::from(router);
        let mut config = peer("node", "10.0.0.1", asn, 65001);
        config.receive = true;
        world.input(host, Input::SetPeer(config));
    }
    world
}

fn all(world: &World) -> Vec<PeerStatus> {
    world.hosts[0].speaker.status(world.now())
}

fn status(world: &World, name: &str) -> Option<PeerStatus> {
    all(world).into_iter().find(|status| status.name == name)
}

fn state(world: &World, name: &str) -> Option<State> {
    status(world, name).map(|status| status.state)
}

fn accept(world: &mut World, number: u64, remote: &str) {
    let end = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
    let connection = ConnectionId::Accepted(number);
    let (local, remote) = (end("10.0.0.1", 179), end(remote, 50000));
    world.input(
        0,
        Input::Accepted {
            connection,
            local,
            remote,
        },
    );
}

#[test]
fn each_router_of_the_network_gets_a_session_and_the_routes_of_the_template() {
    let mut world = rack(2);
    world.input(0, routes("rack", vec![(net("203.0.113.0/24"), route(1))]));
    world.input(0, Input::OpenGate);
    world.run_until(seconds(5), "routes received by both", |world| {
        (1..3).all(|host| world.hosts[host].table().len() == 1)
    });

    let names: Vec<_> = all(&world).into_iter().map(|status| status.name).collect();
    assert_eq!(names, ["rack", "rack@10.0.0.10", "rack@10.0.0.11"]);
    let first = status(&world, "rack@10.0.0.10").unwrap();
    assert_eq!(first.template.as_deref(), Some("rack"));
    assert_eq!(first.negotiated.unwrap().remote_asn.0, 65010);
    assert_eq!(state(&world, "rack"), Some(State::Active));
    assert!(world.hosts[0].events.iter().any(
        |(_, event)| matches!(event, Event::Established { peer, .. } if peer == "rack@10.0.0.11")
    ));

    // Later announcements and withdrawals go to all of them.
    world.input(0, routes("rack", vec![(net("198.51.100.0/24"), route(1))]));
    world.input(0, routes("rack", vec![(net("203.0.113.0/24"), None)]));
    world.run(seconds(1));
    for host in [1, 2] {
        let table = world.hosts[host].table();
        let prefixes: Vec<_> = table.keys().copied().collect();
        assert_eq!(prefixes, [net("198.51.100.0/24")]);
    }
    let now = world.now();
    let advertised = world.hosts[0].speaker.advertised(now, "rack@10.0.0.11");
    assert_eq!(advertised.count(), 1);

    // Routes can't be set for a single dynamic neighbor.
    world.input(
        0,
        routes("rack@10.0.0.11", vec![(net("192.0.2.0/24"), route(1))]),
    );
    assert!(matches!(
        world.hosts[0].events.last(),
        Some((_, Event::UnknownPeer { .. }))
    ));
}

#[test]
fn a_neighbor_without_session_is_removed_after_some_minutes() {
    let mut world = rack(1);
    world.run_until(seconds(5), "session established", |world| {
        state(world, "rack@10.0.0.10") == Some(State::Established)
    });
    world.input(1, Input::RemovePeer("node".to_owned()));
    world.run(seconds(200));
    let status = status(&world, "rack@10.0.0.10").expect("still listed");
    assert_eq!(status.last_error.unwrap().cause.code, "rejected-by-peer");
    world.run(seconds(200));
    assert_eq!(all(&world).len(), 1, "only the template is left");
}

#[test]
fn the_number_of_neighbors_is_bounded_and_one_without_connection_is_replaced() {
    let mut world = rack(0);
    world.input(0, Input::SetPeer(template("10.0.0.0/16")));
    for number in 0..256u64 {
        let remote = format!("10.0.1.{number}");
        accept(&mut world, number, &remote);
    }
    assert_eq!(all(&world).len(), 257);
    accept(&mut world, 300, "10.0.2.1");
    assert_eq!(all(&world).len(), 257, "all have a connection");
    let detail = world.hosts[0].speaker.peer(world.now(), "rack").unwrap();
    assert!(matches!(
        detail.journal.last().unwrap().event,
        JournalEvent::Rejected { .. }
    ));

    // A neighbor without a connection makes room for another one.
    let connection = ConnectionId::Accepted(7);
    let error = None;
    world.input(0, Input::Closed { connection, error });
    accept(&mut world, 301, "10.0.2.1");
    assert_eq!(all(&world).len(), 257);
    assert_eq!(state(&world, "rack@10.0.1.7"), None);
    assert_eq!(state(&world, "rack@10.0.2.1"), Some(State::OpenSent));
}

#[test]
fn removing_a_template_removes_its_neighbors_with_peer_de_configured() {
    let mut world = rack(1);
    world.run_until(seconds(5), "session established", |world| {
        state(world, "rack@10.0.0.10") == Some(State::Established)
    });
    world.input(0, Input::RemovePeer("rack@10.0.0.10".to_owned()));
    assert_eq!(all(&world).len(), 2, "a dynamic neighbor can't be removed");
    world.input(0, Input::RemovePeer("rack".to_owned()));
    world.run(Duration::from_millis(100));
    assert!(all(&world).is_empty());
    let last = world.hosts[0].notifications_sent();
    assert_eq!(last.last().map(|n| (n.code.0, n.subcode)), Some((6, 3)));
}

#[test]
fn a_changed_template_applies_to_its_neighbors() {
    let mut world = rack(2);
    let up = |world: &World| {
        ["rack@10.0.0.10", "rack@10.0.0.11"]
            .iter()
            .all(|name| state(world, name) == Some(State::Established))
    };
    world.run_until(seconds(5), "sessions established", up);
    // A change that does not affect a running session.
    let mut config = template("10.0.0.0/24");
    config.prefix_limit = Some(10);
    world.input(0, Input::SetPeer(config));
    world.run(Duration::from_millis(100));
    assert!(up(&world));
    let detail = world.hosts[0].speaker.peer(world.now(), "rack@10.0.0.10");
    assert_eq!(detail.unwrap().config.prefix_limit, Some(10));

    // A new hold time resets each session.
    let mut config = template("10.0.0.0/24");
    hold_time(30)(&mut config);
    world.input(0, Input::SetPeer(config));
    world.run_until(seconds(10), "sessions established again", |world| {
        up(world)
            && all(world)[1..]
                .iter()
                .all(|status| status.negotiated.as_ref().unwrap().hold_time.as_secs() == 30)
    });

    // Neighbors outside of a smaller network are removed.
    let mut config = template("10.0.0.10/32");
    hold_time(30)(&mut config);
    world.input(0, Input::SetPeer(config));
    world.run(seconds(5));
    assert_eq!(state(&world, "rack@10.0.0.11"), None);
    assert!(state(&world, "rack@10.0.0.10").is_some());
}

#[test]
fn a_configured_peer_takes_precedence_over_a_template() {
    let mut world = rack(1);
    world.run_until(seconds(5), "dynamic session established", |world| {
        state(world, "rack@10.0.0.10") == Some(State::Established)
    });
    let config = passive(peer("tor", "10.0.0.10", 65001, 65010));
    world.input(0, Input::SetPeer(config));
    world.run_until(seconds(20), "configured session established", |world| {
        state(world, "tor") == Some(State::Established)
    });
    assert_eq!(state(&world, "rack@10.0.0.10"), None);
    world.input(0, Input::RemovePeer("tor".to_owned()));
    world.run_until(seconds(20), "dynamic session established again", |world| {
        state(world, "rack@10.0.0.10") == Some(State::Established)
    });
}

#[test]
fn the_template_with_the_longest_matching_prefix_is_used() {
    let mut world = rack(0);
    let mut small = template("10.0.0.8/29");
    small.name = "small".to_owned();
    world.input(0, Input::SetPeer(small));
    accept(&mut world, 1, "10.0.0.9");
    accept(&mut world, 2, "10.0.0.77");
    assert_eq!(state(&world, "small@10.0.0.9"), Some(State::OpenSent));
    assert_eq!(state(&world, "rack@10.0.0.77"), Some(State::OpenSent));
    accept(&mut world, 3, "10.9.0.77");
    assert_eq!(
        all(&world).len(),
        4,
        "a router outside of both networks is rejected"
    );
}
