//! Collects the problems of all objects.

use std::collections::BTreeMap;

use super::Index;
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::config::node_conflicts::{self, ConflictingPeer};
use crate::core::config::{Problem, Severity};
use crate::core::model::annotations::DRAIN_ANNOTATION;
use crate::core::model::annotations::WEIGHT_ANNOTATION;

/// Maximum number of nodes that a problem lists.
const LISTED_NODES_MAX: usize = 3;

impl Index {
    /// All problems, of configuration and other objects.
    pub fn problems(&self) -> Vec<Problem> {
        let invalid_objects = self.problems.iter().map(|(object, message)| Problem {
            object: object.clone(),
            severity: Severity::Error,
            message: message.clone(),
        });
        let weights = self.nodes.iter().filter_map(|(name, node)| {
            let bad = node.invalid_weight.as_ref()?;
            Some(Problem {
                object: ObjectKey::new(Kind::Node, ObjectName::new("", name.clone())),
                severity: Severity::Error,
                message: format!(
                    "metadata.annotations[{WEIGHT_ANNOTATION}]: {bad}; until then the annotation \
                     is ignored"
                ),
            })
        });
        let misspelt = self
            .services_with_annotation_problems
            .iter()
            .filter_map(|name| {
                let message = self.services.get(name)?.misspelt_annotation.as_ref()?;
                Some(Problem {
                    object: ObjectKey::new(Kind::Service, name.clone()),
                    severity: Severity::Notice,
                    message: message.to_string(),
                })
            });
        let misspelt_at_nodes = self.nodes.iter().filter_map(|(name, node)| {
            let message = node.misspelt_annotation.as_ref()?;
            Some(Problem {
                object: ObjectKey::new(Kind::Node, ObjectName::new("", name.clone())),
                severity: Severity::Notice,
                message: message.to_string(),
            })
        });
        let drains = self
            .services_with_annotation_problems
            .iter()
            .filter_map(|name| {
                let service = self.services.get(name)?;
                let bad = service.invalid_drain.as_ref()?;
                Some(Problem {
                    object: ObjectKey::new(Kind::Service, name.clone()),
                    severity: Severity::Error,
                    message: format!(
                        "metadata.annotations[{DRAIN_ANNOTATION}]: {bad}; until then the \
                         annotation is ignored"
                    ),
                })
            });
        let excluded = self
            .excluded_addresses
            .iter()
            .map(|(name, message)| Problem {
                object: ObjectKey::new(Kind::Service, name.clone()),
                severity: Severity::Notice,
                message: message.clone(),
            });
        let config = self.config.problems.iter().cloned();
        config
            .chain(self.node_conflict_problems())
            .chain(self.local_pref_conflicts.problems())
            .chain(excluded)
            .chain(invalid_objects)
            .chain(weights)
            .chain(drains)
            .chain(misspelt)
            .chain(misspelt_at_nodes)
            .collect()
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
        let here = self.node_conflicts.iter().flat_map(|(node, conflicts)| {
            let conflicts = conflicts.values();
            conflicts.map(|conflict| (node.as_str(), conflict))
        });
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
            Problem {
                object: object.clone(),
                severity: Severity::Error,
                message: format!("on {named}{others}: {message}"),
            }
        });
        problems.collect()
    }
}
