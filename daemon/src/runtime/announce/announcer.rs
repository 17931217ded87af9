//! The announcer: hands the desired state of its node to the BGP engine, whole at first, then change by change.

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
    DrainScope, Draining, NodeExit, PeerDrain, RouterPaths, StopMode,
};
use crate::runtime::announce::state_file::{SavedState, StateWriter};
use crate::runtime::announce::weight_rate_limit::WeightRateLimit;
use crate::runtime::status::Announced;

/// The first routes are handed over in pieces of so many services.
const SERVICES_PER_PIECE: usize = 500;

/// Routers answer with all their routes: they are asked no more often than this.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Up to this many route changes are logged one by one.
const LOGGED_CHANGES: usize = 16;

/// What this node announces, and the engine that does it.
#[derive(Debug)]
pub struct Announcer {
    desired: NodeRoutes,
    damping: WeightRateLimit,
    sessions: BTreeMap<String, PeerConfig>,
    engine: Handle,
    state: Option<StateWriter>,
    handed_over: bool,
    /// Whether the gate was opened for what was announced before the restart.
    restored: bool,
    /// Whether something changed that the state writer does not have yet.
    unsaved: bool,
    node_known: bool,
    /// Whether everything that is announced is to be noted next time: at first, and after routes have left.
    note_all: bool,
    /// What the node was like when it was last there, without what lets it leave.
    facts: Option<Node>,
    leaving: Option<PeerDrain>,
    /// Whether the engine looks at what routers send back: since when it last asked them.
    asked: Option<Instant>,
    /// What was logged of routes that wait for another path.
    waiting: Arc<BTreeSet<RouteKey>>,
    /// Set when the process is to stop: the peers to be drained.
    stopping: Option<BTreeSet<String>>,
}

impl Announcer {
    /// An announcer that has handed over nothing yet.
    pub fn new(node: String, engine: Handle, state: Option<StateWriter>) -> Self {
        Self {
            desired: NodeRoutes::new(node),
            damping: WeightRateLimit::default(),
            sessions: BTreeMap::new(),
            engine,
            state,
            handed_over: false,
            restored: false,
            unsaved: false,
            node_known: true,
            note_all: true,
            facts: None,
            leaving: None,
            asked: None,
            waiting: Arc::default(),
            stopping: None,
        }
    }

    /// What the node announces, and why.
    pub const fn desired(&self) -> &NodeRoutes {
        &self.desired
    }

    /// Whether a complete desired state was handed over.
    pub const fn handed_over(&self) -> bool {
        self.handed_over
    }

    /// The engine.
    pub const fn engine(&self) -> &Handle {
        &self.engine
    }

