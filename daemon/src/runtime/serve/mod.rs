//! HTTP server for probes and metrics, and the control socket.

pub(crate) mod control;
pub(crate) mod http;
pub(crate) mod metrics;
