//! What a peer is told about our restarts (RFC 4724, RFC 8538).

use std::time::{Duration, Instant};

use super::super::shared::Shared;
use super::Peer;
use crate::config::GracefulRestart;
use crate::wire::GracefulRestartCapability;

impl Peer {
    /// The graceful restart capability for an OPEN sent now, if it is configured.
    pub(super) fn restart_capability(
        &self,
        now: Instant,
        shared: &Shared,
    ) -> Option<GracefulRestartCapability> {
        let GracefulRestart {
            restart_time,
            notification,
        } = self.config.graceful_restart?;
        // Until its first session the peer may still hold what the process before us announced.
        let restarted = self.established_count == 0;
        let forwarding = !restarted || self.outlived_the_last_boot(now, restart_time, shared);
        let families = self.config.families.iter();
        Some(GracefulRestartCapability {
            restarted,
            notification,
            restart_time,
            families: families.map(|family| (*family, forwarding)).collect(),
        })
    }

    /// Whether all that the peer can still hold of us was announced since this host came up.
    ///
    /// After a boot nothing is forwarded until somebody has told the kernel how. What the peer has
    /// of the time before goes once it noticed that we are gone, and waited.
    fn outlived_the_last_boot(&self, now: Instant, restart_time: u16, shared: &Shared) -> bool {
        let Some(at_start) = shared.config.host_uptime else {
            return false;
        };
        let since_start = shared
            .started
            .map(|started| now.saturating_duration_since(started));
        let kept = Duration::from_secs(restart_time.into())
            + self.config.timers.hold_time.duration().unwrap_or_default();
        at_start + since_start.unwrap_or_default() > kept
    }
}
