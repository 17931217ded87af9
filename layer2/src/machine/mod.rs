//! The engine without I/O.

mod report;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::config::{Command, Identity, Settings, Time};
pub use crate::interface::GroupChange;
use crate::interface::{IfIndex, Interface};
use crate::membership::{Content, Membership, NodeId};
use crate::ownership::{Context, Effect, Ownership};
use crate::responder::{Observation, Responder};
use crate::status::Event;
use crate::wire::hello_frame;

/// The engine of one node.
#[derive(Debug)]
pub struct Machine {
    membership: Membership,
    ownership: Ownership,
    responder: Responder,
    service_proxy: BTreeSet<IpAddr>,
    frames: VecDeque<(IfIndex, Vec<u8>)>,
    events: VecDeque<Event>,
    /// Whether addresses or interfaces changed since the last hello.
    segments_changed: bool,
}

/// An input of [`Machine::handle`].
#[derive(Debug)]
pub enum Input<'a> {
    /// A received Ethernet frame.
    Frame(IfIndex, &'a [u8]),
    /// An interface appeared or changed.
    Interface(Interface),
    /// An interface is gone or can't be used any more.
    InterfaceGone(IfIndex),
    /// The addresses of the interface `kube-ipvs0` of this node. The kernel itself answers ARP for
    /// them on all interfaces, unless `arp_ignore` is set (kube-proxy: `ipvs.strictARP`).
    ServiceProxyAddresses(BTreeSet<IpAddr>),
    /// A command.
    Command(Command),
}

impl Machine {
    /// An engine that knows no interface and no address.
    pub fn new(identity: Identity, settings: Settings) -> Self {
        let responder = Responder::new(settings.gratuitous_rate, identity.seed);
        Self {
            membership: Membership::new(identity, settings),
            ownership: Ownership::new(),
            responder,
            service_proxy: BTreeSet::new(),
            frames: VecDeque::new(),
            events: VecDeque::new(),
            segments_changed: true,
        }
    }

    /// Reports the wall clock, in milliseconds since 1970. Hellos contain it. Call it before frames
    /// and timers are handled: the clock may be set at any time.
    pub fn set_wall_clock(&mut self, now: Time, milliseconds: u64) {
        self.membership.set_wall_clock(now, milliseconds);
    }

    /// The kernel did not take a frame of [`Machine::next_frame`]. A node whose hellos are refused
    /// is silent to its peers, and stops answering as after a stall.
    pub fn frame_refused(&mut self, interface: IfIndex, frame: &[u8]) {
        if hello_frame::decapsulate(frame).is_some() {
            self.membership.hello_refused(interface);
        }
    }

