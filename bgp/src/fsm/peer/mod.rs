//! One configured peer: its two connection slots, and when to dial.

mod bfd_guard;
pub(super) mod capability_fallback;
mod collision;
pub(super) mod connection;
mod graceful_restart;
mod lifecycle;
mod paths;
mod refused;
mod shutdown;
mod slots;
mod status;

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

use crate::config::PeerConfig;
use crate::fsm::events::{ConnectionId, Event, IoFailure, Md5Drops, State};
use crate::fsm::history::Record;
use crate::fsm::history::cause::Cause;
use crate::fsm::history::journal::JournalEvent;
use crate::fsm::history::status::MessageCounters;
use crate::fsm::loop_check::looped;
use crate::fsm::other_paths::Returned;
use crate::fsm::peer::bfd_guard::Watch;
use crate::fsm::peer::capability_fallback::Refusals;
use crate::fsm::peer::connection::{Connection, Effect, Ends};
use crate::fsm::peer::lifecycle::Ending;
use crate::fsm::peer::shutdown::Leaving;
use crate::fsm::peer::slots::Slots;
use crate::fsm::shared::Shared;
use crate::fsm::stall::Standstill;
use crate::fsm::timers::{Backoff, earlier};
use crate::rib::PeerIndex;
use crate::wire::{Message, MessageType, Notification, Update, subcode};

/// How long dialling may take.
const CONNECT_TIME: Duration = Duration::from_secs(20);

/// What the peer does about getting a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    /// Nothing: there is one.
    Rest,
    /// Backing off after an error; the peer's own attempts are refused too.
    Idle { until: Instant },
    /// Waiting for the peer, and until when (if at all) for our next attempt.
    Active { until: Option<Instant> },
    /// Dialling.
    Connect {
        connection: ConnectionId,
        deadline: Instant,
    },
    /// Not before the configuration changes.
    Never,
}

/// Where a dynamic neighbour comes from.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) index: PeerIndex,
    pub(super) name: String,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) config: PeerConfig,
    /// Only dynamic neighbours have one.
    pub(super) template: Option<Template>,
    index: PeerIndex,
    slots: Slots,
    dial: Dial,
    backoff: Backoff,
    refusals: Refusals,
    /// The state last told, and since when.
    state: State,
    since: Instant,
    record: Record,
    sent: MessageCounters,
    received: MessageCounters,
    established_count: u64,
    /// Announcements of past sessions that fitted no message.
    left_out: u64,
    /// Whether the present session's first one was reported.
    left_out_reported: bool,
    watch: Watch,
    standstill: Standstill,
    returned: Returned,
    /// Since the latest dial began.
    md5_drops: Md5Drops,
    /// The speaker ends.
    leaving: Option<Leaving>,
}

impl Peer {
    pub(super) fn new(now: Instant, index: PeerIndex, config: PeerConfig, shared: &Shared) -> Self {
        Self {
            config,
            template: None,
            index,
            slots: Slots::default(),
            dial: Dial::Never,
            backoff: Backoff::default(),
            refusals: Refusals::default(),
            state: State::Idle,
            since: now,
            record: Record::after(shared.journalled),
            sent: MessageCounters::default(),
            received: MessageCounters::default(),
            established_count: 0,
            left_out: 0,
            left_out_reported: false,
            watch: Watch::default(),
            standstill: Standstill::default(),
            returned: Returned::new(shared.watches_paths),
            md5_drops: Md5Drops::default(),
            leaving: None,
        }
    }

    /// Begins, or begins again after a wait (RFC 4271 §8.2.2, events 1 and 4).
    pub(super) fn start(&mut self, now: Instant, shared: &mut Shared) {
        self.watch(now, shared);
        self.md5_drops = Md5Drops::default();
        self.dial = match self.config.dials() {
            None => Dial::Active { until: None },
            Some(remote) => Dial::Connect {
                connection: shared.dial(self.index, &self.config, remote),
                deadline: now + CONNECT_TIME,
            },
        };
        self.tell_state(now, shared);
    }

