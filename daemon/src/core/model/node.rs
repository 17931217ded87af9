//! The model of a Node.

use std::net::IpAddr;

use ipnet::IpNet;

use super::annotations::{EXCLUDE_LABEL, WEIGHT_ANNOTATION};
use super::node_weight::{InvalidWeight, NodeWeight};
use super::{Family, Labels, misspelt, networks};
use crate::core::api::core::{NodeSpec, NodeStatus};
use crate::core::api::{FieldError, RawObject};

/// The message that the kubelet writes into the condition Ready when the host shuts down.
const SHUTTING_DOWN: &str = "node is shutting down";

/// The fields of a Node that decisions depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The UID, for objects that the Node owns. Empty in manifests.
    pub uid: Box<str>,
    /// Whether the condition Ready is True.
    pub ready: bool,
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
    /// Whether it accepts no new Pods.
    pub cordoned: bool,
    /// Whether its deletion was requested.
    pub deleting: bool,
    /// Whether the kubelet reports that the host shuts down.
    pub shutting_down: bool,
    /// Its annotation [`WEIGHT_ANNOTATION`].
    pub weight: Option<NodeWeight>,
    /// What is wrong with that annotation, which is then ignored.
    pub invalid_weight: Option<InvalidWeight>,
    /// The notice about a misspelled annotation or label.
    pub misspelt_annotation: Option<Box<str>>,
    /// Whether [`EXCLUDE_LABEL`] is ignored (`--ignore-exclude-lb`).
    pub exclusion_ignored: bool,
}

impl Node {
    /// Reads a Node.
    ///
    /// # Errors
    /// The field that doesn't have the shape that Kubernetes defines.
    pub fn parse(raw: &RawObject) -> Result<Self, FieldError> {
        let spec: NodeSpec = raw.field("spec")?;
        let status: NodeStatus = raw.field("status")?;
        let weight = raw.metadata.annotations.get(WEIGHT_ANNOTATION);
        let (weight, invalid_weight) = match weight.map(|text| text.parse()) {
            Some(Ok(weight)) => (Some(weight), None),
            Some(Err(bad)) => (None, Some(bad)),
            None => (None, None),
        };
        let conditions = &status.conditions;
        let is_true = |r#type| {
            let mut of_type = conditions.iter().filter(|c| c.r#type == r#type);
            of_type.any(|c| c.status == "True")
        };
        Ok(Self {
            uid: raw.metadata.uid.as_str().into(),
            ready: is_true("Ready"),
            weight,
            invalid_weight,
            misspelt_annotation: misspelt::key(&raw.metadata, &[WEIGHT_ANNOTATION]),
            exclusion_ignored: false,
            cordoned: spec.unschedulable,
            deleting: !raw.metadata.deletion_timestamp.is_empty(),
            shutting_down: conditions.iter().any(|c| {
                c.r#type == "Ready" && c.status != "True" && c.message.contains(SHUTTING_DOWN)
            }),
            labels: raw.metadata.labels.clone(),
            network_unavailable: is_true("NetworkUnavailable"),
            internal_ips: addresses(&status, |r#type| r#type == "InternalIP"),
            other_ips: addresses(&status, |r#type| r#type != "InternalIP"),
            pod_cidrs: networks(spec.pod_cidrs.iter().chain([&spec.pod_cidr])),
        })
    }

    /// Whether both have the same addresses and podCIDRs, which are never allocated.
    pub fn same_networks(&self, other: &Self) -> bool {
        (&self.internal_ips, &self.other_ips, &self.pod_cidrs)
            == (&other.internal_ips, &other.other_ips, &other.pod_cidrs)
    }

    /// The first InternalIP of a family that can be a next hop. A link-local address can't: it
    /// means another host on each link.
    pub fn internal_ip(&self, family: Family) -> Option<IpAddr> {
        let link_local = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        self.internal_ips
            .iter()
            .copied()
            .find(|address| Family::of(*address) == family && !link_local(address))
    }

    /// Whether it may announce anything at all.
    pub fn may_announce(&self) -> bool {
        !self.network_unavailable && !self.excluded()
    }

    /// The node as if it were not excluded: the base of what it announces while it drains.
    #[must_use]
    pub fn staying(&self) -> Self {
        let mut node = self.clone();
        node.labels.remove(EXCLUDE_LABEL);
        node
    }

    /// Whether [`EXCLUDE_LABEL`] is set, whatever its value, and has an effect.
    pub fn excluded(&self) -> bool {
        !self.exclusion_ignored && self.labels.contains_key(EXCLUDE_LABEL)
    }
}
/// The addresses of the wanted types, without host names.
fn addresses(status: &NodeStatus, wanted: impl Fn(&str) -> bool) -> Vec<IpAddr> {
    let addresses = status.addresses.iter();
    let addresses = addresses.filter(|address| wanted(&address.r#type));
    addresses
        .filter_map(|address| address.address.parse().ok())
        .map(|address: IpAddr| address.to_canonical())
        .collect()
}
