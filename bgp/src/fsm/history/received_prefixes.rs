//! The prefixes that a peer announces, stored only where their number is limited (RFC 4486 §4).

use std::collections::HashSet;
use std::hash::Hash;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::wire::{Family, Update};

/// The prefixes of one peer, never more than its limit in each family.
#[derive(Debug, Default)]
pub(super) struct ReceivedPrefixes {
    v4: HashSet<Ipv4Net>,
    v6: HashSet<Ipv6Net>,
}

impl ReceivedPrefixes {
    /// The number of prefixes in the family with most: the one closest to the limit.
    pub(super) fn most(&self) -> usize {
        self.v4.len().max(self.v6.len())
    }

    /// Takes an UPDATE.
    ///
    /// # Errors
    /// The family that exceeds `limit`. The prefix that is too many is not stored.
    pub(super) fn update(&mut self, update: &Update, limit: u32) -> Result<(), Family> {
        for prefix in update.withdrawn_prefixes() {
            match prefix {
                IpNet::V4(prefix) => self.v4.remove(&prefix),
                IpNet::V6(prefix) => self.v6.remove(&prefix),
            };
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        for prefix in update.announced() {
            let fits = match prefix {
                IpNet::V4(prefix) => add(&mut self.v4, prefix, limit),
                IpNet::V6(prefix) => add(&mut self.v6, prefix, limit),
            };
            if !fits {
                return Err(Family::of(&prefix));
            }
        }
        Ok(())
    }
}

/// Adds a prefix, and returns whether it fits or was there already.
fn add<T: Eq + Hash>(prefixes: &mut HashSet<T>, prefix: T, limit: usize) -> bool {
    if prefixes.len() < limit {
        prefixes.insert(prefix);
        return true;
    }
    prefixes.contains(&prefix)
}
