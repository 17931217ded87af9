//! MetalLB's manifests as test data, downloaded by `interop-tests/kube/build.sh`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{ControlPlane, cached};
use crate::eventually::eventually;

/// A release of MetalLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metallb {
    /// The last release that builds from the Go module proxy alone.
    V0_14_9,
    /// The newest release with downloadable manifests.
    V0_16_2,
}

impl Metallb {
    /// All objects of the plain manifest, in its order: namespace, CRDs, RBAC, workloads, webhooks.
    ///
    /// # Errors
    /// When build.sh hasn't downloaded the manifest.
    pub fn objects(self) -> Result<Vec<Value>> {
        let path = cached(match self {
            Self::V0_14_9 => "metallb-v0.14.9.yaml",
            Self::V0_16_2 => "metallb-v0.16.2.yaml",
        })?;
        let text = fs::read_to_string(&path)?;
        serde_saphyr::from_multiple(&text).with_context(|| format!("read {}", path.display()))
    }

    /// The CustomResourceDefinitions, without the conversion webhook of BGPPeer, which the lab does
    /// not run: objects are stored and served in the version in which they were written.
    ///
    /// # Errors
    /// When build.sh hasn't downloaded the manifest.
    pub fn crds(self) -> Result<Vec<Value>> {
        let mut crds = self.objects()?;
        crds.retain(|object| object["kind"] == "CustomResourceDefinition");
        for crd in &mut crds {
            if let Some(spec) = crd["spec"].as_object_mut() {
                spec.remove("conversion");
            }
        }
        Ok(crds)
    }
}

impl ControlPlane<'_> {
    /// Applies MetalLB's CRDs and the namespace `metallb-system`, and waits until the kinds are
    /// served.
    ///
    /// # Errors
    /// When build.sh hasn't downloaded the manifest, or the API server rejects an object.
    pub fn install_metallb_crds(&self, release: Metallb) -> Result<()> {
        let mut items = release.crds()?;
        items.push(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "metallb-system"},
        }));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.apply(&list.to_string())?;
        self.kubectl(&["wait", "crd", "--all", "--for=condition=Established"])?;
        // The condition Established precedes serving by a moment.
        eventually("BGPPeer served", Duration::from_secs(20), || {
            self.get(&["bgppeers.v1beta2.metallb.io", "-n", "metallb-system"])
        })?;
        Ok(())
    }
}
