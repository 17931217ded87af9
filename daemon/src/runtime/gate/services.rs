//! The services with externalTrafficPolicy Local whose first announcement by this node waits until
//! the service proxy answers on their healthCheckNodePort that it has endpoints on the node.
//!
//! A service waits at most [`LIMIT`]: some proxies don't serve the port. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::core::api::ObjectName;
use crate::core::index::Index;
use crate::core::model::{Family, Service, TrafficPolicy};

/// How long a service waits at most.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The services that wait, and those that no longer do.
#[derive(Debug, Default)]
pub(crate) struct ServiceDelays {
    /// The prefixes that the process before announced.
    announced: BTreeSet<IpNet>,
    /// The services that were ready once. They never wait again.
    passed: BTreeSet<ObjectName>,
    waiting: BTreeMap<ObjectName, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    port: u16,
    until: Instant,
    /// The last answer, if there was one.
    last: Option<String>,
}

/// A service that waits from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewDelay {
    /// The service.
    pub service: ObjectName,
    /// Its healthCheckNodePort.
    pub port: u16,
}

/// What changes when services are looked at again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Followed {
    /// The services that wait from now on.
    pub new: Vec<NewDelay>,
    /// The services that wait no longer because there is nothing to wait for: they are gone, or the
    /// node has none of their endpoints any more.
    pub ended: Vec<ObjectName>,
}

impl ServiceDelays {
    /// For a process whose predecessor announced these prefixes: their services don't wait.
    pub(crate) fn announced_before(announced: BTreeSet<IpNet>) -> Self {
        Self {
            announced,
            ..Self::default()
        }
    }

    /// Looks at services that may have changed. Those that this process announces now don't wait:
    /// a change of their policy withdraws nothing.
    pub(crate) fn follow<'a>(
        &mut self,
        now: Instant,
        index: &Index,
        node: &str,
        services: impl IntoIterator<Item = &'a ObjectName>,
        is_announced: impl Fn(&ObjectName) -> bool,
    ) -> Followed {
        let mut followed = Followed::default();
        for name in services {
            let service = index.service(name);
            if service.is_none() {
                self.passed.remove(name);
            }
            let to_ask = service.and_then(|service| {
                let port = port_to_ask(index, node, service)?;
                Some((service, port))
            });
            let Some((service, port)) = to_ask else {
                let ended = self.waiting.remove(name).map(|_| name.clone());
                followed.ended.extend(ended);
                continue;
            };
            if self.passed.contains(name) || self.waiting.contains_key(name) {
                continue;
            }
            if is_announced(name) || self.was_announced(service) {
                self.passed.insert(name.clone());
                continue;
            }
            let waiting = Waiting {
                port,
                until: now + LIMIT,
                last: None,
            };
            self.waiting.insert(name.clone(), waiting);
            followed.new.push(NewDelay {
                service: name.clone(),
                port,
            });
        }
        followed
    }

    /// Whether the process before announced one of its addresses. It may have withheld the address
    /// of a family without endpoints.
    fn was_announced(&self, service: &Service) -> bool {
        service.addresses().iter().any(|address| {
            let mut announced = self.announced.iter();
            announced.any(|prefix| prefix.contains(address))
        })
    }

    /// Handles an answer about a service. Returns whether it waits no longer.
    pub(crate) fn answer(&mut self, service: &ObjectName, answer: Result<(), String>) -> bool {
        let Some(waiting) = self.waiting.get_mut(service) else {
            return false;
        };
        if let Err(why) = answer {
            waiting.last = Some(why);
            return false;
        }
        self.waiting.remove(service);
        self.passed.insert(service.clone());
        true
    }

    /// The services that have waited for too long, with their ports and the last answers. They wait
    /// no longer.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(ObjectName, u16, String)> {
        let expired = self
            .waiting
            .extract_if(.., |_, delayed| delayed.until <= now);
        let expired: Vec<_> = expired
            .map(|(name, delayed)| (name, delayed.port, delayed.last.unwrap_or_default()))
            .collect();
        let names = expired.iter().map(|(name, ..)| name.clone());
        self.passed.extend(names);
        expired
    }

    /// The services that wait, with their ports and the last answers.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&ObjectName, u16, &str)> {
        let waiting = self.waiting.iter();
        waiting.map(|(name, delayed)| {
            (
                name,
                delayed.port,
                delayed.last.as_deref().unwrap_or_default(),
            )
        })
    }

    /// Whether the service proxy was not asked yet about one of them.
    pub(crate) fn is_asking(&self) -> bool {
        self.waiting.values().any(|delayed| delayed.last.is_none())
    }
}

