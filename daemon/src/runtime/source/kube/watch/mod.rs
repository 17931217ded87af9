//! Watches one kind: lists, watches, and retries forever.
//!
//! An API server that does not answer changes nothing: the last known state stays. A rejected
//! request (missing CRD, no permission) is reported and retried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{ListParams, VersionMatch, WatchParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::api_health::ApiHealth;
use super::backoff::Backoff;
use super::client::WATCH_SECONDS;
use super::listing::{ListError, Listing};
use super::object::{Object, plural, resource};
use super::stream::{self, List, WatchEvent};
use crate::core::api::{BGP_PEER_V1BETA1, Kind};
use crate::core::config::hello_secrets;
use crate::runtime::role::Role;
use crate::runtime::source::Event;

/// A starting API server answers "forbidden" until it has loaded its roles, so the answer counts
/// only after this time.
pub(super) const FORBIDDEN_GRACE: Duration = Duration::from_secs(10);

/// Delay before deletes of custom objects are applied, to find out whether their CRD is being
/// deleted too.
const CRD_CHECK_DELAY: Duration = Duration::from_secs(1);

/// A kind of MetalLB's that was missing for this long is not about to be created.
const MISSING_FOR_LONG: Duration = Duration::from_mins(1);

/// Capacity of the message channel. When it is full, reading from the API server stops.
const MESSAGE_CAPACITY: usize = 16;

/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;

/// Timeout of the discovery request that checks a CRD.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Dependencies of all watches.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) config_namespaces: Arc<[String]>,
    /// The name of MetalLB's ConfigMap.
    pub(super) config_map: Arc<str>,
    /// The namespace of the Secrets with the key of hellos.
    pub(super) key_namespace: Arc<str>,
    pub(super) role: Role,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) api_health: Arc<ApiHealth>,
}

/// What the first list must reflect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// The API server's cache is sufficient: a fleet that restarts does not load etcd.
    Cached,
    /// The current state: a new leader allocates from it.
    Consistent,
}

/// A message of a watch to its kind.
enum Message {
    Event(usize, Box<watcher::Event<Object>>),
    Rejected(usize, ListError),
}

/// Watches a kind until the receiver of events is dropped. Calls `on_complete` once, when the kind
/// is complete. With [`Freshness::Consistent`], Services must have been listed for that; for other
/// kinds a rejected list is sufficient.
pub(super) async fn follow(
    context: Context,
    kind: Kind,
    freshness: Freshness,
    on_complete: impl FnOnce(),
) {
    let (messages_in, mut messages) = mpsc::channel(MESSAGE_CAPACITY);
    let scopes = scopes(&context, kind, freshness);
    let mut listing = Listing::new(kind, scopes.len());
    let mut watches = JoinSet::new();
    for (scope, (api, params)) in scopes.into_iter().enumerate() {
        let watch = Watch {
            kind,
            scope,
            older: (kind == Kind::BgpPeer).then(|| older(&api)),
            api,
            params,
            api_health: context.api_health.clone(),
            messages: messages_in.clone(),
        };
        watches.spawn(watch.run());
    }
    drop(messages_in);

    let mut on_complete = Some(on_complete);
    let mut crd_check_at: Option<Instant> = None;
    loop {
        let timeout = listing.poll_timeout();
        let changes = tokio::select! {
            message = messages.recv() => match message {
                Some(Message::Event(scope, event)) => listing.handle(Instant::now(), scope, *event),
                Some(Message::Rejected(scope, error)) => listing.reject(scope, error),
                None => return,
            },
            // A watch panicked, or the receiver is dropped.
            _ = watches.join_next() => return,
            () = sleep_until(timeout) => listing.handle_timeout(Instant::now()),
            () = sleep_until(crd_check_at) => match check_crd(&context.client, kind).await {
                Some(verdict) => listing.resolve(verdict),
                None => {
                    crd_check_at = Some(Instant::now() + CRD_CHECK_DELAY);
                    continue;
                }
            },
        };
        for change in changes {
            if context.events.send(Event::Change(change)).await.is_err() {
                return;
            }
        }
        crd_check_at = listing
            .has_pending_deletes()
            .then(|| crd_check_at.unwrap_or_else(|| Instant::now() + CRD_CHECK_DELAY));
        let complete = if kind == Kind::Service {
            listing.is_listed()
        } else {
            listing.is_complete()
        };
        if complete && let Some(on_complete) = on_complete.take() {
            on_complete();
        }
    }
}

