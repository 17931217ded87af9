//! Graceful restart (RFC 4724, RFC 8538): the capability, and what happens to our routes when a
//! session ends.

use std::time::Duration;

use crate::harness::{World, net, pair, passive, peer, route, routes, seconds, shutdown};
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

/// Host 0 has announced a route to host 1.
fn in_session(change: impl Fn(&mut PeerConfig)) -> World {
    let mut world = pair(change);
    announce(&mut world);
    world.run_until(seconds(5), "session established", World::established);
    world.run(seconds(1));
    assert_eq!(world.hosts[1].table().len(), 1);
    world
}

fn announce(world: &mut World) {
    let changes = vec![(net("192.0.2.1/32"), route(1))];
    world.input(0, routes("b", changes));
    world.input(0, Input::OpenGate);
}

fn shut_down(world: &mut World, mode: ShutdownMode) {
    world.input(0, shutdown("bye", mode));
    world.run_until(seconds(5), "speaker stopped", |world| {
        world.hosts[0].speaker.stopped()
    });
    world.run(seconds(1));
}

/// The graceful restart capability in each OPEN of host 0.
fn capabilities(world: &World) -> Vec<Option<GracefulRestartCapability>> {
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
fn only_the_first_open_after_a_restart_has_the_restart_bit_rfc4724_4_1() {
    let mut world = in_session(graceful(true));
    world.restart(1);
    let mut theirs = passive(peer("a", "10.0.0.1", 65002, 65001));
    graceful(true)(&mut theirs);
    world.input(1, Input::SetPeer(theirs));
    world.run_until(seconds(30), "session established again", World::established);
    let first = GracefulRestartCapability {
        restarted: true,
        notification: true,
        restart_time: RESTART_TIME,
        families: vec![(Family::IPV4_UNICAST, false), (Family::IPV6_UNICAST, false)],
    };
    let again = GracefulRestartCapability {
        restarted: false,
        // The process did not restart, so forwarding was preserved.
        families: vec![(Family::IPV4_UNICAST, true), (Family::IPV6_UNICAST, true)],
        ..first
    };
    assert_eq!(capabilities(&world), [Some(first), Some(again)]);
    let negotiated = world.status(0).negotiated.unwrap();
    let agreement = RestartAgreement {
        restart_time: RESTART_TIME,
        notification: true,
    };
    assert_eq!(negotiated.graceful_restart, Some(agreement));
}

#[test]
fn graceful_restart_is_neither_announced_nor_negotiated_unless_configured() {
    let world = in_session(|_| {});
    assert_eq!(capabilities(&world), [None]);
    assert_eq!(world.status(0).negotiated.unwrap().graceful_restart, None);
}

/// A host that has just booted forwards nothing yet. The hold time is 90 s.
#[test]
fn the_forwarding_bit_is_set_only_if_the_host_booted_before_our_routes_rfc4724_3() {
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
        world.run_until(seconds(30), "session established again", World::established);
        let last = capabilities(&world).pop().unwrap().unwrap();
        assert!(last.restarted);
        let bits = last.families.iter().map(|(_, forwarding)| *forwarding);
        assert_eq!(bits.collect::<Vec<_>>(), [forwarding; 2], "{uptime:?}");
    }
}

#[test]
fn a_graceful_restart_sends_pending_updates_and_no_notification_rfc4724_4() {
    let mut world = in_session(graceful(false));
    world.input(0, routes("b", vec![(net("192.0.2.2/32"), route(1))]));
    shut_down(&mut world, ShutdownMode::GracefulRestart);
    assert!(world.hosts[0].notifications_sent().is_empty());
    assert_eq!(withdrawals(&world), 0);
    assert_eq!(world.hosts[1].table().len(), 2, "the last change was sent");
    assert_eq!(world.hosts[0].causes(), [&Cause::GracefulRestart]);
    let closed = Cause::Closed {
        state: State::Established,
        error: None,
    };
    assert_eq!(world.hosts[1].causes(), [&closed]);
}

