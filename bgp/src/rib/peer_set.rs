//! Sets of peers as bits, and small maps from peers to values that many of them share.

use super::PeerIndex;

/// A set of peers. The first 64 need no allocation.
#[derive(Clone, Debug, Default)]
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
        let held = self.word(word) & bit != 0;
        if held {
            *self.word_mut(word) &= !bit;
        }
        held
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == 0 && self.rest.iter().all(|word| *word == 0)
    }

    /// How many words hold bits; [`word`](Self::word) is zero from there on.
    pub(super) fn words(&self) -> usize {
        1 + self.rest.len()
    }

    pub(super) fn word(&self, index: usize) -> u64 {
        match index.checked_sub(1) {
            None => self.first,
            Some(index) => self.rest.get(index).copied().unwrap_or(0),
        }
    }

    /// Keeps, word by word, the members that `mask` names.
    pub(super) fn retain(&mut self, mask: impl Fn(usize) -> u64) {
        self.first &= mask(0);
        for (index, word) in self.rest.iter_mut().enumerate() {
            *word &= mask(index + 1);
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

/// A map from peers to values. It costs per different value, and one bit per peer.
#[derive(Clone, Debug)]
pub(super) struct PeerMap<V>(Vec<(V, PeerSet)>);

// Not derived: that would ask for V: Default.
impl<V> Default for PeerMap<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: PartialEq> PeerMap<V> {
    pub(super) fn get(&self, peer: PeerIndex) -> Option<&V> {
        self.0
            .iter()
            .find(|(_, peers)| peers.contains(peer))
            .map(|(value, _)| value)
    }

    /// Puts `value` in the place of whatever `peer` had, and says whether it had anything.
    pub(super) fn insert(&mut self, peer: PeerIndex, value: V) -> bool {
        let had = self.remove(peer);
        if let Some((_, peers)) = self.0.iter_mut().find(|(held, _)| *held == value) {
            peers.insert(peer);
        } else {
            let mut peers = PeerSet::default();
            peers.insert(peer);
            // Nearly all prefixes have one value: don't let the first push reserve room for four.
            self.0.reserve_exact(1);
            self.0.push((value, peers));
        }
        had
    }

    /// Takes away what `peer` had, and says whether it had anything.
    pub(super) fn remove(&mut self, peer: PeerIndex) -> bool {
        let Some(at) = self.0.iter_mut().position(|(_, peers)| peers.remove(peer)) else {
            return false;
        };
        if self.0[at].1.is_empty() {
            self.0.swap_remove(at);
        }
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(value, _)| value)
    }

    /// Word `index` of the set of peers that have a value `wanted` agrees to.
    pub(super) fn word(&self, index: usize, wanted: impl Fn(&V) -> bool) -> u64 {
        let chosen = self.0.iter().filter(|(value, _)| wanted(value));
        chosen.fold(0, |bits, (_, peers)| bits | peers.word(index))
    }

    /// How many words [`word`](Self::word) may find bits in.
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
        assert!(!set.contains(PeerIndex(100_000)), "asking doesn't grow");
        set.retain(|word| if word == 1 { 0 } else { u64::MAX });
        assert!(!set.contains(PeerIndex(64)));
        assert!(!set.remove(PeerIndex(64)));
        for index in [0, 63, 200] {
            assert!(set.remove(PeerIndex(index)));
        }
        assert!(set.is_empty());
    }

    #[test]
    fn below_holds_exactly_the_first() {
        let set = PeerSet::below(65);
        assert!(set.contains(PeerIndex(64)) && !set.contains(PeerIndex(65)));
        assert!(PeerSet::below(0).is_empty());
    }

    #[test]
    fn a_map_holds_one_value_per_peer_and_no_empty_sets() {
        let mut map = PeerMap::default();
        assert!(!map.insert(PeerIndex(1), "a"));
        assert!(!map.insert(PeerIndex(70), "a"));
        assert!(map.insert(PeerIndex(1), "b"));
        assert_eq!(map.get(PeerIndex(1)), Some(&"b"));
        assert_eq!(map.get(PeerIndex(70)), Some(&"a"));
        assert_eq!(map.get(PeerIndex(2)), None);
        assert_eq!(map.word(0, |_| true), 1 << 1);
        assert_eq!(map.word(1, |value| *value == "a"), 1 << 6);
        assert_eq!(map.words(), 2);
        assert!(map.remove(PeerIndex(70)));
        assert_eq!(map.values().collect::<Vec<_>>(), [&"b"]);
        assert!(map.remove(PeerIndex(1)) && !map.remove(PeerIndex(1)));
        assert!(map.is_empty());
    }
}
