//! Which other nodes are alive on which segment, by authenticated hellos.

mod blocked;
mod digest;
mod links;
mod nodes;
mod peers;
mod rejections;
mod segment_use;
mod sender;
mod siblings;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use blocked::Blocked;
pub(crate) use blocked::warning as blocked_warning;
pub(crate) use digest::{Digest, address_hash};
pub(crate) use links::Links;
pub(crate) use nodes::{NodeId, Nodes, mix, text_hash};
pub(crate) use peers::{Arrival, Peer, Peers};
use rejections::Rejections;
use segment_use::SegmentUse;
use sender::Sender;
use siblings::Siblings;

use crate::config::{Identity, Keys, Settings, Time};
use crate::interface::{IfIndex, Interface};
use crate::limits::HELLO_MULTIPLIER;
use crate::status::{Counters, Event, NodeState};
use crate::wire::hello::{Hello, HelloError, Key, Section};
use crate::wire::hello_frame;

/// A node whose clock differs by more is not accepted: its hello may be an old one.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(300);
const WRONG_CLOCK: &str = "its clock differs by more than 5 minutes: set the clocks of both nodes";
const LATE: &str = "its hellos arrive more than 5 seconds late: they are delayed or replayed, or \
     its clock was set back; if their delay stays the same, they are accepted soon";
const SET_BACK: &str = "the clock of the node was set back: by its clock, an earlier process of it \
     started later; if its hellos go on, they are accepted soon";
/// Nodes answer the first hello of another one within this time.
const GREETING_SPREAD: Duration = Duration::from_millis(20);
/// The maximum length of a hello on an interface without a smaller limit.
const MAX_HELLO: usize = 60_000;

/// The other nodes, the interfaces, and the hellos of this node.
#[derive(Debug)]
pub(crate) struct Membership {
    identity: Identity,
    settings: Settings,
    keys: Vec<Key>,
    has_current_key: bool,
    nodes: Nodes,
    links: Links,
    peers: Peers,
    sender: Sender,
    segment_use: SegmentUse,
    rejections: Rejections,
    blocked: Blocked,
    /// The nodes that were alive when an interface failed.
    cut_off: BTreeSet<NodeId>,
    siblings: Siblings,
    /// The wall clock in ms since 1970 at a moment.
    wall_clock: Option<(Time, u64)>,
    busy: bool,
    counters: Counters,
    events: VecDeque<Event>,
}

/// What a hello of this node says, apart from the interface.
#[derive(Debug)]
pub(crate) struct Content {
    /// The state of this node.
    pub(crate) state: NodeState,
    /// Its claims.
    pub(crate) digest: Digest,
    /// Changes and messages.
    pub(crate) sections: Vec<Section>,
}

