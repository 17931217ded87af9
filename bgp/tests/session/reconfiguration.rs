//! Changes and removal of peers with an established session.

use ferrolb_bgp::fsm::{Input, State};

use crate::harness::{World, established_pair, hold_time, passive, peer, seconds};

/// Code and subcode of the NOTIFICATION that ended the session of host 1.
fn notification(world: &World) -> (u8, u8) {
    let (notification, _) = world.hosts[1].causes()[0].notification().unwrap();
    (notification.code.0, notification.subcode)
}

#[test]
fn a_removed_peer_receives_peer_de_configured_rfc4486() {
    let mut world = established_pair(|_| {});
    world.input(0, Input::RemovePeer("b".to_owned()));
    world.run(seconds(1));
    assert_eq!(notification(&world), (6, 3));
    assert!(world.hosts[0].speaker.status(world.now()).is_empty());
    assert_eq!(world.hosts[0].speaker.poll_timeout(), None);
}

#[test]
fn a_change_resets_the_session_only_if_it_affects_it_rfc4486() {
    let mut world = established_pair(|_| {});
    world.run(seconds(200));
    let mut config = peer("b", "10.0.0.2", 65001, 65002);
    config.timers.connect_retry = Some(seconds(5));
    world.input(0, Input::SetPeer(config.clone()));
    world.run(seconds(5));
    assert_eq!(world.status(0).established_count, 1);
    hold_time(30)(&mut config);
    world.input(0, Input::SetPeer(config));
    world.run(seconds(5));
    assert_eq!(notification(&world), (6, 6));
    assert!(world.established());
    assert_eq!(world.status(0).negotiated.unwrap().hold_time.as_secs(), 30);
}

#[test]
fn a_changed_or_removed_peer_does_not_affect_the_session_of_another() {
    let mut world = established_pair(|_| {});
    world.host("10.0.0.3", true);
    let theirs = passive(peer("a", "10.0.0.1", 65003, 65001));
    world.input(2, Input::SetPeer(theirs));
    let mut other = peer("c", "10.0.0.3", 65001, 65003);
    world.input(0, Input::SetPeer(other.clone()));
    let sessions = |world: &World| {
        let status = world.hosts[0].speaker.status(world.now());
        let sessions = status
            .iter()
            .map(|peer| (peer.name.to_string(), peer.state, peer.established_count));
        sessions.collect::<Vec<_>>()
    };
    world.run(seconds(200));
    let b = ("b".to_owned(), State::Established, 1);
    let c = |count| ("c".to_owned(), State::Established, count);
    assert_eq!(sessions(&world), [b.clone(), c(1)]);
    hold_time(30)(&mut other);
    world.input(0, Input::SetPeer(other));
    world.run(seconds(5));
    assert_eq!(sessions(&world), [b.clone(), c(2)]);
    world.input(0, Input::RemovePeer("c".to_owned()));
    world.run(seconds(5));
    assert_eq!(sessions(&world), [b]);
}
