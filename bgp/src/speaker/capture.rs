//! The messages of one session.

use super::taps::{Item, Queue};
use crate::capture::CapturedMessage;

/// Maximum size of the messages that wait for a reader, in octets.
pub(super) const QUEUE_MAX: usize = 4 << 20;

/// What a [`Capture`] receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Captured {
    /// A message.
    Message(CapturedMessage),
    /// About here this number of messages is missing, since the reader was too slow.
    Missed(u64),
}

/// The messages of a peer, from now on. Dropping it ends the capture.
#[derive(Debug)]
pub struct Capture(pub(super) Queue);

impl Capture {
    /// Receives the next message; `None` after the speaker has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<Captured> {
        let missed = self.0.take_missed();
        if missed > 0 {
            return Some(Captured::Missed(missed));
        }
        loop {
            if let Item::Message(message) = self.0.recv().await? {
                return Some(Captured::Message(message));
            }
        }
    }
}
