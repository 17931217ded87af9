//! Who holds which address, and who gets one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::pool_set::PoolSet;
use crate::reason::{Outcome, Reason};
use crate::request::{Request, ServiceKey};

/// How many addresses of a pool are in use and free, per family, at most `i64::MAX` (what the
/// status fields can hold). An address that services share counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// IPv4 addresses in use.
    pub assigned_ipv4: u64,
    /// IPv6 addresses in use.
    pub assigned_ipv6: u64,
    /// IPv4 addresses that can still be given out.
    pub available_ipv4: u64,
    /// IPv6 addresses that can still be given out.
    pub available_ipv6: u64,
}

/// The pools and who holds what.
#[derive(Debug, Clone, Default)]
pub struct Allocator {
    pools: PoolSet,
}

impl Allocator {
    /// An allocator where nobody holds anything yet.
    #[must_use]
    pub fn new(pools: PoolSet) -> Self {
        Self { pools }
    }

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> &PoolSet {
        &self.pools
    }

    /// Replaces the pools. Holdings stay; call [`Allocator::allocate`] for every service to see
    /// who has to move and who can now be served.
    pub fn set_pools(&mut self, pools: PoolSet) {
        self.pools = pools;
    }

    /// Takes over what the API server says a service holds ([`Request::holds`]), in place of what
    /// was known for it. Nothing is judged here: restore all holders first, then `allocate`.
    /// The order makes no difference to the result.
    pub fn restore(&mut self, request: &Request) {
        let _ = request;
        unimplemented!()
    }

    /// Decides what a service has from now on, and remembers it. What it held before is what this
    /// allocator remembers, not [`Request::holds`].
    pub fn allocate(&mut self, request: &Request) -> Outcome {
        let _ = request;
        unimplemented!()
    }

    /// Forgets a service and gives back the addresses it held.
    pub fn release(&mut self, service: &ServiceKey) -> Vec<IpAddr> {
        let _ = service;
        unimplemented!()
    }

    /// What a service holds.
    #[must_use]
    pub fn held(&self, service: &ServiceKey) -> &[IpAddr] {
        let _ = service;
        unimplemented!()
    }

    /// Counts of one pool; all zero if there is no such pool.
    #[must_use]
    pub fn usage(&self, pool: &str) -> Usage {
        let _ = pool;
        unimplemented!()
    }
}

/// Decides for all services at once, from what they hold and want. Holders come first, the oldest
/// first, then those that hold nothing, the oldest first. The result is in that order.
#[must_use]
pub fn allocate_all(pools: PoolSet, requests: &[Request]) -> Vec<(ServiceKey, Outcome)> {
    let _ = (pools, requests);
    unimplemented!()
}

/// The services that hold ([`Request::holds`]) an address which an older service holds too and
/// may not share it. For those who announce: they must not announce it for these services.
/// The reason is always [`Reason::AddressConflict`].
#[must_use]
pub fn conflicts<'a>(
    requests: impl IntoIterator<Item = &'a Request>,
) -> BTreeMap<ServiceKey, BTreeMap<IpAddr, Reason>> {
    let _ = requests.into_iter().count();
    unimplemented!()
}
