//! Whether the API server is there, said once when it goes and once when it comes back.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use std::hash::{BuildHasher, RandomState};

/// What several watches know together about the API server.
#[derive(Debug, Default)]
pub(super) struct Reach {
    failing: Mutex<BTreeSet<&'static str>>,
}

impl Reach {
    /// A watch got no answer.
    pub(super) fn lost(&self, watch: &'static str, cause: &str) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.is_empty() {
            tracing::warn!(
                watch,
                cause,
                "the API server does not answer: what is known stays in force; trying again"
            );
        }
        failing.insert(watch);
    }

    /// A watch got an answer.
    pub(super) fn answered(&self, watch: &'static str) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.remove(watch) && failing.is_empty() {
            tracing::info!("the API server answers again");
        }
    }
}

/// Delays between attempts: doubling, up to a limit, and each a little random so that a fleet does not knock as one.
#[derive(Debug)]
pub(super) struct Delays {
    next: Duration,
    random: RandomState,
    count: u32,
}

impl Delays {
    const FIRST: Duration = Duration::from_millis(500);
    const LAST: Duration = Duration::from_secs(8);

    /// Begins with the shortest.
    pub(super) fn new() -> Self {
        Self {
            next: Self::FIRST,
            random: RandomState::new(),
            count: 0,
        }
    }

    /// Something worked: the next failure waits the shortest time again.
    pub(super) fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// How long to wait now: between half and all of the current step.
    pub(super) fn next(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(Self::LAST);
        self.count = self.count.wrapping_add(1);
        let chance = u32::from(self.random.hash_one(self.count).to_le_bytes()[0]);
        step / 2 + step / 512 * chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_start_over() {
        let mut delays = Delays::new();
        let waited: Vec<Duration> = (0..20).map(|_| delays.next()).collect();
        assert!(waited[0] >= Delays::FIRST / 2 && waited[0] <= Delays::FIRST);
        assert!(
            waited[10..]
                .iter()
                .all(|wait| *wait >= Delays::LAST / 2 && *wait <= Delays::LAST)
        );
        delays.reset();
        assert!(delays.next() <= Delays::FIRST);
    }
}
