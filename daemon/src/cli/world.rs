//! What a command explains or predicts: a cluster, or manifests instead of one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::block_on;
use super::workload_flags::{common_flags, index_with};
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::explain::Explainer;
use crate::core::plan::fill;
use crate::runtime::source::kube::{Cluster, Snapshot};
use crate::runtime::source::manifests::{Loader, changes};

/// The arguments that say what is read.
#[derive(Debug, Args)]
pub(super) struct WorldArgs {
    /// Files or folders of YAML or JSON instead of a cluster; - reads standard input.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1..)]
    paths: Vec<PathBuf>,
    /// Kubeconfig file; default: $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the configuration; can be given several times.
    #[arg(long, value_name = "NAMESPACE", default_value = CONFIG_NAMESPACE)]
    config_namespace: Vec<String>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct World {
    /// Explains it.
    pub explainer: Explainer,
    /// What could not be read, so that the answer may be incomplete.
    pub unseen: Vec<String>,
}

/// The label of ferrolb's own workloads.
const OF_FERROLB: &str = "labelSelector=app.kubernetes.io/name%3Dferrolb";

impl WorldArgs {
    /// Reads the cluster or the manifests.
    ///
    /// # Errors
    /// There is no kubeconfig, the API server does not answer, or there are no manifests.
    pub(super) fn read(&self) -> Result<World> {
        if !self.paths.is_empty() {
            return self.of_manifests();
        }
        block_on(self.of_cluster())
    }

    /// The files and folders with manifests; empty for a cluster.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The kubeconfig of the cluster.
    pub(super) fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// The namespaces of the configuration.
    pub(super) fn config_namespaces(&self) -> &[String] {
        &self.config_namespace
    }

    fn of_manifests(&self) -> Result<World> {
        let manifests = Loader::new(self.paths.clone(), &self.config_namespace).load();
        let errors = manifests.errors.iter();
        let errors = errors.map(|error| format!("{}: {}", error.location, error.message));
        let unseen: Vec<String> = errors.collect();
        if manifests.objects.is_empty() {
            anyhow::bail!(
                "no objects found: give files or folders with Services, Nodes and MetalLB \
                 resources with -f{}",
                unseen
                    .iter()
                    .map(|line| format!("\n{line}"))
                    .collect::<String>()
            );
        }
        let changes = changes(&manifests.objects, &self.config_namespace);
        let index = fill(index_with(&Default::default()), changes);
        Ok(World {
            explainer: Explainer::of_manifests(index),
            unseen,
        })
    }

    async fn of_cluster(&self) -> Result<World> {
        let cluster = Cluster::connect(self.kubeconfig.as_deref()).await?;
        let snapshot = Snapshot::without_secrets(&cluster, &self.config_namespace).await?;
        let mut unseen: Vec<String> = snapshot
            .unreadable
            .iter()
            .map(|(kind, message)| format!("{}: {message}", kind.full_name()))
            .collect();
        let flags = flags_of(&cluster, &mut unseen).await;
        let index = fill(index_with(&flags), snapshot.changes);
        Ok(World {
            explainer: Explainer::of_cluster(index),
            unseen,
        })
    }
}

/// The arguments of ferrolb's workloads that decisions depend on.
pub(super) async fn flags_of(cluster: &Cluster, unseen: &mut Vec<String>) -> BTreeSet<String> {
    match workloads(cluster).await {
        Ok(workloads) if workloads.is_empty() => unseen.push(
            "ferrolb's workloads: none has the label app.kubernetes.io/name=ferrolb, so nothing \
             is announced; install it: kubectl apply -f deploy/ferrolb.yaml"
                .to_owned(),
        ),
        Ok(workloads) => return common_flags(&workloads),
        Err(error) => unseen.push(format!("the arguments of ferrolb's workloads: {error:#}")),
    }
    BTreeSet::new()
}

/// The Deployments and DaemonSets of ferrolb.
async fn workloads(cluster: &Cluster) -> Result<Vec<Value>> {
    let mut workloads = Vec::new();
    for kind in ["deployments", "daemonsets"] {
        let path = format!("/apis/apps/v1/{kind}?{OF_FERROLB}");
        workloads.extend(cluster.list(&path).await?);
    }
    Ok(workloads)
}
