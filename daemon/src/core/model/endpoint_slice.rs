//! Facts of an EndpointSlice.

use std::net::IpAddr;
use std::sync::Arc;

use super::unknown;
use crate::core::api::core::Endpoint;
use crate::core::api::{FieldError, ObjectName, RawObject};

/// One EndpointSlice: which service it belongs to and its healthy endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The service; none for slices without the label `kubernetes.io/service-name`.
    pub service: Option<Arc<ObjectName>>,
    /// Those that kube-proxy can send to. Empty for the address type FQDN, which kube-proxy skips.
    pub endpoints: Box<[HealthyEndpoint]>,
}

/// An endpoint that kube-proxy can send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthyEndpoint {
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
    pub(crate) fn parse(name: &ObjectName, raw: &RawObject) -> Result<Self, FieldError> {
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
    pub(crate) fn of_family(&self, ipv6: bool) -> impl Iterator<Item = &HealthyEndpoint> {
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
