//! Moves that an operator requests, checked and planned from a snapshot: whether a node can take
//! over an address, and which moves even out the nodes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{Candidate, Time};
use crate::status::{NodeState, Status};

/// A candidate of an address, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct CandidateStatus {
    /// The node.
    pub node: Arc<str>,
    /// The sum of the weights of its preferences.
    pub weight: u32,
    /// Its state. None if its hellos do not arrive in time.
    pub state: Option<NodeState>,
    /// Whether the address is in one of its networks.
    pub on_link: bool,
    /// The number of addresses that it owns.
    pub owned: usize,
}

/// A change of the owner that a plan contains.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PlannedMove {
    /// The address.
    pub address: IpAddr,
    /// Its owner.
    pub from: Arc<str>,
    /// The node that takes it over.
    pub to: Arc<str>,
}

/// The number of addresses that a node owns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeLoad {
    /// The node.
    pub node: Arc<str>,
    /// Before the plan.
    pub before: usize,
    /// After it.
    pub after: usize,
}

/// A plan that evens out the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rebalance {
    /// The moves, by address. Each address appears once.
    pub moves: Vec<PlannedMove>,
    /// The nodes that are ready, by name.
    pub nodes: Vec<NodeLoad>,
}

/// Why an address can't be moved to a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// The address is unknown.
    #[error("no L2Advertisement selects a service with the address {0}")]
    UnknownAddress(IpAddr),
    /// No node announces it, so that none can hand it over.
    #[error("no node announces {0}, so that none can hand it over")]
    NoOwner(IpAddr),
    /// The node may not own it.
    #[error(
        "{node} may not announce the address: its candidates are {}",
        names(candidates)
    )]
    NoCandidate {
        /// The node.
        node: String,
        /// The nodes that may own it.
        candidates: Vec<Arc<str>>,
    },
    /// No hello of the node arrives in time.
    #[error("no hello of {0} arrives: it is down, or its layer 2 process does not run")]
    Silent(String),
    /// The node can't take addresses now.
    #[error("{node} takes no address now, because it {}", why(*state))]
    NotReady {
        /// The node.
        node: String,
        /// Its state.
        state: NodeState,
    },
    /// The node owns it already.
    #[error("{0} announces the address already")]
    AlreadyOwner(String),
}

fn names(candidates: &[Arc<str>]) -> String {
    if candidates.is_empty() {
        "none".to_owned()
    } else {
        candidates.join(", ")
    }
}

const fn why(state: NodeState) -> &'static str {
    match state {
        NodeState::Settling => "settles: try again in a second",
        NodeState::Ready => "is ready",
        NodeState::Restarting => "restarts: try again when it is back",
        NodeState::Leaving => "ends",
    }
}

/// Checks whether `node` can take over `address`. Returns the owner.
///
/// # Errors
/// It can't. [`MoveError::AlreadyOwner`] if there is nothing to do.
pub fn check(status: &Status, address: IpAddr, node: &str) -> Result<Arc<str>, MoveError> {
    let found = status.addresses.get(&address);
    let found = found.ok_or(MoveError::UnknownAddress(address))?;
    if !found.candidates.iter().any(|known| &*known.node == node) {
        let candidates = found.candidates.iter();
        return Err(MoveError::NoCandidate {
            node: node.to_owned(),
            candidates: candidates.map(|known| known.node.clone()).collect(),
        });
    }
    let owner = found.owner.clone().ok_or(MoveError::NoOwner(address))?;
    if &*owner == node {
        return Err(MoveError::AlreadyOwner(node.to_owned()));
    }
    match Nodes::of(status).state(node) {
        None => Err(MoveError::Silent(node.to_owned())),
        Some(NodeState::Ready) => Ok(owner),
        Some(state) => Err(MoveError::NotReady {
            node: node.to_owned(),
            state,
        }),
    }
}

/// The candidates of an address, by name.
pub fn candidates(status: &Status, address: IpAddr) -> Vec<CandidateStatus> {
    let nodes = Nodes::of(status);
    let found = status.addresses.get(&address);
    let candidates = found.map(|found| found.candidates.iter());
    let line = |candidate: &Candidate| {
        let owned = status.addresses.values();
        let owned = owned.filter(|other| other.owner.as_ref() == Some(&candidate.node));
        CandidateStatus {
            node: candidate.node.clone(),
            weight: candidate.weight,
            state: nodes.state(&candidate.node),
            on_link: nodes.on_link(&candidate.node, address),
            owned: owned.count(),
        }
    };
    candidates.into_iter().flatten().map(line).collect()
}

