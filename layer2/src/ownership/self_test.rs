//! Self-tests: another node than the owner resolves an address, and reports who answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::{Effect, Phase};
use super::{Context, Ownership};
use crate::config::Time;
use crate::mac::Mac;
use crate::membership::NodeId;
use crate::responder::{Answer, Probe, Timing};
use crate::status::{NodeState, SelfTest};
use crate::wire::hello::Section;

/// A probe without a result was replaced by another one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The self-tests in progress.
#[derive(Debug, Default)]
pub(crate) struct SelfTests {
    /// The nodes that this node asked.
    asked: BTreeMap<IpAddr, NodeId>,
    /// Which nodes asked this one, and since when the probe runs.
    running: BTreeMap<IpAddr, (Time, Vec<NodeId>)>,
}

impl SelfTests {
    /// An address is removed.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.asked.remove(&address);
        self.running.remove(&address);
    }
}

impl Ownership {
    /// Asks a node that is not the owner to resolve an address. Without such a node, nothing
    /// happens.
    pub(crate) fn test(&mut self, context: &Context<'_>, address: IpAddr) {
        let (Some(owner), Some(spec)) = (self.claims.owner(address), self.spec(address)) else {
            return;
        };
        let segments = context.segments(address, spec);
        let peers = context.membership.peers();
        let can = |node: &NodeId| {
            *node != owner
                && *node != NodeId::US
                && segments.iter().any(|on| peers.is_alive_on(*on, *node))
                && (peers.node(*node)).is_some_and(|facts| facts.state == NodeState::Ready)
        };
        let Some(node) = context.membership.nodes().all().find(can) else {
            return;
        };
        self.self_tests.asked.insert(address, node);
        self.outbox.repeat(Section::TestRequest {
            node: context.membership.nodes().name(node),
            addresses: vec![address],
        });
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
                    collect: true,
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
