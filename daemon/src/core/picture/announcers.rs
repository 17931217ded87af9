//! Who announces what: what all nodes decide about all services, without attributes of routes. A
//! change decides again only what depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::core::api::ObjectName;
use crate::core::decide::aggregates::decide_pool;
use crate::core::decide::alike::{AlikeNodes, Precision};
use crate::core::decide::{Decision, Reason};
use crate::core::index::{Dirty, Index};

/// What some nodes decide about a service, or one node about the aggregates of pools.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outcome {
    /// The prefixes that they announce, each with the BGPPeers.
    pub(super) prefixes: BTreeMap<IpNet, Vec<Arc<str>>>,
    /// Why they don't announce to some or all peers.
    pub(super) reasons: BTreeSet<Reason>,
}

/// The nodes, by place, with the same outcome. Sorted.
pub(super) type Nodes = Vec<u32>;

/// What all nodes decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Announcers {
    alike: AlikeNodes,
    services: BTreeMap<Arc<ObjectName>, BTreeMap<Outcome, Nodes>>,
    /// Of the pools whose aggregates are announced without a service, by the place of the node.
    aggregates: Vec<Outcome>,
}

/// How many prefixes a node announces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Over BGP, to any peer.
    pub(super) prefixes: usize,
    /// To each BGPPeer that gets some.
    pub(super) by_peer: BTreeMap<Arc<str>, usize>,
}

impl Outcome {
    fn of(decision: &Decision) -> Self {
        let prefixes = decision.contributions.iter().map(|contribution| {
            let peers = contribution.offers.iter().map(|(peer, _)| peer.clone());
            (contribution.prefix, peers.collect())
        });
        let reasons = decision.verdicts.iter().map(|verdict| verdict.reason);
        Self {
            prefixes: prefixes.collect(),
            reasons: reasons
                .filter(|reason| *reason != Reason::Announced)
                .collect(),
        }
    }
}

impl Announcers {
    /// Decides again what depends on a change.
    pub(crate) fn update(&mut self, index: &Index, dirty: &Dirty) {
        let mut all = dirty.configuration;
        if all || !dirty.nodes.is_empty() {
            let alike = AlikeNodes::of(index, Precision::Prefixes);
            all |= alike != self.alike;
            self.alike = alike;
            self.aggregates = aggregates(index, self.alike.names());
        }
        if all {
            self.services.clear();
            let names = index.services().map(|service| service.name.clone());
            names.for_each(|name| self.decide(index, &name));
        } else {
            let names = dirty.services.iter();
            names.for_each(|name| self.decide(index, name));
        }
    }

    fn decide(&mut self, index: &Index, name: &ObjectName) {
        let Some(service) = index.service(name).filter(|service| service.load_balancer) else {
            self.services.remove(name);
            return;
        };
        let mut outcomes: BTreeMap<Outcome, Nodes> = BTreeMap::new();
        self.alike.decide(index, service, |decision, nodes| {
            let same = outcomes.entry(Outcome::of(decision)).or_default();
            same.extend(nodes.iter().filter_map(|place| u32::try_from(*place).ok()));
        });
        outcomes
            .values_mut()
            .for_each(|nodes| nodes.sort_unstable());
        self.services.insert(service.name.clone(), outcomes);
    }

    /// What all nodes decide about a service.
    pub(super) fn outcomes(
        &self,
        service: &ObjectName,
    ) -> impl Iterator<Item = (&Outcome, &Nodes)> {
        self.services.get(service).into_iter().flatten()
    }

