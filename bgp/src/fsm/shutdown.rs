//! How the whole speaker takes leave.

use std::time::{Duration, Instant};

use crate::fsm::Speaker;
use crate::fsm::events::Output;
use crate::fsm::shared::{LINGER, Stopping};

/// How long saying what is left to say may take. The last words have [`LINGER`] after that.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// What BFD's thread has at least to send its last packets, before the process may end.
const LAST_WORD: Duration = Duration::from_millis(100);

/// What becomes of our routes when we leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// They are withdrawn, and every peer is told Cease/Administrative Shutdown, inside
    /// Cease/Hard Reset where it would otherwise keep them (RFC 8538 §3).
    Withdraw,
    /// Peers that do graceful restart (RFC 4724) keep them: the connection is closed without a
    /// NOTIFICATION, after what was still to be told. From the others they are withdrawn.
    GracefulRestart,
}

impl Speaker {
    /// No new connections; each session goes once it has nothing left to say.
    pub(super) fn shutdown(&mut self, now: Instant, text: String, mode: ShutdownMode) {
        if self.shared.stopping.is_some() {
            return;
        }
        self.shared.stopping = Some(Stopping {
            deadline: Some(now + FAREWELL_TIME),
            end: now + FAREWELL_TIME + LINGER,
            text,
        });
        for peer in self.peers.values_mut() {
            peer.begin_leaving(now, mode, &mut self.shared);
        }
        self.shared.rib.commit();
        for peer in self.peers.values_mut() {
            peer.leave(now, &mut self.shared);
        }
    }

    /// What still isn't said won't be.
    pub(super) fn end_farewell(&mut self, now: Instant) {
        let Some(stopping) = &mut self.shared.stopping else {
            return;
        };
        let over = stopping.deadline.take_if(|deadline| *deadline <= now);
        if over.is_some() {
            for peer in self.peers.values_mut() {
                peer.leave_now(now, &mut self.shared);
            }
        }
    }

    /// The end, once no connection is left. BFD has the last word: heard before the peer has seen
    /// the session close, AdminDown is taken for a lost path by some (FRR 8.4), and then nothing
    /// would be kept. It is said for the peer's detection time, if the farewell's end doesn't come
    /// first: one packet goes at once, and one that arrives is enough. Only if all of a slow session's
    /// few are lost, the peer takes our silence for a lost path and drops what it kept.
    pub(super) fn tell_end(&mut self, now: Instant) {
        let Some(end) = self.shared.stopping.as_ref().map(|stopping| stopping.end) else {
            return;
        };
        let hushed = match self.hushed_until {
            _ if self.stopped => return,
            Some(hushed) => hushed,
            None if !self.shared.silent() => return,
            None => {
                let peers = self.peers.values_mut();
                let hushed = peers.map(|peer| peer.hush(now, &mut self.shared)).max();
                match hushed {
                    Some(hushed) if hushed > now => hushed.min(end).max(now + LAST_WORD),
                    _ => now,
                }
            }
        };
        self.hushed_until = Some(hushed);
        if hushed <= now {
            self.stopped = true;
            self.hushed_until = None;
            self.shared.outputs.push_back(Output::Stopped);
        }
    }
}
