//! What a cluster has of MetalLB and of a migration that has begun.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::workload_flags::{containers, flags};
use crate::runtime::source::kube::Cluster;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// While a node has this label, ferrolb's DaemonSets don't run on it. `deploy/` has the affinity.
pub(super) const LABEL: &str = "ferrolb.io/speaker";
/// The label's value on a node on which MetalLB's speaker runs.
pub(super) const METALLB: &str = "metallb";
/// Its value on a node between the two: neither runs.
pub(super) const MOVING: &str = "moving";
/// The ConfigMap with what is needed to undo a migration.
pub(super) const RECORD: &str = "ferrolb-migration";
/// The key in its data.
pub(super) const RECORD_KEY: &str = "record";

pub(super) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(super) const WEBHOOKS: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
pub(super) const NODES: &str = "/api/v1/nodes";

/// The paths of a namespace's objects.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub pods: String,
    pub config_maps: String,
    pub secrets: String,
    pub daemonsets: String,
    pub deployments: String,
}

impl Paths {
    pub(super) fn new(namespace: &str) -> Self {
        let core = format!("/api/v1/namespaces/{namespace}");
        let apps = format!("/apis/apps/v1/namespaces/{namespace}");
        Self {
            pods: format!("{core}/pods"),
            config_maps: format!("{core}/configmaps"),
            secrets: format!("{core}/secrets"),
            daemonsets: format!("{apps}/daemonsets"),
            deployments: format!("{apps}/deployments"),
        }
    }
}

/// What a migration changes in ways that the cluster does not remember itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The validating webhooks of MetalLB.
    pub webhooks: Vec<Value>,
    /// How its CRDs convert versions.
    pub conversions: BTreeMap<String, Value>,
    /// Replicas of its controllers.
    pub replicas: BTreeMap<String, i64>,
    /// Update strategies of its DaemonSets.
    pub update_strategies: BTreeMap<String, Value>,
    /// Nodes on which its speaker ran.
    pub nodes: BTreeSet<String>,
}

/// A Deployment of MetalLB.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Controller {
    pub name: String,
    pub replicas: i64,
    pub flags: BTreeSet<String>,
}

/// A DaemonSet of MetalLB.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Speaker {
    pub name: String,
    pub update_strategy: Value,
    /// Whether its Pods run only on nodes with [`LABEL`].
    pub bound: bool,
    pub flags: BTreeSet<String>,
    /// The value of METALLB_BGP_TYPE; empty for the default.
    pub bgp_type: String,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    pub name: String,
    pub ready: bool,
    /// The value of [`LABEL`].
    pub mark: Option<String>,
    /// Whether a Pod of MetalLB's speaker runs on it.
    pub speaker: bool,
    /// The names of its images.
    pub images: BTreeSet<String>,
}

/// What a cluster has of MetalLB and of a migration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub controllers: Vec<Controller>,
    pub speakers: Vec<Speaker>,
    /// Validating webhooks that concern the group metallb.io.
    pub webhooks: Vec<Value>,
    /// CRDs of the group metallb.io that convert versions by a webhook.
    pub conversions: BTreeMap<String, Value>,
    pub nodes: Vec<Node>,
    /// Of a migration that has begun.
    pub record: Option<Record>,
    /// Namespaces and names of the DaemonSets of frr-k8s.
    pub frr_k8s: Vec<String>,
}

impl Facts {
    /// Reads them.
    pub(super) async fn read(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let paths = Paths::new(namespace);
        let deployments = cluster.list(&paths.deployments).await?;
        let daemonsets = cluster.list(&paths.daemonsets).await?;
        let record = format!("{}/{RECORD}", paths.config_maps);
        let record = cluster.get(&record).await?;
        let all = cluster.list("/apis/apps/v1/daemonsets").await?;
        let crds = cluster.list(CRDS).await?;
        let pods = cluster.list(&paths.pods).await?;
        let speaking: BTreeSet<&str> = pods
            .iter()
            .filter(|pod| is_metallb(pod, "speaker"))
            .filter_map(|pod| pod["spec"]["nodeName"].as_str())
            .collect();
        let nodes = cluster.list(NODES).await?;
        let webhooks = cluster.list(WEBHOOKS).await?;
        Ok(Self {
            controllers: of_metallb(&deployments, "controller", controller),
            speakers: of_metallb(&daemonsets, "speaker", speaker),
            webhooks: webhooks.into_iter().filter(is_of_metallb).collect(),
            conversions: crds.iter().filter_map(conversion).collect(),
            nodes: nodes.iter().map(|value| node(value, &speaking)).collect(),
            record: record.map(|map| read_record(&map)).transpose()?,
            frr_k8s: all
                .iter()
                .filter(|value| label(value, "app") == "frr-k8s" || app(value) == "frr-k8s")
                .map(|value| format!("{}/{}", namespace_of(value), name(value)))
                .collect(),
        })
    }

