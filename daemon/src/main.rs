//! The `ferrolb` program: load-balancer addresses for bare-metal Kubernetes.

pub mod api;
pub mod config;
pub mod decide;
pub mod desired;
pub mod index;
pub mod source;

fn main() {}
