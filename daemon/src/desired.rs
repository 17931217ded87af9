//! The desired state of one node: the fold of all decisions, kept up to date change by change.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_bgp::rib::Route;
use ipnet::IpNet;

use crate::api::ObjectName;
use crate::config::drain::Drain;
use crate::decide::{Contribution, Decision, decide, merge, weight};
use crate::index::facts::Node;
use crate::index::{Index, Touched};

/// One prefix towards one peer: announce it like this, or withdraw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// The BGPPeer.
    pub peer: String,
    /// The prefix.
    pub prefix: IpNet,
    /// None: withdraw.
    pub route: Option<Route>,
}

/// A peer and a prefix.
pub type RouteKey = (String, IpNet);

/// What one node announces, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    node: String,
    stand_in: Option<Node>,
    decisions: BTreeMap<ObjectName, Decision>,
    contributors: BTreeMap<RouteKey, BTreeSet<ObjectName>>,
    routes: BTreeMap<RouteKey, Route>,
}

impl Desired {
    /// Nothing yet.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            ..Self::default()
        }
    }

    /// The whole fold at once.
    pub fn of(index: &Index, node: impl Into<String>) -> Self {
        let mut desired = Self::new(node);
        desired.update_all(index);
        desired
    }

    /// Decides anew what a change touched, and tells what that changes on the wire.
    pub fn update(&mut self, index: &Index, touched: &Touched) -> Vec<RouteChange> {
        // Whether weights are told depends on all nodes.
        let others_matter = || !touched.nodes.is_empty() && weight::in_use(index.config());
        if touched.configuration || touched.nodes.contains(&self.node) || others_matter() {
            return self.update_all(index);
        }
        let mut affected = BTreeSet::new();
        for name in &touched.services {
            self.decide_again(index, name.clone(), &mut affected);
        }
        affected
            .into_iter()
            .filter_map(|key| self.merge_again(key))
            .collect()
    }

    /// Decides everything anew.
    pub fn update_all(&mut self, index: &Index) -> Vec<RouteChange> {
        let known = index.services().map(|service| service.name.clone());
        let all: BTreeSet<ObjectName> = known.chain(self.decisions.keys().cloned()).collect();
        let mut affected: BTreeSet<_> = self.routes.keys().cloned().collect();
        for name in all {
            self.decide_again(index, name, &mut affected);
        }
        affected
            .into_iter()
            .filter_map(|key| self.merge_again(key))
            .collect()
    }

    /// Takes routes for announced whose reasons are not known yet: the next full decision changes what it must.
    pub fn restore_routes(&mut self, routes: BTreeMap<RouteKey, Route>) {
        self.routes = routes;
        self.contributors = self
            .routes
            .keys()
            .map(|key| (key.clone(), BTreeSet::new()))
            .collect();
    }

    /// Decides from these facts about the node instead of the index's, or from the index's again: with the next
    /// [`Self::update_all`].
    pub fn stand_in(&mut self, node: Option<Node>) {
        self.stand_in = node;
    }

    /// The node's facts.
    pub fn facts<'a>(&'a self, index: &'a Index) -> Option<&'a Node> {
        self.stand_in
            .as_ref()
            .or_else(|| index.nodes().get(&self.node))
    }

    /// How a route leaves: the longest time of those who contribute to it counts, and a cordon if all of them ask for that.
    pub fn drain(&self, (peer, prefix): &RouteKey) -> Drain {
        let contributors = self.contributors.get(&(peer.clone(), *prefix));
        let mut drains = contributors
            .into_iter()
            .flatten()
            .filter_map(|name| self.decisions.get(name))
            .flat_map(|decision| &decision.contributions)
            .filter(|contribution| contribution.peer == *peer && contribution.prefix == *prefix)
            .map(|contribution| contribution.drain);
        let first = drains.next().unwrap_or_default();
        drains.fold(first, |a, b| Drain {
            time: a.time.max(b.time),
            on_cordon: a.on_cordon && b.on_cordon,
        })
    }

    /// The node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Every route, by peer and prefix.
    pub fn routes(&self) -> &BTreeMap<RouteKey, Route> {
        &self.routes
    }

    /// Every decision, by service.
    pub fn decisions(&self) -> &BTreeMap<ObjectName, Decision> {
        &self.decisions
    }

    fn decide_again(&mut self, index: &Index, name: ObjectName, affected: &mut BTreeSet<RouteKey>) {
        let decision = match index.service(&name) {
            Some(service) => decide(index, &self.node, self.facts(index), service),
            None => Decision::default(),
        };
        self.replace(name, decision, affected);
    }

    fn replace(&mut self, name: ObjectName, new: Decision, affected: &mut BTreeSet<RouteKey>) {
        let key = |contribution: &Contribution| (contribution.peer.clone(), contribution.prefix);
        let old = self.decisions.remove(&name).unwrap_or_default();
        if old.contributions != new.contributions {
            for key in old.contributions.iter().map(key) {
                if let Some(contributors) = self.contributors.get_mut(&key) {
                    contributors.remove(&name);
                }
                affected.insert(key);
            }
            for key in new.contributions.iter().map(key) {
                self.contributors
                    .entry(key.clone())
                    .or_default()
                    .insert(name.clone());
                affected.insert(key);
            }
        }
        if new != Decision::default() {
            self.decisions.insert(name, new);
        }
    }

    fn merge_again(&mut self, key: RouteKey) -> Option<RouteChange> {
        let contributors = self.contributors.get(&key).into_iter().flatten();
        let contributions = contributors
            .filter_map(|name| self.decisions.get(name))
            .flat_map(|decision| &decision.contributions)
            .filter(|contribution| contribution.peer == key.0 && contribution.prefix == key.1);
        let route = merge(contributions);
        let old = match &route {
            Some(route) => self.routes.insert(key.clone(), route.clone()),
            None => {
                self.contributors.remove(&key);
                self.routes.remove(&key)
            }
        };
        let (peer, prefix) = key;
        (old != route).then_some(RouteChange {
            peer,
            prefix,
            route,
        })
    }
}
