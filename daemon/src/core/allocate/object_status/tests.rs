//! What is written about pools and refused objects, and when.

use serde_json::{Value, json};

use super::*;
use crate::core::api::{Kind, ObjectName, RawObject};
use crate::core::index::change::Change;

/// What to write now.
fn statuses(written: &mut ObjectStatuses, index: &Index) -> Vec<(ObjectKey, ObjectStatus)> {
    written.due(Instant::now(), index).statuses
}

fn apply(index: &mut Index, kind: Kind, name: &str, mut body: Value) {
    body["kind"] = json!(kind.name());
    body["metadata"]["name"] = json!(name);
    let raw: RawObject = serde_json::from_value(body).expect("an object");
    let key = ObjectKey::new(kind, ObjectName::new("ns", name));
    index.apply(Change::Apply(key, raw));
}

fn pool(index: &mut Index, status: Value) {
    let reserved = json!([{ "namespace": "ns", "name": "later", "addresses": ["192.0.2.9"] }]);
    let spec = json!({
        "addresses": ["192.0.2.0/28", "2001:db8::/64"], "avoidBuggyIPs": true,
        "reservations": reserved
    });
    let body = json!({ "spec": spec, "status": status });
    apply(index, Kind::FerrolbIpAddressPool, "pool", body);
}

