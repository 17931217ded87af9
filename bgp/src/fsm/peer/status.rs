//! A peer as it is shown.

use std::time::Instant;

use crate::fsm::history::status::{MessageCounters, PeerDetail, PeerStatus};
use crate::fsm::peer::connection::Connection;
use crate::fsm::peer::{Dial, Peer};
use crate::fsm::shared::Shared;

impl Peer {
    pub(in crate::fsm) fn status(&self, now: Instant, shared: &Shared) -> PeerStatus {
        let best = self.slots.best();
        let negotiated = best.and_then(Connection::negotiated);
        let counters = shared.rib.counters(self.index);
        PeerStatus {
            name: self.config.name.clone(),
            template: self.template.as_ref().map(|of| of.name.clone()),
            remote: self.config.remote,
            local_asn: self.config.local_asn,
            remote_asn: self.config.remote_asn,
            state: self.state,
            since: now.saturating_duration_since(self.since),
            negotiated: negotiated.cloned(),
            bfd: self.watch.status(now),
            local_address: best.map(|connection| connection.ends.local.ip()),
            local_router_id: best.map(|connection| connection.open.router_id),
            remote_router_id: negotiated.map(|negotiated| negotiated.remote_router_id),
            last_error: self.record.last_error(now),
            retry_in: match self.dial {
                Dial::Idle { until } | Dial::Active { until: Some(until) } => {
                    Some(until.saturating_duration_since(now))
                }
                _ => None,
            },
            sent: MessageCounters {
                update: self.sent.update + counters.updates,
                route_refresh: self.sent.route_refresh + counters.refreshes,
                ..self.sent
            },
            received: self.received,
            prefixes_advertised: counters.prefixes,
            announcements_left_out: self.left_out + counters.left_out,
            announcements_received: self.record.tally.announced(),
            prefix_limit: self.record.tally.prefix_limit(self.config.prefix_limit),
            update_errors: self.record.tally.totals(),
            established_count: self.established_count,
        }
    }

    pub(in crate::fsm) fn detail(&self, now: Instant, shared: &Shared) -> PeerDetail {
        let timers = self.slots.best().map(|connection| connection.timers(now));
        PeerDetail {
            status: self.status(now, shared),
            config: self.config.clone(),
            open_sent: self.record.open_sent.clone(),
            open_received: self.record.open_received.clone(),
            timers: timers.unwrap_or_default(),
            prefixes: self.record.tally.prefixes(),
            attribute_errors: self.record.tally.errors(),
            last_sent: self.record.last_sent(now),
            last_received: self.record.last_received(now),
            journal: self.record.journal.entries(now),
        }
    }
}
