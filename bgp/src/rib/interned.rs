//! Interning: stores each distinct value once, with a reference count.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

/// Number of a value in its [`Interned`]. Equal numbers mean equal values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u32);

#[derive(Debug)]
struct Place<T> {
    /// `None` if the place is free.
    value: Option<T>,
    uses: u32,
}

/// Reference-counted values by number.
#[derive(Debug)]
pub(super) struct Interned<T> {
    places: Vec<Place<T>>,
    free: Vec<Id>,
    index: HashTable<Id>,
    hasher: RandomState,
}

// Not derived: the derive would require T: Default.
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
    /// Adds a use of `value`. Returns its number and whether the value is new.
    pub(super) fn intern(&mut self, value: T) -> (Id, bool) {
        let hash = self.hasher.hash_one(&value);
        let known = self.index.find(hash, |id| self.get(*id) == Some(&value));
        if let Some(id) = known.copied() {
            self.retain(id);
            return (id, false);
        }
        let place = Place {
            value: Some(value),
            uses: 1,
        };
        let id = if let Some(id) = self.free.pop() {
            self.places[id.0 as usize] = place;
            id
        } else {
            let id = Id(u32::try_from(self.places.len()).expect("fewer than 2^32 values"));
            self.places.push(place);
            id
        };
        let (places, hasher) = (&self.places, &self.hasher);
        self.index.insert_unique(hash, id, |id| {
            let value = places[id.0 as usize].value.as_ref();
            value.map_or(0, |value| hasher.hash_one(value))
        });
        (id, true)
    }

    /// Adds a use.
    pub(super) fn retain(&mut self, id: Id) {
        self.places[id.0 as usize].uses += 1;
    }

    /// Removes a use. Removes and returns the value after its last use; its number may then be
    /// reused.
    pub(super) fn release(&mut self, id: Id) -> Option<T> {
        let place = &mut self.places[id.0 as usize];
        place.uses -= 1;
        if place.uses > 0 {
            return None;
        }
        let value = place.value.take()?;
        let hash = self.hasher.hash_one(&value);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        self.free.push(id);
        Some(value)
    }

    /// The value; `None` if it is not in use.
    pub(super) fn get(&self, id: Id) -> Option<&T> {
        self.places[id.0 as usize].value.as_ref()
    }

    /// Number of values in use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_number_while_it_is_in_use() {
        let mut words = Interned::default();
        let (one, new) = words.intern("one");
        assert!(new);
        assert_eq!(words.intern("one"), (one, false));
        let (two, _) = words.intern("two");
        assert_ne!(one, two);
        assert_eq!(words.release(one), None);
        assert_eq!(words.release(one), Some("one"));
        assert_eq!((words.get(one), words.len()), (None, 1));
        assert_eq!(words.intern("three"), (one, true), "the number is reused");
        assert_eq!(words.get(two), Some(&"two"));
    }

    #[test]
    fn distinct_values_have_distinct_numbers() {
        let mut numbers = Interned::default();
        let ids: Vec<Id> = (0..1000).map(|number| numbers.intern(number).0).collect();
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(numbers.get(*id), Some(&number));
            assert_eq!(numbers.intern(number), (*id, false));
        }
    }
}
