//! The state of an address on this node.

use std::net::IpAddr;
use std::sync::Arc;

use super::candidates::Spec;
use crate::config::{Interfaces, Time};
use crate::mac::Mac;
use crate::membership::NodeId;
use crate::responder::Probe;
use crate::status::{Event, OwnerReason, SelfTest};

/// What this node does with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing.
    Idle,
    /// Another host has it. It is probed again at this time.
    Withheld(Time),
    /// This node is about to claim it, and probes it.
    Intent,
    /// This node owns it.
    Owned,
}

/// An address.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// What is configured.
    pub(crate) spec: Spec,
    /// What this node does with it.
    pub(crate) phase: Phase,
    /// Since when nothing happens with it though it has no owner.
    pub(crate) idle_since: Time,
    /// Why the owner is the owner.
    pub(crate) reason: OwnerReason,
    /// Another host that answers for it.
    pub(crate) conflict: Option<Mac>,
    /// The last changes of the owner.
    pub(crate) moves: Moves,
    /// The last self-test.
    pub(crate) self_test: Option<Box<SelfTest>>,
}

impl Address {
    /// An address of which nothing is known but its configuration.
    pub(crate) fn new(now: Time, spec: Spec) -> Self {
        Self {
            spec,
            phase: Phase::Idle,
            idle_since: now,
            reason: OwnerReason::Settling,
            conflict: None,
            moves: Moves::default(),
            self_test: None,
        }
    }
}

/// A change of the owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// When.
    pub(crate) at: Time,
    /// The owner before.
    pub(crate) from: Option<NodeId>,
    /// The owner after.
    pub(crate) to: Option<NodeId>,
    /// Why.
    pub(crate) reason: OwnerReason,
}

/// At most eight changes, the newest last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves(Vec<Change>);

impl Moves {
    /// Adds a change.
    pub(crate) fn add(&mut self, change: Change) {
        if self.0.len() == 8 {
            self.0.remove(0);
        }
        self.0.reserve_exact(1);
        self.0.push(change);
    }

    /// The newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Change> {
        self.0.iter().rev()
    }
}

/// What the owner of [`super::Ownership`] must do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Answer for an address and announce it.
    Announce(IpAddr, Arc<Interfaces>),
    /// Stop that.
    Withdraw(IpAddr),
    /// Announce it once more from the beginning.
    AnnounceAgain(IpAddr),
    /// Announce it once, to defend it.
    Defend(IpAddr),
    /// Answer nothing, until it is ended.
    Suspend(bool),
    /// Probe an address.
    Probe(Probe),
    /// End a probe.
    CancelProbe(IpAddr),
    /// This process took over from an older one of the node.
    Activate,
    /// Report.
    Event(Event),
}
