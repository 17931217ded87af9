//! ferrolb: load-balancer addresses for bare-metal Kubernetes.
//!
//! This library is what the program `ferrolb` is made of; docs/ARCHITECTURE.md says how its parts hang together.

pub mod allocation;
pub mod api;
pub mod cli;
pub mod config;
pub mod decide;
pub mod desired;
pub mod index;
pub mod kube;
pub mod plan;
pub mod session;
pub mod source;
