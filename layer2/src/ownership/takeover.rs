//! Addresses of silent nodes, and the probes before they are taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Time;
use crate::membership::NodeId;
use crate::responder::{Answer, Responder};

/// How much later each successor acts than the one before it.
const RANK_DELAY: Duration = Duration::from_millis(100);
/// How many addresses of a silent node are probed. They stand for the others.
const PROBED_ADDRESSES: usize = 3;

/// A round without a result in this time starts again, unless all its probes run. They take as long
/// as the limit of unsolicited frames demands.
const ROUND: Duration = Duration::from_millis(500);

/// How long the choice of a successor stays: longer than a takeover takes, and shorter than peers
/// wait for a process that ended.
const KEPT: Duration = Duration::from_secs(1);

/// The first node that may take an address of a silent node over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Successor {
    /// The silent node.
    pub(crate) of: NodeId,
    /// The successor.
    pub(crate) node: NodeId,
    /// When it was chosen.
    chosen: Time,
    /// Since when it is the successor.
    since: Time,
}

impl Successor {
    /// A node was chosen. `before` is the choice before.
    pub(crate) fn new(before: Option<&Self>, now: Time, of: NodeId, node: NodeId) -> Self {
        let same = before.filter(|before| (before.of, before.node) == (of, node));
        Self {
            of,
            node,
            chosen: now,
            since: same.map_or(now, |before| before.since),
        }
    }

    /// Whether the choice stays, for an address of this silent node.
    pub(crate) fn is_kept(&self, now: Time, of: NodeId) -> bool {
        self.of == of && now < self.chosen + KEPT
    }

    /// How many successors come before this node, if it may own the address. `placed` is its rank
    /// by placement, which may put it before a successor that was chosen earlier.
    pub(crate) fn our_rank(&self, placed: impl FnOnce() -> Option<u32>) -> Option<u32> {
        if self.node == NodeId::US {
            return Some(0);
        }
        placed().map(|rank| rank.max(1))
    }

    /// The turn of the successor with this rank.
    pub(crate) const fn turn(&self, rank: u32) -> Turn {
        Turn {
            rank,
            since: self.since,
        }
    }
}

/// When a node may take an address over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// How many successors come before it.
    rank: u32,
    /// Since when the successors are known.
    since: Time,
}

/// The takeovers that this node prepares.
#[derive(Debug, Default)]
pub(crate) struct Takeovers(BTreeMap<NodeId, Takeover>);

/// The takeover of the addresses of a silent node.
#[derive(Debug)]
struct Takeover {
    /// When the first successors may start to probe.
    start: Time,
    /// This node's part of the addresses, with its turn.
    turns: BTreeMap<IpAddr, Turn>,
    /// Whether it waits for a witness.
    isolated: bool,
    /// The addresses for which another peer answered, which was asked for its claims.
    asked: BTreeSet<IpAddr>,
    round: Option<Round>,
}

/// Probes that run, and their results.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    started: Time,
    /// The probed addresses of services.
    pub(crate) addresses: Vec<IpAddr>,
    /// The probes without a result.
    pending: BTreeSet<IpAddr>,
    /// The answers.
    pub(crate) answers: Vec<(IpAddr, Answer)>,
}

impl Takeovers {
    /// Sets the addresses of a silent node that this node may take, with its turn for each. With
    /// none, the takeover ends.
    pub(crate) fn set(
        &mut self,
        now: Time,
        node: NodeId,
        turns: impl Iterator<Item = (IpAddr, Turn)>,
    ) {
        let takeover = self.0.entry(node).or_insert_with(|| Takeover {
            start: now,
            turns: BTreeMap::new(),
            isolated: false,
            asked: BTreeSet::new(),
            round: None,
        });
        takeover.turns = turns.collect();
        if takeover.turns.is_empty() {
            self.0.remove(&node);
        }
    }

