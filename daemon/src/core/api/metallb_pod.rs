//! The Pods of MetalLB: by which labels they are found, and what they say.

use serde_json::Value;

use super::ObjectName;

/// The labels of its Pods, application and component: of the plain manifests, and of the Helm
/// charts.
const LABELS: [(&str, &str); 2] = [
    ("app", "component"),
    ("app.kubernetes.io/name", "app.kubernetes.io/component"),
];
/// The queries for the Pods of all parts: label selectors, encoded.
pub(crate) const QUERIES: [&str; 2] = [
    "labelSelector=app%3Dmetallb",
    "labelSelector=app.kubernetes.io%2Fname%3Dmetallb",
];
/// The value of the label for the application.
const METALLB: &str = "metallb";
/// MetalLB's option for the class of the Services that it serves; Go accepts one hyphen too.
const CLASS_OPTIONS: [&str; 2] = ["--lb-class", "-lb-class"];

/// A part of MetalLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Allocates addresses.
    Controller,
    /// Announces them from its node.
    Speaker,
}

impl Part {
    const ALL: [Self; 2] = [Self::Controller, Self::Speaker];

    const fn component(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Speaker => "speaker",
        }
    }

    /// Label selectors, each of which finds Pods of this part.
    pub(crate) fn selectors(self) -> [String; 2] {
        LABELS.map(|labels| selector(labels, self))
    }
}

fn selector((app, component): (&str, &str), part: Part) -> String {
    format!("{app}={METALLB},{component}={}", part.component())
}

/// A Pod of MetalLB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetallbPod {
    /// Its namespace and name.
    pub name: ObjectName,
    /// Its UID.
    pub uid: String,
    /// The node that it runs on.
    pub node: String,
    /// What it does.
    pub part: Part,
    /// The label selector that finds it, and its workload.
    pub selector: String,
    /// The class of the Services that it serves. None: those without one.
    class: Option<String>,
}

impl MetallbPod {
    /// From an object. None if its labels are not those of MetalLB.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let has = |label: &str, value: &str| metadata["labels"][label] == value;
        let ways = LABELS.into_iter().filter(|(app, _)| has(app, METALLB));
        let mut ways = ways.flat_map(|labels| Part::ALL.map(|part| (labels, part)));
        let (labels, part) = ways.find(|((_, label), part)| has(label, part.component()))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(Self {
            name: ObjectName::new(text(&metadata["namespace"]), text(&metadata["name"])),
            uid: text(&metadata["uid"]),
            node: text(&spec["nodeName"]),
            part,
            selector: selector(labels, part),
            class: class(spec),
        })
    }

    /// Whether it serves the Services of a class. None: those without one.
    pub(crate) fn serves(&self, class: Option<&str>) -> bool {
        self.class.as_deref() == class.filter(|class| !class.is_empty())
    }

    /// A command that ends the controller.
    pub(crate) fn stop_command(&self) -> String {
        format!(
            "kubectl scale deployment -n {} -l {} --replicas=0",
            self.name.namespace, self.selector
        )
    }
}

/// The class in the arguments of the containers.
fn class(spec: &Value) -> Option<String> {
    let containers = spec["containers"].as_array().into_iter().flatten();
    let lists = containers.flat_map(|container| [&container["command"], &container["args"]]);
    let words = lists.filter_map(Value::as_array).flatten();
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    let mut values = words.iter().enumerate().filter_map(|(place, word)| {
        let next = words.get(place + 1).copied();
        match word.split_once('=') {
            Some((option, value)) => CLASS_OPTIONS.contains(&option).then_some(value),
            None => next.filter(|_| CLASS_OPTIONS.contains(word)),
        }
    });
    let class = values.next()?;
    (!class.is_empty()).then(|| class.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(labels: &Value, args: &[&str]) -> Option<MetallbPod> {
        MetallbPod::of(&json!({
            "metadata": {"namespace": "metallb", "name": "x", "uid": "u-1", "labels": labels},
            "spec": {"nodeName": "node-a", "containers": [{"args": args}]},
        }))
    }

    #[test]
    fn pods_of_the_manifests_and_of_the_charts_are_known_by_their_labels() {
        let manifest = json!({"app": "metallb", "component": "controller"});
        let found = pod(&manifest, &[]).expect("a controller");
        assert_eq!(found.part, Part::Controller);
        assert_eq!(found.selector, "app=metallb,component=controller");
        assert_eq!(
            found.stop_command(),
            "kubectl scale deployment -n metallb -l app=metallb,component=controller --replicas=0"
        );
        let chart = json!({
            "app.kubernetes.io/name": "metallb",
            "app.kubernetes.io/instance": "lb",
            "app.kubernetes.io/component": "speaker",
        });
        let found = pod(&chart, &[]).expect("a speaker");
        assert_eq!((found.part, found.node.as_str()), (Part::Speaker, "node-a"));
        assert!(Part::Speaker.selectors().contains(&found.selector));
    }

    #[test]
    fn other_pods_are_not_metallbs() {
        for labels in [
            json!({}),
            json!({"app": "metallb"}),
            json!({"app": "metallb", "component": "frr-k8s"}),
            json!({"app": "ingress", "component": "controller"}),
            json!({"app": "metallb", "app.kubernetes.io/component": "controller"}),
            json!({"app.kubernetes.io/name": "ferrolb", "app.kubernetes.io/component": "speaker"}),
        ] {
            assert_eq!(pod(&labels, &[]), None, "{labels}");
        }
        assert_eq!(MetallbPod::of(&json!([])), None);
    }

    #[test]
    fn a_class_decides_which_services_it_serves() {
        let labels = json!({"app": "metallb", "component": "controller"});
        for (args, class) in [
            (&["--port=7472"][..], None),
            (&["--lb-class="], None),
            (&["--lb-class=a/b"], Some("a/b")),
            (&["-lb-class=a/b"], Some("a/b")),
            (&["--lb-class", "a/b"], Some("a/b")),
        ] {
            let pod = pod(&labels, args).expect("a controller");
            for other in [None, Some("a/b"), Some("c/d")] {
                assert_eq!(pod.serves(other), other == class, "{args:?} {other:?}");
            }
        }
    }
}
