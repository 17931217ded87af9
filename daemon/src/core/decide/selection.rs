//! What must be true of a service on every node, for both protocols: it has addresses in pools, and
//! advertisements select it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_allocator::pool_names;

use super::{Detail, Reason};
use crate::core::config::Config;
use crate::core::config::advertisement::Advertisement;
use crate::core::config::layer2_advertisement::Layer2Advertisement;
use crate::core::index::Index;
use crate::core::model::Service;

/// The addresses of a service from one pool, and the advertisements of both protocols that select
/// the service and the pool. A protocol without any doesn't announce them; at least one of them has
/// some.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    /// The pool.
    pub pool: String,
    /// The addresses, at least one.
    pub addresses: Vec<IpAddr>,
    /// The BGPAdvertisements.
    pub bgp: Vec<&'a Advertisement>,
    /// The L2Advertisements, by name.
    pub layer2: Vec<&'a Layer2Advertisement>,
    /// Whether an L2Advertisement selects the pool, and the class of the service, even if none
    /// selects its labels.
    pub layer2_selects_pool: bool,
}

/// Finds the advertisements that select a service, for each pool of its addresses. Returns at least
/// one entry. An error is the first reason why no node announces these addresses over any protocol.
pub(super) fn of<'a>(
    index: &'a Index,
    service: &Service,
) -> Vec<Result<Selection<'a>, (Reason, Detail)>> {
    if let Err(reason) = check_service(index, service) {
        return vec![Err(reason)];
    }
    let config = index.config();
    let by_pool = addresses_by_pool(config, service).into_iter();
    by_pool
        .map(|(pool, addresses)| match pool {
            Some(pool) => select(config, service, pool, addresses),
            None => Err((
                Reason::AddressNotInPool,
                Detail::Addresses(addresses.into()),
            )),
        })
        .collect()
}

/// Checks what concerns all addresses of the service.
fn check_service(index: &Index, service: &Service) -> Result<(), (Reason, Detail)> {
    if !service.in_charge && !index.config().announces_class(service.class.as_deref()) {
        let class = service.class.as_deref();
        let detail = class.map_or(Detail::None, Detail::from);
        return Err((Reason::ForeignLoadBalancerClass, detail));
    }
    if let Some(text) = &service.invalid_address {
        return Err((Reason::InvalidAddress, format!("{text:?}").into()));
    }
    if service.addresses().is_empty() {
        return Err((Reason::NoAddress, Detail::None));
    }
    if service.in_charge {
        return check_no_conflict(index, service);
    }
    // The program in charge decides which services share an address.
    Ok(())
}

/// Finds the advertisements that select a service and one of its pools.
fn select<'a>(
    config: &'a Config,
    service: &Service,
    pool: String,
    addresses: Vec<IpAddr>,
) -> Result<Selection<'a>, (Reason, Detail)> {
    let details = config.pool_details.get(&pool);
    let labels = details
        .map(|details| &details.labels)
        .or_else(|| config.unreadable_pools.get(&pool));
    let bgp = config.advertisements.values();
    let bgp = bgp.filter(|ad| ad.selection.selects_pool(&pool, labels));
    let mut bgp: Vec<_> = bgp.collect();
    let layer2 = config.layer2_advertisements.values();
    let layer2 = layer2.filter(|ad| ad.selection.selects_pool(&pool, labels));
    let mut layer2: Vec<_> = layer2.collect();
    if bgp.is_empty() && layer2.is_empty() {
        return Err((Reason::NoAdvertisement, format!("pool {pool}").into()));
    }
    if let Some(class) = service.class.as_deref().filter(|_| !service.in_charge) {
        bgp.retain(|ad| ad.selection.classes.accepts(class));
        layer2.retain(|ad| ad.selection.classes.accepts(class));
        if bgp.is_empty() && layer2.is_empty() {
            let detail = format!("{class}, pool {pool}");
            return Err((Reason::ForeignLoadBalancerClass, detail.into()));
        }
    }
    let layer2_selects_pool = !layer2.is_empty();
    bgp.retain(|ad| ad.selection.services.matches(&service.labels));
    layer2.retain(|ad| ad.selection.services.matches(&service.labels));
    if bgp.is_empty() && layer2.is_empty() {
        return Err((Reason::ServiceNotSelected, format!("pool {pool}").into()));
    }
    Ok(Selection {
        pool,
        addresses,
        bgp,
        layer2,
        layer2_selects_pool,
    })
}

/// The pools of a service's addresses. None: those that are in no pool.
fn addresses_by_pool(config: &Config, service: &Service) -> Vec<(Option<String>, Vec<IpAddr>)> {
    let mut by_pool: Vec<(Option<String>, Vec<IpAddr>)> = Vec::new();
    for (position, address) in service.addresses().iter().enumerate() {
        let unknown = recorded_pool(service, position);
        let unknown = unknown.filter(|name| config.pools.get(name).is_none());
        let is_refused = unknown.is_some_and(|name| config.unreadable_pools.contains_key(name));
        let pool = match config.pools.containing(*address) {
            // Its own pool is refused because it overlaps this one.
            Some(_) if is_refused => unknown,
            Some(pool) => Some(pool.name()),
            None => unknown.filter(|_| !config.pools.complete()),
        };
        let known = by_pool
            .iter_mut()
            .find(|(other, _)| other.as_deref() == pool);
        match known {
            Some((_, addresses)) => addresses.push(*address),
            None => by_pool.push((pool.map(str::to_owned), vec![*address])),
        }
    }
    by_pool
}

/// The pool that the service's annotation names for an address.
fn recorded_pool(service: &Service, position: usize) -> Option<&str> {
    let text = service.request.current_pool.as_deref()?;
    let mut names = pool_names(text);
    let first = names.next()?;
    // A single name is that of the pool of all addresses.
    Some(match position {
        0 => first,
        position => names.nth(position - 1).unwrap_or(first),
    })
}

fn check_no_conflict(index: &Index, service: &Service) -> Result<(), (Reason, Detail)> {
    let is_shared = |address: &IpAddr| {
        let users = index.services_with_address(*address);
        users.filter(|user| user.is_ours()).nth(1).is_some()
    };
    if !service.addresses().iter().any(is_shared) {
        return Ok(());
    }
    let users: BTreeMap<_, _> = service
        .addresses()
        .iter()
        .flat_map(|address| index.services_with_address(*address))
        .filter(|user| user.is_ours())
        .map(|user| (&user.name, &user.request))
        .collect();
    let conflicts = ferrolb_allocator::conflicts(users.into_values());
    match conflicts
        .get(&service.request.service)
        .and_then(|addresses| addresses.values().next())
    {
        Some(reason) => Err((Reason::AddressConflict, reason.to_string().into())),
        None => Ok(()),
    }
}
