//! Layer 2 announcements: answers ARP and NDP for addresses of services, and decides with the other
//! nodes which of them answers.
//!
//! [`machine::Machine`] is the whole engine without I/O: it takes frames, interfaces, commands and
//! the time, and returns frames and events. `driver` (feature `driver`) runs it on a thread of its
//! own with packet sockets.

pub mod config;
#[cfg(feature = "driver")]
pub mod driver;
pub mod interface;
pub mod limits;
pub mod mac;
pub mod machine;
pub mod moves;
pub mod routers;
pub mod status;
pub mod wire;

mod membership;
mod ownership;
mod responder;
#[cfg(feature = "serde")]
mod seconds;

pub use ownership::owners_at_a_cold_start;
