//! Whose connection is it: dynamic neighbours, several peers at one address, and ourselves.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::world::{World, net, peer, route, routes, seconds};
use ferrolb_bgp::config::{PeerConfig, Remote, RemoteAsn, Secret};
use ferrolb_bgp::fsm::{ConnectionId, Event, Input, JournalEvent, Output, PeerStatus, State};
use ferrolb_bgp::wire::Message;

fn template(network: &str) -> PeerConfig {
    PeerConfig {
        remote: Remote::Network(net(network)),
        remote_asn: RemoteAsn::External,
        ..peer("rack", "10.0.0.0", 65001, 0)
    }
}

/// Host 0 is 10.0.0.1 with a template for the whole rack; the others dial it.
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

fn accept(world: &mut World, number: u64, local: &str, remote: &str) {
    let end = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
    let connection = ConnectionId::Accepted(number);
    let (local, remote) = (end(local, 179), end(remote, 50000));
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
fn each_that_dials_from_the_network_gets_a_session_and_the_templates_routes() {
    let mut world = rack(2);
    world.input(0, routes("rack", vec![(net("203.0.113.0/24"), route(1))]));
    world.input(0, Input::OpenGate);
    world.until(seconds(5), "both have it", |world| {
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

    // What is set afterwards goes to all of them; and so does what is taken back.
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

    // A neighbour is not a peer that routes can be set for.
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
fn a_neighbour_is_kept_for_a_while_and_forgotten_after_it() {
    let mut world = rack(1);
    world.until(seconds(5), "up", |world| {
        state(world, "rack@10.0.0.10") == Some(State::Established)
    });
    world.input(1, Input::RemovePeer("node".to_owned()));
    world.run(seconds(200));
    let status = status(&world, "rack@10.0.0.10").expect("kept");
    assert_eq!(status.last_error.unwrap().cause.code, "rejected-by-peer");
    world.run(seconds(200));
    assert_eq!(all(&world).len(), 1, "only the template is left");
}

#[test]
fn the_number_of_neighbours_is_bounded_and_a_quiet_one_gives_way() {
    let mut world = rack(0);
    world.input(0, Input::SetPeer(template("10.0.0.0/16")));
    for number in 0..256u64 {
        let remote = format!("10.0.1.{number}");
        accept(&mut world, number, "10.0.0.1", &remote);
    }
    assert_eq!(all(&world).len(), 257);
    accept(&mut world, 300, "10.0.0.1", "10.0.2.1");
    assert_eq!(all(&world).len(), 257, "all are busy");
    let detail = world.hosts[0].speaker.peer(world.now(), "rack").unwrap();
    assert!(matches!(
        detail.journal.last().unwrap().event,
        JournalEvent::Rejected { .. }
    ));

    // One closes: once its neighbour has gone quiet, somebody else may have the place.
    let connection = ConnectionId::Accepted(7);
    let error = None;
    world.input(0, Input::Closed { connection, error });
    accept(&mut world, 301, "10.0.0.1", "10.0.2.1");
    assert_eq!(all(&world).len(), 257);
    assert_eq!(state(&world, "rack@10.0.1.7"), None);
    assert_eq!(state(&world, "rack@10.0.2.1"), Some(State::OpenSent));
}

#[test]
fn a_template_that_goes_takes_its_neighbours_along_and_tells_them() {
    let mut world = rack(1);
    world.until(seconds(5), "up", |world| {
        state(world, "rack@10.0.0.10") == Some(State::Established)
    });
    world.input(0, Input::RemovePeer("rack@10.0.0.10".to_owned()));
    assert_eq!(all(&world).len(), 2, "it isn't anybody's to remove");
    world.input(0, Input::RemovePeer("rack".to_owned()));
    world.run(Duration::from_millis(100));
    assert!(all(&world).is_empty());
    let last = world.hosts[0].notifications_sent();
    assert_eq!(last.last().map(|n| (n.code.0, n.subcode)), Some((6, 3)));
}

#[test]
fn a_changed_template_changes_its_neighbours() {
    let mut world = rack(2);
    let up = |world: &World| {
        ["rack@10.0.0.10", "rack@10.0.0.11"]
            .iter()
            .all(|name| state(world, name) == Some(State::Established))
    };
    world.until(seconds(5), "up", up);
    // Nothing that matters to a running session.
    let mut config = template("10.0.0.0/24");
    config.prefix_limit = Some(10);
    world.input(0, Input::SetPeer(config));
    world.run(Duration::from_millis(100));
    assert!(up(&world));
    let detail = world.hosts[0].speaker.peer(world.now(), "rack@10.0.0.10");
    assert_eq!(detail.unwrap().config.prefix_limit, Some(10));

    // Another hold time: each is negotiated anew.
    let mut config = template("10.0.0.0/24");
    crate::harness::world::hold(30)(&mut config);
    world.input(0, Input::SetPeer(config));
    world.until(seconds(10), "up again", |world| {
        up(world)
            && all(world)[1..]
                .iter()
                .all(|status| status.negotiated.as_ref().unwrap().hold_time.as_secs() == 30)
    });

    // A smaller network: who is outside has to go.
    let mut config = template("10.0.0.10/32");
    crate::harness::world::hold(30)(&mut config);
    world.input(0, Input::SetPeer(config));
    world.run(seconds(5));
    assert_eq!(state(&world, "rack@10.0.0.11"), None);
    assert!(state(&world, "rack@10.0.0.10").is_some());
}

#[test]
fn a_configured_router_comes_before_the_template_that_covers_it() {
    let mut world = rack(1);
    world.until(seconds(5), "dynamic", |world| {
        state(world, "rack@10.0.0.10") == Some(State::Established)
    });
    let mut config = peer("tor", "10.0.0.10", 65001, 65010);
    config.transport.passive = true;
    world.input(0, Input::SetPeer(config));
    world.until(seconds(20), "configured", |world| {
        state(world, "tor") == Some(State::Established)
    });
    assert_eq!(state(&world, "rack@10.0.0.10"), None);
    world.input(0, Input::RemovePeer("tor".to_owned()));
    world.until(seconds(20), "dynamic again", |world| {
        state(world, "rack@10.0.0.10") == Some(State::Established)
    });
}

#[test]
fn the_smallest_network_that_has_the_address_takes_it() {
    let mut world = rack(0);
    let mut small = template("10.0.0.8/29");
    small.name = "small".to_owned();
    world.input(0, Input::SetPeer(small));
    accept(&mut world, 1, "10.0.0.1", "10.0.0.9");
    accept(&mut world, 2, "10.0.0.1", "10.0.0.77");
    assert_eq!(state(&world, "small@10.0.0.9"), Some(State::OpenSent));
    assert_eq!(state(&world, "rack@10.0.0.77"), Some(State::OpenSent));
    accept(&mut world, 3, "10.0.0.1", "10.9.0.77");
    assert_eq!(all(&world).len(), 4, "whoever is outside gets nothing");
}

#[test]
fn peers_at_one_address_are_told_apart_by_our_own() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    for (name, source) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let mut config = peer(name, "10.0.0.9", 65001, 65009);
        config.transport.passive = true;
        config.transport.source_address = Some(source.parse().unwrap());
        world.input(0, Input::SetPeer(config));
    }
    accept(&mut world, 1, "10.0.0.2", "10.0.0.9");
    assert_eq!(state(&world, "b"), Some(State::OpenSent));
    assert_eq!(state(&world, "a"), Some(State::Active));
    accept(&mut world, 2, "10.0.0.1", "10.0.0.9");
    assert_eq!(state(&world, "a"), Some(State::OpenSent));
    // To an address that neither of them has.
    accept(&mut world, 3, "10.0.0.3", "10.0.0.9");
    assert!(matches!(
        world.hosts[0].events.last(),
        Some((_, Event::Rejected { .. }))
    ));
}

#[test]
fn the_younger_of_two_peers_with_the_same_remote_and_source_is_refused_by_name() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    let with = |name: &str, source: Option<&str>| {
        let mut config = peer(name, "10.0.0.9", 65001, 65009);
        config.transport.source_address = source.map(|source| source.parse().unwrap());
        Input::SetPeer(config)
    };
    world.input(0, with("z-elder", None));
    world.input(0, with("a-younger", None));
    assert_eq!(state(&world, "z-elder"), Some(State::Connect));
    let younger = status(&world, "a-younger").unwrap();
    let cause = younger.last_error.unwrap().cause;
    assert_eq!((younger.state, &*cause.code), (State::Idle, "unusable"));
    assert!(
        cause.text.contains("peer z-elder has the same address"),
        "{}",
        cause.text
    );
    // On another port there is another router; from another source it is another session.
    let mut other_port = peer("other-port", "10.0.0.9", 65001, 65009);
    other_port.remote = Remote::Router("10.0.0.9:1179".parse().unwrap());
    world.input(0, Input::SetPeer(other_port));
    assert_ne!(state(&world, "other-port"), Some(State::Idle));
    world.input(0, with("a-younger", Some("10.0.0.2")));
    assert_ne!(state(&world, "a-younger"), Some(State::Idle));
    // With the elder out of the way, the younger runs as it was.
    world.input(0, with("a-younger", None));
    assert_eq!(state(&world, "a-younger"), Some(State::Idle));
    world.input(0, Input::RemovePeer("z-elder".to_owned()));
    assert_ne!(state(&world, "a-younger"), Some(State::Idle));
}

#[test]
fn peers_at_one_address_have_the_options_of_its_connections_in_common() {
    let with = |name: &str, ttl: Option<u8>, interface: Option<&str>| {
        let mut config = peer(name, "10.0.0.9", 65001, 65009);
        let source = if name == "a" { "10.0.0.1" } else { "10.0.0.2" };
        config.transport.source_address = Some(source.parse().unwrap());
        config.transport.ttl_security = ttl;
        config.transport.source_interface = interface.map(ToOwned::to_owned);
        Input::SetPeer(config)
    };
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.input(0, with("a", Some(1), Some("eth1")));
    for (ttl, interface, what) in [
        (None, Some("eth1"), "another TTL security"),
        (Some(2), Some("eth1"), "another TTL security"),
        (Some(1), None, "another source interface"),
    ] {
        world.input(0, with("b", ttl, interface));
        let refused = status(&world, "b").unwrap();
        assert_eq!(refused.state, State::Idle);
        let text = refused.last_error.unwrap().cause.text;
        assert!(text.contains("peer a has the same address"), "{text}");
        assert!(text.contains(what), "{text}");
    }
    world.input(0, with("b", Some(1), Some("eth1")));
    assert_ne!(state(&world, "b"), Some(State::Idle));
    assert_ne!(state(&world, "a"), Some(State::Idle));
}

#[test]
fn a_network_with_a_password_has_no_peer_without_one_in_it() {
    let password = || Some(Secret::new("one"));
    let inside = |name: &str, address: &str, password| {
        let mut config = peer(name, address, 65001, 65009);
        config.transport.password = password;
        Input::SetPeer(config)
    };
    let mut world = World::new();
    world.host("10.0.0.1", false);
    let mut rack = template("10.0.0.0/24");
    rack.transport.password = password();
    world.input(0, Input::SetPeer(rack.clone()));
    for (name, address) in [("a", "10.0.0.8"), ("b", "10.0.0.9")] {
        world.input(0, inside(name, address, None));
        let refused = status(&world, name).unwrap();
        assert_eq!(refused.state, State::Idle);
        let text = refused.last_error.unwrap().cause.text;
        assert!(
            text.contains("peer rack has a password and its network 10.0.0.0/24 contains"),
            "{text}"
        );
    }
    // Outside of it, or with a password, it runs.
    world.input(0, inside("c", "10.0.1.9", None));
    assert_ne!(state(&world, "c"), Some(State::Idle));
    world.input(0, inside("d", "10.0.0.7", Some(Secret::new("two"))));
    assert_ne!(state(&world, "d"), Some(State::Idle));
    // Without the password of the network both run; and then it is the network that is refused.
    world.input(0, Input::SetPeer(template("10.0.0.0/24")));
    assert_ne!(state(&world, "a"), Some(State::Idle));
    assert_ne!(state(&world, "b"), Some(State::Idle));
    world.input(0, Input::SetPeer(rack));
    assert_eq!(state(&world, "rack"), Some(State::Idle));
    assert_ne!(state(&world, "a"), Some(State::Idle));
    for name in ["a", "b"] {
        world.input(0, Input::RemovePeer(name.to_owned()));
    }
    assert_ne!(state(&world, "rack"), Some(State::Idle));
}

/// How many of these connections, which are turned away, hear why; the others are closed at once.
fn turned_away(world: &mut World, connections: std::ops::Range<u64>, remote: &str) -> usize {
    let now = world.now();
    let told = connections.filter(|number| {
        let connection = ConnectionId::Accepted(*number);
        let input = Input::Accepted {
            connection,
            local: "10.0.0.1:179".parse().unwrap(),
            remote: SocketAddr::new(remote.parse().unwrap(), 50000),
        };
        let speaker = &mut world.hosts[0].speaker;
        speaker.handle(now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| speaker.poll_output()).collect();
        let finishes = |output: &Output| matches!(output, Output::Finish { .. });
        let closes =
            |output: &Output| matches!(output, Output::Close { connection: c } if *c == connection);
        let told = outputs.iter().any(finishes);
        assert_ne!(told, outputs.iter().any(closes), "one or the other");
        assert_eq!(told, speaker.poll_transmit(now, connection, 4096).is_some());
        told
    });
    told.count()
}

#[test]
fn only_so_many_hear_why_they_are_turned_away() {
    let mut world = rack(0);
    let reason = "no key".to_owned();
    let peer = "rack".to_owned();
    world.input(0, Input::PeerUnusable { peer, reason });
    assert_eq!(turned_away(&mut world, 0..10, "10.0.0.1"), 4);
    let others = (10..110).map(|n| turned_away(&mut world, n..n + 1, &format!("10.0.0.{n}")));
    assert_eq!(others.sum::<usize>(), 60, "64 in all");
    // Once they are gone, others may hear it.
    world.run(seconds(3));
    assert_eq!(turned_away(&mut world, 110..120, "10.0.0.1"), 4);
}

#[test]
fn a_peer_that_opens_connection_after_connection_hears_of_few_of_them() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    let mut config = peer("a", "10.0.0.9", 65001, 65009);
    config.transport.passive = true;
    world.input(0, Input::SetPeer(config));
    let now = world.now();
    let speaker = &mut world.hosts[0].speaker;
    let mut finished = 0;
    for number in 0..10 {
        let input = Input::Accepted {
            connection: ConnectionId::Accepted(number),
            local: "10.0.0.1:179".parse().unwrap(),
            remote: "10.0.0.9:50000".parse().unwrap(),
        };
        speaker.handle(now, input);
        let outputs = std::iter::from_fn(|| speaker.poll_output());
        finished += outputs
            .filter(|output| matches!(output, Output::Finish { .. }))
            .count();
    }
    assert_eq!(finished, 4);
    assert_eq!(status(&world, "a").unwrap().sent.notification, 4);
}

