//! Watches which nodes have a ready layer 2 process: the endpoints of the headless Service
//! `ferrolb-layer2` in the Pod's namespace. The watch of all EndpointSlices leaves out those of
//! headless Services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::runtime::watcher;
use tokio::sync::mpsc;

use super::backoff::Backoff;
use super::client::WATCH_SECONDS;
use super::watch::needs_relist;
use crate::runtime::source::Event;

/// Selects the EndpointSlices of the Service.
const LABELS: &str = "kubernetes.io/service-name=ferrolb-layer2";

/// Watches until the receiver of events is dropped. Failures are only retried: the watch of all
/// EndpointSlices reports them, and the last known nodes stay in use.
pub(super) async fn follow(api: Api<EndpointSlice>, events: mpsc::Sender<Event>) {
    let config = watcher::Config::default()
        .labels(LABELS)
        .timeout(WATCH_SECONDS);
    let mut backoff = Backoff::default();
    let mut ready = ReadyNodes::default();
    while !events.is_closed() {
        let stream = watcher(api.clone(), config.clone());
        if follow_stream(stream, &mut ready, &mut backoff, &events).await == Next::End {
            return;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Relist,
    End,
}

async fn follow_stream(
    stream: impl Stream<Item = watcher::Result<watcher::Event<EndpointSlice>>>,
    ready: &mut ReadyNodes,
    backoff: &mut Backoff,
    events: &mpsc::Sender<Event>,
) -> Next {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                backoff.reset();
                if let Some(nodes) = ready.apply(event)
                    && events.send(Event::ReadyNodes(nodes)).await.is_err()
                {
                    return Next::End;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "watch of the endpoints of ferrolb-layer2");
                tokio::time::sleep(backoff.next()).await;
                if needs_relist(&error) {
                    return Next::Relist;
                }
            }
        }
    }
    Next::Relist
}

/// Nodes; none if the Service doesn't exist.
type Nodes = Option<BTreeSet<Arc<str>>>;

/// The ready nodes of each slice, by its name. Pure.
#[derive(Debug, Default)]
struct ReadyNodes {
    slices: BTreeMap<String, Vec<Arc<str>>>,
    /// While a list arrives.
    listing: BTreeMap<String, Vec<Arc<str>>>,
    sent: Nodes,
}

impl ReadyNodes {
    /// Applies an event. Returns the nodes if they changed.
    fn apply(&mut self, event: watcher::Event<EndpointSlice>) -> Option<Nodes> {
        match event {
            watcher::Event::Init => {
                self.listing.clear();
                return None;
            }
            watcher::Event::InitApply(slice) => {
                self.listing.insert(name(&slice), nodes(&slice));
                return None;
            }
            watcher::Event::InitDone => self.slices = std::mem::take(&mut self.listing),
            watcher::Event::Apply(slice) => {
                _ = self.slices.insert(name(&slice), nodes(&slice));
            }
            watcher::Event::Delete(slice) => _ = self.slices.remove(&name(&slice)),
        }
        let all = self.slices.values().flatten().cloned().collect();
        let new = (!self.slices.is_empty()).then_some(all);
        let changed = new != self.sent;
        self.sent.clone_from(&new);
        changed.then_some(new)
    }
}

fn name(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

/// The nodes of the ready endpoints.
fn nodes(slice: &EndpointSlice) -> Vec<Arc<str>> {
    let ready = slice.endpoints.iter().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    });
    ready
        .filter_map(|endpoint| endpoint.node_name.as_deref().map(Arc::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(name: &str, endpoints: &[(&str, bool)]) -> EndpointSlice {
        let endpoints = endpoints.iter().map(|(node, ready)| {
            json!({"addresses": ["192.0.2.1"], "nodeName": node, "conditions": {"ready": ready}})
        });
        let endpoints: Vec<_> = endpoints.collect();
        serde_json::from_value(json!({"addressType": "IPv4", "endpoints": endpoints,
            "metadata": {"name": name}}))
        .expect("a slice")
    }

    fn some(names: &[&str]) -> Option<Nodes> {
        Some(Some(names.iter().map(|name| Arc::from(*name)).collect()))
    }

    #[test]
    fn the_nodes_of_ready_endpoints_in_all_slices_are_reported_once_per_change() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let mut ready = ReadyNodes::default();
        assert_eq!(ready.apply(Init), None);
        assert_eq!(
            ready.apply(InitApply(slice("x", &[("a", true), ("b", false)]))),
            None
        );
        assert_eq!(ready.apply(InitDone), some(&["a"]));
        assert_eq!(
            ready.apply(Apply(slice("y", &[("b", true)]))),
            some(&["a", "b"])
        );
        assert_eq!(ready.apply(Apply(slice("y", &[("b", true)]))), None);
        assert_eq!(ready.apply(Delete(slice("x", &[]))), some(&["b"]));
        assert_eq!(
            ready.apply(Delete(slice("y", &[]))),
            Some(None),
            "the Service is gone"
        );
    }

    #[test]
    fn a_service_without_ready_endpoints_differs_from_no_service() {
        use watcher::Event::{Init, InitApply, InitDone};
        let mut ready = ReadyNodes::default();
        ready.apply(Init);
        assert_eq!(ready.apply(InitDone), None, "no Service, as before");
        ready.apply(Init);
        ready.apply(InitApply(slice("x", &[("a", false)])));
        assert_eq!(ready.apply(InitDone), some(&[]));
    }
}