impl Membership {
    /// Knows no other node and no interface.
    pub(crate) fn new(identity: Identity, settings: Settings) -> Self {
        Self {
            nodes: Nodes::new(identity.node.clone()),
            sender: Sender::new(identity.seed),
            identity,
            settings,
            keys: Vec::new(),
            has_current_key: false,
            links: Links::default(),
            peers: Peers::default(),
            segment_use: SegmentUse::default(),
            rejections: Rejections::default(),
            blocked: Blocked::default(),
            cut_off: BTreeSet::new(),
            siblings: Siblings::default(),
            wall_clock: None,
            busy: true,
            counters: Counters::default(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(crate) fn nodes_mut(&mut self) -> &mut Nodes {
        &mut self.nodes
    }

    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    pub(crate) fn rejections(&self) -> &Rejections {
        &self.rejections
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The interval of this node's hellos while it owns addresses.
    pub(crate) fn interval(&self) -> Duration {
        sender::interval(
            self.settings.hello_interval,
            self.peers.alive_count() + 1,
            true,
        )
    }

    /// Replaces the settings.
    pub(crate) fn set_settings(&mut self, now: Time, settings: Settings) {
        self.settings = settings;
        self.sender.send_soon(now);
    }

    /// Replaces the keys. Returns whether there is a current one.
    pub(crate) fn set_keys(&mut self, now: Time, keys: &Keys) -> bool {
        let all = keys.current.iter().chain(&keys.accepted);
        self.keys = all.map(|key| Key::new(key)).collect();
        self.has_current_key = keys.current.is_some();
        if self.has_current_key {
            self.sender.send_soon(now);
        } else {
            self.sender.stop();
        }
        self.has_current_key
    }

    /// Replaces the nodes that are ready according to the API.
    pub(crate) fn set_ready(&mut self, now: Time, ready: Option<BTreeSet<Arc<str>>>) {
        let ready = ready.unwrap_or_default();
        let nodes = ready.iter().map(|name| self.nodes.intern(name)).collect();
        self.blocked.set_ready(now, nodes);
        self.find_blocked(now);
    }

    /// Whether a node is ready by the API, as this node is, but was never received.
    pub(crate) fn is_blocked(&self, node: NodeId) -> bool {
        self.blocked.contains(node)
    }

    /// The nodes that are ready by the API, but were never received.
    pub(crate) fn blocked(&self) -> impl Iterator<Item = Arc<str>> {
        self.blocked.all().map(|node| self.nodes.name(node))
    }

    fn find_blocked(&mut self, now: Time) {
        let is_rejected = |node| self.rejections.contains(&self.nodes.name(node));
        let new = self.blocked.update(now, &self.peers, is_rejected);
        if new.is_empty() {
            return;
        }
        self.peers.touch();
        for node in new {
            let warning = blocked::warning(&self.nodes.name(node));
            for link in self.links.working() {
                self.events.push_back(Event::InterfaceWarning {
                    interface: link.name.clone(),
                    warning: warning.clone(),
                });
            }
        }
    }

    /// Whether another process of this node is in charge.
    pub(crate) fn is_passive(&self) -> bool {
        self.siblings.is_passive()
    }

    /// The sibling that is ready to take over from this process.
    pub(crate) fn has_successor(&self) -> bool {
        self.siblings.has_successor() && self.peers.is_alive(NodeId::SIBLING)
    }

    /// This process took over from the older one.
    pub(crate) fn activate(&mut self, now: Time) {
        self.siblings.activate();
        self.hurry(now);
    }

    /// An interface appeared or changed. Returns whether its link came up.
    pub(crate) fn set_interface(&mut self, now: Time, interface: Interface) -> bool {
        let index = interface.index;
        if interface.loopback {
            self.siblings.listen(now);
        }
        let works = interface.carrier && !interface.loopback;
        let before = self.links.set(interface);
        let worked = before.is_some_and(|link| link.carrier && !link.loopback);
        if worked && !works {
            self.cut(index);
        }
        self.peers.touch();
        self.sender.send_soon(now);
        works && !worked
    }

    /// An interface is gone.
    pub(crate) fn remove_interface(&mut self, index: IfIndex) {
        self.cut(index);
        self.links.remove(index);
        self.segment_use.forget(index);
        self.rejections.forget(index);
    }

    fn cut(&mut self, index: IfIndex) {
        if !self
            .links
            .all()
            .any(|link| link.carrier && link.index != index)
        {
            self.sender.stop();
        }
        for node in self.peers.cut(index) {
            self.cut_off.insert(node);
            self.events.push_back(Event::PeerDown {
                node: self.nodes.name(node),
                interface: self.links.name(index),
            });
        }
    }

    /// The wall clock shows `milliseconds` since 1970.
    pub(crate) fn set_wall_clock(&mut self, now: Time, milliseconds: u64) {
        self.wall_clock = Some((now, milliseconds));
    }

    /// The wall clock in ms since 1970. Before the first report of the clock: since the start of
    /// this process.
    fn wall(&mut self, now: Time) -> u64 {
        let instance = self.identity.instance;
        let (at, milliseconds) = *self.wall_clock.get_or_insert((now, instance));
        let since = now.saturating_sub(at).as_millis();
        milliseconds.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// The payload of a frame to the group of hellos. Returns the sender if it is accepted.
    pub(crate) fn receive(
        &mut self,
        now: Time,
        index: IfIndex,
        payload: &[u8],
    ) -> Option<(Arrival, Hello)> {
        let link = self.links.get(index)?;
        let loopback = link.loopback;
        let hello = match Hello::decode(payload, self.settings.cluster, &self.keys) {
            Ok(hello) => hello,
            Err(error) => {
                self.reject_undecoded(now, index, &error);
                return None;
            }
        };
        let ours = hello.node == self.identity.node;
        if ours && hello.instance == self.identity.instance || loopback && !ours {
            return None;
        }
        if ours && !loopback {
            let why = "another host has the name of this node";
            self.reject(now, index, &hello.node, why);
            return None;
        }
        let node = if ours {
            NodeId::SIBLING
        } else {
            self.nodes.intern(&hello.node)
        };
        if let Err(why) = self.check_age(now, index, node, &hello) {
            self.counters.hellos_replayed += 1;
            if let Some(why) = why {
                self.reject(now, index, &hello.node, why);
            }
            return None;
        }
        self.rejections.remove(index, &hello.node);
        self.counters.hellos_received += 1;
        let arrival = self.peers.receive(now, index, node, &hello);
        self.counters.hellos_late += u64::from(arrival.late);
        if ours {
            self.siblings.receive(self.identity.instance, &hello);
            if arrival.up {
                self.sender.send_soon(now);
            }
            return Some((arrival, hello));
        }
        self.blocked.received(node);
        if arrival.up {
            self.events.push_back(Event::PeerUp {
                node: hello.node.clone(),
                interface: self.links.name(index),
            });
            self.sender.send_within(now, GREETING_SPREAD);
        }
        Some((arrival, hello))
    }

    fn reject_undecoded(&mut self, now: Time, index: IfIndex, error: &HelloError) {
        match error {
            HelloError::UnknownKey(node) => {
                self.counters.hellos_unauthenticated += 1;
                let why = if self.has_current_key {
                    "it uses another key: compare the Secret on both nodes"
                } else {
                    "this node has no key"
                };
                self.reject_unauthenticated(now, index, node, why);
            }
            HelloError::Unauthenticated(node) => {
                self.counters.hellos_unauthenticated += 1;
                let why = "the authentication of a hello is wrong";
                self.reject_unauthenticated(now, index, node, why);
            }
            _ => self.counters.hellos_ignored += 1,
        }
    }

    /// Any host can send such a hello in the name of a node. While valid hellos of the node arrive,
    /// it says nothing about the node.
    fn reject_unauthenticated(&mut self, now: Time, index: IfIndex, node: &Arc<str>, why: &str) {
        let id = self.nodes.get(node);
        if !id.is_some_and(|id| self.peers.is_alive_on(index, id)) {
            self.reject(now, index, node, why);
        }
    }

    fn reject(&mut self, now: Time, index: IfIndex, node: &Arc<str>, why: &str) {
        let is_known = self.nodes.get(node).is_some();
        if self.rejections.add(now, (index, node), is_known, why) {
            self.events.push_back(Event::PeerRejected {
                interface: self.links.name(index),
                node: node.clone(),
                why: why.into(),
            });
        }
    }

    /// Checks that a hello was neither received before nor is an old one.
    ///
    /// # Errors
    /// The reason, if an operator should know it.
    fn check_age(
        &mut self,
        now: Time,
        index: IfIndex,
        node: NodeId,
        hello: &Hello,
    ) -> Result<(), Option<&'static str>> {
        let known = self.peers.node(node).map(|facts| facts.instance);
        if known == Some(hello.instance) {
            return if self.peers.is_repeated(index, node, hello) {
                Err(None)
            } else if self.peers.is_timely(now, node, hello) {
                Ok(())
            } else {
                Err(Some(LATE))
            };
        }
        let wall = self.wall(now);
        if Duration::from_millis(hello.sent.abs_diff(wall)) > MAX_CLOCK_DIFFERENCE {
            return Err(Some(WRONG_CLOCK));
        }
        if known.is_none_or(|known| hello.instance > known) {
            return Ok(());
        }
        // A process that ended, or the clock of the node was set back between the starts of two
        // processes.
        if self.peers.is_alive(node) {
            Err(None)
        } else if self.peers.is_steady(now, node, hello) {
            Ok(())
        } else {
            Err(Some(SET_BACK))
        }
    }

    /// How long this process did not send, if peers may soon take over because of that.
    pub(crate) fn gap(&self, now: Time) -> Option<Duration> {
        self.sender.gap(now)
    }

    /// This process or its link was deaf. Returns the nodes that were alive before.
    pub(crate) fn wake(&mut self, now: Time) -> BTreeSet<NodeId> {
        self.peers.forgive(now);
        self.sender.stop();
        self.sender.send_soon(now);
        let mut nodes = std::mem::take(&mut self.cut_off);
        nodes.extend(self.nodes.all().filter(|node| self.peers.is_alive(*node)));
        nodes
    }

    /// Sets the segments on which an address may be announced.
    pub(crate) fn set_segments_in_use(&mut self, segments: BTreeSet<IfIndex>) {
        self.segment_use.set(segments);
    }

    /// The next hello must not wait for its time.
    pub(crate) fn hurry(&mut self, now: Time) {
        if self.has_current_key {
            self.sender.send_soon(now);
        }
    }

    /// Whether hellos must be frequent.
    pub(crate) fn set_busy(&mut self, now: Time, busy: bool) {
        if busy && !self.busy {
            self.hurry(now);
        }
        self.busy = busy;
    }

    /// Finds silent nodes.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.find_blocked(now);
        for (index, node) in self.peers.silence(now) {
            if node == NodeId::SIBLING {
                self.siblings.silent();
                continue;
            }
            self.events.push_back(Event::PeerDown {
                node: self.nodes.name(node),
                interface: self.links.name(index),
            });
        }
    }

    /// When [`Self::handle_timeout`] or [`Self::hellos`] must be called.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let send = self.sender.poll_timeout().filter(|_| self.has_current_key);
        [
            send.filter(|_| self.links.all().any(|link| link.carrier)),
            self.peers.poll_timeout(),
            self.blocked.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The kernel did not take a hello.
    pub(crate) fn hello_refused(&mut self, index: IfIndex) {
        if self.links.get(index).is_some_and(|link| !link.loopback) {
            self.sender.refused();
        }
    }

    /// The interval up to the next hello, if one is due.
    pub(crate) fn due(&self, now: Time) -> Option<Duration> {
        let sends = self.has_current_key && self.links.all().any(|link| link.carrier);
        let due = sends && self.sender.poll_timeout().is_some_and(|at| at <= now);
        due.then(|| {
            let nodes = self.peers.alive_count() + 1;
            sender::interval(self.settings.hello_interval, nodes, self.busy)
        })
    }

    /// The frames of a hello that is due.
    pub(crate) fn hellos(
        &mut self,
        now: Time,
        interval: Duration,
        content: &Content,
    ) -> Vec<(IfIndex, Vec<u8>)> {
        self.sender.sent(now, interval);
        let mut on_wire_count = 0;
        self.peers.prune(now);
        self.rejections.prune(now);
        let wall = self.wall(now);
        let mut frames = Vec::new();
        let Some(key) = self.keys.first() else {
            return frames;
        };
        let on_wire = self.siblings.may_send(now);
        let links = self.links.all().filter(|link| link.carrier);
        // Nodes may have lost the segment that an address needs, and must receive on another one
        // that they are its successors.
        let urgent = content.state != NodeState::Ready
            || content
                .sections
                .iter()
                .any(|section| !matches!(section, Section::Claims(_) | Section::Intents(_)));
        for link in links.filter(|link| on_wire || link.loopback) {
            let here = if link.loopback {
                Some(interval)
            } else {
                self.segment_use.interval(now, link.index, interval, urgent)
            };
            let Some(interval) = here else {
                continue;
            };
            let mtu = usize::try_from(link.mtu).unwrap_or(MAX_HELLO);
            let room = mtu.saturating_sub(hello_frame::OVERHEAD).min(MAX_HELLO);
            let hello = Hello {
                cluster: self.settings.cluster,
                node: self.identity.node.clone(),
                instance: self.identity.instance,
                sequence: self.sender.next_sequence(),
                sent: wall,
                state: content.state,
                interval,
                multiplier: HELLO_MULTIPLIER,
                owned: content.digest.count,
                digest: content.digest.hash,
                mac: link.mac,
                networks: link.networks.clone(),
                sections: content.sections.clone(),
            };
            for hello in hello.split(room) {
                self.sender.used_sequence(hello.sequence);
                let payload = hello.encode(key);
                let frame = hello_frame::encapsulate(link.mac, source(link), &payload);
                frames.push((link.index, frame));
                self.counters.hellos_sent += 1;
                on_wire_count += usize::from(!link.loopback);
            }
        }
        self.sender.set_frames(on_wire_count);
        frames
    }
}

/// The source address of hellos: without an address of its own, an interface can send as well.
fn source(link: &Interface) -> IpAddr {
    let addresses = || link.networks.iter().map(IpNet::addr);
    addresses()
        .find(IpAddr::is_ipv4)
        .or_else(|| addresses().next())
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
