//! The other nodes, by segment.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use super::nodes::NodeId;
use crate::config::Time;
use crate::interface::IfIndex;
use crate::mac::Mac;
use crate::status::NodeState;
use crate::wire::hello::Hello;

/// A node on a segment.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its Ethernet address there.
    pub(crate) mac: Mac,
    /// Its networks there.
    pub(crate) networks: Vec<IpNet>,
    /// Whether hellos arrive in time.
    pub(crate) alive: bool,
    /// When the last one arrived.
    pub(crate) last: Time,
    /// At which interval it sends.
    pub(crate) interval: Duration,
    /// After how many intervals without a hello it is silent.
    multiplier: u8,
    /// The instance and the sequence number of the last hello.
    mark: (u64, u64),
}

impl Peer {
    /// When it is silent unless a hello arrives.
    pub(crate) fn silent_at(&self) -> Time {
        self.last + self.interval * u32::from(self.multiplier)
    }
}

/// What is known of a node from all segments together.
#[derive(Clone, Debug)]
pub(crate) struct NodeFacts {
    /// Its process.
    pub(crate) instance: u64,
    /// Its state.
    pub(crate) state: NodeState,
    /// Since when.
    pub(crate) state_since: Time,
    /// The number of addresses that it owns.
    pub(crate) owned: u32,
    /// How late its hellos usually arrive. See [`lateness`].
    lateness: i64,
    /// The highest sequence number of its hellos, and when that one was sent by its wall clock.
    last: (u64, u64),
    /// This process did not read for a while, and hellos that waited since then may follow.
    excused: bool,
}

/// Hellos that are not accepted, but arrive with a constant delay.
#[derive(Clone, Copy, Debug)]
struct Steady {
    instance: u64,
    sequence: u64,
    lateness: i64,
    since: Time,
}

/// Our clock minus the sender's in ms: how late a hello arrives, apart from a constant. Our clock
/// is the one since the host was booted, which is never set.
fn lateness(now: Time, hello: &Hello) -> i64 {
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    now.wrapping_sub(hello.sent.cast_signed())
}

/// What a hello changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The sender.
    pub(crate) node: NodeId,
    /// Whether the node was silent on this segment before.
    pub(crate) up: bool,
    /// Whether it is from a new process of the node.
    pub(crate) new_instance: bool,
    /// Whether it arrived late by more than half of the interval.
    pub(crate) late: bool,
    /// Whether it was sent just now: it did not wait in a queue of this host.
    pub(crate) fresh: bool,
}

/// A hello waited in a queue of this host if it arrives this much later than usual.
const QUEUED: i64 = 50;
/// A hello that arrives this much later than usual, in ms, does not show that its sender is alive:
/// recorded hellos that are replayed slowly would keep a dead node alive.
const TOO_LATE: i64 = 5_000;
/// Hellos that are not accepted because of the sender's clock are accepted after this time with a
/// constant delay. The delay of hellos that are replayed slowly grows.
const STEADY: Duration = Duration::from_secs(2);

/// The other nodes.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    segments: BTreeMap<IfIndex, Vec<Option<Peer>>>,
    nodes: Vec<Option<NodeFacts>>,
    steady: BTreeMap<NodeId, Steady>,
    /// No peer is silent before.
    next_silence: Option<Time>,
    prune_at: Time,
    generation: u64,
    /// On how many segments each node is alive.
    alive_on: Vec<usize>,
    /// The number of other nodes that are alive on any segment.
    alive: usize,
}

impl Peers {
    /// Changes whenever another set of nodes is alive or ready.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Something else changed that decides which node may own an address.
    pub(crate) fn touch(&mut self) {
        self.generation += 1;
    }

    /// A node on a segment.
    pub(crate) fn peer(&self, segment: IfIndex, node: NodeId) -> Option<&Peer> {
        self.segments.get(&segment)?.get(node.index())?.as_ref()
    }

