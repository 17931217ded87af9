//! Values held once, however many places use them.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

/// The number of a value in its [`Interned`]. Equal numbers are equal values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u32);

#[derive(Debug)]
struct Held<T> {
    /// `None`: the place is free.
    value: Option<T>,
    uses: u32,
}

/// Values by number, each for as long as it is in use.
#[derive(Debug)]
pub(super) struct Interned<T> {
    places: Vec<Held<T>>,
    free: Vec<Id>,
    index: HashTable<Id>,
    hasher: RandomState,
}

// Not derived: that would ask for T: Default.
impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<T: Eq + Hash> Interned<T> {
    /// The number of `value`, one use more; and whether the value is new.
    pub(super) fn hold_value(&mut self, value: T) -> (Id, bool) {
        let hash = self.hasher.hash_one(&value);
        let known = self.index.find(hash, |id| self.get(*id) == Some(&value));
        if let Some(id) = known.copied() {
            self.hold(id);
            return (id, false);
        }
        let held = Held {
            value: Some(value),
            uses: 1,
        };
        let id = if let Some(id) = self.free.pop() {
            self.places[id.0 as usize] = held;
            id
        } else {
            let id = Id(u32::try_from(self.places.len()).expect("fewer than 2^32 values"));
            self.places.push(held);
            id
        };
        let (places, hasher) = (&self.places, &self.hasher);
        self.index.insert_unique(hash, id, |id| {
            let value = places[id.0 as usize].value.as_ref();
            value.map_or(0, |value| hasher.hash_one(value))
        });
        (id, true)
    }

    /// One use more.
    pub(super) fn hold(&mut self, id: Id) {
        self.places[id.0 as usize].uses += 1;
    }

    /// One use less. After the last one the value comes back, and its number can be another's.
    pub(super) fn release(&mut self, id: Id) -> Option<T> {
        let held = &mut self.places[id.0 as usize];
        held.uses -= 1;
        if held.uses > 0 {
            return None;
        }
        let value = held.value.take()?;
        let hash = self.hasher.hash_one(&value);
        if let Ok(entry) = self.index.find_entry(hash, |held| *held == id) {
            entry.remove();
        }
        self.free.push(id);
        Some(value)
    }

    /// The value, while it is in use.
    pub(super) fn get(&self, id: Id) -> Option<&T> {
        self.places[id.0 as usize].value.as_ref()
    }

    /// How many values are in use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_number_while_it_is_used() {
        let mut words = Interned::default();
        let (one, new) = words.hold_value("one");
        assert!(new);
        assert_eq!(words.hold_value("one"), (one, false));
        let (two, _) = words.hold_value("two");
        assert_ne!(one, two);
        assert_eq!(words.release(one), None);
        assert_eq!(words.release(one), Some("one"));
        assert_eq!((words.get(one), words.len()), (None, 1));
        assert_eq!(
            words.hold_value("three"),
            (one, true),
            "the place is used again"
        );
        assert_eq!(words.get(two), Some(&"two"));
    }

    #[test]
    fn many_values_stay_apart() {
        let mut numbers = Interned::default();
        let ids: Vec<Id> = (0..1000)
            .map(|number| numbers.hold_value(number).0)
            .collect();
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(numbers.get(*id), Some(&number));
            assert_eq!(numbers.hold_value(number), (*id, false));
        }
    }
}
