//! Folders of YAML in, decisions out: every case in `plans/` as `ferrolb plan` sees it, as a
//! snapshot beside it.

use std::path::{Path, PathBuf};

use super::plan_manifests;
use crate::cli::convert;
use crate::core::config::{CONFIG_NAMESPACE, ConfigPlaces, config_map};
use crate::core::index::Index;
use crate::core::plan::{Plan, PlannedRoute};
use crate::runtime::source::config_maps;
use crate::runtime::source::manifests::Loader;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

/// A folder with the objects of a published walk-through, as they stand there.
fn walkthrough(name: &str) -> Plan {
    let folder = folder().join("walkthroughs");
    let paths = vec![folder.join("nodes.yaml"), folder.join(name)];
    plan_of(paths, Index::for_prediction())
}

fn plan_of(paths: Vec<PathBuf>, index: Index) -> Plan {
    let namespaces = [CONFIG_NAMESPACE.to_owned()];
    let manifests = Loader::new(paths, ConfigPlaces::of(&namespaces)).load();
    plan_manifests(&manifests, &namespaces, index)
}

fn case(name: &str) -> Plan {
    case_of(name, Index::for_prediction())
}

/// The plan of a process with these settings.
fn case_of(name: &str, index: Index) -> Plan {
    let folder = folder();
    let paths = ["base".to_owned(), name.to_owned()].map(|name| folder.join(name + ".yaml"));
    plan_of(paths.to_vec(), index)
}

/// The reports of all cases in a folder of `plans/metallb/`, which docs/metallb-behaviours.md
/// names. A file `base.yaml` in the folder belongs to each of its cases.
fn metallb_cases(name: &str) -> String {
    let folder = folder().join("metallb").join(name);
    let files = std::fs::read_dir(&folder).expect("a folder of cases");
    let (base, mut files): (Vec<PathBuf>, Vec<PathBuf>) = files
        .map(|file| file.expect("a file").path())
        .partition(|path| path.ends_with("base.yaml"));
    files.sort();
    let reports = files.into_iter().map(|file| {
        let text = std::fs::read_to_string(&file).expect("a case");
        let rule = text.lines().next().expect("a comment with the rule");
        let name = file.file_stem().expect("a name").display().to_string();
        let paths = base.iter().cloned().chain([file]).collect();
        let plan = plan_of(paths, Index::for_prediction());
        format!("# {name}: {}\n{}\n", &rule[2..], report(&plan))
    });
    reports.collect::<Vec<_>>().join("\n")
}

/// One line per fact, so that a change of behavior is a readable diff.
fn report(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for service in &plan.services {
        let addresses: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "service {}/{}: {} pool={} reason={}",
            service.namespace,
            service.name,
            addresses.join(" "),
            service.pool.as_deref().unwrap_or("-"),
            service.reason.as_deref().unwrap_or("-")
        ));
    }
    for route in &plan.routes {
        lines.push(format!(
            "route {} -> {}: {} via {} communities={:?} large={:?} localPref={:?}",
            route.node,
            route.peer,
            route.prefix,
            route
                .next_hop
                .map_or_else(|| "-".to_owned(), |next_hop| next_hop.to_string()),
            route.communities,
            route.large_communities,
            route.local_pref
        ));
        if let Some(line) = lines.last_mut() {
            *line += &rare_attributes(route);
        }
    }
    for address in &plan.layer2 {
        let candidates = address.candidates.iter().map(|node| {
            let interfaces = node.interfaces.as_ref().map(|names| names.join(","));
            let interfaces = interfaces.unwrap_or_else(|| "all".to_owned());
            format!("{}={}/{interfaces}", node.node, node.weight)
        });
        lines.push(format!(
            "layer2 {} of {} on {}: {}",
            address.address,
            address.services.join(" "),
            address.owner.as_deref().unwrap_or("-"),
            candidates.collect::<Vec<_>>().join(" ")
        ));
    }
    for withheld in &plan.withheld {
        lines.push(format!(
            "withheld {}/{} on {} from {}: {}",
            withheld.namespace,
            withheld.name,
            withheld.node.as_deref().unwrap_or("all nodes"),
            withheld.peer.as_deref().unwrap_or("all"),
            withheld.reason
        ));
    }
    for withheld in &plan.withheld_aggregates {
        lines.push(format!(
            "withheld aggregates of {} on {} from {}: {}",
            withheld.pool,
            withheld.node,
            withheld.peer.as_deref().unwrap_or("all"),
            withheld.reason
        ));
    }
    let folder = format!("{}/", folder().display());
    for (kind, list) in [("error", &plan.errors), ("notice", &plan.notices)] {
        for error in list {
            lines.push(format!(
                "{kind} {}: {}",
                error.object.replace(&folder, ""),
                error.message.replace(&folder, "")
            ));
        }
    }
    lines.join("\n")
}

