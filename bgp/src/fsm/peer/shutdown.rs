//! Shutdown, per peer: whether the session ends with a NOTIFICATION or, for graceful restart,
//! without.

use crate::config::PeerConfig;
use crate::fsm::events::ShutdownMode;
use crate::wire::{ErrorCode, Notification, subcode};

/// The part of one peer in the shutdown of the speaker.
#[derive(Debug, Default)]
pub(super) struct PeerShutdown {
    /// What becomes of this peer's routes; `None` until the shutdown begins.
    mode: Option<ShutdownMode>,
}

impl PeerShutdown {
    /// Begins, and returns what becomes of this peer's routes. `established` says whether there is
    /// a session, `restarts` whether the peer keeps our routes when it ends (RFC 4724).
    pub(super) fn begin(
        &mut self,
        requested: ShutdownMode,
        config: &PeerConfig,
        established: bool,
        restarts: bool,
    ) -> ShutdownMode {
        // A peer without a session may still keep the routes of the process before this one. A
        // NOTIFICATION would make it drop them.
        let may_keep = restarts || !established && config.graceful_restart.is_some();
        let mode = match requested {
            ShutdownMode::GracefulRestart if may_keep => ShutdownMode::GracefulRestart,
            ShutdownMode::GracefulRestart | ShutdownMode::Withdraw => ShutdownMode::Withdraw,
        };
        self.mode = Some(mode);
        mode
    }

    pub(super) fn in_progress(&self) -> bool {
        self.mode.is_some()
    }

    /// The NOTIFICATION that ends a connection; `None` if it ends without one. `text` is for the
    /// peer's operator where the configuration sets no other.
    pub(super) fn notification(&self, config: &PeerConfig, text: &str) -> Option<Notification> {
        if self.mode == Some(ShutdownMode::GracefulRestart) {
            return None;
        }
        let text = config.shutdown_text.as_deref().unwrap_or(text);
        Some(Notification::administrative_shutdown(text))
    }
}

/// Whether the peer is to drop our routes although both ends sent the N bit, so that a Hard Reset
/// must enclose the NOTIFICATION (RFC 8538 §3.1). RFC 8538 §5.1 has advice for each subcode.
pub(super) fn needs_hard_reset(notification: &Notification) -> bool {
    use subcode::cease;
    // Any other error is accidental, and we dial again at once.
    if notification.code != ErrorCode::CEASE {
        return false;
    }
    match notification.subcode {
        // The session stays down until an operator acts.
        cease::MAXIMUM_NUMBER_OF_PREFIXES_REACHED
        | cease::ADMINISTRATIVE_SHUTDOWN
        | cease::PEER_DE_CONFIGURED => true,
        // Sent on a session only if its configuration cannot be applied, which takes long to
        // correct.
        cease::OUT_OF_RESOURCES => true,
        // Routes over a lost path are of no value.
        cease::BFD_DOWN => true,
        // We dial again at once, or there was no session.
        cease::ADMINISTRATIVE_RESET
        | cease::CONNECTION_REJECTED
        | cease::OTHER_CONFIGURATION_CHANGE
        | cease::CONNECTION_COLLISION_RESOLUTION => false,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GracefulRestart;
    use crate::wire::Asn;

    #[test]
    fn only_peers_that_keep_our_routes_are_closed_without_a_notification() {
        let remote = "10.0.0.2:179".parse().unwrap();
        let mut config = PeerConfig::new("tor", remote, Asn(65001), Asn(65002));
        let notified = |config: &PeerConfig, mode, established, restarts| {
            let mut shutdown = PeerShutdown::default();
            assert!(!shutdown.in_progress());
            shutdown.begin(mode, config, established, restarts);
            assert!(shutdown.in_progress());
            let notification = shutdown.notification(config, "maintenance");
            notification.map(|notification| notification.shutdown_text().unwrap())
        };
        let text = Some("maintenance".to_owned());
        let (withdraw, restart) = (ShutdownMode::Withdraw, ShutdownMode::GracefulRestart);
        assert_eq!(notified(&config, withdraw, true, true), text);
        assert_eq!(notified(&config, restart, true, true), None);
        assert_eq!(notified(&config, restart, true, false), text);
        assert_eq!(notified(&config, restart, false, false), text);
        config.graceful_restart = Some(GracefulRestart::default());
        assert_eq!(notified(&config, restart, true, false), text);
        assert_eq!(notified(&config, restart, false, false), None);
        config.shutdown_text = Some("see ticket 7".to_owned());
        let own = Some("see ticket 7".to_owned());
        assert_eq!(notified(&config, withdraw, true, false), own);
    }
}
