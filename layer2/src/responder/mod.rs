//! Answers ARP and NDP for addresses, announces them with unsolicited frames, and probes addresses.
//! It knows no nodes and decides nothing: see `ownership`.

mod frames;
mod groups;
mod hosts;
mod interface_state;
mod outbox;
mod probes;
mod rate;
mod received;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use self::groups::Groups;
use self::interface_state::{InterfaceState, Unsolicited};
use self::outbox::{Kind, Outbox, Outgoing};
pub(crate) use self::probes::{Answer, Probe, Timing};
use self::probes::{Due, Ended, Probes};
use self::received::Received;
use crate::config::{Interfaces, Time};
use crate::interface::{GroupChange, IfIndex, Interface};
use crate::mac::Mac;
use crate::status::{Counters, Traffic};

/// What the responder learned from frames of other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// A probe ended.
    ProbeResult {
        /// The address.
        address: IpAddr,
        /// Who answered: one entry per interface and Ethernet address.
        answers: Vec<Answer>,
    },
    /// A frame of another host: the link works. At most one per Ethernet address in 100 ms.
    Foreign {
        /// Where it was received.
        interface: IfIndex,
        /// Its source.
        mac: Mac,
        /// An address of that host, if the frame contains it.
        address: Option<IpAddr>,
    },
    /// Another host uses an address that is announced here (RFC 5227 §2.4).
    Conflict {
        /// Where its frame was received.
        interface: IfIndex,
        /// The Ethernet address that its frame gives for the address.
        mac: Mac,
        /// The address.
        address: IpAddr,
    },
}

/// Answers, announces and probes on all interfaces of this node.
#[derive(Debug)]
pub(crate) struct Responder {
    rate: u32,
    suspended: bool,
    interfaces: BTreeMap<IfIndex, InterfaceState>,
    /// The Ethernet addresses of the interfaces.
    own: BTreeSet<Mac>,
    announced: HashMap<IpAddr, Announced>,
    last_serial: u32,
    probes: Probes,
    groups: Groups,
    outbox: Outbox,
    observations: VecDeque<Observation>,
    total: Traffic,
    answers_limited: u64,
}

#[derive(Debug)]
struct Announced {
    interfaces: Arc<Interfaces>,
    /// Greater for addresses that were announced later.
    serial: u32,
    traffic: Traffic,
}

impl Responder {
    /// Without interface and address. `rate`: unsolicited frames per second and interface.
    pub(crate) fn new(rate: u32, seed: u64) -> Self {
        Self {
            rate,
            suspended: false,
            interfaces: BTreeMap::new(),
            own: BTreeSet::new(),
            announced: HashMap::new(),
            last_serial: 0,
            probes: Probes::new(seed),
            groups: Groups::default(),
            outbox: Outbox::default(),
            observations: VecDeque::new(),
            total: Traffic::default(),
            answers_limited: 0,
        }
    }

    /// Replaces the number of unsolicited frames per second and interface.
    pub(crate) fn set_gratuitous_rate(&mut self, rate: u32) {
        if self.rate == rate {
            return;
        }
        self.rate = rate;
        for state in self.interfaces.values_mut() {
            state.set_rate(rate);
        }
    }

    /// An interface appeared or changed. After a new link or another Ethernet address all
    /// addresses are announced on it again. Loopback interfaces are ignored.
    pub(crate) fn set_interface(&mut self, now: Time, interface: &Interface) {
        let index = interface.index;
        let known = self.interfaces.get(&index);
        if interface.loopback || known.is_some_and(|known| known.name() != &*interface.name) {
            self.remove_interface(now, index);
        }
        if interface.loopback {
            return;
        }
        if !self.interfaces.contains_key(&index) {
            let state = self.new_interface(now, interface);
            self.interfaces.insert(index, state);
        }
        let mut lost = VecDeque::new();
        if let Some(state) = self.interfaces.get_mut(&index) {
            lost = state.update(now, interface, self.suspended);
        }
        self.own = self.interfaces.values().map(InterfaceState::mac).collect();
        if !interface.carrier {
            self.outbox.remove_interface(index);
        }
        for frame in lost {
            self.probes.sent(now, frame);
        }
    }

    fn new_interface(&mut self, now: Time, interface: &Interface) -> InterfaceState {
        let mut state = InterfaceState::new(interface, self.rate);
        for (address, announced) in &self.announced {
            if announced.interfaces.selects(&interface.name) {
                state.schedule_mut().start(now, *address, announced.serial);
                self.groups.add(interface.index, *address);
            }
        }
        for address in self.probes.on(&interface.name) {
            self.groups.add(interface.index, address);
        }
        state
    }

    /// An interface is gone.
    pub(crate) fn remove_interface(&mut self, now: Time, interface: IfIndex) {
        let Some(state) = self.interfaces.remove(&interface) else {
            return;
        };
        self.own = self.interfaces.values().map(InterfaceState::mac).collect();
        self.groups.remove_interface(interface);
        self.outbox.remove_interface(interface);
        for frame in state.into_probes() {
            self.probes.sent(now, frame);
        }
    }