    /// Ends the takeovers of nodes that `keep` does not select.
    pub(crate) fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.0.retain(|node, _| keep(*node));
    }

    /// Another node claimed an address, or it must not be taken.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.0.retain(|_, takeover| {
            takeover.turns.remove(&address);
            !takeover.turns.is_empty()
        });
    }

    /// Takeovers whose probes may start now.
    pub(crate) fn ready(&self, now: Time) -> Vec<NodeId> {
        self.0
            .iter()
            .filter(|(_, takeover)| takeover.starts_at().is_some_and(|at| at <= now))
            .map(|(node, _)| *node)
            .collect()
    }

    /// Whether all probes of a node without a result run, so that the round goes on.
    pub(crate) fn goes_on(&mut self, now: Time, node: NodeId, responder: &Responder) -> bool {
        let takeover = self.0.get_mut(&node);
        let Some(round) = takeover.and_then(|takeover| takeover.round.as_mut()) else {
            return false;
        };
        let mut pending = round.pending.iter();
        let runs = !round.pending.is_empty() && pending.all(|at| responder.is_probing(*at));
        if runs {
            round.started = now;
        }
        runs
    }

    /// Another peer than the node answers for one of its addresses. Returns whether that is new.
    pub(crate) fn ask(&mut self, node: NodeId, address: IpAddr) -> bool {
        let takeover = self.0.get_mut(&node);
        takeover.is_some_and(|takeover| takeover.asked.insert(address))
    }

    /// Starts probes, and returns the addresses of services to probe. `others`: addresses of the
    /// node itself and of witnesses.
    pub(crate) fn start(&mut self, now: Time, node: NodeId, others: &[IpAddr]) -> Vec<IpAddr> {
        let Some(takeover) = self.0.get_mut(&node) else {
            return Vec::new();
        };
        let addresses: Vec<_> = takeover.due_at(now).take(PROBED_ADDRESSES).collect();
        takeover.round = Some(Round {
            started: now,
            pending: addresses.iter().chain(others).copied().collect(),
            addresses: addresses.clone(),
            answers: Vec::new(),
        });
        addresses
    }

    /// The result of a probe. Returns the rounds that ended by it.
    pub(crate) fn result(&mut self, address: IpAddr, answers: &[Answer]) -> Vec<(NodeId, Round)> {
        let mut ended = Vec::new();
        for (node, takeover) in &mut self.0 {
            let Some(round) = takeover.round.as_mut() else {
                continue;
            };
            if !round.pending.remove(&address) {
                continue;
            }
            let real = answers.iter().filter(|answer| !answer.simultaneous);
            round.answers.extend(real.map(|answer| (address, *answer)));
            if round.pending.is_empty() {
                ended.extend(takeover.round.take().map(|round| (*node, round)));
            }
        }
        ended
    }

    /// The addresses that may be taken now.
    pub(crate) fn due(&self, now: Time, node: NodeId) -> Vec<IpAddr> {
        self.0
            .get(&node)
            .map(|takeover| takeover.due_at(now).collect())
            .unwrap_or_default()
    }

    /// Probes again, not before a time.
    pub(crate) fn wait(&mut self, node: NodeId, until: Time) {
        if let Some(takeover) = self.0.get_mut(&node) {
            takeover.start = until;
            takeover.isolated = false;
        }
    }

    /// This node may be cut off itself: it probes again at a time, or when a witness appears.
    pub(crate) fn wait_for_witness(&mut self, node: NodeId, until: Time) {
        if let Some(takeover) = self.0.get_mut(&node) {
            takeover.start = until;
            takeover.isolated = true;
        }
    }

    /// A witness appeared.
    pub(crate) fn witness(&mut self, now: Time) {
        for takeover in self.0.values_mut() {
            if std::mem::take(&mut takeover.isolated) {
                takeover.start = takeover.start.min(now);
            }
        }
    }

    /// When [`Self::ready`] has a result.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.0.values().filter_map(Takeover::starts_at).min()
    }

    /// Whether this node waits to take an address over.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let mut takeovers = self.0.values();
        takeovers.any(|takeover| takeover.turns.contains_key(&address))
    }

    /// Whether it waits because it may be cut off itself.
    pub(crate) fn is_isolated(&self, address: IpAddr) -> bool {
        let mut takeovers = self.0.values();
        takeovers.any(|takeover| takeover.isolated && takeover.turns.contains_key(&address))
    }
}

impl Takeover {
    fn due(&self, turn: Turn) -> Time {
        self.start.max(turn.since) + RANK_DELAY.saturating_mul(turn.rank)
    }

    fn due_at(&self, now: Time) -> impl Iterator<Item = IpAddr> + '_ {
        self.turns
            .iter()
            .filter(move |(_, turn)| self.due(**turn) <= now)
            .map(|(address, _)| *address)
    }

    fn starts_at(&self) -> Option<Time> {
        if let Some(round) = &self.round {
            return Some(round.started + ROUND);
        }
        self.turns.values().map(|turn| self.due(*turn)).min()
    }
}
