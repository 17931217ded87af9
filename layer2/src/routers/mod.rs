//! Finds the router at the other end of an interface, for unnumbered BGP sessions, and advertises
//! this node to it. A machine without I/O.
//!
//! A router is a neighbor with a link-local address that sends router advertisements, or that the
//! kernel's neighbor table marks as a router. The first one is used until the kernel can't reach
//! it any more and there is another, or until the interface is gone.

mod link;
mod notes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;

use self::link::WatchedLink;
pub use self::notes::Note;
use crate::config::Time;
use crate::interface::IfIndex;
use crate::mac::Mac;
use crate::wire::ethernet::{ETHER_TYPE_IPV6, Header};
use crate::wire::router_discovery::RouterDiscovery;

/// What the kernel knows of links and their neighbors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The links by name.
    pub links: BTreeMap<Box<str>, Link>,
    /// The neighbors with a link-local address.
    pub neighbors: BTreeMap<(IfIndex, Ipv6Addr), Neighbor>,
}

/// A link of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: IfIndex,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Whether it is up and has a carrier.
    pub up: bool,
    /// Our link-local address that the kernel prefers there.
    pub address: Option<Ipv6Addr>,
}

/// A neighbor of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// It called itself a router.
    pub router: bool,
    /// It doesn't answer.
    pub failed: bool,
}

/// An input of the machine.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The interfaces whose routers are wanted.
    Watch(&'a BTreeSet<Box<str>>),
    /// The kernel's tables changed.
    Tables(&'a Tables),
    /// Whether frames can be received and sent at all: with the capability NET_RAW.
    CanSend(bool),
    /// A frame with a packet of Router Discovery.
    Frame(IfIndex, &'a [u8]),
}

/// A router at the other end of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// Our interface.
    pub interface: IfIndex,
}

/// What is known of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The router that is used.
    pub router: Option<Router>,
    /// What an operator should know.
    pub notes: Vec<Note>,
}

/// The state of an interface changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub interface: Box<str>,
    /// The new state.
    pub state: State,
}

/// The machine.
#[derive(Debug, Default)]
pub struct Routers {
    /// None until the kernel's tables are known: nothing is reported before.
    tables: Option<Tables>,
    can_send: bool,
    watched: BTreeMap<Box<str>, WatchedLink>,
    changes: VecDeque<Change>,
    frames: VecDeque<(IfIndex, Vec<u8>)>,
}

impl Routers {
    /// Takes one input. Take what [`Self::next_change`] and [`Self::next_frame`] have afterwards.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Watch(names) => {
                self.watched.retain(|name, _| names.contains(name));
                for name in names {
                    self.watched.entry(name.clone()).or_default();
                }
            }
            Input::Tables(tables) => self.tables = Some(tables.clone()),
            Input::CanSend(can_send) => self.can_send = can_send,
            Input::Frame(index, frame) => self.receive(now, index, frame),
        }
        self.update(now);
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        self.update(now);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.can_send {
            return None;
        }
        self.watched
            .values()
            .filter_map(WatchedLink::deadline)
            .min()
    }

    /// The next change of an interface. The first one of each watched interface says what is known.
    pub fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The next frame to send.
    pub fn next_frame(&mut self) -> Option<(IfIndex, Vec<u8>)> {
        self.frames.pop_front()
    }

    /// The interfaces on which packets of Router Discovery are received and sent.
    pub fn interfaces(&self) -> BTreeSet<IfIndex> {
        let links = self.tables.iter().flat_map(|tables| &tables.links);
        let used = links.filter(|(name, link)| {
            self.can_send && link.up && link.mac.is_some() && self.watched.contains_key(*name)
        });
        used.map(|(_, link)| link.index).collect()
    }

    fn receive(&mut self, now: Time, index: IfIndex, frame: &[u8]) {
        let packet = Header::decode(frame)
            .filter(|(header, _)| header.ether_type == ETHER_TYPE_IPV6)
            .and_then(|(_, packet)| RouterDiscovery::decode(packet));
        let mut watched = self.watched.values_mut();
        let link = watched.find(|watched| watched.is_of(index));
        let (Some(packet), Some(link)) = (packet, link) else {
            return;
        };
        match packet {
            RouterDiscovery::Advertisement { source, .. } => link.advertised(source),
            RouterDiscovery::Solicitation { .. } => link.solicited(now),
        }
    }

    fn update(&mut self, now: Time) {
        let Some(tables) = &self.tables else {
            return;
        };
        for (name, watched) in &mut self.watched {
            watched.update(tables.links.get(name), &tables.neighbors);
            if self.can_send {
                self.frames.extend(watched.due_frames(now));
            }
            if let Some(state) = watched.new_state(name, self.can_send) {
                let interface = name.clone();
                self.changes.push_back(Change { interface, state });
            }
        }
    }
}

#[cfg(test)]
mod tests;
