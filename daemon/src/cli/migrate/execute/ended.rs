//! Whether the processes of a Deployment that was scaled to 0 have ended.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Migration, NODE_TIMEOUT, check_none, eventually};
use crate::cli::migrate::facts::{NODES, has_condition_ready, name};
use crate::cli::output::print;
use crate::core::printable::printable;
use crate::runtime::source::kube::LEASE_NAME;

impl Migration {
    /// Waits until no such Pod runs. The kubelet of a node that is not Ready does not report the
    /// end of a Pod: it counts as ended after its grace period. With `by_lease`, also the Lease of
    /// ferrolb's allocators must have expired.
    pub(super) async fn await_ended(
        &self,
        what: &str,
        by_lease: bool,
        of: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let namespace = &self.namespace;
        let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let lease = format!("{leases}/{LEASE_NAME}");
        let lost = eventually(&format!("the end of {what}"), NODE_TIMEOUT, async || {
            let mut pods = self.cluster.list(&self.paths.pods).await?;
            pods.retain(&of);
            if pods.is_empty() {
                return Ok(pods);
            }
            let nodes = self.cluster.list(NODES).await?;
            let ready = nodes.iter().filter(|node| has_condition_ready(node));
            let ready: BTreeSet<&str> = ready.map(name).collect();
            let now = Timestamp::now();
            let is_lost = |pod: &Value| is_lost(pod, &ready, now);
            let (lost, left): (Vec<Value>, Vec<Value>) = pods.into_iter().partition(is_lost);
            check_none(&left)?;
            if by_lease {
                let lease = self.cluster.get(&lease).await?;
                ensure!(is_free(lease.as_ref(), now), "its Lease has not expired");
            }
            Ok(lost)
        })
        .await?;
        for pod in lost {
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            print(&format!(
                "notice: the Pod {} counts as ended: its node {} is not Ready\n",
                printable(name(&pod)),
                printable(node)
            ))?;
        }
        Ok(())
    }
}

/// Whether a Pod should have ended, and its node can't say that it has. The API server adds the
/// grace period to `deletionTimestamp`.
fn is_lost(pod: &Value, ready: &BTreeSet<&str>, now: Timestamp) -> bool {
    let end = timestamp(&pod["metadata"]["deletionTimestamp"]);
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    end.is_some_and(|end| end < now) && !ready.contains(node)
}

/// Whether nothing can lead by a Lease any more.
fn is_free(lease: Option<&Value>, now: Timestamp) -> bool {
    let Some(lease) = lease else { return true };
    let spec = &lease["spec"];
    let holder = spec["holderIdentity"].as_str().unwrap_or_default();
    let Some(renewed) = timestamp(&spec["renewTime"]) else {
        return true;
    };
    let seconds = spec["leaseDurationSeconds"].as_i64().unwrap_or(0);
    let age = now.duration_since(renewed);
    holder.is_empty() || age > SignedDuration::from_secs(seconds)
}

fn timestamp(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_pod_on_a_dead_node_counts_as_ended_after_its_grace_period() {
        let pod = json!({
            "metadata": {"name": "x", "deletionTimestamp": "2026-01-01T10:00:30Z"},
            "spec": {"nodeName": "dead"},
        });
        let ready = BTreeSet::from(["alive"]);
        assert!(!is_lost(&pod, &ready, at("2026-01-01T10:00:20Z")));
        let later = at("2026-01-01T10:00:31Z");
        assert!(is_lost(&pod, &ready, later));
        assert!(!is_lost(&pod, &BTreeSet::from(["dead"]), later));
        // Not deleted, or with a time that can't be read.
        for timestamp in [json!(null), json!("soon")] {
            let mut pod = pod.clone();
            pod["metadata"]["deletionTimestamp"] = timestamp;
            assert!(!is_lost(&pod, &ready, later));
        }
    }

    #[test]
    fn an_allocator_that_can_not_say_that_it_ended_may_lead_until_its_lease_expires() {
        let lease = json!({"spec": {
            "holderIdentity": "allocator-1",
            "leaseDurationSeconds": 15,
            "renewTime": "2026-01-01T10:00:00.000000Z",
        }});
        assert!(!is_free(Some(&lease), at("2026-01-01T10:00:15Z")));
        assert!(is_free(Some(&lease), at("2026-01-01T10:00:16Z")));
        let mut released = lease;
        released["spec"]["holderIdentity"] = json!("");
        assert!(is_free(Some(&released), at("2026-01-01T10:00:01Z")));
        assert!(is_free(None, at("2026-01-01T10:00:01Z")));
    }
}
