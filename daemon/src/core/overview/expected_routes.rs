//! How many routes each node announces to each BGPPeer, and their digest: what
//! [`crate::core::decide::node_routes::NodeRoutes`] of each node would have, decided once for nodes
//! that are alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_bgp::rib::Route;
use ipnet::IpNet;

use crate::core::decide::aggregates::decide_pool;
use crate::core::decide::alike::AlikeNodes;
use crate::core::decide::digest::{Digester, RouteDigest};
use crate::core::decide::{Contribution, Decision, Offer, merge};
use crate::core::index::Index;
use crate::core::model::Family;

/// The number of routes and their digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Routes {
    pub(super) count: u64,
    pub(super) digest: RouteDigest,
}

impl Routes {
    /// Both, of sets that have none in common.
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            digest: self.digest.and(other.digest),
        }
    }
}

/// The routes of a node by BGPPeer, of both families, IPv4 first.
pub(super) type OfNode = BTreeMap<Arc<str>, [Routes; 2]>;

/// Adds up the routes of all nodes. Services come in the order of their names, as the attributes of
/// a prefix that several contribute to depend on it.
#[derive(Debug)]
pub(super) struct ExpectedRoutes<'a> {
    index: &'a Index,
    /// By the place of the node.
    nodes: Vec<OfNode>,
    /// The aggregates that each node announces with or without a service.
    of_pools: Vec<Vec<Contribution>>,
    aggregates: BTreeSet<IpNet>,
    /// What is offered for prefixes to which several may contribute, by node.
    shared: BTreeMap<(usize, Arc<str>, IpNet), Vec<Offer>>,
    digester: Digester,
    last: Option<Route>,
}

impl<'a> ExpectedRoutes<'a> {
    pub(super) fn new(index: &'a Index, alike: &AlikeNodes) -> Self {
        let names = alike.names().iter();
        let of_pools = names.map(|name| of_pools(index, name));
        let of_pools: Vec<Vec<Contribution>> = of_pools.collect();
        let contributions = of_pools.iter().flatten();
        Self {
            index,
            nodes: vec![OfNode::new(); of_pools.len()],
            aggregates: contributions.map(|one| one.prefix).collect(),
            of_pools,
            shared: BTreeMap::new(),
            digester: Digester::default(),
            last: None,
        }
    }

    /// Adds what nodes decided about a service.
    pub(super) fn add(&mut self, decision: &Decision, nodes: &[usize]) {
        for contribution in &decision.contributions {
            if self.is_shared(&contribution.prefix) {
                nodes
                    .iter()
                    .for_each(|node| self.offer(*node, contribution));
                continue;
            }
            for (peer, offer) in contribution.offers.iter() {
                let route = self.route(contribution.prefix, [offer]);
                for node in nodes {
                    self.count(*node, peer, contribution.prefix, route);
                }
            }
        }
    }

    /// Whether several services, or one and a pool, may contribute to a prefix.
    fn is_shared(&self, prefix: &IpNet) -> bool {
        let mut users = self.index.services_with_address(prefix.addr());
        prefix.prefix_len() < prefix.max_prefix_len()
            || users.nth(1).is_some()
            || self.aggregates.contains(prefix)
    }

    fn offer(&mut self, node: usize, contribution: &Contribution) {
        for (peer, offer) in contribution.offers.iter() {
            let key = (node, peer.clone(), contribution.prefix);
            self.shared.entry(key).or_default().push(offer.clone());
        }
    }

    fn route<'o>(&mut self, prefix: IpNet, offers: impl IntoIterator<Item = &'o Offer>) -> Routes {
        let Some(route) = merge(offers) else {
            return Routes::default();
        };
        // The digester knows the attributes by their pointer.
        let last = self.last.take().filter(|last| *last == route);
        let route = last.unwrap_or(route);
        let digest = self.digester.route(&prefix, &route);
        self.last = Some(route);
        Routes { count: 1, digest }
    }

    fn count(&mut self, node: usize, peer: &Arc<str>, prefix: IpNet, route: Routes) {
        let Some(of_node) = self.nodes.get_mut(node) else {
            return;
        };
        if !of_node.contains_key(peer) {
            of_node.insert(peer.clone(), Default::default());
        }
        let of_peer = of_node.get_mut(peer);
        let family = usize::from(Family::of(prefix.addr()) == Family::V6);
        if let Some(total) = of_peer.and_then(|of_peer| of_peer.get_mut(family)) {
            *total = total.and(route);
        }
    }

    /// The routes of each node, by its place, once all services are added.
    pub(super) fn finish(mut self) -> Vec<OfNode> {
        // Pools come after services.
        for (node, contributions) in std::mem::take(&mut self.of_pools).into_iter().enumerate() {
            for contribution in contributions {
                self.offer(node, &contribution);
            }
        }
        for ((node, peer, prefix), offers) in std::mem::take(&mut self.shared) {
            let route = self.route(prefix, &offers);
            self.count(node, &peer, prefix, route);
        }
        self.nodes
    }
}

fn of_pools(index: &Index, name: &str) -> Vec<Contribution> {
    let node = index.nodes().get(name);
    let pools = index.config().pools.iter();
    let decisions = pools.map(|pool| (pool.name(), decide_pool(index, name, node, pool)));
    let by_name: BTreeMap<&str, Decision> = decisions.collect();
    let decisions = by_name.into_values();
    decisions
        .flat_map(|decision| decision.contributions)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decide::alike::Precision;
    use crate::core::decide::node_routes::NodeRoutes;
    use crate::core::index::tests::random_worlds;
    use proptest::prelude::*;

    fn expected(index: &Index) -> Vec<OfNode> {
        let alike = AlikeNodes::of(index, Precision::Attributes);
        let mut routes = ExpectedRoutes::new(index, &alike);
        for service in index.services() {
            alike.decide(index, service, |decision, nodes| {
                routes.add(decision, nodes)
            });
        }
        routes.finish()
    }

    fn of_node(index: &Index, name: &str) -> OfNode {
        let mut digester = Digester::default();
        let mut all = OfNode::new();
        for ((peer, prefix), route) in NodeRoutes::of(index, name).routes() {
            let of_peer = all.entry(peer.clone()).or_default();
            let family = usize::from(Family::of(prefix.addr()) == Family::V6);
            let digest = digester.route(prefix, route);
            of_peer[family] = of_peer[family].and(Routes { count: 1, digest });
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn they_are_those_of_each_node(index in random_worlds()) {
            let names = index.nodes().keys();
            let each: Vec<OfNode> = names.map(|name| of_node(&index, name)).collect();
            prop_assert_eq!(expected(&index), each);
        }
    }
}
