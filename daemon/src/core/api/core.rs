//! The fields of Kubernetes' built-in objects that ferrolb reads.

/// Octets that JSON carries as base64, as in a Secret's `data`.
pub(crate) use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `Service.spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    /// `LoadBalancer`, `ClusterIP`, ...
    pub r#type: String,
    /// The load balancer in charge. Absent: the default one of the cluster.
    pub load_balancer_class: Option<String>,
    /// The deprecated way to request an address.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: String,
    /// The first cluster address.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// The cluster addresses, one per family.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// `SingleStack`, `PreferDualStack`, `RequireDualStack`.
    pub ip_family_policy: Option<String>,
    /// `IPv4`, `IPv6`; the primary family first.
    pub ip_families: Vec<String>,
    /// `Cluster` (default) or `Local`.
    pub external_traffic_policy: String,
    /// The port on which the service proxy of each node reports its endpoints. 0: none.
    pub health_check_node_port: u16,
    /// Selects the Pods of the service.
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
    /// The addresses of the service.
    pub load_balancer: LoadBalancerStatus,
    /// What programs say about it.
    #[serde(deserialize_with = "null_as_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ServiceCondition>,
}

/// `Service.status.conditions[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceCondition {
    /// What it is about.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: String,
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
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LoadBalancerIngress {
    /// The address.
    pub ip: String,
    /// `VIP`, the API server's default, or `Proxy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_mode: Option<String>,
}

/// `EndpointSlice.endpoints[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Endpoint {
    /// The Pod's addresses.
    #[serde(deserialize_with = "null_as_default")]
    pub addresses: Vec<String>,
    /// Whether it is ready or serving.
    pub conditions: EndpointConditions,
    /// The node that runs the Pod.
    pub node_name: Option<String>,
}

/// `EndpointSlice.endpoints[].conditions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    /// Whether the Pod is ready. Absent: true.
    pub ready: Option<bool>,
    /// Like `ready`, but also true for a terminating Pod that still answers.
    pub serving: Option<bool>,
}

/// `ServiceCIDR.spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceCidrSpec {
    /// The ranges of cluster addresses.
    pub cidrs: Vec<String>,
}

/// `Node.spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSpec {
    /// The ranges of the addresses of its Pods, one per family.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// The first entry of `pod_cidrs`.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    /// Cordoned: accepts no new Pods.
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
    /// The address or host name.
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
    /// The explanation for people.
    pub message: String,
}

/// Reads null as the default. kubectl accepts `labels:` without a value, and Go prints nil lists as
/// null.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
