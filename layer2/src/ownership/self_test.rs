//! Self-tests: another node than the owner resolves an address, and reports who answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::{Effect, Phase};
use super::{Context, Ownership};
use crate::config::Time;
use crate::mac::Mac;
use crate::membership::{NodeId, address_hash};
use crate::responder::{Answer, Probe, Timing};
use crate::status::{Event, NodeState, SelfTest};
use crate::wire::hello::Section;

/// A probe without a result was replaced by another one.
const PATIENCE: Duration = Duration::from_secs(1);

/// An address is tested this long after this node claimed it, when caches have been updated.
const FIRST: Duration = Duration::from_secs(3);
/// How often an address is tested.
const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// The same, while no other node can test it.
const RETRY: Duration = Duration::from_secs(60);
/// The time between the tests of two addresses.
const SPACING: Duration = Duration::from_millis(50);

/// The self-tests in progress, and those to come.
#[derive(Debug, Default)]
pub(crate) struct SelfTests {
    /// When each address of this node is tested next.
    schedule: BTreeMap<IpAddr, Time>,
    due: BTreeSet<(Time, IpAddr)>,
    /// For each time between the cause of a test and the test: when the next test is due at the
    /// earliest, so that the tests of addresses that were claimed together follow one another.
    free: BTreeMap<Duration, Time>,
    /// The nodes that this node asked.
    asked: BTreeMap<IpAddr, NodeId>,
    /// Which nodes asked this one, and since when the probe runs.
    running: BTreeMap<IpAddr, (Time, Vec<NodeId>)>,
}

impl SelfTests {
    /// This node claimed an address.
    pub(super) fn claimed(&mut self, now: Time, address: IpAddr) {
        self.schedule(now, FIRST, address);
    }

    fn schedule(&mut self, now: Time, delay: Duration, address: IpAddr) {
        self.unschedule(address);
        let free = self.free.entry(delay).or_default();
        let at = (*free).max(now + delay);
        *free = at + SPACING;
        self.schedule.insert(address, at);
        self.due.insert((at, address));
    }

    fn unschedule(&mut self, address: IpAddr) {
        if let Some(at) = self.schedule.remove(&address) {
            self.due.remove(&(at, address));
        }
    }

    /// An address whose test is due.
    fn next_due(&mut self, now: Time) -> Option<IpAddr> {
        let (at, address) = self.due.first().copied()?;
        (at <= now).then(|| {
            self.unschedule(address);
            address
        })
    }

    /// When a test is due.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// An address is removed.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.unschedule(address);
        self.asked.remove(&address);
        self.running.remove(&address);
    }
}

impl Ownership {
    /// Asks a node that is not the owner to resolve an address. Returns whether there is such a
    /// node.
    pub(crate) fn test(&mut self, context: &Context<'_>, address: IpAddr) -> bool {
        let (Some(owner), Some(spec)) = (self.claims.owner(address), self.spec(address)) else {
            return false;
        };
        let segments = context.segments(address, spec);
        let peers = context.membership.peers();
        let can = |node: &NodeId| {
            *node != owner
                && *node != NodeId::US
                && segments.iter().any(|on| peers.is_alive_on(*on, *node))
                && (peers.node(*node)).is_some_and(|facts| facts.state == NodeState::Ready)
        };
        let able: Vec<NodeId> = context.membership.nodes().all().filter(can).collect();
        // Another node for each address, so that the tests of many are shared.
        let count = u64::try_from(able.len()).unwrap_or(u64::MAX);
        let chosen = address_hash(address).checked_rem(count);
        let chosen = chosen.and_then(|index| usize::try_from(index).ok());
        let Some(node) = chosen.and_then(|index| able.get(index).copied()) else {
            return false;
        };
        self.self_tests.asked.insert(address, node);
        self.outbox.repeat(Section::TestRequest {
            node: context.membership.nodes().name(node),
            addresses: vec![address],
        });
        true
    }

