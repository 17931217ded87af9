//! A drain in progress: which routes it covers, and which of them other nodes announce.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Those of them that another node with a session should announce. Only of the BGPPeers that
    /// some nodes have no session with.
    with_session: BTreeMap<String, BTreeSet<IpNet>>,
    paths: RouterPaths,
}

impl ActiveDrain {
    /// Begins with the announced routes.
    pub(crate) fn new(node_routes: &NodeRoutes, scope: DrainScope) -> Self {
        Self {
            draining: Draining::new(node_routes.routes()),
            scope,
            elsewhere: BTreeSet::new(),
            with_session: BTreeMap::new(),
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

    /// Sets the paths that routers have now, and the sessions of other nodes.
    pub(crate) fn set_router_paths(
        &mut self,
        index: &Index,
        node_routes: &NodeRoutes,
        paths: RouterPaths,
    ) {
        let changed = paths.sessions() != self.paths.sessions();
        self.paths = paths.with_earlier(std::mem::take(&mut self.paths));
        if changed {
            self.find_sessions(index, node_routes);
        }
    }

    /// Finds which prefixes nodes with a session should announce. Where all nodes have one, there
    /// is nothing to find.
    fn find_sessions(&mut self, index: &Index, node_routes: &NodeRoutes) {
        let sessions = self.paths.sessions();
        let found = sessions.peers_with_down().map(|peer| {
            let up = |node: &str| !sessions.is_down(peer, node);
            let prefixes = announced_elsewhere(index, node_routes, &self.elsewhere, up);
            (peer.to_owned(), prefixes)
        });
        self.with_session = found.collect();
    }

    /// Whether the nodes that should announce a prefix all lack a session with the router.
    fn lacks_session(&self, peer: &str, prefix: &IpNet) -> bool {
        let with_session = self.with_session.get(peer);
        with_session.is_some_and(|prefixes| !prefixes.contains(prefix))
            && !self.paths.shows_other_path(peer, prefix)
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
            self.elsewhere = announced_elsewhere(index, node_routes, &covered, |_| true);
        } else {
            prefixes.extend(prefixes_of(node_routes, &dirty.services));
            self.elsewhere.retain(|prefix| !prefixes.contains(prefix));
            prefixes.retain(|prefix| {
                let mut peers = node_routes.route_counts().keys();
                peers.any(|peer| self.covers(node_routes, &(peer.clone(), *prefix)))
            });
            let found = announced_elsewhere(index, node_routes, &prefixes, |_| true);
            self.elsewhere.extend(found);
        }
        self.find_sessions(index, node_routes);
    }

    /// Whether this is a route of the node that is withdrawn, or already was, once another node
    /// takes over.
    fn covers(&self, node_routes: &NodeRoutes, key: &RouteKey) -> bool {
        node_routes.routes().contains_key(key) && self.scope.covers(&key.0, node_routes.drain(key))
    }

    /// Returns what changes at this time.
    pub(crate) fn step(&mut self, now: Instant, node_routes: &NodeRoutes) -> Vec<RouteChange> {
        let mut draining = std::mem::take(&mut self.draining);
        let changes = draining.step(now, node_routes.routes(), |key| {
            let (peer, prefix) = key;
            let takeover = match self.elsewhere.contains(prefix) {
                false => Takeover::NoNode,
                true if self.paths.lacks_other_path(peer, prefix) => Takeover::NotReady,
                true if self.lacks_session(peer, prefix) => Takeover::NotReady,
                true => Takeover::Ready,
            };
            self.scope.action(peer, node_routes.drain(key), takeover)
        });
        self.draining = draining;
        changes
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use ferrolb_bgp::fsm::OtherPaths;
    use ferrolb_bgp::wire::Family;

    use super::super::NodeExit;
    use super::*;

    #[test]
    fn a_route_lacks_a_session_if_no_node_with_one_announces_it_and_the_router_shows_no_path() {
        let prefix = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let (one, two) = (prefix("192.0.2.1/32"), prefix("192.0.2.2/32"));
        let scope = DrainScope::Node(NodeExit::Excluded);
        let mut drain = ActiveDrain::new(&NodeRoutes::new("a".to_owned()), scope);
        // Of the nodes that announce both, those with a session announce the first one only.
        drain.with_session = BTreeMap::from([("tor".to_owned(), BTreeSet::from([one]))]);
        assert!(!drain.lacks_session("tor", &one));
        assert!(drain.lacks_session("tor", &two));
        assert!(!drain.lacks_session("tor-2", &two), "all nodes have one");
        let shown = OtherPaths {
            peer: "tor".to_owned(),
            template: None,
            shown: vec![Family::IPV4_UNICAST],
            prefixes: HashSet::from([two]),
        };
        drain.paths = RouterPaths::new(vec![shown], Arc::default());
        assert!(!drain.lacks_session("tor", &two), "the router knows better");
    }
}
