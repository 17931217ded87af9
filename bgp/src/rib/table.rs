//! The table of prefixes: what is desired, what was told, and the order in which it changed.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use ipnet::IpNet;

use super::interned::{Id, Interned};
use super::peer_routes::{OfRoute, Patterns};
use super::peer_set::PeerSet;
use super::{PeerIndex, Route};

/// The place of an entry in the table. Batches hold these rather than prefixes: they are a quarter
/// as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

impl Slot {
    /// No entry.
    const NONE: Self = Self(u32::MAX);
}

/// The version of an entry that no session may look at: it changed since the last commit, or it is
/// free.
const UNCOMMITTED: u64 = u64::MAX;

/// When something was told, in seconds since the table's first day; 0 is in the session's first
/// table, so that a peer that comes again leaves no trace in the patterns.
pub(super) type Tick = u32;

/// The route a peer holds from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Told {
    pub(super) route: Id,
    pub(super) at: Tick,
}

impl OfRoute for Told {
    fn route(&self) -> Id {
        self.route
    }
}

impl OfRoute for Id {
    fn route(&self) -> Id {
        *self
    }
}

/// One message's worth of meaning for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Change {
    Withdraw,
    Announce(Id),
}

/// What is true of a prefix. Neighbours in a table mostly have the same: what is found out for one
/// state needs no second look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    desired: Id,
    told: Id,
}

/// 48 octets; with its place in the index a prefix costs about 60.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) prefix: IpNet,
    pub(super) state: State,
    /// The commit order of its last change.
    version: u64,
    /// The neighbours by version, while it has one.
    older: Slot,
    newer: Slot,
}

/// All prefixes that somebody is to be told of, or was told of.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    free: Vec<Slot>,
    index: HashTable<Slot>,
    hasher: RandomState,
    routes: Interned<Route>,
    desired: Patterns<Id>,
    told: Patterns<Told>,
    /// The youngest committed entry.
    newest: Slot,
    changed: Vec<Slot>,
    version: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
            routes: Interned::default(),
            desired: Patterns::default(),
            told: Patterns::default(),
            newest: Slot::NONE,
            changed: Vec::new(),
            version: 0,
        }
    }
}

/// What is true of states.
impl Table {
    /// Whether telling `peer` of a prefix in `state` means `change`; `repeat`: also if it was told.
    pub(super) fn needs(
        &self,
        state: State,
        peer: PeerIndex,
        change: &Change,
        repeat: bool,
    ) -> bool {
        let told = self.told.get(state.told).get(peer);
        match (change, self.desired.get(state.desired).get(peer)) {
            (Change::Withdraw, None) => told.is_some(),
            (Change::Announce(route), Some(desired)) => {
                desired == route && (repeat || told.is_none_or(|told| told.route != *route))
            }
            _ => false,
        }
    }

    /// Keeps those of `peers` for which [`needs`](Self::needs) answers `answer`.
    pub(super) fn retain_needing(
        &self,
        state: State,
        peers: &mut PeerSet,
        change: &Change,
        repeat: bool,
        answer: bool,
    ) {
        let (desired, told) = (self.desired.get(state.desired), self.told.get(state.told));
        peers.retain(|word| {
            let needing = match change {
                Change::Withdraw => told.word(word, |_| true) & !desired.word(word, |_| true),
                Change::Announce(route) => {
                    let known = told.word(word, |told| !repeat && told.route == *route);
                    desired.word(word, |desired| desired == route) & !known
                }
            };
            if answer { needing } else { !needing }
        });
    }

    /// Every change that somebody may need to be told of a prefix in `state`.
    pub(super) fn changes(&self, state: State) -> impl Iterator<Item = Change> + '_ {
        let (desired, told) = (self.desired.get(state.desired), self.told.get(state.told));
        let withdraw = (0..told.words())
            .any(|word| told.word(word, |_| true) & !desired.word(word, |_| true) != 0);
        let announced = desired.values().map(|route| Change::Announce(*route));
        withdraw
            .then_some(Change::Withdraw)
            .into_iter()
            .chain(announced)
    }

    /// What `peer` was told of a prefix in `state`.
    pub(super) fn told(&self, state: State, peer: PeerIndex) -> Option<(&Route, Tick)> {
        let told = self.told.get(state.told).get(peer)?;
        Some((self.route(told.route)?, told.at))
    }

    /// The route of this number, while somebody has it.
    pub(super) fn route(&self, id: Id) -> Option<&Route> {
        self.routes.get(id)
    }

    fn is_unneeded(&self, state: State) -> bool {
        (state.desired, state.told) == (self.desired.empty(), self.told.empty())
    }
}

