//! Follows whether MetalLB's controller runs. It and ferrolb's allocator would write the same
//! Services in turn, so the allocator stands back.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::watch::chain;

/// The labels of its Pods: of the plain manifests, and of the Helm chart.
const SELECTORS: [&str; 2] = [
    "app=metallb,component=controller",
    "app.kubernetes.io/name=metallb,app.kubernetes.io/component=controller",
];
/// Interval between two looks.
const INTERVAL: Duration = Duration::from_secs(10);
/// Limit for a look.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The Pod of MetalLB's controller, as `namespace/name`, while one runs.
pub(super) type Running = Option<String>;

/// Looks once, then again and again. Without an answer it assumes what was last seen.
pub(super) async fn follow(client: Client, namespaces: Vec<String>) -> watch::Receiver<Running> {
    let looking = Looking { client, namespaces };
    let mut failing = false;
    let first = looking.look(&mut failing).await.unwrap_or_default();
    let (running_in, running) = watch::channel(first);
    tokio::spawn(async move {
        while !running_in.is_closed() {
            sleep(INTERVAL).await;
            if let Some(found) = looking.look(&mut failing).await {
                running_in.send_if_modified(|running| {
                    let changed = *running != found;
                    *running = found;
                    changed
                });
            }
        }
    });
    running
}

struct Looking {
    client: Client,
    namespaces: Vec<String>,
}

impl Looking {
    /// `None` without an answer, which is logged once.
    async fn look(&self, failing: &mut bool) -> Option<Running> {
        let lists = self.namespaces.iter().flat_map(|namespace| {
            SELECTORS.map(|selector| running_pod(self.client.clone(), namespace, selector))
        });
        let found = timeout(TIMEOUT, try_join_all(lists)).await;
        let error = match found {
            Ok(Ok(pods)) => {
                *failing = false;
                return Some(pods.into_iter().flatten().next());
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        if !std::mem::replace(failing, true) {
            tracing::warn!(
                "can't see whether MetalLB's controller runs, retrying: {error}. The allocator \
                 needs the permission to list Pods (deploy/manifests/2-rbac.yaml)"
            );
        }
        None
    }
}

async fn running_pod(
    client: Client,
    namespace: &str,
    selector: &str,
) -> Result<Running, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let params = ListParams::default()
        .labels(selector)
        .fields("status.phase=Running")
        .limit(1);
    let pods = api.list_metadata(&params).await?;
    let names = pods.items.into_iter().filter_map(|pod| pod.metadata.name);
    Ok(names.map(|name| format!("{namespace}/{name}")).next())
}
