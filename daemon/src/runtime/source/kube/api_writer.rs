//! Writes Events, conditions, the statuses of configuration objects and the key of hellos to the
//! API server. A failed write is not retried: nothing depends on an Event, and the control loop
//! requests the others again.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::object::{Object, plural, resource};
use super::watch::chain;
use crate::core::allocate::object_status::ObjectStatus;
use crate::core::api::{ObjectKey, ObjectName};
use crate::core::config::hello_secrets::{KEY, OWN};
use crate::core::hash::fnv1a;
use crate::core::model::{
    ANNOUNCED_CONDITION, AnnouncedCondition, ConditionWrite, NodeEvent, ObjectEvent, ServiceEvent,
};
use crate::runtime::source::{ApiWrite, ApiWriteReceiver};

/// Limit for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum interval between two Events of this process.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// Length of a key, in octets.
const KEY_LENGTH: usize = 32;

/// The namespace of Events about Nodes, which have none.
const NODE_EVENTS: &str = "default";

/// The field manager of statuses.
const FIELD_MANAGER: &str = "ferrolb";

/// What the writer needs.
pub(super) struct ApiWriter {
    pub(super) client: Client,
    /// The namespace of the key.
    pub(super) namespace: String,
    /// The node that Events name.
    pub(super) node: String,
}