/// Changes.
impl Table {
    /// Sets what is desired, and says whether that is news.
    pub(super) fn set(&mut self, peer: PeerIndex, prefix: IpNet, route: Option<Route>) -> bool {
        let slot = match self.find(&prefix) {
            Some(slot) => slot,
            None if route.is_none() => return false,
            None => self.add(prefix),
        };
        let route = route.map(|route| self.routes.hold_value(route).0);
        let before = self.entries[slot.0 as usize].state.desired;
        let news = self.desired.get(before).get(peer) != route.as_ref();
        if news {
            self.desire(slot, peer, route);
            self.touch(slot);
        }
        if let Some(route) = route {
            self.routes.release(route);
        }
        news
    }

    /// Gives everything that changed since the last commit its place in the order.
    pub(super) fn commit(&mut self) -> bool {
        let changed = std::mem::take(&mut self.changed);
        for slot in &changed {
            if self.is_unneeded(self.entries[slot.0 as usize].state) {
                self.release(*slot);
            } else {
                self.version += 1;
                self.link(*slot);
            }
        }
        !changed.is_empty()
    }

    /// Notes that `peer` was told of `change`. Returns by how much that changes the number of its
    /// prefixes.
    pub(super) fn tell(&mut self, slot: Slot, peer: PeerIndex, change: &Change, at: Tick) -> i64 {
        let value = match change {
            Change::Announce(route) => Some(Told { route: *route, at }),
            Change::Withdraw => None,
        };
        let entry = &mut self.entries[slot.0 as usize];
        let (told, had) = self
            .told
            .step(entry.state.told, peer, value, &mut self.routes);
        entry.state.told = told;
        if value.is_none() {
            self.release_unneeded(slot);
        }
        i64::from(value.is_some()) - i64::from(had)
    }

    /// Forgets what `peer` was told.
    pub(super) fn forget_told(&mut self, peer: PeerIndex) {
        for slot in self.slots() {
            if self.entries[slot.0 as usize].state.told != self.told.empty() {
                self.tell(slot, peer, &Change::Withdraw, 0);
            }
        }
    }

    /// Sets that nothing is desired for `peer`, and says whether that is news.
    pub(super) fn desire_nothing(&mut self, peer: PeerIndex) -> bool {
        let mut news = false;
        for slot in self.slots() {
            if self.desire(slot, peer, None) {
                self.touch(slot);
                news = true;
            }
        }
        news
    }

    /// Sets that nothing is desired for `peer`, which holds nothing either: no change to anybody.
    pub(super) fn forget_desired(&mut self, peer: PeerIndex) {
        for slot in self.slots() {
            if self.desire(slot, peer, None) {
                self.release_unneeded(slot);
            }
        }
    }

    /// Sets that what is desired for `other` is desired for `peer`, which has no session: whoever
    /// has one sees no change.
    pub(super) fn copy_desired(&mut self, other: PeerIndex, peer: PeerIndex) {
        for slot in self.slots() {
            let state = self.entries[slot.0 as usize].state;
            let desired = self.desired.get(state.desired).get(other).copied();
            if desired.is_some() {
                self.desire(slot, peer, desired);
            }
        }
    }

    /// Whether `peer` is to have a route to `prefix`.
    pub(super) fn is_desired(&self, peer: PeerIndex, prefix: &IpNet) -> bool {
        if self.index.is_empty() {
            return false;
        }
        let entry = self
            .find(prefix)
            .and_then(|slot| self.entries.get(slot.0 as usize));
        entry.is_some_and(|entry| self.desired.get(entry.state.desired).get(peer).is_some())
    }

    /// Says whether `peer` had a route before.
    fn desire(&mut self, slot: Slot, peer: PeerIndex, route: Option<Id>) -> bool {
        let entry = &mut self.entries[slot.0 as usize];
        let (desired, had) = self
            .desired
            .step(entry.state.desired, peer, route, &mut self.routes);
        entry.state.desired = desired;
        had
    }
}

/// Entries, by prefix and by version.
impl Table {
    /// The version of the youngest committed change; 0 before the first.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether everything that was set is committed.
    pub(super) fn is_committed(&self) -> bool {
        self.changed.is_empty()
    }

