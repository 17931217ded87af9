//! Channel for writes that nothing waits for: Events, conditions, statuses of pools, and the key of
//! hellos. Sending never blocks. The last Warnings about each Service are pending, so that of
//! thousands of Services each has its own. Another write that doesn't fit into the channel is lost;
//! the log says how many were.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

use crate::core::allocate::object_status::ObjectStatus;
use crate::core::api::{ObjectKey, ObjectName};
use crate::core::model::{ConditionWrite, NodeEvent, ObjectEvent, ServiceEvent};

/// Normal Events that may be pending, and as many writes that are no Events about Services.
const CAPACITY: usize = 256;

/// Warnings about one Service that may be pending.
const WARNINGS_MAX: usize = 8;

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
    /// Writes the condition of a Service that says whether some node announces it.
    Condition(ConditionWrite),
    /// Creates an Event about a configuration object or a Pod.
    ObjectEvent(ObjectEvent),
    /// Writes the status of a configuration object.
    ObjectStatus(ObjectKey, ObjectStatus),
}

/// Creates the channel.
pub fn api_writes() -> (ApiWriteSender, ApiWriteReceiver) {
    let (first_in, first) = mpsc::channel(CAPACITY);
    let (wake, woken) = mpsc::channel(1);
    let (events_in, events) = mpsc::channel(CAPACITY);
    let (lost, warnings) = (Arc::new(AtomicU64::new(0)), Warnings::default());
    let sender = ApiWriteSender {
        first: first_in,
        warnings: warnings.clone(),
        wake,
        events: events_in,
        lost: lost.clone(),
    };
    let receiver = ApiWriteReceiver {
        first,
        warnings,
        woken,
        events,
        lost,
    };
    (sender, receiver)
}

/// The Warnings about Services that are pending.
#[derive(Clone, Debug, Default)]
struct Warnings(Arc<Mutex<Pending>>);

impl Warnings {
    /// The map is consistent after each operation, so a poisoned lock is harmless.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events, the last ones of each Service. The Services take turns, so that one with many Events
/// doesn't displace those of others.
#[derive(Debug, Default)]
struct Pending {
    by_service: BTreeMap<Arc<ObjectName>, VecDeque<ServiceEvent>>,
    /// The Service whose turn was last.
    last: Option<Arc<ObjectName>>,
}

impl Pending {
    fn push(&mut self, event: ServiceEvent) {
        let of_service = self.by_service.entry(event.service.clone());
        let events = of_service.or_default();
        events.retain(|other| *other != event);
        events.push_back(event);
        if events.len() > WARNINGS_MAX {
            events.pop_front();
        }
    }

