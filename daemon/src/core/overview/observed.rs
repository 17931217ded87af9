//! What a cluster has beside the objects that decisions depend on: ferrolb's workloads and Pods,
//! the states of sessions, and the owners of layer 2. Read from objects as JSON.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::core::api::ObjectName;
use crate::core::api::bgp_session::{BgpSessionStatus, statuses};
use crate::core::api::metallb_pod::MetallbPod;
use crate::core::owners::Owners;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// The Deployments and DaemonSets of ferrolb. None: they can't be read.
    pub workloads: Option<Vec<Workload>>,
    /// Their Pods. None: they can't be read.
    pub pods: Option<Vec<Pod>>,
    /// The running Pods of MetalLB. None: they can't be read.
    pub metallb: Option<Vec<MetallbPod>>,
    /// The sessions of all nodes.
    pub sessions: Sessions,
    /// The owners of addresses by layer 2, as far as objects say so.
    pub owners: Owners,
}

/// The BGPSessions of a cluster.
#[derive(Debug, Default)]
pub(crate) enum Sessions {
    /// They can't be read.
    #[default]
    Unreadable,
    /// The CRD is missing.
    NoKind,
    /// All of them.
    Known(Vec<BgpSessionStatus>),
}

impl Sessions {
    /// From objects. Those that can't be read count as missing.
    pub(crate) fn of(objects: &[Value]) -> Self {
        Self::Known(statuses(objects).0)
    }
}

/// What a process of ferrolb does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Duty {
    /// Allocates addresses.
    Allocator,
    /// Announces over BGP.
    Announcer,
    /// Announces by layer 2.
    Layer2,
}

impl Duty {
    const ALL: [Self; 3] = [Self::Allocator, Self::Announcer, Self::Layer2];

    /// The value of `--role`.
    pub(crate) const fn role(self) -> &'static str {
        match self {
            Self::Allocator => "allocator",
            Self::Announcer => "announcer",
            Self::Layer2 => "layer2",
        }
    }

    /// What the containers of a Pod do.
    fn of(pod_spec: &Value) -> BTreeSet<Self> {
        let containers = pod_spec["containers"].as_array();
        let duties = containers
            .into_iter()
            .flatten()
            .flat_map(Self::of_container);
        duties.collect()
    }

    /// What `ferrolb run` does with these arguments.
    fn of_container(container: &Value) -> Vec<Self> {
        let lists = [&container["command"], &container["args"]];
        let lists = lists.into_iter().filter_map(Value::as_array);
        let words: Vec<&str> = lists.flatten().filter_map(Value::as_str).collect();
        let mut values = words.iter().enumerate().filter_map(|(place, word)| {
            let next = words.get(place + 1).copied();
            let separate = next.filter(|_| *word == "--role");
            word.strip_prefix("--role=").or(separate)
        });
        let role = match values.next() {
            Some(role) => role,
            None if words.contains(&"run") => "all",
            None => "",
        };
        let fits = |duty: &Self| role == "all" || role == duty.role();
        Self::ALL.into_iter().filter(fits).collect()
    }
}

/// A Deployment or DaemonSet of ferrolb.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Workload {
    /// Deployment or DaemonSet.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The image of its first container: the version.
    pub image: String,
    /// How many Pods it should have.
    pub desired: u64,
    /// How many Pods are ready.
    pub ready: u64,
    /// What its Pods do.
    #[serde(skip)]
    pub duties: BTreeSet<Duty>,
}

impl Workload {
    /// From an object.
    pub(crate) fn of(object: &Value) -> Self {
        let pod_spec = &object["spec"]["template"]["spec"];
        let status = &object["status"];
        let daemonset = object["kind"] == "DaemonSet";
        let (desired, ready) = if daemonset {
            (&status["desiredNumberScheduled"], &status["numberReady"])
        } else {
            (&object["spec"]["replicas"], &status["readyReplicas"])
        };
        // Without `replicas`, a Deployment has one.
        let desired = desired.as_u64().unwrap_or(u64::from(!daemonset));
        Self {
            kind: text(&object["kind"]),
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            image: image(pod_spec),
            desired,
            ready: ready.as_u64().unwrap_or_default(),
            duties: Duty::of(pod_spec),
        }
    }
}

/// A Pod of ferrolb.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// Its namespace and name.
    pub name: ObjectName,
    /// Where it runs. Empty: nowhere yet.
    pub node: String,
    /// The image of its first container.
    pub image: String,
    /// What it does.
    pub duties: BTreeSet<Duty>,
    /// Why it isn't ready. None: it is.
    pub problem: Option<String>,
}

impl Pod {
    /// From an object. None if it has ended or is being deleted.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        let ended = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
        if ended || !metadata["deletionTimestamp"].is_null() {
            return None;
        }
        Some(Self {
            name: ObjectName::new(text(&metadata["namespace"]), text(&metadata["name"])),
            node: text(&spec["nodeName"]),
            image: image(spec),
            duties: Duty::of(spec),
            problem: pod_problem(status),
        })
    }
}

/// Why a Pod isn't ready.
fn pod_problem(status: &Value) -> Option<String> {
    let condition = |name: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut named = conditions.filter(|condition| condition["type"] == name);
        named.next()
    };
    if condition("Ready").is_some_and(|ready| ready["status"] == "True") {
        return None;
    }
    let containers = status["containerStatuses"].as_array().into_iter().flatten();
    let mut waiting = containers.map(|container| &container["state"]["waiting"]);
    let unscheduled = condition("PodScheduled").filter(|one| one["status"] == "False");
    let cause = waiting.find(|cause| !cause.is_null()).or(unscheduled);
    let cause = cause.or_else(|| condition("Ready"));
    let parts = cause.map(|cause| [text(&cause["reason"]), text(&cause["message"])]);
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    let parts: Vec<String> = parts.collect();
    Some(if parts.is_empty() {
        "it is not ready".to_owned()
    } else {
        parts.join(": ")
    })
}

fn image(pod_spec: &Value) -> String {
    text(&pod_spec["containers"][0]["image"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
