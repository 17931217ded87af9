//! Number, size and order of the messages of the Adj-RIB-Out, and how often they are encoded.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml spares only functions marked as tests"
)]

mod rib_receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ferrolb_bgp::rib::{AdjRibOut, PeerIndex, Route, RouteAttributes, SessionEncoding};
use ferrolb_bgp::wire::{
    Afi, Aggregator, Asn, Community, ExtendedCommunity, Family, Ipv6ExtendedCommunity, Safi,
};
use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;
use rib_receiver::{Sent, ebgp, parse, v4, v6};

const PEER: PeerIndex = PeerIndex(0);
const MAX: usize = 65_536;

fn plain() -> Route {
    Route::default()
}

fn with_med(med: u32) -> Route {
    Route::new(RouteAttributes {
        med: Some(med),
        ..Default::default()
    })
}

fn set_all(rib: &mut AdjRibOut, peer: PeerIndex, prefixes: &[IpNet], route: Option<&Route>) {
    for prefix in prefixes {
        rib.set(peer, *prefix, route.cloned());
    }
}

/// A table with an open gate and `prefixes` for one peer, which has a session.
fn table(prefixes: &[IpNet], encoding: SessionEncoding) -> AdjRibOut {
    let mut rib = AdjRibOut::new();
    set_all(&mut rib, PEER, prefixes, Some(&plain()));
    rib.open_gate();
    rib.session_up(PEER, encoding);
    rib
}

fn drain(rib: &mut AdjRibOut, peer: PeerIndex) -> Vec<(usize, Sent)> {
    let polls = std::iter::from_fn(|| rib.poll_transmit(Instant::now(), peer, MAX));
    polls.flat_map(|octets| parse(&octets)).collect()
}

fn contents(messages: Vec<(usize, Sent)>) -> Vec<Sent> {
    messages.into_iter().map(|(_, sent)| sent).collect()
}

fn lengths(messages: &[(usize, Sent)]) -> Vec<usize> {
    let routes = messages
        .iter()
        .filter(|(_, sent)| !matches!(sent, Sent::EndOfRib(_)));
    routes.map(|(length, _)| *length).collect()
}

#[test]
fn messages_contain_as_many_prefixes_as_fit() {
    let slash_24 =
        |index: u32| IpNet::V4(Ipv4Net::new((0x0a00_0000 + (index << 8)).into(), 24).unwrap());
    // Number of messages and length of the first: announcements, then withdrawals.
    type Case = (fn(u32) -> IpNet, u32, usize, (usize, usize), (usize, usize));
    let cases: [Case; 9] = [
        (v4, 10_000, 4096, (13, 4093), (13, 4093)),
        (v4, 100_000, 4096, (124, 4093), (123, 4093)),
        (slash_24, 10_000, 4096, (10, 4095), (10, 4095)),
        (v6, 10_000, 4096, (43, 4090), (42, 4093)),
        (v6, 100_000, 4096, (422, 4090), (419, 4093)),
        (v4, 20_000, 65_535, (2, 65_533), (2, 65_533)),
        (v4, 100_000, 65_535, (8, 65_533), (8, 65_533)),
        (v6, 100_000, 65_535, (26, 65_528), (26, 65_531)),
        (v4, 10_000, 65_535, (1, 50_043), (1, 50_023)),
    ];
    for (prefix, count, max_length, announced, withdrawn) in cases {
        let prefixes: Vec<IpNet> = (0..count).map(prefix).collect();
        let mut rib = table(
            &prefixes,
            SessionEncoding {
                max_length,
                ..ebgp()
            },
        );
        let announcing = lengths(&drain(&mut rib, PEER));
        assert_eq!((announcing.len(), announcing[0]), announced);
        set_all(&mut rib, PEER, &prefixes, None);
        rib.commit();
        let withdrawing = lengths(&drain(&mut rib, PEER));
        assert_eq!((withdrawing.len(), withdrawing[0]), withdrawn);
        assert_eq!(rib.advertised(Instant::now(), PEER).count(), 0);
    }
}

