//! Which node owns which address, as hellos say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Bound;

use crate::config::Time;
use crate::membership::{Digest, NodeId};
use crate::wire::hello::Claim;

/// The best claim of an address, or the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The owner, unless it released the address.
    pub(crate) owner: Option<NodeId>,
    /// The epoch of the claim: the highest that was ever seen.
    pub(crate) epoch: u64,
    /// Since when.
    pub(crate) since: Time,
}

/// The best claim of each address.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    entries: BTreeMap<IpAddr, Entry>,
    by_node: BTreeSet<(NodeId, IpAddr)>,
    shares: Vec<Digest>,
}

/// Sorts before all other addresses.
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Claims {
    /// The best or last claim of an address.
    pub(crate) fn get(&self, address: IpAddr) -> Option<Entry> {
        self.entries.get(&address).copied()
    }

    /// The owner of an address.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<NodeId> {
        self.get(address)?.owner
    }

    /// The highest epoch of an address that was ever seen, or 0.
    pub(crate) fn epoch(&self, address: IpAddr) -> u64 {
        self.get(address).map_or(0, |entry| entry.epoch)
    }

    /// The claim of an address, as hellos contain it.
    pub(crate) fn wire(&self, address: IpAddr) -> Claim {
        Claim {
            address,
            epoch: self.epoch(address),
        }
    }

    /// Replaces the claim of an address.
    pub(crate) fn set(&mut self, address: IpAddr, owner: NodeId, epoch: u64, since: Time) {
        self.release(since, address);
        let entry = Entry {
            owner: Some(owner),
            epoch,
            since,
        };
        self.entries.insert(address, entry);
        self.by_node.insert((owner, address));
        self.share_mut(owner).add(address, epoch);
    }

    /// The address has no owner. Its epoch is remembered.
    pub(crate) fn release(&mut self, now: Time, address: IpAddr) {
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        let epoch = entry.epoch;
        if let Some(owner) = entry.owner.take() {
            entry.since = now;
            self.by_node.remove(&(owner, address));
            self.share_mut(owner).remove(address, epoch);
        }
    }

    /// An epoch was used for an address that has no owner.
    pub(crate) fn remember(&mut self, address: IpAddr, epoch: u64, since: Time) {
        let entry = self.entries.entry(address).or_insert(Entry {
            owner: None,
            epoch,
            since,
        });
        if entry.owner.is_none() {
            entry.epoch = entry.epoch.max(epoch);
        }
    }

    /// Removes an address that no longer exists, unless a node claims it.
    pub(crate) fn forget(&mut self, address: IpAddr) {
        if self.owner(address).is_none() {
            self.entries.remove(&address);
        }
    }

    /// The addresses of a node, sorted.
    pub(crate) fn of(&self, node: NodeId) -> impl Iterator<Item = IpAddr> + '_ {
        self.after(node, None)
    }

    /// The addresses of a node that sort after one.
    pub(crate) fn after(
        &self,
        node: NodeId,
        address: Option<IpAddr>,
    ) -> impl Iterator<Item = IpAddr> + '_ {
        let from = match address {
            Some(address) => Bound::Excluded((node, address)),
            None => Bound::Included((node, FIRST)),
        };
        self.by_node
            .range((from, Bound::Unbounded))
            .take_while(move |(owner, _)| *owner == node)
            .map(|(_, address)| *address)
    }

    /// The number and the digest of the claims of a node.
    pub(crate) fn share(&self, node: NodeId) -> Digest {
        self.shares.get(node.index()).copied().unwrap_or_default()
    }

    fn share_mut(&mut self, node: NodeId) -> &mut Digest {
        let needed = node.index() + 1;
        if self.shares.len() < needed {
            self.shares.resize(needed, Digest::default());
        }
        // The vector was extended to contain the index.
        &mut self.shares[node.index()]
    }
}

/// What other nodes are about to claim, and until when that counts.
#[derive(Debug, Default)]
pub(crate) struct Intents(BTreeMap<IpAddr, (NodeId, Time)>);

/// An intent is repeated in each hello. After this time without one, and three intervals of the
/// sender's hellos, it is over.
pub(crate) const INTENT_LIFE: Time = Time::from_millis(1_500);

impl Intents {
    /// The node that is about to claim an address.
    pub(crate) fn get(&self, address: IpAddr) -> Option<NodeId> {
        self.0.get(&address).map(|(node, _)| *node)
    }

    /// A node is about to claim an address.
    pub(crate) fn set(&mut self, address: IpAddr, node: NodeId, until: Time) {
        self.0.insert(address, (node, until));
    }

    /// It claimed the address, or doesn't claim it any more.
    pub(crate) fn remove(&mut self, address: IpAddr, node: NodeId) {
        if self.get(address) == Some(node) {
            self.0.remove(&address);
        }
    }

    /// Removes those that are over, and those of other nodes than `alive`. Returns whether there
    /// were any.
    pub(crate) fn expire(&mut self, now: Time, alive: impl Fn(NodeId) -> bool) -> bool {
        let before = self.0.len();
        self.0
            .retain(|_, (node, until)| *until > now && alive(*node));
        self.0.len() < before
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (IpAddr, NodeId)> {
        self.0.iter().map(|(address, (node, _))| (*address, *node))
    }
}
