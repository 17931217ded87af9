//! The lab: hosts in network namespaces, real routers, a real Kubernetes control plane.
//!
//! Everything here is plain synchronous Rust around the programs an operator would use by hand
//! (`ip`, `nft`, `vtysh`, `birdc`, `gobgp`), so that a failing test can be replayed in a shell. It
//! needs root and the packages that `cargo xtask test` installs. A test is a closure handed to
//! [`process::scenario`]:
//!
//! ```no_run
//! use ferrolb_interop_tests::{netns::Namespace, process::{Process, scenario}};
//!
//! scenario("echo", |scratch| {
//!     let host = Namespace::new("host")?;
//!     let mut daemon = Process::start(scratch, "sleeper", host.command("sleep").arg("60"))?;
//!     daemon.ensure_running()
//! });
//! ```

pub mod announce_example;
pub mod containers;
pub mod daemon;
pub mod eventually;
pub mod kube;
pub mod netns;
pub mod process;
pub mod router;
pub mod topology;
