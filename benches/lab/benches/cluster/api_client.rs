//! The benchmark's client of the API server: creates and changes objects, and watches an
//! EndpointSlice.

use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ferrolb_interop_tests::netns::NamespaceHandle;
use ferrolb_lab_bench::api_server::connect;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const NAMESPACE: &str = "default";

/// Concurrent requests while objects are created.
const AT_ONCE: usize = 16;

/// Concurrent requests while changes are made at a given rate: enough to keep the API server busy.
const RATE_AT_ONCE: usize = 64;

/// Timeout of a watch; longer than one series of changes.
const WATCH_SECONDS: u32 = 290;

/// A client with blocking calls.
pub(crate) struct ApiClient {
    runtime: Runtime,
    client: Client,
}

/// Resource versions with the time at which the watch reported them, then the error that ended it.
pub(crate) type WatchedVersions = Receiver<Result<(String, Instant)>>;

pub(crate) fn name(index: usize) -> String {
    format!("bench-{index}")
}

/// The endpoints of a slice: one endpoint on this node.
fn endpoints(node: &str, ready: bool) -> Value {
    json!([{
        "addresses": ["10.244.1.2"],
        "nodeName": node,
        "conditions": {"ready": ready, "serving": ready, "terminating": false},
    }])
}

impl ApiClient {
    /// The calling thread must be in a namespace from which the API server is reachable.
    pub(crate) fn new(kubeconfig: &Path) -> Result<Self> {
        let (runtime, client) = connect(kubeconfig)?;
        Ok(Self { runtime, client })
    }

    /// Creates Services without a selector, each with an EndpointSlice: no controller writes to
    /// them.
    pub(crate) fn create(&self, node: &str, indices: Range<usize>) -> Result<()> {
        let (services, slices) = (self.services(), self.slices());
        let requests = stream::iter(indices).map(|index| {
            let (services, slices) = (&services, &slices);
            async move {
                let (service, slice) = objects(node, index)?;
                let parameters = PostParams::default();
                slices.create(&parameters, &slice).await?;
                services.create(&parameters, &service).await?;
                anyhow::Ok(())
            }
        });
        let all = requests.buffer_unordered(AT_ONCE).try_collect::<()>();
        self.runtime.block_on(all)
    }

    /// Creates the EndpointSlice of a Service that doesn't exist yet.
    pub(crate) fn create_slice(&self, node: &str, index: usize) -> Result<()> {
        let (_, slice) = objects(node, index)?;
        let parameters = PostParams::default();
        self.runtime
            .block_on(self.slices().create(&parameters, &slice))?;
        Ok(())
    }

