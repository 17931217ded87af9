//! Which node owns which address: this node's view, and what it does with its own part.

mod address;
mod candidates;
mod claims;
mod conflicts;
mod context;
mod ending;
mod evaluate;
mod handover;
mod hellos;
mod outbox;
mod placement;
mod planned;
mod prediction;
mod preference;
mod report;
mod self_test;
mod settle;
mod sync;
mod takeover;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use address::Effect;
use address::{Address, Change, Phase};
use candidates::{CandidateSets, Spec};
use claims::{Claims, Intents};
use conflicts::{Contested, Limit, OtherSpeakers};
pub(crate) use context::Context;
use ending::Ending;
use handover::Handovers;
use outbox::Outbox;
use planned::Moving;
pub use prediction::owners_at_a_cold_start;
use preference::Preferences;
use self_test::SelfTests;
use settle::Settle;
use sync::Sync;
use takeover::{Successor, Takeovers};
use witness::Witnesses;

use crate::config::{AddressSpec, Time};
use crate::interface::IfIndex;
use crate::membership::{Digest, Links, Membership, NodeId, Nodes};
use crate::status::{Counters, Event, NodeState, OwnerReason};
use crate::wire::hello::Section;

/// Changes of addresses within this time are placed together, so that all nodes know the same
/// when they place.
const PLACEMENT_DELAY: Duration = Duration::from_millis(50);
/// Frames that arrived together are evaluated together.
const EVALUATION_DELAY: Duration = Duration::from_millis(1);

/// The addresses, and who owns them.
#[derive(Debug)]
pub(crate) struct Ownership {
    addresses: BTreeMap<IpAddr, Address>,
    sets: CandidateSets,
    claims: Claims,
    intents: Intents,
    /// The addresses that this node is about to claim.
    our_intents: BTreeSet<IpAddr>,
    /// The addresses without an owner, in the order of placement.
    unplaced: BTreeSet<(i64, IpAddr)>,
    /// Claims of the process before this one.
    remembered: BTreeSet<IpAddr>,
    /// Nodes whose process is new, and has not resumed its claims yet.
    resuming: BTreeMap<NodeId, Time>,
    settle: Settle,
    sync: Sync,
    takeovers: Takeovers,
    /// The successors of the addresses of silent nodes.
    successors: BTreeMap<IpAddr, Successor>,
    handovers: Handovers,
    witnesses: Witnesses,
    outbox: Outbox,
    effects: VecDeque<Effect>,
    counters: Counters,
    preferences: Preferences,
    /// Moves that an operator asked for.
    moving: Moving,
    ending: Ending,
    evaluate_at: Option<Time>,
    /// The state of the peers that was evaluated last.
    evaluated: Option<u64>,
    /// Whether this node may own one of the unplaced addresses.
    may_place: bool,
    /// Placement does not run before.
    place_at: Time,
    /// Placement waits for the claims of peers, but not longer.
    sync_until: Option<Time>,
    self_tests: SelfTests,
    contests: Limit,
    contested_at: Contested,
    other_speakers: OtherSpeakers,
    claim_conflicts: Limit,
    warned_of_service_proxy: bool,
}

impl Ownership {
    /// Without addresses.
    pub(crate) fn new() -> Self {
        Self {
            addresses: BTreeMap::new(),
            sets: CandidateSets::default(),
            claims: Claims::default(),
            intents: Intents::default(),
            our_intents: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            remembered: BTreeSet::new(),
            resuming: BTreeMap::new(),
            settle: Settle::default(),
            sync: Sync::default(),
            takeovers: Takeovers::default(),
            successors: BTreeMap::new(),
            handovers: Handovers::default(),
            witnesses: Witnesses::default(),
            outbox: Outbox::default(),
            effects: VecDeque::new(),
            counters: Counters::default(),
            preferences: Preferences::default(),
            moving: Moving::default(),
            ending: Ending::default(),
            evaluate_at: None,
            evaluated: None,
            may_place: false,
            place_at: Time::ZERO,
            sync_until: None,
            self_tests: SelfTests::default(),
            contests: Limit::default(),
            contested_at: Contested::default(),
            other_speakers: OtherSpeakers::default(),
            claim_conflicts: Limit::default(),
            warned_of_service_proxy: false,
        }
    }

