//! Searches for hosts that have an address.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Interfaces, Time};
use crate::interface::IfIndex;
use crate::mac::Mac;

/// A search for hosts that have an address (RFC 5227 §2.1.1; IPv6: RFC 4862 §5.4). It asks with the
/// sender 0.0.0.0 or ::, so that no neighbor cache changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The address.
    pub(crate) address: IpAddr,
    /// Where to search.
    pub(crate) interfaces: Arc<Interfaces>,
    /// The times.
    pub(crate) timing: Timing,
}

/// The times of a probe. Where a frame waits because of the limit of unsolicited frames per second,
/// they count from the moment when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// The first probe is sent after a random time up to this.
    pub(crate) delay: Duration,
    /// Number of probes.
    pub(crate) count: u8,
    /// The minimum and maximum of the random time between two probes.
    pub(crate) spacing: (Duration, Duration),
    /// From the last probe to the result.
    pub(crate) wait: Duration,
}

impl Timing {
    /// Before the first use of an address: 300 ms in all.
    pub(crate) const FAST: Self = Self {
        delay: Duration::ZERO,
        count: 3,
        spacing: (Duration::from_millis(100), Duration::from_millis(100)),
        wait: Duration::from_millis(100),
    };
    /// Before the first use of an address, by RFC 5227 §1.1: 4 to 7 s in all.
    pub(crate) const RFC_5227: Self = Self {
        delay: Duration::from_secs(1),
        count: 3,
        spacing: (Duration::from_secs(1), Duration::from_secs(2)),
        wait: Duration::from_secs(2),
    };
    /// Before an address of a silent node is taken over: 80 ms in all.
    pub(crate) const TAKEOVER: Self = Self {
        delay: Duration::ZERO,
        count: 2,
        spacing: (Duration::from_millis(40), Duration::from_millis(40)),
        wait: Duration::from_millis(40),
    };
}

/// An answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Where it was received.
    pub(crate) interface: IfIndex,
    /// The Ethernet address of the other host.
    pub(crate) mac: Mac,
    /// The other host does not have the address, but probes it at the same time (RFC 5227 §2.1.1
    /// treats that as a conflict).
    pub(crate) simultaneous: bool,
}

/// The probes that run, at most one for an address.
#[derive(Debug)]
pub(super) struct Probes {
    running: HashMap<IpAddr, Running>,
    timers: BTreeSet<(Time, IpAddr)>,
    last_serial: u64,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Running {
    probe: Probe,
    /// Distinguishes it from earlier probes of the address.
    serial: u64,
    /// Rounds that have not begun. A round is one probe on each interface.
    rounds: u8,
    /// The interfaces on which the probe of this round has not been sent.
    unsent: usize,
    /// The begin of the next round or the end. None while frames are unsent.
    timer: Option<Time>,
    answers: Vec<Answer>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send the probe, then call [`Probes::queued`].
    Round(ProbeFrame, Arc<Interfaces>),
    /// The probe ended.
    End(Ended),
}

/// A frame to be sent on an interface. [`Probes::sent`] must be called for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProbeFrame {
    pub(super) address: IpAddr,
    serial: u64,
}

/// A probe that ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) probe: Probe,
    pub(super) answers: Vec<Answer>,
}

impl Probes {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            running: HashMap::new(),
            timers: BTreeSet::new(),
            last_serial: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The caller ends a running probe of the same address first.
    pub(super) fn start(&mut self, now: Time, probe: Probe) {
        self.last_serial += 1;
        let address = probe.address;
        let at = now + between(&mut self.random, (Duration::ZERO, probe.timing.delay));
        let running = Running {
            serial: self.last_serial,
            rounds: probe.timing.count,
            unsent: 0,
            timer: Some(at),
            answers: Vec::new(),
            probe,
        };
        self.running.insert(address, running);
        self.timers.insert((at, address));
    }

    pub(super) fn end(&mut self, address: IpAddr) -> Option<Ended> {
        let Running {
            probe,
            timer,
            answers,
            ..
        } = self.running.remove(&address)?;
        if let Some(timer) = timer {
            self.timers.remove(&(timer, address));
        }
        Some(Ended { probe, answers })
    }

    /// The addresses that are probed on an interface.
    pub(super) fn on<'a>(&'a self, interface: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
        let running = self.running.values();
        let on = running.filter(|running| running.probe.interfaces.selects(interface));
        on.map(|running| running.probe.address)
    }

    pub(super) fn next_due(&mut self, now: Time) -> Option<Due> {
        let (at, address) = *self.timers.first()?;
        if at > now {
            return None;
        }
        self.timers.pop_first();
        let running = self.running.get_mut(&address)?;
        running.timer = None;
        let Some(rounds) = running.rounds.checked_sub(1) else {
            return self.end(address).map(Due::End);
        };
        running.rounds = rounds;
        let frame = ProbeFrame {
            address,
            serial: running.serial,
        };
        Some(Due::Round(frame, running.probe.interfaces.clone()))
    }

    /// The probe of this round waits to be sent on so many interfaces.
    pub(super) fn queued(&mut self, now: Time, frame: ProbeFrame, interfaces: usize) {
        if let Some(running) = self.running.get_mut(&frame.address) {
            running.unsent = interfaces;
        }
        if interfaces == 0 {
            self.round_sent(now, frame.address);
        }
    }

    /// Whether a frame that waits is still to be sent.
    pub(super) fn wants(&self, frame: ProbeFrame) -> bool {
        let running = self.running.get(&frame.address);
        running.is_some_and(|running| running.serial == frame.serial)
    }

    /// A frame was sent on an interface, or can't be sent there any more.
    pub(super) fn sent(&mut self, now: Time, frame: ProbeFrame) {
        if let Some(running) = self.running.get_mut(&frame.address)
            && running.serial == frame.serial
        {
            running.unsent = running.unsent.saturating_sub(1);
            if running.unsent == 0 {
                self.round_sent(now, frame.address);
            }
        }
    }

    fn round_sent(&mut self, now: Time, address: IpAddr) {
        if let Some(running) = self.running.get_mut(&address) {
            let timing = running.probe.timing;
            let at = now
                + match running.rounds {
                    0 => timing.wait,
                    _ => between(&mut self.random, timing.spacing),
                };
            running.timer = Some(at);
            self.timers.insert((at, address));
        }
    }

    /// Another host has an address, or probes it.
    pub(super) fn answered(&mut self, address: IpAddr, name: &str, answer: Answer) {
        let Some(running) = self.running.get_mut(&address) else {
            return;
        };
        if !running.probe.interfaces.selects(name) {
            return;
        }
        let mut known = running.answers.iter_mut();
        match known.find(|known| (known.interface, known.mac) == (answer.interface, answer.mac)) {
            Some(known) => known.simultaneous &= answer.simultaneous,
            None => running.answers.push(answer),
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.running.contains_key(&address)
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }
}

/// A random time in a range.
fn between(random: &mut fastrand::Rng, (min, max): (Duration, Duration)) -> Duration {
    min + max.saturating_sub(min).mul_f64(random.f64())
}
