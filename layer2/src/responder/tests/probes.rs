use super::*;
use crate::interface::GroupChange;
use crate::responder::{Answer, Probe, Timing};

fn probe(address: impl Into<IpAddr>, timing: Timing) -> Probe {
    Probe {
        address: address.into(),
        interfaces: Arc::new(Interfaces::All),
        timing,
    }
}

/// A node that probes an address.
fn probing(address: impl Into<IpAddr>, timing: Timing) -> Node {
    let mut node = Node::new();
    node.responder.probe(node.now, probe(address, timing));
    node
}

fn result(address: impl Into<IpAddr>, answers: Vec<Answer>) -> Observation {
    Observation::ProbeResult {
        address: address.into(),
        answers,
    }
}

fn answer(mac: Mac) -> Answer {
    Answer {
        interface: ETH0,
        mac,
        simultaneous: false,
    }
}

/// An ARP reply to a probe of V4.
fn reply_of(mac: Mac) -> Frame {
    Packet::Reply(arp(mac, V4, OURS, Ipv4Addr::UNSPECIFIED)).from(mac, OURS)
}

#[test]
fn three_probes_without_an_answer_find_an_ipv4_address_free_after_300_ms() {
    let mut node = probing(V4, Timing::FAST);
    let start = node.now;
    let sent = node.run(ms(299));
    let fields = arp(OURS, Ipv4Addr::UNSPECIFIED, Mac::ZERO, V4);
    let frame = Packet::Request(fields).from(OURS, Mac::BROADCAST);
    let expected = [0, 100, 200].map(|at| (start + ms(at), ETH0, frame.clone()));
    assert_eq!(sent, expected);
    assert_eq!(node.observations(), []);
    assert_eq!(node.run(ms(1)), []);
    assert_eq!(node.observations(), [result(V4, vec![])]);
    assert_eq!(node.responder.poll_timeout(), None);
}

#[test]
fn an_ipv6_address_is_probed_from_the_unspecified_address_to_its_group_rfc4862_5_4_2() {
    let mut node = probing(V6, Timing::FAST);
    let sent = node.run(ms(300));
    let packet = Packet::Solicitation {
        source: Ipv6Addr::UNSPECIFIED,
        destination: V6_GROUP,
        target: V6,
        option: None,
    };
    let frame = packet.from(OURS, Mac::of_ipv6_group(V6_GROUP));
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|(_, _, sent)| *sent == frame));
    assert_eq!(node.observations(), [result(V6, vec![])]);
}

#[test]
fn a_takeover_probes_twice_in_80_ms() {
    let mut node = probing(V4, Timing::TAKEOVER);
    let start = node.now;
    let sent = node.run(ms(80));
    let times: Vec<_> = sent.iter().map(|(at, ..)| *at - start).collect();
    assert_eq!(times, [ms(0), ms(40)]);
    assert_eq!(node.observations(), [result(V4, vec![])]);
}

#[test]
fn a_low_rate_does_not_delay_the_probes_of_a_takeover() {
    let mut node = Node::with_rate(10);
    for n in 1..=3 {
        let address = Ipv4Addr::new(192, 0, 2, n);
        node.responder
            .probe(node.now, probe(address, Timing::TAKEOVER));
    }
    assert_eq!(node.run(ms(80)).len(), 6);
    assert_eq!(node.observations().len(), 3);
}

#[test]
fn probes_with_the_times_of_rfc5227_2_1_1_take_4_to_7_s() {
    let mut delays = BTreeSet::new();
    for n in 0..50 {
        let mut node = Node::new();
        node.responder = Responder::new(GRATUITOUS_RATE, n);
        node.set(&eth0());
        let start = node.now;
        node.responder.probe(start, probe(V4, Timing::RFC_5227));
        let sent = node.run(ms(3_999));
        assert_eq!(node.observations(), []);
        let sent: Vec<_> = [sent, node.run(ms(3_001))].concat();
        assert_eq!(node.observations(), [result(V4, vec![])]);

        let times: Vec<_> = sent.iter().map(|(at, ..)| *at - start).collect();
        let [first, second, third] = times[..] else {
            panic!("{times:?}")
        };
        assert!(first <= ms(1_000));
        for gap in [second - first, third - second] {
            assert!((ms(1_000)..=ms(2_000)).contains(&gap), "{times:?}");
        }
        delays.insert(first);
    }
    assert!(delays.len() > 40, "random");
}

#[test]
fn an_advertisement_to_all_nodes_answers_a_probe() {
    let mut node = probing(V6, Timing::FAST);
    node.run(ms(50));
    node.receive(&foreign_advertisement());
    node.run(ms(250));
    assert_eq!(node.observations(), [result(V6, vec![answer(OTHER)])]);
}

#[test]
fn a_request_of_a_host_with_the_address_answers_a_probe_rfc5227_2_1_1() {
    let mut node = probing(V4, Timing::FAST);
    let fields = arp(OTHER, V4, Mac::ZERO, CLIENT);
    node.receive(&Packet::Request(fields).from(OTHER, Mac::BROADCAST));
    node.run(ms(300));
    assert_eq!(node.observations(), [result(V4, vec![answer(OTHER)])]);
}

