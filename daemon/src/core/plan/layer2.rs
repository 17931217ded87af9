//! The part of the plan that concerns layer 2.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_layer2::config::Interfaces;
use ferrolb_layer2::owners_at_a_cold_start;
use serde::Serialize;

use super::{Plan, Withheld};
use crate::core::api::ObjectName;
use crate::core::decide::layer2::addresses::Layer2Addresses;
use crate::core::decide::layer2::{excluded_nodes, interfaces};
use crate::core::decide::{Detail, Reason, Verdict};
use crate::core::index::Index;

/// An address that one of its candidates announces by layer 2.
#[derive(Debug, Serialize)]
pub(crate) struct PlannedAddress {
    /// The address.
    pub address: IpAddr,
    /// The services that have it, as `namespace/name`.
    pub services: Vec<String>,
    /// The node that announces it if all nodes start at the same time, in one network. Nodes keep
    /// what they own, so another one can be the owner later.
    pub owner: Option<String>,
    /// The nodes that may announce it, those with the highest weight first.
    pub candidates: Vec<PlannedCandidate>,
}

/// A node that may announce an address.
#[derive(Debug, Serialize)]
pub(crate) struct PlannedCandidate {
    /// The node.
    pub node: String,
    /// The sum of its preferences.
    pub weight: u32,
    /// The interfaces on which it announces; null for all.
    pub interfaces: Option<Vec<String>>,
}

impl Plan {
    /// Adds the addresses. Returns the decisions about them.
    pub(super) fn add_layer2(&mut self, index: &Index) -> Layer2Addresses {
        // The node makes no difference: the interfaces are added below for each.
        let mut addresses = Layer2Addresses::new("");
        addresses.update_all(index);
        let owners = owners_at_a_cold_start(addresses.addresses());
        for (address, spec) in addresses.addresses() {
            let ads = addresses.advertisements_of(index, *address);
            let candidates = spec.candidates.iter().map(|candidate| {
                let node = index.nodes().get(&*candidate.node);
                PlannedCandidate {
                    node: candidate.node.to_string(),
                    weight: candidate.weight,
                    interfaces: match interfaces(node, &ads) {
                        Interfaces::All => None,
                        Interfaces::Named(names) => {
                            Some(names.iter().map(ToString::to_string).collect())
                        }
                    },
                }
            });
            let mut candidates: Vec<PlannedCandidate> = candidates.collect();
            candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.weight));
            let services = addresses.services_of(*address).iter();
            let services: Vec<String> = services.map(ToString::to_string).collect();
            self.announced.extend(services.iter().cloned());
            self.layer2.push(PlannedAddress {
                address: *address,
                services,
                owner: owners.get(address).map(ToString::to_string),
                candidates,
            });
        }
        addresses
    }

    /// Adds reasons that the decision about BGP didn't give already.
    pub(super) fn add_withheld_by_layer2(&mut self, index: &Index, addresses: &Layer2Addresses) {
        let mut known = Known::of(&self.withheld);
        for service in index.services().filter(|service| service.load_balancer) {
            let Some(decision) = addresses.decision(&service.name) else {
                continue;
            };
            let nodes = excluded_nodes(index, service, decision);
            let is_explained = |reason| reason == Reason::NoEligibleNode && !nodes.is_empty();
            if let Some((reason, detail)) = addresses.withheld(&service.name)
                && !is_explained(reason)
            {
                self.withhold(&mut known, &service.name, None, reason, detail);
            }
            for (node, reason, detail) in nodes {
                self.withhold(&mut known, &service.name, Some(node), reason, detail);
            }
        }
    }

    fn withhold(
        &mut self,
        known: &mut Known,
        service: &ObjectName,
        node: Option<&str>,
        reason: Reason,
        detail: Detail,
    ) {
        let message = Verdict {
            peer: None,
            reason,
            detail,
        }
        .message(service);
        let ObjectName { namespace, name } = service.clone();
        let withheld = Withheld {
            namespace,
            name,
            node: node.map(str::to_owned),
            peer: None,
            reason: reason.code().to_owned(),
            message,
        };
        if known.add(&withheld) {
            self.withheld.push(withheld);
        }
    }
}

/// What is withheld, by service and message, on which nodes.
struct Known(BTreeMap<(ObjectName, String), BTreeSet<Option<String>>>);

impl Known {
    fn of(withheld: &[Withheld]) -> Self {
        let mut known = Self(BTreeMap::new());
        for one in withheld {
            known.add(one);
        }
        known
    }

    /// Returns whether it is new: for all nodes if it was withheld from none.
    fn add(&mut self, one: &Withheld) -> bool {
        let service = ObjectName::new(one.namespace.as_str(), one.name.as_str());
        let nodes = self.0.entry((service, one.message.clone())).or_default();
        if one.node.is_none() && !nodes.is_empty() {
            return false;
        }
        nodes.insert(one.node.clone())
    }
}