/// What few routes have.
fn rare_attributes(route: &PlannedRoute) -> String {
    let mut text = String::new();
    if !route.extended_communities.is_empty() {
        text += &format!(" extended={:?}", route.extended_communities);
    }
    if let Some(med) = route.med {
        text += &format!(" med={med}");
    }
    if route.prepend > 0 {
        text += &format!(" prepend={}", route.prepend);
    }
    if route.atomic_aggregate {
        text += " atomic";
    }
    text
}

#[test]
fn a_node_announces_a_service_with_endpoints_as_its_traffic_policy_says() {
    insta::assert_snapshot!(report(&case("endpoints")));
}

#[test]
fn selectors_choose_services_nodes_and_peers() {
    insta::assert_snapshot!(report(&case("selectors")));
}

#[test]
fn a_route_goes_to_peers_that_carry_its_family() {
    insta::assert_snapshot!(report(&case("families")));
}

#[test]
fn a_dual_stack_service_is_announced_in_the_family_that_has_endpoints() {
    let plan = case("one-family");
    let unready = plan
        .withheld
        .iter()
        .find(|entry| entry.name == "only-v4-ready");
    let message = unready
        .map(|entry| entry.message.as_str())
        .unwrap_or_default();
    assert!(
        message.contains("(default/only-v4-ready, IPv6)"),
        "{message}"
    );
    insta::assert_snapshot!(report(&plan));
}

#[test]
fn objects_of_both_groups_refer_to_each_other_and_the_older_of_one_name_is_used() {
    insta::assert_snapshot!(report(&case("both-groups")));
}

#[test]
fn an_address_pool_is_announced_by_its_protocol_alone() {
    insta::assert_snapshot!(report(&case("address-pools")));
}

#[test]
fn each_withheld_route_has_a_reason() {
    insta::assert_snapshot!(report(&case("withheld")));
}

#[test]
fn invalid_objects_are_rejected_with_field_and_remedy() {
    insta::assert_snapshot!(report(&case("refused")));
}

#[test]
fn a_node_has_the_peers_that_select_it_and_do_not_conflict() {
    insta::assert_snapshot!(report(&case("peers")));
}

#[test]
fn a_weight_comes_from_endpoints_or_the_annotation() {
    insta::assert_snapshot!(report(&case("weights")));
}

#[test]
fn labels_name_communities_and_a_network_the_source_address() {
    insta::assert_snapshot!(report(&case("labels")));
}

#[test]
fn an_aggregate_merges_the_attributes_of_its_services() {
    insta::assert_snapshot!(report(&case("aggregates")));
}

#[test]
fn aggregates_are_announced_without_a_service_if_an_advertisement_says_always() {
    let plan = case("aggregates-always");
    let mut messages = plan
        .withheld_aggregates
        .iter()
        .map(|withheld| &withheld.message);
    assert!(
        messages.any(|message| message.contains("(BGP, pool calico)")),
        "{:?}",
        plan.withheld_aggregates
    );
    let text = super::text(&plan, "", "a folder").expect("a text");
    assert!(text.contains("Aggregates not announced"), "{text}");
    insta::assert_snapshot!(report(&plan));
}

#[test]
fn layer_2_candidates_are_the_nodes_that_may_announce_an_address() {
    let plan = case("layer2");
    let both = plan.withheld.iter().filter(|entry| entry.name == "both");
    let messages: Vec<&str> = both.map(|entry| entry.message.as_str()).collect();
    assert!(
        messages.iter().any(|text| text.contains("(layer 2, pool")),
        "{messages:?}"
    );
    let bgp_only = plan
        .withheld
        .iter()
        .filter(|entry| entry.name == "bgp-only");
    let messages: Vec<&str> = bgp_only.map(|entry| entry.message.as_str()).collect();
    assert!(
        messages
            .iter()
            .any(|text| text.contains("(layer 2, pool blue) Remedy: change serviceSelectors")),
        "{messages:?}"
    );
    insta::assert_snapshot!(report(&plan));
}

#[test]
fn the_addresses_of_a_service_are_announced_as_the_pool_of_each_says() {
    insta::assert_snapshot!(report(&case("two-pools")));
}

