//! The routes of one node: combines the decisions of all services, updated with each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_bgp::rib::Route;
use ipnet::IpNet;

use crate::core::api::ObjectName;
use crate::core::decide::aggregates::decide_pool;
use crate::core::decide::recent::Recent;
use crate::core::decide::{Contribution, Decision, Offer, Offers, Verdict, decide, merge, weight};
use crate::core::index::{Dirty, Index};
use crate::core::model::Node;
use crate::core::model::drain::Drain;
use crate::core::panic_context::PanicContext;

/// A change of a route: announce or withdraw a prefix to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// The BGPPeer.
    pub peer: Arc<str>,
    /// The prefix.
    pub prefix: IpNet,
    /// None to withdraw.
    pub route: Option<Route>,
}

/// A peer and a prefix.
pub(crate) type RouteKey = (Arc<str>, IpNet);

/// The routes of one node, and the decisions that they result from.
#[derive(Clone, Debug, Default)]
pub struct NodeRoutes {
    node: String,
    node_override: Option<Node>,
    decisions: BTreeMap<Arc<ObjectName>, Decision>,
    /// The decisions about pools whose aggregates are always announced, by the pool's name.
    pools: BTreeMap<String, Decision>,
    /// The services that contribute to a prefix, for any peer. Sorted, mostly one.
    contributors: BTreeMap<IpNet, Vec<Arc<ObjectName>>>,
    routes: BTreeMap<RouteKey, Route>,
    /// The number of routes of each peer that has routes.
    counts: BTreeMap<Arc<str>, usize>,
    offers: Recent<Arc<Offers>>,
    verdicts: Recent<Arc<[Verdict]>>,
    attributes: Recent<Route>,
}