#[test]
fn ipv4_announcements_with_an_ipv6_next_hop_are_packed_too_rfc8950() {
    let encoding = SessionEncoding {
        ipv4_next_hop: ebgp().ipv6_next_hop,
        ..ebgp()
    };
    for (count, messages) in [(10_000, 13), (100_000, 124)] {
        let prefixes: Vec<IpNet> = (0..count).map(v4).collect();
        let mut rib = table(&prefixes, encoding.clone());
        let announcing = drain(&mut rib, PEER);
        let next_hop = encoding.ipv6_next_hop.map(|next_hop| next_hop.address());
        let Sent::Announce(attributes, _) = &announcing[0].1 else {
            panic!("{:?}", announcing[0]);
        };
        assert_eq!(attributes.next_hop, next_hop);
        let announcing = lengths(&announcing);
        assert_eq!((announcing.len(), announcing[0]), (messages, 4096));
    }
}

#[test]
fn a_poll_returns_complete_messages_up_to_its_limit() {
    let prefixes: Vec<IpNet> = (0..10_000).map(v4).collect();
    for (max, most) in [(4096, 1), (8188, 1), (8189, 2), (65_536, 16)] {
        let mut rib = table(&prefixes, ebgp());
        let octets = rib.poll_transmit(Instant::now(), PEER, max).unwrap();
        assert!(octets.len() <= max);
        assert_eq!(parse(&octets).len(), most.min(13));
    }
}

#[test]
fn messages_that_peers_share_are_encoded_once() {
    let prefixes: Vec<IpNet> = (0..10_000).map(v4).collect();
    let mut rib = AdjRibOut::new();
    let peers: Vec<PeerIndex> = (0..100).map(PeerIndex).collect();
    for peer in &peers {
        set_all(&mut rib, *peer, &prefixes, Some(&plain()));
        rib.session_up(*peer, ebgp());
    }
    rib.open_gate();
    let first = drain(&mut rib, peers[0]);
    for peer in &peers[1..] {
        assert_eq!(drain(&mut rib, *peer), first);
    }
    assert_eq!(rib.encoded_updates(), 13);
    assert_eq!(
        rib.counters(peers[99]).updates,
        13 + 2,
        "End-of-RIB is an UPDATE too"
    );

    // One change for all peers and one for all but one.
    for peer in &peers {
        rib.set(*peer, v4(7), None);
        rib.set(*peer, v4(8), (*peer == peers[3]).then(plain));
    }
    rib.commit();
    for peer in &peers {
        let gone = if *peer == peers[3] {
            vec![v4(7)]
        } else {
            vec![v4(7), v4(8)]
        };
        assert_eq!(contents(drain(&mut rib, *peer)), [Sent::Withdraw(gone)]);
    }
    assert_eq!(rib.encoded_updates(), 13 + 2);

    // Re-established sessions.
    for peer in &peers[50..60] {
        rib.session_down(*peer);
    }
    for peer in &peers[50..60] {
        rib.session_up(*peer, ebgp());
        assert_eq!(drain(&mut rib, *peer).len(), 13 + 2);
    }
    assert_eq!(rib.encoded_updates(), 13 + 2 + 13);

    // A different encoding shares nothing.
    rib.session_up(
        peers[52],
        SessionEncoding {
            ebgp: None,
            ..ebgp()
        },
    );
    assert_eq!(drain(&mut rib, peers[52]).len(), 13 + 2);
    assert_eq!(rib.encoded_updates(), 13 + 2 + 13 + 13);
}

