//! The contents of MetalLB's ServiceBGPStatus and ConfigurationState objects. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use crate::core::hash::fnv1a;
use crate::runtime::source::metallb_kinds::{API_VERSION, MetallbStatus, OfNode};
use crate::runtime::source::status_objects::{Objects, label, node_owner};
use crate::runtime::status::{AnnouncedTo, DaemonStatus};

/// Maximum length of a condition's message, in octets. MetalLB's CRD permits 32768 characters.
const MESSAGE_MAX: usize = 16 * 1024;

/// The objects about the services that a node announces, each with those of its peers that have an
/// established session: without one there is no object. MetalLB's have all, and belong to the
/// speaker's Pod. Ours belong to the Node: they stay during a rollout.
pub(super) fn service_statuses(
    namespace: &str,
    node: &str,
    owner_uid: &str,
    services: &[AnnouncedTo],
    established: &BTreeSet<String>,
) -> Objects {
    let of_node = OfNode {
        namespace,
        node,
        uid: owner_uid,
    };
    let object = |(service, peers): &AnnouncedTo| {
        let peers = peers.iter().filter(|peer| established.contains(&***peer));
        let peers: Vec<&str> = peers.map(|peer| &**peer).collect();
        if peers.is_empty() {
            return None;
        }
        // MetalLB's API server sets a random name; this one is a hash, so that the object is found
        // again.
        let name = format!("bgp-{:016x}", fnv1a(&format!("{node} {service}")));
        let mut object = of_node.service_object(MetallbStatus::ServiceBgp, &name, service);
        object["status"]["peers"] = json!(peers);
        Some((name, Arc::new(object)))
    };
    services.iter().filter_map(object).collect()
}

/// The result of loading the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    /// It isn't loaded yet.
    Unknown,
    /// The errors, one line each; empty if there are none.
    Known(String),
}

impl Loaded {
    pub(super) fn of(status: &DaemonStatus) -> Self {
        if status.config.is_none() {
            return Self::Unknown;
        }
        let problems = status.errors();
        let problems = problems.map(|problem| format!("{}: {}", problem.object, problem.message));
        let errors: Vec<String> = problems
            .chain(status.source_errors.iter().cloned())
            .collect();
        let mut text = errors.join("\n");
        text.truncate(text.floor_char_boundary(MESSAGE_MAX));
        Self::Known(text)
    }
}

/// The ConfigurationState of this process.
#[derive(Debug)]
pub(super) struct ConfigurationState {
    namespace: String,
    name: String,
    labels: BTreeMap<&'static str, String>,
    condition: &'static str,
    /// The last result, and since when it is so.
    last: Option<(Loaded, Timestamp)>,
}