    /// Adds or replaces an address.
    pub(crate) fn set_address(
        &mut self,
        now: Time,
        nodes: &mut Nodes,
        address: IpAddr,
        spec: AddressSpec,
    ) {
        let spec = self.sets.resolve(nodes, spec);
        let candidate = spec.candidates.contains(NodeId::US);
        if (self.spec(address)).is_some_and(|known| known.interfaces != spec.interfaces)
            || !candidate
        {
            // The probe that runs does not show that the address may be claimed.
            self.drop_intent(address);
        }
        match self.addresses.get_mut(&address) {
            Some(known) => {
                self.unplaced.remove(&(known.spec.created, address));
                let interfaces_changed = known.spec.interfaces != spec.interfaces;
                known.spec = spec;
                if interfaces_changed && known.phase == Phase::Owned {
                    let interfaces = known.spec.interfaces.clone();
                    self.effects
                        .push_back(Effect::Announce(address, interfaces));
                }
            }
            None => {
                self.addresses.insert(address, Address::new(now, spec));
            }
        }
        self.mark_unplaced(now, address);
        self.evaluated = None;
        self.evaluate(now + PLACEMENT_DELAY);
    }

    /// Removes an address.
    pub(crate) fn remove_address(&mut self, now: Time, address: IpAddr) {
        self.drop_intent(address);
        if self.claims.owner(address) == Some(NodeId::US) {
            self.withdraw(now, address, OwnerReason::NoCandidate);
        }
        let Some(known) = self.addresses.remove(&address) else {
            return;
        };
        self.unplaced.remove(&(known.spec.created, address));
        self.takeovers.remove(address);
        self.self_tests.remove(address);
        self.contests.remove(address);
        self.end_conflict(address);
        self.successors.remove(&address);
        self.claim_conflicts.remove(address);
        self.claims.forget(address);
        self.evaluated = None;
        self.evaluate(now);
    }

    /// All addresses were added once.
    pub(crate) fn complete(&mut self) {
        self.settle.complete();
    }

    /// Whether there is a key to authenticate hellos.
    pub(crate) fn set_key(&mut self, now: Time, has_key: bool) {
        self.settle.set_key(now, has_key);
        if !has_key {
            for address in self.our_addresses() {
                self.withdraw(now, address, OwnerReason::NoKey);
            }
            for address in std::mem::take(&mut self.our_intents) {
                self.drop_intent(address);
            }
        }
        self.evaluate(now);
    }

    /// Whether there is an interface with a carrier.
    pub(crate) fn set_link(&mut self, now: Time, has_link: bool) {
        self.settle.set_link(now, has_link);
        self.evaluate(now);
    }

    /// This process or its link was deaf. Nothing is answered until it listened. `awaited`: the
    /// nodes that were alive before.
    pub(crate) fn wake(&mut self, now: Time, awaited: BTreeSet<NodeId>) {
        if !self.settle.is_done() && !self.settle.is_waking() {
            self.settle.restart(now, awaited);
            return;
        }
        if self.settle.is_done() {
            self.effects.push_back(Effect::Suspend(true));
        }
        for address in std::mem::take(&mut self.our_intents) {
            self.drop_intent(address);
        }
        self.takeovers = Takeovers::default();
        self.settle.restart(now, awaited);
        self.evaluated = None;
        self.outbox.hurry();
    }

    /// A process stalled.
    pub(crate) fn count_stall(&mut self, gap: Duration) {
        self.counters.stalls += 1;
        self.effects
            .push_back(Effect::Event(Event::Stalled { gap }));
    }

