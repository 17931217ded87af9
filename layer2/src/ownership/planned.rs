//! Planned changes of the owner: it goes on answering until its successor claims the address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::Effect;
use super::placement::Placement;
use super::{Context, EVALUATION_DELAY, Ownership};
use crate::config::Time;
use crate::membership::NodeId;
use crate::status::{NodeState, OwnerReason};
use crate::wire::hello::{Claim, Section};

/// A move that an operator asked for is done or failed after this time.
const MOVE_LIFE: Duration = Duration::from_secs(10);

/// The moves that an operator asked for.
#[derive(Debug, Default)]
pub(crate) struct Moving(BTreeMap<IpAddr, (NodeId, Time)>);

impl Moving {
    fn add(&mut self, now: Time, address: IpAddr, to: NodeId) {
        self.0.retain(|_, (_, until)| *until > now);
        self.0.insert(address, (to, now + MOVE_LIFE));
    }

    /// Whether a node becomes the owner of an address because an operator asked for that.
    pub(crate) fn is_to(&self, now: Time, address: IpAddr, node: NodeId) -> bool {
        self.0
            .get(&address)
            .is_some_and(|(to, until)| *to == node && *until > now)
    }
}

impl Ownership {
    /// Hands over addresses that this node must not own any more.
    pub(super) fn check_our_addresses(&mut self, context: &Context<'_>) {
        let mut required = Vec::new();
        let mut cut_off = Vec::new();
        let mut placement = Placement::new(context, &self.claims, &self.intents);
        for address in self.claims.of(NodeId::US) {
            let Some(spec) = self.spec(address) else {
                continue;
            };
            if self.handovers.get(address).is_some() {
                continue;
            }
            let segments = context.segments(address, spec);
            // Nodes that receive no other node divide the addresses by the hash. A single node that
            // is not received costs no address: it may not work at all.
            let is_theirs = || context.is_alone(&segments);
            if !spec.candidates.contains(NodeId::US)
                || (is_theirs() && placement.blocked_owner(address, spec).is_some())
            {
                required.push(address);
            } else if segments.is_empty() {
                cut_off.push(address);
            }
        }
        self.hand_over(context, &required, OwnerReason::HandedOver, true);
        self.hand_over(context, &cut_off, OwnerReason::HandedOver, false);
    }

    /// Hands addresses over to the best other nodes. `required`: without one, an address is
    /// withdrawn.
    pub(super) fn hand_over(
        &mut self,
        context: &Context<'_>,
        addresses: &[IpAddr],
        reason: OwnerReason,
        required: bool,
    ) {
        if addresses.is_empty() {
            return;
        }
        let mut successors = Vec::new();
        let mut placement = Placement::new(context, &self.claims, &self.intents)
            .without(NodeId::US)
            .received();
        for address in addresses {
            let Some(spec) = self.spec(*address) else {
                continue;
            };
            let successor = placement.best(*address, spec);
            if let Some(node) = successor {
                placement.count(node);
            }
            successors.push((*address, successor));
        }
        for (address, successor) in successors {
            match successor {
                Some(node) => self.name_successor(context, address, node, reason, required),
                None if required => self.withdraw(context.now, address, reason),
                None => {}
            }
        }
    }

    fn name_successor(
        &mut self,
        context: &Context<'_>,
        address: IpAddr,
        node: NodeId,
        reason: OwnerReason,
        required: bool,
    ) {
        self.handovers
            .start(context.now, address, node, reason, required);
        self.outbox.hurry();
    }

    /// The named successor did not claim an address.
    pub(super) fn name_next_successor(&mut self, context: &Context<'_>, address: IpAddr) {
        let Some(handover) = self.handovers.get(address) else {
            return;
        };
        let (reason, required) = (handover.reason, handover.required);
        let tried = handover.tried.clone();
        // A move has one target.
        let next = self
            .spec(address)
            .filter(|_| reason != OwnerReason::Moved)
            .and_then(|spec| {
                Placement::new(context, &self.claims, &self.intents)
                    .without(NodeId::US)
                    .received()
                    .next(address, spec, &tried)
            });
        match next {
            Some(next) => {
                self.handovers.name(context.now, address, next);
                self.outbox.hurry();
            }
            None if required => self.withdraw(context.now, address, reason),
            None => {
                self.handovers.remove(address);
                self.outbox.hurry();
                // Without an interface for it, the address must go all the same.
                self.evaluated = None;
                self.evaluate(context.now + EVALUATION_DELAY);
            }
        }
    }