/// After an early End-of-RIB the peer would remove the routes that are not announced yet.
#[test]
fn after_a_restart_the_end_of_rib_waits_for_the_gate_rfc4724_4_1() {
    let mut world = in_session(graceful(false));
    shut_down(&mut world, ShutdownMode::GracefulRestart);
    world.restart_with(0, Some(seconds(3600)));
    let mut ours = peer("b", "10.0.0.2", 65001, 65002);
    graceful(false)(&mut ours);
    world.input(0, Input::SetPeer(ours));
    world.run_until(seconds(30), "session established again", World::established);
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
fn without_negotiated_graceful_restart_a_restart_withdraws_the_routes() {
    let mut world = in_session(|config| {
        if config.name == "b" {
            graceful(false)(config);
        }
    });
    shut_down(&mut world, ShutdownMode::GracefulRestart);
    assert_eq!(withdrawals(&world), 1);
    let sent = world.hosts[0].notifications_sent();
    assert_eq!((sent[0].code.0, sent[0].subcode), (6, 2));
    assert_eq!(sent[0].shutdown_text().as_deref(), Some("bye"));
}

/// RFC 8538 §3: with the N bit negotiated, the peer retains the routes after a Cease.
#[test]
fn a_shutdown_sends_a_hard_reset_if_the_n_bit_was_negotiated_rfc8538_3() {
    let mut world = in_session(graceful(true));
    shut_down(&mut world, ShutdownMode::Withdraw);
    assert_eq!(withdrawals(&world), 1);
    let sent = world.hosts[0].notifications_sent();
    assert_eq!((sent[0].code.0, sent[0].subcode), (6, 9));
    assert_eq!(sent[0].data[..], [&[6, 2, 3], &b"bye"[..]].concat());

    let mut world = in_session(graceful(false));
    shut_down(&mut world, ShutdownMode::Withdraw);
    let sent = world.hosts[0].notifications_sent();
    assert_eq!((sent[0].code.0, sent[0].subcode), (6, 2));
}

#[test]
fn a_removed_peer_gets_a_hard_reset_and_a_changed_one_does_not_rfc8538_5_1() {
    let mut world = in_session(graceful(true));
    let mut changed = peer("b", "10.0.0.2", 65001, 65002);
    graceful(true)(&mut changed);
    changed.timers.keepalive_time = Some(seconds(7));
    world.input(0, Input::SetPeer(changed));
    world.run_until(seconds(30), "session established again", World::established);
    world.input(0, Input::RemovePeer("b".to_owned()));
    world.run(seconds(1));
    let sent = world.hosts[0].notifications_sent();
    let codes: Vec<_> = sent.iter().map(|n| (n.code.0, n.subcode)).collect();
    assert_eq!(codes, [(6, 6), (6, 9)]);
}

/// The old session will not return, so the router must not wait for it.
#[test]
fn a_change_of_the_peering_addresses_or_the_as_sends_a_hard_reset_rfc8538_5_1() {
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
        let sent = &world.hosts[0].notifications_sent()[0];
        assert_eq!((sent.code.0, sent.subcode), (6, 9));
        assert_eq!(sent.data[..], [6, 3]);
    }
}

/// RFC 8538 §5.1: the session does not return before an operator acts.
#[test]
fn an_exceeded_prefix_limit_sends_a_hard_reset_if_the_n_bit_was_negotiated_rfc8538_5_1() {
    for (notification, expected) in [(true, (6, 9)), (false, (6, 1))] {
        let mut world = in_session(|config| {
            graceful(notification)(config);
            config.prefix_limit = Some(1);
        });
        let changes = (1..=2).map(|host| (net(&format!("198.51.100.{host}/32")), route(1)));
        world.input(1, routes("a", changes.collect()));
        world.input(1, Input::OpenGate);
        world.run(seconds(1));
        let sent = &world.hosts[0].notifications_sent()[0];
        assert_eq!((sent.code.0, sent.subcode), expected);
        let limit = [6, 1, 0, 1, 1, 0, 0, 0, 1];
        let hard = sent.data[..] == limit;
        assert!(hard || sent.data[..] == limit[2..], "{sent:?}");
        let cause = world.hosts[0].causes()[0];
        assert_eq!(cause.code(), "prefix-limit");
        // A retry fails until an operator acts, so the delay is long.
        assert!(world.status(0).retry_in.unwrap() > seconds(40));
    }
}

