//! Watches the BGPSessions of certain BGPPeers while a drain of this node needs to know which other
//! nodes have a session with their routers. At other times it watches nothing: each change of a
//! session anywhere in the cluster would reach every node. A command on a laptop watches all.

use std::collections::BTreeSet;
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
use crate::core::api::bgp_session::AllSessions;
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

/// Follows the BGPSessions of the whole cluster. Never returns. Failures are only retried: the
/// last known states stay.
pub(super) async fn follow_all(client: Client, states: watch::Sender<Arc<AllSessions>>) {
    let api: Api<DynamicObject> = Api::all_with(client, &bgp_sessions());
    let send = |sessions: &Sessions| _ = states.send_replace(Arc::new(sessions.known.clone()));
    follow_matching(&api, &in_memory(), send).await;
}

/// Never returns.
async fn follow_peers(
    api: &Api<DynamicObject>,
    peers: &BTreeSet<String>,
    states: &watch::Sender<Arc<SessionStates>>,
) {
    let peers: Vec<String> = peers.iter().map(|peer| label(peer)).collect();
    let selector = format!("{PEER_LABEL} in ({})", peers.join(","));
    let send = |sessions: &Sessions| {
        let states_now = SessionStates::new(sessions.known.values());
        states.send_replace(Arc::new(states_now));
    };
    follow_matching(api, &in_memory().labels(&selector), send).await;
}

/// The list comes from the API server's memory.
fn in_memory() -> watcher::Config {
    let config = watcher::Config::default();
    config.any_semantic().timeout(WATCH_SECONDS)
}

/// Calls `send` with each complete state. Never returns.
async fn follow_matching(
    api: &Api<DynamicObject>,
    config: &watcher::Config,
    send: impl Fn(&Sessions),
) {
    let mut backoff = Backoff::default();
    let mut sessions = Sessions::default();
    loop {
        let stream = watcher(api.clone(), config.clone());
        follow_stream(stream, &mut sessions, &mut backoff, &send).await;
    }
}

/// Returns when the objects must be listed again.
async fn follow_stream(
    stream: impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>>,
    sessions: &mut Sessions,
    backoff: &mut Backoff,
    send: &impl Fn(&Sessions),
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                backoff.reset();
                if sessions.apply(event) {
                    send(sessions);
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
    known: AllSessions,
    /// While a list arrives.
    listing: AllSessions,
}

impl Sessions {
    /// Applies an event. Returns whether all objects are known, which they are not while a list
    /// arrives.
    fn apply(&mut self, event: watcher::Event<DynamicObject>) -> bool {
        match event {
            watcher::Event::Init => {
                self.listing.clear();
                return false;
            }
            watcher::Event::InitApply(object) => {
                insert(&mut self.listing, object);
                return false;
            }
            watcher::Event::InitDone => self.known = std::mem::take(&mut self.listing),
            watcher::Event::Apply(object) => insert(&mut self.known, object),
            watcher::Event::Delete(object) => {
                self.known.remove(&object.metadata.name.unwrap_or_default());
            }
        }
        true
    }
}

/// An object that can't be read counts as missing.
fn insert(sessions: &mut AllSessions, object: DynamicObject) {
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
        let states = |sessions: &Sessions| SessionStates::new(sessions.known.values());
        assert!(!sessions.apply(Init));
        assert!(!sessions.apply(InitApply(object("a", "Active"))));
        assert!(sessions.apply(InitDone), "complete");
        assert!(states(&sessions).is_down("tor", "a"));
        assert!(sessions.apply(Apply(object("a", "Established"))));
        assert!(!states(&sessions).is_down("tor", "a"));
        sessions.apply(Apply(object("b", "Idle")));
        assert!(states(&sessions).is_down("tor", "b"));
        sessions.apply(Apply(object("b", "of a later version")));
        assert!(!states(&sessions).is_down("tor", "b"), "unreadable");
        sessions.apply(Apply(object("b", "Idle")));
        sessions.apply(Delete(object("b", "Idle")));
        assert!(!states(&sessions).is_down("tor", "b"), "gone");
    }
}
