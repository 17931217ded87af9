use serde_json::{Value, json};

use super::*;
use crate::core::api::{Kind, ObjectKey, RawObject};
use crate::core::index::change::Change;
use crate::core::model::ANNOUNCED_CONDITION;

/// An allocator's index with one Service, and what its leader reports.
struct Cluster {
    index: Index,
    unannounced: Unannounced,
    now: Instant,
}

impl Cluster {
    /// Two nodes with a BGPPeer, and a Service with an address and without endpoints.
    fn new() -> Self {
        let mut cluster = Self {
            index: Index::for_kinds(&[Kind::Service]),
            unannounced: Unannounced::default(),
            now: Instant::now(),
        };
        let address = json!([{ "type": "InternalIP", "address": "10.0.0.11" }]);
        for node in ["a", "b"] {
            cluster.apply(
                Kind::Node,
                node,
                json!({ "status": { "addresses": address } }),
            );
        }
        let pool = json!({ "spec": { "addresses": ["192.0.2.0/24"] } });
        cluster.apply(Kind::IpAddressPool, "pool", pool);
        let peer = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1" });
        cluster.apply(Kind::BgpPeer, "tor", json!({ "spec": peer }));
        cluster.apply(Kind::BgpAdvertisement, "all", json!({ "spec": {} }));
        cluster.set_condition(None);
        cluster
    }

    fn apply(&mut self, kind: Kind, name: &str, mut body: Value) {
        body["apiVersion"] = json!(kind.api_version());
        body["kind"] = json!(kind.name());
        body["metadata"]["name"] = json!(name);
        if kind.is_configuration() {
            body["metadata"]["namespace"] = json!("metallb-system");
        }
        let raw: RawObject = serde_json::from_value(body).expect("an object");
        let key = raw.key("shop").expect("a known kind");
        self.change(Change::Apply(key, raw));
    }

    fn change(&mut self, change: Change) {
        let dirty = self.index.apply(change);
        self.unannounced.note(&self.index, &dirty);
    }

    /// The Service, as another program or a leader wrote its condition.
    fn set_condition(&mut self, says: Option<(&str, &str, &str)>) {
        let conditions = says.map(|(status, reason, message)| {
            json!([{ "type": ANNOUNCED_CONDITION, "status": status, "reason": reason,
                "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" }])
        });
        let service = json!({
            "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
            "status": {
                "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] }, "conditions": conditions,
            },
        });
        self.apply(Kind::Service, "web", service);
    }

    fn endpoint(&mut self, ready: bool) {
        let conditions = json!({ "ready": ready, "serving": ready });
        let endpoints = json!([{ "addresses": ["10.1.0.1"], "conditions": conditions }]);
        let labels = json!({ "kubernetes.io/service-name": "web" });
        let slice = json!({
            "metadata": { "labels": labels }, "addressType": "IPv4", "endpoints": endpoints,
        });
        self.apply(Kind::EndpointSlice, "web-1", slice);
    }

    /// What is reported so many seconds later: the status and reason of the condition, and the
    /// reason of the Event.
    fn after(&mut self, seconds: u64) -> Vec<(String, Option<&'static str>)> {
        self.now += Duration::from_secs(seconds);
        let reports = self.unannounced.step(self.now, &self.index).into_iter();
        let shown = reports.map(|report| {
            let condition = match &report.condition.condition {
                Some(condition) => format!("{} {}", condition.announced, condition.reason),
                None => "removed".to_owned(),
            };
            (condition, report.event.map(|event| event.reason))
        });
        shown.collect()
    }

    /// Lets the Service say what was last decided.
    fn confirm(&mut self) {
        let known = self.unannounced.known.values().next();
        let condition = known.and_then(|known| wanted(&known.opinion));
        let says = condition.as_ref().map(|condition| {
            let status = if condition.announced { "True" } else { "False" };
            (
                status,
                condition.reason.as_str(),
                condition.message.as_str(),
            )
        });
        self.set_condition(says);
    }
}

const NOTHING: [(String, Option<&str>); 0] = [];