    /// Whether it is after a session at all.
    pub(super) fn runs(&self) -> bool {
        self.dial != Dial::Never
    }

    /// Takes a changed configuration that asks for no new session.
    pub(super) fn adjust(&mut self, now: Instant, config: PeerConfig, shared: &mut Shared) {
        let passive_changed = config.dials() != self.config.dials();
        if self.config != config {
            let event = JournalEvent::Configured { reset: false };
            self.record.journal.note(now, event);
            self.refusals.reset();
        }
        let old = std::mem::replace(&mut self.config, config);
        for connection in self.slots.iter_mut() {
            connection.send_hold_time = self.config.timers.send_hold_time;
        }
        self.watch(now, shared);
        let rekeyed = self.rekey(&old, shared);
        if !passive_changed && !rekeyed {
            return;
        }
        match self.dial {
            Dial::Connect { connection, .. } if self.config.dials().is_some() => {
                shared.close(connection);
                self.start(now, shared);
            }
            Dial::Connect { connection, .. } => {
                shared.close(connection);
                self.dial = if self.slots.best().is_some() {
                    Dial::Rest
                } else {
                    Dial::Active { until: None }
                };
                self.tell_state(now, shared);
            }
            Dial::Active { .. } if passive_changed => self.start(now, shared),
            Dial::Active { .. } | Dial::Rest | Dial::Idle { .. } | Dial::Never => {}
        }
    }

    /// Takes a configuration that needs a new session, and asks for that: now, or soon if there was one.
    pub(super) fn reconfigure(&mut self, now: Instant, config: PeerConfig, shared: &mut Shared) {
        let reset = self.runs();
        self.stop_dialling(shared);
        self.dial = Dial::Rest;
        let old = std::mem::replace(&mut self.config, config);
        let event = JournalEvent::Configured { reset };
        self.record.journal.note(now, event);
        self.backoff.reset();
        self.refusals.reset();
        let notification = Notification::cease(if same_neighbour(&old, &self.config) {
            subcode::cease::OTHER_CONFIGURATION_CHANGE
        } else {
            // Who knows us by what we were waits for nobody.
            subcode::cease::PEER_DE_CONFIGURED
        });
        for id in self.slots.ids() {
            self.end(now, id, Ending::Notify(notification.clone()), shared);
        }
        match self.dial {
            // The peer needs a moment to see the end of the old session, but is welcome.
            Dial::Idle { until } if self.config.dials().is_some() => {
                self.dial = Dial::Active { until: Some(until) };
                self.tell_state(now, shared);
            }
            _ => self.start(now, shared),
        }
    }

    /// Ends it for good. If a peer of its name comes again, its journal goes on from here.
    pub(super) fn remove(mut self, now: Instant, notification: &Notification, shared: &mut Shared) {
        self.stop(now, notification, shared);
        shared.journalled = shared.journalled.max(self.record.journal.latest());
        shared.rib.remove_peer(self.index);
    }

    /// Ends all connections, and tries no more (RFC 4271 §8.2.2, event 2).
    pub(super) fn stop(&mut self, now: Instant, notification: &Notification, shared: &mut Shared) {
        self.stop_dialling(shared);
        self.unwatch(shared);
        self.dial = Dial::Never;
        for id in self.slots.ids() {
            self.end(now, id, Ending::Notify(notification.clone()), shared);
        }
        self.tell_state(now, shared);
    }

    /// The configuration can't be put into effect.
    pub(super) fn unusable(&mut self, now: Instant, reason: String, shared: &mut Shared) {
        self.stop(
            now,
            &Notification::cease(subcode::cease::OUT_OF_RESOURCES),
            shared,
        );
        self.down(now, Cause::Unusable { reason }, false, None, shared);
    }

    pub(super) fn connected(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ends: Ends,
        shared: &mut Shared,
    ) {
        if !matches!(self.dial, Dial::Connect { connection, .. } if connection == id) {
            return;
        }
        self.dial = Dial::Rest;
        let fallback = shared.config.router_id_fallback;
        let restart = self.restart_capability(now, shared);
        let refusals = &self.refusals;
        let connection = Connection::new(now, id, ends, &self.config, fallback, restart, refusals);
        self.record.open_sent(now, &connection.open);
        self.slots.dialled = Some(connection);
        self.tell_state(now, shared);
    }

