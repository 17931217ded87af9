//! The addresses that are announced by layer 2, with their owners as far as the API server knows
//! them.

use std::net::IpAddr;

use serde::Serialize;

use super::View;
use crate::core::owners::{Owner, OwnerSource};

/// An address that is announced by layer 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OwnerLine {
    /// The address.
    pub address: IpAddr,
    /// The services that have it, as `namespace/name`.
    pub services: Vec<String>,
    /// The node that last took it over, if an object says so and the node is still a candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<OwnerSource>,
    /// When that was written (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The nodes that may announce it.
    pub candidates: Vec<String>,
}

/// A line for each address.
pub(super) fn lines(view: &View<'_>) -> Vec<OwnerLine> {
    let owners = view.observed.map(|observed| &observed.owners);
    let addresses = view.layer2.addresses().iter();
    addresses
        .map(|(address, spec)| {
            let candidates = spec.candidates.iter();
            let candidates = candidates.map(|candidate| candidate.node.to_string());
            let mut candidates: Vec<String> = candidates.collect();
            candidates.sort_unstable();
            let services = view.layer2.services_of(*address);
            let named = services.iter().filter_map(|name| owners?.get(&**name));
            let mut named = named.flatten();
            let owner = named.find(|owner| candidates.contains(&owner.node));
            let at = |owner: &Owner| Some(owner.at.clone()).filter(|at| !at.is_empty());
            OwnerLine {
                address: *address,
                services: services.iter().map(ToString::to_string).collect(),
                owner: owner.map(|owner| owner.node.clone()),
                source: owner.map(|owner| owner.source),
                at: owner.and_then(at),
                candidates,
            }
        })
        .collect()
}