fn service(index: &mut Index, name: &str, addresses: &[&str]) {
    let ingress: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    let spec = json!({ "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [] });
    let status = json!({ "loadBalancer": { "ingress": ingress } });
    let body = json!({ "spec": spec, "status": status });
    apply(index, Kind::Service, name, body);
}

#[test]
fn the_status_counts_each_address_in_use_once_and_the_free_ones() {
    let mut index = Index::default();
    pool(&mut index, json!({}));
    service(&mut index, "a", &["192.0.2.1", "2001:db8::1"]);
    service(&mut index, "shares", &["192.0.2.1"]);
    service(&mut index, "elsewhere", &["198.51.100.1"]);
    let due = statuses(&mut ObjectStatuses::default(), &index);
    let [(key, status)] = &due[..] else {
        panic!("{due:?}")
    };
    assert_eq!(key.to_string(), "IPAddressPool.ferrolb.io ns/pool");
    assert_eq!(status.accepted, None);
    let status = serde_json::to_value(status.counts).expect("JSON");
    let expected = json!({
        "assignedIPv4": 1, "assignedIPv6": 1, "availableIPv4": 14, "availableIPv6": i64::MAX
    });
    assert_eq!(status, expected);
    pool(&mut index, expected);
    assert_eq!(statuses(&mut ObjectStatuses::default(), &index), []);
}

#[test]
fn a_status_is_written_once_and_again_later_if_it_has_no_effect() {
    let mut index = Index::default();
    pool(&mut index, json!({}));
    let mut written = ObjectStatuses::default();
    let start = Instant::now();
    let mut due = |now, index: &Index| written.due(now, index).statuses.len();
    assert_eq!(due(start, &index), 1);
    let almost = Duration::from_millis(9_999);
    assert_eq!(due(start + almost, &index), 0);
    assert_eq!(due(start + REPEAT_FIRST, &index), 1);
    let again = start + 2 * REPEAT_FIRST;
    assert_eq!(due(again, &index), 0, "the delay doubles");
    service(&mut index, "a", &["192.0.2.1"]);
    assert_eq!(due(again, &index), 1, "another status");
}

fn peer(index: &mut Index, kind: Kind, created: &str, asn: u32, status: &Value) {
    let spec = json!({ "myASN": asn, "peerASN": 64513, "peerAddress": "10.0.0.9" });
    let metadata = json!({ "name": "tor", "uid": created, "creationTimestamp": created });
    let mut body = json!({ "spec": spec, "status": status });
    body["metadata"] = metadata;
    apply(index, kind, "tor", body);
}

fn status_of_condition(condition: &Condition, time: &str) -> Value {
    let mut condition = condition.clone();
    condition.last_transition_time = time.to_owned();
    json!({ "conditions": [condition] })
}

#[test]
fn a_refused_object_of_ferrolbs_has_a_condition_until_it_is_accepted() {
    const OWN: Kind = Kind::FerrolbBgpPeer;
    let mut index = Index::for_kinds(&[]);
    let mut written = ObjectStatuses::default();
    peer(&mut index, OWN, "2", 64512, &json!({}));
    assert_eq!(statuses(&mut written, &index), [], "it was never refused");
    peer(&mut index, Kind::BgpPeer, "1", 64512, &json!({}));
    let due = statuses(&mut written, &index);
    let [(key, status)] = &due[..] else {
        panic!("{due:?}")
    };
    assert_eq!((key.kind, status.counts), (OWN, None));
    let refused = status.accepted.clone().expect("a condition");
    assert_eq!(
        (
            &*refused.r#type,
            &*refused.status,
            &*refused.reason,
            &*refused.last_transition_time
        ),
        ("Accepted", "False", "NameInUse", "")
    );
    assert_eq!(refused.message, index.config().refused[key].message);
    assert!(!written.is_complete());
    peer(
        &mut index,
        OWN,
        "2",
        64512,
        &status_of_condition(&refused, "then"),
    );
    assert_eq!(statuses(&mut written, &index), []);
    assert!(written.is_complete());
    // Another reason: the time of the transition stays.
    peer(
        &mut index,
        OWN,
        "2",
        0,
        &status_of_condition(&refused, "then"),
    );
    let due = statuses(&mut written, &index);
    let invalid = due[0].1.accepted.clone().expect("a condition");
    assert_eq!(
        (&*invalid.reason, &*invalid.last_transition_time),
        ("Invalid", "then")
    );
    index.apply(Change::Delete(ObjectKey::new(
        Kind::BgpPeer,
        key.name.clone(),
    )));
    peer(
        &mut index,
        OWN,
        "2",
        64512,
        &status_of_condition(&invalid, "then"),
    );
    let due = statuses(&mut written, &index);
    let accepted = due[0].1.accepted.clone().expect("a condition");
    assert_eq!(
        (
            &*accepted.status,
            &*accepted.reason,
            &*accepted.last_transition_time
        ),
        ("True", "Accepted", "")
    );
    peer(
        &mut index,
        OWN,
        "2",
        64512,
        &status_of_condition(&accepted, "now"),
    );
    assert_eq!(statuses(&mut written, &index), []);
}

#[test]
fn a_refused_object_of_metallbs_has_an_event_for_each_change() {
    let mut index = Index::for_kinds(&[]);
    let mut written = ObjectStatuses::default();
    let mut events = |index: &Index| {
        let due = written.due(Instant::now(), index);
        assert_eq!(due.statuses, []);
        let events = due.events.into_iter();
        let shown = |event: ObjectEvent| (event.warning, event.reason, event.uid);
        events.map(shown).collect::<Vec<_>>()
    };
    peer(&mut index, Kind::FerrolbBgpPeer, "1", 64512, &json!({}));
    peer(&mut index, Kind::BgpPeer, "2", 64512, &json!({}));
    let event = |warning, reason| [(warning, reason, "2".to_owned())];
    assert_eq!(events(&index), event(true, "NameInUse"));
    assert_eq!(events(&index), []);
    peer(&mut index, Kind::BgpPeer, "2", 0, &json!({}));
    assert_eq!(events(&index), event(true, "Invalid"));
    let key = |kind| ObjectKey::new(kind, ObjectName::new("ns", "tor"));
    index.apply(Change::Delete(key(Kind::FerrolbBgpPeer)));
    assert_eq!(events(&index), [], "it is as invalid as before");
    peer(&mut index, Kind::BgpPeer, "2", 64512, &json!({}));
    assert_eq!(events(&index), event(false, "Accepted"));
    peer(&mut index, Kind::BgpPeer, "2", 0, &json!({}));
    assert_eq!(events(&index), event(true, "Invalid"));
    index.apply(Change::Delete(key(Kind::BgpPeer)));
    assert_eq!(events(&index), [], "it doesn't exist");
}

#[test]
fn a_pool_has_its_counts_and_its_condition_in_one_status() {
    let mut index = Index::default();
    pool(&mut index, json!({}));
    let counts = status_of_pool(&index);
    let mut status = serde_json::to_value(counts).expect("JSON");
    let refused = Condition {
        r#type: ACCEPTED.to_owned(),
        status: "False".to_owned(),
        ..Condition::default()
    };
    status["conditions"] = json!([refused]);
    pool(&mut index, status);
    let due = statuses(&mut ObjectStatuses::default(), &index);
    let [(_, status)] = &due[..] else {
        panic!("{due:?}")
    };
    assert_eq!(status.counts, Some(counts));
    assert_eq!(status.accepted.as_ref().map(|c| &*c.status), Some("True"));
}

fn status_of_pool(index: &Index) -> PoolStatus {
    let due = statuses(&mut ObjectStatuses::default(), index);
    due[0].1.counts.expect("counts")
}
