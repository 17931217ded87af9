//! A drain under way: its state, and what changes it.

use std::collections::BTreeSet;
use std::time::Instant;

use ipnet::IpNet;

use super::{DrainScope, Draining, RouterPaths, Takeover, announced_elsewhere};
use crate::core::api::ObjectName;
use crate::core::decide::node_routes::{NodeRoutes, RouteChange, RouteKey};
use crate::core::index::{Dirty, Index};

/// While routes leave.
#[derive(Debug)]
pub(crate) struct PeerDrain {
    draining: Draining,
    going: DrainScope,
    /// Prefixes that another node is to announce, of those that leave.
    elsewhere: BTreeSet<IpNet>,
    paths: RouterPaths,
}

impl PeerDrain {
    /// Begins with what is announced.
    pub(crate) fn new(desired: &NodeRoutes, going: DrainScope) -> Self {
        Self {
            draining: Draining::new(desired.routes()),
            going,
            elsewhere: BTreeSet::new(),
            paths: RouterPaths::default(),
        }
    }

    /// Begins with what is announced, where it is not known which other nodes announce it: all
    /// leaves.
    pub(crate) fn all(desired: &NodeRoutes, going: DrainScope) -> Self {
        Self {
            elsewhere: desired.routes().keys().map(|(_, prefix)| *prefix).collect(),
            ..Self::new(desired, going)
        }
    }

    /// Who is on the way out.
    pub(crate) const fn going(&self) -> &DrainScope {
        &self.going
    }

    /// Takes another reason; true if it is another one.
    pub(crate) fn set_going(&mut self, going: DrainScope) -> bool {
        let news = self.going != going;
        self.going = going;
        news
    }

    /// Takes what routers show now.
    pub(crate) fn see(&mut self, paths: RouterPaths) {
        self.paths = paths.after(std::mem::take(&mut self.paths));
    }

    /// What peers hold.
    pub(crate) const fn draining(&self) -> &Draining {
        &self.draining
    }

    /// Whether a route has begun to leave since the last call.
    pub(crate) fn take_begun(&mut self) -> bool {
        self.draining.take_begun()
    }

    /// Whether to look at routers: something is on its way out that may wait for them.
    pub(crate) fn waits_for_routers(&self) -> bool {
        matches!(self.going, DrainScope::Node(_)) && self.draining.in_progress()
    }

    /// Decides again what a change touched, or everything, and which prefixes other nodes announce of those that this concerns.
    pub(crate) fn decide(
        &mut self,
        index: &Index,
        desired: &mut NodeRoutes,
        touched: &Dirty,
        all: bool,
    ) {
        let mut prefixes = prefixes_of(desired, &touched.services);
        if all {
            desired.update_all(index);
        } else {
            desired.update(index, touched);
        }
        if all || !touched.nodes.is_empty() {
            let leaving = desired.routes().keys();
            let leaving = leaving.filter(|key| self.leaves(desired, key));
            let leaving = leaving.map(|(_, prefix)| *prefix).collect();
            self.elsewhere = announced_elsewhere(index, desired, &leaving);
            return;
        }
        prefixes.extend(prefixes_of(desired, &touched.services));
        self.elsewhere.retain(|prefix| !prefixes.contains(prefix));
        prefixes.retain(|prefix| {
            let mut peers = desired.route_counts().keys();
            peers.any(|peer| self.leaves(desired, &(peer.clone(), *prefix)))
        });
        let found = announced_elsewhere(index, desired, &prefixes);
        self.elsewhere.extend(found);
    }

    /// Whether there is such a route and it leaves, or has left, if another node takes over.
    fn leaves(&self, desired: &NodeRoutes, key: &RouteKey) -> bool {
        desired.routes().contains_key(key) && self.going.leaves(&key.0, desired.drain(key))
    }

    /// What changes by now.
    pub(crate) fn step(&mut self, now: Instant, desired: &NodeRoutes) -> Vec<RouteChange> {
        let (going, elsewhere, paths) = (&self.going, &self.elsewhere, &self.paths);
        self.draining.step(now, desired.routes(), |key| {
            let (peer, prefix) = key;
            let takeover = match elsewhere.contains(prefix) {
                false => Takeover::NoNode,
                true if paths.lack(peer, prefix) => Takeover::NotReady,
                true => Takeover::Ready,
            };
            going.fate(peer, desired.drain(key), takeover)
        })
    }

    /// Ends: what changes if everything stays.
    pub(crate) fn stay(mut self, now: Instant, desired: &NodeRoutes) -> Vec<RouteChange> {
        self.draining
            .step(now, desired.routes(), |_| super::RouteAction::Stays)
    }
}

/// The prefixes that these services contribute to.
fn prefixes_of(desired: &NodeRoutes, services: &BTreeSet<ObjectName>) -> BTreeSet<IpNet> {
    let decisions = services
        .iter()
        .filter_map(|name| desired.decisions().get(name));
    let contributions = decisions.flat_map(|decision| &decision.contributions);
    contributions
        .map(|contribution| contribution.prefix)
        .collect()
}