    pub(super) fn md5_dropped(&mut self, id: ConnectionId, drops: Md5Drops) {
        if matches!(self.dial, Dial::Connect { connection, .. } if connection == id) {
            self.md5_drops = drops;
        }
    }

    pub(super) fn connect_failed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        error: IoFailure,
        shared: &mut Shared,
    ) {
        if !matches!(self.dial, Dial::Connect { connection, .. } if connection == id) {
            return;
        }
        shared.close(id);
        self.dial = Dial::Rest;
        let cause = Cause::ConnectFailed {
            error,
            md5: self.config.transport.password.is_some(),
            drops: self.md5_drops,
        };
        if self.slots.best().is_some() {
            self.connection_closed(now, id, cause, shared);
        } else {
            self.retry(now, cause, false, shared);
        }
        self.tell_state(now, shared);
    }

    pub(super) fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        octets: &[u8],
        shared: &mut Shared,
    ) {
        self.standstill.look(now, self.slots.deadline());
        if let Some(connection) = self.slots.get(id) {
            connection.push(octets);
        }
        while let Some(connection) = self.slots.get(id) {
            let Some(arrival) = connection.next() else {
                break;
            };
            if let Ok(message) = &arrival {
                count(&mut self.received, message.kind());
                if let Message::Open(open) = message {
                    self.record.open_received(now, open);
                }
            }
            connection.held = self.watch.holds(&self.config);
            let effect = connection.step(now, arrival, &self.config, &mut shared.rng);
            self.apply(now, id, effect, shared);
            self.tell_state(now, shared);
        }
    }

    pub(super) fn closed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        error: Option<IoFailure>,
        shared: &mut Shared,
    ) {
        self.standstill.look(now, self.slots.deadline());
        if let Some(connection) = self.slots.get(id) {
            let cause = Cause::Closed {
                state: connection.state(),
                error,
            };
            self.end(now, id, Ending::Silent(cause), shared);
        }
        self.tell_state(now, shared);
    }

    pub(super) fn timeout(&mut self, now: Instant, shared: &mut Shared) {
        match self.dial {
            Dial::Idle { until } | Dial::Active { until: Some(until) } if until <= now => {
                self.start(now, shared);
            }
            Dial::Connect {
                connection,
                deadline,
            } if deadline <= now => {
                let error = IoFailure {
                    kind: io::ErrorKind::TimedOut,
                    text: format!("no answer within {} s", CONNECT_TIME.as_secs()),
                };
                self.connect_failed(now, connection, error, shared);
            }
            _ => {}
        }
        self.standstill.look(now, self.slots.deadline());
        for id in self.slots.ids() {
            while let Some(connection) = self.slots.get(id) {
                let Some(expired) = connection.expired(now) else {
                    break;
                };
                let effect = connection.expire(now, expired, &mut shared.rng);
                self.apply(now, id, effect, shared);
            }
        }
        self.leave(now, shared);
        self.tell_state(now, shared);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let dial = match self.dial {
            Dial::Rest | Dial::Never => None,
            Dial::Idle { until } => Some(until),
            Dial::Active { until } => until,
            Dial::Connect { deadline, .. } => Some(deadline),
        };
        self.slots
            .iter()
            .map(Connection::deadline)
            .fold(earlier(dial, self.forgotten_at()), earlier)
    }

    pub(super) fn transmit(
        &mut self,
        now: Instant,
        id: ConnectionId,
        max: usize,
        shared: &mut Shared,
    ) -> Option<Bytes> {
        let connection = self.slots.get(id)?;
        let own = connection.transmit(now, &mut self.sent, &mut shared.rng);
        if own.is_some() || connection.state() != State::Established {
            return own;
        }
        let updates = shared.rib.poll_transmit(now, self.index, max);
        let left_out = shared.rib.counters(self.index).first_left_out;
        if let Some(prefix) = left_out.filter(|_| !self.left_out_reported) {
            self.left_out_reported = true;
            let max_length = connection.max_length_to_peer();
            self.record.route_too_long(now, prefix, max_length);
            shared.emit(Event::RouteTooLong {
                peer: self.config.name.clone(),
                prefix,
                max_length,
            });
        }
        if updates.is_some() {
            connection.transmitted(now, &mut shared.rng);
        } else if self.leaving.is_some() {
            self.leave(now, shared);
            return shared.transmit_closing(id);
        } else {
            return connection.ask_again(&mut self.sent);
        }
        updates
    }

    fn apply(&mut self, now: Instant, id: ConnectionId, effect: Effect, shared: &mut Shared) {
        match effect {
            Effect::None => {}
            Effect::Opened => {
                self.tell_waiting(now, shared);
                self.collide(now, id, shared);
            }
            Effect::Established => self.established(now, id, shared),
            Effect::Update(update) => self.updated(now, id, update, shared),
            Effect::Refresh(family) => shared.rib.refresh(self.index, family),
            Effect::Notify(notification) => {
                self.end(now, id, Ending::Notify(notification), shared);
            }
            Effect::Notified(notification) => {
                self.refused(now, id, &notification, shared);
                self.end(
                    now,
                    id,
                    Ending::Silent(Cause::Received(notification)),
                    shared,
                );
            }
            Effect::Stuck => {
                self.end(now, id, Ending::Silent(Cause::SendHoldTimerExpired), shared);
            }
        }
    }

    fn updated(
        &mut self,
        now: Instant,
        id: ConnectionId,
        update: Box<Update>,
        shared: &mut Shared,
    ) {
        if let Some(suppressed) = self.record.update(now, &update) {
            shared.emit(Event::UpdateErrors {
                peer: self.config.name.clone(),
                errors: update.errors_in_words(),
                octets: update.malformed.clone().unwrap_or_default(),
                suppressed,
            });
        }
        if let Some(connection) = self.slots.get(id) {
            let own = connection.own_addresses(&self.config);
            let looped = looped(&update, self.config.local_asn, &own);
            self.record.tally.looped(looped);
            let announced = |prefix: &IpNet| shared.rib.is_desired(self.index, prefix);
            self.returned.update(&update, &own, announced);
        }
        if let Err(excess) = self.record.tally.limit(&update, self.config.prefix_limit) {
            return self.end(now, id, Ending::Notify(excess), shared);
        }
        if self.config.receive {
            let peer = self.config.name.clone();
            shared.emit(Event::Received { peer, update });
        }
    }

    fn tell_state(&mut self, now: Instant, shared: &mut Shared) {
        let to = self.slots.best().map_or(
            match self.dial {
                Dial::Connect { .. } => State::Connect,
                Dial::Active { .. } => State::Active,
                Dial::Rest | Dial::Idle { .. } | Dial::Never => State::Idle,
            },
            Connection::state,
        );
        if to != self.state {
            let from = std::mem::replace(&mut self.state, to);
            self.since = now;
            if from.max(to) > State::Connect {
                self.record
                    .journal
                    .note(now, JournalEvent::State { from, to });
            }
            let peer = self.config.name.clone();
            shared.emit(Event::StateChanged { peer, from, to });
        }
    }
}

/// Whether we are the same to the router, and it to us: then a new session takes the old one's place. Ports tell nobody apart.
fn same_neighbour(old: &PeerConfig, new: &PeerConfig) -> bool {
    old.remote.network() == new.remote.network()
        && old.transport.source_address == new.transport.source_address
        && old.local_asn == new.local_asn
}

fn count(counters: &mut MessageCounters, kind: MessageType) {
    match kind {
        MessageType::OPEN => counters.open += 1,
        MessageType::UPDATE => counters.update += 1,
        MessageType::NOTIFICATION => counters.notification += 1,
        MessageType::KEEPALIVE => counters.keepalive += 1,
        MessageType::ROUTE_REFRESH => counters.route_refresh += 1,
        _ => {}
    }
}
