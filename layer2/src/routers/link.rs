//! One interface: the routers behind it, and when this node sends packets of Router Discovery.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::notes::Note;
use super::{Link, Neighbor, Router, State};
use crate::config::Time;
use crate::interface::IfIndex;
use crate::limits::{
    ADVERTISEMENT_INTERVAL, ADVERTISEMENT_INTERVAL_MIN, FIRST_ADVERTISEMENT_INTERVAL,
    FIRST_ADVERTISEMENTS, ROUTERS_MAX, SOLICITATION_INTERVAL, SOLICITATIONS,
};
use crate::mac::Mac;
use crate::wire::router_discovery::RouterDiscovery;

/// A watched interface.
#[derive(Debug, Default)]
pub(super) struct WatchedLink {
    link: Option<Link>,
    candidates: BTreeMap<Ipv6Addr, Candidate>,
    /// The router that is used.
    current: Option<Ipv6Addr>,
    /// The number of candidates so far.
    found: u64,
    advertisements: Schedule,
    solicitations: Schedule,
    /// What was reported.
    reported: Option<State>,
}

/// A router.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// The number of those before it.
    order: u64,
    /// It sent a router advertisement: stronger evidence than a flag in the neighbor table, which
    /// hosts that forward packets have too.
    advertises: bool,
    /// The kernel can't reach it.
    failed: bool,
}

/// When packets of one kind are sent.
#[derive(Clone, Copy, Debug, Default)]
struct Schedule {
    next: Option<Time>,
    last: Option<Time>,
    sent: u8,
}

impl WatchedLink {
    pub(super) fn is_of(&self, index: IfIndex) -> bool {
        self.link.is_some_and(|link| link.index == index)
    }

    /// A router advertised itself.
    pub(super) fn advertised(&mut self, router: Ipv6Addr) {
        if let Some(candidate) = self.candidate(router) {
            candidate.advertises = true;
        }
    }

    /// A host asks for advertisements.
    pub(super) fn solicited(&mut self, now: Time) {
        let last = self.advertisements.last;
        let earliest = last.map_or(now, |last| now.max(last + ADVERTISEMENT_INTERVAL_MIN));
        let next = self.advertisements.next;
        self.advertisements.next = next.map(|next| next.min(earliest));
    }

    /// The candidate of this address, new if there is room. None for our own address.
    fn candidate(&mut self, router: Ipv6Addr) -> Option<&mut Candidate> {
        let is_own = self.link.and_then(|link| link.address) == Some(router);
        let is_full = self.candidates.len() >= ROUTERS_MAX;
        if is_own || (is_full && !self.candidates.contains_key(&router)) {
            return None;
        }
        let order = self.found;
        self.found += 1;
        Some(self.candidates.entry(router).or_insert(Candidate {
            order,
            advertises: false,
            failed: false,
        }))
    }

    /// Takes the present state of the kernel's tables.
    pub(super) fn update(
        &mut self,
        link: Option<&Link>,
        neighbors: &BTreeMap<(IfIndex, Ipv6Addr), Neighbor>,
    ) {
        let before = self.link;
        self.link = link.copied();
        if link.map(|link| link.index) != before.map(|link| link.index) {
            self.candidates.clear();
            self.current = None;
        }
        let Some(link) = self.link else {
            return;
        };
        let last = Ipv6Addr::from_bits(u128::MAX);
        let range = (link.index, Ipv6Addr::UNSPECIFIED)..=(link.index, last);
        let here = neighbors
            .range(range)
            .map(|((_, address), n)| (*address, *n));
        let here: BTreeMap<Ipv6Addr, Neighbor> = here.collect();
        for (address, neighbor) in &here {
            let is_known = self.candidates.contains_key(address);
            if (neighbor.router || is_known)
                && let Some(candidate) = self.candidate(*address)
            {
                candidate.failed = neighbor.failed;
            }
        }
        // The kernel forgets neighbors without traffic, and all of them while a link is down.
        let current = self.current;
        self.candidates.retain(|address, candidate| {
            here.contains_key(address) || candidate.advertises || Some(*address) == current
        });
        self.choose();
        let is_ready = |link: Option<Link>| link.is_some_and(|link| link.up && link.mac.is_some());
        if !is_ready(self.link) {
            self.advertisements = Schedule::default();
            self.solicitations = Schedule::default();
        } else if !is_ready(before) || before.and_then(|link| link.address) != link.address {
            self.advertisements.begin();
            self.solicitations.begin();
        }
    }

