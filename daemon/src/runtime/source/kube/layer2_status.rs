//! Writes MetalLB's ServiceL2Status objects, for tools that read them: one object per service that
//! this node announces.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::backoff::Backoff;
use super::client::{self, StartError};
use super::status_objects::{Failure, answer, delete};
use crate::core::api::ObjectName;
use crate::core::hash::fnv1a;
use crate::runtime::source::Layer2Statuses;
use crate::runtime::source::metallb_kinds::{API_VERSION, NAME_LABEL, NAMESPACE_LABEL, NODE_LABEL};
use crate::runtime::source::status_objects::label;

/// Field manager of the objects.
const MANAGER: &str = "ferrolb-layer2";
const KIND: &str = "ServiceL2Status";

/// Where the objects are written.
#[derive(Clone, Debug)]
pub(crate) struct Layer2StatusOptions {
    /// Kubeconfig; `None` for the Pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// MetalLB's namespace.
    pub namespace: String,
    /// This node.
    pub node: String,
}

/// Starts to write the statuses.
///
/// # Errors
///
/// The client's configuration is invalid.
pub(crate) async fn start(
    options: Layer2StatusOptions,
    statuses: watch::Receiver<Option<Arc<Layer2Statuses>>>,
) -> Result<(), StartError> {
    let client = client::connect(options.kubeconfig.as_deref()).await?;
    tokio::spawn(Writer::new(client, options).run(statuses));
    Ok(())
}

struct Writer {
    api: Api<DynamicObject>,
    node: String,
    namespace: String,
    written: Layer2Statuses,
}

impl Writer {
    fn new(client: Client, options: Layer2StatusOptions) -> Self {
        let resource = ApiResource {
            group: "metallb.io".to_owned(),
            version: "v1beta1".to_owned(),
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            plural: "servicel2statuses".to_owned(),
        };
        Self {
            api: Api::namespaced_with(client, &options.namespace, &resource),
            node: options.node,
            namespace: options.namespace,
            written: Layer2Statuses::default(),
        }
    }

    /// Writes until the sender is dropped. Failures are retried with the latest statuses.
    async fn run(mut self, mut statuses: watch::Receiver<Option<Arc<Layer2Statuses>>>) {
        let mut backoff = Backoff::default();
        let mut failing = false;
        let mut first = true;
        loop {
            let new = statuses.borrow_and_update().clone();
            let written = match &new {
                Some(new) => self.write(new, first).await,
                None => Ok(()),
            };
            match written {
                Ok(()) => {
                    (first, failing) = (new.is_none(), false);
                    backoff.reset();
                    if statuses.changed().await.is_err() {
                        return;
                    }
                }
                Err(failure) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(
                            "can't write a ServiceL2Status, retrying: {}. Apply MetalLB's CRDs, \
                             allow the service account to write them \
                             (deploy/manifests/2-rbac.yaml), or remove --metallb-status",
                            failure.text()
                        );
                    }
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Writes the differences. `first`: objects that an earlier process of this node left behind
    /// are deleted as well.
    async fn write(&mut self, new: &Layer2Statuses, first: bool) -> Result<(), Failure> {
        if first {
            self.delete_own(new).await?;
        }
        for (service, interfaces) in &new.own {
            let owners = new.owners.get(service);
            if is_outdated(&self.written, new, service) {
                self.apply(service, interfaces).await?;
            }
            if self.written.owners.get(service) != owners {
                self.delete_others(service, owners).await?;
            }
        }
        let written = self.written.own.keys();
        let gone = written.filter(|service| !new.own.contains_key(*service));
        for service in gone {
            delete(&self.api, &object_name(&self.node, service)).await?;
        }
        self.written = new.clone();
        Ok(())
    }

    async fn apply(
        &self,
        service: &ObjectName,
        interfaces: &BTreeSet<Box<str>>,
    ) -> Result<(), Failure> {
        let name = object_name(&self.node, service);
        let params = PatchParams::apply(MANAGER).force();
        let object = Patch::Apply(object(&self.namespace, &self.node, service));
        answer(self.api.patch(&name, &params, &object)).await?;
        let status = Patch::Apply(status(&self.namespace, &self.node, service, interfaces));
        answer(self.api.patch_status(&name, &params, &status)).await?;
        Ok(())
    }

    /// Deletes the objects of this node that are not among the new ones.
    async fn delete_own(&self, new: &Layer2Statuses) -> Result<(), Failure> {
        let kept = new.own.keys();
        let kept: BTreeSet<String> = kept.map(|name| object_name(&self.node, name)).collect();
        let selector = format!("{NODE_LABEL}={}", label(&self.node));
        let own = answer(self.api.list(&ListParams::default().labels(&selector))).await?;
        for object in own {
            let name = object.metadata.name.unwrap_or_default();
            if !kept.contains(&name) {
                delete(&self.api, &name).await?;
            }
        }
        Ok(())
    }

    /// Deletes the objects of nodes that no longer announce a service: they may be dead.
    async fn delete_others(
        &self,
        service: &ObjectName,
        owners: Option<&BTreeSet<Arc<str>>>,
    ) -> Result<(), Failure> {
        let selector = format!(
            "{NAME_LABEL}={},{NAMESPACE_LABEL}={}",
            service.name, service.namespace
        );
        let owners = owners.into_iter().flatten();
        let kept: BTreeSet<String> = owners.map(|node| object_name(node, service)).collect();
        let objects = answer(self.api.list(&ListParams::default().labels(&selector))).await?;
        for object in objects {
            let name = object.metadata.name.unwrap_or_default();
            if !kept.contains(&name) {
                delete(&self.api, &name).await?;
            }
        }
        Ok(())
    }
}

/// Whether the object about a service of this node must be written. After a conflict it may be
/// deleted, since the other owner deletes the objects of all others.
fn is_outdated(written: &Layer2Statuses, new: &Layer2Statuses, service: &ObjectName) -> bool {
    new.claim_conflicts != written.claim_conflicts
        || new.own.get(service) != written.own.get(service)
}

/// The name of the object about a service on a node. MetalLB's API server sets a random one; this
/// one is a hash, so that the object is found again. MetalLB's CRD permits no change of the node.
fn object_name(node: &str, service: &ObjectName) -> String {
    format!("l2-{:016x}", fnv1a(&format!("{node} {service}")))
}

fn object(namespace: &str, node: &str, service: &ObjectName) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": object_name(node, service),
            "namespace": namespace,
            "labels": {
                NODE_LABEL: label(node),
                NAME_LABEL: service.name,
                NAMESPACE_LABEL: service.namespace,
            },
        },
    })
}

