//! Publishes MetalLB's status objects about BGP and the configuration, for tools that read them
//! (only with `--metallb-status`): ServiceBGPStatus and ConfigurationState.

mod objects;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::objects::{ConfigurationState, Loaded, service_statuses};
use crate::runtime::role::Role;
use crate::runtime::source::metallb_kinds::MetallbStatus;
use crate::runtime::source::status_objects::{Objects, StatusObjects, StatusObjectsSender};
use crate::runtime::status::DaemonStatus;

/// Changes within this time are written together.
const INTERVAL: Duration = Duration::from_secs(1);
/// A ConfigurationState is written again after this time, since someone may have deleted it. There
/// is one for each process.
const REFRESH_STATE: Duration = Duration::from_mins(1);
/// The same for a ServiceBGPStatus, of which there are many.
const REFRESH_SERVICES: Duration = Duration::from_mins(30);

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
}

impl Publisher {
    /// Publishes until the writer ends.
    pub(crate) async fn run(self, kind: MetallbStatus, objects: StatusObjectsSender) {
        let mut state = self.configuration_state(kind);
        let every = match kind {
            MetallbStatus::ServiceBgp => REFRESH_SERVICES,
            MetallbStatus::Speaker | MetallbStatus::Controller => REFRESH_STATE,
        };
        let (mut revision, mut refreshed) = (0, Instant::now());
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !objects.is_closed() {
            tick.tick().await;
            let status = self.status.borrow().clone();
            let Some(new) = self.objects(kind, &mut state, &status) else {
                continue;
            };
            let same = objects
                .borrow()
                .as_ref()
                .is_some_and(|old| old.objects == new);
            if same && refreshed.elapsed() < every {
                continue;
            }
            if same {
                revision += 1;
                refreshed = Instant::now();
            }
            objects.send_replace(Some(Arc::new(StatusObjects {
                objects: new,
                revision,
                last: false,
            })));
        }
    }

    fn configuration_state(&self, kind: MetallbStatus) -> ConfigurationState {
        match kind {
            MetallbStatus::Controller => ConfigurationState::of_controller(&self.namespace),
            // An announcer may run on the same node.
            MetallbStatus::ServiceBgp | MetallbStatus::Speaker => {
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
                ))
            }
            MetallbStatus::Speaker => {
                let owner = Some((self.node.as_str(), owner?));
                Some(state.objects(&Loaded::of(status), owner, Timestamp::now()))
            }
            // Another allocator leads and writes it.
            MetallbStatus::Controller if !status.leading => None,
            MetallbStatus::Controller => {
                Some(state.objects(&Loaded::of(status), None, Timestamp::now()))
            }
        }
    }
}
