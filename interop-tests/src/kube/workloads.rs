//! The objects of ferrolb's shipped workloads on nodes that are objects, for commands that read
//! the state of a cluster: nothing runs them.

use anyhow::Result;
use serde_json::{Value, json};

use super::{ControlPlane, manifests};
use crate::manifest::NAMESPACE;

impl ControlPlane<'_> {
    /// Creates the Deployment of allocators and the DaemonSet of announcers, both ready, and an
    /// announcer's Pod on each of these nodes.
    ///
    /// # Errors
    /// When the API server rejects an object.
    pub fn create_workloads<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for file in ["3-allocator.yaml", "4-announcer.yaml"] {
            self.apply_path(&manifests().join(file))?;
        }
        let ready = json!({"replicas": 2, "readyReplicas": 2});
        self.set_status("deployment", "ferrolb-allocator", &ready)?;
        let scheduled = json!({
            "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "numberReady": 2,
            "numberMisscheduled": 0,
        });
        self.set_status("daemonset", "ferrolb-announcer", &scheduled)?;
        nodes
            .into_iter()
            .try_for_each(|node| self.create_announcer_pod(node))
    }

    /// Creates the running Pod `ferrolb-announcer-NODE`.
    ///
    /// # Errors
    /// When the API server rejects it.
    pub fn create_announcer_pod(&self, node: &str) -> Result<()> {
        let name = format!("ferrolb-announcer-{node}");
        let labels = json!({"app.kubernetes.io/name": "ferrolb"});
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "ferrolb", "image": "ferrolb:dev", "args": ["run", "--role=announcer"],
                }],
            },
        });
        self.apply(&pod.to_string())?;
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let status = json!({"phase": "Running", "conditions": ready});
        self.set_status("pod", &name, &status)
    }

    fn set_status(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        let patch = json!({ "status": status }).to_string();
        let options = ["--subresource=status", "--type=merge", "-p", &patch];
        let object = ["patch", kind, name, "-n", NAMESPACE];
        self.kubectl(&[&object[..], &options].concat()).map(drop)
    }
}
