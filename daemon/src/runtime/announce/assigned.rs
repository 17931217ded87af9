//! The Events about Services that this node begins to announce over BGP.
//!
//! A Service has at most one Event for its addresses during the life of a process, however often
//! its endpoints come and go. What a process announces at its start has none: it was announced
//! before, or by all nodes at the same moment.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::Arc;

use crate::core::api::ObjectName;
use crate::core::index::{Dirty, Index};
use crate::core::model::ServiceEvent;
use crate::runtime::status::Announced;

/// The component that Events name.
const COMPONENT: &str = "ferrolb-announcer";

/// A change that begins the announcement of more Services writes no Events: every node would write
/// as many, and the log has the change.
const EVENTS_MAX: usize = 100;

/// The Services that were announced, with a hash of their UID and addresses.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    known: BTreeMap<Arc<ObjectName>, u64>,
    /// Whether the announcements at the start are known.
    started: bool,
}

impl Assigned {
    /// The Events after a change. Call it after each update of `announced` by a change.
    pub(crate) fn update(
        &mut self,
        node: &str,
        index: &Index,
        dirty: &Dirty,
        announced: &Announced,
    ) -> Vec<ServiceEvent> {
        let now = if dirty.needs_full_decision(node) || !self.started {
            self.known.retain(|name, _| index.service(name).is_some());
            announced.services()
        } else {
            let gone = |name: &&ObjectName| index.service(name).is_none();
            for name in dirty.services.iter().filter(gone) {
                self.known.remove(name);
            }
            announced.of(&dirty.services)
        };
        let mut events = Vec::new();
        for (name, addresses) in now {
            let Some(service) = index.service(&name) else {
                continue;
            };
            let uid = service.request.uid.as_str();
            let hash = hash(uid, &addresses);
            if self.known.insert(name.clone(), hash) != Some(hash) {
                events.push(event(name, uid, node));
            }
        }
        let at_start = !std::mem::replace(&mut self.started, true);
        if at_start || events.len() > EVENTS_MAX {
            return Vec::new();
        }
        events
    }
}

fn hash(uid: &str, addresses: &[IpAddr]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((uid, addresses))
}