/// Thousands of small batches, as in a cluster, with alternating attributes and families.
#[test]
fn a_table_built_in_small_batches_is_packed_as_well_as_one_built_at_once() {
    let routes = [with_med(1), with_med(2), with_med(3)];
    let [fresh, slow, awake] = [PeerIndex(1), PeerIndex(2), PeerIndex(3)];
    let mut rib = AdjRibOut::new();
    rib.open_gate();
    rib.session_up(slow, ebgp());
    rib.session_up(awake, ebgp());
    drain(&mut rib, slow);
    for index in 0..3000 {
        let route = &routes[index as usize % 3];
        for peer in [fresh, slow, awake] {
            rib.set(peer, v4(index), Some(Route::clone(route)));
            rib.set(peer, v6(index), Some(Route::clone(route)));
        }
        rib.commit();
        drain(&mut rib, awake);
    }
    rib.session_up(fresh, ebgp());
    let messages = drain(&mut rib, fresh);
    // 1000 prefixes of each family for each of three sets of attributes.
    assert_eq!(lengths(&messages).len(), 3 * 2 + 3 * 5);
    assert_eq!(
        lengths(&drain(&mut rib, slow)),
        lengths(&messages),
        "a backlog too"
    );
}

#[test]
fn withdrawals_precede_announcements_and_unchanged_routes_are_not_sent() {
    let prefixes: Vec<IpNet> = (0..4).map(v4).chain((0..4).map(v6)).collect();
    let mut rib = table(&prefixes, ebgp());
    drain(&mut rib, PEER);
    rib.set(PEER, v6(0), Some(with_med(9)));
    rib.set(PEER, v4(0), Some(with_med(9)));
    rib.commit();
    rib.set(PEER, v6(1), None);
    rib.set(PEER, v4(1), None);
    rib.commit();
    let messages = contents(drain(&mut rib, PEER));
    assert_eq!(
        messages[..2],
        [Sent::Withdraw(vec![v4(1)]), Sent::Withdraw(vec![v6(1)])]
    );
    let announced = messages[2..].iter().map(|sent| match sent {
        Sent::Announce(attributes, prefixes) => (attributes.med, prefixes.clone()),
        other => panic!("{other:?}"),
    });
    let both = [(Some(9), vec![v4(0)]), (Some(9), vec![v6(0)])];
    assert_eq!(announced.collect::<Vec<_>>(), both);
}

#[test]
fn a_change_that_is_reverted_before_transmission_is_not_sent() {
    let mut rib = table(&[v4(1)], ebgp());
    drain(&mut rib, PEER);
    let steps = [
        (v4(1), Some(with_med(1))),
        (v4(1), None),
        (v4(2), Some(plain())),
        (v4(2), None),
        (v4(1), Some(plain())),
    ];
    for (prefix, route) in steps {
        rib.set(PEER, prefix, route);
        rib.commit();
        assert!(rib.pending(PEER));
    }
    assert_eq!(drain(&mut rib, PEER), []);
    // Equal attributes are no change, even in another allocation.
    rib.set(PEER, v4(1), Some(plain()));
    rib.commit();
    assert!(!rib.pending(PEER));
}

#[test]
fn end_of_rib_follows_the_initial_table_once_per_session_rfc4724_2() {
    let ends = [
        Sent::EndOfRib(Family::IPV4_UNICAST),
        Sent::EndOfRib(Family::IPV6_UNICAST),
    ];
    let mut rib = AdjRibOut::new();
    rib.session_up(PEER, ebgp());
    assert!(
        !rib.pending(PEER) && rib.poll_transmit(Instant::now(), PEER, MAX).is_none(),
        "the gate is closed"
    );
    rib.open_gate();
    assert!(rib.pending(PEER));
    assert_eq!(
        contents(drain(&mut rib, PEER)),
        ends,
        "also for an empty table"
    );

    rib.set(PEER, v4(1), Some(plain()));
    assert!(!rib.pending(PEER), "not committed yet");
    rib.commit();
    assert!(
        matches!(&contents(drain(&mut rib, PEER))[..], [Sent::Announce(..)]),
        "once per session"
    );
    rib.refresh(PEER, Family::IPV4_UNICAST);
    assert!(
        matches!(&contents(drain(&mut rib, PEER))[..], [Sent::Announce(..)]),
        "not on refresh"
    );

    let v4_only = SessionEncoding {
        families: vec![Family::IPV4_UNICAST],
        ..ebgp()
    };
    rib.session_up(PEER, v4_only);
    let messages = contents(drain(&mut rib, PEER));
    assert!(matches!(&messages[..], [Sent::Announce(..), end] if *end == ends[0]));
}

