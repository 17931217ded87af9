//! The announcer: hands the desired state of its node to the BGP engine, whole at first, then change by change.

use std::collections::BTreeMap;
use std::time::Instant;

use ferrolb_bgp::config::PeerConfig;
use ferrolb_bgp::fsm::PeerRoutes;
use ferrolb_bgp::speaker::Handle;

use crate::damping::Damping;
use crate::decide::peers_of;
use crate::desired::{Desired, RouteChange};
use crate::index::{Index, Touched};
use crate::saved::{Saved, StateDir};
use crate::session::peer_config;

/// Up to this many route changes are logged one by one.
const LOGGED_CHANGES: usize = 16;

/// What this node announces, and the engine that does it.
#[derive(Debug)]
pub struct Announcer {
    desired: Desired,
    damping: Damping,
    sessions: BTreeMap<String, PeerConfig>,
    engine: Handle,
    state: Option<StateDir>,
    handed_over: bool,
    unsaved: bool,
    save_failed: bool,
    node_known: bool,
}

impl Announcer {
    /// An announcer that has handed over nothing yet.
    pub fn new(node: String, engine: Handle, state: Option<StateDir>) -> Self {
        Self {
            desired: Desired::new(node),
            damping: Damping::default(),
            sessions: BTreeMap::new(),
            engine,
            state,
            handed_over: false,
            unsaved: false,
            save_failed: false,
            node_known: true,
        }
    }

    /// What the node announces, and why.
    pub const fn desired(&self) -> &Desired {
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

    /// Hands over what a change touched. The first call hands over everything, and opens the End-of-RIB gate.
    pub fn hand_over(&mut self, now: Instant, index: &Index, touched: &Touched) {
        let first = !self.handed_over;
        let all = first || touched.configuration || touched.nodes.contains(self.desired.node());
        self.tell_whether_node_is_known(index);
        let gone = if all {
            self.set_sessions(sessions(index, self.desired.node()))
        } else {
            Vec::new()
        };
        let changes = if first {
            self.desired.update_all(index)
        } else {
            self.desired.update(index, touched)
        };
        self.unsaved |= all || !changes.is_empty();
        let changes = self.damping.pass(now, changes);
        log(&changes);
        self.send(&changes);
        for name in gone {
            self.engine.remove_peer(name);
        }
        if first {
            self.handed_over = true;
            self.engine.open_gate();
        }
    }

    /// Sends what had to wait.
    pub fn catch_up(&mut self, now: Instant) {
        let changes = self.damping.due(now);
        log(&changes);
        self.send(&changes);
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
    pub fn restore(&mut self, now: Instant, saved: Saved) {
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
        self.sessions = new;
        gone
    }

    fn send(&self, changes: &[RouteChange]) {
        let mut by_peer: BTreeMap<&str, PeerRoutes> = BTreeMap::new();
        for change in changes
            .iter()
            .filter(|change| self.sessions.contains_key(&change.peer))
        {
            let routes = by_peer.entry(&change.peer).or_insert_with(|| PeerRoutes {
                peer: change.peer.clone(),
                changes: Vec::new(),
            });
            routes.changes.push((change.prefix, change.route.clone()));
        }
        if !by_peer.is_empty() {
            self.engine.routes(by_peer.into_values().collect());
        }
    }

    /// Writes the state to disk if it changed since the last time.
    pub fn save(&mut self) {
        let Some(state) = self.state.as_ref().filter(|_| self.unsaved) else {
            return;
        };
        match state.save(&Saved::new(&self.sessions, self.desired.routes())) {
            Ok(()) => {
                self.unsaved = false;
                self.save_failed = false;
            }
            // Tried again at the next tick, told once.
            Err(error) if !std::mem::replace(&mut self.save_failed, true) => tracing::warn!(
                "the desired state can't be saved, a restart without the API server will announce nothing: {error}"
            ),
            Err(_) => {}
        }
    }
}

fn sessions(index: &Index, node_name: &str) -> BTreeMap<String, PeerConfig> {
    let Some(node) = index.nodes().get(node_name) else {
        return BTreeMap::new();
    };
    peers_of(index, node_name, node)
        .map(|peer| (peer.name.clone(), peer_config(peer, node_name, node)))
        .collect()
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
    for change in changes {
        let verb = if change.route.is_some() {
            "to be announced"
        } else {
            "to be withdrawn"
        };
        tracing::info!(peer = %change.peer, prefix = %change.prefix, "{verb}");
    }
}
