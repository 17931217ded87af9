//! Tests of the status writes: each difference from the status is written once, and foreign
//! services are never written.

use std::sync::Arc;

use crate::core::allocate::{Allocation, AllocationResult};
use crate::core::api::{Kind, ObjectKey, ObjectName, RawObject};
use crate::core::index::change::{Change, StatusWrite};
use crate::core::index::{Dirty, Index};
use serde_json::{Value, json};

fn apply(index: &mut Index, kind: Kind, name: &str, mut body: Value) -> Dirty {
    body["kind"] = json!(kind.name());
    body["metadata"]["name"] = json!(name);
    let raw: RawObject = serde_json::from_value(body).expect("an object");
    let namespace = if kind.is_configuration() {
        "metallb-system"
    } else {
        "default"
    };
    index.apply(Change::Apply(
        ObjectKey::new(kind, ObjectName::new(namespace, name)),
        raw,
    ))
}

fn pool(index: &mut Index, addresses: &[&str]) -> Dirty {
    apply(
        index,
        Kind::IpAddressPool,
        "pool",
        json!({ "spec": { "addresses": addresses } }),
    )
}

fn service(index: &mut Index, name: &str, version: &str, more: Value) -> Dirty {
    let mut spec =
        json!({ "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] });
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    let metadata = json!({ "resourceVersion": version, "uid": name });
    apply(
        index,
        Kind::Service,
        name,
        json!({ "metadata": metadata, "spec": spec }),
    )
}

/// A version of a service whose status has this address of the pool.
fn assigned(index: &mut Index, name: &str, version: &str, address: &str) -> Dirty {
    let body = json!({
        "metadata": {
            "resourceVersion": version, "uid": name,
            "annotations": { "metallb.io/ip-allocated-from-pool": "pool" },
        },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": address }] } },
    });
    apply(index, Kind::Service, name, body)
}

fn written(writes: &[Arc<StatusWrite>]) -> Vec<String> {
    writes
        .iter()
        .map(|write| {
            format!(
                "{} {:?} {}",
                write.service.name, write.addresses, write.resource_version
            )
        })
        .collect()
}

#[test]
fn a_write_in_flight_counts_as_allocated_and_is_not_repeated() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    pool(&mut index, &["192.0.2.1/32", "192.0.2.2/32"]);
    service(&mut index, "first", "1", json!({}));
    let writes = allocation.decide_all(&index).writes;
    assert_eq!(written(&writes), ["first [192.0.2.1] 1"]);
    // The write has not come back yet when an older service appears that would have been first.
    let dirty = service(&mut index, "another", "2", json!({}));
    let writes = allocation.decide(&index, &dirty).writes;
    assert_eq!(written(&writes), ["another [192.0.2.2] 2"]);
    // The write failed because the service changed: it is decided for the new version.
    let dirty = service(&mut index, "first", "3", json!({}));
    let writes = allocation.decide(&index, &dirty).writes;
    assert_eq!(written(&writes), ["first [192.0.2.1] 3"]);
}

#[test]
fn a_service_of_another_class_is_never_written() {
    let mut index = Index::default();
    pool(&mut index, &["192.0.2.0/24"]);
    service(
        &mut index,
        "foreign",
        "1",
        json!({ "loadBalancerClass": "example.com/other" }),
    );
    let AllocationResult {
        outcomes, writes, ..
    } = Allocation::default().decide_all(&index);
    assert!(
        outcomes.is_empty() && writes.is_empty(),
        "{outcomes:?} {writes:?}"
    );
}

#[test]
fn an_address_is_kept_while_its_pool_is_invalid() {
    let mut index = Index::default();
    pool(&mut index, &["192.0.2.0/24"]);
    service(&mut index, "web", "1", json!({}));
    let mut allocation = Allocation::default();
    let writes = allocation.decide_all(&index).writes;
    index.apply_status_write(&writes[0]);
    // The pool becomes invalid, and a new leader starts: no address is released or allocated.
    pool(&mut index, &["nonsense"]);
    service(&mut index, "new", "1", json!({}));
    allocation.reset();
    let AllocationResult {
        outcomes, writes, ..
    } = allocation.decide_all(&index);
    assert_eq!(written(&writes), Vec::<String>::new());
    let reason = |name: &str| {
        outcomes[&ObjectName::new("default", name)]
            .reason()
            .map(ferrolb_allocator::Reason::code)
    };
    assert_eq!(reason("new"), Some("PoolFrozen"));
    // Nor is one released if the pool never had a good value.
    let mut fresh = Index::default();
    pool(&mut fresh, &["nonsense"]);
    service(&mut fresh, "web", "1", json!({}));
    fresh.apply_status_write(&StatusWrite {
        service: Arc::new(ObjectName::new("default", "web")),
        resource_version: String::new(),
        addresses: vec!["192.0.2.0".parse().expect("an address")],
        ip_modes: Vec::new(),
        pool: Some("pool".into()),
    });
    let writes = Allocation::default().decide_all(&fresh).writes;
    assert_eq!(written(&writes), Vec::<String>::new());
    // Deleting the pool releases it.
    fresh.apply(Change::Delete(ObjectKey::new(
        Kind::IpAddressPool,
        ObjectName::new("metallb-system", "pool"),
    )));
    let writes = Allocation::default().decide_all(&fresh).writes;
    assert_eq!(written(&writes), ["web [] 1"]);
}

fn decided(decided: &AllocationResult) -> Vec<&str> {
    let names = decided.outcomes.keys();
    names.map(|name| name.name.as_str()).collect()
}

#[test]
fn only_services_that_a_change_affects_are_decided() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    pool(&mut index, &["192.0.2.1/32", "192.0.2.2/32"]);
    for name in ["a", "b", "waits", "waits-too"] {
        service(&mut index, name, "1", json!({}));
    }
    let first = allocation.decide(&index, &Dirty::default());
    assert_eq!(
        decided(&first),
        ["a", "b", "waits", "waits-too"],
        "the first time"
    );
    assert_eq!(first.new_reasons.len(), 2, "{first:?}");
    for write in &first.writes {
        index.apply_status_write(write);
    }
    // The allocator doesn't depend on endpoints and routers.
    let labels = json!({ "kubernetes.io/service-name": "a" });
    let endpoints = json!([{ "addresses": ["10.0.0.1"], "nodeName": "n" }]);
    let dirty = apply(
        &mut index,
        Kind::EndpointSlice,
        "a-1",
        json!({ "metadata": { "labels": labels }, "addressType": "IPv4", "endpoints": endpoints }),
    );
    assert!(!dirty.services.is_empty() && dirty.requests.is_empty());
    assert_eq!(decided(&allocation.decide(&index, &dirty)), [""; 0]);
    let peer = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.9" });
    let dirty = apply(&mut index, Kind::BgpPeer, "tor", json!({ "spec": peer }));
    assert!(dirty.configuration);
    assert_eq!(decided(&allocation.decide(&index, &dirty)), [""; 0]);
    // A deleted service frees its address for the first one that waits.
    let dirty = index.apply(Change::Delete(ObjectKey::new(
        Kind::Service,
        ObjectName::new("default", "a"),
    )));
    let second = allocation.decide(&index, &dirty);
    assert_eq!(decided(&second), ["waits", "waits-too"]);
    assert_eq!(written(&second.writes), ["waits [192.0.2.1] 1"]);
    assert!(second.new_reasons.is_empty(), "{second:?}");
    // A change of pools: all services are decided.
    let dirty = pool(&mut index, &["192.0.2.2/31"]);
    let third = allocation.decide(&index, &dirty);
    assert_eq!(decided(&third), ["b", "waits", "waits-too"]);
}

