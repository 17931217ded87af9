//! Keeps weights from changing too often: Pods come and go by the dozen in a rollout, and every change of a weight costs every
//! router an UPDATE and a new path. Anything else about a route goes out at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrolb_bgp::rib::{Route, RouteAttributes};

use crate::core::decide::node_routes::{RouteChange, RouteKey};

/// A route's weight changes at most this often.
pub(super) const WEIGHT_INTERVAL: Duration = Duration::from_secs(10);

/// What was told of routes with a weight, and what waits.
#[derive(Debug, Default)]
pub(super) struct WeightRateLimit {
    routes: BTreeMap<RouteKey, Weighted>,
}

#[derive(Debug)]
struct Weighted {
    told: Route,
    changed: Instant,
    waits: Option<Route>,
}

impl WeightRateLimit {
    /// Takes changes in order, and gives those that go out now. Of the others the latest is kept until its time.
    pub(super) fn pass(&mut self, now: Instant, changes: Vec<RouteChange>) -> Vec<RouteChange> {
        changes
            .into_iter()
            .filter(|change| self.goes_out(now, change))
            .collect()
    }

    /// What has waited long enough.
    pub(super) fn due(&mut self, now: Instant) -> Vec<RouteChange> {
        self.let_go(now, |weighted| now >= weighted.changed + WEIGHT_INTERVAL)
    }

    /// All that waits, and forgets the rest: something else takes over.
    pub(super) fn finish(&mut self, now: Instant) -> Vec<RouteChange> {
        let waiting = self.let_go(now, |_| true);
        self.routes.clear();
        waiting
    }

    fn let_go(&mut self, now: Instant, which: impl Fn(&Weighted) -> bool) -> Vec<RouteChange> {
        let due = self
            .routes
            .iter_mut()
            .filter_map(|((peer, prefix), weighted)| {
                if !which(weighted) {
                    return None;
                }
                let route = weighted.waits.take()?;
                weighted.told = route.clone();
                weighted.changed = now;
                Some(RouteChange {
                    peer: peer.clone(),
                    prefix: *prefix,
                    route: Some(route),
                })
            });
        due.collect()
    }

    fn goes_out(&mut self, now: Instant, change: &RouteChange) -> bool {
        let key = (change.peer.clone(), change.prefix);
        // Whether weights are told at all is every node's affair at the same moment, so that is never held back.
        let Some(route) = change.route.as_ref().filter(|route| has_weight(route)) else {
            self.routes.remove(&key);
            return true;
        };
        let Some(weighted) = self.routes.get_mut(&key) else {
            let weighted = Weighted {
                told: route.clone(),
                changed: now,
                waits: None,
            };
            self.routes.insert(key, weighted);
            return true;
        };
        weighted.waits = None;
        if weighted.told == *route {
            return false;
        }
        let only_weight = without_weight(&weighted.told) == without_weight(route);
        if only_weight && now < weighted.changed + WEIGHT_INTERVAL {
            weighted.waits = Some(route.clone());
            return false;
        }
        // With news of another kind the weight travels for nothing.
        weighted.told = route.clone();
        weighted.changed = now;
        true
    }
}

/// Link bandwidth is the only extended community that we send.
fn has_weight(route: &RouteAttributes) -> bool {
    !route.extended_communities.is_empty()
}

fn without_weight(route: &RouteAttributes) -> RouteAttributes {
    RouteAttributes {
        extended_communities: Vec::new(),
        ..route.clone()
    }
}

#[cfg(test)]
mod tests;
