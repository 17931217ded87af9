//! Deciding only what depends on a change gives the same result as deciding everything.

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::core::decide::layer2::addresses::Layer2Addresses;
use crate::runtime::status::Announced;

fn number() -> impl Strategy<Value = u8> {
    0..3_u8
}

fn layer2_spec() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({ "interfaces": ["eth0"], "ipAddressPools": ["pool-0"] })),
        Just(json!({ "serviceSelectors": [{ "matchLabels": { "no": "such" } }] })),
        Just(json!({ "nodeSelectors": [{ "matchLabels": { "no": "such" } }] })),
        Just(json!({ "preferredNodeSelectors": [{ "weight": 7, "preference": {} }] })),
        Just(json!({ "sticky": false, "drain": { "onCordon": true } })),
        Just(json!({ "interfaces": ["not an interface"] })),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let policy = prop_oneof![Just("Cluster"), Just("Local"), Just("Nonsense")];
    let address = prop_oneof![
        Just("192.0.2.1"),
        Just("192.0.2.2"),
        Just("198.51.100.1"),
        Just("x")
    ];
    let spec = prop_oneof![
        Just(json!({})),
        Just(json!({ "aggregationLength": 24 })),
        Just(json!({ "peers": ["peer-1"], "localPref": 7 })),
        Just(json!({ "peers": ["weighted-1"] })),
        Just(json!({ "communities": ["64512:1"], "ipAddressPools": ["pool-0"] })),
        Just(json!({ "communities": ["nonsense"] })),
    ];
    let by_label = prop_oneof![
        Just(json!({ "communityLabels": ["bgp"] })),
        Just(json!({ "communityLabels": ["bgp"], "aggregationLength": 24 })),
        Just(json!({ "communityLabels": ["bgp"], "ipAddressPools": ["pool-0"] })),
    ];
    let value = prop_oneof![Just("64512.9"), Just("near"), Just("nonsense"), Just("")];
    let addresses = prop_oneof![
        Just("192.0.2.0/24"),
        Just("198.51.100.0/24"),
        Just("nonsense")
    ];
    let labels = prop_oneof![
        Just(json!({})),
        Just(json!({ "node.kubernetes.io/exclude-from-external-load-balancers": "" })),
    ];
    let kind = prop_oneof![
        Just((Kind::Service, "service")),
        Just((Kind::EndpointSlice, "slice")),
        Just((Kind::Node, "node")),
        Just((Kind::IpAddressPool, "pool")),
        Just((Kind::BgpPeer, "peer")),
        Just((Kind::FerrolbBgpPeer, "peer")),
        Just((Kind::BgpAdvertisement, "advertisement")),
        Just((Kind::FerrolbBgpAdvertisement, "advertisement")),
        Just((Kind::L2Advertisement, "layer2")),
        Just((Kind::FerrolbL2Advertisement, "layer2")),
    ];
    prop_oneof![
        4 => (number(), policy, address)
            .prop_map(|(n, policy, address)| service(&format!("service-{n}"), policy, address)),
        4 => (number(), number(), number(), any::<bool>()).prop_map(|(n, service, node, ready)| {
            let (service, node) = (format!("service-{service}"), format!("node-{node}"));
            slice(&format!("slice-{n}"), &service, &node, ready)
        }),
        4 => (number(), prop::bool::weighted(0.9))
            .prop_map(|(n, opt_in)| sharer("default", &format!("service-{n}"), &json!({}), opt_in)),
        2 => (number(), addresses).prop_map(|(n, range)| pool(&format!("pool-{n}"), range)),
        2 => (number(), number())
            .prop_map(|(n, asn)| {
                let address = format!("10.0.0.{}", n / 2 + 1);
                peer(&format!("peer-{n}"), &address, u32::from(asn) + 64512)
            }),
        // 10.0.0.11 is an address of the nodes.
        1 => (number(), number())
            .prop_map(|(n, end)| {
                ferrolb_peer(&format!("peer-{n}"), &format!("10.0.0.{}", end + 9))
            }),
        2 => number().prop_map(|n| weighted_peer(&format!("weighted-{n}"))),
        1 => number()
            .prop_map(|n| Change::Delete(key(Kind::FerrolbBgpPeer, &format!("weighted-{n}")))),
        1 => (number(), prop_oneof![Just("2"), Just("x")])
            .prop_map(|(n, weight)| weighted_node(&format!("node-{n}"), weight)),
        2 => (number(), spec)
            .prop_map(|(n, spec)| advertisement(&format!("advertisement-{n}"), spec)),
        2 => (number(), by_label).prop_map(|(n, spec)| {
            let name = format!("by-label-{n}");
            object(Kind::FerrolbBgpAdvertisement, &name, json!({ "spec": spec }))
        }),
        2 => value.clone().prop_map(|value| {
            let metadata = json!({ "labels": { "bgp": value } });
            object(Kind::Namespace, "default", json!({ "metadata": metadata }))
        }),
        2 => (number(), value).prop_map(|(n, value)| {
            let labels = json!({ "bgp": value });
            labelled_service(&format!("service-{n}"), &labels)
        }),
        1 => any::<bool>().prop_map(|defined| {
            let near = json!([{ "name": "near", "value": "64512:20" }]);
            let communities = if defined { near } else { json!([]) };
            let spec = json!({ "communities": communities });
            object(Kind::Community, "names", json!({ "spec": spec }))
        }),
        1 => (number(), prop_oneof![Just(24), Just(26), Just(32)])
            .prop_map(|(n, length)| {
                let spec = json!({ "aggregationLength": length, "announceAggregates": "always" });
                ferrolb_advertisement(&format!("advertisement-{n}"), spec)
            }),
        1 => (number(), labels).prop_map(|(n, labels)| node(&format!("node-{n}"), labels)),
        1 => number().prop_map(|n| cordoned_node(&format!("node-{n}"))),
        3 => (number(), layer2_spec(), any::<bool>())
            .prop_map(|(n, spec, own)| layer2_advertisement(&format!("layer2-{n}"), spec, own)),
        1 => (number(), kind.clone())
            .prop_map(|(n, (kind, name))| Change::Delete(key(kind, &format!("{name}-{n}")))),
        1 => (
            prop_oneof![Just((Kind::Service, "service")), Just((Kind::EndpointSlice, "slice"))],
            prop::collection::btree_set(number(), 0..3),
        )
            .prop_map(|((kind, name), present)| {
                let names = present.into_iter();
                let names = names.map(|n| key(kind, &format!("{name}-{n}")).name);
                Change::Listed(kind, names.collect())
            }),
        1 => kind.prop_map(|(kind, _)| Change::Unreadable(kind, "gone".into()))
            .prop_filter("configuration", |change| {
                matches!(change, Change::Unreadable(kind, _) if kind.is_configuration())
            }),
    ]
}

