//! From the routes that this node should announce to the BGP engine.

pub(crate) mod announcer;
pub(crate) mod drain;
pub(crate) mod state_file;
mod weight_rate_limit;
