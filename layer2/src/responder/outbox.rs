//! Frames that are ready to be sent.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::interface::IfIndex;

/// A frame, and what is lost with it.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) interface: IfIndex,
    pub(super) address: IpAddr,
    pub(super) kind: Kind,
    pub(super) frame: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Answer,
    Gratuitous,
    Probe,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Outgoing>,
}

impl Outbox {
    pub(super) fn push(&mut self, frame: Outgoing) {
        self.frames.push_back(frame);
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        self.frames.pop_front()
    }

    /// Drops the frames which state that an address is here. None: all interfaces, all addresses.
    pub(super) fn withdraw(&mut self, interface: Option<IfIndex>, address: Option<IpAddr>) {
        self.frames.retain(|frame| {
            frame.kind == Kind::Probe
                || interface.is_some_and(|interface| frame.interface != interface)
                || address.is_some_and(|address| frame.address != address)
        });
    }

    /// Drops the frames of an interface.
    pub(super) fn remove_interface(&mut self, interface: IfIndex) {
        self.frames.retain(|frame| frame.interface != interface);
    }
}
