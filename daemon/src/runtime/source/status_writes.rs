//! Channel for status writes from the control loop to a source. At most one write per Service is
//! pending; a newer one replaces it. Sending therefore never blocks, which prevents a deadlock
//! while the source waits for the control loop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::core::api::ObjectName;
use crate::core::index::change::StatusWrite;

/// Creates the channel.
pub fn status_writes() -> (StatusSender, StatusReceiver) {
    let pending = PendingWrites::default();
    let (wake, woken) = mpsc::channel(1);
    let sender = StatusSender {
        pending: pending.clone(),
        wake,
    };
    (sender, StatusReceiver { pending, woken })
}

/// The source has ended and accepts no writes.
#[derive(Debug)]
pub struct SourceEnded;

#[derive(Clone, Debug, Default)]
struct PendingWrites(Arc<Mutex<BTreeMap<Arc<ObjectName>, Arc<StatusWrite>>>>);

impl PendingWrites {
    /// The map is consistent after each operation, so a poisoned lock is harmless.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<ObjectName>, Arc<StatusWrite>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The control loop's end.
#[derive(Debug)]
pub struct StatusSender {
    pending: PendingWrites,
    wake: mpsc::Sender<()>,
}

impl StatusSender {
    /// Sends a write, replacing a pending one for the same Service.
    ///
    /// # Errors
    ///
    /// The source has ended.
    pub fn send(&self, write: Arc<StatusWrite>) -> Result<(), SourceEnded> {
        self.pending.lock().insert(write.service.clone(), write);
        match self.wake.try_send(()) {
            Err(mpsc::error::TrySendError::Closed(())) => Err(SourceEnded),
            // A full channel has woken the receiver already.
            Ok(()) | Err(mpsc::error::TrySendError::Full(())) => Ok(()),
        }
    }
}

/// The source's end.
#[derive(Debug)]
pub struct StatusReceiver {
    pending: PendingWrites,
    woken: mpsc::Receiver<()>,
}

impl StatusReceiver {
    /// Returns the next write, ordered by Service name, or `None` when the sender is dropped and no
    /// write is pending. Cancel safe.
    pub async fn recv(&mut self) -> Option<Arc<StatusWrite>> {
        loop {
            let next = self.pending.lock().pop_first();
            if let Some((_, write)) = next {
                return Some(write);
            }
            if self.woken.recv().await.is_none() {
                return self.pending.lock().pop_first().map(|(_, write)| write);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(name: &str, version: &str) -> Arc<StatusWrite> {
        Arc::new(StatusWrite {
            service: Arc::new(ObjectName::new("default", name)),
            resource_version: version.to_owned(),
            addresses: Vec::new(),
            ip_modes: Vec::new(),
            pool: None,
        })
    }

    #[tokio::test]
    async fn the_latest_write_of_each_service_arrives_even_after_the_sender_is_dropped() {
        let (sender, mut receiver) = status_writes();
        for version in ["1", "2", "3"] {
            for name in ["a", "b"] {
                sender.send(write(name, version)).expect("received");
            }
        }
        assert_eq!(receiver.recv().await, Some(write("a", "3")));
        sender.send(write("a", "4")).expect("received");
        drop(sender);
        assert_eq!(receiver.recv().await, Some(write("a", "4")));
        assert_eq!(receiver.recv().await, Some(write("b", "3")));
        assert_eq!(receiver.recv().await, None);
    }

    #[test]
    fn send_fails_after_the_source_has_ended() {
        let (sender, receiver) = status_writes();
        drop(receiver);
        assert!(sender.send(write("a", "1")).is_err());
    }
}