#[test]
fn a_service_that_is_no_load_balancer_any_more_releases_its_address_to_one_that_waits() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    pool(&mut index, &["192.0.2.1/32"]);
    service(&mut index, "web", "1", json!({}));
    for write in allocation.decide_all(&index).writes {
        index.apply_status_write(&write);
    }
    let dirty = service(&mut index, "waits", "1", json!({}));
    assert_eq!(written(&allocation.decide(&index, &dirty).writes), [""; 0]);
    let dirty = service(&mut index, "web", "2", json!({ "type": "ClusterIP" }));
    let writes = allocation.decide(&index, &dirty).writes;
    assert_eq!(written(&writes), ["waits [192.0.2.1] 1"]);
}

#[test]
fn pending_services_get_addresses_of_the_first_pool() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    service(&mut index, "web", "1", json!({}));
    assert_eq!(written(&allocation.decide_all(&index).writes), [""; 0]);
    let dirty = pool(&mut index, &["192.0.2.0/24"]);
    let writes = allocation.decide(&index, &dirty).writes;
    assert_eq!(written(&writes), ["web [192.0.2.0] 1"]);
}

/// The Events of a decision: type, reason and message.
fn events(result: &AllocationResult) -> Vec<(bool, &str, &str)> {
    let events = result.events.iter();
    events
        .map(|event| (event.warning, event.reason, event.message.as_str()))
        .collect()
}