    /// Creates a Service that has an EndpointSlice.
    pub(crate) fn create_service(&self, node: &str, index: usize) -> Result<()> {
        let (service, _) = objects(node, index)?;
        let parameters = PostParams::default();
        self.runtime
            .block_on(self.services().create(&parameters, &service))?;
        Ok(())
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn slices(&self) -> Api<EndpointSlice> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The current resource version of the list of EndpointSlices. The API server rejects a watch
    /// from the version of a slice that has not changed for a long time.
    pub(crate) fn version(&self) -> Result<String> {
        let one = ListParams::default().limit(1);
        let list = self.runtime.block_on(self.slices().list(&one))?;
        list.metadata.resource_version.context("no version")
    }

    /// The first address in the status of each Service, in the order of their indices.
    pub(crate) fn addresses(&self, services: usize) -> Result<Vec<IpAddr>> {
        let api = self.services();
        let requests = stream::iter(0..services).map(|index| {
            let api = &api;
            async move {
                let service = api.get_status(&name(index)).await?;
                let status = service.status.and_then(|status| status.load_balancer);
                let ingress = status.and_then(|status| status.ingress);
                let first = ingress.into_iter().flatten().next();
                let ip = first.and_then(|ingress| ingress.ip);
                let ip = ip.with_context(|| format!("{} has no address", name(index)))?;
                anyhow::Ok(ip.parse::<IpAddr>()?)
            }
        });
        let all = requests.buffered(AT_ONCE).try_collect();
        self.runtime.block_on(all)
    }

    /// Writes or clears the status of Services as the allocator does, with `at_once` concurrent
    /// requests.
    pub(crate) fn write_statuses(
        &self,
        indices: Range<usize>,
        at_once: usize,
        ingress: &Value,
    ) -> Result<()> {
        let api = self.services();
        let pool = ingress.is_array().then_some("pool");
        let patch = Patch::Merge(json!({
            "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": pool}},
            "status": {"loadBalancer": {"ingress": ingress}},
        }));
        let requests = stream::iter(indices).map(|index| {
            let (api, patch) = (&api, &patch);
            async move {
                let parameters = PatchParams::default();
                api.patch_status(&name(index), &parameters, patch).await?;
                anyhow::Ok(())
            }
        });
        let all = requests.buffer_unordered(at_once).try_collect::<()>();
        self.runtime.block_on(all)
    }

    /// Sets endpoints of Services ready or unready, each change no earlier than its time. Returns
    /// the number of each change with the time of the response, unordered.
    pub(crate) fn set_ready_in_step(
        &self,
        node: &str,
        changes: &[(Instant, usize, bool)],
    ) -> Result<Vec<(usize, Instant)>> {
        let slices = self.slices();
        let requests = stream::iter(changes.iter().enumerate()).map(|(number, change)| {
            let slices = &slices;
            async move {
                let (at, index, ready) = *change;
                tokio::time::sleep_until(at.into()).await;
                let patch = Patch::Merge(json!({"endpoints": endpoints(node, ready)}));
                let parameters = PatchParams::default();
                slices.patch(&name(index), &parameters, &patch).await?;
                anyhow::Ok((number, Instant::now()))
            }
        });
        let all = requests.buffer_unordered(RATE_AT_ONCE).try_collect();
        self.runtime.block_on(all)
    }

    /// Sets the endpoint of a Service ready or unready; returns the new version of the slice.
    pub(crate) fn set_ready(&self, node: &str, index: usize, ready: bool) -> Result<String> {
        let slices = self.slices();
        let patch = Patch::Merge(json!({"endpoints": endpoints(node, ready)}));
        let slice = self.runtime.block_on(async {
            slices
                .patch(&name(index), &PatchParams::default(), &patch)
                .await
        })?;
        slice.metadata.resource_version.context("no version")
    }
}

fn objects(node: &str, index: usize) -> Result<(Service, EndpointSlice)> {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name(index)},
        "spec": {
            "type": "LoadBalancer",
            // A Service with policy Local needs a NodePort for health checks; there are 2,768.
            "externalTrafficPolicy": if index == 0 { "Local" } else { "Cluster" },
            // There are fewer NodePorts than Services.
            "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 80}],
        },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name(index),
            "labels": {"kubernetes.io/service-name": name(index)},
        },
        "addressType": "IPv4",
        "ports": [{"port": 80, "protocol": "TCP"}],
        "endpoints": endpoints(node, true),
    });
    Ok((
        serde_json::from_value(service)?,
        serde_json::from_value(slice)?,
    ))
}

/// Watches one slice on its own thread and connection.
pub(crate) fn watch(
    namespace: &NamespaceHandle,
    kubeconfig: &Path,
    index: usize,
) -> Result<WatchedVersions> {
    let from = ApiClient::new(kubeconfig)?.version()?;
    let namespace = namespace.try_clone()?;
    let kubeconfig = kubeconfig.to_owned();
    let (sender, shown) = channel();
    thread::spawn(move || {
        let ended = namespace.enter().and_then(|()| {
            let ApiClient { runtime, client } = ApiClient::new(&kubeconfig)?;
            runtime.block_on(follow(client, index, &from, &sender))
        });
        // Fails when the series is over and the receiver is dropped.
        let _ = ended.map_err(|error| sender.send(Err(error)));
    });
    Ok(shown)
}

async fn follow(
    client: Client,
    index: usize,
    from: &str,
    sender: &Sender<Result<(String, Instant)>>,
) -> Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    let parameters = WatchParams::default()
        .fields(&format!("metadata.name={}", name(index)))
        .timeout(WATCH_SECONDS);
    let mut events = slices.watch(&parameters, from).await?.boxed();
    while let Some(event) = events.try_next().await? {
        let at = Instant::now();
        let slice = match event {
            WatchEvent::Modified(slice) => slice,
            WatchEvent::Bookmark(_) => continue,
            other => bail!("{other:?}"),
        };
        let version = slice.metadata.resource_version.context("no version")?;
        if sender.send(Ok((version, at))).is_err() {
            return Ok(()); // the series is over
        }
    }
    bail!("the API server ended the watch")
}
