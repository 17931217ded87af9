//! One round of allocation: the order in which services are decided.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use crate::claimant::Claimant;
use crate::reason::Outcome;
use crate::request::AllocationRequest;
use crate::service::ServiceKey;

/// Whether the service has no address, whether it requests no specific address, its seniority.
/// Services with addresses come first, then those that request specific addresses, then the oldest.
type Rank = (bool, bool, Claimant);

/// The services to be decided in one round, in the order of their ranks. A service that is queued
/// again after its turn is decided in the next pass over the ranks. The round ends, because a
/// service that has what it requests is queued again only if it must release an address.
#[derive(Debug, Default)]
pub(crate) struct Round {
    due: BTreeSet<Rank>,
    /// A service keeps its first rank for the whole round.
    ranks: BTreeMap<ServiceKey, Rank>,
    outcomes: BTreeMap<Rank, Outcome>,
    last: Option<Rank>,
    /// Whether all waiting services have been queued once.
    queued_all: bool,
    /// Services decided since the last call of [`Round::waiting_again`].
    decided: Vec<ServiceKey>,
}

impl Round {
    /// Queues a service for a decision. `addresses` are those that it has.
    pub(crate) fn add(&mut self, request: &Arc<AllocationRequest>, addresses: &[IpAddr]) {
        let rank = self
            .ranks
            .entry(request.service.clone())
            .or_insert_with(|| {
                let requests = request.requests_addresses();
                (addresses.is_empty(), !requests, Claimant::of(request))
            });
        self.due.insert(rank.clone());
    }

    /// The waiting services that have not been queued since their last decision.
    pub(crate) fn waiting_again(&mut self, waiting: &BTreeSet<ServiceKey>) -> Vec<ServiceKey> {
        let decided = std::mem::take(&mut self.decided);
        if std::mem::replace(&mut self.queued_all, true) {
            let waits = |key: &ServiceKey| waiting.contains(key);
            decided.into_iter().filter(waits).collect()
        } else {
            waiting.iter().cloned().collect()
        }
    }

    /// Removes and returns the next service to decide.
    pub(crate) fn next(&mut self) -> Option<Arc<AllocationRequest>> {
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

    /// Records the outcome of a service. If another decision in the same round changes none of its
    /// addresses, the first outcome remains, since its reason is more specific.
    pub(crate) fn record(&mut self, service: &ServiceKey, outcome: Outcome) {
        self.decided.push(service.clone());
        let Some(rank) = self.ranks.get(service) else {
            return;
        };
        let before = self.outcomes.get(rank);
        if before.is_none_or(|before| before.addresses() != outcome.addresses()) {
            self.outcomes.insert(rank.clone(), outcome);
        }
    }

    /// The outcomes of all decided services, in the order of their ranks.
    pub(crate) fn into_outcomes(self) -> Vec<(ServiceKey, Outcome)> {
        let outcomes = self.outcomes.into_iter();
        outcomes
            .map(|((.., claimant), outcome)| (claimant.request().service.clone(), outcome))
            .collect()
    }
}
