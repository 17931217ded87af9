//! Which services this node announces by layer 2, for MetalLB's ServiceL2Status (only with
//! `--metallb-status`).

use std::sync::Arc;
use std::time::Duration;

use ferrolb_layer2::config::Interfaces;
use ferrolb_layer2::status::{NodeState, Status};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::engine::Layer2Engine;
use crate::runtime::source::Layer2Statuses;
use crate::runtime::status::Layer2Services;

/// Changes within this time are written together.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a process that isn't ready leaves the objects alone that an earlier or older one of its
/// node wrote.
const START_TIME: Duration = Duration::from_mins(1);

/// Publishes the services that this node announces, until the receiver is dropped. The first time
/// when the engine is ready.
pub(crate) async fn publish(
    engine: Layer2Engine,
    services: Layer2Services,
    statuses: watch::Sender<Option<Arc<Layer2Statuses>>>,
) {
    let started = Instant::now();
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !statuses.is_closed() {
        tick.tick().await;
        // Without an engine this node announces nothing.
        let status = engine.status().await.unwrap_or_default();
        if statuses.borrow().is_none()
            && status.state != NodeState::Ready
            && started.elapsed() < START_TIME
        {
            continue;
        }
        let new = statuses_of(&status, &services);
        statuses.send_if_modified(|old| {
            let changed = old.as_deref() != Some(&new);
            if changed {
                *old = Some(Arc::new(new));
            }
            changed
        });
    }
}

pub(super) fn statuses_of(status: &Status, services: &Layer2Services) -> Layer2Statuses {
    let mut statuses = Layer2Statuses {
        claim_conflicts: status.counters.claim_conflicts,
        ..Layer2Statuses::default()
    };
    for (address, entry) in &status.addresses {
        let Some(owner) = &entry.owner else {
            continue;
        };
        let named = matches!(*services.interfaces(*address), Interfaces::Named(_));
        for service in &*services.of(*address) {
            let owners = statuses.owners.entry(service.name.clone()).or_default();
            owners.insert(owner.clone());
            if *owner == status.node {
                let interfaces = statuses.own.entry(service.name.clone()).or_default();
                // MetalLB names interfaces only where an L2Advertisement does.
                interfaces.extend(entry.interfaces.iter().filter(|_| named).cloned());
            }
        }
    }
    statuses
}
