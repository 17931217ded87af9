//! Batches: the changes between two versions of the table, in transmission order.

use std::collections::HashMap;

use super::Route;
use super::table::{PrefixState, RouteChange, Slot, Table};
use crate::wire::Family;

/// Consecutive changes of a batch that can share an UPDATE.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) change: RouteChange,
    /// The announced route; `None` for a withdrawal.
    pub(super) route: Option<Route>,
    pub(super) family: Family,
    /// Position in the batch at which the next run starts.
    pub(super) end: usize,
}

/// The changes between two versions. Their order fills each UPDATE with as many prefixes as
/// possible: withdrawals first, then by family, attributes and prefix.
///
/// The initial table of a session is the batch that starts at version 0. Sessions with the same
/// start version share a batch. An entry that changes again before it is sent is skipped: it is
/// part of the next batch.
#[derive(Debug)]
pub(super) struct Batch {
    /// Unique, unlike (from, to), which can be equal for two batches of different contents.
    pub(super) id: u64,
    /// Latest version in the batch.
    pub(super) to: u64,
    /// Send announcements even if the peer has already received them.
    pub(super) repeat: bool,
    pub(super) runs: Vec<Run>,
    pub(super) slots: Vec<Slot>,
}

impl Batch {
    /// All changes after version `from`. With `refresh`, all announcements of that family among
    /// them, even those already sent.
    pub(super) fn new(id: u64, table: &Table, from: u64, refresh: Option<Family>) -> Self {
        let repeat = refresh.is_some();
        let mut groups = Groups::default();
        for (slot, entry) in table.changed_after(from) {
            let family = Family::of(&entry.prefix);
            if refresh.is_none_or(|refresh| refresh == family) {
                groups.add(table, slot, entry.state, family, repeat);
            }
        }
        let mut groups: Vec<_> = groups
            .groups
            .into_iter()
            .map(|(change, family, slots)| {
                let route = match change {
                    RouteChange::Withdraw => None,
                    RouteChange::Announce(id) => table.route(id).cloned(),
                };
                (route, family, change, slots)
            })
            .collect();
        // This is the order on the wire: withdrawals first.
        groups.sort_by(|a, b| {
            let family = |family: Family| (family.afi.0, family.safi.0);
            (a.0.is_some(), family(a.1), &a.0).cmp(&(b.0.is_some(), family(b.1), &b.0))
        });
        let mut batch = Self {
            id,
            to: table.version(),
            repeat,
            runs: Vec::with_capacity(groups.len()),
            slots: Vec::new(),
        };
        for (route, family, change, mut slots) in groups {
            // The messages must not depend on the order of `set` calls.
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

    /// Index of the run that contains `position`.
    pub(super) fn run_at(&self, position: usize) -> usize {
        self.runs.partition_point(|run| run.end <= position)
    }
}

/// Slots grouped by change and family.
#[derive(Default)]
struct Groups {
    groups: Vec<(RouteChange, Family, Vec<Slot>)>,
    index: HashMap<(RouteChange, Family), usize>,
    /// The last lookup and its result: neighbors in the table mostly have the same state.
    last: Option<(PrefixState, Family)>,
    targets: Vec<usize>,
}

impl Groups {
    fn add(&mut self, table: &Table, slot: Slot, state: PrefixState, family: Family, repeat: bool) {
        if self.last != Some((state, family)) {
            self.last = Some((state, family));
            self.targets.clear();
            for change in table.changes(state) {
                if repeat && change == RouteChange::Withdraw {
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
