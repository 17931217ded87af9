//! What this node does after something changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::{Address, Effect, Phase};
use super::placement::Placement;
use super::takeover::{Round, Successor, Turn};
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

/// What this node does with an unplaced address.
enum Choice {
    /// It claims the address.
    Ours,
    /// It looks again at this time.
    Later(Time),
    /// Nothing.
    None,
}

impl Ownership {
    /// This node listened long enough.
    pub(super) fn settled(&mut self, context: &Context<'_>) {
        self.effects.push_back(Effect::Suspend(false));
        for address in std::mem::take(&mut self.remembered) {
            let free = self.claims.owner(address).is_none();
            let ours = self
                .spec(address)
                .is_some_and(|spec| spec.candidates.contains(NodeId::US));
            if free && ours && !context.membership.is_passive() {
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
        if self.state() != NodeState::Ready || context.membership.is_passive() {
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
        for (_, address) in &self.unplaced {
            let Some(known) = self.addresses.get(address) else {
                continue;
            };
            may_place |= known.spec.candidates.contains(NodeId::US);
            match self.choose(context, &mut placement, *address, known) {
                Choice::Ours => ours.push(*address),
                Choice::Later(at) => again = Some(again.map_or(at, |known| known.min(at))),
                Choice::None => {}
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

    /// Whether this node claims an unplaced address.
    fn choose(
        &self,
        context: &Context<'_>,
        placement: &mut Placement<'_>,
        address: IpAddr,
        known: &Address,
    ) -> Choice {
        let now = context.now;
        match known.phase {
            Phase::Withheld(until) if until > now => return Choice::Later(until),
            Phase::Idle | Phase::Withheld(_) => {}
            Phase::Intent | Phase::Owned => return Choice::None,
        }
        if self.intents.get(address).is_some() {
            return Choice::Later(now + PLACEMENT_PATIENCE);
        }
        let Some(best) = placement.best(address, &known.spec) else {
            return Choice::None;
        };
        placement.count(best);
        let waited = now.saturating_sub(known.idle_since);
        // While no node at all is received, a node that is not received may own its part.
        let may_own = || {
            context.is_blocked(best) && context.is_alone(&context.segments(address, &known.spec))
        };
        let mut is_late = || {
            let rank = placement.our_rank(address, &known.spec);
            rank.is_some_and(|rank| waited >= PLACEMENT_PATIENCE * rank)
        };
        if best == NodeId::US || waited >= PLACEMENT_PATIENCE && !may_own() && is_late() {
            Choice::Ours
        } else {
            Choice::Later(now + PLACEMENT_PATIENCE)
        }
    }

    /// Until when placement waits for the claims of peers.
    fn sync_deadline(&mut self, now: Time) -> Time {
        *self.sync_until.get_or_insert(now + Duration::from_secs(1))
    }

    /// Finds addresses of silent nodes, and computes which of them this node takes over.
    ///
    /// One walk places the addresses of all silent nodes. A walk for each node would not count the
    /// addresses that this node is about to take over from another one. A successor stays the same
    /// for a while: nodes that learn of silent nodes and claims in another order would otherwise
    /// choose other successors.
    fn find_silent(&mut self, context: &Context<'_>) {
        let mut placement = Placement::new(context, &self.claims, &self.intents);
        let before = std::mem::take(&mut self.successors);
        let (mut kept, mut new) = (Vec::new(), Vec::new());
        for (_, address, of) in self.orphans(context) {
            let Some(spec) = self.spec(address) else {
                continue;
            };
            let known = before.get(&address).filter(|known| {
                known.is_kept(context.now, of)
                    && placement.is_first_choice(known.node, address, spec)
            });
            match known {
                Some(known) => {
                    placement.count(known.node);
                    kept.push((address, spec, *known));
                }
                None => new.push((address, spec, of)),
            }
        }
        let mut turns: BTreeMap<NodeId, Vec<(IpAddr, Turn)>> = BTreeMap::new();
        let mut successors = BTreeMap::new();
        for (address, spec, successor) in kept {
            let rank = successor.our_rank(|| placement.our_rank(address, spec));
            let turns = turns.entry(successor.of).or_default();
            turns.extend(rank.map(|rank| (address, successor.turn(rank))));
            successors.insert(address, successor);
        }
        for (address, spec, of) in new {
            let turns = turns.entry(of).or_default();
            let Some(node) = placement.best(address, spec) else {
                continue;
            };
            let successor = Successor::new(before.get(&address), context.now, of, node);
            let rank = placement.our_rank(address, spec);
            turns.extend(rank.map(|rank| (address, successor.turn(rank))));
            placement.count(node);
            successors.insert(address, successor);
        }
        self.successors = successors;
        self.takeovers.retain(|node| turns.contains_key(&node));
        for (node, turns) in turns {
            self.takeovers.set(context.now, node, turns.into_iter());
        }
    }

    /// The addresses of silent nodes, in the order of their creation, each with its node.
    fn orphans(&self, context: &Context<'_>) -> BTreeSet<(i64, IpAddr, NodeId)> {
        let mut orphans = BTreeSet::new();
        for node in context.membership.nodes().others() {
            if self.claims.share(node).count == 0 {
                continue;
            }
            orphans.extend(self.claims.of(node).filter_map(|address| {
                let spec = self.spec(address)?;
                let entry = self.claims.get(address)?;
                let segments = context.segments(address, spec);
                let silent = context.is_silent(node, &segments, entry.since);
                silent.then_some((spec.created, address, node))
            }));
        }
        orphans
    }

    /// Starts the probes before a takeover.
    pub(super) fn probe_silent(&mut self, context: &Context<'_>, node: NodeId) {
        if self.takeovers.goes_on(context.now, node, context.responder) {
            return;
        }
        let due = self.takeovers.due(context.now, node);
        let segments = self.segments_of(context, &due);
        let proven = self
            .witnesses
            .since(&segments, self.silence(context, node, &segments).due);
        let mut others = Vec::new();
        for segment in &segments {
            let peer = context.membership.peers().peer(*segment, node);
            let kernel = peer.into_iter().flat_map(|peer| &peer.networks);
            others.extend(kernel.map(|network| (network.addr(), *segment)).take(2));
            if !proven {
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
                let segments = context.segments(address, spec);
                self.probe(context, address, &segments);
            }
        }
        for (address, segment) in others {
            self.probe(context, address, &[segment]);
        }
    }

    /// The segments that count for any of these addresses.
    fn segments_of(&self, context: &Context<'_>, addresses: &[IpAddr]) -> BTreeSet<IfIndex> {
        let specs = addresses.iter();
        let specs = specs.filter_map(|address| Some((*address, self.spec(*address)?)));
        specs
            .flat_map(|(address, spec)| context.segments(address, spec))
            .collect()
    }

    fn probe(&mut self, context: &Context<'_>, address: IpAddr, segments: &[IfIndex]) {
        let links = context.membership.links();
        let names = segments.iter().map(|segment| links.name(*segment));
        self.effects.push_back(Effect::Probe(Probe {
            address,
            interfaces: Arc::new(Interfaces::Named(names.collect())),
            timing: Timing::TAKEOVER,
        }));
    }

    /// All probes of a silent node have a result.
    pub(super) fn probed_silent(&mut self, context: &Context<'_>, node: NodeId, round: &Round) {
        let now = context.now;
        let peers = context.membership.peers();
        let mut kernel_answers = false;
        let mut asked = false;
        for (address, answer) in &round.answers {
            let from = peers.by_mac(answer.interface, answer.mac);
            if !round.addresses.contains(address) {
                kernel_answers |= from == Some(node);
                continue;
            }
            match from {
                Some(from) if context.service_proxy.contains(address) => {
                    kernel_answers |= from == node;
                }
                Some(from) if from == node => {
                    self.counters.false_suspicions += 1;
                    let interval = peers
                        .peer(answer.interface, node)
                        .map_or(KERNEL_CHECK, |peer| peer.interval);
                    self.takeovers.wait(node, now + interval * 3);
                    return;
                }
                // It may have claimed the address, and its hello is on its way.
                Some(other) if self.takeovers.ask(node, *address) => {
                    self.outbox.once(Section::RequestClaims {
                        node: context.membership.nodes().name(other),
                    });
                    asked = true;
                }
                other => {
                    self.claims.release(now, *address);
                    self.withhold(context, *address, *answer, other);
                    self.mark_unplaced(now, *address);
                }
            }
        }
        if asked {
            self.takeovers.wait(node, now + KERNEL_CHECK);
            return;
        }
        let segments = self.segments_of(context, &round.addresses);
        let silence = self.silence(context, node, &segments);
        if kernel_answers && now < silence.held_until {
            let next = (now + KERNEL_CHECK).min(silence.held_until);
            self.takeovers.wait(node, next);
            return;
        }
        if !kernel_answers && !self.witnesses.since(&segments, silence.due) {
            self.takeovers.wait_for_witness(node, now + WITNESS_CHECK);
            return;
        }
        for address in self.takeovers.due(now, node) {
            self.take(context, address, OwnerReason::OwnerSilent);
        }
    }

    fn silence(
        &self,
        context: &Context<'_>,
        node: NodeId,
        segments: &BTreeSet<IfIndex>,
    ) -> Silence {
        let peers = context.membership.peers();
        let last = segments
            .iter()
            .filter_map(|segment| peers.peer(*segment, node))
            .map(|peer| (peer.last, peer.interval))
            .max();
        let (last, interval) = last.unwrap_or((context.now, Duration::ZERO));
        let restarting = peers
            .node(node)
            .is_some_and(|facts| facts.state == NodeState::Restarting);
        let hold = if restarting {
            RESTART_HOLD
        } else {
            DEAD_PROCESS_HOLD
        };
        Silence {
            due: last + interval,
            held_until: last + hold,
        }
    }
}

/// The silence of a node.
struct Silence {
    /// When its next hello was due. A frame that arrives later proves that the link works.
    due: Time,
    /// Until when peers wait for it while its kernel answers.
    held_until: Time,
}
