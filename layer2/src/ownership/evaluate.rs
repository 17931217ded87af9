//! What this node does after something changed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::{Effect, Phase};
use super::placement::Placement;
use super::takeover::Round;
use super::{Context, Ownership};
use crate::config::{Interfaces, Time};
use crate::interface::IfIndex;
use crate::limits::{DEAD_PROCESS_HOLD, RESTART_HOLD};
use crate::membership::NodeId;
use crate::responder::{Probe, Timing};
use crate::status::{NodeState, OwnerReason};
use crate::wire::hello::Section;

/// Placement considers each unplaced address and each candidate, so it doesn't run for each change.
const PLACEMENT_INTERVAL: Duration = Duration::from_millis(50);
/// The next best node places an address that the best one does not claim in this time.
const PLACEMENT_PATIENCE: Duration = Duration::from_secs(2);
/// How often the kernel of a node is probed whose process is dead.
const KERNEL_CHECK: Duration = Duration::from_millis(300);
/// How often a node that is cut off looks for witnesses.
const WITNESS_CHECK: Duration = Duration::from_secs(1);
/// How many other hosts are asked.
const WITNESSES: usize = 3;

impl Ownership {
    /// This node listened long enough.
    pub(super) fn settled(&mut self, context: &Context<'_>) {
        self.effects.push_back(Effect::Suspend(false));
        for address in std::mem::take(&mut self.remembered) {
            let free = self.claims.owner(address).is_none();
            let ours = self
                .spec(address)
                .is_some_and(|spec| spec.candidates.contains(NodeId::US));
            if free && ours {
                self.take(context, address, OwnerReason::Resumed);
            }
        }
        self.outbox.hurry();
        self.evaluated = None;
        self.evaluate(context.now);
    }

    /// Evaluates everything that may have changed.
    pub(super) fn evaluate_now(&mut self, context: &Context<'_>) {
        let now = context.now;
        let peers = context.membership.peers();
        self.intents
            .expire(now, |node| peers.is_alive(node) || node == NodeId::US);
        if self.state() != NodeState::Ready || context.membership.is_standby() {
            return;
        }
        self.inherit(context);
        if self.evaluated != Some(peers.generation()) {
            self.evaluated = Some(peers.generation());
            self.find_silent(context);
            self.check_our_addresses(context);
        }
        self.place(context);
        self.check_preferences(context);
        self.resolve_conflicts(now);
    }

    /// Claims the unplaced addresses for which placement chooses this node.
    fn place(&mut self, context: &Context<'_>) {
        if self.unplaced.is_empty() {
            self.may_place = false;
            return;
        }
        let now = context.now;
        if now < self.place_at {
            self.evaluate(self.place_at);
            return;
        }
        let peers = context.membership.peers();
        let complete = self.sync.is_complete(|node| peers.is_alive(node));
        if !complete && now < self.sync_deadline(now) {
            self.evaluate(now + Duration::from_millis(50));
            return;
        }
        self.sync_until = None;
        self.place_at = now + PLACEMENT_INTERVAL;
        let mut placement = Placement::new(context, &self.claims, &self.intents).with_settling();
        for _ in &self.our_intents {
            placement.count(NodeId::US);
        }
        let mut ours = Vec::new();
        let mut may_place = false;
        let mut again: Option<Time> = None;
        let mut retry = |at: Time| again = Some(again.map_or(at, |known| known.min(at)));
        for (_, address) in &self.unplaced {
            let Some(known) = self.addresses.get(address) else {
                continue;
            };
            may_place |= known.spec.candidates.contains(NodeId::US);
            match known.phase {
                Phase::Withheld(until) if until > now => {
                    retry(until);
                    continue;
                }
                Phase::Idle | Phase::Withheld(_) => {}
                Phase::Intent | Phase::Owned => continue,
            }
            if self.intents.get(*address).is_some() {
                retry(now + PLACEMENT_PATIENCE);
                continue;
            }
            let Some(best) = placement.best(*address, &known.spec) else {
                continue;
            };
            placement.count(best);
            let waited = now.saturating_sub(known.idle_since);
            let late = waited >= PLACEMENT_PATIENCE
                && !context.is_blocked(best)
                && placement
                    .our_rank(*address, &known.spec)
                    .is_some_and(|rank| waited >= PLACEMENT_PATIENCE * rank);
            if best == NodeId::US || late {
                ours.push(*address);
            } else {
                retry(now + PLACEMENT_PATIENCE);
            }
        }
        self.may_place = may_place;
        if let Some(at) = again {
            self.evaluate(at);
        }
        for address in ours {
            self.intend(context, address);
        }
    }

    /// Until when placement waits for the claims of peers.
    fn sync_deadline(&mut self, now: Time) -> Time {
        *self.sync_until.get_or_insert(now + Duration::from_secs(1))
    }

    /// Finds addresses of silent nodes, and computes which of them this node takes over.
    fn find_silent(&mut self, context: &Context<'_>) {
        let mut silent = BTreeSet::new();
        for node in context.membership.nodes().others() {
            if self.claims.share(node).count == 0 {
                continue;
            }
            let mut orphans: Vec<_> = self
                .claims
                .of(node)
                .filter_map(|address| {
                    let spec = self.spec(address)?;
                    let entry = self.claims.get(address)?;
                    let segments = context.segments(address, spec);
                    context
                        .is_silent(node, &segments, entry.since)
                        .then_some((spec.created, address))
                })
                .collect();
            if orphans.is_empty() {
                continue;
            }
            silent.insert(node);
            orphans.sort_unstable();
            let mut placement = Placement::new(context, &self.claims, &self.intents).without(node);
            let mut ranks = Vec::new();
            for (_, address) in orphans {
                let Some(spec) = self.spec(address) else {
                    continue;
                };
                if let Some(rank) = placement.our_rank(address, spec) {
                    ranks.push((address, rank));
                }
                if let Some(best) = placement.best(address, spec) {
                    placement.count(best);
                }
            }
            self.takeovers.set(context.now, node, ranks.into_iter());
        }
        self.takeovers.retain(|node| silent.contains(&node));
    }

