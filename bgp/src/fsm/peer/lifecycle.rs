//! Connection lifecycle of one peer (RFC 4271 §8.2.2): established; ended, with the NOTIFICATION
//! that closes it; retry.

use std::time::{Duration, Instant};

use crate::config::HoldTime;
use crate::fsm::events::Event;
use crate::fsm::history::cause::{Cause, meaning};
use crate::fsm::history::journal::JournalEvent;
use crate::fsm::peer::Peer;
use crate::fsm::peer::connection::Connection;
use crate::fsm::peer::retry::{is_bad_peer_as, refuses_inbound};
use crate::fsm::peer::shutdown::needs_hard_reset;
use crate::fsm::shared::Shared;
use crate::fsm::tcp::ConnectionId;
use crate::wire::{ErrorCode, MessageType, Notification, subcode};

/// How a connection ends.
pub(super) enum Ending {
    /// With a NOTIFICATION from us.
    Notify(Notification),
    /// Without a NOTIFICATION from us.
    Silent(Cause),
    /// Closed by us without a NOTIFICATION, so that the peer keeps our routes (RFC 4724).
    GracefulRestart,
}

impl Peer {
    /// The session is established.
    pub(super) fn established(&mut self, now: Instant, id: ConnectionId, shared: &mut Shared) {
        if let Some(other) = self.slots.other(id).map(Connection::id) {
            let cease = subcode::cease::CONNECTION_COLLISION_RESOLUTION;
            let ending = Ending::Notify(Notification::cease(cease));
            self.end(now, other, ending, shared);
        }
        self.dialer.cancel(shared);
        self.established_count += 1;
        self.history.session_established();
        self.other_paths.clear();
        let Some(connection) = self.slots.get(id) else {
            return;
        };
        let Some(negotiated) = connection.agreement().cloned() else {
            return;
        };
        let Some(encoding) = connection.encoding(&self.config) else {
            return;
        };
        let event = JournalEvent::Established {
            negotiated: negotiated.clone(),
        };
        self.note(now, event);
        let peer = &self.config.name;
        shared.emit(Event::Established {
            peer: peer.clone(),
            negotiated,
        });
        for family in encoding.families_without_next_hop() {
            shared.emit(Event::NoNextHop {
                peer: peer.clone(),
                family,
            });
        }
        shared.rib.session_up(self.index, encoding);
    }

    /// Ends all connections with this NOTIFICATION.
    pub(super) fn end_all(
        &mut self,
        now: Instant,
        notification: &Notification,
        shared: &mut Shared,
    ) {
        for id in self.slots.ids() {
            self.end(now, id, Ending::Notify(notification.clone()), shared);
        }
    }

    /// Ends a connection. No connection ends in another way.
    pub(super) fn end(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ending: Ending,
        shared: &mut Shared,
    ) {
        let Some(connection) = self.slots.take(id) else {
            return;
        };
        let since = connection.established_since();
        if since.is_some() {
            self.history.session_ended(&shared.rib.counters(self.index));
            shared.rib.session_down(self.index);
            self.other_paths.clear();
        }
        let hold_time = connection
            .agreement()
            .map_or(HoldTime::ZERO, |agreement| agreement.hold_time);
        if since.is_some_and(|since| since + stable_time(hold_time) <= now) {
            self.dialer.stable_session_ended(now);
            self.fallback.reset();
        }
        let cause = self.close(now, connection, ending, shared);
        let cause = self.explain(now, cause, hold_time);
        let was_established = since.is_some();
        if was_established
            && refuses_inbound(&cause, true)
            && let Some(successor) = self.slots.take_waiting()
        {
            self.supersede(now, successor, shared);
        }
        if self.slots.is_empty() && self.dialer.attempt().is_none() {
            self.retry(now, cause, was_established, shared);
        } else if was_established {
            // The connection that replaces the session is there already.
            self.down(now, cause, true, None, shared);
        } else {
            self.connection_closed(now, id, cause, shared);
        }
    }

    /// Closes the TCP connection, and returns why.
    fn close(
        &mut self,
        now: Instant,
        connection: Connection,
        ending: Ending,
        shared: &mut Shared,
    ) -> Cause {
        let id = connection.id();
        match ending {
            Ending::Notify(notification) => {
                let notification = closing_notification(&connection, notification);
                self.history.message_sent(MessageType::NOTIFICATION);
                shared.finish(now, id, connection.into_queue(), &notification);
                Cause::Sent(notification)
            }
            Ending::GracefulRestart => {
                shared.finish_silently(now, id, connection.into_queue());
                Cause::GracefulRestart
            }
            Ending::Silent(cause) => {
                shared.close(id);
                cause
            }
        }
    }

    /// A connection or an attempt ended while another goes on.
    pub(super) fn connection_closed(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        cause: Cause,
        shared: &mut Shared,
    ) {
        self.history.connection_closed(now, &cause);
        let peer = self.config.name.clone();
        shared.emit(Event::ConnectionClosed {
            peer,
            connection,
            cause,
        });
    }

    /// The last connection ended: waits, then tries again, unless the peer is disabled.
    pub(super) fn retry(
        &mut self,
        now: Instant,
        cause: Cause,
        was_established: bool,
        shared: &mut Shared,
    ) {
        let mut retry = None;
        if self.dialer.is_enabled() {
            let min = self.bfd.dampen(now, &cause);
            let (config, rng) = (&self.config, &mut shared.rng);
            retry = self
                .dialer
                .retry(now, &cause, was_established, min, config, rng);
        }
        self.down(now, cause, was_established, retry, shared);
    }

    /// Reports that the session, or the attempt at one, ended.
    pub(super) fn down(
        &mut self,
        now: Instant,
        cause: Cause,
        was_established: bool,
        retry: Option<Duration>,
        shared: &mut Shared,
    ) {
        self.history.ended(now, &cause, was_established, retry);
        let peer = self.config.name.clone();
        shared.emit(Event::Down {
            peer,
            cause,
            was_established,
            retry,
        });
    }

    /// Adds to a cause what the NOTIFICATION alone does not say: a stall, or the AS numbers.
    fn explain(&self, now: Instant, cause: Cause, hold_time: HoldTime) -> Cause {
        let Some((notification, sent)) = cause.notification() else {
            return cause;
        };
        if meaning(notification).0 == ErrorCode::HOLD_TIMER_EXPIRED
            && let Some(late) = self.stall.explains(now, hold_time)
        {
            return Cause::LocalStall {
                notification: notification.clone(),
                sent,
                late,
            };
        }
        if !is_bad_peer_as(notification) {
            return cause;
        }
        Cause::AsnMismatch {
            notification: notification.clone(),
            sent,
            ours: self.config.local_asn,
            theirs: self.history.remote_asn().filter(|_| sent),
            expected: self.config.remote_asn,
        }
    }
}

/// The NOTIFICATION that closes this connection: inside a Hard Reset if the peer would otherwise
/// keep our routes although it must not (RFC 8538 §3.1).
fn closing_notification(connection: &Connection, notification: Notification) -> Notification {
    let restart = connection.agreement().and_then(|a| a.graceful_restart);
    if restart.is_some_and(|restart| restart.notification) && needs_hard_reset(&notification) {
        Notification::hard_reset(&notification)
    } else {
        notification
    }
}

/// How long a session must have been established for past failures to be forgotten.
fn stable_time(hold_time: HoldTime) -> Duration {
    hold_time.duration().unwrap_or(Duration::from_secs(90)) * 2
}
