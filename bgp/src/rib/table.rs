//! The table of prefixes with their desired and sent routes, and the commit order of their changes.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use ipnet::IpNet;

use super::interned::{Id, Interned};
use super::peer_routes::{HasRoute, PeerRoutes};
use super::peer_set::PeerSet;
use super::{PeerIndex, Route};

/// Position of an entry. Batches refer to entries by slot, which takes a quarter of a prefix's
/// size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

impl Slot {
    /// No entry.
    const NONE: Self = Self(u32::MAX);
}

/// Version of an entry that is free or has uncommitted changes. Sessions skip it.
const UNCOMMITTED: u64 = u64::MAX;

/// Time of transmission: whole seconds since the epoch of the RIB, plus one.
pub(super) type SentAt = u32;

/// Sent with the initial table of the session. One value for all sessions: they share a map,
/// however often they are re-established.
pub(super) const INITIAL_TABLE: SentAt = 0;

/// A route that was sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SentRoute {
    pub(super) route: Id,
    pub(super) at: SentAt,
}

impl HasRoute for SentRoute {
    fn route(&self) -> Id {
        self.route
    }
}

impl HasRoute for Id {
    fn route(&self) -> Id {
        *self
    }
}

/// A change of a prefix that an UPDATE carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum RouteChange {
    Withdraw,
    Announce(Id),
}

/// Desired and sent routes of a prefix for all peers. Neighbors in the table mostly have equal
/// states, so callers cache the result for the last state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PrefixState {
    desired: Id,
    sent: Id,
}

/// 48 octets; about 60 with its place in the index.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) prefix: IpNet,
    pub(super) state: PrefixState,
    /// Position of its last change in the commit order.
    version: u64,
    /// Neighbors in the list by version, while the entry is committed.
    older: Slot,
    newer: Slot,
}

/// All prefixes with a desired or a sent route for at least one peer.
///
/// Invariant: the committed entries form a doubly linked list in order of version that ends at
/// `newest`. Entries with uncommitted changes are in `changed`, free ones in `free`.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    free: Vec<Slot>,
    index: HashTable<Slot>,
    hasher: RandomState,
    routes: Interned<Route>,
    desired: PeerRoutes<Id>,
    sent: PeerRoutes<SentRoute>,
    /// The committed entry with the highest version.
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
            desired: PeerRoutes::default(),
            sent: PeerRoutes::default(),
            newest: Slot::NONE,
            changed: Vec::new(),
            version: 0,
        }
    }
}

/// Queries on states.
impl Table {
    /// Whether `peer` needs `change` for a prefix in `state`. With `repeat`, an announcement is
    /// needed even if it was already sent.
    pub(super) fn needs(
        &self,
        state: PrefixState,
        peer: PeerIndex,
        change: &RouteChange,
        repeat: bool,
    ) -> bool {
        let sent = self.sent.get(state.sent).get(peer);
        match (change, self.desired.get(state.desired).get(peer)) {
            (RouteChange::Withdraw, None) => sent.is_some(),
            (RouteChange::Announce(route), Some(desired)) => {
                desired == route && (repeat || sent.is_none_or(|sent| sent.route != *route))
            }
            _ => false,
        }
    }

    /// Retains the `peers` for which [`needs`](Self::needs) returns `answer`.
    pub(super) fn retain_needing(
        &self,
        state: PrefixState,
        peers: &mut PeerSet,
        change: &RouteChange,
        repeat: bool,
        answer: bool,
    ) {
        let (desired, sent) = (self.desired.get(state.desired), self.sent.get(state.sent));
        peers.retain(|word| {
            let needing = match change {
                RouteChange::Withdraw => sent.word(word, |_| true) & !desired.word(word, |_| true),
                RouteChange::Announce(route) => {
                    let known = sent.word(word, |sent| !repeat && sent.route == *route);
                    desired.word(word, |desired| desired == route) & !known
                }
            };
            if answer { needing } else { !needing }
        });
    }

    /// All changes that at least one peer may need for a prefix in `state`.
    pub(super) fn changes(&self, state: PrefixState) -> impl Iterator<Item = RouteChange> + '_ {
        let (desired, sent) = (self.desired.get(state.desired), self.sent.get(state.sent));
        let withdraw = (0..sent.words())
            .any(|word| sent.word(word, |_| true) & !desired.word(word, |_| true) != 0);
        let announced = desired.values().map(|route| RouteChange::Announce(*route));
        withdraw
            .then_some(RouteChange::Withdraw)
            .into_iter()
            .chain(announced)
    }

    /// The route sent to `peer` for a prefix in `state`, and when.
    pub(super) fn sent_route(
        &self,
        state: PrefixState,
        peer: PeerIndex,
    ) -> Option<(&Route, SentAt)> {
        let sent = self.sent.get(state.sent).get(peer)?;
        Some((self.route(sent.route)?, sent.at))
    }

    /// The route with this number; `None` if it is not in use.
    pub(super) fn route(&self, id: Id) -> Option<&Route> {
        self.routes.get(id)
    }

    fn is_unneeded(&self, state: PrefixState) -> bool {
        (state.desired, state.sent) == (self.desired.empty(), self.sent.empty())
    }
}