impl ApiWriter {
    /// Writes until it is aborted.
    pub(super) async fn run(self, mut writes: ApiWriteReceiver) {
        let mut next_event = Instant::now();
        // One line per series of failures.
        let mut failing = false;
        while let Some(write) = writes.recv().await {
            let written = match write {
                ApiWrite::CreateHelloKey => self.create_key().await,
                ApiWrite::ObjectStatus(object, status) => self.write_status(&object, &status).await,
                ApiWrite::Condition(write) => self.write_condition(&write).await,
                ApiWrite::Event(event) => {
                    sleep_until(next_event).await;
                    next_event = Instant::now() + EVENT_INTERVAL;
                    self.create_service_event(&event).await
                }
                ApiWrite::NodeEvent(event) => {
                    let object = node_event_object(&event, Timestamp::now());
                    self.create_event(&object).await.map(drop)
                }
                ApiWrite::ObjectEvent(event) => {
                    let object = object_event_object(&event, &self.node, Timestamp::now());
                    self.create_event(&object).await.map(drop)
                }
            };
            match written {
                Ok(()) => failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!("{error}");
                    }
                }
            }
        }
    }

    async fn create_key(&self) -> Result<(), String> {
        let failed = |error: &str| {
            format!(
                "can't create the Secret {}/{OWN} with the key of layer 2: {error}. Allow the \
                 allocator to create Secrets (deploy/manifests/2-rbac.yaml)",
                self.namespace
            )
        };
        let mut key = vec![0; KEY_LENGTH];
        let random = SystemRandom::new().fill(&mut key);
        random.map_err(|_| failed("the system has no randomness"))?;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = secret(key);
        let params = PostParams::default();
        let created = timeout(REQUEST_TIMEOUT, api.create(&params, &secret));
        match created.await {
            Ok(Ok(_)) => {
                tracing::info!(
                    "created the Secret {}/{OWN}: its key authenticates the hellos of layer 2",
                    self.namespace
                );
                Ok(())
            }
            // Another allocator created it.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Ok(Err(error)) => Err(failed(&chain(&error))),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    /// Server-side apply: it needs no resourceVersion, so that it conflicts with no other writer.
    async fn write_status(&self, key: &ObjectKey, status: &ObjectStatus) -> Result<(), String> {
        let failed = |error: &str| {
            format!(
                "can't write the status of {key}: {error}. Apply the CRDs of this version, and \
                 allow the allocator to patch {}/status (deploy/manifests/2-rbac.yaml)",
                plural(key.kind)
            )
        };
        let ObjectName { namespace, name } = &key.name;
        let api: Api<Object> =
            Api::namespaced_with(self.client.clone(), namespace, &resource(key.kind));
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(status_object(key, status, Timestamp::now()));
        let patched = timeout(REQUEST_TIMEOUT, api.patch_status(name, &params, &patch));
        match patched.await {
            Ok(Ok(_)) => Ok(()),
            // It was deleted meanwhile.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(failed(&chain(&error))),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    /// Server-side apply of one condition: those of other programs stay. The version of the Service
    /// guards it, so that a decision about an older one, also of an earlier leader, is not written.
    async fn write_condition(&self, write: &ConditionWrite) -> Result<(), String> {
        let failed = |error: &str| {
            format!(
                "can't write a condition of the Service {}: {error}. Allow the allocator to patch \
                 services/status (deploy/manifests/2-rbac.yaml)",
                write.service
            )
        };
        let ObjectName { namespace, name } = &*write.service;
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(condition_object(write, Timestamp::now()));
        let patched = timeout(REQUEST_TIMEOUT, api.patch_status(name, &params, &patch));
        match patched.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if is_obsolete(&status) => Ok(()),
            Ok(Err(error)) => Err(failed(&chain(&error))),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    /// The name of the Event is that of its text, so that a new leader doesn't repeat it. A change
    /// that happens again within the life of an Event gets one with another name.
    async fn create_service_event(&self, event: &ServiceEvent) -> Result<(), String> {
        let now = Timestamp::now();
        let object = event_object(event, &self.node, now, of_text(event));
        if self.create_event(&object).await? || event.may_be_known {
            return Ok(());
        }
        let object = event_object(event, &self.node, now, now.as_nanosecond().unsigned_abs());
        self.create_event(&object).await.map(drop)
    }

    /// Returns false if there is an Event of this name.
    async fn create_event(&self, object: &Event) -> Result<bool, String> {
        let about = &object.involved_object;
        let (kind, name) = (about.kind.as_deref(), about.name.as_deref());
        let failed = |error: &str| {
            format!(
                "can't create an Event about {} {}: {error}. Allow the service account to create \
                 Events (deploy/manifests/2-rbac.yaml)",
                kind.unwrap_or_default(),
                name.unwrap_or_default(),
            )
        };
        let namespace = object.metadata.namespace.as_deref();
        let namespace = namespace.unwrap_or(NODE_EVENTS);
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let params = PostParams::default();
        let created = timeout(REQUEST_TIMEOUT, api.create(&params, object));
        match created.await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(false),
            Ok(Err(error)) => Err(failed(&chain(&error))),
            Err(_) => Err(failed("no answer in time")),
        }
    }
}

/// Whether a condition was refused because the Service changed or was deleted meanwhile: it is
/// decided again. The API server would create one that was deleted, but that lacks a spec.
fn is_obsolete(refusal: &Status) -> bool {
    let lacks_spec = || {
        let details = refusal.details.iter();
        let mut causes = details.flat_map(|details| &details.causes);
        causes.any(|cause| cause.field.starts_with("spec."))
    };
    match refusal.code {
        404 | 409 => true,
        422 => lacks_spec(),
        _ => false,
    }
}

/// What is applied to the status of a configuration object. What an earlier write applied and this
/// one lacks is removed.
fn status_object(key: &ObjectKey, status: &ObjectStatus, now: Timestamp) -> Value {
    let mut applied = json!({});
    if let Some(counts) = &status.counts {
        applied = json!(counts);
    }
    if let Some(accepted) = &status.accepted {
        let mut accepted = accepted.clone();
        if accepted.last_transition_time.is_empty() {
            accepted.last_transition_time = in_seconds(now);
        }
        applied["conditions"] = json!([accepted]);
    }
    json!({
        "apiVersion": key.kind.api_version(),
        "kind": key.kind.name(),
        "metadata": { "name": key.name.name },
        "status": applied,
    })
}

/// The time as conditions have it.
fn in_seconds(now: Timestamp) -> String {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    now.to_string()
}

/// What is applied: without a condition, the one that an earlier write applied is removed.
fn condition_object(write: &ConditionWrite, now: Timestamp) -> Value {
    let mut status = json!({});
    if let Some(condition) = &write.condition {
        let AnnouncedCondition {
            announced,
            reason,
            message,
            since,
        } = condition;
        let since = if since.is_empty() {
            in_seconds(now)
        } else {
            since.clone()
        };
        status["conditions"] = json!([{
            "type": ANNOUNCED_CONDITION,
            "status": if *announced { "True" } else { "False" },
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
        }]);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": write.service.name, "resourceVersion": write.resource_version },
        "status": status,
    })
}

fn secret(key: Vec<u8>) -> Secret {
    let labels = [("app.kubernetes.io/name".to_owned(), "ferrolb".to_owned())];
    Secret {
        metadata: ObjectMeta {
            name: Some(OWN.to_owned()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        data: Some([(KEY.to_owned(), ByteString(key))].into()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// An Event about a Node. As the kubelet's, it has the Node's name as UID: kubectl describe finds
/// it by that.
fn node_event_object(event: &NodeEvent, now: Timestamp) -> Event {
    let NodeEvent {
        node,
        component,
        warning,
        reason,
        message,
    } = event;
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{node}.{:x}", now.as_nanosecond())),
            namespace: Some(NODE_EVENTS.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.clone()),
            uid: Some(node.clone()),
            ..ObjectReference::default()
        },
        ..described(component, node, *warning, reason, message, now)
    }
}

/// The fields that an Event has whatever it is about.
fn described(
    component: &str,
    host: &str,
    warning: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Event {
    Event {
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        source: Some(EventSource {
            component: Some(component.to_owned()),
            host: Some(host.to_owned()),
        }),
        ..Event::default()
    }
}

/// A number that two Events have in common if they say the same about the same Service.
fn of_text(event: &ServiceEvent) -> u128 {
    let ServiceEvent {
        uid,
        component,
        reason,
        message,
        ..
    } = event;
    fnv1a(&format!("{uid} {component} {reason} {message}")).into()
}

/// An Event about a configuration object or a Pod. The moment makes its name unique.
fn object_event_object(event: &ObjectEvent, node: &str, now: Timestamp) -> Event {
    let ObjectEvent {
        api_version,
        kind,
        object,
        uid,
        component,
        warning,
        reason,
        message,
    } = event;
    let event = described(component, node, *warning, reason, message, now);
    about(event, (api_version, kind), object, uid, now.as_nanosecond())
}

/// An Event with its object. Its name ends with a number, as in client-go.
fn about(
    event: Event,
    (api_version, kind): (&str, &str),
    object: &ObjectName,
    uid: &str,
    number: impl std::fmt::LowerHex,
) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{number:x}", object.name)),
            namespace: Some(object.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(object.name.clone()),
            namespace: Some(object.namespace.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        },
        ..event
    }
}

/// The Event as kubectl describe shows it: of the older group, which every version has. Its name
/// ends with a number, as in client-go.
fn event_object(event: &ServiceEvent, node: &str, now: Timestamp, number: u128) -> Event {
    let ServiceEvent {
        service,
        uid,
        component,
        warning,
        reason,
        message,
        may_be_known: _,
    } = event;
    let event = described(component, node, *warning, reason, message, now);
    about(event, ("v1", "Service"), service, uid, number)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::api::Kind;
    use crate::core::api::condition::Condition;
    use crate::core::api::metallb::PoolStatus;

    #[test]
    fn the_secret_has_the_key_in_base64_under_the_name_that_memberlist_has() {
        let secret = serde_json::to_value(secret(vec![0xff; 3])).expect("JSON");
        assert_eq!(secret["metadata"]["name"], "ferrolb-layer2");
        assert_eq!(secret["data"], json!({"secretkey": "////"}));
    }

    #[test]
    fn a_condition_is_guarded_by_the_version_and_keeps_the_time_of_its_last_change() {
        let write = |since: &str| ConditionWrite {
            service: Arc::new(ObjectName::new("shop", "web")),
            resource_version: "7".to_owned(),
            condition: Some(AnnouncedCondition {
                announced: false,
                reason: "NoEndpoints".to_owned(),
                message: "a message".to_owned(),
                since: since.to_owned(),
            }),
        };
        let now = Timestamp::UNIX_EPOCH;
        let object = condition_object(&write(""), now);
        assert_eq!(
            object["metadata"],
            json!({"name": "web", "resourceVersion": "7"})
        );
        let applied = |object: &Value| object["status"]["conditions"][0].clone();
        assert_eq!(
            applied(&object),
            json!({"type": "ferrolb.io/Announced", "status": "False", "reason": "NoEndpoints",
                "message": "a message", "lastTransitionTime": "1970-01-01T00:00:00Z"})
        );
        let earlier = "1969-01-01T00:00:00Z";
        let object = condition_object(&write(earlier), now);
        assert_eq!(applied(&object)["lastTransitionTime"], earlier);
        let removed = ConditionWrite {
            condition: None,
            ..write("")
        };
        assert_eq!(condition_object(&removed, now)["status"], json!({}));
    }

    #[test]
    fn a_condition_of_a_service_that_changed_or_is_gone_is_obsolete_and_an_invalid_one_is_not() {
        let refusal = |code: u16, field: &str| {
            let body = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": format!("Service \"web\" is invalid: {field}: Required value"),
                "reason": "Invalid", "code": code,
                "details": { "name": "web", "kind": "Service", "causes": [{
                    "reason": "FieldValueRequired", "message": "Required value", "field": field,
                }] },
            });
            serde_json::from_value::<Status>(body).expect("a Status")
        };
        // As Kubernetes 1.34 answers about a Service that was deleted.
        assert!(is_obsolete(&refusal(422, "spec.ports")));
        assert!(is_obsolete(&refusal(404, "")) && is_obsolete(&refusal(409, "")));
        assert!(!is_obsolete(&refusal(422, "status.conditions[0].reason")));
        assert!(!is_obsolete(&refusal(403, "spec.ports")));
    }

    #[test]
    fn a_status_has_all_that_ferrolb_writes_and_keeps_the_time_of_its_last_change() {
        let key = ObjectKey::new(Kind::FerrolbIpAddressPool, ObjectName::new("ns", "pool"));
        let status = |counts, since: &str| ObjectStatus {
            counts,
            accepted: Some(Condition {
                r#type: "Accepted".to_owned(),
                status: "False".to_owned(),
                reason: "Overlap".to_owned(),
                message: "a message".to_owned(),
                last_transition_time: since.to_owned(),
            }),
        };
        let now = Timestamp::UNIX_EPOCH;
        let object = status_object(&key, &status(Some(PoolStatus::default()), ""), now);
        assert_eq!(object["apiVersion"], "ferrolb.io/v1alpha1");
        let condition = |since: &str| {
            json!([{"type": "Accepted", "status": "False", "reason": "Overlap",
                "message": "a message", "lastTransitionTime": since}])
        };
        assert_eq!(
            object["status"],
            json!({"assignedIPv4": 0, "assignedIPv6": 0, "availableIPv4": 0, "availableIPv6": 0,
                "conditions": condition("1970-01-01T00:00:00Z")})
        );
        let earlier = "1969-01-01T00:00:00Z";
        let object = status_object(&key, &status(None, earlier), now);
        assert_eq!(
            object["status"],
            json!({ "conditions": condition(earlier) })
        );
    }

    #[test]
    fn an_event_about_an_object_of_metallbs_is_in_its_namespace_and_has_its_uid() {
        let event = ObjectEvent {
            api_version: Kind::BgpPeer.api_version(),
            kind: Kind::BgpPeer.name(),
            object: ObjectName::new("metallb-system", "tor"),
            uid: "u-1".to_owned(),
            component: "ferrolb-allocator",
            warning: true,
            reason: "NameInUse",
            message: "a message".to_owned(),
        };
        let event = object_event_object(&event, "a", Timestamp::UNIX_EPOCH);
        let event = serde_json::to_value(event).expect("JSON");
        assert_eq!(event["metadata"]["namespace"], "metallb-system");
        assert_eq!(
            event["involvedObject"],
            json!({"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "name": "tor",
                "namespace": "metallb-system", "uid": "u-1"})
        );
        assert_eq!(
            (&event["type"], &event["reason"]),
            (&json!("Warning"), &json!("NameInUse"))
        );
    }

    #[test]
    fn an_event_about_a_node_is_one_that_kubectl_describe_finds() {
        let event = NodeEvent {
            node: "a".to_owned(),
            component: "ferrolb-announcer",
            warning: true,
            reason: "MetalLBSpeakerRuns",
            message: "a message".to_owned(),
        };
        let event = node_event_object(&event, Timestamp::UNIX_EPOCH);
        let event = serde_json::to_value(event).expect("JSON");
        assert_eq!(event["metadata"]["namespace"], "default");
        assert_eq!(
            event["involvedObject"],
            json!({"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "a"})
        );
        assert_eq!(
            (&event["type"], &event["reason"]),
            (&json!("Warning"), &json!("MetalLBSpeakerRuns"))
        );
    }

    #[test]
    fn an_event_names_the_service_and_the_node() {
        let event = ServiceEvent {
            service: Arc::new(ObjectName::new("shop", "web")),
            uid: "u-1".into(),
            component: "ferrolb-layer2",
            warning: false,
            reason: "nodeAssigned",
            message: "announcing from node \"a\" with protocol \"layer2\"".to_owned(),
            may_be_known: false,
        };
        let other = ServiceEvent {
            uid: "u-2".into(),
            ..event.clone()
        };
        assert_eq!(of_text(&event), of_text(&event.clone()));
        assert_ne!(of_text(&event), of_text(&other));
        let event = event_object(&event, "a", Timestamp::UNIX_EPOCH, 0);
        let event = serde_json::to_value(event).expect("JSON");
        assert_eq!(event["metadata"]["name"], "web.0");
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!(
            event["involvedObject"],
            json!({"apiVersion": "v1", "kind": "Service", "name": "web", "namespace": "shop",
                "uid": "u-1"})
        );
        assert_eq!(
            (&event["type"], &event["reason"], &event["source"]),
            (
                &json!("Normal"),
                &json!("nodeAssigned"),
                &json!({"component": "ferrolb-layer2", "host": "a"})
            )
        );
    }
}
