//! The benchmark's client of the API server: creates many nodes and Services, and changes them.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use ferrolb_lab_bench::api_server::connect;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const NAMESPACE: &str = "default";
/// Concurrent requests while objects are created.
const AT_ONCE: usize = 16;
/// Images in the status of a node: what the kubelet lists by default (`nodeStatusMaxImages`).
const IMAGES: usize = 50;
/// 2026-01-02.
const FIRST_HEARTBEAT: i64 = 1_767_312_000;
/// The endpoints of most Services, on as many nodes.
pub(crate) const ENDPOINTS: usize = 10;
/// A Service with as many endpoints as a slice has by default.
pub(crate) const LARGE: &str = "large";
/// The endpoints of that one.
pub(crate) const LARGE_ENDPOINTS: usize = 100;

/// A client with blocking calls.
pub(crate) struct ApiClient {
    runtime: Runtime,
    client: Client,
}

/// The name of a node. The first one is a host of the lab.
pub(crate) fn node(index: usize) -> String {
    format!("node{}", index + 1)
}

/// The name of a Service.
pub(crate) fn service(index: usize) -> String {
    format!("bench-{index}")
}

impl ApiClient {
    /// The calling thread must be in a namespace from which the API server is reachable.
    pub(crate) fn new(kubeconfig: &Path) -> Result<Self> {
        let (runtime, client) = connect(kubeconfig)?;
        Ok(Self { runtime, client })
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn slices(&self) -> Api<EndpointSlice> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Creates Nodes as kubelets do.
    pub(crate) fn create_nodes(&self, indices: Range<usize>) -> Result<()> {
        let api = self.nodes();
        let requests = stream::iter(indices).map(|index| {
            let api = &api;
            async move {
                let object: Node = serde_json::from_value(node_object(index))?;
                api.create(&PostParams::default(), &object).await?;
                anyhow::Ok(())
            }
        });
        let all = requests.buffer_unordered(AT_ONCE).try_collect::<()>();
        self.runtime.block_on(all)
    }

    /// Creates Services without a selector, each with an EndpointSlice.
    pub(crate) fn create_services(&self, services: usize) -> Result<()> {
        let names = (0..services).map(|index| (service(index), ENDPOINTS));
        let names = names.chain([(LARGE.to_owned(), LARGE_ENDPOINTS)]);
        let (services, slices) = (self.services(), self.slices());
        let requests = stream::iter(names).map(|(name, endpoints)| {
            let (services, slices) = (&services, &slices);
            async move {
                let slice = serde_json::from_value(slice_object(&name, endpoints))?;
                slices.create(&PostParams::default(), &slice).await?;
                let service = serde_json::from_value(service_object(&name))?;
                services.create(&PostParams::default(), &service).await?;
                anyhow::Ok(())
            }
        });
        let all = requests.buffer_unordered(AT_ONCE).try_collect::<()>();
        self.runtime.block_on(all)
    }

    /// Fails unless all Services have an address.
    pub(crate) fn ensure_addresses(&self) -> Result<()> {
        let (api, all) = (self.services(), ListParams::default());
        let list = self.runtime.block_on(api.list(&all))?;
        let waits = list.items.iter().filter(|service| {
            let spec = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
            let status = service.status.as_ref();
            let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
            spec == Some("LoadBalancer") && ingress.is_none_or(Vec::is_empty)
        });
        let waits = waits.count();
        ensure!(waits == 0, "{waits} Services wait for an address");
        Ok(())
    }

    /// Writes the status of a node as its kubelet does from time to time: nothing but the time of
    /// the heartbeat changes.
    pub(crate) fn heartbeat(&self, index: usize) -> Result<()> {
        // Each is later than all before, in whole seconds.
        static SECONDS: AtomicI64 = AtomicI64::new(FIRST_HEARTBEAT);
        let time = jiff::Timestamp::from_second(SECONDS.fetch_add(1, Ordering::Relaxed))?;
        let condition = json!({"type": "Ready", "lastHeartbeatTime": time.to_string()});
        let patch = json!({"status": {"conditions": [condition]}});
        let (api, name, params) = (self.nodes(), node(index), PatchParams::default());
        let patch = Patch::Strategic(patch);
        let request = api.patch_status(&name, &params, &patch);
        self.runtime.block_on(request)?;
        Ok(())
    }

    /// Cordons or uncordons a node.
    pub(crate) fn cordon(&self, index: usize, cordoned: bool) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"unschedulable": cordoned}}));
        let (api, name, params) = (self.nodes(), node(index), PatchParams::default());
        self.runtime.block_on(api.patch(&name, &params, &patch))?;
        Ok(())
    }

    /// Sets the first endpoint of a Service ready or unready.
    pub(crate) fn set_ready(&self, name: &str, endpoints: usize, ready: bool) -> Result<()> {
        let mut all = endpoints_of(endpoints);
        all[0]["conditions"]["ready"] = json!(ready);
        let patch = Patch::Merge(json!({"endpoints": all}));
        let (api, params) = (self.slices(), PatchParams::default());
        self.runtime.block_on(api.patch(name, &params, &patch))?;
        Ok(())
    }

    /// The octets of a Node in JSON.
    pub(crate) fn node_octets(&self, index: usize) -> Result<usize> {
        let (api, name) = (self.nodes(), node(index));
        let object = self.runtime.block_on(api.get(&name))?;
        Ok(serde_json::to_vec(&object).context("a Node")?.len())
    }

    /// The octets of an EndpointSlice in JSON.
    pub(crate) fn slice_octets(&self, name: &str) -> Result<usize> {
        let object = self.runtime.block_on(self.slices().get(name))?;
        Ok(serde_json::to_vec(&object).context("a slice")?.len())
    }
}

