//! What all peers of a speaker have in common, and what each of them writes its outputs to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::PeerConfig;
use crate::fsm::SpeakerConfig;
use crate::fsm::events::{ConnectionId, Event, Output};
use crate::fsm::timers::earlier;
use crate::rib::{AdjRibOut, PeerIndex};
use crate::wire::Notification;

/// How long a NOTIFICATION may take to reach the peer before the connection is cut.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Connections turned away that get to know why at the same time: from one address, and in all.
const DISMISSED_PER_ADDRESS: usize = 4;
const DISMISSED_MAX: usize = 64;

/// A connection that has nothing left but its last words.
#[derive(Debug)]
struct Closing {
    queue: VecDeque<Bytes>,
    deadline: Instant,
    /// Where it came from, if it never was a peer's in earnest.
    dismissed: Option<IpAddr>,
}

/// The end of the whole speaker.
#[derive(Debug)]
pub(super) struct Stopping {
    /// When what is still unsent no longer counts; `None` once that has passed.
    pub(super) deadline: Option<Instant>,
    /// When everything is over, whoever is still to be heard.
    pub(super) end: Instant,
    /// For the peers' operators, where their configuration says nothing else.
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: SpeakerConfig,
    pub(super) rib: AdjRibOut,
    pub(super) rng: fastrand::Rng,
    pub(super) outputs: VecDeque<Output>,
    /// Whose connection it is, dials included.
    pub(super) owners: HashMap<ConnectionId, PeerIndex>,
    pub(super) stopping: Option<Stopping>,
    /// Whether peers keep which of our prefixes routers send back.
    pub(super) watches_paths: bool,
    /// When the speaker began.
    pub(super) started: Option<Instant>,
    /// The highest number in the journal of any peer that is gone.
    pub(super) journalled: u64,
    closing: BTreeMap<ConnectionId, Closing>,
    dials: u64,
}

impl Shared {
    pub(super) fn new(config: SpeakerConfig) -> Self {
        Self {
            config,
            rib: AdjRibOut::new(),
            rng: fastrand::Rng::with_seed(config.seed),
            outputs: VecDeque::new(),
            owners: HashMap::new(),
            stopping: None,
            watches_paths: false,
            started: None,
            journalled: 0,
            closing: BTreeMap::new(),
            dials: 0,
        }
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(super) fn dial(
        &mut self,
        peer: PeerIndex,
        config: &PeerConfig,
        remote: SocketAddr,
    ) -> ConnectionId {
        let connection = ConnectionId::Dialled(self.dials);
        self.dials += 1;
        self.owners.insert(connection, peer);
        self.outputs.push_back(Output::Connect {
            connection,
            peer: config.name.clone(),
            remote,
            source: config.transport.source_address,
            options: config.into(),
        });
        connection
    }

    /// Cuts a connection.
    pub(super) fn close(&mut self, connection: ConnectionId) {
        self.owners.remove(&connection);
        self.closing.remove(&connection);
        self.outputs.push_back(Output::Close { connection });
    }

    /// Ends a connection so that the peer gets to know why.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        mut queue: VecDeque<Bytes>,
        notification: &Notification,
    ) {
        queue.push_back(notification.encode());
        self.finish_silently(now, connection, queue);
    }

    /// Ends a connection that isn't wanted: so that the peer gets to know why, unless there are many
    /// of them, which would pile up, or the speaker is about to end. Says whether it gets to know.
    pub(super) fn dismiss(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        remote: IpAddr,
        queue: VecDeque<Bytes>,
        notification: &Notification,
    ) -> bool {
        let dismissed = || {
            let closing = self.closing.values();
            closing.filter_map(|closing| closing.dismissed)
        };
        let here = dismissed().filter(|address| *address == remote).count();
        let many = here >= DISMISSED_PER_ADDRESS || dismissed().count() >= DISMISSED_MAX;
        // The end waits for nobody who comes now.
        if many || self.stopping.is_some() {
            self.close(connection);
            return false;
        }
        self.finish(now, connection, queue, notification);
        if let Some(closing) = self.closing.get_mut(&connection) {
            closing.dismissed = Some(remote);
        }
        true
    }

    /// Ends a connection without a word, but not before everything sent has arrived.
    pub(super) fn finish_silently(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        queue: VecDeque<Bytes>,
    ) {
        self.owners.remove(&connection);
        self.closing.insert(
            connection,
            Closing {
                queue,
                deadline: now + LINGER,
                dismissed: None,
            },
        );
        self.outputs.push_back(Output::Finish { connection });
    }

    /// Octets of a connection that is being closed; `None` if it isn't, or has sent all.
    pub(super) fn transmit_closing(&mut self, connection: ConnectionId) -> Option<Bytes> {
        self.closing.get_mut(&connection)?.queue.pop_front()
    }

    /// The peer closed its end too.
    pub(super) fn closed(&mut self, connection: ConnectionId) {
        if self.closing.contains_key(&connection) {
            self.close(connection);
        }
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        let late: Vec<ConnectionId> = self
            .closing
            .iter()
            .filter(|(_, closing)| closing.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for connection in late {
            self.close(connection);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let closing = self.closing.values().map(|closing| closing.deadline).min();
        earlier(
            earlier(closing, self.rib.poll_timeout()),
            self.stopping
                .as_ref()
                .and_then(|stopping| stopping.deadline),
        )
    }

    /// No connection is left, not even a closing one.
    pub(super) fn silent(&self) -> bool {
        self.owners.is_empty() && self.closing.is_empty()
    }
}