/// Plans the moves after which no node owns two addresses more than another one that could take
/// one of them. Among addresses with the same candidates, no smaller number of moves achieves that.
///
/// An address moves only between nodes that are ready, and equal in preference and in whether the
/// address is on-link. The address that changed its owner last moves first. An address without an
/// owner, with a conflict, or with an owner that placement would not choose, stays.
pub fn rebalance(status: &Status) -> Rebalance {
    Loads::of(status).even_out(status)
}

/// What this node knows about a node.
#[derive(Default)]
struct Node<'a> {
    /// Of the last hello that arrived in time.
    ready: Option<(Time, NodeState)>,
    networks: Vec<&'a IpNet>,
}

impl Node<'_> {
    fn is_on_link(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&address))
    }
}

/// The nodes by name.
struct Nodes<'a>(BTreeMap<&'a str, Node<'a>>);

impl<'a> Nodes<'a> {
    fn of(status: &'a Status) -> Self {
        let mut nodes: BTreeMap<&str, Node<'_>> = BTreeMap::new();
        let own = nodes.entry(&status.node).or_default();
        own.ready = Some((status.now, status.state));
        own.networks = status.segments.iter().flat_map(|s| &s.networks).collect();
        for peer in status.segments.iter().flat_map(|segment| &segment.peers) {
            let node = nodes.entry(&peer.node).or_default();
            node.networks.extend(&peer.networks);
            if peer.alive {
                node.ready = node.ready.max(Some((peer.last_hello, peer.state)));
            }
        }
        Self(nodes)
    }

    fn state(&self, node: &str) -> Option<NodeState> {
        self.0.get(node)?.ready.map(|(_, state)| state)
    }

    fn on_link(&self, node: &str, address: IpAddr) -> bool {
        let node = self.0.get(node);
        node.is_some_and(|node| node.is_on_link(address))
    }
}

/// The nodes that are ready, and the candidates among them.
struct Ready<'a> {
    index: BTreeMap<Arc<str>, usize>,
    nodes: Vec<&'a Node<'a>>,
    /// Equal lists of candidates are shared: weight and index of each that is ready.
    lists: HashMap<*const Candidate, Vec<(u32, usize)>>,
}

impl<'a> Ready<'a> {
    fn of(nodes: &'a Nodes<'a>) -> Self {
        let ready = nodes.0.iter();
        let ready = ready.filter(|(name, _)| nodes.state(name) == Some(NodeState::Ready));
        let (names, nodes): (Vec<Arc<str>>, _) =
            ready.map(|(name, node)| (Arc::from(*name), node)).unzip();
        Self {
            index: names.into_iter().zip(0..).collect(),
            nodes,
            lists: HashMap::new(),
        }
    }

    /// The candidates that placement regards as equal and prefers to all others.
    fn equals(&mut self, candidates: &Arc<[Candidate]>, address: IpAddr) -> Vec<usize> {
        let list = self.lists.entry(candidates.as_ptr()).or_insert_with(|| {
            let ready = |known: &Candidate| Some((known.weight, *self.index.get(&known.node)?));
            candidates.iter().filter_map(ready).collect()
        });
        let on_link = |node: usize| {
            let node = self.nodes.get(node);
            node.is_some_and(|node| node.is_on_link(address))
        };
        let ranked = list
            .iter()
            .map(|&(weight, node)| ((weight, on_link(node)), node));
        let ranked: Vec<_> = ranked.collect();
        let best = ranked.iter().map(|(rank, _)| *rank).max();
        let best = ranked.iter().filter(|(rank, _)| Some(*rank) == best);
        best.map(|(_, node)| *node).collect()
    }
}

/// Addresses that can move among the same nodes.
struct Group {
    members: Vec<usize>,
    /// The addresses by owner; the last one moves first.
    owned: BTreeMap<usize, Vec<IpAddr>>,
}

/// Moves an address of a group.
#[derive(Clone, Copy)]
struct Step {
    from: usize,
    group: usize,
    to: usize,
}

/// The loads of the nodes that are ready.
struct Loads {
    names: Vec<Arc<str>>,
    before: Vec<usize>,
    loads: Vec<usize>,
    groups: Vec<Group>,
}

