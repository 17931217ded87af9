use super::*;
use crate::interface::GroupChange;

fn changes(node: &mut Node) -> Vec<GroupChange> {
    std::iter::from_fn(|| node.responder.next_group_change()).collect()
}

/// The number of frames for each interface.
fn on(sent: &[Sent], interface: IfIndex) -> usize {
    sent.iter().filter(|(_, on, _)| *on == interface).count()
}

#[test]
fn frames_have_the_ethernet_address_of_their_interface() {
    let mut node = Node::new();
    node.set(&eth1());
    node.announce(V4);
    for (_, interface, frame) in node.run(ms(5_000)) {
        let mac = if interface == ETH0 { OURS } else { eth1().mac };
        assert_eq!(frame.source, mac);
    }
    node.responder
        .receive(node.now, ETH1, &request(V4).encode());
    let [(_, interface, answer)] = &node.take()[..] else {
        panic!()
    };
    assert_eq!((*interface, answer.source), (ETH1, eth1().mac));
}

#[test]
fn an_address_is_announced_and_answered_on_selected_interfaces_only() {
    let mut node = Node::new();
    node.set(&eth1());
    let address = V4.into();
    node.responder
        .announce(node.now, address, named(&["eth1", "eth7"]));
    let sent = node.run(ms(5_000));
    assert_eq!((on(&sent, ETH0), on(&sent, ETH1)), (0, 6));
    assert_eq!(node.receive(&request(V4)), []);
    assert_eq!(node.responder.interfaces(address), ["eth1".into()]);
}

#[test]
fn a_change_of_the_selection_starts_on_new_interfaces_and_stops_on_others() {
    let mut node = Node::announcing(V4);
    node.set(&eth1());
    node.run(ms(6_000));
    let address = V4.into();
    node.responder
        .receive(node.now, ETH0, &request(V4).encode());
    node.responder.announce(node.now, address, named(&["eth1"]));
    assert_eq!(node.take(), [], "an answer that waited on eth0");
    assert_eq!(node.receive(&request(V4)), []);
    node.responder.announce(node.now, address, named(&["eth0"]));
    let sent = node.run(ms(5_000));
    assert_eq!((on(&sent, ETH0), on(&sent, ETH1)), (6, 0));
}

#[test]
fn a_new_interface_announces_all_addresses() {
    let mut node = Node::announcing(V4);
    node.set(&eth1());
    let sent = node.run(ms(5_000));
    assert_eq!(on(&sent, ETH1), 6);
    assert!(on(&sent, ETH0) <= 1);
}

#[test]
fn a_link_that_comes_up_announces_again_and_one_that_is_down_sends_nothing() {
    let mut node = Node::announcing(V4);
    let down = Interface {
        carrier: false,
        ..eth0()
    };
    node.responder
        .receive(node.now, ETH0, &request(V4).encode());
    node.set(&down);
    assert_eq!(node.take(), []);
    assert_eq!(node.receive(&request(V4)), [], "received before");
    assert_eq!(node.run(ms(120_000)), []);
    assert_eq!(node.responder.interfaces(V4.into()), []);
    node.set(&eth0());
    assert_eq!(node.run(ms(5_000)).len(), 6);
}

#[test]
fn a_link_that_comes_up_while_suspended_stays_silent() {
    let mut node = Node::announcing(V4);
    node.responder.suspend(node.now, true);
    node.set(&Interface {
        carrier: false,
        ..eth0()
    });
    node.set(&eth0());
    node.set(&eth1());
    assert_eq!(node.run(ms(120_000)), []);
    node.responder.suspend(node.now, false);
    let sent = node.run(ms(5_000));
    assert_eq!((on(&sent, ETH0), on(&sent, ETH1)), (6, 6));
}

#[test]
fn another_ethernet_address_is_announced() {
    let mut node = Node::announcing(V4);
    node.set(&Interface {
        mac: THIRD,
        ..eth0()
    });
    let sent = node.run(ms(5_000));
    assert_eq!(sent.len(), 6);
    assert!(sent.iter().all(|(_, _, frame)| frame.source == THIRD));
}

#[test]
fn facts_that_do_not_concern_the_link_announce_nothing() {
    let mut node = Node::announcing(V4);
    node.set(&Interface {
        mtu: 9_000,
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        ..eth0()
    });
    assert!(node.run(ms(5_000)).len() <= 1);
}

#[test]
fn a_renamed_interface_is_selected_by_its_new_name() {
    let mut node = Node::new();
    node.responder
        .announce(node.now, V4.into(), named(&["lan"]));
    assert_eq!(node.run(ms(5_000)), []);
    node.set(&Interface {
        name: "lan".into(),
        ..eth0()
    });
    assert_eq!(node.run(ms(5_000)).len(), 6);
}

#[test]
fn an_interface_that_is_gone_sends_nothing() {
    let mut node = Node::new();
    node.announce(V4);
    node.responder.handle_timeout(node.now);
    node.responder.remove_interface(node.now, ETH0);
    assert_eq!(node.run(ms(120_000)), []);
}

#[test]
fn solicited_node_groups_of_announced_addresses_are_joined_once() {
    let mut node = Node::new();
    node.set(&eth1());
    node.announce(V4);
    assert_eq!(changes(&mut node), []);
    node.announce(V6);
    let joins = [
        GroupChange::Join(ETH0, V6_GROUP),
        GroupChange::Join(ETH1, V6_GROUP),
    ];
    assert_eq!(changes(&mut node), joins);

    // Another address with the same last 24 bits.
    let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 1, 0x12, 0x3456);
    node.announce(other);
    node.responder.withdraw(V6.into());
    assert_eq!(changes(&mut node), []);
    node.responder.withdraw(other.into());
    let leaves = [
        GroupChange::Leave(ETH0, V6_GROUP),
        GroupChange::Leave(ETH1, V6_GROUP),
    ];
    assert_eq!(changes(&mut node), leaves);
}

#[test]
fn groups_follow_interfaces_and_stay_joined_without_carrier() {
    let mut node = Node::announcing(V6);
    changes(&mut node);
    node.set(&Interface {
        carrier: false,
        ..eth0()
    });
    assert_eq!(changes(&mut node), []);
    node.set(&eth1());
    let join = GroupChange::Join(ETH1, V6_GROUP);
    assert_eq!(changes(&mut node), [join]);
    node.responder.remove_interface(node.now, ETH1);
    assert_eq!(changes(&mut node), [], "the kernel removed it");
    node.set(&eth1());
    assert_eq!(changes(&mut node), [join]);
    node.responder
        .announce(node.now, V6.into(), named(&["eth1"]));
    assert_eq!(changes(&mut node), [GroupChange::Leave(ETH0, V6_GROUP)]);
}
