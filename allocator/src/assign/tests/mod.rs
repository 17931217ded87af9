//! Tests of the allocator, by subject. This file builds pools and requests from short texts.

mod conflicts;
mod former;
mod properties;
mod reservations;
mod retention;
mod rounds;
mod search;
mod sharing;
mod unknown_pools;

use super::*;
use crate::conflicts::conflicts;
use crate::family::Family;
use crate::pool::{Pool, PoolOptions};
use crate::reason::SharingConflict;
use crate::request::{FamilyPolicy, parse_requested};
use crate::service::{Port, Protocol};

impl Allocator {
    /// Decides for one service and for no other.
    fn step(&mut self, request: &AllocationRequest) -> Outcome {
        self.allocate(&Arc::new(request.clone())).0
    }

    /// Takes the current addresses of a request as the service's addresses, without a decision.
    fn adopt_one(&mut self, request: &AllocationRequest) {
        self.adopt(&Arc::new(request.clone()));
    }

    fn allocate_requests(&mut self, requests: &[AllocationRequest]) -> Vec<(ServiceKey, Outcome)> {
        self.allocate_all(shared(requests))
    }
}

/// The outcomes of a new allocator, which knows only the current addresses in the requests.
fn allocate_all(pools: PoolSet, requests: &[AllocationRequest]) -> Vec<(ServiceKey, Outcome)> {
    Allocator::new(pools).allocate_requests(requests)
}

fn shared(requests: &[AllocationRequest]) -> Vec<Arc<AllocationRequest>> {
    requests.iter().cloned().map(Arc::new).collect()
}

fn options() -> PoolOptions {
    PoolOptions::default()
}

fn manual() -> PoolOptions {
    PoolOptions {
        auto_assign: false,
        ..options()
    }
}

fn pinned(priority: i64) -> PoolOptions {
    PoolOptions {
        pinned: Some(priority),
        ..options()
    }
}

fn avoiding() -> PoolOptions {
    PoolOptions {
        avoid_buggy_ips: true,
        ..options()
    }
}

fn frozen() -> PoolOptions {
    PoolOptions {
        frozen: true,
        ..options()
    }
}

/// Pools as name, entries separated by blanks, and settings.
fn pool_set(pools: &[(&str, &str, PoolOptions)]) -> PoolSet {
    let pools = pools.iter().map(|(name, entries, options)| {
        let entries: Vec<String> = entries.split(' ').map(str::to_owned).collect();
        Pool::parse(name, &entries, options.clone()).unwrap()
    });
    PoolSet::new(pools, true).unwrap()
}

fn incomplete_set(pools: &[(&str, &str, PoolOptions)]) -> PoolSet {
    let mut set = pool_set(pools);
    set.set_complete(false);
    set
}

fn ips(list: &str) -> Vec<IpAddr> {
    list.split(' ')
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap())
        .collect()
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("ns", name)
}

fn service(name: &str) -> AllocationRequest {
    AllocationRequest::new(key(name))
}

fn requesting(name: &str, list: &str) -> AllocationRequest {
    AllocationRequest {
        requested: Ok(ips(list)),
        ..service(name)
    }
}

fn requesting_pool(name: &str, pool: &str) -> AllocationRequest {
    AllocationRequest {
        requested_pool: Some(pool.to_owned()),
        ..service(name)
    }
}

fn with_addresses(name: &str, list: &str, from: &str) -> AllocationRequest {
    let current_pool = (!from.is_empty()).then(|| from.to_owned());
    AllocationRequest {
        current: ips(list),
        current_pool,
        ..service(name)
    }
}

fn dual(policy: FamilyPolicy, request: AllocationRequest) -> AllocationRequest {
    AllocationRequest {
        cluster_families: vec![Family::V4, Family::V6],
        family_policy: policy,
        ..request
    }
}

fn sharing(name: &str, key: &str, backend: &str, ports: &[&str]) -> AllocationRequest {
    let ports = ports
        .iter()
        .map(|port| {
            let (protocol, number) = port.split_once('/').unwrap();
            Port {
                protocol: Protocol::parse(protocol).unwrap(),
                number: number.parse().unwrap(),
            }
        })
        .collect();
    AllocationRequest {
        sharing_key: key.to_owned(),
        backend_key: backend.to_owned(),
        ports,
        ..service(name)
    }
}

/// The addresses, then the code of the reason in parentheses, if any: "10.0.0.1 (Code)".
fn summary(outcome: &Outcome) -> String {
    let mut words: Vec<String> = outcome
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    words.extend(
        outcome
            .reason()
            .map(|reason| format!("({})", reason.code())),
    );
    words.join(" ")
}

/// The outcome for a single service.
fn allocate_one(pools: &[(&str, &str, PoolOptions)], request: &AllocationRequest) -> String {
    summary(&Allocator::new(pool_set(pools)).step(request))
}

/// Adopts the current addresses of all requests, then decides for each in the given order.
fn adopt_and_allocate(pools: PoolSet, requests: &[AllocationRequest]) -> Vec<String> {
    let mut allocator = Allocator::new(pools);
    requests
        .iter()
        .for_each(|request| allocator.adopt_one(request));
    requests
        .iter()
        .map(|request| summary(&allocator.step(request)))
        .collect()
}
