//! Shutdown of the speaker: withdraws or keeps the routes, closes all sessions, then puts BFD into
//! AdminDown.

use std::time::{Duration, Instant};

use super::Speaker;
use super::events::{Output, ShutdownMode};
use super::timers::{LINGER, earlier};

/// How long the last UPDATEs may take. The closing NOTIFICATIONs may take [`LINGER`] more.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// The least time for the BFD thread to send its last packets before the process ends.
const BFD_ADMIN_DOWN_MIN: Duration = Duration::from_millis(100);

/// The shutdown of the speaker, from its begin to [`Output::Stopped`].
#[derive(Debug)]
pub(super) struct ShutdownProgress {
    /// The message to peers whose configuration sets no other.
    text: String,
    /// When sessions end though UPDATEs are unsent; `None` after that.
    flush_deadline: Option<Instant>,
    /// When everything ends.
    end: Instant,
    /// Until when BFD sends AdminDown; `None` until all connections are closed.
    admin_down_until: Option<Instant>,
    stopped: bool,
}

impl ShutdownProgress {
    fn new(now: Instant, text: String) -> Self {
        Self {
            text,
            flush_deadline: Some(now + FLUSH_TIME),
            end: now + FLUSH_TIME + LINGER,
            admin_down_until: None,
            stopped: false,
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let admin_down = self.admin_down_until.filter(|_| !self.stopped);
        earlier(self.flush_deadline, admin_down)
    }

    /// Whether the time for UPDATEs is over. Returns `true` once.
    fn flush_expired(&mut self, now: Instant) -> bool {
        let expired = self.flush_deadline.take_if(|deadline| *deadline <= now);
        expired.is_some()
    }

    /// All connections are closed, and the peers need AdminDown until `until`.
    fn start_admin_down(&mut self, now: Instant, until: Option<Instant>) {
        self.admin_down_until = Some(match until {
            Some(until) if until > now => until.min(self.end).max(now + BFD_ADMIN_DOWN_MIN),
            _ => now,
        });
    }

    /// Whether nothing is left to do. Returns `true` once.
    fn finish(&mut self, now: Instant) -> bool {
        let over = self.admin_down_until.is_some_and(|until| until <= now);
        over && !std::mem::replace(&mut self.stopped, over)
    }
}

impl Speaker {
    /// Begins the shutdown: no new connections, and each session ends when its last UPDATE is sent.
    pub(super) fn shutdown(&mut self, now: Instant, text: String, mode: ShutdownMode) {
        if self.shared.is_shutting_down() {
            return;
        }
        self.shared.shutdown = Some(ShutdownProgress::new(now, text));
        for peer in self.peers.values_mut() {
            peer.begin_shutdown(now, mode, &mut self.shared);
        }
        self.shared.rib.commit();
        for peer in self.peers.values_mut() {
            peer.end_if_flushed(now, &mut self.shared);
        }
    }

    /// Ends the sessions whose UPDATEs are unsent after [`FLUSH_TIME`].
    pub(super) fn end_unflushed(&mut self, now: Instant) {
        let progress = self.shared.shutdown.as_mut();
        if progress.is_some_and(|progress| progress.flush_expired(now)) {
            for peer in self.peers.values_mut() {
                peer.end_now(now, &mut self.shared);
            }
        }
    }

    /// Finishes the shutdown once no connection is left.
    ///
    /// BFD AdminDown is sent only after TCP is closed: FRR 8.4 treats AdminDown on an open session
    /// as a path failure, and would drop the routes that it keeps for a graceful restart. It is
    /// sent for the peer's detection time, or until the shutdown ends. One packet is sent at once,
    /// and one is enough. If all of a slow session's few packets are lost, the peer detects a
    /// timeout and drops the routes.
    pub(super) fn finish_shutdown(&mut self, now: Instant) {
        let disconnected = self.shared.is_disconnected();
        let Some(progress) = &mut self.shared.shutdown else {
            return;
        };
        if progress.admin_down_until.is_none() {
            if !disconnected {
                return;
            }
            let peers = self.peers.values_mut();
            let until = peers
                .map(|peer| peer.announce_admin_down(now, &mut self.shared))
                .max();
            if let Some(progress) = &mut self.shared.shutdown {
                progress.start_admin_down(now, until);
            }
        }
        let progress = self.shared.shutdown.as_mut();
        if progress.is_some_and(|progress| progress.finish(now)) {
            self.shared.outputs.push_back(Output::Stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_down_is_sent_for_the_detection_time_within_the_limits_of_the_shutdown() {
        let now = Instant::now();
        let millis = |time| now + Duration::from_millis(time);
        let until = |wanted: Option<Instant>| {
            let mut progress = ShutdownProgress::new(now, String::new());
            progress.start_admin_down(now, wanted);
            progress.admin_down_until
        };
        assert_eq!(until(None), Some(now));
        assert_eq!(until(Some(now)), Some(now));
        assert_eq!(until(Some(millis(10))), Some(millis(100)));
        assert_eq!(until(Some(millis(900))), Some(millis(900)));
        assert_eq!(until(Some(millis(9000))), Some(millis(4000)));
    }

    #[test]
    fn each_deadline_expires_once() {
        let now = Instant::now();
        let mut progress = ShutdownProgress::new(now, String::new());
        let flushed = now + FLUSH_TIME;
        assert_eq!(progress.poll_timeout(), Some(flushed));
        assert!(!progress.flush_expired(now));
        assert!(progress.flush_expired(flushed) && !progress.flush_expired(flushed));
        assert_eq!(progress.poll_timeout(), None);
        assert!(!progress.finish(flushed));
        progress.start_admin_down(flushed, None);
        assert!(progress.finish(flushed) && !progress.finish(flushed));
        assert_eq!(progress.poll_timeout(), None);
    }
}
