//! Changes to the objects of a cluster that did not happen: what `ferrolb plan` assumes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::index::change::Change;
use crate::core::model::annotations::{ALLOCATED_ANNOTATION, EXCLUDE_LABEL};

/// When an object of a change is created: after all that exist, so that it takes nothing from them.
const YOUNGEST: &str = "9999-01-01T00:00:00Z";

/// The objects of a cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects(BTreeMap<ObjectKey, RawObject>);

/// An event that is assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `kubectl drain` of a node, and its exclusion from load balancers.
    Drain(String),
    /// A node fails, and its Node object is deleted.
    LoseNode(String),
    /// The router of a BGPPeer fails.
    LosePeer(String),
}

impl Objects {
    /// The objects of a snapshot.
    pub(crate) fn of(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut objects = BTreeMap::new();
        for change in changes {
            if let Change::Reset(_, of_kind) = change {
                objects.extend(of_kind);
            }
        }
        Self(objects)
    }

    /// Applies a change of the objects.
    pub(crate) fn change(&mut self, change: &Change) {
        match change {
            Change::Apply(key, object) => {
                self.0.insert(key.clone(), object.clone());
            }
            Change::Delete(key) => {
                self.0.remove(key);
            }
            Change::Reset(kind, objects) => {
                self.0.retain(|key, _| key.kind != *kind);
                self.0.extend(objects.iter().cloned());
            }
            Change::Listed(kind, present) => self
                .0
                .retain(|key, _| key.kind != *kind || present.contains(&key.name)),
            // What was known stays in use.
            Change::Unreadable(..) | Change::Absent(..) => {}
        }
    }

    /// The objects as an index takes them.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        let mut by_kind: BTreeMap<Kind, Vec<(ObjectKey, RawObject)>> = BTreeMap::new();
        for (key, object) in self.0 {
            by_kind.entry(key.kind).or_default().push((key, object));
        }
        let kinds = Kind::ALL.into_iter();
        kinds
            .map(|kind| Change::Reset(kind, by_kind.remove(&kind).unwrap_or_default()))
            .collect()
    }

    /// Applies manifests. What ferrolb wrote into an object and its manifest lacks, the status and
    /// the pool of a Service, stays.
    pub(crate) fn apply(&mut self, manifests: impl IntoIterator<Item = (ObjectKey, RawObject)>) {
        for (key, mut new) in manifests {
            if let Some(old) = self.0.remove(&key) {
                if let Some(status) = old.body.get("status") {
                    let has_status = new.body.get("status").is_some_and(|s| !s.is_null());
                    if !has_status {
                        new.body.insert("status".to_owned(), status.clone());
                    }
                }
                if let Some(pool) = old.metadata.annotations.get(ALLOCATED_ANNOTATION) {
                    let annotations = &mut new.metadata.annotations;
                    let annotation = annotations.entry(ALLOCATED_ANNOTATION.to_owned());
                    annotation.or_insert_with(|| pool.clone());
                }
                new.metadata.uid = old.metadata.uid;
                new.metadata.creation_timestamp = old.metadata.creation_timestamp;
                new.metadata.resource_version = old.metadata.resource_version;
            }
            let created = &mut new.metadata.creation_timestamp;
            if created.is_empty() {
                YOUNGEST.clone_into(created);
            }
            self.0.insert(key, new);
        }
    }

    /// Deletes the objects of the configuration that the manifests lack.
    pub(crate) fn prune(&mut self, is_in_manifests: impl Fn(&ObjectKey) -> bool) {
        self.0
            .retain(|key, _| !key.kind.is_configuration() || is_in_manifests(key));
    }

    /// Assumes an event.
    ///
    /// # Errors
    /// The node or BGPPeer does not exist: the text lists those that do.
    pub(crate) fn assume(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Drain(name) => {
                let node = self.node(name)?;
                let labels = &mut node.metadata.labels;
                labels.insert(EXCLUDE_LABEL.to_owned(), String::new());
                self.remove_endpoints(name);
            }
            Event::LoseNode(name) => {
                self.node(name)?;
                self.0.remove(&node_key(name));
                self.remove_endpoints(name);
            }
            Event::LosePeer(name) => self.remove_peer(name)?,
        }
        Ok(())
    }

    fn node(&mut self, name: &str) -> Result<&mut RawObject, String> {
        let names = self.names(|kind| kind == Kind::Node);
        let node = self.0.get_mut(&node_key(name));
        node.ok_or_else(|| format!("there is no Node {name}; there are: {names}"))
    }

    fn remove_peer(&mut self, name: &str) -> Result<(), String> {
        let is_peer = |kind| matches!(kind, Kind::BgpPeer | Kind::FerrolbBgpPeer);
        let before = self.0.len();
        let names = self.names(is_peer);
        self.0
            .retain(|key, _| !(is_peer(key.kind) && key.name.name == name));
        if self.0.len() == before {
            return Err(format!("there is no BGPPeer {name}; there are: {names}"));
        }
        Ok(())
    }

    fn names(&self, of_kind: impl Fn(Kind) -> bool) -> String {
        let keys = self.0.keys().filter(|key| of_kind(key.kind));
        let names: Vec<&str> = keys.map(|key| key.name.name.as_str()).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }

    /// Removes the endpoints on a node, as if its Pods were gone.
    fn remove_endpoints(&mut self, node: &str) {
        let slices = self.0.iter_mut();
        let slices = slices.filter(|(key, _)| key.kind == Kind::EndpointSlice);
        for (_, slice) in slices {
            let endpoints = slice.body.get_mut("endpoints");
            if let Some(Value::Array(endpoints)) = endpoints {
                endpoints.retain(|endpoint| endpoint["nodeName"] != json!(node));
            }
        }
    }
}

fn node_key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Node, ObjectName::new("", name))
}