impl ConfigurationState {
    pub(super) fn of_controller(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: "controller".to_owned(),
            labels: BTreeMap::from([("metallb.io/component-type", "controller".to_owned())]),
            condition: "poolReconcilerValid",
            last: None,
        }
    }

    pub(super) fn of_speaker(namespace: &str, node: &str, suffix: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: format!("speaker-{node}{suffix}"),
            labels: BTreeMap::from([
                ("metallb.io/component-type", "speaker".to_owned()),
                ("metallb.io/node-name", label(node)),
            ]),
            condition: "configReconcilerValid",
            last: None,
        }
    }

    /// The object, by its name. `node` has the name and UID of the Node that owns it.
    pub(super) fn objects(
        &mut self,
        loaded: &Loaded,
        node: Option<(&str, &str)>,
        now: Timestamp,
    ) -> Objects {
        let since = match &self.last {
            Some((last, since)) if last == loaded => *since,
            _ => now,
        };
        self.last = Some((loaded.clone(), since));
        let condition = |status: &str, reason: &str, message: &str| {
            json!([{
                "type": self.condition,
                "status": status,
                "reason": reason,
                "message": message,
                "lastTransitionTime": Timestamp::from_second(since.as_second())
                    .unwrap_or(since)
                    .to_string(),
            }])
        };
        let status = match loaded {
            Loaded::Unknown => json!({ "result": "Unknown", "conditions": [] }),
            Loaded::Known(errors) if errors.is_empty() => json!({
                "result": "Valid",
                "conditions": condition("True", "Reconciled", ""),
            }),
            Loaded::Known(errors) => json!({
                "result": "Invalid",
                "errorSummary": errors,
                "conditions": condition("False", "ConfigurationError", errors),
            }),
        };
        let mut object = json!({
            "apiVersion": API_VERSION,
            "kind": MetallbStatus::Speaker.kind(),
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": self.labels,
            },
            "status": status,
        });
        if let Some((name, uid)) = node {
            object["metadata"]["ownerReferences"] = json!([node_owner(name, uid)]);
        }
        Objects::from([(self.name.clone(), Arc::new(object))])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::core::api::{Kind, ObjectKey, ObjectName};
    use crate::core::config::{Problem, Severity};

    #[test]
    fn a_service_status_has_the_labels_of_metallb_and_the_peers_with_a_session() {
        let service = Arc::new(ObjectName::new("shop", "web"));
        let peers: Arc<[Arc<str>]> = Arc::new(["tor-1".into(), "tor-2".into(), "tor-3".into()]);
        let services = [(service, peers)];
        let statuses = |established: &[&str]| {
            let established = established.iter().map(|&peer| peer.to_owned()).collect();
            service_statuses("metallb-system", "a", "u-1", &services, &established)
        };
        assert!(statuses(&["other"]).is_empty());
        let objects = statuses(&["tor-1", "tor-2"]);
        let (name, object) = objects.first_key_value().expect("an object");
        assert!(name.starts_with("bgp-") && name.len() == 20, "{name}");
        assert_eq!(
            object["metadata"]["labels"],
            json!({"metallb.io/node": "a", "metallb.io/service-name": "web",
                "metallb.io/service-namespace": "shop"})
        );
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u-1");
        assert_eq!(
            object["status"],
            json!({"node": "a", "serviceName": "web", "serviceNamespace": "shop",
                "peers": ["tor-1", "tor-2"]})
        );
    }

    fn status(problems: Vec<Problem>) -> DaemonStatus {
        DaemonStatus {
            config: Some(Arc::default()),
            problems,
            ..DaemonStatus::default()
        }
    }

    fn problem(severity: Severity) -> Problem {
        Problem {
            object: ObjectKey::new(Kind::BgpPeer, ObjectName::new("metallb-system", "tor")),
            severity,
            message: "spec.myASN: missing".to_owned(),
        }
    }

    #[test]
    fn a_configuration_state_has_the_errors_and_the_time_of_the_last_change() {
        let mut state = ConfigurationState::of_speaker("metallb-system", "a", "");
        let time = |second| Timestamp::from_second(second).expect("a time");
        let mut object = |status: &DaemonStatus, second| {
            let node = Some(("a", "u-1"));
            let objects = state.objects(&Loaded::of(status), node, time(second));
            Value::clone(&objects["speaker-a"])
        };
        let unknown = object(&DaemonStatus::default(), 1);
        assert_eq!(
            unknown["status"],
            json!({"result": "Unknown", "conditions": []})
        );
        let notice = status(vec![problem(Severity::Notice)]);
        let valid = object(&notice, 2);
        assert_eq!(valid["status"]["result"], "Valid");
        assert_eq!(valid["status"]["conditions"][0]["status"], "True");
        assert_eq!(object(&notice, 3), valid, "nothing changed");
        let invalid = object(&status(vec![problem(Severity::Error)]), 4);
        assert_eq!(invalid["status"]["result"], "Invalid");
        assert_eq!(
            invalid["status"]["errorSummary"],
            "BGPPeer metallb-system/tor: spec.myASN: missing"
        );
        assert_eq!(
            invalid["status"]["conditions"][0],
            json!({"type": "configReconcilerValid", "status": "False",
                "reason": "ConfigurationError",
                "message": "BGPPeer metallb-system/tor: spec.myASN: missing",
                "lastTransitionTime": "1970-01-01T00:00:04Z"})
        );
        assert_eq!(invalid["metadata"]["labels"]["metallb.io/node-name"], "a");
    }

    #[test]
    fn a_long_list_of_errors_is_cut() {
        let errors = vec![problem(Severity::Error); 1000];
        let Loaded::Known(text) = Loaded::of(&status(errors)) else {
            panic!("it is known");
        };
        assert_eq!(text.len(), MESSAGE_MAX);
    }
}