#[test]
fn nothing_is_sent_before_the_gate_opens() {
    let mut rib = AdjRibOut::new();
    rib.session_up(PEER, ebgp());
    rib.set(PEER, v4(1), Some(plain()));
    rib.commit();
    assert!(rib.poll_transmit(Instant::now(), PEER, MAX).is_none() && !rib.pending(PEER));
    rib.set(PEER, v4(2), Some(plain()));
    rib.open_gate();
    let messages = contents(drain(&mut rib, PEER));
    assert!(matches!(&messages[0], Sent::Announce(_, prefixes) if *prefixes == [v4(1), v4(2)]));
}

#[test]
fn a_refresh_repeats_the_routes_of_its_family_only_rfc2918_4() {
    let prefixes: Vec<IpNet> = (0..5).map(v4).chain((0..3).map(v6)).collect();
    let mut rib = table(&prefixes, ebgp());
    drain(&mut rib, PEER);
    rib.refresh(PEER, Family::IPV6_UNICAST);
    assert_eq!(
        rib.advertised(Instant::now(), PEER).count(),
        8,
        "the routes stay announced"
    );
    let messages = contents(drain(&mut rib, PEER));
    let again: Vec<IpNet> = (0..3).map(v6).collect();
    assert!(matches!(&messages[..], [Sent::Announce(_, prefixes)] if *prefixes == again));
    assert_eq!(rib.counters(PEER).prefixes, 8);
}

fn enhanced() -> SessionEncoding {
    SessionEncoding {
        enhanced_route_refresh: true,
        ..ebgp()
    }
}

#[test]
fn an_enhanced_refresh_is_delimited_by_borr_and_eorr_rfc7313_4() {
    let mut rib = table(&[v4(1), v6(1), v6(2)], enhanced());
    // Before End-of-RIB there is no refresh.
    rib.refresh(PEER, Family::IPV6_UNICAST);
    let messages = contents(drain(&mut rib, PEER));
    let again = vec![v6(1), v6(2)];
    assert!(matches!(
        &messages[..],
        [
            Sent::Announce(..),
            Sent::Announce(..),
            Sent::EndOfRib(Family::IPV4_UNICAST),
            Sent::EndOfRib(Family::IPV6_UNICAST),
            Sent::Refresh(1, Family::IPV6_UNICAST),
            Sent::Announce(_, prefixes),
            Sent::Refresh(2, Family::IPV6_UNICAST),
        ] if *prefixes == again
    ));
    assert_eq!(
        (rib.counters(PEER).updates, rib.counters(PEER).refreshes),
        (5, 2)
    );
    rib.refresh(
        PEER,
        Family {
            afi: Afi(25),
            safi: Safi(70),
        },
    );
    assert!(!rib.pending(PEER), "a family that was not negotiated");
}

