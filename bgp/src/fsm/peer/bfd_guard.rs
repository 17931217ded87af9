//! BFD guarding: what the state of a peer's BFD session means for its BGP session (RFC 5882 §4).

use std::time::{Duration, Instant};

use crate::bfd::{self, Change, SessionStatus};
use crate::config::PeerConfig;
use crate::fsm::bfd_target::{BfdEvent, BfdStatus, BfdTarget};
use crate::fsm::events::Output;
use crate::fsm::history::cause::{Cause, meaning};
use crate::fsm::shared::Shared;
use crate::wire::{ErrorCode, subcode};

/// BGP sessions that BFD may end in a row before the next is delayed. The row ends when the path
/// was stable for [`DAMPENING_MAX`] and this time.
const FREE_LOSSES: u32 = 3;
const LOSSES_FORGOTTEN: Duration = Duration::from_secs(300);
/// The first delay. It doubles with each loss, up to the longest (RFC 5882 §3.2 asks for damping).
const DAMPENING_MIN: Duration = Duration::from_secs(10);
const DAMPENING_MAX: Duration = Duration::from_secs(300);

/// The BFD session of one peer, as far as its BGP session depends on it.
#[derive(Debug, Default)]
pub(super) struct BfdGuard {
    /// The BFD session that the driver was asked for.
    requested: Option<BfdTarget>,
    status: Option<SessionStatus>,
    /// BGP sessions that BFD ended in a row.
    losses: u32,
    last_loss: Option<Instant>,
    /// Until then, the return of the path does not hasten the next attempt.
    dampened_until: Option<Instant>,
}

/// A change of BFD, for logs and the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BfdReport {
    pub(super) from: bfd::State,
    pub(super) to: bfd::State,
    pub(super) reason: String,
}

/// What a BFD event means for the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    None,
    /// The session came up.
    PathUp,
    /// The path is lost: sessions end.
    PathDown,
    /// BFD could not be set up, for this reason: the peer must not run.
    Unavailable(String),
}

impl BfdGuard {
    /// Requests the BFD session that is configured, unless it is requested already.
    pub(super) fn configure(&mut self, config: &PeerConfig, shared: &mut Shared) {
        let target = BfdTarget::of(config);
        if target == self.requested {
            return;
        }
        let same_path = matches!(
            (&target, &self.requested),
            (Some(new), Some(old)) if new.has_same_path(old)
        );
        if !same_path {
            self.remove(config, shared);
        }
        if let Some(target) = &target {
            shared.outputs.push_back(Output::BfdSet {
                peer: config.name.clone(),
                target: target.clone(),
            });
        }
        self.requested = target;
    }

    /// Removes the BFD session. The driver sends AdminDown, so that the peer sees no path failure.
    pub(super) fn remove(&mut self, config: &PeerConfig, shared: &mut Shared) {
        self.status = None;
        if self.requested.take().is_some() {
            let peer = config.name.clone();
            shared.outputs.push_back(Output::BfdRemove { peer });
        }
    }

    /// Puts the BFD session into AdminDown. Returns until when that has to be sent: for the peer's
    /// detection time.
    pub(super) fn admin_down(
        &self,
        now: Instant,
        config: &PeerConfig,
        shared: &mut Shared,
    ) -> Instant {
        let Some(status) = self.status.filter(|_| self.requested.is_some()) else {
            return now;
        };
        let peer = config.name.clone();
        shared.outputs.push_back(Output::BfdAdminDown { peer });
        if status.state == bfd::State::Up {
            now + status.remote_detection_time
        } else {
            now
        }
    }

    /// Takes an event of the BFD session.
    pub(super) fn handle(&mut self, event: BfdEvent) -> (Option<BfdReport>, Verdict) {
        if self.requested.is_none() {
            return (None, Verdict::None);
        }
        match event {
            BfdEvent::Status(status) => (self.new_discards(&status), Verdict::None),
            BfdEvent::Changed { change, status } => {
                self.status = Some(status);
                let verdict = match change.to {
                    bfd::State::Up => Verdict::PathUp,
                    _ if change.is_failure() => Verdict::PathDown,
                    _ => Verdict::None,
                };
                (Some(change.into()), verdict)
            }
            BfdEvent::Failed { reason } => (None, Verdict::Unavailable(reason)),
        }
    }