    /// The nodes that were ever received on a segment.
    pub(crate) fn on(&self, segment: IfIndex) -> impl Iterator<Item = (usize, &Peer)> {
        self.segments
            .get(&segment)
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, peer)| Some((index, peer.as_ref()?)))
    }

    /// A node.
    pub(crate) fn node(&self, node: NodeId) -> Option<&NodeFacts> {
        self.nodes.get(node.index())?.as_ref()
    }

    /// Whether hellos of a node arrive in time on a segment.
    pub(crate) fn is_alive_on(&self, segment: IfIndex, node: NodeId) -> bool {
        self.peer(segment, node).is_some_and(|peer| peer.alive)
    }

    /// Whether hellos of a node arrive in time on any segment.
    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        self.alive_on.get(node.index()).is_some_and(|on| *on > 0)
    }

    /// Whether any node is alive on a segment.
    pub(crate) fn any_alive_on(&self, segment: IfIndex) -> bool {
        self.on(segment).any(|(_, peer)| peer.alive)
    }

    /// Whether any other node was ever received.
    pub(crate) fn any_known(&self) -> bool {
        let others = self.nodes.iter().skip(NodeId::SIBLING.index() + 1);
        others.flatten().next().is_some()
    }

    /// The number of nodes that are alive on any segment.
    pub(crate) fn alive_count(&self) -> usize {
        self.alive
    }

    /// A node was received on one more segment, or on one less.
    fn count(&mut self, node: NodeId, alive: bool) {
        self.generation += 1;
        if self.alive_on.len() <= node.index() {
            self.alive_on.resize(node.index() + 1, 0);
        }
        let Some(segments) = self.alive_on.get_mut(node.index()) else {
            return;
        };
        let before = *segments > 0;
        *segments = if alive {
            *segments + 1
        } else {
            segments.saturating_sub(1)
        };
        if before != (*segments > 0) && node != NodeId::SIBLING {
            self.alive = if alive {
                self.alive + 1
            } else {
                self.alive.saturating_sub(1)
            };
        }
    }

    /// Whether a hello of the known process of a node, or a later one, was received on a segment
    /// before.
    pub(crate) fn is_repeated(&self, segment: IfIndex, node: NodeId, hello: &Hello) -> bool {
        self.peer(segment, node).is_some_and(|peer| {
            let (instance, sequence) = peer.mark;
            instance == hello.instance && hello.sequence <= sequence
        })
    }

    /// Whether a hello of the known process of a node arrives about as late as its others.
    pub(crate) fn is_timely(&mut self, now: Time, node: NodeId, hello: &Hello) -> bool {
        let lateness = lateness(now, hello);
        let Some(facts) = self.node(node) else {
            return true;
        };
        if facts.excused || lateness.wrapping_sub(facts.lateness) <= TOO_LATE {
            return true;
        }
        let (sequence, sent) = facts.last;
        // A later hello with an earlier time: the clock of the sender was set back.
        let was_set_back = hello.sequence > sequence && hello.sent < sent;
        if !was_set_back && !self.is_steady(now, node, hello) {
            return false;
        }
        if let Some(facts) = self.nodes.get_mut(node.index()).and_then(Option::as_mut) {
            facts.lateness = lateness;
        }
        true
    }

    /// Whether hellos of a process that are not accepted arrive with a constant delay since a
    /// while.
    pub(crate) fn is_steady(&mut self, now: Time, node: NodeId, hello: &Hello) -> bool {
        let new = Steady {
            instance: hello.instance,
            sequence: hello.sequence,
            lateness: lateness(now, hello),
            since: now,
        };
        let before = self.steady.entry(node).or_insert(new);
        let same = before.instance == new.instance
            && before.lateness.abs_diff(new.lateness) <= QUEUED.unsigned_abs();
        if !same {
            *before = new;
            return false;
        }
        if hello.sequence <= before.sequence {
            return false;
        }
        before.sequence = hello.sequence;
        now >= before.since + STEADY
    }

    /// A hello that passed all checks.
    pub(crate) fn receive(
        &mut self,
        now: Time,
        segment: IfIndex,
        node: NodeId,
        hello: &Hello,
    ) -> Arrival {
        let mut arrival = Arrival {
            node,
            up: false,
            new_instance: false,
            late: false,
            fresh: true,
        };
        self.steady.remove(&node);
        self.note_node(now, hello, &mut arrival);
        let interval = hello.interval.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let peers = self.segments.entry(segment).or_default();
        if peers.len() <= node.index() {
            peers.resize(node.index() + 1, None);
        }
        let Some(slot) = peers.get_mut(node.index()) else {
            return arrival;
        };
        let before = slot.as_ref().filter(|peer| peer.alive);
        arrival.up = before.is_none();
        arrival.late = before.is_some_and(|peer| now > peer.last + peer.interval * 3 / 2);
        let same_networks = before.is_some_and(|peer| peer.networks == hello.networks);
        let peer = Peer {
            // Authenticated, unlike the source of the frame.
            mac: hello.mac,
            networks: if same_networks {
                slot.take().map(|peer| peer.networks).unwrap_or_default()
            } else {
                hello.networks.clone()
            },
            alive: true,
            last: now,
            interval,
            multiplier: hello.multiplier.clamp(1, 20),
            mark: (hello.instance, hello.sequence),
        };
        let silent_at = peer.silent_at();
        *slot = Some(peer);
        self.next_silence = Some(self.next_silence.map_or(silent_at, |at| at.min(silent_at)));
        if arrival.up {
            self.count(node, true);
        } else if !same_networks {
            self.generation += 1;
        }
        arrival
    }

    fn note_node(&mut self, now: Time, hello: &Hello, arrival: &mut Arrival) {
        let index = arrival.node.index();
        if self.nodes.len() <= index {
            self.nodes.resize(index + 1, None);
        }
        let Some(slot) = self.nodes.get_mut(index) else {
            return;
        };
        let lateness = lateness(now, hello);
        let old = slot.take().filter(|node| node.instance == hello.instance);
        arrival.new_instance = old.is_none();
        let same_state = old.as_ref().filter(|node| node.state == hello.state);
        let state_since = same_state.map_or(now, |node| node.state_since);
        if same_state.is_none() {
            self.generation += 1;
        }
        let usual = old.as_ref().map_or(lateness, |node| node.lateness);
        let excess = lateness.wrapping_sub(usual);
        arrival.fresh = excess <= QUEUED;
        let last = (hello.sequence, hello.sent);
        *slot = Some(NodeFacts {
            instance: hello.instance,
            state: hello.state,
            state_since,
            owned: hello.owned,
            lateness: if excess < -QUEUED {
                // The earlier ones waited, or the clock of the sender was set forward.
                lateness
            } else if arrival.fresh {
                usual.wrapping_add(excess / 4)
            } else {
                // A hello that waited says nothing about the clocks.
                usual.wrapping_add(1)
            },
            last: old.as_ref().map_or(last, |node| node.last.max(last)),
            excused: old.is_some_and(|node| node.excused) && !arrival.fresh,
        });
    }

    /// The nodes that became silent, by segment.
    pub(crate) fn silence(&mut self, now: Time) -> Vec<(IfIndex, NodeId)> {
        let mut silent = Vec::new();
        if self.next_silence.is_none_or(|at| now < at) {
            return silent;
        }
        self.next_silence = None;
        for (segment, peers) in &mut self.segments {
            for (index, peer) in peers.iter_mut().enumerate() {
                let Some(peer) = peer.as_mut().filter(|peer| peer.alive) else {
                    continue;
                };
                if peer.silent_at() <= now {
                    peer.alive = false;
                    silent.push((*segment, NodeId::from_index(index)));
                } else {
                    let at = peer.silent_at();
                    self.next_silence = Some(self.next_silence.map_or(at, |next| next.min(at)));
                }
            }
        }
        for (_, node) in &silent {
            self.count(*node, false);
        }
        silent
    }

    /// Forgets nodes that were silent for an hour: they were removed from the cluster. Their hellos
    /// of that time are too old to be accepted again.
    pub(crate) fn prune(&mut self, now: Time) {
        if now < self.prune_at {
            return;
        }
        self.prune_at = now + PRUNE_INTERVAL;
        for slot in self.segments.values_mut().flatten() {
            if let Some(peer) = slot
                && !peer.alive
                && peer.last + FORGET_AFTER < now
            {
                *slot = None;
            }
        }
        self.segments
            .retain(|_, peers| peers.iter().any(Option::is_some));
        let segments = &self.segments;
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let received =
                |peers: &Vec<Option<Peer>>| peers.get(index).is_some_and(Option::is_some);
            if !segments.values().any(received) {
                *node = None;
            }
        }
    }

    /// When [`Self::silence`] must be called.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next_silence
    }

    /// This process did not read for a while: nodes count as received at `now`, so that none is
    /// silent because of that.
    pub(crate) fn forgive(&mut self, now: Time) {
        for peer in self.segments.values_mut().flatten().flatten() {
            if peer.alive {
                peer.last = now;
            }
        }
        for (node, segments) in self.nodes.iter_mut().zip(&self.alive_on) {
            if let Some(node) = node {
                node.excused = *segments > 0;
            }
        }
    }

    /// An interface is gone or lost its carrier. Its nodes are silent at once.
    pub(crate) fn cut(&mut self, segment: IfIndex) -> Vec<NodeId> {
        let mut cut = Vec::new();
        let peers = self.segments.get_mut(&segment).into_iter().flatten();
        for (index, peer) in peers.enumerate() {
            if let Some(peer) = peer.as_mut().filter(|peer| peer.alive) {
                peer.alive = false;
                cut.push(NodeId::from_index(index));
            }
        }
        for node in &cut {
            self.count(*node, false);
        }
        cut
    }

    /// The node with an Ethernet address on a segment.
    pub(crate) fn by_mac(&self, segment: IfIndex, mac: Mac) -> Option<NodeId> {
        self.on(segment)
            .find(|(_, peer)| peer.mac == mac)
            .map(|(index, _)| NodeId::from_index(index))
    }
}

const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// Bounds on the interval that a peer announces.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
const MAX_INTERVAL: Duration = Duration::from_secs(60);
