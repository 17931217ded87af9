//! The snapshot of the addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Ownership;
use super::address::{Address, Phase};
use crate::membership::{Membership, NodeId};
use crate::responder::Responder;
use crate::status::{AddressStatus, Counters, Move, OwnerReason};

impl Ownership {
    /// Adds the counters of this part to others.
    pub(crate) fn count(&self, counters: &mut Counters) {
        counters.owner_changes += self.counters.owner_changes;
        counters.claim_conflicts += self.counters.claim_conflicts;
        counters.address_conflicts += self.counters.address_conflicts;
        counters.false_suspicions += self.counters.false_suspicions;
        counters.stalls += self.counters.stalls;
    }

    /// The state of all addresses.
    pub(crate) fn report(
        &self,
        membership: &Membership,
        responder: &Responder,
    ) -> BTreeMap<IpAddr, AddressStatus> {
        self.addresses
            .iter()
            .map(|(address, known)| {
                let status = self.report_address(membership, responder, *address, known);
                (*address, status)
            })
            .collect()
    }

    fn report_address(
        &self,
        membership: &Membership,
        responder: &Responder,
        address: IpAddr,
        known: &Address,
    ) -> AddressStatus {
        let entry = self.claims.get(address);
        let owner = self.reported_owner(membership, address, known);
        let name = |node: NodeId| membership.nodes().name(node);
        AddressStatus {
            candidates: known.spec.candidates.configured.clone(),
            owner: owner.map(name),
            since: entry.map_or(known.idle_since, |entry| entry.since),
            epoch: entry.map_or(0, |entry| entry.epoch),
            reason: self.reason(membership, address, known),
            conflict: known.conflict,
            interfaces: responder.interfaces(address),
            moves: known
                .moves
                .newest_first()
                .map(|change| Move {
                    at: change.at,
                    from: change.from.map(name),
                    to: change.to.map(name),
                    reason: change.reason,
                })
                .collect(),
            self_test: known.self_test.as_deref().cloned(),
            traffic: responder.traffic(address),
        }
    }

    /// The owner, unless it is silent and no candidate is left to replace it.
    fn reported_owner(
        &self,
        membership: &Membership,
        address: IpAddr,
        known: &Address,
    ) -> Option<NodeId> {
        let peers = membership.peers();
        let alive = |node: NodeId| node == NodeId::US || peers.is_alive(node);
        let mut candidates = known.spec.candidates.nodes.iter();
        let owner = self.claims.owner(address)?;
        let mut replaceable = || candidates.any(|(node, _)| alive(*node));
        (alive(owner) || replaceable()).then_some(owner)
    }

    fn reason(&self, membership: &Membership, address: IpAddr, known: &Address) -> OwnerReason {
        if let Some(owner) = self.reported_owner(membership, address, known) {
            return if owner == NodeId::US || !self.takeovers.contains(address) {
                known.reason
            } else if self.takeovers.is_isolated(address) {
                OwnerReason::Isolated
            } else {
                OwnerReason::OwnerRestarting
            };
        }
        match known.phase {
            Phase::Intent => OwnerReason::Probing,
            Phase::Withheld(_) => known.reason,
            _ if !self.settle.has_key() => OwnerReason::NoKey,
            _ if !self.settle.is_done() => OwnerReason::Settling,
            _ if self.intents.get(address).is_some() => OwnerReason::Probing,
            _ => {
                let links = membership.links();
                let segments = links.relevant(address, &known.spec.interfaces);
                if segments.is_empty() && known.spec.candidates.contains(NodeId::US) {
                    OwnerReason::NoInterface
                } else {
                    OwnerReason::NoCandidate
                }
            }
        }
    }
}
