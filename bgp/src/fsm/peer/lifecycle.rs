//! How a peer's connections come to a session, and to an end.

use std::time::{Duration, Instant};

use crate::config::{HoldTime, PeerConfig};
use crate::fsm::events::{ConnectionId, Event, Output, State};
use crate::fsm::history::cause::Cause;
use crate::fsm::history::journal::JournalEvent;
use crate::fsm::neighbors::dynamic::DYNAMIC_KEPT;
use crate::fsm::peer::bfd_guard::is_path_lost;
use crate::fsm::peer::connection::Ends;
use crate::fsm::peer::refused::needs_an_operator;
use crate::fsm::peer::{Dial, Peer};
use crate::fsm::shared::Shared;
use crate::wire::{ErrorCode, Notification, subcode};

/// How a connection ends.
pub(super) enum Ending {
    /// With a NOTIFICATION from us.
    Notify(Notification),
    /// Without.
    Silent(Cause),
    /// Without, by us, so that the peer keeps our routes.
    Preserve,
}

impl Peer {
    pub(super) fn established(&mut self, now: Instant, id: ConnectionId, shared: &mut Shared) {
        if let Some(other) = self.slots.other(id).map(|connection| connection.id) {
            let cease = subcode::cease::CONNECTION_COLLISION_RESOLUTION;
            self.end(
                now,
                other,
                Ending::Notify(Notification::cease(cease)),
                shared,
            );
        }
        self.stop_dialling(shared);
        self.established_count += 1;
        self.record.tally.session();
        self.returned.session();
        let Some(connection) = self.slots.get(id) else {
            return;
        };
        let Some(negotiated) = connection.negotiated().cloned() else {
            return;
        };
        let Some(encoding) = connection.encoding(&self.config) else {
            return;
        };
        let event = JournalEvent::Established {
            negotiated: negotiated.clone(),
        };
        self.record.journal.note(now, event);
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

    /// No connection attempt of ours goes on.
    pub(super) fn stop_dialling(&mut self, shared: &mut Shared) {
        if let Dial::Connect { connection, .. } = self.dial {
            shared.close(connection);
            self.dial = Dial::Rest;
        }
    }

    /// The one way a connection ends.
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
            let counters = shared.rib.counters(self.index);
            self.sent.update += counters.updates;
            self.sent.route_refresh += counters.refreshes;
            self.left_out += counters.left_out;
            self.left_out_reported = false;
            shared.rib.session_down(self.index);
            self.record.tally.session_over();
            self.returned.session();
        }
        let hold_time = connection
            .negotiated()
            .map_or(HoldTime::ZERO, |n| n.hold_time);
        if since.is_some_and(|since| since + stable(hold_time) <= now) {
            self.backoff.restarting(now);
            self.refusals.reset();
        }
        let cause = match ending {
            Ending::Notify(notification) => {
                let notification = connection.parting(notification);
                self.sent.notification += 1;
                shared.finish(now, id, connection.into_queue(), &notification);
                Cause::Sent(notification)
            }
            Ending::Preserve => {
                shared.finish_silently(now, id, connection.into_queue());
                Cause::GracefulRestart
            }
            Ending::Silent(cause) => {
                shared.close(id);
                cause
            }
        };
        let cause = self.explained(now, cause, hold_time);
        let was_established = since.is_some();
        if was_established
            && refuses_meanwhile(&cause, true)
            && let Some(successor) = self.slots.take_waiting()
        {
            self.supersede(now, successor, shared);
        }
        if self.slots.best().is_none() && !matches!(self.dial, Dial::Connect { .. }) {
            self.retry(now, cause, was_established, shared);
        } else if was_established {
            // The next connection is there already.
            self.down(now, cause, true, None, shared);
        } else {
            self.connection_closed(now, id, cause, shared);
        }
    }

    /// One of two connections, or of connection and dial, is gone.
    pub(super) fn connection_closed(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        cause: Cause,
        shared: &mut Shared,
    ) {
        self.record.connection_closed(now, &cause);
        let peer = self.config.name.clone();
        shared.emit(Event::ConnectionClosed {
            peer,
            connection,
            cause,
        });
    }

    /// The last connection is gone: wait, then try again, unless we were told to stop.
    pub(super) fn retry(
        &mut self,
        now: Instant,
        cause: Cause,
        was_established: bool,
        shared: &mut Shared,
    ) {
        let mut retry = None;
        if self.dial != Dial::Never {
            if needs_an_operator(&cause) {
                self.backoff.exhaust();
            }
            // The router took us, so nothing is wrong with it. The path has a damping of its own, and may be back at once:
            // FRR 8.4, restarted, begins BFD anew as soon as the first session is up.
            if was_established && is_path_lost(&cause) {
                self.backoff.reset();
            }
            let max = self.config.timers.connect_retry;
            let wait = if unanswered(&cause, was_established) {
                self.backoff.unanswered(now, max, &mut shared.rng)
            } else {
                self.backoff.next(max, &mut shared.rng)
            };
            let wait = wait.max(self.watch.hold_back(now, &cause));
            let next = self.config.dials().map(|_| now + wait);
            self.dial = if refuses_meanwhile(&cause, was_established) {
                Dial::Idle { until: now + wait }
            } else {
                Dial::Active { until: next }
            };
            retry = next.map(|_| wait);
        }
        self.down(now, cause, was_established, retry, shared);
    }

    pub(super) fn down(
        &mut self,
        now: Instant,
        cause: Cause,
        was_established: bool,
        retry: Option<Duration>,
        shared: &mut Shared,
    ) {
        self.record.ended(now, &cause, was_established, retry);
        let peer = self.config.name.clone();
        shared.emit(Event::Down {
            peer,
            cause,
            was_established,
            retry,
        });
    }

    /// When a dynamic neighbour without a connection is forgotten.
    pub(in crate::fsm) fn forgotten_at(&self) -> Option<Instant> {
        let quiet = self.template.is_some() && self.state == State::Active;
        quiet.then(|| self.since + DYNAMIC_KEPT)
    }

    /// The connection with these ends.
    pub(in crate::fsm) fn connection_between(&self, ends: Ends) -> Option<ConnectionId> {
        let connection = self.slots.iter().find(|connection| connection.ends == ends);
        connection.map(|connection| connection.id)
    }

    pub(in crate::fsm) fn note(&mut self, now: Instant, event: JournalEvent) {
        self.record.journal.note(now, event);
    }

    /// This connection, or attempt at one, leads to ourselves.
    pub(in crate::fsm) fn met_ourselves(
        &mut self,
        now: Instant,
        id: ConnectionId,
        shared: &mut Shared,
    ) {
        match self.dial {
            Dial::Connect { connection, .. } if connection == id => {
                shared.close(id);
                self.dial = Dial::Rest;
                if self.slots.best().is_some() {
                    self.connection_closed(now, id, Cause::OwnAddress, shared);
                } else {
                    self.retry(now, Cause::OwnAddress, false, shared);
                }
            }
            _ => self.end(now, id, Ending::Silent(Cause::OwnAddress), shared),
        }
        self.tell_state(now, shared);
    }

    /// Gives a changed password to the connections there are. Answers whether there is an attempt
    /// that must be made again with it.
    pub(in crate::fsm) fn rekey(&mut self, old: &PeerConfig, shared: &mut Shared) -> bool {
        let Some(password) = &self.config.transport.password else {
            return false;
        };
        if old.transport.password.as_ref() == Some(password) {
            return false;
        }
        for connection in self.slots.iter() {
            shared.outputs.push_back(Output::Rekey {
                connection: connection.id,
                peer: self.config.name.clone(),
                remote: connection.ends.remote.ip(),
                password: password.clone(),
            });
        }
        matches!(self.dial, Dial::Connect { .. })
    }
}

