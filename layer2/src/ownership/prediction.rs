//! Predicts the owners that placement chooses when all nodes start at the same time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{AddressSpec, Candidate};
use crate::membership::{address_hash, mix, text_hash};

/// The owner of each address after all nodes of a cluster start at once, if every candidate
/// runs, has an interface for the address, and no other host uses it. Which networks the nodes are
/// in is not known here: an address is taken as on-link everywhere, or nowhere.
pub fn owners_at_a_cold_start(
    addresses: &BTreeMap<IpAddr, AddressSpec>,
) -> BTreeMap<IpAddr, Arc<str>> {
    let mut oldest_first: Vec<_> = addresses.iter().collect();
    oldest_first.sort_by_key(|(address, spec)| (spec.created, **address));
    let mut loads: HashMap<&str, u32> = HashMap::new();
    let mut owners = BTreeMap::new();
    for (address, spec) in oldest_first {
        let hash = address_hash(*address);
        let key = |candidate: &&Candidate| {
            let load = loads.get(&*candidate.node).copied().unwrap_or_default();
            let node = mix(text_hash(&candidate.node) ^ hash);
            (Reverse(candidate.weight), load, node)
        };
        if let Some(best) = spec.candidates.iter().min_by_key(key) {
            *loads.entry(&best.node).or_default() += 1;
            owners.insert(*address, best.node.clone());
        }
    }
    owners
}
