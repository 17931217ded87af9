//! The model of an EndpointSlice.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Family, invalid_value};
use crate::core::api::core::Endpoint;
use crate::core::api::{FieldError, ObjectName, RawObject};

/// An EndpointSlice: its service and its healthy endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The service. None for slices without the label `kubernetes.io/service-name`.
    pub service: Option<Arc<ObjectName>>,
    /// The endpoints that kube-proxy can send to. Empty for the address type FQDN, which kube-proxy
    /// skips.
    pub endpoints: Box<[HealthyEndpoint]>,
}

/// An endpoint that kube-proxy can send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthyEndpoint {
    /// Identifies the endpoint among all slices of its service, as in kube-proxy.
    pub address: IpAddr,
    /// The node of its Pod. None for endpoints outside of the cluster.
    pub node: Option<Box<str>>,
    /// False if the Pod terminates and still serves.
    pub ready: bool,
}

impl Slice {
    /// Reads an EndpointSlice. An endpoint is healthy if kube-proxy can send to it: it is ready
    /// (the default), or serving.
    ///
    /// # Errors
    /// The field that doesn't have the shape that Kubernetes defines.
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
    pub(crate) fn of_family(&self, family: Family) -> impl Iterator<Item = &HealthyEndpoint> {
        let endpoints = self.endpoints.iter();
        endpoints.filter(move |endpoint| Family::of(endpoint.address) == family)
    }
}

/// Takes the first address of each endpoint, as kube-proxy does.
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
                .map_err(|_| invalid_value(&path(), address, "an IP address"))?,
            node: endpoint.node_name.map(String::into_boxed_str),
            ready,
        });
    }
    Ok(healthy.into_boxed_slice())
}
