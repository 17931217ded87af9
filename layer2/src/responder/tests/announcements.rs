use std::collections::BTreeMap;

use super::*;

fn times_of(sent: &[Sent], start: Time) -> Vec<u128> {
    sent.iter()
        .map(|(at, ..)| (*at - start).as_millis())
        .collect()
}

fn frames_per_address(sent: &[Sent]) -> BTreeMap<IpAddr, usize> {
    let mut counts = BTreeMap::new();
    for (_, _, frame) in sent {
        *counts.entry(frame.packet.address()).or_default() += 1;
    }
    counts
}

/// `count` IPv4 addresses.
fn addresses(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..count).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n))
}

#[test]
fn a_new_ipv4_address_is_announced_by_requests_and_one_reply_with_its_own_target_mac() {
    let mut node = Node::new();
    node.announce(V4);
    let start = node.now;
    let sent = node.run(ms(5_000));
    assert_eq!(times_of(&sent, start), [0, 100, 200, 1_100, 2_500, 5_000]);

    let request = Packet::Request(arp(OURS, V4, Mac::ZERO, V4)).from(OURS, Mac::BROADCAST);
    let reply = Packet::Reply(arp(OURS, V4, OURS, V4)).from(OURS, Mac::BROADCAST);
    for (n, (_, interface, frame)) in sent.iter().enumerate() {
        assert_eq!(*interface, ETH0);
        let expected = if n == 2 { &reply } else { &request };
        assert_eq!(frame, expected, "frame {n}");
    }
}

#[test]
fn a_new_ipv6_address_is_announced_by_advertisements_with_override_to_all_nodes() {
    let mut node = Node::new();
    node.announce(V6);
    let start = node.now;
    let sent = node.run(ms(5_000));
    assert_eq!(times_of(&sent, start), [0, 100, 200, 1_100, 2_500, 5_000]);
    let expected = Packet::Advertisement {
        source: V6,
        destination: ALL_NODES,
        target: V6,
        flags: [false, false, true],
        option: Some(OURS),
    };
    let expected = expected.from(OURS, Mac::of_ipv6_group(ALL_NODES));
    assert!(sent.iter().all(|(_, _, frame)| *frame == expected));
}

#[test]
fn an_address_that_is_announced_already_starts_no_new_schedule() {
    let mut node = Node::announcing(V4);
    node.announce(V4);
    assert!(node.run(ms(5_000)).len() <= 1);
}

#[test]
fn announcing_again_restarts_the_schedule() {
    let mut node = Node::new();
    node.announce(V4);
    node.run(ms(1_000));
    node.responder.announce_again(node.now, V4.into());
    let start = node.now;
    let sent = node.run(ms(5_000));
    assert_eq!(times_of(&sent, start), [0, 100, 200, 1_100, 2_500, 5_000]);
    node.responder.announce_again(node.now, V6.into());
    let announced_nowhere = node.run(ms(1_000));
    assert!(announced_nowhere.len() <= 1, "{announced_nowhere:?}");
}

#[test]
fn a_defended_address_is_announced_once_at_once_rfc5227_2_4() {
    let mut node = Node::announcing(V4);
    node.responder.defend(V4.into());
    let request = Packet::Request(arp(OURS, V4, Mac::ZERO, V4)).from(OURS, Mac::BROADCAST);
    assert_eq!(node.run(ms(0)), [(node.now, ETH0, request)]);
    assert!(node.run(ms(30_000)).len() <= 1);
}

#[test]
fn withdrawing_stops_everything_at_once_also_what_is_queued() {
    let mut node = Node::new();
    node.announce(V4);
    node.announce(V6);
    node.responder.handle_timeout(node.now);
    node.responder.withdraw(V4.into());
    let sent = node.run(ms(180_000));
    assert!(!sent.is_empty());
    assert!(
        sent.iter()
            .all(|(_, _, f)| f.packet.address() == IpAddr::V6(V6))
    );
    node.responder.withdraw(V6.into());
    assert_eq!(node.responder.poll_timeout(), None);
}

