//! All sessions, for a monitoring station (RFC 7854).

use std::time::Duration;

use super::taps::{Item, Queue};
use crate::capture::CapturedMessage;
use crate::fsm::{Cause, SessionUp};

/// Maximum size of what waits for a reader, in octets.
pub(super) const QUEUE_MAX: usize = 16 << 20;

/// What a [`Monitor`] receives. Times are since 1970-01-01, 00:00 UTC.
#[derive(Clone, Debug)]
pub enum Monitored {
    /// A session is established.
    Up(Duration, Box<SessionUp>),
    /// An UPDATE was sent or received.
    Update(CapturedMessage),
    /// The session of the peer of this name has ended.
    Down(Duration, String, Box<Cause>),
}

/// Why a [`Monitor`] has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MonitorEnd {
    /// The reader was too slow: something is missing.
    #[error("it reads too slowly")]
    TooSlow,
    /// The speaker has ended.
    #[error("the BGP engine has ended")]
    SpeakerEnded,
}

/// Begin, UPDATEs and end of all sessions, from now on. Dropping it ends the monitoring.
#[derive(Debug)]
pub struct Monitor {
    /// The sessions that are established already. [`Handle::advertised`](super::Handle::advertised)
    /// has their routes; what is sent meanwhile is received afterwards.
    pub sessions: Vec<SessionUp>,
    pub(super) queue: Queue,
}

impl Monitor {
    /// Receives what happened next. Cancel safe.
    ///
    /// # Errors
    /// There is no more.
    pub async fn recv(&mut self) -> Result<Monitored, MonitorEnd> {
        if self.queue.take_missed() > 0 {
            return Err(MonitorEnd::TooSlow);
        }
        match self.queue.recv().await {
            Some(Item::Up(at, up)) => Ok(Monitored::Up(at, up)),
            Some(Item::Message(message)) => Ok(Monitored::Update(message)),
            Some(Item::Down(at, peer, cause)) => Ok(Monitored::Down(at, peer, cause)),
            None => Err(MonitorEnd::SpeakerEnded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Item {
        Item::Down(Duration::ZERO, "tor".to_owned(), Box::new(Cause::Replaced))
    }

    fn monitor(queue: Queue) -> Monitor {
        Monitor {
            sessions: Vec::new(),
            queue,
        }
    }

    /// A gap must not go unnoticed: the station would keep routes that are withdrawn.
    #[tokio::test]
    async fn a_reader_that_is_too_slow_learns_that_before_it_gets_more() {
        let (sender, queue) = Queue::new(1000);
        let mut monitor = monitor(queue);
        for _ in 0..5 {
            sender.send(down());
        }
        assert_eq!(monitor.recv().await.err(), Some(MonitorEnd::TooSlow));
    }

    #[tokio::test]
    async fn what_is_queued_arrives_before_the_end_of_the_speaker() {
        let (sender, queue) = Queue::new(1000);
        let mut monitor = monitor(queue);
        sender.send(down());
        drop(sender);
        let first = monitor.recv().await;
        assert!(matches!(first, Ok(Monitored::Down(_, peer, _)) if peer == "tor"));
        assert_eq!(monitor.recv().await.err(), Some(MonitorEnd::SpeakerEnded));
    }
}
