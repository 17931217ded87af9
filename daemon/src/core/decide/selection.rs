//! What must be true of a service on every node, for both protocols: it has addresses of one pool,
//! and advertisements select it.

use std::collections::BTreeMap;

use super::{Detail, Reason};
use crate::core::config::Config;
use crate::core::config::advertisement::Advertisement;
use crate::core::config::layer2_advertisement::Layer2Advertisement;
use crate::core::index::Index;
use crate::core::model::Service;

/// The advertisements of both protocols that select a service. A protocol without any doesn't
/// announce the service; at least one of them has some.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    /// The pool of the service's addresses.
    pub pool: String,
    /// The BGPAdvertisements.
    pub bgp: Vec<&'a Advertisement>,
    /// The L2Advertisements, by name.
    pub layer2: Vec<&'a Layer2Advertisement>,
    /// Whether an L2Advertisement selects the pool, even if none selects the service.
    pub layer2_selects_pool: bool,
}

/// Finds the advertisements that select a service.
///
/// # Errors
/// The first reason why no node announces it over any protocol.
pub(super) fn of<'a>(
    index: &'a Index,
    service: &Service,
) -> Result<Selection<'a>, (Reason, Detail)> {
    let config = index.config();
    if let Some(class) = &service.class {
        return Err((Reason::ForeignLoadBalancerClass, class.as_str().into()));
    }
    if let Some(text) = &service.invalid_address {
        return Err((Reason::InvalidAddress, format!("{text:?}").into()));
    }
    if service.addresses().is_empty() {
        return Err((Reason::NoAddress, Detail::None));
    }
    let pool = pool_of(config, service).ok_or_else(|| {
        let addresses = service.addresses().iter().copied();
        (
            Reason::AddressNotInPool,
            Detail::Addresses(addresses.collect()),
        )
    })?;
    check_no_conflict(index, service)?;
    let details = config.pool_details.get(&pool);
    let labels = details
        .map(|details| &details.labels)
        .or_else(|| config.unreadable_pools.get(&pool));
    let bgp = config.advertisements.values();
    let bgp = bgp.filter(|ad| ad.selection.selects_pool(&pool, labels));
    let layer2 = config.layer2_advertisements.values();
    let layer2 = layer2.filter(|ad| ad.selection.selects_pool(&pool, labels));
    let layer2: Vec<_> = layer2.collect();
    let mut selection = Selection {
        bgp: bgp.collect(),
        layer2_selects_pool: !layer2.is_empty(),
        layer2,
        pool,
    };
    if selection.bgp.is_empty() && selection.layer2.is_empty() {
        let detail = format!("pool {}", selection.pool);
        return Err((Reason::NoAdvertisement, detail.into()));
    }
    let labels = &service.labels;
    let (bgp, layer2) = (&mut selection.bgp, &mut selection.layer2);
    bgp.retain(|ad| ad.selection.services.matches(labels));
    layer2.retain(|ad| ad.selection.services.matches(labels));
    if bgp.is_empty() && layer2.is_empty() {
        let detail = format!("pool {}", selection.pool);
        return Err((Reason::ServiceNotSelected, detail.into()));
    }
    Ok(selection)
}

/// The pool that contains all addresses of a service. If no pool does, the pool in the annotation,
/// if that pool exists but is unreadable.
fn pool_of(config: &Config, service: &Service) -> Option<String> {
    let mut pools = service
        .addresses()
        .iter()
        .map(|address| config.pools.containing(*address));
    let first = pools.next()?;
    match first {
        Some(pool) => pools
            .all(|other| other.is_some_and(|other| other.name() == pool.name()))
            .then(|| pool.name().to_owned()),
        None => {
            let name = service.request.current_pool.as_ref()?;
            let hidden = config.pools.get(name).is_none() && !config.pools.complete();
            hidden.then(|| name.clone())
        }
    }
}

fn check_no_conflict(index: &Index, service: &Service) -> Result<(), (Reason, Detail)> {
    let users: BTreeMap<_, _> = service
        .addresses()
        .iter()
        .flat_map(|address| index.services_with_address(*address))
        .filter(|user| user.is_ours())
        .map(|user| (&user.name, &user.request))
        .collect();
    if users.len() < 2 {
        return Ok(());
    }
    let conflicts = ferrolb_allocator::conflicts(users.into_values());
    match conflicts
        .get(&service.request.service)
        .and_then(|addresses| addresses.values().next())
    {
        Some(reason) => Err((Reason::AddressConflict, reason.to_string().into())),
        None => Ok(()),
    }
}
