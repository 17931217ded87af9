//! What the daemon answers: probes and metrics over HTTP, and the control socket.

pub(crate) mod control;
pub(crate) mod http;
pub(crate) mod metrics;
