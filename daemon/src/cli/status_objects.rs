//! Starts what `ferrolb run` publishes as objects: BGPSessions, and with `--metallb-status` those
//! of MetalLB.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::speaker::{Events, Handle};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::runtime::announce::bgp_sessions::{self, Publisher, Publishing};
use crate::runtime::announce::layer2::engine::Layer2Engine;
use crate::runtime::announce::layer2::{Layer2Announcer, service_status};
use crate::runtime::metallb_status;
use crate::runtime::role::Role;
use crate::runtime::source::kube::status_objects::start_metallb;
use crate::runtime::source::metallb_kinds::MetallbStatus;
use crate::runtime::source::status_objects::StatusObjectsSender;
use crate::runtime::status::DaemonStatus;

/// Limit for deletions at the end of a process.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Where and for whom objects are written.
pub(super) struct StatusOptions {
    /// Kubeconfig; `None` for the Pod's service account.
    pub(super) kubeconfig: Option<PathBuf>,
    /// MetalLB's namespace.
    pub(super) namespace: String,
    /// This node; empty for an allocator that runs on none.
    pub(super) node: String,
    pub(super) role: Role,
}

/// Publishes the sessions of this node.
pub(super) fn publish_sessions(
    node: &str,
    (engine, events): (Handle, Events),
    status: watch::Receiver<Arc<DaemonStatus>>,
    objects: StatusObjectsSender,
    seed: u64,
) -> Publishing {
    bgp_sessions::start(Publisher {
        node: node.to_owned(),
        engine,
        events,
        status,
        objects,
        seed,
    })
}

/// What publishes the objects of this process.
#[derive(Debug)]
pub(super) struct Publishers {
    pub(super) sessions: Option<Publishing>,
    pub(super) metallb: Option<MetallbPublishing>,
}

impl Publishers {
    /// Ends them. If this node leaves for good, its objects are deleted. Returns once they are,
    /// after two seconds at most.
    pub(super) async fn end(self, leaving: bool) {
        let sessions = async {
            if let Some(sessions) = self.sessions {
                sessions.end(leaving).await;
            }
        };
        let metallb = async {
            if let Some(metallb) = self.metallb {
                metallb.end(leaving).await;
            }
        };
        tokio::join!(sessions, metallb);
    }
}

/// The publishers of MetalLB's status objects.
#[derive(Debug)]
pub(super) struct MetallbPublishing {
    leaving: watch::Sender<bool>,
    publishers: JoinSet<()>,
}

impl MetallbPublishing {
    /// Ends them. If this node leaves for good, its objects about services are deleted.
    async fn end(mut self, leaving: bool) {
        if leaving {
            self.leaving.send_replace(true);
            let ended = async { while self.publishers.join_next().await.is_some() {} };
            // What a process can't delete stays until the Node is deleted.
            _ = timeout(END_TIMEOUT, ended).await;
        }
    }
}

/// Publishes MetalLB's ConfigurationState objects, ServiceBGPStatus objects in roles that announce
/// over BGP, and ServiceL2Status objects where there is an engine of layer 2.
pub(super) async fn publish_metallb(
    options: &StatusOptions,
    status: &watch::Receiver<Arc<DaemonStatus>>,
    engine: Option<&Handle>,
    layer2: Option<(&Layer2Announcer, &Layer2Engine)>,
) -> anyhow::Result<MetallbPublishing> {
    let (leaving_in, leaving) = watch::channel(false);
    let mut publishers = JoinSet::new();
    let publisher = metallb_status::Publisher {
        namespace: options.namespace.clone(),
        node: options.node.clone(),
        role: options.role,
        status: status.clone(),
        engine: engine.cloned(),
        leaving: leaving.clone(),
    };
    for kind in MetallbStatus::of(options.role) {
        let objects = start_writer(options, *kind).await?;
        publishers.spawn(publisher.clone().run(*kind, objects));
    }
    if let Some((announcer, engine)) = layer2 {
        let objects = start_writer(options, MetallbStatus::ServiceL2).await?;
        let publisher = service_status::Publisher {
            namespace: options.namespace.clone(),
            node: options.node.clone(),
            engine: engine.clone(),
            services: announcer.services().clone(),
            status: status.clone(),
            leaving,
        };
        publishers.spawn(publisher.run(objects));
    }
    Ok(MetallbPublishing {
        leaving: leaving_in,
        publishers,
    })
}

/// Starts the writer of a kind. Returns where its objects go.
async fn start_writer(
    options: &StatusOptions,
    kind: MetallbStatus,
) -> anyhow::Result<StatusObjectsSender> {
    let (objects, received) = watch::channel(None);
    let (kubeconfig, namespace) = (options.kubeconfig.as_deref(), &options.namespace);
    start_metallb(kubeconfig, namespace, &options.node, kind, received)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(objects)
}
