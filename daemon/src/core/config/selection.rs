//! What an advertisement of either protocol selects.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::load_balancer_classes::LoadBalancerClasses;
use super::selector::{Selectors, unique};
use crate::core::api::metallb::LabelSelector;
use crate::core::api::{Errors, FieldError};
use crate::core::model::Labels;

/// The pools, services and nodes that an advertisement selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pools: BTreeSet<String>,
    pool_selectors: Selectors,
    /// Pools that it does not select.
    pub(super) unselectable: Arc<BTreeSet<String>>,
    /// The nodes that may announce. Empty: all.
    pub nodes: Selectors,
    /// The services. Empty: all.
    pub services: Selectors,
    /// The services of other load balancers.
    pub classes: LoadBalancerClasses,
}

/// The fields that [`Selection::parse`] checks.
#[derive(Clone, Copy, Debug)]
pub(super) struct SelectionSpec<'a> {
    pub ip_address_pools: &'a [String],
    pub ip_address_pool_selectors: &'a [LabelSelector],
    pub node_selectors: &'a [LabelSelector],
    pub service_selectors: &'a [LabelSelector],
    pub load_balancer_classes: &'a [String],
}

impl Selection {
    /// Checks the fields.
    ///
    /// # Errors
    /// Every name that is listed twice, and every invalid selector.
    pub(super) fn parse(spec: &SelectionSpec<'_>) -> Result<Self, FieldError> {
        let mut errors = Errors::default();
        let pools = errors.record(unique("spec.ipAddressPools", spec.ip_address_pools));
        let mut selectors = |path, selectors| errors.record(Selectors::parse(path, selectors));
        let pool_selectors = selectors(
            "spec.ipAddressPoolSelectors",
            spec.ip_address_pool_selectors,
        );
        let nodes = selectors("spec.nodeSelectors", spec.node_selectors);
        let services = selectors("spec.serviceSelectors", spec.service_selectors);
        let classes = errors.record(LoadBalancerClasses::parse(spec.load_balancer_classes));
        let selection = || {
            Some(Self {
                pools: pools?,
                pool_selectors: pool_selectors?,
                unselectable: Arc::default(),
                nodes: nodes?,
                services: services?,
                classes: classes?,
            })
        };
        errors.into_result(selection())
    }

    /// The pools that it names.
    pub fn pools(&self) -> impl Iterator<Item = &String> {
        self.pools.iter()
    }

    /// Whether it selects a pool. Without names and selectors it selects all.
    pub fn selects_pool(&self, name: &str, labels: Option<&Labels>) -> bool {
        let selects_all = self.pools.is_empty() && self.pool_selectors.is_empty();
        let selects = || labels.is_some_and(|labels| self.pool_selectors.any(labels));
        !self.unselectable.contains(name) && (selects_all || self.pools.contains(name) || selects())
    }
}
