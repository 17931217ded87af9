//! Compares the claims that this node knows of a peer with the digest in its hellos.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Time;
use crate::membership::{Digest, NodeId};

/// How often a peer is asked for its claims.
const ASK_INTERVAL: Duration = Duration::from_millis(300);
/// A change may still be on its way in another hello.
const TOLERATED: u8 = 2;

/// The peers whose claims are not known completely.
#[derive(Debug, Default)]
pub(crate) struct Sync(BTreeMap<NodeId, State>);

#[derive(Debug, Default)]
struct State {
    mismatches: u8,
    asked: Option<Time>,
    /// The claims that arrived since the peer was asked.
    incoming: BTreeMap<IpAddr, u64>,
}

/// What to do after a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The claims are known.
    Synced,
    /// They are not known, but will arrive.
    Wait,
    /// The peer must be asked for all its claims.
    Ask,
    /// The peer has exactly these addresses. All others that it was known to own are released.
    Replace(BTreeSet<IpAddr>),
}

impl Sync {
    /// A claim of a peer arrived.
    pub(crate) fn claim(&mut self, node: NodeId, address: IpAddr, epoch: u64) {
        if let Some(state) = self.0.get_mut(&node) {
            state.incoming.insert(address, epoch);
        }
    }

    /// A peer released an address.
    pub(crate) fn release(&mut self, node: NodeId, address: IpAddr) {
        if let Some(state) = self.0.get_mut(&node) {
            state.incoming.remove(&address);
        }
    }

    /// A peer has a new process: what arrived from the old one is void.
    pub(crate) fn reset(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// Compares after a hello. `eager`: without tolerance.
    pub(crate) fn check(
        &mut self,
        now: Time,
        node: NodeId,
        announced: Digest,
        known: Digest,
        eager: bool,
    ) -> Check {
        if announced == known {
            self.0.remove(&node);
            return Check::Synced;
        }
        let state = self.0.entry(node).or_default();
        let mut incoming = Digest::default();
        if state.asked.is_some() && state.incoming.len() == announced.count as usize {
            for (address, epoch) in &state.incoming {
                incoming.add(*address, *epoch);
            }
        }
        // Without claims both digests are equal: that is known without asking.
        if incoming == announced {
            let addresses = std::mem::take(&mut state.incoming).into_keys();
            let addresses = addresses.take(announced.count as usize).collect();
            return Check::Replace(addresses);
        }
        state.mismatches = state.mismatches.saturating_add(1);
        let asked_lately = state.asked.is_some_and(|at| now < at + ASK_INTERVAL);
        if asked_lately || (state.mismatches < TOLERATED && !eager) {
            return Check::Wait;
        }
        state.asked = Some(now);
        state.incoming.clear();
        Check::Ask
    }

    /// Whether all claims of all peers are known, apart from those of nodes that are not `alive`.
    pub(crate) fn is_complete(&self, alive: impl Fn(NodeId) -> bool) -> bool {
        !self.0.keys().any(|node| alive(*node))
    }
}
