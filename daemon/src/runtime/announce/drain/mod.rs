//! Leaving without breaking anything: what is announced is told again with GRACEFUL_SHUTDOWN (RFC 8326), so that routers
//! take other paths while this one still works, and is withdrawn after that.
//!
//! Pure: what is announced if the node stays, who leaves and the time go in, changes come out.

mod leaving;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_bgp::rib::{Route, RouteAttributes};
use ferrolb_bgp::wire::Community;
use ipnet::IpNet;

pub(crate) use self::leaving::PeerDrain;
pub(crate) use self::paths::RouterPaths;
use crate::core::decide::node_routes::{NodeRoutes, RouteChange, RouteKey};
use crate::core::decide::{Offer, decide};
use crate::core::index::Index;
use crate::core::model::Node;
use crate::core::model::drain::Drain;

/// Why a node is to carry no more traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeExit {
    /// The Node object is gone, or about to be.
    Deleted,
    /// The kubelet says that the host goes down.
    ShuttingDown,
    /// It carries the exclude label.
    Excluded,
    /// It takes no new Pods. That alone is a reason only where `drain` asks for it.
    Cordoned,
}

impl NodeExit {
    /// Of a node that was there before.
    pub fn of(node: Option<&Node>) -> Option<Self> {
        match node {
            None => Some(Self::Deleted),
            Some(node) if node.deleting => Some(Self::Deleted),
            Some(node) if node.shutting_down => Some(Self::ShuttingDown),
            Some(node) if node.excluded() => Some(Self::Excluded),
            Some(node) if node.cordoned => Some(Self::Cordoned),
            Some(_) => None,
        }
    }
}

impl fmt::Display for NodeExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "its Node is deleted",
            Self::ShuttingDown => "its node is shutting down",
            Self::Excluded => "its Node is excluded from load balancers",
            Self::Cordoned => "its Node is cordoned",
        })
    }
}

/// What is known when the process is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopFacts {
    /// What the Node says.
    pub departure: Option<NodeExit>,
    /// Whether the own DaemonSet is being deleted or gone; not known is no.
    pub daemonset_gone: bool,
}

/// How a process that is asked to stop takes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// For good: routers shall take other paths first, all of them. No reason: somebody is impatient.
    Drain(Option<DrainReason>),
    /// To come back: routers that keep our routes (graceful restart) are to keep them, the others are drained.
    GracefulRestart,
}

/// Why it goes for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainReason {
    /// The node goes.
    Node(NodeExit),
    /// ferrolb goes.
    DaemonSet,
}

impl fmt::Display for DrainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(departure) => departure.fmt(f),
            Self::DaemonSet => f.write_str("its DaemonSet is deleted"),
        }
    }
}

/// A DaemonSet's rollout, a node's shutdown and an uninstall all look alike to the process: so it looks at the world.
pub(crate) fn farewell(facts: StopFacts) -> StopMode {
    match facts {
        StopFacts {
            departure: Some(departure),
            ..
        } => StopMode::Drain(Some(DrainReason::Node(departure))),
        StopFacts {
            daemonset_gone: true,
            ..
        } => StopMode::Drain(Some(DrainReason::DaemonSet)),
        StopFacts { .. } => StopMode::GracefulRestart,
    }
}

/// Those of `prefixes` that other nodes announce, or would, and that are not leaving themselves. A cordoned node keeps what is
/// not to leave for a cordon alone.
pub(crate) fn announced_elsewhere(
    index: &Index,
    desired: &NodeRoutes,
    prefixes: &BTreeSet<IpNet>,
) -> BTreeSet<IpNet> {
    if prefixes.is_empty() {
        return BTreeSet::new();
    }
    let stays = |(name, node)| {
        if name == desired.node() {
            return None;
        }
        match NodeExit::of(Some(node)) {
            None => Some((name, node, false)),
            Some(NodeExit::Cordoned) => Some((name, node, true)),
            Some(NodeExit::Deleted | NodeExit::ShuttingDown | NodeExit::Excluded) => None,
        }
    };
    let others: Vec<(&String, &Node, bool)> = index.nodes().iter().filter_map(stays).collect();
    let takes_over = |service, prefix: &IpNet| {
        others.iter().any(|(other, node, cordoned)| {
            let theirs = decide(index, other, Some(node), service).contributions;
            let mut kept = theirs.iter().filter(|c| {
                let leaves = |offer: &Offer| *cordoned && offer.drain.on_cordon;
                c.offers.iter().any(|(_, offer)| !leaves(offer))
            });
            kept.any(|c| c.prefix == *prefix)
        })
    };
    let announced = |prefix: &&IpNet| {
        let mut services = desired
            .contributors(prefix)
            .filter_map(|name| index.service(name));
        services.any(|service| takes_over(service, prefix))
    };
    prefixes.iter().filter(announced).copied().collect()
}

/// What peers hold while routes leave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draining {
    held: BTreeMap<RouteKey, Held>,
    /// Whether a route has begun to leave since [`Self::take_begun`].
    begun: bool,
}

#[derive(Clone, Debug)]
struct Held {
    route: Route,
    /// When it was first announced with GRACEFUL_SHUTDOWN.
    since: Option<Instant>,
    /// Its time is over, and it waits for another path.
    waits: bool,
}

