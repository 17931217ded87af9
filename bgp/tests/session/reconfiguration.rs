//! Changes and removal of peers with an established session.

use ferrolb_bgp::fsm::Input;

use crate::harness::{World, established_pair, hold_time, peer, seconds};

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
