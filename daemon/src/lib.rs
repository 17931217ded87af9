//! ferrolb: load-balancer addresses for bare-metal Kubernetes.
//!
//! This library is what the program `ferrolb` is made of; docs/ARCHITECTURE.md says how its parts hang together.

pub mod agent;
pub mod allocation;
pub mod announcer;
pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod damping;
pub mod decide;
pub mod demo;
pub mod desired;
pub mod drain;
pub mod http;
pub mod index;
pub mod kube;
pub mod metrics;
mod nearest;
pub mod panicked;
pub mod plan;
mod printable;
pub mod report;
pub mod saved;
pub mod session;
pub mod source;
pub mod suspect;
pub mod telemetry;
