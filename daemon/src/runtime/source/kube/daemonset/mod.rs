//! Whether the DaemonSet that this process belongs to is going.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;

use super::client;

/// Whoever is asked to stop has little time.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before asking again an API server that did not tell.
const AGAIN: Duration = Duration::from_secs(30);

/// The DaemonSet that this process belongs to.
#[derive(Clone, Debug)]
pub(crate) struct OwnDaemonSet {
    /// How to reach the API server; none: as a Pod does.
    pub kubeconfig: Option<PathBuf>,
    /// Its namespace, which is the Pod's own.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    There,
    DrainScope,
    Missing,
}

impl OwnDaemonSet {
    /// Whether it is there at all, asked until the API server tells. One that never was there is not gone later: then the
    /// name is wrong.
    pub(crate) async fn await_found(&self) -> bool {
        loop {
            match self.look().await {
                Ok(Found::There | Found::DrainScope) => return true,
                Ok(Found::Missing) => {
                    tracing::warn!(
                        "there is no DaemonSet {}/{}, so its deletion won't be noticed: check --daemonset and POD_NAMESPACE",
                        self.namespace,
                        self.name
                    );
                    return false;
                }
                Err(error) => {
                    tracing::debug!("DaemonSet {}/{}: {error}", self.namespace, self.name);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Whether it is being deleted, or is gone already, having been there before. If the API server does not tell, it is
    /// not: then the process is expected to come back.
    pub(crate) async fn is_gone(&self) -> bool {
        match self.look().await {
            Ok(found) => found != Found::There,
            Err(error) => {
                tracing::warn!(
                    "whether DaemonSet {}/{} is being deleted can't be told: {error}",
                    self.namespace,
                    self.name
                );
                false
            }
        }
    }

    async fn look(&self) -> Result<Found, String> {
        let asked = async {
            let client = client::connect(self.kubeconfig.as_deref())
                .await
                .map_err(|error| error.to_string())?;
            let api: Api<DaemonSet> = Api::namespaced(client, &self.namespace);
            let found = api
                .get_metadata_opt(&self.name)
                .await
                .map_err(|error| error.to_string())?;
            Ok(match found {
                None => Found::Missing,
                Some(found) if found.metadata.deletion_timestamp.is_some() => Found::DrainScope,
                Some(_) => Found::There,
            })
        };
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        asked.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

#[cfg(test)]
mod tests;