/// On EoRR the peer deletes all routes that it has not received since BoRR.
#[test]
fn changes_during_a_refresh_are_sent_before_eorr_rfc7313_4() {
    let prefixes: Vec<IpNet> = (0..2000).map(v4).collect();
    let mut rib = table(&prefixes, enhanced());
    drain(&mut rib, PEER);
    rib.refresh(PEER, Family::IPV4_UNICAST);
    assert!(
        rib.poll_transmit(Instant::now(), PEER, 4096).is_some(),
        "begins"
    );
    // The first change does not concern this peer, the other two do.
    rib.set(PeerIndex(1), v4(1999), Some(plain()));
    rib.set(PEER, v4(1998), Some(with_med(1)));
    rib.set(PEER, v4(1997), None);
    rib.commit();
    let messages = contents(drain(&mut rib, PEER));
    let mut sent = BTreeSet::new();
    for message in &messages[..messages.len() - 1] {
        match message {
            Sent::Announce(_, prefixes) => sent.extend(prefixes.iter().copied()),
            Sent::Withdraw(prefixes) => assert_eq!(*prefixes, [v4(1997)]),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        sent.iter()
            .eq(prefixes.iter().filter(|prefix| **prefix != v4(1997)))
    );
    assert_eq!(
        messages.last(),
        Some(&Sent::Refresh(2, Family::IPV4_UNICAST))
    );
}

#[test]
fn repeated_refresh_requests_cause_at_most_one_refresh_per_second() {
    let prefixes: Vec<IpNet> = (0..10_000).map(v4).collect();
    let second = Duration::from_secs(1);
    for encoding in [ebgp(), enhanced()] {
        let mut rib = table(&prefixes, encoding);
        drain(&mut rib, PEER);
        let mut now = Instant::now();
        let updates = |rib: &mut AdjRibOut, now: Instant| {
            let before = rib.counters(PEER).updates;
            while rib.poll_transmit(now, PEER, 4096).is_some() {
                for _ in 0..1000 {
                    rib.refresh(PEER, Family::IPV4_UNICAST);
                }
            }
            assert!(!rib.pending(PEER));
            rib.counters(PEER).updates - before
        };
        assert_eq!(rib.poll_timeout(), None);
        rib.refresh(PEER, Family::IPV4_UNICAST);
        assert_eq!(updates(&mut rib, now), 13);
        for _ in 0..5 {
            // A request during the refresh is delayed.
            assert_eq!(rib.poll_timeout(), Some(now + second));
            rib.timeout(now + second / 2);
            assert_eq!(updates(&mut rib, now + second / 2), 0);
            now += second;
            rib.timeout(now);
            assert_eq!(rib.poll_timeout(), None, "the delay is over");
            assert!(rib.pending(PEER));
            assert_eq!(updates(&mut rib, now), 13);
        }
    }
}

#[test]
fn a_delayed_refresh_does_not_delay_changes_and_other_families() {
    let mut rib = table(&[v4(1), v6(1)], ebgp());
    drain(&mut rib, PEER);
    for _ in 0..2 {
        rib.refresh(PEER, Family::IPV4_UNICAST);
        drain(&mut rib, PEER);
    }
    assert!(rib.poll_timeout().is_some());
    rib.set(PEER, v4(2), Some(plain()));
    rib.commit();
    let messages = contents(drain(&mut rib, PEER));
    assert!(matches!(&messages[..], [Sent::Announce(_, prefixes)] if *prefixes == [v4(2)]));
    rib.refresh(PEER, Family::IPV6_UNICAST);
    let messages = contents(drain(&mut rib, PEER));
    assert!(matches!(&messages[..], [Sent::Announce(_, prefixes)] if *prefixes == [v6(1)]));
    rib.session_down(PEER);
    assert_eq!(rib.poll_timeout(), None);
}

#[test]
fn each_advertised_route_has_its_time_of_transmission() {
    let seconds = Duration::from_secs;
    let start = Instant::now();
    let mut rib = table(&[v4(1), v4(2)], ebgp());
    let sent_at = |rib: &mut AdjRibOut, now: Instant| {
        while rib.poll_transmit(now, PEER, MAX).is_some() {}
        let routes = rib.advertised(now, PEER);
        let sent = routes.map(|route| (route.prefix, route.sent.duration_since(start)));
        let sent: BTreeMap<_, _> = sent.collect();
        [v4(1), v4(2)].map(|prefix| sent[&prefix].as_secs())
    };
    assert_eq!(sent_at(&mut rib, start), [0, 0]);
    rib.set(PEER, v4(2), Some(with_med(1)));
    rib.commit();
    assert_eq!(sent_at(&mut rib, start + seconds(70)), [0, 70]);
    rib.refresh(PEER, Family::IPV4_UNICAST);
    assert_eq!(sent_at(&mut rib, start + seconds(100)), [100, 100]);
    rib.session_up(PEER, ebgp());
    assert_eq!(sent_at(&mut rib, start + seconds(130)), [130, 130]);
}

#[test]
fn every_attribute_is_sent_on_the_sessions_it_applies_to_rfc4271_5_1() {
    let rich = Route::new(RouteAttributes {
        prepend: 2,
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: Asn(64512),
            router_id: [10, 0, 0, 1].into(),
        }),
        extended_communities: vec![ExtendedCommunity([
            0x40, 4, 0xfc, 0, 0x4c, 0xee, 0x6b, 0x28,
        ])],
        ipv6_extended_communities: vec![Ipv6ExtendedCommunity([5; 20])],
        ..Default::default()
    });
    for (ebgp, path) in [(Some(Asn(64512)), vec![64512; 3]), (None, vec![])] {
        let mut rib = table(
            &[],
            SessionEncoding {
                ebgp,
                ..rib_receiver::ebgp()
            },
        );
        rib.set(PEER, v4(1), Some(Route::clone(&rich)));
        rib.commit();
        let messages = contents(drain(&mut rib, PEER));
        let Sent::Announce(attributes, _) = &messages[0] else {
            panic!("{messages:?}")
        };
        assert_eq!(attributes.as_path, path, "prepending is for eBGP");
        assert!(attributes.atomic_aggregate);
        assert_eq!(attributes.aggregator, Some([64512, 0x0a00_0001]));
        let lb = [0x40, 4, 0xfc, 0, 0x4c, 0xee, 0x6b, 0x28];
        assert_eq!(attributes.extended_communities, [lb]);
        assert_eq!(attributes.ipv6_extended_communities, [[5; 20]]);
    }
}