    /// Tests the addresses of this node whose test is due.
    pub(super) fn test_due(&mut self, context: &Context<'_>) {
        while let Some(address) = self.self_tests.next_due(context.now) {
            if self.claims.owner(address) == Some(NodeId::US) {
                let asked = self.test(context, address);
                let next = if asked { INTERVAL } else { RETRY };
                self.self_tests.schedule(context.now, next, address);
            }
        }
    }

    /// A node asks this one to resolve addresses.
    pub(super) fn test_requested(&mut self, now: Time, from: NodeId, addresses: &[IpAddr]) {
        let running = &mut self.self_tests.running;
        running.retain(|_, (since, _)| now < *since + PATIENCE);
        for address in addresses {
            let Some(known) = self.addresses.get(address) else {
                continue;
            };
            // A probe that decides about a claim must not be replaced.
            if known.phase != Phase::Idle || self.takeovers.contains(*address) {
                continue;
            }
            let entry = running.entry(*address);
            let (_, nodes) = entry.or_insert_with(|| (now, Vec::new()));
            if nodes.contains(&from) {
                continue;
            }
            nodes.push(from);
            if nodes.len() == 1 {
                self.effects.push_back(Effect::Probe(Probe {
                    address: *address,
                    interfaces: known.spec.interfaces.clone(),
                    timing: Timing::TAKEOVER,
                }));
            }
        }
    }

    /// A probe ended: reports to the nodes that asked for it.
    pub(super) fn tested(&mut self, context: &Context<'_>, address: IpAddr, answers: &[Answer]) {
        let Some((_, nodes)) = self.self_tests.running.remove(&address) else {
            return;
        };
        let answers = answers.iter().filter(|answer| !answer.simultaneous);
        let mut macs: Vec<Mac> = answers.map(|answer| answer.mac).collect();
        macs.sort_unstable();
        macs.dedup();
        for node in nodes {
            self.outbox.repeat(Section::TestResult {
                node: context.membership.nodes().name(node),
                answers: vec![(address, macs.clone())],
            });
        }
    }

    /// The result of a self-test that this node asked for.
    pub(super) fn test_result(
        &mut self,
        context: &Context<'_>,
        from: NodeId,
        answers: &[(IpAddr, Vec<Mac>)],
    ) {
        for (address, macs) in answers {
            if self.self_tests.asked.get(address) != Some(&from) {
                continue;
            }
            self.self_tests.asked.remove(address);
            let Some(owner) = self.claims.owner(*address) else {
                continue;
            };
            let passed = !macs.is_empty() && macs.iter().all(|mac| has_mac(context, owner, *mac));
            let by: Arc<str> = context.membership.nodes().name(from);
            if !passed && owner == NodeId::US {
                self.effects.push_back(Effect::Event(Event::SelfTestFailed {
                    address: *address,
                    by: by.clone(),
                    answers: macs.clone(),
                }));
            }
            if let Some(known) = self.addresses.get_mut(address) {
                known.self_test = Some(Box::new(SelfTest {
                    by,
                    at: context.now,
                    answers: macs.clone(),
                    passed,
                }));
            }
        }
    }
}

/// Whether an Ethernet address is that of a node.
fn has_mac(context: &Context<'_>, node: NodeId, mac: Mac) -> bool {
    let links = context.membership.links();
    links.all().filter(|link| !link.loopback).any(|link| {
        if node == NodeId::US {
            link.mac == mac
        } else {
            context.membership.peers().by_mac(link.index, mac) == Some(node)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_claimed_while_others_wait_for_their_hourly_test_is_tested_soon() {
        let mut tests = SelfTests::default();
        let address = |last| IpAddr::from([192, 0, 2, last]);
        tests.schedule(Time::ZERO, INTERVAL, address(1));
        let now = INTERVAL - Duration::from_secs(600);
        tests.claimed(now, address(2));
        tests.claimed(now, address(3));
        assert_eq!(tests.poll_timeout(), Some(now + FIRST));
        assert_eq!(tests.next_due(now + FIRST), Some(address(2)));
        assert_eq!(tests.next_due(now + FIRST), None);
        assert_eq!(tests.next_due(now + FIRST + SPACING), Some(address(3)));
        assert_eq!(tests.poll_timeout(), Some(INTERVAL));
    }
}
