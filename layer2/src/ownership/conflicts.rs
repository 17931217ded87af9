//! Other hosts that answer for an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::address::{Effect, Phase};
use super::{Context, Ownership};
use crate::config::{ConflictDetection, Time};
use crate::interface::IfIndex;
use crate::mac::Mac;
use crate::membership::{NodeId, address_hash, mix};
use crate::responder::{Answer, Probe, Timing};
use crate::status::{Event, OwnerReason};
use crate::wire::hello::Section;

/// How often an address that another host has is probed.
const RETRY: Duration = Duration::from_secs(30);
/// The same, if it is a node of the cluster on which another load balancer runs.
const RETRY_SPEAKER: Duration = Duration::from_secs(5);
/// An address is defended at most once in this time (RFC 5227 §2.4).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Two claims for one address are acted on at most once in this time.
const CLAIM_CONFLICT: Duration = Duration::from_secs(10);

/// The owner before may use an address for this time, until it receives the claim of this node.
const OWNER_BEFORE: Duration = Duration::from_secs(2);
/// A use of an address by a peer that is later than the first one by this time is a new conflict.
const ONE_CONFLICT: Duration = Duration::from_secs(10);

/// A conflict is over if it is not observed for this time.
const RESOLVED_AFTER: Duration = Duration::from_secs(60);

/// Limits how often a conflict is counted and acted on.
#[derive(Debug, Default)]
pub(crate) struct Limit(BTreeMap<IpAddr, Time>);

impl Limit {
    /// Whether a conflict of an address may be acted on.
    fn passes(&mut self, now: Time, address: IpAddr, interval: Duration) -> bool {
        let limited = self.0.get(&address).is_some_and(|until| *until > now);
        if !limited {
            self.0.insert(address, now + interval);
        }
        !limited
    }

    /// The address was removed.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.0.remove(&address);
    }
}

/// When other hosts last used addresses that this node owns.
#[derive(Debug, Default)]
pub(crate) struct Contested(BTreeMap<IpAddr, Time>);

impl Contested {
    fn add(&mut self, now: Time, address: IpAddr) {
        self.0.insert(address, now);
    }

    /// The address has no conflict any more.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.0.remove(&address);
    }

    fn take_resolved(&mut self, now: Time) -> Vec<IpAddr> {
        let over = |seen: &Time| now >= *seen + RESOLVED_AFTER;
        let resolved = self.0.iter().filter(|(_, seen)| over(seen));
        let resolved: Vec<_> = resolved.map(|(address, _)| *address).collect();
        self.0.retain(|_, seen| !over(seen));
        resolved
    }
}

/// Peers that use addresses of this node. Their hellos don't claim these addresses.
#[derive(Debug, Default)]
pub(crate) struct OtherSpeakers {
    /// Since when.
    since: BTreeMap<IpAddr, (NodeId, Time)>,
    /// The addresses that are probed, to see whether a peer answers.
    probed: BTreeSet<IpAddr>,
}

impl OtherSpeakers {
    /// A peer uses an address. Returns whether the address must be probed, because the peer has
    /// used it for longer than the previous owner may.
    fn uses(&mut self, now: Time, address: IpAddr, peer: NodeId) -> bool {
        let (known, since) = *self.since.entry(address).or_insert((peer, now));
        if known != peer || now > since + ONE_CONFLICT {
            self.since.insert(address, (peer, now));
            return false;
        }
        let persists = now >= since + OWNER_BEFORE;
        if persists {
            self.since.remove(&address);
        }
        persists && self.probed.insert(address)
    }

    /// A probe ended. Returns whether it was one for [`Self::uses`].
    fn take_probed(&mut self, address: IpAddr) -> bool {
        self.probed.remove(&address)
    }

    /// A hello claims the address, or this node has a new claim.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.since.remove(&address);
        self.probed.remove(&address);
    }
}

