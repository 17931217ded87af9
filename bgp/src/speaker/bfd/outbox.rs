//! What one of the threads of BGP and BFD sends to the other, about a peer by name: bounded, and
//! neither ever waits for the other.
//!
//! A channel of stated depth carries it in order. When that is full the other thread stands still:
//! then one item waits for each peer, and what comes after it is merged with it.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Items that the other thread has not taken yet.
pub(super) const OUTBOX_MAX: usize = 1024;

/// What remains of two items for one peer that both wait.
pub(super) trait Merge {
    fn merge(self, later: Self) -> Self;
}

#[derive(Debug)]
pub(super) struct Outbox<T> {
    sender: mpsc::Sender<(String, T)>,
    waiting: BTreeMap<String, T>,
}

impl<T: Merge> Outbox<T> {
    pub(super) fn new(sender: mpsc::Sender<(String, T)>) -> Self {
        let waiting = BTreeMap::new();
        Self { sender, waiting }
    }

    /// Sends an item, or lets it wait. It is dropped if the other thread is gone.
    pub(super) fn send(&mut self, peer: String, item: T) {
        self.flush();
        let item = match self.waiting.remove(&peer) {
            Some(earlier) => earlier.merge(item),
            None => match self.sender.try_send((peer.clone(), item)) {
                Err(TrySendError::Full((_, item))) => item,
                Ok(()) | Err(TrySendError::Closed(_)) => return,
            },
        };
        self.waiting.insert(peer, item);
    }

    /// Sends an item that the next one of its kind replaces, if there is much room.
    pub(super) fn send_if_idle(&mut self, peer: &str, item: T) {
        if self.waiting.is_empty() && self.sender.capacity() > OUTBOX_MAX / 2 {
            self.send(peer.to_owned(), item);
        }
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some((peer, item)) = self.waiting.pop_first() {
            if let Err(TrySendError::Full((peer, item))) = self.sender.try_send((peer, item)) {
                self.waiting.insert(peer, item);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Merge for u32 {
        fn merge(self, later: Self) -> Self {
            self.max(later)
        }
    }

    #[test]
    fn a_full_outbox_keeps_one_item_for_each_peer_and_never_waits() {
        let (sender, mut receiver) = mpsc::channel(OUTBOX_MAX);
        let mut outbox = Outbox::new(sender);
        for number in 0..10 * 1024u32 {
            outbox.send(format!("peer{}", number % 3), number);
        }
        assert_eq!(outbox.waiting.len(), 3);
        outbox.send_if_idle("peer7", 7);
        let mut last = BTreeMap::new();
        let mut taken = 0;
        loop {
            while let Ok((peer, number)) = receiver.try_recv() {
                assert!(
                    last.insert(peer, number)
                        .is_none_or(|before| before < number)
                );
                taken += 1;
            }
            if outbox.waiting.is_empty() {
                break;
            }
            outbox.flush();
        }
        assert_eq!(taken, OUTBOX_MAX + 3);
        // Nothing of the latest is lost, and what would come again was left out.
        assert_eq!(last.values().max(), Some(&(10 * 1024 - 1)));
        assert!(!last.contains_key("peer7"));
        drop(receiver);
        outbox.send("gone".to_owned(), 1);
        assert!(outbox.waiting.is_empty());
    }
}
