//! The facts that the index keeps: what decisions need of an object, and nothing else.
//!
//! A full Service costs ~18 KB in memory, its facts ~200 bytes. A fact is made once, when the object arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use ferrolb_allocator::{
    Family, FamilyPolicy, Port, Protocol, Request, ServiceKey, parse_requested,
};

use super::misspelt;
use crate::api::core::{Endpoint, NodeSpec, NodeStatus, ServiceSpec, ServiceStatus};
use crate::api::{FieldError, ObjectName, Partial, RawObject};
use crate::config::drain::DrainWish;
use crate::decide::weight::{BadWeight, NodeWeight, WEIGHT_ANNOTATION};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Marks a node that no load balancer shall use, whatever its value.
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What the kubelet writes into the condition Ready when the host goes down.
const SHUTTING_DOWN: &str = "node is shutting down";

/// How long, and whether when the node is cordoned, the service's routes are drained.
pub const DRAIN_ANNOTATION: &str = "ferrolb.io/drain";
/// The user asks for a pool.
pub const POOL_ANNOTATION: &str = "metallb.io/address-pool";
/// The user asks for addresses.
pub const ADDRESSES_ANNOTATION: &str = "metallb.io/loadBalancerIPs";
/// Services with the same key may share an address.
pub const SHARING_ANNOTATION: &str = "metallb.io/allow-shared-ip";
/// `"true"`: a Local service may share its address with services that have other Pods.
pub const SHARED_LOCAL_ANNOTATION: &str = "ferrolb.io/allow-shared-local";
/// The allocator tells where the address came from.
pub const ALLOCATED_ANNOTATION: &str = "metallb.io/ip-allocated-from-pool";
/// What has an effect at a Service.
const SERVICE_ANNOTATIONS: [&str; 6] = [
    DRAIN_ANNOTATION,
    POOL_ANNOTATION,
    ADDRESSES_ANNOTATION,
    SHARING_ANNOTATION,
    SHARED_LOCAL_ANNOTATION,
    ALLOCATED_ANNOTATION,
];
/// MetalLB's prefix before 0.14.9; still read, the new one wins if it is present.
pub(super) const OLD_PREFIX: &str = "metallb.universe.tf/";
pub(super) const NEW_PREFIX: &str = "metallb.io/";

/// What decisions need of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: Arc<ObjectName>,
    /// What it asks for and what it holds, as the allocator reads it. Which pools accept it is filled in later:
    /// that is the configuration's business.
    pub request: Arc<Request>,
    /// Guards the write of its status.
    pub resource_version: String,
    /// For serviceSelectors.
    pub labels: Labels,
    /// Whether `spec.type` is LoadBalancer.
    pub load_balancer: bool,
    /// `spec.loadBalancerClass`; present means: not ours.
    pub class: Option<String>,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// What stands in `status.loadBalancer.ingress[].ip` and is no address.
    pub invalid_address: Option<String>,
    /// Its annotation [`DRAIN_ANNOTATION`].
    pub drain: DrainWish,
    /// What is wrong with that annotation, which then counts for nothing.
    pub bad_drain: Option<String>,
    /// What to report about an annotation key that is none of ours and looks like one.
    pub misspelt_annotation: Option<Box<str>>,
}

/// `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Every node forwards to every Pod.
    Cluster,
    /// A node forwards only to its own Pods.
    Local,
}

impl Service {
    /// Reads a Service.
    ///
    /// # Errors
    /// The field that has another shape than Kubernetes' own.
    pub fn parse(name: ObjectName, raw: &RawObject) -> Result<Self, FieldError> {
        let spec: Partial<ServiceSpec> = raw.partial("spec", &mut Vec::new());
        let status: Partial<ServiceStatus> = raw.partial("status", &mut Vec::new());
        spec.zip(status)
            .check(|(spec, status)| Self::checked(name, raw, &spec, &status))
    }