/// Random changes, after which routes come and go.
pub(crate) fn random_changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 1..40)
        .prop_map(|changes| initial().into_iter().chain(changes).collect())
}

/// An index after random changes.
pub(crate) fn random_worlds() -> impl Strategy<Value = Index> {
    random_changes().prop_map(index)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changes_that_are_applied_as_one_have_the_result_of_each_after_the_other(
        changes in random_changes()
    ) {
        let mut at_once = Index::default();
        let (_, ()) = at_once.apply_all(|apply| changes.iter().cloned().for_each(apply));
        let one_by_one = index(changes);
        prop_assert_eq!(at_once.config(), one_by_one.config());
        prop_assert_eq!(at_once.problems(), one_by_one.problems());
        prop_assert_eq!(NodeRoutes::of(&at_once, NODE), NodeRoutes::of(&one_by_one, NODE));
    }

    #[test]
    fn incremental_decisions_equal_a_full_decision(changes in random_changes()) {
        let mut index = Index::default();
        let mut node_routes = NodeRoutes::new(NODE);
        let mut wire = std::collections::BTreeMap::new();
        let mut layer2 = Layer2Addresses::new(NODE);
        let mut engine = std::collections::BTreeMap::new();
        let mut problems = Vec::new();
        let announced = Announced::default();
        for change in changes {
            let dirty = index.apply(change);
            for change in node_routes.update(&index, &dirty) {
                let key = (change.peer, change.prefix);
                match change.route {
                    Some(route) => wire.insert(key, route),
                    None => wire.remove(&key),
                };
            }
            prop_assert_eq!(&node_routes, &NodeRoutes::of(&index, NODE));
            prop_assert_eq!(&wire, node_routes.routes());
            for (address, spec) in layer2.update(&index, &dirty) {
                match spec {
                    Some(spec) => engine.insert(address, spec),
                    None => engine.remove(&address),
                };
            }
            let mut full = Layer2Addresses::new(NODE);
            full.update_all(&index);
            prop_assert_eq!(&layer2, &full);
            prop_assert_eq!(&engine, layer2.addresses());
            if dirty.needs_full_decision(NODE) {
                announced.update_all(&index, &node_routes, |_| true);
            } else {
                announced.update(&index, &node_routes, &dirty.services);
            }
            let all = Announced::default();
            let is_announced = |prefix: &IpNet| wire.keys().any(|(_, other)| other == prefix);
            all.update_all(&index, &node_routes, is_announced);
            prop_assert_eq!(announced.services(), all.services());
            if dirty.may_change_problems() {
                problems = index.problems();
            }
            prop_assert_eq!(&problems, &index.problems());
        }
    }
}