    /// Answers for an address from now on, and announces it. If it is announced already, only the
    /// interfaces change.
    pub(crate) fn announce(&mut self, now: Time, address: IpAddr, interfaces: Arc<Interfaces>) {
        self.last_serial = self.last_serial.wrapping_add(1);
        let announced = self.announced.entry(address).or_insert_with(|| Announced {
            interfaces: Arc::clone(&interfaces),
            serial: self.last_serial,
            traffic: Traffic::default(),
        });
        announced.interfaces = interfaces;
        for state in self.interfaces.values_mut() {
            let selected = announced.interfaces.selects(state.name());
            match (selected, state.announces(address)) {
                (true, false) => {
                    state.schedule_mut().start(now, address, announced.serial);
                    self.groups.add(state.index(), address);
                }
                (false, true) => {
                    state.schedule_mut().stop(address);
                    self.groups.remove(state.index(), address);
                    self.outbox.withdraw(Some(state.index()), Some(address));
                }
                _ => {}
            }
        }
    }

    /// Sends nothing for an address any more, not even frames that [`Self::next_frame`] would have
    /// returned.
    pub(crate) fn withdraw(&mut self, address: IpAddr) {
        if self.announced.remove(&address).is_none() {
            return;
        }
        for state in self.interfaces.values_mut() {
            if state.announces(address) {
                state.schedule_mut().stop(address);
                self.groups.remove(state.index(), address);
            }
        }
        self.outbox.withdraw(None, Some(address));
    }

    /// While suspended, nothing is answered and nothing is announced; probes go on. Afterwards all
    /// addresses are announced again.
    pub(crate) fn suspend(&mut self, now: Time, suspended: bool) {
        if self.suspended == suspended {
            return;
        }
        self.suspended = suspended;
        for state in self.interfaces.values_mut() {
            state.suspend(now, suspended);
        }
        if suspended {
            self.outbox.withdraw(None, None);
        }
    }

    /// Announces an address as if it were new.
    pub(crate) fn announce_again(&mut self, now: Time, address: IpAddr) {
        let Some(announced) = self.announced.get_mut(&address) else {
            return;
        };
        self.last_serial = self.last_serial.wrapping_add(1);
        announced.serial = self.last_serial;
        for state in self.interfaces.values_mut() {
            if state.announces(address) {
                state.schedule_mut().start(now, address, announced.serial);
            }
        }
    }

    /// Announces an address once, to defend it (RFC 5227 §2.4). The caller limits the rate.
    pub(crate) fn defend(&mut self, address: IpAddr) {
        for state in self.interfaces.values_mut() {
            state.schedule_mut().hasten(address);
        }
    }

    /// Starts a probe. A probe of the same address that runs is replaced, and has no result of its
    /// own. Without an interface that has a carrier the result has no answers.
    pub(crate) fn probe(&mut self, now: Time, probe: Probe) {
        self.cancel_probe(probe.address);
        for state in self.interfaces.values() {
            if probe.interfaces.selects(state.name()) {
                self.groups.add(state.index(), probe.address);
            }
        }
        self.probes.start(now, probe);
    }

    /// Whether an address is probed.
    pub(crate) fn is_probing(&self, address: IpAddr) -> bool {
        self.probes.contains(address)
    }

    /// Ends a probe without a result.
    pub(crate) fn cancel_probe(&mut self, address: IpAddr) {
        if let Some(ended) = self.probes.end(address) {
            self.leave_groups(&ended.probe);
        }
    }

    fn leave_groups(&mut self, probe: &Probe) {
        for state in self.interfaces.values() {
            if probe.interfaces.selects(state.name()) {
                self.groups.remove(state.index(), probe.address);
            }
        }
    }

    fn probe_ended(&mut self, Ended { probe, answers }: Ended) {
        self.leave_groups(&probe);
        self.observations.push_back(Observation::ProbeResult {
            address: probe.address,
            answers,
        });
    }

    /// Handles an Ethernet frame. Frames that are neither ARP nor NDP are ignored, and those of an
    /// interface without carrier: they were received before the link was lost.
    pub(crate) fn receive(&mut self, now: Time, interface: IfIndex, frame: &[u8]) {
        let Some(state) = self.interfaces.get_mut(&interface) else {
            return;
        };
        let Some(received) = Received::decode(frame) else {
            return;
        };
        let source = received.source;
        let states = received.states();
        if !state.carrier()
            || !received.is_for(state.mac())
            || source.is_multicast()
            || self.own.contains(&source)
            || states.is_some_and(|(_, mac)| self.own.contains(&mac))
        {
            return;
        }
        let address = states.map(|(address, _)| address);
        if state.hosts_mut().observe(now, source, address) {
            self.observations.push_back(Observation::Foreign {
                interface,
                mac: source,
                address,
            });
        }
        if let Some((address, mac)) = states {
            self.stated(interface, address, mac);
        }
        if let Some(address) = received.asks() {
            if received.is_probe() {
                self.answered(interface, address, source, true);
            }
            self.asked(now, interface, address, &received);
        }
    }