/// Sleeps until the deadline, or forever.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// One API for the whole cluster, or one per configuration namespace. Secrets are requested by type
/// or name, and ConfigMaps by name, so that RBAC can restrict the others.
fn scopes(context: &Context, kind: Kind, freshness: Freshness) -> Vec<(Api<Object>, Params)> {
    let resource = resource(kind);
    let params = Params::new(kind, freshness, &context.config_map);
    if !kind.is_configuration() {
        return vec![(Api::all_with(context.client.clone(), &resource), params)];
    }
    let of = |namespace: &str| Api::namespaced_with(context.client.clone(), namespace, &resource);
    let namespaces = context.config_namespaces.iter();
    let everywhere = namespaces.map(|namespace| (of(namespace), params.clone()));
    if kind != Kind::Secret {
        return everywhere.collect();
    }
    let mut scopes = Vec::new();
    if context.role.announces_bgp() {
        scopes.extend(everywhere);
    }
    if context.role.announces_layer2() || context.role.allocates() {
        scopes.extend([hello_secrets::MEMBERLIST, hello_secrets::OWN].map(|name| {
            let name = Some(name.into());
            let params = params.clone();
            (of(&context.key_namespace), Params { name, ..params })
        }));
    }
    scopes
}

/// The older version of MetalLB's BGPPeer. MetalLB before 0.13.2 serves no other one.
fn older(api: &Api<Object>) -> Api<Object> {
    let mut older = resource(Kind::BgpPeer);
    BGP_PEER_V1BETA1.clone_into(&mut older.api_version);
    "v1beta1".clone_into(&mut older.version);
    let namespace = api.namespace().unwrap_or_default();
    Api::namespaced_with(api.clone().into_client(), namespace, &older)
}

/// Which objects are requested, and how.
#[derive(Clone, Debug)]
struct Params {
    freshness: Freshness,
    /// One object, instead of those that `fields` selects.
    name: Option<Arc<str>>,
    fields: Option<&'static str>,
    labels: Option<&'static str>,
}

impl Params {
    fn new(kind: Kind, freshness: Freshness, config_map: &Arc<str>) -> Self {
        let fields = match kind {
            Kind::Service => Some("spec.type=LoadBalancer"),
            Kind::Secret => Some("type=kubernetes.io/basic-auth"),
            _ => None,
        };
        let name = (kind == Kind::ConfigMap).then(|| config_map.clone());
        let labels = (kind == Kind::EndpointSlice)
            .then_some("kubernetes.io/service-name,!service.kubernetes.io/headless");
        Self {
            freshness,
            name,
            fields,
            labels,
        }
    }

    fn field_selector(&self) -> Option<String> {
        let one = self
            .name
            .as_ref()
            .map(|name| format!("metadata.name={name}"));
        one.or_else(|| self.fields.map(str::to_owned))
    }

    /// The cache returns the whole list at once. A consistent list comes in pages, which may be
    /// read from etcd.
    fn list(&self) -> ListParams {
        let cached = self.freshness == Freshness::Cached;
        ListParams {
            field_selector: self.field_selector(),
            label_selector: self.labels.map(str::to_owned),
            limit: (!cached).then_some(PAGE_SIZE),
            resource_version: cached.then(|| "0".to_owned()),
            version_match: cached.then_some(VersionMatch::NotOlderThan),
            ..ListParams::default()
        }
    }

    fn watch(&self) -> WatchParams {
        WatchParams {
            field_selector: self.field_selector(),
            label_selector: self.labels.map(str::to_owned),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        }
    }
}

/// Whether the CRD of a kind exists and is not being deleted; `None` without an answer. Discovery
/// shows that objects of a terminating CRD can't be created.
async fn check_crd(client: &Client, kind: Kind) -> Option<Result<(), ListError>> {
    let verdict = check_version(client, kind, kind.api_version()).await?;
    if verdict.is_err() && kind == Kind::BgpPeer {
        return check_version(client, kind, BGP_PEER_V1BETA1).await;
    }
    Some(verdict)
}

