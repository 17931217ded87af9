//! The ConfigMaps of the configuration namespaces, and what they add to the objects.

use std::collections::BTreeMap;

use super::convert::Object;
use super::mistake::shown;
use super::names::kubernetes_names;
use super::precedence::{is_pool, others, takes_precedence};
use super::sources::{Origin, Sources};
use super::{convert, correction, text_of};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::config::{Problem, Severity};

/// The ConfigMaps, by name.
#[derive(Debug, Default)]
pub(in crate::core::config) struct ConfigMaps(BTreeMap<ObjectName, ConfigMap>);

#[derive(Debug, Default)]
struct ConfigMap {
    /// What the last valid text means. None if there never was one.
    objects: Option<Vec<Object>>,
    /// What is wrong with the current text.
    error: Option<String>,
    /// What that text was probably meant to be.
    correction: Option<String>,
}

/// What the ConfigMaps add.
#[derive(Debug)]
pub(in crate::core::config) struct Additions {
    /// The objects that they mean, without those that exist.
    pub objects: BTreeMap<ObjectKey, RawObject>,
    /// Where these come from.
    pub sources: Sources,
    /// Errors and notices about the ConfigMaps.
    pub problems: Vec<Problem>,
    /// Whether they say all that they mean: otherwise Services keep addresses outside of all pools.
    pub are_complete: bool,
}

impl ConfigMaps {
    /// Reads a ConfigMap. An invalid one keeps its last valid meaning.
    pub(in crate::core::config) fn apply(&mut self, name: &ObjectName, raw: &RawObject) {
        let known = self.0.entry(name.clone()).or_default();
        known.correction = None;
        let converted = text_of(raw)
            .and_then(|text| convert(text, &name.namespace).map_err(|mistakes| shown(&mistakes)));
        match converted {
            Ok(mut objects) => {
                for object in &mut objects {
                    let created = &mut object.raw.metadata.creation_timestamp;
                    created.clone_from(&raw.metadata.creation_timestamp);
                }
                known.objects = Some(objects);
                known.error = None;
            }
            Err(error) => {
                known.error = Some(error);
                known.correction = text_of(raw).ok().and_then(correction);
            }
        }
    }

    /// Forgets a ConfigMap that was deleted.
    pub(in crate::core::config) fn delete(&mut self, name: &ObjectName) {
        self.0.remove(name);
    }

    /// The text of an invalid one as it was probably meant.
    pub(in crate::core::config) fn correction(&self, name: &ObjectName) -> Option<&str> {
        self.0.get(name)?.correction.as_deref()
    }

    /// What the ConfigMaps add to the existing objects.
    pub(in crate::core::config) fn additions(
        &self,
        existing: &BTreeMap<ObjectKey, RawObject>,
    ) -> Additions {
        let mut additions = Additions {
            objects: BTreeMap::new(),
            sources: Sources::default(),
            problems: Vec::new(),
            are_complete: true,
        };
        for (name, config_map) in &self.0 {
            additions.add(name, config_map, existing);
        }
        additions
    }
}

impl Additions {
    fn add(
        &mut self,
        name: &ObjectName,
        config_map: &ConfigMap,
        existing: &BTreeMap<ObjectKey, RawObject>,
    ) {
        let namespace = &name.namespace;
        let preferred: BTreeMap<&ObjectKey, &RawObject> = existing
            .iter()
            .filter(|(key, _)| takes_precedence(key.kind) && key.name.namespace == *namespace)
            .collect();
        let meant = config_map.objects.as_deref().unwrap_or_default();
        let key = ObjectKey::new(Kind::ConfigMap, name.clone());
        if !preferred.is_empty() {
            // These are what ferrolb convert prints.
            let named = kubernetes_names(meant.to_vec()).map(|named| named.objects);
            let named = named.unwrap_or_default();
            let others = others(&preferred, &named);
            let has_pool = preferred.keys().any(|key| is_pool(key.kind));
            let notice = precedence_notice(name, &others, &named, existing);
            self.notice(key.clone(), notice);
            if !others.is_empty() {
                // Until there is a pool, the objects are probably being created.
                self.are_complete &= has_pool;
                return;
            }
            self.insert(&key, &named, existing);
        } else {
            self.insert(&key, meant, existing);
        }
        if let Some(error) = &config_map.error {
            self.are_complete &= config_map.objects.is_some();
            let kept = match config_map.objects {
                Some(_) => " (the last valid configuration stays in effect)",
                None => "",
            };
            self.problems.push(Problem {
                object: key,
                severity: Severity::Error,
                message: format!("{error}{kept}"),
            });
        }
    }

    fn insert(
        &mut self,
        config_map: &ObjectKey,
        meant: &[Object],
        existing: &BTreeMap<ObjectKey, RawObject>,
    ) {
        for object in meant {
            if !existing.contains_key(&object.key) {
                let place = Origin::ConfigMap(object.source.clone());
                self.sources
                    .add(object.key.clone(), config_map.clone(), place);
                self.objects.insert(object.key.clone(), object.raw.clone());
            }
        }
    }

    fn notice(&mut self, object: ObjectKey, message: String) {
        self.problems.push(Problem {
            object,
            severity: Severity::Notice,
            message,
        });
    }
}

/// The notice about a ConfigMap in a namespace with objects.
fn precedence_notice(
    name: &ObjectName,
    others: &[&ObjectKey],
    meant: &[Object],
    existing: &BTreeMap<ObjectKey, RawObject>,
) -> String {
    let delete = format!(
        "kubectl delete -n {} configmap {}",
        name.namespace, name.name
    );
    if let Some(first) = others.first() {
        let more = match others.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return format!(
            "is ignored, because objects take precedence and the namespace has {first}{more}: \
             delete the ConfigMap ({delete}); ferrolb convert prints the objects that it means"
        );
    }
    let present = meant
        .iter()
        .filter(|object| existing.contains_key(&object.key))
        .count();
    if present == meant.len() {
        return format!(
            "is ignored, because the namespace has all objects that it means: delete it ({delete})"
        );
    }
    format!(
        "{present} of the {} objects that it means exist: apply the output of ferrolb convert to \
         create the others, then delete it ({delete})",
        meant.len()
    )
}
