//! Routes that a router sends back show whether it has another path to our prefixes.

use std::collections::HashSet;

use crate::harness::{World, net, passive, peer, route, routes, seconds};
use bytes::Bytes;
use ferrolb_bgp::fsm::{Input, OtherPaths};
use ferrolb_bgp::rib::{AdjRibOut, PeerIndex, Route, RouteAttributes, SessionEncoding};
use ferrolb_bgp::wire::{Asn, Community, Family, NextHop};
use ipnet::IpNet;
use proptest::prelude::*;

const OURS: &str = "10.0.0.1";
const OTHER_NODE: &str = "10.0.0.3";
const PREFIX: &str = "192.0.2.1/32";

/// Host 0 announces a prefix to the router, host 1.
fn in_session() -> World {
    let mut world = World::new();
    world.host(OURS, true);
    world.host("10.0.0.2", true);
    world.input(0, Input::SetPeer(peer("router", "10.0.0.2", 65001, 65002)));
    let theirs = passive(peer("node", OURS, 65002, 65001));
    world.input(1, Input::SetPeer(theirs));
    world.input(0, routes("router", vec![(net(PREFIX), route(1))]));
    world.input(0, Input::OpenGate);
    world.input(1, Input::OpenGate);
    world.run_until(seconds(3), "session established", World::established);
    world.run(seconds(1));
    world
}

/// An UPDATE of the router with this next hop and the AS_PATH 65002.
fn update(prefix: &str, next_hop: &str, communities: Vec<Community>) -> Bytes {
    let mut rib = AdjRibOut::new();
    let router = PeerIndex(0);
    let next_hop = NextHop::V4(next_hop.parse().unwrap());
    rib.open_gate();
    rib.session_up(
        router,
        SessionEncoding {
            families: vec![Family::IPV4_UNICAST],
            ebgp: Some(Asn(65002)),
            four_octet_asn: true,
            max_length: 4096,
            ipv4_next_hop: Some(next_hop),
            ipv6_next_hop: None,
            enhanced_route_refresh: false,
        },
    );
    rib.set(
        router,
        net(prefix),
        Some(Route::new(RouteAttributes {
            communities,
            ..RouteAttributes::default()
        })),
    );
    rib.commit();
    let now = std::time::Instant::now();
    rib.poll_transmit(now, router, 4096).unwrap()
}

fn withdrawal(prefix: &str) -> Bytes {
    let IpNet::V4(prefix) = net(prefix) else {
        unreachable!("IPv4 only");
    };
    let octets = usize::from(prefix.prefix_len().div_ceil(8));
    let length = u8::try_from(19 + 2 + 1 + octets + 2).unwrap();
    let mut message = vec![0xff; 16];
    message.extend([
        0,
        length,
        2,
        0,
        u8::try_from(octets).unwrap() + 1,
        prefix.prefix_len(),
    ]);
    message.extend(&prefix.addr().octets()[..octets]);
    message.extend([0, 0]);
    message.into()
}

fn send_back(world: &mut World, octets: Bytes) -> OtherPaths {
    world.inject(1, octets);
    world.run(seconds(1));
    other_paths(world)
}