    /// The state that hellos announce.
    pub(crate) fn state(&self) -> NodeState {
        match self.ending.state() {
            Some(state) => state,
            None if self.settle.is_done() => NodeState::Ready,
            None => NodeState::Settling,
        }
    }

    /// Whether hellos must be frequent: the node owns addresses or may have to claim some soon.
    pub(crate) fn is_busy(&self) -> bool {
        !self.settle.is_done() || self.claims.share(NodeId::US).count > 0 || self.may_place
    }

    /// The number and digest of the claims of this node.
    pub(crate) fn digest(&self) -> Digest {
        self.claims.share(NodeId::US)
    }

    /// The content of the next hello.
    pub(crate) fn sections(&mut self, nodes: &Nodes, interval: Duration) -> Vec<Section> {
        let mut sections = self
            .outbox
            .sections(&self.claims, &self.our_intents, interval);
        for (node, addresses) in self.handovers.by_successor() {
            sections.push(Section::Successors {
                node: nodes.name(node),
                claims: addresses
                    .into_iter()
                    .map(|address| self.claims.wire(address))
                    .collect(),
            });
        }
        sections
    }

    /// Whether the next hello must not wait for its time.
    pub(crate) fn take_urgent(&mut self) -> bool {
        self.outbox.take_urgent()
    }

