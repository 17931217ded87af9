//! Keys of annotations and labels that have an effect, and how their values are read.

use std::collections::BTreeMap;

/// Marks a node that no load balancer shall use, whatever its value.
pub(crate) const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// How long, and whether when the node is cordoned, the service's routes are drained.
pub(crate) const DRAIN_ANNOTATION: &str = "ferrolb.io/drain";
/// The user asks for a pool.
pub(crate) const POOL_ANNOTATION: &str = "metallb.io/address-pool";
/// The user asks for addresses.
pub(crate) const ADDRESSES_ANNOTATION: &str = "metallb.io/loadBalancerIPs";
/// Services with the same key may share an address.
pub(crate) const SHARING_ANNOTATION: &str = "metallb.io/allow-shared-ip";
/// `"true"`: a Local service may share its address with services that have other Pods.
pub(crate) const SHARED_LOCAL_ANNOTATION: &str = "ferrolb.io/allow-shared-local";
/// The allocator tells where the address came from.
pub(crate) const ALLOCATED_ANNOTATION: &str = "metallb.io/ip-allocated-from-pool";
/// MetalLB's prefix before 0.14.9; still read, the new one wins if it is present.
pub(super) const OLD_PREFIX: &str = "metallb.universe.tf/";
pub(super) const NEW_PREFIX: &str = "metallb.io/";

/// The annotation of a Node that sets its weight.
pub(crate) const WEIGHT_ANNOTATION: &str = "ferrolb.io/weight";

/// Reads an annotation under the present prefix or the old one. The present one wins if it stands there, also when it
/// is empty; an empty value means: not set.
pub(super) fn annotation<'a>(
    annotations: &'a BTreeMap<String, String>,
    key: &str,
) -> Option<&'a str> {
    let old = key.replace(NEW_PREFIX, OLD_PREFIX);
    let value = annotations.get(key).or_else(|| annotations.get(&old))?;
    (!value.is_empty()).then_some(value)
}
