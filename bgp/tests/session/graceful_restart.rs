//! Leaving and coming back: what a peer is told about restarts, and what becomes of our routes.

use std::time::Duration;

use crate::harness::world::{World, net, pair, peer, route, routes, seconds};
use ferrolb_bgp::bfd::{self, Diagnostic, Discarded, Hops, Path, SessionStatus};
use ferrolb_bgp::config::{BfdOptions, GracefulRestart, PeerConfig, Remote};
use ferrolb_bgp::fsm::{BfdEvent, Cause, Input, ShutdownMode, State};
use ferrolb_bgp::wire::{
    Asn, Capability, Family, GracefulRestartCapability, Message, RestartAgreement,
};
use ipnet::Ipv4Net;

const RESTART_TIME: u16 = 20;

fn graceful(notification: bool) -> impl Fn(&mut PeerConfig) {
    move |config| {
        config.graceful_restart = Some(GracefulRestart {
            restart_time: RESTART_TIME,
            notification,
        });
    }
}

/// Host 0's routes are told.
fn in_session(change: impl Fn(&mut PeerConfig)) -> World {
    let mut world = pair(change);
    announce(&mut world);
    world.until(seconds(5), "a session", World::established);
    world.run(seconds(1));
    assert_eq!(world.hosts[1].table().len(), 1);
    world
}

fn announce(world: &mut World) {
    let changes = vec![(net("192.0.2.1/32"), route(1))];
    world.input(0, routes("b", changes));
    world.input(0, Input::OpenGate);
}

fn leave(world: &mut World, mode: ShutdownMode) {
    let text = "bye".to_owned();
    world.input(0, Input::Shutdown { text, mode });
    world.until(seconds(5), "the end", |world| world.hosts[0].stopped);
    world.run(seconds(1));
}

/// What host 0 said of restarts, in each of its OPENs.
fn said(world: &World) -> Vec<Option<GracefulRestartCapability>> {
    let opens = world.hosts[0].sent.iter().filter_map(|(_, message)| {
        let Message::Open(open) = message else {
            return None;
        };
        Some(
            open.capabilities
                .iter()
                .find_map(|capability| match capability {
                    Capability::GracefulRestart(restart) => Some(restart.clone()),
                    _ => None,
                }),
        )
    });
    opens.collect()
}

fn withdrawals(world: &World) -> usize {
    let updates = world.hosts[1].updates();
    updates
        .iter()
        .map(|update| update.withdrawn_prefixes().count())
        .sum()
}

#[test]
fn the_first_open_says_restarted_and_the_next_does_not() {
    let mut world = in_session(graceful(true));
    world.restart(1);
    let mut theirs = peer("a", "10.0.0.1", 65002, 65001);
    theirs.transport.passive = true;
    graceful(true)(&mut theirs);
    world.input(1, Input::SetPeer(theirs));
    world.until(seconds(30), "a session again", World::established);
    let first = GracefulRestartCapability {
        restarted: true,
        notification: true,
        restart_time: RESTART_TIME,
        families: vec![(Family::IPV4_UNICAST, false), (Family::IPV6_UNICAST, false)],
    };
    let again = GracefulRestartCapability {
        restarted: false,
        // It is the same process on the same host: whatever forwarded before forwards now.
        families: vec![(Family::IPV4_UNICAST, true), (Family::IPV6_UNICAST, true)],
        ..first
    };
    assert_eq!(said(&world), [Some(first), Some(again)]);
    let negotiated = world.status(0).negotiated.unwrap();
    let agreement = RestartAgreement {
        restart_time: RESTART_TIME,
        notification: true,
    };
    assert_eq!(negotiated.graceful_restart, Some(agreement));
}

#[test]
fn without_it_configured_nothing_is_said_and_nothing_agreed() {
    let world = in_session(|_| {});
    assert_eq!(said(&world), [None]);
    assert_eq!(world.status(0).negotiated.unwrap().graceful_restart, None);
}

/// RFC 4724 §3, and a host that has just come up forwards nothing yet. The hold time is 90 s.
#[test]
fn forwarding_is_claimed_only_if_no_route_can_be_from_before_the_boot() {
    let cases = [
        (None, false),
        (Some(0), false),
        (Some(100), false),
        (Some(111), true),
    ];
    for (uptime, forwarding) in cases {
        let mut world = in_session(graceful(false));
        world.restart_with(0, uptime.map(Duration::from_secs));
        let mut ours = peer("b", "10.0.0.2", 65001, 65002);
        graceful(false)(&mut ours);
        world.input(0, Input::SetPeer(ours));
        world.until(seconds(30), "a session again", World::established);
        let last = said(&world).pop().unwrap().unwrap();
        assert!(last.restarted);
        let claimed = last.families.iter().map(|(_, kept)| *kept);
        assert_eq!(claimed.collect::<Vec<_>>(), [forwarding; 2], "{uptime:?}");
    }
}

