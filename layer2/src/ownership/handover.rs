//! Addresses that this node hands over to a successor, and answers for until the successor claims
//! them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Time;
use crate::membership::NodeId;
use crate::status::OwnerReason;

/// A successor that doesn't claim within this time is replaced by the next candidate.
const PATIENCE: Duration = Duration::from_millis(500);

/// The handovers that run.
#[derive(Debug, Default)]
pub(crate) struct Handovers(BTreeMap<IpAddr, Handover>);

/// An address, and the node that is to claim it.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The successor that is named now.
    pub(crate) successor: NodeId,
    /// Why this node gives the address away.
    pub(crate) reason: OwnerReason,
    /// Whether this node must not own the address any more: without a successor it is withdrawn.
    pub(crate) required: bool,
    /// The successors that were named, and did not claim it, and the current one.
    pub(crate) tried: Vec<NodeId>,
    deadline: Time,
}

impl Handovers {
    /// Starts to hand an address over.
    pub(crate) fn start(
        &mut self,
        now: Time,
        address: IpAddr,
        successor: NodeId,
        reason: OwnerReason,
        required: bool,
    ) {
        let handover = Handover {
            successor,
            reason,
            required,
            tried: vec![successor],
            deadline: now + PATIENCE,
        };
        self.0.insert(address, handover);
    }

    /// Names the next successor.
    pub(crate) fn name(&mut self, now: Time, address: IpAddr, successor: NodeId) {
        if let Some(handover) = self.0.get_mut(&address) {
            handover.successor = successor;
            handover.tried.push(successor);
            handover.deadline = now + PATIENCE;
        }
    }

    /// The handover of an address.
    pub(crate) fn get(&self, address: IpAddr) -> Option<&Handover> {
        self.0.get(&address)
    }

    /// A handover ended.
    pub(crate) fn remove(&mut self, address: IpAddr) -> Option<Handover> {
        self.0.remove(&address)
    }

    /// Those whose successor did not claim the address in time.
    pub(crate) fn late(&self, now: Time) -> Vec<IpAddr> {
        self.0
            .iter()
            .filter(|(_, handover)| handover.deadline <= now)
            .map(|(address, _)| *address)
            .collect()
    }

    /// All of them, by successor.
    pub(crate) fn by_successor(&self) -> BTreeMap<NodeId, Vec<IpAddr>> {
        let mut successors: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (address, handover) in &self.0 {
            successors
                .entry(handover.successor)
                .or_default()
                .push(*address);
        }
        successors
    }

    /// When [`Self::late`] has a result.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.0.values().map(|handover| handover.deadline).min()
    }
}