fn reported(condition: &str, event: Option<&'static str>) -> [(String, Option<&'static str>); 1] {
    [(condition.to_owned(), event)]
}

#[test]
fn a_service_that_no_node_announces_is_reported_once_and_its_return_as_well() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.after(0), NOTHING);
    assert_eq!(
        cluster.unannounced.counts(),
        BTreeMap::from([("NoEndpoints", 1)])
    );
    assert_eq!(cluster.after(9), NOTHING);
    let withheld = reported("false NoEndpoints", Some("NotAnnounced"));
    assert_eq!(cluster.after(1), withheld);
    cluster.confirm();
    assert_eq!(cluster.after(1000), NOTHING);
    cluster.endpoint(true);
    assert_eq!(cluster.after(0), NOTHING);
    assert_eq!(cluster.unannounced.counts(), BTreeMap::new());
    assert_eq!(
        cluster.after(10),
        reported("true Announced", Some("AnnouncedAgain"))
    );
    cluster.confirm();
    assert_eq!(cluster.after(1000), NOTHING);
}

#[test]
fn a_write_that_the_service_does_not_show_is_repeated_once_a_minute_without_an_event() {
    let mut cluster = Cluster::new();
    cluster.after(0);
    assert_eq!(cluster.after(10).len(), 1);
    assert_eq!(cluster.after(59), NOTHING);
    assert_eq!(cluster.after(1), reported("false NoEndpoints", None));
}

#[test]
fn endpoints_that_flap_and_services_that_are_announced_are_not_reported() {
    let mut cluster = Cluster::new();
    for ready in [true, false, true, false] {
        assert_eq!(cluster.after(9), NOTHING);
        cluster.endpoint(ready);
    }
    cluster.endpoint(true);
    assert_eq!(cluster.after(1000), NOTHING);
    assert!(cluster.unannounced.known.is_empty(), "nothing to remember");
}

#[test]
fn a_new_reason_is_news_and_has_the_time_of_the_first_one() {
    let mut cluster = Cluster::new();
    cluster.after(0);
    cluster.after(10);
    cluster.confirm();
    let key = ObjectKey::new(
        Kind::BgpAdvertisement,
        ObjectName::new("metallb-system", "all"),
    );
    cluster.change(Change::Delete(key));
    cluster.after(0);
    cluster.now += SETTLE_TIME;
    let reports = cluster.unannounced.step(cluster.now, &cluster.index);
    let condition = reports[0]
        .condition
        .condition
        .as_ref()
        .expect("a condition");
    assert_eq!(
        (&*condition.reason, &*condition.since),
        ("NoAdvertisement", "2026-01-01T00:00:00Z")
    );
    let message = &reports[0].event.as_ref().expect("an Event").message;
    assert!(
        message.contains("ferrolb explain svc shop/web"),
        "{message}"
    );
}

#[test]
fn a_new_leader_repeats_nothing_and_two_leaders_do_not_take_turns() {
    let mut cluster = Cluster::new();
    cluster.after(0);
    cluster.after(10);
    cluster.confirm();
    cluster.unannounced = Unannounced::default();
    let everything = Dirty {
        configuration: true,
        ..Dirty::default()
    };
    cluster.unannounced.note(&cluster.index, &everything);
    assert_eq!(cluster.after(1000), NOTHING);
    assert_eq!(
        cluster.unannounced.counts(),
        BTreeMap::from([("NoEndpoints", 1)])
    );
    // A leader that was suspended, or a person, writes something else.
    cluster.set_condition(Some(("True", "Announced", "old news")));
    assert_eq!(cluster.after(1000), NOTHING);
    cluster.endpoint(true);
    cluster.after(0);
    assert_eq!(
        cluster.after(10),
        reported("true Announced", Some("AnnouncedAgain"))
    );
}

