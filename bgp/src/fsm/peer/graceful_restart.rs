//! What a peer is told about our restarts (RFC 4724, RFC 8538).

use std::time::{Duration, Instant};

use crate::config::GracefulRestart;
use crate::fsm::peer::Peer;
use crate::fsm::shared::Shared;
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
        // How long a peer keeps what the process before us announced: it notices that we are gone,
        // and waits.
        let kept = Duration::from_secs(restart_time.into())
            + self.config.timers.hold_time.duration().unwrap_or_default();
        let since_start = shared
            .started
            .map(|started| now.saturating_duration_since(started))
            .unwrap_or_default();
        let restarted = self.established_count == 0 && since_start <= kept;
        // After a boot nothing is forwarded until somebody has told the kernel how, and what the
        // peer holds may be of the time before.
        let outlived = |uptime: Duration| uptime + since_start > kept;
        let forwarding = !restarted || shared.config.host_uptime.is_some_and(outlived);
        let families = self.config.families.iter();
        Some(GracefulRestartCapability {
            restarted,
            notification,
            restart_time,
            families: families.map(|family| (*family, forwarding)).collect(),
        })
    }
}