#[test]
fn five_hundred_addresses_are_announced_in_a_quarter_of_a_second_at_2000_frames_per_second() {
    let mut node = Node::with_rate(2_000);
    addresses(500).for_each(|address| node.announce(address));
    let start = node.now;
    let sent = node.run(ms(10_000));
    assert!(frames_per_address(&sent).values().all(|count| *count >= 6));

    // The first frames of all addresses come first, and the newest addresses before older ones.
    let first: Vec<_> = sent[..500]
        .iter()
        .map(|(_, _, frame)| frame.packet.address())
        .collect();
    let mut newest_first: Vec<_> = addresses(500).map(IpAddr::V4).collect();
    newest_first.reverse();
    assert_eq!(first, newest_first);
    let (last_first, ..) = sent[499];
    let took = last_first - start;
    assert!((ms(235)..=ms(250)).contains(&took), "{took:?}");

    assert_rate(&sent, 2_000);
}

/// In no second more frames than the rate, and a burst of 8 frames or of 10 ms.
fn assert_rate(sent: &[Sent], rate: usize) {
    let times: Vec<_> = sent.iter().map(|(at, ..)| *at).collect();
    let limit = rate + (rate / 100).max(8) + 1;
    for (first, last) in times.iter().zip(&times[limit.min(times.len())..]) {
        assert!(*last - *first >= ms(1_000), "{first:?}..{last:?}");
    }
}

#[test]
fn a_switch_with_arp_inspection_at_15_frames_per_second_is_respected() {
    let mut node = Node::with_rate(10);
    addresses(50).for_each(|address| node.announce(address));
    let sent = node.run(ms(60_000));
    assert!(sent.len() >= 50 * 6);
    assert_rate(&sent, 10);
    let all: BTreeSet<_> = sent[..50]
        .iter()
        .map(|(_, _, frame)| frame.packet.address())
        .collect();
    assert_eq!(all.len(), 50, "the first frames come before repetitions");
}

#[test]
fn a_change_of_the_rate_applies_at_once() {
    let mut node = Node::with_rate(10);
    addresses(500).for_each(|address| node.announce(address));
    node.run(ms(1_000));
    node.responder.set_gratuitous_rate(2_000);
    assert!(node.run(ms(500)).len() >= 490);
}

#[test]
fn an_announcement_precedes_refreshes_of_other_addresses() {
    let mut node = Node::with_rate(10);
    addresses(1_000).for_each(|address| node.announce(address));
    node.run(ms(1_000_000));
    node.announce(V4);
    let sent = node.run(ms(100));
    assert_eq!(sent[0].2.packet.address(), IpAddr::V4(V4));
}

#[test]
fn refreshes_come_each_60_s_and_are_spread_evenly() {
    let mut node = Node::new();
    addresses(600).for_each(|address| node.announce(address));
    node.run(ms(66_000));
    let start = node.now;
    let sent = node.run(ms(60_000));
    assert_eq!(sent.len(), 600);
    let mut per_second: BTreeMap<u64, u32> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (at, _, frame) in &sent {
        *per_second.entry((*at - start).as_secs()).or_default() += 1;
        assert!(seen.insert(frame.packet.address()));
        assert!(matches!(frame.packet, Packet::Request(_)));
    }
    let counts: Vec<_> = (0..60).map(|s| per_second.get(&s).copied()).collect();
    assert!(
        counts.iter().all(|count| matches!(count, Some(8..=12))),
        "{counts:?}"
    );
}

#[test]
fn ten_thousand_addresses_are_announced_refreshed_and_withdrawn() {
    let mut node = Node::new();
    let all: Vec<Ipv4Addr> = addresses(10_000).collect();
    all.iter().for_each(|address| node.announce(*address));
    let sent = node.run(ms(31_000));
    assert_rate(&sent, 2_000);
    let counts = frames_per_address(&sent);
    assert_eq!(counts.len(), 10_000);
    assert!(counts.values().all(|count| *count >= 6));
    node.run(ms(65_000));
    assert_eq!(node.run(ms(60_000)).len(), 10_000);
    all.iter()
        .for_each(|address| node.responder.withdraw((*address).into()));
    assert_eq!(node.responder.poll_timeout(), None);
}
