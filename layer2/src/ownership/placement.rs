//! Which node should own an address. All nodes that know the same compute the same.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Context;
use super::candidates::{CandidateSet, Spec};
use super::claims::{Claims, Intents};
use crate::interface::IfIndex;
use crate::membership::{NodeId, address_hash, mix};

/// Networks beyond this number are not considered for the on-link preference.
const MAX_NETWORKS: usize = 64;

/// A walk over addresses that assigns them to nodes, one after the other.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    context: &'a Context<'a>,
    /// A node that must not be chosen.
    without: Option<NodeId>,
    /// Whether nodes that settle count as well.
    settling: bool,
    /// Whether only nodes count whose hellos arrive.
    received: bool,
    /// Addresses that each node owns or is about to own.
    loads: Vec<u32>,
    /// The networks of all nodes.
    networks: Vec<IpNet>,
    groups: HashMap<GroupKey, Arc<Group>>,
}

/// Addresses with equal keys have the same candidates in the same order, apart from load and hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct GroupKey {
    set: usize,
    segments: Vec<IfIndex>,
    /// Which of the networks contain the address, as bits.
    networks: u64,
}

#[derive(Debug)]
struct Group {
    /// The candidates that are alive, the best preference first.
    members: Vec<Member>,
    /// Those with the best preference, and the hashes of their names.
    first: Vec<(NodeId, u64)>,
    /// The load of a candidate is not known, so that only the hash decides.
    unknown_load: bool,
}

impl Group {
    /// This node, if it may own the addresses.
    fn us(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.node == NodeId::US)
    }
}

/// A candidate. Sorts by weight, then by whether the address is on-link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    weight: Reverse<u32>,
    off_link: bool,
    node: NodeId,
}

/// Sorts by load and then by hash.
type Key = (Reverse<u32>, bool, u32, u64);

impl<'a> Placement<'a> {
    /// A walk that starts with the loads of the known claims.
    pub(crate) fn new(context: &'a Context<'a>, claims: &Claims, intents: &Intents) -> Self {
        let mut loads: Vec<_> = context
            .membership
            .nodes()
            .all()
            .map(|node| claims.share(node).count)
            .collect();
        for (_, node) in intents.all() {
            if let Some(load) = loads.get_mut(node.index()) {
                *load += 1;
            }
        }
        Self {
            context,
            without: None,
            settling: false,
            received: false,
            loads,
            networks: networks(context),
            groups: HashMap::new(),
        }
    }

    /// Never chooses `node`.
    pub(crate) fn without(mut self, node: NodeId) -> Self {
        self.without = Some(node);
        self
    }

    /// Also chooses nodes that settled only recently, and will be ready soon.
    pub(crate) fn with_settling(mut self) -> Self {
        self.settling = true;
        self
    }

    /// Never chooses nodes whose hellos do not arrive.
    pub(crate) fn received(mut self) -> Self {
        self.received = true;
        self
    }

    /// Counts an address that this node is about to claim.
    pub(crate) fn count(&mut self, node: NodeId) {
        if let Some(load) = self.loads.get_mut(node.index()) {
            *load += 1;
        }
    }

    /// The best node for an address, not counted yet.
    pub(crate) fn best(&mut self, address: IpAddr, spec: &Spec) -> Option<NodeId> {
        let group = self.group(address, spec);
        let hash = address_hash(address);
        let mut best = None;
        let (mut least, mut lowest) = (u32::MAX, u64::MAX);
        // Runs for each address and node when a cluster starts, so it computes no hash in vain.
        for (node, node_hash) in &group.first {
            let load = match self.loads.get(node.index()) {
                Some(load) if !group.unknown_load => *load,
                _ => 0,
            };
            if load > least {
                continue;
            }
            let mixed = mix(node_hash ^ hash);
            if load < least || mixed < lowest || best.is_none() {
                (least, lowest, best) = (load, mixed, Some(*node));
            }
        }
        best
    }

    /// Whether a node is one of those with the best preference for an address.
    pub(crate) fn is_first_choice(&mut self, node: NodeId, address: IpAddr, spec: &Spec) -> bool {
        let group = self.group(address, spec);
        group.first.iter().any(|(first, _)| *first == node)
    }

    /// The best node for an address whose node is not in `tried`.
    pub(crate) fn next(
        &mut self,
        address: IpAddr,
        spec: &Spec,
        tried: &[NodeId],
    ) -> Option<NodeId> {
        let group = self.group(address, spec);
        group
            .members
            .iter()
            .filter(|member| !tried.contains(&member.node))
            .min_by_key(|member| self.key(&group, member, address))
            .map(|member| member.node)
    }

    /// How many nodes come before this one, if it may own the address.
    pub(crate) fn our_rank(&mut self, address: IpAddr, spec: &Spec) -> Option<u32> {
        let group = self.group(address, spec);
        let us = group.us()?;
        let ours = self.key(&group, us, address);
        let before = group
            .members
            .iter()
            .filter(|member| self.key(&group, member, address) < ours)
            .count();
        u32::try_from(before).ok()
    }

    /// The load of a node.
    pub(crate) fn load_of(&self, node: NodeId) -> u32 {
        self.loads.get(node.index()).copied().unwrap_or_default()
    }