/// A chunk of a refresh omits IPv4 routes, which the peer has received. A new session needs them.
#[test]
fn a_new_session_receives_no_chunks_of_the_previous_one() {
    let other = PeerIndex(1);
    let mut rib = table(&[v4(1), v6(1)], ebgp());
    for prefix in [v4(1), v6(1)] {
        rib.set(other, prefix, Some(plain()));
    }
    rib.commit();
    rib.session_up(other, ebgp());
    drain(&mut rib, other);
    drain(&mut rib, PEER);
    for peer in [PEER, other] {
        rib.refresh(peer, Family::IPV6_UNICAST);
    }
    assert_eq!(drain(&mut rib, other).len(), 1);
    rib.session_down(PEER);
    rib.session_up(PEER, ebgp());
    assert_eq!(drain(&mut rib, PEER).len(), 2 + 2);
}

#[test]
fn a_family_without_next_hop_has_end_of_rib_but_no_routes() {
    let encoding = SessionEncoding {
        ipv6_next_hop: None,
        ..ebgp()
    };
    let without: Vec<Family> = encoding.families_without_next_hop().collect();
    assert_eq!(without, [Family::IPV6_UNICAST]);
    let mut rib = table(&[v4(1), v6(1)], encoding);
    let messages = contents(drain(&mut rib, PEER));
    assert!(matches!(&messages[0], Sent::Announce(_, prefixes) if *prefixes == [v4(1)]));
    assert_eq!(messages.len(), 3, "and one End-of-RIB per family");
    assert_eq!(rib.counters(PEER).prefixes, 1);
}

#[test]
fn routes_whose_attributes_fill_a_message_are_left_out_and_counted() {
    let communities = (0..1100).map(Community).collect();
    let long = Route::new(RouteAttributes {
        communities,
        ..Default::default()
    });
    let mut rib = table(&[v4(1), v4(2)], ebgp());
    rib.set(PEER, v4(2), Some(Route::clone(&long)));
    rib.set(PEER, v4(3), Some(long));
    rib.commit();
    let messages = contents(drain(&mut rib, PEER));
    assert!(matches!(&messages[0], Sent::Announce(_, prefixes) if *prefixes == [v4(1)]));
    assert_eq!(messages.len(), 3);
    assert_eq!(rib.counters(PEER).left_out, 2);
    assert_eq!(rib.counters(PEER).first_left_out, Some(v4(2)));
    // The route is sent once its attributes are shorter.
    rib.set(PEER, v4(2), Some(plain()));
    rib.commit();
    assert_eq!(drain(&mut rib, PEER).len(), 1);
}