impl NodeRoutes {
    /// No routes.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            ..Self::default()
        }
    }

    /// The routes of a node, all decided now.
    pub fn of(index: &Index, node: impl Into<String>) -> Self {
        let mut node_routes = Self::new(node);
        node_routes.update_all(index);
        node_routes
    }

    /// Decides again what depends on a change. Returns the changed routes.
    pub fn update(&mut self, index: &Index, dirty: &Dirty) -> Vec<RouteChange> {
        // Whether weights are sent depends on all nodes.
        let others_matter = || !dirty.nodes.is_empty() && weight::in_use(index.config());
        if dirty.needs_full_decision(&self.node) || others_matter() {
            return self.update_all(index);
        }
        self.update_services(index, &dirty.services)
    }

    /// Decides these services again. Returns the changed routes.
    pub fn update_services<'a>(
        &mut self,
        index: &Index,
        services: impl IntoIterator<Item = &'a ObjectName>,
    ) -> Vec<RouteChange> {
        let mut affected = BTreeSet::new();
        for name in services {
            self.decide_service(index, name, &mut affected);
        }
        self.merge_routes(affected)
    }

    /// Decides all services again. Returns the changed routes.
    pub fn update_all(&mut self, index: &Index) -> Vec<RouteChange> {
        let gone = self.decisions.keys();
        let gone = gone.filter(|name| index.service(name).is_none());
        let gone: Vec<Arc<ObjectName>> = gone.cloned().collect();
        let mut affected: BTreeSet<_> = self.routes.keys().cloned().collect();
        for name in gone {
            self.replace(&name, Decision::default(), &mut affected);
        }
        for service in index.services() {
            self.decide_service(index, &service.name, &mut affected);
        }
        self.decide_pools(index, &mut affected);
        self.merge_routes(affected)
    }

    /// Decides the aggregates of all pools again. Returns the changed routes.
    pub fn update_pools(&mut self, index: &Index) -> Vec<RouteChange> {
        let mut affected = BTreeSet::new();
        self.decide_pools(index, &mut affected);
        self.merge_routes(affected)
    }

    /// Sets the routes that were announced before a restart. The next [`Self::update_all`] decides
    /// them again.
    pub fn restore_routes(&mut self, routes: BTreeMap<RouteKey, Route>) {
        self.counts.clear();
        for (peer, _) in routes.keys() {
            *self.counts.entry(peer.clone()).or_default() += 1;
        }
        self.routes = routes;
    }

    /// Replaces the index's model of the node in the following decisions, or ends that. Takes
    /// effect with the next [`Self::update_all`].
    pub fn override_node(&mut self, node: Option<Node>) {
        self.node_override = node;
    }

    /// The model of the node that decisions use.
    fn effective_node<'a>(&'a self, index: &'a Index) -> Option<&'a Node> {
        self.node_override
            .as_ref()
            .or_else(|| index.nodes().get(&self.node))
    }

    /// The drain settings of a route: the longest time of its services, and on cordon if all of
    /// them drain on cordon.
    pub fn drain(&self, key: &RouteKey) -> Drain {
        let mut drains = self.offers(key).map(|offer| offer.drain);
        let first = drains.next().unwrap_or_default();
        drains.fold(first, |a, b| Drain {
            time: a.time.max(b.time),
            on_cordon: a.on_cordon && b.on_cordon,
        })
    }

    /// How many nodes should announce a prefix at least, by the advertisements of this node's
    /// routes.
    pub fn min_announcers(&self, prefix: &IpNet) -> usize {
        let contributors = self.contributors.get(prefix).into_iter().flatten();
        let offers = contributors
            .filter_map(|name| self.decisions.get(name))
            .chain(self.pools.values())
            .flat_map(|decision| &decision.contributions)
            .filter(|contribution| contribution.prefix == *prefix)
            .flat_map(|contribution| contribution.offers.iter());
        let floors = offers.map(|(_, offer)| offer.min_announcers);
        floors
            .max()
            .map_or(1, |floor| usize::try_from(floor).unwrap_or(usize::MAX))
    }

    /// The name of the node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// All routes, by peer and prefix.
    pub fn routes(&self) -> &BTreeMap<RouteKey, Route> {
        &self.routes
    }

    /// The number of routes of each peer.
    pub fn route_counts(&self) -> &BTreeMap<Arc<str>, usize> {
        &self.counts
    }

    /// All decisions, by service.
    pub fn decisions(&self) -> &BTreeMap<Arc<ObjectName>, Decision> {
        &self.decisions
    }

    /// The services that contribute to a prefix.
    pub fn contributors(&self, prefix: &IpNet) -> impl Iterator<Item = &ObjectName> {
        let contributors = self.contributors.get(prefix).into_iter().flatten();
        contributors.map(|name| &**name)
    }

    /// The decisions about pools whose aggregates are always announced, by the pool's name.
    pub fn pools(&self) -> &BTreeMap<String, Decision> {
        &self.pools
    }

    /// The offers of all services and pools for a route.
    fn offers<'a>(&'a self, key: &'a RouteKey) -> impl Iterator<Item = &'a Offer> {
        let (peer, prefix) = key;
        let contributors = self.contributors.get(prefix).into_iter().flatten();
        let pools = self.pools.values();
        contributors
            .filter_map(|name| self.decisions.get(name))
            .chain(pools)
            .flat_map(|decision| {
                // They are sorted, and a pool has many.
                let all = &decision.contributions;
                let first = all.partition_point(|contribution| contribution.prefix < *prefix);
                all.iter()
                    .skip(first)
                    .take_while(|contribution| contribution.prefix == *prefix)
            })
            .flat_map(|contribution| contribution.offers.iter())
            .filter_map(move |(to, offer)| (to == peer).then_some(offer))
    }

    fn decide_service(
        &mut self,
        index: &Index,
        name: &ObjectName,
        affected: &mut BTreeSet<RouteKey>,
    ) {
        if let Some(service) = index.service(name) {
            let panic_context = PanicContext::new("deciding where to announce", &service.name);
            let decision = decide(index, &self.node, self.effective_node(index), service);
            drop(panic_context);
            self.replace(&service.name, decision, affected);
        } else if let Some((name, _)) = self.decisions.get_key_value(name) {
            self.replace(&name.clone(), Decision::default(), affected);
        }
    }

    fn replace(
        &mut self,
        name: &Arc<ObjectName>,
        mut new: Decision,
        affected: &mut BTreeSet<RouteKey>,
    ) {
        for contribution in &mut new.contributions {
            contribution.offers = self.offers.share(contribution.offers.clone());
        }
        new.contributions.shrink_to_fit();
        new.verdicts = self.verdicts.share(new.verdicts);
        let old = self.decisions.remove(name).unwrap_or_default();
        if old.contributions != new.contributions {
            for contribution in &old.contributions {
                self.remove_contributor(&contribution.prefix, name);
                affected.extend(keys(contribution));
            }
            for contribution in &new.contributions {
                self.add_contributor(contribution.prefix, name);
                affected.extend(keys(contribution));
            }
        }
        if new != Decision::default() {
            self.decisions.insert(name.clone(), new);
        }
    }

    /// Decides the aggregates of all pools. There are few: all are compared.
    fn decide_pools(&mut self, index: &Index, affected: &mut BTreeSet<RouteKey>) {
        let mut new = BTreeMap::new();
        for pool in index.config().pools.iter() {
            let node = self.effective_node(index);
            let decision = decide_pool(index, &self.node, node, pool);
            if decision != Decision::default() {
                new.insert(pool.name().to_owned(), decision);
            }
        }
        if self.pools != new {
            let decisions = self.pools.values().chain(new.values());
            affected.extend(
                decisions
                    .flat_map(|decision| &decision.contributions)
                    .flat_map(keys),
            );
            self.pools = new;
        }
    }

    fn add_contributor(&mut self, prefix: IpNet, name: &Arc<ObjectName>) {
        // Most prefixes have one service: reserve room for no more.
        let contributors = self
            .contributors
            .entry(prefix)
            .or_insert_with(|| Vec::with_capacity(1));
        if let Err(place) = contributors.binary_search(name) {
            contributors.insert(place, name.clone());
        }
    }

    fn remove_contributor(&mut self, prefix: &IpNet, name: &Arc<ObjectName>) {
        let Some(contributors) = self.contributors.get_mut(prefix) else {
            return;
        };
        if let Ok(place) = contributors.binary_search(name) {
            contributors.remove(place);
        }
        if contributors.is_empty() {
            self.contributors.remove(prefix);
        }
    }

    fn merge_routes(&mut self, affected: BTreeSet<RouteKey>) -> Vec<RouteChange> {
        let merged = affected.into_iter();
        merged.filter_map(|key| self.merge_route(key)).collect()
    }

    fn merge_route(&mut self, key: RouteKey) -> Option<RouteChange> {
        let route = merge(self.offers(&key));
        let route = route.map(|route| self.attributes.share(route));
        let old = match &route {
            Some(route) => self.routes.insert(key.clone(), route.clone()),
            None => self.routes.remove(&key),
        };
        match (&old, &route) {
            (None, Some(_)) => *self.counts.entry(key.0.clone()).or_default() += 1,
            (Some(_), None) => self.uncount(&key.0),
            (None, None) | (Some(_), Some(_)) => {}
        }
        let (peer, prefix) = key;
        (old != route).then_some(RouteChange {
            peer,
            prefix,
            route,
        })
    }

    fn uncount(&mut self, peer: &Arc<str>) {
        if let Some(count) = self.counts.get_mut(peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(peer);
            }
        }
    }
}

/// The routes that a contribution affects.
fn keys(contribution: &Contribution) -> impl Iterator<Item = RouteKey> {
    let offers = contribution.offers.iter();
    offers.map(|(peer, _)| (peer.clone(), contribution.prefix))
}

/// The caches of recent values are not part of the state.
impl PartialEq for NodeRoutes {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
            && self.node_override == other.node_override
            && self.decisions == other.decisions
            && self.pools == other.pools
            && self.contributors == other.contributors
            && self.routes == other.routes
            && self.counts == other.counts
    }
}

impl Eq for NodeRoutes {}
