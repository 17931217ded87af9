//! The table of prefixes: what is desired, what was told, and the order in which it changed.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use ipnet::IpNet;

use super::peer_set::{PeerMap, PeerSet};
use super::{PeerIndex, Route};

/// The place of an entry in the table. Batches hold these rather than prefixes: they are a quarter
/// as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// The version of an entry that no session may look at: it changed since the last commit, or it is
/// free.
const UNCOMMITTED: u64 = u64::MAX;

/// The route a peer holds from us.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) route: Route,
    /// The peer asked to be told again.
    pub(super) again: bool,
}

/// One message's worth of meaning for a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    // First, since withdrawals are sent first.
    Withdraw,
    Announce(Route),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) prefix: IpNet,
    /// The commit order of its last change.
    version: u64,
    pub(super) desired: PeerMap<Route>,
    pub(super) told: PeerMap<Told>,
}

impl Entry {
    /// Whether telling `peer` of this prefix means `change`.
    pub(super) fn needs(&self, peer: PeerIndex, change: &Change) -> bool {
        let told = self.told.get(peer);
        match (change, self.desired.get(peer)) {
            (Change::Withdraw, None) => told.is_some(),
            (Change::Announce(route), Some(desired)) => {
                desired == route && told.is_none_or(|told| told.again || told.route != *route)
            }
            _ => false,
        }
    }

    /// Keeps those of `peers` for which [`needs`](Self::needs) answers `answer`.
    pub(super) fn retain_needing(&self, peers: &mut PeerSet, change: &Change, answer: bool) {
        peers.retain(|word| {
            let needing = match change {
                Change::Withdraw => {
                    self.told.word(word, |_| true) & !self.desired.word(word, |_| true)
                }
                Change::Announce(route) => {
                    self.desired.word(word, |desired| desired == route)
                        & !self
                            .told
                            .word(word, |told| !told.again && told.route == *route)
                }
            };
            if answer { needing } else { !needing }
        });
    }

    /// Every change that somebody may need to be told.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change> {
        let words = self.told.words();
        let withdraw = (0..words)
            .any(|word| self.told.word(word, |_| true) & !self.desired.word(word, |_| true) != 0);
        let announced = self
            .desired
            .values()
            .map(|route| Change::Announce(Route::clone(route)));
        withdraw
            .then_some(Change::Withdraw)
            .into_iter()
            .chain(announced)
    }

    fn is_unneeded(&self) -> bool {
        self.desired.is_empty() && self.told.is_empty()
    }
}

/// All prefixes that somebody is to be told of, or was told of.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<Entry>,
    free: Vec<Slot>,
    index: HashMap<IpNet, Slot>,
    /// Each committed entry once, by version.
    log: BTreeMap<u64, Slot>,
    changed: Vec<Slot>,
    version: u64,
}

impl Table {
    /// The version of the youngest committed change; 0 before the first.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// How many prefixes are held, withdrawn ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Sets what is desired, and says whether that is news.
    pub(super) fn set(&mut self, peer: PeerIndex, prefix: IpNet, route: Option<Route>) -> bool {
        let slot = match self.index.get(&prefix) {
            Some(slot) => *slot,
            None if route.is_none() => return false,
            None => self.add(prefix),
        };
        let desired = &mut self.entries[slot.0 as usize].desired;
        if desired.get(peer) == route.as_ref() {
            return false;
        }
        match route {
            Some(route) => desired.insert(peer, route),
            None => desired.remove(peer),
        };
        self.touch(slot);
        true
    }

    /// Gives everything that changed since the last commit its place in the log.
    pub(super) fn commit(&mut self) -> bool {
        let changed = std::mem::take(&mut self.changed);
        for slot in &changed {
            let entry = &mut self.entries[slot.0 as usize];
            if entry.is_unneeded() {
                self.release(*slot);
            } else {
                self.version += 1;
                entry.version = self.version;
                self.log.insert(self.version, *slot);
            }
        }
        !changed.is_empty()
    }

    /// The entry at `slot`, unless it changed after `version`.
    pub(super) fn entry_as_of(&self, slot: Slot, version: u64) -> Option<&Entry> {
        let entry = &self.entries[slot.0 as usize];
        (entry.version <= version).then_some(entry)
    }