    fn pop(&mut self) -> Option<ServiceEvent> {
        let next = self.last.as_ref().and_then(|last| {
            let after = (Bound::Excluded(last), Bound::Unbounded);
            self.by_service.range::<Arc<ObjectName>, _>(after).next()
        });
        let (name, _) = next.or_else(|| self.by_service.first_key_value())?;
        let name = name.clone();
        let events = self.by_service.get_mut(&name)?;
        let event = events.pop_front();
        if events.is_empty() {
            self.by_service.remove(&name);
        }
        self.last = Some(name);
        event
    }
}

/// Sends writes.
#[derive(Clone, Debug)]
pub struct ApiWriteSender {
    /// Keys, statuses, and warnings about Nodes, which are written first.
    first: mpsc::Sender<ApiWrite>,
    /// Warnings about Services, which are written before Normal Events.
    warnings: Warnings,
    /// Says that there are warnings.
    wake: mpsc::Sender<()>,
    /// Normal Events, with the time at which they were sent.
    events: mpsc::Sender<(Instant, ServiceEvent)>,
    lost: Arc<AtomicU64>,
}

impl ApiWriteSender {
    /// Sends a write. A source without an API server drops it.
    pub(crate) fn send(&self, write: ApiWrite) {
        let is_full = match write {
            ApiWrite::Event(event) if event.warning => {
                self.warn(event);
                false
            }
            ApiWrite::Event(event) => {
                let sent = self.events.try_send((Instant::now(), event));
                matches!(sent, Err(TrySendError::Full(_)))
            }
            write => matches!(self.first.try_send(write), Err(TrySendError::Full(_))),
        };
        if is_full {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn warn(&self, event: ServiceEvent) {
        if self.wake.is_closed() {
            return;
        }
        self.warnings.lock().push(event);
        // A full channel has woken the receiver already.
        _ = self.wake.try_send(());
    }
}

/// Receives writes, the important ones first.
#[derive(Debug)]
pub struct ApiWriteReceiver {
    first: mpsc::Receiver<ApiWrite>,
    warnings: Warnings,
    woken: mpsc::Receiver<()>,
    events: mpsc::Receiver<(Instant, ServiceEvent)>,
    lost: Arc<AtomicU64>,
}

impl ApiWriteReceiver {
    /// The next write. None when all senders are dropped. Normal Events that are out of date are
    /// lost.
    pub(crate) async fn recv(&mut self) -> Option<ApiWrite> {
        loop {
            self.log_lost();
            if let Ok(write) = self.first.try_recv() {
                return Some(write);
            }
            let warning = self.warnings.lock().pop();
            if let Some(event) = warning {
                return Some(ApiWrite::Event(event));
            }
            tokio::select! {
                biased;
                Some(write) = self.first.recv() => return Some(write),
                Some(()) = self.woken.recv() => {}
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
    use crate::core::api::ObjectName;

    fn event(warning: bool) -> ApiWrite {
        ApiWrite::Event(ServiceEvent {
            component: "ferrolb-layer2",
            service: Arc::new(ObjectName::new("shop", "web")),
            uid: "u-1".into(),
            warning,
            reason: "nodeAssigned",
            message: String::new(),
            may_be_known: false,
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
        assert_eq!(received.recv().await, Some(ApiWrite::CreateHelloKey));
        assert_eq!(received.recv().await, Some(event(true)));
        assert_eq!(received.recv().await, Some(event(false)));
    }

    fn warning(service: &str, message: &str) -> ServiceEvent {
        ServiceEvent {
            component: "ferrolb-allocator",
            service: Arc::new(ObjectName::new("shop", service)),
            uid: "u-1".into(),
            warning: true,
            reason: "MinAnnouncersNotMet",
            message: message.to_owned(),
            may_be_known: false,
        }
    }

    #[tokio::test]
    async fn no_warning_of_thousands_of_services_is_lost_or_displaces_another_write() {
        let (sender, mut received) = api_writes();
        let about = |number: usize| ApiWrite::Event(warning(&format!("web-{number:04}"), "below"));
        for number in (0..3000).chain(0..3000) {
            sender.send(about(number));
        }
        sender.send(ApiWrite::CreateHelloKey);
        assert_eq!(received.recv().await, Some(ApiWrite::CreateHelloKey));
        for number in 0..3000 {
            assert_eq!(received.recv().await, Some(about(number)), "once each");
        }
        assert_eq!(received.take_lost(), 0);
        sender.send(about(1));
        drop(sender);
        assert_eq!(received.recv().await, Some(about(1)));
        assert_eq!(received.recv().await, None);
    }

    #[test]
    fn a_service_with_many_warnings_keeps_the_last_ones_and_leaves_others_their_turn() {
        let mut pending = Pending::default();
        pending.push(warning("b", "of b"));
        for number in 0..=WARNINGS_MAX {
            pending.push(warning("a", &number.to_string()));
        }
        pending.push(warning("a", "2"));
        let mut texts = Vec::new();
        while let Some(event) = pending.pop() {
            texts.push(event.message);
        }
        let expected = ["1", "of b", "3", "4", "5", "6", "7", "8", "2"];
        assert_eq!(texts, expected);
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
        sender.send(event(true));
        assert!(sender.warnings.lock().pop().is_none(), "nothing piles up");
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }
}