async fn check_version(
    client: &Client,
    kind: Kind,
    api_version: &str,
) -> Option<Result<(), ListError>> {
    let missing = || {
        Err(ListError {
            message: unknown_kind(kind),
            kind_missing: true,
        })
    };
    let request = client.list_api_group_resources(api_version);
    match tokio::time::timeout(DISCOVERY_TIMEOUT, request)
        .await
        .ok()?
    {
        Ok(list) => {
            let mut resources = list.resources.iter();
            let exists = resources.any(|resource| {
                resource.name == plural(kind) && resource.verbs.iter().any(|verb| verb == "create")
            });
            Some(if exists { Ok(()) } else { missing() })
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Some(missing()),
        Err(_) => None,
    }
}

fn unknown_kind(kind: Kind) -> String {
    let remedy = if kind.is_own() {
        "apply deploy/manifests/0-crds.yaml, or what ferrolb crds prints"
    } else if kind.is_custom() {
        "apply MetalLB's CRDs, or use ferrolb's (ferrolb crds prints them)"
    } else {
        "upgrade Kubernetes"
    };
    format!(
        "the API server does not know {} in {}: {remedy} (check: kubectl get crd {}.{})",
        kind.name(),
        kind.api_version(),
        plural(kind),
        kind.group()
    )
}

/// Classification of a failure.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// The API server rejected the request.
    Rejected(ListError),
    /// No answer.
    Unreachable(String),
    /// The API server answered with a server error.
    ServerError(String),
    /// The watch was interrupted or expired, and is resumed.
    Interrupted,
}

impl Failure {
    fn of(kind: Kind, error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                Self::of_request(kind, error)
            }
            watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_) => Self::Interrupted,
            watcher::Error::NoResourceVersion => {
                Self::ServerError("the answer to a list has no resourceVersion".to_owned())
            }
        }
    }

    fn of_request(kind: Kind, error: &kube::Error) -> Self {
        if is_unanswered(error) {
            return Self::Unreachable(chain(error));
        }
        let kube::Error::Api(status) = error else {
            return Self::ServerError(chain(error));
        };
        match status.code {
            404 if kind.is_custom() || kind.is_optional() => Self::Rejected(ListError {
                message: unknown_kind(kind),
                kind_missing: true,
            }),
            403 => Self::Rejected(ListError {
                message: format!(
                    "{}: allow the service account to list and watch {} \
                     (deploy/manifests/2-rbac.yaml)",
                    status.message,
                    plural(kind)
                ),
                kind_missing: false,
            }),
            code => Self::ServerError(format!("{code} {}: {}", status.reason, status.message)),
        }
    }
}

/// Whether a request got no answer at all.
pub(super) fn is_unanswered(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
}

/// Whether the watch must start with a new list, since the API server does not continue it. An
/// overloaded API server is not asked for one.
pub(super) fn needs_relist(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 400..=428 | 504)
        }
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::NoResourceVersion => true,
        _ => false,
    }
}

