//! Announces the routes of this node through the BGP engine: rate limit of weights, drain, state
//! file.

pub(crate) mod announcer;
pub(crate) mod drain;
pub(crate) mod state_file;
mod weight_rate_limit;
