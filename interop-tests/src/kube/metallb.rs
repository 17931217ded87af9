//! MetalLB's own manifests, fetched by `interop-tests/kube/build.sh`, as test data.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{ControlPlane, cached};
use crate::eventually::eventually;

/// A release of MetalLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metallb {
    /// The last that builds from the Go module proxy alone.
    V0_14_9,
    /// The newest whose manifests can be had.
    V0_16_2,
}

impl Metallb {
    /// All objects of its plain manifest, in its order: namespace, CRDs, RBAC, workloads, webhooks.
    ///
    /// # Errors
    /// When build.sh hasn't fetched it.
    pub fn objects(self) -> Result<Vec<Value>> {
        let path = cached(match self {
            Self::V0_14_9 => "metallb-v0.14.9.yaml",
            Self::V0_16_2 => "metallb-v0.16.2.yaml",
        })?;
        let text = fs::read_to_string(&path)?;
        serde_saphyr::from_multiple(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Its CustomResourceDefinitions, without the conversion webhook of BGPPeer, which nobody here
    /// serves: objects are stored and served in the version they were written in.
    ///
    /// # Errors
    /// When build.sh hasn't fetched them.
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
    /// Applies MetalLB's CRDs, makes the namespace `metallb-system`, and waits until the kinds are
    /// served.
    ///
    /// # Errors
    /// When build.sh hasn't fetched them or the API server refuses one.
    pub fn install_metallb_crds(&self, release: Metallb) -> Result<()> {
        let mut items = release.crds()?;
        items.push(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "metallb-system"},
        }));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.apply(&list.to_string())?;
        self.kubectl(&["wait", "crd", "--all", "--for=condition=Established"])?;
        // Established is said a moment before the kind is served.
        eventually("BGPPeer served", Duration::from_secs(20), || {
            self.get(&["bgppeers.v1beta2.metallb.io", "-n", "metallb-system"])
        })?;
        Ok(())
    }
}
