//! A set of addresses in which whole runs are skipped in one step.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::span::{next, previous};

/// A set of addresses, stored as runs without gaps (last address by first address), so that the
/// end of a run is found in one look-up. IPv4 sorts before IPv6, and no run contains both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs(pub(crate) BTreeMap<IpAddr, IpAddr>);

impl Runs {
    /// The first and the last address of the run that contains the address.
    pub(crate) fn containing(&self, address: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let (first, last) = self.0.range(..=address).next_back()?;
        (*last >= address).then_some((*first, *last))
    }

    pub(crate) fn insert(&mut self, address: IpAddr) {
        if self.containing(address).is_some() {
            return;
        }
        let before = previous(address).and_then(|previous| self.containing(previous));
        let after = next(address).and_then(|next| self.0.remove(&next));
        let first = before.map_or(address, |(first, _)| first);
        self.0.insert(first, after.unwrap_or(address));
    }

    pub(crate) fn remove(&mut self, address: IpAddr) {
        let Some((first, last)) = self.containing(address) else {
            return;
        };
        self.0.remove(&first);
        if let Some(before) = previous(address).filter(|before| *before >= first) {
            self.0.insert(first, before);
        }
        if let Some(after) = next(address).filter(|after| *after <= last) {
            self.0.insert(after, last);
        }
    }

    /// The first address from `from` on that is not in the set; `None` at the end of the family.
    pub(crate) fn first_absent(&self, from: IpAddr) -> Option<IpAddr> {
        self.containing(from)
            .map_or(Some(from), |(_, last)| next(last))
    }
}
