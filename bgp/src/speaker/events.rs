//! What a speaker tells its owner, and how much of what peers said may lie unread.
//!
//! A peer with [`PeerConfig::receive`](crate::config::PeerConfig::receive) may send faster than the
//! owner reads: then its socket isn't read any more until the owner has caught up, so that TCP holds
//! the peer back. No UPDATE is lost, and other peers don't notice.
//!
//! Other events don't wait: the engine must not stand still for its owner. So many of them may lie
//! unread; further ones are dropped, and [`Event::Missed`] says how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use tokio::sync::mpsc;

use crate::fsm::Event;

/// Octets of one connection, as they came, that may lie unread as events; taken apart they are some times as much.
const UNREAD_MAX: usize = 1 << 20;

/// Events other than received UPDATEs that may lie unread.
const EVENTS_MAX: usize = 4096;

/// Everything that happens, in order; [`Event::Missed`] comes first.
///
/// Whoever asks for received UPDATEs must keep reading: a peer whose UPDATEs lie unread for longer
/// than its hold time is lost, since nothing is heard of it any more. It ends when the speaker has
/// ended. Dropping it is fine.
#[derive(Debug)]
pub struct Events {
    events: mpsc::UnboundedReceiver<Told>,
    backlog: Arc<Backlog>,
}

impl Events {
    /// The next thing that happened; `None` once the speaker has ended. Nothing is lost if the future
    /// is dropped.
    pub async fn recv(&mut self) -> Option<Event> {
        let missed = self.backlog.missed.swap(0, Ordering::AcqRel);
        if missed > 0 {
            return Some(Event::Missed { events: missed });
        }
        let Told { event, portion } = self.events.recv().await?;
        if portion.is_none() {
            self.backlog.unread.fetch_sub(1, Ordering::AcqRel);
        }
        drop(portion);
        Some(event)
    }
}

/// Events that aren't UPDATEs: how many lie unread, and how many were dropped since the owner last
/// was told.
#[derive(Debug, Default)]
struct Backlog {
    unread: AtomicUsize,
    missed: AtomicUsize,
}

/// An event, and what it is of.
#[derive(Debug)]
struct Told {
    event: Event,
    portion: Option<Arc<Portion>>,
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Teller {
    events: mpsc::UnboundedSender<Told>,
    backlog: Arc<Backlog>,
    /// The octets that are being looked at.
    portion: Option<Arc<Portion>>,
    wake: mpsc::Sender<()>,
    woken: mpsc::Receiver<()>,
}

impl Teller {
    pub(super) fn new() -> (Self, Events) {
        let (events, receiver) = mpsc::unbounded_channel();
        let (wake, woken) = mpsc::channel(1);
        let backlog = Arc::new(Backlog::default());
        let teller = Self {
            events,
            backlog: backlog.clone(),
            portion: None,
            wake,
            woken,
        };
        let events = Events {
            events: receiver,
            backlog,
        };
        (teller, events)
    }

    /// So many octets of a connection are looked at from now on.
    pub(super) fn begin(&mut self, octets: usize, unread: &Unread) {
        unread.0.fetch_add(octets, Ordering::AcqRel);
        self.portion = Some(Arc::new(Portion {
            octets,
            unread: unread.clone(),
            wake: self.wake.clone(),
        }));
    }

    /// They have been looked at.
    pub(super) fn end(&mut self) {
        self.portion = None;
    }

    pub(super) fn tell(&self, event: Event) {
        let update = matches!(event, Event::Received { .. });
        let portion = self.portion.clone().filter(|_| update);
        if portion.is_none() {
            if self.backlog.unread.load(Ordering::Acquire) >= EVENTS_MAX {
                self.backlog.missed.fetch_add(1, Ordering::AcqRel);
                return;
            }
            self.backlog.unread.fetch_add(1, Ordering::AcqRel);
        }
        // The owner need not listen.
        drop(self.events.send(Told { event, portion }));
    }

    /// Whether the owner has caught up with a connection.
    pub(super) fn poll_caught_up(&mut self, cx: &mut Context<'_>) -> bool {
        self.woken.poll_recv(cx).is_ready()
    }
}

/// How many octets of a connection became events that nobody has read yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread(Arc<AtomicUsize>);

impl Unread {
    /// Whether it is time to let the owner catch up.
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Acquire) >= UNREAD_MAX
    }
}

/// Octets that count as unread as long as an event made of them lies unread.
#[derive(Debug)]
struct Portion {
    octets: usize,
    unread: Unread,
    wake: mpsc::Sender<()>,
}

impl Drop for Portion {
    fn drop(&mut self) {
        let before = self.unread.0.fetch_sub(self.octets, Ordering::AcqRel);
        if before >= UNREAD_MAX && before - self.octets < UNREAD_MAX {
            // If it is full, somebody else has woken the driver.
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
    async fn octets_count_as_unread_until_the_last_update_made_of_them_is_read() {
        let (mut teller, mut events) = Teller::new();
        let mut cx = Context::from_waker(Waker::noop());
        let unread = Unread::default();
        // Nothing to be read came of these.
        teller.begin(UNREAD_MAX, &unread);
        teller.tell(Event::UnknownPeer {
            peer: String::new(),
        });
        assert!(unread.is_full());
        teller.end();
        assert!(!unread.is_full() && teller.poll_caught_up(&mut cx));

        for _ in 0..2 {
            teller.begin(UNREAD_MAX / 2, &unread);
            teller.tell(update());
            teller.tell(update());
            teller.end();
        }
        events.recv().await.expect("the unknown peer");
        events.recv().await.expect("half a portion");
        assert!(unread.is_full() && !teller.poll_caught_up(&mut cx));
        events.recv().await.expect("the other half");
        assert!(!unread.is_full() && teller.poll_caught_up(&mut cx));
        assert!(!teller.poll_caught_up(&mut cx), "once");

        // Nobody listens any more.
        teller.begin(UNREAD_MAX, &unread);
        teller.tell(update());
        teller.end();
        drop(events);
        assert!(!unread.is_full());
    }
    #[tokio::test]
    async fn events_that_an_owner_does_not_read_are_counted_and_dropped() {
        let (teller, mut events) = Teller::new();
        let number = |number: usize| Event::UnknownPeer {
            peer: number.to_string(),
        };
        for at in 0..EVENTS_MAX + 10 {
            teller.tell(number(at));
        }
        let first = events.recv().await;
        assert!(
            matches!(first, Some(Event::Missed { events: 10 })),
            "{first:?}"
        );
        // There is no room before the owner has read something.
        teller.tell(number(0));
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
        teller.tell(number(7));
        drop(teller);
        assert!(matches!(
            events.recv().await,
            Some(Event::UnknownPeer { .. })
        ));
        assert!(events.recv().await.is_none());
    }
}
