//! The steps that replace the program on one node.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Migration, NODE_TIMEOUT, check_none, check_ready, eventually, is_on, is_ready};
use crate::cli::migrate::facts::{
    LABEL, METALLB, MOVING, NODES, Paths, is_announcing, is_ferrolb, name, namespace_of,
};
use crate::cli::migrate::placement::Place;
use crate::cli::migrate::samples::Samples;
use crate::cli::migrate::sessions::{
    PlannedPeer, Returned, Routers, established, missing, required, returned, take_own, unreached,
};
use crate::cli::output::print;
use crate::core::api::Kind;
use crate::core::api::bgp_session::{BgpSessionStatus, PLURAL, statuses};
use crate::runtime::source::bgp_sessions::NODE_LABEL;
use crate::runtime::source::status_objects::label;

/// Time that MetalLB has on a node to establish its sessions again, if it shows no states: frr-k8s
/// collects changes for 3 s, and FRR retries after 10 s (`connectTime` may be longer).
const SETTLES: Duration = Duration::from_secs(30);

/// Versions of MetalLB's BGPPeers.
const METALLB_VERSIONS: [&str; 2] = ["metallb.io/v1beta2", "metallb.io/v1beta1"];

impl Migration {
    /// Replaces MetalLB's speaker by ferrolb on one node.
    pub(super) async fn move_node(&mut self, node: &str) -> Result<()> {
        let mut speaker = self.metallb_pods(node).await?;
        // One that ends has lost its sessions.
        speaker.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        if let Some(shown) = self.sessions_of_metallb(&speaker).await {
            let unreached = unreached(self.planned_on(node), &shown);
            self.remember_unreached(node, unreached).await?;
        }
        // ferrolb does not run on the node.
        let old = self.sessions_of_ferrolb(node).await?.unwrap_or_default();
        self.mark(node, Some(MOVING)).await?;
        let what = format!("the end of MetalLB's speaker on {node}");
        eventually(&what, NODE_TIMEOUT, async || {
            check_none(&self.metallb_pods(node).await?)
        })
        .await?;
        self.mark(node, None).await?;
        self.await_daemonsets(node).await?;
        self.await_sessions(node, &old).await?;
        self.check_addresses().await
    }

    /// Waits until ferrolb works on a node that an earlier run gave it, perhaps without success.
    pub(super) async fn await_node(&self, node: &str) -> Result<()> {
        self.await_daemonsets(node).await?;
        self.await_sessions(node, &[]).await
    }

    fn planned_on(&self, node: &str) -> &[PlannedPeer] {
        self.peers.get(node).map_or(&[], Vec::as_slice)
    }

    /// Records the BGPPeers that MetalLB does not reach: when it has ended, it can't show them.
    async fn remember_unreached(&mut self, node: &str, unreached: BTreeSet<String>) -> Result<()> {
        let before = self.record.unreached.get(node);
        if before.cloned().unwrap_or_default() == unreached {
            return Ok(());
        }
        self.record.unreached.insert(node.to_owned(), unreached);
        self.write_record().await
    }

    /// Replaces ferrolb by MetalLB's speaker on one node.
    pub(super) async fn return_node(&self, node: &str, speaker: bool) -> Result<()> {
        let ours = self.pods_on(node, is_announcing).await?;
        let sessions = self.sessions_of_ferrolb(node).await?;
        let before = match sessions.filter(|_| !ours.is_empty()) {
            Some(sessions) => established(&self.possible_for_metallb(node, sessions).await?),
            None => None,
        };
        self.mark(node, Some(MOVING)).await?;
        self.await_no_pod("ferrolb", |pod| is_announcing(pod) && is_on(pod, node))
            .await?;
        if !speaker {
            return Ok(());
        }
        self.mark(node, Some(METALLB)).await?;
        let what = format!("MetalLB's speaker on {node} to be Ready");
        eventually(&what, NODE_TIMEOUT, async || {
            let pods = self.metallb_pods(node).await?;
            ensure!(
                pods.len() >= self.record.update_strategies.len(),
                "a Pod is missing"
            );
            check_ready(&pods)
        })
        .await?;
        self.await_return(node, before.as_ref()).await
    }

    /// The sessions that MetalLB can have as well. Names the BGPPeers of the others.
    async fn possible_for_metallb(
        &self,
        node: &str,
        mut sessions: Vec<BgpSessionStatus>,
    ) -> Result<Vec<BgpSessionStatus>> {
        let own = self.bgp_peers(&[Kind::OWN_API_VERSION]).await?;
        let metallb = self.bgp_peers(&METALLB_VERSIONS).await?;
        let taken = take_own(&mut sessions, &own, &metallb);
        if !taken.is_empty() {
            let taken: Vec<String> = taken.into_iter().collect();
            print(&format!(
                "notice: MetalLB can't have these sessions on {node}, their BGPPeers are of \
                 ferrolb.io: {}\n",
                taken.join(", ")
            ))?;
        }
        Ok(sessions)
    }

    /// The names of the BGPPeers of an API group, by the first of the versions that is served.
    async fn bgp_peers(&self, versions: &[&str]) -> Result<BTreeSet<String>> {
        for version in versions {
            let path = format!("/apis/{version}/namespaces/{}/bgppeers", self.namespace);
            if let Some(peers) = self.cluster.list_if_served(&path).await? {
                return Ok(peers.iter().map(|peer| name(peer).to_owned()).collect());
            }
        }
        Ok(BTreeSet::new())
    }

