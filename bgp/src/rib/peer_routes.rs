//! Interned maps from peers to routes. All prefixes with the same routes for the same peers share
//! one.

use std::hash::Hash;

use super::interned::{Id, Interned};
use super::peer_set::PeerMap;
use super::{PeerIndex, Route};

/// Value of a peer in a map.
pub(super) trait HasRoute: Copy + Ord + Hash {
    /// Number of the route.
    fn route(&self) -> Id;
}

/// The last transition from one map to another. The next prefix usually takes the same one.
#[derive(Clone, Copy, Debug)]
struct Step<V> {
    from: Id,
    peer: PeerIndex,
    value: Option<V>,
    to: Id,
    had: bool,
}

/// Maps from peers to routes, by number. Even large tables mostly need only a handful.
#[derive(Debug)]
pub(super) struct PeerRoutes<V> {
    maps: Interned<PeerMap<V>>,
    last: Option<Step<V>>,
    empty: Id,
}

impl<V: HasRoute> Default for PeerRoutes<V> {
    fn default() -> Self {
        let mut maps = Interned::default();
        // This use is never released.
        let (empty, _) = maps.intern(PeerMap::default());
        Self {
            maps,
            last: None,
            empty,
        }
    }
}

impl<V: HasRoute> PeerRoutes<V> {
    /// Number of the empty map. Its uses are not counted.
    pub(super) fn empty(&self) -> Id {
        self.empty
    }

    pub(super) fn get(&self, id: Id) -> &PeerMap<V> {
        self.maps.get(id).expect("a number in use has a map")
    }

    /// Moves a prefix's use from map `from` to the map in which `peer` has `value`. Returns the
    /// number of that map and whether `peer` had a value before.
    pub(super) fn step(
        &mut self,
        from: Id,
        peer: PeerIndex,
        value: Option<V>,
        routes: &mut Interned<Route>,
    ) -> (Id, bool) {
        let (to, had) = match &self.last {
            Some(last) if (last.from, last.peer, last.value) == (from, peer, value) => {
                self.maps.retain(last.to);
                (last.to, last.had)
            }
            _ => {
                let map = self.get(from);
                let had = map.get(peer).is_some();
                let (to, new) = self.maps.intern(map.with(peer, value));
                if new {
                    let map = self.maps.get(to).into_iter();
                    map.flat_map(PeerMap::values)
                        .for_each(|value| routes.retain(value.route()));
                }
                self.last = Some(Step {
                    from,
                    peer,
                    value,
                    to,
                    had,
                });
                (to, had)
            }
        };
        self.release(from, routes);
        if to == self.empty {
            self.maps.release(to);
        }
        (to, had)
    }

    fn release(&mut self, id: Id, routes: &mut Interned<Route>) {
        if id == self.empty {
            return;
        }
        if let Some(map) = self.maps.release(id) {
            // The number may be reused, which invalidates the cached step.
            self.last = None;
            for value in map.values() {
                routes.release(value.route());
            }
        }
    }

    /// Number of maps.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.maps.len()
    }
}
