//! Memory that the RIB retains, which its public interface does not show. `bgp/tests/rib_*` test
//! the behavior.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::*;
use crate::rib::RouteAttributes;
use crate::wire::{Asn, Community, NextHop};

fn encoding() -> SessionEncoding {
    SessionEncoding {
        families: vec![Family::IPV4_UNICAST],
        ebgp: Some(Asn(64512)),
        four_octet_asn: true,
        max_length: 4096,
        ipv4_next_hop: Some(NextHop::V4(Ipv4Addr::LOCALHOST)),
        ipv6_next_hop: None,
        enhanced_route_refresh: false,
    }
}

fn prefix(index: u32) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::from(index), 32).into()
}

fn route(med: u32) -> Option<Route> {
    Some(Route::new(RouteAttributes {
        med: Some(med),
        ..RouteAttributes::default()
    }))
}

fn drain(rib: &mut AdjRibOut, peer: PeerIndex) -> u64 {
    let before = rib.counters(peer).updates;
    while rib.poll_transmit(Instant::now(), peer, 4096).is_some() {}
    rib.counters(peer).updates - before
}

#[test]
fn a_peer_that_does_not_read_retains_only_its_cursor() {
    let [slow, quick] = [PeerIndex(0), PeerIndex(1)];
    let mut rib = AdjRibOut::new();
    for index in 0..1000 {
        rib.set(slow, prefix(index), route(0));
        rib.set(quick, prefix(index), route(0));
    }
    rib.open_gate();
    rib.session_up(slow, encoding());
    rib.session_up(quick, encoding());
    assert!(rib.poll_transmit(Instant::now(), slow, 4096).is_some());
    for round in 1..500 {
        for index in 0..100 {
            rib.set(slow, prefix(index), route(round));
            rib.set(quick, prefix(index), route(round));
            // Prefixes that come and go.
            rib.set(slow, prefix(1000 + 100 * round + index), route(0));
            rib.commit();
            rib.set(slow, prefix(1000 + 100 * round + index), None);
        }
        rib.commit();
        drain(&mut rib, quick);
        assert_eq!(rib.table.len(), 1000);
        // Not sent; sent with this round's attributes; sent with the first, to one or both.
        let (desired, sent) = rib.table.distinct_maps();
        assert!(desired <= 4 && sent <= 8, "{desired} and {sent} maps");
        assert_eq!(rib.table.changed_after(0).count(), 1000);
        assert!(rib.table.entries().count() <= 1100, "slots are reused");
        assert!(rib.batches.len() <= 2 && rib.chunks.size() < 100_000);
    }
    let cursor = rib.sessions[&slow].cursor.as_ref();
    assert_eq!(cursor.map(|cursor| cursor.batch.slots.len()), Some(1000));
    assert_eq!(
        drain(&mut rib, slow),
        1 + 1 + 1,
        "the rest, the last change, End-of-RIB"
    );
    assert_eq!(rib.counters(slow).prefixes, 1000);
}

#[test]
fn a_withdrawn_prefix_is_released_with_the_last_withdrawal() {
    let peers = [PeerIndex(0), PeerIndex(1), PeerIndex(2)];
    let mut rib = AdjRibOut::new();
    rib.open_gate();
    for peer in peers {
        rib.set(peer, prefix(1), route(0));
        rib.commit();
        rib.session_up(peer, encoding());
        drain(&mut rib, peer);
    }
    for peer in peers {
        rib.set(peer, prefix(1), None);
    }
    rib.commit();
    assert_eq!(drain(&mut rib, peers[0]), 1);
    rib.session_down(peers[1]);
    assert_eq!(rib.table.len(), 1, "not yet withdrawn from one peer");
    assert_eq!(drain(&mut rib, peers[2]), 1);
    assert_eq!(
        (rib.table.len(), rib.table.changed_after(0).count()),
        (0, 0)
    );
}

#[test]
fn a_removed_peer_retains_nothing() {
    let [one, other] = [PeerIndex(0), PeerIndex(1)];
    let mut rib = AdjRibOut::new();
    rib.open_gate();
    for index in 0..10 {
        rib.set(one, prefix(index), route(0));
    }
    rib.set(other, prefix(0), route(0));
    rib.commit();
    rib.session_up(one, encoding());
    drain(&mut rib, one);
    rib.remove_peer(one);
    assert_eq!(rib.table.len(), 1);
    // Another peer may use its index and starts with an empty table.
    rib.session_up(one, encoding());
    assert_eq!(drain(&mut rib, one), 1, "End-of-RIB");
}

#[test]
fn a_peer_with_a_reused_index_receives_no_chunks_of_other_peers() {
    let [one, other, idle] = [PeerIndex(0), PeerIndex(1), PeerIndex(2)];
    let mut rib = AdjRibOut::new();
    rib.open_gate();
    for peer in [one, other, idle] {
        rib.set(peer, prefix(0), route(0));
    }
    rib.commit();
    for peer in [one, other] {
        rib.session_up(peer, encoding());
    }
    for peer in [one, other] {
        assert_eq!(drain(&mut rib, peer), 2, "the route, End-of-RIB");
    }
    rib.remove_peer(idle);
    rib.session_up(idle, encoding());
    assert_eq!(drain(&mut rib, idle), 1, "End-of-RIB");
    assert_eq!(rib.counters(idle).prefixes, 0);
}

#[test]
fn the_chunk_cache_is_bounded() {
    // Attributes that leave room for 25 prefixes: 400 messages, 1.6 MB in each encoding.
    let communities = (0..980).map(Community).collect();
    let long = Route::new(RouteAttributes {
        communities,
        ..RouteAttributes::default()
    });
    let mut rib = AdjRibOut::new();
    for index in 0..10_000 {
        rib.set(PeerIndex(0), prefix(index), Some(Route::clone(&long)));
    }
    rib.open_gate();
    // A second session, so that the cache is kept for it.
    rib.session_up(PeerIndex(1), encoding());
    for asn in 0..12 {
        rib.session_up(
            PeerIndex(0),
            SessionEncoding {
                ebgp: Some(Asn(asn)),
                ..encoding()
            },
        );
        assert_eq!(drain(&mut rib, PeerIndex(0)), 400 + 1);
        assert!(rib.chunks.size() < (16 << 20) + 65_536);
    }
    assert!(rib.chunks.size() > 1_000_000);
}
