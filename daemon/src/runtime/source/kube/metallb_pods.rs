//! Follows whether MetalLB runs beside ferrolb: its controller, which would write the same Services
//! in turn with ferrolb's allocator, and its speaker on this node, which announces the same
//! addresses.

use std::time::Duration;

use futures::future::try_join_all;
use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::leader_election::Lead;
use super::list::{WithoutHistory, each_item};
use super::watch::chain;
use crate::core::api::metallb_pod::{MetallbPod, Part};
use crate::runtime::source::Event;

/// The Pods of all namespaces.
const EVERYWHERE: &str = "/api/v1/pods";
/// Interval between two looks for a controller that may appear.
const CONTROLLER_INTERVAL: Duration = Duration::from_secs(30);
/// Interval between two looks for what runs, or after no answer.
const SHORT_INTERVAL: Duration = Duration::from_secs(3);
/// Interval between two looks for a speaker that may appear, in seconds: a random one of these,
/// since every node looks.
const ABSENT_SECONDS: std::ops::RangeInclusive<u64> = 45..=75;
/// Limit for a look.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Selects Pods of which a container runs.
const RUNNING: &str = "status.phase=Running";

/// A Pod of MetalLB, while one runs.
type Running = Option<MetallbPod>;

/// What a look finds.
enum Look {
    Found(Running),
    /// The API server refuses the list.
    Refused(String),
    /// There is no answer.
    Unanswered(String),
}

/// Looks for controllers that serve the Services of a class until the receiver is dropped, also
/// when this process begins to lead: the leader before it may have stood back. The receiver says
/// whether ferrolb may allocate: not before the first answer, and not while such a controller runs,
/// which is also sent as an event. Without an answer it assumes what was last seen. An API server
/// that refuses the list counts as one without a controller, and the log says so: ferrolb must work
/// without this permission, as it did before the permission existed.
pub(super) fn follow_controller(
    client: Client,
    namespaces: Vec<String>,
    class: Option<String>,
    lead: watch::Receiver<Lead>,
    events: mpsc::Sender<Event>,
) -> watch::Receiver<bool> {
    let (may_lead_in, may_lead) = watch::channel(false);
    let looking = ControllerSearch {
        // The API server answers from memory, and does not read all Pods from its storage.
        search: Search {
            client,
            part: Part::Controller,
            params: ListParams::default().fields(RUNNING).match_any(),
        },
        namespaces,
        class,
        sight: Sight::Everywhere,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = may_lead_in.closed() => {}
            () = looking.follow(&may_lead_in, lead, events) => {}
        }
    });
    may_lead
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
    let fields = format!("{RUNNING},spec.nodeName={node}");
    let search = Search {
        client,
        part: Part::Speaker,
        params: ListParams::default().fields(&fields).limit(1),
    };
    let paths = paths(&namespaces);
    let mut failing = false;
    let mut reported: Option<Running> = None;
    while !events.is_closed() {
        let look = search.look(&paths, |_| true).await;
        let unanswered = matches!(look, Look::Unanswered(_));
        report_unseen_speaker(&look, &mut failing);
        let found = match look {
            Look::Found(running) => Some(running),
            Look::Refused(_) if reported.is_none() => Some(None),
            Look::Refused(_) | Look::Unanswered(_) => None,
        };
        if let Some(found) = found.filter(|found| reported.as_ref() != Some(found)) {
            let pod = found.as_ref().map(|pod| pod.name.to_string());
            reported = Some(found);
            if events.send(Event::MetallbSpeaker(pod)).await.is_err() {
                return;
            }
        }
        let runs = reported.as_ref().is_some_and(Option::is_some);
        let pause = if runs || unanswered {
            SHORT_INTERVAL
        } else {
            Duration::from_secs(fastrand::u64(ABSENT_SECONDS))
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = events.closed() => return,
        }
    }
}

/// Logs the first of several failures.
fn report_unseen_speaker(look: &Look, failing: &mut bool) {
    let (Look::Refused(error) | Look::Unanswered(error)) = look else {
        *failing = false;
        return;
    };
    if !std::mem::replace(failing, true) {
        tracing::warn!(
            "can't see whether MetalLB's speaker runs on this node, retrying: {error}. This needs \
             the permission to list Pods (deploy/manifests/2-rbac.yaml)"
        );
    }
}

/// The paths of the Pods of these namespaces.
fn paths(namespaces: &[String]) -> Vec<String> {
    let namespaces = namespaces.iter();
    namespaces
        .map(|namespace| format!("/api/v1/namespaces/{namespace}/pods"))
        .collect()
}

/// Lists the running Pods of a part.
struct Search {
    client: Client,
    part: Part,
    params: ListParams,
}

