//! A real Kubernetes: control plane, data path, and nodes that are either objects or real.
//!
//! [`ControlPlane`] is etcd, kube-apiserver and kube-controller-manager in a namespace of their
//! own, driven with kubectl. Its nodes come in two kinds ([`Nodes`]):
//! * **objects** whose status the test writes, cheap and exact: [`ControlPlane::create_node`],
//!   [`ControlPlane::create_pod`], with [`Backend`]s that really answer and kube-proxy in each
//!   node's namespace;
//! * **real** ones, [`RealNode`]: containerd and kubelet in a namespace, for what is about images,
//!   probes, rollouts.
//!
//! The programs come from `interop-tests/kube/build.sh`, which keeps them in a cache.

mod container_cleanup;
mod control_plane;
mod data_path;
mod deployment;
mod disruption;
mod image;
mod metallb;
mod object;
mod rack;
mod real_node;
mod traffic;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

pub use control_plane::{ControlPlane, Member, Nodes, Write};
pub use data_path::{Backend, DataPath, PORT};
pub use deployment::{ALLOCATOR_USER, ANNOUNCER_USER, Ferrolb, NAMESPACE, manifests};
pub use disruption::{Disruption, FailureDetection, losses};
pub use image::Image;
pub use metallb::Metallb;
pub use object::Pod;
pub use rack::{APP, Rack};
pub use real_node::RealNode;
pub use traffic::{Load, Report, traffic_program};

/// The version that `interop-tests/kube/go.mod` pins.
pub const VERSION: &str = "v1.34.2";

/// Where build.sh leaves its results: `$FERROLB_KUBE_CACHE` or `~/.cache/ferrolb/kube`, then the
/// version.
fn cached(name: &str) -> Result<PathBuf> {
    let cache = match std::env::var_os("FERROLB_KUBE_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?)
            .join(".cache/ferrolb/kube"),
    };
    let path = cache.join(VERSION).join(name);
    ensure!(
        path.exists(),
        "{} is missing: run interop-tests/kube/build.sh (7 minutes, once)",
        path.display()
    );
    Ok(path)
}
