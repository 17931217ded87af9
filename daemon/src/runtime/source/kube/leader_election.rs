//! Leader election: runs the [`Elector`] against the Lease in the API server. Every candidate
//! watches the Lease; only the leader writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::api_health::ApiHealth;
use super::backoff::Backoff;
use super::client::WATCH_SECONDS;
use super::elector::{Action, Elector, Record, Timing, Write, WriteResult};
use super::watch::{FORBIDDEN_GRACE, chain, is_unanswered, needs_relist, sleep_until};

/// Name of the Lease that elects the allocating process.
pub(crate) const LEASE_NAME: &str = "ferrolb-allocator";

/// Name of the Lease's watch in log lines about an unreachable API server.
const WATCH_NAME: &str = "Lease";

/// Whether this process leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lead {
    /// Number of the term. A new leader lists again what it allocates from.
    pub(super) term: u64,
    /// End of the right to write, by the process's monotonic clock; `None` without the lead.
    pub(super) until: Option<Instant>,
}

/// This process as a candidate for the Lease.
pub(super) struct LeaderElection {
    api: Api<Lease>,
    namespace: String,
    elector: Elector,
    identity: String,
    /// The `acquireTime` of the Lease.
    acquired: Option<MicroTime>,
    lead: watch::Sender<Lead>,
    rejections: RejectionLog,
}

enum RequestResult {
    Written(Result<Lease, kube::Error>),
    Read(Result<Option<Lease>, kube::Error>),
    TimedOut,
}

