//! A real Kubernetes cluster: control plane, data path and nodes.
//!
//! [`ControlPlane`] runs etcd, kube-apiserver and kube-controller-manager in a network namespace
//! and is driven with kubectl. There are two kinds of nodes ([`Nodes`]):
//! * **objects**, whose status the test writes ([`ControlPlane::create_node`],
//!   [`ControlPlane::create_pod`]), with kube-proxy in each node's namespace and [`Backend`]s that
//!   answer requests. They are fast and exact.
//! * **real nodes** ([`RealNode`]) with containerd and kubelet, for tests of images, probes and
//!   rollouts.
//!
//! [`Rack`] combines the first kind with a router and ferrolb. `interop-tests/kube/build.sh` builds
//! the Kubernetes programs into a cache.

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
mod workloads;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use control_plane::{ControlPlane, Member, Nodes, Write};
pub use data_path::{Backend, DataPath, PORT};
pub use deployment::{ALLOCATOR_USER, ANNOUNCER_USER, Ferrolb, deploy, manifests};
pub use disruption::{Disruption, FailureDetection, measure_disruption};
pub use image::Image;
pub use metallb::{METALLB_WEBHOOKS, Metallb, frr_k8s_image, metallb_images, metallb_with_frr_k8s};
pub use object::Pod;
pub use rack::{APP, Rack};
pub use real_node::RealNode;
pub use traffic::{Load, Report, traffic_program};

/// The Kubernetes version in `interop-tests/kube/go.mod`.
pub const VERSION: &str = "v1.34.2";

/// The Kubernetes version in `interop-tests/kube/oldest/go.mod`: the oldest one that ferrolb
/// supports.
pub const OLDEST: &str = "v1.31.14";

/// Path of a file that build.sh has built: in `$FERROLB_KUBE_CACHE` or `~/.cache/ferrolb/kube`, in
/// a folder named after the version.
fn cached(name: &str) -> Result<PathBuf> {
    let cache = match std::env::var_os("FERROLB_KUBE_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?)
            .join(".cache/ferrolb/kube"),
    };
    let path = cache.join(VERSION).join(name);
    ensure!(
        path.exists(),
        "{} is missing: run interop-tests/kube/build.sh (once, about 10 minutes)",
        path.display()
    );
    Ok(path)
}

/// A file that `interop-tests/packaging/build.sh` has written: Helm, and CRDs of Prometheus.
///
/// # Errors
/// When `PACKAGING_FOLDER` is not set, or the file is missing.
pub fn packaged(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("PACKAGING_FOLDER").context(
        "PACKAGING_FOLDER is not set: `cargo xtask test kubernetes` builds Helm; set it to the \
         folder in ~/.cache/ferrolb/packaging",
    )?;
    let path = Path::new(&folder).join(name);
    ensure!(
        path.exists(),
        "{} is missing: run `cargo xtask test kubernetes`",
        path.display()
    );
    Ok(path)
}