/// The text is MetalLB's: tools search for it.
fn event(service: Arc<ObjectName>, uid: &str, node: &str) -> ServiceEvent {
    ServiceEvent {
        service,
        uid: uid.into(),
        component: COMPONENT,
        warning: false,
        reason: "nodeAssigned",
        message: format!("announcing from node \"{node}\" with protocol \"bgp\""),
        may_be_known: false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::api::{Kind, ObjectKey, RawObject};
    use crate::core::decide::node_routes::NodeRoutes;
    use crate::core::index::change::Change;

    const NODE: &str = "node-a";

    /// A node whose announcements change.
    struct Rack {
        index: Index,
        routes: NodeRoutes,
        announced: Announced,
        assigned: Assigned,
    }

    impl Rack {
        fn new() -> Self {
            let mut index = Index::default();
            let peer = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1" });
            let pool = json!({ "addresses": ["192.0.2.0/24"] });
            let address = json!([{ "type": "InternalIP", "address": "10.0.0.11" }]);
            for change in [
                apply(
                    Kind::Node,
                    NODE,
                    json!({ "status": { "addresses": address } }),
                ),
                apply(Kind::IpAddressPool, "pool", json!({ "spec": pool })),
                apply(Kind::BgpPeer, "tor", json!({ "spec": peer })),
                apply(Kind::BgpAdvertisement, "all", json!({ "spec": {} })),
            ] {
                index.apply(change);
            }
            Self {
                routes: NodeRoutes::new(NODE),
                index,
                announced: Announced::default(),
                assigned: Assigned::default(),
            }
        }

        /// The Services that have Events after changes that are applied together.
        fn after(&mut self, changes: impl IntoIterator<Item = Change>) -> Vec<String> {
            let mut dirty = Dirty::default();
            for change in changes {
                dirty.merge(self.index.apply(change));
            }
            self.routes.update(&self.index, &dirty);
            let all = |_: &ipnet::IpNet| true;
            self.announced.update_all(&self.index, &self.routes, all);
            let events = self
                .assigned
                .update(NODE, &self.index, &dirty, &self.announced);
            for event in &events {
                let text = "announcing from node \"node-a\" with protocol \"bgp\"";
                assert_eq!((event.reason, &*event.message), ("nodeAssigned", text));
                assert!(!event.warning);
            }
            events
                .iter()
                .map(|event| event.service.name.clone())
                .collect()
        }
    }

    fn apply(kind: Kind, name: &str, mut body: serde_json::Value) -> Change {
        body["kind"] = json!(kind.name());
        body["apiVersion"] = json!(kind.api_version());
        body["metadata"]["name"] = json!(name);
        let raw: RawObject = serde_json::from_value(body).expect("an object");
        let namespace = match kind {
            Kind::Node => "",
            kind if kind.is_configuration() => "metallb-system",
            _ => "default",
        };
        Change::Apply(ObjectKey::new(kind, ObjectName::new(namespace, name)), raw)
    }

    fn service(name: &str, uid: &str, address: &str) -> Change {
        let ingress = json!([{ "ip": address }]);
        let body = json!({
            "metadata": { "uid": uid },
            "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
            "status": { "loadBalancer": { "ingress": ingress } },
        });
        apply(Kind::Service, name, body)
    }

    fn endpoint(service: &str, ready: bool) -> Change {
        let labels = json!({ "kubernetes.io/service-name": service });
        let conditions = json!({ "ready": ready, "serving": ready });
        let endpoints = json!([{ "addresses": ["10.1.0.1"], "conditions": conditions }]);
        let body = json!({
            "metadata": { "labels": labels }, "addressType": "IPv4", "endpoints": endpoints
        });
        apply(Kind::EndpointSlice, service, body)
    }

    #[test]
    fn an_announcement_is_one_event_and_neither_a_restart_nor_an_endpoint_repeats_it() {
        let mut rack = Rack::new();
        let none: [&str; 0] = [];
        let old = [service("old", "1", "192.0.2.1"), endpoint("old", true)];
        assert_eq!(rack.after(old), none, "announced at the start");
        assert_eq!(rack.after([endpoint("old", false)]), none);
        assert_eq!(rack.after([endpoint("old", true)]), none);

        assert_eq!(
            rack.after([service("web", "2", "192.0.2.2")]),
            none,
            "no endpoint"
        );
        assert_eq!(rack.after([endpoint("web", true)]), ["web"]);
        assert_eq!(rack.after([endpoint("web", false)]), none);
        assert_eq!(rack.after([endpoint("web", true)]), none);
        // A decision of everything is no change of this Service.
        let prefer = json!({ "spec": { "localPref": 200 } });
        assert_eq!(
            rack.after([apply(Kind::BgpAdvertisement, "all", prefer)]),
            none
        );
        assert_eq!(
            rack.after([service("web", "2", "192.0.2.3")]),
            ["web"],
            "another address"
        );

        // Deleted and created again under its name.
        let key = ObjectKey::new(Kind::Service, ObjectName::new("default", "web"));
        assert_eq!(rack.after([Change::Delete(key)]), none);
        assert_eq!(rack.after([service("web", "3", "192.0.2.3")]), ["web"]);
    }

    #[test]
    fn a_change_that_announces_very_many_services_writes_no_events() {
        let mut rack = Rack::new();
        rack.after([]);
        let many = || {
            (0..=EVENTS_MAX).flat_map(|number| {
                let name = format!("web-{number}");
                let address = format!("192.0.2.{}", number + 1);
                [service(&name, &name, &address), endpoint(&name, true)]
            })
        };
        assert_eq!(rack.after(many()), [] as [&str; 0]);
        assert_eq!(rack.after(many()), [] as [&str; 0], "they are known");
        let one = [service("one", "1", "192.0.2.200"), endpoint("one", true)];
        assert_eq!(rack.after(one), ["one"]);
    }
}
