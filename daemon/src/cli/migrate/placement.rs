//! Whether the Pods of a DaemonSet can run on a node, by the rules of the DaemonSet controller:
//! pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// Taints that every Pod of a DaemonSet tolerates:
/// <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/>.
const TOLERATED: [&str; 7] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/network-unavailable",
];

/// What decides on a node which Pods run there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Value>,
}

impl Place {
    /// Of a Node, as if it did not have one of its labels.
    pub(super) fn of(node: &Value, without: &str) -> Self {
        let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
        let labels = labels.filter(|(key, _)| *key != without);
        let labels = labels.map(|(key, value)| {
            let value = value.as_str().unwrap_or_default();
            (key.clone(), value.to_owned())
        });
        Self {
            name: node["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            labels: labels.collect(),
            taints: list(&node["spec"]["taints"]).cloned().collect(),
        }
    }

    /// Why the Pods of a DaemonSet can't run here. `None` if they can.
    pub(super) fn refuses(&self, daemonset: &Value) -> Option<String> {
        let pod = &daemonset["spec"]["template"]["spec"];
        let selector = pod["nodeSelector"].as_object().into_iter().flatten();
        for (key, value) in selector {
            if self.labels.get(key).map(String::as_str) != value.as_str() {
                let value = value.as_str().unwrap_or_default();
                return Some(format!("its nodeSelector wants the label {key}={value}"));
            }
        }
        let affinity = &pod["affinity"]["nodeAffinity"];
        let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
        let terms = &required["nodeSelectorTerms"];
        if terms.is_array() && !list(terms).any(|term| self.matches(term)) {
            return Some("its nodeAffinity excludes the node".to_owned());
        }
        let tolerations = &pod["tolerations"];
        let repelling = self.taints.iter().find(|taint| {
            let tolerated = list(tolerations).any(|toleration| tolerates(toleration, taint));
            repels(taint) && !tolerated
        });
        repelling.map(|taint| {
            let text = |field: &str| taint[field].as_str().unwrap_or_default();
            format!(
                "it does not tolerate the taint {}:{}",
                text("key"),
                text("effect")
            )
        })
    }

    /// A term without conditions matches no node.
    fn matches(&self, term: &Value) -> bool {
        if list(&term["matchExpressions"])
            .chain(list(&term["matchFields"]))
            .next()
            .is_none()
        {
            return false;
        }
        let labels = list(&term["matchExpressions"]).all(|expression| {
            let key = expression["key"].as_str().unwrap_or_default();
            satisfies(self.labels.get(key).map(String::as_str), expression)
        });
        // metadata.name is the only field.
        let fields =
            list(&term["matchFields"]).all(|expression| satisfies(Some(&self.name), expression));
        labels && fields
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whether the value of a label, if the node has it, satisfies a NodeSelectorRequirement.
fn satisfies(found: Option<&str>, expression: &Value) -> bool {
    let listed = || list(&expression["values"]).any(|value| value.as_str() == found);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let limit = number(expression["values"][0].as_str());
    let compared = number(found).zip(limit);
    match expression["operator"].as_str().unwrap_or_default() {
        "In" => found.is_some() && listed(),
        "NotIn" => found.is_none() || !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compared.is_some_and(|(found, limit)| found > limit),
        "Lt" => compared.is_some_and(|(found, limit)| found < limit),
        _ => false,
    }
}

/// Whether a taint keeps Pods away that don't tolerate it, and not each DaemonSet tolerates it.
fn repels(taint: &Value) -> bool {
    let key = taint["key"].as_str().unwrap_or_default();
    taint["effect"] != "PreferNoSchedule" && !TOLERATED.contains(&key)
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |field: &str| toleration[field].as_str().unwrap_or_default();
    let of_taint = |field: &str| taint[field].as_str().unwrap_or_default();
    let effect = text("effect").is_empty() || text("effect") == of_taint("effect");
    let exists = text("operator") == "Exists";
    let key = text("key") == of_taint("key") || (text("key").is_empty() && exists);
    effect && key && (exists || text("value") == of_taint("value"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LABEL: &str = "example.com/speaker";

    fn daemonset(pod: &Value) -> Value {
        json!({"spec": {"template": {"spec": pod}}})
    }

    fn node(labels: &Value, taints: &Value) -> Place {
        Place::of(
            &json!({
                "metadata": {"name": "a", "labels": labels}, "spec": {"taints": taints},
            }),
            LABEL,
        )
    }

    fn with_affinity(terms: &Value) -> Value {
        daemonset(&json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }}}))
    }

    #[test]
    fn a_taint_needs_a_toleration_unless_each_daemonset_tolerates_it() {
        let master = json!({"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"});
        let cordon = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        let hint = json!({"key": "slow", "effect": "PreferNoSchedule"});
        let node = node(&json!({}), &json!([cordon, hint, master]));
        let refused = node.refuses(&daemonset(&json!({})));
        let expected = "it does not tolerate the taint node-role.kubernetes.io/master:NoSchedule";
        assert_eq!(refused.as_deref(), Some(expected));
        for (toleration, accepted) in [
            (json!({"operator": "Exists"}), true),
            (
                json!({"key": "node-role.kubernetes.io/master", "operator": "Exists"}),
                true,
            ),
            (json!({"key": "node-role.kubernetes.io/master"}), true),
            (
                json!({"key": "node-role.kubernetes.io/master", "value": "x"}),
                false,
            ),
            (json!({"operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
        ] {
            let refused = node.refuses(&daemonset(&json!({"tolerations": [toleration]})));
            assert_eq!(refused.is_none(), accepted, "{toleration}: {refused:?}");
        }
    }

    #[test]
    fn a_node_selector_and_an_affinity_are_compared_with_the_labels_of_the_node() {
        let node = node(
            &json!({"zone": "east", "cores": "8", LABEL: "metallb"}),
            &json!([]),
        );
        let selects = |selector: Value| daemonset(&json!({"nodeSelector": selector}));
        assert_eq!(node.refuses(&selects(json!({"zone": "east"}))), None);
        let refused = node.refuses(&selects(json!({"zone": "west"})));
        let expected = "its nodeSelector wants the label zone=west";
        assert_eq!(refused.as_deref(), Some(expected));

        for (expression, accepted) in [
            (json!({"key": LABEL, "operator": "DoesNotExist"}), true),
            (
                json!({"key": "zone", "operator": "In", "values": ["west", "east"]}),
                true,
            ),
            (
                json!({"key": "rack", "operator": "In", "values": ["1"]}),
                false,
            ),
            (
                json!({"key": "rack", "operator": "NotIn", "values": ["1"]}),
                true,
            ),
            (
                json!({"key": "zone", "operator": "NotIn", "values": ["east"]}),
                false,
            ),
            (json!({"key": "rack", "operator": "Exists"}), false),
            (
                json!({"key": "cores", "operator": "Gt", "values": ["4"]}),
                true,
            ),
            (
                json!({"key": "cores", "operator": "Lt", "values": ["4"]}),
                false,
            ),
        ] {
            let daemonset = with_affinity(&json!([{"matchExpressions": [expression]}]));
            let refused = node.refuses(&daemonset);
            assert_eq!(refused.is_none(), accepted, "{expression}");
        }
        let other = json!({"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["b"]},
        ]});
        let refused = node.refuses(&with_affinity(&json!([other])));
        assert_eq!(
            refused.as_deref(),
            Some("its nodeAffinity excludes the node")
        );
        // Terms are alternatives.
        let east = json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]});
        assert_eq!(node.refuses(&with_affinity(&json!([other, east]))), None);
        assert!(node.refuses(&with_affinity(&json!([{}]))).is_some());
    }
}
