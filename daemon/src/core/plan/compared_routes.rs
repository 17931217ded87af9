//! The routes of all nodes before and after a change, compared node by node: of large clusters
//! there are too many to keep.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::flows::moved_share;
use super::{PlannedRoute, planned_route};
use crate::core::decide::node_routes::{NodeRoutes, RouteKey};
use crate::core::decide::peer_config::next_hop;
use crate::core::index::Index;
use crate::core::model::Family;

/// How a route differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Effect {
    /// The node announces it.
    Announced,
    /// The node withdraws it.
    Withdrawn,
    /// The node announces it with other attributes.
    Changed,
}

/// A route of a node to a BGPPeer that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RouteDifference {
    /// How.
    pub effect: Effect,
    /// The node.
    pub node: String,
    /// The BGPPeer.
    pub peer: String,
    /// The prefix.
    pub prefix: IpNet,
    /// The attributes that differ, with their values before and after.
    pub attributes: Vec<String>,
    /// Whether the node announces the prefix after the change, to this or another BGPPeer.
    #[serde(skip)]
    pub still_announced: bool,
}

/// The nodes over which a router balances a prefix.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FlowDifference {
    /// The BGPPeer.
    pub peer: String,
    /// The prefix.
    pub prefix: IpNet,
    /// The number of nodes before.
    pub nodes_before: usize,
    /// The number of nodes after.
    pub nodes_after: usize,
    /// The least share of flows that reach another node, in percent: those of nodes that are gone.
    /// Routers with resilient hashing move no others.
    pub moved_at_least: u8,
    /// The share with hash thresholds of equal size (RFC 2992), in percent. Routers without
    /// resilient hashing move about as many.
    pub moved_by_rehash: u8,
}

/// What differs.
#[derive(Debug, Default)]
pub(super) struct ComparedRoutes {
    /// Routes that are withdrawn or changed, and then those that are announced.
    pub(super) routes: Vec<RouteDifference>,
    /// Prefixes that a router balances over other nodes.
    pub(super) flows: Vec<FlowDifference>,
    /// The services that some node announces over BGP, before and after, as `namespace/name`.
    pub(super) announced: [BTreeSet<String>; 2],
}

/// The nodes that announce a prefix to a BGPPeer, by place, before and after.
type Balanced = BTreeMap<RouteKey, [Vec<u32>; 2]>;

/// What a route has beside its attributes, for each family: the next hop, and whether LOCAL_PREF is
/// sent.
type Context = Option<([Option<IpAddr>; 2], bool)>;

impl ComparedRoutes {
    /// Compares the routes of all nodes that exist before or after.
    pub(super) fn of(before: &Index, after: &Index) -> Self {
        let names = before.nodes().keys().chain(after.nodes().keys());
        let names: BTreeSet<&String> = names.collect();
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        let mut compared = Self::default();
        let mut new = Vec::new();
        let mut balanced = Balanced::new();
        for (place, name) in (0_u32..).zip(&names) {
            let both = [before, after].map(|index| routes_of(index, name));
            for (side, routes) in both.iter().enumerate() {
                compared.announced[side].extend(announced(routes));
                for key in routes.routes().keys() {
                    balanced.entry(key.clone()).or_default()[side].push(place);
                }
            }
            let node = OnNode {
                name,
                indexes: [before, after],
            };
            let (differing, announced) = node.compare(&both);
            compared.routes.extend(differing);
            new.extend(announced);
        }
        compared.routes.extend(new);
        compared.flows = flows(&names, balanced);
        compared
    }
}

fn routes_of(index: &Index, name: &str) -> NodeRoutes {
    if index.nodes().contains_key(name) {
        NodeRoutes::of(index, name)
    } else {
        NodeRoutes::new(name)
    }
}

fn announced(routes: &NodeRoutes) -> impl Iterator<Item = String> {
    let decisions = routes.decisions().iter();
    let announced = decisions.filter(|(_, decision)| !decision.contributions.is_empty());
    announced.map(|(service, _)| service.to_string())
}

/// A node, and the indexes before and after.
struct OnNode<'a> {
    name: &'a str,
    indexes: [&'a Index; 2],
}

