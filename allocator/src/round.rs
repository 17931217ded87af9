//! One round of decisions: who is asked, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::assign::Allocator;
use crate::ledger::Seniority;
use crate::reason::Outcome;
use crate::request::{Request, ServiceKey};

/// Whether it holds nothing, whether it asks for nothing by number, its age: those that hold
/// addresses are asked first, among them those that ask by number, then the oldest.
type Rank = (bool, bool, Seniority);

/// The services that are asked in one round of decisions, in the order of their ranks. A service
/// that has to be asked again after its turn is asked in the next sweep. The round ends, because
/// a service that has what it wants is asked again only when it has to give an address up.
#[derive(Debug, Default)]
pub(crate) struct Round {
    due: BTreeSet<Rank>,
    /// The rank of each service stays what it was at first in this round.
    ranks: BTreeMap<ServiceKey, Rank>,
    outcomes: BTreeMap<Rank, Outcome>,
    last: Option<Rank>,
    /// Whether all services that wait were added.
    asked_all: bool,
    /// Those that were decided since they were last added.
    tried: Vec<ServiceKey>,
}

impl Round {
    /// Adds a service that has to be asked, or asked again.
    pub(crate) fn add(&mut self, allocator: &Allocator, request: &Arc<Request>) {
        let rank = self
            .ranks
            .entry(request.service.clone())
            .or_insert_with(|| {
                let holds_nothing = allocator.held(&request.service).is_empty();
                let asks = request.asks_by_number();
                (holds_nothing, !asks, Seniority::of(request))
            });
        self.due.insert(rank.clone());
    }

    /// The services among those that wait that have not been added since they were last decided.
    pub(crate) fn waiting_again(&mut self, waiting: &BTreeSet<ServiceKey>) -> Vec<ServiceKey> {
        let tried = std::mem::take(&mut self.tried);
        if std::mem::replace(&mut self.asked_all, true) {
            let waits = |key: &ServiceKey| waiting.contains(key);
            tried.into_iter().filter(waits).collect()
        } else {
            waiting.iter().cloned().collect()
        }
    }

    /// The next service to ask.
    pub(crate) fn next(&mut self) -> Option<Arc<Request>> {
        let after = self.last.as_ref().and_then(|last| {
            let after = (Bound::Excluded(last), Bound::Unbounded);
            self.due.range(after).next().cloned()
        });
        let rank = after.or_else(|| self.due.first().cloned())?;
        self.due.remove(&rank);
        let request = Arc::clone(rank.2.request());
        self.last = Some(rank);
        Some(request)
    }

    /// Takes down what became of a service. One that was asked in vain again keeps the outcome
    /// that it had, whose reason says more.
    pub(crate) fn decided(&mut self, service: &ServiceKey, outcome: Outcome) {
        self.tried.push(service.clone());
        let Some(rank) = self.ranks.get(service) else {
            return;
        };
        let before = self.outcomes.get(rank);
        if before.is_none_or(|before| before.addresses() != outcome.addresses()) {
            self.outcomes.insert(rank.clone(), outcome);
        }
    }

    /// What became of every service that was asked, in the order of their ranks.
    pub(crate) fn into_outcomes(self) -> Vec<(ServiceKey, Outcome)> {
        let outcomes = self.outcomes.into_iter();
        outcomes
            .map(|((.., who), outcome)| (who.request().service.clone(), outcome))
            .collect()
    }
}