    /// Another host states to have an address.
    fn stated(&mut self, interface: IfIndex, address: IpAddr, mac: Mac) {
        self.answered(interface, address, mac, false);
        let state = self.interfaces.get(&interface);
        if state.is_some_and(|state| state.announces(address)) {
            self.observations.push_back(Observation::Conflict {
                interface,
                mac,
                address,
            });
        }
    }

    fn answered(&mut self, interface: IfIndex, address: IpAddr, mac: Mac, simultaneous: bool) {
        let Some(state) = self.interfaces.get(&interface) else {
            return;
        };
        let answer = Answer {
            interface,
            mac,
            simultaneous,
        };
        self.probes.answered(address, state.name(), answer);
    }

    /// Another host asks for an address.
    fn asked(&mut self, now: Time, interface: IfIndex, address: IpAddr, request: &Received) {
        let Some(state) = self.interfaces.get_mut(&interface) else {
            return;
        };
        if !state.announces(address) {
            return;
        }
        self.total.requests += 1;
        if let Some(announced) = self.announced.get_mut(&address) {
            announced.traffic.requests += 1;
        }
        if self.suspended {
            return;
        }
        let Some(frame) = request.answer(state.mac()) else {
            return;
        };
        if !state.take_answer(now) {
            self.answers_limited += 1;
            return;
        }
        self.outbox.push(Outgoing {
            interface,
            address,
            kind: Kind::Answer,
            frame,
        });
    }

    /// Handles the timers that expired.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        while let Some(due) = self.probes.next_due(now) {
            match due {
                Due::Round(frame, interfaces) => {
                    let selected = self.interfaces.values_mut();
                    let queued = selected
                        .filter(|state| interfaces.selects(state.name()))
                        .filter_map(|state| state.queue_probe(frame).then_some(()))
                        .count();
                    self.probes.queued(now, frame, queued);
                }
                Due::End(ended) => self.probe_ended(ended),
            }
        }
        for state in self.interfaces.values_mut() {
            while let Some(unsolicited) = state.next_unsolicited(now) {
                let (address, kind, frame) = match unsolicited {
                    Unsolicited::Announcement(address, form) => {
                        let frame = frames::announcement(state.mac(), address, form);
                        (address, Kind::Gratuitous, frame)
                    }
                    Unsolicited::Probe(probe) => {
                        if !self.probes.wants(probe) {
                            continue;
                        }
                        self.probes.sent(now, probe);
                        let frame = frames::probe(state.mac(), probe.address);
                        (probe.address, Kind::Probe, frame)
                    }
                };
                self.outbox.push(Outgoing {
                    interface: state.index(),
                    address,
                    kind,
                    frame,
                });
            }
        }
    }

    /// When [`Self::handle_timeout`] must be called: possibly a moment in the past.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let interfaces = self.interfaces.values();
        let interfaces = interfaces.filter_map(InterfaceState::poll_timeout);
        interfaces.chain(self.probes.poll_timeout()).min()
    }

    /// The next frame to send.
    pub(crate) fn next_frame(&mut self) -> Option<(IfIndex, Vec<u8>)> {
        let outgoing = self.outbox.pop()?;
        let announced = self.announced.get_mut(&outgoing.address);
        let of_address = announced.map(|announced| &mut announced.traffic);
        for traffic in [Some(&mut self.total), of_address].into_iter().flatten() {
            match outgoing.kind {
                Kind::Answer => traffic.responses += 1,
                Kind::Gratuitous => traffic.gratuitous += 1,
                Kind::Probe => {}
            }
        }
        Some((outgoing.interface, outgoing.frame))
    }

    /// The next observation.
    pub(crate) fn next_observation(&mut self) -> Option<Observation> {
        self.observations.pop_front()
    }

    /// The next group to join or leave.
    pub(crate) fn next_group_change(&mut self) -> Option<GroupChange> {
        self.groups.next_change()
    }

    /// Up to eight other hosts, the most recent first.
    pub(crate) fn recent_hosts(&self, interface: IfIndex) -> Vec<(IpAddr, Mac)> {
        let state = self.interfaces.get(&interface);
        state.map_or_else(Vec::new, |state| state.hosts().recent().collect())
    }

    /// The interfaces on which an address is announced: those that are selected and have a carrier.
    pub(crate) fn interfaces(&self, address: IpAddr) -> Vec<Box<str>> {
        let states = self.interfaces.values();
        let states = states.filter(|state| state.carrier() && state.announces(address));
        states.map(|state| state.name().into()).collect()
    }

    /// Frames for an address since it was announced.
    pub(crate) fn traffic(&self, address: IpAddr) -> Traffic {
        let announced = self.announced.get(&address);
        announced.map_or_else(Traffic::default, |announced| announced.traffic)
    }

    /// Adds the responder's counters to others.
    pub(crate) fn count(&self, counters: &mut Counters) {
        counters.requests_received += self.total.requests;
        counters.responses_sent += self.total.responses;
        counters.gratuitous_sent += self.total.gratuitous;
        counters.answers_limited += self.answers_limited;
    }
}
