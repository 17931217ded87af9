//! Single requests to the API server, with objects as JSON: a migration from MetalLB handles kinds
//! that ferrolb otherwise never reads.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper::http::{Method, Request};
use kube::Client;
use serde_json::Value;
use tokio::time::timeout;

use super::client::connect_to;
use super::list::{WithoutHistory, each_item};

/// Limit for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The name of kubectl's own field manager, so that a later `kubectl apply --server-side` of the
/// same file has no conflict.
const FIELD_MANAGER: &str = "kubectl";

/// The API server answered with an error.
#[derive(Debug, thiserror::Error)]
#[error("{about}: {message}")]
pub(crate) struct Refused {
    about: String,
    code: u16,
    /// The text of the API server. Without a permission it names the verb and the resource.
    pub message: String,
}

impl Refused {
    /// Whether the user lacks a permission.
    pub(crate) const fn is_forbidden(&self) -> bool {
        self.code == 403
    }
}

/// A connection to the API server of a cluster.
pub(crate) struct Cluster {
    client: Client,
    /// By apiVersion and kind.
    resources: BTreeMap<(String, String), Resource>,
}

/// How the API server names a kind.
#[derive(Clone, Debug)]
struct Resource {
    plural: String,
    namespaced: bool,
}

impl Cluster {
    pub(crate) async fn connect(kubeconfig: Option<&Path>) -> Result<Self> {
        Self::connect_to(kubeconfig, None).await
    }

    /// The cluster of a context of the kubeconfig; without one, of its current context.
    pub(crate) async fn connect_to(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
    ) -> Result<Self> {
        Ok(Self {
            client: connect_to(kubeconfig, context).await?,
            resources: BTreeMap::new(),
        })
    }

    /// The object at a path, for instance `/api/v1/namespaces/default/pods/web`.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>> {
        self.send(Method::GET, path, None).await
    }

    /// The objects of a list without the history of their fields, with the kind and version that
    /// the items of a list lack. Empty if the API server doesn't have the kind.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>> {
        Ok(self.list_if_served(path).await?.unwrap_or_default())
    }

    /// The same. None if the API server doesn't have the kind.
    pub(crate) async fn list_if_served(&self, path: &str) -> Result<Option<Vec<Value>>> {
        let Some(text) = self.list_text(path).await? else {
            return Ok(None);
        };
        let mut items = Vec::new();
        let head = each_item(&text, |item: WithoutHistory| items.push(item.0));
        let head = head.with_context(|| format!("GET {path}: the answer is no list"))?;
        for item in &mut items {
            item["apiVersion"] = head.api_version.as_str().into();
            item["kind"] = head.kind.as_str().into();
        }
        Ok(Some(items))
    }

    /// The answer to a list. None if the API server doesn't have the kind.
    pub(super) async fn list_text(&self, path: &str) -> Result<Option<String>> {
        self.send_for_text(Method::GET, path, None).await
    }

    /// Changes fields of an object (RFC 7386).
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Result<()> {
        let body = (patch, "application/merge-patch+json");
        let found = self.send(Method::PATCH, path, Some(body)).await?;
        found.map(drop).with_context(|| format!("no object {path}"))
    }

    /// Creates or updates an object by server-side apply.
    pub(crate) async fn apply(&mut self, object: &Value) -> Result<()> {
        let path = self.path_of(object).await?;
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        let body = (object, "application/apply-patch+yaml");
        let found = self.send(Method::PATCH, &path, Some(body)).await?;
        found.map(drop).with_context(|| {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("-");
            format!("the namespace {namespace} does not exist")
        })
    }

    /// Deletes an object, and later those that it owns. It may be absent.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let path = format!("{path}?propagationPolicy=Background");
        self.send(Method::DELETE, &path, None).await.map(drop)
    }

    /// What a Pod answers to a GET request that the API server forwards. `None` if it doesn't
    /// answer.
    pub(crate) async fn ask_pod(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> Option<String> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        let request = Request::get(path).body(Vec::new()).ok()?;
        let answer = timeout(REQUEST_TIMEOUT, self.client.request_text(request));
        answer.await.ok()?.ok()
    }

    /// What the API server answers to a GET request, as text.
    ///
    /// # Errors
    /// It doesn't answer, or with an error.
    pub(crate) async fn text(&self, path: &str) -> Result<String> {
        let request = Request::get(path).body(Vec::new())?;
        match timeout(REQUEST_TIMEOUT, self.client.request_text(request)).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(kube::Error::Api(status))) => bail!("{}", status.message),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => bail!("no answer within {} s", REQUEST_TIMEOUT.as_secs()),
        }
    }

    /// The path of an object.
    async fn path_of(&mut self, object: &Value) -> Result<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let name = text(&object["metadata"]["name"]);
        let resource = self.resource(&version, &kind).await?;
        let base = base(&version);
        let plural = &resource.plural;
        Ok(if resource.namespaced {
            let namespace = object["metadata"]["namespace"].as_str();
            let namespace = namespace.unwrap_or("default");
            format!("{base}/namespaces/{namespace}/{plural}/{name}")
        } else {
            format!("{base}/{plural}/{name}")
        })
    }

    async fn resource(&mut self, version: &str, kind: &str) -> Result<Resource> {
        let key = (version.to_owned(), kind.to_owned());
        if let Some(resource) = self.resources.get(&key) {
            return Ok(resource.clone());
        }
        let list = self.get(&base(version)).await?.unwrap_or_default();
        let resources = list["resources"].as_array().into_iter().flatten();
        let mut resources = resources.filter(|resource| {
            let name = resource["name"].as_str().unwrap_or_default();
            resource["kind"] == kind && !name.contains('/')
        });
        let Some(found) = resources.next() else {
            bail!("the API server has no kind {kind} in {version}");
        };
        let resource = Resource {
            plural: found["name"].as_str().unwrap_or_default().to_owned(),
            namespaced: found["namespaced"] == true,
        };
        self.resources.insert(key, resource.clone());
        Ok(resource)
    }

    /// Sends a request. `None` if the object or the kind does not exist.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&Value, &str)>,
    ) -> Result<Option<Value>> {
        let about = format!("{method} {path}: the answer is no JSON");
        let text = self.send_for_text(method, path, body).await?;
        let value = text.map(|text| serde_json::from_str(&text));
        value.transpose().context(about)
    }

    /// The same, with the answer as text.
    async fn send_for_text(
        &self,
        method: Method,
        path: &str,
        body: Option<(&Value, &str)>,
    ) -> Result<Option<String>> {
        let about = format!("{method} {}", path.split('?').next().unwrap_or(path));
        let mut request = Request::builder().method(method).uri(path);
        let mut content = Vec::new();
        if let Some((body, kind)) = body {
            request = request.header("content-type", kind);
            content = serde_json::to_vec(body)?;
        }
        let request = request.body(content)?;
        let answer = timeout(REQUEST_TIMEOUT, self.client.request_text(request));
        match answer.await {
            Ok(Ok(text)) => Ok(Some(text)),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
            Ok(Err(kube::Error::Api(status))) => Err(Refused {
                about,
                code: status.code,
                message: status.message.clone(),
            }
            .into()),
            Ok(Err(error)) => Err(error).context(about),
            Err(_) => bail!("{about}: no answer within {} s", REQUEST_TIMEOUT.as_secs()),
        }
    }
}

/// The path of an apiVersion.
fn base(version: &str) -> String {
    if version.contains('/') {
        format!("/apis/{version}")
    } else {
        format!("/api/{version}")
    }
}