    /// The Pods of MetalLB's DaemonSets on a node.
    async fn metallb_pods(&self, node: &str) -> Result<Vec<Value>> {
        let daemonsets = &self.record.update_strategies;
        let namespaces = daemonsets.keys().filter_map(|name| name.split_once('/'));
        let namespaces: BTreeSet<&str> = namespaces.map(|(namespace, _)| namespace).collect();
        let mut found = Vec::new();
        for namespace in namespaces {
            let pods = self.cluster.list(&Paths::new(namespace).pods).await?;
            found.extend(pods.into_iter().filter(|pod| {
                is_on(pod, node)
                    && daemonset_of(pod).is_some_and(|owner| daemonsets.contains_key(&owner))
            }));
        }
        Ok(found)
    }

    /// The sessions that MetalLB's Pods show. `None` if they show none, for instance because their
    /// metrics need a token: since MetalLB 0.16, and with frr-k8s.
    async fn sessions_of_metallb(&self, pods: &[Value]) -> Option<Routers> {
        let mut all: Option<Routers> = None;
        for pod in pods {
            let samples = Samples::of(&self.cluster, pod).await;
            if let Some(sessions) = samples.and_then(|samples| samples.sessions()) {
                all.get_or_insert_default().extend(sessions);
            }
        }
        all
    }

    /// What ferrolb's BGPSessions say about a node. `None` if there is no such kind.
    async fn sessions_of_ferrolb(&self, node: &str) -> Result<Option<Vec<BgpSessionStatus>>> {
        let version = Kind::OWN_API_VERSION;
        let selector = format!("{}%3D{}", NODE_LABEL.replace('/', "%2F"), label(node));
        let path = format!("/apis/{version}/{PLURAL}?labelSelector={selector}");
        let objects = self.cluster.list_if_served(&path).await?;
        Ok(objects.map(|objects| {
            let (mut sessions, _) = statuses(&objects);
            sessions.retain(|status| status.node == node);
            sessions
        }))
    }

    async fn pods_on(&self, node: &str, of: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let mut pods = self.cluster.list(&self.paths.pods).await?;
        pods.retain(|pod| is_on(pod, node) && of(pod));
        Ok(pods)
    }

    /// Waits until a Pod of each DaemonSet of ferrolb that can run on the node is Ready there.
    async fn await_daemonsets(&self, node: &str) -> Result<()> {
        let what = format!("ferrolb on {node} to be Ready");
        eventually(&what, NODE_TIMEOUT, async || {
            let object = self.cluster.get(&format!("{NODES}/{node}")).await?;
            let place = Place::of(&object.context("the Node is gone")?, LABEL);
            let mut daemonsets = self.cluster.list(&self.paths.daemonsets).await?;
            daemonsets.retain(|found| is_ferrolb(found) && place.refuses(found).is_none());
            ensure!(
                !daemonsets.is_empty(),
                "no DaemonSet of ferrolb can run there"
            );
            let pods = self.pods_on(node, is_announcing).await?;
            for daemonset in &daemonsets {
                let owner = format!("{}/{}", namespace_of(daemonset), name(daemonset));
                let mut pods = pods
                    .iter()
                    .filter(|pod| daemonset_of(pod).as_ref() == Some(&owner));
                ensure!(pods.any(is_ready), "no Pod of {} is", name(daemonset));
            }
            Ok(())
        })
        .await
    }

    /// Waits until ferrolb reports that the sessions that it must have are established.
    async fn await_sessions(&self, node: &str, old: &[BgpSessionStatus]) -> Result<()> {
        let required = required(self.planned_on(node), self.record.unreached.get(node));
        let what = format!("ferrolb's sessions on {node} (kubectl get bgpsessions)");
        eventually(&what, NODE_TIMEOUT, async || {
            let now = self.sessions_of_ferrolb(node).await?.unwrap_or_default();
            let missing = missing(&required, &now, old);
            ensure!(missing.is_empty(), "{}", missing.join("; "));
            Ok(())
        })
        .await
    }

    /// Waits until MetalLB has the sessions again that ferrolb had. If it does not show its
    /// sessions, they have [`SETTLES`].
    async fn await_return(&self, node: &str, before: Option<&BTreeSet<String>>) -> Result<()> {
        let begun = Instant::now();
        let what = format!("MetalLB's sessions on {node}");
        let seen = eventually(&what, NODE_TIMEOUT, async || {
            let pods = self.metallb_pods(node).await?;
            let now = self.sessions_of_metallb(&pods).await;
            match returned(before, now.as_ref()) {
                Returned::Yes => Ok(true),
                Returned::No(missing) => bail!("not established: {}", missing.join(", ")),
                Returned::Unknown if begun.elapsed() >= SETTLES => Ok(false),
                Returned::Unknown => bail!("they are not known"),
            }
        })
        .await?;
        if !seen {
            print(&format!(
                "notice: MetalLB does not show all of its sessions on {node}; they had {} s\n",
                SETTLES.as_secs()
            ))?;
        }
        Ok(())
    }
}

/// `namespace/name` of the DaemonSet that a Pod belongs to.
fn daemonset_of(pod: &Value) -> Option<String> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["kind"] == "DaemonSet")?;
    Some(format!("{}/{}", namespace_of(pod), owner["name"].as_str()?))
}
