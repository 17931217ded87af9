//! The difference between two predictions: what a change would move, withdraw, announce or alter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

pub(crate) use super::compared_routes::{Effect, FlowDifference, RouteDifference};

use super::compared_routes::ComparedRoutes;
use super::{Plan, PlanError, Prediction};

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

impl Difference {
    /// Compares two predictions.
    pub(crate) fn of(before: &Prediction, after: &Prediction) -> Self {
        let compared = ComparedRoutes::of(&before.index, &after.index);
        let (before, after) = (&before.plan, &after.plan);
        let [by_bgp_before, by_bgp_after] = compared.announced;
        let was = &by_bgp_before | &before.announced;
        let is = &by_bgp_after | &after.announced;
        Self {
            addresses: addresses(before, after),
            lost: was.difference(&is).cloned().collect(),
            gained: is.difference(&was).cloned().collect(),
            routes: compared.routes,
            flows: compared.flows,
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
