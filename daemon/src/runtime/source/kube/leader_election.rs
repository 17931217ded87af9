//! Runs an [`Elector`] against the Lease in the API server. Candidates watch the Lease; only the holder writes.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::api_health::{ApiHealth, Delays};
use super::client::WATCH_SECONDS;
use super::elector::{Action, Elector, Record, Timing, Write, Written};
use super::watch::{FORBIDDEN_GRACE, at, begins_anew, chain, no_answer};

/// The Lease that elects who allocates.
pub(super) const LEASE_NAME: &str = "ferrolb-allocator";

/// The name under which the watch of the Lease reports that nobody answers.
const WATCH_NAME: &str = "Lease";

/// Whether this process leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lead {
    /// Counts its terms. Each begins with a fresh look at everything.
    pub(super) term: u64,
    /// On this process's own monotonic clock. Nothing may be written after it.
    pub(super) until: Option<Instant>,
}

/// One candidate for the Lease.
pub(super) struct LeaderElection {
    api: Api<Lease>,
    namespace: String,
    elector: Elector,
    identity: String,
    /// When we began to hold it, as the Lease says it.
    acquired: Option<MicroTime>,
    lead: watch::Sender<Lead>,
    refused: Refused,
}

enum Ended {
    Written(Result<Lease, kube::Error>),
    Read(Result<Option<Lease>, kube::Error>),
    TooLate,
}

