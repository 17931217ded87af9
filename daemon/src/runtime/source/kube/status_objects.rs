//! Writes objects of which this process is the only writer, as [`StatusObjects`] says: with
//! server-side apply, without a resourceVersion. Failures are retried with the latest objects, and
//! nothing waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::client::{self, StartError};
use super::watch::chain;
use crate::core::api::Kind;
use crate::core::api::bgp_session;
use crate::runtime::source::bgp_sessions::NODE_LABEL;
use crate::runtime::source::metallb_kinds::{self, API_VERSION, MetallbStatus};
use crate::runtime::source::status_objects::{StatusObjects, StatusObjectsReceiver, label};

/// The field manager of all such objects.
pub(super) const MANAGER: &str = "ferrolb";
/// Earlier versions wrote ServiceL2Status objects as this manager.
const FORMER_MANAGER: &str = "ferrolb-layer2";
/// Limit for a request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay before the next attempt where the API server doesn't have the kind, and up to twice of it:
/// most likely the operator doesn't want it.
const MISSING_DELAY: Duration = Duration::from_secs(30);

/// The resource of BGPSessions.
pub(super) fn bgp_sessions() -> ApiResource {
    let (group, version) = Kind::OWN_API_VERSION.split_once('/').unwrap_or_default();
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: Kind::OWN_API_VERSION.to_owned(),
        kind: bgp_session::KIND.to_owned(),
        plural: bgp_session::PLURAL.to_owned(),
    }
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such object, or the API server doesn't know the kind.
    NotFound,
    /// Another writer changed the object meanwhile.
    Conflict,
    /// Anything else.
    Other(String),
}

impl Failure {
    /// The failure as text, where nothing is created by name.
    pub(super) fn text(self) -> String {
        match self {
            Self::NotFound => "the API server has no such kind".to_owned(),
            Self::Conflict => "another writer changed it".to_owned(),
            Self::Other(text) => text,
        }
    }
}

/// Starts to write some of MetalLB's status objects.
///
/// # Errors
///
/// The client's configuration is invalid.
pub(crate) async fn start_metallb(
    kubeconfig: Option<&Path>,
    namespace: &str,
    node: &str,
    kind: MetallbStatus,
    objects: StatusObjectsReceiver,
) -> Result<(), StartError> {
    let client = client::connect(kubeconfig).await?;
    let own = match kind {
        MetallbStatus::ServiceBgp | MetallbStatus::ServiceL2 => {
            Some(format!("{}={}", metallb_kinds::NODE_LABEL, label(node)))
        }
        MetallbStatus::Speaker | MetallbStatus::Controller => None,
    };
    tokio::spawn(Writer::of_metallb(client, namespace, kind, own).run(objects));
    Ok(())
}

/// Waits for an answer of the API server.
pub(super) async fn answer<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Failure::NotFound),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failure::Conflict),
        Ok(Err(error)) => Err(Failure::Other(chain(&error))),
        Err(_) => Err(Failure::Other("no answer in time".to_owned())),
    }
}

