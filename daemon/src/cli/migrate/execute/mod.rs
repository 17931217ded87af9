//! Runs the steps of a migration.

mod ended;
mod nodes;
mod outcome;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::addresses::{Addresses, addresses, check_unchanged};
use super::facts::{
    CRDS, LABEL, METALLB, NODES, Paths, WEBHOOKS, has_condition_ready, is_ferrolb,
    is_ferrolb_allocator, is_metallb, name, workload_path,
};
use super::record::{RECORD, RECORD_KEY, Record};
use super::sessions::PlannedPeers;
use super::steps::Step;
use crate::cli::output::print;
use crate::cli::workload_flags::containers;
use crate::runtime::source::kube::Cluster;

/// Limit for a workload that starts or ends, and for the sessions of a node. A drain of ferrolb
/// takes up to 60 s (terminationGracePeriodSeconds).
const NODE_TIMEOUT: Duration = Duration::from_secs(150);
/// Limit for kinds of a CRD that was just created.
const APPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// Limit for a rolling restart of all speakers.
const ROLLOUT_TIMEOUT: Duration = Duration::from_secs(900);
/// Interval between two looks at the cluster.
const POLL: Duration = Duration::from_millis(500);

/// A migration that runs.
pub(super) struct Migration {
    pub cluster: Cluster,
    pub namespace: String,
    pub paths: Paths,
    pub record: Record,
    /// Where MetalLB's objects are saved.
    pub save: PathBuf,
    /// The objects of ferrolb, in the order in which they are applied.
    pub install: Vec<Value>,
    /// Of all Services, when it began.
    pub addresses: Addresses,
    /// The BGPPeers of each node by the plan.
    pub peers: PlannedPeers,
    /// What is announced before, and the plan.
    pub plans: Value,
}

