//! Publishes MetalLB's ServiceL2Status objects, for tools that read them (only with
//! `--metallb-status`): one object for each service that this node announces by layer 2.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_layer2::config::Interfaces;
use ferrolb_layer2::status::{NodeState, Status};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::engine::Layer2Engine;
use crate::core::api::ObjectName;
use crate::core::hash::fnv1a;
use crate::runtime::source::metallb_kinds::{MetallbStatus, NAME_LABEL, NAMESPACE_LABEL, OfNode};
use crate::runtime::source::status_objects::{
    Revisions, StatusObjects, StatusObjectsSender, delete_all, label, node_leaves,
};
use crate::runtime::status::{DaemonStatus, Layer2Services};

/// Changes within this time are written together.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a process that isn't ready leaves the objects alone that an earlier or older one of its
/// node wrote.
const START_TIME: Duration = Duration::from_mins(1);

/// What the publisher works with.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// MetalLB's namespace.
    pub(crate) namespace: String,
    /// This node.
    pub(crate) node: String,
    pub(crate) engine: Layer2Engine,
    pub(crate) services: Layer2Services,
    /// What the control loop publishes.
    pub(crate) status: watch::Receiver<Arc<DaemonStatus>>,
    /// Whether this node leaves for good.
    pub(crate) leaving: watch::Receiver<bool>,
}

impl Publisher {
    /// Publishes until the writer ends, or the node leaves for good: then it returns once the
    /// objects are deleted. The first time when the engine is ready.
    pub(crate) async fn run(mut self, objects: StatusObjectsSender) {
        let started = Instant::now();
        let every = MetallbStatus::ServiceL2.refreshed_after();
        let mut revisions = Revisions::new(started.into_std(), every);
        let mut claim_conflicts = 0;
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !objects.is_closed() {
            tokio::select! {
                _ = tick.tick() => {}
                () = node_leaves(&mut self.leaving) => return delete_all(&objects).await,
            }
            // Without an engine this node announces nothing.
            let status = self.engine.status().await.unwrap_or_default();
            let sent = objects.borrow().clone();
            let is_starting = status.state != NodeState::Ready && started.elapsed() < START_TIME;
            if sent.is_none() && is_starting {
                continue;
            }
            let node = self.status.borrow().own_node.clone();
            // Without a Node the objects would have no owner.
            let Some(node) = node else {
                continue;
            };
            let statuses = statuses_of(&status, &self.services);
            // The other node may have deleted the objects of this one meanwhile.
            if statuses.claim_conflicts != claim_conflicts {
                claim_conflicts = statuses.claim_conflicts;
                revisions.advance();
            }
            let new = status_objects(&self.namespace, &self.node, &node.uid, &statuses);
            let now = Instant::now().into_std();
            if let Some(new) = revisions.next(now, sent.as_deref(), new) {
                objects.send_replace(Some(Arc::new(new)));
            }
        }
    }
}

/// The contents of the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layer2Statuses {
    /// The services that this node announces by layer 2. With the interfaces; none means all.
    pub(super) own: BTreeMap<Arc<ObjectName>, BTreeSet<Box<str>>>,
    /// All nodes that announce an address of a service.
    pub(super) owners: BTreeMap<Arc<ObjectName>, BTreeSet<Arc<str>>>,
    /// How often this node and another one claimed the same address.
    claim_conflicts: u64,
}

pub(super) fn statuses_of(status: &Status, services: &Layer2Services) -> Layer2Statuses {
    let mut statuses = Layer2Statuses {
        claim_conflicts: status.counters.claim_conflicts,
        ..Layer2Statuses::default()
    };
    for (address, entry) in &status.addresses {
        let Some(owner) = &entry.owner else {
            continue;
        };
        let named = matches!(*services.interfaces(*address), Interfaces::Named(_));
        for service in &*services.of(*address) {
            let owners = statuses.owners.entry(service.name.clone()).or_default();
            owners.insert(owner.clone());
            if *owner == status.node {
                let interfaces = statuses.own.entry(service.name.clone()).or_default();
                // MetalLB names interfaces only where an L2Advertisement does.
                interfaces.extend(entry.interfaces.iter().filter(|_| named).cloned());
            }
        }
    }
    statuses
}

/// The objects about the services of this node. Those of nodes that no longer announce these
/// services are deleted: they may be dead.
fn status_objects(
    namespace: &str,
    node: &str,
    owner_uid: &str,
    statuses: &Layer2Statuses,
) -> StatusObjects {
    let mut objects = StatusObjects::default();
    let of_node = OfNode {
        namespace,
        node,
        uid: owner_uid,
    };
    for (service, interfaces) in &statuses.own {
        let name = object_name(node, service);
        let mut object = of_node.service_object(MetallbStatus::ServiceL2, &name, service);
        if !interfaces.is_empty() {
            let names = interfaces.iter().map(|name| json!({"name": name}));
            object["status"]["interfaces"] = names.collect::<Value>();
        }
        objects.objects.insert(name, Arc::new(object));
        let (name, within) = (label(&service.name), label(&service.namespace));
        let of_service = format!("{NAME_LABEL}={name},{NAMESPACE_LABEL}={within}");
        let owners = statuses.owners.get(service).into_iter().flatten();
        let names = owners.map(|owner| object_name(owner, service)).collect();
        objects.others.insert(of_service, names);
    }
    objects
}

/// The name of the object about a service on a node. MetalLB's API server sets a random one; this
/// one is a hash, so that the object is found again. MetalLB's CRD permits no change of the node.
fn object_name(node: &str, service: &ObjectName) -> String {
    format!("l2-{:016x}", fnv1a(&format!("{node} {service}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Arc<ObjectName> {
        Arc::new(ObjectName::new("shop", "web"))
    }

    fn of_web(interfaces: BTreeSet<Box<str>>, owners: &[&str]) -> StatusObjects {
        let owners = owners.iter().map(|owner| Arc::from(*owner)).collect();
        let statuses = Layer2Statuses {
            own: [(web(), interfaces)].into(),
            owners: [(web(), owners)].into(),
            claim_conflicts: 0,
        };
        status_objects("metallb-system", "a", "u-1", &statuses)
    }

    #[test]
    fn the_object_has_the_labels_and_fields_of_metallb_and_belongs_to_the_node() {
        let objects = of_web(["eth1".into(), "eth0".into()].into(), &["a"]).objects;
        let (name, object) = objects.first_key_value().expect("an object");
        assert_eq!(object["metadata"]["name"], **name);
        assert_eq!(
            object["metadata"]["labels"],
            json!({"metallb.io/node": "a", "metallb.io/service-name": "web",
                "metallb.io/service-namespace": "shop"})
        );
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u-1"}]);
        assert_eq!(object["metadata"]["ownerReferences"], owner);
        assert_eq!(
            object["status"],
            json!({"node": "a", "serviceName": "web", "serviceNamespace": "shop",
                "interfaces": [{"name": "eth0"}, {"name": "eth1"}]})
        );
        let everywhere = of_web(BTreeSet::new(), &["a"]).objects;
        let object = everywhere.values().next().expect("an object");
        assert!(object["status"].get("interfaces").is_none());
    }

    #[test]
    fn objects_of_other_nodes_stay_only_if_these_announce_the_service() {
        let others = of_web(BTreeSet::new(), &["a", "b"]).others;
        let names = [object_name("a", &web()), object_name("b", &web())];
        let labels = "metallb.io/service-name=web,metallb.io/service-namespace=shop";
        assert_eq!(others, [(labels.to_owned(), names.into())].into());
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