impl LeaderElection {
    /// The terms continue after those of an earlier candidate with this sender.
    pub(super) fn new(
        client: Client,
        namespace: &str,
        identity: String,
        lead: watch::Sender<Lead>,
    ) -> Self {
        let term = lead.borrow().term;
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            elector: Elector::new(identity.clone(), Timing::DEFAULT, term),
            identity,
            acquired: None,
            lead,
            rejections: RejectionLog::default(),
        }
    }

    /// Runs until `release` fires or is dropped, then releases the Lease so that another candidate
    /// can acquire it at once.
    pub(super) async fn run(
        mut self,
        api_health: Arc<ApiHealth>,
        mut release: oneshot::Receiver<()>,
    ) {
        let (leases_in, mut leases) = mpsc::channel(16);
        let mut watches = JoinSet::new();
        let watch = LeaseWatch {
            api_health,
            leases: leases_in,
            backoff: Backoff::default(),
            rejections: RejectionLog::default(),
        };
        watches.spawn(watch.run(self.api.clone()));
        let mut request: Option<BoxFuture<'static, RequestResult>> = None;
        loop {
            // First after any sleep or suspension: check whether the lead has expired.
            let now = Instant::now();
            self.elector.tick(now);
            if let Some(action) = self.elector.poll_action(now) {
                request = Some(self.send(action));
            }
            self.publish(now);
            let timeout = self.elector.poll_timeout(now);
            tokio::select! {
                biased;
                _ = &mut release => break,
                () = sleep_until(timeout) => {}
                result = completion(&mut request) => {
                    request = None;
                    self.handle_result(result);
                }
                lease = leases.recv() => {
                    let Some(lease) = lease else { break };
                    self.elector.observe(Instant::now(), lease);
                }
            }
        }
        // Wait for a renewal in flight: it takes effect anyway, so a release without its result
        // would name an outdated version and fail, and the others would wait until the Lease
        // expires.
        if request.is_some() {
            let result = completion(&mut request).await;
            self.handle_result(result);
        }
        let released = self.elector.release(Instant::now());
        self.lead.send_replace(Lead {
            term: self.elector.term(),
            until: None,
        });
        if let Some(write) = released {
            let action = self.send(Action::Write(write));
            if matches!(action.await, RequestResult::Written(Ok(_))) {
                tracing::info!("released the lease");
            } else {
                tracing::warn!(
                    "can't release the lease: no addresses are allocated until it expires"
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
                "acquired the lease {}/{LEASE_NAME}",
                self.namespace
            ),
            (Some(_), None) => tracing::warn!(
                holder = self.elector.holder().unwrap_or_default(),
                "lost the lease {}/{LEASE_NAME}: no addresses are allocated until a leader \
                 acquires it",
                self.namespace
            ),
            _ => {}
        }
    }

    fn send(&mut self, action: Action) -> BoxFuture<'static, RequestResult> {
        let api = self.api.clone();
        match action {
            Action::Read { deadline } => Box::pin(with_deadline(deadline, async move {
                RequestResult::Read(api.get_opt(LEASE_NAME).await)
            })),
            Action::Write(write) => {
                let deadline = write.deadline;
                let lease = self.lease(&write);
                let creates = write.replaces.is_none();
                Box::pin(with_deadline(deadline, async move {
                    let params = PostParams::default();
                    RequestResult::Written(if creates {
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

    fn handle_result(&mut self, result: RequestResult) {
        let now = Instant::now();
        match result {
            RequestResult::Written(Ok(lease)) => {
                self.rejections = RejectionLog::default();
                self.elector.written(now, WriteResult::Done(record(&lease)));
            }
            // A Lease that was deleted meanwhile is a conflict too.
            RequestResult::Written(Err(kube::Error::Api(status)))
                if status.code == 409 || (status.code == 404 && !is_namespace_missing(&status)) =>
            {
                self.elector.written(now, WriteResult::Conflict);
            }
            RequestResult::Written(Err(error)) => {
                log_rejection(&mut self.rejections, "write", &error);
                self.elector.written(now, WriteResult::Failed);
            }
            RequestResult::Read(Ok(lease)) => {
                self.elector.read(now, Ok(lease.as_ref().map(record)))
            }
            RequestResult::Read(Err(error)) => {
                log_rejection(&mut self.rejections, "read", &error);
                self.elector.read(now, Err(()));
            }
            // The elector knows which request is pending and ignores the other call.
            RequestResult::TimedOut => {
                self.elector.written(now, WriteResult::Failed);
                self.elector.read(now, Err(()));
            }
        }
    }
}

/// A series of rejected requests.
#[derive(Debug, Default)]
struct RejectionLog {
    since: Option<Instant>,
    logged: bool,
}

impl RejectionLog {
    /// Records a rejection. Returns whether to log it, once per series.
    fn should_log(&mut self, now: Instant, code: u16) -> bool {
        let since = *self.since.get_or_insert(now);
        let confirmed = code != 403 || now.duration_since(since) >= FORBIDDEN_GRACE;
        confirmed && !std::mem::replace(&mut self.logged, true)
    }
}

/// Logs rejected requests once. The watches report an unreachable API server.
fn log_rejection(rejections: &mut RejectionLog, what: &str, error: &kube::Error) {
    if let kube::Error::Api(status) = error
        && matches!(status.code, 400..=428)
        && rejections.should_log(Instant::now(), status.code)
    {
        tracing::error!(
            "can't {what} the lease {LEASE_NAME}, so this process can't allocate: {}. Allow the \
             service account to get, list, watch, create and update it (deploy/manifests)",
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

/// Checks the deadline before polling the request, so that a process that was suspended in between
/// does not send it.
async fn with_deadline(
    deadline: Instant,
    request: impl Future<Output = RequestResult> + Send,
) -> RequestResult {
    tokio::select! {
        biased;
        () = tokio::time::sleep_until(deadline.into()) => RequestResult::TimedOut,
        result = request => result,
    }
}

async fn completion(request: &mut Option<BoxFuture<'static, RequestResult>>) -> RequestResult {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

/// Watches the Lease and sends each of its states.
struct LeaseWatch {
    api_health: Arc<ApiHealth>,
    leases: mpsc::Sender<Option<Record>>,
    backoff: Backoff,
    rejections: RejectionLog,
}

impl LeaseWatch {
    /// Runs until the receiver is dropped.
    async fn run(mut self, api: Api<Lease>) {
        // By name, so that RBAC can grant access to this Lease only.
        let config = watcher::Config::default()
            .fields(&format!("metadata.name={LEASE_NAME}"))
            .timeout(WATCH_SECONDS);
        while !self.leases.is_closed() {
            self.follow(watcher(api.clone(), config.clone())).await;
        }
    }

    /// Returns when the watch must start with a new list, or when the receiver is dropped.
    async fn follow(&mut self, events: impl Stream<Item = watcher::Result<watcher::Event<Lease>>>) {
        let mut events = std::pin::pin!(events);
        let mut listed = None;
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
                    self.failed(&error).await;
                    if needs_relist(&error) {
                        return;
                    }
                    continue;
                }
            };
            self.backoff.reset();
            self.rejections = RejectionLog::default();
            if self.leases.send(lease).await.is_err() {
                return;
            }
        }
    }

    /// Logs a failure and waits before the next attempt.
    async fn failed(&mut self, error: &watcher::Error) {
        if let watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) =
            error
        {
            if is_unanswered(cause) {
                self.api_health.mark_unreachable(WATCH_NAME, &chain(cause));
            } else {
                log_rejection(&mut self.rejections, "watch", cause);
            }
        }
        // Keep the delay short: the Lease expires meanwhile.
        tokio::time::sleep(self.backoff.next().min(Timing::DEFAULT.retry)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_are_logged_once_and_forbidden_only_after_a_grace_time() {
        let start = Instant::now();
        let mut rejections = RejectionLog::default();
        assert!(!rejections.should_log(start, 403));
        assert!(!rejections.should_log(start + FORBIDDEN_GRACE / 2, 403));
        assert!(rejections.should_log(start + FORBIDDEN_GRACE, 403));
        assert!(!rejections.should_log(start + FORBIDDEN_GRACE * 2, 403));
        assert!(RejectionLog::default().should_log(start, 404));
    }
}
