//! Updates the models of objects, and determines what depends on each update.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Dirty, Index, Names, Released};
use crate::core::api::ObjectName;
use crate::core::model::{Labels, Node, Service, Slice};

impl Index {
    /// The stored pointer to an equal name, so that all maps share one copy.
    fn known_name(&self, name: &Arc<ObjectName>) -> Arc<ObjectName> {
        let services = self.services.get_key_value(name).map(|(known, _)| known);
        let known = services.or_else(|| Some(self.slices_of.get_key_value(name)?.0));
        known.unwrap_or(name).clone()
    }

    pub(super) fn set_service(&mut self, name: &ObjectName, mut service: Option<Service>) -> Dirty {
        if let Some(service) = &mut service {
            service.name = self.known_name(&service.name);
        }
        let new = service.clone().map(Box::new);
        let old = match new {
            Some(new) => self.services.insert(new.name.clone(), new),
            None => self.services.remove(name),
        };
        let old = old.map(|old| *old);
        if old == service {
            return Dirty::default();
        }
        self.problems_changed |=
            self.local_pref_conflicts
                .update(&self.config, name, service.as_ref());
        self.update_address_notice(name);
        self.update_community_labels(name);
        let mut dirty = Dirty {
            services: BTreeSet::from([name.clone()]),
            requests: BTreeSet::from([name.clone()]),
            released: released(name, old.as_ref(), service.as_ref()),
            problems: self.update_annotation_problems(name, old.as_ref(), service.as_ref()),
            ..Dirty::default()
        };
        let sharers = self.update_addresses(name, old.as_ref(), service.as_ref());
        dirty.services.extend(sharers);
        if self.update_foreign_addresses(name, service.as_ref()) {
            dirty.merge(self.recompile());
        }
        dirty
    }

    /// Returns whether the problems of a service's annotations changed.
    fn update_annotation_problems(
        &mut self,
        name: &ObjectName,
        old: Option<&Service>,
        new: Option<&Service>,
    ) -> bool {
        let problems = |service: Option<&Service>| {
            let service = service?;
            let drain = service.invalid_drain.clone();
            let problems = (drain, service.misspelt_annotation.clone());
            (problems != (None, None)).then_some(problems)
        };
        if problems(new).is_some() {
            self.services_with_annotation_problems.insert(name.clone());
        } else {
            self.services_with_annotation_problems.remove(name);
        }
        problems(old) != problems(new)
    }

    /// Returns the services that have one of the old or new addresses: a conflict may have begun
    /// or ended.
    fn update_addresses(
        &mut self,
        name: &ObjectName,
        old: Option<&Service>,
        new: Option<&Service>,
    ) -> BTreeSet<ObjectName> {
        let mut affected = BTreeSet::new();
        for address in old.into_iter().flat_map(Service::addresses) {
            let users = self.services_by_address.entry(*address).or_default();
            remove_name(users, name);
            affected.extend(users.iter().map(owned));
            if users.is_empty() {
                self.services_by_address.remove(address);
            }
        }
        if let Some(service) = new {
            for address in service.addresses() {
                let users = self.services_by_address.entry(*address).or_default();
                add_name(users, &service.name);
                affected.extend(users.iter().map(owned));
            }
        }
        affected
    }

    pub(super) fn set_slice(&mut self, name: &ObjectName, mut slice: Option<Slice>) -> Dirty {
        if let Some(owner) = slice.as_mut().and_then(|slice| slice.service.as_mut()) {
            *owner = self.known_name(owner);
        }
        let owner = |slice: &Option<Slice>| slice.as_ref().and_then(|slice| slice.service.clone());
        let known = self.slices.get_key_value(name);
        let known = known.map_or_else(|| Arc::new(name.clone()), |(known, _)| known.clone());
        let old = match &slice {
            Some(slice) => self.slices.insert(known.clone(), slice.clone()),
            None => self.slices.remove(name),
        };
        if old == slice {
            return Dirty::default();
        }
        if let Some(service) = owner(&old)
            && let Some(names) = self.slices_of.get_mut(&service)
        {
            remove_name(names, name);
            if names.is_empty() {
                self.slices_of.remove(&service);
            }
        }
        if let Some(service) = owner(&slice) {
            add_name(self.slices_of.entry(service).or_default(), &known);
        }
        let mut dirty = Dirty::default();
        for service in owner(&old).into_iter().chain(owner(&slice)) {
            dirty.services.extend(self.local_sharers(&service));
            dirty.services.insert(owned(&service));
        }
        dirty
    }

    /// The services whose announcement depends on the endpoints of this one.
    fn local_sharers(&self, name: &ObjectName) -> impl Iterator<Item = ObjectName> {
        let service = self.service(name).into_iter();
        let shared = service.flat_map(|service| {
            let users = service.addresses().iter();
            let users = users.flat_map(|address| self.services_with_address(*address));
            users.filter(|user| user.shares_local_with(service))
        });
        shared.map(|sharer| owned(&sharer.name))
    }

    pub(super) fn set_node(&mut self, name: &str, node: Option<Node>) -> Dirty {
        let old = match &node {
            Some(node) => self.nodes.insert(name.to_owned(), node.clone()),
            None => self.nodes.remove(name),
        };
        if old == node {
            return Dirty::default();
        }
        self.config_is_stale |= match (&old, &node) {
            (Some(old), Some(node)) => !old.same_networks(node),
            _ => true,
        };
        let bad = |node: Option<Node>| {
            node.map_or((None, None), |node| {
                (node.invalid_weight, node.misspelt_annotation)
            })
        };
        self.update_node_peers(name);
        self.update_local_pref_conflicts();
        Dirty {
            problems: bad(old) != bad(node),
            nodes: BTreeSet::from([name.to_owned()]),
            ..Dirty::default()
        }
    }

    pub(super) fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> Dirty {
        let old = match &labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        if old == labels {
            return Dirty::default();
        }
        let services = self.services_by_namespace_labels(name, old.as_ref(), labels.as_ref());
        for service in &services {
            self.update_community_labels(service);
        }
        let mut dirty = self.recompile();
        dirty.services.extend(services);
        dirty
    }

    pub(super) fn set_service_cidr(&mut self, name: &str, networks: Option<Vec<IpNet>>) -> Dirty {
        let old = match &networks {
            Some(networks) => self.service_cidrs.insert(name.to_owned(), networks.clone()),
            None => self.service_cidrs.remove(name),
        };
        self.config_is_stale |= old != networks;
        Dirty::default()
    }
}

/// The addresses of a service that has none any more.
fn released(name: &ObjectName, old: Option<&Service>, new: Option<&Service>) -> Vec<Released> {
    let addresses = |service: Option<&Service>| {
        let ours = service.filter(|service| service.is_ours());
        ours.map_or_else(Vec::new, |service| service.addresses().to_vec())
    };
    let had = addresses(old);
    if had.is_empty() || !addresses(new).is_empty() {
        return Vec::new();
    }
    vec![Released {
        service: name.clone(),
        addresses: had,
    }]
}

fn add_name(names: &mut Names, name: &Arc<ObjectName>) {
    if let Err(place) = names.binary_search(name) {
        names.reserve_exact(1);
        names.insert(place, name.clone());
    }
}

pub(super) fn owned(name: &Arc<ObjectName>) -> ObjectName {
    ObjectName::clone(name)
}

fn remove_name(names: &mut Names, name: &ObjectName) {
    names.retain(|other| **other != *name);
}
