//! The Adj-RIB-Out against a model: whatever happens in whatever order, peers end up with what is
//! desired, and never hear anything on the way that they needn't.

mod rib_receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ferrolb_bgp::rib::{AdjRibOut, PeerIndex, Route, RouteAttributes, SessionEncoding};
use ferrolb_bgp::wire::{Community, Family, LargeCommunity};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::Index;
use rib_receiver::{Heard, Said, ebgp, parse, v4, v6};

#[derive(Clone, Debug)]
enum Step {
    Set {
        peer: Index,
        prefix: Index,
        route: Option<Index>,
    },
    /// The usual case, and the one in which peers share what was encoded.
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
    /// A refresh has waited for long enough.
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

/// Nothing that changes the table for those who stay.
fn coming_and_going() -> impl Strategy<Value = Step> {
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

/// Short messages, so that a few prefixes are many.
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

/// Some of them beyond the first word of a bit set.
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

/// How `route` for `prefix` arrives in a session, `None` if it can't be sent there.
fn heard(route: &Route, prefix: &IpNet, encoding: &SessionEncoding) -> Option<Heard> {
    let family = Family::of(prefix);
    let next_hop = match prefix {
        IpNet::V4(_) => encoding.ipv4_next_hop,
        IpNet::V6(_) => encoding.ipv6_next_hop,
    };
    let next_hop = next_hop.map(|next_hop| next_hop.address());
    (encoding.families.contains(&family) && next_hop.is_some()).then(|| Heard {
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
        ..Heard::default()
    })
}

#[derive(Debug)]
struct Session {
    encoding: SessionEncoding,
    holds: BTreeMap<IpNet, Heard>,
    /// What the peer asked to hear again, and didn't yet.
    owed: BTreeSet<IpNet>,
    /// How often each prefix may be said though it was.
    again: BTreeMap<IpNet, u32>,
    /// What wasn't said since a refresh began (RFC 7313).
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
    /// All peers have the same encoding, and share as much as can be.
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
                        .extend(session.holds.keys().filter(of_family).copied());
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
            // A refresh under way must come back to it, whoever it changed for.
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
            holds: BTreeMap::new(),
            owed: BTreeSet::new(),
            again: BTreeMap::new(),
            stale: None,
            ended: Vec::new(),
        };
        self.sessions.insert(peer, session);
    }

    /// Polls once, and checks each message against what was desired at that moment.
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
                .and_then(|route| heard(route, prefix, encoding))
        };
        for (length, said) in parse(&octets) {
            assert!(length <= 128);
            match said {
                Said::Withdraw(prefixes) => {
                    for prefix in prefixes {
                        assert!(!self.uncommitted.contains(&prefix));
                        assert!(
                            session.holds.remove(&prefix).is_some(),
                            "{prefix} wasn't told"
                        );
                        assert_eq!(wanted(&prefix, &session.encoding), None, "{prefix} is kept");
                        session.owed.remove(&prefix);
                        if let Some(stale) = &mut session.stale {
                            stale.remove(&prefix);
                        }
                    }
                }
                Said::Announce(said, prefixes) => {
                    for prefix in prefixes {
                        assert!(!self.uncommitted.contains(&prefix));
                        assert_eq!(wanted(&prefix, &session.encoding).as_ref(), Some(&said));
                        let before = session.holds.insert(prefix, said.clone());
                        session.owed.remove(&prefix);
                        if let Some(stale) = &mut session.stale {
                            stale.remove(&prefix);
                        }
                        if before.as_ref() == Some(&said) {
                            let again = session.again.get_mut(&prefix).filter(|left| **left > 0);
                            *again.unwrap_or_else(|| panic!("{prefix} said twice")) -= 1;
                        }
                    }
                }
                Said::EndOfRib(family) => {
                    assert!(!session.ended.contains(&family));
                    session.ended.push(family);
                    // What the peer kept over our restart and wasn't told goes now.
                    assert!(self.uncommitted.is_empty());
                    for prefix in prefixes()
                        .iter()
                        .filter(|prefix| Family::of(prefix) == family)
                    {
                        let wanted = wanted(prefix, &session.encoding);
                        assert_eq!(session.holds.get(prefix), wanted.as_ref(), "at the end");
                    }
                }
                Said::Refresh(1, family) => {
                    assert!(session.encoding.enhanced_route_refresh && session.stale.is_none());
                    assert_eq!(session.ended, session.encoding.families, "RFC 7313 §4");
                    let held = session.holds.keys();
                    let held = held.filter(|prefix| Family::of(prefix) == family);
                    session.stale = Some(held.copied().collect());
                }
                Said::Refresh(subtype, family) => {
                    assert_eq!(subtype, 2);
                    let stale = session.stale.take().expect("an end has a beginning");
                    assert_eq!(stale, BTreeSet::new(), "the peer drops {family}");
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
                Some((*prefix, heard(route, prefix, &session.encoding)?))
            });
            assert_eq!(session.holds, sendable.collect::<BTreeMap<_, _>>());
            assert_eq!(session.ended, session.encoding.families);
            assert_eq!(session.owed, BTreeSet::new(), "what was asked for came");
            assert_eq!(session.stale, None);
            let advertised: BTreeSet<_> = self
                .rib
                .advertised(Instant::now(), peer)
                .map(|told| told.prefix)
                .collect();
            assert!(advertised.iter().eq(session.holds.keys()));
            assert_eq!(self.rib.counters(peer).prefixes, session.holds.len() as u64);
        }
    }
}

/// A failure is worth a test of its own rather than a seed in a file.
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
    fn peers_end_up_with_what_is_desired(steps in prop::collection::vec(step(), 1..400)) {
        let mut model = Model::default();
        for step in steps {
            model.run(step);
        }
        model.drain();
        // And they are rid of everything once nothing is desired.
        for peer in 0..PEERS.len() {
            for prefix in prefixes() {
                model.set(peer, prefix, None);
            }
        }
        model.drain();
    }

    /// As above with all peers in session from the start and much between two polls.
    #[test]
    fn peers_in_step_end_up_with_what_is_desired(
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

    /// Peers that share all that is encoded come and go while the table rests: what is kept of it
    /// must not reach whom it isn't for.
    #[test]
    fn peers_alike_end_up_with_what_is_desired(
        rounds in prop::collection::vec(
            (prop::collection::vec(step(), 1..20), prop::collection::vec(coming_and_going(), 1..40)),
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
