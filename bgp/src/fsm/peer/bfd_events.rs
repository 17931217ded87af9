//! BFD events of a peer, and what follows for its BGP session (RFC 5882 §4).

use std::time::Instant;

use crate::fsm::bfd_target::BfdEvent;
use crate::fsm::events::Event;
use crate::fsm::history::cause::Cause;
use crate::fsm::history::journal::JournalEvent;
use crate::fsm::peer::Peer;
use crate::fsm::peer::bfd_guard::{BfdReport, Verdict};
use crate::fsm::peer::lifecycle::Ending;
use crate::fsm::shared::Shared;
use crate::fsm::state::State;
use crate::wire::{Notification, subcode};

impl Peer {
    /// Requests the BFD session that is configured.
    pub(super) fn request_bfd(&mut self, now: Instant, shared: &mut Shared) {
        self.bfd.configure(&self.config, shared);
        self.release(now, shared);
    }

    /// Takes an event of the peer's BFD session.
    pub(in crate::fsm) fn bfd(&mut self, now: Instant, event: BfdEvent, shared: &mut Shared) {
        let (report, verdict) = self.bfd.handle(event);
        if let Some(report) = report {
            self.report_bfd(now, report, shared);
        }
        match verdict {
            Verdict::None => {}
            Verdict::PathUp => self.path_up(now, shared),
            Verdict::PathDown => self.path_down(now, shared),
            Verdict::Unavailable(reason) => self.bfd_unavailable(now, &reason, shared),
        }
        // Any event may release a session, not only a change: the peer may be in AdminDown now.
        self.release(now, shared);
        self.emit_state_change(now, shared);
    }

    /// The speaker shuts down: puts BFD into AdminDown, so that the peer raises no alarm when
    /// packets stop. Returns until when that has to be sent.
    pub(in crate::fsm) fn announce_admin_down(
        &mut self,
        now: Instant,
        shared: &mut Shared,
    ) -> Instant {
        self.bfd.admin_down(now, &self.config, shared)
    }

    fn report_bfd(&mut self, now: Instant, report: BfdReport, shared: &mut Shared) {
        let BfdReport { from, to, reason } = report;
        let event = JournalEvent::Bfd {
            from: from.to_string(),
            to: to.to_string(),
            reason: reason.clone(),
        };
        self.note(now, event);
        shared.emit(Event::Bfd {
            peer: self.config.name.clone(),
            state: to,
            reason,
        });
    }

    /// Reports that the session waits for BFD, if it does.
    pub(super) fn report_waiting(&mut self, now: Instant, shared: &mut Shared) {
        if self.bfd.blocks(&self.config) {
            let report = self.bfd.waiting();
            self.report_bfd(now, report, shared);
        }
    }

    fn path_up(&mut self, now: Instant, shared: &mut Shared) {
        if !self.bfd.is_dampened(now) {
            self.dialer
                .path_restored(now, &self.config, &mut shared.rng);
        }
    }

    fn path_down(&mut self, now: Instant, shared: &mut Shared) {
        if self.shutdown.in_progress() {
            return;
        }
        let strict = self.config.bfd.is_some_and(|bfd| bfd.strict);
        let hit = |state| state == State::Established || strict && state == State::OpenConfirm;
        let connections = self.slots.iter();
        let lost = connections.filter(|connection| hit(connection.state()));
        for id in lost.map(|connection| connection.id()).collect::<Vec<_>>() {
            let notification = Notification::cease(subcode::cease::BFD_DOWN);
            self.end(now, id, Ending::Notify(notification), shared);
        }
    }

    /// BFD is configured but cannot be set up: the peer does not run, and tries again later.
    fn bfd_unavailable(&mut self, now: Instant, reason: &str, shared: &mut Shared) {
        // Removes what an earlier configuration may have left.
        self.bfd.remove(&self.config, shared);
        self.dialer.cancel(shared);
        let cause = Cause::Unusable {
            reason: format!("no BFD: {reason}"),
        };
        let connections = self.slots.ids();
        if connections.is_empty() {
            self.retry(now, cause, false, shared);
            return;
        }
        for id in connections {
            self.end(now, id, Ending::Silent(cause.clone()), shared);
        }
    }

    /// Lets a session continue that waited for BFD, if it no longer has to.
    fn release(&mut self, now: Instant, shared: &mut Shared) {
        if self.bfd.blocks(&self.config) {
            return;
        }
        for id in self.slots.ids() {
            if let Some(connection) = self.slots.get(id) {
                let effect = connection.release(now, &mut shared.rng);
                self.apply(now, id, effect, shared);
            }
        }
    }
}
