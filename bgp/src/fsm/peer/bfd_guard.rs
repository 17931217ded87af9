//! A peer whose path BFD watches over (RFC 5882 §4).

use std::time::{Duration, Instant};

use crate::bfd::{self, Change, SessionStatus};
use crate::config::PeerConfig;
use crate::fsm::bfd_target::{BfdEvent, BfdStatus, BfdTarget};
use crate::fsm::events::{Event, Output, State};
use crate::fsm::history::cause::{Cause, meaning};
use crate::fsm::history::journal::JournalEvent;
use crate::fsm::peer::lifecycle::Ending;
use crate::fsm::peer::{Dial, Peer};
use crate::fsm::shared::Shared;
use crate::wire::{ErrorCode, Notification, subcode};

/// Sessions that BFD may end before the next one is held back. One that ended this long ago is
/// forgotten.
const LOSSES_FREE: u32 = 3;
const LOSSES_FORGOTTEN: Duration = Duration::from_secs(300);
/// How long it is held back first; twice as long each time after that, up to the longest.
const HOLD_BACK_MIN: Duration = Duration::from_secs(10);
const HOLD_BACK_MAX: Duration = Duration::from_secs(300);

/// What a peer knows of its BFD session.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// What was asked of the driver.
    asked: Option<BfdTarget>,
    status: Option<SessionStatus>,
    /// Sessions lost to it lately, each within [`LOSSES_FORGOTTEN`] of the one before.
    losses: u32,
    last_loss: Option<Instant>,
    /// Until when the next session is held back, if it is.
    held_until: Option<Instant>,
}

impl Watch {
    /// Whether a session has to wait. A peer that ended BFD on purpose isn't waited for.
    pub(super) fn holds(&self, config: &PeerConfig) -> bool {
        let good = self.status.is_some_and(|status| {
            status.state == bfd::State::Up || status.remote_state == bfd::State::AdminDown
        });
        BfdTarget::of(config).is_some() && config.bfd.is_some_and(|bfd| bfd.strict) && !good
    }

    pub(super) fn status(&self, now: Instant) -> Option<BfdStatus> {
        let status = self.status.as_ref()?;
        Some(BfdStatus::new(now, status))
    }

    /// A session ended: how long to wait if it ended for the path's sake once too often.
    pub(super) fn hold_back(&mut self, now: Instant, cause: &Cause) -> Duration {
        if !is_path_lost(cause) {
            return Duration::ZERO;
        }
        let calm = self
            .last_loss
            .is_none_or(|at| at + LOSSES_FORGOTTEN + HOLD_BACK_MAX <= now);
        self.losses = if calm { 1 } else { self.losses + 1 };
        self.last_loss = Some(now);
        let Some(doublings) = self.losses.checked_sub(LOSSES_FREE + 1) else {
            return Duration::ZERO;
        };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let wait = HOLD_BACK_MIN.saturating_mul(factor).min(HOLD_BACK_MAX);
        self.held_until = Some(now + wait);
        wait
    }
}

/// Whether either side ended a session because BFD lost the path.
pub(super) fn is_path_lost(cause: &Cause) -> bool {
    cause.notification().is_some_and(|(notification, _)| {
        meaning(notification) == (ErrorCode::CEASE, subcode::cease::BFD_DOWN)
    })
}

impl Peer {
    /// Asks for what the configuration says, if it hasn't been asked for yet.
    pub(super) fn watch(&mut self, now: Instant, shared: &mut Shared) {
        let wanted = BfdTarget::of(&self.config);
        if wanted == self.watch.asked {
            return;
        }
        let same =
            matches!((&wanted, &self.watch.asked), (Some(new), Some(old)) if new.is_along(old));
        if !same {
            self.unwatch(shared);
        }
        if let Some(target) = &wanted {
            let peer = self.config.name.clone();
            let target = target.clone();
            shared.outputs.push_back(Output::BfdSet { peer, target });
        }
        self.watch.asked = wanted;
        self.release(now, shared);
    }

    /// BFD ends; the peer is told that this is on purpose.
    pub(super) fn unwatch(&mut self, shared: &mut Shared) {
        self.watch.status = None;
        if self.watch.asked.take().is_some() {
            let peer = self.config.name.clone();
            shared.outputs.push_back(Output::BfdRemove { peer });
        }
    }

    /// We leave: BFD says so until then, and may fall silent without alarm.
    pub(in crate::fsm) fn hush(&mut self, now: Instant, shared: &mut Shared) -> Instant {
        let Some(status) = self.watch.status.filter(|_| self.watch.asked.is_some()) else {
            return now;
        };
        let peer = self.config.name.clone();
        shared.outputs.push_back(Output::BfdAdminDown { peer });
        if status.state == bfd::State::Up {
            now + status.remote_detection_time
        } else {
            now
        }
    }

