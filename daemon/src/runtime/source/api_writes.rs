//! Channel for writes that nothing waits for: Events, and the key of hellos. A write that doesn't
//! fit into the channel is lost and counted, so that sending never blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::core::api::ObjectName;

/// Writes that may be pending.
const CAPACITY: usize = 256;

/// A write to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiWrite {
    /// Creates the Secret `ferrolb-layer2` with a random key, unless it exists.
    CreateHelloKey,
    /// Creates an Event about a Service.
    Event(ServiceEvent),
}

/// A Kubernetes Event about a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEvent {
    /// The Service.
    pub service: Arc<ObjectName>,
    /// Its UID.
    pub uid: Arc<str>,
    /// Whether its type is Warning; else it is Normal.
    pub warning: bool,
    /// The reason, in one word.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

/// The contents of MetalLB's ServiceL2Status objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer2Statuses {
    /// The services that this node announces by layer 2. With the interfaces; none means all.
    pub own: BTreeMap<Arc<ObjectName>, BTreeSet<Box<str>>>,
    /// All nodes that announce an address of a service.
    pub owners: BTreeMap<Arc<ObjectName>, BTreeSet<Arc<str>>>,
}

/// Creates the channel.
pub fn api_writes() -> (ApiWriteSender, mpsc::Receiver<ApiWrite>) {
    let (writes, received) = mpsc::channel(CAPACITY);
    let failed = Arc::new(AtomicU64::new(0));
    (ApiWriteSender { writes, failed }, received)
}

/// Sends writes.
#[derive(Clone, Debug)]
pub struct ApiWriteSender {
    writes: mpsc::Sender<ApiWrite>,
    failed: Arc<AtomicU64>,
}

impl ApiWriteSender {
    /// Sends a write. A source without an API server drops it.
    pub fn send(&self, write: ApiWrite) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.writes.try_send(write) {
            self.count_failure();
        }
    }

    /// Counts a write that was lost or failed.
    pub(super) fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of writes that were lost or failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_that_does_not_fit_is_counted_and_never_blocks() {
        let (sender, mut received) = api_writes();
        for _ in 0..CAPACITY + 3 {
            sender.send(ApiWrite::CreateHelloKey);
        }
        assert_eq!(sender.failed(), 3);
        assert_eq!(received.recv().await, Some(ApiWrite::CreateHelloKey));
        sender.send(ApiWrite::CreateHelloKey);
        assert_eq!(sender.failed(), 3);
    }

    #[test]
    fn without_an_api_server_a_write_is_dropped_and_is_no_failure() {
        let (sender, received) = api_writes();
        drop(received);
        sender.send(ApiWrite::CreateHelloKey);
        assert_eq!(sender.failed(), 0);
    }
}