    /// How many prefixes are held, withdrawn ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// How many different things are true of them.
    #[cfg(test)]
    pub(super) fn patterns(&self) -> (usize, usize) {
        (self.desired.len(), self.told.len())
    }

    /// The state at `slot`, unless it changed after `version`.
    pub(super) fn state_as_of(&self, slot: Slot, version: u64) -> Option<State> {
        let entry = &self.entries[slot.0 as usize];
        (entry.version <= version).then_some(entry.state)
    }

    /// The committed entries that changed after `version`, in no order that means anything.
    pub(super) fn changed_after(&self, version: u64) -> impl Iterator<Item = (Slot, &Entry)> {
        // All of them lie in one row; some are a chain from the youngest on.
        let all = (version == 0).then(|| self.slots());
        let all = all
            .into_iter()
            .flatten()
            .map(|slot| (slot, &self.entries[slot.0 as usize]));
        let first = if version == 0 {
            Slot::NONE
        } else {
            self.newest
        };
        let chain =
            std::iter::successors(self.linked(first), |(_, entry)| self.linked(entry.older));
        all.filter(|(_, entry)| entry.version != UNCOMMITTED)
            .chain(chain.take_while(move |(_, entry)| entry.version > version))
    }

    pub(super) fn prefix(&self, slot: Slot) -> &IpNet {
        &self.entries[slot.0 as usize].prefix
    }

    /// All entries, in no order that means anything.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.entries.len()).filter_map(|index| u32::try_from(index).ok().map(Slot))
    }

    fn find(&self, prefix: &IpNet) -> Option<Slot> {
        let same = |slot: &Slot| self.entries[slot.0 as usize].prefix == *prefix;
        self.index.find(self.hasher.hash_one(prefix), same).copied()
    }

    fn add(&mut self, prefix: IpNet) -> Slot {
        let entry = Entry {
            prefix,
            version: UNCOMMITTED,
            older: Slot::NONE,
            newer: Slot::NONE,
            state: State {
                desired: self.desired.empty(),
                told: self.told.empty(),
            },
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot.0 as usize] = entry;
            slot
        } else {
            // 2^32 entries would need a quarter of a terabyte before this matters.
            let slot = Slot(u32::try_from(self.entries.len()).expect("fewer than 2^32 prefixes"));
            self.entries.push(entry);
            slot
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index
            .insert_unique(hasher.hash_one(prefix), slot, |slot| {
                hasher.hash_one(entries[slot.0 as usize].prefix)
            });
        self.changed.push(slot);
        slot
    }

    fn touch(&mut self, slot: Slot) {
        if self.entries[slot.0 as usize].version != UNCOMMITTED {
            self.unlink(slot);
            self.changed.push(slot);
        }
    }

    /// Drops the entry once nobody is to be told of it and nobody has to be told that it is gone.
    fn release_unneeded(&mut self, slot: Slot) {
        let entry = &self.entries[slot.0 as usize];
        // An uncommitted one is waiting for commit, which looks at it again.
        if entry.version != UNCOMMITTED && self.is_unneeded(entry.state) {
            self.unlink(slot);
            self.release(slot);
        }
    }

    fn release(&mut self, slot: Slot) {
        let prefix = self.entries[slot.0 as usize].prefix;
        let place = self
            .index
            .find_entry(self.hasher.hash_one(prefix), |held| *held == slot);
        if let Ok(place) = place {
            place.remove();
        }
        self.free.push(slot);
    }

    fn linked(&self, slot: Slot) -> Option<(Slot, &Entry)> {
        (slot != Slot::NONE).then(|| (slot, &self.entries[slot.0 as usize]))
    }

    /// Makes the entry the youngest, of the present version.
    fn link(&mut self, slot: Slot) {
        let older = std::mem::replace(&mut self.newest, slot);
        let entry = &mut self.entries[slot.0 as usize];
        entry.version = self.version;
        (entry.older, entry.newer) = (older, Slot::NONE);
        if let Some(older) = self.entries.get_mut(older.0 as usize) {
            older.newer = slot;
        }
    }

    fn unlink(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot.0 as usize];
        entry.version = UNCOMMITTED;
        let (older, newer) = (entry.older, entry.newer);
        match self.entries.get_mut(newer.0 as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        if let Some(entry) = self.entries.get_mut(older.0 as usize) {
            entry.newer = newer;
        }
    }
}
