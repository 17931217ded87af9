//! How many addresses of pools are assigned and available.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::core::api::metallb::PoolStatus;
use crate::core::index::Index;
use ferrolb_allocator::{Family, Pool};

/// The addresses that Services have, each once.
pub(crate) fn in_use(index: &Index) -> BTreeSet<IpAddr> {
    let ours = index.services().filter(|service| service.is_ours());
    ours.flat_map(|service| service.addresses().iter().copied())
        .collect()
}

/// How many addresses of a family a pool has in use.
pub(crate) fn assigned(pool: &Pool, family: Family, in_use: &BTreeSet<IpAddr>) -> usize {
    let of_family = in_use.iter().filter(|a| Family::of(**a) == family);
    of_family.filter(|a| pool.contains(**a)).count()
}

/// What the status of a pool says about its addresses.
pub(super) fn status_of(pool: &Pool, in_use: &BTreeSet<IpAddr>) -> PoolStatus {
    let counts = |family| {
        let assigned = assigned(pool, family, in_use);
        let available = pool
            .capacity(family)
            .saturating_sub(u128::try_from(assigned).unwrap_or(u128::MAX));
        (
            i64::try_from(assigned).unwrap_or(i64::MAX),
            i64::try_from(available).unwrap_or(i64::MAX),
        )
    };
    let (assigned_ipv4, available_ipv4) = counts(Family::V4);
    let (assigned_ipv6, available_ipv6) = counts(Family::V6);
    PoolStatus {
        assigned_ipv4,
        assigned_ipv6,
        available_ipv4,
        available_ipv6,
    }
}
