//! All pools that are known, and whether those are all there are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use thiserror::Error;

use crate::pool::Pool;

/// Why a pool can't stand beside the others.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolSetError {
    /// Two pools have the same name.
    #[error("there are two pools with the name {name}: rename one of them")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Two pools have addresses in common.
    #[error(
        "pools {pool} and {other} overlap in {first}-{last}: remove these addresses from one \
        of them"
    )]
    Overlap {
        /// The pool that was to be added.
        pool: String,
        /// The pool that is there already.
        other: String,
        /// The first address both have.
        first: IpAddr,
        /// The last address of the same stretch.
        last: IpAddr,
    },
}

/// The pools that are known. Their order of insertion makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolSet {
    pools: BTreeMap<String, Pool>,
    /// First address of every entry, to its last address and its pool. They don't overlap.
    entries: BTreeMap<IpAddr, (IpAddr, String)>,
    complete: bool,
}

impl PoolSet {
    /// Puts pools together. `complete` says that a consistent list of pools was read and that
    /// every pool in it is here, in its present or (frozen) last good value. While it is false an
    /// address outside these pools is kept, see the crate's documentation.
    ///
    /// # Errors
    /// [`PoolSetError`], naming the two pools that don't go together.
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
    /// [`PoolSetError`] if it doesn't go together with one that is there; the set is unchanged.
    pub fn insert(&mut self, pool: Pool) -> Result<(), PoolSetError> {
        if self.pools.contains_key(pool.name()) {
            return Err(PoolSetError::DuplicateName {
                name: pool.name().to_owned(),
            });
        }
        for span in pool.entries() {
            // Entries don't overlap, so the last that starts at or before our end is the only one
            // that can reach into ours, or all between reach too.
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

    /// Says whether these are all pools there are, see [`PoolSet::new`].
    pub fn set_complete(&mut self, complete: bool) {
        self.complete = complete;
    }

    /// Whether these are all pools there are.
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

    /// All pools, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// Whether there is no pool.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }
}
