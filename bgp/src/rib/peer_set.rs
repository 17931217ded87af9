//! Bit sets of peers, and maps from peers to values that many peers share.

use super::PeerIndex;

/// A set of peers. The first 64 need no allocation. Invariant: the last word of `rest` is not zero,
/// so that equal sets have equal representations.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerSet {
    first: u64,
    rest: Box<[u64]>,
}

impl PeerSet {
    /// All peers with an index below `count`.
    pub(super) fn below(count: u32) -> Self {
        let mut set = Self::default();
        for index in 0..count {
            set.insert(PeerIndex(index));
        }
        set
    }

    pub(super) fn contains(&self, peer: PeerIndex) -> bool {
        let (word, bit) = position(peer);
        self.word(word) & bit != 0
    }

    pub(super) fn insert(&mut self, peer: PeerIndex) {
        let (word, bit) = position(peer);
        if word > self.rest.len() {
            let mut rest = std::mem::take(&mut self.rest).into_vec();
            rest.resize(word, 0);
            self.rest = rest.into_boxed_slice();
        }
        *self.word_mut(word) |= bit;
    }

    pub(super) fn remove(&mut self, peer: PeerIndex) -> bool {
        let (word, bit) = position(peer);
        let present = self.word(word) & bit != 0;
        if present {
            *self.word_mut(word) &= !bit;
            self.trim();
        }
        present
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == 0 && self.rest.iter().all(|word| *word == 0)
    }

    /// Number of stored words; [`word`](Self::word) is zero beyond.
    pub(super) fn words(&self) -> usize {
        1 + self.rest.len()
    }

    pub(super) fn word(&self, index: usize) -> u64 {
        match index.checked_sub(1) {
            None => self.first,
            Some(index) => self.rest.get(index).copied().unwrap_or(0),
        }
    }

    /// Removes the members whose bit in `mask(word)` is not set.
    pub(super) fn retain(&mut self, mask: impl Fn(usize) -> u64) {
        self.first &= mask(0);
        for (index, word) in self.rest.iter_mut().enumerate() {
            *word &= mask(index + 1);
        }
        self.trim();
    }

    fn trim(&mut self) {
        if self.rest.last() == Some(&0) {
            let mut rest = std::mem::take(&mut self.rest).into_vec();
            let used = rest.iter().rposition(|word| *word != 0);
            rest.truncate(used.map_or(0, |last| last + 1));
            self.rest = rest.into_boxed_slice();
        }
    }

    fn word_mut(&mut self, index: usize) -> &mut u64 {
        match index.checked_sub(1) {
            None => &mut self.first,
            Some(index) => &mut self.rest[index],
        }
    }
}

fn position(peer: PeerIndex) -> (usize, u64) {
    (peer.0 as usize / 64, 1 << (peer.0 % 64))
}

/// A map from peers to values. Invariant: sorted by value, without empty sets. Memory grows with
/// the number of distinct values, and by one bit per peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PeerMap<V>(Vec<(V, PeerSet)>);

// Not derived: the derive would require V: Default.
impl<V> Default for PeerMap<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Ord + Copy> PeerMap<V> {
    pub(super) fn get(&self, peer: PeerIndex) -> Option<&V> {
        self.0
            .iter()
            .find(|(_, peers)| peers.contains(peer))
            .map(|(value, _)| value)
    }

    /// Returns a copy in which `peer` has `value`.
    pub(super) fn with(&self, peer: PeerIndex, value: Option<V>) -> Self {
        // Most maps have one value; `Vec` would reserve room for four.
        let mut map = Vec::with_capacity(self.0.len() + usize::from(value.is_some()));
        map.extend(self.0.iter().cloned());
        if let Some(at) = map.iter_mut().position(|(_, peers)| peers.remove(peer))
            && map[at].1.is_empty()
        {
            map.remove(at);
        }
        if let Some(value) = value {
            match map.binary_search_by_key(&value, |(other, _)| *other) {
                Ok(at) => map[at].1.insert(peer),
                Err(at) => {
                    let mut peers = PeerSet::default();
                    peers.insert(peer);
                    map.insert(at, (value, peers));
                }
            }
        }
        map.shrink_to_fit();
        Self(map)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(value, _)| value)
    }

    /// Word `index` of the set of peers with a value that satisfies `wanted`.
    pub(super) fn word(&self, index: usize, wanted: impl Fn(&V) -> bool) -> u64 {
        let chosen = self.0.iter().filter(|(value, _)| wanted(value));
        chosen.fold(0, |bits, (_, peers)| bits | peers.word(index))
    }

    /// Number of words that may be nonzero.
    pub(super) fn words(&self) -> usize {
        self.0
            .iter()
            .map(|(_, peers)| peers.words())
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_grows_with_its_members() {
        let mut set = PeerSet::default();
        for index in [0, 63, 64, 200] {
            assert!(!set.contains(PeerIndex(index)));
            set.insert(PeerIndex(index));
            assert!(set.contains(PeerIndex(index)));
        }
        assert_eq!(set.words(), 4);
        assert!(
            !set.contains(PeerIndex(100_000)),
            "a lookup allocates nothing"
        );
        set.retain(|word| if word == 1 { 0 } else { u64::MAX });
        assert!(!set.contains(PeerIndex(64)));
        assert!(!set.remove(PeerIndex(64)));
        for index in [0, 63, 200] {
            assert!(set.remove(PeerIndex(index)));
        }
        assert!(set.is_empty());
    }

    #[test]
    fn below_contains_exactly_the_first_peers() {
        let set = PeerSet::below(65);
        assert!(set.contains(PeerIndex(64)) && !set.contains(PeerIndex(65)));
        assert!(PeerSet::below(0).is_empty());
    }

    #[test]
    fn equal_sets_have_equal_representations() {
        let mut set = PeerSet::below(3);
        for index in [64, 200] {
            set.insert(PeerIndex(index));
        }
        set.remove(PeerIndex(64));
        assert!(set.remove(PeerIndex(200)));
        assert_eq!(set, PeerSet::below(3));
        set.insert(PeerIndex(200));
        set.retain(|word| if word == 0 { u64::MAX } else { 0 });
        assert_eq!(set, PeerSet::below(3));
    }

    #[test]
    fn a_map_has_one_value_per_peer_and_no_empty_sets() {
        let with = |map: &PeerMap<&'static str>, peer, value| map.with(PeerIndex(peer), value);
        let map = with(&with(&PeerMap::default(), 1, Some("b")), 70, Some("a"));
        assert_eq!(
            map,
            with(&with(&PeerMap::default(), 70, Some("a")), 1, Some("b"))
        );
        let map = with(&with(&map, 1, Some("a")), 1, Some("b"));
        assert_eq!(map.get(PeerIndex(1)), Some(&"b"));
        assert_eq!(map.get(PeerIndex(70)), Some(&"a"));
        assert_eq!(map.get(PeerIndex(2)), None);
        assert_eq!(map.word(0, |_| true), 1 << 1);
        assert_eq!(map.word(1, |value| *value == "a"), 1 << 6);
        assert_eq!(map.words(), 2);
        let map = with(&map, 70, None);
        assert_eq!(map.values().collect::<Vec<_>>(), [&"b"]);
        assert_eq!(with(&map, 70, None), map);
        assert_eq!(with(&map, 1, None), PeerMap::default());
    }
}
