//! Announces the addresses of this node: routes through the BGP engine, with the rate limit of
//! weights, drain, state file and the routers of unnumbered peers; and by layer 2. Discards packets
//! to unused addresses of aggregates, and publishes the sessions as objects.

pub(crate) mod announcer;
pub(crate) mod assigned;
pub(crate) mod bgp_sessions;
pub(crate) mod bmp;
pub(crate) mod discard;
pub(crate) mod drain;
pub(crate) mod layer2;
pub(crate) mod state_file;
mod unnumbered;
mod weight_rate_limit;