impl LeaderElection {
    pub(super) fn new(
        client: Client,
        namespace: &str,
        identity: String,
        lead: watch::Sender<Lead>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            elector: Elector::new(identity.clone(), Timing::DEFAULT),
            identity,
            acquired: None,
            lead,
            refused: Refused::default(),
        }
    }

    /// Runs until `release` fires or is dropped; then gives the Lease up, so that another can have it at once.
    pub(super) async fn run(
        mut self,
        reach: std::sync::Arc<ApiHealth>,
        mut release: oneshot::Receiver<()>,
    ) {
        let (seen_by, mut seen) = mpsc::channel(16);
        let mut watches = JoinSet::new();
        watches.spawn(watch_lease(self.api.clone(), reach, seen_by));
        let mut request: Option<BoxFuture<'static, Ended>> = None;
        loop {
            // First of all after any sleep, however long it was: is the time over?
            let now = Instant::now();
            self.elector.tick(now);
            if let Some(action) = self.elector.poll_action(now) {
                request = Some(self.perform(action));
            }
            self.publish(now);
            let timeout = self.elector.poll_timeout(now);
            tokio::select! {
                biased;
                _ = &mut release => break,
                () = at(timeout) => {}
                ended = end_of(&mut request) => {
                    request = None;
                    self.ended(ended);
                }
                lease = seen.recv() => {
                    let Some(lease) = lease else { break };
                    self.elector.seen(Instant::now(), lease);
                }
            }
        }
        // A renewal that was sent arrives, whether we wait or not. Not to wait is to replace a version that is none any
        // more, and to leave the others waiting for the Lease to run out.
        if request.is_some() {
            let ended = end_of(&mut request).await;
            self.ended(ended);
        }
        let released = self.elector.release(Instant::now());
        self.lead.send_replace(Lead {
            term: self.elector.term(),
            until: None,
        });
        if let Some(write) = released {
            let action = self.perform(Action::Write(write));
            if matches!(action.await, Ended::Written(Ok(_))) {
                tracing::info!("gave up the lease");
            } else {
                tracing::warn!(
                    "could not give up the lease: nobody allocates until it has run out"
                );
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        let until = self.elector.leads_until(now);
        let lead = Lead {
            term: self.elector.term(),
            until,
        };
        let before = self.lead.send_replace(lead);
        match (before.until.filter(|_| before.term == lead.term), until) {
            (None, Some(_)) => tracing::info!(
                identity = self.identity,
                term = lead.term,
                "holding the lease {}/{LEASE_NAME}",
                self.namespace
            ),
            (Some(_), None) => tracing::warn!(
                holder = self.elector.holder().unwrap_or_default(),
                "lost the lease {}/{LEASE_NAME}: nothing is allocated until it is held again",
                self.namespace
            ),
            _ => {}
        }
    }

    fn perform(&mut self, action: Action) -> BoxFuture<'static, Ended> {
        let api = self.api.clone();
        match action {
            Action::Read { deadline } => Box::pin(in_time(deadline, async move {
                Ended::Read(api.get_opt(LEASE_NAME).await)
            })),
            Action::Write(write) => {
                let deadline = write.deadline;
                let lease = self.lease(&write);
                let creates = write.replaces.is_none();
                Box::pin(in_time(deadline, async move {
                    let params = PostParams::default();
                    Ended::Written(if creates {
                        api.create(&params, &lease).await
                    } else {
                        api.replace(LEASE_NAME, &params, &lease).await
                    })
                }))
            }
        }
    }

    fn lease(&mut self, write: &Write) -> Lease {
        let now = MicroTime(Timestamp::now());
        if write.acquires || self.acquired.is_none() {
            self.acquired = Some(now.clone());
        }
        let seconds = Timing::DEFAULT.duration.as_secs();
        Lease {
            metadata: ObjectMeta {
                name: Some(LEASE_NAME.to_owned()),
                namespace: Some(self.namespace.clone()),
                resource_version: write.replaces.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(write.holder.clone()),
                lease_duration_seconds: i32::try_from(seconds).ok(),
                acquire_time: self.acquired.clone(),
                renew_time: Some(now),
                lease_transitions: Some(write.transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    fn ended(&mut self, ended: Ended) {
        let now = Instant::now();
        match ended {
            Ended::Written(Ok(lease)) => {
                self.refused = Refused::default();
                self.elector.written(now, Written::Done(record(&lease)));
            }
            // Gone since we looked is as good as changed since we looked.
            Ended::Written(Err(kube::Error::Api(status)))
                if status.code == 409 || (status.code == 404 && !is_namespace_missing(&status)) =>
            {
                self.elector.written(now, Written::Conflict);
            }
            Ended::Written(Err(error)) => {
                complain(&mut self.refused, "write", &error);
                self.elector.written(now, Written::Failed);
            }
            Ended::Read(Ok(lease)) => self.elector.read(now, Ok(lease.as_ref().map(record))),
            Ended::Read(Err(error)) => {
                complain(&mut self.refused, "read", &error);
                self.elector.read(now, Err(()));
            }
            // Which of the two it was, the elector knows; the other call does nothing.
            Ended::TooLate => {
                self.elector.written(now, Written::Failed);
                self.elector.read(now, Err(()));
            }
        }
    }
}

/// A refusal that goes on.
#[derive(Debug, Default)]
struct Refused {
    since: Option<Instant>,
    told: bool,
}

impl Refused {
    /// Refused once more: whether to tell now, which is so only once.
    fn again(&mut self, now: Instant, code: u16) -> bool {
        let since = *self.since.get_or_insert(now);
        let believed = code != 403 || now.duration_since(since) >= FORBIDDEN_GRACE;
        believed && !std::mem::replace(&mut self.told, true)
    }
}

/// Refusals are told, once; that nobody answers is told by the watches.
fn complain(refused: &mut Refused, what: &str, error: &kube::Error) {
    if let kube::Error::Api(status) = error
        && matches!(status.code, 400..=428)
        && refused.again(Instant::now(), status.code)
    {
        tracing::error!(
            "can't {what} the lease {LEASE_NAME}, so this process can't allocate: {}. Let the service account \
             get, list, watch, create and update it (deploy/manifests)",
            status.message
        );
    }
}

fn is_namespace_missing(status: &kube::core::Status) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| details.kind == "namespaces")
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or_default()),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

/// The deadline is looked at before the request goes on: a process that was stopped in between does not send it.
async fn in_time(deadline: Instant, request: impl Future<Output = Ended> + Send) -> Ended {
    tokio::select! {
        biased;
        () = tokio::time::sleep_until(deadline.into()) => Ended::TooLate,
        ended = request => ended,
    }
}

async fn end_of(request: &mut Option<BoxFuture<'static, Ended>>) -> Ended {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

/// Tells how the Lease stands, as often as it changes.
async fn watch_lease(
    api: Api<Lease>,
    reach: std::sync::Arc<ApiHealth>,
    seen: mpsc::Sender<Option<Record>>,
) {
    // By name, so that RBAC can grant just this one Lease.
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={LEASE_NAME}"))
        .timeout(WATCH_SECONDS);
    let mut delays = Delays::new();
    let mut refused = Refused::default();
    loop {
        let mut listed = None;
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        while let Some(event) = events.next().await {
            let lease = match event {
                Ok(watcher::Event::Init) => {
                    listed = None;
                    continue;
                }
                Ok(watcher::Event::InitApply(lease)) => {
                    listed = Some(record(&lease));
                    continue;
                }
                Ok(watcher::Event::InitDone) => listed.take(),
                Ok(watcher::Event::Apply(lease)) => Some(record(&lease)),
                Ok(watcher::Event::Delete(_)) => None,
                Err(error) => {
                    if let watcher::Error::InitialListFailed(cause)
                    | watcher::Error::WatchStartFailed(cause) = &error
                    {
                        if no_answer(cause) {
                            reach.lost(WATCH_NAME, &chain(cause));
                        } else {
                            complain(&mut refused, "watch", cause);
                        }
                    }
                    // Short, whatever happens: the lease does not wait.
                    tokio::time::sleep(delays.next().min(Timing::DEFAULT.retry)).await;
                    if begins_anew(&error) {
                        break;
                    }
                    continue;
                }
            };
            delays.reset();
            refused = Refused::default();
            if seen.send(lease).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_is_believed_late_and_other_refusals_at_once_and_each_is_told_once() {
        let start = Instant::now();
        let mut refused = Refused::default();
        assert!(!refused.again(start, 403));
        assert!(!refused.again(start + FORBIDDEN_GRACE / 2, 403));
        assert!(refused.again(start + FORBIDDEN_GRACE, 403));
        assert!(!refused.again(start + FORBIDDEN_GRACE * 2, 403));
        assert!(Refused::default().again(start, 404));
    }
}
