//! IPAddressPool: checks the resource and converts it for the allocator and the announcers.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_allocator::{Pool, PoolError, PoolOptions, ServiceKey, canonical};
use ipnet::IpNet;

use super::selector::{Selectors, unique};
use crate::core::api::ferrolb::{FerrolbIpAddressPoolSpec, ReservationSpec};
use crate::core::api::metallb::{IpAddressPoolSpec, ServiceAllocation};
use crate::core::api::{Errors, FieldError, ObjectKey};
use crate::core::model::{Family, Labels};

/// The properties of a pool that the allocator doesn't need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDetails {
    /// The object: both API groups have IPAddressPools.
    pub object: ObjectKey,
    /// For `ipAddressPoolSelectors`.
    pub labels: Labels,
    /// The services that it accepts, if not all.
    pub allocation: Option<Allocation>,
    /// The shortest IPv4 aggregation length that covers no address outside of an entry.
    pub min_aggregation: u8,
    /// The same for IPv6.
    pub min_aggregation_v6: u8,
}

impl PoolDetails {
    /// The shortest aggregation length of a family. For a range, its shortest CIDR counts, as in
    /// MetalLB.
    pub const fn min_aggregation(&self, family: Family) -> u8 {
        match family {
            Family::V4 => self.min_aggregation,
            Family::V6 => self.min_aggregation_v6,
        }
    }
}

/// `serviceAllocation`, resolved with the existing namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// The names of the namespaces. None: all.
    namespaces: Option<BTreeSet<String>>,
    services: Selectors,
}

impl Allocation {
    /// Whether a service may have an address from the pool.
    pub fn accepts(&self, namespace: &str, labels: &Labels) -> bool {
        self.namespaces
            .as_ref()
            .is_none_or(|namespaces| namespaces.contains(namespace))
            && self.services.matches(labels)
    }
}

/// An unchecked IPAddressPool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolResource<'a> {
    /// The object.
    pub object: &'a ObjectKey,
    /// Its labels.
    pub labels: &'a Labels,
    /// The fields of MetalLB's IPAddressPool.
    pub spec: &'a IpAddressPoolSpec,
    /// The additional fields of ferrolb's. None for MetalLB's.
    pub ferrolb: Option<&'a FerrolbIpAddressPoolSpec>,
}

/// Checks an IPAddressPool.
///
/// # Errors
/// Every invalid field, and what to write instead.
pub(crate) fn parse(
    resource: PoolResource<'_>,
    frozen: bool,
    namespaces: &BTreeMap<String, Labels>,
) -> Result<(Pool, PoolDetails), FieldError> {
    let PoolResource {
        object,
        labels,
        spec,
        ferrolb,
    } = resource;
    let name = object.name.name.as_str();
    let IpAddressPoolSpec {
        addresses,
        auto_assign,
        avoid_buggy_ips,
        service_allocation,
    } = spec;
    let options = PoolOptions {
        auto_assign: auto_assign.unwrap_or(true),
        avoid_buggy_ips: *avoid_buggy_ips,
        pinned: service_allocation
            .as_ref()
            .map(|allocation| allocation.priority),
        frozen,
    };
    let mut errors = Errors::default();
    let error = |error: PoolError| FieldError::new("spec.addresses", error.to_string());
    let entries = addresses.iter().filter_map(|entry| {
        let alone = Pool::parse(name, std::slice::from_ref(entry), PoolOptions::default());
        alone.err()
    });
    entries.for_each(|entry| errors.add(error(entry)));
    let pool = match Pool::parse(name, addresses, options) {
        Ok(pool) => Some(pool),
        // If every entry is valid alone, the entries overlap.
        Err(overlap) => {
            if errors.is_empty() {
                errors.add(error(overlap));
            }
            None
        }
    };
    let FerrolbIpAddressPoolSpec { reservations } = ferrolb.cloned().unwrap_or_default();
    let pool = pool.map(|pool| reserve(pool, &reservations, &mut errors));
    let allocation = service_allocation.as_ref();
    let allocation =
        allocation.and_then(|allocation| parse_allocation(allocation, namespaces, &mut errors));
    let pool = errors.into_result(pool)?;
    let details = PoolDetails {
        object: object.clone(),
        labels: labels.clone(),
        allocation,
        min_aggregation: min_aggregation(addresses, Family::V4),
        min_aggregation_v6: min_aggregation(addresses, Family::V6),
    };
    Ok((pool, details))
}