    fn checked(
        name: ObjectName,
        raw: &RawObject,
        spec: &ServiceSpec,
        status: &ServiceStatus,
    ) -> Result<Self, FieldError> {
        let traffic_policy = match spec.external_traffic_policy.as_str() {
            "Local" => TrafficPolicy::Local,
            "" | "Cluster" => TrafficPolicy::Cluster,
            other => {
                return Err(unknown(
                    "spec.externalTrafficPolicy",
                    other,
                    "Cluster or Local",
                ));
            }
        };
        let ingress = || {
            status
                .load_balancer
                .ingress
                .iter()
                .map(|ingress| ingress.ip.as_str())
        };
        let drain = annotation(&raw.metadata.annotations, DRAIN_ANNOTATION);
        let (drain, bad_drain) = match drain.map(DrainWish::parse) {
            Some(Ok(wish)) => (wish, None),
            Some(Err(error)) => (DrainWish::default(), Some(error)),
            None => (DrainWish::default(), None),
        };
        Ok(Self {
            drain,
            bad_drain,
            misspelt_annotation: misspelt::key(&raw.metadata, &SERVICE_ANNOTATIONS),
            request: Arc::new(request(
                &name,
                raw,
                spec,
                traffic_policy,
                ingress()
                    .filter_map(|ip| ip.parse().ok())
                    .map(|ip: IpAddr| ip.to_canonical()),
            )?),
            name: Arc::new(name),
            resource_version: raw.metadata.resource_version.clone(),
            labels: raw.metadata.labels.clone(),
            load_balancer: spec.r#type == "LoadBalancer",
            class: spec.load_balancer_class.clone(),
            traffic_policy,
            invalid_address: ingress()
                .find(|ip| ip.parse::<IpAddr>().is_err())
                .map(str::to_owned),
        })
    }

    /// Whether ferrolb handles it: type LoadBalancer, and no `loadBalancerClass` of somebody else.
    pub const fn is_ours(&self) -> bool {
        self.load_balancer && self.class.is_none()
    }

    /// Whether its addresses need an endpoint of every sharer on a node that announces them.
    pub fn is_shared_local(&self) -> bool {
        self.request.any_backend && !self.request.sharing_key.is_empty()
    }

    /// Whether both share the addresses that they have in common under
    /// [`SHARED_LOCAL_ANNOTATION`].
    pub fn shares_local_with(&self, other: &Self) -> bool {
        let key = &self.request.sharing_key;
        let both = self.is_shared_local() && other.is_shared_local() && other.is_ours();
        both && self.name != other.name && *key == other.request.sharing_key
    }

    /// The addresses in its status.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.request.holds
    }
}

fn request(
    name: &ObjectName,
    raw: &RawObject,
    spec: &ServiceSpec,
    traffic_policy: TrafficPolicy,
    holds: impl Iterator<Item = IpAddr>,
) -> Result<Request, FieldError> {
    let annotation = |key: &str| annotation(&raw.metadata.annotations, key);
    let created: Option<jiff::Timestamp> = raw.metadata.creation_timestamp.parse().ok();
    Ok(Request {
        service: ServiceKey::new(&*name.namespace, &*name.name),
        created: created.map_or(0, jiff::Timestamp::as_second),
        uid: raw.metadata.uid.clone(),
        holds: holds.collect(),
        holds_from: annotation(ALLOCATED_ANNOTATION).map(str::to_owned),
        cluster_families: cluster_families(spec)?,
        family_policy: match spec.ip_family_policy.as_deref() {
            None | Some("SingleStack") => FamilyPolicy::SingleStack,
            Some("PreferDualStack") => FamilyPolicy::PreferDualStack,
            Some("RequireDualStack") => FamilyPolicy::RequireDualStack,
            Some(other) => {
                let known = "SingleStack, PreferDualStack or RequireDualStack";
                return Err(unknown("spec.ipFamilyPolicy", other, known));
            }
        },
        requested: parse_requested(
            annotation(ADDRESSES_ANNOTATION),
            Some(&spec.load_balancer_ip),
        ),
        requested_pool: annotation(POOL_ANNOTATION).map(str::to_owned),
        accepted_by: BTreeSet::new(),
        sharing_key: annotation(SHARING_ANNOTATION)
            .unwrap_or_default()
            .to_owned(),
        backend_key: match traffic_policy {
            TrafficPolicy::Cluster => String::new(),
            TrafficPolicy::Local => local_backends(name, &spec.selector),
        },
        any_backend: traffic_policy == TrafficPolicy::Local
            && annotation(SHARED_LOCAL_ANNOTATION) == Some("true"),
        ports: ports(spec)?,
    })
}

/// The API server accepts these protocols alone, in this case.
fn ports(spec: &ServiceSpec) -> Result<Vec<Port>, FieldError> {
    let ports = spec.ports.iter().enumerate();
    ports
        .map(|(position, port)| {
            let text = port.protocol.as_deref().unwrap_or("TCP");
            let protocol = Protocol::parse(text).ok_or_else(|| {
                let path = format!("spec.ports[{position}].protocol");
                unknown(&path, text, "TCP, UDP or SCTP")
            })?;
            Ok(Port {
                protocol,
                number: port.port,
            })
        })
        .collect()
}

/// Reads an annotation under the present prefix or the old one. The present one wins if it stands there, also when it
/// is empty; an empty value means: not set.
fn annotation<'a>(annotations: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    let old = key.replace(NEW_PREFIX, OLD_PREFIX);
    let value = annotations.get(key).or_else(|| annotations.get(&old))?;
    (!value.is_empty()).then_some(value)
}

