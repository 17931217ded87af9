//! Drain without packet loss: announces routes with GRACEFUL_SHUTDOWN (RFC 8326), so that routers
//! move to other paths while this one still forwards, and withdraws them after the drain time.
//!
//! Pure: the node's routes, the reason and the time go in, route changes come out.

mod active_drain;
mod router_paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_bgp::rib::{Route, RouteAttributes};
use ferrolb_bgp::wire::Community;
use ipnet::IpNet;

pub(crate) use self::active_drain::ActiveDrain;
pub(crate) use self::router_paths::RouterPaths;
use crate::core::decide::aggregates::decide_pool;
use crate::core::decide::node_routes::{NodeRoutes, RouteChange, RouteKey};
use crate::core::decide::{Contribution, Offer, decide};
use crate::core::index::Index;
use crate::core::model::Node;
use crate::core::model::drain::Drain;

/// Why a node must no longer attract traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeExit {
    /// The Node object is deleted or has a deletion timestamp.
    Deleted,
    /// The kubelet reports that the host is shutting down.
    ShuttingDown,
    /// The Node has the exclude label.
    Excluded,
    /// The node is unschedulable. A reason only for peers and services whose `drain` says so.
    Cordoned,
}

impl NodeExit {
    /// The exit state of a node that existed before.
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
            Self::Deleted => "the Node is deleted",
            Self::ShuttingDown => "the node is shutting down",
            Self::Excluded => "the Node is excluded from load balancers",
            Self::Cordoned => "the Node is cordoned",
        })
    }
}

/// What decides how to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopFacts {
    /// Exit state of the Node.
    pub node_exit: Option<NodeExit>,
    /// Whether ferrolb's own DaemonSet is deleted or being deleted; false if unknown.
    pub daemonset_gone: bool,
}

/// How a process that received a stop signal shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Permanent: all routes are drained. No reason is given after a second stop
    /// signal.
    Drain(Option<DrainReason>),
    /// Temporary: routers with graceful restart keep the routes, all others are drained.
    GracefulRestart,
}

/// Why the shutdown is permanent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainReason {
    /// The node goes away.
    Node(NodeExit),
    /// ferrolb is uninstalled.
    DaemonSet,
}

impl fmt::Display for DrainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node_exit) => node_exit.fmt(f),
            Self::DaemonSet => f.write_str("the DaemonSet is deleted"),
        }
    }
}

/// Decides how to shut down. A rollout of the DaemonSet, a node shutdown and an uninstall look
/// alike to the process, so the state of the cluster decides.
pub(crate) fn stop_mode(facts: StopFacts) -> StopMode {
    match facts {
        StopFacts {
            node_exit: Some(node_exit),
            ..
        } => StopMode::Drain(Some(DrainReason::Node(node_exit))),
        StopFacts {
            daemonset_gone: true,
            ..
        } => StopMode::Drain(Some(DrainReason::DaemonSet)),
        StopFacts { .. } => StopMode::GracefulRestart,
    }
}

/// Those of `prefixes` that other nodes announce, or would announce, and don't drain themselves: as
/// many as `minAnnouncers` says. A cordoned node drains only what asks for a drain on cordon.
/// `counts` says which nodes count.
pub(crate) fn announced_elsewhere<'a>(
    index: &'a Index,
    node_routes: &NodeRoutes,
    prefixes: &BTreeSet<IpNet>,
    counts: impl Fn(&str) -> bool,
) -> BTreeSet<IpNet> {
    if prefixes.is_empty() {
        return BTreeSet::new();
    }
    let stays = |(name, node): (&'a String, &'a Node)| {
        if name == node_routes.node() || !counts(name) {
            return None;
        }
        match NodeExit::of(Some(node)) {
            None => Some((name, node, false)),
            Some(NodeExit::Cordoned) => Some((name, node, true)),
            Some(NodeExit::Deleted | NodeExit::ShuttingDown | NodeExit::Excluded) => None,
        }
    };
    let others: Vec<(&String, &Node, bool)> = index.nodes().iter().filter_map(stays).collect();
    // A node that is only cordoned drains what asks for that.
    let is_kept = |contribution: &Contribution, cordoned: bool| {
        let covers = |offer: &Offer| cordoned && offer.drain.on_cordon;
        let mut offers = contribution.offers.iter();
        offers.any(|(_, offer)| !covers(offer))
    };
    let always = others.iter().map(|(other, node, cordoned)| {
        let pools = index.config().pools.iter();
        let decisions = pools.map(|pool| decide_pool(index, other, Some(node), pool));
        let theirs = decisions.flat_map(|decision| decision.contributions);
        let kept = theirs.filter(|c| is_kept(c, *cordoned)).map(|c| c.prefix);
        kept.collect()
    });
    let always: Vec<BTreeSet<IpNet>> = always.collect();
    let takes_over = |(other, node, cordoned): &(&String, &Node, bool), prefix: &IpNet| {
        let mut services = node_routes
            .contributors(prefix)
            .filter_map(|name| index.service(name));
        services.any(|service| {
            let theirs = decide(index, other, Some(node), service).contributions;
            let mut kept = theirs.iter().filter(|c| is_kept(c, *cordoned));
            kept.any(|c| c.prefix == *prefix)
        })
    };
    let announced = |prefix: &&IpNet| {
        let enough = node_routes.min_announcers(prefix);
        let taking = others
            .iter()
            .zip(&always)
            .filter(|(other, always)| always.contains(*prefix) || takes_over(other, prefix));
        taking.take(enough).count() == enough
    };
    prefixes.iter().filter(announced).copied().collect()
}