    /// Keeps the router in use unless another one answers and this one doesn't.
    fn choose(&mut self) {
        let current = self.current.and_then(|router| self.candidates.get(&router));
        if current.is_some_and(|candidate| !candidate.failed) {
            return;
        }
        let alive = self.candidates.iter().filter(|(_, other)| !other.failed);
        let best = alive.min_by_key(|(_, other)| (!other.advertises, other.order));
        if let Some((router, _)) = best {
            self.current = Some(*router);
        }
    }

    /// When the next packet is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        let solicitation = self.solicitations.next.filter(|_| self.current.is_none());
        [self.advertisements.next, solicitation]
            .into_iter()
            .flatten()
            .min()
    }

    /// The packets that are due.
    pub(super) fn due_frames(&mut self, now: Time) -> Vec<(IfIndex, Vec<u8>)> {
        let Some(Link {
            index,
            mac: Some(mac),
            address: Some(address),
            ..
        }) = self.link
        else {
            return Vec::new();
        };
        let mut frames = Vec::new();
        if self.advertisements.take(now) {
            let first = self.advertisements.sent < FIRST_ADVERTISEMENTS;
            let interval = if first {
                FIRST_ADVERTISEMENT_INTERVAL
            } else {
                ADVERTISEMENT_INTERVAL
            };
            self.advertisements.next = Some(now + interval);
            frames.push(RouterDiscovery::of_neighbor(address, mac).frame(mac));
        }
        if self.current.is_none() && self.solicitations.take(now) {
            let more = self.solicitations.sent < SOLICITATIONS;
            self.solicitations.next = more.then_some(now + SOLICITATION_INTERVAL);
            frames.push(solicitation(address, mac));
        }
        frames.into_iter().map(|frame| (index, frame)).collect()
    }

    /// The state, if it is not the one that was reported.
    pub(super) fn new_state(&mut self, name: &str, can_send: bool) -> Option<State> {
        let state = self.state(name, can_send);
        if self.reported.as_ref() == Some(&state) {
            return None;
        }
        self.reported = Some(state.clone());
        Some(state)
    }

    fn state(&self, name: &str, can_send: bool) -> State {
        let Some(link) = self.link else {
            let notes = vec![Note::Missing(name.into())];
            return State {
                router: None,
                notes,
            };
        };
        let mut notes = Vec::new();
        if !link.up {
            notes.push(Note::Down(name.into()));
        } else if link.address.is_none() {
            notes.push(Note::NoAddress(name.into()));
        }
        notes.extend(self.about_routers(name));
        if !can_send {
            notes.push(Note::NotAdvertised(name.into()));
        } else if link.mac.is_none() {
            notes.push(Note::NotEthernet(name.into()));
        }
        let router = self.current.map(|address| Router {
            address,
            interface: link.index,
        });
        State { router, notes }
    }

    fn about_routers(&self, name: &str) -> Option<Note> {
        let interface: Box<str> = name.into();
        let Some(used) = self.current else {
            return Some(Note::NoRouter(interface));
        };
        let failed = self.candidates.get(&used).is_some_and(|used| used.failed);
        if failed {
            let router = used;
            return Some(Note::Unreachable { interface, router });
        }
        let others = self
            .candidates
            .iter()
            .filter(|(other, candidate)| **other != used && !candidate.failed);
        let others: Vec<Ipv6Addr> = others.map(|(other, _)| *other).collect();
        (!others.is_empty()).then_some(Note::Several {
            interface,
            used,
            others,
        })
    }
}

fn solicitation(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let solicitation = RouterDiscovery::Solicitation {
        source: address,
        source_mac: Some(mac),
    };
    solicitation.frame(mac)
}

impl Schedule {
    /// The first packet is due at once.
    fn begin(&mut self) {
        *self = Self {
            next: Some(Time::ZERO),
            ..Self::default()
        };
    }

    /// Whether a packet is due, which counts as sent.
    fn take(&mut self, now: Time) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due {
            self.last = Some(now);
            self.sent = self.sent.saturating_add(1);
        }
        is_due
    }
}
