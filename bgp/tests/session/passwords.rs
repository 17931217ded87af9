//! TCP MD5 passwords (RFC 2385): conflicts, changes, and segments that the kernel drops.

use ferrolb_bgp::config::{PeerConfig, Remote, RemoteAsn, Secret, Transport};
use ferrolb_bgp::fsm::{ConnectionId, Input, Md5Drops, PeerStatus, State};
use ferrolb_bgp::wire::Message;

use crate::harness::{Router, World, net, passive, peer, router, seconds};

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text))
}

fn status(world: &World, name: &str) -> PeerStatus {
    let mut all = world.hosts[0].speaker.status(world.now()).into_iter();
    all.find(|status| status.name == name).unwrap()
}

fn state(world: &World, name: &str) -> State {
    status(world, name).state
}

/// Asserts that a peer is rejected with this text.
fn assert_rejected(world: &World, name: &str, text: &str) {
    let status = status(world, name);
    assert_eq!(status.state, State::Idle);
    let error = status.last_error.expect("a reason").cause.text;
    assert!(error.contains(text), "{error}");
}

#[test]
fn peers_at_one_address_must_have_the_same_password() {
    let mut world = World::new();
    world.host("10.0.0.2", true);
    let with = |name: &str, password| {
        let mut config = passive(peer(name, "10.0.0.1", 65002, 65001));
        config.transport.password = password;
        config.transport.source_address = (name == "second").then(|| "10.0.0.3".parse().unwrap());
        Input::SetPeer(config)
    };
    world.input(0, with("first", secret("one")));
    world.input(0, with("second", None));
    assert_eq!(state(&world, "first"), State::Active);
    let text = "peer first has the same address but another password";
    assert_rejected(&world, "second", text);
    // The first peer still runs after it is set again.
    world.input(0, with("first", secret("one")));
    assert_eq!(state(&world, "first"), State::Active);
    world.input(0, with("second", secret("one")));
    assert_eq!(state(&world, "second"), State::Active);
    // The password of both changes, one after the other: the first waits for the second.
    world.input(0, with("first", secret("two")));
    assert_eq!(state(&world, "first"), State::Idle);
    world.input(0, with("second", secret("two")));
    assert_eq!(state(&world, "first"), State::Active);
    assert_eq!(state(&world, "second"), State::Active);
    // A waiting peer also starts if the conflicting one is removed.
    world.input(0, with("first", None));
    assert_eq!(state(&world, "first"), State::Idle);
    world.input(0, Input::RemovePeer("second".to_owned()));
    assert_eq!(state(&world, "first"), State::Active);
}

/// The key of a network would also apply to connections of the peers in it.
#[test]
fn a_network_with_a_password_conflicts_with_a_peer_without_one_in_it() {
    let inside = |name: &str, address: &str, password| {
        let mut config = peer(name, address, 65001, 65009);
        config.transport.password = password;
        Input::SetPeer(config)
    };
    let network = |password| {
        Input::SetPeer(PeerConfig {
            remote: Remote::Network(net("10.0.0.0/24")),
            remote_asn: RemoteAsn::External,
            transport: Transport {
                password,
                ..Transport::default()
            },
            ..peer("rack", "10.0.0.0", 65001, 0)
        })
    };
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.input(0, network(secret("one")));
    for (name, address) in [("a", "10.0.0.8"), ("b", "10.0.0.9")] {
        world.input(0, inside(name, address, None));
        let text = "peer rack has a password and its network 10.0.0.0/24 contains";
        assert_rejected(&world, name, text);
    }
    // Peers outside of the network, and peers with a password, run.
    world.input(0, inside("c", "10.0.1.9", None));
    assert_ne!(state(&world, "c"), State::Idle);
    world.input(0, inside("d", "10.0.0.7", secret("two")));
    assert_ne!(state(&world, "d"), State::Idle);
    // Without the password of the network all run. If it is set again, the network is rejected.
    world.input(0, network(None));
    assert_ne!(state(&world, "a"), State::Idle);
    assert_ne!(state(&world, "b"), State::Idle);
    world.input(0, network(secret("one")));
    assert_eq!(state(&world, "rack"), State::Idle);
    assert_ne!(state(&world, "a"), State::Idle);
    for name in ["a", "b"] {
        world.input(0, Input::RemovePeer(name.to_owned()));
    }
    assert_ne!(state(&world, "rack"), State::Idle);
}

#[test]
fn a_changed_password_applies_to_the_running_session() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.host("10.0.0.2", true);
    let with = |password| {
        let mut config = peer("b", "10.0.0.2", 65001, 65002);
        config.transport.password = password;
        Input::SetPeer(config)
    };
    let theirs = passive(peer("a", "10.0.0.1", 65002, 65001));
    world.input(1, Input::SetPeer(theirs));
    world.input(0, with(secret("one")));
    world.run_until(seconds(2), "session established", World::established);

    world.input(0, with(secret("two")));
    world.run(seconds(1));
    assert_eq!(world.hosts[0].rekeyed, [ConnectionId::Dialled(0)]);
    assert_eq!(world.status(0).established_count, 1);
    // The same password again changes nothing.
    world.input(0, with(secret("two")));
    assert_eq!(world.hosts[0].rekeyed.len(), 1);
    // Removing the password resets the session.
    world.input(0, with(None));
    world.run_until(seconds(20), "session established again", |world| {
        world.status(0).established_count == 2 && world.established()
    });
    assert_eq!(world.hosts[0].rekeyed.len(), 1);
    let ceases = world.hosts[0].sent.iter();
    let ceases = ceases.filter(|(_, message)| matches!(message, Message::Notification(_)));
    assert_eq!(ceases.count(), 1);
}

#[test]
fn segments_that_the_kernel_drops_during_a_dial_are_the_cause_of_its_timeout() {
    let fail = |password: Option<&str>, drops: Option<Md5Drops>| {
        let mut router = Router::new(PeerConfig {
            transport: Transport {
                password: password.and_then(secret),
                ..Transport::default()
            },
            ..router()
        });
        let connection = router.dialled;
        if let Some(drops) = drops {
            router.input(Input::Md5Dropped { connection, drops });
        }
        while router.state() == State::Connect {
            router.now = router.speaker.poll_timeout().unwrap();
            router.input(Input::Timeout);
        }
        (router.cause().code(), router.cause().to_string())
    };
    let drops = Md5Drops::default();
    let wrong = Some(Md5Drops { wrong: 3, ..drops });
    let missing = Some(Md5Drops {
        missing: 1,
        ..drops
    });
    let unexpected = Some(Md5Drops {
        unexpected: 2,
        ..drops
    });
    for (password, drops, code, words) in [
        (
            Some("a"),
            wrong,
            "md5-mismatch",
            "passwords on both sides differ",
        ),
        (
            Some("a"),
            missing,
            "md5-mismatch",
            "the router has no password",
        ),
        (None, unexpected, "md5-mismatch", "none is configured here"),
        // Drops of this kind are from another host.
        (None, wrong, "connect-timeout", "a firewall"),
        (Some("a"), unexpected, "connect-timeout", "a firewall"),
        (Some("a"), None, "connect-timeout", "a firewall"),
    ] {
        let (got, text) = fail(password, drops);
        assert_eq!(got, code, "{text}");
        assert!(text.contains(words), "{text}");
    }
}
