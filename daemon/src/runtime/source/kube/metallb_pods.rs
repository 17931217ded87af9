//! Follows whether MetalLB runs beside ferrolb: its controller, which would write the same Services
//! in turn with ferrolb's allocator, and its speaker on this node, which announces the same
//! addresses.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::watch::chain;
use crate::runtime::source::Event;

/// The labels of its Pods, before the component: of the plain manifests, and of the Helm chart.
const SELECTORS: [&str; 2] = [
    "app=metallb,component=",
    "app.kubernetes.io/name=metallb,app.kubernetes.io/component=",
];
/// Interval between two looks for the controller.
const INTERVAL: Duration = Duration::from_secs(10);
/// Interval between two looks for a speaker that runs, or after no answer.
const SPEAKER_INTERVAL: Duration = Duration::from_secs(3);
/// Interval between two looks for a speaker that may appear, in seconds: a random one of these,
/// since every node looks.
const ABSENT_SECONDS: std::ops::RangeInclusive<u64> = 45..=75;
/// Limit for a look.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A Pod of MetalLB, as `namespace/name`, while one runs.
pub(super) type Running = Option<String>;

/// A part of MetalLB.
#[derive(Clone, Debug)]
enum Part {
    Controller,
    /// On this node.
    Speaker(String),
}

/// What a look finds.
enum Look {
    Found(Running),
    /// The API server refuses the list.
    Refused,
    /// There is no answer.
    Unanswered,
}

/// Looks for the controller once, then again and again. Without an answer it assumes what was last
/// seen.
pub(super) async fn follow_controller(
    client: Client,
    namespaces: Vec<String>,
) -> watch::Receiver<Running> {
    let mut looking = Looking::new(client, namespaces, Part::Controller);
    let first = match looking.look().await {
        Look::Found(running) => running,
        Look::Refused | Look::Unanswered => None,
    };
    let (running_in, running) = watch::channel(first);
    tokio::spawn(async move {
        while !running_in.is_closed() {
            sleep(INTERVAL).await;
            if let Look::Found(found) = looking.look().await {
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

/// Looks for the speaker on a node until the receiver of events is dropped. Reports the first
/// result, and changes. An API server that refuses the list counts as one without a speaker: what
/// was announced before this permission existed must be announced after an upgrade.
pub(super) async fn follow_speaker(
    client: Client,
    namespaces: Vec<String>,
    node: String,
    events: mpsc::Sender<Event>,
) {
    let mut looking = Looking::new(client, namespaces, Part::Speaker(node));
    let mut reported: Option<Running> = None;
    while !events.is_closed() {
        let look = looking.look().await;
        let unanswered = matches!(look, Look::Unanswered);
        let found = match look {
            Look::Found(running) => Some(running),
            Look::Refused if reported.is_none() => Some(None),
            Look::Refused | Look::Unanswered => None,
        };
        if let Some(found) = found.filter(|found| reported.as_ref() != Some(found)) {
            reported = Some(found.clone());
            if events.send(Event::MetallbSpeaker(found)).await.is_err() {
                return;
            }
        }
        let runs = reported.as_ref().is_some_and(Option::is_some);
        let pause = if runs || unanswered {
            SPEAKER_INTERVAL
        } else {
            Duration::from_secs(fastrand::u64(ABSENT_SECONDS))
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = events.closed() => return,
        }
    }
}

struct Looking {
    client: Client,
    namespaces: Vec<String>,
    part: Part,
    /// Whether the last look failed, which is logged once.
    failing: bool,
}

impl Looking {
    const fn new(client: Client, namespaces: Vec<String>, part: Part) -> Self {
        Self {
            client,
            namespaces,
            part,
            failing: false,
        }
    }

    async fn look(&mut self) -> Look {
        let lists = self.namespaces.iter().flat_map(|namespace| {
            SELECTORS
                .map(|selector| running_pod(self.client.clone(), namespace, selector, &self.part))
        });
        let found = timeout(TIMEOUT, try_join_all(lists)).await;
        let (look, error) = match found {
            Ok(Ok(pods)) => {
                self.failing = false;
                return Look::Found(pods.into_iter().flatten().next());
            }
            Ok(Err(error @ kube::Error::Api(_))) => (Look::Refused, chain(&error)),
            Ok(Err(error)) => (Look::Unanswered, chain(&error)),
            Err(_) => (Look::Unanswered, "no answer in time".to_owned()),
        };
        if !std::mem::replace(&mut self.failing, true) {
            let part = match self.part {
                Part::Controller => "controller",
                Part::Speaker(_) => "speaker on this node",
            };
            tracing::warn!(
                "can't see whether MetalLB's {part} runs, retrying: {error}. This needs the \
                 permission to list Pods (deploy/manifests/2-rbac.yaml)"
            );
        }
        look
    }
}

async fn running_pod(
    client: Client,
    namespace: &str,
    selector: &str,
    part: &Part,
) -> Result<Running, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let (component, fields) = match part {
        Part::Controller => ("controller", "status.phase=Running".to_owned()),
        Part::Speaker(node) => (
            "speaker",
            format!("status.phase=Running,spec.nodeName={node}"),
        ),
    };
    let params = ListParams::default()
        .labels(&format!("{selector}{component}"))
        .fields(&fields)
        .limit(1);
    let pods = api.list_metadata(&params).await?;
    let names = pods.items.into_iter().filter_map(|pod| pod.metadata.name);
    Ok(names.map(|name| format!("{namespace}/{name}")).next())
}