#[test]
fn a_preserved_session_ends_without_a_word_and_after_all_was_said() {
    let mut world = in_session(graceful(false));
    world.input(0, routes("b", vec![(net("192.0.2.2/32"), route(1))]));
    leave(&mut world, ShutdownMode::GracefulRestart);
    assert!(world.hosts[0].notifications_sent().is_empty());
    assert_eq!(withdrawals(&world), 0);
    assert_eq!(world.hosts[1].table().len(), 2, "the last change was told");
    assert_eq!(world.hosts[0].causes(), [&Cause::GracefulRestart]);
    let closed = Cause::Closed {
        state: State::Established,
        error: None,
    };
    assert_eq!(world.hosts[1].causes(), [&closed]);
}

/// RFC 4724 §4.1: a table that is told before it is complete would cost what isn't in it yet.
#[test]
fn after_a_restart_the_end_of_rib_waits_for_the_first_complete_state() {
    let mut world = in_session(graceful(false));
    leave(&mut world, ShutdownMode::GracefulRestart);
    world.restart_with(0, Some(seconds(3600)));
    let mut ours = peer("b", "10.0.0.2", 65001, 65002);
    graceful(false)(&mut ours);
    world.input(0, Input::SetPeer(ours));
    world.until(seconds(30), "a session again", World::established);
    world.input(0, routes("b", vec![(net("192.0.2.9/32"), route(1))]));
    world.run(seconds(10));
    let updates = |world: &World| {
        let sent = world.hosts[0].sent.iter();
        sent.filter(|(_, message)| matches!(message, Message::Update(_)))
            .count()
    };
    assert_eq!(updates(&world), 0);
    announce(&mut world);
    world.run(seconds(1));
    assert_eq!(
        updates(&world),
        1 + 2,
        "both prefixes, and End-of-RIB of two families"
    );
}

#[test]
fn a_peer_without_graceful_restart_is_left_by_withdrawing() {
    let mut world = in_session(|config| {
        if config.name == "b" {
            graceful(false)(config);
        }
    });
    leave(&mut world, ShutdownMode::GracefulRestart);
    assert_eq!(withdrawals(&world), 1);
    let said = world.hosts[0].notifications_sent();
    assert_eq!((said[0].code.0, said[0].subcode), (6, 2));
    assert_eq!(said[0].shutdown_text().as_deref(), Some("bye"));
}

/// RFC 8538 §3: where the N bit was exchanged, Cease alone would leave the routes.
#[test]
fn withdrawing_for_good_is_a_hard_reset_where_a_notification_would_not_do() {
    let mut world = in_session(graceful(true));
    leave(&mut world, ShutdownMode::Withdraw);
    assert_eq!(withdrawals(&world), 1);
    let said = world.hosts[0].notifications_sent();
    assert_eq!((said[0].code.0, said[0].subcode), (6, 9));
    assert_eq!(said[0].data[..], [&[6, 2, 3], &b"bye"[..]].concat());

    let mut world = in_session(graceful(false));
    leave(&mut world, ShutdownMode::Withdraw);
    let said = world.hosts[0].notifications_sent();
    assert_eq!((said[0].code.0, said[0].subcode), (6, 2));
}

#[test]
fn a_removed_peer_keeps_nothing_and_a_changed_one_may() {
    let mut world = in_session(graceful(true));
    let mut changed = peer("b", "10.0.0.2", 65001, 65002);
    graceful(true)(&mut changed);
    changed.timers.keepalive_time = Some(seconds(7));
    world.input(0, Input::SetPeer(changed));
    world.until(seconds(30), "a session again", World::established);
    world.input(0, Input::RemovePeer("b".to_owned()));
    world.run(seconds(1));
    let said = world.hosts[0].notifications_sent();
    let said: Vec<_> = said.iter().map(|n| (n.code.0, n.subcode)).collect();
    assert_eq!(said, [(6, 6), (6, 9)]);
}

/// The router would wait for somebody who never comes.
#[test]
fn who_becomes_another_neighbour_keeps_nothing_at_the_old_one() {
    let others: [fn(&mut PeerConfig); 3] = [
        |config| config.remote = Remote::Router("10.0.0.3:179".parse().unwrap()),
        |config| config.transport.source_address = Some("10.0.0.7".parse().unwrap()),
        |config| config.local_asn = Asn(65009),
    ];
    for other in others {
        let mut world = in_session(graceful(true));
        let mut changed = peer("b", "10.0.0.2", 65001, 65002);
        graceful(true)(&mut changed);
        other(&mut changed);
        world.input(0, Input::SetPeer(changed));
        world.run(seconds(1));
        let said = &world.hosts[0].notifications_sent()[0];
        assert_eq!((said.code.0, said.subcode), (6, 9));
        assert_eq!(said.data[..], [6, 3]);
    }
}

