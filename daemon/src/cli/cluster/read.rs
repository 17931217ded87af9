//! Reads a cluster, or manifests.

use anyhow::{Context, Result};
use futures::future::join;
use jiff::Timestamp;

use crate::cli::workload_flags::{common_flags, index_with};
use crate::cli::world::{OF_FERROLB, Objects, WorldArgs, workloads};
use crate::core::index::Index;
use crate::core::overview::{Overview, of_cluster, of_manifests};
use crate::runtime::source::kube::{Cluster, Snapshot, StatusSnapshot};

/// The role that permits to read all of it.
const VIEWER: &str = "all of it is permitted by the ClusterRole ferrolb-viewer \
                      (deploy/manifests/2-rbac.yaml); an administrator binds it: kubectl create \
                      clusterrolebinding NAME --clusterrole=ferrolb-viewer --user=USER";

/// What was read.
#[derive(Debug)]
pub(super) struct Seen {
    /// The objects.
    pub(super) index: Index,
    /// What they mean together.
    pub(super) overview: Overview,
    /// When.
    pub(super) now: Timestamp,
    /// Whether it is a cluster, which has sessions and Pods. Manifests have none.
    pub(super) live: bool,
}

/// Reads the same again and again.
pub(super) struct Reader<'a> {
    world: &'a WorldArgs,
    cluster: Option<Cluster>,
}

impl<'a> Reader<'a> {
    /// Sends no request.
    ///
    /// # Errors
    /// There is no usable kubeconfig.
    pub(super) async fn new(world: &'a WorldArgs) -> Result<Self> {
        let cluster = if world.names_manifests() {
            None
        } else {
            let (kubeconfig, context) = (world.kubeconfig.as_deref(), world.context.as_deref());
            Some(Cluster::connect_to(kubeconfig, context).await?)
        };
        Ok(Self { world, cluster })
    }

    /// Reads everything once. What the user may not read is noted.
    ///
    /// # Errors
    /// The API server does not answer, or there are no manifests.
    pub(super) async fn read(&mut self) -> Result<Seen> {
        let Some(cluster) = &self.cluster else {
            return self.read_manifests();
        };
        let places = self.world.config.places();
        let (snapshot, status) = join(
            Snapshot::without_secrets(cluster, &places),
            StatusSnapshot::read(cluster, OF_FERROLB, workloads(cluster)),
        )
        .await;
        let snapshot = snapshot?;
        let status = status.context("can't read the cluster")?;
        let kinds = snapshot.unreadable.iter();
        let kinds = kinds.map(|(kind, message)| (kind.full_name(), message));
        let others = status.unreadable.iter();
        let others = others.map(|(what, message)| (*what, message));
        let unseen = kinds.chain(others);
        let unseen = unseen.map(|(what, message)| format!("{what}: {message}"));
        let mut unseen: Vec<String> = unseen.collect();
        if !unseen.is_empty() {
            unseen.push(format!("everything: {VIEWER}"));
        }
        let flags = common_flags(&status.workloads);
        let index = snapshot.fill(index_with(&flags))?;
        let now = Timestamp::now();
        let overview = of_cluster(&index, &status.observed, now);
        Ok(Seen {
            overview: Overview { unseen, ..overview },
            index,
            now,
            live: true,
        })
    }

    fn read_manifests(&self) -> Result<Seen> {
        let Objects { mut index, unseen } = self.world.manifests()?;
        let now = Timestamp::now();
        let overview = of_manifests(&mut index, now);
        Ok(Seen {
            overview: Overview { unseen, ..overview },
            index,
            now,
            live: false,
        })
    }
}