fn cluster_families(spec: &ServiceSpec) -> Result<Vec<Family>, FieldError> {
    let texts: Vec<&str> = if spec.cluster_ips.is_empty() {
        vec![spec.cluster_ip.as_str()]
    } else {
        spec.cluster_ips.iter().map(String::as_str).collect()
    };
    if texts.iter().all(|text| text.is_empty()) {
        return future_families(spec);
    }
    texts
        .into_iter()
        .filter(|text| !text.is_empty() && *text != "None")
        .map(|text| {
            let parsed = text
                .parse()
                .map_err(|_| unknown("spec.clusterIPs", text, "an IP address"));
            parsed.map(|address: IpAddr| Family::of(address.to_canonical()))
        })
        .collect()
}

/// The families that a Service which no API server has seen will have. Without a word in its spec the cluster decides:
/// IPv4 is assumed.
fn future_families(spec: &ServiceSpec) -> Result<Vec<Family>, FieldError> {
    let one = |text: &String| match text.as_str() {
        "IPv4" => Ok(Family::V4),
        "IPv6" => Ok(Family::V6),
        other => Err(unknown("spec.ipFamilies", other, "IPv4 or IPv6")),
    };
    let mut families: Vec<Family> = spec.ip_families.iter().map(one).collect::<Result<_, _>>()?;
    if families.is_empty() {
        families.push(Family::V4);
    }
    let policy = spec.ip_family_policy.as_deref().unwrap_or("SingleStack");
    if policy != "SingleStack" && families.len() == 1 {
        let other = match families.first() {
            Some(Family::V6) => Family::V4,
            _ => Family::V6,
        };
        families.push(other);
    }
    Ok(families)
}

/// Equal for services that have the same Pods. Without a selector the endpoints are the
/// service's own.
fn local_backends(name: &ObjectName, selector: &BTreeMap<String, String>) -> String {
    if selector.is_empty() {
        return format!("Local {name}");
    }
    format!("Local {} {}", name.namespace, selector_text(selector))
}

fn selector_text(selector: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

fn unknown(path: &str, value: &str, expected: &str) -> FieldError {
    FieldError::new(path, format!("{value:?} is not {expected}"))
}

/// One EndpointSlice: which service it belongs to and its healthy endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The service; none for slices without the label `kubernetes.io/service-name`.
    pub service: Option<Arc<ObjectName>>,
    /// Those that kube-proxy can send to. Empty for the address type FQDN, which kube-proxy skips.
    pub endpoints: Box<[HealthyEndpoint]>,
}

/// An endpoint that kube-proxy can send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthyEndpoint {
    /// Identifies the endpoint among all slices of its service, as in kube-proxy.
    pub address: IpAddr,
    /// The node of its Pod; none for endpoints outside of the cluster.
    pub node: Option<Box<str>>,
    /// False: it only serves, because its Pod terminates.
    pub ready: bool,
}

impl Slice {
    /// Reads an EndpointSlice. Healthy is what kube-proxy can send to: ready (or not given), or serving.
    ///
    /// # Errors
    /// The field that has another shape than Kubernetes' own.
    pub fn parse(name: &ObjectName, raw: &RawObject) -> Result<Self, FieldError> {
        let address_type: String = raw.field("addressType")?;
        let endpoints: Vec<Endpoint> = raw.field("endpoints")?;
        let service = raw.metadata.labels.get("kubernetes.io/service-name");
        let endpoints = match address_type.as_str() {
            "FQDN" => Box::default(),
            _ => healthy_endpoints(endpoints)?,
        };
        Ok(Self {
            service: service
                .map(|service| ObjectName::new(name.namespace.clone(), service.clone()))
                .map(Arc::new),
            endpoints,
        })
    }

    /// The endpoints of one family.
    pub fn of_family(&self, ipv6: bool) -> impl Iterator<Item = &HealthyEndpoint> {
        let endpoints = self.endpoints.iter();
        endpoints.filter(move |endpoint| endpoint.address.is_ipv6() == ipv6)
    }
}

/// kube-proxy reads the first address of an endpoint only.
fn healthy_endpoints(endpoints: Vec<Endpoint>) -> Result<Box<[HealthyEndpoint]>, FieldError> {
    let mut healthy = Vec::new();
    for (position, endpoint) in endpoints.into_iter().enumerate() {
        let ready = endpoint.conditions.ready.unwrap_or(true);
        let serving = endpoint.conditions.serving.unwrap_or(false);
        let Some(address) = endpoint.addresses.first().filter(|_| ready || serving) else {
            continue;
        };
        let path = || format!("endpoints[{position}].addresses[0]");
        healthy.push(HealthyEndpoint {
            address: address
                .parse()
                .map_err(|_| unknown(&path(), address, "an IP address"))?,
            node: endpoint.node_name.map(String::into_boxed_str),
            ready,
        });
    }
    Ok(healthy.into_boxed_slice())
}

