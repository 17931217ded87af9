//! Address pools: which service gets which address, and why not.
//!
//! Everything here is a pure function of what the caller passes in: no Kubernetes, no clock, no
//! socket, no random source. The caller turns objects into [`Pool`]s and [`Request`]s, and writes
//! each [`Outcome`] back. Where MetalLB leaves an order to chance (plain pools, equal priorities)
//! the pool's name decides, so the same facts always give the same addresses.
//!
//! # Two ways in
//!
//! * [`allocate_all`] is the fold over everything: what `plan` shows, and what a new leader does
//!   after its consistent list.
//! * [`Allocator`] is the same thing kept. [`Allocator::update`] decides for the services that
//!   changed or are gone, and for those that this touches; the cost does not depend on how many
//!   other services there are. [`Allocator::allocate_all`] decides for all of them, which is
//!   needed after a change of pools. Both ways lead to the same addresses.
//!
//! # When an address moves, and when it must not
//!
//! A service keeps what it holds while its pool and its own wishes allow that. It loses an address
//! only by something somebody did on purpose (an edit of a pool, of the service's request, of its
//! labels) or because an older service holds the same one ([`Reason::AddressConflict`]).
//! What we merely can't see is no reason:
//!
//! * A pool that is invalid, unreadable or gone with its CRD stays in the [`PoolSet`] in its last
//!   good value and is marked [`PoolOptions::frozen`]. Its services keep their addresses, whatever
//!   its selectors say, and nothing new comes from it.
//! * A pool whose good value was never seen (we started when it was broken already) can't be in
//!   the set. Then the set is not [`PoolSet::complete`], and an address outside all known pools is
//!   kept ([`Outcome::Kept`], [`Reason::PoolUnknown`]). `complete` is the caller's word that a
//!   consistent list was read and that every pool in it is in this set, in its present or last
//!   good value. The exception is an address recorded as coming from a pool that is in the set and
//!   not frozen: that pool was edited on purpose, so the address is lost even in an incomplete set.
//! * A wish that only an unseen or frozen pool could grant never costs a service what it has.
//!
//! # Addresses that belong to something else
//!
//! A pool may contain addresses of nodes, routers or Pods ([`Pool::excluding`]). No service gets
//! one; a service that has one keeps it.
//!
//! # Which pools accept a service
//!
//! Label selectors belong to the caller. A pool with a `serviceAllocation` is *pinned*
//! ([`PoolOptions::pinned`]); a [`Request`] names the pinned pools whose selectors accept the
//! service ([`Request::accepted_by`]). Pools that are not pinned accept everybody.

mod assign;
mod exclusion;
mod ledger;
mod pick;
mod pool;
mod pool_set;
mod reason;
mod request;
mod round;

pub use assign::{Allocator, allocate_all, conflicts};
pub use exclusion::{Exclusion, canonical};
pub use pool::{Pool, PoolError, PoolOptions};
pub use pool_set::{PoolSet, PoolSetError};
pub use reason::{Clash, Outcome, Reason};
pub use request::{Family, FamilyPolicy, Port, Protocol, Request, ServiceKey, parse_requested};