/// RFC 8538 §5.1: nobody comes back from a prefix limit by itself.
#[test]
fn a_prefix_limit_is_a_hard_reset_where_the_routes_would_stay() {
    for (notification, expected) in [(true, (6, 9)), (false, (6, 1))] {
        let mut world = in_session(|config| {
            graceful(notification)(config);
            config.prefix_limit = Some(1);
        });
        let changes = (1..=2).map(|host| (net(&format!("198.51.100.{host}/32")), route(1)));
        world.input(1, routes("a", changes.collect()));
        world.input(1, Input::OpenGate);
        world.run(seconds(1));
        let said = &world.hosts[0].notifications_sent()[0];
        assert_eq!((said.code.0, said.subcode), expected);
        let limit = [6, 1, 0, 1, 1, 0, 0, 0, 1];
        let hard = said.data[..] == limit;
        assert!(hard || said.data[..] == limit[2..], "{said:?}");
        let cause = world.hosts[0].causes()[0];
        assert_eq!(cause.code(), "prefix-limit");
        // An operator has to do something about it: no use in trying at once.
        assert!(world.status(0).retry_in.unwrap() > seconds(40));
    }
}

/// RFC 4724 §4.1: the peer holds nothing any more of a process that ended long ago.
#[test]
fn only_in_the_restart_window_after_our_start_do_we_say_restarted() {
    // The restart time is 20 s, the hold time 90 s.
    for (late, restarted) in [(100, true), (120, false)] {
        let mut world = pair(graceful(false));
        world.restart_with(0, Some(seconds(0)));
        world.input(0, Input::Timeout);
        world.run(seconds(late));
        let mut ours = peer("b", "10.0.0.2", 65001, 65002);
        graceful(false)(&mut ours);
        world.input(0, Input::SetPeer(ours));
        world.until(seconds(30), "a session", World::established);
        let last = said(&world).pop().unwrap().unwrap();
        let claimed = last.families.iter().map(|(_, kept)| *kept);
        assert_eq!(last.restarted, restarted, "{late}");
        assert_eq!(claimed.collect::<Vec<_>>(), [!restarted; 2], "{late}");
    }
}

#[test]
fn the_peers_own_text_goes_before_the_speakers() {
    let mut world = in_session(|config| config.shutdown_text = Some("call Kim".to_owned()));
    leave(&mut world, ShutdownMode::Withdraw);
    let said = world.hosts[0].notifications_sent();
    assert_eq!(said[0].shutdown_text().as_deref(), Some("call Kim"));
}

/// The router may hold what the process before us announced; a NOTIFICATION would cost it.
#[test]
fn a_connection_that_is_not_up_yet_is_preserved_too() {
    let mut world = pair(graceful(false));
    world.hosts[1].deaf = true;
    world.run(seconds(1));
    assert_eq!(world.state(0), State::OpenConfirm);
    leave(&mut world, ShutdownMode::GracefulRestart);
    assert!(world.hosts[0].notifications_sent().is_empty());
}

/// The path between the hosts, as BFD saw it last.
fn path_up(world: &World, remote_detection_time: Duration) -> SessionStatus {
    SessionStatus {
        path: Path {
            remote: "10.0.0.2".parse().unwrap(),
            local: None,
            interface: None,
            hops: Hops::Single,
        },
        state: bfd::State::Up,
        since: world.now(),
        diagnostic: Diagnostic::NONE,
        discriminator: 1,
        remote_discriminator: 2,
        remote_state: bfd::State::Up,
        remote_diagnostic: Diagnostic::NONE,
        transmit_interval: None,
        detection_time: None,
        remote_detection_time,
        flaps: 0,
        last_flap: None,
        received: 0,
        sent: 0,
        discarded: Discarded::default(),
    }
}

/// BFD has the last word: the session is gone for the peer before it hears AdminDown, which some
/// take for a lost path.
#[test]
fn what_watches_over_the_path_is_silenced_once_a_preserved_session_has_ended() {
    for deaf in [false, true] {
        let mut world = in_session(|config| {
            graceful(true)(config);
            config.bfd = Some(BfdOptions::default());
        });
        let status = path_up(&world, Duration::from_millis(900));
        let event = BfdEvent::Status(status);
        let peer = "b".to_owned();
        world.input(0, Input::Bfd { peer, event });
        let begin = world.elapsed();
        if deaf {
            // And doesn't take the last change either.
            world.hosts[1].deaf = true;
            let many = (0..60_000u32).map(|index| {
                let prefix = Ipv4Net::new(index.into(), 32).unwrap();
                (prefix.into(), route(index / 100))
            });
            world.input(0, routes("b", many.collect()));
        }
        let (text, mode) = (String::new(), ShutdownMode::GracefulRestart);
        world.input(0, Input::Shutdown { text, mode });
        world.until(seconds(3), "the end of the session", |world| {
            world.hosts[0].causes() == [&Cause::GracefulRestart]
        });
        let closed = world.elapsed() - begin;
        world.until(seconds(6), "the end", |world| world.hosts[0].stopped);
        let hushed = world.elapsed() - begin - closed;
        if deaf {
            // Two seconds to say it, two for the peer to hear it.
            assert!(
                closed >= seconds(2) && hushed <= seconds(3),
                "{closed:?} {hushed:?}"
            );
        } else {
            assert!(closed < Duration::from_millis(100), "{closed:?}");
            let told = Duration::from_millis(900);
            assert!(
                hushed >= told && hushed < told + Duration::from_millis(100),
                "{hushed:?}"
            );
        }
    }
}
