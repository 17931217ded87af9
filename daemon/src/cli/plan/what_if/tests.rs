//! What changes and events do to the cases of `ferrolb plan`.

use std::path::{Path, PathBuf};

use super::text;
use crate::core::config::{CONFIG_NAMESPACE, ConfigPlaces};
use crate::core::index::Index;
use crate::core::plan::Prediction;
use crate::core::plan::difference::Difference;
use crate::core::plan::what_if::{Event, Objects};
use crate::runtime::source::manifests::{Loader, Manifests, changes};

fn namespaces() -> [String; 1] {
    [CONFIG_NAMESPACE.to_owned()]
}

fn load(names: &[&str]) -> Manifests {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let paths = names.iter().map(|name| folder.join(format!("{name}.yaml")));
    let paths: Vec<PathBuf> = paths.collect();
    Loader::new(paths, ConfigPlaces::of(&namespaces())).load()
}

fn cluster(case: &str) -> Objects {
    let manifests = load(&["base", case]);
    Objects::of(changes(&manifests.objects, &namespaces()))
}

fn difference(before: &Objects, after: Objects) -> Difference {
    let predict =
        |objects: Objects| Prediction::of(Index::for_prediction(), objects.into_changes());
    Difference::of(&predict(before.clone()), &predict(after))
}

fn assuming(case: &str, event: Event) -> Difference {
    let before = cluster(case);
    let mut after = before.clone();
    after.assume(&event).expect("a node or peer of the case");
    difference(&before, after)
}

#[test]
fn equal_clusters_do_not_differ() {
    let before = cluster("endpoints");
    let same = difference(&before, before.clone());
    assert!(same.is_empty() && !same.withdraws());
    assert_eq!(text(&same).expect("a text"), "nothing changes\n");
}

#[test]
fn a_lost_node_withdraws_its_routes_and_moves_its_share_of_flows() {
    let lost = assuming("endpoints", Event::LoseNode("node-a".to_owned()));
    assert!(lost.withdraws());
    insta::assert_snapshot!(text(&lost).expect("a text"));
}

#[test]
fn a_drained_node_announces_nothing_and_loses_its_pods() {
    let drained = assuming("layer2", Event::Drain("node-a".to_owned()));
    insta::assert_snapshot!(text(&drained).expect("a text"));
}

#[test]
fn a_lost_router_gets_no_routes() {
    let lost = assuming("withheld", Event::LosePeer("tor".to_owned()));
    assert!(lost.routes.iter().all(|route| route.peer == "tor"));
    assert!(lost.withdraws());
}

#[test]
fn an_unknown_node_or_peer_lists_those_that_exist() {
    let mut objects = cluster("withheld");
    let error = |event: Event| objects.clone().assume(&event).expect_err("unknown");
    insta::assert_snapshot!(
        [
            error(Event::Drain("node-x".to_owned())),
            error(Event::LosePeer("tor-9".to_owned()))
        ]
        .join("\n")
    );
    objects.prune(|_| false);
    let error = objects.assume(&Event::LosePeer("tor".to_owned()));
    assert_eq!(
        error,
        Err("there is no BGPPeer tor; there are: none".to_owned())
    );
}

#[test]
fn a_pruned_pool_takes_the_addresses_and_announcements_of_its_services() {
    let before = cluster("withheld");
    let mut after = before.clone();
    let without_pools = |key: &crate::core::api::ObjectKey| key.name.name != "blue";
    after.prune(without_pools);
    let difference = difference(&before, after);
    assert!(difference.withdraws());
    let lost: Vec<&str> = difference.lost.iter().map(String::as_str).collect();
    assert!(lost.contains(&"default/fine"), "{lost:?}");
}

#[test]
fn a_new_service_takes_no_address_from_one_that_exists() {
    let before = cluster("withheld");
    let mut after = before.clone();
    let fine = load(&["withheld"]).objects.into_iter();
    let mut fine = fine.filter(|(key, _)| key.name.name == "fine");
    let (mut key, located) = fine.next().expect("the Service fine");
    assert_eq!(key.kind, crate::core::api::Kind::Service);
    let mut raw = located.raw;
    for name in [&mut key.name.name, &mut raw.metadata.name] {
        "a-first-one".clone_into(name);
    }
    after.apply([(key, raw)]);
    let difference = difference(&before, after);
    assert_eq!(difference.addresses, [], "192.0.2.2 stays with fine");
}

#[test]
fn a_manifest_without_status_keeps_the_address_of_its_service() {
    let mut before = cluster("withheld");
    let manifests = load(&["withheld"]);
    let with_status = manifests
        .objects
        .iter()
        .filter(|(key, _)| key.name.name == "fine");
    let with_status = with_status.map(|(key, located)| {
        let mut raw = located.raw.clone();
        let status = serde_json::json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.2" }] } });
        if key.kind == crate::core::api::Kind::Service {
            raw.body.insert("status".to_owned(), status);
        }
        (key.clone(), raw)
    });
    before.apply(with_status.collect::<Vec<_>>());
    let mut after = before.clone();
    let same = manifests.objects.into_iter();
    after.apply(same.map(|(key, located)| (key, located.raw)));
    assert!(difference(&before, after).addresses.is_empty());
}
