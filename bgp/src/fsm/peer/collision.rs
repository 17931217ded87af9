//! A second connection of a peer: whether it is accepted, and which of the two stays.
//!
//! * No session is up yet: RFC 4271 §6.8 decides by the identifiers, as soon as one OPEN is there.
//! * A session is up, without graceful restart: it stays, and the second connection is rejected
//!   (RFC 4271 §6.8).
//! * A session is up, and graceful restart was negotiated: the second connection replaces it
//!   (RFC 4724 §4.2). The router lost power, or its process died with the link down, so that no FIN
//!   reached us. RFC 4724 §5 closes the old connection as soon as the new one has TCP. We wait for a
//!   valid OPEN: a connection that never becomes a session must not end one.

use std::time::{Duration, Instant};

use crate::fsm::collision::{Identity, Side, winner};
use crate::fsm::events::{ConnectionId, RejectReason, State};
use crate::fsm::history::cause::Cause;
use crate::fsm::peer::connection::{Connection, Ends};
use crate::fsm::peer::lifecycle::Ending;
use crate::fsm::peer::{Dial, Peer};
use crate::fsm::shared::Shared;
use crate::wire::{Notification, subcode};

/// A second connection whose OPEN is missing for longer than this doesn't take part in a collision:
/// it is probably dead, and must not win.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);

/// Connections that both ends dialled at the same time arrive within this time, a retransmitted SYN
/// included. No router restarts so soon after its session came up.
const CROSSING: Duration = Duration::from_secs(5);

impl Peer {
    /// Whether a connection of the peer is accepted now.
    pub(in crate::fsm) fn accepts(&self, now: Instant) -> Result<(), RejectReason> {
        if let Some(session) = self.slots.established() {
            return if self.dial != Dial::Never && is_replaceable(session, now) {
                Ok(())
            } else {
                Err(RejectReason::SessionExists)
            };
        }
        let older = self.slots.accepted.as_ref();
        match (self.dial, older) {
            (_, Some(older)) if older.state() > State::OpenSent => Err(RejectReason::SessionExists),
            (Dial::Idle { .. } | Dial::Never, _) => Err(RejectReason::Idle),
            _ => Ok(()),
        }
    }

    /// Whether no connection of the peer is there: among peers with one address, the next
    /// connection is this one's.
    pub(in crate::fsm) fn expects_connection(&self) -> bool {
        self.slots.accepted.is_none() && self.slots.established().is_none()
    }

    pub(in crate::fsm) fn accepted(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ends: Ends,
        shared: &mut Shared,
    ) {
        if let Some(older) = self.slots.take_waiting() {
            self.supersede(now, older, shared);
        }
        if let Dial::Active { .. } = self.dial {
            self.dial = Dial::Rest;
        }
        shared.owners.insert(id, self.index);
        self.watch(now, shared);
        let fallback = shared.config.router_id_fallback;
        let restart = self.restart_capability(now, shared);
        let refusals = &self.refusals;
        let connection = Connection::new(now, id, ends, &self.config, fallback, restart, refusals);
        self.record.open_sent(now, &connection.open);
        self.slots.accept(connection);
        self.tell_state(now, shared);
    }

    /// Ends an accepted connection that never sent its OPEN.
    pub(super) fn supersede(&mut self, now: Instant, older: Connection, shared: &mut Shared) {
        let cease = subcode::cease::CONNECTION_COLLISION_RESOLUTION;
        let notification = Notification::cease(cease);
        let remote = older.ends.remote.ip();
        let sent = shared.dismiss(now, older.id, remote, older.into_queue(), &notification);
        self.sent.notification += u64::from(sent);
    }

    /// A connection got a valid OPEN: which one stays, if there is another?
    ///
    /// Both ends decide as soon as one OPEN is there, by the same numbers. Waiting for the second
    /// one, as RFC 4271 §6.8 allows, lets the two ends close one connection each.
    pub(super) fn collide(&mut self, now: Instant, id: ConnectionId, shared: &mut Shared) {
        if let Some(session) = self.established_connection() {
            // RFC 4724 §4.2: no NOTIFICATION, "the previous TCP session is simply closed".
            return self.end(now, session, Ending::Silent(Cause::Replaced), shared);
        }
        let Some((ours, theirs)) = self.identities(id) else {
            return;
        };
        let Some(other) = self.slots.other(id) else {
            return;
        };
        let side = match id {
            ConnectionId::Dialled(_) => Side::Ours,
            ConnectionId::Accepted(_) => Side::Theirs,
        };
        let stale = other.state() == State::OpenSent && other.opened + OPEN_PATIENCE <= now;
        let other_id = other.id;
        let loser = if stale || winner(ours, theirs) == side {
            other_id
        } else {
            id
        };
        let cease = subcode::cease::CONNECTION_COLLISION_RESOLUTION;
        self.end(
            now,
            loser,
            Ending::Notify(Notification::cease(cease)),
            shared,
        );
    }

    fn identities(&mut self, id: ConnectionId) -> Option<(Identity, Identity)> {
        let connection = self.slots.get(id)?;
        let negotiated = connection.negotiated()?;
        Some((
            Identity {
                router_id: negotiated.local_router_id,
                asn: self.config.local_asn,
            },
            Identity {
                router_id: negotiated.remote_router_id,
                asn: negotiated.remote_asn,
            },
        ))
    }
}

/// Whether a new connection replaces the session: not one that both ends dialled for this session.
fn is_replaceable(session: &Connection, now: Instant) -> bool {
    let settled = session
        .established_since()
        .is_some_and(|since| since + CROSSING <= now);
    settled && session.peer_keeps_routes()
}