    /// What peers are to hold now.
    pub fn routes(&self) -> Box<dyn Iterator<Item = (&RouteKey, &Route)> + '_> {
        match &self.leaving {
            Some(leaving) => Box::new(leaving.draining().routes()),
            None => Box::new(self.desired.routes().iter()),
        }
    }

    /// Hands over what a change touched. The first call hands over everything, and opens the End-of-RIB gate.
    pub fn hand_over(&mut self, now: Instant, index: &Index, touched: &Dirty) {
        let first = !self.handed_over;
        let all =
            first || touched.needs_full_decision(self.desired.node()) || self.leaving.is_some();
        self.tell_whether_node_is_known(index);
        let going = self.going(index);
        let node = index.nodes().get(self.desired.node());
        if let Some(node) = node {
            self.facts = Some(node.staying());
        }
        // A node that is gone keeps its sessions until its routes have left.
        let gone = if all && (going.is_none() || node.is_some()) {
            self.set_sessions(sessions(index, self.desired.node()))
        } else {
            Vec::new()
        };
        let changes = match going {
            Some(going) => self.leave(now, index, touched, going),
            None if self.leaving.is_some() => self.stay(now, index),
            None if first => self.first_routes(now, index),
            None => {
                let changes = self.desired.update(index, touched);
                self.damping.pass(now, changes)
            }
        };
        self.pass_on(now, &changes);
        for name in gone {
            self.engine.remove_peer(name);
        }
        if first {
            self.handed_over = true;
            self.engine.open_gate();
        }
    }

    /// Decides everything for the first time. That is sent in pieces, and the last one is returned:
    /// all at once would take several times the memory of the routes. The gate is closed meanwhile,
    /// so no peer receives a part. After [`Self::restore`] it is open, and there are no pieces.
    fn first_routes(&mut self, now: Instant, index: &Index) -> Vec<RouteChange> {
        if self.restored {
            let changes = self.desired.update_all(index);
            return self.damping.pass(now, changes);
        }
        let names: Vec<_> = index.services().map(|service| &*service.name).collect();
        let mut changes = Vec::new();
        for piece in names.chunks(SERVICES_PER_PIECE) {
            log(&changes);
            self.send(&changes);
            let decided = self.desired.update_services(index, piece.iter().copied());
            changes = self.damping.pass(now, decided);
        }
        // A route to which services of several pieces contribute has its whole weight at once.
        changes.extend(self.damping.finish(now));
        changes
    }

    /// Sends what had to wait, and withdraws what has left. Returns whether anything changed, be it
    /// only which routes wait.
    pub fn catch_up(&mut self, now: Instant) -> bool {
        let changes = match &mut self.leaving {
            Some(leaving) => leaving.step(now, &self.desired),
            None => self.damping.due(now),
        };
        let waiting_changed = self.pass_on(now, &changes);
        !changes.is_empty() || waiting_changed
    }

    /// Sends changes, and then has the engine look at what routers send back. Returns whether other
    /// routes wait than before.
    fn pass_on(&mut self, now: Instant, changes: &[RouteChange]) -> bool {
        log(changes);
        self.send(changes);
        self.watch_paths(now);
        self.note_waiting()
    }

    /// The process is asked to stop: drains the peers that would not keep our routes, or all.
    pub fn stop(&mut self, now: Instant, index: &Index, leave: StopMode, peers: &[PeerStatus]) {
        let keeps = |peer: &PeerStatus| {
            let negotiated = peer.negotiated.as_ref();
            negotiated.is_some_and(|negotiated| negotiated.graceful_restart.is_some())
        };
        // Whoever has no session holds nothing that would have to be drained.
        let drained = peers
            .iter()
            .filter(|peer| peer.state == State::Established)
            .filter(|peer| leave != StopMode::GracefulRestart || !keeps(peer))
            .map(|peer| peer.template.as_ref().unwrap_or(&peer.name).clone());
        let drained: BTreeSet<String> = drained.collect();
        self.stopping = Some(drained.clone());
        if leave == StopMode::GracefulRestart {
            // Whoever comes back and finds no API server announces what was announced before the drain.
            if let Some(state) = self.state.take() {
                if self.unsaved {
                    state.write(self.saved());
                }
                state.finish();
            }
        }
        if self.handed_over {
            self.hand_over(now, index, &Dirty::default());
        } else {
            self.leave_restored(now, DrainScope::Process { drained });
        }
    }

    /// Drains what was restored. Who else announces it can't be told without the API server, and for a process that ends
    /// nothing is lost by a word in advance.
    fn leave_restored(&mut self, now: Instant, going: DrainScope) {
        let routes = self.desired.routes();
        if routes.is_empty() {
            return;
        }
        tell(&going, self.desired.node());
        let mut leaving = PeerDrain::all(&self.desired, going);
        let mut changes = self.damping.finish(now);
        changes.extend(leaving.step(now, &self.desired));
        self.leaving = Some(leaving);
        log(&changes);
        self.send(&changes);
    }

    /// Whether nothing is on its way out any more.
    pub fn has_left(&self) -> bool {
        let leaving = self.leaving.as_ref();
        leaving.is_none_or(|leaving| !leaving.draining().in_progress())
    }

    /// Who is on the way out, if anybody is.
    fn going(&self, index: &Index) -> Option<DrainScope> {
        if let Some(drained) = self.stopping.clone() {
            return Some(DrainScope::Process { drained });
        }
        let departure = NodeExit::of(index.nodes().get(self.desired.node()))?;
        let concerned = match departure {
            NodeExit::Cordoned => asks_for_cordon(index),
            // What never was announced, or is gone already, has not to leave.
            NodeExit::Deleted | NodeExit::ShuttingDown | NodeExit::Excluded => {
                self.facts.is_some() && self.routes().next().is_some()
            }
        };
        concerned.then_some(DrainScope::Node(departure))
    }

    fn leave(
        &mut self,
        now: Instant,
        index: &Index,
        touched: &Dirty,
        going: DrainScope,
    ) -> Vec<RouteChange> {
        let node = self.desired.node();
        let mut all = !self.handed_over
            || self.leaving.is_none()
            || touched.needs_full_decision(self.desired.node());
        let mut changes = Vec::new();
        let mut leaving = match self.leaving.take() {
            Some(mut leaving) => {
                if leaving.set_going(going) {
                    all = true;
                    tell(leaving.going(), node);
                }
                leaving
            }
            None => {
                tell(&going, node);
                changes = self.damping.finish(now);
                PeerDrain::new(&self.desired, going)
            }
        };
        self.desired.override_node(self.facts.clone());
        leaving.decide(index, &mut self.desired, touched, all);
        changes.extend(leaving.step(now, &self.desired));
        self.leaving = Some(leaving);
        changes
    }

    /// The node is back, or everything of it has left.
    fn stay(&mut self, now: Instant, index: &Index) -> Vec<RouteChange> {
        self.desired.override_node(None);
        self.desired.update_all(index);
        let Some(leaving) = self.leaving.take() else {
            return Vec::new();
        };
        let changes = leaving.stay(now, &self.desired);
        self.damping.pass(now, changes)
    }

    /// Whether [`Self::see`] wants to know what routers show.
    pub fn waits_for_routers(&self) -> bool {
        self.leaving
            .as_ref()
            .is_some_and(PeerDrain::waits_for_routers)
    }

    /// Takes what routers show of other nodes' paths. [`Self::catch_up`] decides by it.
    pub fn see(&mut self, paths: RouterPaths) {
        if let Some(leaving) = &mut self.leaving {
            leaving.see(paths);
        }
    }

    /// Routes that would have left by now, but stay: the router shows no other path.
    pub const fn waiting(&self) -> &Arc<BTreeSet<RouteKey>> {
        &self.waiting
    }

    /// Has the engine look at what routers send back, as long as routes may wait for that, and ask
    /// them for it when routes begin to leave. To be called after the routes were sent: routers
    /// answer with those in mind.
    fn watch_paths(&mut self, now: Instant) {
        let leaving = self.leaving.as_mut();
        let Some(leaving) =
            leaving.filter(|leaving| matches!(leaving.going(), DrainScope::Node(_)))
        else {
            if self.asked.take().is_some() {
                self.engine.watch_paths(false);
            }
            return;
        };
        let early = self.asked.is_some_and(|asked| now < asked + ASK_AGAIN);
        if !early && (leaving.take_begun() || self.asked.is_none()) {
            self.asked = Some(now);
            self.engine.watch_paths(true);
        }
    }

    /// Logs which routes wait that didn't. Returns whether other routes wait than before.
    fn note_waiting(&mut self) -> bool {
        let draining = self.leaving.as_ref().map(PeerDrain::draining);
        let waiting = draining.map(Draining::waiting).unwrap_or_default();
        if waiting == *self.waiting {
            return false;
        }
        log_waiting(waiting.difference(&self.waiting));
        self.waiting = Arc::new(waiting);
        true
    }

    /// A node that is not there announces nothing, which would be silent where its name is mistyped.
    fn tell_whether_node_is_known(&mut self, index: &Index) {
        let node = self.desired.node();
        let known = index.nodes().contains_key(node);
        if known == self.node_known {
            return;
        }
        self.node_known = known;
        if known {
            tracing::info!(node, "the Node object is there now");
        } else {
            tracing::warn!(
                node,
                "there is no Node object of this name, so nothing is announced: check --node-name (NODE_NAME)"
            );
        }
    }

    /// Announces what was announced before the restart: for when the API server does not answer.
    pub fn restore(&mut self, now: Instant, saved: SavedState) {
        let (sessions, routes) = saved.into_parts();
        tracing::warn!(
            peers = sessions.len(),
            routes = routes.len(),
            "the API server has not told everything yet: announcing what was announced before the restart"
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
        self.desired.restore_routes(routes);
        let changes = self.damping.pass(now, changes);
        self.send(&changes);
        self.restored = true;
        self.engine.open_gate();
    }

    /// Tells the engine about new and changed peers, and returns those that are gone.
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
            if config.dials().is_none() && self.engine.local_addresses().is_empty() {
                tracing::warn!(
                    peer = %name,
                    "waits to be dialled, but nothing listens: start ferrolb run with --listen ADDR:PORT"
                );
            }
            if let Err(error) = self.engine.set_peer(config.clone()) {
                tracing::error!(peer = %name, "refused by the BGP engine: {error}");
            }
        }
        self.unsaved |= self.sessions != new;
        self.sessions = new;
        gone
    }

    fn send(&mut self, changes: &[RouteChange]) {
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
        if !by_peer.is_empty() {
            self.engine.routes(by_peer.into_values().collect());
        }
    }

    /// Gives what runs to the thread that writes it to disk, if it changed and the thread has time.
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

    /// How many routes each peer should have.
    pub fn route_counts(&self) -> BTreeMap<String, usize> {
        let named = |(peer, count): (&Arc<str>, &usize)| (peer.to_string(), *count);
        if self.leaving.is_none() {
            return self.desired.route_counts().iter().map(named).collect();
        }
        let mut counts = BTreeMap::new();
        for ((peer, _), _) in self.routes() {
            *counts.entry(peer.to_string()).or_default() += 1;
        }
        counts
    }

    /// Notes what is announced of the services that a change touched. To be called after each [`Self::hand_over`], and
    /// after a [`Self::catch_up`] that changed something.
    pub fn note_announced(&mut self, index: &Index, touched: &Dirty, announced: &Announced) {
        // While routes leave, any of them may be gone.
        let leaving = self.leaving.is_some();
        let all = std::mem::replace(&mut self.note_all, leaving)
            || leaving
            || touched.needs_full_decision(self.desired.node());
        if !all {
            announced.note(index, &self.desired, &touched.services);
            return;
        }
        let prefixes: BTreeSet<IpNet> = self.routes().map(|((_, prefix), _)| *prefix).collect();
        announced.note_all(index, &self.desired, |prefix| prefixes.contains(prefix));
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

/// Whether anybody wants routes to leave when the node is cordoned.
fn asks_for_cordon(index: &Index) -> bool {
    let mut peers = index.config().peers.values();
    peers.any(|peer| peer.drain.on_cordon)
        || index.services().any(|service| service.drain.on_cordon)
}

fn tell(going: &DrainScope, node: &str) {
    match going {
        DrainScope::Node(departure) => tracing::warn!(
            node,
            "{departure}: routes leave, but for those that no other node announces"
        ),
        DrainScope::Process { drained } if drained.is_empty() => {}
        DrainScope::Process { drained } => {
            let peers: Vec<&str> = drained.iter().map(String::as_str).collect();
            tracing::info!(
                peers = peers.join(", "),
                "routes leave, but for those that no other node announces"
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
            "router {peer} has no other path to {}{more}: the routes stay with GRACEFUL_SHUTDOWN until it sends back another \
             node's path. Check the sessions of the other nodes with this router, that it prefers paths without \
             GRACEFUL_SHUTDOWN, and that it exports these prefixes to the nodes, as it does others of the Services",
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
        let verb = if announced {
            "to be announced"
        } else {
            "to be withdrawn"
        };
        tracing::info!(%prefix, peers = peers.join(", "), "{verb}");
    }
}
