//! The running daemon: the control loop, where its objects come from, and what it announces, serves
//! and logs.

pub(crate) mod announce;
pub(crate) mod control_loop;
pub(crate) mod gate;
pub(crate) mod metallb_status;
pub(crate) mod panicked;
pub(crate) mod questions;
pub(crate) mod role;
pub(crate) mod serve;
pub(crate) mod source;
pub(crate) mod status;
pub(crate) mod telemetry;
mod turn;
