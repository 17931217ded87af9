//! The benchmark's client of the API server: creates objects with their statuses.

use std::path::Path;

use anyhow::{Context, Result};
use ferrolb_lab_bench::api_server::connect;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Concurrent requests while objects are created.
const AT_ONCE: usize = 16;

/// Plural names, and whether objects have a namespace and a status of their own.
const RESOURCES: &[(&str, &str, bool, bool)] = &[
    ("Service", "services", true, true),
    ("EndpointSlice", "endpointslices", true, false),
    ("Node", "nodes", false, true),
    ("Pod", "pods", true, true),
    ("DaemonSet", "daemonsets", true, true),
    ("Deployment", "deployments", true, true),
    ("IPAddressPool", "ipaddresspools", true, false),
    ("BGPPeer", "bgppeers", true, false),
    ("BGPAdvertisement", "bgpadvertisements", true, false),
    ("BGPSession", "bgpsessions", false, false),
];

/// A client with blocking calls.
pub(crate) struct ApiClient {
    runtime: Runtime,
    client: Client,
}

impl ApiClient {
    /// The calling thread must be in a namespace from which the API server is reachable.
    pub(crate) fn new(kubeconfig: &Path) -> Result<Self> {
        let (runtime, client) = connect(kubeconfig)?;
        Ok(Self { runtime, client })
    }

    /// Creates or replaces objects, each with its status, in any order.
    pub(crate) fn write(&self, objects: Vec<Value>) -> Result<()> {
        let requests = stream::iter(objects).map(|object| self.write_one(object));
        let all = requests.buffer_unordered(AT_ONCE).try_collect::<()>();
        self.runtime.block_on(all)
    }

    async fn write_one(&self, mut object: Value) -> Result<()> {
        let (api, has_status) = self.api(&object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let name = name.to_owned();
        let status = has_status.then(|| object["status"].take());
        let exists = api.get_opt(&name).await?.is_some();
        if exists {
            let parameters = PatchParams::default();
            api.patch(&name, &parameters, &Patch::Merge(&object))
                .await?;
        } else {
            let object = serde_json::from_value(object)?;
            api.create(&PostParams::default(), &object).await?;
        }
        if let Some(status) = status {
            let patch = Patch::Merge(json!({ "status": status }));
            let parameters = PatchParams::default();
            api.patch_status(&name, &parameters, &patch).await?;
        }
        Ok(())
    }

    /// Changes the fields of an object.
    pub(crate) fn change(&self, object: &Value) -> Result<()> {
        let (api, _) = self.api(object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let parameters = PatchParams::default();
        let patch = Patch::Merge(object);
        self.runtime
            .block_on(api.patch(name, &parameters, &patch))?;
        Ok(())
    }

    fn api(&self, object: &Value) -> Result<(Api<DynamicObject>, bool)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let known = RESOURCES.iter().find(|(name, ..)| *name == kind);
        let (_, plural, namespaced, has_status) =
            known.with_context(|| format!("unknown kind {kind}"))?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.clone(),
            kind,
            plural: (*plural).to_owned(),
        };
        let client = self.client.clone();
        let api = if *namespaced {
            let namespace = text(&object["metadata"]["namespace"]);
            Api::namespaced_with(client, &namespace, &resource)
        } else {
            Api::all_with(client, &resource)
        };
        Ok((api, *has_status))
    }
}
