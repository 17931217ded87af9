//! Writes allocated addresses to the status of Services, only while this process leads.
//!
//! Each write names the version of the Service that it was decided for. If the Service changed
//! meanwhile, the write is dropped: the watch delivers the new version, and it is decided again.

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

use super::backoff;
use super::leader_election::Lead;
use super::watch::{chain, sleep_until};
use crate::core::api::ObjectName;
use crate::core::index::change::StatusWrite;
use crate::core::model::annotations::ALLOCATED_ANNOTATION;
use crate::runtime::source::StatusReceiver;

/// Maximum number of writes in flight.
const MAX_IN_FLIGHT: usize = 8;

/// Upper limit for the timeout of a write.
const MAX_WRITE_TIME: Duration = Duration::from_secs(5);

/// No write starts with less time than this left in the lead.
const MIN_WRITE_TIME: Duration = Duration::from_millis(200);

/// Pending writes: the newest for each Service, and at most one in flight for each. Pure.
#[derive(Debug, Default)]
struct Queue {
    pending: BTreeMap<Arc<ObjectName>, PendingWrite>,
    in_flight: BTreeSet<Arc<ObjectName>>,
}

#[derive(Debug)]
struct PendingWrite {
    write: Arc<StatusWrite>,
    not_before: Option<Instant>,
    failures: u32,
}

/// Result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It succeeded.
    Done,
    /// The Service changed or was deleted: nothing left to write.
    Obsolete,
    /// Retry later.
    Failed,
}

impl Queue {
    fn push(&mut self, write: Arc<StatusWrite>) {
        let pending = PendingWrite {
            write,
            not_before: None,
            failures: 0,
        };
        self.pending.insert(pending.write.service.clone(), pending);
    }

    /// Drops a write that arrives while this process does not lead.
    fn push_while_leading(&mut self, write: Arc<StatusWrite>, until: Option<Instant>) {
        if until.is_some() {
            self.push(write);
        }
    }

    /// The next write that may start.
    fn pop(&mut self, now: Instant) -> Option<PendingWrite> {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let due = |pending: &PendingWrite| {
            pending
                .not_before
                .is_none_or(|not_before| not_before <= now)
        };
        let mut startable = self
            .pending
            .iter()
            .filter(|(service, pending)| due(pending) && !self.in_flight.contains(*service));
        let service = startable.next()?.0.clone();
        let pending = self.pending.remove(&service)?;
        self.in_flight.insert(service);
        Some(pending)
    }

    fn complete(&mut self, now: Instant, mut write: PendingWrite, outcome: Outcome) {
        self.in_flight.remove(&write.write.service);
        if outcome == Outcome::Failed {
            write.not_before = Some(now + backoff::delay(write.failures));
            write.failures += 1;
            // Unless a newer write was queued meanwhile.
            self.pending
                .entry(write.write.service.clone())
                .or_insert(write);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        self.pending
            .values()
            .filter_map(|pending| pending.not_before)
            .min()
    }
}

/// Writes until all senders are dropped. `allocating_term` is the term in which the allocator may
/// decide; decisions of another term are not written.
pub(super) async fn write_all(
    client: Client,
    mut lead: watch::Receiver<Lead>,
    mut allocating_term: watch::Receiver<Option<u64>>,
    mut writes: StatusReceiver,
) {
    let mut queue = Queue::default();
    let mut in_flight = FuturesUnordered::new();
    loop {
        let until = allocates_until(
            *lead.borrow_and_update(),
            *allocating_term.borrow_and_update(),
        );
        if until.is_none() {
            queue.pending.clear();
        }
        while let Some(deadline) = deadline(Instant::now(), until)
            && let Some(pending) = queue.pop(Instant::now())
        {
            in_flight.push(write(client.clone(), pending, deadline));
        }
        let retry = next_retry(Instant::now(), queue.poll_timeout(), until);
        tokio::select! {
            write = writes.recv() => match write {
                // Not with the state from before the wait: a decision of a new term may arrive
                // before this loop has seen the term.
                Some(write) => {
                    let until = allocates_until(*lead.borrow(), *allocating_term.borrow());
                    queue.push_while_leading(write, until);
                }
                None => return,
            },
            Some((pending, outcome)) = in_flight.next() => {
                queue.complete(Instant::now(), pending, outcome);
            }
            changed = lead.changed() => if changed.is_err() { return },
            changed = allocating_term.changed() => if changed.is_err() { return },
            () = sleep_until(retry) => {}
        }
    }
}

/// Until when decisions of the allocator are written; `None` if they are not.
fn allocates_until(lead: Lead, allocating_term: Option<u64>) -> Option<Instant> {
    lead.until.filter(|_| allocating_term == Some(lead.term))
}

/// The deadline of a write that starts now; `None` if it must not start.
fn deadline(now: Instant, until: Option<Instant>) -> Option<Instant> {
    let until = until?;
    (now + MIN_WRITE_TIME <= until).then(|| until.min(now + MAX_WRITE_TIME))
}

/// When to retry; `None` if no write may start then. A deadline in the past would be ready
/// immediately over and over, on the thread that renews the Lease. A renewal wakes the loop by
/// itself.
fn next_retry(now: Instant, retry: Option<Instant>, until: Option<Instant>) -> Option<Instant> {
    retry.filter(|retry| deadline(now.max(*retry), until).is_some())
}

async fn write(
    client: Client,
    pending: PendingWrite,
    deadline: Instant,
) -> (PendingWrite, Outcome) {
    let StatusWrite { service, .. } = &*pending.write;
    let api: Api<Service> = Api::namespaced(client, &service.namespace);
    let patch = Patch::Merge(patch(&pending.write));
    let params = PatchParams::default();
    let request = api.patch_status(&service.name, &params, &patch);
    // Checks the deadline before polling the request, so that a process that was suspended in
    // between does not send it.
    let result = tokio::select! {
        biased;
        () = tokio::time::sleep_until(deadline.into()) => None,
        result = request => Some(result),
    };
    let outcome = outcome(&pending.write, pending.failures == 0, result);
    (pending, outcome)
}

fn outcome(
    write: &StatusWrite,
    is_first: bool,
    result: Option<Result<Service, kube::Error>>,
) -> Outcome {
    let service = &write.service;
    match result {
        Some(Ok(_)) => {
            let addresses = write.shown_addresses();
            tracing::debug!(%service, addresses, pool = write.pool, "status written");
            Outcome::Done
        }
        Some(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            tracing::debug!(%service, reason = status.reason, "status not written");
            Outcome::Obsolete
        }
        Some(Err(error)) => {
            if is_first {
                tracing::warn!(
                    %service,
                    error = chain(&error),
                    "can't write the Service status, retrying: allow the service account to patch \
                     services/status (deploy/manifests/2-rbac.yaml)"
                );
            }
            Outcome::Failed
        }
        None => {
            tracing::debug!(%service, "timeout of a status write");
            Outcome::Failed
        }
    }
}

/// One request for status and annotation, which the API server rejects if the Service changed
/// meanwhile.
fn patch(write: &StatusWrite) -> Value {
    let ingress: Vec<Value> = write
        .addresses
        .iter()
        .map(|address| {
            let ip = address.to_string();
            match write.ip_mode(*address) {
                Some(mode) => json!({"ip": ip, "ipMode": mode}),
                None => json!({"ip": ip}),
            }
        })
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