    /// One address moves from a node to another.
    pub(crate) fn shift(&mut self, from: NodeId, to: NodeId) {
        if let Some(load) = self.loads.get_mut(from.index()) {
            *load = load.saturating_sub(1);
        }
        self.count(to);
    }

    /// The node that owns an address by the API's view, if hellos of that node never arrive.
    pub(crate) fn blocked_owner(&mut self, address: IpAddr, spec: &Spec) -> Option<NodeId> {
        let best = self.best(address, spec)?;
        self.context.is_blocked(best).then_some(best)
    }

    /// Whether another node has a higher weight than this one.
    pub(crate) fn is_outweighed(&mut self, address: IpAddr, spec: &Spec) -> bool {
        let group = self.group(address, spec);
        let best = group.members.first();
        group
            .us()
            .zip(best)
            .is_some_and(|(ours, best)| best.weight < ours.weight)
    }

    /// The node to which an address that is not sticky moves: a better one, or one that owns at
    /// least two addresses less.
    pub(crate) fn better(&mut self, address: IpAddr, spec: &Spec) -> Option<NodeId> {
        let group = self.group(address, spec);
        let class = |member: &Member| (member.weight, member.off_link);
        let ours = group.us()?;
        let best = group
            .members
            .iter()
            .filter(|member| member.node != NodeId::US)
            .min_by_key(|member| self.key(&group, member, address))?;
        let evens =
            class(best) == class(ours) && self.load(&group, best) + 2 <= self.load(&group, ours);
        (class(best) < class(ours) || evens).then_some(best.node)
    }

    fn key(&self, group: &Group, member: &Member, address: IpAddr) -> Key {
        (
            member.weight,
            member.off_link,
            self.load(group, member),
            self.hash(member, address_hash(address)),
        )
    }

    fn load(&self, group: &Group, member: &Member) -> u32 {
        if group.unknown_load {
            0
        } else {
            self.load_of(member.node)
        }
    }

    fn hash(&self, member: &Member, address: u64) -> u64 {
        mix(self.context.membership.nodes().hash(member.node) ^ address)
    }

    fn group(&mut self, address: IpAddr, spec: &Spec) -> Arc<Group> {
        let links = self.context.membership.links();
        let mut bits = 0;
        for (bit, network) in self.networks.iter().enumerate() {
            bits |= u64::from(network.contains(&address)) << bit;
        }
        let key = GroupKey {
            set: Arc::as_ptr(&spec.candidates) as usize,
            segments: links.relevant(address, &spec.interfaces),
            networks: bits,
        };
        if let Some(group) = self.groups.get(&key) {
            return group.clone();
        }
        let group = Arc::new(self.new_group(address, &spec.candidates, &key.segments));
        self.groups.insert(key, group.clone());
        group
    }

    fn new_group(&self, address: IpAddr, set: &CandidateSet, relevant: &[IfIndex]) -> Group {
        let mut unknown_load = false;
        // Without an interface for it, the address can be handed over to a node that is received
        // on another one.
        let working = self.context.membership.links().working();
        let segments = &if relevant.is_empty() {
            working.map(|link| link.index).collect()
        } else {
            relevant.to_vec()
        };
        let mut members: Vec<_> = set
            .nodes
            .iter()
            .filter(|(node, _)| self.without != Some(*node))
            .filter(|(node, _)| *node != NodeId::US || !relevant.is_empty())
            .filter(|(node, _)| {
                let blocked = !self.received && self.context.is_blocked(*node);
                unknown_load |= blocked;
                blocked || self.context.may_own(*node, segments, self.settling)
            })
            .map(|(node, weight)| Member {
                weight: Reverse(*weight),
                off_link: !self.context.is_on_link(*node, address, segments),
                node: *node,
            })
            .collect();
        if unknown_load {
            // Networks are not known either.
            for member in &mut members {
                member.off_link = false;
            }
        }
        members.sort();
        let class = |member: &Member| (member.weight, member.off_link);
        let best = members.first().map(class);
        let nodes = self.context.membership.nodes();
        let first = members
            .iter()
            .take_while(|member| Some(class(member)) == best)
            .map(|member| (member.node, nodes.hash(member.node)))
            .collect();
        Group {
            members,
            first,
            unknown_load,
        }
    }
}

/// The order of two nodes that claim an address with the same epoch: the lower value wins.
pub(crate) fn conflict_order(
    context: &Context<'_>,
    address: IpAddr,
    spec: &Spec,
    node: NodeId,
) -> impl Ord {
    let segments = context
        .membership
        .links()
        .relevant(address, &spec.interfaces);
    (
        Reverse(spec.candidates.weight(node)),
        !context.is_on_link(node, address, &segments),
        mix(context.membership.nodes().hash(node) ^ address_hash(address)),
    )
}

/// The distinct networks of all nodes.
fn networks(context: &Context<'_>) -> Vec<IpNet> {
    let membership = context.membership;
    let ours = membership.links().working().flat_map(|link| &link.networks);
    let peers = membership
        .links()
        .working()
        .flat_map(|link| membership.peers().on(link.index))
        .flat_map(|(_, peer)| &peer.networks);
    let mut networks: Vec<_> = ours.chain(peers).map(IpNet::trunc).collect();
    networks.sort();
    networks.dedup();
    networks.truncate(MAX_NETWORKS);
    networks
}
