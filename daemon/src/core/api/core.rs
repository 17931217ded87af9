//! The parts of Kubernetes' own objects that ferrolb reads.

/// Octets that stand as base64 in JSON, as in a Secret's `data`.
pub(crate) use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `Service.spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    /// `LoadBalancer`, `ClusterIP`, ...
    pub r#type: String,
    /// Whose service this is; absent: ours.
    pub load_balancer_class: Option<String>,
    /// The old way of requesting an address.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: String,
    /// The first cluster address.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// One per family.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// `SingleStack`, `PreferDualStack`, `RequireDualStack`.
    pub ip_family_policy: Option<String>,
    /// `IPv4`, `IPv6`; the primary family first.
    pub ip_families: Vec<String>,
    /// `Cluster` (default) or `Local`.
    pub external_traffic_policy: String,
    /// Which Pods stand behind it.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// `Service.spec.ports[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServicePort {
    /// `TCP` (default), `UDP`, `SCTP`.
    pub protocol: Option<String>,
    /// The service's port.
    pub port: u16,
}

/// `Service.status`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceStatus {
    /// Where the addresses stand.
    pub load_balancer: LoadBalancerStatus,
}

/// `Service.status.loadBalancer`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct LoadBalancerStatus {
    /// One entry per address.
    pub ingress: Vec<LoadBalancerIngress>,
}

/// `Service.status.loadBalancer.ingress[]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct LoadBalancerIngress {
    /// The address.
    pub ip: String,
}

/// `EndpointSlice.endpoints[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Endpoint {
    /// The Pod's addresses.
    #[serde(deserialize_with = "null_as_default")]
    pub addresses: Vec<String>,
    /// Ready, serving.
    pub conditions: EndpointConditions,
    /// Where the Pod runs.
    pub node_name: Option<String>,
}

/// `EndpointSlice.endpoints[].conditions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    /// Absent means ready.
    pub ready: Option<bool>,
    /// Like ready, but also true for a Pod that is terminating and still answers.
    pub serving: Option<bool>,
}

/// `ServiceCIDR.spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceCidrSpec {
    /// Where cluster addresses come from.
    pub cidrs: Vec<String>,
}

/// `Node.spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSpec {
    /// Where the addresses of its Pods come from, one per family.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// The first of them.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    /// Cordoned: no new Pods.
    pub unschedulable: bool,
}

/// `Node.status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    /// InternalIP and others.
    pub addresses: Vec<NodeAddress>,
    /// NetworkUnavailable and others.
    pub conditions: Vec<NodeCondition>,
}

/// `Node.status.addresses[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAddress {
    /// `InternalIP`, `Hostname`, ...
    pub r#type: String,
    /// Its value.
    pub address: String,
}

/// `Node.status.conditions[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeCondition {
    /// `Ready`, `NetworkUnavailable`, ...
    pub r#type: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// Words.
    pub message: String,
}

/// `labels:` with nothing after it, as kubectl takes it; Go prints empty lists that way, too.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