/// The addresses of a Node whose type is wanted; host names among them are none.
fn addresses(status: &NodeStatus, wanted: impl Fn(&str) -> bool) -> Vec<IpAddr> {
    let addresses = status.addresses.iter();
    let addresses = addresses.filter(|address| wanted(&address.r#type));
    addresses
        .filter_map(|address| address.address.parse().ok())
        .map(|address: IpAddr| address.to_canonical())
        .collect()
}

/// Networks as an API server has validated them; what is none counts for nothing.
pub(super) fn networks<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpNet> {
    let mut networks: Vec<IpNet> = texts.filter_map(|text| text.parse().ok()).collect();
    networks.sort();
    networks.dedup();
    networks
}

/// What decisions need of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// For nodeSelectors.
    pub labels: Labels,
    /// Condition NetworkUnavailable is True.
    pub network_unavailable: bool,
    /// `status.addresses` of type InternalIP.
    pub internal_ips: Vec<IpAddr>,
    /// `status.addresses` of other types.
    pub other_ips: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// Takes no new Pods.
    pub cordoned: bool,
    /// Its deletion has begun.
    pub deleting: bool,
    /// The kubelet says that the host goes down.
    pub shutting_down: bool,
    /// Its annotation [`WEIGHT_ANNOTATION`].
    pub weight: Option<NodeWeight>,
    /// What is wrong with that annotation, which then counts for nothing.
    pub bad_weight: Option<BadWeight>,
    /// What to report about an annotation or label key that is none of ours and looks like one.
    pub misspelt_annotation: Option<Box<str>>,
    /// [`EXCLUDE_LABEL`] has no effect: `--ignore-exclude-lb`.
    pub exclusion_ignored: bool,
}

impl Node {
    /// Reads a Node.
    ///
    /// # Errors
    /// The field that has another shape than Kubernetes' own.
    pub fn parse(raw: &RawObject) -> Result<Self, FieldError> {
        let spec: NodeSpec = raw.field("spec")?;
        let status: NodeStatus = raw.field("status")?;
        let weight = raw.metadata.annotations.get(WEIGHT_ANNOTATION);
        let (weight, bad_weight) = match weight.map(|text| text.parse()) {
            Some(Ok(weight)) => (Some(weight), None),
            Some(Err(bad)) => (None, Some(bad)),
            None => (None, None),
        };
        Ok(Self {
            weight,
            bad_weight,
            misspelt_annotation: misspelt::key(&raw.metadata, &[WEIGHT_ANNOTATION]),
            exclusion_ignored: false,
            cordoned: spec.unschedulable,
            deleting: !raw.metadata.deletion_timestamp.is_empty(),
            shutting_down: status.conditions.iter().any(|c| {
                c.r#type == "Ready" && c.status != "True" && c.message.contains(SHUTTING_DOWN)
            }),
            labels: raw.metadata.labels.clone(),
            network_unavailable: status
                .conditions
                .iter()
                .any(|c| c.r#type == "NetworkUnavailable" && c.status == "True"),
            internal_ips: addresses(&status, |r#type| r#type == "InternalIP"),
            other_ips: addresses(&status, |r#type| r#type != "InternalIP"),
            pod_cidrs: networks(spec.pod_cidrs.iter().chain([&spec.pod_cidr])),
        })
    }

    /// Whether both have the same addresses and podCIDRs, which no service may have.
    pub fn same_networks(&self, other: &Self) -> bool {
        (&self.internal_ips, &self.other_ips, &self.pod_cidrs)
            == (&other.internal_ips, &other.other_ips, &other.pod_cidrs)
    }

    /// The first InternalIP of a family that can be a next hop. A link-local one can't: it means another host on each
    /// link.
    pub fn internal_ip(&self, ipv6: bool) -> Option<IpAddr> {
        let link_local = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        self.internal_ips
            .iter()
            .copied()
            .find(|address| address.is_ipv6() == ipv6 && !link_local(address))
    }

    /// Whether it may announce anything at all.
    pub fn may_announce(&self) -> bool {
        !self.network_unavailable && !self.excluded()
    }

    /// As if it did not leave: for what it announces until it is gone.
    #[must_use]
    pub fn staying(&self) -> Self {
        let mut node = self.clone();
        node.labels.remove(EXCLUDE_LABEL);
        node
    }

    /// Whether [`EXCLUDE_LABEL`] is there, whatever its value, and counts.
    pub fn excluded(&self) -> bool {
        !self.exclusion_ignored && self.labels.contains_key(EXCLUDE_LABEL)
    }
}
