//! Allocation of load balancer addresses: assigns addresses from pools to services, and explains
//! each result.
//!
//! The crate is a pure function of its inputs: it uses no Kubernetes client, clock, socket or
//! randomness. The caller converts Kubernetes objects to [`Pool`]s and [`AllocationRequest`]s, and
//! writes each [`Outcome`] back. Equal inputs give equal addresses: where MetalLB's order is random
//! (pools that are not pinned, equal priorities), ferrolb orders pools by name.
//!
//! [`Allocator::allocate_all`] decides for all services: on start, and after a change of pools.
//! [`Allocator::update`] decides only for the services that changed and those that are affected, at
//! a cost that does not depend on the number of other services. Both lead to the same addresses.
//!
//! # When a service loses an address
//!
//! A service keeps its addresses as long as its pool and its own request allow it. It loses an
//! address only if an operator changed the pool, the request or the labels of the service, or if an
//! older service has the same address ([`Reason::AddressConflict`]). Missing information never
//! costs an address:
//!
//! * A pool that is invalid, unreadable or deleted with its CRD remains in the [`PoolSet`] with its
//!   last valid definition, marked [`PoolOptions::frozen`]. Its services keep their addresses,
//!   regardless of its selectors. No further addresses are allocated from it.
//! * A pool that has been invalid since the process started has no such definition. Then the set is
//!   not [`PoolSet::complete`], and services keep addresses that are in none of the known pools
//!   ([`Outcome::Kept`], [`Reason::PoolUnknown`]). The exception is an address whose recorded pool
//!   is in the set and not frozen: an operator removed it from the pool, so the service loses it.
//! * A pool that is refused because it overlaps another one is in the set neither
//!   ([`PoolSet::refuse`]). Its services keep their addresses in the same way, also those that are
//!   now in the other pool.
//! * If a request could be granted only by an unknown or frozen pool, the service keeps its
//!   addresses.
//!
//! # Excluded addresses
//!
//! A pool may contain addresses of nodes, routers, Pods, Service ranges or other load balancers
//! ([`Pool::excluding`]). They are never allocated, but a service that already has one keeps it.
//!
//! # Reserved addresses
//!
//! A pool may keep addresses for services by name ([`Pool::reserving`]). No other service gets one
//! of them, automatically or by request ([`Reason::AddressReserved`]), but a service that already
//! has one keeps it. A service without addresses gets those that are reserved for it, regardless of
//! `auto_assign` and of the pool's `serviceAllocation`, unless it requests others.
//!
//! # Services with two families
//!
//! Both addresses are from one pool if a pool has both families free, and from two pools otherwise.
//! Each address is checked against its own pool.
//!
//! # Services that are created again
//!
//! A service that is deleted and created again under its name gets its former addresses, if they
//! are free and it could get them from its pools now. Other services get a former address only if
//! their pool has no other one. The allocator remembers the last services in memory only: a new
//! leader does not know them. To keep an address for sure, reserve or request it.
//!
//! # Service selection
//!
//! The caller evaluates label selectors. A pool with a `serviceAllocation` is *pinned*
//! ([`PoolOptions::pinned`]). An [`AllocationRequest`] lists the pinned pools that accept the
//! service ([`AllocationRequest::accepted_by`]). Other pools accept every service.

mod assign;
mod claimant;
mod conflicts;
mod exclusion;
mod family;
mod former;
mod ledger;
mod pick;
mod pool;
mod pool_set;
mod reason;
mod request;
mod reservation;
mod reserved;
mod round;
mod runs;
mod service;
mod span;

pub use assign::Allocator;
pub use conflicts::conflicts;
pub use exclusion::Exclusion;
pub use family::{Family, canonical};
pub use pool::{Pool, PoolError, PoolOptions};
pub use pool_set::{PoolSet, PoolSetError, pool_names};
pub use reason::{Outcome, Reason, SharingConflict};
pub use request::{AllocationRequest, FamilyPolicy, parse_requested};
pub use reservation::Reservation;
pub use reserved::reserved_networks;
pub use service::{Port, Protocol, ServiceKey};
