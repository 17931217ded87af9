//! Inputs about a peer's connections, and what their messages and timers mean for the peer.

use std::time::Instant;

use bytes::Bytes;
use ipnet::IpNet;

use crate::fsm::events::Event;
use crate::fsm::history::cause::Cause;
use crate::fsm::history::journal::JournalEvent;
use crate::fsm::history::summary::CapabilitySummary;
use crate::fsm::loop_check::count_looped;
use crate::fsm::negotiate::our_open;
use crate::fsm::peer::Peer;
use crate::fsm::peer::collision::{self, Resolution};
use crate::fsm::peer::connection::{Connection, Effect};
use crate::fsm::peer::lifecycle::Ending;
use crate::fsm::shared::Shared;
use crate::fsm::state::State;
use crate::fsm::tcp::SocketPair;
use crate::fsm::tcp::{ConnectionId, IoFailure, Md5Drops, RejectReason};
use crate::wire::{Message, MessageType, Notification, Update, subcode};

impl Peer {
    /// The attempt to connect succeeded.
    pub(in crate::fsm) fn connected(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ends: SocketPair,
        shared: &mut Shared,
    ) {
        if !self.dialer.finish(id) {
            return;
        }
        let connection = self.open(now, id, ends, shared);
        self.slots.put_dialled(connection);
        self.emit_state_change(now, shared);
    }

    pub(in crate::fsm) fn md5_dropped(&mut self, id: ConnectionId, drops: Md5Drops) {
        self.dialer.md5_dropped(id, drops);
    }

