//! Which services may share an address.

use super::*;

#[test]
fn of_two_services_with_the_same_address_the_younger_is_withheld() {
    let mut index = index(initial());
    let created = |name: &str, created: &str| {
        let Change::Apply(key, mut raw) = service(name, "Cluster", "192.0.2.1") else {
            unreachable!()
        };
        raw.metadata.creation_timestamp = created.into();
        Change::Apply(key, raw)
    };
    index.apply(slice("slice-1", "service-1", NODE, true));
    index.apply(created("service-0", "2026-01-02T00:00:00Z"));
    let dirty = index.apply(created("service-1", "2026-01-01T00:00:00Z"));
    assert_eq!(
        dirty.services.len(),
        2,
        "the other service is decided again"
    );
    let node_routes = NodeRoutes::of(&index, NODE);
    let reasons: Vec<(String, &str)> = node_routes
        .decisions()
        .iter()
        .map(|(name, decision)| (name.to_string(), decision.verdicts[0].reason.code()))
        .collect();
    assert_eq!(
        reasons,
        [
            ("default/service-0".to_owned(), "AddressConflict"),
            ("default/service-1".to_owned(), "Announced"),
        ]
    );
}

/// The code of the first verdict of each service.
fn codes(index: &Index) -> Vec<(String, &'static str)> {
    let node_routes = NodeRoutes::of(index, NODE);
    let decisions = node_routes.decisions().iter();
    decisions
        .map(|(name, decision)| (name.to_string(), decision.verdicts[0].reason.code()))
        .collect()
}

#[test]
fn local_services_share_an_address_only_if_they_have_the_same_pods() {
    let web = json!({ "app": "web" });
    let none = json!({});
    let table = [
        (("default", &web), ("default", &web), "Announced"),
        (("default", &web), ("other", &web), "AddressConflict"),
        (("default", &none), ("default", &none), "AddressConflict"),
        (("default", &web), ("default", &none), "AddressConflict"),
    ];
    for (one, two, expected) in table {
        let mut index = index(initial());
        index.apply(Change::Delete(key(Kind::Service, "service-0")));
        index.apply(sharer(one.0, "service-1", one.1, false));
        index.apply(sharer(two.0, "service-2", two.1, false));
        for name in ["service-1", "service-2"] {
            for namespace in ["default", "other"] {
                let Change::Apply(mut key, mut raw) = slice(name, name, NODE, true) else {
                    unreachable!()
                };
                key.name = ObjectName::new(namespace, name);
                raw.metadata.namespace = Some(namespace.to_owned());
                index.apply(Change::Apply(key, raw));
            }
        }
        let first = (format!("{}/service-1", one.0), "Announced");
        let second = (format!("{}/service-2", two.0), expected);
        assert_eq!(codes(&index), [first, second]);
    }
}

#[test]
fn services_with_the_same_pods_share_whether_or_not_they_allow_other_pods() {
    for opted_in in [[true, false], [false, true], [true, true], [false, false]] {
        let mut index = index(initial());
        index.apply(Change::Delete(key(Kind::Service, "service-0")));
        for (name, opt_in) in ["service-1", "service-2"].into_iter().zip(opted_in) {
            index.apply(sharer("default", name, &json!({ "app": "web" }), opt_in));
        }
        index.apply(slice("slice-1", "service-1", NODE, true));
        index.apply(slice("slice-2", "service-2", NODE, true));
        let announced = ["default/service-1", "default/service-2"]
            .map(|name| (name.to_owned(), "Announced".to_owned()));
        let codes: Vec<(String, String)> = codes(&index)
            .into_iter()
            .map(|(name, code)| (name, code.to_string()))
            .collect();
        assert_eq!(codes, announced, "{opted_in:?}");
    }
}

#[test]
fn a_shared_local_address_is_announced_where_all_sharers_have_an_endpoint() {
    let mut index = index(initial());
    index.apply(Change::Delete(key(Kind::Service, "service-0")));
    for name in ["service-1", "service-2"] {
        index.apply(sharer("default", name, &json!({ "app": name }), true));
    }
    index.apply(slice("slice-1", "service-1", NODE, true));
    let of = |one, two| {
        let names = [
            "default/service-1".to_owned(),
            "default/service-2".to_owned(),
        ];
        names.into_iter().zip([one, two]).collect::<Vec<_>>()
    };
    let missing = of("NoLocalEndpointsOfSharer", "NoLocalEndpoints");
    assert_eq!(codes(&index), missing);
    assert!(routes(&index).is_empty());

    let dirty = index.apply(slice("slice-2", "service-2", NODE, true));
    assert_eq!(dirty.services.len(), 2, "{dirty:?}");
    assert_eq!(codes(&index), of("Announced", "Announced"));
    assert_eq!(routes(&index).len(), 2);

    index.apply(slice("slice-2", "service-2", "node-1", true));
    assert_eq!(codes(&index), missing);
    assert!(routes(&index).is_empty());
}