    /// The committed entries that changed after `version`, oldest first.
    pub(super) fn changed_after(&self, version: u64) -> impl Iterator<Item = (Slot, &Entry)> {
        let log = self.log.range((Bound::Excluded(version), Bound::Unbounded));
        log.map(|(_, slot)| (*slot, &self.entries[slot.0 as usize]))
    }

    pub(super) fn prefix(&self, slot: Slot) -> &IpNet {
        &self.entries[slot.0 as usize].prefix
    }

    /// All entries, in no order that means anything.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Notes that `peer` was told of `change`. Returns by how much that changes the number of its
    /// prefixes.
    pub(super) fn tell(&mut self, slot: Slot, peer: PeerIndex, change: &Change) -> i64 {
        let entry = &mut self.entries[slot.0 as usize];
        match change {
            Change::Announce(route) => {
                let told = Told {
                    route: Route::clone(route),
                    again: false,
                };
                i64::from(!entry.told.insert(peer, told))
            }
            Change::Withdraw => {
                let had = entry.told.remove(peer);
                self.release_unneeded(slot);
                -i64::from(had)
            }
        }
    }

    /// Forgets what `peer` was told.
    pub(super) fn forget_told(&mut self, peer: PeerIndex) {
        for slot in self.slots() {
            if self.entries[slot.0 as usize].told.remove(peer) {
                self.release_unneeded(slot);
            }
        }
    }

    /// Notes that `peer` wants to be told again of the prefixes that `wanted` agrees to.
    pub(super) fn tell_again(&mut self, peer: PeerIndex, wanted: impl Fn(&IpNet) -> bool) {
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| wanted(&entry.prefix))
        {
            if let Some(told) = entry.told.get(peer) {
                let again = Told {
                    route: Route::clone(&told.route),
                    again: true,
                };
                entry.told.insert(peer, again);
            }
        }
    }

    /// Sets that nothing is desired for `peer`, and says whether that is news.
    pub(super) fn desire_nothing(&mut self, peer: PeerIndex) -> bool {
        let mut news = false;
        for slot in self.slots() {
            if self.entries[slot.0 as usize].desired.remove(peer) {
                self.touch(slot);
                news = true;
            }
        }
        news
    }

    /// Sets that nothing is desired for `peer`, which holds nothing either: no change to anybody.
    pub(super) fn forget_desired(&mut self, peer: PeerIndex) {
        for slot in self.slots() {
            if self.entries[slot.0 as usize].desired.remove(peer) {
                self.release_unneeded(slot);
            }
        }
    }

    fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.entries.len()).filter_map(|index| u32::try_from(index).ok().map(Slot))
    }

    fn add(&mut self, prefix: IpNet) -> Slot {
        let entry = Entry {
            prefix,
            version: UNCOMMITTED,
            desired: PeerMap::default(),
            told: PeerMap::default(),
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot.0 as usize] = entry;
            slot
        } else {
            // 2^32 entries would need half a terabyte before this matters.
            let slot = Slot(u32::try_from(self.entries.len()).expect("fewer than 2^32 prefixes"));
            self.entries.push(entry);
            slot
        };
        self.index.insert(prefix, slot);
        self.changed.push(slot);
        slot
    }

    fn touch(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot.0 as usize];
        if entry.version != UNCOMMITTED {
            self.log.remove(&entry.version);
            entry.version = UNCOMMITTED;
            self.changed.push(slot);
        }
    }

    /// Drops the entry once nobody is to be told of it and nobody has to be told that it is gone.
    fn release_unneeded(&mut self, slot: Slot) {
        let entry = &self.entries[slot.0 as usize];
        // An uncommitted one is waiting for commit, which looks at it again.
        if entry.version != UNCOMMITTED && entry.is_unneeded() {
            self.log.remove(&entry.version);
            self.release(slot);
        }
    }

    fn release(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot.0 as usize];
        entry.version = UNCOMMITTED;
        self.index.remove(&entry.prefix);
        self.free.push(slot);
    }
}
