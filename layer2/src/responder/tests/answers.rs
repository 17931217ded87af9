use super::*;
use crate::limits::ANSWER_RATE;
use crate::status::Counters;

fn reply() -> Frame {
    Packet::Reply(arp(OURS, V4, OTHER, CLIENT)).from(OURS, OTHER)
}

fn advertisement(solicited: bool, destination: Ipv6Addr, mac: Mac) -> Frame {
    let packet = Packet::Advertisement {
        source: V6,
        destination,
        target: V6,
        flags: [false, solicited, true],
        option: Some(OURS),
    };
    packet.from(OURS, mac)
}

#[test]
fn an_arp_request_for_an_announced_address_is_answered_to_its_sender() {
    let mut node = Node::announcing(V4);
    assert_eq!(node.receive(&request(V4)), [reply()]);

    let unicast = Frame {
        destination: OURS,
        ..request(V4)
    };
    assert_eq!(node.receive(&unicast), [reply()]);
}

#[test]
fn an_arp_probe_of_another_host_is_answered_and_is_no_conflict() {
    let mut node = Node::announcing(V4);
    let expected = Packet::Reply(arp(OURS, V4, OTHER, Ipv4Addr::UNSPECIFIED)).from(OURS, OTHER);
    assert_eq!(node.receive(&foreign_probe(OTHER)), [expected]);
    assert_eq!(node.observations(), []);
}

#[test]
fn a_solicitation_is_answered_with_override_and_not_as_a_router() {
    let mut node = Node::announcing(V6);
    let frame = solicitation(V6).from(OTHER, Mac::of_ipv6_group(V6_GROUP));
    let expected = advertisement(true, CLIENT_V6, OTHER);
    assert_eq!(node.receive(&frame), [expected]);
}

#[test]
fn a_unicast_solicitation_is_answered_as_neighbor_unreachability_detection_needs() {
    let mut node = Node::announcing(V6);
    let packet = Packet::Solicitation {
        source: CLIENT_V6,
        destination: V6,
        target: V6,
        option: None,
    };
    let expected = advertisement(true, CLIENT_V6, OTHER);
    assert_eq!(node.receive(&packet.from(OTHER, OURS)), [expected]);
}

#[test]
fn a_solicitation_without_link_layer_option_is_answered_to_its_ethernet_source() {
    let mut node = Node::announcing(V6);
    let packet = Packet::Solicitation {
        source: CLIENT_V6,
        destination: V6_GROUP,
        target: V6,
        option: None,
    };
    let frame = packet.from(OTHER, Mac::of_ipv6_group(V6_GROUP));
    let expected = advertisement(true, CLIENT_V6, OTHER);
    assert_eq!(node.receive(&frame), [expected]);
}

#[test]
fn duplicate_address_detection_of_another_host_is_answered_to_all_nodes_rfc4861_7_2_4() {
    let mut node = Node::announcing(V6);
    let all_nodes = Mac::of_ipv6_group(ALL_NODES);
    let expected = advertisement(false, ALL_NODES, all_nodes);
    assert_eq!(node.receive(&foreign_duplicate_check()), [expected]);
    assert_eq!(node.observations(), []);
}

#[test]
fn other_addresses_and_replies_are_not_answered() {
    let mut node = Node::announcing(V4);
    node.announce(V6);
    node.run(ms(6_000));
    assert_eq!(node.receive(&request(Ipv4Addr::new(192, 0, 2, 2))), []);
    let reply = Packet::Reply(arp(OTHER, CLIENT, OURS, V4)).from(OTHER, OURS);
    assert_eq!(node.receive(&reply), []);
    let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 1, 0x12, 0x3456);
    let frame = solicitation(other).from(OTHER, Mac::of_ipv6_group(V6_GROUP));
    assert_eq!(node.receive(&frame), []);
}

#[test]
fn frames_to_other_hosts_are_ignored() {
    let mut node = Node::announcing(V4);
    node.announce(V6);
    node.run(ms(6_000));
    let request = Frame {
        destination: THIRD,
        ..request(V4)
    };
    assert_eq!(node.receive(&request), []);
    assert_eq!(node.receive(&solicitation(V6).from(OTHER, THIRD)), []);
    let reply = Packet::Reply(arp(OTHER, V4, THIRD, CLIENT)).from(OTHER, THIRD);
    assert_eq!(node.receive(&reply), []);
    assert_eq!(node.foreign(), []);
    assert_eq!(node.observations(), []);
}

#[test]
fn frames_of_this_node_are_ignored_on_all_its_interfaces() {
    let mut node = Node::announcing(V4);
    node.set(&eth1());
    node.run(ms(6_000));
    let own = eth1().mac;
    let fields = arp(own, Ipv4Addr::UNSPECIFIED, Mac::ZERO, V4);
    let probe = Packet::Request(fields).from(own, Mac::BROADCAST);
    let gratuitous = Packet::Request(arp(own, V4, Mac::ZERO, V4)).from(own, Mac::BROADCAST);
    // A relay that repeats what we sent.
    let relayed = Frame {
        source: OTHER,
        ..gratuitous.clone()
    };
    for frame in [probe, gratuitous, relayed] {
        assert_eq!(node.receive(&frame), []);
    }
    assert_eq!(node.foreign(), []);
    assert_eq!(node.observations(), []);
}

#[test]
fn frames_of_unknown_and_loopback_interfaces_are_ignored() {
    let mut node = Node::announcing(V4);
    node.set(&Interface {
        index: ETH1,
        name: "lo".into(),
        loopback: true,
        ..eth1()
    });
    assert_eq!(node.run(ms(6_000)), []);
    node.responder
        .receive(node.now, ETH1, &request(V4).encode());
    assert_eq!(node.take(), []);
}

