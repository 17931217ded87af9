//! The difference between two plans: what a change would move, withdraw, announce or alter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::flows::moved_share;
use super::{Plan, PlanError, PlannedRoute};

/// What a change does. Programs read it as JSON: field names must not change.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Difference {
    /// Services whose addresses change.
    pub addresses: Vec<AddressDifference>,
    /// Services that some node announces before, and none after.
    pub lost: Vec<String>,
    /// Services that no node announces before, and some node after.
    pub gained: Vec<String>,
    /// Routes that differ.
    pub routes: Vec<RouteDifference>,
    /// Prefixes that a router balances over other nodes than before.
    pub flows: Vec<FlowDifference>,
    /// Addresses of layer 2 whose candidates differ.
    pub layer2: Vec<Layer2Difference>,
    /// Errors that the change brings.
    pub errors: Vec<PlanError>,
}

/// A service whose addresses change.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AddressDifference {
    /// The service, as `namespace/name`.
    pub service: String,
    /// Its addresses before.
    pub before: Vec<IpAddr>,
    /// Its addresses after.
    pub after: Vec<IpAddr>,
}

/// How a route differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Effect {
    /// The node announces it.
    Announced,
    /// The node withdraws it.
    Withdrawn,
    /// The node announces it with other attributes.
    Changed,
}

/// A route of a node to a BGPPeer that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RouteDifference {
    /// How.
    pub effect: Effect,
    /// The node.
    pub node: String,
    /// The BGPPeer.
    pub peer: String,
    /// The prefix.
    pub prefix: IpNet,
    /// The attributes that differ, with their values before and after.
    pub attributes: Vec<String>,
}

/// The nodes over which a router balances a prefix.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FlowDifference {
    /// The BGPPeer.
    pub peer: String,
    /// The prefix.
    pub prefix: IpNet,
    /// The number of nodes before.
    pub nodes_before: usize,
    /// The number of nodes after.
    pub nodes_after: usize,
    /// The least share of flows that reach another node, in percent: those of nodes that are gone.
    /// Routers with resilient hashing move no others.
    pub moved_at_least: u8,
    /// The share with hash thresholds of equal size (RFC 2992), in percent. Routers without
    /// resilient hashing move about as many.
    pub moved_by_rehash: u8,
}

/// The nodes that may announce an address by layer 2.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Layer2Difference {
    /// The address.
    pub address: IpAddr,
    /// The candidates before.
    pub before: BTreeSet<String>,
    /// The candidates after. Empty: no node announces it.
    pub after: BTreeSet<String>,
}

type RouteKey<'a> = (&'a str, &'a str, IpNet);

impl Difference {
    /// Compares two plans.
    pub(crate) fn of(before: &Plan, after: &Plan) -> Self {
        let (was, is) = (&before.announced, &after.announced);
        Self {
            addresses: addresses(before, after),
            lost: was.difference(is).cloned().collect(),
            gained: is.difference(was).cloned().collect(),
            routes: routes(before, after),
            flows: flows(before, after),
            layer2: layer2(before, after),
            errors: new_errors(before, after),
        }
    }

    /// Whether a service loses an address or an announcement, or a node withdraws a route.
    pub(crate) fn withdraws(&self) -> bool {
        let lost = self.layer2.iter().any(|entry| entry.after.is_empty());
        let mut moved = self.addresses.iter();
        let moved = moved.any(|entry| entry.before.iter().any(|ip| !entry.after.contains(ip)));
        let mut routes = self.routes.iter();
        let withdrawn = routes.any(|route| route.effect == Effect::Withdrawn);
        !self.lost.is_empty() || lost || moved || withdrawn
    }

    /// Whether nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
            && self.lost.is_empty()
            && self.gained.is_empty()
            && self.routes.is_empty()
            && self.layer2.is_empty()
            && self.errors.is_empty()
    }
}

fn addresses(before: &Plan, after: &Plan) -> Vec<AddressDifference> {
    let of = |plan: &Plan| -> BTreeMap<String, Vec<IpAddr>> {
        let services = plan.services.iter();
        let named = services.map(|service| {
            let name = format!("{}/{}", service.namespace, service.name);
            (name, service.addresses.clone())
        });
        named.collect()
    };
    let (mut was, is) = (of(before), of(after));
    let mut differences = Vec::new();
    for (service, after) in is {
        let before = was.remove(&service).unwrap_or_default();
        if before != after {
            differences.push(AddressDifference {
                service,
                before,
                after,
            });
        }
    }
    let gone = was.into_iter().filter(|(_, before)| !before.is_empty());
    differences.extend(gone.map(|(service, before)| AddressDifference {
        service,
        before,
        after: Vec::new(),
    }));
    differences
}