/// Deletes an object, which may be gone already.
pub(super) async fn delete(api: &Api<DynamicObject>, name: &str) -> Result<(), Failure> {
    match answer(api.delete(name, &DeleteParams::default())).await {
        Ok(_) | Err(Failure::NotFound) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Writes all objects of one kind that this process is in charge of.
pub(super) struct Writer {
    api: Api<DynamicObject>,
    /// The kind, and what to do if it can't be written.
    kind: &'static str,
    remedy: &'static str,
    /// Selects the objects of this process and of earlier ones in its place.
    own: String,
    /// Whether the status is written in a request of its own.
    subresource: bool,
    /// What earlier processes left behind was deleted.
    listed: bool,
    written: BTreeMap<String, Arc<Value>>,
    /// [`StatusObjects::others`] that are deleted.
    others: BTreeMap<String, BTreeSet<String>>,
    revision: u64,
}

impl Writer {
    /// The writer of a node's BGPSessions.
    pub(super) fn of_bgp_sessions(client: Client, node: &str) -> Self {
        Self {
            api: Api::all_with(client, &bgp_sessions()),
            kind: bgp_session::KIND,
            remedy: "Sessions and routes don't depend on it. Apply ferrolb's CRDs (ferrolb crds | \
                kubectl apply -f -), and allow the announcer to write bgpsessions \
                (deploy/manifests/2-rbac.yaml)",
            own: format!("{NODE_LABEL}={}", label(node)),
            subresource: false,
            listed: false,
            written: BTreeMap::new(),
            others: BTreeMap::new(),
            revision: 0,
        }
    }

    /// The writer of some of MetalLB's status objects. `own` selects those of this process and of
    /// earlier ones in its place; none if they have the same names.
    fn of_metallb(
        client: Client,
        namespace: &str,
        kind: MetallbStatus,
        own: Option<String>,
    ) -> Self {
        let (group, version) = API_VERSION.split_once('/').unwrap_or_default();
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: API_VERSION.to_owned(),
            kind: kind.kind().to_owned(),
            plural: kind.plural().to_owned(),
        };
        Self {
            api: Api::namespaced_with(client, namespace, &resource),
            kind: kind.kind(),
            remedy: "Apply MetalLB's CRDs, allow the service account to write them \
                (deploy/manifests/2-rbac.yaml), or remove --metallb-status",
            listed: own.is_none(),
            own: own.unwrap_or_default(),
            subresource: true,
            written: BTreeMap::new(),
            others: BTreeMap::new(),
            revision: 0,
        }
    }

    /// Writes until the sender is dropped or has sent the last objects.
    pub(super) async fn run(mut self, mut objects: StatusObjectsReceiver) {
        let mut backoff = Backoff::default();
        let mut failing = false;
        loop {
            let new = objects.borrow_and_update().clone();
            let delay = match &new {
                None => None,
                Some(new) => match self.write(new).await {
                    Ok(()) if new.last => return,
                    Ok(()) => {
                        if std::mem::take(&mut failing) {
                            tracing::info!(status = "resolved", "{}s are written again", self.kind);
                        }
                        backoff.reset();
                        None
                    }
                    Err(failure) => {
                        let missing = matches!(failure, Failure::NotFound);
                        if !std::mem::replace(&mut failing, true) {
                            let (kind, remedy, why) = (self.kind, self.remedy, failure.text());
                            tracing::warn!("can't write {kind}s, retrying: {why}. {remedy}");
                        }
                        Some(match missing {
                            true => MISSING_DELAY.mul_f64(1.0 + fastrand::f64()),
                            false => backoff.next(),
                        })
                    }
                },
            };
            if let Some(delay) = delay {
                sleep(delay).await;
            } else if objects.changed().await.is_err() {
                return;
            }
        }
    }

    /// Writes the differences, as many as possible. Returns the first failure.
    async fn write(&mut self, new: &StatusObjects) -> Result<(), Failure> {
        if new.revision != self.revision {
            self.revision = new.revision;
            for written in self.written.values_mut() {
                *written = Arc::default();
            }
        }
        let mut result = Ok(());
        if !self.listed {
            let stays = |object: &DynamicObject| {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                new.objects.contains_key(name) && !has_former_manager(object)
            };
            match self.delete_unless(&self.own, stays).await {
                Ok(()) => self.listed = true,
                // The API server would answer the same to everything.
                Err(Failure::NotFound) => return Err(Failure::NotFound),
                Err(failure) => result = Err(failure),
            }
        }
        for (name, object) in &new.objects {
            if self.written.get(name) == Some(object) {
                continue;
            }
            match self.apply(name, object).await {
                Ok(()) => _ = self.written.insert(name.clone(), object.clone()),
                Err(failure) => result = result.and(Err(failure)),
            }
        }
        self.others
            .retain(|labels, _| new.others.contains_key(labels));
        for (labels, names) in &new.others {
            if self.others.get(labels) == Some(names) {
                continue;
            }
            let stays = |object: &DynamicObject| {
                let name = object.metadata.name.as_ref();
                name.is_some_and(|name| names.contains(name))
            };
            match self.delete_unless(labels, stays).await {
                Ok(()) => _ = self.others.insert(labels.clone(), names.clone()),
                Err(failure) => result = result.and(Err(failure)),
            }
        }
        let gone = self
            .written
            .keys()
            .filter(|name| !new.objects.contains_key(*name));
        let gone: Vec<String> = gone.cloned().collect();
        for name in gone {
            match delete(&self.api, &name).await {
                Ok(()) => _ = self.written.remove(&name),
                Err(failure) => result = result.and(Err(failure)),
            }
        }
        result
    }

    async fn apply(&self, name: &str, object: &Value) -> Result<(), Failure> {
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(object);
        answer(self.api.patch(name, &params, &patch)).await?;
        if self.subresource {
            answer(self.api.patch_status(name, &params, &patch)).await?;
        }
        Ok(())
    }

    /// Deletes the objects with these labels that don't stay.
    async fn delete_unless(
        &self,
        labels: &str,
        stays: impl Fn(&DynamicObject) -> bool,
    ) -> Result<(), Failure> {
        let labels = ListParams::default().labels(labels);
        for object in answer(self.api.list(&labels)).await? {
            if !stays(&object) {
                let name = object.metadata.name.unwrap_or_default();
                delete(&self.api, &name).await?;
            }
        }
        Ok(())
    }
}

/// Whether an earlier version wrote the object: it would go on owning fields that are removed.
fn has_former_manager(object: &DynamicObject) -> bool {
    let fields = object.metadata.managed_fields.as_deref();
    let mut managers = fields.unwrap_or_default().iter();
    managers.any(|fields| fields.manager.as_deref() == Some(FORMER_MANAGER))
}
