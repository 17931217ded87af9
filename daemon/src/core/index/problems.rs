//! Collects the problems of all objects.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::Index;
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::config::node_conflicts::{self, ConflictingPeer};
use crate::core::config::{Problem, Severity, layer2_notices};
use crate::core::model::annotations::{DRAIN_ANNOTATION, WEIGHT_ANNOTATION};

/// Maximum number of nodes that a problem lists.
const LISTED_NODES_MAX: usize = 3;

impl Index {
    /// All problems, of configuration and other objects.
    pub fn problems(&self) -> Vec<Problem> {
        let addresses = self
            .address_notices
            .iter()
            .map(|(name, message)| notice(service_key(name), message));
        let invalid_objects = self
            .problems
            .iter()
            .map(|(object, message)| error(object.clone(), message.clone()));
        let config = self.config.problems.iter().cloned();
        config
            .chain(self.problems_of_announcers())
            .chain(layer2_notices::notices(
                &self.config,
                &self.nodes,
                &self.missing_interfaces,
            ))
            .chain(addresses)
            .chain(invalid_objects)
            .chain(self.invalid_annotations())
            .chain(self.misspelt_annotations())
            .chain(self.undiscarded())
            .map(|problem| self.config.sources.resolve(problem))
            .collect()
    }

    /// Those that a process which only allocates leaves to announcers: it doesn't know the
    /// Secrets.
    fn problems_of_announcers(&self) -> Vec<Problem> {
        if self.objects.are_for_allocation_only() {
            return Vec::new();
        }
        let conflicts = self.node_conflict_problems().into_iter();
        let preferences = self.local_pref_conflicts.problems();
        let labels = self.community_label_notices();
        conflicts.chain(preferences).chain(labels).collect()
    }

    fn invalid_annotations(&self) -> impl Iterator<Item = Problem> {
        let message = |key: &str, error: &dyn Display| {
            format!("metadata.annotations[{key}]: {error}; until then the annotation is ignored")
        };
        let weights = self.nodes.iter().filter_map(move |(name, node)| {
            let weight = node.invalid_weight.as_ref()?;
            Some(error(node_key(name), message(WEIGHT_ANNOTATION, weight)))
        });
        let services = self.services_with_annotation_problems.iter();
        let drains = services.filter_map(move |name| {
            let drain = self.services.get(name)?.invalid_drain.as_ref()?;
            Some(error(service_key(name), message(DRAIN_ANNOTATION, drain)))
        });
        weights.chain(drains)
    }

    fn misspelt_annotations(&self) -> impl Iterator<Item = Problem> {
        let services = self.services_with_annotation_problems.iter();
        let services = services.filter_map(|name| {
            let message = self.services.get(name)?.misspelt_annotation.as_ref()?;
            Some(notice(service_key(name), message))
        });
        let nodes = self.nodes.iter().filter_map(|(name, node)| {
            let message = node.misspelt_annotation.as_ref()?;
            Some(notice(node_key(name), message))
        });
        services.chain(nodes)
    }

    /// Aggregates are announced, but packets to their unused addresses are not discarded.
    fn undiscarded(&self) -> impl Iterator<Item = Problem> {
        self.discard_errors.iter().map(|(node, error)| {
            let message = format!(
                "CannotDiscard: the kernel refuses to discard packets to unused addresses of \
                 aggregates ({error}), so they return to the router until their TTL expires; \
                 aggregates with announceAggregates: always are announced only with a Service \
                 inside. If the operation is not permitted, grant the announcer the capability \
                 NET_ADMIN (docs/announce.md)"
            );
            notice(node_key(node), &message)
        })
    }

    /// The conflicts on nodes. A conflict on several nodes is reported once. Without nodes: the
    /// conflicts on every node.
    fn node_conflict_problems(&self) -> Vec<Problem> {
        let everywhere = if self.nodes.is_empty() {
            node_conflicts::conflicts_on_every_node(&self.config)
        } else {
            BTreeMap::new()
        };
        let everywhere = everywhere.values().map(|conflict| ("every node", conflict));
        let here = self
            .node_peers
            .iter()
            .flat_map(|(node, here)| here.problems().map(|conflict| (node.as_str(), conflict)));
        let mut nodes: BTreeMap<(&ObjectKey, &str), Vec<&str>> = BTreeMap::new();
        for (node, ConflictingPeer { object, message }) in everywhere.chain(here) {
            nodes.entry((object, message)).or_default().push(node);
        }
        let problems = nodes.into_iter().map(|((object, message), nodes)| {
            let others = nodes.len().saturating_sub(LISTED_NODES_MAX);
            let named = nodes[..nodes.len() - others].join(", ");
            let others = if others > 0 {
                format!(" and {others} more")
            } else {
                String::new()
            };
            error(object.clone(), format!("on {named}{others}: {message}"))
        });
        problems.collect()
    }
}

fn error(object: ObjectKey, message: String) -> Problem {
    Problem {
        object,
        severity: Severity::Error,
        message,
    }
}

fn notice(object: ObjectKey, message: &str) -> Problem {
    Problem {
        object,
        severity: Severity::Notice,
        message: message.to_owned(),
    }
}

fn service_key(name: &ObjectName) -> ObjectKey {
    ObjectKey::new(Kind::Service, name.clone())
}

fn node_key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Node, ObjectName::new("", name))
}