/// The port to ask about a service before this node announces it first.
fn port_to_ask(index: &Index, node: &str, service: &Service) -> Option<u16> {
    let port = service.health_check_port?;
    let concerned = service.load_balancer
        && service.traffic_policy == TrafficPolicy::Local
        && service.addresses().iter().any(|address| {
            let endpoints = index.endpoints(&service.name, Family::of(*address));
            endpoints.nodes.contains_key(node)
        });
    concerned.then_some(port.get())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::api::Kind;
    use crate::core::decide::node_routes::NodeRoutes;
    use crate::core::index::Dirty;
    use crate::core::index::change::Change;

    fn apply(index: &mut Index, kind: Kind, name: &str, body: Value) -> Dirty {
        index.apply(Change::object(kind, "shop", name, body))
    }

    fn body(policy: &str, port: u16) -> Value {
        json!({
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }],
                "externalTrafficPolicy": policy, "healthCheckNodePort": port,
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
        })
    }

    fn service(index: &mut Index, policy: &str, port: u16) -> Dirty {
        apply(index, Kind::Service, "web", body(policy, port))
    }

    fn endpoints(index: &mut Index, node: &str) -> Dirty {
        let body = json!({
            "addressType": "IPv4",
            "metadata": { "labels": { "kubernetes.io/service-name": "web" } },
            "endpoints": [{ "addresses": ["10.1.0.1"], "nodeName": node,
                "conditions": { "ready": true } }],
        });
        apply(index, Kind::EndpointSlice, "web-1", body)
    }

    fn cluster(policy: &str) -> Index {
        let mut index = Index::default();
        apply(&mut index, Kind::Node, "a", json!({}));
        let pool = json!({ "spec": { "addresses": ["192.0.2.0/24"] } });
        apply(&mut index, Kind::IpAddressPool, "pool", pool);
        apply(
            &mut index,
            Kind::BgpAdvertisement,
            "ad",
            json!({ "spec": {} }),
        );
        let peer = json!({ "spec": {
            "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1",
        } });
        apply(&mut index, Kind::BgpPeer, "tor", peer);
        service(&mut index, policy, 30_001);
        endpoints(&mut index, "a");
        index
    }

    fn web() -> ObjectName {
        ObjectName::new("shop", "web")
    }

    fn follow(delays: &mut ServiceDelays, now: Instant, index: &Index) -> Vec<NewDelay> {
        delays.follow(now, index, "a", [&web()], |_| false).new
    }

    #[test]
    fn a_local_service_is_announced_when_the_proxy_has_its_endpoints_and_never_waits_again() {
        let (mut index, now) = (cluster("Local"), Instant::now());
        let mut delays = ServiceDelays::default();
        let new = follow(&mut delays, now, &index);
        let expected = NewDelay {
            service: web(),
            port: 30_001,
        };
        assert_eq!(new, [expected]);
        assert!(delays.is_asking());
        assert!(index.delay("a", [web()]).services.contains(&web()));
        let mut routes = NodeRoutes::of(&index, "a");
        assert!(routes.routes().is_empty());
        let verdict = &routes.decisions()[&web()].verdicts[0];
        let message = verdict.message(&web());
        assert_eq!(verdict.reason.code(), "ServiceProxyNotReady");
        assert!(message.contains("healthCheckNodePort 30001"), "{message}");

        assert!(!delays.answer(&web(), Err("answers 503".to_owned())));
        assert!(!delays.is_asking());
        assert!(delays.answer(&web(), Ok(())));
        let dirty = index.release([&web()]);
        assert_eq!(routes.update(&index, &dirty).len(), 1);
        assert_eq!(follow(&mut delays, now, &index), []);
        assert!(index.release([&web()]).is_empty(), "it was not delayed");
    }

    #[test]
    fn only_local_services_with_an_endpoint_on_the_node_and_a_port_wait() {
        let now = Instant::now();
        let index = cluster("Cluster");
        assert_eq!(follow(&mut ServiceDelays::default(), now, &index), []);
        let mut index = cluster("Local");
        service(&mut index, "Local", 0);
        assert_eq!(follow(&mut ServiceDelays::default(), now, &index), []);
        let mut index = cluster("Local");
        endpoints(&mut index, "b");
        assert_eq!(follow(&mut ServiceDelays::default(), now, &index), []);
        endpoints(&mut index, "a");
        assert_eq!(follow(&mut ServiceDelays::default(), now, &index).len(), 1);
    }

    #[test]
    fn a_service_waits_for_half_a_minute_at_most() {
        let (index, now) = (cluster("Local"), Instant::now());
        let mut delays = ServiceDelays::default();
        follow(&mut delays, now, &index);
        delays.answer(&web(), Err("connection refused".to_owned()));
        let almost = LIMIT.saturating_sub(Duration::from_millis(1));
        assert_eq!(delays.expire(now + almost), []);
        let expired = delays.expire(now + LIMIT);
        assert_eq!(expired, [(web(), 30_001, "connection refused".to_owned())]);
        assert_eq!(follow(&mut delays, now, &index), []);
    }

    #[test]
    fn a_service_that_loses_its_endpoints_or_is_deleted_waits_no_longer_and_later_again() {
        let (mut index, now) = (cluster("Local"), Instant::now());
        let mut delays = ServiceDelays::default();
        let gone = |index: &mut Index| {
            let key = crate::core::api::ObjectKey::new(Kind::Service, web());
            index.apply(Change::Delete(key));
        };
        let moved = |index: &mut Index| _ = endpoints(index, "b");
        let changes: [&dyn Fn(&mut Index); 2] = [&gone, &moved];
        for change in changes {
            service(&mut index, "Local", 30_001);
            endpoints(&mut index, "a");
            assert_eq!(follow(&mut delays, now, &index).len(), 1);
            change(&mut index);
            let ended = delays.follow(now, &index, "a", [&web()], |_| false);
            assert_eq!((ended.new, ended.ended), (vec![], vec![web()]));
            assert_eq!(delays.expire(now + LIMIT), []);
        }
    }

    #[test]
    fn a_service_that_is_announced_does_not_wait_when_its_policy_becomes_local() {
        let (mut index, now) = (cluster("Cluster"), Instant::now());
        let mut delays = ServiceDelays::default();
        assert_eq!(follow(&mut delays, now, &index), []);
        service(&mut index, "Local", 30_001);
        let is_announced = |name: &ObjectName| *name == web();
        let followed = delays.follow(now, &index, "a", [&web()], is_announced);
        assert_eq!(followed, Followed::default());
        // It never waits again, also after it was withheld meanwhile.
        assert_eq!(follow(&mut delays, now, &index), []);
    }

    #[test]
    fn what_the_process_before_announced_does_not_wait() {
        let (index, now) = (cluster("Local"), Instant::now());
        let aggregate = "192.0.2.0/24".parse().expect("a prefix");
        let mut delays = ServiceDelays::announced_before([aggregate].into());
        assert_eq!(follow(&mut delays, now, &index), []);
        let other = "192.0.2.2/32".parse().expect("a prefix");
        let mut delays = ServiceDelays::announced_before([other].into());
        assert_eq!(follow(&mut delays, now, &index).len(), 1);
        // One of two addresses, as of a dual-stack service with endpoints of one family.
        let mut index = index;
        let mut body = body("Local", 30_001);
        let ingress = json!([{ "ip": "192.0.2.2" }, { "ip": "2001:db8::2" }]);
        body["status"]["loadBalancer"]["ingress"] = ingress;
        apply(&mut index, Kind::Service, "web", body);
        let mut delays = ServiceDelays::announced_before([other].into());
        assert_eq!(follow(&mut delays, now, &index), []);
    }
}
