//! The plan: predicts from manifests which address each service gets, which node announces which
//! prefix to which peer, which nodes may announce an address by layer 2, and what is withheld. It
//! runs the decision code of `ferrolb run`, without sessions and drains.

mod compared_routes;
pub(crate) mod difference;
mod flows;
mod layer2;
pub(crate) mod what_if;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_bgp::rib::{DEFAULT_LOCAL_PREF, Route};
use ipnet::IpNet;
use serde::Serialize;

pub(crate) use self::layer2::PlannedAddress;
#[cfg(test)]
pub(crate) use self::layer2::PlannedCandidate;
use crate::core::allocate::{Allocation, AllocationResult, Outcomes};
use crate::core::api::ObjectName;
use crate::core::config::Severity;
use crate::core::decide::Reason;
use crate::core::decide::node_routes::{NodeRoutes, RouteKey};
use crate::core::decide::peer_config::next_hop;
use crate::core::index::Index;
use crate::core::index::change::Change;
use crate::core::model::{Family, Service};

/// The output of `ferrolb plan`. Programs read it as JSON: field names must not change.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Plan {
    /// Every Service of type LoadBalancer.
    pub services: Vec<PlannedService>,
    /// Every route of every node to every peer.
    pub routes: Vec<PlannedRoute>,
    /// Every address that is announced by layer 2.
    pub layer2: Vec<PlannedAddress>,
    /// The services that are not announced, with the reasons.
    pub withheld: Vec<Withheld>,
    /// The aggregates that are not announced although `announceAggregates` says always, with the
    /// reasons.
    #[serde(rename = "withheldAggregates")]
    pub withheld_aggregates: Vec<WithheldAggregates>,
    /// The services that some node announces, as `namespace/name`.
    #[serde(skip)]
    pub announced: BTreeSet<String>,
    /// The errors of invalid objects.
    pub errors: Vec<PlanError>,
    /// Notices about parts of objects that have no effect.
    pub notices: Vec<PlanError>,
}

/// A service and its addresses.
#[derive(Debug, Serialize)]
pub(crate) struct PlannedService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The addresses that it gets or keeps.
    pub addresses: Vec<IpAddr>,
    /// The pool of the addresses.
    pub pool: Option<String>,
    /// The code of the reason why it doesn't get all addresses; null if it does.
    pub reason: Option<String>,
    /// The explanation of the reason, and the remedy.
    pub message: Option<String>,
}

/// A route that one node announces to one peer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlannedRoute {
    /// The node that announces.
    pub node: String,
    /// The BGPPeer's name.
    pub peer: String,
    /// The address or aggregate.
    pub prefix: IpNet,
    /// The next hop; null if neither a source address nor an InternalIP determines it.
    pub next_hop: Option<IpAddr>,
    /// `64700:120`.
    pub communities: Vec<String>,
    /// `64700:1:2`.
    pub large_communities: Vec<String>,
    /// `lb:64512:125000000`: the node's weight.
    pub extended_communities: Vec<String>,
    /// Whether it aggregates services with different attributes (RFC 4271 §5.1.6).
    pub atomic_aggregate: bool,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// How many extra times our AS appears in AS_PATH.
    pub prepend: u8,
    /// LOCAL_PREF; null over eBGP.
    pub local_pref: Option<u32>,
}

impl PlannedRoute {
    /// All communities, separated by spaces; empty without any.
    pub(crate) fn all_communities(&self) -> String {
        let lists = [
            &*self.communities,
            &self.large_communities,
            &self.extended_communities,
        ];
        lists.concat().join(" ")
    }
}

/// A service that a node does not announce to a peer, or not by layer 2.
#[derive(Debug, Serialize)]
pub(crate) struct Withheld {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// The node; null if the reason concerns all nodes.
    pub node: Option<String>,
    /// The BGPPeer; null if the service is withheld from all.
    pub peer: Option<String>,
    /// The reason's code.
    pub reason: String,
    /// The explanation of the reason, and the remedy.
    pub message: String,
}

/// The aggregates of a pool that a node does not announce to a peer.
#[derive(Debug, Serialize)]
pub(crate) struct WithheldAggregates {
    /// The pool.
    pub pool: String,
    /// The node.
    pub node: String,
    /// The BGPPeer; null if they are withheld from all.
    pub peer: Option<String>,
    /// The reason's code.
    pub reason: String,
    /// The explanation of the reason, and the remedy.
    pub message: String,
}

/// An error or notice about an object.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PlanError {
    /// The object, or the position in a file.
    pub object: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// Builds the index of a plan or a check from changes.
pub(crate) fn index_of(changes: impl IntoIterator<Item = Change>) -> Index {
    fill(Index::for_prediction(), changes)
}

/// Applies changes to an index.
pub(crate) fn fill(mut index: Index, changes: impl IntoIterator<Item = Change>) -> Index {
    index.apply_all(|apply| changes.into_iter().for_each(apply));
    index
}

/// Allocates addresses to all services in the index.
pub(crate) fn allocate(index: &mut Index) -> Outcomes {
    let AllocationResult {
        outcomes, writes, ..
    } = Allocation::default().decide_all(index);
    for write in &writes {
        index.apply_status_write(write);
    }
    outcomes
}

/// What [`difference::Difference`] compares: a plan without routes and reasons, which are most of
/// it in clusters with many nodes, and the objects that they follow from.
#[derive(Debug)]
pub(crate) struct Prediction {
    /// The rest of the plan.
    pub plan: Plan,
    /// The objects, with the addresses that are allocated.
    pub index: Index,
}

