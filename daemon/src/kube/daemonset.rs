//! Whether the DaemonSet that this process belongs to is going.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;

use super::client;

/// Whoever is asked to stop has little time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether a DaemonSet is being deleted, or is gone already. If the API server does not tell, it is not: then the process is
/// expected to come back.
pub async fn daemonset_gone(kubeconfig: Option<&Path>, namespace: &str, name: &str) -> bool {
    let asked = async {
        let client = client::connect(kubeconfig)
            .await
            .map_err(|error| error.to_string())?;
        let api: Api<DaemonSet> = Api::namespaced(client, namespace);
        let found = api
            .get_metadata_opt(name)
            .await
            .map_err(|error| error.to_string())?;
        Ok(found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()))
    };
    let asked = tokio::time::timeout(PATIENCE, asked).await;
    asked
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
        .unwrap_or_else(|error: String| {
            tracing::warn!(
                "whether DaemonSet {namespace}/{name} is being deleted can't be told: {error}"
            );
            false
        })
}

#[cfg(test)]
mod tests;