#[test]
fn an_assigned_address_is_one_event() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    pool(&mut index, &["192.0.2.1/32"]);
    let dirty = service(&mut index, "web", "1", json!({}));
    assert_eq!(events(&allocation.decide_all(&index)), [], "not yet");
    assert_eq!(events(&allocation.decide(&index, &dirty)), []);
    let dirty = assigned(&mut index, "web", "2", "192.0.2.1");
    let result = allocation.decide(&index, &dirty);
    let expected = (false, "IPAllocated", "assigned 192.0.2.1 of pool pool");
    assert_eq!(events(&result), [expected]);
    assert_eq!(&*result.events[0].uid, "web");
    assert!(!result.events[0].may_be_known);
    assert_eq!(events(&allocation.decide(&index, &dirty)), []);
    let dirty = assigned(&mut index, "web", "3", "192.0.2.1");
    assert_eq!(events(&allocation.decide(&index, &dirty)), []);
}

#[test]
fn a_write_that_conflicts_or_is_denied_has_no_event_and_its_repetition_has_one() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    pool(&mut index, &["192.0.2.1/32"]);
    service(&mut index, "web", "1", json!({}));
    let writes = allocation.decide_all(&index).writes;
    assert_eq!(written(&writes), ["web [192.0.2.1] 1"]);
    // A label is edited meanwhile, twice.
    for version in ["2", "3"] {
        let dirty = service(&mut index, "web", version, json!({}));
        let result = allocation.decide(&index, &dirty);
        let repeated = format!("web [192.0.2.1] {version}");
        assert_eq!(written(&result.writes), [repeated]);
        assert_eq!(events(&result), []);
    }
    let dirty = assigned(&mut index, "web", "4", "192.0.2.1");
    let result = allocation.decide(&index, &dirty);
    assert_eq!(written(&result.writes), [""; 0]);
    let expected = (false, "IPAllocated", "assigned 192.0.2.1 of pool pool");
    assert_eq!(events(&result), [expected]);
    // An address is released, and the write is lost with the service.
    let dirty = pool(&mut index, &["192.0.2.2/32"]);
    let result = allocation.decide(&index, &dirty);
    assert_eq!(written(&result.writes), ["web [192.0.2.2] 4"]);
    assert_eq!(events(&result), []);
    let key = ObjectKey::new(Kind::Service, ObjectName::new("default", "web"));
    let dirty = index.apply(Change::Delete(key));
    assert_eq!(events(&allocation.decide(&index, &dirty)), []);
    assert!(!allocation.is_writing());
}

#[test]
fn a_new_leader_marks_what_the_one_before_may_have_written() {
    let mut index = Index::default();
    pool(&mut index, &["192.0.2.1/32"]);
    assigned(&mut index, "first", "1", "192.0.2.1");
    service(&mut index, "second", "1", json!({}));
    let result = Allocation::default().decide_all(&index);
    assert_eq!(events(&result).len(), 1);
    let event = &result.events[0];
    assert!(
        event.reason == "AllocationFailed" && event.may_be_known,
        "{event:?}"
    );
    let mut allocation = Allocation::default();
    allocation.decide_all(&index);
    let dirty = service(&mut index, "third", "1", json!({}));
    let result = allocation.decide(&index, &dirty);
    assert_eq!(result.events.len(), 1);
    assert!(!result.events[0].may_be_known, "it is news");
}

