//! Starts what `ferrolb run` publishes as objects: BGPSessions, and with `--metallb-status` those
//! of MetalLB.

use std::path::PathBuf;
use std::sync::Arc;

use ferrolb_bgp::speaker::{Events, Handle};
use tokio::sync::watch;

use crate::runtime::announce::bgp_sessions::{self, Publisher, Publishing};
use crate::runtime::announce::layer2::engine::Layer2Engine;
use crate::runtime::announce::layer2::{Layer2Announcer, service_status};
use crate::runtime::metallb_status;
use crate::runtime::role::Role;
use crate::runtime::source::kube::layer2_status::{self, Layer2StatusOptions};
use crate::runtime::source::kube::status_objects::start_metallb;
use crate::runtime::source::metallb_kinds::MetallbStatus;
use crate::runtime::source::status_objects::StatusObjectsSender;
use crate::runtime::status::DaemonStatus;

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

/// Publishes the services that this node announces by layer 2 as MetalLB's ServiceL2Status objects.
pub(super) async fn publish_layer2(
    options: &StatusOptions,
    announcer: &Layer2Announcer,
    engine: &Layer2Engine,
) -> anyhow::Result<()> {
    let (statuses, received) = watch::channel(None);
    let options = Layer2StatusOptions {
        kubeconfig: options.kubeconfig.clone(),
        namespace: options.namespace.clone(),
        node: options.node.clone(),
    };
    layer2_status::start(options, received)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let services = announcer.services().clone();
    tokio::spawn(service_status::publish(engine.clone(), services, statuses));
    Ok(())
}

/// Publishes MetalLB's ConfigurationState objects, and ServiceBGPStatus objects in roles that
/// announce over BGP.
pub(super) async fn publish_metallb(
    options: &StatusOptions,
    status: &watch::Receiver<Arc<DaemonStatus>>,
) -> anyhow::Result<()> {
    let publisher = metallb_status::Publisher {
        namespace: options.namespace.clone(),
        node: options.node.clone(),
        role: options.role,
        status: status.clone(),
    };
    for kind in MetallbStatus::of(options.role) {
        let (objects, received) = watch::channel(None);
        let (namespace, node) = (&options.namespace, &options.node);
        start_metallb(
            options.kubeconfig.as_deref(),
            namespace,
            node,
            *kind,
            received,
        )
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
        tokio::spawn(publisher.clone().run(*kind, objects));
    }
    Ok(())
}