/// What becomes of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteAction {
    /// It stays; and if nobody holds it yet, it is announced.
    Stays,
    /// It stays where it is held, and goes nowhere else: the last one never goes by itself.
    Kept,
    /// It leaves, and may take this long.
    Leaves(Duration),
    /// As [`Self::Leaves`], but it is not withdrawn as long as the router shows no other path.
    Waits(Duration),
}

/// Whether another node takes over a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// No other node is to announce it.
    NoNode,
    /// Another node is to announce it, and the router shows that it has no other path.
    NotReady,
    /// Another node is to announce it, and the router shows nothing that speaks against that.
    Ready,
}

/// Who is on the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DrainScope {
    /// The node; the process stays.
    Node(NodeExit),
    /// The process: these peers' routes are drained. The others' stay until it ends.
    Process {
        /// By the BGPPeers' names.
        drained: BTreeSet<String>,
    },
}

impl DrainScope {
    /// Whether a route leaves if another node takes over.
    pub(crate) fn leaves(&self, peer: &str, drain: Drain) -> bool {
        match self {
            Self::Node(NodeExit::Cordoned) => drain.on_cordon,
            Self::Node(_) => true,
            Self::Process { drained } => drained.contains(peer),
        }
    }

    /// What becomes of a route.
    pub(crate) fn fate(&self, peer: &str, drain: Drain, takeover: Takeover) -> RouteAction {
        let leaves = self.leaves(peer, drain);
        match (self, takeover) {
            (_, Takeover::Ready) if leaves => RouteAction::Leaves(drain.time),
            (Self::Node(_), Takeover::NotReady) if leaves => RouteAction::Waits(drain.time),
            // The process ends, and its routes with it.
            (Self::Process { .. }, Takeover::NotReady) if leaves => RouteAction::Leaves(drain.time),
            // A node that is only cordoned may carry what is new. Whoever goes for good, and a process that ends, takes on
            // nothing; and where nobody could take over there is nothing to wait for.
            (Self::Node(NodeExit::Cordoned), _) => RouteAction::Stays,
            (Self::Node(_) | Self::Process { .. }, _) => RouteAction::Kept,
        }
    }
}

impl Draining {
    /// Begins with what is announced.
    pub(crate) fn new(routes: &BTreeMap<RouteKey, Route>) -> Self {
        let held = |(key, route): (&RouteKey, &Route)| {
            let route = route.clone();
            let held = Held {
                route,
                since: None,
                waits: false,
            };
            (key.clone(), held)
        };
        Self {
            held: routes.iter().map(held).collect(),
            begun: false,
        }
    }

    /// What peers hold.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (&RouteKey, &Route)> {
        self.held.iter().map(|(key, held)| (key, &held.route))
    }

    /// Whether something is on its way out.
    pub(crate) fn in_progress(&self) -> bool {
        self.held.values().any(|held| held.since.is_some())
    }

    /// Whether a route has begun to leave since the last call.
    pub(crate) fn take_begun(&mut self) -> bool {
        mem::take(&mut self.begun)
    }

    /// Routes whose time is over and that stay, since the router shows no other path.
    pub(crate) fn waiting(&self) -> BTreeSet<RouteKey> {
        let waiting = self.held.iter().filter(|(_, held)| held.waits);
        waiting.map(|(key, _)| key.clone()).collect()
    }

    /// What changes, if this is what the node would announce if it stayed.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        staying: &BTreeMap<RouteKey, Route>,
        fate: impl Fn(&RouteKey) -> RouteAction,
    ) -> Vec<RouteChange> {
        let mut changes = Vec::new();
        // What the node can't deliver any more waits for nothing.
        self.held.retain(|key, _| {
            let stays = staying.contains_key(key);
            if !stays {
                changes.push(change(key, None));
            }
            stays
        });
        for (key, route) in staying {
            let held = self.held.get_mut(key);
            let fate = fate(key);
            let (route, since, waits) = match (fate, &held) {
                (RouteAction::Stays, _) | (RouteAction::Kept, Some(_)) => {
                    (route.clone(), None, false)
                }
                (RouteAction::Kept | RouteAction::Leaves(_) | RouteAction::Waits(_), None) => {
                    continue;
                }
                (RouteAction::Leaves(time) | RouteAction::Waits(time), Some(held)) => {
                    let since = held.since.unwrap_or(now);
                    let over = now.saturating_duration_since(since) >= time;
                    if over && matches!(fate, RouteAction::Leaves(_)) {
                        self.held.remove(key);
                        changes.push(change(key, None));
                        continue;
                    }
                    (graceful(route), Some(since), over)
                }
            };
            self.begun |= since.is_some() && held.as_ref().is_none_or(|held| held.since.is_none());
            if held.is_none_or(|held| held.route != route) {
                changes.push(change(key, Some(route.clone())));
            }
            let held = Held {
                route,
                since,
                waits,
            };
            self.held.insert(key.clone(), held);
        }
        changes
    }
}

fn change((peer, prefix): &RouteKey, route: Option<Route>) -> RouteChange {
    RouteChange {
        peer: peer.clone(),
        prefix: *prefix,
        route,
    }
}

/// To be preferred least: by the community where the router knows it, by LOCAL_PREF within our AS.
fn graceful(route: &RouteAttributes) -> Route {
    let mut communities = route.communities.clone();
    communities.push(Community::GRACEFUL_SHUTDOWN);
    communities.sort_unstable();
    communities.dedup();
    Arc::new(RouteAttributes {
        communities,
        local_pref: Some(0),
        ..route.clone()
    })
}

#[cfg(test)]
mod tests;
