//! The announcer: passes the routes of its node to the BGP engine, first all, then every change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::{PeerRoutes, PeerStatus, State};
use ferrolb_bgp::rib::Route;
use ferrolb_bgp::speaker::Handle;
use ipnet::IpNet;

use crate::core::decide::node_routes::{NodeRoutes, RouteChange, RouteKey};
use crate::core::decide::peer_config::peer_config;
use crate::core::decide::peers_of;
use crate::core::index::{Dirty, Index};
use crate::core::model::Node;
use crate::runtime::announce::drain::{
    ActiveDrain, DrainScope, Draining, NodeExit, RouterPaths, StopMode,
};
use crate::runtime::announce::state_file::{SavedState, StateWriter};
use crate::runtime::announce::unnumbered::Unnumbered;
use crate::runtime::announce::weight_rate_limit::WeightRateLimit;
use crate::runtime::status::Announced;

/// Number of services per batch of the first routes.
const SERVICES_PER_BATCH: usize = 500;

/// Minimum interval between two ROUTE-REFRESH requests: routers answer with all their routes.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// Up to this many route changes are logged one by one.
const LOGGED_CHANGES: usize = 16;

/// Announces the routes of this node through the BGP engine.
#[derive(Debug)]
pub struct Announcer {
    node_routes: NodeRoutes,
    weight_limit: WeightRateLimit,
    sessions: BTreeMap<String, PeerConfig>,
    engine: Handle,
    unnumbered: Unnumbered,
    state: Option<StateWriter>,
    initialized: bool,
    /// Whether the End-of-RIB gate was opened for restored routes.
    restored: bool,
    /// Whether something changed since the last state that was given to the state writer.
    unsaved: bool,
    /// Whether the next [`Self::update_announced`] covers all services: at first and after drains.
    update_all_announced: bool,
    /// The Node object when it was last seen, without the facts that start a drain.
    last_node: Option<Node>,
    drain: Option<ActiveDrain>,
    /// Whether the engine records the paths that routers send back: the time of the last request
    /// for them.
    paths_requested: Option<Instant>,
    /// Routes that wait for another path, as last logged.
    waiting: Arc<BTreeSet<RouteKey>>,
    /// Set at a requested stop: the peers to drain.
    stopping: Option<BTreeSet<String>>,
}

impl Announcer {
    /// An announcer without routes yet.
    pub fn new(node: String, engine: Handle, state: Option<StateWriter>) -> Self {
        Self {
            node_routes: NodeRoutes::new(node),
            weight_limit: WeightRateLimit::default(),
            sessions: BTreeMap::new(),
            engine,
            unnumbered: Unnumbered::new(),
            state,
            initialized: false,
            restored: false,
            unsaved: false,
            update_all_announced: true,
            last_node: None,
            drain: None,
            paths_requested: None,
            waiting: Arc::default(),
            stopping: None,
        }
    }

    /// The routes of the node, and the decisions behind them.
    pub const fn node_routes(&self) -> &NodeRoutes {
        &self.node_routes
    }

    /// Whether a complete set of routes was passed to the engine.
    pub const fn initialized(&self) -> bool {
        self.initialized
    }

    /// The BGP engine.
    pub const fn engine(&self) -> &Handle {
        &self.engine
    }

