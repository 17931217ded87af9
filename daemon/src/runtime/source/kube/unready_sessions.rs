//! Marks the BGPSessions of nodes that are not Ready as Unknown, on the leader: on such a node
//! there may be no announcer that can write them.
//!
//! It does so when a node stops being Ready, and as a new leader. An announcer that still runs
//! there knows better and writes again. It may die later, so the leader repeats it from time to
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::status_objects::{Failure, MANAGER, answer, bgp_sessions};
use crate::core::api::Kind;
use crate::core::api::bgp_session::{BgpSessionStatus, KIND, UnknownReason};
use crate::runtime::source::bgp_sessions::NODE_LABEL;
use crate::runtime::source::status_objects::label;

/// How often the sessions of a node are listed, while its announcer writes them at the same time.
/// One that wrote so often runs, and will write again.
const ATTEMPTS: usize = 3;

/// The sessions of a node are marked again after this time.
const REPEAT: Duration = Duration::from_mins(10);

/// The nodes that are not Ready; none if this process doesn't lead.
type Unready = watch::Receiver<Option<Arc<BTreeSet<String>>>>;

/// Runs until the sender is dropped.
pub(super) async fn follow(client: Client, mut unready: Unready) {
    let api = Api::all_with(client, &bgp_sessions());
    // When the nodes were done.
    let mut done = BTreeMap::new();
    let mut backoff = Backoff::default();
    let mut failing = false;
    loop {
        let nodes = unready.borrow_and_update().clone().unwrap_or_default();
        done.retain(|node, _| nodes.contains(node));
        let mut failed = None;
        for node in due(&nodes, &done, Instant::now()) {
            match mark(&api, node).await {
                // Without the kind there is nothing to mark.
                Ok(()) | Err(Failure::NotFound) => _ = done.insert(node.clone(), Instant::now()),
                Err(failure) => {
                    failed = Some((node.clone(), failure));
                    break;
                }
            }
        }
        let Some((node, failure)) = failed else {
            failing = false;
            backoff.reset();
            let next = done.values().min().map(|done| *done + REPEAT);
            tokio::select! {
                changed = unready.changed() => if changed.is_err() {
                    return;
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
            continue;
        };
        if !std::mem::replace(&mut failing, true) {
            let why = failure.text();
            tracing::warn!(
                node,
                "can't mark the BGPSessions of a node that is not Ready as Unknown, retrying: \
                 {why}. Allow the allocator to list and patch bgpsessions (deploy/manifests/\
                 2-rbac.yaml)"
            );
        }
        sleep(backoff.next()).await;
    }
}

/// The nodes whose sessions are to be marked now.
fn due<'a>(
    nodes: &'a BTreeSet<String>,
    done: &BTreeMap<String, Instant>,
    now: Instant,
) -> Vec<&'a String> {
    let is_done = |node: &str| {
        let done = done.get(node);
        done.is_some_and(|done| now.saturating_duration_since(*done) < REPEAT)
    };
    nodes.iter().filter(|node| !is_done(node)).collect()
}

/// Marks the sessions of one node. What the announcer wrote meanwhile may have been its last write:
/// it is marked too.
async fn mark(api: &Api<DynamicObject>, node: &str) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        if mark_listed(api, node).await? {
            break;
        }
    }
    Ok(())
}

/// Marks the sessions of one node. Returns whether none was written meanwhile.
async fn mark_listed(api: &Api<DynamicObject>, node: &str) -> Result<bool, Failure> {
    let of_node = ListParams::default().labels(&format!("{NODE_LABEL}={}", label(node)));
    let now = Timestamp::now();
    let now = Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string();
    let mut complete = true;
    for object in answer(api.list(&of_node)).await? {
        let name = object.metadata.name.clone().unwrap_or_default();
        let Some(unknown) = unknown(object, &now) else {
            continue;
        };
        let params = PatchParams::apply(MANAGER).force();
        match answer(api.patch(&name, &params, &Patch::Apply(unknown))).await {
            Ok(_) | Err(Failure::NotFound) => {}
            Err(Failure::Conflict) => complete = false,
            Err(failure) => return Err(failure),
        }
    }
    Ok(complete)
}

/// The object with the state Unknown, unless it has that already for this reason. Its
/// resourceVersion makes the write fail if the announcer wrote it meanwhile.
fn unknown(object: DynamicObject, now: &str) -> Option<Value> {
    let status = object.data.get("status").cloned().unwrap_or_default();
    let mut status: BgpSessionStatus = serde_json::from_value(status).ok()?;
    let metadata = object.metadata;
    let changed = status.become_unknown(UnknownReason::NodeNotReady, now);
    changed.then(|| {
        json!({
            "apiVersion": Kind::OWN_API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": metadata.name,
                "labels": metadata.labels,
                "ownerReferences": metadata.owner_references,
                "resourceVersion": metadata.resource_version,
            },
            "status": status,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_of_a_node_are_marked_at_once_and_every_ten_minutes() {
        let nodes = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let now = Instant::now();
        let done = BTreeMap::from([("a".to_owned(), now)]);
        assert_eq!(due(&nodes, &done, now), ["b"]);
        let later = now + REPEAT;
        assert_eq!(due(&nodes, &done, later - Duration::from_secs(1)), ["b"]);
        assert_eq!(due(&nodes, &done, later), ["a", "b"]);
    }

    #[test]
    fn the_object_becomes_unknown_with_all_that_its_writer_owns_and_its_version() {
        let object = |bgp: &str| {
            json!({
                "apiVersion": "ferrolb.io/v1alpha1", "kind": "BGPSession",
                "metadata": {
                    "name": "a.tor", "resourceVersion": "7", "uid": "u-2",
                    "labels": {"ferrolb.io/node": "a"},
                    "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u-1"}
                    ],
                },
                "status": {"node": "a", "peer": "tor", "bgp": bgp, "bfd": "Up"},
            })
        };
        let parsed = |bgp| serde_json::from_value(object(bgp)).expect("an object");
        let unknown_object = unknown(parsed("Established"), "now").expect("a change");
        let mut metadata = object("")["metadata"].clone();
        metadata.as_object_mut().expect("an object").remove("uid");
        assert_eq!(unknown_object["metadata"], metadata);
        let status = &unknown_object["status"];
        assert_eq!(
            (&status["bgp"], &status["bfd"], &status["since"]),
            (&json!("Unknown"), &json!("Unknown"), &json!("now"))
        );
        assert_eq!(status["unknownReason"], "NodeNotReady");
        let again = serde_json::from_value(unknown_object).expect("an object");
        assert!(unknown(again, "now").is_none());
        // Its announcer had ended before.
        assert!(unknown(parsed("Unknown"), "now").is_some());
    }
}
