//! The option of `ferrolb run` about what the first announcements wait for.

use anyhow::ensure;
use clap::Args;

use crate::runtime::announce::state_file::SavedState;
use crate::runtime::gate::health_url::HealthUrl;
use crate::runtime::gate::{Gate, GateOptions};
use crate::runtime::role::Role;

#[derive(Debug, Args)]
pub(super) struct GateArgs {
    /// Where the node's service proxy answers whether it is ready, such as
    /// http://127.0.0.1:10256/livez (kube-proxy) or http://127.0.0.1:9879/healthz (Cilium). The
    /// first announcements of this process wait for it; what is announced is never withdrawn
    /// because of it. BGP routes of Services with externalTrafficPolicy Local also wait for their
    /// healthCheckNodePort, at most 30 s.
    #[arg(long, value_name = "URL")]
    service_proxy_health: Option<HealthUrl>,
}

impl GateArgs {
    /// Whether the role does what the option requests.
    pub(super) fn check_role(&self, role: Role) -> anyhow::Result<()> {
        ensure!(
            self.service_proxy_health.is_none() || role.announces(),
            "--service-proxy-health has no effect in this role, which announces nothing: remove \
             it, or give it to the announcers"
        );
        Ok(())
    }

    /// What delays the first announcements. `saved`: what the process before announced.
    pub(super) fn gate(&self, role: Role, manifests: bool, saved: Option<&SavedState>) -> Gate {
        if !role.announces() {
            return Gate::open();
        }
        Gate::new(GateOptions {
            asks_for_speaker: !manifests,
            proxy: self.service_proxy_health.clone(),
            announced: saved.map(SavedState::prefixes).unwrap_or_default(),
        })
    }
}
