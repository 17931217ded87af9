//! Communities that labels of Services and Namespaces name.

use ferrolb_bgp::rib::Route;

use super::*;
use crate::core::index::Dirty;

const KEY: &str = "example.com/community";

/// A rack with the Service service-0, whose routes take communities from the label [`KEY`].
fn rack() -> Index {
    let mut index = index(initial());
    let spec = json!({ "communities": ["64512:1"], "communityLabels": [KEY] });
    index.apply(object(
        Kind::FerrolbBgpAdvertisement,
        "by-label",
        json!({ "spec": spec }),
    ));
    let near = json!([
        { "name": "near", "value": "64512:20" },
        { "name": "64512.7", "value": "large:1:2:3" },
    ]);
    index.apply(object(
        Kind::FerrolbCommunity,
        "names",
        json!({ "spec": { "communities": near } }),
    ));
    index
}

fn labelled(name: &str, value: Option<&str>) -> Change {
    let labels = value.map_or_else(|| json!({}), |value| json!({ KEY: value }));
    labelled_service(name, &labels)
}

fn namespace(value: &str) -> Change {
    let metadata = json!({ "labels": { KEY: value } });
    object(Kind::Namespace, "default", json!({ "metadata": metadata }))
}

/// The communities of the Service's route.
fn communities(routes: &NodeRoutes) -> Vec<String> {
    let route: &Route = routes.routes().values().next().expect("a route");
    let standard = route.communities.iter().map(ToString::to_string);
    let large = route.large_communities.iter().map(ToString::to_string);
    standard.chain(large).collect()
}

fn notices(index: &Index) -> Vec<String> {
    let problems = index.problems();
    let ours = problems
        .iter()
        .filter(|problem| problem.message.contains("is no community"));
    ours.map(ToString::to_string).collect()
}

#[test]
fn the_label_of_the_service_counts_or_else_the_one_of_its_namespace() {
    let mut index = rack();
    let mut routes = NodeRoutes::of(&index, NODE);
    let mut after = |index: &mut Index, change: Change| {
        let dirty = index.apply(change);
        routes.update(index, &dirty);
        assert_eq!(routes, NodeRoutes::of(index, NODE));
        communities(&routes)
    };
    assert_eq!(after(&mut index, labelled("service-0", None)), ["64512:1"]);
    for (value, expected) in [
        ("near", "64512:20"),
        ("64512.100", "64512:100"),
        ("no-export", "NO_EXPORT"),
        ("large.4200000000.1.2", "4200000000:1:2"),
        // A name takes precedence, as in communities.
        ("64512.7", "1:2:3"),
    ] {
        let found = after(&mut index, labelled("service-0", Some(value)));
        assert_eq!(found, ["64512:1", expected], "{value}");
    }
    assert_eq!(
        after(&mut index, namespace("64512.9")),
        ["64512:1", "1:2:3"]
    );
    assert_eq!(
        after(&mut index, labelled("service-0", None)),
        ["64512:1", "64512:9"]
    );
    assert_eq!(
        after(&mut index, namespace("near")),
        ["64512:1", "64512:20"]
    );
    // An empty value exempts the Service from its Namespace's.
    assert_eq!(
        after(&mut index, labelled("service-0", Some(""))),
        ["64512:1"]
    );
    assert_eq!(notices(&index), [] as [&str; 0]);
}

#[test]
fn a_label_of_a_namespace_decides_its_services_again_and_no_others() {
    let mut index = rack();
    index.apply(labelled("service-0", None));
    let Change::Apply(mut key, raw) = labelled("service-0", None) else {
        unreachable!()
    };
    key.name.namespace = "other".to_owned();
    index.apply(Change::Apply(key, raw));
    let dirty = index.apply(namespace("near"));
    let services = [ObjectName::new("default", "service-0")].into();
    assert_eq!(
        dirty,
        Dirty {
            services,
            ..Dirty::default()
        }
    );
    let again = index.apply(namespace("near"));
    assert!(again.is_empty(), "{again:?}");
    let Change::Apply(key, mut raw) = namespace("near") else {
        unreachable!()
    };
    raw.metadata.labels.insert("other".into(), "label".into());
    let other = index.apply(Change::Apply(key, raw));
    assert!(other.is_empty(), "{other:?}");
}

#[test]
fn an_unknown_value_is_reported_and_takes_nothing_else_away() {
    let mut index = rack();
    let dirty = index.apply(labelled("service-0", Some("far")));
    assert!(dirty.problems);
    assert_eq!(communities(&NodeRoutes::of(&index, NODE)), ["64512:1"]);
    assert_eq!(
        notices(&index),
        [
            "Service default/service-0: metadata.labels[example.com/community]: \"far\" is no \
          community, so the routes of the Service lack it (BGPAdvertisement.ferrolb.io \
          metallb-system/by-label names this label): write a name that a Community object \
          defines, a well-known name like no-export, or a community with dots: 64512.100 or \
          large.64512.1.100"
        ]
    );
    for value in [
        "64512",
        "64512.1.1",
        "65536.1",
        "64512_1",
        "large.1.2",
        "1.2.",
        "large.64512.1",
    ] {
        index.apply(labelled("service-0", Some(value)));
        assert!(
            notices(&index)[0].contains(&format!("{value:?} is no community")),
            "{value}"
        );
        assert_eq!(communities(&NodeRoutes::of(&index, NODE)), ["64512:1"]);
    }
    // The Community object may come later.
    index.apply(labelled("service-0", Some("far")));
    let spec = json!({ "communities": [{ "name": "far", "value": "64512:30" }] });
    let dirty = index.apply(object(Kind::Community, "more", json!({ "spec": spec })));
    assert!(dirty.configuration && dirty.problems);
    assert_eq!(notices(&index), [] as [&str; 0]);
    assert_eq!(
        communities(&NodeRoutes::of(&index, NODE)),
        ["64512:1", "64512:30"]
    );
    // Once for all Services of a Namespace.
    for number in 0..5 {
        index.apply(labelled(&format!("service-{number}"), None));
    }
    index.apply(namespace("nowhere"));
    let found = notices(&index);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(
            "Namespace default: metadata.labels[example.com/community]: \"nowhere\" is no \
             community, so the routes of its Services service-0, service-1, service-2 and 2 more \
             lack it"
        ),
        "{found:?}"
    );
}

#[test]
fn the_key_of_a_label_is_checked() {
    let mut index = rack();
    let spec = json!({ "communityLabels": ["a/b/c", KEY, KEY] });
    index.apply(object(
        Kind::FerrolbBgpAdvertisement,
        "bad",
        json!({ "spec": spec }),
    ));
    let problems = index.problems();
    let problem = problems
        .iter()
        .find(|problem| problem.object.name.name == "bad");
    let message = &problem.expect("an error").message;
    assert!(
        message.contains("spec.communityLabels[0]: \"a/b/c\" can't be the key of a label")
            && message.contains("lists \"example.com/community\" twice"),
        "{message}"
    );
}
