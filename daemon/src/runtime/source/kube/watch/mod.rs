//! The watches of one kind: they list, follow, and try again for ever.
//!
//! An API server that does not answer changes nothing: the last state stands. An API server that answers "no" (no such
//! CRD, no permission) is reported, and asked again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{ListParams, VersionMatch, WatchParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::api_health::{ApiHealth, Delays};
use super::client::WATCH_SECONDS;
use super::listing::{Listing, Refusal};
use super::object::{Object, plural, resource};
use super::stream::{self, List, Seen};
use crate::core::api::Kind;
use crate::runtime::source::Event;

/// An API server that has just started says "forbidden" until it has read its roles: believed after this.
pub(super) const FORBIDDEN_GRACE: Duration = Duration::from_secs(10);

/// Deletes of custom objects are held back this long, so that it shows whether their CRD is going too.
const DOUBT: Duration = Duration::from_secs(1);

/// How many events of a kind may wait; the API server's stream waits with them.
const WAITING: usize = 16;

/// Objects in a page of a list.
const PAGE: u32 = 500;

/// Whether a CRD stands is asked again after this.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// What every watch needs.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) config_namespaces: Arc<[String]>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) reach: Arc<ApiHealth>,
}

/// Where the first list comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// An API server's cache will do: a fleet that restarts does not ask etcd.
    Cached,
    /// What is true now: a new leader decides from it.
    Consistent,
}

/// What one watch says to the kind it belongs to.
enum Heard {
    Event(usize, Box<watcher::Event<Object>>),
    Refused(usize, Refusal),
}

/// Follows a kind until the receiver of events is gone. `answered` hears once that the kind is complete: with
/// [`Freshness::Consistent`] services must have been listed for that, for other kinds a refusal will do.
pub(super) async fn follow(
    context: Context,
    kind: Kind,
    freshness: Freshness,
    answered: impl FnOnce(),
) {
    let (heard_by, mut heard) = mpsc::channel(WAITING);
    let scopes = scopes(&context, kind);
    let mut listing = Listing::new(kind, scopes.len());
    let mut watches = JoinSet::new();
    for (scope, api) in scopes.into_iter().enumerate() {
        let watch = Watch {
            kind,
            scope,
            api,
            params: Params::new(kind, freshness),
            reach: context.reach.clone(),
            heard: heard_by.clone(),
        };
        watches.spawn(watch.run());
    }
    drop(heard_by);

    let mut answered = Some(answered);
    let mut doubt_ends: Option<Instant> = None;
    loop {
        let settled = listing.poll_timeout();
        let changes = tokio::select! {
            message = heard.recv() => match message {
                Some(Heard::Event(scope, event)) => listing.handle(Instant::now(), scope, *event),
                Some(Heard::Refused(scope, refusal)) => listing.refuse(scope, refusal),
                None => return,
            },
            // It panicked, or nobody listens any more.
            _ = watches.join_next() => return,
            () = at(settled) => listing.handle_timeout(Instant::now()),
            () = at(doubt_ends) => match crd_stands(&context.client, kind).await {
                Some(verdict) => listing.resolve(verdict),
                None => {
                    doubt_ends = Some(Instant::now() + DOUBT);
                    continue;
                }
            },
        };
        for change in changes {
            if context.events.send(Event::Change(change)).await.is_err() {
                return;
            }
        }
        doubt_ends = listing
            .is_in_doubt()
            .then(|| doubt_ends.unwrap_or_else(|| Instant::now() + DOUBT));
        let complete = if kind == Kind::Service {
            listing.is_listed()
        } else {
            listing.is_complete()
        };
        if complete && let Some(answered) = answered.take() {
            answered();
        }
    }
}

/// Waits for a moment, or for ever.
pub(super) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// One for the whole cluster, or one per configuration namespace.
fn scopes(context: &Context, kind: Kind) -> Vec<Api<Object>> {
    let resource = resource(kind);
    if !kind.is_configuration() {
        return vec![Api::all_with(context.client.clone(), &resource)];
    }
    let namespaces = context.config_namespaces.iter();
    namespaces
        .map(|namespace| Api::namespaced_with(context.client.clone(), namespace, &resource))
        .collect()
}

/// Which objects are asked for, and how.
#[derive(Clone, Copy, Debug)]
struct Params {
    freshness: Freshness,
    fields: Option<&'static str>,
    labels: Option<&'static str>,
}

