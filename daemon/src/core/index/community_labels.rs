//! Communities that the labels of Services and Namespaces name.

use std::collections::{BTreeMap, BTreeSet};

use super::{Index, Names};
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::config::advertisement::{
    Advertisement, CommunityValue, LABEL_FORM, community_of_label,
};
use crate::core::config::{Problem, Severity};
use crate::core::model::{Labels, Service};

/// Maximum number of Services that a notice about a Namespace lists.
const LISTED_MAX: usize = 3;

/// A label whose value is no community.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BadLabel {
    /// The Service or its Namespace.
    object: ObjectKey,
    key: String,
    value: String,
    /// The BGPAdvertisement that names the label.
    advertisement: ObjectKey,
}

impl Index {
    /// The communities that labels of a service, or else of its Namespace, add to an
    /// advertisement. A value that is no community adds none: [`Index::problems`] names it.
    pub(crate) fn communities_by_label(
        &self,
        service: &Service,
        ad: &Advertisement,
    ) -> impl Iterator<Item = CommunityValue> {
        let values = ad.community_labels.iter();
        values.filter_map(|key| {
            let (_, value) = self.label(service, key)?;
            community_of_label(value, &self.config.aliases)
        })
    }

    /// The value of a label of the service, or else of its Namespace, and the object that has it.
    /// None: there is none, or it is empty.
    fn label<'a>(&'a self, service: &'a Service, key: &str) -> Option<(ObjectKey, &'a str)> {
        let ObjectName { namespace, .. } = &*service.name;
        let (object, value) = match service.labels.get(key) {
            Some(value) => {
                let name = ObjectName::clone(&service.name);
                (ObjectKey::new(Kind::Service, name), value)
            }
            None => {
                let name = ObjectName::new("", namespace.clone());
                let object = ObjectKey::new(Kind::Namespace, name);
                (object, self.namespaces.get(namespace)?.get(key)?)
            }
        };
        (!value.is_empty()).then_some((object, value))
    }

    /// Finds the labels of a service again whose values are no communities.
    pub(super) fn update_community_labels(&mut self, name: &ObjectName) {
        let service = self.services.get(name);
        let bad = service.map(|service| self.bad_labels(service));
        let bad = bad.unwrap_or_default();
        let old = match bad.is_empty() {
            true => self.bad_labels.remove(name).unwrap_or_default(),
            false => {
                let old = self.bad_labels.insert(name.clone(), bad.clone());
                old.unwrap_or_default()
            }
        };
        self.problems_changed |= old != bad;
    }

    /// The same for all services, after a change of the configuration.
    pub(super) fn update_all_community_labels(&mut self) {
        let mut ads = self.config.advertisements.values();
        if ads.all(|ad| ad.community_labels.is_empty()) && self.bad_labels.is_empty() {
            return;
        }
        let names: Names = self.services.keys().cloned().collect();
        for name in names {
            self.update_community_labels(&name);
        }
    }

    fn bad_labels(&self, service: &Service) -> BTreeSet<BadLabel> {
        let ads = self.config.advertisements.values();
        let ads = ads.filter(|ad| !ad.community_labels.is_empty() && self.is_selected(service, ad));
        let labels = ads.flat_map(|ad| ad.community_labels.iter().map(move |key| (ad, key)));
        let bad = labels.filter_map(|(ad, key)| {
            let (object, value) = self.label(service, key)?;
            let bad = community_of_label(value, &self.config.aliases).is_none();
            bad.then(|| BadLabel {
                object,
                key: key.clone(),
                value: value.to_owned(),
                advertisement: ad.object.clone(),
            })
        });
        bad.collect()
    }

    /// Whether an advertisement selects a service and one of its addresses.
    fn is_selected(&self, service: &Service, ad: &Advertisement) -> bool {
        let class = service.class.as_deref().unwrap_or_default();
        let mut addresses = service.addresses().iter();
        service.load_balancer
            && (service.in_charge || ad.selection.classes.accepts(class))
            && ad.selection.services.matches(&service.labels)
            && addresses.any(|address| {
                let pool = self.config.pools.containing(*address);
                pool.is_some_and(|pool| {
                    let details = self.config.pool_details.get(pool.name());
                    let labels = details.map(|details| &details.labels);
                    ad.selection.selects_pool(pool.name(), labels)
                })
            })
    }

    /// The services whose communities depend on labels of their Namespace that changed.
    pub(super) fn services_by_namespace_labels(
        &self,
        namespace: &str,
        old: Option<&Labels>,
        new: Option<&Labels>,
    ) -> BTreeSet<ObjectName> {
        let value = |labels: Option<&Labels>, key: &str| labels?.get(key).cloned();
        let ads = self.config.advertisements.values();
        let mut keys = ads.flat_map(|ad| &ad.community_labels);
        if keys.all(|key| value(old, key) == value(new, key)) {
            return BTreeSet::new();
        }
        let names = self.services.range(ObjectName::new(namespace, "")..);
        let names = names.map(|(name, _)| ObjectName::clone(name));
        names
            .take_while(|name| name.namespace == namespace)
            .collect()
    }

    /// The labels whose values are no communities. A label of a Namespace is reported once for all
    /// of its Services.
    pub(super) fn community_label_notices(&self) -> Vec<Problem> {
        let mut services: BTreeMap<&BadLabel, Vec<&str>> = BTreeMap::new();
        for (service, bad) in &self.bad_labels {
            for label in bad {
                services.entry(label).or_default().push(&service.name);
            }
        }
        let notices = services.into_iter().map(|(label, services)| {
            let BadLabel {
                object,
                key,
                value,
                advertisement,
            } = label;
            let affected = match object.kind {
                Kind::Namespace => {
                    let others = services.len().saturating_sub(LISTED_MAX);
                    let listed = services[..services.len() - others].join(", ");
                    let others = match others {
                        0 => String::new(),
                        others => format!(" and {others} more"),
                    };
                    format!("the routes of its Services {listed}{others} lack")
                }
                _ => "the routes of the Service lack".to_owned(),
            };
            Problem {
                object: object.clone(),
                severity: Severity::Notice,
                message: format!(
                    "metadata.labels[{key}]: {value:?} is no community, so {affected} it \
                     ({advertisement} names this label): {LABEL_FORM}"
                ),
            }
        });
        notices.collect()
    }
}
