//! Keys of the annotations and labels that ferrolb reads and writes.

use std::collections::BTreeMap;

/// Excludes a node from all load balancers, whatever the value.
pub(crate) const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// How long the service's routes are drained, and whether cordoning the node drains them.
pub(crate) const DRAIN_ANNOTATION: &str = "ferrolb.io/drain";
/// Requests a pool.
pub(crate) const POOL_ANNOTATION: &str = "metallb.io/address-pool";
/// Requests addresses.
pub(crate) const ADDRESSES_ANNOTATION: &str = "metallb.io/loadBalancerIPs";
/// Services with the same value may share an address.
pub(crate) const SHARING_ANNOTATION: &str = "metallb.io/allow-shared-ip";
/// `"true"`: a Local service may share its address with services that have other Pods.
pub(crate) const SHARED_LOCAL_ANNOTATION: &str = "ferrolb.io/allow-shared-local";
/// The pool of the service's addresses, written by the allocator.
pub(crate) const ALLOCATED_ANNOTATION: &str = "metallb.io/ip-allocated-from-pool";
/// MetalLB's prefix before 0.14.9. Still read, but the current prefix takes precedence.
pub(super) const OLD_PREFIX: &str = "metallb.universe.tf/";
pub(crate) const NEW_PREFIX: &str = "metallb.io/";

/// Sets the weight of a Node.
pub(crate) const WEIGHT_ANNOTATION: &str = "ferrolb.io/weight";

/// The annotations under the old prefix, separated by commas; None: there are none. The one that
/// MetalLB itself wrote under it is not counted: its user can't change that.
pub(super) fn deprecated(annotations: &BTreeMap<String, String>) -> Option<Box<str>> {
    let written = ALLOCATED_ANNOTATION.replace(NEW_PREFIX, OLD_PREFIX);
    let old = annotations.keys().map(String::as_str);
    let old = old.filter(|key| key.starts_with(OLD_PREFIX) && **key != written);
    let old: Vec<&str> = old.collect();
    (!old.is_empty()).then(|| old.join(", ").into())
}

/// Reads an annotation under the current prefix or the old one. The current one takes precedence
/// even if its value is empty. An empty value means: not set.
pub(super) fn annotation<'a>(
    annotations: &'a BTreeMap<String, String>,
    key: &str,
) -> Option<&'a str> {
    let old = key.replace(NEW_PREFIX, OLD_PREFIX);
    let value = annotations.get(key).or_else(|| annotations.get(&old))?;
    (!value.is_empty()).then_some(value)
}