#[test]
fn layer_2_counts_and_a_service_of_another_class_loses_the_condition() {
    let mut cluster = Cluster::new();
    cluster.endpoint(true);
    let elsewhere = json!({ "spec": { "nodeSelectors": [{ "matchLabels": { "no": "where" } }] } });
    cluster.apply(Kind::BgpAdvertisement, "all", elsewhere);
    cluster.after(0);
    assert_eq!(
        cluster.unannounced.counts(),
        BTreeMap::from([("NodeNotSelected", 1)])
    );
    cluster.apply(Kind::L2Advertisement, "all", json!({ "spec": {} }));
    cluster.after(0);
    assert_eq!(cluster.unannounced.counts(), BTreeMap::new());

    let mut cluster = Cluster::new();
    cluster.after(0);
    cluster.after(10);
    cluster.confirm();
    let service = json!({
        "spec": { "type": "LoadBalancer", "loadBalancerClass": "example.com/other",
            "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
        "status": {
            "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] },
            "conditions": [{ "type": ANNOUNCED_CONDITION, "status": "False", "reason": "Any" }],
        },
    });
    cluster.apply(Kind::Service, "web", service);
    cluster.after(0);
    assert_eq!(cluster.after(10), reported("removed", None));
}

#[test]
fn a_cause_of_very_many_services_writes_conditions_at_a_limited_rate_and_no_events() {
    let mut cluster = Cluster::new();
    for number in 2..=(REPORTS_MAX + 5) {
        let service = json!({
            "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": format!("192.0.2.{number}") }] } },
        });
        cluster.apply(Kind::Service, &format!("web-{number}"), service);
    }
    cluster.after(0);
    let first = cluster.after(10);
    assert_eq!(first.len(), REPORTS_MAX);
    assert!(first.iter().all(|(_, event)| event.is_none()), "{first:?}");
    assert_eq!(cluster.after(1).len(), 5);
    assert_eq!(cluster.after(1), NOTHING);
}

#[test]
fn an_allocator_alone_reports_nothing_and_an_invalid_advertisement_is_no_sign_of_that() {
    let mut cluster = Cluster::new();
    cluster.after(0);
    cluster.after(10);
    cluster.confirm();
    let config = |kind: Kind, name: &str| {
        Change::Delete(ObjectKey::new(
            kind,
            ObjectName::new("metallb-system", name),
        ))
    };
    cluster.change(config(Kind::BgpAdvertisement, "all"));
    cluster.after(0);
    let counts = BTreeMap::from([("NoAdvertisement", 1)]);
    assert_eq!(cluster.unannounced.counts(), counts, "there is a BGPPeer");
    cluster.change(config(Kind::BgpPeer, "tor"));
    cluster.after(0);
    assert_eq!(cluster.unannounced.counts(), BTreeMap::new());
    // What was written before is taken back.
    assert_eq!(cluster.after(10), reported("removed", None));
    cluster.set_condition(None);
    assert_eq!(cluster.after(1000), NOTHING);
    let invalid = json!({ "spec": { "nodeSelectors": 7 } });
    cluster.apply(Kind::FerrolbL2Advertisement, "all", invalid);
    cluster.after(0);
    assert_eq!(cluster.unannounced.counts(), counts);
    // As is one of MetalLB's old ConfigMap.
    let key = config(Kind::FerrolbL2Advertisement, "all");
    cluster.change(key);
    cluster.change(config(Kind::IpAddressPool, "pool"));
    let text = "address-pools: [{name: pool, protocol: bgp, addresses: [192.0.2.0/24]}]";
    cluster.apply(
        Kind::ConfigMap,
        "config",
        json!({ "data": { "config": text } }),
    );
    cluster.after(0);
    assert_eq!(
        cluster.unannounced.counts(),
        BTreeMap::from([("NoEndpoints", 1)])
    );
}

#[test]
fn a_deleted_service_is_forgotten() {
    let mut cluster = Cluster::new();
    cluster.after(0);
    let key = ObjectKey::new(Kind::Service, ObjectName::new("shop", "web"));
    cluster.change(Change::Delete(key));
    assert_eq!(cluster.after(10), NOTHING);
    assert_eq!(cluster.unannounced.counts(), BTreeMap::new());
}
