//! Builds the status of a peer for the CLI and metrics.

use std::time::Instant;

use crate::capture::CapturedSession;
use crate::config::RemoteAsn;
use crate::fsm::history::status::{LinkStatus, PeerDetail, PeerStatus, RunningTimers};
use crate::fsm::peer::Peer;
use crate::fsm::peer::connection::Connection;
use crate::fsm::session_up::SessionUp;
use crate::fsm::shared::Shared;
use crate::fsm::tcp::ConnectionId;
use crate::wire::Asn;

impl Peer {
    pub(in crate::fsm) fn status(&self, now: Instant, shared: &Shared) -> PeerStatus {
        let best = self.slots.best();
        let agreement = best.and_then(Connection::agreement);
        let counters = shared.rib.counters(self.index);
        let retry_at = self.dialer.retry_at();
        PeerStatus {
            name: self.config.name.clone(),
            template: self.template.as_ref().map(|of| of.name.clone()),
            remote: self.config.remote,
            link: self.link_status(shared),
            local_asn: self.config.local_asn,
            remote_asn: self.config.remote_asn,
            state: self.state,
            since: now.saturating_duration_since(self.since),
            negotiated: agreement.cloned(),
            bfd: self.bfd.status(now),
            local_address: best.map(|connection| connection.ends().local.ip()),
            local_router_id: best.map(|connection| connection.open().router_id),
            remote_router_id: agreement.map(|agreement| agreement.remote_router_id),
            last_error: self.history.last_error(now),
            retry_in: retry_at.map(|at| at.saturating_duration_since(now)),
            sent: self.history.sent(&counters),
            received: self.history.received(),
            prefixes_advertised: counters.prefixes,
            announcements_left_out: self.history.left_out(&counters),
            announcements_received: self.history.updates().announced(),
            prefix_limit: self
                .history
                .updates()
                .prefix_limit(self.config.prefix_limit),
            update_errors: self.history.updates().totals(),
            established_count: self.established_count,
        }
    }

    /// What a recording says about a connection, and its octets that are no whole message yet.
    pub(in crate::fsm) fn captured(&self, id: ConnectionId) -> Option<(CapturedSession, &[u8])> {
        let connection = self.slots.find(id)?;
        let ends = connection.ends();
        let agreement = connection.agreement();
        let configured = match self.config.remote_asn {
            RemoteAsn::Number(asn) => asn,
            RemoteAsn::Internal => self.config.local_asn,
            RemoteAsn::External | RemoteAsn::Auto => Asn::ZERO,
        };
        let session = CapturedSession {
            peer: self.config.name.clone(),
            template: self.template.as_ref().map(|of| of.name.clone()),
            local: ends.local,
            remote: ends.remote,
            local_asn: self.config.local_asn,
            remote_asn: agreement.map_or(configured, |agreement| agreement.remote_asn),
            four_octet_asn: agreement.is_some_and(|agreement| agreement.four_octet_asn),
        };
        Some((session, connection.incomplete()))
    }

    /// The established session.
    pub(in crate::fsm) fn session_up(&self) -> Option<SessionUp> {
        let connection = self.slots.established()?;
        let (session, _) = self.captured(connection.id())?;
        Some(SessionUp {
            session,
            remote_router_id: connection.agreement()?.remote_router_id,
            open_sent: connection.open().encode(),
            open_received: connection.remote_open()?.clone(),
            encoding: connection.encoding(&self.config)?,
        })
    }

    fn link_status(&self, shared: &Shared) -> Option<LinkStatus> {
        let interface = self.config.transport.source_interface.as_ref();
        let interface = interface.filter(|_| self.config.remote.is_unnumbered())?;
        let link = shared.links.get(interface);
        Some(LinkStatus {
            interface: interface.clone(),
            notes: link.map(|link| link.notes.clone()).unwrap_or_default(),
        })
    }

    pub(in crate::fsm) fn detail(&self, now: Instant, shared: &Shared) -> PeerDetail {
        PeerDetail {
            status: self.status(now, shared),
            config: self.config.clone(),
            open_sent: self.history.last_open_sent().cloned(),
            open_received: self.history.last_open_received().cloned(),
            timers: self.running_timers(now),
            prefixes: self.history.updates().prefixes(),
            attribute_errors: self.history.updates().errors(),
            last_sent: self.history.last_notification_sent(now),
            last_received: self.history.last_notification_received(now),
            journal: self.history.entries(now),
        }
    }

    /// What is left of the running timers; of the connections, those of the most advanced one.
    fn running_timers(&self, now: Instant) -> RunningTimers {
        let best = self.slots.best().into_iter().flat_map(Connection::timers);
        let timers = self.peer_timers().chain(best);
        let left = |at: Instant| at.saturating_duration_since(now);
        timers.map(|(timer, at)| (timer, left(at))).collect()
    }
}
