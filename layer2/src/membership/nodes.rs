//! Names of nodes as small numbers.

use std::collections::HashMap;
use std::sync::Arc;

/// A node, as a number that is valid within one [`Nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// This node.
    pub(crate) const US: Self = Self(0);
    /// Another process of this node, received on the loopback interface.
    pub(crate) const SIBLING: Self = Self(1);

    /// The node with an index in arrays with one element per node.
    pub(crate) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Its index in arrays with one element per node.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All nodes that were ever named. The number of a node never changes.
#[derive(Debug)]
pub(crate) struct Nodes {
    names: Vec<Arc<str>>,
    hashes: Vec<u64>,
    ids: HashMap<Arc<str>, NodeId>,
}

impl Nodes {
    /// A table that contains this node.
    pub(crate) fn new(us: Arc<str>) -> Self {
        let hash = text_hash(&us);
        Self {
            names: vec![us.clone(), us.clone()],
            hashes: vec![hash, hash],
            ids: HashMap::from([(us, NodeId::US)]),
        }
    }

    /// The number of a node, which is added if it is new.
    pub(crate) fn intern(&mut self, name: &Arc<str>) -> NodeId {
        if let Some(id) = self.get(name) {
            return id;
        }
        let id = NodeId::from_index(self.names.len());
        self.names.push(name.clone());
        self.hashes.push(text_hash(name));
        self.ids.insert(name.clone(), id);
        id
    }

    /// The number of a node.
    pub(crate) fn get(&self, name: &str) -> Option<NodeId> {
        self.ids.get(name).copied()
    }

    /// The name of a node.
    pub(crate) fn name(&self, id: NodeId) -> Arc<str> {
        self.names.get(id.index()).cloned().unwrap_or_default()
    }

    /// The hash of its name, equal on all nodes.
    pub(crate) fn hash(&self, id: NodeId) -> u64 {
        self.hashes.get(id.index()).copied().unwrap_or_default()
    }

    /// All of them, this node and its sibling included.
    pub(crate) fn all(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.names.len()).map(NodeId::from_index)
    }

    /// The other nodes.
    pub(crate) fn others(&self) -> impl Iterator<Item = NodeId> + use<> {
        self.all()
            .filter(|node| *node != NodeId::US && *node != NodeId::SIBLING)
    }
}

/// The first eight octets of the SHA-256 of a text.
pub(crate) fn text_hash(text: &str) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut octets = [0; 8];
    octets
        .iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(octets)
}

/// Distributes the bits of a number over all bits of the result (the finalizer of SplitMix64).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
