//! The Adj-RIB-Out against a reference model: after any sequence of inputs peers end up with the
//! desired routes, and no message on the way is redundant.

mod rib_receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ferrolb_bgp::rib::{AdjRibOut, PeerIndex, Route, RouteAttributes, SessionEncoding};
use ferrolb_bgp::wire::{Community, Family, LargeCommunity};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::Index;
use rib_receiver::{Attributes, Sent, ebgp, parse, v4, v6};

#[derive(Clone, Debug)]
enum Step {
    Set {
        peer: Index,
        prefix: Index,
        route: Option<Index>,
    },
    /// The usual case, in which peers share encoded messages.
    SetForAll {
        prefix: Index,
        route: Option<Index>,
    },
    Commit,
    Up(Index),
    Down(Index),
    Remove(Index),
    Refresh(Index, Family),
    Poll {
        peer: Index,
        max: usize,
    },
    /// The delay of a refresh expires.
    Timeout,
    OpenGate,
}

fn step() -> impl Strategy<Value = Step> {
    let peer = any::<Index>;
    let route = || proptest::option::weighted(0.7, any::<Index>());
    let family = prop::sample::select(vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
    prop_oneof![
        10 => (peer(), any::<Index>(), route())
            .prop_map(|(peer, prefix, route)| Step::Set { peer, prefix, route }),
        30 => (any::<Index>(), route())
            .prop_map(|(prefix, route)| Step::SetForAll { prefix, route }),
        10 => Just(Step::Commit),
        5 => peer().prop_map(Step::Up),
        2 => peer().prop_map(Step::Down),
        1 => peer().prop_map(Step::Remove),
        2 => (peer(), family).prop_map(|(peer, family)| Step::Refresh(peer, family)),
        40 => (peer(), prop::sample::select(vec![128, 300]))
            .prop_map(|(peer, max)| Step::Poll { peer, max }),
        1 => Just(Step::Timeout),
        2 => Just(Step::OpenGate),
    ]
}

/// Steps that do not change the table for the remaining peers.
fn session_step() -> impl Strategy<Value = Step> {
    let peer = any::<Index>;
    let poll = |peer| Step::Poll { peer, max: 300 };
    prop_oneof![
        4 => peer().prop_map(Step::Up),
        1 => peer().prop_map(Step::Down),
        3 => peer().prop_map(Step::Remove),
        1 => peer().prop_map(|peer| Step::Refresh(peer, Family::IPV4_UNICAST)),
        12 => peer().prop_map(poll),
    ]
}

/// Short messages, so that a few prefixes need several.
fn encoding(peer: usize) -> SessionEncoding {
    let both = SessionEncoding {
        max_length: 128,
        ..ebgp()
    };
    match peer {
        3 => SessionEncoding {
            families: vec![Family::IPV4_UNICAST],
            ebgp: None,
            ..both
        },
        4 => SessionEncoding {
            ipv6_next_hop: None,
            ..both
        },
        1 => SessionEncoding {
            enhanced_route_refresh: true,
            ..both
        },
        2 => SessionEncoding {
            enhanced_route_refresh: true,
            ipv4_next_hop: both.ipv6_next_hop,
            ..both
        },
        _ => both,
    }
}

/// Some indexes are beyond the first word of a bit set.
const PEERS: [PeerIndex; 5] = [
    PeerIndex(0),
    PeerIndex(1),
    PeerIndex(70),
    PeerIndex(2),
    PeerIndex(131),
];

fn prefixes() -> Vec<IpNet> {
    (0..40).map(v4).chain((0..10).map(v6)).collect()
}

fn routes() -> Vec<Route> {
    let community = |low| Community::new(64512, low);
    let large = LargeCommunity {
        global: 64512,
        local1: 1,
        local2: 2,
    };
    [
        RouteAttributes::default(),
        RouteAttributes {
            med: Some(7),
            local_pref: Some(0),
            ..Default::default()
        },
        RouteAttributes {
            communities: vec![community(1), community(2)],
            ..Default::default()
        },
        RouteAttributes {
            large_communities: vec![large],
            ..Default::default()
        },
    ]
    .map(Route::new)
    .into()
}

/// The attributes with which `route` is sent on a session; `None` if it cannot be sent.
fn attributes(route: &Route, prefix: &IpNet, encoding: &SessionEncoding) -> Option<Attributes> {
    let family = Family::of(prefix);
    let next_hop = match prefix {
        IpNet::V4(_) => encoding.ipv4_next_hop,
        IpNet::V6(_) => encoding.ipv6_next_hop,
    };
    let next_hop = next_hop.map(|next_hop| next_hop.address());
    (encoding.families.contains(&family) && next_hop.is_some()).then(|| Attributes {
        as_path: encoding.ebgp.iter().map(|asn| asn.0).collect(),
        next_hop,
        med: route.med,
        local_pref: encoding
            .ebgp
            .is_none()
            .then(|| route.local_pref.unwrap_or(100)),
        communities: route
            .communities
            .iter()
            .map(|community| community.0)
            .collect(),
        large_communities: route
            .large_communities
            .iter()
            .map(|large| [large.global, large.local1, large.local2])
            .collect(),
        ..Attributes::default()
    })
}

#[derive(Debug)]
struct Session {
    encoding: SessionEncoding,
    received: BTreeMap<IpNet, Attributes>,
    /// Prefixes of a requested refresh that have not been sent again.
    owed: BTreeSet<IpNet>,
    /// How often each prefix may be repeated unchanged.
    again: BTreeMap<IpNet, u32>,
    /// Prefixes not sent since the start of a refresh (RFC 7313).
    stale: Option<BTreeSet<IpNet>>,
    ended: Vec<Family>,
}

#[derive(Debug, Default)]
struct Model {
    rib: AdjRibOut,
    desired: BTreeMap<(usize, IpNet), Route>,
    uncommitted: BTreeSet<IpNet>,
    sessions: BTreeMap<usize, Session>,
    open: bool,
    /// All peers have the same encoding and share as many messages as possible.
    alike: bool,
}

impl Model {
    fn run(&mut self, step: Step) {
        match step {
            Step::Set {
                peer,
                prefix,
                route,
            } => {
                let prefix = *prefix.get(&prefixes());
                self.set(
                    peer.index(PEERS.len()),
                    prefix,
                    route.map(|at| at.get(&routes()).clone()),
                );
            }
            Step::SetForAll { prefix, route } => {
                for peer in 0..PEERS.len() {
                    let route = route.map(|at| at.get(&routes()).clone());
                    self.set(peer, *prefix.get(&prefixes()), route);
                }
            }
            Step::Commit => self.commit(),
            Step::Up(peer) => self.up(peer.index(PEERS.len())),
            Step::Down(peer) => {
                let peer = peer.index(PEERS.len());
                self.rib.session_down(PEERS[peer]);
                self.sessions.remove(&peer);
            }
            Step::Remove(peer) => {
                let peer = peer.index(PEERS.len());
                self.rib.remove_peer(PEERS[peer]);
                self.sessions.remove(&peer);
                self.desired.retain(|(of, _), _| *of != peer);
            }
            Step::Refresh(peer, family) => {
                let peer = peer.index(PEERS.len());
                self.rib.refresh(PEERS[peer], family);
                if let Some(session) = self.sessions.get_mut(&peer)
                    && session.encoding.families.contains(&family)
                {
                    let of_family = |prefix: &&IpNet| Family::of(prefix) == family;
                    session
                        .owed
                        .extend(session.received.keys().filter(of_family).copied());
                    for prefix in prefixes().iter().filter(of_family) {
                        *session.again.entry(*prefix).or_default() += 1;
                    }
                }
            }
            Step::Poll { peer, max } => {
                self.poll(peer.index(PEERS.len()), max);
            }
            Step::Timeout => {
                if let Some(at) = self.rib.poll_timeout() {
                    self.rib.timeout(at);
                }
            }
            Step::OpenGate => {
                self.rib.open_gate();
                self.uncommitted.clear();
                self.open = true;
            }
        }
    }

    fn set(&mut self, peer: usize, prefix: IpNet, route: Option<Route>) {
        self.rib.set(PEERS[peer], prefix, route.clone());
        let before = match &route {
            Some(route) => self.desired.insert((peer, prefix), Route::clone(route)),
            None => self.desired.remove(&(peer, prefix)),
        };
        if before != route {
            self.uncommitted.insert(prefix);
            // A refresh in progress returns to this prefix, even if it changed for another peer.
            for session in self.sessions.values_mut() {
                if let Some(again) = session.again.get_mut(&prefix) {
                    *again += 1;
                }
            }
        }
    }

    fn commit(&mut self) {
        self.rib.commit();
        self.uncommitted.clear();
    }

    fn up(&mut self, peer: usize) {
        let encoding = encoding(if self.alike { 0 } else { peer });
        self.rib.session_up(PEERS[peer], encoding.clone());
        let session = Session {
            encoding,
            received: BTreeMap::new(),
            owed: BTreeSet::new(),
            again: BTreeMap::new(),
            stale: None,
            ended: Vec::new(),
        };
        self.sessions.insert(peer, session);
    }

    /// Polls once and checks each message against the currently desired routes.
    fn poll(&mut self, peer: usize, max: usize) -> bool {
        let pending = self.rib.pending(PEERS[peer]);
        let Some(octets) = self.rib.poll_transmit(Instant::now(), PEERS[peer], max) else {
            assert!(!self.rib.pending(PEERS[peer]));
            return false;
        };
        assert!(pending && self.open && octets.len() <= max && !octets.is_empty());
        let desired = &self.desired;
        let session = self
            .sessions
            .get_mut(&peer)
            .expect("octets only in a session");
        let wanted = |prefix: &IpNet, encoding: &SessionEncoding| {
            desired
                .get(&(peer, *prefix))
                .and_then(|route| attributes(route, prefix, encoding))
        };
        for (length, sent) in parse(&octets) {
            assert!(length <= 128);
            match sent {
                Sent::Withdraw(prefixes) => {
                    for prefix in prefixes {
                        assert!(!self.uncommitted.contains(&prefix));
                        assert!(
                            session.received.remove(&prefix).is_some(),
                            "{prefix} was not announced"
                        );
                        assert_eq!(
                            wanted(&prefix, &session.encoding),
                            None,
                            "{prefix} is desired"
                        );
                        session.owed.remove(&prefix);
                        if let Some(stale) = &mut session.stale {
                            stale.remove(&prefix);
                        }
                    }
                }
                Sent::Announce(sent, prefixes) => {
                    for prefix in prefixes {
                        assert!(!self.uncommitted.contains(&prefix));
                        assert_eq!(wanted(&prefix, &session.encoding).as_ref(), Some(&sent));
                        let before = session.received.insert(prefix, sent.clone());
                        session.owed.remove(&prefix);
                        if let Some(stale) = &mut session.stale {
                            stale.remove(&prefix);
                        }
                        if before.as_ref() == Some(&sent) {
                            let again = session.again.get_mut(&prefix).filter(|left| **left > 0);
                            *again.unwrap_or_else(|| panic!("{prefix} sent twice")) -= 1;
                        }
                    }
                }
                Sent::EndOfRib(family) => {
                    assert!(!session.ended.contains(&family));
                    session.ended.push(family);
                    // Now the peer deletes retained routes that it has not received again.
                    assert!(self.uncommitted.is_empty());
                    for prefix in prefixes()
                        .iter()
                        .filter(|prefix| Family::of(prefix) == family)
                    {
                        let wanted = wanted(prefix, &session.encoding);
                        assert_eq!(session.received.get(prefix), wanted.as_ref(), "at the end");
                    }
                }
                Sent::Refresh(1, family) => {
                    assert!(session.encoding.enhanced_route_refresh && session.stale.is_none());
                    assert_eq!(session.ended, session.encoding.families, "RFC 7313 §4");
                    let received = session.received.keys();
                    let stale = received.filter(|prefix| Family::of(prefix) == family);
                    session.stale = Some(stale.copied().collect());
                }
                Sent::Refresh(subtype, family) => {
                    assert_eq!(subtype, 2);
                    let stale = session.stale.take().expect("BoRR precedes EoRR");
                    assert_eq!(stale, BTreeSet::new(), "the peer deletes {family}");
                }
            }
        }
        true
    }

    fn drain(&mut self) {
        self.run(Step::OpenGate);
        loop {
            for index in 0..PEERS.len() {
                while self.poll(index, 300) {}
            }
            if self.rib.poll_timeout().is_none() {
                break;
            }
            self.run(Step::Timeout);
        }
        for (index, peer) in PEERS.into_iter().enumerate() {
            let Some(session) = self.sessions.get(&index) else {
                assert_eq!(self.rib.advertised(Instant::now(), peer).count(), 0);
                continue;
            };
            let desired = self.desired.iter().filter(|((of, _), _)| *of == index);
            let sendable = desired.filter_map(|((_, prefix), route)| {
                Some((*prefix, attributes(route, prefix, &session.encoding)?))
            });
            assert_eq!(session.received, sendable.collect::<BTreeMap<_, _>>());
            assert_eq!(session.ended, session.encoding.families);
            assert_eq!(session.owed, BTreeSet::new(), "the refresh is complete");
            assert_eq!(session.stale, None);
            let advertised: BTreeSet<_> = self
                .rib
                .advertised(Instant::now(), peer)
                .map(|route| route.prefix)
                .collect();
            assert!(advertised.iter().eq(session.received.keys()));
            assert_eq!(
                self.rib.counters(peer).prefixes,
                session.received.len() as u64
            );
        }
    }
}

/// Without a file of seeds: write a separate test for a failure.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn peers_end_up_with_the_desired_routes(steps in prop::collection::vec(step(), 1..400)) {
        let mut model = Model::default();
        for step in steps {
            model.run(step);
        }
        model.drain();
        // They end up with nothing once nothing is desired.
        for peer in 0..PEERS.len() {
            for prefix in prefixes() {
                model.set(peer, prefix, None);
            }
        }
        model.drain();
    }

    /// All sessions are up from the start, and there are many changes between polls.
    #[test]
    fn lagging_peers_end_up_with_the_desired_routes(
        rounds in prop::collection::vec(prop::collection::vec(step(), 1..60), 1..10),
    ) {
        let mut model = Model::default();
        for peer in 0..PEERS.len() {
            model.up(peer);
        }
        for steps in rounds {
            for step in steps {
                if !matches!(step, Step::Poll { .. } | Step::Down(_) | Step::Remove(_)) {
                    model.run(step);
                }
            }
            model.drain();
        }
    }

    /// Sessions start and end while the table is stable: no peer receives cached messages that do
    /// not apply to it.
    #[test]
    fn peers_with_equal_encoding_end_up_with_the_desired_routes(
        rounds in prop::collection::vec(
            (prop::collection::vec(step(), 1..20), prop::collection::vec(session_step(), 1..40)),
            1..8,
        ),
    ) {
        let mut model = Model {
            alike: true,
            ..Model::default()
        };
        model.run(Step::OpenGate);
        for (changes, steps) in rounds {
            for step in changes {
                if matches!(step, Step::Set { .. } | Step::SetForAll { .. }) {
                    model.run(step);
                }
            }
            model.commit();
            for step in steps {
                model.run(step);
            }
        }
        model.drain();
    }
}
