//! Copies of the messages of sessions for [`Capture`](super::Capture) and
//! [`Monitor`](super::Monitor). Without one, nothing is copied.
//!
//! The BGP thread never waits for a reader: what is beyond the limit is counted, not stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use crate::capture::{CapturedMessage, CapturedSession, Splitter};
use crate::fsm::{Cause, ConnectionId, Event, SessionUp, Speaker};
use crate::wire::MessageType;

/// Memory of an item in addition to its octets.
const ITEM_OVERHEAD: usize = 256;

/// What a tap gives to its reader.
#[derive(Debug)]
pub(super) enum Item {
    /// A message. A monitor gets UPDATEs only.
    Message(CapturedMessage),
    /// A session is established; for monitors.
    Up(Duration, Box<SessionUp>),
    /// The session of this peer has ended; for monitors.
    Down(Duration, String, Box<Cause>),
}

impl Item {
    fn size(&self) -> usize {
        ITEM_OVERHEAD
            + match self {
                Self::Message(message) => message.octets.len(),
                Self::Up(_, up) => up.open_sent.len() + up.open_received.len(),
                Self::Down(..) => 0,
            }
    }
}

#[derive(Debug, Default)]
struct Counts {
    /// Size of the queued items in octets.
    queued: AtomicUsize,
    /// Number of dropped items.
    missed: AtomicU64,
}

/// The reading end of a tap. Dropping it ends the tap.
#[derive(Debug)]
pub(super) struct Queue {
    items: mpsc::UnboundedReceiver<Item>,
    counts: Arc<Counts>,
}

impl Queue {
    /// A queue for items of this size in all, in octets.
    pub(super) fn new(max: usize) -> (QueueSender, Self) {
        let (sender, items) = mpsc::unbounded_channel();
        let counts = Arc::new(Counts::default());
        let sender = QueueSender {
            items: sender,
            counts: counts.clone(),
            max,
        };
        (sender, Self { items, counts })
    }

    /// The number of items dropped since the last call. The next item is from after them, or from
    /// before.
    pub(super) fn take_missed(&self) -> u64 {
        self.counts.missed.swap(0, Ordering::AcqRel)
    }

    /// Receives the next item; `None` after the speaker has ended. Cancel safe.
    pub(super) async fn recv(&mut self) -> Option<Item> {
        let item = self.items.recv().await?;
        self.counts.queued.fetch_sub(item.size(), Ordering::AcqRel);
        Some(item)
    }
}

/// The sending end of a [`Queue`].
#[derive(Debug)]
pub(super) struct QueueSender {
    items: mpsc::UnboundedSender<Item>,
    counts: Arc<Counts>,
    max: usize,
}

impl QueueSender {
    pub(super) fn send(&self, item: Item) {
        let size = item.size();
        if self.counts.queued.load(Ordering::Acquire) + size > self.max {
            self.counts.missed.fetch_add(1, Ordering::AcqRel);
            return;
        }
        self.counts.queued.fetch_add(size, Ordering::AcqRel);
        // The receiver may have been dropped.
        drop(self.items.send(item));
    }
}

/// What a tap copies.
#[derive(Debug)]
pub(super) enum Scope {
    /// All messages of the peer of this name, or of the dynamic neighbors of this template.
    Peer(String),
    /// Begin, UPDATEs and end of all sessions.
    Monitor,
}

impl Scope {
    fn includes(&self, session: &CapturedSession) -> bool {
        match self {
            Self::Peer(name) => session.peer == *name || session.template.as_ref() == Some(name),
            Self::Monitor => true,
        }
    }
}

/// A connection of a tap.
#[derive(Debug)]
struct Connection {
    session: CapturedSession,
    received: Splitter,
    sent: Splitter,
}

#[derive(Debug)]
struct Tap {
    scope: Scope,
    connections: BTreeMap<ConnectionId, Connection>,
    queue: QueueSender,
}

impl Tap {
    /// Notes what is known of a connection. It is no longer known when the last message is sent.
    fn note(&mut self, speaker: &Speaker, id: ConnectionId) {
        let Some((session, incomplete)) = speaker.captured(id) else {
            return;
        };
        if !self.scope.includes(&session) {
            return;
        }
        if let Some(known) = self.connections.get_mut(&id) {
            known.session = session;
            return;
        }
        let mut received = Splitter::default();
        received.push(incomplete);
        let connection = Connection {
            session,
            received,
            sent: Splitter::default(),
        };
        self.connections.insert(id, connection);
    }

    fn take(&mut self, id: ConnectionId, sent: bool, octets: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let splitter = if sent {
            &mut connection.sent
        } else {
            &mut connection.received
        };
        splitter.push(octets);
        while let Some(octets) = splitter.take_message() {
            let message = CapturedMessage {
                at: since_1970(),
                sent,
                session: connection.session.clone(),
                octets,
            };
            let update = message.kind() == Some(MessageType::UPDATE);
            if update || matches!(self.scope, Scope::Peer(_)) {
                self.queue.send(Item::Message(message));
            }
        }
    }
}

