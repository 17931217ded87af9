//! Every Service of the cases of `ferrolb plan`, explained: the texts as snapshots, and their
//! agreement with the plan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::text;
use crate::cli::plan::plan_manifests;
use crate::core::api::ObjectName;
use crate::core::config::CONFIG_NAMESPACE;
use crate::core::explain::{Explainer, Explanation, Stage, Step, Subject, Verdict};
use crate::core::index::Index;
use crate::core::plan::{Plan, fill};
use crate::runtime::source::manifests::{Loader, changes};

const CASES: [&str; 10] = [
    "aggregates",
    "aggregates-always",
    "classes",
    "endpoints",
    "families",
    "labels",
    "layer2",
    "peers",
    "selectors",
    "withheld",
];

/// A case as `explain` and as `plan` see it.
fn case(name: &str) -> (Explainer, Plan) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let paths: Vec<PathBuf> = ["base", name]
        .map(|name| folder.join(format!("{name}.yaml")))
        .to_vec();
    let namespaces = [CONFIG_NAMESPACE.to_owned()];
    let manifests = Loader::new(paths, &namespaces).load();
    let plan = plan_manifests(&manifests, &namespaces, Index::for_prediction());
    let changes = changes(&manifests.objects, &namespaces);
    let index = fill(Index::for_prediction(), changes);
    (Explainer::of_manifests(index), plan)
}

fn explain_service(explainer: &Explainer, service: &ObjectName) -> Explanation {
    let explanation = explainer.explain(&Subject::Service(service.clone()));
    explanation.expect("a service of the case")
}

fn names(explainer: &Explainer) -> Vec<ObjectName> {
    explainer.services().cloned().collect()
}

#[test]
fn an_explanation_shows_the_chain_from_the_service_to_the_routers() {
    let cases = CASES.map(|name| {
        let (explainer, _) = case(name);
        let services = names(&explainer).into_iter().map(|service| {
            let explanation = explain_service(&explainer, &service);
            text(&explanation).expect("a text")
        });
        format!("# {name}\n\n{}", services.collect::<Vec<_>>().join("\n"))
    });
    insta::assert_snapshot!(cases.join("\n"));
}

#[test]
fn explain_and_plan_agree_about_what_is_announced_and_why_not() {
    for name in CASES {
        let (explainer, plan) = case(name);
        for service in names(&explainer) {
            let explanation = explain_service(&explainer, &service);
            let planned = plan
                .services
                .iter()
                .find(|other| {
                    (&other.namespace, &other.name) == (&service.namespace, &service.name)
                })
                .expect("the service in the plan");
            let by_bgp = plan.routes.iter().any(|route| {
                let mut addresses = planned.addresses.iter();
                addresses.any(|address| route.prefix.contains(address))
            });
            let by_layer2 = plan
                .layer2
                .iter()
                .any(|entry| entry.services.contains(&service.to_string()));
            if explanation.announced {
                assert!(by_bgp || by_layer2, "{name}: {service} is announced");
            }
            assert!(!by_layer2 || explanation.announced, "{name}: {service}");
            let explained: BTreeSet<&str> = explanation
                .steps
                .iter()
                .filter_map(|step| step.reason.as_deref())
                .collect();
            let withheld = plan.withheld.iter().filter(|entry| {
                (&entry.namespace, &entry.name) == (&service.namespace, &service.name)
            });
            for entry in withheld.filter(|_| !planned.addresses.is_empty()) {
                let code = entry.reason.as_str();
                assert!(explained.contains(code), "{name}: {service} lacks {code}");
            }
        }
    }
}

#[test]
fn a_name_that_does_not_exist_gets_the_nearest_ones() {
    let (explainer, _) = case("withheld");
    let service = |namespace: &str, name: &str| Subject::Service(ObjectName::new(namespace, name));
    let subjects = [
        service("default", "fin"),
        service("shop", "fine"),
        service("shop", "entirely-unlike"),
        Subject::Node("node-exclude".to_owned()),
        Subject::Peer("nothing".to_owned()),
        Subject::Pool("quite".to_owned()),
    ];
    let errors = subjects.map(|subject| {
        let result = explainer.explain(&subject);
        result.expect_err("no such object").to_string()
    });
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn nodes_peers_pools_and_addresses_are_explained_from_their_end() {
    let (explainer, _) = case("withheld");
    let subjects = [
        Subject::Node("node-excluded".to_owned()),
        Subject::Node("node-a".to_owned()),
        Subject::Peer("tor".to_owned()),
        Subject::Pool("blue".to_owned()),
        Subject::Pool("quiet".to_owned()),
        Subject::Address("192.0.2.1".parse().expect("an address")),
        Subject::Address("203.0.113.9".parse().expect("an address")),
    ];
    let texts = subjects.map(|subject| {
        let explanation = explainer.explain(&subject).expect("it exists");
        text(&explanation).expect("a text")
    });
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_step_of_many_nodes_names_the_first_four() {
    let step = |count: usize| Step {
        stage: Stage::Bgp,
        verdict: Verdict::Ok,
        nodes: (1..=count).map(|number| format!("node-{number}")).collect(),
        peers: BTreeSet::from(["tor".to_owned()]),
        services: BTreeSet::new(),
        reason: None,
        text: "192.0.2.1/32".to_owned(),
        command: None,
    };
    assert_eq!(super::line(&step(1)), "node-1 → tor: 192.0.2.1/32");
    assert_eq!(
        super::line(&step(6)),
        "node-1, node-2, node-3, node-4 and 2 more → tor: 192.0.2.1/32"
    );
}

#[test]
fn a_pool_shows_the_aggregates_that_are_announced_without_a_service() {
    let (explainer, _) = case("aggregates-always");
    let explanation = explainer.explain(&Subject::Pool("calico".to_owned()));
    let explanation = explanation.expect("a pool of the case");
    assert!(explanation.announced);
    insta::assert_snapshot!(text(&explanation).expect("a text"));
}
