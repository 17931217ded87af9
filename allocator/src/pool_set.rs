//! The set of pools, which must not overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use thiserror::Error;

use crate::pool::Pool;

/// Separates the names of two pools. No name contains it.
const SEPARATOR: &str = ",";

/// The names of the pools in [`crate::Outcome::pool`] or
/// [`crate::AllocationRequest::current_pool`]: one for all addresses, or one for each.
pub fn pool_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(SEPARATOR).map(str::trim)
}

/// Why a pool can't be added to a set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolSetError {
    /// Two pools have the same name.
    #[error("there are two pools named {name}: rename one of them")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Two pools overlap.
    #[error(
        "pools {pool} and {other} overlap in {first}-{last}: remove these addresses from one \
        of them"
    )]
    Overlap {
        /// The pool to be added.
        pool: String,
        /// The pool in the set.
        other: String,
        /// The first address of the overlap.
        first: IpAddr,
        /// The last address of the overlap.
        last: IpAddr,
    },
}

/// The known pools. The order of insertion does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolSet {
    pools: BTreeMap<String, Pool>,
    /// The last address and the pool of each entry, by first address. Entries don't overlap.
    entries: BTreeMap<IpAddr, (IpAddr, String)>,
    /// The names of pools that exist and whose definition is not in the set.
    refused: BTreeSet<String>,
    complete: bool,
}

impl PoolSet {
    /// Builds a set. `complete` states that a consistent list of pools was read and that the set
    /// contains every pool of the list, in its current or its last valid definition. In an
    /// incomplete set, services keep addresses that are in none of the pools; see the crate's
    /// documentation.
    ///
    /// # Errors
    /// [`PoolSetError`], naming the two pools that conflict.
    pub fn new(
        pools: impl IntoIterator<Item = Pool>,
        complete: bool,
    ) -> Result<Self, PoolSetError> {
        let mut set = Self {
            complete,
            ..Self::default()
        };
        for pool in pools {
            set.insert(pool)?;
        }
        Ok(set)
    }

    /// Adds a pool.
    ///
    /// # Errors
    /// [`PoolSetError`] if the pool conflicts with one in the set, which is then unchanged.
    pub fn insert(&mut self, pool: Pool) -> Result<(), PoolSetError> {
        if self.pools.contains_key(pool.name()) {
            return Err(PoolSetError::DuplicateName {
                name: pool.name().to_owned(),
            });
        }
        for span in pool.entries() {
            // Entries don't overlap. So if any entry overlaps this span, then the last entry that
            // starts at or before the end of the span does.
            if let Some((&first, (last, other))) = self.entries.range(..=span.last).next_back()
                && *last >= span.first
            {
                return Err(PoolSetError::Overlap {
                    pool: pool.name().to_owned(),
                    other: other.clone(),
                    first: first.max(span.first),
                    last: (*last).min(span.last),
                });
            }
        }
        for span in pool.entries() {
            self.entries
                .insert(span.first, (span.last, pool.name().to_owned()));
        }
        self.pools.insert(pool.name().to_owned(), pool);
        Ok(())
    }

    /// Notes a pool that exists, but that can't be in the set, for instance because it overlaps
    /// another one. Its services keep their addresses, also those that a pool of the set contains.
    /// Another pool in the set may have its name.
    pub fn refuse(&mut self, name: &str) {
        self.refused.insert(name.to_owned());
    }

    /// Whether a pool of this name is refused.
    pub(crate) fn is_refused(&self, name: &str) -> bool {
        self.refused.contains(name)
    }

    /// Sets whether the set is complete, see [`PoolSet::new`].
    pub fn set_complete(&mut self, complete: bool) {
        self.complete = complete;
    }

    /// Whether the set is complete, see [`PoolSet::new`].
    #[must_use]
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// The pool with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name)
    }

    /// The pool that contains the address.
    #[must_use]
    pub fn containing(&self, address: IpAddr) -> Option<&Pool> {
        let (_, (last, name)) = self.entries.range(..=address).next_back()?;
        if *last >= address {
            self.pools.get(name)
        } else {
            None
        }
    }

    /// The name of the pool that contains all of the addresses. If no single pool does: the name of
    /// the pool of each address, in the order of the addresses, separated by [`SEPARATOR`]. `None`
    /// if an address is in no pool.
    pub(crate) fn names_of(&self, addresses: &[IpAddr]) -> Option<String> {
        let pools = addresses.iter().map(|address| self.containing(*address));
        let names: Vec<&str> = pools
            .map(|pool| pool.map(Pool::name))
            .collect::<Option<_>>()?;
        let (first, others) = names.split_first()?;
        Some(if others.iter().all(|other| other == first) {
            (*first).to_owned()
        } else {
            names.join(SEPARATOR)
        })
    }

    /// All pools, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// Whether the set has no pool.
    pub(crate) fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }
}