#[test]
fn prefixes_that_differ_in_host_bits_are_the_same() {
    let prefix = |text: &str| text.parse::<IpNet>().unwrap();
    let mut rib = table(&[prefix("192.0.2.77/24"), prefix("192.0.2.78/24")], ebgp());
    drain(&mut rib, PEER);
    let sent: BTreeSet<IpNet> = rib
        .advertised(Instant::now(), PEER)
        .map(|route| route.prefix)
        .collect();
    assert_eq!(sent, BTreeSet::from([prefix("192.0.2.0/24")]));
}

/// Number of prefixes of each family that share attributes.
#[derive(Clone, Copy, Debug)]
struct Group {
    v4: u32,
    v6: u32,
}

fn group() -> impl Strategy<Value = Group> {
    // A few prefixes, and numbers that just fill a message.
    let v4 = prop_oneof![0..5u32, 800..820u32, 1600..1620u32];
    let v6 = prop_oneof![0..5u32, 230..245u32];
    (v4, v6).prop_map(|(v4, v6)| Group { v4, v6 })
}

/// Minimum number of messages for the prefixes of one kind.
fn least(groups: &[Group], max_length: usize, fixed: [usize; 2]) -> usize {
    let [per_v4, per_v6] = [(max_length - fixed[0]) / 5, (max_length - fixed[1]) / 17];
    let of =
        |group: &Group| (group.v4 as usize).div_ceil(per_v4) + (group.v6 as usize).div_ceil(per_v6);
    groups.iter().map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Announcing and withdrawing a table takes the minimum number of UPDATEs, in any order of
    /// changes.
    #[test]
    fn a_table_takes_the_minimum_number_of_messages(
        groups in prop::collection::vec(group(), 1..5),
        commits in 1..20usize,
        long in any::<bool>(),
    ) {
        let max_length = if long { 65_535 } else { 4096 };
        let mut changes: Vec<(IpNet, Route)> = Vec::new();
        let (mut next_v4, mut next_v6) = (0, 0);
        for (med, group) in (0u32..).zip(&groups) {
            changes.extend((0..group.v4).map(|index| (v4(next_v4 + index), with_med(med))));
            changes.extend((0..group.v6).map(|index| (v6(next_v6 + index), with_med(med))));
            next_v4 += group.v4;
            next_v6 += group.v6;
        }
        let mut rib = AdjRibOut::new();
        rib.open_gate();
        // In a different order from transmission, and in several commits.
        for part in 0..commits {
            for (prefix, route) in changes.iter().skip(part).step_by(commits) {
                rib.set(PEER, *prefix, Some(Route::clone(route)));
            }
            rib.commit();
        }
        rib.session_up(PEER, SessionEncoding { max_length, ..ebgp() });
        let announced = lengths(&drain(&mut rib, PEER));
        prop_assert!(announced.iter().all(|length| *length <= max_length));
        // Length of the fixed part: header, lengths, ORIGIN, AS_PATH, next hop, and 7 for MED.
        prop_assert_eq!(announced.len(), least(&groups, max_length, [43 + 7, 61 + 7]));
        for (prefix, _) in &changes {
            rib.set(PEER, *prefix, None);
            rib.commit();
        }
        let withdrawn = lengths(&drain(&mut rib, PEER));
        let all = Group { v4: next_v4, v6: next_v6 };
        prop_assert_eq!(withdrawn.len(), least(&[all], max_length, [23, 30]));
    }
}
