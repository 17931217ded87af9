//! What a cluster says about ferrolb's state, listed once: Pods, also those of MetalLB, sessions,
//! and owners of layer 2.

use anyhow::Result;
use futures::future::{join, join4, try_join_all};
use serde_json::Value;

use super::cluster::{Cluster, Refused};
use crate::core::api::metallb_pod::{MetallbPod, QUERIES};
use crate::core::api::{Kind, bgp_session};
use crate::core::overview::Observed;
use crate::core::overview::observed::{Pod, Sessions, Workload};
use crate::core::owners::owners;
use crate::runtime::source::metallb_kinds::API_VERSION;

/// What was read, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct StatusSnapshot {
    /// What was read.
    pub observed: Observed,
    /// The workloads, unparsed.
    pub workloads: Vec<Value>,
    /// The kinds that the user may not list, with the answer of the API server.
    pub unreadable: Vec<(&'static str, String)>,
}

impl StatusSnapshot {
    /// Lists everything, with ferrolb's Pods by a selector. The workloads are read by the caller. A
    /// kind that the user may not list is reported, and the others are complete.
    ///
    /// # Errors
    /// The API server does not answer.
    pub(crate) async fn read(
        cluster: &Cluster,
        selector: &str,
        workloads: impl Future<Output = Result<Vec<Value>>>,
    ) -> Result<Self> {
        let pods = format!("/api/v1/pods?{selector}");
        let sessions = format!("/apis/{}/{}", Kind::OWN_API_VERSION, bgp_session::PLURAL);
        let events = "/api/v1/events?fieldSelector=reason%3DnodeAssigned";
        let statuses = format!("/apis/{API_VERSION}/servicel2statuses");
        let owners_of = join(cluster.list(events), cluster.list(&statuses));
        let pods_of = join(cluster.list(&pods), metallb_pods(cluster));
        let (workloads, (pods, metallb), sessions, (events, statuses)) = join4(
            workloads,
            pods_of,
            cluster.list_if_served(&sessions),
            owners_of,
        )
        .await;
        let mut snapshot = Self::default();
        let workloads = snapshot.readable("Deployment and DaemonSet", workloads)?;
        let pods = snapshot.readable("Pod", pods)?;
        // A list of Pods that is refused is reported once.
        let metallb = match &pods {
            Some(_) => snapshot.readable("Pod", metallb)?,
            None => None,
        };
        let sessions = snapshot.readable(bgp_session::KIND, sessions)?;
        let events = snapshot.readable("Event", events)?.unwrap_or_default();
        let statuses = snapshot.readable("ServiceL2Status", statuses)?;
        let parsed = workloads.as_ref().map(|all| all.iter().map(Workload::of));
        snapshot.observed = Observed {
            workloads: parsed.map(Iterator::collect),
            pods: pods.map(|all| all.iter().filter_map(Pod::of).collect()),
            metallb,
            sessions: match &sessions {
                None => Sessions::Unreadable,
                Some(None) => Sessions::NoKind,
                Some(Some(objects)) => Sessions::of(objects),
            },
            owners: owners(&events, &statuses.unwrap_or_default()),
        };
        snapshot.workloads = workloads.unwrap_or_default();
        Ok(snapshot)
    }

    /// None if the user may not read it, which is noted.
    fn readable<T>(&mut self, what: &'static str, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(objects) => Ok(Some(objects)),
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(refused) if refused.is_forbidden() => {
                    self.unreadable.push((what, refused.message.clone()));
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }
}

/// The Pods of MetalLB that run, in all namespaces.
async fn metallb_pods(cluster: &Cluster) -> Result<Vec<MetallbPod>> {
    let lists = QUERIES.map(|query| async move {
        let path = format!("/api/v1/pods?{query}&fieldSelector=status.phase%3DRunning");
        cluster.list(&path).await
    });
    let pods = try_join_all(lists).await?.concat();
    Ok(pods.iter().filter_map(MetallbPod::of).collect())
}
