//! Turns objects of the Kubernetes API into addresses and routes.
//!
//! Everything here is a pure function of its inputs: no tokio, no kube, no clock.

pub(crate) mod allocate;
pub(crate) mod api;
pub(crate) mod config;
pub(crate) mod decide;
pub(crate) mod explain;
pub(crate) mod hash;
pub(crate) mod index;
pub(crate) mod model;
pub(crate) mod nearest;
pub(crate) mod overview;
pub(crate) mod owners;
pub(crate) mod panic_context;
pub(crate) mod picture;
pub(crate) mod plan;
pub(crate) mod printable;
pub(crate) mod router_config;
pub(crate) mod syntax;
