//! Changes in the order in which they are told.

use std::collections::BTreeMap;

use super::table::{Change, Slot, Table};
use crate::wire::Family;

/// Neighbouring changes of a batch that can share an UPDATE.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) change: Change,
    pub(super) family: Family,
    /// Where the next run begins.
    pub(super) end: usize,
}

/// What changed between two versions, so ordered that one UPDATE carries as many prefixes as fit:
/// withdrawals first, then by family, attributes and prefix.
///
/// A new session's dump is the batch that begins at version 0. Sessions that begin at the same
/// version share one. An entry that changes later is passed over; it is in the batch that follows.
#[derive(Debug)]
pub(super) struct Batch {
    /// Unlike (from, to) never the same for two batches of different content.
    pub(super) id: u64,
    /// The youngest version in it.
    pub(super) to: u64,
    pub(super) runs: Vec<Run>,
    pub(super) slots: Vec<Slot>,
}

impl Batch {
    /// All changes after version `from`.
    pub(super) fn new(id: u64, table: &Table, from: u64) -> Self {
        // The order is the one on the wire.
        let mut groups: BTreeMap<_, Vec<Slot>> = BTreeMap::new();
        for (slot, entry) in table.changed_after(from) {
            let family = Family::of(&entry.prefix);
            for change in entry.changes() {
                let key = (
                    change != Change::Withdraw,
                    (family.afi.0, family.safi.0),
                    change,
                );
                groups.entry(key).or_default().push(slot);
            }
        }
        let mut batch = Self {
            id,
            to: table.version(),
            runs: Vec::with_capacity(groups.len()),
            slots: Vec::new(),
        };
        for ((_, _, change), mut slots) in groups {
            // What is sent shall not depend on the order in which it was set.
            slots.sort_unstable_by_key(|slot| *table.prefix(*slot));
            let family = Family::of(table.prefix(slots[0]));
            batch.slots.append(&mut slots);
            batch.runs.push(Run {
                change,
                family,
                end: batch.slots.len(),
            });
        }
        batch
    }

    /// The run that `position` lies in, as an index into `runs`.
    pub(super) fn run_at(&self, position: usize) -> usize {
        self.runs.partition_point(|run| run.end <= position)
    }
}
