//! Node and Pod objects whose status the test writes; addresses and endpoints of Services.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::ControlPlane;
use crate::manifest::EXCLUDE_LABEL;

/// A Pod as the EndpointSlice controller sees it: on a node, running, with addresses. There is no
/// kubelet; a [`Backend`](super::Backend) with the same name and addresses answers requests.
#[derive(Debug, Clone)]
pub struct Pod {
    /// An existing namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the Node it runs on.
    pub node: String,
    /// Value of its label `app`, for a Service's selector.
    pub app: String,
    /// Its addresses; the cluster's primary family first.
    pub addresses: Vec<IpAddr>,
}

impl ControlPlane<'_> {
    /// Creates a Ready Node with these InternalIPs. They must be the uplink's addresses, which
    /// peers receive as next hops.
    ///
    /// # Errors
    /// When the API server rejects the object.
    pub fn create_node(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        });
        self.apply(&node.to_string())?;
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .collect();
        let status = json!({"status": {
            "addresses": addresses,
            "conditions": [condition("Ready", true)],
        }});
        self.patch_status(&["node", name], &status)
    }

    /// Sets or removes the label that excludes a node from load balancers.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn exclude_node(&self, name: &str, excluded: bool) -> Result<()> {
        let sign = if excluded { "=" } else { "-" };
        let label = format!("{EXCLUDE_LABEL}{sign}");
        self.kubectl(&["label", "node", name, &label]).map(drop)
    }

    /// Creates a running, ready Pod.
    ///
    /// # Errors
    /// When the API server rejects the object.
    pub fn create_pod(&self, pod: &Pod) -> Result<()> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod.name,
                "namespace": pod.namespace,
                "labels": {"app": pod.app},
            },
            "spec": {
                "nodeName": pod.node,
                // No kubelet would confirm a graceful termination.
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": "none"}],
            },
        });
        self.apply(&object.to_string())?;
        let addresses: Vec<Value> = pod.addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let status = json!({"status": {
            "phase": "Running",
            "podIP": pod.addresses.first().context("a Pod needs an address")?,
            "podIPs": addresses,
            "conditions": [condition("Ready", true), condition("ContainersReady", true)],
        }});
        self.patch_status(&["pod", &pod.name, "-n", &pod.namespace], &status)
    }

    /// Sets a Pod's condition Ready, as its readiness probe would.
    ///
    /// # Errors
    /// When there is no such Pod.
    pub fn set_pod_ready(&self, namespace: &str, name: &str, ready: bool) -> Result<()> {
        let status = json!({"status": {"conditions": [condition("Ready", ready)]}});
        self.patch_status(&["pod", name, "-n", namespace], &status)
    }

    /// Sets the condition `Ready` of a Node, as its kubelet or the node controller does.
    ///
    /// # Errors
    /// When there is no such Node.
    pub fn set_node_ready(&self, name: &str, ready: bool) -> Result<()> {
        let status = json!({"status": {"conditions": [condition("Ready", ready)]}});
        self.patch_status(&["node", name], &status)
    }

    /// Writes a Service's load-balancer addresses, as ferrolb's allocator does.
    ///
    /// # Errors
    /// When there is no such Service.
    pub fn set_service_addresses(
        &self,
        namespace: &str,
        name: &str,
        addresses: &[IpAddr],
    ) -> Result<()> {
        let ingress: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        self.patch_status(&["service", name, "-n", namespace], &status)
    }

    /// A Service's load-balancer addresses, which `kubectl get svc` shows as EXTERNAL-IP; may be
    /// empty.
    ///
    /// # Errors
    /// When there is no such Service.
    pub fn service_addresses(&self, namespace: &str, name: &str) -> Result<Vec<IpAddr>> {
        let service = self.get(&["service", name, "-n", namespace])?;
        let ingress = &service["status"]["loadBalancer"]["ingress"];
        ingress
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| {
                let ip = entry["ip"]
                    .as_str()
                    .context("an ingress entry without ip")?;
                Ok(ip.parse()?)
            })
            .collect()
    }

    /// Addresses of a Service's ready endpoints, from its EndpointSlices, sorted.
    ///
    /// # Errors
    /// When the slices can't be read.
    pub fn ready_endpoints(&self, namespace: &str, service: &str) -> Result<Vec<IpAddr>> {
        let label = format!("kubernetes.io/service-name={service}");
        let slices = self.get(&["endpointslices", "-n", namespace, "-l", &label])?;
        let slices = slices["items"].as_array().context("no items")?;
        let mut addresses = Vec::new();
        for endpoint in slices
            .iter()
            .filter_map(|slice| slice["endpoints"].as_array())
            .flatten()
        {
            if endpoint["conditions"]["ready"] == true {
                for address in endpoint["addresses"].as_array().into_iter().flatten() {
                    addresses.push(address.as_str().context("address")?.parse()?);
                }
            }
        }
        addresses.sort_unstable();
        Ok(addresses)
    }

    fn patch_status(&self, target: &[&str], patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        let options = ["--subresource=status", "--type=strategic", "-p", &patch];
        self.kubectl(&[&["patch"], target, &options].concat())
            .map(drop)
    }
}

fn condition(kind: &str, is_true: bool) -> Value {
    json!({"type": kind, "status": if is_true { "True" } else { "False" }})
}
