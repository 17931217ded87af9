//! The channel of events from the BGP thread to the caller, with its limits.
//!
//! Received UPDATEs ([`PeerConfig::receive`](crate::config::PeerConfig::receive)) are never
//! dropped. If the caller reads them too slowly, the driver stops reading the peer's socket, so
//! that TCP flow control slows down that peer and no other.
//!
//! Other events must not delay the BGP thread: a limited number is queued, further events are
//! dropped, and [`Event::Missed`] reports their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use tokio::sync::mpsc;

use crate::fsm::Event;

/// Maximum backlog of a connection, in received octets. Decoded UPDATEs take several times as much
/// memory.
const BACKLOG_MAX: usize = 1 << 20;

/// Maximum number of queued events other than received UPDATEs.
const EVENTS_MAX: usize = 4096;

/// The events of a speaker, in order; [`Event::Missed`] comes first.
///
/// A caller that requests received UPDATEs must keep reading. Otherwise the driver stops reading
/// the peer's socket, and the peer's hold timer expires. The channel closes when the speaker has
/// ended. Dropping it discards all events.
#[derive(Debug)]
pub struct Events {
    events: mpsc::UnboundedReceiver<QueuedEvent>,
    counts: Arc<Counts>,
}

impl Events {
    /// Receives the next event; `None` after the speaker has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        let missed = self.counts.missed.swap(0, Ordering::AcqRel);
        if missed > 0 {
            return Some(Event::Missed { events: missed });
        }
        let QueuedEvent { event, credit } = self.events.recv().await?;
        if credit.is_none() {
            self.counts.queued.fetch_sub(1, Ordering::AcqRel);
        }
        drop(credit);
        Some(event)
    }
}

/// Counters of events other than received UPDATEs.
#[derive(Debug, Default)]
struct Counts {
    /// Events in the queue.
    queued: AtomicUsize,
    /// Events dropped since the last [`Event::Missed`].
    missed: AtomicUsize,
}

/// An event in the queue. A received UPDATE has the credit of the octets it was decoded from.
#[derive(Debug)]
struct QueuedEvent {
    event: Event,
    credit: Option<Arc<ReadCredit>>,
}

/// The sending end, owned by the driver.
#[derive(Debug)]
pub(super) struct EventSender {
    events: mpsc::UnboundedSender<QueuedEvent>,
    counts: Arc<Counts>,
    /// Credit of the octets that the state machine is processing.
    credit: Option<Arc<ReadCredit>>,
    wake: mpsc::Sender<()>,
    woken: mpsc::Receiver<()>,
}

impl EventSender {
    pub(super) fn new() -> (Self, Events) {
        let (events, receiver) = mpsc::unbounded_channel();
        let (wake, woken) = mpsc::channel(1);
        let counts = Arc::new(Counts::default());
        let sender = Self {
            events,
            counts: counts.clone(),
            credit: None,
            wake,
            woken,
        };
        let events = Events {
            events: receiver,
            counts,
        };
        (sender, events)
    }

    /// Starts processing octets of a connection: UPDATEs sent until [`end_read`](Self::end_read)
    /// count for its backlog.
    pub(super) fn begin_read(&mut self, octets: usize, backlog: &Backlog) {
        backlog.0.fetch_add(octets, Ordering::AcqRel);
        self.credit = Some(Arc::new(ReadCredit {
            octets,
            backlog: backlog.clone(),
            wake: self.wake.clone(),
        }));
    }

    /// Ends processing. Octets that yielded no UPDATE leave the backlog at once.
    pub(super) fn end_read(&mut self) {
        self.credit = None;
    }

    pub(super) fn send(&self, event: Event) {
        let update = matches!(event, Event::Received { .. });
        let credit = self.credit.clone().filter(|_| update);
        if credit.is_none() {
            if self.counts.queued.load(Ordering::Acquire) >= EVENTS_MAX {
                self.counts.missed.fetch_add(1, Ordering::AcqRel);
                return;
            }
            self.counts.queued.fetch_add(1, Ordering::AcqRel);
        }
        // The receiver may have been dropped.
        drop(self.events.send(QueuedEvent { event, credit }));
    }

