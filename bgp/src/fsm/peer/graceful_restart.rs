//! The graceful restart capability of our OPENs (RFC 4724 §3, RFC 8538 §2).

use std::time::{Duration, Instant};

use crate::config::GracefulRestart;
use crate::fsm::peer::Peer;
use crate::fsm::shared::Shared;
use crate::wire::GracefulRestartCapability;

impl Peer {
    /// The capability for an OPEN sent now, if graceful restart is configured.
    pub(super) fn restart_capability(
        &self,
        now: Instant,
        shared: &Shared,
    ) -> Option<GracefulRestartCapability> {
        let GracefulRestart {
            restart_time,
            notification,
        } = self.config.graceful_restart?;
        // How long a peer keeps the routes of the process before this one: it detects that the
        // process is gone, then waits.
        let kept = Duration::from_secs(restart_time.into())
            + self.config.timers.hold_time.duration().unwrap_or_default();
        let since_start = shared
            .started
            .map(|started| now.saturating_duration_since(started))
            .unwrap_or_default();
        let restarted = self.established_count == 0 && since_start <= kept;
        // After a boot the kernel forwards nothing until it is configured, and the routes that the
        // peer keeps may be older than the boot.
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
