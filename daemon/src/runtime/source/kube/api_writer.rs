//! Writes Events, conditions, the statuses of pools and the key of hellos to the API server. A
//! failed write is not retried: nothing depends on an Event, and the control loop requests the
//! others again.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::object::{Object, resource};
use super::watch::chain;
use crate::core::api::metallb::PoolStatus;
use crate::core::api::{ObjectKey, ObjectName};
use crate::core::config::hello_secrets::{KEY, OWN};
use crate::core::model::{
    ANNOUNCED_CONDITION, AnnouncedCondition, ConditionWrite, NodeEvent, PodEvent, ServiceEvent,
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
                ApiWrite::PoolStatus(pool, status) => self.write_status(&pool, status).await,
                ApiWrite::Condition(write) => self.write_condition(&write).await,
                ApiWrite::Event(event) => {
                    sleep_until(next_event).await;
                    next_event = Instant::now() + EVENT_INTERVAL;
                    let object = event_object(&event, &self.node, Timestamp::now());
                    self.create_event(&object).await
                }
                ApiWrite::NodeEvent(event) => {
                    let object = node_event_object(&event, Timestamp::now());
                    self.create_event(&object).await
                }
                ApiWrite::PodEvent(event) => {
                    let object = pod_event_object(&event, &self.node, Timestamp::now());
                    self.create_event(&object).await
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
    async fn write_status(&self, pool: &ObjectKey, status: PoolStatus) -> Result<(), String> {
        let failed = |error: &str| {
            format!(
                "can't write the status of {pool}: {error}. Allow the allocator to patch \
                 ipaddresspools/status (deploy/manifests/2-rbac.yaml)"
            )
        };
        let ObjectName { namespace, name } = &pool.name;
        let api: Api<Object> =
            Api::namespaced_with(self.client.clone(), namespace, &resource(pool.kind));
        let object = json!({
            "apiVersion": pool.kind.api_version(),
            "kind": pool.kind.name(),
            "metadata": { "name": name },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(object);
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
            // It changed or was deleted meanwhile: it is decided again.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
            Ok(Err(error)) => Err(failed(&chain(&error))),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    async fn create_event(&self, object: &Event) -> Result<(), String> {
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
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failed(&chain(&error))),
            Err(_) => Err(failed("no answer in time")),
        }
    }
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
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let since = if since.is_empty() {
            now.to_string()
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

/// The Event as kubectl describe shows it: of the older group, which every version has.
fn event_object(event: &ServiceEvent, node: &str, now: Timestamp) -> Event {
    let ServiceEvent {
        service,
        uid,
        component,
        warning,
        reason,
        message,
    } = event;
    let event = described(component, node, *warning, reason, message, now);
    about("Service", service, uid, event, now)
}

fn pod_event_object(event: &PodEvent, node: &str, now: Timestamp) -> Event {
    let PodEvent {
        pod,
        uid,
        component,
        warning,
        reason,
        message,
    } = event;
    let event = described(component, node, *warning, reason, message, now);
    about("Pod", pod, uid, event, now)
}

/// An Event about an object of the core group in a namespace.
fn about(kind: &str, object: &ObjectName, uid: &str, event: Event, now: Timestamp) -> Event {
    // The moment makes the name unique, as in client-go.
    let unique = now.as_nanosecond();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{unique:x}", object.name)),
            namespace: Some(object.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(object.name.clone()),
            namespace: Some(object.namespace.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        },
        ..event
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

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
        };
        let event = event_object(&event, "a", Timestamp::UNIX_EPOCH);
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
