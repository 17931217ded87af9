//! What hellos of peers change.

use std::net::IpAddr;
use std::sync::Arc;

use super::address::{Change, Effect, Phase};
use super::claims::INTENT_LIFE;
use super::placement::conflict_order;
use super::sync::Check;
use super::{Context, EVALUATION_DELAY, Ownership, PLACEMENT_DELAY};
use crate::config::Time;
use crate::limits::RESTART_HOLD;
use crate::membership::{Arrival, Digest, NodeId};
use crate::status::{NodeState, OwnerReason};
use crate::wire::hello::{Claim, Hello, Section};

impl Ownership {
    /// A hello of a peer.
    pub(crate) fn receive(&mut self, context: &Context<'_>, arrival: &Arrival, hello: &Hello) {
        let node = arrival.node;
        if arrival.new_instance && node != NodeId::SIBLING {
            self.process_started(context, node);
        }
        if arrival.up {
            // It may not know this node yet.
            self.outbox.hurry();
        }
        for section in &hello.sections {
            self.receive_section(context, node, hello, section);
        }
        self.check_digest(context, arrival, hello);
    }

    fn process_started(&mut self, context: &Context<'_>, node: NodeId) {
        self.sync.reset(node);
        let claims: Vec<_> = self
            .claims
            .of(node)
            .map(|address| self.claims.wire(address))
            .collect();
        if claims.is_empty() {
            return;
        }
        self.resuming.insert(node, context.now + RESTART_HOLD);
        let membership = context.membership;
        let us = membership.nodes().name(NodeId::US);
        let segments: Vec<_> = membership
            .links()
            .working()
            .map(|link| link.index)
            .filter(|segment| membership.peers().is_alive_on(*segment, node))
            .collect();
        let shares = |peer| {
            let mut segments = segments.iter();
            segments.any(|segment| membership.peers().is_alive_on(*segment, peer))
        };
        let first_ready = membership
            .nodes()
            .others()
            .filter(|peer| *peer != node)
            .filter(|peer| {
                let facts = membership.peers().node(*peer);
                facts.is_some_and(|facts| facts.state == NodeState::Ready) && shares(*peer)
            })
            .map(|peer| membership.nodes().name(peer))
            .min();
        if self.state() == NodeState::Ready && first_ready.is_none_or(|first| us < first) {
            self.outbox.repeat(Section::Remembered {
                node: membership.nodes().name(node),
                claims,
            });
        }
    }

    fn receive_section(
        &mut self,
        context: &Context<'_>,
        from: NodeId,
        hello: &Hello,
        section: &Section,
    ) {
        let us = |name: &Arc<str>| context.membership.nodes().get(name) == Some(NodeId::US);
        match section {
            Section::Claims(claims) => {
                for claim in claims {
                    self.sync.claim(from, claim.address, claim.epoch);
                    self.peer_claims(context, from, hello.state, *claim);
                }
            }
            Section::Intents(claims) => {
                let until = context.now + INTENT_LIFE.max(hello.interval * 3);
                for claim in claims {
                    self.peer_intends(context, from, claim.address, until);
                }
            }
            Section::Released(claims) => {
                for claim in claims {
                    self.peer_releases(context, from, *claim);
                }
            }
            Section::Successors { node, claims } if us(node) => {
                self.succeed(context, from, claims);
            }
            Section::Remembered { node, claims } if us(node) && !self.settle.is_done() => {
                for claim in claims {
                    self.remembered.insert(claim.address);
                    self.claims
                        .remember(claim.address, claim.epoch, context.now);
                }
            }
            Section::RequestClaims { node } if us(node) => self.outbox.all_claims(),
            Section::Move { node, addresses } => {
                for address in addresses {
                    self.asked_to_move(context, *address, node);
                }
            }
            Section::TestRequest { node, addresses } if us(node) => {
                self.test_requested(context.now, from, addresses);
            }
            Section::TestResult { node, answers } if us(node) => {
                self.test_result(context, from, answers);
            }
            _ => {}
        }
    }