/// A Node with what kubelets and usual components write into it.
fn node_object(index: usize) -> Value {
    let name = node(index);
    let [high, low] = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
    let address = format!("10.100.{high}.{low}");
    let digest = |image: usize| format!("{:064x}", image * 7919 + index);
    let images: Vec<Value> = (0..IMAGES)
        .map(|image| {
            let repository = format!("registry.example.com/platform/component-{image:02}");
            json!({
                "names": [
                    format!("{repository}@sha256:{}", digest(image)),
                    format!("{repository}:v1.{image}.0"),
                ],
                "sizeBytes": 52_428_800 + image,
            })
        })
        .collect();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason,
            "message": format!("kubelet says {reason}"),
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let resources = json!({
        "cpu": "64", "memory": "263873936Ki", "pods": "110", "ephemeral-storage": "459850824Ki",
        "hugepages-1Gi": "0", "hugepages-2Mi": "0",
    });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64",
                "kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux", "node.kubernetes.io/instance-type": "metal",
                "topology.kubernetes.io/region": "region-1",
                "topology.kubernetes.io/zone": format!("rack-{}", index / 40),
                "node-role.kubernetes.io/worker": "",
            },
            "annotations": {
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": {"podCIDR": format!("10.{}.{low}.0/24", 128 + u16::from(high))},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name},
            ],
            "capacity": resources,
            "allocatable": resources,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
                condition("Ready", "True", "KubeletReady"),
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": images,
            "nodeInfo": {
                "architecture": "amd64", "bootID": digest(1), "machineID": digest(2),
                "systemUUID": digest(3), "kernelVersion": "6.1.0-30-amd64",
                "kubeProxyVersion": "v1.34.2", "kubeletVersion": "v1.34.2",
                "operatingSystem": "linux", "osImage": "Debian GNU/Linux 12 (bookworm)",
                "containerRuntimeVersion": "containerd://1.7.24",
            },
        },
    })
}

fn service_object(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "type": "LoadBalancer",
            // There are fewer NodePorts than Services.
            "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 80}],
        },
    })
}

fn slice_object(name: &str, endpoints: usize) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints_of(endpoints),
    })
}

/// Endpoints on the first nodes.
fn endpoints_of(count: usize) -> Vec<Value> {
    let endpoints = (0..count).map(|number| {
        let (on, pod) = (number % ENDPOINTS, number / ENDPOINTS);
        json!({
            "addresses": [format!("10.244.{on}.{}", pod + 2)],
            "nodeName": node(on),
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": format!("web-{number}")},
        })
    });
    endpoints.collect()
}