/// The routes that peers have during a drain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draining {
    routes: BTreeMap<RouteKey, DrainedRoute>,
    /// Whether the drain of a route began since the last [`Self::take_begun`].
    begun: bool,
}

#[derive(Clone, Debug)]
struct DrainedRoute {
    route: Route,
    /// When it was first announced with GRACEFUL_SHUTDOWN.
    since: Option<Instant>,
    /// Its drain time is over, and it waits for another path.
    overdue: bool,
}

/// What to do with a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteAction {
    /// Announce it as usual.
    Announce,
    /// Keep it where it is announced, but don't announce it to further peers: a node's last path is
    /// never withdrawn during a drain.
    Keep,
    /// Drain it for this time, then withdraw it.
    Drain(Duration),
    /// As [`Self::Drain`], but keep it after that time until the router has another path.
    AwaitPath(Duration),
}

/// Whether another node takes over a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// No other node should announce it.
    NoNode,
    /// Another node should announce it, but the router has no other path, or none of those nodes
    /// has a session with it.
    NotReady,
    /// Another node should announce it, and the router has another path, or its paths are unknown.
    Ready,
}

/// What is being drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DrainScope {
    /// The node; the process keeps running.
    Node(NodeExit),
    /// The process: the routes of these peers are drained. All others stay until it ends.
    Process {
        /// Names of BGPPeers.
        drained: BTreeSet<String>,
    },
}

impl DrainScope {
    /// Whether a route is withdrawn once another node takes over.
    pub(crate) fn covers(&self, peer: &str, drain: Drain) -> bool {
        match self {
            Self::Node(NodeExit::Cordoned) => drain.on_cordon,
            Self::Node(_) => true,
            Self::Process { drained } => drained.contains(peer),
        }
    }

    /// Decides what to do with a route.
    pub(crate) fn action(&self, peer: &str, drain: Drain, takeover: Takeover) -> RouteAction {
        let covers = self.covers(peer, drain);
        match (self, takeover) {
            (_, Takeover::Ready) if covers => RouteAction::Drain(drain.time),
            (Self::Node(_), Takeover::NotReady) if covers => RouteAction::AwaitPath(drain.time),
            // The process ends, and its routes with it: no point in waiting.
            (Self::Process { .. }, Takeover::NotReady) if covers => RouteAction::Drain(drain.time),
            // A node that is only cordoned may announce new routes. A node that exits for good and
            // a process that ends announce no new ones, and without another node there is nothing
            // to wait for.
            (Self::Node(NodeExit::Cordoned), _) => RouteAction::Announce,
            (Self::Node(_) | Self::Process { .. }, _) => RouteAction::Keep,
        }
    }
}

impl Draining {
    /// Begins with the announced routes.
    pub(crate) fn new(routes: &BTreeMap<RouteKey, Route>) -> Self {
        let drained = |(key, route): (&RouteKey, &Route)| {
            let route = route.clone();
            let drained = DrainedRoute {
                route,
                since: None,
                overdue: false,
            };
            (key.clone(), drained)
        };
        Self {
            routes: routes.iter().map(drained).collect(),
            begun: false,
        }
    }

    /// The routes that peers have.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (&RouteKey, &Route)> {
        self.routes
            .iter()
            .map(|(key, drained)| (key, &drained.route))
    }

    /// Whether a route is being drained.
    pub(crate) fn in_progress(&self) -> bool {
        self.routes.values().any(|drained| drained.since.is_some())
    }

    /// Whether the drain of a route began since the last call.
    pub(crate) fn take_begun(&mut self) -> bool {
        mem::take(&mut self.begun)
    }

    /// Routes whose drain time is over but that stay, since the router has no other path.
    pub(crate) fn waiting(&self) -> BTreeSet<RouteKey> {
        let waiting = self.routes.iter().filter(|(_, drained)| drained.overdue);
        waiting.map(|(key, _)| key.clone()).collect()
    }

    /// Returns what changes, given the routes that the node would announce without the drain.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        staying: &BTreeMap<RouteKey, Route>,
        action: impl Fn(&RouteKey) -> RouteAction,
    ) -> Vec<RouteChange> {
        let mut changes = Vec::new();
        // Withdraw at once what the node can no longer deliver.
        self.routes.retain(|key, _| {
            let stays = staying.contains_key(key);
            if !stays {
                changes.push(change(key, None));
            }
            stays
        });
        for (key, route) in staying {
            let drained = self.routes.get_mut(key);
            let action = action(key);
            let (route, since, overdue) = match (action, &drained) {
                (RouteAction::Announce, _) | (RouteAction::Keep, Some(_)) => {
                    (route.clone(), None, false)
                }
                (RouteAction::Keep | RouteAction::Drain(_) | RouteAction::AwaitPath(_), None) => {
                    continue;
                }
                (RouteAction::Drain(time) | RouteAction::AwaitPath(time), Some(drained)) => {
                    let since = drained.since.unwrap_or(now);
                    let over = now.saturating_duration_since(since) >= time;
                    if over && matches!(action, RouteAction::Drain(_)) {
                        self.routes.remove(key);
                        changes.push(change(key, None));
                        continue;
                    }
                    (graceful(route), Some(since), over)
                }
            };
            self.begun |= since.is_some()
                && drained
                    .as_ref()
                    .is_none_or(|drained| drained.since.is_none());
            if drained.is_none_or(|drained| drained.route != route) {
                changes.push(change(key, Some(route.clone())));
            }
            let drained = DrainedRoute {
                route,
                since,
                overdue,
            };
            self.routes.insert(key.clone(), drained);
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

/// Least preferred: by the community where the router honors it, by LOCAL_PREF within our AS.
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
