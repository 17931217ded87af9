//! Writes what the allocator decided into the status of services, while this process leads and not a moment longer.
//!
//! Each write names the version of the service it was decided for, so a service that changed meanwhile is left alone:
//! the watch brings it, and it is decided anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::leader_election::Lead;
use super::watch::{at, chain};
use crate::core::api::ObjectName;
use crate::core::index::change::StatusWrite;
use crate::core::model::annotations::ALLOCATED_ANNOTATION;
use crate::runtime::source::StatusReceiver;

/// How many writes are under way at once.
const CONCURRENCY: usize = 8;

/// No write takes longer, even if more time is left.
const LONGEST_WRITE: Duration = Duration::from_secs(5);

/// With less time left than this, no write is begun.
const SHORTEST_WRITE: Duration = Duration::from_millis(200);

/// After a failure the same write is tried again after this, doubling.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(8);

/// What waits to be written: the newest for each service, and at most one under way for each. Pure.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<Arc<ObjectName>, Waiting>,
    under_way: BTreeSet<Arc<ObjectName>>,
}

#[derive(Debug)]
struct Waiting {
    write: Arc<StatusWrite>,
    not_before: Option<Instant>,
    failures: u32,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It stands.
    Done,
    /// The service changed or is gone: there is nothing left to write.
    Obsolete,
    /// It may work later.
    Failed,
}

impl Queue {
    fn push(&mut self, write: Arc<StatusWrite>) {
        let waiting = Waiting {
            write,
            not_before: None,
            failures: 0,
        };
        self.waiting.insert(waiting.write.service.clone(), waiting);
    }

    /// The next write that may begin.
    fn pop(&mut self, now: Instant) -> Option<Waiting> {
        if self.under_way.len() >= CONCURRENCY {
            return None;
        }
        let due = |waiting: &Waiting| {
            waiting
                .not_before
                .is_none_or(|not_before| not_before <= now)
        };
        let mut startable = self
            .waiting
            .iter()
            .filter(|(service, waiting)| due(waiting) && !self.under_way.contains(*service));
        let service = startable.next()?.0.clone();
        let waiting = self.waiting.remove(&service)?;
        self.under_way.insert(service);
        Some(waiting)
    }

    fn ended(&mut self, now: Instant, mut tried: Waiting, outcome: Outcome) {
        self.under_way.remove(&tried.write.service);
        if outcome == Outcome::Failed {
            let delay =
                (FIRST_RETRY * 2_u32.saturating_pow(tried.failures.min(10))).min(LAST_RETRY);
            tried.not_before = Some(now + delay);
            tried.failures += 1;
            // Only if nothing newer was said meanwhile.
            self.waiting
                .entry(tried.write.service.clone())
                .or_insert(tried);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.under_way.len() >= CONCURRENCY {
            return None;
        }
        self.waiting
            .values()
            .filter_map(|waiting| waiting.not_before)
            .min()
    }
}

/// Writes until nobody can ask for writes any more. `decides` is the term in which the allocator was told to decide:
/// what it decided in another term is not written.
pub(super) async fn write_all(
    client: Client,
    mut lead: watch::Receiver<Lead>,
    mut decides: watch::Receiver<Option<u64>>,
    mut writes: StatusReceiver,
) {
    let mut queue = Queue::default();
    let mut under_way = FuturesUnordered::new();
    loop {
        let now = *lead.borrow_and_update();
        let decided_now = *decides.borrow_and_update() == Some(now.term);
        let until = now.until.filter(|_| decided_now);
        if until.is_none() {
            queue.waiting.clear();
        }
        while let Some(deadline) = deadline(Instant::now(), until)
            && let Some(waiting) = queue.pop(Instant::now())
        {
            under_way.push(write(client.clone(), waiting, deadline));
        }
        let retry = next_retry(Instant::now(), queue.poll_timeout(), until);
        tokio::select! {
            write = writes.recv() => match write {
                Some(write) if until.is_some() => queue.push(write),
                Some(_) => {}
                None => return,
            },
            Some((waiting, outcome)) = under_way.next() => {
                queue.ended(Instant::now(), waiting, outcome);
            }
            changed = lead.changed() => if changed.is_err() { return },
            changed = decides.changed() => if changed.is_err() { return },
            () = at(retry) => {}
        }
    }
}

/// When a write that begins now has to be over; `None` if it may not begin.
fn deadline(now: Instant, until: Option<Instant>) -> Option<Instant> {
    let until = until?;
    (now + SHORTEST_WRITE <= until).then(|| until.min(now + LONGEST_WRITE))
}

/// When to look for writes to try again; never where none may begin then: a deadline that has passed would
/// be ready at once, again and again, on the thread that renews the Lease. A renewal wakes the loop by itself.
fn next_retry(now: Instant, retry: Option<Instant>, until: Option<Instant>) -> Option<Instant> {
    retry.filter(|retry| deadline(now.max(*retry), until).is_some())
}

async fn write(client: Client, waiting: Waiting, deadline: Instant) -> (Waiting, Outcome) {
    let StatusWrite { service, .. } = &*waiting.write;
    let api: Api<Service> = Api::namespaced(client, &service.namespace);
    let patch = Patch::Merge(patch(&waiting.write));
    let params = PatchParams::default();
    let request = api.patch_status(&service.name, &params, &patch);
    // The clock is looked at before the request goes on: a process that was stopped in between does not send it.
    let result = tokio::select! {
        biased;
        () = tokio::time::sleep_until(deadline.into()) => None,
        result = request => Some(result),
    };
    let outcome = outcome(&waiting.write, waiting.failures == 0, result);
    (waiting, outcome)
}

fn outcome(
    write: &StatusWrite,
    is_first: bool,
    result: Option<Result<Service, kube::Error>>,
) -> Outcome {
    let service = &write.service;
    match result {
        Some(Ok(_)) => {
            tracing::debug!(%service, addresses = write.shown_addresses(), pool = write.pool, "status written");
            Outcome::Done
        }
        Some(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            tracing::debug!(%service, reason = status.reason, "status not written");
            Outcome::Obsolete
        }
        Some(Err(error)) => {
            if is_first {
                tracing::warn!(%service, error = chain(&error), "can't write the status, trying again: the service account must be allowed to patch services/status (deploy/manifests)");
            }
            Outcome::Failed
        }
        None => {
            tracing::debug!(%service, "no answer in time to a write of the status");
            Outcome::Failed
        }
    }
}

/// One request for status and annotation, refused by the API server if the service changed meanwhile.
fn patch(write: &StatusWrite) -> Value {
    let ingress: Vec<Value> = write
        .addresses
        .iter()
        .map(|address| json!({"ip": address.to_string()}))
        .collect();
    let ingress = if ingress.is_empty() {
        Value::Null
    } else {
        Value::Array(ingress)
    };
    json!({
        "metadata": {
            "resourceVersion": write.resource_version,
            "annotations": {ALLOCATED_ANNOTATION: write.pool},
        },
        "status": {"loadBalancer": {"ingress": ingress}},
    })
}

#[cfg(test)]
mod tests;
