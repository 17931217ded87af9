//! What there is to report about objects.

use std::collections::BTreeMap;

use super::Index;
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::config::node_conflicts::{self, Refusal};
use crate::core::config::{Problem, Severity};
use crate::core::model::annotations::DRAIN_ANNOTATION;
use crate::core::model::annotations::WEIGHT_ANNOTATION;

/// Up to this many nodes are named where several have the same trouble.
const NAMED_NODES: usize = 3;

impl Index {
    /// Everything that is wrong with objects, configuration or not.
    pub fn problems(&self) -> Vec<Problem> {
        let facts = self.problems.iter().map(|(object, message)| Problem {
            object: object.clone(),
            severity: Severity::Error,
            message: message.clone(),
        });
        let weights = self.nodes.iter().filter_map(|(name, node)| {
            let bad = node.bad_weight.as_ref()?;
            Some(Problem {
                object: ObjectKey::new(Kind::Node, ObjectName::new("", name.clone())),
                severity: Severity::Error,
                message: format!(
                    "metadata.annotations[{WEIGHT_ANNOTATION}]: {bad}; it counts for nothing now"
                ),
            })
        });
        let misspelt = self.bad_annotations.iter().filter_map(|name| {
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
        let drains = self.bad_annotations.iter().filter_map(|name| {
            let service = self.services.get(name)?;
            let bad = service.bad_drain.as_ref()?;
            Some(Problem {
                object: ObjectKey::new(Kind::Service, name.clone()),
                severity: Severity::Error,
                message: format!(
                    "metadata.annotations[{DRAIN_ANNOTATION}]: {bad}; it counts for nothing now"
                ),
            })
        });
        let excluded = self.excluded.iter().map(|(name, message)| Problem {
            object: ObjectKey::new(Kind::Service, name.clone()),
            severity: Severity::Notice,
            message: message.clone(),
        });
        let config = self.config.problems.iter().cloned();
        config
            .chain(self.refusals())
            .chain(self.clashes.problems())
            .chain(excluded)
            .chain(facts)
            .chain(weights)
            .chain(drains)
            .chain(misspelt)
            .chain(misspelt_at_nodes)
            .collect()
    }

    /// What clashes on nodes, each told once however many nodes it concerns. Where no node is known, what clashes on all.
    fn refusals(&self) -> Vec<Problem> {
        let everywhere = if self.nodes.is_empty() {
            node_conflicts::refused_everywhere(&self.config)
        } else {
            BTreeMap::new()
        };
        let everywhere = everywhere.values().map(|refusal| ("every node", refusal));
        let here = self.refused.iter().flat_map(|(node, refused)| {
            let refusals = refused.values();
            refusals.map(|refusal| (node.as_str(), refusal))
        });
        let mut nodes: BTreeMap<(&ObjectKey, &str), Vec<&str>> = BTreeMap::new();
        for (node, Refusal { object, message }) in everywhere.chain(here) {
            nodes.entry((object, message)).or_default().push(node);
        }
        let problems = nodes.into_iter().map(|((object, message), nodes)| {
            let others = nodes.len().saturating_sub(NAMED_NODES);
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
