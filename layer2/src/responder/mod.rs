//! Answers ARP and NDP for addresses, announces them with unsolicited frames, and probes addresses.
//! It knows no nodes and decides nothing: see `ownership`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Interfaces, Time};
use crate::interface::{GroupChange, IfIndex, Interface};
use crate::mac::Mac;
use crate::status::{Counters, Traffic};

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
    /// Whether the search goes on after the first answer, so that the result has all answers.
    pub(crate) collect: bool,
}

/// The times of a probe.
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

/// What the responder learned from frames of other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// A probe ended.
    ProbeResult {
        /// The address.
        address: IpAddr,
        /// Who answered: at most one entry unless the probe collects answers. One entry per
        /// interface and Ethernet address.
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

/// Answers, announces and probes on all interfaces of this node.
#[derive(Debug)]
pub(crate) struct Responder {}

impl Responder {
    /// Without interface and address. `rate`: unsolicited frames per second and interface.
    pub(crate) fn new(rate: u32, seed: u64) -> Self {
        _ = (rate, seed);
        Self {}
    }

    /// Replaces the number of unsolicited frames per second and interface.
    pub(crate) fn set_gratuitous_rate(&mut self, rate: u32) {
        _ = rate;
    }

    /// An interface appeared or changed. After a new link or another Ethernet address all
    /// addresses are announced on it again. Loopback interfaces are ignored.
    pub(crate) fn set_interface(&mut self, now: Time, interface: &Interface) {
        _ = (now, interface);
    }

    /// An interface is gone.
    pub(crate) fn remove_interface(&mut self, now: Time, interface: IfIndex) {
        _ = (now, interface);
    }

    /// Answers for an address from now on, and announces it. If it is announced already, only the
    /// interfaces change.
    pub(crate) fn announce(&mut self, now: Time, address: IpAddr, interfaces: Arc<Interfaces>) {
        _ = (now, address, interfaces);
    }

    /// Sends nothing for an address any more, not even frames that [`Self::next_frame`] would have
    /// returned.
    pub(crate) fn withdraw(&mut self, address: IpAddr) {
        _ = address;
    }

    /// While suspended, nothing is answered and nothing is announced; probes go on. Afterwards all
    /// addresses are announced again.
    pub(crate) fn suspend(&mut self, now: Time, suspended: bool) {
        _ = (now, suspended);
    }

    /// Announces an address as if it were new.
    pub(crate) fn announce_again(&mut self, now: Time, address: IpAddr) {
        _ = (now, address);
    }

    /// Announces an address once, to defend it (RFC 5227 §2.4). The caller limits the rate.
    pub(crate) fn defend(&mut self, address: IpAddr) {
        _ = address;
    }

    /// Starts a probe. A probe of the same address that runs is replaced, and has no result of its
    /// own. Without an interface that has a carrier the result has no answers.
    pub(crate) fn probe(&mut self, now: Time, probe: Probe) {
        _ = (now, probe);
    }

    /// Ends a probe without a result.
    pub(crate) fn cancel_probe(&mut self, address: IpAddr) {
        _ = address;
    }

    /// Handles an Ethernet frame. Frames that are neither ARP nor NDP are ignored.
    pub(crate) fn receive(&mut self, now: Time, interface: IfIndex, frame: &[u8]) {
        _ = (now, interface, frame);
    }

    /// Handles the timers that expired.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        _ = now;
    }

    /// When [`Self::handle_timeout`] must be called: possibly a moment in the past.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// The next frame to send.
    pub(crate) fn next_frame(&mut self) -> Option<(IfIndex, Vec<u8>)> {
        None
    }

    /// The next observation.
    pub(crate) fn next_observation(&mut self) -> Option<Observation> {
        None
    }

    /// The next group to join or leave.
    pub(crate) fn next_group_change(&mut self) -> Option<GroupChange> {
        None
    }

    /// Up to eight other hosts, the most recent first.
    pub(crate) fn recent_hosts(&self, interface: IfIndex) -> Vec<(IpAddr, Mac)> {
        _ = interface;
        Vec::new()
    }

    /// The interfaces on which an address is announced: those that are selected and have a carrier.
    pub(crate) fn interfaces(&self, address: IpAddr) -> Vec<Box<str>> {
        _ = address;
        Vec::new()
    }

    /// Frames for an address since it was announced.
    pub(crate) fn traffic(&self, address: IpAddr) -> Traffic {
        _ = address;
        Traffic::default()
    }

    /// Adds the responder's counters to others.
    pub(crate) fn count(&self, counters: &mut Counters) {
        _ = counters;
    }
}