impl Ownership {
    /// This node is about to claim an address that has no owner.
    pub(super) fn intend(&mut self, context: &Context<'_>, address: IpAddr) {
        let Some(known) = self.addresses.get_mut(&address) else {
            return;
        };
        let timing = match known.spec.detection {
            ConflictDetection::Fast => Timing::FAST,
            ConflictDetection::Rfc5227 => Timing::RFC_5227,
            // It is known that another host had it.
            ConflictDetection::Off if matches!(known.phase, Phase::Withheld(_)) => Timing::FAST,
            ConflictDetection::Off => {
                self.take(context, address, OwnerReason::Placed);
                return;
            }
        };
        known.phase = Phase::Intent;
        self.our_intents.insert(address);
        self.effects.push_back(Effect::Probe(Probe {
            address,
            interfaces: known.spec.interfaces.clone(),
            timing,
        }));
        self.outbox.changed(address);
    }

    /// The result of a probe.
    pub(crate) fn probed(&mut self, context: &Context<'_>, address: IpAddr, answers: &[Answer]) {
        self.tested(context, address, answers);
        let phase = self.addresses.get(&address).map(|known| known.phase);
        if phase == Some(Phase::Intent) {
            self.probed_before_use(context, address, answers);
        }
        if phase == Some(Phase::Owned) && self.other_speakers.take_probed(address) {
            self.probed_while_owned(context, address, answers);
        }
        for (node, round) in self.takeovers.result(address, answers) {
            self.probed_silent(context, node, &round);
        }
    }

    fn probed_before_use(&mut self, context: &Context<'_>, address: IpAddr, answers: &[Answer]) {
        let may = self.spec(address).is_some_and(|spec| {
            spec.candidates.contains(NodeId::US) && !context.segments(address, spec).is_empty()
        });
        if !may || context.membership.is_passive() {
            self.drop_intent(address);
            self.mark_unplaced(context.now, address);
            return;
        }
        for answer in answers {
            let node = context
                .membership
                .peers()
                .by_mac(answer.interface, answer.mac);
            match node {
                None => {
                    self.withhold(context, address, *answer, None);
                    return;
                }
                // Peers also probe, and their kernel answers as ours does.
                Some(_) if answer.simultaneous => {}
                Some(_) if context.service_proxy.contains(&address) => {
                    self.warn_of_service_proxy(context, answer.interface);
                }
                Some(node) => {
                    self.withhold(context, address, *answer, Some(node));
                    return;
                }
            }
        }
        self.take(context, address, OwnerReason::Placed);
    }

    /// Stops if a peer answers for an address of this node: another load balancer runs there.
    fn probed_while_owned(&mut self, context: &Context<'_>, address: IpAddr, answers: &[Answer]) {
        let peers = context.membership.peers();
        let peer = |answer: &Answer| {
            let node = peers.by_mac(answer.interface, answer.mac)?;
            Some((*answer, node))
        };
        let mut answers = answers.iter().filter(|answer| !answer.simultaneous);
        if let Some((answer, node)) = answers.find_map(peer) {
            self.end_conflict(address);
            self.withdraw(context.now, address, OwnerReason::OtherSpeaker);
            self.withhold(context, address, answer, Some(node));
        }
    }

    /// Another host has an address that this node would claim.
    pub(super) fn withhold(
        &mut self,
        context: &Context<'_>,
        address: IpAddr,
        answer: Answer,
        node: Option<NodeId>,
    ) {
        self.drop_intent(address);
        self.takeovers.remove(address);
        let Some(known) = self.addresses.get_mut(&address) else {
            return;
        };
        let (reason, retry) = match node {
            None => (OwnerReason::AddressConflict, RETRY),
            Some(_) => (OwnerReason::OtherSpeaker, RETRY_SPEAKER),
        };
        let retry = retry + jitter(context, address, retry);
        known.phase = Phase::Withheld(context.now + retry);
        known.reason = reason;
        self.evaluate(context.now + retry);
        if let Some(node) = node {
            self.outbox.once(Section::RequestClaims {
                node: context.membership.nodes().name(node),
            });
        }
        self.report_conflict(context, address, answer.mac, node);
    }

