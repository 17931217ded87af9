//! State that all peers of a speaker share, and the queue of outputs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;

use super::SpeakerConfig;
use super::events::{Event, Output};
use super::link::LinkState;
use super::shutdown::ShutdownProgress;
use super::tcp::ConnectionId;
use super::timers::{LINGER, earlier};
use crate::config::PeerConfig;
use crate::rib::{AdjRibOut, PeerIndex};
use crate::wire::Notification;

/// Most rejected connections that wait for their NOTIFICATION to be sent: from one address, and in
/// all.
const DISMISSED_PER_ADDRESS: usize = 4;
const DISMISSED_MAX: usize = 64;

/// A connection that is being closed.
#[derive(Debug)]
struct Closing {
    /// What is still to be sent.
    queue: VecDeque<Bytes>,
    deadline: Instant,
    /// The address of a connection that was rejected or superseded.
    dismissed: Option<IpAddr>,
}

/// State that all peers of a speaker share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: SpeakerConfig,
    pub(super) rib: AdjRibOut,
    pub(super) rng: fastrand::Rng,
    pub(super) outputs: VecDeque<Output>,
    /// The peer of each connection, attempts included.
    pub(super) owners: HashMap<ConnectionId, PeerIndex>,
    /// `None` until the speaker shuts down.
    pub(super) shutdown: Option<ShutdownProgress>,
    /// Whether peers track which of our prefixes routers send back.
    pub(super) tracks_other_paths: bool,
    /// When the speaker started.
    pub(super) started: Option<Instant>,
    /// The highest number in the journal of any peer that was removed.
    pub(super) journalled: u64,
    /// The interfaces that lead to unnumbered peers, by name.
    pub(super) links: BTreeMap<String, LinkState>,
    closing: BTreeMap<ConnectionId, Closing>,
    /// Number of attempts so far.
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
            shutdown: None,
            tracks_other_paths: false,
            started: None,
            journalled: 0,
            links: BTreeMap::new(),
            closing: BTreeMap::new(),
            dials: 0,
        }
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Starts an attempt to connect.
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

    /// Closes a connection at once.
    pub(super) fn close(&mut self, connection: ConnectionId) {
        self.owners.remove(&connection);
        self.closing.remove(&connection);
        self.outputs.push_back(Output::Close { connection });
    }

    /// Closes a connection after `queue` and this NOTIFICATION are sent.
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

    /// Closes a connection that never carried a session, with this NOTIFICATION unless many such
    /// connections are being closed or the speaker shuts down. Returns whether it is sent.
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
        if many || self.is_shutting_down() {
            self.close(connection);
            return false;
        }
        self.finish(now, connection, queue, notification);
        if let Some(closing) = self.closing.get_mut(&connection) {
            closing.dismissed = Some(remote);
        }
        true
    }

    /// Closes a connection without a NOTIFICATION after everything sent has arrived.
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

    /// Octets to send on a connection that is being closed.
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

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let closing = self.closing.values().map(|closing| closing.deadline).min();
        let shutdown = self.shutdown.as_ref();
        [
            closing,
            self.rib.poll_timeout(),
            shutdown.and_then(ShutdownProgress::poll_timeout),
        ]
        .into_iter()
        .fold(None, earlier)
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// The shutdown message for peers whose configuration sets no other.
    pub(super) fn shutdown_text(&self) -> &str {
        self.shutdown.as_ref().map_or("", ShutdownProgress::text)
    }

    /// Whether no connection is left, not even one that is being closed.
    pub(super) fn is_disconnected(&self) -> bool {
        self.owners.is_empty() && self.closing.is_empty()
    }
}
