//! An interface, and what it has to send.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::hosts::Hosts;
use super::probes::ProbeFrame;
use super::rate::Limiter;
use super::schedule::{Form, Schedule};
use crate::config::Time;
use crate::interface::{IfIndex, Interface};
use crate::limits::ANSWER_RATE;
use crate::mac::Mac;

/// Many hosts may ask at once, as after a failover.
const ANSWER_BURST: u32 = ANSWER_RATE / 10;

/// A timer may be 10 ms late without a loss of unsolicited frames per second. At low rates the
/// probes of a takeover are not delayed.
fn burst(rate: u32) -> u32 {
    (rate / 100).max(rate.min(8))
}

/// An unsolicited frame.
#[derive(Debug)]
pub(super) enum Unsolicited {
    Announcement(IpAddr, Form),
    Probe(ProbeFrame),
}

#[derive(Debug)]
pub(super) struct InterfaceState {
    index: IfIndex,
    name: Box<str>,
    mac: Mac,
    carrier: bool,
    schedule: Schedule,
    probes: VecDeque<ProbeFrame>,
    unsolicited: Limiter,
    answers: Limiter,
    hosts: Hosts,
}

impl InterfaceState {
    /// Without carrier until [`Self::update`].
    pub(super) fn new(interface: &Interface, rate: u32) -> Self {
        Self {
            index: interface.index,
            name: interface.name.clone(),
            mac: interface.mac,
            carrier: false,
            schedule: Schedule::default(),
            probes: VecDeque::new(),
            unsolicited: Limiter::new(rate, burst(rate)),
            answers: Limiter::new(ANSWER_RATE, ANSWER_BURST),
            hosts: Hosts::default(),
        }
    }

    pub(super) fn index(&self) -> IfIndex {
        self.index
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn mac(&self) -> Mac {
        self.mac
    }

    pub(super) fn carrier(&self) -> bool {
        self.carrier
    }

    pub(super) fn set_rate(&mut self, rate: u32) {
        self.unsolicited.set_rate(rate, burst(rate));
    }

    /// Returns the probes that can't be sent any more.
    pub(super) fn update(
        &mut self,
        now: Time,
        interface: &Interface,
        suspended: bool,
    ) -> VecDeque<ProbeFrame> {
        let changed = (self.mac, self.carrier) != (interface.mac, interface.carrier);
        self.mac = interface.mac;
        self.carrier = interface.carrier;
        if changed {
            self.suspend(now, suspended);
        }
        if self.carrier {
            VecDeque::new()
        } else {
            std::mem::take(&mut self.probes)
        }
    }

    /// Stops announcing, or announces everything again.
    pub(super) fn suspend(&mut self, now: Time, suspended: bool) {
        if suspended || !self.carrier {
            self.schedule.pause();
        } else {
            self.schedule.restart(now);
        }
    }

    pub(super) fn announces(&self, address: IpAddr) -> bool {
        self.schedule.contains(address)
    }

    pub(super) fn schedule_mut(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub(super) fn hosts_mut(&mut self) -> &mut Hosts {
        &mut self.hosts
    }

    /// Whether an answer may be sent now. If so, it counts as sent.
    pub(super) fn take_answer(&mut self, now: Time) -> bool {
        self.answers.take(now)
    }

    /// Returns false without a carrier.
    pub(super) fn queue_probe(&mut self, frame: ProbeFrame) -> bool {
        if self.carrier {
            self.probes.push_back(frame);
        }
        self.carrier
    }

    /// Probes that wait, for an interface that is gone.
    pub(super) fn into_probes(self) -> VecDeque<ProbeFrame> {
        self.probes
    }

    /// The next unsolicited frame that may be sent now: first announcements of addresses, then
    /// probes, then repetitions. It counts as sent.
    pub(super) fn next_unsolicited(&mut self, now: Time) -> Option<Unsolicited> {
        self.schedule.advance(now);
        if !self.schedule.is_due() && self.probes.is_empty() || !self.unsolicited.take(now) {
            return None;
        }
        if !self.schedule.first_is_due()
            && let Some(probe) = self.probes.pop_front()
        {
            return Some(Unsolicited::Probe(probe));
        }
        let (address, form) = self.schedule.take(now)?;
        Some(Unsolicited::Announcement(address, form))
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        if self.schedule.is_due() || !self.probes.is_empty() {
            return Some(self.unsolicited.ready_at());
        }
        self.schedule.next_due()
    }
}
