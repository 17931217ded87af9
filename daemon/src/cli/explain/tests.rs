//! Every Service of the cases of `ferrolb plan`, explained: the texts as snapshots, and their
//! agreement with the plan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::text;
use crate::cli::plan::plan_manifests;
use crate::core::api::ObjectName;
use crate::core::config::{CONFIG_NAMESPACE, ConfigPlaces};
use crate::core::decide::unannounced::Unannounced;
use crate::core::explain::{Explainer, Explanation, Observed, Stage, Step, Subject, Verdict};
use crate::core::index::Index;
use crate::core::owners::owners;
use crate::core::plan::{Plan, allocate, fill};
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
    let namespaces = [CONFIG_NAMESPACE.to_owned()];
    let manifests = Loader::new(paths(name), ConfigPlaces::of(&namespaces)).load();
    let plan = plan_manifests(&manifests, &namespaces, Index::for_prediction());
    (Explainer::of_manifests(index(name)), plan)
}

fn index(name: &str) -> Index {
    let namespaces = [CONFIG_NAMESPACE.to_owned()];
    let manifests = Loader::new(paths(name), ConfigPlaces::of(&namespaces)).load();
    fill(
        Index::for_prediction(),
        changes(&manifests.objects, &namespaces),
    )
}

fn paths(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    ["base", name]
        .map(|name| folder.join(format!("{name}.yaml")))
        .to_vec()
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

/// The same rule twice: for all services at once, and for the leader, which looks at few.
#[test]
fn the_leader_and_plan_agree_about_who_is_not_announced() {
    for name in CASES {
        let (_, plan) = case(name);
        let mut index = index(name);
        allocate(&mut index);
        let mut unannounced = Unannounced::default();
        unannounced.note(&index, &Default::default());
        unannounced.step(Instant::now(), &index);
        let withheld = unannounced.withheld();
        for service in index.services().filter(|service| service.is_ours()) {
            let is_announced = plan.announced.contains(&service.name.to_string());
            let has_address = !service.addresses().is_empty();
            let is_withheld = withheld.contains_key(&*service.name);
            assert_eq!(
                is_withheld,
                has_address && !is_announced,
                "{name}: {}",
                service.name
            );
        }
        assert!(name != "withheld" || !withheld.is_empty());
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

/// A case as a cluster, with what its objects say.
fn observed(name: &str, observed: Observed) -> Explainer {
    let mut index = index(name);
    allocate(&mut index);
    Explainer::of_cluster(index, observed)
}

fn sessions(sessions: &[(&str, &str, Option<&str>)]) -> Observed {
    let objects = sessions.iter().map(|(node, state, error)| {
        let error = error.map(|reason| {
            json!({ "time": "2026-01-02T00:00:00Z", "reason": reason, "message": "a message" })
        });
        let mut status = json!({
            "node": node, "peer": "tor", "address": "10.0.0.1", "bgp": state,
            "since": "2026-01-01T00:00:00Z", "prefixesSent": 2,
        });
        if let Some(error) = error {
            status["lastError"] = error;
        }
        json!({ "status": status })
    });
    let mut observed = Observed::default();
    assert!(
        observed
            .add_sessions(&objects.collect::<Vec<_>>())
            .is_empty()
    );
    observed
}

/// What is explained of the Service `fine`, which node-a announces to `tor`.
fn with_session(state: &str, error: Option<&str>) -> Explanation {
    let observed = observed("withheld", sessions(&[("node-a", state, error)]));
    explain_service(&observed, &ObjectName::new("default", "fine"))
}

fn session_step(explanation: &Explanation) -> &Step {
    let mut steps = explanation.steps.iter();
    let step = steps.find(|step| step.stage == Stage::Session);
    step.expect("a step about the session")
}

#[test]
fn the_session_is_the_first_failing_step_of_a_route_without_an_established_one() {
    let established = with_session("Established", None);
    assert!(established.announced);
    assert_eq!(
        established.summary,
        "announced by BGP from 1 node to 1 BGPPeer"
    );
    assert_eq!(
        super::line(session_step(&established)),
        "node-a → tor: Established since 2026-01-01T00:00:00Z; 2 prefixes sent"
    );
    let down = with_session("Active", Some("hold-timer-expired"));
    assert_eq!(
        (down.announced, &*down.summary),
        (false, "not announced: SessionDown")
    );
    assert_eq!(
        super::line(session_step(&down)),
        "node-a → tor: SessionDown: Active since 2026-01-01T00:00:00Z; hold-timer-expired at \
         2026-01-02T00:00:00Z: a message"
    );
    let command = |explanation: &Explanation| session_step(explanation).command.clone();
    let on_node = command(&down).expect("a command");
    assert!(
        on_node.contains("spec.nodeName=node-a) -- /ferrolb peer tor"),
        "{on_node}"
    );
    let wrong = with_session("Idle", Some("wrong-asn"));
    let edit = "kubectl edit -n metallb-system bgppeer.metallb.io tor".to_owned();
    assert_eq!(command(&wrong), Some(edit));
}

#[test]
fn a_session_that_no_process_observes_and_one_without_an_object_are_said_as_such() {
    let unknown = with_session("Unknown", None);
    assert_eq!(
        (unknown.announced, &*unknown.summary),
        (false, "not announced: SessionUnknown")
    );
    let missing = observed("withheld", sessions(&[("node-b", "Established", None)]));
    let missing = explain_service(&missing, &ObjectName::new("default", "fine"));
    assert_eq!(missing.summary, "not announced: SessionMissing");
    let step = session_step(&missing);
    assert!(step.text.starts_with("there is no BGPSession"), "{step:?}");
    // Nothing is known: the decision counts.
    let unseen = observed("withheld", Observed::default());
    assert!(explain_service(&unseen, &ObjectName::new("default", "fine")).announced);
}

#[test]
fn nodes_with_equal_sessions_share_a_step_and_other_ends_show_them() {
    let states = [
        ("node-a", "Established", None),
        ("node-excluded", "Established", None),
        ("node-without-network", "Active", Some("no-route")),
    ];
    let explainer = observed("withheld", sessions(&states));
    let explain = |subject: Subject| {
        let explanation = explainer.explain(&subject).expect("it exists");
        text(&explanation).expect("a text")
    };
    let peer = explain(Subject::Peer("tor".to_owned()));
    let node = explain(Subject::Node("node-without-network".to_owned()));
    insta::assert_snapshot!(format!("{peer}\n{node}"));
}

#[test]
fn the_owner_by_layer_2_is_what_objects_say_and_else_a_command_finds_it() {
    let mut index = index("layer2");
    allocate(&mut index);
    let layer2 = Explainer::of_manifests(index);
    let is_layer2 = |name: &&ObjectName| {
        let explanation = explain_service(&layer2, name);
        let mut steps = explanation.steps.iter();
        steps.any(|step| step.stage == Stage::Layer2 && step.verdict == Verdict::Ok)
    };
    let service = layer2
        .services()
        .find(is_layer2)
        .expect("a service of layer 2");
    let owner = |statuses: &[Value], events: &[Value]| {
        let mut objects = Observed::default();
        objects.set_owners(owners(events, statuses));
        let explanation = explain_service(&observed("layer2", objects), service);
        let mut steps = explanation.steps.iter();
        let step = steps.find(|step| step.stage == Stage::Owner);
        super::line(step.expect("a step about the owner"))
    };
    let none = owner(&[], &[]);
    assert!(none.contains("ferrolb l2 on a node does"), "{none}");
    let ObjectName { namespace, name } = service;
    let event = json!({
        "involvedObject": { "kind": "Service", "namespace": namespace, "name": name },
        "reason": "nodeAssigned", "lastTimestamp": "2026-01-01T00:00:00Z",
        "message": "announcing from node \"node-a\" with protocol \"layer2\"",
    });
    let began = owner(&[], std::slice::from_ref(&event));
    assert!(
        began.starts_with("node-a: began to announce it at 2026-01-01"),
        "{began}"
    );
    let status = json!({ "status": {
        "node": "node-b", "serviceName": name, "serviceNamespace": namespace,
    } });
    let says = owner(&[status], &[event]);
    assert_eq!(says, "node-b: announces it, says its ServiceL2Status");
}