impl Search {
    async fn look(&self, paths: &[String], is_meant: impl Fn(&MetallbPod) -> bool) -> Look {
        let selectors = self.part.selectors();
        let lists = paths.iter().flat_map(|path| {
            let selectors = selectors.iter();
            selectors.map(move |selector| self.list(path, selector))
        });
        match timeout(TIMEOUT, try_join_all(lists)).await {
            Ok(Ok(pods)) => Look::Found(pods.into_iter().flatten().find(is_meant)),
            Ok(Err(error)) if is_refusal(&error) => Look::Refused(chain(&error)),
            Ok(Err(error)) => Look::Unanswered(chain(&error)),
            Err(_) => Look::Unanswered("no answer in time".to_owned()),
        }
    }

    async fn list(&self, path: &str, selector: &str) -> Result<Vec<MetallbPod>, kube::Error> {
        let params = self.params.clone().labels(selector);
        let request = Request::new(path).list(&params);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let text = self.client.request_text(request).await?;
        let mut pods = Vec::new();
        each_item(&text, |pod: WithoutHistory| {
            pods.extend(MetallbPod::of(&pod.0));
        })
        .map_err(kube::Error::SerdeError)?;
        Ok(pods)
    }
}

fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}

/// Where controllers are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Everywhere,
    /// In the configuration namespaces.
    Namespaces,
    /// The API server refuses all lists.
    Nowhere,
    Unanswered,
}

struct ControllerSearch {
    search: Search,
    namespaces: Vec<String>,
    class: Option<String>,
    /// As last reported.
    sight: Sight,
}

impl ControllerSearch {
    async fn follow(
        mut self,
        may_lead: &watch::Sender<bool>,
        mut lead: watch::Receiver<Lead>,
        events: mpsc::Sender<Event>,
    ) {
        let mut running: Running = None;
        loop {
            let term = lead.borrow().term;
            let found = match self.look().await {
                Look::Found(found) => Some(found),
                // Before, nothing was seen.
                Look::Refused(_) => Some(running.clone()),
                Look::Unanswered(_) => None,
            };
            let answered = found.is_some();
            if let Some(found) = found {
                may_lead.send_if_modified(|may_lead| {
                    std::mem::replace(may_lead, found.is_none()) != found.is_none()
                });
                if found != running {
                    running.clone_from(&found);
                    let event = Event::MetallbController(found.map(Box::new));
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
            let pause = if answered && running.is_none() {
                CONTROLLER_INTERVAL
            } else {
                SHORT_INTERVAL
            };
            tokio::select! {
                () = sleep(pause) => {}
                Ok(_) = lead.wait_for(|lead| lead.term != term) => {}
            }
        }
    }

    /// Looks in all namespaces, or if that is refused in those of the configuration.
    async fn look(&mut self) -> Look {
        let is_meant = |pod: &MetallbPod| pod.serves(self.class.as_deref());
        let all = self.search.look(&[EVERYWHERE.to_owned()], is_meant).await;
        let (look, sight, error) = match all {
            Look::Found(found) => (Look::Found(found), Sight::Everywhere, String::new()),
            Look::Unanswered(error) => {
                let look = Look::Unanswered(error.clone());
                (look, Sight::Unanswered, error)
            }
            Look::Refused(error) => {
                let look = self.search.look(&paths(&self.namespaces), is_meant).await;
                let sight = match &look {
                    Look::Found(_) => Sight::Namespaces,
                    Look::Refused(_) => Sight::Nowhere,
                    Look::Unanswered(_) => Sight::Unanswered,
                };
                (look, sight, error)
            }
        };
        self.report(sight, &error);
        look
    }

    /// Logs where controllers are not seen when that changes.
    fn report(&mut self, sight: Sight, error: &str) {
        if std::mem::replace(&mut self.sight, sight) == sight {
            return;
        }
        match sight {
            Sight::Everywhere => {
                tracing::info!("Pods can be listed: MetalLB's controller would be seen anywhere");
            }
            Sight::Namespaces => tracing::warn!(
                "MetalLB's controller is only seen in the namespaces of the configuration ({}): in \
                 another one it would write the same Services in turn with ferrolb. Permit this \
                 account to list Pods, as the ClusterRole ferrolb-allocator does \
                 (deploy/manifests/2-rbac.yaml): {error}",
                self.namespaces.join(", ")
            ),
            Sight::Nowhere => tracing::error!(
                "can't see whether MetalLB's controller runs, so addresses are allocated as if it \
                 did not: if it runs, both write the same Services in turn. Permit this account to \
                 list Pods, as the ClusterRole ferrolb-allocator does \
                 (deploy/manifests/2-rbac.yaml): {error}"
            ),
            Sight::Unanswered => {
                tracing::warn!("can't see whether MetalLB's controller runs, retrying: {error}");
            }
        }
    }
}