    /// The routes that peers should have now.
    pub fn routes(&self) -> Box<dyn Iterator<Item = (&RouteKey, &Route)> + '_> {
        match &self.drain {
            Some(drain) => Box::new(drain.draining().routes()),
            None => Box::new(self.node_routes.routes().iter()),
        }
    }

    /// Applies what a change affects that was seen at this time. The first call applies everything
    /// and opens the End-of-RIB gate. Returns whether it sent a route or a withdrawal.
    pub fn update(
        &mut self,
        now: Instant,
        index: &Index,
        dirty: &Dirty,
        seen: Option<Instant>,
    ) -> bool {
        let first = !self.initialized;
        let all =
            first || dirty.needs_full_decision(self.node_routes.node()) || self.drain.is_some();
        let scope = self.scope(index);
        let node = index.nodes().get(self.node_routes.node());
        if let Some(node) = node {
            self.last_node = Some(node.staying());
        }
        // A deleted node keeps its sessions until its routes are drained.
        let gone = if all && (scope.is_none() || node.is_some()) {
            self.set_sessions(sessions(index, self.node_routes.node()))
        } else {
            Vec::new()
        };
        let changes = match scope {
            Some(scope) => self.drain(now, index, dirty, scope),
            None if self.drain.is_some() => self.end_drain(now, index),
            None if first => self.first_routes(now, index),
            None => {
                let changes = self.node_routes.update(index, dirty);
                self.weight_limit.filter(now, changes)
            }
        };
        // The first routes follow from no change.
        self.send_and_watch(now, &changes, seen.filter(|_| !first));
        for name in gone {
            self.engine.remove_peer(name);
        }
        if first {
            self.initialized = true;
            self.engine.open_gate();
        }
        !changes.is_empty()
    }

    /// Decides everything for the first time. Sends the changes in batches, since all at once would
    /// take several times the memory of the routes, and returns the last one. The gate is closed
    /// meanwhile, so no peer receives a part. After [`Self::restore`] it is open, and there are no
    /// batches.
    fn first_routes(&mut self, now: Instant, index: &Index) -> Vec<RouteChange> {
        if self.restored {
            let changes = self.node_routes.update_all(index);
            return self.weight_limit.filter(now, changes);
        }
        let names: Vec<_> = index.services().map(|service| &*service.name).collect();
        let mut changes = Vec::new();
        for piece in names.chunks(SERVICES_PER_BATCH) {
            log(&changes);
            self.send(&changes, None);
            let decided = self
                .node_routes
                .update_services(index, piece.iter().copied());
            changes = self.weight_limit.filter(now, decided);
        }
        let decided = self.node_routes.update_pools(index);
        changes.extend(self.weight_limit.filter(now, decided));
        // Services of several batches can contribute to one route: send its final weight at once.
        changes.extend(self.weight_limit.flush(now));
        changes
    }

    /// Sends weights that are due and withdraws drained routes. Returns whether any route, or the
    /// set of waiting routes, changed.
    pub fn tick(&mut self, now: Instant) -> bool {
        let changes = match &mut self.drain {
            Some(drain) => drain.step(now, &self.node_routes),
            None => self.weight_limit.due(now),
        };
        let waiting_changed = self.send_and_watch(now, &changes, None);
        !changes.is_empty() || waiting_changed
    }

    /// Sends changes, then requests the routers' paths. Returns whether the set of waiting routes
    /// changed.
    fn send_and_watch(
        &mut self,
        now: Instant,
        changes: &[RouteChange],
        seen: Option<Instant>,
    ) -> bool {
        log(changes);
        self.send(changes, seen);
        self.watch_paths(now);
        self.update_waiting()
    }

    /// Handles a requested stop: drains all peers, or for a graceful restart those that would not
    /// keep the routes.
    pub fn stop(&mut self, now: Instant, index: &Index, mode: StopMode, peers: &[PeerStatus]) {
        let keeps = |peer: &PeerStatus| {
            let negotiated = peer.negotiated.as_ref();
            negotiated.is_some_and(|negotiated| negotiated.graceful_restart.is_some())
        };
        // Peers without a session have no routes to drain.
        let drained = peers
            .iter()
            .filter(|peer| peer.state == State::Established)
            .filter(|peer| mode != StopMode::GracefulRestart || !keeps(peer))
            .map(|peer| peer.template.as_ref().unwrap_or(&peer.name).clone());
        let drained: BTreeSet<String> = drained.collect();
        self.stopping = Some(drained.clone());
        if mode == StopMode::GracefulRestart {
            // Save the state from before the drain: it is announced after a restart without the API
            // server.
            if let Some(state) = self.state.take() {
                if self.unsaved {
                    state.write(self.saved());
                }
                state.finish();
            }
        }
        if self.initialized {
            self.update(now, index, &Dirty::default(), None);
        } else {
            self.drain_restored(now, DrainScope::Process { drained });
        }
    }

    /// Drains restored routes. Without the API server it is unknown which other nodes announce
    /// them, so all are drained: the process ends anyway.
    fn drain_restored(&mut self, now: Instant, scope: DrainScope) {
        let routes = self.node_routes.routes();
        if routes.is_empty() {
            return;
        }
        log_drain(&scope, self.node_routes.node());
        let mut drain = ActiveDrain::all(&self.node_routes, scope);
        let mut changes = self.weight_limit.flush(now);
        changes.extend(drain.step(now, &self.node_routes));
        self.drain = Some(drain);
        log(&changes);
        self.send(&changes, None);
    }

    /// Whether no route is being drained.
    pub fn is_drained(&self) -> bool {
        let drain = self.drain.as_ref();
        drain.is_none_or(|drain| !drain.draining().in_progress())
    }

    /// What is to be drained, if anything.
    fn scope(&self, index: &Index) -> Option<DrainScope> {
        if let Some(drained) = self.stopping.clone() {
            return Some(DrainScope::Process { drained });
        }
        let node_exit = NodeExit::of(index.nodes().get(self.node_routes.node()))?;
        let concerned = match node_exit {
            NodeExit::Cordoned => drains_on_cordon(index),
            // Nothing to drain without a Node object ever seen, or without routes.
            NodeExit::Deleted | NodeExit::ShuttingDown | NodeExit::Excluded => {
                self.last_node.is_some() && self.routes().next().is_some()
            }
        };
        concerned.then_some(DrainScope::Node(node_exit))
    }

    fn drain(
        &mut self,
        now: Instant,
        index: &Index,
        dirty: &Dirty,
        scope: DrainScope,
    ) -> Vec<RouteChange> {
        let node = self.node_routes.node();
        let mut all = !self.initialized
            || self.drain.is_none()
            || dirty.needs_full_decision(self.node_routes.node());
        let mut changes = Vec::new();
        let mut drain = match self.drain.take() {
            Some(mut drain) => {
                if drain.set_scope(scope) {
                    all = true;
                    log_drain(drain.scope(), node);
                }
                drain
            }
            None => {
                log_drain(&scope, node);
                changes = self.weight_limit.flush(now);
                ActiveDrain::new(&self.node_routes, scope)
            }
        };
        self.node_routes.override_node(self.last_node.clone());
        drain.decide(index, &mut self.node_routes, dirty, all);
        changes.extend(drain.step(now, &self.node_routes));
        self.drain = Some(drain);
        changes
    }

    /// Ends the drain: the node is back, or all of its routes are withdrawn.
    fn end_drain(&mut self, now: Instant, index: &Index) -> Vec<RouteChange> {
        self.node_routes.override_node(None);
        self.node_routes.update_all(index);
        let Some(drain) = self.drain.take() else {
            return Vec::new();
        };
        let changes = drain.end(now, &self.node_routes);
        self.weight_limit.filter(now, changes)
    }

    /// Whether the drain needs the paths that routers have, see [`Self::set_router_paths`].
    pub fn needs_router_paths(&self) -> bool {
        self.drain
            .as_ref()
            .is_some_and(ActiveDrain::needs_router_paths)
    }

    /// The BGPPeers whose sessions with other nodes the drain needs to know.
    pub fn awaited_peers(&self) -> BTreeSet<String> {
        let needed = self.needs_router_paths();
        let peers = self.sessions.keys().filter(|_| needed);
        peers.cloned().collect()
    }

    /// Sets the paths that routers have from other nodes, used by the next [`Self::tick`].
    pub fn set_router_paths(&mut self, index: &Index, paths: RouterPaths) {
        if let Some(drain) = &mut self.drain {
            drain.set_router_paths(index, &self.node_routes, paths);
        }
    }

    /// Routes whose drain time is over but that stay, since the router has no other path.
    pub const fn waiting(&self) -> &Arc<BTreeSet<RouteKey>> {
        &self.waiting
    }

    /// Makes the engine record the paths that routers send back during a drain of the node, and
    /// requests them when the drain of routes begins. Call it after the routes were sent, so that
    /// the answers take them into account.
    fn watch_paths(&mut self, now: Instant) {
        let drain = self.drain.as_mut();
        let Some(drain) = drain.filter(|drain| matches!(drain.scope(), DrainScope::Node(_))) else {
            if self.paths_requested.take().is_some() {
                self.engine.watch_paths(false);
            }
            return;
        };
        let early = self
            .paths_requested
            .is_some_and(|paths_requested| now < paths_requested + REFRESH_INTERVAL);
        if !early && (drain.take_begun() || self.paths_requested.is_none()) {
            self.paths_requested = Some(now);
            self.engine.watch_paths(true);
        }
    }

    /// Logs routes that newly wait for another path. Returns whether the set of waiting routes
    /// changed.
    fn update_waiting(&mut self) -> bool {
        let draining = self.drain.as_ref().map(ActiveDrain::draining);
        let waiting = draining.map(Draining::waiting).unwrap_or_default();
        if waiting == *self.waiting {
            return false;
        }
        log_waiting(waiting.difference(&self.waiting));
        self.waiting = Arc::new(waiting);
        true
    }

    /// Announces the saved routes, because the daemon can't decide anything; `cause` says why.
    pub fn restore(&mut self, now: Instant, saved: SavedState, cause: &str) {
        let (sessions, routes) = saved.into_parts();
        tracing::warn!(
            peers = sessions.len(),
            routes = routes.len(),
            "{cause}: announcing the routes saved before the restart"
        );
        self.set_sessions(sessions);
        let changes: Vec<RouteChange> = routes
            .iter()
            .map(|((peer, prefix), route)| RouteChange {
                peer: peer.clone(),
                prefix: *prefix,
                route: Some(route.clone()),
            })
            .collect();
        self.node_routes.restore_routes(routes);
        let changes = self.weight_limit.filter(now, changes);
        self.send(&changes, None);
        self.restored = true;
        self.engine.open_gate();
    }

    /// Passes new and changed peers to the engine and returns those that were removed.
    fn set_sessions(&mut self, new: BTreeMap<String, PeerConfig>) -> Vec<String> {
        let gone = self
            .sessions
            .keys()
            .filter(|name| !new.contains_key(*name))
            .cloned()
            .collect();
        for (name, config) in &new {
            if self.sessions.get(name) == Some(config) {
                continue;
            }
            let waits = config.transport.passive || !config.remote.is_one_router();
            if waits && self.engine.local_addresses().is_empty() {
                tracing::warn!(
                    peer = %name,
                    "passive peer, but no listener is configured: start ferrolb run with --listen \
                     ADDR:PORT"
                );
            }
            if let Err(error) = self.engine.set_peer(config.clone()) {
                tracing::error!(peer = %name, "BGP engine rejected this peer's configuration: \
                 {error}");
            }
        }
        self.unnumbered.follow(&self.engine, &new);
        self.unsaved |= self.sessions != new;
        self.sessions = new;
        gone
    }

    /// Passes changes to the engine. If they follow from a change of an object, `seen` is when that
    /// was seen.
    fn send(&mut self, changes: &[RouteChange], seen: Option<Instant>) {
        self.unsaved |= !changes.is_empty();
        let mut by_peer: BTreeMap<&str, PeerRoutes> = BTreeMap::new();
        for change in changes
            .iter()
            .filter(|change| self.sessions.contains_key(&*change.peer))
        {
            let routes = by_peer.entry(&change.peer).or_insert_with(|| PeerRoutes {
                peer: change.peer.to_string(),
                changes: Vec::new(),
            });
            routes.changes.push((change.prefix, change.route.clone()));
        }
        let routes: Vec<PeerRoutes> = by_peer.into_values().collect();
        match seen {
            _ if routes.is_empty() => {}
            Some(seen) => self.engine.routes_since(seen, routes),
            None => self.engine.routes(routes),
        }
    }

    /// Passes the state to the writer thread if it changed and the thread is idle.
    pub fn save(&mut self) {
        if let Some(state) = &self.state
            && self.unsaved
            && state.is_idle()
        {
            state.write(self.saved());
            self.unsaved = false;
        }
    }

    fn saved(&self) -> SavedState {
        SavedState::new(&self.sessions, self.routes())
    }

    /// Number of routes to announce to each peer.
    pub fn route_counts(&self) -> BTreeMap<String, usize> {
        let named = |(peer, count): (&Arc<str>, &usize)| (peer.to_string(), *count);
        if self.drain.is_none() {
            return self.node_routes.route_counts().iter().map(named).collect();
        }
        let mut counts = BTreeMap::new();
        for ((peer, _), _) in self.routes() {
            *counts.entry(peer.to_string()).or_default() += 1;
        }
        counts
    }

    /// Updates the announced addresses of the services that a change affects. Call it after each
    /// [`Self::update`], and after a [`Self::tick`] that returned true.
    pub fn update_announced(&mut self, index: &Index, dirty: &Dirty, announced: &Announced) {
        // During a drain any route may be withdrawn.
        let drain = self.drain.is_some();
        let all = std::mem::replace(&mut self.update_all_announced, drain)
            || drain
            || dirty.needs_full_decision(self.node_routes.node());
        if !all {
            announced.update(index, &self.node_routes, &dirty.services);
            return;
        }
        let prefixes: BTreeSet<IpNet> = self.routes().map(|((_, prefix), _)| *prefix).collect();
        announced.update_all(index, &self.node_routes, |prefix| prefixes.contains(prefix));
    }
}

