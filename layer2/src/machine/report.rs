//! The snapshot of the engine.

use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use crate::config::Time;
use crate::interface::IfIndex;
use crate::mac::Mac;
use crate::membership::{NodeId, Peer, blocked_warning};
use crate::status::{NodeState, PeerStatus, SegmentStatus, Status};

impl Machine {
    /// A snapshot.
    pub fn status(&self, now: Time) -> Status {
        let nodes = self.membership.nodes();
        let mut counters = *self.membership.counters();
        self.ownership.count(&mut counters);
        self.responder.count(&mut counters);
        Status {
            node: nodes.name(NodeId::US),
            now,
            state: self.ownership.state(),
            addresses: self.ownership.report(&self.membership, &self.responder),
            segments: self.segments(),
            counters,
        }
    }

    fn segments(&self) -> Vec<SegmentStatus> {
        let links = self.membership.links();
        links
            .all()
            .filter(|link| !link.loopback)
            .map(|link| SegmentStatus {
                interface: link.name.clone(),
                mac: link.mac,
                carrier: link.carrier,
                networks: link.networks.clone(),
                promiscuous: false,
                peers: self.peers(link.index),
                warnings: self
                    .membership
                    .blocked()
                    .map(|node| blocked_warning(&node))
                    .collect(),
            })
            .collect()
    }

    /// The nodes that are received on a segment, and those that are not accepted.
    fn peers(&self, segment: IfIndex) -> Vec<PeerStatus> {
        let received = self.membership.peers().on(segment);
        let mut peers: Vec<_> = received
            .map(|(index, peer)| self.peer(NodeId::from_index(index), peer))
            .collect();
        for (node, why) in self.membership.rejections().on(segment) {
            match peers.iter_mut().find(|peer| peer.node == *node) {
                Some(peer) => peer.rejected = Some(why.clone()),
                None => peers.push(rejected(node, why)),
            }
        }
        peers
    }

    fn peer(&self, node: NodeId, peer: &Peer) -> PeerStatus {
        let facts = self.membership.peers().node(node);
        PeerStatus {
            node: self.membership.nodes().name(node),
            mac: peer.mac,
            networks: peer.networks.clone(),
            state: facts.map(|facts| facts.state).unwrap_or_default(),
            alive: peer.alive,
            last_hello: peer.last,
            interval: peer.interval,
            owned: facts.map_or(0, |facts| facts.owned),
            rejected: None,
        }
    }
}

fn rejected(node: &Arc<str>, why: &str) -> PeerStatus {
    PeerStatus {
        node: node.clone(),
        mac: Mac::ZERO,
        networks: Vec::new(),
        state: NodeState::Settling,
        alive: false,
        last_hello: Time::ZERO,
        interval: Duration::ZERO,
        owned: 0,
        rejected: Some(why.into()),
    }
}