fn other_paths(world: &World) -> OtherPaths {
    let mut all = world.hosts[0].speaker.other_paths();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn only(prefix: &str) -> HashSet<IpNet> {
    HashSet::from([net(prefix)])
}

#[test]
fn a_prefix_received_with_another_next_hop_has_another_path() {
    let mut world = in_session();
    world.input(0, Input::TrackOtherPaths(true));
    world.run(seconds(1));
    assert!(
        other_paths(&world).shown.is_empty(),
        "the router has not sent anything back"
    );
    let other = send_back(&mut world, update(PREFIX, OTHER_NODE, vec![]));
    assert_eq!(other.shown, [Family::IPV4_UNICAST]);
    assert!(!other.has_only_ours(&net(PREFIX)));
    assert!(
        !other.has_only_ours(&net("2001:db8::1/128")),
        "the router has sent back no IPv6 prefix"
    );
    assert_eq!(other.prefixes, only(PREFIX));
    let none = send_back(&mut world, withdrawal(PREFIX));
    assert!(
        none.has_only_ours(&net(PREFIX)),
        "the router is known to send our prefixes back"
    );
    assert_eq!(none.prefixes, HashSet::new());
}

#[test]
fn our_own_path_sent_back_is_not_another_path() {
    let mut world = in_session();
    world.input(0, Input::TrackOtherPaths(true));
    let graceful = vec![Community::GRACEFUL_SHUTDOWN];
    for own in [
        update(PREFIX, OURS, vec![]),
        update(PREFIX, OTHER_NODE, graceful),
    ] {
        let other = update(PREFIX, OTHER_NODE, vec![]);
        assert_eq!(send_back(&mut world, other).prefixes, only(PREFIX));
        let own = send_back(&mut world, own);
        assert!(
            own.has_only_ours(&net(PREFIX)),
            "the router sends our own path back"
        );
        assert_eq!(own.prefixes, HashSet::new());
    }
}

#[test]
fn prefixes_that_we_do_not_announce_are_ignored() {
    let mut world = in_session();
    world.input(0, Input::TrackOtherPaths(true));
    let default = send_back(&mut world, update("0.0.0.0/0", "10.0.0.2", vec![]));
    assert!(default.shown.is_empty() && default.prefixes.is_empty());
    let foreign = send_back(&mut world, update("192.0.2.2/32", OTHER_NODE, vec![]));
    assert!(foreign.shown.is_empty() && foreign.prefixes.is_empty());
    let own = send_back(&mut world, update(PREFIX, OTHER_NODE, vec![]));
    assert_eq!(own.prefixes, only(PREFIX));
    world.input(0, routes("router", vec![(net(PREFIX), None)]));
    assert_eq!(other_paths(&world).prefixes, HashSet::new());
}

#[test]
fn without_tracking_only_the_families_sent_back_are_known() {
    let mut world = in_session();
    let other = send_back(&mut world, update(PREFIX, OTHER_NODE, vec![]));
    assert!(other.has_only_ours(&net(PREFIX)) && other.prefixes.is_empty());
    world.reset_connections();
    world.run(seconds(5));
    assert!(world.established() && !other_paths(&world).shown.is_empty());
}

#[test]
fn tracking_requests_a_route_refresh_after_pending_updates_are_sent_rfc2918() {
    let mut world = in_session();
    let before = world.status(0).sent.route_refresh;
    world.input(0, routes("router", vec![(net(PREFIX), route(2))]));
    world.input(0, Input::TrackOtherPaths(true));
    world.run(seconds(1));
    let families = world.status(0).negotiated.unwrap().families.len();
    let requested = world.status(0).sent.route_refresh - before;
    assert_eq!(requested, u64::try_from(families).unwrap());
    // RFC 2918 §4: the answer has all routes, including those sent before tracking started.
    world.input(0, Input::TrackOtherPaths(false));
    world.input(1, routes("node", vec![(net(PREFIX), route(1))]));
    world.run(seconds(2));
    assert_eq!(other_paths(&world).prefixes, HashSet::new());
    world.input(0, Input::TrackOtherPaths(true));
    world.run(seconds(2));
    assert_eq!(other_paths(&world).prefixes, only(PREFIX));
}

/// A route is withdrawn and announced again during a drain. The router sends nothing, because its
/// best path is the other one all the time.
#[test]
fn a_prefix_announced_again_is_known_after_another_route_refresh() {
    const OTHER: &str = "192.0.2.2/32";
    let mut world = in_session();
    let both = || vec![(net(PREFIX), route(1)), (net(OTHER), route(1))];
    world.input(0, routes("router", both()));
    world.input(1, routes("node", both()));
    world.input(0, Input::TrackOtherPaths(true));
    world.run(seconds(2));
    assert_eq!(
        other_paths(&world).prefixes,
        HashSet::from([net(PREFIX), net(OTHER)])
    );
    world.input(0, routes("router", vec![(net(PREFIX), None)]));
    world.run(seconds(1));
    world.input(0, routes("router", vec![(net(PREFIX), route(1))]));
    world.run(seconds(2));
    assert_eq!(other_paths(&world).prefixes, only(OTHER));
    world.input(0, Input::TrackOtherPaths(true));
    assert_eq!(
        other_paths(&world).prefixes,
        only(OTHER),
        "known prefixes remain known"
    );
    world.run(seconds(2));
    assert_eq!(
        other_paths(&world).prefixes,
        HashSet::from([net(PREFIX), net(OTHER)])
    );
}

#[test]
fn without_a_session_there_are_no_other_paths() {
    let mut world = in_session();
    world.input(0, Input::TrackOtherPaths(true));
    send_back(&mut world, update(PREFIX, OTHER_NODE, vec![]));
    world.power_cycle(1);
    world.run(seconds(200));
    assert_eq!(world.hosts[0].speaker.other_paths(), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any sequence of changes by us and the router.
    #[test]
    fn only_prefixes_that_we_announce_have_other_paths(
        steps in prop::collection::vec((0..4_u8, 0..6_u8), 1..40),
    ) {
        let mut world = in_session();
        world.input(0, Input::TrackOtherPaths(true));
        let mut announced = only(PREFIX);
        for (kind, number) in steps {
            let prefix = format!("192.0.2.{number}/32");
            match kind {
                0 => {
                    announced.insert(net(&prefix));
                    world.input(0, routes("router", vec![(net(&prefix), route(1))]));
                }
                1 => {
                    announced.remove(&net(&prefix));
                    world.input(0, routes("router", vec![(net(&prefix), None)]));
                }
                2 => world.inject(1, update(&prefix, OTHER_NODE, vec![])),
                _ => world.inject(1, withdrawal(&prefix)),
            }
            world.run(seconds(1));
            let tracked = other_paths(&world).prefixes;
            prop_assert!(tracked.is_subset(&announced), "{tracked:?} of {announced:?}");
        }
    }
}