/// Adds the valid reservations to a pool.
fn reserve(mut pool: Pool, reservations: &[ReservationSpec], errors: &mut Errors) -> Pool {
    let mut services = BTreeSet::new();
    for (index, reservation) in reservations.iter().enumerate() {
        let ReservationSpec {
            namespace,
            name,
            addresses,
        } = reservation;
        let path = |field: &str| format!("spec.reservations[{index}].{field}");
        let mut add = |field: &str, message: String| {
            errors.add(FieldError::new(path(field), message));
        };
        if namespace.is_empty() {
            add(
                "namespace",
                "is missing: write the namespace of the Service".into(),
            );
        }
        if name.is_empty() {
            add("name", "is missing: write the name of the Service".into());
        }
        if addresses.is_empty() {
            add("addresses", "is empty: list addresses of the pool".into());
        }
        if !services.insert((namespace, name)) {
            let message = format!(
                "{namespace}/{name} has another reservation in this pool: write its addresses into \
                 one list"
            );
            add("name", message);
        }
        let service = ServiceKey::new(namespace.as_str(), name.as_str());
        match pool.clone().reserving(service, addresses) {
            Ok(reserving) => pool = reserving,
            Err(error) => add("addresses", error.to_string()),
        }
    }
    pool
}

/// The longest of the entries' shortest prefixes.
fn min_aggregation(entries: &[String], family: Family) -> u8 {
    let shortest = entries.iter().filter_map(|entry| {
        let entry = Pool::parse("", std::slice::from_ref(entry), PoolOptions::default());
        let prefixes = entry.as_ref().map(Pool::prefixes).unwrap_or_default();
        let prefixes = prefixes.iter();
        let of_family = prefixes.filter(|prefix| Family::of(prefix.addr()) == family);
        of_family.map(IpNet::prefix_len).min()
    });
    shortest.max().unwrap_or(0)
}

/// Notices about entries that have host bits, with the network that they are read as.
pub(crate) fn host_bits(spec: &IpAddressPoolSpec) -> impl Iterator<Item = String> {
    spec.addresses.iter().filter_map(|entry| {
        let written: IpNet = entry.trim().parse().ok()?;
        let network = canonical(written);
        (network != network.trunc()).then(|| {
            format!(
                "spec.addresses: {written} has host bits and is read as all of {}, {}-{}: write \
                 that, or a range",
                network.trunc(),
                network.network(),
                network.broadcast()
            )
        })
    })
}

fn parse_allocation(
    allocation: &ServiceAllocation,
    known: &BTreeMap<String, Labels>,
    errors: &mut Errors,
) -> Option<Allocation> {
    const PATH: &str = "spec.serviceAllocation";
    let ServiceAllocation {
        priority: _,
        namespaces,
        namespace_selectors,
        service_selectors,
    } = allocation;
    let names = errors.record(unique(&format!("{PATH}.namespaces"), namespaces));
    let selectors = format!("{PATH}.namespaceSelectors");
    let selectors = errors.record(Selectors::parse(&selectors, namespace_selectors));
    let services = format!("{PATH}.serviceSelectors");
    let services = errors.record(Selectors::parse(&services, service_selectors));
    let (mut names, selectors) = (names?, selectors?);
    let selected = known.iter().filter(|(_, labels)| selectors.any(labels));
    names.extend(selected.map(|(name, _)| name.clone()));
    Some(Allocation {
        namespaces: (!namespaces.is_empty() || !selectors.is_empty()).then_some(names),
        services: services?,
    })
}