impl Migration {
    pub(super) async fn run(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Record => self.save().await,
            Step::StopConversion(crd) => {
                let conversion = json!({"strategy": "None", "webhook": null});
                self.convert(crd, &conversion).await
            }
            Step::DeleteWebhook(name) => self.cluster.delete(&format!("{WEBHOOKS}/{name}")).await,
            Step::MarkNodes(nodes) => self.mark_all(nodes, Some(METALLB)).await,
            Step::BindSpeaker(name) => {
                let strategy = json!({"type": "OnDelete", "rollingUpdate": null});
                self.bind(name, &strategy, Some(METALLB)).await
            }
            Step::PullImage { node, image } => self.pull(node, image).await,
            Step::StopController(name) => {
                self.scale(name, 0).await?;
                let is_controller = |pod: &Value| is_metallb(pod, "controller");
                self.await_ended("the controller", false, is_controller)
                    .await
            }
            Step::Apply(_) => self.apply().await,
            Step::AwaitAllocator => {
                self.await_available("app.kubernetes.io/component", "allocator")
                    .await?;
                self.check_addresses().await
            }
            Step::AwaitNode(node) => self.await_node(node).await,
            Step::MoveNode(node) => self.move_node(node).await,
            Step::ReturnNode { node, speaker } => self.return_node(node, *speaker).await,
            Step::StopAllocator => self.stop_allocator().await,
            Step::StartController(name) => {
                let replicas = self.record.replicas.get(name).copied().unwrap_or(1);
                self.scale(name, replicas).await
            }
            Step::DeleteFerrolb => self.delete_ferrolb().await,
            Step::RestoreWebhooks => {
                for (controller, replicas) in &self.record.replicas {
                    self.await_replicas(controller, *replicas).await?;
                }
                for webhook in self.record.webhooks.clone() {
                    self.cluster.apply(&as_applied(webhook)).await?;
                }
                Ok(())
            }
            Step::RestoreConversion(crd) => {
                let conversion = self.record.conversions.get(crd).cloned();
                self.convert(crd, &conversion.unwrap_or_default()).await
            }
            Step::ReleaseSpeaker(name) => self.release(name).await,
            Step::UnmarkNodes(nodes) => self.mark_all(nodes, None).await,
            Step::KeepSecrets => self.keep_secrets().await,
            Step::DeleteSpeaker(name) => {
                let path = workload_path("daemonsets", name);
                self.cluster.delete(&path).await
            }
            Step::DeleteFrrK8s(name) => {
                let path = workload_path("deployments", name);
                self.cluster.delete(&path).await
            }
            Step::DeleteController(name) => {
                let path = format!("{}/{name}", self.paths.deployments);
                self.cluster.delete(&path).await
            }
            Step::DeleteRecord => {
                let path = format!("{}/{RECORD}", self.paths.config_maps);
                self.cluster.delete(&path).await
            }
        }
    }

    /// Writes MetalLB's objects and the plans to files, and the record to the cluster.
    async fn save(&mut self) -> Result<()> {
        let mut items = Vec::new();
        for crd in self.cluster.list(CRDS).await? {
            if crd["spec"]["group"] != "metallb.io" {
                continue;
            }
            let plural = crd["spec"]["names"]["plural"].as_str().unwrap_or_default();
            let versions = crd["spec"]["versions"].as_array().into_iter().flatten();
            let mut stored = versions.filter(|version| version["storage"] == true);
            let version = stored.next().and_then(|version| version["name"].as_str());
            let version = version.unwrap_or_default();
            let path = format!("/apis/metallb.io/{version}/{plural}");
            items.extend(self.cluster.list(&path).await?.into_iter().map(as_applied));
        }
        for name in ["config", "metallb-excludel2"] {
            let path = format!("{}/{name}", self.paths.config_maps);
            items.extend(self.cluster.get(&path).await?.map(as_applied));
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        write_private(&self.save, &serde_json::to_vec_pretty(&list)?)?;
        let plans = self.save.with_extension("plan.json");
        write_private(&plans, &serde_json::to_vec_pretty(&self.plans)?)?;
        self.write_record().await
    }

    async fn write_record(&mut self) -> Result<()> {
        let (text, shortened) = self.record.to_text()?;
        if shortened {
            print(&format!(
                "notice: the ConfigMap {RECORD} has no room for what MetalLB announces: if this \
                 run is interrupted, compare it yourself with {}\n",
                self.save.with_extension("plan.json").display()
            ))?;
        }
        let record = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": RECORD, "namespace": self.namespace},
            "data": {RECORD_KEY: text},
        });
        self.cluster.apply(&record).await
    }

    async fn convert(&self, crd: &str, conversion: &Value) -> Result<()> {
        let patch = json!({"spec": {"conversion": conversion}});
        self.cluster.merge(&format!("{CRDS}/{crd}"), &patch).await
    }

    async fn mark_all(&self, nodes: &[String], mark: Option<&str>) -> Result<()> {
        for node in nodes {
            self.mark(node, mark).await?;
        }
        Ok(())
    }

    async fn mark(&self, node: &str, mark: Option<&str>) -> Result<()> {
        let patch = json!({"metadata": {"labels": {LABEL: mark}}});
        self.cluster.merge(&format!("{NODES}/{node}"), &patch).await
    }

    /// Sets the update strategy of a DaemonSet, and the label that its nodes need.
    async fn bind(&self, name: &str, strategy: &Value, mark: Option<&str>) -> Result<()> {
        let patch = json!({"spec": {
            "updateStrategy": strategy,
            "template": {"spec": {"nodeSelector": {LABEL: mark}}},
        }});
        self.cluster
            .merge(&workload_path("daemonsets", name), &patch)
            .await
    }

    async fn release(&self, name: &str) -> Result<()> {
        let strategy = self.record.update_strategies.get(name).cloned();
        self.bind(name, &strategy.unwrap_or_default(), None).await?;
        let path = workload_path("daemonsets", name);
        let what = format!("the rolling restart of the DaemonSet {name}");
        eventually(&what, ROLLOUT_TIMEOUT, async || {
            let daemonset = self.cluster.get(&path).await?.unwrap_or_default();
            let status = &daemonset["status"];
            let observed = status["observedGeneration"] == daemonset["metadata"]["generation"];
            let wanted = &status["desiredNumberScheduled"];
            let done = status["updatedNumberScheduled"] == *wanted
                && status["numberAvailable"].as_i64().unwrap_or(0) == wanted.as_i64().unwrap_or(0);
            ensure!(observed && done, "{status}");
            Ok(())
        })
        .await
    }

    async fn scale(&self, deployment: &str, replicas: i64) -> Result<()> {
        let path = format!("{}/{deployment}", self.paths.deployments);
        let patch = json!({"spec": {"replicas": replicas}});
        self.cluster.merge(&path, &patch).await
    }

    /// Waits until a Deployment has a Pod that is available, if it must have any.
    async fn await_replicas(&self, deployment: &str, replicas: i64) -> Result<()> {
        let path = format!("{}/{deployment}", self.paths.deployments);
        let what = format!("the Deployment {deployment} to be available");
        eventually(&what, NODE_TIMEOUT, async || {
            let found = self.cluster.get(&path).await?.unwrap_or_default();
            let status = &found["status"];
            let observed = status["observedGeneration"] == found["metadata"]["generation"];
            let available = status["availableReplicas"].as_i64().unwrap_or(0);
            ensure!(observed && (available > 0 || replicas == 0), "{status}");
            Ok(())
        })
        .await
    }

    /// Runs a Pod with the image on the node, which ends at once.
    async fn pull(&mut self, node: &str, image: &str) -> Result<()> {
        let name = format!("ferrolb-image-{node}");
        let path = format!("{}/{name}", self.paths.pods);
        self.cluster.delete(&path).await?;
        let container = json!({
            "name": "ferrolb", "image": image, "args": ["--version"],
            "securityContext": {
                "allowPrivilegeEscalation": false, "runAsNonRoot": true,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        });
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "nodeName": node, "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "tolerations": [{"operator": "Exists"}],
                "imagePullSecrets": pull_secrets(&self.install, image),
                "containers": [container],
            },
        });
        self.cluster.apply(&pod).await?;
        let what = format!("a Pod with the image {image} on {node}");
        let pulled = eventually(&what, NODE_TIMEOUT, async || {
            let pod = self.cluster.get(&path).await?.unwrap_or_default();
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            ensure!(pod["status"]["phase"] == "Succeeded", "{waiting}");
            Ok(())
        })
        .await;
        self.cluster.delete(&path).await?;
        pulled
    }

    async fn apply(&mut self) -> Result<()> {
        for object in self.install.clone() {
            let deadline = Instant::now() + APPLY_TIMEOUT;
            // The API server knows the kind of a new CRD after a moment.
            while let Err(error) = self.cluster.apply(&object).await {
                if Instant::now() > deadline {
                    let kind = object["kind"].as_str().unwrap_or_default();
                    return Err(error.context(format!("apply {kind} {}", name(&object))));
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Waits until ferrolb's Deployments with this label are available.
    async fn await_available(&self, key: &str, value: &str) -> Result<()> {
        let what = format!("an available Deployment of ferrolb's {value}");
        eventually(&what, NODE_TIMEOUT, async || {
            let deployments = self.cluster.list(&self.paths.deployments).await?;
            let mut found = deployments
                .iter()
                .filter(|value_| is_ferrolb(value_) && value_["metadata"]["labels"][key] == value);
            let found = found.next().context("there is none")?;
            let available = found["status"]["availableReplicas"].as_i64().unwrap_or(0);
            ensure!(available > 0, "{}: {}", name(found), found["status"]);
            Ok(())
        })
        .await
    }

    async fn check_addresses(&self) -> Result<()> {
        check_unchanged(&self.addresses, &addresses(&self.cluster).await?)
    }

    async fn await_no_pod(&self, what: &str, of: impl Fn(&Value) -> bool) -> Result<()> {
        eventually(&format!("the end of {what}"), NODE_TIMEOUT, async || {
            let mut pods = self.cluster.list(&self.paths.pods).await?;
            pods.retain(&of);
            check_none(&pods)
        })
        .await
    }

    async fn stop_allocator(&self) -> Result<()> {
        for deployment in self.cluster.list(&self.paths.deployments).await? {
            if is_ferrolb(&deployment) {
                self.scale(name(&deployment), 0).await?;
            }
        }
        self.await_ended("ferrolb's allocator", true, is_ferrolb_allocator)
            .await
    }

    async fn delete_ferrolb(&self) -> Result<()> {
        for path in [&self.paths.daemonsets, &self.paths.deployments] {
            for workload in self.cluster.list(path).await? {
                if is_ferrolb(&workload) {
                    let path = format!("{path}/{}", name(&workload));
                    self.cluster.delete(&path).await?;
                }
            }
        }
        Ok(())
    }

    /// Removes the owner of Secrets that MetalLB's controller owns.
    async fn keep_secrets(&self) -> Result<()> {
        for secret in self.cluster.list(&self.paths.secrets).await? {
            let owners = secret["metadata"]["ownerReferences"].as_array();
            let owners: Vec<&Value> = owners.into_iter().flatten().collect();
            let kept: Vec<&&Value> = owners
                .iter()
                .filter(|owner| {
                    let name = owner["name"].as_str().unwrap_or_default();
                    owner["kind"] != "Deployment" || !self.record.replicas.contains_key(name)
                })
                .collect();
            if kept.len() < owners.len() {
                let patch = json!({"metadata": {"ownerReferences": kept}});
                let path = format!("{}/{}", self.paths.secrets, name(&secret));
                self.cluster.merge(&path, &patch).await?;
            }
        }
        Ok(())
    }
}

/// The names of the Secrets with which the workloads pull an image: of their Pods, and of their
/// ServiceAccounts.
fn pull_secrets(objects: &[Value], image: &str) -> Vec<Value> {
    let has_image = |object: &&Value| containers(object).any(|found| found["image"] == image);
    let accounts_of = |pod: &Value| {
        let account = pod["serviceAccountName"].clone();
        let accounts = objects
            .iter()
            .filter(|object| object["kind"] == "ServiceAccount");
        accounts
            .filter(|found| found["metadata"]["name"] == account)
            .map(|found| &found["imagePullSecrets"])
            .collect::<Vec<_>>()
    };
    let mut secrets: Vec<Value> = Vec::new();
    for workload in objects.iter().filter(has_image) {
        let pod = &workload["spec"]["template"]["spec"];
        let lists = accounts_of(pod)
            .into_iter()
            .chain([&pod["imagePullSecrets"]]);
        for secret in lists.filter_map(Value::as_array).flatten() {
            if !secrets.contains(secret) {
                secrets.push(secret.clone());
            }
        }
    }
    secrets
}

fn check_none(pods: &[Value]) -> Result<()> {
    let left: Vec<&str> = pods.iter().map(name).collect();
    ensure!(left.is_empty(), "still there: {}", left.join(", "));
    Ok(())
}

fn check_ready(pods: &[Value]) -> Result<()> {
    for pod in pods {
        ensure!(is_ready(pod), "{} is not", name(pod));
    }
    Ok(())
}

fn is_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

fn is_ready(pod: &Value) -> bool {
    has_condition_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null()
}

/// An object without what the API server adds.
fn as_applied(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "creationTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "uid",
        ] {
            metadata.remove(field);
        }
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    object
}

/// Writes a new file that only its owner can read: BGPPeers may contain passwords.
fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(content));
    written.with_context(|| {
        format!(
            "can't write {}: name another file with --save",
            path.display()
        )
    })
}