    /// Handles an input. `now` never decreases.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        if self.ownership.is_ended() {
            return;
        }
        self.check_stall(now);
        self.segments_changed |= !matches!(input, Input::Frame(..));
        match input {
            Input::Frame(index, frame) => self.receive(now, index, frame),
            Input::Interface(interface) => self.set_interface(now, interface),
            Input::InterfaceGone(index) => self.remove_interface(now, index),
            Input::ServiceProxyAddresses(addresses) => self.service_proxy = addresses,
            Input::Command(command) => self.command(now, command),
        }
        self.settle_effects(now);
    }

    /// Handles the timers that expired. The driver reads all pending frames first.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.ownership.is_ended() {
            return;
        }
        self.check_stall(now);
        self.membership.handle_timeout(now);
        self.responder.handle_timeout(now);
        self.settle_effects(now);
        let (ownership, context) = self.parts(now);
        ownership.handle_timeout(&context);
        self.settle_effects(now);
        self.send_hellos(now);
    }

    /// When [`Machine::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.ownership.is_ended() {
            return None;
        }
        [
            self.membership.poll_timeout(),
            self.ownership.poll_timeout(self.membership.interval()),
            self.responder.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next frame to send.
    pub fn next_frame(&mut self) -> Option<(IfIndex, Vec<u8>)> {
        self.frames
            .pop_front()
            .or_else(|| self.responder.next_frame())
    }

    /// The next group to join or leave.
    pub fn next_group_change(&mut self) -> Option<GroupChange> {
        self.responder.next_group_change()
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ownership, and what it reads of the other parts.
    fn parts(&mut self, now: Time) -> (&mut Ownership, Context<'_>) {
        let context = Context {
            now,
            membership: &self.membership,
            responder: &self.responder,
            service_proxy: &self.service_proxy,
        };
        (&mut self.ownership, context)
    }

    /// This process did not run for so long that peers may have taken over.
    fn check_stall(&mut self, now: Time) {
        if let Some(gap) = self.membership.gap(now) {
            let awaited = self.membership.wake(now);
            self.ownership.count_stall(gap);
            self.ownership.wake(now, awaited);
            self.settle_effects(now);
        }
    }

    fn receive(&mut self, now: Time, index: IfIndex, frame: &[u8]) {
        let Some((_, payload)) = hello_frame::decapsulate(frame) else {
            self.responder.receive(now, index, frame);
            return;
        };
        if let Some((arrival, hello)) = self.membership.receive(now, index, payload) {
            let (ownership, context) = self.parts(now);
            ownership.receive(&context, &arrival, &hello);
            if arrival.fresh && arrival.node != NodeId::SIBLING {
                ownership.hello_witness(now, index);
            }
        }
    }

    fn set_interface(&mut self, now: Time, interface: Interface) {
        let index = interface.index;
        let came_up = self.membership.set_interface(now, interface.clone());
        self.ownership.set_link(now, self.has_link());
        if came_up && self.was_deaf(index) {
            let awaited = self.membership.wake(now);
            self.ownership.wake(now, awaited);
            self.settle_effects(now);
        }
        // Last, because it announces on a new link unless it is suspended.
        self.responder.set_interface(now, &interface);
    }

    /// Whether a link that came up is the only one on which peers can be received.
    fn was_deaf(&self, came_up: IfIndex) -> bool {
        let peers = self.membership.peers();
        !self
            .membership
            .links()
            .working()
            .filter(|link| link.index != came_up)
            .any(|link| !peers.any_known() || peers.any_alive_on(link.index))
    }

    fn has_link(&self) -> bool {
        self.membership.links().working().next().is_some()
    }

    fn remove_interface(&mut self, now: Time, index: IfIndex) {
        self.responder.remove_interface(now, index);
        self.membership.remove_interface(index);
        self.ownership.forget_interface(index);
        self.ownership.set_link(now, self.has_link());
    }

    fn command(&mut self, now: Time, command: Command) {
        match command {
            Command::Settings(settings) => {
                self.responder.set_gratuitous_rate(settings.gratuitous_rate);
                self.membership.set_settings(now, settings);
            }
            Command::Keys(keys) => {
                let has_key = self.membership.set_keys(now, &keys);
                self.ownership.set_key(now, has_key);
            }
            Command::SetAddress(address, spec) => {
                let nodes = self.membership.nodes_mut();
                self.ownership.set_address(now, nodes, address, spec);
            }
            Command::RemoveAddress(address) => self.ownership.remove_address(now, address),
            Command::AddressesComplete => self.ownership.complete(),
            Command::ReadyNodes(ready) => self.membership.set_ready(now, ready),
            Command::Move(address, node) => {
                let (ownership, context) = self.parts(now);
                ownership.move_to(&context, address, &node);
            }
            Command::SelfTest(address) => {
                let (ownership, context) = self.parts(now);
                ownership.test(&context, address);
            }
            Command::Leave { restarting } => {
                let (ownership, context) = self.parts(now);
                ownership.leave(&context, restarting);
            }
        }
    }

    /// Passes on what the parts want from each other, until they want nothing more.
    fn settle_effects(&mut self, now: Time) {
        loop {
            while let Some(observation) = self.responder.next_observation() {
                self.observe(now, observation);
            }
            let Some(effect) = self.ownership.next_effect() else {
                break;
            };
            self.apply(now, effect);
        }
        while let Some(event) = self.membership.next_event() {
            self.events.push_back(event);
        }
        self.ownership.peers_changed(&self.membership, now);
        self.membership.set_busy(now, self.ownership.is_busy());
        if self.ownership.take_urgent() {
            self.membership.hurry(now);
        }
    }

    fn observe(&mut self, now: Time, observation: Observation) {
        let (ownership, context) = self.parts(now);
        match observation {
            Observation::ProbeResult { address, answers } => {
                ownership.probed(&context, address, &answers);
            }
            Observation::Foreign { interface, .. } => ownership.witness(now, interface),
            Observation::Conflict {
                interface,
                mac,
                address,
            } => ownership.contested(&context, interface, mac, address),
        }
    }

    fn apply(&mut self, now: Time, effect: Effect) {
        match effect {
            Effect::Announce(address, interfaces) => {
                self.responder.announce(now, address, interfaces);
            }
            Effect::Withdraw(address) => self.responder.withdraw(address),
            Effect::AnnounceAgain(address) => self.responder.announce_again(now, address),
            Effect::Defend(address) => self.responder.defend(address),
            Effect::Suspend(suspended) => self.responder.suspend(now, suspended),
            Effect::Probe(probe) => self.responder.probe(now, probe),
            Effect::CancelProbe(address) => self.responder.cancel_probe(address),
            Effect::Activate => self.membership.activate(now),
            Effect::Event(event) => self.events.push_back(event),
        }
    }

    fn send_hellos(&mut self, now: Time) {
        let Some(interval) = self.membership.due(now) else {
            return;
        };
        if std::mem::take(&mut self.segments_changed) {
            let segments = self.ownership.segments_in_use(self.membership.links());
            self.membership.set_segments_in_use(segments);
        }
        let content = Content {
            state: self.ownership.state(),
            digest: self.ownership.digest(),
            sections: self.ownership.sections(self.membership.nodes(), interval),
        };
        self.frames
            .extend(self.membership.hellos(now, interval, &content));
    }
}
