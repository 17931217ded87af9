//! What a command explains or predicts: a cluster, or manifests instead of one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use futures::future::{join, join_all};
use serde_json::Value;

use super::workload_flags::{common_flags, index_with};
use super::{ConfigArgs, block_on};
use crate::core::api::{Kind, bgp_session};
use crate::core::config::ConfigPlaces;
use crate::core::explain::{Explainer, Observed};
use crate::core::index::Index;
use crate::core::owners::owners;
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
    #[command(flatten)]
    pub(super) config: ConfigArgs,
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

/// What was read of a cluster.
pub(super) struct LiveCluster {
    cluster: Cluster,
    /// The objects.
    pub snapshot: Snapshot,
    /// The arguments of ferrolb's workloads that decisions depend on.
    pub flags: BTreeSet<String>,
    /// What could not be read, so that the answer may be incomplete.
    pub unseen: Vec<String>,
}

/// All of MetalLB's objects that name the owner of a Service.
const LAYER2_STATUSES: &str = "/apis/metallb.io/v1beta1/servicel2statuses";
/// The Events of nodes that began to announce by layer 2.
const LAYER2_EVENTS: &str =
    "/api/v1/events?fieldSelector=reason%3DnodeAssigned%2Csource%3Dferrolb-layer2";

const NO_WORKLOADS: &str = "ferrolb's workloads: none has the label \
                            app.kubernetes.io/name=ferrolb, so nothing is announced; install it: \
                            kubectl apply -f deploy/ferrolb.yaml";

/// The label of ferrolb's own workloads.
pub(super) const OF_FERROLB: &str = "labelSelector=app.kubernetes.io/name%3Dferrolb";

impl WorldArgs {
    /// Reads the cluster or the manifests.
    ///
    /// # Errors
    /// There is no kubeconfig, the API server does not answer, or there are no manifests.
    pub(super) fn read(&self) -> Result<World> {
        if self.names_manifests() {
            let Objects { index, unseen } = self.manifests()?;
            let explainer = Explainer::of_manifests(index);
            return Ok(World { explainer, unseen });
        }
        block_on(self.of_cluster())
    }

    /// Reads the objects alone.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_objects(&self) -> Result<Objects> {
        if self.names_manifests() {
            return self.manifests();
        }
        let live = block_on(LiveCluster::read(
            self.kubeconfig.as_deref(),
            self.context.as_deref(),
            &self.config.places(),
        ))?;
        Ok(Objects {
            index: live.snapshot.fill(index_with(&live.flags))?,
            unseen: live.unseen,
        })
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
        let manifests = Loader::new(self.paths.clone(), self.config.places()).load();
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
        let changes = changes(&manifests.objects, &self.config.config_namespace);
        let index = fill(index_with(&Default::default()), changes);
        Ok(Objects { index, unseen })
    }

    async fn of_cluster(&self) -> Result<World> {
        let kubeconfig = self.kubeconfig.as_deref();
        let context = self.context.as_deref();
        let live = LiveCluster::read(kubeconfig, context, &self.config.places()).await?;
        let index = live.snapshot.fill(index_with(&live.flags))?;
        let mut unseen = live.unseen;
        let observed = observed(&live.cluster, &index, &mut unseen).await;
        Ok(World {
            explainer: Explainer::of_cluster(index, observed),
            unseen,
        })
    }
}

impl LiveCluster {
    /// Reads what decisions depend on. Passwords are not needed.
    ///
    /// # Errors
    /// There is no kubeconfig, or the API server does not answer.
    pub(super) async fn read(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        places: &ConfigPlaces,
    ) -> Result<Self> {
        let cluster = Cluster::connect_to(kubeconfig, context).await?;
        let mut of_workloads = Vec::new();
        let (snapshot, flags) = join(
            Snapshot::without_secrets(&cluster, places),
            flags_of(&cluster, &mut of_workloads),
        )
        .await;
        let snapshot = snapshot?;
        let mut unseen: Vec<String> = snapshot
            .unreadable
            .iter()
            .map(|(kind, message)| {
                let (name, role) = (kind.full_name(), role_of(*kind));
                format!("{name}: {message}; the {role} of ferrolb may list them")
            })
            .collect();
        unseen.extend(of_workloads);
        Ok(Self {
            cluster,
            snapshot,
            flags,
            unseen,
        })
    }
}

/// The arguments of ferrolb's workloads that decisions depend on.
pub(super) async fn flags_of(cluster: &Cluster, unseen: &mut Vec<String>) -> BTreeSet<String> {
    match workloads(cluster).await {
        Ok(workloads) if workloads.is_empty() => unseen.push(NO_WORKLOADS.to_owned()),
        Ok(workloads) => return common_flags(&workloads),
        Err(error) => unseen.push(format!("the arguments of ferrolb's workloads: {error:#}")),
    }
    BTreeSet::new()
}

/// A role of `deploy/manifests/2-rbac.yaml` with the permission to list a kind.
const fn role_of(kind: Kind) -> &'static str {
    match kind {
        Kind::L2Advertisement | Kind::FerrolbL2Advertisement => "Role ferrolb-layer2-config",
        kind if kind.is_configuration() => "Role ferrolb-announcer-config",
        _ => "ClusterRole ferrolb-announcer",
    }
}

/// What objects say about sessions and owners. Each list is read only if the configuration has
/// something to do with it.
async fn observed(cluster: &Cluster, index: &Index, unseen: &mut Vec<String>) -> Observed {
    let mut observed = Observed::default();
    if !index.config().peers.is_empty() {
        let path = format!("/apis/{}/{}", Kind::OWN_API_VERSION, bgp_session::PLURAL);
        match listed(cluster, &path).await {
            Ok(objects) => {
                let invalid = observed.add_sessions(&objects).into_iter();
                unseen.extend(invalid.map(|name| {
                    format!("BGPSession {name}: its status is that of another version of ferrolb")
                }));
            }
            Err(why) => unseen.push(format!("the sessions (BGPSessions): {why}")),
        }
    }
    if !index.config().layer2_advertisements.is_empty() {
        // Only clusters with --metallb-status or MetalLB have them.
        let statuses = cluster.list(LAYER2_STATUSES).await.unwrap_or_else(|error| {
            unseen.push(format!("the owners (ServiceL2Statuses): {error:#}"));
            Vec::new()
        });
        let events = listed(cluster, LAYER2_EVENTS).await.unwrap_or_else(|why| {
            unseen.push(format!("the owners (Events of Services): {why}"));
            Vec::new()
        });
        observed.set_owners(owners(&events, &statuses));
    }
    observed
}

/// The objects at a path, or why they can't be seen.
async fn listed(cluster: &Cluster, path: &str) -> std::result::Result<Vec<Value>, String> {
    match cluster.list_if_served(path).await {
        Ok(Some(objects)) => Ok(objects),
        Ok(None) => Err(
            "the API server does not have the kind; install it: ferrolb crds | \
                         kubectl apply -f -"
                .to_owned(),
        ),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// The Deployments and DaemonSets of ferrolb.
pub(super) async fn workloads(cluster: &Cluster) -> Result<Vec<Value>> {
    let lists = ["deployments", "daemonsets"].map(|kind| async move {
        let path = format!("/apis/apps/v1/{kind}?{OF_FERROLB}");
        cluster.list(&path).await
    });
    // Of several errors the first one is reported.
    let lists: Result<Vec<Vec<Value>>> = join_all(lists).await.into_iter().collect();
    Ok(lists?.concat())
}