fn by_key(plan: &Plan) -> BTreeMap<RouteKey<'_>, &PlannedRoute> {
    let routes = plan.routes.iter();
    let keyed = routes.map(|route| ((&*route.node, &*route.peer, route.prefix), route));
    keyed.collect()
}

fn routes(before: &Plan, after: &Plan) -> Vec<RouteDifference> {
    let (was, is) = (by_key(before), by_key(after));
    let difference = |effect, (node, peer, prefix): RouteKey<'_>, attributes| RouteDifference {
        effect,
        node: node.to_owned(),
        peer: peer.to_owned(),
        prefix,
        attributes,
    };
    let mut differences = Vec::new();
    for (key, route) in &was {
        match is.get(key) {
            None => differences.push(difference(Effect::Withdrawn, *key, Vec::new())),
            Some(other) => {
                let attributes = changed_attributes(route, other);
                if !attributes.is_empty() {
                    differences.push(difference(Effect::Changed, *key, attributes));
                }
            }
        }
    }
    let new = is.keys().filter(|key| !was.contains_key(*key));
    differences.extend(new.map(|key| difference(Effect::Announced, *key, Vec::new())));
    differences
}

fn changed_attributes(before: &PlannedRoute, after: &PlannedRoute) -> Vec<String> {
    let all = [before, after].map(attributes);
    let [was, is] = all;
    let changed = was.into_iter().zip(is).filter(|(was, is)| was != is);
    changed
        .map(|((name, was), (_, is))| format!("{name} {was} to {is}"))
        .collect()
}

fn attributes(route: &PlannedRoute) -> [(&'static str, String); 8] {
    let optional = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let list = |values: &[String]| {
        if values.is_empty() {
            "none".to_owned()
        } else {
            values.join(" ")
        }
    };
    let PlannedRoute {
        node: _,
        peer: _,
        prefix: _,
        next_hop,
        communities,
        large_communities,
        extended_communities,
        atomic_aggregate,
        med,
        prepend,
        local_pref,
    } = route;
    [
        ("next hop", optional(next_hop.map(|hop| hop.to_string()))),
        ("communities", list(communities)),
        ("large communities", list(large_communities)),
        ("extended communities", list(extended_communities)),
        ("ATOMIC_AGGREGATE", atomic_aggregate.to_string()),
        ("MED", optional(med.map(|med| med.to_string()))),
        ("prepend", prepend.to_string()),
        (
            "LOCAL_PREF",
            optional(local_pref.map(|value| value.to_string())),
        ),
    ]
}

type Balanced<'a> = BTreeMap<(&'a str, IpNet), BTreeSet<&'a str>>;

/// The nodes that announce each prefix to each BGPPeer.
fn balanced(plan: &Plan) -> Balanced<'_> {
    let mut groups = Balanced::new();
    for route in &plan.routes {
        let nodes = groups.entry((&route.peer, route.prefix)).or_default();
        nodes.insert(&route.node);
    }
    groups
}

fn flows(before: &Plan, after: &Plan) -> Vec<FlowDifference> {
    let (was, is) = (balanced(before), balanced(after));
    let none = BTreeSet::new();
    let differing = was.iter().filter_map(|((peer, prefix), nodes)| {
        let others = is.get(&(*peer, *prefix)).unwrap_or(&none);
        if others == nodes {
            return None;
        }
        let (moved_at_least, moved_by_rehash) = moved_share(nodes, others);
        Some(FlowDifference {
            peer: (*peer).to_owned(),
            prefix: *prefix,
            nodes_before: nodes.len(),
            nodes_after: others.len(),
            moved_at_least,
            moved_by_rehash,
        })
    });
    differing.collect()
}

fn layer2(before: &Plan, after: &Plan) -> Vec<Layer2Difference> {
    let of = |plan: &Plan| -> BTreeMap<IpAddr, BTreeSet<String>> {
        let entries = plan.layer2.iter();
        let named = entries.map(|entry| {
            let candidates = entry.candidates.iter();
            let nodes = candidates.map(|candidate| candidate.node.clone());
            (entry.address, nodes.collect())
        });
        named.collect()
    };
    let (was, is) = (of(before), of(after));
    let addresses: BTreeSet<IpAddr> = was.keys().chain(is.keys()).copied().collect();
    let differing = addresses.into_iter().filter_map(|address| {
        let before = was.get(&address).cloned().unwrap_or_default();
        let after = is.get(&address).cloned().unwrap_or_default();
        (before != after).then_some(Layer2Difference {
            address,
            before,
            after,
        })
    });
    differing.collect()
}

fn new_errors(before: &Plan, after: &Plan) -> Vec<PlanError> {
    let known: BTreeSet<(&str, &str)> = before
        .errors
        .iter()
        .map(|error| (&*error.object, &*error.message))
        .collect();
    let errors = after.errors.iter();
    let new = errors.filter(|error| !known.contains(&(&*error.object, &*error.message)));
    new.cloned().collect()
}
