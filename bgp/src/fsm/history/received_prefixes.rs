//! Which prefixes a peer has announced, kept only where there is a limit to them (RFC 4486 §4).

use std::collections::HashSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::wire::{Family, Update};

/// The prefixes of one peer, by family; never more than its limit in each.
#[derive(Debug, Default)]
pub(in crate::fsm) struct Held {
    v4: HashSet<Ipv4Net>,
    v6: HashSet<Ipv6Net>,
}

impl Held {
    /// How many there are in the family that has most: the one next to the limit.
    pub(in crate::fsm) fn most(&self) -> usize {
        self.v4.len().max(self.v6.len())
    }

    /// Takes an UPDATE.
    ///
    /// # Errors
    /// The family of which there are more than `limit`; one that would be too many isn't kept.
    pub(in crate::fsm) fn update(&mut self, update: &Update, limit: u32) -> Result<(), Family> {
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

fn add<T: Eq + std::hash::Hash>(held: &mut HashSet<T>, prefix: T, limit: usize) -> bool {
    if held.len() < limit {
        held.insert(prefix);
        return true;
    }
    held.contains(&prefix)
}