/// RFC 4724 §4.1: later the peer has removed the routes of the earlier process.
#[test]
fn the_restart_bit_is_set_only_in_the_restart_time_after_the_start_rfc4724_4_1() {
    // The restart time is 20 s, the hold time 90 s.
    for (late, restarted) in [(100, true), (120, false)] {
        let mut world = pair(graceful(false));
        world.restart_with(0, Some(seconds(0)));
        world.input(0, Input::Timeout);
        world.run(seconds(late));
        let mut ours = peer("b", "10.0.0.2", 65001, 65002);
        graceful(false)(&mut ours);
        world.input(0, Input::SetPeer(ours));
        world.run_until(seconds(30), "session established", World::established);
        let last = capabilities(&world).pop().unwrap().unwrap();
        let bits = last.families.iter().map(|(_, forwarding)| *forwarding);
        assert_eq!(last.restarted, restarted, "{late}");
        assert_eq!(bits.collect::<Vec<_>>(), [!restarted; 2], "{late}");
    }
}

#[test]
fn the_shutdown_text_of_a_peer_overrides_that_of_the_speaker_rfc9003() {
    let mut world = in_session(|config| config.shutdown_text = Some("call Kim".to_owned()));
    shut_down(&mut world, ShutdownMode::Withdraw);
    let sent = world.hosts[0].notifications_sent();
    assert_eq!(sent[0].shutdown_text().as_deref(), Some("call Kim"));
}

/// The router may still have the routes of the previous process, and would remove them after a
/// NOTIFICATION.
#[test]
fn a_graceful_restart_before_established_sends_no_notification() {
    let mut world = pair(graceful(false));
    world.hosts[1].stalled = true;
    world.run(seconds(1));
    assert_eq!(world.state(0), State::OpenConfirm);
    shut_down(&mut world, ShutdownMode::GracefulRestart);
    assert!(world.hosts[0].notifications_sent().is_empty());
}

/// The status of the BFD session between the hosts.
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

/// BFD sends AdminDown only after the connection is closed: some peers (FRR 8.4) treat AdminDown in
/// an established session as a failure of the path.
#[test]
fn bfd_goes_admin_down_after_a_gracefully_restarted_session_is_closed() {
    for stalled in [false, true] {
        let mut world = in_session(|config| {
            graceful(true)(config);
            config.bfd = Some(BfdOptions::default());
        });
        let status = path_up(&world, Duration::from_millis(900));
        let event = BfdEvent::Status(status);
        let peer = "b".to_owned();
        world.input(0, Input::Bfd { peer, event });
        let begin = world.elapsed();
        if stalled {
            // The peer does not read the pending UPDATEs either.
            world.hosts[1].stalled = true;
            let many = (0..60_000u32).map(|index| {
                let prefix = Ipv4Net::new(index.into(), 32).unwrap();
                (prefix.into(), route(index / 100))
            });
            world.input(0, routes("b", many.collect()));
        }
        world.input(0, shutdown("", ShutdownMode::GracefulRestart));
        world.run_until(seconds(3), "session ended", |world| {
            world.hosts[0].causes() == [&Cause::GracefulRestart]
        });
        let closed = world.elapsed() - begin;
        world.run_until(seconds(6), "speaker stopped", |world| {
            world.hosts[0].speaker.stopped()
        });
        let admin_down = world.elapsed() - begin - closed;
        if stalled {
            // Two seconds to send the UPDATEs, two for AdminDown.
            assert!(
                closed >= seconds(2) && admin_down <= seconds(3),
                "{closed:?} {admin_down:?}"
            );
        } else {
            assert!(closed < Duration::from_millis(100), "{closed:?}");
            let detection = Duration::from_millis(900);
            assert!(
                admin_down >= detection && admin_down < detection + Duration::from_millis(100),
                "{admin_down:?}"
            );
        }
    }
}