impl Params {
    fn new(kind: Kind, freshness: Freshness) -> Self {
        let fields = match kind {
            Kind::Service => Some("spec.type=LoadBalancer"),
            Kind::Secret => Some("type=kubernetes.io/basic-auth"),
            _ => None,
        };
        let labels = (kind == Kind::EndpointSlice)
            .then_some("kubernetes.io/service-name,!service.kubernetes.io/headless");
        Self {
            freshness,
            fields,
            labels,
        }
    }

    /// An API server's cache gives the whole list at once; what is true now comes in pages, which may come from etcd.
    fn list(self) -> ListParams {
        let cached = self.freshness == Freshness::Cached;
        ListParams {
            field_selector: self.fields.map(str::to_owned),
            label_selector: self.labels.map(str::to_owned),
            limit: (!cached).then_some(PAGE),
            resource_version: cached.then(|| "0".to_owned()),
            version_match: cached.then_some(VersionMatch::NotOlderThan),
            ..ListParams::default()
        }
    }

    fn watch(self) -> WatchParams {
        WatchParams {
            field_selector: self.fields.map(str::to_owned),
            label_selector: self.labels.map(str::to_owned),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        }
    }
}

/// Whether the CRD of a kind is there and not on its way out; `None` when nobody answers. A terminating CRD's objects
/// can't be created any more, and discovery says so.
async fn crd_stands(client: &Client, kind: Kind) -> Option<Result<(), Refusal>> {
    let gone = || {
        Err(Refusal {
            message: unknown_kind(kind),
            kind_is_gone: true,
        })
    };
    let asked = client.list_api_group_resources(kind.api_version());
    match tokio::time::timeout(DISCOVERY_TIMEOUT, asked).await.ok()? {
        Ok(list) => {
            let mut resources = list.resources.iter();
            let stands = resources.any(|resource| {
                resource.name == plural(kind) && resource.verbs.iter().any(|verb| verb == "create")
            });
            Some(if stands { Ok(()) } else { gone() })
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Some(gone()),
        Err(_) => None,
    }
}

fn unknown_kind(kind: Kind) -> String {
    let remedy = if kind == Kind::FerrolbBgpPeer {
        "apply deploy/manifests/0-crds.yaml, or what ferrolb crds prints"
    } else {
        "apply MetalLB's CRDs"
    };
    format!(
        "the API server does not know {} in {}: {remedy} (kubectl get crd {}.{})",
        kind.name(),
        kind.api_version(),
        plural(kind),
        kind.group()
    )
}

/// What a failure means.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// The API server said no.
    Refused(Refusal),
    /// Nobody answered.
    Unreachable(String),
    /// The API server is there, and in trouble.
    Failing(String),
    /// The watch was cut, or is too old: it goes on by itself.
    Cut,
}

impl Trouble {
    fn of(kind: Kind, error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                Self::of_request(kind, error)
            }
            watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_) => Self::Cut,
            watcher::Error::NoResourceVersion => {
                Self::Failing("the answer to a list has no resourceVersion".to_owned())
            }
        }
    }

    fn of_request(kind: Kind, error: &kube::Error) -> Self {
        if no_answer(error) {
            return Self::Unreachable(chain(error));
        }
        let kube::Error::Api(status) = error else {
            return Self::Failing(chain(error));
        };
        match status.code {
            404 if kind.is_custom() || kind.is_optional() => Self::Refused(Refusal {
                message: unknown_kind(kind),
                kind_is_gone: true,
            }),
            403 => Self::Refused(Refusal {
                message: format!(
                    "{}: let the service account list and watch {} (deploy/manifests/2-rbac.yaml)",
                    status.message,
                    plural(kind)
                ),
                kind_is_gone: false,
            }),
            code => Self::Failing(format!("{code} {}: {}", status.reason, status.message)),
        }
    }
}

/// Whether nobody answered a request.
pub(super) fn no_answer(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
}

/// Whether the watch has to begin with a list again: the API server will not go on where it was. An overloaded API server
/// is not asked for more.
pub(super) fn begins_anew(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 400..=428 | 504)
        }
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::NoResourceVersion => true,
        _ => false,
    }
}

/// An error with its causes: kube's own text stops at "ServiceError".
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

/// Why listing or watching ended before its time.
enum Stopped {
    /// Nobody takes events any more.
    Closed,
    /// The API server or the connection failed.
    Failed(watcher::Error),
}