impl OnNode<'_> {
    /// The routes that are withdrawn or changed, and those that are announced.
    fn compare(&self, [was, is]: &[NodeRoutes; 2]) -> (Vec<RouteDifference>, Vec<RouteDifference>) {
        let mut contexts: BTreeMap<&Arc<str>, bool> = BTreeMap::new();
        let mut differing = Vec::new();
        for (key, route) in was.routes() {
            let Some(other) = is.routes().get(key) else {
                differing.push(self.difference(Effect::Withdrawn, key, Vec::new()));
                continue;
            };
            let same = contexts.entry(&key.0);
            let same = *same.or_insert_with(|| self.has_same_context(&key.0));
            if same && route == other {
                continue;
            }
            let [before, after] = self.indexes;
            let before = planned_route(before, self.name, key, route);
            let after = planned_route(after, self.name, key, other);
            let attributes = before
                .zip(after)
                .map(|(was, is)| changed_attributes(&was, &is));
            let attributes = attributes.unwrap_or_default();
            if !attributes.is_empty() {
                differing.push(self.difference(Effect::Changed, key, attributes));
            }
        }
        let stays: BTreeSet<IpNet> = match differing.is_empty() {
            true => BTreeSet::new(),
            false => is.routes().keys().map(|(_, prefix)| *prefix).collect(),
        };
        for route in &mut differing {
            route.still_announced = stays.contains(&route.prefix);
        }
        let new = is
            .routes()
            .keys()
            .filter(|key| !was.routes().contains_key(*key));
        let new = new.map(|key| RouteDifference {
            still_announced: true,
            ..self.difference(Effect::Announced, key, Vec::new())
        });
        (differing, new.collect())
    }

    fn difference(
        &self,
        effect: Effect,
        (peer, prefix): &RouteKey,
        attributes: Vec<String>,
    ) -> RouteDifference {
        RouteDifference {
            effect,
            node: self.name.to_owned(),
            peer: peer.to_string(),
            prefix: *prefix,
            attributes,
            still_announced: false,
        }
    }

    fn has_same_context(&self, peer: &str) -> bool {
        let [before, after] = self.indexes.map(|index| self.context(index, peer));
        before == after
    }

    fn context(&self, index: &Index, peer: &str) -> Context {
        let node = index.nodes().get(self.name)?;
        let peer = index.config().peers.get(peer)?;
        let next_hop = |family| next_hop(peer, node, family).map(|hop| hop.address());
        Some((Family::ALL.map(next_hop), peer.is_ibgp() == Some(false)))
    }
}

/// Of the prefixes that some node announced before.
fn flows(names: &[&str], balanced: Balanced) -> Vec<FlowDifference> {
    let named = |places: &[u32]| -> BTreeSet<&str> {
        let places = places
            .iter()
            .filter_map(|place| usize::try_from(*place).ok());
        places
            .filter_map(|place| names.get(place).copied())
            .collect()
    };
    let differing = balanced
        .into_iter()
        .filter_map(|((peer, prefix), [was, is])| {
            if was.is_empty() || was == is {
                return None;
            }
            let (moved_at_least, moved_by_rehash) = moved_share(&named(&was), &named(&is));
            Some(FlowDifference {
                peer: peer.to_string(),
                prefix,
                nodes_before: was.len(),
                nodes_after: is.len(),
                moved_at_least,
                moved_by_rehash,
            })
        });
    differing.collect()
}

/// The attributes that differ, with their values before and after.
fn changed_attributes(before: &PlannedRoute, after: &PlannedRoute) -> Vec<String> {
    let all = [before, after].map(attributes);
    let [was, is] = all;
    let changed = was.into_iter().zip(is).filter(|(was, is)| was != is);
    changed
        .map(|((name, was), (_, is))| format!("{name} {was} to {is}"))
        .collect()
}

fn attributes(route: &PlannedRoute) -> [(&'static str, String); 8] {
    let optional = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let list = |values: &[String]| {
        if values.is_empty() {
            "none".to_owned()
        } else {
            values.join(" ")
        }
    };
    let PlannedRoute {
        node: _,
        peer: _,
        prefix: _,
        next_hop,
        communities,
        large_communities,
        extended_communities,
        atomic_aggregate,
        med,
        prepend,
        local_pref,
    } = route;
    [
        ("next hop", optional(next_hop.map(|hop| hop.to_string()))),
        ("communities", list(communities)),
        ("large communities", list(large_communities)),
        ("extended communities", list(extended_communities)),
        ("ATOMIC_AGGREGATE", atomic_aggregate.to_string()),
        ("MED", optional(med.map(|med| med.to_string()))),
        ("prepend", prepend.to_string()),
        (
            "LOCAL_PREF",
            optional(local_pref.map(|value| value.to_string())),
        ),
    ]
}
