//! Publishes MetalLB's status objects about BGP and the configuration, for tools that read them
//! (only with `--metallb-status`): ServiceBGPStatus and ConfigurationState. ServiceL2Status is in
//! `announce::layer2`.

mod objects;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::fsm::State;
use ferrolb_bgp::speaker::Handle;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::objects::{ConfigurationState, Loaded, service_statuses};
use crate::runtime::role::Role;
use crate::runtime::source::metallb_kinds::MetallbStatus;
use crate::runtime::source::status_objects::{
    Objects, Revisions, StatusObjects, StatusObjectsSender, delete_all, node_leaves,
};
use crate::runtime::status::DaemonStatus;

/// Changes within this time are written together.
const INTERVAL: Duration = Duration::from_secs(1);

/// Publishes one kind.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    /// MetalLB's namespace.
    pub(crate) namespace: String,
    /// This node; empty for an allocator that runs on none.
    pub(crate) node: String,
    pub(crate) role: Role,
    /// What the control loop publishes.
    pub(crate) status: watch::Receiver<Arc<DaemonStatus>>,
    /// The BGP engine, in roles that announce over BGP.
    pub(crate) engine: Option<Handle>,
    /// Whether this node leaves for good.
    pub(crate) leaving: watch::Receiver<bool>,
}

impl Publisher {
    /// Publishes until the writer ends, or the node leaves for good. It returns once the objects
    /// about services are deleted then: nothing else would delete them while the Node exists.
    pub(crate) async fn run(mut self, kind: MetallbStatus, objects: StatusObjectsSender) {
        let mut state = self.configuration_state(kind);
        let mut revisions = Revisions::new(Instant::now().into_std(), kind.refreshed_after());
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !objects.is_closed() {
            tokio::select! {
                _ = tick.tick() => {}
                () = node_leaves(&mut self.leaving) => {
                    if kind == MetallbStatus::ServiceBgp {
                        delete_all(&objects).await;
                    }
                    return;
                }
            }
            let status = self.status.borrow().clone();
            let established = self.established(kind).await;
            let Some(new) = self.objects(kind, &mut state, &status, &established) else {
                continue;
            };
            let new = StatusObjects {
                objects: new,
                ..StatusObjects::default()
            };
            let sent = objects.borrow().clone();
            let now = Instant::now().into_std();
            if let Some(new) = revisions.next(now, sent.as_deref(), new) {
                objects.send_replace(Some(Arc::new(new)));
            }
        }
    }

    /// The names of the BGPPeers with a session, where they are needed.
    async fn established(&self, kind: MetallbStatus) -> BTreeSet<String> {
        let engine = self.engine.as_ref();
        let Some(engine) = engine.filter(|_| kind == MetallbStatus::ServiceBgp) else {
            return BTreeSet::new();
        };
        let peers = engine.snapshot().await.into_iter();
        let established = peers.filter(|peer| peer.state == State::Established);
        established
            .map(|peer| peer.template.unwrap_or(peer.name))
            .collect()
    }

    fn configuration_state(&self, kind: MetallbStatus) -> ConfigurationState {
        match kind {
            MetallbStatus::Controller => ConfigurationState::of_controller(&self.namespace),
            // An announcer may run on the same node.
            MetallbStatus::ServiceBgp | MetallbStatus::ServiceL2 | MetallbStatus::Speaker => {
                let suffix = if self.role == Role::Layer2 {
                    "-layer2"
                } else {
                    ""
                };
                ConfigurationState::of_speaker(&self.namespace, &self.node, suffix)
            }
        }
    }

    /// The objects as they should be; none if this process must not write any now.
    fn objects(
        &self,
        kind: MetallbStatus,
        state: &mut ConfigurationState,
        status: &DaemonStatus,
        established: &BTreeSet<String>,
    ) -> Option<Objects> {
        let owner = status.own_node.as_ref().map(|node| &*node.uid);
        match kind {
            MetallbStatus::ServiceBgp => {
                let services = status.announced.peers();
                let owner = owner.filter(|_| status.initialized)?;
                Some(service_statuses(
                    &self.namespace,
                    &self.node,
                    owner,
                    &services,
                    established,
                ))
            }
            MetallbStatus::Speaker => {
                let owner = Some((self.node.as_str(), owner?));
                Some(state.objects(&Loaded::of(status), owner, Timestamp::now()))
            }
            MetallbStatus::ServiceL2 => None,
            // Another allocator leads and writes it.
            MetallbStatus::Controller if !status.leading => None,
            MetallbStatus::Controller => {
                Some(state.objects(&Loaded::of(status), None, Timestamp::now()))
            }
        }
    }
}
