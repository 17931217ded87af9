//! What a client sees: which hosts answered it, and when none or several did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ferrolb_layer2::mac::Mac;

use crate::world::ASKS;

/// Who answered in each period of [`ASKS`].
pub(crate) struct Answers {
    pub(crate) periods: BTreeMap<u128, BTreeSet<Mac>>,
    pub(crate) total: u128,
}

impl Answers {
    /// The longest time in which several hosts answered.
    pub(crate) fn several(&self) -> Duration {
        self.longest(|macs| macs.is_some_and(|macs| macs.len() > 1))
    }

    /// The longest time in which no host answered.
    pub(crate) fn none(&self) -> Duration {
        self.longest(|macs| macs.is_none())
    }

    fn longest(&self, counts: impl Fn(Option<&BTreeSet<Mac>>) -> bool) -> Duration {
        let (mut longest, mut current) = (0, 0);
        for period in 0..self.total {
            current = if counts(self.periods.get(&period)) {
                current + 1
            } else {
                0
            };
            longest = longest.max(current);
        }
        ASKS * longest
    }
}