    /// How many prefixes each node announces, by its place.
    pub(super) fn counts(&self) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.alike.names().len()];
        let shared = self.shared_prefixes();
        // What several contribute counts once.
        let mut seen: BTreeMap<(usize, IpNet), BTreeSet<Arc<str>>> = BTreeMap::new();
        for (node, outcome) in self.outcomes_on_nodes() {
            for (prefix, peers) in &outcome.prefixes {
                if shared.contains(prefix) {
                    let known = seen.entry((node, *prefix)).or_default();
                    known.extend(peers.iter().cloned());
                } else if let Some(of_node) = counts.get_mut(node) {
                    of_node.add(peers);
                }
            }
        }
        for ((node, _), peers) in &seen {
            if let Some(of_node) = counts.get_mut(*node) {
                of_node.add(peers);
            }
        }
        counts
    }

    /// All outcomes on all nodes, by place.
    fn outcomes_on_nodes(&self) -> impl Iterator<Item = (usize, &Outcome)> {
        let of_services = self
            .services
            .values()
            .flatten()
            .flat_map(|(outcome, nodes)| {
                let nodes = nodes.iter().filter_map(|node| usize::try_from(*node).ok());
                nodes.map(move |node| (node, outcome))
            });
        of_services.chain(self.aggregates.iter().enumerate())
    }

    /// The prefixes to which several services or pools contribute.
    fn shared_prefixes(&self) -> BTreeSet<IpNet> {
        let mut known: BTreeSet<IpNet> = BTreeSet::new();
        let mut shared = BTreeSet::new();
        let of_services = self.services.values().map(|outcomes| {
            let prefixes = outcomes.keys().flat_map(|outcome| outcome.prefixes.keys());
            prefixes.collect::<BTreeSet<_>>()
        });
        let of_pools = self.aggregates.iter();
        let of_pools = of_pools
            .flat_map(|outcome| outcome.prefixes.keys())
            .collect();
        for prefixes in of_services.chain([of_pools]) {
            for prefix in prefixes {
                if !known.insert(*prefix) {
                    shared.insert(*prefix);
                }
            }
        }
        shared
    }
}

impl Counts {
    fn add<'p>(&mut self, peers: impl IntoIterator<Item = &'p Arc<str>>) {
        self.prefixes += 1;
        for peer in peers {
            match self.by_peer.get_mut(peer) {
                Some(count) => *count += 1,
                None => _ = self.by_peer.insert(peer.clone(), 1),
            }
        }
    }
}

fn aggregates(index: &Index, names: &[String]) -> Vec<Outcome> {
    let of_node = |name: &String| {
        let mut all = Outcome::default();
        for pool in index.config().pools.iter() {
            let decision = decide_pool(index, name, index.nodes().get(name), pool);
            let Outcome { prefixes, .. } = Outcome::of(&decision);
            for (prefix, peers) in prefixes {
                all.prefixes.entry(prefix).or_default().extend(peers);
            }
        }
        // Two pools may have the same aggregate.
        for peers in all.prefixes.values_mut() {
            peers.sort_unstable();
            peers.dedup();
        }
        all
    };
    names.iter().map(of_node).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::decide::node_routes::NodeRoutes;
    use crate::core::index::tests::random_changes;

    /// What each node decides by itself.
    fn of_each_node(
        index: &Index,
    ) -> (BTreeMap<ObjectName, BTreeMap<Outcome, Nodes>>, Vec<Counts>) {
        let mut services: BTreeMap<ObjectName, BTreeMap<Outcome, Nodes>> = BTreeMap::new();
        let mut counts = Vec::new();
        for (place, name) in (0_u32..).zip(index.nodes().keys()) {
            let routes = NodeRoutes::of(index, name.as_str());
            for service in index.services().filter(|service| service.load_balancer) {
                let decision = routes.decisions().get(&service.name);
                let outcome = decision.map(Outcome::of).unwrap_or_default();
                let outcomes = services
                    .entry(ObjectName::clone(&service.name))
                    .or_default();
                outcomes.entry(outcome).or_default().push(place);
            }
            let prefixes: BTreeSet<&IpNet> = routes.routes().keys().map(|(_, p)| p).collect();
            counts.push(Counts {
                prefixes: prefixes.len(),
                by_peer: routes.route_counts().clone(),
            });
        }
        (services, counts)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn groups_of_nodes_decide_as_each_node_does_after_every_change(
            changes in random_changes()
        ) {
            let mut index = Index::default();
            let mut announcers = Announcers::default();
            for change in changes {
                let dirty = index.apply(change);
                announcers.update(&index, &dirty);
                let (services, counts) = of_each_node(&index);
                let names = index.services().filter(|service| service.load_balancer);
                let found = names.map(|service| {
                    let outcomes = announcers.outcomes(&service.name);
                    let outcomes = outcomes.map(|(one, nodes)| (one.clone(), nodes.clone()));
                    (ObjectName::clone(&service.name), outcomes.collect::<BTreeMap<_, _>>())
                });
                let found: BTreeMap<_, _> = found.filter(|(_, some)| !some.is_empty()).collect();
                prop_assert_eq!(found, services);
                prop_assert_eq!(announcers.counts(), counts);
            }
        }
    }
}
