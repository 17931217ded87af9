//! Facts of a Node.

use std::net::IpAddr;

use ipnet::IpNet;

use super::annotations::{EXCLUDE_LABEL, WEIGHT_ANNOTATION};
use super::node_weight::{InvalidWeight, NodeWeight};
use super::{Labels, misspelt, networks};
use crate::core::api::core::{NodeSpec, NodeStatus};
use crate::core::api::{FieldError, RawObject};

/// What the kubelet writes into the condition Ready when the host goes down.
const SHUTTING_DOWN: &str = "node is shutting down";

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
    pub invalid_weight: Option<InvalidWeight>,
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
        let (weight, invalid_weight) = match weight.map(|text| text.parse()) {
            Some(Ok(weight)) => (Some(weight), None),
            Some(Err(bad)) => (None, Some(bad)),
            None => (None, None),
        };
        Ok(Self {
            weight,
            invalid_weight,
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
/// The addresses of a Node whose type is wanted; host names among them are none.
fn addresses(status: &NodeStatus, wanted: impl Fn(&str) -> bool) -> Vec<IpAddr> {
    let addresses = status.addresses.iter();
    let addresses = addresses.filter(|address| wanted(&address.r#type));
    addresses
        .filter_map(|address| address.address.parse().ok())
        .map(|address: IpAddr| address.to_canonical())
        .collect()
}