    /// A peer owns an address, it says.
    fn peer_claims(&mut self, context: &Context<'_>, node: NodeId, state: NodeState, claim: Claim) {
        let Claim { address, epoch } = claim;
        let known = self.claims.get(address);
        let owner = known.and_then(|entry| entry.owner);
        // Most claims are repetitions.
        if owner == Some(node) && known.is_some_and(|entry| entry.epoch >= epoch) {
            return;
        }
        self.intents.remove(address, node);
        match owner {
            Some(owner) if owner == node => {}
            // A silent node that claimed it later can't answer for it.
            Some(owner) if self.is_silent(context, owner, address) => {}
            Some(owner) if !self.beats(context, node, owner, claim) => {
                if owner == NodeId::US {
                    self.claim_won(context, claim, node, state);
                }
                return;
            }
            _ => {}
        }
        let reason = self.reason_of_claim(context, node, owner, address);
        if owner == Some(NodeId::US) {
            self.lose(context, address, node);
        }
        self.drop_intent(address);
        self.claims.set(address, node, epoch, context.now);
        self.takeovers.remove(address);
        if let Some(known) = self.addresses.get_mut(&address) {
            self.unplaced.remove(&(known.spec.created, address));
            known.reason = reason;
            if known.phase != Phase::Owned && owner != Some(NodeId::US) {
                known.moves.add(Change {
                    at: context.now,
                    from: owner,
                    to: Some(node),
                    reason,
                });
            }
        }
        // It is for the owner to report.
        self.end_conflict(address);
    }

    /// Whether a peer that owns an address is silent on the segments that count.
    fn is_silent(&self, context: &Context<'_>, owner: NodeId, address: IpAddr) -> bool {
        if owner == NodeId::US {
            return false;
        }
        let since = self
            .claims
            .get(address)
            .map_or(context.now, |entry| entry.since);
        match self.spec(address) {
            Some(spec) => context.is_silent(owner, &context.segments(address, spec), since),
            None => !context.membership.peers().is_alive(owner),
        }
    }

    /// Whether a claim is better than the known one.
    fn beats(&self, context: &Context<'_>, node: NodeId, owner: NodeId, claim: Claim) -> bool {
        let epoch = self.claims.epoch(claim.address);
        if claim.epoch != epoch {
            return claim.epoch > epoch;
        }
        self.spec(claim.address).is_some_and(|spec| {
            let order = |node| conflict_order(context, claim.address, spec, node);
            order(node) < order(owner)
        })
    }

    fn reason_of_claim(
        &self,
        context: &Context<'_>,
        node: NodeId,
        owner: Option<NodeId>,
        address: IpAddr,
    ) -> OwnerReason {
        let Some(owner) = owner else {
            return OwnerReason::Placed;
        };
        if owner == node {
            return OwnerReason::Resumed;
        }
        if let Some(handover) = self.handovers.get(address) {
            return handover.reason;
        }
        let silent = self.is_silent(context, owner, address);
        if silent || self.settle.is_waking() {
            OwnerReason::OwnerSilent
        } else if owner == NodeId::US {
            OwnerReason::ConflictWon
        } else {
            OwnerReason::HandedOver
        }
    }

    /// This node's claim is the better one. The peer may not know it.
    fn claim_won(&mut self, context: &Context<'_>, claim: Claim, node: NodeId, state: NodeState) {
        let address = claim.address;
        let Some(entry) = self.claims.get(address) else {
            return;
        };
        self.outbox.changed(address);
        self.other_speakers.remove(address);
        // The owner before repeats its claim until it receives ours, and a node that settles does
        // not answer.
        let settled = context.now > entry.since + CLAIM_ARRIVES;
        let conflicts = settled && state == NodeState::Ready && self.settle.is_done();
        if !conflicts || !self.count_claim_conflict(context.now, address) {
            return;
        }
        self.effects.push_back(Effect::AnnounceAgain(address));
        // The peer may be on-link on another segment, so that it wins by its own view. Then the
        // hashes of the names decide, which both know.
        let hash = |node| context.membership.nodes().hash(node);
        if claim.epoch == entry.epoch && hash(NodeId::US) < hash(node) {
            let epoch = entry.epoch.saturating_add(1);
            self.claims.set(address, NodeId::US, epoch, entry.since);
        }
    }