    /// Whether the process ended, and must not send anything any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.ending.is_ended()
    }

    /// The next effect.
    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::handle_timeout`] must be called.
    pub(crate) fn poll_timeout(&self, interval: Duration) -> Option<Time> {
        let takes_over = self.state() == NodeState::Ready;
        let takeovers = self.takeovers.poll_timeout().filter(|_| takes_over);
        let self_tests = self.self_tests.poll_timeout().filter(|_| takes_over);
        [
            self.evaluate_at,
            self.settle.poll_timeout(interval),
            takeovers,
            self_tests,
            self.handovers.poll_timeout(),
            self.ending.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Handles the timers that expired, and evaluates what changed.
    pub(crate) fn handle_timeout(&mut self, context: &Context<'_>) {
        let now = context.now;
        let interval = context.membership.interval();
        if self.settle.handle_timeout(now, interval) {
            self.settled(context);
        }
        if self.evaluate_at.is_some_and(|at| at <= now) {
            self.evaluate_at = None;
            self.evaluate_now(context);
        }
        if context.membership.is_passive() {
            self.takeovers = Takeovers::default();
        }
        if self.state() == NodeState::Ready {
            for node in self.takeovers.ready(now) {
                self.probe_silent(context, node);
            }
            self.test_due(context);
        }
        for address in self.handovers.late(now) {
            self.name_next_successor(context, address);
        }
        self.end(now);
    }

    /// Evaluates everything at a time, or sooner if that was asked for.
    fn evaluate(&mut self, at: Time) {
        self.evaluate_at = Some(self.evaluate_at.map_or(at, |known| known.min(at)));
    }

    /// The segments on which an address may be announced.
    pub(crate) fn segments_in_use(&self, links: &Links) -> BTreeSet<IfIndex> {
        let all = links.working().count();
        let mut segments = BTreeSet::new();
        for (address, known) in &self.addresses {
            segments.extend(links.relevant(*address, &known.spec.interfaces));
            if segments.len() == all {
                break;
            }
        }
        segments
    }

    fn our_addresses(&self) -> Vec<IpAddr> {
        self.claims.of(NodeId::US).collect()
    }

    /// This node claims an address and answers for it.
    fn take(&mut self, context: &Context<'_>, address: IpAddr, reason: OwnerReason) {
        let now = context.now;
        let Some(known) = self.addresses.get_mut(&address) else {
            return;
        };
        let from = self.claims.owner(address);
        let epoch = self.claims.epoch(address).saturating_add(1);
        self.claims.set(address, NodeId::US, epoch, now);
        known.phase = Phase::Owned;
        known.reason = reason;
        known.moves.add(Change {
            at: now,
            from,
            to: Some(NodeId::US),
            reason,
        });
        self.unplaced.remove(&(known.spec.created, address));
        let interfaces = known.spec.interfaces.clone();
        self.end_conflict(address);
        self.our_intents.remove(&address);
        self.takeovers.remove(address);
        self.self_tests.claimed(now, address);
        self.counters.owner_changes += 1;
        self.evaluate(now + preference::CHECK);
        self.effects
            .push_back(Effect::Announce(address, interfaces));
        self.effects.push_back(Effect::Event(Event::Announced {
            address,
            from: from.map(|node| context.membership.nodes().name(node)),
            reason,
        }));
        self.outbox.changed(address);
    }

    /// This node no longer owns an address, and no other node does.
    fn withdraw(&mut self, now: Time, address: IpAddr, reason: OwnerReason) {
        let claim = self.claims.wire(address);
        self.claims.release(now, address);
        self.stop(now, address, None, None, reason);
        self.outbox.released(claim);
        self.mark_unplaced(now, address);
    }

    /// This node stops answering for an address.
    fn stop(
        &mut self,
        now: Time,
        address: IpAddr,
        to: Option<NodeId>,
        name: Option<Arc<str>>,
        reason: OwnerReason,
    ) {
        self.handovers.remove(address);
        self.preferences.remove(address);
        self.counters.owner_changes += 1;
        self.effects.push_back(Effect::Withdraw(address));
        self.effects.push_back(Effect::Event(Event::Withdrawn {
            address,
            to: name,
            reason,
        }));
        if let Some(known) = self.addresses.get_mut(&address) {
            known.phase = Phase::Idle;
            known.idle_since = now;
            known.reason = reason;
            known.self_test = None;
            known.moves.add(Change {
                at: now,
                from: Some(NodeId::US),
                to,
                reason,
            });
        }
    }

    /// An address may have lost its owner.
    fn mark_unplaced(&mut self, now: Time, address: IpAddr) {
        if self.claims.owner(address).is_some() {
            return;
        }
        if let Some(known) = self.addresses.get_mut(&address) {
            if known.phase == Phase::Idle {
                known.idle_since = now;
            }
            self.may_place |= known.spec.candidates.contains(NodeId::US);
            self.unplaced.insert((known.spec.created, address));
            self.evaluate(now + EVALUATION_DELAY);
        }
    }

    /// This node doesn't claim an address after all.
    fn drop_intent(&mut self, address: IpAddr) {
        let Some(known) = self.addresses.get_mut(&address) else {
            return;
        };
        if known.phase == Phase::Intent {
            known.phase = Phase::Idle;
            self.our_intents.remove(&address);
            self.effects.push_back(Effect::CancelProbe(address));
            self.outbox.changed(address);
        }
    }

    fn spec(&self, address: IpAddr) -> Option<&Spec> {
        self.addresses.get(&address).map(|known| &known.spec)
    }

    /// A frame of another host arrived: the link works.
    pub(crate) fn witness(&mut self, now: Time, interface: IfIndex) {
        self.witnesses.add(now, interface);
        self.takeovers.witness(now);
    }

    /// A hello of a peer arrived: the link works. No takeover begins with it: after a fault of the
    /// segment, the hellos of the other peers arrive next.
    pub(crate) fn hello_witness(&mut self, now: Time, interface: IfIndex) {
        self.witnesses.add(now, interface);
    }

    /// An interface is gone.
    pub(crate) fn forget_interface(&mut self, interface: IfIndex) {
        self.witnesses.remove(interface);
    }

    /// The membership changed.
    pub(crate) fn peers_changed(&mut self, membership: &Membership, now: Time) {
        let evaluates = self.state() == NodeState::Ready && !membership.is_passive();
        if evaluates && self.evaluated != Some(membership.peers().generation()) {
            self.evaluate(now + EVALUATION_DELAY);
        }
    }
}
