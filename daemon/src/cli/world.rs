//! What a command explains or predicts: a cluster, or manifests instead of one.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::block_on;
use super::workload_flags::{common_flags, index_with};
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::explain::Explainer;
use crate::core::index::Index;
use crate::core::plan::fill;
use crate::runtime::source::kube::{Cluster, Snapshot};
use crate::runtime::source::manifests::{Loader, changes};

/// The arguments that say what is read.
#[derive(Debug, Args)]
pub(super) struct WorldArgs {
    /// Files or folders of YAML or JSON instead of a cluster; - reads standard input.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1..)]
    pub(super) paths: Vec<PathBuf>,
    /// Kubeconfig file; default: $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: its current one.
    #[arg(long, value_name = "NAME", conflicts_with = "paths")]
    pub(super) context: Option<String>,
    /// Namespace of the configuration; can be given several times.
    #[arg(long, value_name = "NAMESPACE", default_value = CONFIG_NAMESPACE)]
    pub(super) config_namespace: Vec<String>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct World {
    /// Explains it.
    pub explainer: Explainer,
    /// What could not be read, so that the answer may be incomplete.
    pub unseen: Vec<String>,
}

/// The objects that were read.
#[derive(Debug)]
pub(super) struct Objects {
    /// Their models, and the configuration.
    pub index: Index,
    /// What could not be read.
    pub unseen: Vec<String>,
}

/// The label of ferrolb's own workloads.
pub(super) const OF_FERROLB: &str = "labelSelector=app.kubernetes.io/name%3Dferrolb";

impl WorldArgs {
    /// Reads the cluster or the manifests.
    ///
    /// # Errors
    /// There is no kubeconfig, the API server does not answer, or there are no manifests.
    pub(super) fn read(&self) -> Result<World> {
        let Objects { index, unseen } = self.read_objects()?;
        let explainer = if self.names_manifests() {
            Explainer::of_manifests(index)
        } else {
            Explainer::of_cluster(index)
        };
        Ok(World { explainer, unseen })
    }

    /// Reads the objects alone.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_objects(&self) -> Result<Objects> {
        if self.names_manifests() {
            return self.manifests();
        }
        block_on(self.of_cluster())
    }

    /// Whether manifests are read instead of a cluster.
    pub(super) const fn names_manifests(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Whether the arguments name a cluster or manifests.
    pub(super) const fn is_given(&self) -> bool {
        self.names_manifests() || self.kubeconfig.is_some() || self.context.is_some()
    }

    /// The objects of the manifests.
    ///
    /// # Errors
    /// There are no objects.
    pub(super) fn manifests(&self) -> Result<Objects> {
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
        Ok(Objects { index, unseen })
    }

    async fn of_cluster(&self) -> Result<Objects> {
        let kubeconfig = self.kubeconfig.as_deref();
        let cluster = Cluster::connect_to(kubeconfig, self.context.as_deref()).await?;
        let snapshot = Snapshot::without_secrets(&cluster, &self.config_namespace).await?;
        let mut unseen: Vec<String> = snapshot
            .unreadable
            .iter()
            .map(|(kind, message)| format!("{}: {message}", kind.full_name()))
            .collect();
        let workloads = match workloads(&cluster).await {
            Ok(workloads) => workloads,
            Err(error) => {
                unseen.push(format!("the arguments of ferrolb's workloads: {error:#}"));
                Vec::new()
            }
        };
        if workloads.is_empty() {
            unseen.push(
                "ferrolb's workloads: none has the label app.kubernetes.io/name=ferrolb, so \
                 nothing is announced; install it: kubectl apply -f deploy/ferrolb.yaml"
                    .to_owned(),
            );
        }
        let index = fill(index_with(&common_flags(&workloads)), snapshot.changes);
        Ok(Objects { index, unseen })
    }
}

/// The Deployments and DaemonSets of ferrolb.
pub(super) async fn workloads(cluster: &Cluster) -> Result<Vec<Value>> {
    let mut workloads = Vec::new();
    for kind in ["deployments", "daemonsets"] {
        let path = format!("/apis/apps/v1/{kind}?{OF_FERROLB}");
        workloads.extend(cluster.list(&path).await?);
    }
    Ok(workloads)
}