    /// A peer has a better claim for an address of this node.
    fn lose(&mut self, context: &Context<'_>, address: IpAddr, to: NodeId) {
        let reason = self.reason_of_claim(context, to, Some(NodeId::US), address);
        if reason == OwnerReason::ConflictWon {
            self.count_claim_conflict(context.now, address);
        }
        let name = context.membership.nodes().name(to);
        self.stop(context.now, address, Some(to), Some(name), reason);
    }

    fn peer_intends(&mut self, context: &Context<'_>, node: NodeId, address: IpAddr, until: Time) {
        if self.claims.owner(address) == Some(NodeId::US) {
            self.outbox.changed(address);
            return;
        }
        if self.our_intents.contains(&address) {
            let loses = self.spec(address).is_some_and(|spec| {
                let order = |node| conflict_order(context, address, spec, node);
                order(node) < order(NodeId::US)
            });
            if !loses {
                return;
            }
            self.drop_intent(address);
        }
        self.intents.set(address, node, until);
    }

    fn peer_releases(&mut self, context: &Context<'_>, node: NodeId, claim: Claim) {
        self.intents.remove(claim.address, node);
        self.sync.release(node, claim.address);
        let ends = self
            .claims
            .get(claim.address)
            .is_some_and(|entry| entry.owner == Some(node) && claim.epoch >= entry.epoch);
        if ends {
            // The configuration of other nodes may change a moment later.
            if self.place_at <= context.now {
                self.place_at = context.now + PLACEMENT_DELAY;
            }
            self.released(context, node, claim.address);
        }
    }

    /// A peer no longer owns an address, and no other node does.
    fn released(&mut self, context: &Context<'_>, node: NodeId, address: IpAddr) {
        self.claims.release(context.now, address);
        self.takeovers.remove(address);
        match self.addresses.get_mut(&address) {
            Some(known) => known.moves.add(Change {
                at: context.now,
                from: Some(node),
                to: None,
                reason: OwnerReason::NoCandidate,
            }),
            None => self.claims.forget(address),
        }
        self.mark_unplaced(context.now, address);
    }

    fn check_digest(&mut self, context: &Context<'_>, arrival: &Arrival, hello: &Hello) {
        let node = arrival.node;
        if let Some(until) = self.resuming.get(&node) {
            if hello.state == NodeState::Settling && context.now < *until {
                return;
            }
            self.resuming.remove(&node);
        }
        let announced = Digest {
            count: hello.owned,
            hash: hello.digest,
        };
        let eager = !self.settle.is_done() || arrival.up;
        let known = self.claims.share(node);
        match self.sync.check(context.now, node, announced, known, eager) {
            Check::Synced => {}
            Check::Wait => return,
            Check::Ask => {
                self.outbox.once(Section::RequestClaims {
                    node: context.membership.nodes().name(node),
                });
                return;
            }
            Check::Replace(addresses) => {
                let gone: Vec<_> = self
                    .claims
                    .of(node)
                    .filter(|address| !addresses.contains(address))
                    .collect();
                for address in gone {
                    self.released(context, node, address);
                }
            }
        }
        if arrival.fresh && self.settle.is_waking() {
            self.settle.received(node);
            self.evaluate(context.now + EVALUATION_DELAY);
        }
    }
}

/// After this time the owner before has received a claim.
const CLAIM_ARRIVES: std::time::Duration = std::time::Duration::from_millis(500);
