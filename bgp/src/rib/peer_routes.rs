//! Who has which route of a prefix, held once for all prefixes of which the same is true.

use std::hash::Hash;

use super::interned::{Id, Interned};
use super::peer_set::PeerMap;
use super::{PeerIndex, Route};

/// What a pattern says of a peer.
pub(super) trait OfRoute: Copy + Ord + Hash {
    /// The number of the route.
    fn route(&self) -> Id;
}

/// A step from one pattern to another, since the next prefix will probably take the same.
#[derive(Clone, Copy, Debug)]
struct Step<V> {
    from: Id,
    peer: PeerIndex,
    value: Option<V>,
    to: Id,
    had: bool,
}

/// Maps from peers to routes by number. Most tables need a handful, whatever their size.
#[derive(Debug)]
pub(super) struct Patterns<V> {
    maps: Interned<PeerMap<V>>,
    last: Option<Step<V>>,
    empty: Id,
}

impl<V: OfRoute> Default for Patterns<V> {
    fn default() -> Self {
        let mut maps = Interned::default();
        // This use is never given back.
        let (empty, _) = maps.hold_value(PeerMap::default());
        Self {
            maps,
            last: None,
            empty,
        }
    }
}

impl<V: OfRoute> Patterns<V> {
    /// The pattern in which no peer has anything. It needs no counting.
    pub(super) fn empty(&self) -> Id {
        self.empty
    }

    pub(super) fn get(&self, id: Id) -> &PeerMap<V> {
        self.maps.get(id).expect("a pattern in use has a map")
    }

    /// The pattern of a prefix that had `from` when `peer`'s value becomes `value`, and whether the
    /// peer had one. The prefix's use moves along.
    pub(super) fn step(
        &mut self,
        from: Id,
        peer: PeerIndex,
        value: Option<V>,
        routes: &mut Interned<Route>,
    ) -> (Id, bool) {
        let (to, had) = match &self.last {
            Some(last) if (last.from, last.peer, last.value) == (from, peer, value) => {
                self.maps.hold(last.to);
                (last.to, last.had)
            }
            _ => {
                let map = self.get(from);
                let had = map.get(peer).is_some();
                let (to, new) = self.maps.hold_value(map.with(peer, value));
                if new {
                    let map = self.maps.get(to).into_iter();
                    map.flat_map(PeerMap::values)
                        .for_each(|value| routes.hold(value.route()));
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
            // Its number may come to mean something else.
            self.last = None;
            for value in map.values() {
                routes.release(value.route());
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.maps.len()
    }
}
