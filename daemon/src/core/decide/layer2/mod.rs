//! The layer 2 decision: which nodes may own an address, with which weight, and on which interfaces
//! this node announces it. Pure functions of the index. The engine (`ferrolb_layer2`) elects one of
//! the nodes.
//!
//! Every node computes the same candidates. Only [`interfaces`] depends on the node.

pub(crate) mod addresses;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_layer2::config::{Candidate, Interfaces, Settings};
use ferrolb_layer2::limits::{GRATUITOUS_RATE, HELLO_INTERVAL};

use super::selection::{self, Selection};
use super::{Detail, Reason};
use crate::core::config::Config;
use crate::core::config::layer2_advertisement::Layer2Advertisement;
use crate::core::index::{Endpoints, Index};
use crate::core::model::{Family, Node, Service, TrafficPolicy};

/// The decision about a service, before it is combined with the services that share an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceDecision {
    /// When the service was created, in seconds since 1970.
    pub created: i64,
    /// The nodes that may announce each of its addresses. Addresses without such a node are absent.
    pub candidates: Vec<(IpAddr, Candidates)>,
    /// Why the other addresses are not announced, if there are any.
    pub withheld: Option<(Reason, Detail)>,
}

/// The nodes that may announce an address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// The names of the L2Advertisements that select the service and the address, sorted.
    pub advertisements: Names,
    /// The nodes, sorted by name.
    pub nodes: Arc<[Candidate]>,
}

impl ServiceDecision {
    /// The nodes that may announce an address.
    fn of(&self, address: IpAddr) -> Option<&Candidates> {
        let mut candidates = self.candidates.iter();
        let (_, candidates) = candidates.find(|(other, _)| *other == address)?;
        Some(candidates)
    }

    /// Records why addresses are not announced, unless another reason is known.
    fn withhold(&mut self, reason: Reason, detail: Detail) {
        self.withheld.get_or_insert((reason, detail));
    }
}

/// The nodes that may announce by a set of L2Advertisements, regardless of endpoints. Depends on
/// the configuration and on nodes only.
#[derive(Clone, Debug, Default)]
pub(crate) struct EligibleNodes(BTreeMap<(Names, bool), Arc<[Candidate]>>);

/// Sorted names of L2Advertisements.
pub(crate) type Names = Arc<[Arc<str>]>;

impl EligibleNodes {
    /// The nodes, sorted by name. `on_cordon`: none that is cordoned.
    fn of(
        &mut self,
        index: &Index,
        names: &Names,
        ads: &[&Layer2Advertisement],
        on_cordon: bool,
    ) -> Arc<[Candidate]> {
        let key = (names.clone(), on_cordon);
        let nodes = self.0.entry(key).or_insert_with(|| {
            let nodes = index.nodes().iter();
            let nodes = nodes.filter(|(_, node)| check_node(node, ads, on_cordon).is_ok());
            let candidates = nodes.map(|(name, node)| Candidate {
                node: name.as_str().into(),
                weight: weight(node, ads),
            });
            candidates.collect()
        });
        nodes.clone()
    }
}

/// Decides which nodes may announce a service.
pub(crate) fn decide(
    index: &Index,
    service: &Service,
    eligible: &mut EligibleNodes,
) -> ServiceDecision {
    // Without any, the reasons are those of BGP.
    let unused = index.config().layer2_advertisements.is_empty();
    if unused || !service.load_balancer {
        return ServiceDecision::default();
    }
    let mut decision = ServiceDecision::default();
    for selection in selection::of(index, service) {
        match selection {
            Ok(selection) if !selection.layer2.is_empty() => {
                decide_selected(index, service, &selection, eligible, &mut decision);
            }
            Ok(selection) if selection.layer2_selects_pool => {
                let detail = format!("layer 2, pool {}", selection.pool);
                decision.withhold(Reason::ServiceNotSelected, detail.into());
            }
            // The pool is one of BGP only, which is no reason to report for each of its services.
            Ok(_) => {}
            Err((reason, detail)) => decision.withhold(reason, detail),
        }
    }
    if !decision.candidates.is_empty() {
        decision.created = service.request.created;
    }
    decision
}

/// Decides about the addresses of one pool.
fn decide_selected(
    index: &Index,
    service: &Service,
    selection: &Selection<'_>,
    eligible: &mut EligibleNodes,
    decision: &mut ServiceDecision,
) {
    let ads = &selection.layer2;
    let advertisements: Names = ads.iter().map(|ad| ad.name.clone()).collect();
    let nodes = eligible.of(index, &advertisements, ads, service.drain.on_cordon);
    let mut without_endpoints = BTreeSet::new();
    let mut without_node = false;
    for address in &selection.addresses {
        let family = Family::of(*address);
        let endpoints = index.endpoints(&service.name, family);
        if endpoints.healthy == 0 {
            without_endpoints.insert(family);
            continue;
        }
        let nodes = match service.traffic_policy {
            TrafficPolicy::Cluster => nodes.clone(),
            TrafficPolicy::Local => with_endpoints(&nodes, &endpoints),
        };
        if nodes.is_empty() {
            without_node = true;
            continue;
        }
        let advertisements = advertisements.clone();
        let candidates = Candidates {
            advertisements,
            nodes,
        };
        decision.candidates.push((*address, candidates));
    }
    if !without_endpoints.is_empty() {
        let families = Detail::Families(without_endpoints.into_iter().collect());
        decision.withhold(no_endpoints(service), families);
    } else if without_node {
        decision.withhold(Reason::NoEligibleNode, Detail::None);
    }
}

