//! What undo and a later run need to know about a migration that has begun.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::addresses::Addresses;
use super::announcement::Announced;

/// What a migration changes in ways that the cluster does not remember itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The validating webhooks of MetalLB.
    pub webhooks: Vec<Value>,
    /// How its CRDs convert versions.
    pub conversions: BTreeMap<String, Value>,
    /// Replicas of its controllers.
    pub replicas: BTreeMap<String, i64>,
    /// Update strategies of the DaemonSets of its speakers and of frr-k8s, by namespace and name.
    pub update_strategies: BTreeMap<String, Value>,
    /// Whether frr-k8s had its sessions.
    pub frr_k8s: bool,
    /// Nodes on which its speaker ran.
    pub nodes: BTreeSet<String>,
    /// The addresses of all Services when it began.
    #[serde(default)]
    pub addresses: Addresses,
    /// What MetalLB announced then, as far as it is known, and ferrolb will announce.
    #[serde(default)]
    pub announced: BTreeSet<Announced>,
    /// The BGPPeers, by node, that MetalLB did not reach when ferrolb replaced it there. Later runs
    /// don't wait for their sessions.
    #[serde(default)]
    pub unreached: BTreeMap<String, BTreeSet<String>>,
}