    /// Ready after the backlog of a connection has fallen below its limit.
    pub(super) fn poll_drained(&mut self, cx: &mut Context<'_>) -> bool {
        self.woken.poll_recv(cx).is_ready()
    }
}

/// Number of received octets of a connection whose UPDATEs the caller has not read.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// Whether the socket must not be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Acquire) >= BACKLOG_MAX
    }
}

/// Octets in a backlog. All UPDATEs decoded from them share it; the last one releases it.
#[derive(Debug)]
struct ReadCredit {
    octets: usize,
    backlog: Backlog,
    wake: mpsc::Sender<()>,
}

impl Drop for ReadCredit {
    fn drop(&mut self) {
        let before = self.backlog.0.fetch_sub(self.octets, Ordering::AcqRel);
        if before >= BACKLOG_MAX && before - self.octets < BACKLOG_MAX {
            // A full channel already wakes the driver.
            self.wake.try_send(()).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::wire::Family;
    use crate::wire::{DecodeContext, Framer, Message, end_of_rib};

    fn update() -> Event {
        let mut framer = Framer::default();
        framer.push(&end_of_rib(Family::IPV4_UNICAST));
        let Some(Ok(Message::Update(update))) = framer.next(&DecodeContext::default()) else {
            panic!("an UPDATE");
        };
        Event::Received {
            peer: "tor".to_owned(),
            update: Box::new(update),
        }
    }

    #[tokio::test]
    async fn octets_stay_in_the_backlog_until_their_last_update_is_read() {
        let (mut sender, mut events) = EventSender::new();
        let mut cx = Context::from_waker(Waker::noop());
        let backlog = Backlog::default();
        // These octets yield no UPDATE.
        sender.begin_read(BACKLOG_MAX, &backlog);
        sender.send(Event::UnknownPeer {
            peer: String::new(),
        });
        assert!(backlog.is_full());
        sender.end_read();
        assert!(!backlog.is_full() && sender.poll_drained(&mut cx));

        for _ in 0..2 {
            sender.begin_read(BACKLOG_MAX / 2, &backlog);
            sender.send(update());
            sender.send(update());
            sender.end_read();
        }
        events.recv().await.expect("the unknown peer");
        events.recv().await.expect("the first half");
        assert!(backlog.is_full() && !sender.poll_drained(&mut cx));
        events.recv().await.expect("the second half");
        assert!(!backlog.is_full() && sender.poll_drained(&mut cx));
        assert!(!sender.poll_drained(&mut cx), "once");

        // Dropping the receiver releases the backlog.
        sender.begin_read(BACKLOG_MAX, &backlog);
        sender.send(update());
        sender.end_read();
        drop(events);
        assert!(!backlog.is_full());
    }

    #[tokio::test]
    async fn events_beyond_the_limit_are_dropped_and_counted() {
        let (sender, mut events) = EventSender::new();
        let number = |number: usize| Event::UnknownPeer {
            peer: number.to_string(),
        };
        for at in 0..EVENTS_MAX + 10 {
            sender.send(number(at));
        }
        let first = events.recv().await;
        assert!(
            matches!(first, Some(Event::Missed { events: 10 })),
            "{first:?}"
        );
        // `Missed` frees no room in the queue.
        sender.send(number(0));
        assert!(matches!(
            events.recv().await,
            Some(Event::Missed { events: 1 })
        ));
        for at in 0..EVENTS_MAX {
            let event = events.recv().await;
            let Some(Event::UnknownPeer { peer }) = event else {
                panic!("{event:?}");
            };
            assert_eq!(peer, at.to_string());
        }
        sender.send(number(7));
        drop(sender);
        assert!(matches!(
            events.recv().await,
            Some(Event::UnknownPeer { .. })
        ));
        assert!(events.recv().await.is_none());
    }
}
