//! Tracks whether the API server is reachable, and logs each change once.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;

use super::backoff::Backoff;

/// Timeout of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum interval of probes, so that changes arrive soon after an outage.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// Reachability of the API server, shared by all watches. During an outage one probe runs instead
/// of every watch.
#[derive(Debug)]
pub(super) struct ApiHealth {
    reachable: watch::Sender<bool>,
}

impl ApiHealth {
    /// Reachable until a watch reports otherwise.
    pub(super) fn new() -> Self {
        Self {
            reachable: watch::Sender::new(true),
        }
    }

    /// Reports that a request of a watch got no answer.
    pub(super) fn mark_unreachable(&self, watch: &'static str, cause: &str) {
        if self
            .reachable
            .send_if_modified(|reachable| std::mem::replace(reachable, false))
        {
            tracing::warn!(
                watch,
                cause,
                "the API server does not answer: the known state stays in use; retrying"
            );
        }
    }

    /// Waits until the API server is reachable.
    pub(super) async fn wait_reachable(&self) {
        // The sender is in `self`, so it can't be dropped.
        _ = self
            .reachable
            .subscribe()
            .wait_for(|reachable| *reachable)
            .await;
    }

    /// Probes the API server while it is unreachable. Never returns.
    pub(super) async fn probe(self: Arc<Self>, client: Client) {
        let mut reachable = self.reachable.subscribe();
        loop {
            _ = reachable.wait_for(|reachable| !*reachable).await;
            let mut backoff = Backoff::default();
            loop {
                tokio::time::sleep(backoff.next().min(MAX_PROBE_INTERVAL)).await;
                let probe = tokio::time::timeout(PROBE_TIMEOUT, client.apiserver_version());
                // An error status is an answer too.
                if let Ok(Ok(_) | Err(kube::Error::Api(_))) = probe.await {
                    break;
                }
            }
            tracing::info!("the API server is reachable again");
            self.reachable.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wait_reachable_returns_when_the_api_server_answers() {
        let api_health = ApiHealth::new();
        api_health.wait_reachable().await;
        api_health.mark_unreachable("Service", "connection refused");
        api_health.mark_unreachable("Node", "connection refused");
        let waits = tokio::time::timeout(Duration::from_millis(20), api_health.wait_reachable());
        assert!(waits.await.is_err());
        api_health.reachable.send_replace(true);
        api_health.wait_reachable().await;
    }
}