    pub(in crate::fsm) fn bfd(&mut self, now: Instant, event: BfdEvent, shared: &mut Shared) {
        if self.watch.asked.is_none() {
            return;
        }
        match event {
            BfdEvent::Status(status) => {
                let last = status.discarded.last;
                let known = self.watch.status.and_then(|status| status.discarded.last);
                self.watch.status = Some(status);
                if let Some(why) = last.filter(|_| last != known && status.state != bfd::State::Up)
                {
                    let reason = format!("packets of the peer are thrown away: {why}");
                    self.tell_bfd(now, [status.state; 2], reason, shared);
                }
            }
            BfdEvent::Changed { change, status } => {
                self.watch.status = Some(status);
                self.bfd_changed(now, change, shared);
            }
            BfdEvent::Failed { reason } => self.bfd_failed(now, &reason, shared),
        }
        // How it is may matter as well as that it changed: the peer may have gone AdminDown.
        self.release(now, shared);
        self.tell_state(now, shared);
    }

    fn tell_bfd(
        &mut self,
        now: Instant,
        [from, to]: [bfd::State; 2],
        reason: String,
        shared: &mut Shared,
    ) {
        let event = JournalEvent::Bfd {
            from: from.to_string(),
            to: to.to_string(),
            reason: reason.clone(),
        };
        self.record.journal.note(now, event);
        let peer = self.config.name.clone();
        let state = to;
        shared.emit(Event::Bfd {
            peer,
            state,
            reason,
        });
    }

    fn bfd_changed(&mut self, now: Instant, change: Change, shared: &mut Shared) {
        let reason = change.cause.to_string();
        self.tell_bfd(now, [change.from, change.to], reason, shared);
        if change.to == bfd::State::Up {
            self.hasten(now, shared);
        }
        if !change.is_failure() || self.leaving.is_some() {
            return;
        }
        let strict = self.config.bfd.is_some_and(|bfd| bfd.strict);
        let hit = |state| state == State::Established || strict && state == State::OpenConfirm;
        let lost = self
            .slots
            .iter()
            .filter(|connection| hit(connection.state()));
        let lost: Vec<_> = lost.map(|connection| connection.id).collect();
        for id in lost {
            let notification = Notification::cease(subcode::cease::BFD_DOWN);
            self.end(now, id, Ending::Notify(notification), shared);
        }
    }

    /// The path is there, and the router knows us as a neighbour: how often it failed before says nothing any more, and
    /// the waits begin anew. After an error of ours or its we wait in Idle, and that stays.
    fn hasten(&mut self, now: Instant, shared: &mut Shared) {
        let held = self.watch.held_until.is_some_and(|until| now < until);
        if held || matches!(self.dial, Dial::Idle { .. } | Dial::Never) {
            return;
        }
        self.backoff.reset();
        if let Dial::Active { until: Some(until) } = self.dial {
            // Not at once: FRR refuses a neighbour for a while after it was told of it.
            let longest = self.config.timers.connect_retry;
            let until = until.min(now + self.backoff.next(longest, &mut shared.rng));
            self.dial = Dial::Active { until: Some(until) };
        }
    }

    /// Without what its configuration demands a peer doesn't run; later it may be to be had.
    fn bfd_failed(&mut self, now: Instant, reason: &str, shared: &mut Shared) {
        // What was to be had before may still run there.
        self.unwatch(shared);
        self.stop_dialling(shared);
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

    /// Says so if a session waits.
    pub(super) fn tell_waiting(&mut self, now: Instant, shared: &mut Shared) {
        if !self.watch.holds(&self.config) {
            return;
        }
        let state = self
            .watch
            .status
            .map_or(bfd::State::Down, |status| status.state);
        let reason = "the BGP session is waiting for BFD".to_owned();
        self.tell_bfd(now, [state; 2], reason, shared);
    }

    /// Lets a session that waited go on, if it need not wait any longer.
    fn release(&mut self, now: Instant, shared: &mut Shared) {
        if self.watch.holds(&self.config) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_comes_and_goes_is_held_back_longer_and_longer() {
        let mut now = Instant::now();
        let down = Notification::cease(subcode::cease::BFD_DOWN);
        let cause = Cause::Sent(Notification::hard_reset(&down));
        let other = Cause::Sent(Notification::hold_timer_expired());
        let mut watch = Watch::default();
        let mut waits = Vec::new();
        for _ in 0..10 {
            now += Duration::from_secs(20);
            assert_eq!(watch.hold_back(now, &other), Duration::ZERO);
            let wait = watch.hold_back(now, &cause);
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [0, 0, 0, 10, 20, 40, 80, 160, 300, 300]);
        // Calm for a while: forgiven.
        now += HOLD_BACK_MAX + LOSSES_FORGOTTEN;
        assert_eq!(watch.hold_back(now, &cause), Duration::ZERO);
        assert_eq!(watch.losses, 1);
    }
}