    /// Reports a conflict once.
    fn report_conflict(
        &mut self,
        context: &Context<'_>,
        address: IpAddr,
        mac: Mac,
        node: Option<NodeId>,
    ) {
        let Some(known) = self.addresses.get_mut(&address) else {
            return;
        };
        // Several hosts may use it in turn.
        if known.conflict.replace(mac).is_some() {
            return;
        }
        self.counters.address_conflicts += 1;
        self.effects.push_back(Effect::Event(Event::Conflict {
            address,
            mac,
            node: node.map(|node| context.membership.nodes().name(node)),
        }));
    }

    /// The kernel of this node and others answers for addresses of services.
    fn warn_of_service_proxy(&mut self, context: &Context<'_>, interface: IfIndex) {
        if std::mem::replace(&mut self.warned_of_service_proxy, true) {
            return;
        }
        let warning = "kube-proxy in IPVS mode answers ARP for addresses of services on all \
                       nodes: set strictARP: true in its configuration";
        self.effects
            .push_back(Effect::Event(Event::InterfaceWarning {
                interface: context.membership.links().name(interface),
                warning: warning.into(),
            }));
    }

    /// Another host uses an address that this node announces.
    pub(crate) fn contested(
        &mut self,
        context: &Context<'_>,
        interface: IfIndex,
        mac: Mac,
        address: IpAddr,
    ) {
        if self.claims.owner(address) != Some(NodeId::US) {
            return;
        }
        let node = context.membership.peers().by_mac(interface, mac);
        if node.is_some() && context.service_proxy.contains(&address) {
            self.warn_of_service_proxy(context, interface);
            return;
        }
        if let Some(node) = node {
            self.contested_by_peer(context, address, node);
            return;
        }
        self.report_conflict(context, address, mac, None);
        self.contested_at.add(context.now, address);
        self.evaluate(context.now + RESOLVED_AFTER);
        if self.contests.passes(context.now, address, DEFEND_INTERVAL) {
            self.effects.push_back(Effect::Defend(address));
        }
    }

    /// A peer uses an address that this node announces. The previous owner may do so until it
    /// receives our claim; its hello decides. If the peer goes on without a claim, a probe shows
    /// whether it answers.
    fn contested_by_peer(&mut self, context: &Context<'_>, address: IpAddr, node: NodeId) {
        let now = context.now;
        if self.other_speakers.uses(now, address, node) {
            let interfaces = self.spec(address).map(|spec| spec.interfaces.clone());
            self.effects.extend(interfaces.map(|interfaces| {
                Effect::Probe(Probe {
                    address,
                    interfaces,
                    timing: Timing::TAKEOVER,
                })
            }));
        } else if self.contests.passes(now, address, Duration::from_secs(1)) {
            self.outbox.changed(address);
            self.outbox.once(Section::RequestClaims {
                node: context.membership.nodes().name(node),
            });
        }
    }

    /// Conflicts about addresses of this node that were not observed for a while are over.
    pub(super) fn resolve_conflicts(&mut self, now: Time) {
        for address in self.contested_at.take_resolved(now) {
            self.end_conflict(address);
        }
    }

    /// No other host uses an address any more, or it has a new owner.
    pub(super) fn end_conflict(&mut self, address: IpAddr) {
        self.contested_at.remove(address);
        self.other_speakers.remove(address);
        let known = self.addresses.get_mut(&address);
        if known.and_then(|known| known.conflict.take()).is_some() {
            let resolved = Event::ConflictResolved { address };
            self.effects.push_back(Effect::Event(resolved));
        }
    }

    /// Counts two claims for one address. Returns whether it counted and must be acted on.
    pub(super) fn count_claim_conflict(&mut self, now: Time, address: IpAddr) -> bool {
        let counts = self.claim_conflicts.passes(now, address, CLAIM_CONFLICT);
        self.counters.claim_conflicts += u64::from(counts);
        counts
    }
}

/// Up to a tenth of an interval: two nodes that always probe at the same time would take each other
/// for another host with the address.
fn jitter(context: &Context<'_>, address: IpAddr, interval: Duration) -> Duration {
    let now = u64::try_from(context.now.as_millis()).unwrap_or_default();
    let node = context.membership.nodes().hash(NodeId::US);
    let tenth = u64::try_from(interval.as_millis() / 10).unwrap_or(1).max(1);
    Duration::from_millis(mix(mix(node ^ address_hash(address)) ^ now) % tenth)
}