    /// Starts the probes before a takeover.
    pub(super) fn probe_silent(&mut self, context: &Context<'_>, node: NodeId) {
        let due = self.takeovers.due(context.now, node);
        let mut segments: Vec<_> = due
            .iter()
            .filter_map(|address| Some(context.segments(*address, self.spec(*address)?)))
            .flatten()
            .collect();
        segments.sort_unstable();
        segments.dedup();
        let mut others = Vec::new();
        for segment in &segments {
            let peer = context.membership.peers().peer(*segment, node);
            let kernel = peer.into_iter().flat_map(|peer| &peer.networks);
            others.extend(kernel.map(|network| (network.addr(), *segment)).take(2));
            if context.is_alone(&segments) {
                let link = context.membership.links().get(*segment);
                let gateways = link.into_iter().flat_map(|link| &link.gateways).copied();
                let recent = context.responder.recent_hosts(*segment);
                let recent = recent.into_iter().map(|(address, _)| address);
                let witnesses = gateways.chain(recent.take(WITNESSES));
                others.extend(witnesses.map(|address| (address, *segment)));
            }
        }
        let known: Vec<_> = others.iter().map(|(address, _)| *address).collect();
        let addresses = self.takeovers.start(context.now, node, &known);
        for address in addresses {
            if let Some(spec) = self.spec(address) {
                let interfaces = spec.interfaces.clone();
                self.probe(address, interfaces);
            }
        }
        for (address, segment) in others {
            let name = context.membership.links().name(segment);
            self.probe(address, Arc::new(Interfaces::Named([name].into())));
        }
    }

    fn probe(&mut self, address: IpAddr, interfaces: Arc<Interfaces>) {
        self.effects.push_back(Effect::Probe(Probe {
            address,
            interfaces,
            timing: Timing::TAKEOVER,
            collect: true,
        }));
    }

    /// All probes of a silent node have a result.
    pub(super) fn probed_silent(&mut self, context: &Context<'_>, node: NodeId, round: &Round) {
        let now = context.now;
        let peers = context.membership.peers();
        let mut kernel_answers = false;
        for (address, answer) in &round.answers {
            let from = peers.by_mac(answer.interface, answer.mac);
            if !round.addresses.contains(address) {
                kernel_answers |= from == Some(node);
                continue;
            }
            match from {
                Some(from) if from == node => {
                    self.counters.false_suspicions += 1;
                    let interval = peers
                        .peer(answer.interface, node)
                        .map_or(KERNEL_CHECK, |peer| peer.interval);
                    self.takeovers.wait(node, now + interval * 3);
                    return;
                }
                Some(_) if context.service_proxy.contains(address) => {}
                Some(other) => {
                    self.outbox.once(Section::RequestClaims {
                        node: context.membership.nodes().name(other),
                    });
                    self.takeovers.wait(node, now + KERNEL_CHECK);
                    return;
                }
                None => {
                    self.claims.release(now, *address);
                    self.withhold(context, *address, *answer, None);
                    self.mark_unplaced(now, *address);
                }
            }
        }
        let segments: Vec<_> = round
            .addresses
            .iter()
            .filter_map(|address| Some(context.segments(*address, self.spec(*address)?)))
            .flatten()
            .collect();
        let (silent_since, hold) = self.silence(context, node, &segments);
        if kernel_answers && now < silent_since + hold {
            let next = (now + KERNEL_CHECK).min(silent_since + hold);
            self.takeovers.wait(node, next);
            return;
        }
        let expected = silent_since + context.membership.interval();
        if context.is_alone(&segments)
            && !kernel_answers
            && !self.witnesses.since(&segments, expected)
        {
            self.mark_isolated(context, node);
            self.takeovers.wait_for_witness(node, now + WITNESS_CHECK);
            return;
        }
        for address in self.takeovers.due(now, node) {
            self.take(context, address, OwnerReason::OwnerSilent);
        }
    }

    fn mark_isolated(&mut self, context: &Context<'_>, node: NodeId) {
        for address in self.takeovers.due(context.now, node) {
            if let Some(known) = self.addresses.get_mut(&address) {
                known.reason = OwnerReason::Isolated;
            }
        }
    }

    /// Since when a node is silent, and how long peers wait while its kernel answers.
    fn silence(
        &self,
        context: &Context<'_>,
        node: NodeId,
        segments: &[IfIndex],
    ) -> (Time, Duration) {
        let peers = context.membership.peers();
        let since = segments
            .iter()
            .filter_map(|segment| peers.peer(*segment, node))
            .map(|peer| peer.last)
            .max()
            .unwrap_or(context.now);
        let restarting = peers
            .node(node)
            .is_some_and(|facts| facts.state == NodeState::Restarting);
        let hold = if restarting {
            RESTART_HOLD
        } else {
            DEAD_PROCESS_HOLD
        };
        (since, hold)
    }
}