    /// The record of a migration that begins now.
    pub(super) fn to_record(&self) -> Record {
        Record {
            webhooks: self.webhooks.clone(),
            conversions: self.conversions.clone(),
            replicas: self
                .controllers
                .iter()
                .map(|controller| (controller.name.clone(), controller.replicas))
                .collect(),
            update_strategies: self
                .speakers
                .iter()
                .map(|speaker| (speaker.name.clone(), speaker.update_strategy.clone()))
                .collect(),
            nodes: self
                .nodes
                .iter()
                .filter(|node| node.speaker)
                .map(|node| node.name.clone())
                .collect(),
        }
    }
}

fn read_record(map: &Value) -> Result<Record> {
    let text = map["data"][RECORD_KEY].as_str().unwrap_or_default();
    serde_json::from_str(text).with_context(|| {
        format!(
            "the ConfigMap {RECORD}, which a migration wrote, is unreadable: restore its content"
        )
    })
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn namespace_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["labels"][key]
        .as_str()
        .unwrap_or_default()
}

fn app(object: &Value) -> &str {
    label(object, "app.kubernetes.io/name")
}

/// Whether an object belongs to a component of MetalLB, by the labels of its manifests or of its
/// Helm chart.
pub(super) fn is_metallb(object: &Value, component: &str) -> bool {
    let plain = label(object, "app") == "metallb" && label(object, "component") == component;
    let chart =
        app(object) == "metallb" && label(object, "app.kubernetes.io/component") == component;
    plain || chart
}

/// Whether an object is a Pod or workload of ferrolb.
pub(super) fn is_ferrolb(object: &Value) -> bool {
    app(object) == "ferrolb"
}

fn of_metallb<T>(objects: &[Value], component: &str, read: fn(&Value) -> T) -> Vec<T> {
    let found = objects.iter().filter(|value| is_metallb(value, component));
    found.map(read).collect()
}

fn controller(deployment: &Value) -> Controller {
    Controller {
        name: name(deployment).to_owned(),
        replicas: deployment["spec"]["replicas"].as_i64().unwrap_or(1),
        flags: flags(deployment),
    }
}

fn speaker(daemonset: &Value) -> Speaker {
    let spec = &daemonset["spec"];
    let variables = containers(daemonset)
        .filter_map(|container| container["env"].as_array())
        .flatten();
    let bgp_type = variables
        .filter(|variable| variable["name"] == "METALLB_BGP_TYPE")
        .find_map(|variable| variable["value"].as_str());
    Speaker {
        name: name(daemonset).to_owned(),
        update_strategy: spec["updateStrategy"].clone(),
        bound: spec["template"]["spec"]["nodeSelector"][LABEL] == METALLB,
        flags: flags(daemonset),
        bgp_type: bgp_type.unwrap_or_default().to_owned(),
    }
}

/// Whether a webhook configuration concerns the group metallb.io.
fn is_of_metallb(configuration: &Value) -> bool {
    let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
    let rules = webhooks.filter_map(|webhook| webhook["rules"].as_array());
    let groups = rules
        .flatten()
        .filter_map(|rule| rule["apiGroups"].as_array());
    groups.flatten().any(|group| group == "metallb.io")
}

/// The conversion of a CRD of metallb.io, if it needs a webhook.
fn conversion(crd: &Value) -> Option<(String, Value)> {
    let conversion = &crd["spec"]["conversion"];
    let concerned = crd["spec"]["group"] == "metallb.io" && conversion["strategy"] == "Webhook";
    concerned.then(|| (name(crd).to_owned(), conversion.clone()))
}

fn node(node: &Value, speaking: &BTreeSet<&str>) -> Node {
    let images = node["status"]["images"].as_array().into_iter().flatten();
    let names = images.filter_map(|image| image["names"].as_array());
    let mark = label(node, LABEL);
    Node {
        name: name(node).to_owned(),
        ready: has_condition_ready(node),
        mark: (!mark.is_empty()).then(|| mark.to_owned()),
        speaker: speaking.contains(name(node)),
        images: names
            .flatten()
            .filter_map(Value::as_str)
            .map(short_image)
            .collect(),
    }
}

/// Whether a Node or Pod has the condition Ready.
pub(super) fn has_condition_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The name of an image without the registry that containerd adds.
pub(super) fn short_image(image: &str) -> String {
    let short = image.strip_prefix("docker.io/").unwrap_or(image);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}