#[test]
fn services_of_other_load_balancers_are_announced_if_an_advertisement_lists_their_class() {
    insta::assert_snapshot!(report(&case("classes")));
}

#[test]
fn with_lb_class_only_the_services_of_that_class_are_served() {
    let index = Index::for_prediction().in_charge_of(Some("manual"));
    let plan = case_of("classes", index);
    let reason = |name: &str| {
        let service = plan.services.iter().find(|service| service.name == name);
        service.and_then(|service| service.reason.as_deref())
    };
    // Another one of the class, whose address was in no pool, got the first address.
    let allocated = plan.services.iter().find(|s| s.name == "without-address");
    let addresses = allocated.map(|service| service.addresses.clone());
    let second: std::net::IpAddr = "192.0.2.1".parse().expect("an address");
    assert_eq!(addresses, Some(vec![second]));
    // No entry, not even any, announces a Service without a class.
    assert_eq!(reason("ours"), Some("ForeignLoadBalancerClass"));
    let announced: Vec<&str> = plan
        .layer2
        .iter()
        .flat_map(|address| address.services.iter().map(String::as_str))
        .collect();
    assert_eq!(announced, ["default/listed", "default/manual"]);
}

#[test]
fn excluded_networks_are_never_allocated() {
    insta::assert_snapshot!(report(&case("excluded")));
}

#[test]
fn resources_are_read_as_metallb_reads_them() {
    insta::assert_snapshot!(metallb_cases("resources"));
}

#[test]
fn services_get_addresses_as_metallb_assigns_them() {
    insta::assert_snapshot!(metallb_cases("allocation"));
}

#[test]
fn services_are_announced_where_metallb_announces_them() {
    insta::assert_snapshot!(metallb_cases("announcing"));
}

#[test]
fn the_config_maps_of_published_walkthroughs_give_services_their_addresses() {
    for name in ["1", "2", "3", "4", "5"] {
        let report = report(&walkthrough(name));
        insta::assert_snapshot!(format!("walkthrough_{name}"), report);
    }
}

#[test]
fn a_config_map_pasted_with_lost_indentation_is_an_error_at_its_line() {
    let plan = walkthrough("4-bgp");
    insta::assert_snapshot!(report(&plan));
}

#[test]
fn the_converted_resources_have_the_effect_of_the_config_map() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/walkthroughs");
    for name in ["1", "3", "4", "5", "all-keys"] {
        let before = walkthrough(name);
        assert!(before.errors.is_empty(), "{name}: {}", report(&before));
        let found = config_maps::read(&folder.join(name).join("config.yaml")).expect("read");
        let text = found.texts[0].text.as_deref().expect("a text");
        let objects = config_map::convert(text, CONFIG_NAMESPACE).expect("valid");
        let named = config_map::kubernetes_names(objects).expect("names");
        let yaml =
            convert::yaml(named.objects.iter().map(|object| &object.raw), "a test").expect("YAML");
        let converted = tempfile::tempdir().expect("a folder");
        let file = converted.path().join("resources.yaml");
        std::fs::write(&file, yaml).expect("written");
        let files = ["services.yaml", "endpoints.yaml"].map(|file| format!("{name}/{file}"));
        let mut paths: Vec<PathBuf> = files.iter().map(|file| folder.join(file)).collect();
        paths.push(folder.join("nodes.yaml"));
        paths.push(file);
        let after = plan_of(paths, Index::for_prediction());
        assert!(after.errors.is_empty(), "{name}: {}", report(&after));
        let facts = |plan: &Plan| {
            let report = report(plan);
            let facts = report.lines().filter(|line| !line.starts_with("notice "));
            facts.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(facts(&before), facts(&after), "{name}");
    }
}

#[test]
fn a_manifest_without_namespace_is_read_as_if_in_the_default_one_of_its_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: p}, \
                spec: {addresses: [192.0.2.0/24]}}\n---\n\
                {apiVersion: v1, kind: Service, metadata: {name: s}}\n";
    std::fs::write(folder.path().join("all.yaml"), text).expect("written");
    let namespaces = ["config".to_owned(), CONFIG_NAMESPACE.to_owned()];
    let places = ConfigPlaces::of(&namespaces);
    let manifests = Loader::new(vec![folder.path().to_owned()], places).load();
    let keys: Vec<String> = manifests.objects.keys().map(ToString::to_string).collect();
    assert_eq!(keys, ["Service default/s", "IPAddressPool config/p"]);
}