fn status(
    namespace: &str,
    node: &str,
    service: &ObjectName,
    interfaces: &BTreeSet<Box<str>>,
) -> Value {
    let mut status = json!({
        "node": node,
        "serviceName": service.name,
        "serviceNamespace": service.namespace,
    });
    if !interfaces.is_empty() {
        let names = interfaces.iter().map(|name| json!({"name": name}));
        status["interfaces"] = names.collect();
    }
    let mut object = object(namespace, node, service);
    object["status"] = status;
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_labels_and_fields_of_metallb() {
        let service = ObjectName::new("shop", "web");
        let interfaces = BTreeSet::from(["eth1".into(), "eth0".into()]);
        let object = status("metallb-system", "a", &service, &interfaces);
        assert_eq!(
            object["metadata"]["labels"],
            json!({"metallb.io/node": "a", "metallb.io/service-name": "web",
                "metallb.io/service-namespace": "shop"})
        );
        assert_eq!(
            object["status"],
            json!({"node": "a", "serviceName": "web", "serviceNamespace": "shop",
                "interfaces": [{"name": "eth0"}, {"name": "eth1"}]})
        );
        let everywhere = status("metallb-system", "a", &service, &BTreeSet::new());
        assert!(everywhere["status"].get("interfaces").is_none());
    }

    #[test]
    fn an_object_is_written_if_its_interfaces_change_or_another_node_claimed_the_address() {
        let service = ObjectName::new("shop", "web");
        let interfaces = |name: &str| [(Arc::new(service.clone()), [name.into()].into())].into();
        let written = Layer2Statuses {
            own: interfaces("eth0"),
            ..Layer2Statuses::default()
        };
        assert!(is_outdated(&Layer2Statuses::default(), &written, &service));
        assert!(!is_outdated(&written, &written, &service));
        let other = Layer2Statuses {
            own: interfaces("eth1"),
            ..written.clone()
        };
        assert!(is_outdated(&written, &other, &service));
        let after_conflict = Layer2Statuses {
            claim_conflicts: 1,
            ..written.clone()
        };
        assert!(is_outdated(&written, &after_conflict, &service));
    }

    #[test]
    fn each_node_and_service_has_a_name_that_never_changes() {
        let name = object_name("a", &ObjectName::new("shop", "web"));
        assert_eq!(name, object_name("a", &ObjectName::new("shop", "web")));
        assert!(name.starts_with("l2-") && name.len() == 19, "{name}");
        for (node, namespace, service) in [("b", "shop", "web"), ("a", "shop", "api")] {
            assert_ne!(
                name,
                object_name(node, &ObjectName::new(namespace, service))
            );
        }
    }
}