/// How long a session must have been up for the past to be forgotten.
fn stable(hold_time: HoldTime) -> Duration {
    hold_time.duration().unwrap_or(Duration::from_secs(90)) * 2
}

/// Whether the attempt reached no BGP speaker that has an opinion of us: TCP was refused, or closed
/// without a NOTIFICATION, as by a router that restarts.
fn unanswered(cause: &Cause, was_established: bool) -> bool {
    match cause {
        Cause::ConnectFailed { .. } => true,
        Cause::Closed { .. } => !was_established,
        _ => false,
    }
}

/// Whether the peer's own attempts are refused while we wait: after an error in the protocol, so
/// that two who can't agree don't spin. A lost connection, or a peer that takes leave in order, is
/// welcome back at once; so is one that refused us, or else two that both dial would refuse each
/// other for ever.
fn refuses_meanwhile(cause: &Cause, was_established: bool) -> bool {
    match cause {
        Cause::Sent(notification) => {
            !(was_established && notification.code == ErrorCode::HOLD_TIMER_EXPIRED)
        }
        Cause::Received(notification) => notification.code != ErrorCode::CEASE,
        Cause::AsnMismatch { .. } => true,
        Cause::LocalStall { .. } => !was_established,
        Cause::ConnectFailed { .. }
        | Cause::Closed { .. }
        | Cause::GracefulRestart
        | Cause::OwnAddress
        | Cause::Replaced
        | Cause::SendHoldTimerExpired
        | Cause::Unusable { .. } => false,
    }
}
