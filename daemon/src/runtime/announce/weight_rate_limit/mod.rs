//! Limits how often a route's weight changes. During a rollout Pods change constantly, and every
//! change of a weight costs each router an UPDATE and a path selection. All other changes of a
//! route pass at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrolb_bgp::rib::{Route, RouteAttributes};

use crate::core::decide::node_routes::{RouteChange, RouteKey};

/// Minimum interval between two changes of a route's weight.
pub(super) const WEIGHT_INTERVAL: Duration = Duration::from_secs(10);

/// The weighted routes as last sent, with their pending changes.
#[derive(Debug, Default)]
pub(super) struct WeightRateLimit {
    routes: BTreeMap<RouteKey, Weighted>,
}

#[derive(Debug)]
struct Weighted {
    sent: Route,
    changed: Instant,
    pending: Option<Route>,
}

impl WeightRateLimit {
    /// Takes changes in order and returns those to send now. Of the others, the latest is sent when
    /// its interval is over.
    pub(super) fn filter(&mut self, now: Instant, changes: Vec<RouteChange>) -> Vec<RouteChange> {
        changes
            .into_iter()
            .filter(|change| self.passes(now, change))
            .collect()
    }

    /// Pending changes whose interval is over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<RouteChange> {
        self.release(now, |weighted| now >= weighted.changed + WEIGHT_INTERVAL)
    }

    /// Returns all pending changes and clears the state: a drain takes over.
    pub(super) fn flush(&mut self, now: Instant) -> Vec<RouteChange> {
        let waiting = self.release(now, |_| true);
        self.routes.clear();
        waiting
    }

    fn release(&mut self, now: Instant, which: impl Fn(&Weighted) -> bool) -> Vec<RouteChange> {
        let due = self
            .routes
            .iter_mut()
            .filter_map(|((peer, prefix), weighted)| {
                if !which(weighted) {
                    return None;
                }
                let route = weighted.pending.take()?;
                weighted.sent = route.clone();
                weighted.changed = now;
                Some(RouteChange {
                    peer: peer.clone(),
                    prefix: *prefix,
                    route: Some(route),
                })
            });
        due.collect()
    }

    fn passes(&mut self, now: Instant, change: &RouteChange) -> bool {
        let key = (change.peer.clone(), change.prefix);
        // Whether a route has a weight at all must change on all nodes at the same moment, so it is
        // never delayed.
        let Some(route) = change.route.as_ref().filter(|route| has_weight(route)) else {
            self.routes.remove(&key);
            return true;
        };
        let Some(weighted) = self.routes.get_mut(&key) else {
            let weighted = Weighted {
                sent: route.clone(),
                changed: now,
                pending: None,
            };
            self.routes.insert(key, weighted);
            return true;
        };
        weighted.pending = None;
        if weighted.sent == *route {
            return false;
        }
        let only_weight = without_weight(&weighted.sent) == without_weight(route);
        if only_weight && now < weighted.changed + WEIGHT_INTERVAL {
            weighted.pending = Some(route.clone());
            return false;
        }
        // Another attribute changes too, so the weight costs no extra UPDATE.
        weighted.sent = route.clone();
        weighted.changed = now;
        true
    }
}

/// Link bandwidth is the only extended community that ferrolb sends.
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