/// The nodes that are no candidates for a service that L2Advertisements select, and why. Reasons
/// that concern all nodes are in [`ServiceDecision::withheld`]. `decision` is that of the service.
pub(crate) fn excluded_nodes<'a>(
    index: &'a Index,
    service: &Service,
    decision: &ServiceDecision,
) -> Vec<(&'a str, Reason, Detail)> {
    let mut excluded = Vec::new();
    if !service.load_balancer {
        return excluded;
    }
    let selections = selection::of(index, service).into_iter().flatten();
    for selection in selections.filter(|selection| !selection.layer2.is_empty()) {
        for (name, node) in index.nodes() {
            match check_node(node, &selection.layer2, service.drain.on_cordon) {
                Err(Reason::NodeNotSelected) => {
                    let detail = format!("layer 2, pool {}", selection.pool);
                    excluded.push((name.as_str(), Reason::NodeNotSelected, detail.into()));
                }
                Err(reason) => excluded.push((name.as_str(), reason, name.as_str().into())),
                Ok(()) => {
                    let addresses = &selection.addresses;
                    let families = families_elsewhere(index, service, addresses, decision, name);
                    if !families.is_empty() {
                        let detail = Detail::Families(families.into_iter().collect());
                        excluded.push((name.as_str(), Reason::NoLocalEndpoints, detail));
                    }
                }
            }
        }
    }
    excluded
}

/// The families of these addresses that have endpoints, but none that makes a node a candidate.
fn families_elsewhere(
    index: &Index,
    service: &Service,
    addresses: &[IpAddr],
    decision: &ServiceDecision,
    node: &str,
) -> BTreeSet<Family> {
    let is_candidate = |address: &IpAddr| {
        let candidates = decision.of(*address);
        candidates.is_some_and(|of| of.nodes.iter().any(|other| &*other.node == node))
    };
    let others = addresses.iter().filter(|address| !is_candidate(address));
    let families = others.map(|address| Family::of(*address));
    families
        .filter(|family| index.endpoints(&service.name, *family).healthy > 0)
        .collect()
}

const fn no_endpoints(service: &Service) -> Reason {
    match service.traffic_policy {
        TrafficPolicy::Cluster => Reason::NoEndpoints,
        TrafficPolicy::Local => Reason::NoLocalEndpoints,
    }
}

/// The nodes with a ready endpoint or, if there are none, those with an endpoint that terminates
/// and still serves. So a node whose last Pod terminates hands over while the Pod still serves.
fn with_endpoints(nodes: &[Candidate], endpoints: &Endpoints) -> Arc<[Candidate]> {
    let filtered = |wanted: fn(u32) -> bool| -> Arc<[Candidate]> {
        let nodes = nodes.iter().filter(|candidate| {
            let ready = endpoints.nodes.get(&*candidate.node);
            ready.is_some_and(|ready| wanted(*ready))
        });
        nodes.cloned().collect()
    };
    let ready = filtered(|ready| ready > 0);
    if ready.is_empty() {
        filtered(|_| true)
    } else {
        ready
    }
}

/// Whether a node may announce what these L2Advertisements select.
fn check_node(node: &Node, ads: &[&Layer2Advertisement], on_cordon: bool) -> Result<(), Reason> {
    let mut selecting = ads.iter().filter(|ad| ad.selects_node(node)).peekable();
    if selecting.peek().is_none() {
        return Err(Reason::NodeNotSelected);
    }
    if node.network_unavailable {
        return Err(Reason::NodeNetworkUnavailable);
    }
    if node.excluded() {
        return Err(Reason::NodeExcluded);
    }
    if node.deleting || node.shutting_down {
        return Err(Reason::NodeLeaving);
    }
    if node.cordoned && (on_cordon || selecting.all(|ad| ad.on_cordon)) {
        return Err(Reason::NodeCordoned);
    }
    Ok(())
}

/// The sum of the preferences of those L2Advertisements that select the node.
fn weight(node: &Node, ads: &[&Layer2Advertisement]) -> u32 {
    let selecting = ads.iter().filter(|ad| ad.selects_node(node));
    let weights = selecting.map(|ad| ad.weight(&node.labels));
    weights.fold(0, u32::saturating_add)
}

/// The interfaces on which a node announces what these L2Advertisements select: those of each one
/// that selects the node, all if one of them names none.
pub(crate) fn interfaces(node: Option<&Node>, ads: &[&Layer2Advertisement]) -> Interfaces {
    let selects = |ad: &&&Layer2Advertisement| node.is_some_and(|node| ad.selects_node(node));
    let selecting: Vec<_> = ads.iter().filter(selects).collect();
    if selecting.is_empty() || selecting.iter().any(|ad| ad.interfaces.is_empty()) {
        return Interfaces::All;
    }
    let names = selecting.iter().flat_map(|ad| ad.interfaces.iter());
    Interfaces::Named(names.cloned().collect())
}

/// The settings of the engine: of all L2Advertisements the shortest interval and the lowest rate.
pub(crate) fn settings(config: &Config, cluster: u64) -> Settings {
    let ads = || config.layer2_advertisements.values();
    let interval = ads().filter_map(|ad| ad.hello_interval).min();
    let rate = ads().filter_map(|ad| ad.gratuitous_rate).min();
    Settings {
        cluster,
        hello_interval: interval.unwrap_or(HELLO_INTERVAL),
        gratuitous_rate: rate.unwrap_or(GRATUITOUS_RATE),
    }
}

#[cfg(test)]
mod tests;