impl Loads {
    fn of(status: &Status) -> Self {
        let nodes = Nodes::of(status);
        let mut ready = Ready::of(&nodes);
        let mut before = vec![0; ready.nodes.len()];
        let mut groups: BTreeMap<Vec<usize>, BTreeMap<usize, Vec<IpAddr>>> = BTreeMap::new();
        let mut by_age: Vec<_> = status.addresses.iter().collect();
        by_age.sort_by_key(|(address, found)| (found.since, **address));
        for (address, found) in by_age {
            let owner = found
                .owner
                .as_ref()
                .and_then(|owner| ready.index.get(owner));
            let Some(&owner) = owner else { continue };
            if let Some(load) = before.get_mut(owner) {
                *load += 1;
            }
            let equals = ready.equals(&found.candidates, *address);
            if found.conflict.is_none() && equals.contains(&owner) {
                let group = groups.entry(equals).or_default();
                group.entry(owner).or_default().push(*address);
            }
        }
        let groups = groups
            .into_iter()
            .map(|(members, owned)| Group { members, owned });
        Self {
            names: ready.index.into_keys().collect(),
            loads: before.clone(),
            before,
            groups: groups.collect(),
        }
    }

    fn even_out(mut self, status: &Status) -> Rebalance {
        let mut target: BTreeMap<IpAddr, usize> = BTreeMap::new();
        while let Some(path) = self.next_path() {
            for Step { from, group, to } in path {
                let Some(group) = self.groups.get_mut(group) else {
                    continue;
                };
                let address = group.owned.get_mut(&from).and_then(Vec::pop);
                let Some(address) = address else { continue };
                group.owned.entry(to).or_default().push(address);
                target.insert(address, to);
                for (node, load) in self.loads.iter_mut().enumerate() {
                    *load += usize::from(node == to);
                    *load -= usize::from(node == from);
                }
            }
        }
        let moves = target.into_iter().filter_map(|(address, to)| {
            let from = status.addresses.get(&address)?.owner.clone()?;
            let to = self.names.get(to)?.clone();
            (from != to).then_some(PlannedMove { address, from, to })
        });
        let moves = moves.collect();
        let loads = self.before.into_iter().zip(self.loads);
        let nodes = self.names.into_iter().zip(loads);
        Rebalance {
            moves,
            nodes: nodes
                .map(|(node, (before, after))| NodeLoad {
                    node,
                    before,
                    after,
                })
                .collect(),
        }
    }

    /// The next chain of moves that takes an address from one of the most loaded
    /// nodes and gives one to a node with at least two less. It usually has one move; more where no
    /// address of the first node may move to the last one.
    fn next_path(&self) -> Option<Vec<Step>> {
        let mut nodes: Vec<usize> = (0..self.loads.len()).collect();
        nodes.sort_by_key(|&node| (Reverse(self.load(node)), node));
        nodes.into_iter().find_map(|node| self.path_from(node))
    }

    fn load(&self, node: usize) -> usize {
        self.loads.get(node).copied().unwrap_or_default()
    }

    fn path_from(&self, start: usize) -> Option<Vec<Step>> {
        // Reached nodes, with the number of moves and the last one.
        let mut reached: BTreeMap<usize, (usize, Step)> = BTreeMap::new();
        let mut used = vec![false; self.groups.len()];
        let mut queue = VecDeque::from([(start, 0)]);
        while let Some((node, distance)) = queue.pop_front() {
            for (index, (group, used)) in self.groups.iter().zip(&mut used).enumerate() {
                if *used || group.owned.get(&node).is_none_or(Vec::is_empty) {
                    continue;
                }
                *used = true;
                for &to in group.members.iter().filter(|&&to| to != start) {
                    reached.entry(to).or_insert_with(|| {
                        queue.push_back((to, distance + 1));
                        let step = Step {
                            from: node,
                            group: index,
                            to,
                        };
                        (distance + 1, step)
                    });
                }
            }
        }
        let lighter = reached
            .values()
            .filter(|(_, step)| self.load(step.to) + 2 <= self.load(start));
        let nearest = lighter.min_by_key(|(moves, step)| (*moves, self.load(step.to), step.to));
        let mut last = nearest.map(|(_, step)| *step);
        let mut path = Vec::new();
        while let Some(step) = last {
            path.push(step);
            last = reached.get(&step.from).map(|(_, step)| *step);
        }
        path.reverse();
        (!path.is_empty()).then_some(path)
    }
}

#[cfg(test)]
mod tests;
