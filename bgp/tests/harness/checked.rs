//! A speaker that asserts the poll contract of the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::time::Instant;

use bytes::Bytes;
use ferrolb_bgp::fsm::{ConnectionId, Event, Input, Output, Speaker, SpeakerConfig, State};

/// A speaker that panics if it violates the poll contract. Call [`CheckedSpeaker::poll_output`]
/// until it returns `None` after each other call.
pub(crate) struct CheckedSpeaker {
    speaker: Speaker,
    /// Connections that the speaker dialled or was given, and has not closed.
    open: BTreeSet<ConnectionId>,
    closed: BTreeSet<ConnectionId>,
    /// The state of each peer according to the events.
    states: BTreeMap<String, State>,
    /// Peers to be removed, and when, if the outputs have not all been read.
    removed: Vec<(String, Instant)>,
    /// The time of a timeout, if its outputs have not all been read.
    timeout: Option<Instant>,
    stopped: bool,
}

impl CheckedSpeaker {
    pub(crate) fn new(config: SpeakerConfig) -> Self {
        Self {
            speaker: Speaker::new(config),
            open: BTreeSet::new(),
            closed: BTreeSet::new(),
            states: BTreeMap::new(),
            removed: Vec::new(),
            timeout: None,
            stopped: false,
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        match &input {
            Input::Accepted { connection, .. } => {
                self.open.insert(*connection);
                self.closed.remove(connection);
            }
            Input::RemovePeer(peer) => self.removed.push((peer.clone(), now)),
            Input::Timeout => self.timeout = Some(now),
            _ => {}
        }
        self.speaker.handle(now, input);
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        let Some(output) = self.speaker.poll_output() else {
            for (peer, now) in self.removed.drain(..) {
                if self.speaker.peer(now, &peer).is_none() {
                    self.states.remove(&peer);
                }
            }
            if let Some(now) = self.timeout.take() {
                let next = self.speaker.poll_timeout();
                assert!(next.is_none_or(|at| at > now), "a timer remains due");
            }
            return None;
        };
        match &output {
            Output::Connect { connection, .. } => {
                assert!(
                    self.open.insert(*connection) && !self.closed.contains(connection),
                    "{connection:?} is used twice"
                );
            }
            Output::Close { connection } => {
                assert!(
                    self.open.remove(connection),
                    "{connection:?} is closed but was not open"
                );
                self.closed.insert(*connection);
            }
            Output::Event(Event::StateChanged { peer, from, to }) => {
                let before = self.states.insert(peer.clone(), *to).unwrap_or_default();
                assert_eq!(before, *from, "previous state of {peer}");
                assert_ne!(from, to);
            }
            Output::Stopped => self.stopped = true,
            _ => {}
        }
        Some(output)
    }

    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        max: usize,
    ) -> Option<Bytes> {
        let octets = self.speaker.poll_transmit(now, connection, max)?;
        assert!(
            !self.closed.contains(&connection),
            "octets for {connection:?}, which is closed"
        );
        assert!(
            octets.len() <= max,
            "{} octets, at most {max}",
            octets.len()
        );
        Some(octets)
    }

    /// Whether the speaker has finished its shutdown.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Asserts that the states reported by events are those of the status.
    pub(crate) fn assert_states(&self, now: Instant) {
        for peer in self.speaker.status(now) {
            let reported = self.states.get(&peer.name).copied().unwrap_or_default();
            assert_eq!(peer.state, reported, "state of {}", peer.name);
        }
    }

    /// Asserts that a stopped speaker has no timer and no open connection.
    pub(crate) fn assert_nothing_left(&self) {
        assert!(self.stopped);
        assert_eq!(self.speaker.poll_timeout(), None);
        assert!(self.open.is_empty(), "never closed: {:?}", self.open);
    }
}

impl Deref for CheckedSpeaker {
    type Target = Speaker;

    fn deref(&self) -> &Speaker {
        &self.speaker
    }
}
