//! The model of a Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ferrolb_allocator::{
    AllocationRequest, Family, FamilyPolicy, Port, Protocol, ServiceKey, parse_requested,
};

use super::annotations::{
    ADDRESSES_ANNOTATION, ALLOCATED_ANNOTATION, DRAIN_ANNOTATION, POOL_ANNOTATION,
    SHARED_LOCAL_ANNOTATION, SHARING_ANNOTATION, annotation, deprecated,
};
use super::announced_condition::AnnouncedCondition;
use super::drain::DrainOverride;
use super::{Labels, invalid_value, misspelt};
use crate::core::api::core::{ServiceSpec, ServiceStatus};
use crate::core::api::{FieldError, ObjectName, Partial, RawObject};

/// The annotations of a Service that have an effect.
const SERVICE_ANNOTATIONS: [&str; 6] = [
    DRAIN_ANNOTATION,
    POOL_ANNOTATION,
    ADDRESSES_ANNOTATION,
    SHARING_ANNOTATION,
    SHARED_LOCAL_ANNOTATION,
    ALLOCATED_ANNOTATION,
];
/// The fields of a Service that decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: Arc<ObjectName>,
    /// The requested and the allocated addresses, as the allocator reads them. The pools that
    /// accept the service are added later, since they depend on the configuration.
    pub request: Arc<AllocationRequest>,
    /// The precondition of a write of its status.
    pub resource_version: String,
    /// For serviceSelectors.
    pub labels: Labels,
    /// Whether `spec.type` is LoadBalancer.
    pub load_balancer: bool,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// Whether ferrolb is in charge of this class. If not, the service's addresses are never
    /// allocated here, and announced only if an advertisement lists the class.
    pub in_charge: bool,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`, if it has one.
    pub health_check_port: Option<NonZeroU16>,
    /// The first entry of `status.loadBalancer.ingress[].ip` that is no address.
    pub invalid_address: Option<String>,
    /// The addresses in the status with an `ipMode` other than the API server's default.
    pub ip_modes: Vec<(IpAddr, Box<str>)>,
    /// The condition that says whether some node announces it, if it has one.
    pub announced_condition: Option<Box<AnnouncedCondition>>,
    /// Its annotation [`DRAIN_ANNOTATION`].
    pub drain: DrainOverride,
    /// What is wrong with that annotation, which is then ignored.
    pub invalid_drain: Option<String>,
    /// The notice about a misspelled annotation.
    pub misspelt_annotation: Option<Box<str>>,
    /// Its annotations under MetalLB's old prefix.
    pub deprecated_annotations: Option<Box<str>>,
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
    /// Reads a Service. ferrolb is in charge of those with this `loadBalancerClass`; None: of those
    /// without one.
    ///
    /// # Errors
    /// The field that doesn't have the shape that Kubernetes defines.
    pub fn parse(
        name: ObjectName,
        raw: &RawObject,
        lb_class: Option<&str>,
    ) -> Result<Self, FieldError> {
        let spec: Partial<ServiceSpec> = raw.partial("spec", &mut Vec::new());
        let status: Partial<ServiceStatus> = raw.partial("status", &mut Vec::new());
        spec.zip(status)
            .check(|(spec, status)| Self::checked(name, raw, &spec, &status, lb_class))
    }

    fn checked(
        name: ObjectName,
        raw: &RawObject,
        spec: &ServiceSpec,
        status: &ServiceStatus,
        lb_class: Option<&str>,
    ) -> Result<Self, FieldError> {
        let traffic_policy = match spec.external_traffic_policy.as_str() {
            "Local" => TrafficPolicy::Local,
            "" | "Cluster" => TrafficPolicy::Cluster,
            other => {
                return Err(invalid_value(
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
        let (drain, invalid_drain) = match drain.map(DrainOverride::parse) {
            Some(Ok(drain)) => (drain, None),
            Some(Err(error)) => (DrainOverride::default(), Some(error)),
            None => (DrainOverride::default(), None),
        };
        Ok(Self {
            drain,
            invalid_drain,
            misspelt_annotation: misspelt::key(&raw.metadata, &SERVICE_ANNOTATIONS),
            deprecated_annotations: deprecated(&raw.metadata.annotations),
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
            in_charge: spec.load_balancer_class.as_deref() == lb_class,
            traffic_policy,
            health_check_port: NonZeroU16::new(spec.health_check_node_port),
            ip_modes: ip_modes(status),
            announced_condition: AnnouncedCondition::among(&status.conditions),
            invalid_address: ingress()
                .find(|ip| ip.parse::<IpAddr>().is_err())
                .map(str::to_owned),
        })
    }

    /// Whether it is of type LoadBalancer and of the class that ferrolb is in charge of.
    pub const fn is_ours(&self) -> bool {
        self.load_balancer && self.in_charge
    }

    /// Whether a node needs an endpoint of every sharer to announce the shared addresses.
    fn is_shared_local(&self) -> bool {
        self.request.any_backend && !self.request.sharing_key.is_empty()
    }

    /// Whether both share their common addresses under [`SHARED_LOCAL_ANNOTATION`].
    pub fn shares_local_with(&self, other: &Self) -> bool {
        let key = &self.request.sharing_key;
        let both = self.is_shared_local() && other.is_shared_local() && other.is_ours();
        both && self.name != other.name && *key == other.request.sharing_key
    }

    /// The addresses in its status.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.request.current
    }
}

fn request(
    name: &ObjectName,
    raw: &RawObject,
    spec: &ServiceSpec,
    traffic_policy: TrafficPolicy,
    current: impl Iterator<Item = IpAddr>,
) -> Result<AllocationRequest, FieldError> {
    let annotation = |key: &str| annotation(&raw.metadata.annotations, key);
    let created: Option<jiff::Timestamp> = raw.metadata.creation_timestamp.parse().ok();
    Ok(AllocationRequest {
        service: ServiceKey::new(&*name.namespace, &*name.name),
        created: created.map_or(0, jiff::Timestamp::as_second),
        uid: raw.metadata.uid.clone(),
        current: current.collect(),
        current_pool: annotation(ALLOCATED_ANNOTATION).map(str::to_owned),
        cluster_families: cluster_families(spec)?,
        family_policy: match spec.ip_family_policy.as_deref() {
            None | Some("SingleStack") => FamilyPolicy::SingleStack,
            Some("PreferDualStack") => FamilyPolicy::PreferDualStack,
            Some("RequireDualStack") => FamilyPolicy::RequireDualStack,
            Some(other) => {
                let known = "SingleStack, PreferDualStack or RequireDualStack";
                return Err(invalid_value("spec.ipFamilyPolicy", other, known));
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

/// The entries whose `ipMode` is not the API server's default.
fn ip_modes(status: &ServiceStatus) -> Vec<(IpAddr, Box<str>)> {
    let ingress = status.load_balancer.ingress.iter();
    let other = ingress.filter_map(|entry| {
        let mode = entry.ip_mode.as_deref().filter(|mode| *mode != "VIP")?;
        let address: IpAddr = entry.ip.parse().ok()?;
        Some((address.to_canonical(), mode.into()))
    });
    other.collect()
}

/// Protocols are case-sensitive, as in the API server.
fn ports(spec: &ServiceSpec) -> Result<Vec<Port>, FieldError> {
    let ports = spec.ports.iter().enumerate();
    ports
        .map(|(position, port)| {
            let text = port.protocol.as_deref().unwrap_or("TCP");
            let protocol = Protocol::parse(text).ok_or_else(|| {
                let path = format!("spec.ports[{position}].protocol");
                invalid_value(&path, text, "TCP, UDP or SCTP")
            })?;
            Ok(Port {
                protocol,
                number: port.port,
            })
        })
        .collect()
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
                .map_err(|_| invalid_value("spec.clusterIPs", text, "an IP address"));
            parsed.map(|address: IpAddr| Family::of(address.to_canonical()))
        })
        .collect()
}

/// The families that a Service will get from the API server, for manifests. If the spec names none,
/// the cluster decides; IPv4 is assumed.
fn future_families(spec: &ServiceSpec) -> Result<Vec<Family>, FieldError> {
    let one = |text: &String| match text.as_str() {
        "IPv4" => Ok(Family::V4),
        "IPv6" => Ok(Family::V6),
        other => Err(invalid_value("spec.ipFamilies", other, "IPv4 or IPv6")),
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

/// Equal for services with the same Pods. A service without a selector has endpoints of its own.
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
