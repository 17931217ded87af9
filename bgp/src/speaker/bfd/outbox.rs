//! A bounded channel between the BGP and the BFD thread. Neither thread ever waits for the other.
//!
//! Each item belongs to a peer. If the channel is full because the other thread is stalled, one
//! item for each peer waits in the sender, and later items are merged into it.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Depth of the channel.
pub(super) const OUTBOX_MAX: usize = 1024;

/// Merges two waiting items of a peer.
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

    /// Sends or queues an item. Drops it if the other thread has ended.
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

    /// Sends an item that a later one replaces anyway. Drops it if the channel is half full.
    pub(super) fn send_if_idle(&mut self, peer: &str, item: T) {
        if self.waiting.is_empty() && self.sender.capacity() > OUTBOX_MAX / 2 {
            self.send(peer.to_owned(), item);
        }
    }

    /// Sends waiting items while there is room.
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
    fn a_full_outbox_keeps_one_merged_item_for_each_peer_and_never_blocks() {
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
        // The latest items arrived; the replaceable one was dropped.
        assert_eq!(last.values().max(), Some(&(10 * 1024 - 1)));
        assert!(!last.contains_key("peer7"));
        drop(receiver);
        outbox.send("gone".to_owned(), 1);
        assert!(outbox.waiting.is_empty());
    }
}
