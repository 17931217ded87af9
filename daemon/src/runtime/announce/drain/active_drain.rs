//! A drain in progress: which routes it covers, and which of them other nodes announce.

use std::collections::BTreeSet;
use std::time::Instant;

use ipnet::IpNet;

use super::{DrainScope, Draining, RouterPaths, Takeover, announced_elsewhere};
use crate::core::api::ObjectName;
use crate::core::decide::node_routes::{NodeRoutes, RouteChange, RouteKey};
use crate::core::index::{Dirty, Index};

/// A drain of this node, or of this process before it ends, for all peers.
#[derive(Debug)]
pub(crate) struct ActiveDrain {
    draining: Draining,
    scope: DrainScope,
    /// Prefixes in the drain that another node should announce.
    elsewhere: BTreeSet<IpNet>,
    paths: RouterPaths,
}

impl ActiveDrain {
    /// Begins with the announced routes.
    pub(crate) fn new(node_routes: &NodeRoutes, scope: DrainScope) -> Self {
        Self {
            draining: Draining::new(node_routes.routes()),
            scope,
            elsewhere: BTreeSet::new(),
            paths: RouterPaths::default(),
        }
    }

    /// Begins with the announced routes where it is unknown which other nodes announce them: all
    /// are drained.
    pub(crate) fn all(node_routes: &NodeRoutes, scope: DrainScope) -> Self {
        Self {
            elsewhere: node_routes
                .routes()
                .keys()
                .map(|(_, prefix)| *prefix)
                .collect(),
            ..Self::new(node_routes, scope)
        }
    }

    /// What is being drained.
    pub(crate) const fn scope(&self) -> &DrainScope {
        &self.scope
    }

    /// Changes the scope. Returns whether it differs.
    pub(crate) fn set_scope(&mut self, scope: DrainScope) -> bool {
        let news = self.scope != scope;
        self.scope = scope;
        news
    }

    /// Sets the paths that routers have now.
    pub(crate) fn set_router_paths(&mut self, paths: RouterPaths) {
        self.paths = paths.with_earlier(std::mem::take(&mut self.paths));
    }

    /// The routes that peers have.
    pub(crate) const fn draining(&self) -> &Draining {
        &self.draining
    }

    /// Whether the drain of a route began since the last call.
    pub(crate) fn take_begun(&mut self) -> bool {
        self.draining.take_begun()
    }

    /// Whether a route is being drained that may have to wait for another path.
    pub(crate) fn needs_router_paths(&self) -> bool {
        matches!(self.scope, DrainScope::Node(_)) && self.draining.in_progress()
    }

    /// Updates the node's routes for a change, or all of them, and then which of the affected
    /// prefixes other nodes announce.
    pub(crate) fn decide(
        &mut self,
        index: &Index,
        node_routes: &mut NodeRoutes,
        dirty: &Dirty,
        all: bool,
    ) {
        let mut prefixes = prefixes_of(node_routes, &dirty.services);
        if all {
            node_routes.update_all(index);
        } else {
            node_routes.update(index, dirty);
        }
        if all || !dirty.nodes.is_empty() {
            let covered = node_routes.routes().keys();
            let covered = covered.filter(|key| self.covers(node_routes, key));
            let covered = covered.map(|(_, prefix)| *prefix).collect();
            self.elsewhere = announced_elsewhere(index, node_routes, &covered);
            return;
        }
        prefixes.extend(prefixes_of(node_routes, &dirty.services));
        self.elsewhere.retain(|prefix| !prefixes.contains(prefix));
        prefixes.retain(|prefix| {
            let mut peers = node_routes.route_counts().keys();
            peers.any(|peer| self.covers(node_routes, &(peer.clone(), *prefix)))
        });
        let found = announced_elsewhere(index, node_routes, &prefixes);
        self.elsewhere.extend(found);
    }

    /// Whether this is a route of the node that is withdrawn, or already was, once another node
    /// takes over.
    fn covers(&self, node_routes: &NodeRoutes, key: &RouteKey) -> bool {
        node_routes.routes().contains_key(key) && self.scope.covers(&key.0, node_routes.drain(key))
    }

    /// Returns what changes at this time.
    pub(crate) fn step(&mut self, now: Instant, node_routes: &NodeRoutes) -> Vec<RouteChange> {
        let (scope, elsewhere, paths) = (&self.scope, &self.elsewhere, &self.paths);
        self.draining.step(now, node_routes.routes(), |key| {
            let (peer, prefix) = key;
            let takeover = match elsewhere.contains(prefix) {
                false => Takeover::NoNode,
                true if paths.lacks_other_path(peer, prefix) => Takeover::NotReady,
                true => Takeover::Ready,
            };
            scope.action(peer, node_routes.drain(key), takeover)
        })
    }

    /// Ends the drain. Returns the changes that announce all routes as usual again.
    pub(crate) fn end(mut self, now: Instant, node_routes: &NodeRoutes) -> Vec<RouteChange> {
        self.draining
            .step(now, node_routes.routes(), |_| super::RouteAction::Announce)
    }
}

/// The prefixes that these services contribute to.
fn prefixes_of(node_routes: &NodeRoutes, services: &BTreeSet<ObjectName>) -> BTreeSet<IpNet> {
    let decisions = services
        .iter()
        .filter_map(|name| node_routes.decisions().get(name));
    let contributions = decisions.flat_map(|decision| &decision.contributions);
    contributions
        .map(|contribution| contribution.prefix)
        .collect()
}