#[test]
fn a_standby_knows_the_former_addresses_of_services_when_it_leads() {
    let mut index = Index::default();
    let mut standby = Allocation::default();
    pool(&mut index, &["192.0.2.0/29"]);
    for (name, address) in [("a", "192.0.2.1"), ("b", "192.0.2.3"), ("c", "192.0.2.5")] {
        assigned(&mut index, name, "1", address);
    }
    let deleted = |name: &str| {
        let name = ObjectName::new("default", name);
        Change::Delete(ObjectKey::new(Kind::Service, name))
    };
    let mut changes = vec![index.apply(deleted("a"))];
    // Its status was cleared, and the watch missed the deletion of the last one.
    changes.push(service(&mut index, "b", "2", json!({})));
    let present = [ObjectName::new("default", "b")].into();
    changes.push(index.apply(Change::Listed(Kind::Service, present)));
    for dirty in changes {
        standby.remember(dirty.released);
    }
    standby.reset();
    let leader = &mut standby;
    assert_eq!(
        written(&leader.decide_all(&index).writes),
        ["b [192.0.2.3] 2"]
    );
    for (name, expected) in [("c", "192.0.2.5"), ("new", "192.0.2.0"), ("a", "192.0.2.1")] {
        let dirty = service(&mut index, name, "9", json!({}));
        let writes = leader.decide(&index, &dirty).writes;
        assert_eq!(written(&writes), [format!("{name} [{expected}] 9")]);
    }
    // A process that was started after the deletion doesn't.
    index.apply(deleted("a"));
    let writes = Allocation::default().decide_all(&index).writes;
    assert!(!written(&writes).contains(&"a [192.0.2.1] 9".to_owned()));
}

#[test]
fn a_failed_allocation_is_one_warning_until_its_reason_changes() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    pool(&mut index, &["192.0.2.1/32"]);
    service(&mut index, "first", "1", json!({}));
    service(&mut index, "second", "2", json!({}));
    let result = allocation.decide_all(&index);
    let of_second = result.events.iter().filter(|event| event.warning);
    let of_second: Vec<_> = of_second.map(|event| event.reason).collect();
    assert_eq!(of_second, ["AllocationFailed"]);
    let dirty = service(&mut index, "second", "3", json!({}));
    assert_eq!(events(&allocation.decide(&index, &dirty)), []);
    let request = json!({ "loadBalancerIP": "203.0.113.1" });
    let dirty = service(&mut index, "second", "4", request);
    let result = allocation.decide(&index, &dirty);
    let [(warning, reason, message)] = events(&result)[..] else {
        panic!("{result:?}");
    };
    assert!(warning && reason == "AllocationFailed" && message.starts_with("AddressNotInPool: "));
}

#[test]
fn a_service_that_requires_two_families_and_has_one_cluster_ip_gets_a_warning() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    pool(&mut index, &["192.0.2.1/32", "2001:db8::1/128"]);
    let spec = json!({ "ipFamilyPolicy": "RequireDualStack" });
    service(&mut index, "web", "1", spec);
    let result = allocation.decide_all(&index);
    let [(warning, reason, message)] = events(&result)[..] else {
        panic!("{result:?}");
    };
    assert!(warning && reason == "AllocationFailed", "{reason}");
    assert!(message.contains("cluster IP"), "{message}");
}

#[test]
fn an_address_that_a_pool_lost_is_cleared_with_an_event() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    pool(&mut index, &["192.0.2.1/32"]);
    assigned(&mut index, "web", "1", "192.0.2.1");
    assert_eq!(events(&allocation.decide_all(&index)), []);
    let dirty = pool(&mut index, &["192.0.2.2/32"]);
    let result = allocation.decide(&index, &dirty);
    assert_eq!(written(&result.writes), ["web [192.0.2.2] 1"]);
    assert_eq!(events(&result), [], "not yet");
    let dirty = assigned(&mut index, "web", "2", "192.0.2.2");
    let result = allocation.decide(&index, &dirty);
    let reasons: Vec<_> = result.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["ClearAssignment", "IPAllocated"]);
    assert!(result.events[0].message.starts_with("released 192.0.2.1: "));
}

