//! Which endpoints count.

use super::*;
use crate::core::model::Family;

#[test]
fn an_endpoint_in_two_slices_counts_once_and_is_ready_if_one_of_them_is() {
    let mut index = Index::default();
    index.apply(slice_of("old", "IPv4", "10.1.0.1", false));
    index.apply(slice_of("new", "IPv4", "10.1.0.1", true));
    index.apply(slice_of("other", "IPv4", "10.1.0.2", true));
    index.apply(slice_of("v6", "IPv6", "fd00::1", true));
    let service = ObjectName::new("default", "service-0");
    let endpoints = index.endpoints(&service, Family::V4);
    assert_eq!(endpoints.healthy, 2);
    assert_eq!(
        endpoints.nodes.get(NODE),
        Some(&2),
        "both endpoints are ready"
    );
    index.apply(Change::Delete(key(Kind::EndpointSlice, "new")));
    let endpoints = index.endpoints(&service, Family::V4);
    assert_eq!(endpoints.healthy, 2);
    assert_eq!(
        endpoints.nodes.get(NODE),
        Some(&1),
        "one endpoint is only serving"
    );
}

#[test]
fn whether_a_node_has_endpoints_is_what_the_endpoints_say() {
    let mut index = Index::default();
    let service = ObjectName::new("default", "service-0");
    let check = |index: &Index, what: &str| {
        for family in Family::ALL {
            let endpoints = index.endpoints(&service, family);
            let has = index.has_endpoints(&service, family);
            assert_eq!(has, endpoints.healthy > 0, "{what}");
            for node in ["node-a", "node-b", "node-c"] {
                let here = index.has_endpoints_on(&service, family, node);
                assert_eq!(here, endpoints.nodes.contains_key(node), "{node}: {what}");
            }
        }
    };
    check(&index, "no slice");
    index.apply(slice("a", "service-0", "node-a", true));
    check(&index, "one slice");
    // The same address: a Pod has moved.
    index.apply(slice("b", "service-0", "node-b", true));
    check(&index, "an address that is on two nodes");
    index.apply(slice("c", "other", "node-c", true));
    check(&index, "another service");
    index.apply(Change::Delete(key(Kind::EndpointSlice, "a")));
    check(&index, "the other of two slices");
    assert!(index.has_endpoints_on(&service, Family::V4, "node-b"));
}

#[test]
fn endpoints_of_the_address_type_fqdn_are_ignored() {
    let mut index = Index::default();
    index.apply(slice_of("names", "FQDN", "backend.example.com", true));
    let service = ObjectName::new("default", "service-0");
    assert_eq!(index.endpoints(&service, Family::V4).healthy, 0);
    assert_eq!(index.endpoints(&service, Family::V6).healthy, 0);
    assert!(index.problems().is_empty());
}