fn since_1970() -> Duration {
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The taps of a driver.
#[derive(Debug, Default)]
pub(super) struct Taps {
    taps: Vec<Tap>,
    /// Connections that were closed. The last octets received may still come.
    closed: Vec<ConnectionId>,
}

impl Taps {
    pub(super) fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Begins to copy, with the present connections.
    pub(super) fn begin(
        &mut self,
        scope: Scope,
        queue: QueueSender,
        speaker: &Speaker,
        connections: impl IntoIterator<Item = ConnectionId>,
    ) {
        let mut tap = Tap {
            scope,
            connections: BTreeMap::new(),
            queue,
        };
        for id in connections {
            tap.note(speaker, id);
        }
        self.taps.push(tap);
    }

    /// Call it before the machine takes or gives octets of a connection.
    pub(super) fn note(&mut self, speaker: &Speaker, id: ConnectionId) {
        for tap in &mut self.taps {
            tap.note(speaker, id);
        }
    }

    /// Octets were received, and the machine has taken them: an OPEN among them may have settled
    /// how the UPDATEs after it are read.
    pub(super) fn received(&mut self, speaker: &Speaker, id: ConnectionId, octets: &[u8]) {
        self.take(speaker, id, false, octets);
    }

    /// Octets are being sent.
    pub(super) fn sent(&mut self, speaker: &Speaker, id: ConnectionId, octets: &[u8]) {
        self.take(speaker, id, true, octets);
    }

    fn take(&mut self, speaker: &Speaker, id: ConnectionId, sent: bool, octets: &[u8]) {
        self.taps.retain(|tap| !tap.queue.items.is_closed());
        self.note(speaker, id);
        for tap in &mut self.taps {
            tap.take(id, sent, octets);
            tap.connections.retain(|id, _| !self.closed.contains(id));
        }
        self.closed.clear();
    }

    /// The connection is closed.
    pub(super) fn closed(&mut self, id: ConnectionId) {
        if self
            .taps
            .iter()
            .any(|tap| tap.connections.contains_key(&id))
        {
            self.closed.push(id);
        }
    }

    /// An event of the machine.
    pub(super) fn event(&self, speaker: &Speaker, event: &Event) {
        let monitors = self.taps.iter();
        for tap in monitors.filter(|tap| matches!(tap.scope, Scope::Monitor)) {
            let item = match event {
                Event::Established { peer, .. } => {
                    let up = speaker.session_up(peer);
                    up.map(|up| Item::Up(since_1970(), Box::new(up)))
                }
                Event::Down {
                    peer,
                    cause,
                    was_established: true,
                    ..
                } => Some(Item::Down(
                    since_1970(),
                    peer.clone(),
                    Box::new(cause.clone()),
                )),
                _ => None,
            };
            if let Some(item) = item {
                tap.queue.send(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Asn, Family, end_of_rib, keepalive};

    fn session() -> CapturedSession {
        CapturedSession {
            peer: "rack@10.0.0.1".to_owned(),
            template: Some("rack".to_owned()),
            local: "10.0.0.11:179".parse().expect("an address"),
            remote: "10.0.0.1:179".parse().expect("an address"),
            local_asn: Asn(64512),
            remote_asn: Asn(64513),
            four_octet_asn: true,
        }
    }

    fn tap(scope: Scope, max: usize) -> (Tap, Queue) {
        let (sender, queue) = Queue::new(max);
        let connection = Connection {
            session: session(),
            received: Splitter::default(),
            sent: Splitter::default(),
        };
        let tap = Tap {
            scope,
            connections: [(ConnectionId::Dialled(1), connection)].into(),
            queue: sender,
        };
        (tap, queue)
    }

    #[test]
    fn a_template_includes_its_neighbors() {
        let includes = |name: &str| Scope::Peer(name.to_owned()).includes(&session());
        assert!(includes("rack") && includes("rack@10.0.0.1") && !includes("tor"));
    }

    #[tokio::test]
    async fn items_beyond_the_limit_are_counted_and_the_next_ones_arrive() {
        let max = 10 * (19 + ITEM_OVERHEAD);
        let (mut tap, mut queue) = tap(Scope::Peer("rack".to_owned()), max);
        for _ in 0..17 {
            tap.take(ConnectionId::Dialled(1), true, &keepalive());
        }
        assert_eq!((queue.take_missed(), queue.take_missed()), (7, 0));
        for _ in 0..10 {
            let item = queue.recv().await;
            assert!(matches!(item, Some(Item::Message(_))), "{item:?}");
        }
        tap.take(ConnectionId::Dialled(1), false, &keepalive());
        let Some(Item::Message(message)) = queue.recv().await else {
            panic!("no message");
        };
        assert!(!message.sent && message.octets == keepalive());
        // Of a connection of another peer.
        tap.take(ConnectionId::Dialled(2), false, &keepalive());
        drop(tap);
        assert!(queue.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_monitor_gets_updates_only() {
        let (mut tap, mut queue) = tap(Scope::Monitor, 4096);
        let update = end_of_rib(Family::IPV4_UNICAST);
        let octets = [keepalive(), update.clone(), keepalive()].concat();
        tap.take(ConnectionId::Dialled(1), false, &octets);
        drop(tap);
        let Some(Item::Message(message)) = queue.recv().await else {
            panic!("no message");
        };
        assert_eq!(message.octets, update);
        assert!(queue.recv().await.is_none());
    }
}