#[test]
fn a_malformed_request_of_a_service_with_an_address_is_a_warning_and_costs_no_address() {
    let mut index = Index::default();
    let mut allocation = Allocation::default();
    pool(&mut index, &["192.0.2.1/32"]);
    assigned(&mut index, "web", "1", "192.0.2.1");
    allocation.decide_all(&index);
    let body = json!({
        "metadata": {
            "resourceVersion": "2", "uid": "web",
            "annotations": {
                "metallb.io/ip-allocated-from-pool": "pool",
                "metallb.io/loadBalancerIPs": "nonsense",
            },
        },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
    });
    let dirty = apply(&mut index, Kind::Service, "web", body);
    let result = allocation.decide(&index, &dirty);
    let reasons: Vec<_> = events(&result).iter().map(|event| event.1).collect();
    assert_eq!(reasons, ["LoadBalancerFailed"]);
    assert_eq!(written(&result.writes), [""; 0]);
}

#[test]
fn an_annotation_under_the_old_prefix_is_one_warning_for_each_change() {
    let annotated = |index: &mut Index, name: &str, keys: &[&str], address: Option<&str>| {
        let keys = keys
            .iter()
            .map(|key| (format!("metallb.universe.tf/{key}"), json!("x")));
        let annotations: serde_json::Map<String, Value> = keys.collect();
        let ingress: Vec<Value> = address.iter().map(|ip| json!({ "ip": ip })).collect();
        let body = json!({
            "metadata": { "annotations": annotations, "uid": name },
            "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
            "status": { "loadBalancer": { "ingress": ingress } },
        });
        apply(index, Kind::Service, name, body)
    };
    let warnings = |result: AllocationResult| {
        let events = result.events.into_iter();
        let events = events.filter(|event| event.reason == "deprecatedAnnotation");
        let events = events.map(|event| {
            assert!(event.warning);
            format!("{}: {}", event.service.name, event.message)
        });
        events.collect::<Vec<_>>()
    };
    let text = |name: &str, keys: &str| {
        format!("{name}: {keys}: MetalLB's old prefix still works, but write metallb.io/ instead")
    };
    let sharing = "metallb.universe.tf/allow-shared-ip";
    let none: [String; 0] = [];
    let mut index = Index::default();
    pool(&mut index, &["192.0.2.0/28"]);
    annotated(&mut index, "old", &["allow-shared-ip"], Some("192.0.2.1"));
    annotated(&mut index, "new", &["allow-shared-ip"], None);
    let mut allocation = Allocation::default();
    let first = warnings(allocation.decide_all(&index));
    assert_eq!(
        first,
        [text("new", sharing)],
        "a new leader doesn't repeat the other one"
    );
    // Its own status write is no change of the annotations.
    let dirty = annotated(&mut index, "new", &["allow-shared-ip"], Some("192.0.2.0"));
    assert_eq!(warnings(allocation.decide(&index, &dirty)), none);
    assert_eq!(warnings(allocation.decide_all(&index)), none);
    let both = ["address-pool", "allow-shared-ip"];
    let dirty = annotated(&mut index, "old", &both, Some("192.0.2.1"));
    let both = format!("metallb.universe.tf/address-pool, {sharing}");
    assert_eq!(
        warnings(allocation.decide(&index, &dirty)),
        [text("old", &both)]
    );
    let dirty = annotated(&mut index, "old", &[], Some("192.0.2.1"));
    assert_eq!(warnings(allocation.decide(&index, &dirty)), none);
    // MetalLB itself wrote this one.
    let dirty = annotated(
        &mut index,
        "kept",
        &["ip-allocated-from-pool"],
        Some("192.0.2.2"),
    );
    assert_eq!(warnings(allocation.decide(&index, &dirty)), none);
}