    /// The owner of addresses names this node as their successor.
    pub(super) fn succeed(&mut self, context: &Context<'_>, from: NodeId, claims: &[Claim]) {
        let passive = context.membership.is_passive();
        if self.state() != NodeState::Ready || (passive && from != NodeId::SIBLING) {
            return;
        }
        for claim in claims {
            let address = claim.address;
            let Some(spec) = self.spec(address) else {
                continue;
            };
            let theirs = self.claims.owner(address).is_none_or(|owner| owner == from);
            if !spec.candidates.contains(NodeId::US)
                || context.segments(address, spec).is_empty()
                || !theirs
                || claim.epoch < self.claims.epoch(address)
            {
                continue;
            }
            let weight = |node| spec.candidates.weight(node);
            let reason = if from == NodeId::SIBLING {
                OwnerReason::Resumed
            } else if self.moving.is_to(context.now, address, NodeId::US) {
                OwnerReason::Moved
            } else if weight(from).is_some_and(|other| weight(NodeId::US) > Some(other)) {
                OwnerReason::Preferred
            } else {
                OwnerReason::HandedOver
            };
            self.claims.set(address, from, claim.epoch, context.now);
            self.drop_intent(address);
            self.take(context, address, reason);
        }
        if from == NodeId::SIBLING && !claims.is_empty() {
            self.effects.push_back(Effect::Activate);
        }
    }

    /// An older process of this node is gone: this one goes on with its addresses.
    pub(super) fn inherit(&mut self, context: &Context<'_>) {
        if context.membership.peers().is_alive(NodeId::SIBLING) {
            return;
        }
        let addresses: Vec<_> = self.claims.of(NodeId::SIBLING).collect();
        for address in addresses {
            let ours = self.spec(address).is_some_and(|spec| {
                spec.candidates.contains(NodeId::US) && !context.segments(address, spec).is_empty()
            });
            if ours {
                self.take(context, address, OwnerReason::Resumed);
            } else {
                self.claims.release(context.now, address);
                self.mark_unplaced(context.now, address);
            }
        }
    }

    /// An operator asks this node to hand an address over, or to ask its owner for that.
    pub(crate) fn move_to(&mut self, context: &Context<'_>, address: IpAddr, node: &Arc<str>) {
        if self.addresses.contains_key(&address) {
            self.outbox.repeat(Section::Move {
                node: node.clone(),
                addresses: vec![address],
            });
            self.asked_to_move(context, address, node);
        }
    }

    /// An operator asks the owner of an address to hand it over.
    pub(super) fn asked_to_move(
        &mut self,
        context: &Context<'_>,
        address: IpAddr,
        node: &Arc<str>,
    ) {
        let Some(node) = context.membership.nodes().get(node) else {
            return;
        };
        self.moving.add(context.now, address, node);
        let ours = self.claims.owner(address) == Some(NodeId::US);
        if !ours || node == NodeId::US || self.state() != NodeState::Ready {
            return;
        }
        let can = self.spec(address).is_some_and(|spec| {
            let segments = context.segments(address, spec);
            spec.candidates.contains(node) && context.may_own(node, &segments, false)
        });
        if can && self.handovers.get(address).is_none() {
            self.name_successor(context, address, node, OwnerReason::Moved, false);
        }
    }

    /// The process ends. `restarting`: it comes back within seconds.
    pub(crate) fn leave(&mut self, context: &Context<'_>, restarting: bool) {
        if self.ending.state().is_some() {
            return;
        }
        for address in std::mem::take(&mut self.our_intents) {
            self.drop_intent(address);
        }
        let addresses = self.our_addresses();
        if context.membership.has_successor() {
            for address in addresses {
                let reason = OwnerReason::HandedOver;
                self.name_successor(context, address, NodeId::SIBLING, reason, true);
            }
        } else if restarting {
            self.say_restarting(context.now);
            return;
        } else if self.settle.is_done() {
            self.hand_over(context, &addresses, OwnerReason::HandedOver, true);
        } else {
            for address in addresses {
                self.withdraw(context.now, address, OwnerReason::HandedOver);
            }
        }
        self.say_leaving(context.now);
    }
}
