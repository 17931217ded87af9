//! What a cluster has of MetalLB and of a migration that has begun.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use super::placement::Place;
use super::record::{RECORD, RECORD_KEY, Record};
use crate::cli::workload_flags::{containers, flags};
use crate::runtime::source::kube::Cluster;

/// While a node has this label, ferrolb's DaemonSets don't run on it. `deploy/` has the affinity.
pub(super) const LABEL: &str = "ferrolb.io/speaker";
/// The label's value on a node on which MetalLB's speaker runs.
pub(super) const METALLB: &str = "metallb";
/// Its value on a node between the two: neither runs.
pub(super) const MOVING: &str = "moving";

pub(super) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(super) const WEBHOOKS: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
pub(super) const NODES: &str = "/api/v1/nodes";
const FRR_CONFIGURATIONS: &str = "/apis/frrk8s.metallb.io/v1beta1/frrconfigurations";
/// The value of METALLB_BGP_TYPE with which frr-k8s has the sessions.
const FRR_K8S: &str = "frr-k8s";

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

/// A Deployment of MetalLB.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Controller {
    pub name: String,
    pub replicas: i64,
    pub flags: BTreeSet<String>,
}

/// A DaemonSet of MetalLB: of its speaker, or of frr-k8s if that has the sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Speaker {
    /// `namespace/name`.
    pub name: String,
    pub update_strategy: Value,
    /// Whether its Pods run only on nodes with [`LABEL`].
    pub bound: bool,
    pub flags: BTreeSet<String>,
}

/// frr-k8s, if MetalLB's speakers leave their sessions to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FrrK8s {
    /// Its DaemonSets, as `namespace/name`.
    pub daemonsets: Vec<String>,
    /// Its Deployments, as `namespace/name`.
    pub deployments: Vec<String>,
    /// Its validating webhooks.
    pub webhooks: Vec<String>,
    /// FRRConfigurations that MetalLB did not write, as `namespace/name`.
    pub foreign_configurations: Vec<String>,
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
    /// Whether a Pod of ferrolb's DaemonSets is on it.
    pub ferrolb: bool,
    /// The names of its images.
    pub images: BTreeSet<String>,
    /// Which Pods can run on it.
    pub place: Place,
}

/// What a cluster has of MetalLB and of a migration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub controllers: Vec<Controller>,
    pub speakers: Vec<Speaker>,
    /// MetalLB's validating webhooks.
    pub webhooks: Vec<Value>,
    /// The names of those of others that concern the group metallb.io.
    pub foreign_webhooks: Vec<String>,
    /// Whether the API server knows ferrolb's BGPSessions.
    pub bgp_sessions: bool,
    /// CRDs of the group metallb.io that convert versions by a webhook.
    pub conversions: BTreeMap<String, Value>,
    pub nodes: Vec<Node>,
    /// Of a migration that has begun.
    pub record: Option<Record>,
    /// `None` unless it has MetalLB's sessions.
    pub frr_k8s: Option<FrrK8s>,
}

