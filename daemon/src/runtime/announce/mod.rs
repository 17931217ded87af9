//! Announces the addresses of this node: routes through the BGP engine, with the rate limit of
//! weights, drain and state file; and by layer 2. Publishes the sessions as objects.

pub(crate) mod announcer;
pub(crate) mod bgp_sessions;
pub(crate) mod drain;
pub(crate) mod layer2;
pub(crate) mod state_file;
mod weight_rate_limit;
