//! Detection of services that have the same address but can't share it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::claimant::Claimant;
use crate::ledger::Ledger;
use crate::reason::Reason;
use crate::request::AllocationRequest;
use crate::service::ServiceKey;

/// Finds services with an address ([`AllocationRequest::current`]) that an older service also has
/// and does not share. Announcers must not announce the address for these services. The reason is
/// always [`Reason::AddressConflict`].
#[must_use]
pub fn conflicts<'a>(
    requests: impl IntoIterator<Item = &'a Arc<AllocationRequest>>,
) -> BTreeMap<ServiceKey, BTreeMap<IpAddr, Reason>> {
    let mut claimants: Vec<Claimant> = requests.into_iter().map(Claimant::of).collect();
    claimants.sort();
    let mut ledger = Ledger::default();
    for claimant in &claimants {
        for address in &claimant.request().current {
            ledger.insert(*address, claimant.clone());
        }
    }
    let mut found: BTreeMap<ServiceKey, BTreeMap<IpAddr, Reason>> = BTreeMap::new();
    for claimant in &claimants {
        let request = claimant.request();
        for &address in &request.current {
            if let Some((by, cause)) = ledger.conflict(address, claimant).cloned() {
                let reason = Reason::AddressConflict { address, by, cause };
                let reasons = found.entry(request.service.clone()).or_default();
                reasons.insert(address, reason);
            }
        }
    }
    found
}