#[test]
fn truncated_and_foreign_frames_are_ignored() {
    let mut node = Node::announcing(V4);
    let octets = request(V4).encode();
    for length in 0..octets.len() {
        node.responder.receive(node.now, ETH0, &octets[..length]);
    }
    assert_eq!(node.take(), []);
    assert_eq!(node.foreign(), []);
}

#[test]
fn answers_are_limited_per_second_and_counted() {
    let mut node = Node::announcing(V4);
    let seconds = 2;
    let mut answers = 0;
    let requests = 5 * ANSWER_RATE * seconds;
    for _ in 0..requests {
        node.now += Duration::from_secs(seconds.into()) / requests;
        answers += u32::try_from(node.receive(&request(V4)).len()).unwrap();
    }
    // The burst after an idle time is a tenth of a second's worth.
    let allowed = ANSWER_RATE * seconds..=ANSWER_RATE * seconds + ANSWER_RATE / 10 + 1;
    assert!(allowed.contains(&answers), "{answers}");

    let mut counters = Counters::default();
    node.responder.count(&mut counters);
    assert_eq!(counters.requests_received, u64::from(requests));
    assert_eq!(counters.responses_sent, u64::from(answers));
    assert_eq!(counters.answers_limited, u64::from(requests - answers));
}

#[test]
fn nothing_is_answered_while_suspended() {
    let mut node = Node::announcing(V4);
    node.responder
        .receive(node.now, ETH0, &request(V4).encode());
    node.responder.suspend(node.now, true);
    assert_eq!(node.take(), [], "an answer that waited");
    assert_eq!(node.receive(&request(V4)), []);
    assert_eq!(node.run(ms(120_000)), []);

    node.responder.suspend(node.now, false);
    assert_eq!(node.receive(&request(V4)), [reply()]);
    assert_eq!(node.run(ms(5_000)).len(), 6);
}

#[test]
fn a_withdrawn_address_is_not_answered_not_even_by_an_answer_that_waits() {
    let mut node = Node::announcing(V4);
    node.responder
        .receive(node.now, ETH0, &request(V4).encode());
    node.responder.withdraw(V4.into());
    assert_eq!(node.take(), []);
    assert_eq!(node.receive(&request(V4)), []);
}

#[test]
fn traffic_is_counted_for_each_address() {
    let mut node = Node::announcing(V4);
    node.announce(V6);
    node.receive(&request(V4));
    let traffic = node.responder.traffic(V4.into());
    assert_eq!((traffic.requests, traffic.responses), (1, 1));
    assert_eq!(traffic.gratuitous, 6);
    assert_eq!(node.responder.traffic(V6.into()).requests, 0);
    node.responder.withdraw(V4.into());
    assert_eq!(node.responder.traffic(V4.into()).requests, 0);
}

#[test]
fn another_host_that_states_to_have_an_announced_address_is_a_conflict_rfc5227_2_4() {
    let gratuitous = Packet::Request(arp(OTHER, V4, Mac::ZERO, V4)).from(OTHER, Mac::BROADCAST);
    let asks = Packet::Request(arp(OTHER, V4, Mac::ZERO, CLIENT)).from(OTHER, Mac::BROADCAST);
    let replies = Packet::Reply(arp(OTHER, V4, OURS, V4)).from(OTHER, OURS);
    for frame in [gratuitous, asks, replies] {
        let mut node = Node::announcing(V4);
        assert_eq!(node.receive(&frame), []);
        let conflict = Observation::Conflict {
            interface: ETH0,
            mac: OTHER,
            address: V4.into(),
        };
        assert_eq!(node.observations(), [conflict], "{frame:?}");
    }
    let mut node = Node::announcing(V6);
    assert_eq!(node.receive(&foreign_advertisement()), []);
    let conflict = Observation::Conflict {
        interface: ETH0,
        mac: OTHER,
        address: V6.into(),
    };
    assert_eq!(node.observations(), [conflict]);
}

#[test]
fn a_conflict_is_reported_also_while_suspended() {
    let mut node = Node::announcing(V6);
    node.responder.suspend(node.now, true);
    node.receive(&foreign_advertisement());
    assert_eq!(node.observations().len(), 1);
}

#[test]
fn each_other_host_is_reported_once_in_100_ms() {
    let mut node = Node::new();
    for _ in 0..3 {
        node.receive(&request(V4));
        node.receive(&foreign_probe(THIRD));
    }
    let expected = [(OTHER, Some(CLIENT.into())), (THIRD, None)];
    assert_eq!(node.foreign(), expected);
    node.now += ms(100);
    node.receive(&request(V4));
    assert_eq!(node.foreign(), [(OTHER, Some(CLIENT.into()))]);
}

#[test]
fn the_eight_most_recent_hosts_are_known() {
    let mut node = Node::new();
    let host = |n: u8| (Ipv4Addr::new(192, 0, 2, n), Mac([2, 0, 0, 0, 2, n]));
    for n in 1..=20 {
        let (address, mac) = host(n);
        let fields = arp(mac, address, Mac::ZERO, V4);
        node.receive(&Packet::Request(fields).from(mac, Mac::BROADCAST));
    }
    let expected: Vec<_> = (13..=20)
        .rev()
        .map(|n| (IpAddr::V4(host(n).0), host(n).1))
        .collect();
    assert_eq!(node.responder.recent_hosts(ETH0), expected);
    assert_eq!(node.responder.recent_hosts(ETH1), []);
}