#[test]
fn a_probe_reports_each_answer_once() {
    let mut node = probing(V4, Timing::TAKEOVER);
    node.run(ms(10));
    for mac in [OTHER, THIRD, OTHER] {
        node.receive(&reply_of(mac));
    }
    assert_eq!(node.observations(), []);
    node.run(ms(70));
    let answers = vec![answer(OTHER), answer(THIRD)];
    assert_eq!(node.observations(), [result(V4, answers)]);
}

#[test]
fn a_simultaneous_probe_of_another_host_is_a_conflict_rfc5227_2_1_1() {
    let simultaneous = Answer {
        simultaneous: true,
        ..answer(OTHER)
    };
    let mut node = probing(V4, Timing::FAST);
    assert_eq!(node.receive(&foreign_probe(OTHER)), []);
    node.run(ms(300));
    assert_eq!(node.observations(), [result(V4, vec![simultaneous])]);

    let mut node = probing(V6, Timing::FAST);
    assert_eq!(node.receive(&foreign_duplicate_check()), []);
    node.run(ms(300));
    assert_eq!(node.observations(), [result(V6, vec![simultaneous])]);
}

#[test]
fn own_probes_that_come_back_are_no_answers() {
    let mut node = probing(V4, Timing::FAST);
    let sent = node.run(ms(0));
    node.receive(&sent[0].2);
    assert_eq!(node.observations(), []);
}

#[test]
fn frames_on_other_interfaces_are_no_answers() {
    let mut node = Node::new();
    node.set(&eth1());
    let only = Probe {
        interfaces: named(&["eth1"]),
        ..probe(V4, Timing::FAST)
    };
    node.responder.probe(node.now, only);
    let sent = node.run(ms(250));
    assert!(sent.iter().all(|(_, interface, _)| *interface == ETH1));
    node.receive(&reply_of(OTHER));
    assert_eq!(node.observations(), []);
}

#[test]
fn a_second_probe_of_an_address_replaces_the_first() {
    let mut node = probing(V4, Timing::FAST);
    node.responder.probe(node.now, probe(V4, Timing::FAST));
    node.run(ms(50));
    node.responder.probe(node.now, probe(V4, Timing::FAST));
    assert_eq!(node.run(ms(299)).len(), 3);
    assert_eq!(node.observations(), []);
    node.run(ms(1));
    assert_eq!(node.observations(), [result(V4, vec![])]);
}

#[test]
fn a_cancelled_probe_has_no_result() {
    let mut node = probing(V4, Timing::FAST);
    node.run(ms(50));
    node.responder.cancel_probe(V4.into());
    assert_eq!(node.run(ms(1_000)), []);
    assert_eq!(node.observations(), []);
}

#[test]
fn a_probe_without_a_link_ends_and_sends_nothing() {
    let mut node = Node::new();
    node.set(&Interface {
        carrier: false,
        ..eth0()
    });
    node.responder.probe(node.now, probe(V4, Timing::FAST));
    assert_eq!(node.run(ms(300)), []);
    assert_eq!(node.observations(), [result(V4, vec![])]);
}

#[test]
fn probes_that_wait_on_an_interface_that_is_lost_end() {
    for gone in [false, true] {
        let mut node = Node::with_rate(1);
        for n in 1..=5 {
            let address = Ipv4Addr::new(192, 0, 2, n);
            node.responder.probe(node.now, probe(address, Timing::FAST));
        }
        assert_eq!(node.run(ms(1)).len(), 2);
        if gone {
            node.responder.remove_interface(node.now, ETH0);
        } else {
            node.set(&Interface {
                carrier: false,
                ..eth0()
            });
        }
        assert_eq!(node.run(ms(1_000)), []);
        assert_eq!(node.observations().len(), 5);
    }
}

#[test]
fn probes_are_paced_and_wait_after_the_last_frame() {
    let mut node = Node::with_rate(1_000);
    for n in 0..1_000 {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + n);
        node.responder.probe(node.now, probe(address, Timing::FAST));
    }
    assert!(node.run(ms(1_000)).len() <= 1_011);
    let sent = node.run(ms(1_950));
    assert!(sent.len() <= 1_961);
    node.run(ms(200));
    assert_eq!(node.observations().len(), 1_000);
    assert_eq!(node.responder.poll_timeout(), None);
}

#[test]
fn a_new_address_is_announced_before_probes_and_probes_precede_repetitions() {
    let mut node = Node::with_rate(10);
    node.announce(V6);
    node.responder.probe(node.now, probe(V4, Timing::TAKEOVER));
    let sent = node.run(ms(250));
    let order: Vec<_> = sent.iter().map(|(_, _, f)| f.packet.address()).collect();
    assert_eq!(order[..2], [IpAddr::V6(V6), V4.into()]);
}

#[test]
fn the_group_of_a_probed_address_is_joined_and_stays_joined_when_it_is_announced() {
    let mut node = probing(V6, Timing::FAST);
    let join = GroupChange::Join(ETH0, V6_GROUP);
    assert_eq!(node.responder.next_group_change(), Some(join));
    node.run(ms(300));
    node.announce(V6);
    assert_eq!(node.responder.next_group_change(), None);

    let mut node = probing(V6, Timing::FAST);
    node.set(&eth1());
    while node.responder.next_group_change().is_some() {}
    node.run(ms(300));
    let leaves: Vec<_> = std::iter::from_fn(|| node.responder.next_group_change()).collect();
    let expected = [
        GroupChange::Leave(ETH0, V6_GROUP),
        GroupChange::Leave(ETH1, V6_GROUP),
    ];
    assert_eq!(leaves, expected);
}