fn sessions(index: &Index, node_name: &str) -> BTreeMap<String, PeerConfig> {
    let Some(node) = index.nodes().get(node_name) else {
        return BTreeMap::new();
    };
    peers_of(index, node_name, node)
        .map(|peer| (peer.name.to_string(), peer_config(peer, node_name, node)))
        .collect()
}

/// Whether a peer or a service asks for a drain when the node is cordoned.
fn drains_on_cordon(index: &Index) -> bool {
    let mut peers = index.config().peers.values();
    peers.any(|peer| peer.drain.on_cordon)
        || index.services().any(|service| service.drain.on_cordon)
}

fn log_drain(scope: &DrainScope, node: &str) {
    match scope {
        DrainScope::Node(node_exit) => tracing::warn!(
            node,
            "draining, since {node_exit}: routes that another node announces get \
             GRACEFUL_SHUTDOWN and are withdrawn after drain.time; the others stay"
        ),
        DrainScope::Process { drained } if drained.is_empty() => {}
        DrainScope::Process { drained } => {
            let peers: Vec<&str> = drained.iter().map(String::as_str).collect();
            tracing::info!(
                peers = peers.join(", "),
                "draining before shutdown: routes that another node announces get \
                 GRACEFUL_SHUTDOWN and are withdrawn after drain.time"
            );
        }
    }
}

