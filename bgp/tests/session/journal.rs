//! The journal and the details of a peer.

use crate::harness::{World, net, pair, peer, route, routes, seconds, shutdown};
use ferrolb_bgp::fsm::{Input, JournalEvent, PeerDetail, ShutdownMode, State};
use ferrolb_bgp::wire::Asn;

fn detail(world: &World, host: usize) -> PeerDetail {
    let name = if host == 0 { "b" } else { "a" };
    let detail = world.hosts[host].speaker.peer(world.now(), name);
    detail.expect("a configured peer")
}

/// The journal, one short text per entry.
fn words(detail: &PeerDetail) -> Vec<String> {
    let word = |event: &JournalEvent| match event {
        JournalEvent::Configured { reset } => format!("configured {reset}"),
        JournalEvent::State { from, to } => format!("{from}-{to}"),
        JournalEvent::OpenSent { .. } => "open sent".to_owned(),
        JournalEvent::OpenReceived { .. } => "open received".to_owned(),
        JournalEvent::Established { .. } => "established".to_owned(),
        JournalEvent::Ended { cause, .. } => cause.code.to_string(),
        other => format!("{other:?}"),
    };
    let entries = detail.journal.iter();
    entries.map(|entry| word(&entry.event)).collect()
}

#[test]
fn the_journal_records_a_session_from_configuration_to_end() {
    let mut world = pair(|_| {});
    world.input(1, Input::OpenGate);
    let changes = vec![(net("203.0.113.0/24"), route(5))];
    world.input(1, routes("a", changes));
    world.run_until(seconds(2), "session established", World::established);
    world.run(seconds(10));
    world.input(
        1,
        shutdown("maintenance until noon", ShutdownMode::Withdraw),
    );
    world.run(std::time::Duration::from_millis(100));

    let ours = detail(&world, 0);
    assert_eq!(
        words(&ours),
        [
            "configured false",
            "open sent",
            "Connect-OpenSent",
            "open received",
            "OpenSent-OpenConfirm",
            "established",
            "OpenConfirm-Established",
            "peer-shut-down",
            "Established-Active",
        ]
    );
    let open = ours.open_received.as_ref().expect("a received OPEN");
    assert_eq!((open.asn, open.hold_time), (Asn(65002), 90));
    assert!(
        open.capabilities.iter().any(|c| c.code == 65),
        "{:?}",
        open.capabilities
    );
    assert_eq!(
        ours.open_sent.as_ref().map(|open| open.asn),
        Some(Asn(65001))
    );
    let last = ours
        .last_received
        .as_ref()
        .expect("a received NOTIFICATION");
    assert_eq!((last.notification.code, last.notification.subcode), (6, 2));
    assert_eq!(
        last.notification.text.as_deref(),
        Some("maintenance until noon")
    );
    assert!(last.notification.data.starts_with("166d61696e"));
    assert!(!last.notification.sent && ours.last_sent.is_none());
    let error = ours.status.last_error.as_ref().expect("an error");
    assert_eq!(error.cause.code, "peer-shut-down");
    assert!(
        detail(&world, 1)
            .last_sent
            .is_some_and(|n| n.notification.sent)
    );
}

#[test]
fn the_detail_has_the_timers_and_counters_of_an_established_session() {
    let mut world = pair(|_| {});
    world.input(0, Input::OpenGate);
    let changes = vec![
        (net("203.0.113.0/24"), route(5)),
        (net("198.51.100.0/24"), route(5)),
    ];
    world.input(0, routes("b", changes));
    world.run_until(seconds(2), "session established", World::established);
    world.run(seconds(1));
    world.input(0, routes("b", vec![(net("203.0.113.0/24"), None)]));
    world.run(seconds(1));

    let theirs = detail(&world, 1);
    assert_eq!(theirs.status.state, State::Established);
    let hold = theirs.timers.hold.expect("a running timer");
    assert!(hold <= seconds(90) && hold > seconds(85), "{hold:?}");
    assert!(theirs.timers.keepalive.expect("a running timer") <= seconds(30));
    assert!(theirs.timers.send_hold.expect("a running timer") > seconds(470));
    let counts: Vec<_> = theirs
        .prefixes
        .iter()
        .map(|count| (count.family.to_string(), count.announced, count.withdrawn))
        .collect();
    assert_eq!(counts, [("ipv4-unicast".to_owned(), 2, 1)]);
    assert_eq!(theirs.status.received.open, 1);
    // Two UPDATEs with routes and two End-of-RIB markers.
    assert_eq!(theirs.status.received.update, 4);
    assert_eq!(detail(&world, 0).status.sent.update, 4);
    assert_eq!(theirs.config.name, "a");
}

#[test]
fn repeated_failures_are_one_entry_with_a_count() {
    let mut world = World::new();
    world.host("10.0.0.1", false);
    world.input(0, Input::SetPeer(peer("b", "10.0.0.2", 65001, 65002)));
    world.run(seconds(3 * 3600));
    let ours = detail(&world, 0);
    assert_eq!(words(&ours), ["configured false", "connection-refused"]);
    let entry = ours.journal.last().unwrap();
    assert!(entry.times > 100, "{}", entry.times);
    assert!(entry.first_age > seconds(3 * 3600 - 10) && entry.age <= seconds(60));
}

/// Clients that follow the journal identify a peer by its name, and skip entries with a number that
/// they have seen.
#[test]
fn the_numbers_of_entries_continue_after_a_peer_is_removed_and_added() {
    let mut world = pair(|_| {});
    world.run_until(seconds(2), "session established", World::established);
    let last = |world: &World| {
        let journal = detail(world, 0).journal;
        journal.last().expect("an entry").number
    };
    for _ in 0..3 {
        let before = last(&world);
        world.input(0, Input::RemovePeer("b".to_owned()));
        world.run(seconds(1));
        let again = peer("b", "10.0.0.2", 65001, 65002);
        world.input(0, Input::SetPeer(again));
        let journal = detail(&world, 0).journal;
        assert!(journal[0].number > before, "{journal:?}");
        assert_eq!(
            journal[0].event,
            JournalEvent::Configured { reset: false },
            "there was no session to reset"
        );
        world.run(seconds(1));
    }
}
