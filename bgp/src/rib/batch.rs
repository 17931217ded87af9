//! Changes in the order in which they are told.

use std::collections::HashMap;

use super::Route;
use super::table::{Change, Slot, State, Table};
use crate::wire::Family;

/// Neighbouring changes of a batch that can share an UPDATE.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) change: Change,
    /// What is announced; `None` withdraws.
    pub(super) route: Option<Route>,
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
    /// What a peer was told already is told again.
    pub(super) repeat: bool,
    pub(super) runs: Vec<Run>,
    pub(super) slots: Vec<Slot>,
}

impl Batch {
    /// All changes after version `from`; or of a family what is announced, whether it was told or not.
    pub(super) fn new(id: u64, table: &Table, from: u64, again: Option<Family>) -> Self {
        let mut groups = Groups::default();
        for (slot, entry) in table.changed_after(from) {
            let family = Family::of(&entry.prefix);
            if again.is_none_or(|again| again == family) {
                groups.add(table, slot, entry.state, family, again.is_some());
            }
        }
        let mut groups: Vec<_> = groups
            .groups
            .into_iter()
            .map(|(change, family, slots)| {
                let route = match change {
                    Change::Withdraw => None,
                    Change::Announce(id) => table.route(id).cloned(),
                };
                (route, family, change, slots)
            })
            .collect();
        // The order is the one on the wire: nothing is withdrawn first.
        groups.sort_by(|a, b| {
            let family = |family: Family| (family.afi.0, family.safi.0);
            let early = |route: &Option<Route>| route.is_some();
            (early(&a.0), family(a.1), &a.0).cmp(&(early(&b.0), family(b.1), &b.0))
        });
        let mut batch = Self {
            id,
            to: table.version(),
            repeat: again.is_some(),
            runs: Vec::with_capacity(groups.len()),
            slots: Vec::new(),
        };
        for (route, family, change, mut slots) in groups {
            // What is sent shall not depend on the order in which it was set.
            slots.sort_unstable_by_key(|slot| *table.prefix(*slot));
            if batch.slots.is_empty() {
                batch.slots = slots;
            } else {
                batch.slots.append(&mut slots);
            }
            batch.runs.push(Run {
                change,
                route,
                family,
                end: batch.slots.len(),
            });
        }
        batch.slots.shrink_to_fit();
        batch
    }

    /// The run that `position` lies in, as an index into `runs`.
    pub(super) fn run_at(&self, position: usize) -> usize {
        self.runs.partition_point(|run| run.end <= position)
    }
}

/// Slots by what is told of them.
#[derive(Default)]
struct Groups {
    groups: Vec<(Change, Family, Vec<Slot>)>,
    index: HashMap<(Change, Family), usize>,
    /// Where the last one went: the next probably goes there too.
    last: Option<(State, Family)>,
    targets: Vec<usize>,
}

impl Groups {
    fn add(&mut self, table: &Table, slot: Slot, state: State, family: Family, repeat: bool) {
        if self.last != Some((state, family)) {
            self.last = Some((state, family));
            self.targets.clear();
            for change in table.changes(state) {
                if repeat && change == Change::Withdraw {
                    continue;
                }
                let groups = &mut self.groups;
                let group = self.index.entry((change, family)).or_insert_with(|| {
                    groups.push((change, family, Vec::new()));
                    groups.len() - 1
                });
                self.targets.push(*group);
            }
        }
        for target in &self.targets {
            self.groups[*target].2.push(slot);
        }
    }
}