    /// The attempt to connect failed.
    pub(in crate::fsm) fn connect_failed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        error: IoFailure,
        shared: &mut Shared,
    ) {
        let cause = Cause::ConnectFailed {
            error,
            md5: self.config.transport.password.is_some(),
            drops: self.dialer.md5_drops(),
        };
        self.attempt_failed(now, id, cause, shared);
        self.emit_state_change(now, shared);
    }

    /// Closes the attempt with this number. Returns `false` if it is not the present one.
    fn attempt_failed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        cause: Cause,
        shared: &mut Shared,
    ) -> bool {
        if !self.dialer.finish(id) {
            return false;
        }
        shared.close(id);
        if self.slots.is_empty() {
            self.retry(now, cause, false, shared);
        } else {
            self.connection_closed(now, id, cause, shared);
        }
        true
    }

    /// This connection, or attempt, leads to ourselves.
    pub(in crate::fsm) fn on_self_connection(
        &mut self,
        now: Instant,
        id: ConnectionId,
        shared: &mut Shared,
    ) {
        if !self.attempt_failed(now, id, Cause::OwnAddress, shared) {
            self.end(now, id, Ending::Silent(Cause::OwnAddress), shared);
        }
        self.emit_state_change(now, shared);
    }

    /// The connection with these ends.
    pub(in crate::fsm) fn connection_between(&self, ends: SocketPair) -> Option<ConnectionId> {
        self.slots.between(ends).map(Connection::id)
    }

    /// Whether a connection of the peer is accepted now.
    pub(in crate::fsm) fn accepts(&self, now: Instant) -> Result<(), RejectReason> {
        collision::admit(&self.slots, &self.dialer, now)
    }

    /// Whether the peer has neither an accepted connection nor a session. Among several peers with
    /// one address, the next connection belongs to such a peer.
    pub(in crate::fsm) fn expects_connection(&self) -> bool {
        self.slots.accepted().is_none() && self.slots.established().is_none()
    }

    /// A connection of the peer was accepted.
    pub(in crate::fsm) fn accepted(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ends: SocketPair,
        shared: &mut Shared,
    ) {
        if let Some(older) = self.slots.take_waiting() {
            self.supersede(now, older, shared);
        }
        self.dialer.accepted();
        shared.owners.insert(id, self.index);
        self.request_bfd(now, shared);
        let connection = self.open(now, id, ends, shared);
        self.slots.put_accepted(connection);
        self.emit_state_change(now, shared);
    }

    /// Ends an accepted connection without the peer's OPEN.
    pub(super) fn supersede(&mut self, now: Instant, older: Connection, shared: &mut Shared) {
        let notification = Notification::cease(subcode::cease::CONNECTION_COLLISION_RESOLUTION);
        let (id, remote) = (older.id(), older.ends().remote.ip());
        if shared.dismiss(now, id, remote, older.into_queue(), &notification) {
            self.history.message_sent(MessageType::NOTIFICATION);
        }
    }

    /// A connection with our OPEN on it.
    fn open(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ends: SocketPair,
        shared: &Shared,
    ) -> Connection {
        let ends = ends.canonical();
        let config = &self.config;
        let router_id = config.router_id.unwrap_or(shared.config.router_id_fallback);
        let restart = self.restart_capability(now, shared);
        let open = our_open(config, router_id, ends.local.is_ipv6(), restart);
        let open = self.fallback.apply(open);
        self.history.open_sent(now, &open);
        Connection::new(now, id, ends, open, config.timers.send_hold_time)
    }

    /// Octets arrived.
    pub(in crate::fsm) fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        octets: &[u8],
        shared: &mut Shared,
    ) {
        self.detect_stall(now);
        if let Some(connection) = self.slots.get(id) {
            connection.push(octets);
        }
        while let Some(connection) = self.slots.get(id) {
            let Some(arrival) = connection.next() else {
                break;
            };
            if let Ok(message) = &arrival {
                self.history.message_received(message.kind());
                if let Message::Open(open) = message {
                    self.history.open_received(now, open);
                }
            }
            connection.set_waits_for_bfd(self.bfd.blocks(&self.config));
            let effect = connection.step(now, arrival, &self.config, &mut shared.rng);
            self.apply(now, id, effect, shared);
            self.emit_state_change(now, shared);
        }
    }

    /// The peer closed the connection, or it broke.
    pub(in crate::fsm) fn closed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        error: Option<IoFailure>,
        shared: &mut Shared,
    ) {
        self.detect_stall(now);
        if let Some(connection) = self.slots.get(id) {
            let cause = Cause::Closed {
                state: connection.state(),
                error,
            };
            self.end(now, id, Ending::Silent(cause), shared);
        }
        self.emit_state_change(now, shared);
    }

    /// Octets to send on a connection: its own messages first, then UPDATEs, then ROUTE-REFRESH.
    pub(in crate::fsm) fn transmit(
        &mut self,
        now: Instant,
        id: ConnectionId,
        max: usize,
        shared: &mut Shared,
    ) -> Option<Bytes> {
        let connection = self.slots.get(id)?;
        if let Some((kind, octets)) = connection.transmit(now, &mut shared.rng) {
            self.history.message_sent(kind);
            return Some(octets);
        }
        if connection.state() != State::Established {
            return None;
        }
        let updates = shared.rib.poll_transmit(now, self.index, max);
        if updates.is_some() {
            connection.transmitted(now, &mut shared.rng);
        }
        let max_length = connection.max_length_to_peer();
        if let Some(prefix) = shared.rib.counters(self.index).first_left_out
            && self.history.route_too_long(now, prefix, max_length)
        {
            shared.emit(Event::RouteTooLong {
                peer: self.config.name.clone(),
                prefix,
                max_length,
            });
        }
        if updates.is_some() {
            return updates;
        }
        if self.shutdown.in_progress() {
            self.end_if_flushed(now, shared);
            return shared.transmit_closing(id);
        }
        let refresh = self.slots.get(id)?.transmit_refresh()?;
        self.history.message_sent(MessageType::ROUTE_REFRESH);
        Some(refresh)
    }

    pub(super) fn apply(
        &mut self,
        now: Instant,
        id: ConnectionId,
        effect: Effect,
        shared: &mut Shared,
    ) {
        match effect {
            Effect::None => {}
            Effect::Opened => {
                self.report_waiting(now, shared);
                self.resolve_collision(now, id, shared);
            }
            Effect::Established => self.established(now, id, shared),
            Effect::Update(update) => self.updated(now, id, update, shared),
            Effect::Refresh(family) => shared.rib.refresh(self.index, family),
            Effect::Notify(notification) => {
                self.end(now, id, Ending::Notify(notification), shared);
            }
            Effect::Notified(notification) => {
                self.drop_rejected_capabilities(now, id, &notification, shared);
                let ending = Ending::Silent(Cause::Received(notification));
                self.end(now, id, ending, shared);
            }
            Effect::SendHoldTimerExpired => {
                self.end(now, id, Ending::Silent(Cause::SendHoldTimerExpired), shared);
            }
        }
    }

    /// A connection received a valid OPEN: ends the other, or this one, if they collide.
    fn resolve_collision(&mut self, now: Instant, id: ConnectionId, shared: &mut Shared) {
        match collision::resolve(&self.slots, id, self.config.local_asn, now) {
            Resolution::None => {}
            Resolution::Replace(session) => {
                self.end(now, session, Ending::Silent(Cause::Replaced), shared);
            }
            Resolution::Close(loser) => {
                let cease = subcode::cease::CONNECTION_COLLISION_RESOLUTION;
                let ending = Ending::Notify(Notification::cease(cease));
                self.end(now, loser, ending, shared);
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
        if let Some(suppressed) = self.history.update(now, &update) {
            shared.emit(Event::UpdateErrors {
                peer: self.config.name.clone(),
                errors: update.error_texts(),
                octets: update.malformed.clone().unwrap_or_default(),
                suppressed,
            });
        }
        if let Some(connection) = self.slots.get(id) {
            let own = connection.own_addresses(&self.config);
            let looped = count_looped(&update, self.config.local_asn, &own);
            self.history.updates_mut().looped(looped);
            let announced = |prefix: &IpNet| shared.rib.is_desired(self.index, prefix);
            self.other_paths.update(&update, &own, announced);
        }
        let limit = self.config.prefix_limit;
        if let Err(excess) = self.history.updates_mut().limit(&update, limit) {
            return self.end(now, id, Ending::Notify(excess), shared);
        }
        if self.config.receive {
            let peer = self.config.name.clone();
            shared.emit(Event::Received { peer, update });
        }
    }

    /// The peer ended a connection before it was established: if it rejected capabilities, the next
    /// OPEN leaves them out.
    fn drop_rejected_capabilities(
        &mut self,
        now: Instant,
        id: ConnectionId,
        notification: &Notification,
        shared: &mut Shared,
    ) {
        let connection = self.slots.get(id);
        let Some(connection) = connection.filter(|c| c.state() != State::Established) else {
            return;
        };
        let open = connection.open();
        let dropped = self.fallback.learn(notification, open, &self.config);
        if dropped.is_empty() {
            return;
        }
        let capabilities: Vec<_> = dropped.iter().map(CapabilitySummary::from).collect();
        let event = JournalEvent::CapabilitiesDropped {
            capabilities: capabilities.clone(),
        };
        self.note(now, event);
        shared.emit(Event::CapabilitiesDropped {
            peer: self.config.name.clone(),
            capabilities,
        });
    }
}