/// One watch.
struct Watch {
    kind: Kind,
    scope: usize,
    api: Api<Object>,
    params: Params,
    reach: Arc<ApiHealth>,
    heard: mpsc::Sender<Heard>,
}

impl Watch {
    async fn run(self) {
        let mut attempts = Attempts::new();
        // Where the watch goes on; none: with a list.
        let mut version = None;
        loop {
            let stopped = match &mut version {
                None => match self.list(&mut attempts).await {
                    Ok(listed) => {
                        version = Some(listed);
                        continue;
                    }
                    Err(stopped) => stopped,
                },
                // While the API server is merely away, it goes on where it was.
                Some(version) => match self.watch(version, &mut attempts).await {
                    Ok(()) => continue,
                    Err(stopped) => stopped,
                },
            };
            let Stopped::Failed(error) = stopped else {
                return;
            };
            if begins_anew(&error) {
                version = None;
            }
            if let Some(heard) = self.failed(&mut attempts, &error).await
                && self.heard.send(heard).await.is_err()
            {
                return;
            }
            tokio::time::sleep(attempts.pause()).await;
        }
    }

    async fn list(&self, attempts: &mut Attempts) -> Result<String, Stopped> {
        self.send(watcher::Event::Init).await?;
        let client = self.api.clone().into_client();
        let mut list = List::new(&client, self.api.resource_url(), self.params.list());
        while let Some(object) = list.next().await.map_err(Stopped::Failed)? {
            self.send(watcher::Event::InitApply(object)).await?;
        }
        *attempts = Attempts::new();
        self.send(watcher::Event::InitDone).await?;
        Ok(list.into_version())
    }

    async fn watch(&self, version: &mut String, attempts: &mut Attempts) -> Result<(), Stopped> {
        let client = self.api.clone().into_client();
        let (url, params) = (self.api.resource_url(), self.params.watch());
        let watch = stream::Watch::begin(&client, url, &params, version).await;
        let mut watch = watch.map_err(Stopped::Failed)?;
        while let Some(seen) = watch.next(version).await.map_err(Stopped::Failed)? {
            *attempts = Attempts::new();
            match seen {
                Seen::Apply(object) => self.send(watcher::Event::Apply(object)).await?,
                Seen::Delete(object) => self.send(watcher::Event::Delete(object)).await?,
                Seen::Bookmark => {}
            }
        }
        Ok(())
    }

    async fn send(&self, event: watcher::Event<Object>) -> Result<(), Stopped> {
        let heard = Heard::Event(self.scope, Box::new(event));
        let sent = self.heard.send(heard).await;
        sent.map_err(|_| Stopped::Closed)
    }

    /// Says what has to be said about a failure, and waits for the API server if that is what is missing.
    async fn failed(&self, attempts: &mut Attempts, error: &watcher::Error) -> Option<Heard> {
        let kind = self.kind.name();
        tracing::debug!(kind, %error, "watch");
        match Trouble::of(self.kind, error) {
            Trouble::Cut => attempts.delays.reset(),
            Trouble::Unreachable(cause) => {
                self.reach.lost(kind, &cause);
                self.reach.returned().await;
                attempts.delays.reset();
            }
            Trouble::Failing(cause) => {
                attempts.failures += 1;
                // An API server that starts or stops fails for a moment: that is not worth a word.
                if attempts.failures == 3 {
                    tracing::warn!(
                        kind,
                        cause,
                        "can't be read for now: what is known stays in force"
                    );
                }
            }
            Trouble::Refused(refusal) => {
                attempts.rare = refusal.kind_is_gone && self.kind == Kind::FerrolbBgpPeer;
                let since = *attempts.refused_since.get_or_insert_with(Instant::now);
                let believed = refusal.kind_is_gone || since.elapsed() >= FORBIDDEN_GRACE;
                return believed.then_some(Heard::Refused(self.scope, refusal));
            }
        }
        None
    }
}

/// What was tried in vain since the last success.
struct Attempts {
    delays: Delays,
    failures: u32,
    refused_since: Option<Instant>,
    /// Most clusters do without: a fleet does not ask for it every few seconds.
    rare: bool,
}

impl Attempts {
    fn new() -> Self {
        Self {
            delays: Delays::new(),
            failures: 0,
            refused_since: None,
            rare: false,
        }
    }

    /// How long to wait before the next attempt.
    fn pause(&mut self) -> Duration {
        self.delays.next() * if self.rare { 4 } else { 1 }
    }
}

#[cfg(test)]
mod tests;
