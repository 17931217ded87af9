//! Finds out whether the DaemonSet of this process is being deleted.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;

use super::client;

/// Timeout of a request; short, since shutdown must finish within terminationGracePeriodSeconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before a failed request is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// The DaemonSet that this process belongs to.
#[derive(Clone, Debug)]
pub(crate) struct OwnDaemonSet {
    /// Kubeconfig; `None` for the Pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Its namespace, the Pod's own.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Present,
    Deleting,
    Missing,
}

impl OwnDaemonSet {
    /// Whether it exists, retried until the API server answers. One that never existed can't be
    /// deleted later: its name is wrong.
    pub(crate) async fn wait_until_found(&self) -> bool {
        loop {
            match self.lookup().await {
                Ok(Found::Present | Found::Deleting) => return true,
                Ok(Found::Missing) => {
                    tracing::warn!(
                        "no DaemonSet {}/{}, so its deletion can't be detected: check --daemonset \
                         and POD_NAMESPACE",
                        self.namespace,
                        self.name
                    );
                    return false;
                }
                Err(error) => {
                    tracing::debug!("DaemonSet {}/{}: {error}", self.namespace, self.name);
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Whether it is deleted or being deleted, for one that existed. Without an answer the result
    /// is false: the process is expected to restart.
    pub(crate) async fn is_gone(&self) -> bool {
        match self.lookup().await {
            Ok(found) => found != Found::Present,
            Err(error) => {
                tracing::warn!(
                    "can't find out whether DaemonSet {}/{} is being deleted, assuming a restart: \
                     {error}",
                    self.namespace,
                    self.name
                );
                false
            }
        }
    }

    async fn lookup(&self) -> Result<Found, String> {
        let request = async {
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
                Some(found) if found.metadata.deletion_timestamp.is_some() => Found::Deleting,
                Some(_) => Found::Present,
            })
        };
        let request = tokio::time::timeout(REQUEST_TIMEOUT, request).await;
        request.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

#[cfg(test)]
mod tests;