/// An error with its causes: kube's text ends at "ServiceError".
pub(super) fn chain(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Why a list or watch ended early.
enum ListWatchEnd {
    /// The receiver of events is dropped.
    Closed,
    /// The API server or the connection failed.
    Failed(watcher::Error),
}

/// The list and watch loop of one scope.
struct Watch {
    kind: Kind,
    scope: usize,
    api: Api<Object>,
    /// The kind in the version that `api` doesn't have. Where the API server doesn't know one, the
    /// other is requested next.
    older: Option<Api<Object>>,
    params: Params,
    api_health: Arc<ApiHealth>,
    messages: mpsc::Sender<Message>,
}

impl Watch {
    async fn run(mut self) {
        let mut attempts = Attempts::new();
        // The version to continue at; without one, start with a list.
        let mut version = None;
        loop {
            let end = match &mut version {
                None => match self.list(&mut attempts).await {
                    Ok(listed) => {
                        version = Some(listed);
                        continue;
                    }
                    Err(end) => end,
                },
                // Resume where it was after an outage of the API server.
                Some(version) => match self.watch(version, &mut attempts).await {
                    Ok(()) => continue,
                    Err(end) => end,
                },
            };
            let ListWatchEnd::Failed(error) = end else {
                return;
            };
            if needs_relist(&error) {
                version = None;
            }
            if let Some(message) = self.failed(&mut attempts, &error).await
                && self.messages.send(message).await.is_err()
            {
                return;
            }
            tokio::time::sleep(attempts.next_delay()).await;
        }
    }

    async fn list(&self, attempts: &mut Attempts) -> Result<String, ListWatchEnd> {
        self.send(watcher::Event::Init).await?;
        let client = self.api.clone().into_client();
        let mut list = List::new(&client, self.api.resource_url(), self.params.list());
        while let Some(object) = list.next().await.map_err(ListWatchEnd::Failed)? {
            self.send(watcher::Event::InitApply(object)).await?;
        }
        *attempts = Attempts::new();
        self.send(watcher::Event::InitDone).await?;
        Ok(list.into_version())
    }

    async fn watch(
        &self,
        version: &mut String,
        attempts: &mut Attempts,
    ) -> Result<(), ListWatchEnd> {
        let client = self.api.clone().into_client();
        let (url, params) = (self.api.resource_url(), self.params.watch());
        let watch = stream::WatchStream::start(&client, url, &params, version).await;
        let mut watch = watch.map_err(ListWatchEnd::Failed)?;
        while let Some(event) = watch.next(version).await.map_err(ListWatchEnd::Failed)? {
            *attempts = Attempts::new();
            match event {
                WatchEvent::Apply(object) => self.send(watcher::Event::Apply(object)).await?,
                WatchEvent::Delete(object) => self.send(watcher::Event::Delete(object)).await?,
                WatchEvent::Bookmark => {}
            }
        }
        Ok(())
    }

    async fn send(&self, event: watcher::Event<Object>) -> Result<(), ListWatchEnd> {
        let message = Message::Event(self.scope, Box::new(event));
        let sent = self.messages.send(message).await;
        sent.map_err(|_| ListWatchEnd::Closed)
    }

    /// Logs or reports a failure, and waits until the API server is available again.
    async fn failed(&mut self, attempts: &mut Attempts, error: &watcher::Error) -> Option<Message> {
        let kind = self.kind.name();
        tracing::debug!(kind, %error, "watch");
        match Failure::of(self.kind, error) {
            Failure::Interrupted => attempts.backoff.reset(),
            Failure::Unreachable(cause) => {
                self.api_health.mark_unreachable(kind, &cause);
                self.api_health.wait_reachable().await;
                attempts.backoff.reset();
            }
            Failure::ServerError(cause) => {
                attempts.failures += 1;
                // A starting or stopping API server fails briefly: log only persistent failures.
                if attempts.failures == 3 {
                    tracing::warn!(
                        kind,
                        cause,
                        "the API server failed three requests for these objects: the known ones \
                         stay in use; retrying"
                    );
                }
            }
            Failure::Rejected(error) => {
                let error = self.cause_of(error, attempts).await;
                if error.kind_missing
                    && let Some(older) = &mut self.older
                {
                    std::mem::swap(&mut self.api, older);
                    attempts.other_version = !attempts.other_version;
                    if attempts.other_version {
                        attempts.at_once = true;
                        return None;
                    }
                }
                let since = *attempts.rejected_since.get_or_insert_with(Instant::now);
                attempts.slow = error.kind_missing
                    && (self.kind.is_own() || since.elapsed() >= MISSING_FOR_LONG);
                let confirmed = error.kind_missing || since.elapsed() >= FORBIDDEN_GRACE;
                return confirmed.then_some(Message::Rejected(self.scope, error));
            }
        }
        None
    }

    /// Why a request was rejected. The API server checks permissions first, so it denies the
    /// request also for a kind that it doesn't know.
    async fn cause_of(&self, rejection: ListError, attempts: &Attempts) -> ListError {
        let since = attempts.rejected_since.map(|since| since.elapsed());
        let confirmed = since.is_some_and(|since| since >= FORBIDDEN_GRACE);
        if rejection.kind_missing || !self.kind.is_custom() || !confirmed {
            return rejection;
        }
        let client = self.api.clone().into_client();
        match check_crd(&client, self.kind).await {
            Some(Err(missing)) => missing,
            Some(Ok(())) | None => rejection,
        }
    }
}

/// Failures since the last success.
struct Attempts {
    backoff: Backoff,
    failures: u32,
    rejected_since: Option<Instant>,
    /// The API server doesn't know the version that was requested, and the other one is next. The
    /// kind is missing if it knows neither.
    other_version: bool,
    /// The next attempt needs no delay.
    at_once: bool,
    /// The kind is absent, and will probably stay so, because one of the two API groups is enough:
    /// retry less often, to keep the load of a fleet low.
    slow: bool,
}

impl Attempts {
    fn new() -> Self {
        Self {
            backoff: Backoff::default(),
            failures: 0,
            rejected_since: None,
            other_version: false,
            at_once: false,
            slow: false,
        }
    }

    /// Delay before the next attempt.
    fn next_delay(&mut self) -> Duration {
        if std::mem::take(&mut self.at_once) {
            return Duration::ZERO;
        }
        self.backoff.next() * if self.slow { 4 } else { 1 }
    }
}

#[cfg(test)]
mod tests;