impl Facts {
    /// Reads them.
    pub(super) async fn read(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let paths = Paths::new(namespace);
        let deployments = cluster.list(&paths.deployments).await?;
        let daemonsets = cluster.list(&paths.daemonsets).await?;
        let record = format!("{}/{RECORD}", paths.config_maps);
        let record = cluster.get(&record).await?;
        let crds = cluster.list(CRDS).await?;
        let pods = cluster.list(&paths.pods).await?;
        let speaking = nodes_of(&pods, |pod| is_metallb(pod, "speaker"));
        let announcing = nodes_of(&pods, is_announcing);
        let nodes = cluster.list(NODES).await?;
        let webhooks = cluster.list(WEBHOOKS).await?;
        let mut speakers = of_metallb(&daemonsets, "speaker", speaker);
        let mut frr_k8s = None;
        if daemonsets.iter().any(leaves_sessions_to_frr_k8s) {
            let found = frr_k8s_of(cluster, &webhooks).await?;
            speakers.extend(found.0);
            frr_k8s = Some(found.1);
        }
        let (webhooks, foreign) = webhooks_of(webhooks, "metallb.io", &[namespace]);
        let nodes = nodes.iter().map(|value| Node {
            speaker: speaking.contains(name(value)),
            ferrolb: announcing.contains(name(value)),
            ..node(value)
        });
        Ok(Self {
            controllers: of_metallb(&deployments, "controller", controller),
            speakers,
            webhooks,
            foreign_webhooks: foreign.iter().map(|found| name(found).to_owned()).collect(),
            bgp_sessions: crds.iter().any(is_bgp_sessions),
            conversions: crds.iter().filter_map(conversion).collect(),
            nodes: nodes.collect(),
            record: record.map(|map| read_record(&map)).transpose()?,
            frr_k8s,
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
            frr_k8s: self.frr_k8s.is_some(),
            ..Record::default()
        }
    }
}

/// The DaemonSets of frr-k8s, and what else there is of it.
async fn frr_k8s_of(cluster: &Cluster, webhooks: &[Value]) -> Result<(Vec<Speaker>, FrrK8s)> {
    let mut daemonsets = cluster.list("/apis/apps/v1/daemonsets").await?;
    daemonsets.retain(is_frr_k8s);
    let speakers: Vec<Speaker> = daemonsets.iter().map(speaker).collect();
    let mut deployments = cluster.list("/apis/apps/v1/deployments").await?;
    deployments.retain(is_frr_k8s);
    let mut configurations = cluster.list(FRR_CONFIGURATIONS).await?;
    // The speaker of node N writes metallb-N.
    configurations.retain(|configuration| !name(configuration).starts_with("metallb-"));
    let namespaces = daemonsets.iter().map(namespace_of).collect::<Vec<_>>();
    let (webhooks, _) = webhooks_of(webhooks.to_vec(), "frrk8s.metallb.io", &namespaces);
    let webhooks = webhooks.iter();
    let found = FrrK8s {
        daemonsets: speakers.iter().map(|found| found.name.clone()).collect(),
        deployments: deployments.iter().map(qualified_name).collect(),
        webhooks: webhooks.map(|webhook| name(webhook).to_owned()).collect(),
        foreign_configurations: configurations.iter().map(qualified_name).collect(),
    };
    Ok((speakers, found))
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

/// The namespace of an object.
pub(super) fn namespace_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// `namespace/name` of an object.
fn qualified_name(object: &Value) -> String {
    format!("{}/{}", namespace_of(object), name(object))
}

/// The path of a workload of apps/v1, for instance of kind `daemonsets` and `namespace/name`.
pub(super) fn workload_path(kind: &str, qualified_name: &str) -> String {
    let (namespace, name) = qualified_name.split_once('/').unwrap_or_default();
    format!("/apis/apps/v1/namespaces/{namespace}/{kind}/{name}")
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

/// Whether a workload belongs to frr-k8s, by the labels of its manifests or of its Helm chart.
fn is_frr_k8s(workload: &Value) -> bool {
    label(workload, "app") == FRR_K8S || app(workload) == FRR_K8S
}

/// Whether an object is a Pod or workload of ferrolb.
pub(super) fn is_ferrolb(object: &Value) -> bool {
    app(object) == "ferrolb"
}

/// Whether a Pod belongs to ferrolb's allocator.
pub(super) fn is_ferrolb_allocator(pod: &Value) -> bool {
    is_ferrolb(pod) && label(pod, "app.kubernetes.io/component") == "allocator"
}

/// Whether a Pod belongs to a DaemonSet of ferrolb.
pub(super) fn is_announcing(pod: &Value) -> bool {
    is_ferrolb(pod) && !is_ferrolb_allocator(pod)
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
    Speaker {
        name: qualified_name(daemonset),
        update_strategy: spec["updateStrategy"].clone(),
        bound: spec["template"]["spec"]["nodeSelector"][LABEL] == METALLB,
        flags: flags(daemonset),
    }
}

fn leaves_sessions_to_frr_k8s(daemonset: &Value) -> bool {
    let variables = containers(daemonset)
        .filter_map(|container| container["env"].as_array())
        .flatten();
    let mut bgp_types = variables.filter(|variable| variable["name"] == "METALLB_BGP_TYPE");
    is_metallb(daemonset, "speaker") && bgp_types.any(|variable| variable["value"] == FRR_K8S)
}

/// The webhook configurations that concern an API group: those whose Service is in one of these
/// namespaces, and those of others, for instance of a policy engine.
fn webhooks_of(all: Vec<Value>, group: &str, namespaces: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let concerned = all.into_iter().filter(|webhook| concerns(webhook, group));
    concerned.partition(|webhook| are_served_in(webhook, namespaces))
}

/// Whether a Service in one of these namespaces answers all webhooks of a configuration. MetalLB's
/// is webhook-service or metallb-webhook-service, by the release.
fn are_served_in(configuration: &Value, namespaces: &[&str]) -> bool {
    let mut webhooks = configuration["webhooks"].as_array().into_iter().flatten();
    webhooks.all(|webhook| {
        let service = &webhook["clientConfig"]["service"];
        let text = |field: &str| service[field].as_str().unwrap_or_default();
        namespaces.contains(&text("namespace")) && text("name").ends_with("webhook-service")
    })
}

/// Whether a webhook configuration concerns an API group.
fn concerns(configuration: &Value, group: &str) -> bool {
    let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
    let rules = webhooks.filter_map(|webhook| webhook["rules"].as_array());
    let groups = rules
        .flatten()
        .filter_map(|rule| rule["apiGroups"].as_array());
    groups.flatten().any(|found| found == group)
}

/// The conversion of a CRD of metallb.io, if it needs a webhook.
fn conversion(crd: &Value) -> Option<(String, Value)> {
    let conversion = &crd["spec"]["conversion"];
    let concerned = crd["spec"]["group"] == "metallb.io" && conversion["strategy"] == "Webhook";
    concerned.then(|| (name(crd).to_owned(), conversion.clone()))
}

/// Whether a CRD is that of ferrolb's BGPSessions.
pub(super) fn is_bgp_sessions(crd: &Value) -> bool {
    name(crd) == "bgpsessions.ferrolb.io"
}

/// The nodes of some Pods.
fn nodes_of(pods: &[Value], are_meant: impl Fn(&Value) -> bool) -> BTreeSet<&str> {
    let pods = pods.iter().filter(|pod| are_meant(pod));
    pods.filter_map(|pod| pod["spec"]["nodeName"].as_str())
        .collect()
}

/// A node, without what its Pods say.
fn node(node: &Value) -> Node {
    let images = node["status"]["images"].as_array().into_iter().flatten();
    let names = images.filter_map(|image| image["names"].as_array());
    let mark = label(node, LABEL);
    Node {
        name: name(node).to_owned(),
        ready: has_condition_ready(node),
        mark: (!mark.is_empty()).then(|| mark.to_owned()),
        images: names
            .flatten()
            .filter_map(Value::as_str)
            .map(short_image)
            .collect(),
        place: Place::of(node, LABEL),
        ..Node::default()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn webhook(name: &str, group: &str, services: &[(&str, &str)]) -> Value {
        let webhooks = services.iter().map(|(namespace, name)| {
            json!({
                "clientConfig": {"service": {"namespace": namespace, "name": name}},
                "rules": [{"apiGroups": [group]}],
            })
        });
        json!({"metadata": {"name": name}, "webhooks": webhooks.collect::<Vec<_>>()})
    }

    #[test]
    fn only_webhooks_that_metallbs_service_answers_are_metallbs() {
        let own = ("metallb-system", "metallb-webhook-service");
        let policy = ("policies", "webhook-service");
        let url = json!({
            "metadata": {"name": "by-url"},
            "webhooks": [
                {"clientConfig": {"url": "https://x"}, "rules": [{"apiGroups": ["metallb.io"]}]},
            ],
        });
        let all = vec![
            webhook("metallb-webhook-configuration", "metallb.io", &[own, own]),
            webhook(
                "before-0.14",
                "metallb.io",
                &[("metallb-system", "webhook-service")],
            ),
            webhook("policy", "metallb.io", &[policy]),
            webhook("mixed", "metallb.io", &[own, policy]),
            webhook("beside", "metallb.io", &[("metallb-system", "policy")]),
            webhook("unrelated", "apps", &[own]),
            url,
        ];
        let (own, foreign) = webhooks_of(all, "metallb.io", &["metallb-system"]);
        let names = |found: &[Value]| -> Vec<String> {
            found.iter().map(|found| name(found).to_owned()).collect()
        };
        assert_eq!(
            names(&own),
            ["metallb-webhook-configuration", "before-0.14"]
        );
        assert_eq!(names(&foreign), ["policy", "mixed", "beside", "by-url"]);
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read() {
        let text = r#"{"webhooks":[],"conversions":{},"replicas":{"controller":1},
            "update_strategies":{},"frr_k8s":false,"nodes":["a"]}"#;
        let record = read_record(&json!({"data": {RECORD_KEY: text}})).expect("a record");
        assert_eq!(record.nodes, BTreeSet::from(["a".to_owned()]));
        assert!(record.addresses.is_empty() && record.announced.is_empty());
        let error = read_record(&json!({"data": {}})).expect_err("empty");
        assert!(error.to_string().contains("ferrolb-migration"), "{error}");
    }
}