fn log_waiting<'a>(waiting: impl Iterator<Item = &'a RouteKey>) {
    let mut by_peer: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (peer, prefix) in waiting {
        by_peer.entry(peer).or_default().push(prefix.to_string());
    }
    for (peer, prefixes) in by_peer {
        let named = prefixes.iter().take(LOGGED_CHANGES).cloned();
        let named: Vec<String> = named.collect();
        let more = match prefixes.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        tracing::warn!(
            peer,
            "router {peer} has no other path to {}{more}: the routes stay announced with \
             GRACEFUL_SHUTDOWN until another node has a session with it, or it sends back that \
             node's path. Check the sessions (kubectl get bgpsessions), that the router prefers \
             paths without GRACEFUL_SHUTDOWN, and that it exports these prefixes to the nodes \
             like those of other Services",
            named.join(", ")
        );
    }
}

fn log(changes: &[RouteChange]) {
    if changes.len() > LOGGED_CHANGES {
        let withdrawn = changes
            .iter()
            .filter(|change| change.route.is_none())
            .count();
        tracing::info!(
            announced = changes.len() - withdrawn,
            withdrawn,
            "routes changed"
        );
        return;
    }
    let mut peers: BTreeMap<(IpNet, bool), Vec<&str>> = BTreeMap::new();
    for change in changes {
        let key = (change.prefix, change.route.is_some());
        peers.entry(key).or_default().push(&change.peer);
    }
    for ((prefix, announced), peers) in peers {
        let action = if announced {
            "announcing prefix"
        } else {
            "withdrawing prefix"
        };
        tracing::info!(%prefix, peers = peers.join(", "), "{action}");
    }
}