#[test]
fn a_peer_with_our_own_address_is_told_so_and_not_dialled_often() {
    let mut world = World::new();
    world.host("10.0.0.1", true);
    world.input(0, Input::SetPeer(peer("me", "10.0.0.1", 65001, 65002)));
    world.run(seconds(600));
    let me = status(&world, "me").unwrap();
    let cause = me.last_error.unwrap().cause;
    assert_eq!(cause.code, "own-address");
    assert!(
        cause.text.contains("we connected to ourselves"),
        "{}",
        cause.text
    );
    assert_eq!(me.established_count, 0);
    let dials = world.hosts[0].dials.len();
    assert!((8..=20).contains(&dials), "{dials} in ten minutes");
    // Also where a template would have taken it.
    world.input(0, Input::SetPeer(template("10.0.0.0/24")));
    world.run(seconds(120));
    assert!(all(&world).iter().all(|status| status.template.is_none()));
}

#[test]
fn a_new_password_is_given_to_the_running_session() {
    let password = |text: &str| Some(Secret::new(text));
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.host("10.0.0.2", true);
    let with = |secret: Option<Secret>| {
        let mut config = peer("b", "10.0.0.2", 65001, 65002);
        config.transport.password = secret;
        Input::SetPeer(config)
    };
    let mut theirs = peer("a", "10.0.0.1", 65002, 65001);
    theirs.transport.passive = true;
    world.input(1, Input::SetPeer(theirs));
    world.input(0, with(password("one")));
    world.until(seconds(2), "session up", World::established);

    world.input(0, with(password("two")));
    world.run(seconds(1));
    assert_eq!(world.hosts[0].rekeyed, [ConnectionId::Dialled(0)]);
    assert_eq!(world.status(0).established_count, 1);
    // The same again changes nothing.
    world.input(0, with(password("two")));
    assert_eq!(world.hosts[0].rekeyed.len(), 1);
    // None at all is another matter.
    world.input(0, with(None));
    world.until(seconds(20), "up again", |world| {
        world.status(0).established_count == 2 && world.established()
    });
    assert_eq!(world.hosts[0].rekeyed.len(), 1);
    let ceases = world.hosts[0].sent.iter();
    let ceases = ceases.filter(|(_, message)| matches!(message, Message::Notification(_)));
    assert_eq!(ceases.count(), 1);
}
