//! Channel for writes that nothing waits for: Events, conditions, statuses of pools, and the key of
//! hellos. A write that doesn't fit into the channel is lost, so that sending never blocks; the log
//! says how many were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

use crate::core::api::metallb::PoolStatus;
use crate::core::api::{ObjectKey, ObjectName};
use crate::core::model::{ConditionWrite, NodeEvent, PodEvent, ServiceEvent};

/// Normal Events that may be pending, and as many other writes.
const CAPACITY: usize = 256;

/// Normal Events that have waited for longer are out of date.
const MAX_AGE: Duration = Duration::from_mins(1);

/// A write to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApiWrite {
    /// Creates the Secret `ferrolb-layer2` with a random key, unless it exists.
    CreateHelloKey,
    /// Creates an Event about a Service.
    Event(ServiceEvent),
    /// Creates an Event about a Node.
    NodeEvent(NodeEvent),
    /// Creates an Event about a Pod.
    PodEvent(PodEvent),
    /// Writes the condition of a Service that says whether some node announces it.
    Condition(ConditionWrite),
    /// Writes the status of an IPAddressPool.
    PoolStatus(ObjectKey, PoolStatus),
}

/// The contents of MetalLB's ServiceL2Status objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer2Statuses {
    /// The services that this node announces by layer 2. With the interfaces; none means all.
    pub own: BTreeMap<Arc<ObjectName>, BTreeSet<Box<str>>>,
    /// All nodes that announce an address of a service.
    pub owners: BTreeMap<Arc<ObjectName>, BTreeSet<Arc<str>>>,
    /// How often this node and another one claimed the same address. Each may have deleted the
    /// other's objects meanwhile.
    pub claim_conflicts: u64,
}

/// Creates the channel.
pub fn api_writes() -> (ApiWriteSender, ApiWriteReceiver) {
    let (first_in, first) = mpsc::channel(CAPACITY);
    let (events_in, events) = mpsc::channel(CAPACITY);
    let lost = Arc::new(AtomicU64::new(0));
    let sender = ApiWriteSender {
        first: first_in,
        events: events_in,
        lost: lost.clone(),
    };
    let receiver = ApiWriteReceiver {
        first,
        events,
        lost,
    };
    (sender, receiver)
}

/// Sends writes.
#[derive(Clone, Debug)]
pub struct ApiWriteSender {
    /// Keys, statuses and warnings, which are written before Normal Events.
    first: mpsc::Sender<ApiWrite>,
    /// Normal Events, with the time at which they were sent.
    events: mpsc::Sender<(Instant, ServiceEvent)>,
    lost: Arc<AtomicU64>,
}

impl ApiWriteSender {
    /// Sends a write. A source without an API server drops it.
    pub(crate) fn send(&self, write: ApiWrite) {
        let is_full = match write {
            ApiWrite::Event(event) if !event.warning => {
                let sent = self.events.try_send((Instant::now(), event));
                matches!(sent, Err(TrySendError::Full(_)))
            }
            write => matches!(self.first.try_send(write), Err(TrySendError::Full(_))),
        };
        if is_full {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Receives writes, the important ones first.
#[derive(Debug)]
pub struct ApiWriteReceiver {
    first: mpsc::Receiver<ApiWrite>,
    events: mpsc::Receiver<(Instant, ServiceEvent)>,
    lost: Arc<AtomicU64>,
}

impl ApiWriteReceiver {
    /// The next write. None when all senders are dropped. Normal Events that are out of date are
    /// lost.
    pub(crate) async fn recv(&mut self) -> Option<ApiWrite> {
        loop {
            self.log_lost();
            tokio::select! {
                biased;
                Some(write) = self.first.recv() => return Some(write),
                Some((sent, event)) = self.events.recv() => {
                    if sent.elapsed() < MAX_AGE {
                        return Some(ApiWrite::Event(event));
                    }
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                else => return None,
            }
        }
    }

    fn log_lost(&self) {
        let lost = self.take_lost();
        if lost > 0 {
            tracing::warn!(
                lost,
                "Events were not written: there were more than 10 per second for some time, or \
                 the API server was slow. The log shows the same changes"
            );
        }
    }

    /// The number of writes that were lost since the last call. 0 while further ones are pending.
    fn take_lost(&self) -> u64 {
        if self.events.is_empty() && self.first.is_empty() {
            self.lost.swap(0, Ordering::Relaxed)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(warning: bool) -> ApiWrite {
        ApiWrite::Event(ServiceEvent {
            component: "ferrolb-layer2",
            service: Arc::new(ObjectName::new("shop", "web")),
            uid: "u-1".into(),
            warning,
            reason: "nodeAssigned",
            message: String::new(),
        })
    }

    #[tokio::test]
    async fn a_write_that_does_not_fit_is_counted_once_and_never_blocks() {
        let (sender, mut received) = api_writes();
        for _ in 0..CAPACITY + 3 {
            sender.send(event(false));
        }
        assert_eq!(received.take_lost(), 0, "not yet: more are pending");
        for _ in 0..CAPACITY {
            assert_eq!(received.recv().await, Some(event(false)));
        }
        assert_eq!(received.take_lost(), 3);
        assert_eq!(received.take_lost(), 0);
    }

    #[tokio::test]
    async fn keys_and_warnings_precede_normal_events_and_fit_when_those_do_not() {
        let (sender, mut received) = api_writes();
        for _ in 0..CAPACITY {
            sender.send(event(false));
        }
        sender.send(event(true));
        sender.send(ApiWrite::CreateHelloKey);
        assert_eq!(received.recv().await, Some(event(true)));
        assert_eq!(received.recv().await, Some(ApiWrite::CreateHelloKey));
        assert_eq!(received.recv().await, Some(event(false)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_normal_event_that_waited_for_a_minute_is_lost_and_a_warning_is_not() {
        let (sender, mut received) = api_writes();
        sender.send(event(false));
        sender.send(event(true));
        tokio::time::advance(MAX_AGE).await;
        drop(sender);
        assert_eq!(received.recv().await, Some(event(true)));
        assert_eq!(received.recv().await, None);
    }

    #[test]
    fn without_an_api_server_a_write_is_dropped_and_not_lost() {
        let (sender, received) = api_writes();
        let lost = received.lost.clone();
        drop(received);
        sender.send(ApiWrite::CreateHelloKey);
        sender.send(event(false));
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }
}