impl Prediction {
    /// Predicts from an empty index and objects.
    pub(crate) fn of(index: Index, changes: impl IntoIterator<Item = Change>) -> Self {
        let (mut plan, index) = Plan::without_routes(index, changes);
        plan.add_layer2(&index);
        Self { plan, index }
    }
}

/// Builds the plan from an empty index and objects.
pub(crate) fn plan(index: Index, changes: impl IntoIterator<Item = Change>) -> Plan {
    plan_and_index(index, changes).0
}

/// The plan, and the index of all objects with the addresses that are allocated.
pub(crate) fn plan_and_index(
    index: Index,
    changes: impl IntoIterator<Item = Change>,
) -> (Plan, Index) {
    let (mut plan, index) = Plan::without_routes(index, changes);
    for name in index.nodes().keys() {
        plan.add_node(&index, &NodeRoutes::of(&index, name.clone()));
    }
    let addresses = plan.add_layer2(&index);
    plan.add_withheld_by_layer2(&index, &addresses);
    (plan, index)
}

fn planned_service(
    index: &Index,
    service: &Service,
    outcome: Option<&ferrolb_allocator::Outcome>,
) -> PlannedService {
    let ObjectName { namespace, name } = ObjectName::clone(&service.name);
    let Some(outcome) = outcome else {
        // Of another load balancer.
        let class = service.class.as_deref();
        let reason = Reason::ForeignLoadBalancerClass;
        let reason = Some(reason).filter(|_| !index.config().announces_class(class));
        return PlannedService {
            namespace,
            name,
            addresses: service.addresses().to_vec(),
            pool: None,
            reason: reason.map(|reason| reason.code().to_owned()),
            message: reason.map(|reason| reason.meaning().trim().to_owned()),
        };
    };
    PlannedService {
        namespace,
        name,
        addresses: outcome.addresses().to_vec(),
        pool: outcome.pool().map(str::to_owned),
        reason: outcome.reason().map(|reason| reason.code().to_owned()),
        message: outcome.message(),
    }
}

/// The routes of a node, with what the node adds to them.
pub(crate) fn planned_routes<'a>(
    index: &'a Index,
    node_routes: &'a NodeRoutes,
) -> impl Iterator<Item = PlannedRoute> + 'a {
    let name = node_routes.node();
    let routes = node_routes.routes().iter();
    routes.filter_map(move |(key, route)| planned_route(index, name, key, route))
}

/// A route of a node. None if the node or the BGPPeer does not exist.
fn planned_route(
    index: &Index,
    name: &str,
    (peer_name, prefix): &RouteKey,
    route: &Route,
) -> Option<PlannedRoute> {
    fn texts<T: ToString>(values: &[T]) -> Vec<String> {
        values.iter().map(T::to_string).collect()
    }
    let node = index.nodes().get(name)?;
    let peer = index.config().peers.get(&**peer_name)?;
    let next_hop = next_hop(peer, node, Family::of(prefix.addr()));
    Some(PlannedRoute {
        node: name.to_owned(),
        peer: peer_name.to_string(),
        prefix: *prefix,
        next_hop: next_hop.map(|next_hop| next_hop.address()),
        communities: texts(&route.communities),
        large_communities: texts(&route.large_communities),
        extended_communities: texts(&route.extended_communities),
        atomic_aggregate: route.atomic_aggregate,
        med: route.med,
        prepend: route.prepend,
        local_pref: (peer.is_ibgp() != Some(false))
            .then(|| route.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)),
    })
}

impl Plan {
    /// The services, errors and notices, and the index of all objects with allocated addresses.
    fn without_routes(index: Index, changes: impl IntoIterator<Item = Change>) -> (Self, Index) {
        let mut index = fill(index, changes);
        let outcomes = allocate(&mut index);
        let mut plan = Self::default();
        for service in index.services().filter(|service| service.load_balancer) {
            let outcome = outcomes.get(&service.name);
            plan.services
                .push(planned_service(&index, service, outcome));
        }
        for problem in index.problems() {
            let entry = PlanError {
                object: problem.object.to_string(),
                message: problem.message,
            };
            match problem.severity {
                Severity::Error | Severity::UnknownField => plan.errors.push(entry),
                Severity::Notice => plan.notices.push(entry),
            }
        }
        (plan, index)
    }

    fn add_node(&mut self, index: &Index, node_routes: &NodeRoutes) {
        self.routes.extend(planned_routes(index, node_routes));
        for (service, decision) in node_routes.decisions() {
            if !decision.contributions.is_empty() {
                self.announced.insert(service.to_string());
            }
            let withheld = decision
                .verdicts
                .iter()
                .filter(|verdict| verdict.reason != Reason::Announced);
            self.withheld.extend(withheld.map(|verdict| Withheld {
                namespace: service.namespace.clone(),
                name: service.name.clone(),
                node: Some(node_routes.node().to_owned()),
                peer: verdict.peer.as_deref().map(str::to_owned),
                reason: verdict.reason.code().to_owned(),
                message: verdict.message(service),
            }));
        }
        for (pool, decision) in node_routes.pools() {
            let verdicts = decision.verdicts.iter();
            let withheld = verdicts.filter(|verdict| verdict.reason != Reason::Announced);
            let withheld = withheld.map(|verdict| WithheldAggregates {
                pool: pool.clone(),
                node: node_routes.node().to_owned(),
                peer: verdict.peer.as_deref().map(str::to_owned),
                reason: verdict.reason.code().to_owned(),
                message: verdict.message(&ObjectName::new("", pool.as_str())),
            });
            self.withheld_aggregates.extend(withheld);
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
