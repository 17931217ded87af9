//! The open interfaces, and their readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::groups::Groups;
use super::links::Links;
use super::segment::{Segment, is_any};
use super::traffic::Traffic;
use super::warnings::Conditions;
use crate::interface::{IfIndex, Interface};
use crate::machine::GroupChange;
use crate::status::{Event, Status};

/// Ready descriptors that are handled in one turn. The others wait for the next one.
const EVENTS: usize = 256;

/// What is ready to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ready {
    /// A socket of an interface. The order of kinds is the order of reading.
    Frames(Traffic, IfIndex),
    Netlink,
    Requests,
}

/// The interfaces with sockets.
#[derive(Debug)]
pub(super) struct Segments {
    epoll: OwnedFd,
    segments: BTreeMap<IfIndex, Segment>,
    groups: Groups,
    /// The interfaces whose sockets could not be opened.
    failed: BTreeSet<IfIndex>,
    /// Frames that were dropped on sockets that are closed, or not sent.
    dropped: u64,
}

/// Whether the kernel took a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    No,
}

/// A change for the machine.
#[derive(Debug)]
pub(super) enum Change {
    Set(Interface),
    Gone(IfIndex),
}

impl Segments {
    /// No interface.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            segments: BTreeMap::new(),
            groups: Groups::default(),
            failed: BTreeSet::new(),
            dropped: 0,
        })
    }

    /// Waits for a descriptor.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn watch(&self, descriptor: impl AsFd, ready: Ready) -> io::Result<()> {
        let data = epoll::EventData::new_u64(ready.to_bits());
        Ok(epoll::add(
            &self.epoll,
            descriptor,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits until something is ready, at most for this time.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn wait(&self, timeout: Option<&Timespec>) -> io::Result<()> {
        match epoll::wait(&self.epoll, &mut [MaybeUninit::uninit(); 1], timeout) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the content of `ready` by what is ready, in the order in which it is to be read.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(super) fn ready(&self, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let mut events = [MaybeUninit::uninit(); EVENTS];
        match epoll::wait(&self.epoll, &mut events, Some(&Timespec::default())) {
            Ok((events, _)) => {
                let events = events.iter();
                ready.extend(events.filter_map(|event| Ready::from_bits(event.data.u64())));
                ready.sort_unstable();
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens and closes sockets until they match the usable interfaces. Returns what changed.
    pub(super) fn set_interfaces(
        &mut self,
        interfaces: BTreeMap<IfIndex, Interface>,
    ) -> Vec<Change> {
        let gone = self.segments.keys().copied();
        let gone: Vec<_> = gone.filter(|of| !interfaces.contains_key(of)).collect();
        self.failed.retain(|index| interfaces.contains_key(index));
        let mut changes = Vec::new();
        for index in gone {
            self.close(index);
            changes.push(Change::Gone(index));
        }
        for (index, interface) in interfaces {
            let changed = match self.segments.get_mut(&index) {
                Some(segment) if *segment.interface() == interface => None,
                Some(segment) => {
                    segment.set_interface(interface.clone());
                    Some(interface)
                }
                None => self.open(interface),
            };
            if changed.is_some() {
                self.groups.set_interface(index);
            }
            changes.extend(changed.map(Change::Set));
        }
        changes
    }

    fn open(&mut self, interface: Interface) -> Option<Interface> {
        let index = interface.index;
        let opened = Segment::open(interface.clone()).and_then(|segment| {
            for (traffic, socket) in segment.sockets() {
                self.watch(socket, Ready::Frames(*traffic, index))?;
            }
            Ok(segment)
        });
        match opened {
            Ok(segment) => {
                self.failed.remove(&index);
                self.segments.insert(index, segment);
                Some(interface)
            }
            Err(error) => {
                if self.failed.insert(index) {
                    let name = &interface.name;
                    tracing::warn!("cannot open packet sockets on {name}, trying again: {error}");
                }
                None
            }
        }
    }

    /// Whether sockets of a usable interface could not be opened.
    pub(super) fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Closes the sockets of an interface.
    pub(super) fn close(&mut self, index: IfIndex) {
        if let Some(segment) = self.segments.remove(&index) {
            self.dropped += segment.take_dropped();
            self.groups.remove_interface(index);
        }
    }

    /// Receives a frame. Returns its length, or none without a frame.
    ///
    /// # Errors
    /// The error of the kernel, for example that the interface went down.
    pub(super) fn receive(
        &mut self,
        traffic: Traffic,
        index: IfIndex,
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        let segment = self.segments.get(&index);
        let Some(socket) = segment.and_then(|segment| segment.socket(traffic)) else {
            return Ok(None);
        };
        match socket.receive(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if is_any(&error, &[libc::EAGAIN, libc::EINTR]) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a frame. If the kernel does not take it, it is dropped and counted.
    ///
    /// # Errors
    /// The interface is gone or went down.
    pub(super) fn send(&mut self, index: IfIndex, frame: &[u8]) -> io::Result<Sent> {
        let segment = self.segments.get_mut(&index).zip(Traffic::of(frame));
        let sent = segment.map(|(segment, traffic)| segment.send(traffic, frame));
        if matches!(sent, Some(Ok(()))) {
            return Ok(Sent::Yes);
        }
        self.dropped += 1;
        match sent {
            Some(Err(error)) if is_any(&error, &[libc::ENETDOWN, libc::ENXIO, libc::ENODEV]) => {
                Err(error)
            }
            _ => Ok(Sent::No),
        }
    }

    /// Joins or leaves an IPv6 group. If the kernel refuses it, the interface receives all
    /// multicast frames instead. Returns whether that is new.
    pub(super) fn change_group(&mut self, change: GroupChange) -> bool {
        self.groups.change(change);
        let (GroupChange::Join(index, _) | GroupChange::Leave(index, _)) = change;
        if self.groups.failures(index) == 0 {
            return false;
        }
        let Some(segment) = self.segments.get_mut(&index) else {
            return false;
        };
        segment.receive_all_multicast().unwrap_or_else(|error| {
            let name = &segment.interface().name;
            tracing::warn!("{name} may not receive Neighbor Solicitations: {error}");
            false
        })
    }

    /// Updates the warnings of all interfaces. Returns the new ones.
    pub(super) fn update_warnings(&mut self, links: &Links) -> Vec<Event> {
        let interfaces = self.segments.values().map(Segment::interface);
        let several = interfaces.filter(|interface| !interface.loopback).count() > 1;
        let mut events = Vec::new();
        for (index, segment) in &mut self.segments {
            let conditions = Conditions {
                interface: segment.interface(),
                rewriting_bond_mode: links.rewriting_bond_mode(*index),
                one_of_several: several,
                failed_groups: self.groups.failures(*index),
            };
            let warnings = conditions.warnings();
            let interface = &segment.interface().name;
            let new = warnings.difference(&segment.warnings);
            events.extend(new.map(|warning| Event::InterfaceWarning {
                interface: interface.clone(),
                warning: warning.clone(),
            }));
            segment.warnings = warnings;
        }
        events
    }

    /// Adds to a snapshot what the machine doesn't know.
    pub(super) fn complete(&mut self, status: &mut Status) {
        let segments = self.segments.values();
        self.dropped += segments.map(Segment::take_dropped).sum::<u64>();
        status.counters.frames_dropped += self.dropped;
        for shown in &mut status.segments {
            let mut segments = self.segments.values();
            let name = &shown.interface;
            if let Some(segment) = segments.find(|segment| segment.interface().name == *name) {
                shown.promiscuous = segment.is_promiscuous();
                shown.warnings.extend(segment.warnings.iter().cloned());
            }
        }
    }

    /// Counts a frame that exceeds the buffer.
    pub(super) fn count_dropped(&mut self) {
        self.dropped += 1;
    }
}

impl Ready {
    /// The kind in the lowest two bits, above them the interface; two values for the others.
    fn to_bits(self) -> u64 {
        match self {
            Self::Frames(traffic, index) => u64::from(index.0) << 2 | traffic as u64,
            Self::Netlink => u64::MAX - 1,
            Self::Requests => u64::MAX,
        }
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let mut all = [Self::Netlink, Self::Requests].into_iter();
        if let Some(other) = all.find(|ready| ready.to_bits() == bits) {
            return Some(other);
        }
        let index = IfIndex(u32::try_from(bits >> 2).ok()?);
        let mut kinds = Traffic::ALL.into_iter();
        let traffic = kinds.find(|kind| *kind as u64 == bits & 3)?;
        Some(Self::Frames(traffic, index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_recognised_and_hellos_are_read_first() {
        let frames = |index| Traffic::ALL.map(|kind| Ready::Frames(kind, IfIndex(index)));
        let mut all = vec![Ready::Requests, Ready::Netlink];
        all.extend(frames(1));
        all.extend(frames(u32::MAX));
        for ready in &all {
            assert_eq!(Ready::from_bits(ready.to_bits()), Some(*ready));
        }
        all.sort_unstable();
        let hellos = all.iter().take(4);
        let are_hellos = hellos.map(|ready| matches!(ready, Ready::Frames(of, _) if of.is_hello()));
        assert!(are_hellos.into_iter().all(|is_hello| is_hello), "{all:?}");
        assert_eq!(all[8..], [Ready::Netlink, Ready::Requests]);
    }
}