    /// A report if packets of the peer are discarded, for another reason than before.
    fn new_discards(&mut self, status: &SessionStatus) -> Option<BfdReport> {
        let old = self.status.replace(*status);
        let known = old.and_then(|status| status.discarded.last);
        let last = status.discarded.last;
        let why = last.filter(|_| last != known && status.state != bfd::State::Up)?;
        Some(BfdReport {
            from: status.state,
            to: status.state,
            reason: format!("BFD packets from this peer are being discarded: {why}"),
        })
    }

    /// Whether BGP has to wait for BFD (strict mode). It does not wait for a peer that put BFD into
    /// AdminDown.
    pub(super) fn blocks(&self, config: &PeerConfig) -> bool {
        let good = self.status.is_some_and(|status| {
            status.state == bfd::State::Up || status.remote_state == bfd::State::AdminDown
        });
        BfdTarget::of(config).is_some() && config.bfd.is_some_and(|bfd| bfd.strict) && !good
    }

    /// The report that a BGP session waits for BFD.
    pub(super) fn waiting(&self) -> BfdReport {
        let state = self.status.map_or(bfd::State::Down, |status| status.state);
        BfdReport {
            from: state,
            to: state,
            reason: "the BGP session is waiting for BFD".to_owned(),
        }
    }

    pub(super) fn status(&self, now: Instant) -> Option<BfdStatus> {
        let status = self.status.as_ref()?;
        Some(BfdStatus::new(now, status))
    }

    /// A session ended with `cause`: how long to wait at least before the next attempt.
    pub(super) fn dampen(&mut self, now: Instant, cause: &Cause) -> Duration {
        if !is_path_lost(cause) {
            return Duration::ZERO;
        }
        let stable = self
            .last_loss
            .is_none_or(|at| at + LOSSES_FORGOTTEN + DAMPENING_MAX <= now);
        self.losses = if stable { 1 } else { self.losses + 1 };
        self.last_loss = Some(now);
        let Some(doublings) = self.losses.checked_sub(FREE_LOSSES + 1) else {
            return Duration::ZERO;
        };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let wait = DAMPENING_MIN.saturating_mul(factor).min(DAMPENING_MAX);
        self.dampened_until = Some(now + wait);
        wait
    }

    /// Whether the next attempt is delayed because BFD ended several sessions.
    pub(super) fn is_dampened(&self, now: Instant) -> bool {
        self.dampened_until.is_some_and(|until| now < until)
    }
}

impl From<Change> for BfdReport {
    fn from(change: Change) -> Self {
        Self {
            from: change.from,
            to: change.to,
            reason: change.cause.to_string(),
        }
    }
}

/// Whether one end closed the session because BFD lost the path.
pub(super) fn is_path_lost(cause: &Cause) -> bool {
    cause.notification().is_some_and(|(notification, _)| {
        meaning(notification) == (ErrorCode::CEASE, subcode::cease::BFD_DOWN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Notification;

    #[test]
    fn the_delay_after_repeated_bfd_failures_doubles_up_to_the_maximum() {
        let mut now = Instant::now();
        let down = Notification::cease(subcode::cease::BFD_DOWN);
        let cause = Cause::Sent(Notification::hard_reset(&down));
        let other = Cause::Sent(Notification::hold_timer_expired());
        let mut guard = BfdGuard::default();
        let mut waits = Vec::new();
        for _ in 0..10 {
            now += Duration::from_secs(20);
            assert_eq!(guard.dampen(now, &other), Duration::ZERO);
            let wait = guard.dampen(now, &cause);
            assert_eq!(guard.is_dampened(now), !wait.is_zero());
            waits.push(wait.as_secs());
            now += wait;
            assert!(!guard.is_dampened(now));
        }
        assert_eq!(waits, [0, 0, 0, 10, 20, 40, 80, 160, 300, 300]);
        // A path that was stable for long enough starts over.
        now += DAMPENING_MAX + LOSSES_FORGOTTEN;
        assert_eq!(guard.dampen(now, &cause), Duration::ZERO);
        assert_eq!(guard.losses, 1);
    }

    #[test]
    fn events_of_a_session_that_was_not_requested_mean_nothing() {
        let mut guard = BfdGuard::default();
        let failed = BfdEvent::Failed {
            reason: "late".to_owned(),
        };
        assert_eq!(guard.handle(failed), (None, Verdict::None));
    }
}
