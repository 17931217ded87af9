//! The engine without I/O.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{Command, Identity, Settings, Time};
pub use crate::interface::GroupChange;
use crate::interface::{IfIndex, Interface};
use crate::status::{Event, Status};

/// The engine of one node.
#[derive(Debug)]
pub struct Machine {
    identity: Identity,
    settings: Settings,
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
        Self { identity, settings }
    }

    /// Handles an input. `now` never decreases.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        _ = (now, input, &self.identity, &self.settings);
    }

    /// Handles the timers that expired. The driver reads all pending frames first.
    pub fn handle_timeout(&mut self, now: Time) {
        _ = now;
    }

    /// When [`Machine::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// The next frame to send.
    pub fn next_frame(&mut self) -> Option<(IfIndex, Vec<u8>)> {
        None
    }

    /// The next group to join or leave.
    pub fn next_group_change(&mut self) -> Option<GroupChange> {
        None
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        None
    }

    /// A snapshot.
    pub fn status(&self, now: Time) -> Status {
        Status {
            node: self.identity.node.clone(),
            now,
            ..Status::default()
        }
    }
}
