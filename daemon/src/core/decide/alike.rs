//! Nodes that are alike: for a service they decide the same. A process that decides for all nodes
//! of a cluster decides once for each group, instead of once for each node.
//!
//! Only the process on a node knows what its host lacks; groups are for other processes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::peer_config::has_next_hop;
use super::{Decision, decide, peers_of, weight};
use crate::core::api::ObjectName;
use crate::core::index::Index;
use crate::core::model::{Family, Node, Service, TrafficPolicy};
use crate::core::panic_context::PanicContext;

/// What the nodes of a group have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Precision {
    /// The prefixes, the BGPPeers and the reasons of a decision, not the attributes and details.
    #[default]
    Prefixes,
    /// The attributes too.
    Attributes,
}

/// The nodes of a cluster in groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AlikeNodes {
    /// All nodes, sorted. Groups refer to their places.
    names: Vec<String>,
    groups: BTreeMap<Traits, Vec<usize>>,
}

/// What decisions depend on, except the endpoints on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Traits {
    /// The name of a node whose attributes are its own.
    alone: Option<String>,
    network_unavailable: bool,
    excluded: bool,
    /// Whether each BGPAdvertisement selects the node.
    advertisements: Vec<bool>,
    /// The BGPPeers that run on it, and whether there is a next hop for each family.
    peers: Vec<(Arc<str>, [bool; 2])>,
    /// The BGPPeers that can't run on it.
    refused: Vec<String>,
}

impl Traits {
    fn of(index: &Index, name: &str, node: &Node, alone: bool) -> Self {
        let advertisements = index.config().advertisements.values();
        let selected = advertisements.map(|ad| ad.selection.nodes.matches(&node.labels));
        let peers = peers_of(index, name, node).map(|peer| {
            let has_next_hop = |family| has_next_hop(peer, node, family);
            (peer.name.clone(), Family::ALL.map(has_next_hop))
        });
        let refused = index.conflicting_peers(name).into_iter().flatten();
        Self {
            alone: alone.then(|| name.to_owned()),
            network_unavailable: node.network_unavailable,
            excluded: node.excluded(),
            advertisements: selected.collect(),
            peers: peers.collect(),
            refused: refused.map(|(peer, _)| peer.clone()).collect(),
        }
    }
}

impl AlikeNodes {
    /// The groups of all nodes.
    pub(crate) fn of(index: &Index, precision: Precision) -> Self {
        let alone = precision == Precision::Attributes && have_own_attributes(index);
        let mut groups: BTreeMap<Traits, Vec<usize>> = BTreeMap::new();
        for (place, (name, node)) in index.nodes().iter().enumerate() {
            // What waits for the service proxy of a node waits on that node only.
            let alone = alone || index.delays_on(name);
            let of_group = groups.entry(Traits::of(index, name, node, alone));
            of_group.or_default().push(place);
        }
        Self {
            names: index.nodes().keys().cloned().collect(),
            groups,
        }
    }

    /// The names of all nodes, by place.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Calls `each` with the decisions about a service, and the places of the nodes that decide so.
    /// Each node is in one call.
    pub(crate) fn decide(
        &self,
        index: &Index,
        service: &Service,
        mut each: impl FnMut(&Decision, &[usize]),
    ) {
        let _context = PanicContext::new("deciding where to announce", &service.name);
        let endpoints = EndpointsOnNodes::of(index, service);
        let mut decide_for = |members: &[usize]| {
            let name = members.first().and_then(|first| self.names.get(*first));
            if let Some(name) = name {
                let node = index.nodes().get(name);
                each(&decide(index, name, node, service), members);
            }
        };
        for members in self.groups.values() {
            if endpoints.0.is_empty() {
                decide_for(members);
                continue;
            }
            let mut parts: BTreeMap<Option<&Vec<bool>>, Vec<usize>> = BTreeMap::new();
            for place in members {
                let has = endpoints.0.get(&self.names[*place]);
                parts.entry(has).or_default().push(*place);
            }
            parts.values().for_each(|members| decide_for(members));
        }
    }
}

/// Whether routes of nodes with equal [`Traits`] may have different attributes: a weight, or the
/// AGGREGATOR of an aggregate.
fn have_own_attributes(index: &Index) -> bool {
    let config = index.config();
    let mut advertisements = config.advertisements.values();
    weight::in_use(config)
        || advertisements.any(|ad| Family::ALL.into_iter().any(|family| ad.aggregates(family)))
}

/// The nodes with endpoints that a decision depends on: of a service with the policy Local, and of
/// those that share its addresses with that policy. For each of them whether the node has some.
struct EndpointsOnNodes(BTreeMap<String, Vec<bool>>);

impl EndpointsOnNodes {
    fn of(index: &Index, service: &Service) -> Self {
        let mut needed: Vec<(&ObjectName, Family)> = Vec::new();
        for address in service.addresses() {
            let family = Family::of(*address);
            if service.traffic_policy == TrafficPolicy::Local {
                needed.push((&service.name, family));
            }
            let users = index.services_with_address(*address);
            let sharers = users.filter(|user| service.shares_local_with(user));
            needed.extend(sharers.map(|sharer| (&*sharer.name, family)));
        }
        let mut on_nodes: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        for (place, (service, family)) in needed.iter().enumerate() {
            for node in index.endpoints(service, *family).nodes.into_keys() {
                let of_node = on_nodes.entry(node);
                of_node.or_insert_with(|| vec![false; needed.len()])[place] = true;
            }
        }
        Self(on_nodes)
    }
}
