//! The way of status writes from the control loop to a source. At most one write for each service waits: a newer one
//! replaces it. So sending never blocks, which matters because a source may wait for the loop at that moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::core::api::ObjectName;
use crate::core::index::change::StatusWrite;

/// Both ends.
pub fn status_writes() -> (StatusSender, StatusReceiver) {
    let waiting = Waiting::default();
    let (wake, woken) = mpsc::channel(1);
    let sender = StatusSender {
        waiting: waiting.clone(),
        wake,
    };
    (sender, StatusReceiver { waiting, woken })
}

/// The source has ended and takes no writes.
#[derive(Debug)]
pub struct SourceEnded;

#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<BTreeMap<Arc<ObjectName>, Arc<StatusWrite>>>>);

impl Waiting {
    /// A map is whole after each of its operations, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<ObjectName>, Arc<StatusWrite>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop's end.
#[derive(Debug)]
pub struct StatusSender {
    waiting: Waiting,
    wake: mpsc::Sender<()>,
}

impl StatusSender {
    /// Passes a write on; it replaces one for the same service that waits.
    ///
    /// # Errors
    /// When the source has ended.
    pub fn send(&self, write: Arc<StatusWrite>) -> Result<(), SourceEnded> {
        self.waiting.lock().insert(write.service.clone(), write);
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
    waiting: Waiting,
    woken: mpsc::Receiver<()>,
}

impl StatusReceiver {
    /// The next write, in the order of the services' names; none when the sender is gone and everything was received.
    /// Cancellation loses nothing.
    pub async fn recv(&mut self) -> Option<Arc<StatusWrite>> {
        loop {
            let next = self.waiting.lock().pop_first();
            if let Some((_, write)) = next {
                return Some(write);
            }
            if self.woken.recv().await.is_none() {
                return self.waiting.lock().pop_first().map(|(_, write)| write);
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
            pool: None,
        })
    }

    #[tokio::test]
    async fn the_newest_write_of_each_service_arrives_also_when_the_sender_is_gone() {
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
    fn a_source_that_has_ended_is_reported() {
        let (sender, receiver) = status_writes();
        drop(receiver);
        assert!(sender.send(write("a", "1")).is_err());
    }
}