/// Changes.
impl Table {
    /// Sets a desired route. Returns whether it differs from the previous one.
    pub(super) fn set(&mut self, peer: PeerIndex, prefix: IpNet, route: Option<Route>) -> bool {
        let slot = match self.find(&prefix) {
            Some(slot) => slot,
            None if route.is_none() => return false,
            None => self.add(prefix),
        };
        let route = route.map(|route| self.routes.intern(route).0);
        let before = self.entries[slot.0 as usize].state.desired;
        let differs = self.desired.get(before).get(peer) != route.as_ref();
        if differs {
            self.desire(slot, peer, route);
            self.touch(slot);
        }
        if let Some(route) = route {
            self.routes.release(route);
        }
        differs
    }

    /// Assigns versions to all changes since the last commit. Returns whether there were any.
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

    /// Records that `change` was sent to `peer`. Returns the difference in the number of prefixes
    /// announced to it.
    pub(super) fn mark_sent(
        &mut self,
        slot: Slot,
        peer: PeerIndex,
        change: &RouteChange,
        at: SentAt,
    ) -> i64 {
        let value = match change {
            RouteChange::Announce(route) => Some(SentRoute { route: *route, at }),
            RouteChange::Withdraw => None,
        };
        let entry = &mut self.entries[slot.0 as usize];
        let (sent, had) = self
            .sent
            .step(entry.state.sent, peer, value, &mut self.routes);
        entry.state.sent = sent;
        if value.is_none() {
            self.release_unneeded(slot);
        }
        i64::from(value.is_some()) - i64::from(had)
    }

    /// Removes all sent routes of `peer`.
    pub(super) fn forget_sent(&mut self, peer: PeerIndex) {
        for slot in self.slots() {
            if self.entries[slot.0 as usize].state.sent != self.sent.empty() {
                self.mark_sent(slot, peer, &RouteChange::Withdraw, INITIAL_TABLE);
            }
        }
    }

    /// Removes all desired routes of `peer` as changes to commit. Returns whether there were any.
    pub(super) fn clear_desired(&mut self, peer: PeerIndex) -> bool {
        let mut changed = false;
        for slot in self.slots() {
            if self.desire(slot, peer, None) {
                self.touch(slot);
                changed = true;
            }
        }
        changed
    }

    /// Removes all desired routes of `peer`, which has no session: there is no change to send.
    pub(super) fn forget_desired(&mut self, peer: PeerIndex) {
        for slot in self.slots() {
            if self.desire(slot, peer, None) {
                self.release_unneeded(slot);
            }
        }
    }

    /// Copies the desired routes of `other` to `peer`, which has no session: there is no change to
    /// send.
    pub(super) fn copy_desired(&mut self, other: PeerIndex, peer: PeerIndex) {
        for slot in self.slots() {
            let state = self.entries[slot.0 as usize].state;
            let desired = self.desired.get(state.desired).get(other).copied();
            if desired.is_some() {
                self.desire(slot, peer, desired);
            }
        }
    }

    /// Whether a route to `prefix` is desired for `peer`.
    pub(super) fn is_desired(&self, peer: PeerIndex, prefix: &IpNet) -> bool {
        if self.index.is_empty() {
            return false;
        }
        let entry = self
            .find(prefix)
            .and_then(|slot| self.entries.get(slot.0 as usize));
        entry.is_some_and(|entry| self.desired.get(entry.state.desired).get(peer).is_some())
    }

    /// Sets a desired route without marking the entry as changed. Returns whether there was one.
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
    /// Version of the last committed change; 0 before the first.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether there are no uncommitted changes.
    pub(super) fn is_committed(&self) -> bool {
        self.changed.is_empty()
    }

    /// Number of prefixes, including withdrawn ones whose withdrawal is not yet sent to all peers.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Numbers of distinct maps of desired and of sent routes.
    #[cfg(test)]
    pub(super) fn distinct_maps(&self) -> (usize, usize) {
        (self.desired.len(), self.sent.len())
    }

    /// The state of an entry; `None` if it changed after `version`.
    pub(super) fn state_as_of(&self, slot: Slot, version: u64) -> Option<PrefixState> {
        let entry = &self.entries[slot.0 as usize];
        (entry.version <= version).then_some(entry.state)
    }

    /// The committed entries that changed after `version`, in no particular order.
    pub(super) fn changed_after(&self, version: u64) -> impl Iterator<Item = (Slot, &Entry)> {
        // For all entries scan the array; otherwise follow the list from the newest entry.
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

    /// All entries, in no particular order.
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
            state: PrefixState {
                desired: self.desired.empty(),
                sent: self.sent.empty(),
            },
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot.0 as usize] = entry;
            slot
        } else {
            // 2^32 entries would take a quarter of a terabyte.
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

    /// Drops the entry if it has neither desired nor sent routes.
    fn release_unneeded(&mut self, slot: Slot) {
        let entry = &self.entries[slot.0 as usize];
        // `commit` releases uncommitted entries.
        if entry.version != UNCOMMITTED && self.is_unneeded(entry.state) {
            self.unlink(slot);
            self.release(slot);
        }
    }

    fn release(&mut self, slot: Slot) {
        let prefix = self.entries[slot.0 as usize].prefix;
        let place = self
            .index
            .find_entry(self.hasher.hash_one(prefix), |other| *other == slot);
        if let Ok(place) = place {
            place.remove();
        }
        self.free.push(slot);
    }

    fn linked(&self, slot: Slot) -> Option<(Slot, &Entry)> {
        (slot != Slot::NONE).then(|| (slot, &self.entries[slot.0 as usize]))
    }

    /// Appends the entry to the list with the current version.
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