/// Looks again until it succeeds, at most for this time.
async fn eventually<T>(
    what: &str,
    limit: Duration,
    look: impl AsyncFn() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                bail!("waited {} s for {what}: {error:#}", limit.as_secs())
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

/// The objects of a file in the order in which the API server can take them: namespaces and CRDs,
/// then permissions, then the rest.
pub(super) fn in_order(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" | "Role" | "ClusterRole" => 2,
        "RoleBinding" | "ClusterRoleBinding" | "ConfigMap" | "Secret" => 3,
        _ => 4,
    });
    objects
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn saved_objects_have_no_field_that_the_api_server_sets() {
        let object = json!({
            "kind": "IPAddressPool",
            "metadata": {"name": "a", "uid": "1", "resourceVersion": "2", "labels": {"x": "y"}},
            "spec": {"addresses": []},
            "status": {"assignedIPv4": 1},
        });
        let expected = json!({
            "kind": "IPAddressPool",
            "metadata": {"name": "a", "labels": {"x": "y"}},
            "spec": {"addresses": []},
        });
        assert_eq!(as_applied(object), expected);
    }

    #[test]
    fn a_saved_file_is_not_overwritten_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("saved.json");
        write_private(&file, b"{}").expect("written");
        let mode = file.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = write_private(&file, b"{}").expect_err("exists").to_string();
        assert!(error.contains("--save"), "{error}");
    }

    #[test]
    fn an_image_is_pulled_with_the_secrets_of_its_workloads() {
        let pod = |image: &str, secret: &str| {
            json!({"kind": "DaemonSet", "spec": {"template": {"spec": {
                "serviceAccountName": "announcer",
                "imagePullSecrets": [{"name": secret}],
                "containers": [{"image": image}],
            }}}})
        };
        let account = json!({
            "kind": "ServiceAccount", "metadata": {"name": "announcer"},
            "imagePullSecrets": [{"name": "account"}],
        });
        let objects = [account, pod("a", "x"), pod("a", "x"), pod("b", "y")];
        let expected = [json!({"name": "account"}), json!({"name": "x"})];
        assert_eq!(pull_secrets(&objects, "a"), expected);
        assert_eq!(pull_secrets(&objects[1..], "c"), Vec::<Value>::new());
    }

    #[test]
    fn namespaces_and_crds_are_applied_before_what_needs_them() {
        let kinds = [
            "DaemonSet",
            "RoleBinding",
            "Role",
            "CustomResourceDefinition",
            "Namespace",
        ];
        let objects = kinds.iter().map(|kind| json!({"kind": kind})).collect();
        let sorted: Vec<Value> = in_order(objects);
        let sorted: BTreeMap<usize, &str> = sorted
            .iter()
            .filter_map(|object| object["kind"].as_str())
            .enumerate()
            .collect();
        let expected = [
            "Namespace",
            "CustomResourceDefinition",
            "Role",
            "RoleBinding",
            "DaemonSet",
        ];
        assert!(sorted.values().eq(expected.iter()), "{sorted:?}");
    }
}
