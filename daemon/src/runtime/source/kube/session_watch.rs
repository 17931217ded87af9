//! Watches the BGPSessions of certain BGPPeers while a drain of this node needs to know which other
//! nodes have a session with their routers. At other times it watches nothing: each change of a
//! session anywhere in the cluster would reach every node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::api::DynamicObject;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::sleep;

use super::backoff::Backoff;
use super::client::WATCH_SECONDS;
use super::status_objects::bgp_sessions;
use super::watch::needs_relist;
use crate::core::api::bgp_session::BgpSessionStatus;
use crate::runtime::source::bgp_sessions::{PEER_LABEL, SessionStates};
use crate::runtime::source::status_objects::label;

/// Runs until the sender of BGPPeers is dropped. Failures are only retried: what is unknown decides
/// nothing.
pub(super) async fn follow(
    client: Client,
    mut wanted: watch::Receiver<BTreeSet<String>>,
    states: watch::Sender<Arc<SessionStates>>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &bgp_sessions());
    loop {
        let peers = wanted.borrow_and_update().clone();
        let changed = if peers.is_empty() {
            states.send_replace(Arc::default());
            wanted.changed().await
        } else {
            tokio::select! {
                changed = wanted.changed() => changed,
                () = follow_peers(&api, &peers, &states) => Ok(()),
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Never returns.
async fn follow_peers(
    api: &Api<DynamicObject>,
    peers: &BTreeSet<String>,
    states: &watch::Sender<Arc<SessionStates>>,
) {
    let peers: Vec<String> = peers.iter().map(|peer| label(peer)).collect();
    let selector = format!("{PEER_LABEL} in ({})", peers.join(","));
    // The list comes from the API server's memory.
    let config = watcher::Config::default()
        .labels(&selector)
        .any_semantic()
        .timeout(WATCH_SECONDS);
    let mut backoff = Backoff::default();
    let mut sessions = Sessions::default();
    loop {
        let stream = watcher(api.clone(), config.clone());
        follow_stream(stream, &mut sessions, &mut backoff, states).await;
    }
}

/// Returns when the objects must be listed again.
async fn follow_stream(
    stream: impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>>,
    sessions: &mut Sessions,
    backoff: &mut Backoff,
    states: &watch::Sender<Arc<SessionStates>>,
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                backoff.reset();
                if let Some(new) = sessions.apply(event) {
                    states.send_replace(Arc::new(new));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "watch of BGPSessions");
                sleep(backoff.next()).await;
                if needs_relist(&error) {
                    return;
                }
            }
        }
    }
}

/// The objects by name. Pure.
#[derive(Debug, Default)]
struct Sessions {
    known: BTreeMap<String, BgpSessionStatus>,
    /// While a list arrives.
    listing: BTreeMap<String, BgpSessionStatus>,
}

impl Sessions {
    /// Applies an event. Returns what all objects say, unless a list is incomplete.
    fn apply(&mut self, event: watcher::Event<DynamicObject>) -> Option<SessionStates> {
        match event {
            watcher::Event::Init => {
                self.listing.clear();
                return None;
            }
            watcher::Event::InitApply(object) => {
                insert(&mut self.listing, object);
                return None;
            }
            watcher::Event::InitDone => self.known = std::mem::take(&mut self.listing),
            watcher::Event::Apply(object) => insert(&mut self.known, object),
            watcher::Event::Delete(object) => {
                self.known.remove(&object.metadata.name.unwrap_or_default());
            }
        }
        Some(SessionStates::new(self.known.values()))
    }
}

/// An object that can't be read counts as missing.
fn insert(sessions: &mut BTreeMap<String, BgpSessionStatus>, object: DynamicObject) {
    let name = object.metadata.name.unwrap_or_default();
    let status = object.data.get("status").cloned().unwrap_or_default();
    match serde_json::from_value(status) {
        Ok(status) => _ = sessions.insert(name, status),
        Err(_) => _ = sessions.remove(&name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(node: &str, bgp: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{node}.tor")},
            "status": {"node": node, "peer": "tor", "bgp": bgp},
        }))
        .expect("an object")
    }

    #[test]
    fn sessions_are_known_once_all_are_listed_and_follow_changes() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let mut sessions = Sessions::default();
        assert_eq!(sessions.apply(Init), None);
        assert_eq!(sessions.apply(InitApply(object("a", "Active"))), None);
        let states = sessions.apply(InitDone).expect("complete");
        assert!(states.is_down("tor", "a"));
        let states = sessions.apply(Apply(object("a", "Established")));
        assert!(!states.expect("states").is_down("tor", "a"));
        let states = sessions.apply(Apply(object("b", "Idle")));
        assert!(states.expect("states").is_down("tor", "b"));
        let states = sessions.apply(Apply(object("b", "of a later version")));
        assert!(!states.expect("states").is_down("tor", "b"), "unreadable");
        sessions.apply(Apply(object("b", "Idle")));
        let states = sessions.apply(Delete(object("b", "Idle")));
        assert!(!states.expect("states").is_down("tor", "b"), "gone");
    }
}
