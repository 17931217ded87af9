//! What ownership reads of the other parts of the engine.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::candidates::Spec;
use crate::config::Time;
use crate::interface::IfIndex;
use crate::membership::{Membership, NodeId};
use crate::responder::Responder;
use crate::status::NodeState;

/// A node that settles is ready within this time. Afterwards it is not placed on.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// The moment, and the other parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// Now.
    pub(crate) now: Time,
    /// The other nodes, and the interfaces.
    pub(crate) membership: &'a Membership,
    /// Recent hosts.
    pub(crate) responder: &'a Responder,
    /// The addresses that the kernel of this node answers for.
    pub(crate) service_proxy: &'a BTreeSet<IpAddr>,
}

impl Context<'_> {
    /// Whether a node is received on one of the segments and claims addresses. `settling`: or will
    /// soon. This node may if it has a segment; its caller checks its state.
    pub(crate) fn may_own(&self, node: NodeId, segments: &[IfIndex], settling: bool) -> bool {
        if node == NodeId::US {
            return !segments.is_empty();
        }
        let peers = self.membership.peers();
        let Some(facts) = peers.node(node) else {
            return false;
        };
        let ready = match facts.state {
            NodeState::Ready => true,
            NodeState::Settling => settling && self.now < facts.state_since + SETTLES_WITHIN,
            NodeState::Restarting | NodeState::Leaving => false,
        };
        ready
            && segments
                .iter()
                .any(|segment| peers.is_alive_on(*segment, node))
    }

    /// Whether an address is on-link for a node on one of the segments.
    pub(crate) fn is_on_link(&self, node: NodeId, address: IpAddr, segments: &[IfIndex]) -> bool {
        segments.iter().any(|segment| {
            let networks = if node == NodeId::US {
                self.membership
                    .links()
                    .get(*segment)
                    .map(|link| &link.networks)
            } else {
                let peer = self.membership.peers().peer(*segment, node);
                peer.map(|peer| &peer.networks)
            };
            networks.is_some_and(|all| all.iter().any(|network| network.contains(&address)))
        })
    }

    /// Whether a node is ready by the Kubernetes API, but its hellos never arrive.
    pub(crate) fn is_blocked(&self, node: NodeId) -> bool {
        self.membership.is_blocked(node)
    }

    /// The segments that count for an address.
    pub(crate) fn segments(&self, address: IpAddr, spec: &Spec) -> Vec<IfIndex> {
        self.membership.links().relevant(address, &spec.interfaces)
    }

    /// Whether a node that owns an address since a time is silent on the segments that count.
    pub(crate) fn is_silent(&self, node: NodeId, segments: &[IfIndex], since: Time) -> bool {
        let peers = self.membership.peers();
        if segments.iter().any(|on| peers.is_alive_on(*on, node)) {
            return false;
        }
        // A node that is received on other segments, and never was on these since its claim, owns
        // the address by its own right.
        !peers.is_alive(node)
            || segments.iter().any(|on| {
                let peer = peers.peer(*on, node);
                peer.is_some_and(|peer| peer.last >= since)
            })
    }

    /// Whether no other node is received on the segments.
    pub(crate) fn is_alone(&self, segments: &[IfIndex]) -> bool {
        !segments
            .iter()
            .any(|segment| self.membership.peers().any_alive_on(*segment))
    }
}
